//! The kafka channel: put and take, one side alone, several sinks, and an agent that is killed.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, ensure};
use flafka_tests::kafka_client::{
    CALL_LIMIT, NewRecord, config, create_topic, produce, read_topic, unique_name,
};
use flafka_tests::log_server::LogServer;
use flafka_tests::runner::Case;
use flafka_tests::running_agent::LIMIT;
use flafka_tests::{avro_datum, poll, ports};
use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::TopicPartitionList;

use super::load::{Load, ensure_nothing_lost, until_numbers};
use super::{Conf, Event, Place, bodies, ensure_exactly_once, event, until_members};

pub(super) fn cases() -> Vec<Case<LogServer>> {
    vec![
        Case::new("agent_channel::put_and_take", put_and_take),
        Case::new("agent_channel::bodies_alone", bodies_alone),
        Case::new("agent_channel::without_a_source", without_a_source),
        Case::new("agent_channel::without_a_sink", without_a_sink),
        Case::new(
            "agent_channel::several_sinks_share_the_events",
            several_sinks_share_the_events,
        ),
        Case::new(
            "agent_channel::a_sink_that_keeps_its_events_keeps_the_offset",
            a_sink_that_keeps_its_events,
        ),
        Case::new("agent_channel::the_agent_is_killed", the_agent_is_killed),
        Case::new(
            "agent_channel::an_ordered_stop_leaves_the_groups",
            an_ordered_stop_leaves_the_groups,
        ),
    ]
}

fn topic(log: &LogServer, partitions: i32) -> Result<String> {
    let topic = unique_name("channel");
    create_topic(log.bootstrap(), &topic, partitions)?;
    Ok(topic)
}

fn numbered(range: std::ops::Range<u32>) -> Vec<serde_json::Value> {
    range.map(|n| event(&[], n)).collect()
}

fn put_and_take(log: &LogServer) -> Result<()> {
    let topic = topic(log, 3)?;
    let conf = Conf::of("s1", "c1", "k1")
        .http("c1")
        .kafka_channel(log.bootstrap(), &topic)
        .files("k1", "c1", "out");
    let place = Place::new()?;
    let mut agent = place.run(&conf)?;
    let events: Vec<_> = (0..60)
        .map(|n| event(&[("key", &format!("k{}", n % 7)), ("n", &n.to_string())], n))
        .collect();
    place.post(&events)?;
    let found = place.until_bodies(&mut agent, "out", 60)?;
    ensure_exactly_once(&found, 60)?;
    for event in &found {
        let n: u32 = event.body.parse().context("a number")?;
        ensure!(
            event.header("n") == event.body
                && event.header("key") == format!("k{}", n % 7)
                && event.headers.len() == 2,
            "{event:?}"
        );
    }
    for record in read_topic(log.bootstrap(), &topic, 60, LIMIT)? {
        let inner = avro_datum::decode(record.value.as_deref().unwrap_or_default())?;
        ensure!(
            inner.headers.get("key").map(String::as_bytes) == record.key.as_deref(),
            "{record:?}"
        );
    }
    agent.stop()?;
    ensure!(
        committed(log, &topic, 3)? == 60,
        "an ordered stop leaves everything committed"
    );
    Ok(())
}

fn bodies_alone(log: &LogServer) -> Result<()> {
    let topic = topic(log, 1)?;
    let conf = Conf::of("s1", "c1", "k1")
        .http("c1")
        .kafka_channel(log.bootstrap(), &topic)
        .with("channels.c1", &[("parseAsFlumeEvent", "false")])
        .files("k1", "c1", "out");
    let place = Place::new()?;
    let mut agent = place.run(&conf)?;
    let events: Vec<_> = (0..20)
        .map(|n| event(&[("key", &format!("k{n}")), ("lost", "yes")], n))
        .collect();
    place.post(&events)?;
    let found = place.until_bodies(&mut agent, "out", 20)?;
    ensure_exactly_once(&found, 20)?;
    for event in &found {
        ensure!(
            event.header("key") == format!("k{}", event.body) && event.headers.len() == 1,
            "{event:?}"
        );
    }
    let records = read_topic(log.bootstrap(), &topic, 20, LIMIT)?;
    ensure!(
        records[7].text() == "7" && records[7].key.as_deref() == Some(b"k7"),
        "{:?}",
        records[7]
    );
    agent.stop()
}

fn without_a_source(log: &LogServer) -> Result<()> {
    let topic = topic(log, 2)?;
    let records: Vec<_> = (0..500)
        .map(|n| NewRecord::value(n.to_string()).to_partition(n % 2))
        .collect();
    produce(log.bootstrap(), &topic, &records)?;
    let conf = Conf::of("", "c1", "k1")
        .kafka_channel(log.bootstrap(), &topic)
        .with("channels.c1", &[("parseAsFlumeEvent", "false")])
        .files("k1", "c1", "out");
    let place = Place::new()?;
    let mut agent = place.run(&conf)?;
    ensure_exactly_once(&place.until_bodies(&mut agent, "out", 500)?, 500)?;
    agent.stop()
}

fn without_a_sink(log: &LogServer) -> Result<()> {
    let topic = topic(log, 4)?;
    let conf = Conf::of("s1", "c1", "")
        .http("c1")
        .kafka_channel(log.bootstrap(), &topic)
        .with(
            "channels.c1",
            &[("partitionIdHeader", "to"), ("defaultPartitionId", "3")],
        );
    let place = Place::new()?;
    let agent = place.run(&conf)?;
    let mut events: Vec<_> = (0..40)
        .map(|n| event(&[("to", &(n % 3).to_string())], n % 3))
        .collect();
    events.push(event(&[], 3));
    place.post(&events)?;
    for record in read_topic(log.bootstrap(), &topic, 41, LIMIT)? {
        let inner = avro_datum::decode(record.value.as_deref().unwrap_or_default())?;
        ensure!(
            inner.body == record.partition.to_string().as_bytes(),
            "{record:?}"
        );
    }
    agent.stop()
}

fn several_sinks_share_the_events(log: &LogServer) -> Result<()> {
    let topic = topic(log, 3)?;
    let mut conf = Conf::of("s1", "c1", "k1 k2 k3")
        .http("c1")
        .kafka_channel(log.bootstrap(), &topic);
    for (sink, folder) in [("k1", "out"), ("k2", "out2"), ("k3", "out3")] {
        conf = conf
            .files(sink, "c1", folder)
            .with(&format!("sinks.{sink}"), &[("sink.batchSize", "10")]);
    }
    let place = Place::new()?;
    let agent = place.run(&conf)?;
    let folders = ["out", "out2", "out3"];
    let mut posted = 0;
    poll::until_true("every sink has had events", LIMIT, || {
        place.post(&numbered(posted..posted + 50))?;
        posted += 50;
        let shares = folders.map(|folder| place.events(folder));
        let shares = shares.into_iter().collect::<Result<Vec<_>>>()?;
        Ok(shares.iter().all(|events| !events.is_empty()))
    })?;
    let all = || -> Result<Vec<Event>> {
        let shares = folders.map(|folder| place.events(folder));
        Ok(shares.into_iter().collect::<Result<Vec<_>>>()?.concat())
    };
    poll::until_true("all events are in files", LIMIT, || {
        Ok(bodies(&all()?).len() >= posted as usize)
    })
    .with_context(|| agent.process.evidence())?;
    ensure_exactly_once(&all()?, posted)?;
    agent.stop()?;
    ensure!(
        committed(log, &topic, 3)? == i64::from(posted),
        "an ordered stop leaves everything committed"
    );
    Ok(())
}

/// One sink cannot deliver what it has taken, the other goes on: offsets behind the first one's events must not be
/// committed, or a crash loses them.
fn a_sink_that_keeps_its_events(log: &LogServer) -> Result<()> {
    let topic = topic(log, 1)?;
    let nowhere = format!("127.0.0.1:{}", ports::free_port()?);
    let base = Conf::of("s1", "c1", "k1 k2")
        .http("c1")
        .kafka_channel(log.bootstrap(), &topic)
        .files("k1", "c1", "out")
        .with("sinks.k1", &[("sink.batchSize", "5")]);
    let stuck = base
        .clone()
        .kafka_sink("k2", "c1", &nowhere, "never")
        .with("sinks.k2", &[("flumeBatchSize", "5")]);
    let place = Place::new()?;
    let mut agent = place.run(&stuck)?;
    let mut posted = 0;
    poll::until_true("the sink without a log has taken events", LIMIT, || {
        place.post(&numbered(posted..posted + 10))?;
        posted += 10;
        Ok(agent.metric("SINK.k2", "EventDrainAttemptCount")? > 0)
    })?;
    place.post(&numbered(posted..posted + 100))?;
    posted += 100;
    let held = usize::try_from(agent.metric("SINK.k2", "EventDrainAttemptCount")?)?;
    place.until_bodies(&mut agent, "out", posted as usize - held)?;
    let reached: BTreeSet<u32> = place
        .events("out")?
        .iter()
        .map(|event| event.body.parse().context("a number"))
        .collect::<Result<_>>()?;
    let first_held = (0..posted)
        .find(|n| !reached.contains(n))
        .context("nothing is held")?;
    let committed = committed(log, &topic, 1)?;
    ensure!(
        committed <= i64::from(first_held),
        "committed up to {committed}, but {first_held} is not delivered"
    );
    agent.process.kill()?;

    let mended = base.files("k2", "c1", "out2");
    let agent = place.run(&mended)?;
    let all =
        || -> Result<Vec<Event>> { Ok([place.events("out")?, place.events("out2")?].concat()) };
    poll::until_true("the events come after the crash", LIMIT, || {
        Ok(bodies(&all()?).len() >= posted as usize)
    })
    .with_context(|| agent.process.evidence())?;
    agent.stop()
}

/// http → kafka channel → kafka sink; the agent is killed while posts come.
fn the_agent_is_killed(log: &LogServer) -> Result<()> {
    const SINK_BATCH: usize = 20;
    const KILLS: usize = 2;
    let topic = topic(log, 2)?;
    let goal = format!("{topic}-goal");
    create_topic(log.bootstrap(), &goal, 1)?;
    let conf = Conf::of("s1", "c1", "k1")
        .http("c1")
        .kafka_channel(log.bootstrap(), &topic)
        .kafka_sink("k1", "c1", log.bootstrap(), &goal)
        .with("sinks.k1", &[("flumeBatchSize", &SINK_BATCH.to_string())]);
    let place = Place::new()?;
    let mut agent = place.run(&conf)?;
    let load = Load::start(place.http);
    for _ in 0..KILLS {
        load.until_more(200)?;
        poll::until_true("events come out", LIMIT, || {
            Ok(agent.metric("SINK.k1", "EventDrainSuccessCount")? > 0)
        })?;
        agent.process.kill()?;
        agent = place.run(&conf)?;
    }
    load.until_more(200)?;
    let acknowledged = load.finish()?;
    let times =
        until_numbers(log, &goal, &acknowledged).with_context(|| agent.process.evidence())?;
    ensure_nothing_lost(&times, &acknowledged, KILLS * SINK_BATCH)?;
    agent.stop()
}

/// kafka source → kafka channel → null, both waiting for records for longer than the test has: a stop ends the waits,
/// and nobody has to wait for the end of a session after it.
fn an_ordered_stop_leaves_the_groups(log: &LogServer) -> Result<()> {
    let (from, by) = (topic(log, 1)?, topic(log, 1)?);
    let long = "300000";
    let session = [("kafka.consumer.session.timeout.ms", long)];
    let conf = Conf::of("s1", "c1", "k1")
        .kafka_source("s1", "c1", log.bootstrap(), &from)
        .with("sources.s1", &[("kafka.topics", from.as_str())])
        .with("sources.s1", &[("batchDurationMillis", long)])
        .with("sources.s1", &session)
        .kafka_channel(log.bootstrap(), &by)
        .with("channels.c1", &[("kafka.pollTimeout", long)])
        .with("channels.c1", &session)
        .with("sinks.k1", &[("type", "null"), ("channel", "c1")]);
    let place = Place::new()?;
    let agent = place.run(&conf)?;
    for group in [&from, &by] {
        until_members(log, group, 1)?;
    }
    agent.stop()?;
    let output = fs::read_to_string(place.directory.path().join("agent.log"))?;
    ensure!(
        !output.contains("WARN"),
        "a stop without trouble:\n{output}"
    );
    for group in [&from, &by] {
        until_members(log, group, 0)?;
    }
    Ok(())
}

/// The sum of the committed offsets of the group that is called like its topic.
fn committed(log: &LogServer, topic: &str, partitions: i32) -> Result<i64> {
    let client: BaseConsumer = config(log.bootstrap())
        .set("group.id", topic)
        .create()
        .context("create a client")?;
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition(topic, partition);
    }
    let found = client
        .committed_offsets(list, CALL_LIMIT)
        .context("ask for the committed offsets")?;
    let offset = |offset| match offset {
        Offset::Offset(offset) => offset,
        _ => 0,
    };
    Ok(found
        .elements()
        .iter()
        .map(|element| offset(element.offset()))
        .sum())
}
