//! The kafka sink: what becomes of an event's headers, and a broker that is killed under load.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flafka_tests::kafka_client::{ReadRecord, create_topic, read_topic, unique_name};
use flafka_tests::log_server::LogServer;
use flafka_tests::runner::Case;
use flafka_tests::running_agent::LIMIT;

use super::load::{Load, ensure_nothing_lost, tally};
use super::{Conf, Place, event};

pub(super) fn cases() -> Vec<Case<LogServer>> {
    vec![
        Case::new("agent_sink::key_time_and_headers", key_time_and_headers),
        Case::new(
            "agent_sink::an_event_chooses_its_topic",
            an_event_chooses_its_topic,
        ),
        Case::new(
            "agent_sink::an_event_chooses_its_partition",
            an_event_chooses_its_partition,
        ),
        Case::new(
            "agent_sink::whole_events_go_round_in_flume_event_format",
            whole_events_go_round,
        ),
        Case::new("agent_sink::the_log_is_killed_under_load", log_killed),
    ]
}

fn key_time_and_headers(log: &LogServer) -> Result<()> {
    let topic = unique_name("sink");
    create_topic(log.bootstrap(), &topic, 3)?;
    let conf = Conf::of("s1", "c1", "k1")
        .http("c1")
        .memory("c1")
        .kafka_sink("k1", "c1", log.bootstrap(), &topic)
        .with(
            "sinks.k1",
            &[
                ("timestampHeader", "when"),
                ("header.origin", "source-host"),
            ],
        );
    let place = Place::new()?;
    let agent = place.run(&conf)?;
    let time = |n: i64| 1_700_000_000_000 + n;
    let mut events: Vec<_> = (0..30)
        .map(|n| {
            let (key, when, host) = (
                format!("k{}", n % 5),
                time(n).to_string(),
                format!("host{n}"),
            );
            event(
                &[
                    ("key", &key),
                    ("when", &when),
                    ("origin", &host),
                    ("other", "x"),
                ],
                n,
            )
        })
        .collect();
    events.push(event(&[], "bare"));
    place.post(&events)?;
    let records = read_topic(log.bootstrap(), &topic, 31, LIMIT)?;
    let text = |bytes: &Option<Vec<u8>>| {
        bytes
            .as_ref()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    for record in &records {
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), text(value)))
            .collect();
        if record.text() == "bare" {
            ensure!(record.key.is_none() && headers.is_empty(), "{record:?}");
            continue;
        }
        let n: i64 = record.text().parse().context("a number")?;
        ensure!(
            text(&record.key) == Some(format!("k{}", n % 5)),
            "{record:?}"
        );
        ensure!(record.timestamp_ms == Some(time(n)), "{record:?}");
        ensure!(
            headers == [("source-host", Some(format!("host{n}")))],
            "{record:?}"
        );
        let same_key = records.iter().filter(|other| other.key == record.key);
        ensure!(
            same_key
                .into_iter()
                .all(|other| other.partition == record.partition),
            "one key in two partitions"
        );
    }
    agent.stop()
}

fn an_event_chooses_its_topic(log: &LogServer) -> Result<()> {
    let topic = unique_name("sink");
    let named = |end: &str| format!("{topic}-{end}");
    for end in ["default", "chosen", "fixed", "kind-a", "kind-b"] {
        create_topic(log.bootstrap(), &named(end), 1)?;
    }
    let mut conf = Conf::of("s1", "c1 c2 c3", "k1 k2 k3").http("c1 c2 c3");
    for (sink, channel, goal) in [
        ("k1", "c1", named("default")),
        ("k2", "c2", named("fixed")),
        ("k3", "c3", named("kind-%{kind}")),
    ] {
        conf = conf
            .memory(channel)
            .kafka_sink(sink, channel, log.bootstrap(), &goal);
    }
    let conf = conf
        .with("sinks.k1", &[("topicHeader", "goes-to")])
        .with("sinks.k2", &[("allowTopicOverride", "false")]);
    let place = Place::new()?;
    let agent = place.run(&conf)?;
    let chosen = named("chosen");
    place.post(&[
        event(&[("goes-to", &chosen), ("kind", "a")], "one"),
        event(&[("kind", "b")], "two"),
        event(&[("kind", "a")], "three"),
    ])?;
    for (end, expected) in [
        ("default", vec!["two", "three"]),
        ("chosen", vec!["one"]),
        ("fixed", vec!["one", "two", "three"]),
        ("kind-a", vec!["one", "three"]),
        ("kind-b", vec!["two"]),
    ] {
        let found: Vec<String> = read_topic(log.bootstrap(), &named(end), expected.len(), LIMIT)?
            .iter()
            .map(ReadRecord::text)
            .collect();
        ensure!(found == expected, "topic …-{end}: {found:?}");
    }
    agent.stop()
}

fn an_event_chooses_its_partition(log: &LogServer) -> Result<()> {
    let topic = unique_name("sink");
    create_topic(log.bootstrap(), &topic, 4)?;
    let conf = Conf::of("s1", "c1", "k1")
        .http("c1")
        .memory("c1")
        .kafka_sink("k1", "c1", log.bootstrap(), &topic)
        .with(
            "sinks.k1",
            &[("partitionIdHeader", "to"), ("defaultPartitionId", "2")],
        );
    let place = Place::new()?;
    let agent = place.run(&conf)?;
    let mut events: Vec<_> = (0..8)
        .map(|n| {
            event(
                &[("to", &(n % 4).to_string()), ("key", "always the same")],
                n % 4,
            )
        })
        .collect();
    events.push(event(&[], "2"));
    // What names no partition goes where its key says and stops nobody.
    for bad in ["99", "-1", "nine"] {
        events.push(event(&[("to", bad), ("key", "k")], "bad"));
    }
    place.post(&events)?;
    let records = read_topic(log.bootstrap(), &topic, 12, LIMIT)?;
    for record in records.iter().filter(|record| record.text() != "bad") {
        ensure!(record.text() == record.partition.to_string(), "{record:?}");
    }
    let mut bad: Vec<_> = records
        .iter()
        .filter(|record| record.text() == "bad")
        .map(|record| record.partition)
        .collect();
    bad.dedup();
    ensure!(
        bad.len() == 1,
        "the same key went to the partitions {bad:?}"
    );
    agent.stop()
}

/// http → kafka sink → topic → kafka source → files, with nothing lost of headers and body.
fn whole_events_go_round(log: &LogServer) -> Result<()> {
    let topic = unique_name("sink");
    create_topic(log.bootstrap(), &topic, 2)?;
    let avro = ("useFlumeEventFormat", "true");
    let conf = Conf::of("s1 s2", "c1 c2", "k1 k2")
        .http("c1")
        .memory("c1")
        .kafka_sink("k1", "c1", log.bootstrap(), &topic)
        .with("sinks.k1", &[avro])
        .kafka_source("s2", "c2", log.bootstrap(), &topic)
        .with("sources.s2", &[("kafka.topics", topic.as_str()), avro])
        .memory("c2")
        .files("k2", "c2", "out");
    let place = Place::new()?;
    let mut agent = place.run(&conf)?;
    let events: Vec<_> = (0..50)
        .map(|n| {
            event(
                &[("n", &n.to_string()), ("Größe", "ß"), ("timestamp", "5")],
                n,
            )
        })
        .collect();
    place.post(&events)?;
    let found = place.until_bodies(&mut agent, "out", 50)?;
    super::ensure_exactly_once(&found, 50)?;
    for event in &found {
        ensure!(
            event.header("n") == event.body && event.header("Größe") == "ß",
            "{event:?}"
        );
        ensure!(
            event.header("timestamp") == "5" && event.header("topic") == topic,
            "an event's own header wins: {event:?}"
        );
    }
    agent.stop()
}

/// http → file channel → kafka sink; the log is killed and started again while events come.
fn log_killed(log: &LogServer) -> Result<()> {
    const BATCH: usize = 20;
    let mut log = log.another()?;
    let topic = unique_name("sink");
    create_topic(log.bootstrap(), &topic, 2)?;
    let conf = Conf::of("s1", "c1", "k1")
        .http("c1")
        .file("c1")
        .kafka_sink("k1", "c1", log.bootstrap(), &topic)
        .with("sinks.k1", &[("flumeBatchSize", &BATCH.to_string())]);
    let place = Place::new()?;
    let agent = place.run(&conf)?;
    let load = Load::start(place.http);
    load.until_more(200)?;
    log.kill()?;
    load.until_more(200)
        .context("the file channel takes events while the log is away")?;
    log.start_again()?;
    load.until_more(200)?;
    let acknowledged = load.finish()?;
    let records = read_topic(
        log.bootstrap(),
        &topic,
        acknowledged.len(),
        Duration::from_secs(90),
    )
    .with_context(|| agent.process.evidence())?;
    flafka_tests::poll::until_true("the channel is empty", LIMIT, || {
        Ok(agent.metric("CHANNEL.c1", "ChannelSize")? == 0)
    })?;
    let records = match usize::try_from(agent.metric("SINK.k1", "EventDrainSuccessCount")?) {
        Ok(drained) if drained > records.len() => {
            read_topic(log.bootstrap(), &topic, drained, LIMIT)?
        }
        _ => records,
    };
    // The producer is idempotent, so only a batch that the sink itself gave up and sent again can repeat.
    let batches = usize::try_from(agent.metric("SINK.k1", "RollbackCount")?).unwrap_or(0);
    let texts: Vec<String> = records.iter().map(ReadRecord::text).collect();
    let times = tally(texts.iter().map(String::as_str))?;
    ensure_nothing_lost(&times, &acknowledged, batches * BATCH)?;
    agent.stop()
}
