//! Scenes of the examples that write to topics or read them, on the embedded log.

use std::fs::{self, File};
use std::io::Write;

use anyhow::{Context, Result, ensure};
use flafka_tests::kafka_client::{self, NewRecord, ReadRecord};
use flafka_tests::running_agent::LIMIT;
use flafka_tests::{http, netcat, poll};

use crate::scene::Scene;

fn numbered(what: &str, numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("{what} {number}")).collect()
}

fn texts(records: &[ReadRecord]) -> Vec<String> {
    records.iter().map(ReadRecord::text).collect()
}

fn header(record: &ReadRecord, name: &str) -> Option<String> {
    let (_, value) = record.headers.iter().find(|(key, _)| key == name)?;
    value
        .as_deref()
        .map(|value| String::from_utf8_lossy(value).into_owned())
}

fn all_ok(answers: &[String]) -> Result<()> {
    let odd = answers.iter().find(|answer| *answer != "OK");
    ensure!(odd.is_none(), "a line was answered {odd:?}");
    Ok(())
}

pub(crate) fn taildir_file_kafka(example: &str) -> Result<()> {
    let scene = Scene::with(&["logs"])?;
    let _broker = scene.broker(&[])?;
    let log = scene.path("logs/app.log");
    let append = |lines: &[String]| -> Result<()> {
        let mut file = File::options().create(true).append(true).open(&log)?;
        lines.iter().try_for_each(|line| writeln!(file, "{line}"))?;
        Ok(())
    };
    append(&numbered("line", 0..500))?;
    let agent = scene.agent(example, "a1")?;
    append(&numbered("line", 500..1000))?;
    fs::rename(&log, scene.path("logs/app.log.1"))?;
    append(&numbered("line", 1000..1500))?;
    scene
        .records("app-logs", 1500)
        .with_context(|| agent.process.evidence())?;
    agent.stop()?;
    append(&numbered("line", 1500..1600))?;
    let agent = scene.agent(example, "a1")?;
    let records = scene.records("app-logs", 1600)?;
    let mut lines = texts(&records);
    lines.sort();
    let mut expected = numbered("line", 0..1600);
    expected.sort();
    ensure!(
        lines == expected,
        "{} lines, not each line once",
        lines.len()
    );
    let first = &records[0];
    ensure!(
        header(first, "service").as_deref() == Some("example"),
        "{first:?}"
    );
    let path = header(first, "file").context("no header with the file")?;
    ensure!(
        path.starts_with(&scene.path("logs").display().to_string()),
        "{path}"
    );
    agent.stop()
}

pub(crate) fn http_kafka(example: &str) -> Result<()> {
    let scene = Scene::with(&[])?;
    let agent = scene.agent(example, "a1")?;
    // No broker yet: the answer depends on this machine's disk alone.
    let body = br#"[{"headers":{"key":"user-1"},"body":"signed in"},
        {"headers":{"topic":"audit","id":"mine"},"body":"by admin"}]"#;
    let answer = http::post(
        scene.http,
        "/",
        &[("Content-Type", "application/json")],
        body,
    )?;
    ensure!(answer.status == 200, "{answer:?}");
    let bad = http::post(scene.http, "/", &[], b"[{\"body\":")?;
    ensure!(bad.status == 400, "{bad:?}");
    let _broker = scene.broker(&[])?;
    let event = &scene
        .records("web-events", 1)
        .with_context(|| agent.process.evidence())?[0];
    ensure!((event.text(), event.key.as_deref()) == ("signed in".to_owned(), Some(&b"user-1"[..])));
    ensure!(
        header(event, "id").is_some_and(|id| id.len() == 36),
        "{event:?}"
    );
    ensure!(event.timestamp_ms.is_some_and(|time| time > 0), "{event:?}");
    let audit = &scene.records("audit", 1)?[0];
    ensure!(
        audit.text() == "by admin" && header(audit, "id").as_deref() == Some("mine"),
        "{audit:?}"
    );
    agent.stop()
}

pub(crate) fn kafka_file_roll(example: &str) -> Result<()> {
    let scene = Scene::with(&["warehouse"])?;
    let _broker = scene.broker(&[])?;
    let send = |numbers| {
        let records: Vec<_> = numbered("record", numbers)
            .into_iter()
            .map(NewRecord::value)
            .collect();
        kafka_client::produce(&scene.bootstrap(), "app-logs", &records)
    };
    send(0..2000)?;
    let agent = scene.agent(example, "a1")?;
    scene.until_lines(&agent, "warehouse", 2000)?;
    agent.stop()?;
    send(2000..2010)?;
    let agent = scene.agent(example, "a1")?;
    let lines = scene.until_lines(&agent, "warehouse", 2010)?;
    agent.stop()?;
    ensure!(
        lines == numbered("record", 0..2010),
        "not each record once and in order"
    );
    for file in scene.files("warehouse")? {
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        ensure!(
            name.starts_with("events-") && name.ends_with(".log"),
            "{name}"
        );
    }
    Ok(())
}

pub(crate) fn fan_out(example: &str) -> Result<()> {
    let scene = Scene::with(&["archive"])?;
    let agent = scene.agent(example, "a1")?;
    let lines = numbered("line", 0..3000);
    all_ok(&netcat::send(scene.netcat, &lines)?)?;
    let archived = scene.until_lines(&agent, "archive", lines.len())?;
    ensure!(
        archived == lines,
        "the archive has other lines than were sent"
    );
    let live = agent.metric("CHANNEL.live", "EventPutSuccessCount")?;
    ensure!(
        (1..3000).contains(&live),
        "{live} of 3000 events in a channel for 1000"
    );
    let _broker = scene.broker(&[])?;
    let seen = texts(
        &scene
            .records("live", usize::try_from(live)?)
            .with_context(|| agent.process.evidence())?,
    );
    ensure!(
        seen[..10] == lines[..10],
        "the topic begins with {:?}",
        &seen[..10]
    );
    agent.stop()
}

pub(crate) fn failover(example: &str) -> Result<()> {
    let scene = Scene::with(&["fallback"])?;
    let agent = scene.agent(example, "a1")?;
    let first = numbered("before", 0..50);
    all_ok(&netcat::send(scene.netcat, &first)?)?;
    let saved = scene.until_lines(&agent, "fallback", first.len())?;
    ensure!(saved == first, "the files have other lines than were sent");
    let _broker = scene.broker(&[])?;
    let in_topic = || -> Result<Vec<String>> {
        let bootstrap = scene.bootstrap();
        if !kafka_client::topics(&bootstrap)?.contains_key("failover") {
            return Ok(Vec::new());
        }
        Ok(texts(&kafka_client::read_topic(
            &bootstrap, "failover", 0, LIMIT,
        )?))
    };
    let mut sent = 0;
    poll::until_true("lines go into the topic again", LIMIT, || {
        all_ok(&netcat::send(scene.netcat, &[format!("after {sent}")])?)?;
        sent += 1;
        Ok(!in_topic()?.is_empty())
    })
    .with_context(|| agent.process.evidence())?;
    poll::until_true("every line is in the files or in the topic", LIMIT, || {
        let mut found = scene.lines("fallback")?;
        found.extend(in_topic()?);
        Ok(numbered("after", 0..sent)
            .iter()
            .all(|line| found.contains(line)))
    })?;
    agent.stop()
}

pub(crate) fn two_tier(example: &str) -> Result<()> {
    let post = |scene: &Scene, text: &str| -> Result<()> {
        let body = format!(r#"[{{"headers":{{"user":"ann"}},"body":"{text}"}}]"#);
        let answer = http::post(scene.http, "/", &[], body.as_bytes())?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    };
    let seen = |line: &str, text: &str| {
        line.contains("tier=tier1") && line.contains("user=ann") && line.ends_with(text)
    };
    // As one process with the embedded log.
    let scene = Scene::with(&["tier2"])?;
    let overrides = scene.broker_overrides();
    let mut arguments = vec!["up"];
    arguments.extend(overrides.iter().map(String::as_str));
    let mut together = scene.start(example, &arguments)?;
    together.until_ready()?;
    post(&scene, "in one process")?;
    let lines = scene.until_lines(&together, "tier2", 1)?;
    ensure!(seen(&lines[0], "in one process"), "{lines:?}");
    together.stop()?;
    // On the same data as three processes.
    let _broker = scene.broker(&[])?;
    let tier1 = scene.agent(example, "tier1")?;
    post(&scene, "in three")?;
    tier1.stop()?;
    let tier2 = scene.agent(example, "tier2")?;
    let lines = scene.until_lines(&tier2, "tier2", 2)?;
    tier2.stop()?;
    ensure!(lines.len() == 2 && seen(&lines[1], "in three"), "{lines:?}");
    Ok(())
}

pub(crate) fn spooldir_kafka_channel(example: &str) -> Result<()> {
    let scene = Scene::with(&["spool", "out"])?;
    let _broker = scene.broker(&[])?;
    fs::write(scene.path("spool/copying.tmp"), "not finished\n")?;
    fs::write(
        scene.path("spool/report.txt"),
        numbered("row", 0..1200).join("\n"),
    )?;
    let agent = scene.agent(example, "a1")?;
    let lines = scene.until_lines(&agent, "out", 1200)?;
    let expected: Vec<String> = numbered("{basename=report.txt} row", 0..1200);
    ensure!(lines == expected, "first line: {:?}", lines.first());
    poll::until_true("the file is marked as done", LIMIT, || {
        Ok(scene.path("spool/report.txt.COMPLETED").is_file())
    })?;
    ensure!(
        scene.path("spool/copying.tmp").is_file(),
        "an ignored file was taken"
    );
    agent.stop()
}
