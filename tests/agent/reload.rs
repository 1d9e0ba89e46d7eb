//! A changed configuration file is loaded again; a bad one is not.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use flafka_tests::running_agent::{LIMIT, RunningAgent};
use flafka_tests::{http, netcat, poll};

use crate::place::{Place, netcat_logger, port};

/// Replaces the file as an editor does, with a modification time that is surely newer.
fn replace(conf: &Path, text: &str, version: u64) -> Result<()> {
    let fresh = conf.with_extension("new");
    fs::write(&fresh, text).context("write the new configuration")?;
    let file = fs::File::options().append(true).open(&fresh)?;
    file.set_modified(SystemTime::now() + Duration::from_secs(version))?;
    fs::rename(&fresh, conf).context("replace the configuration")
}

#[test]
fn a_changed_file_is_loaded_and_a_bad_one_changes_nothing() -> Result<()> {
    let place = Place::new()?;
    let (first, second, third) = (port()?, port()?, port()?);
    let conf = place.file("flume.conf", &netcat_logger(first, "r1"))?;
    let arguments = ["agent", "-n", "a1", "-i", "1"];
    let mut agent = RunningAgent::start(&arguments, &conf, &[], &place.path("output"))?;
    agent.until_ready()?;
    ensure!(netcat::send(first, &["one"])? == ["OK"]);

    replace(&conf, &netcat_logger(second, "r1"), 1)?;
    poll::until_true("the new port listens", LIMIT, || {
        Ok(netcat::send(second, &["two"])? == ["OK"])
    })
    .with_context(|| agent.process.evidence())?;
    ensure!(
        netcat::send(first, &["x"]).is_err(),
        "the old port still listens"
    );

    replace(
        &conf,
        &netcat_logger(third, "r1").replace("netcat", "netcta"),
        2,
    )?;
    agent.until_output("the old one keeps running")?;
    agent.until_output("did you mean `netcat`")?;
    ensure!(netcat::send(second, &["three"])? == ["OK"]);

    // Parts with other names: those that are gone must not be shown any more.
    replace(&conf, &netcat_logger(third, "other"), 3)?;
    poll::until_true("the renamed source listens", LIMIT, || {
        Ok(netcat::send(third, &["four"])? == ["OK"])
    })
    .with_context(|| agent.process.evidence())?;
    agent.until_ready()?;
    let (_, health) = agent.json("/health")?;
    ensure!(
        health["components"].get("a1.sources.r1").is_none(),
        "{health}"
    );
    for line in ["one", "two", "three", "four"] {
        agent.until_output(line)?;
    }
    agent.stop()
}

fn http_memory(port: u16, sink: &str) -> String {
    format!(
        "a1.sources = r1\na1.channels = c1\na1.sinks = k1\n\
         a1.sources.r1.type = http\na1.sources.r1.bind = 127.0.0.1\na1.sources.r1.port = {port}\n\
         a1.sources.r1.channels = c1\n\
         a1.channels.c1.type = memory\na1.channels.c1.capacity = 10000\n\
         a1.sinks.k1.channel = c1\n{sink}"
    )
}

#[test]
fn a_reload_loses_nothing_of_a_memory_channel_whose_sink_is_dead() -> Result<()> {
    let place = Place::new()?;
    let out = place.folder("out")?;
    let (first, second, nobody) = (port()?, port()?, port()?);
    let dead = format!(
        "a1.sinks.k1.type = org.apache.flume.sink.kafka.KafkaSink\na1.sinks.k1.kafka.topic = t\n\
         a1.sinks.k1.kafka.bootstrap.servers = 127.0.0.1:{nobody}\n\
         a1.sinks.k1.kafka.producer.request.timeout.ms = 500\n\
         a1.sinks.k1.kafka.producer.delivery.timeout.ms = 1000\n"
    );
    let conf = place.file("flume.conf", &http_memory(first, &dead))?;
    let arguments = ["agent", "-n", "a1", "-i", "1"];
    let mut agent = RunningAgent::start(&arguments, &conf, &[], &place.path("output"))?;
    agent.until_ready()?;
    let post = |port, body: &str| -> Result<()> {
        let events = serde_json::json!([{ "body": body }]).to_string();
        let answer = http::post(port, "/", &[], events.as_bytes())?;
        ensure!(answer.status == 200, "{answer:?}");
        Ok(())
    };
    let mut sent: Vec<String> = (0..200).map(|number| format!("event {number}")).collect();
    for body in &sent {
        post(first, body)?;
    }
    let alive = format!(
        "a1.sinks.k1.type = file_roll\na1.sinks.k1.sink.directory = {}\n",
        out.display()
    );
    let text = http_memory(second, &alive).replace("10000", "5000");
    replace(&conf, &text, 1)?;
    poll::until_true("the waiting events come out", LIMIT, || {
        Ok(place.lines("out")?.len() >= sent.len())
    })
    .with_context(|| agent.process.evidence())?;
    agent.until_ready()?;
    post(second, "late")?;
    sent.push("late".to_owned());
    poll::until_true("what comes later follows", LIMIT, || {
        Ok(place.lines("out")?.len() >= sent.len())
    })?;
    ensure!(place.lines("out")? == sent, "not each event once, in order");
    ensure!(agent.metric("CHANNEL.c1", "ChannelCapacity")? == 5000);
    agent.stop()
}

/// A channel whose directories are all replaced starts empty: where its events are is said, and they come when the
/// directory is named again.
#[test]
fn a_reload_to_other_directories_says_what_it_leaves_behind() -> Result<()> {
    let place = Place::new()?;
    let out = place.folder("out")?;
    let http_port = port()?;
    let text = |folder: &str, sinks: &str| {
        format!(
            "a1.sources = r1\na1.channels = c1\n{sinks}\
             a1.sources.r1.type = http\na1.sources.r1.bind = 127.0.0.1\na1.sources.r1.port = {http_port}\n\
             a1.sources.r1.channels = c1\n\
             a1.channels.c1.type = file\na1.channels.c1.dataDirs = {}\n",
            place.path(folder).display()
        )
    };
    let conf = place.file("flume.conf", &text("first", ""))?;
    let arguments = ["agent", "-n", "a1", "-i", "1"];
    let mut agent = RunningAgent::start(&arguments, &conf, &[], &place.path("output"))?;
    agent.until_ready()?;
    let events = serde_json::json!([{ "body": "one" }, { "body": "two" }]).to_string();
    let answer = http::post(http_port, "/", &[], events.as_bytes())?;
    ensure!(answer.status == 200, "{answer:?}");

    replace(&conf, &text("second", ""), 1)?;
    agent.until_output("uses none of this channel's directories")?;
    let line = format!(
        "waiting=2 directories=\"{}\"",
        place.path("first").display()
    );
    agent.until_output(&line)?;

    let sinks = format!(
        "a1.sinks = k1\na1.sinks.k1.channel = c1\na1.sinks.k1.type = file_roll\na1.sinks.k1.sink.directory = {}\n",
        out.display()
    );
    replace(&conf, &text("first", &sinks), 2)?;
    poll::until_true("the events come out", LIMIT, || {
        Ok(place.lines("out")? == ["one", "two"])
    })
    .with_context(|| agent.process.evidence())?;
    agent.stop()
}
