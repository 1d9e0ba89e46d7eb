//! Directories that earlier releases have left are read to the last event (F19); one of a later release is refused with
//! a reason, and nothing in it is touched.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use flafka_tests::kafka_client;
use flafka_tests::old_formats::{self, COMMITTED, DELIVERED, GROUP, RECORDS, TOPIC, WAITING};
use flafka_tests::process::Process;
use flafka_tests::running_agent::LIMIT;
use flafka_tests::{flafka, poll, ports};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use crate::place::Place;

/// Every set of fixtures.
fn fixtures() -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(old_formats::folder()).context("list the fixtures")?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    ensure!(!found.is_empty(), "there are no fixtures");
    Ok(found)
}

fn drain(encrypted: bool) -> Result<()> {
    let name = if encrypted { "encrypted" } else { "channel" };
    for fixture in fixtures()? {
        let place = Place::new()?;
        old_formats::restore(&fixture.join(name), &place.folder("channel")?)?;
        old_formats::put_keys(&place.path(""))?;
        place.folder("out")?;
        let agent = old_formats::agent(&place.path(""), ports::free_port()?, encrypted, true)?;
        poll::until_true("the channel is empty", LIMIT, || {
            Ok(agent.metric("CHANNEL.c1", "ChannelSize")? == 0)
        })?;
        agent.stop()?;
        let mut lines = place.lines("out")?;
        let mut expected: Vec<_> = (DELIVERED..DELIVERED + WAITING)
            .map(old_formats::line)
            .collect();
        lines.sort();
        expected.sort();
        ensure!(
            lines == expected,
            "{}: {} lines instead of {WAITING}, the first is {:?}",
            fixture.display(),
            lines.len(),
            lines.first()
        );
    }
    Ok(())
}

#[test]
fn a_channel_that_an_earlier_release_left_is_drained() -> Result<()> {
    drain(false)
}

#[test]
fn an_encrypted_channel_that_an_earlier_release_left_is_drained() -> Result<()> {
    drain(true)
}

fn broker(place: &Place, port: u16) -> Result<Process> {
    let mut command = flafka::command(&["broker"])?;
    for setting in [
        format!("listeners=PLAINTEXT://127.0.0.1:{port}"),
        format!("log.dirs={}", place.path("log").display()),
        "log.retention.ms=-1".to_owned(),
    ] {
        command.arg("--override").arg(setting);
    }
    Process::start("flafka broker", command, &place.path("output"))
}

#[test]
fn a_log_that_an_earlier_release_left_is_read() -> Result<()> {
    for fixture in fixtures()? {
        let place = Place::new()?;
        old_formats::restore(&fixture.join("log"), &place.folder("log")?)?;
        let port = ports::free_port()?;
        let bootstrap = format!("127.0.0.1:{port}");
        let mut log = broker(&place, port)?;
        log.until("the embedded log answers", LIMIT, || {
            Ok(kafka_client::is_ready(&bootstrap)?.then_some(()))
        })?;
        let records = kafka_client::read_topic(&bootstrap, TOPIC, 2 * RECORDS, LIMIT)?;
        ensure!(records.len() == 2 * RECORDS, "{} records", records.len());
        for record in &records {
            let (key, value) = old_formats::record(record.partition, record.offset as usize);
            ensure!(
                record.text() == value && record.key.as_deref() == Some(key.as_bytes()),
                "{record:?} instead of {value}"
            );
        }
        let mut config = kafka_client::config(&bootstrap);
        config.set("group.id", GROUP);
        let consumer: BaseConsumer = config.create()?;
        let mut asked = TopicPartitionList::new();
        asked.add_partition(TOPIC, 1);
        let found = consumer.committed_offsets(asked, LIMIT)?;
        let found = found.find_partition(TOPIC, 1).map(|one| one.offset());
        ensure!(found == Some(Offset::Offset(COMMITTED)), "{found:?}");
        let status = log.terminate(LIMIT)?;
        ensure!(status.success(), "the log ended with {status}");
    }
    Ok(())
}

fn contents(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let names = old_formats::files(folder)?.into_iter();
    names
        .filter(|name| !name.ends_with("LOCK"))
        .map(|name| {
            let bytes = fs::read(folder.join(&name)).with_context(|| name.clone())?;
            Ok((name, bytes))
        })
        .collect()
}

#[test]
fn a_log_of_a_later_release_is_refused_and_not_touched() -> Result<()> {
    let fixture = fixtures()?.pop().context("there are no fixtures")?;
    let place = Place::new()?;
    let folder = place.folder("log")?;
    old_formats::restore(&fixture.join("log"), &folder)?;
    let names = old_formats::files(&folder)?;
    let node = names.iter().find(|name| name.ends_with("node.id"));
    let node = folder.join(node.context("there is no node file")?);
    let mut bytes = fs::read(&node)?;
    // The version lies behind the magic.
    bytes[8] = 99;
    fs::write(&node, bytes)?;
    let before = contents(&folder)?;
    let mut log = broker(&place, ports::free_port()?)?;
    let status = log.wait(LIMIT)?;
    let printed = fs::read_to_string(place.path("output"))?;
    ensure!(!status.success(), "the log started: {printed}");
    ensure!(
        printed.contains("format version 99") && printed.contains("node.id"),
        "{printed}"
    );
    ensure!(before == contents(&folder)?, "the directory has changed");
    Ok(())
}
