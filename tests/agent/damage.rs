//! Damaged data: the rest is delivered and served, and `/health` and `/metrics` say what is lost and where.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flafka_tests::process::Process;
use flafka_tests::running_agent::LIMIT;
use flafka_tests::{flafka as binary, http, kafka_client, netcat, poll, ports};
use serde_json::Value;

use crate::place::{Place, flafka, port};

/// Flips a bit in the header of batch `number` of the first segment below `data`, whose magic byte it is; returns the
/// segment and where that batch starts.
fn damage(data: &Path, stream: &str, number: usize) -> Result<(PathBuf, u64)> {
    let data = data.to_str().context("a path that is not text")?;
    let listed = flafka(&["log", "ls", data, "--json"])?
        .success("ls")?
        .stdout;
    let listed: Value = serde_json::from_str(&listed)?;
    let streams = listed["streams"].as_array().context("no streams")?;
    let found = streams.iter().find(|found| found["name"] == stream);
    let found = found.with_context(|| format!("no stream {stream} in {listed}"))?;
    let segment = found["segments"][0]["path"].as_str();
    let segment = segment.context("no segment")?.to_owned();
    let dumped = flafka(&["log", "dump", &segment, "--json"])?.success("dump")?;
    let batch = dumped.stdout.lines().nth(number).context("no such batch")?;
    let batch: Value = serde_json::from_str(batch)?;
    let position = batch["position"].as_u64().context("no position")?;
    let segment = PathBuf::from(segment);
    let mut bytes = fs::read(&segment)?;
    bytes[position as usize + 16] ^= 0x40;
    fs::write(&segment, &bytes)?;
    Ok((segment, position))
}

#[test]
fn a_channel_skips_a_damaged_batch_and_says_which() -> Result<()> {
    let place = Place::new()?;
    let (source, data, out) = (port()?, place.path("data"), place.folder("out")?);
    let filling = format!(
        "a1.sources = s\na1.channels = c\na1.sources.s.type = netcat\na1.sources.s.bind = 127.0.0.1\n\
         a1.sources.s.port = {source}\na1.sources.s.channels = c\na1.channels.c.type = file\n\
         a1.channels.c.minimumRequiredSpace = 1048576\na1.channels.c.dataDirs = {}\n",
        data.display()
    );
    let agent = place.agent(&filling)?;
    // One connection each, so one put and one batch each.
    for number in 0..5 {
        netcat::send(source, &[format!("line {number}")])?;
    }
    let (_, health) = agent.json("/health")?;
    ensure!(
        health["components"]["a1.channels.c"]["warnings"].is_null(),
        "{health}"
    );
    ensure!(agent.metric("CHANNEL.c", "LogDamageCount")? == 0);
    agent.stop()?;
    let (segment, position) = damage(&data, "channel", 2)?;

    let draining = format!(
        "{filling}a1.sinks = k\na1.sinks.k.type = file_roll\na1.sinks.k.sink.directory = {}\na1.sinks.k.channel = c\n",
        out.display()
    );
    let agent = place.agent(&draining)?;
    poll::until_true("the other events are out", LIMIT, || {
        Ok(place.lines("out")? == ["line 0", "line 1", "line 3", "line 4"])
    })
    .with_context(|| agent.process.evidence())?;
    let (code, health) = agent.json("/health")?;
    ensure!(code == 200 && health["status"] == "ok", "{health}");
    let channel = &health["components"]["a1.channels.c"];
    let warnings = channel["warnings"].as_array();
    let warnings = warnings.with_context(|| health.to_string())?;
    let named = format!("{} at byte {position}", segment.display());
    ensure!(
        warnings.len() == 1
            && warnings[0]
                .as_str()
                .is_some_and(|text| { text.contains(&named) && text.contains("offset 2 is lost") }),
        "not {named}: {health}"
    );
    ensure!(channel["state"] == "running", "{health}");
    ensure!(agent.metric("CHANNEL.c", "LogDamageCount")? == 1);
    ensure!(agent.metric("CHANNEL.c", "LogLostOffsetCount")? == 1);
    ensure!(agent.metric("CHANNEL.c", "LogDamagedByteCount")? > 60);
    ensure!(agent.metric("CHANNEL.c", "LogMendedCount")? == 0);
    let page = String::from_utf8(agent.get("/metrics/prometheus")?.body)?;
    let line = "flafka_log_damage_total{component=\"channel\",name=\"c\"} 1\n";
    ensure!(page.contains(line), "{page}");
    netcat::send(source, &["after it"])?;
    poll::until_true("the channel goes on", LIMIT, || {
        Ok(place
            .lines("out")?
            .last()
            .is_some_and(|line| line == "after it"))
    })?;
    agent.stop()
}

#[test]
fn a_broker_names_what_it_cannot_serve() -> Result<()> {
    let place = Place::new()?;
    let (listener, monitoring) = (ports::free_port()?, ports::free_port()?);
    let (data, bootstrap) = (place.path("data"), format!("127.0.0.1:{listener}"));
    let start = || -> Result<Process> {
        let mut command = binary::command(&["broker", "--override"])?;
        command.arg(format!("log.dirs={}", data.display()));
        command.arg("--override");
        command.arg(format!("listeners=PLAINTEXT://{bootstrap}"));
        command.arg("--monitoring");
        command.arg(format!("127.0.0.1:{monitoring}"));
        let mut broker = Process::start("flafka broker", command, &place.path("broker.log"))?;
        broker.until("the broker answers", LIMIT, || {
            Ok(kafka_client::is_ready(&bootstrap)?.then_some(()))
        })?;
        Ok(broker)
    };
    let get = |path: &str| -> Result<String> {
        Ok(String::from_utf8(http::get(monitoring, path)?.body)?)
    };
    let mut broker = start()?;
    kafka_client::create_topic(&bootstrap, "t", 1)?;
    let record = [kafka_client::NewRecord::value("something")];
    kafka_client::produce(&bootstrap, "t", &record)?;
    ensure!(!get("/health")?.contains("warnings"), "{}", get("/health")?);
    broker.terminate(LIMIT)?;
    let (segment, position) = damage(&data, "topic/t/0", 0)?;

    let mut broker = start()?;
    let read = kafka_client::read_topic(&bootstrap, "t", 1, Duration::from_secs(3));
    ensure!(read.is_err(), "a damaged batch was served: {read:?}");
    let named = format!("{} at byte {position}", segment.display());
    let health = poll::until("the damage is named", LIMIT, || {
        let health = get("/health")?;
        Ok(health.contains(&named).then_some(health))
    })
    .with_context(|| broker.evidence())?;
    let health: Value = serde_json::from_str(&health)?;
    ensure!(
        health["status"] == "ok" && health["components"]["broker"]["state"] == "running",
        "{health}"
    );
    let metrics: Value = serde_json::from_str(&get("/metrics")?)?;
    ensure!(metrics["BROKER.log"]["LogDamageCount"] == "1", "{metrics}");
    let line = "flafka_log_damage_total{component=\"broker\",name=\"log\"} 1\n";
    let page = get("/metrics/prometheus")?;
    ensure!(page.contains(line), "{page}");
    // The rest of the broker is served.
    kafka_client::create_topic(&bootstrap, "other", 1)?;
    kafka_client::produce(&bootstrap, "other", &record)?;
    broker.terminate(LIMIT)?;
    Ok(())
}
