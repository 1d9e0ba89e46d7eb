//! Writes the fixtures of old formats: directories as the binary under test leaves them, for every later release to read.
//!
//! `flafka-old-formats FOLDER`, where FOLDER is a new one below `tests/fixtures/old_formats/`, named after the formats.
//! Three directories: a file channel left by SIGKILL, an encrypted one left in order, and an embedded log left by
//! SIGKILL. Invariant: what is in them is told by `flafka_tests::old_formats` alone.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use flafka_tests::kafka_client::{self, NewRecord};
use flafka_tests::old_formats::{self, COMMITTED, DELIVERED, GROUP, RECORDS, TOPIC, WAITING};
use flafka_tests::process::Process;
use flafka_tests::running_agent::{LIMIT, RunningAgent};
use flafka_tests::{flafka, http, poll, ports};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::json;

fn main() -> Result<()> {
    let target = env::args().nth(1).context("name a new folder")?;
    let target = PathBuf::from(target);
    ensure!(!target.try_exists()?, "{} exists", target.display());
    for encrypted in [false, true] {
        let folder = tempfile::tempdir()?;
        channel(folder.path(), encrypted)?;
        let name = if encrypted { "encrypted" } else { "channel" };
        old_formats::keep(&folder.path().join("channel"), &target.join(name))?;
    }
    let folder = tempfile::tempdir()?;
    log(folder.path())?;
    old_formats::keep(&folder.path().join("log"), &target.join("log"))
}

fn channel(folder: &Path, encrypted: bool) -> Result<()> {
    old_formats::put_keys(folder)?;
    fs::create_dir(folder.join("out"))?;
    let http = ports::free_port()?;
    let agent = old_formats::agent(folder, http, encrypted, true)?;
    post(http, 0..DELIVERED)?;
    until_delivered(&agent)?;
    agent.stop()?;
    let mut agent = old_formats::agent(folder, http, encrypted, false)?;
    for first in (DELIVERED..DELIVERED + WAITING).step_by(30) {
        post(http, first..first + 30)?;
    }
    if encrypted {
        agent.stop()
    } else {
        agent.process.kill()
    }
}

fn until_delivered(agent: &RunningAgent) -> Result<()> {
    poll::until_true("all events are delivered", LIMIT, || {
        Ok(
            agent.metric("CHANNEL.c1", "EventTakeSuccessCount")? >= DELIVERED as i64
                && agent.metric("CHANNEL.c1", "ChannelSize")? == 0,
        )
    })
}

fn post(port: u16, numbers: std::ops::Range<usize>) -> Result<()> {
    let events: Vec<_> = numbers
        .map(|number| {
            let headers = json!({ "number": old_formats::header(number) });
            json!({ "headers": headers, "body": old_formats::body(number) })
        })
        .collect();
    let answer = http::post(port, "/", &[], json!(events).to_string().as_bytes())?;
    ensure!(answer.status == 200, "the source answers {}", answer.status);
    Ok(())
}

fn log(folder: &Path) -> Result<()> {
    let port = ports::free_port()?;
    let bootstrap = format!("127.0.0.1:{port}");
    let mut command = flafka::command(&["broker"])?;
    for setting in [
        format!("listeners=PLAINTEXT://127.0.0.1:{port}"),
        format!("log.dirs={}", folder.join("log").display()),
    ] {
        command.arg("--override").arg(setting);
    }
    let mut log = Process::start("flafka broker", command, &folder.join("output"))?;
    log.until("the embedded log answers", LIMIT, || {
        Ok(kafka_client::is_ready(&bootstrap)?.then_some(()))
    })?;
    kafka_client::create_topic(&bootstrap, TOPIC, 2)?;
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    for partition in 0..2 {
        for (turn, first) in (0..RECORDS).step_by(12).enumerate() {
            let records: Vec<_> = (first..first + 12)
                .map(|number| {
                    let (key, value) = old_formats::record(partition, number);
                    NewRecord::value(value)
                        .with_key(key)
                        .to_partition(partition)
                })
                .collect();
            let settings = [
                ("enable.idempotence", "true"),
                ("compression.type", codecs[turn % codecs.len()]),
            ];
            kafka_client::produce_with(&settings, &bootstrap, TOPIC, &records)?;
        }
    }
    let mut config = kafka_client::config(&bootstrap);
    config.set("group.id", GROUP);
    let consumer: BaseConsumer = config.create()?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(TOPIC, 1, Offset::Offset(COMMITTED))?;
    consumer.commit(&list, CommitMode::Sync)?;
    drop(consumer);
    log.kill()
}
