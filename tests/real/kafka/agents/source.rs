//! The kafka source: headers, subscriptions, groups, batches, and an agent that is killed.

use anyhow::{Context, Result, ensure};
use flafka_tests::kafka_client::{NewRecord, create_topic, produce, unique_name};
use flafka_tests::log_server::LogServer;
use flafka_tests::poll;
use flafka_tests::runner::Case;
use flafka_tests::running_agent::LIMIT;

use super::load::{ensure_nothing_lost, until_numbers};
use super::{Conf, Place, ensure_exactly_once, until_members};

pub(super) fn cases() -> Vec<Case<LogServer>> {
    vec![
        Case::new("agent_source::headers", headers),
        Case::new(
            "agent_source::a_batch_ends_by_size_or_time",
            a_batch_ends_by_size_or_time,
        ),
        Case::new(
            "agent_source::a_regular_expression_finds_topics",
            a_regular_expression_finds_topics,
        ),
        Case::new(
            "agent_source::two_agents_share_a_group",
            two_agents_share_a_group,
        ),
        Case::new("agent_source::the_agent_is_killed", the_agent_is_killed),
    ]
}

/// kafka source → memory channel → files.
fn to_files(log: &LogServer, group: &str, keys: &[(&str, &str)]) -> Conf {
    Conf::of("s1", "c1", "k1")
        .kafka_source("s1", "c1", log.bootstrap(), group)
        .with("sources.s1", keys)
        .memory("c1")
        .files("k1", "c1", "out")
}

fn numbers(range: std::ops::Range<u32>, partitions: u32) -> Vec<NewRecord> {
    let record = |n: u32| NewRecord::value(n.to_string()).to_partition((n % partitions) as i32);
    range.map(record).collect()
}

fn headers(log: &LogServer) -> Result<()> {
    let topic = unique_name("source");
    create_topic(log.bootstrap(), &topic, 2)?;
    let time = |n: u32| 1_700_000_000_000 + i64::from(n);
    let record = |n: u32| {
        let record = NewRecord::value(n.to_string()).to_partition(1).at(time(n));
        let record = record
            .with_header("origin", format!("first {n}"))
            .with_header("origin", format!("last {n}"));
        if n.is_multiple_of(2) {
            record
        } else {
            record.with_key(format!("key {n}"))
        }
    };
    produce(
        log.bootstrap(),
        &topic,
        &(0..40).map(record).collect::<Vec<_>>(),
    )?;
    let keys = [
        ("kafka.topics", topic.as_str()),
        ("topicHeader", "came-from"),
        ("header.from", "origin"),
    ];
    let without = [
        ("kafka.topics", topic.as_str()),
        ("setTopicHeader", "false"),
    ];
    for (group, keys) in [("with", keys.as_slice()), ("without", &without)] {
        let place = Place::new()?;
        let mut agent = place.run(&to_files(log, &format!("{topic}-{group}"), keys))?;
        let events = place.until_bodies(&mut agent, "out", 40)?;
        ensure_exactly_once(&events, 40)?;
        for event in &events {
            let n: u32 = event.body.parse().context("a number")?;
            let mut expected = vec![
                ("offset", n.to_string()),
                ("partition", "1".to_owned()),
                ("timestamp", time(n).to_string()),
            ];
            if group == "with" {
                expected.push(("came-from", topic.clone()));
                expected.push(("from", format!("last {n}")));
            }
            if !n.is_multiple_of(2) {
                expected.push(("key", format!("key {n}")));
            }
            expected.sort();
            let found: Vec<_> = event
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.clone()))
                .collect();
            ensure!(found == expected, "{found:?} and not {expected:?}");
        }
        agent.stop()?;
    }
    Ok(())
}

fn a_batch_ends_by_size_or_time(log: &LogServer) -> Result<()> {
    let topic = unique_name("source");
    create_topic(log.bootstrap(), &topic, 1)?;
    produce(log.bootstrap(), &topic, &numbers(0..100, 1))?;
    let small = [("kafka.topics", topic.as_str()), ("batchSize", "7")];
    let place = Place::new()?;
    let mut agent = place.run(&to_files(log, &format!("{topic}-small"), &small))?;
    ensure_exactly_once(&place.until_bodies(&mut agent, "out", 100)?, 100)?;
    let batches = agent.metric("SOURCE.s1", "AppendBatchAcceptedCount")?;
    ensure!(batches >= 15, "100 events in {batches} batches of 7");
    agent.stop()?;

    // A batch that never gets full is given on when its time is over.
    let large = [
        ("kafka.topics", topic.as_str()),
        ("batchSize", "10000"),
        ("batchDurationMillis", "300"),
    ];
    let place = Place::new()?;
    let conf = to_files(log, &format!("{topic}-large"), &large);
    let mut agent = place.run(&conf)?;
    ensure_exactly_once(&place.until_bodies(&mut agent, "out", 100)?, 100)?;
    produce(log.bootstrap(), &topic, &numbers(100..101, 1))?;
    ensure_exactly_once(&place.until_bodies(&mut agent, "out", 101)?, 101)?;
    agent.stop()
}

fn a_regular_expression_finds_topics(log: &LogServer) -> Result<()> {
    let prefix = unique_name("source");
    let write = |topic: &str, body: u32| -> Result<()> {
        create_topic(log.bootstrap(), topic, 1)?;
        produce(
            log.bootstrap(),
            topic,
            &[NewRecord::value(body.to_string())],
        )
        .map(drop)
    };
    write(&format!("{prefix}-web1"), 0)?;
    write(&format!("{prefix}-db20"), 1)?;
    for other in [
        format!("{prefix}-web"),
        format!("{prefix}-webd"),
        format!("{prefix}-web1-old"),
        format!("x{prefix}-web1"),
    ] {
        write(&other, 999)?;
    }
    let pattern = format!(r"{prefix}-(?:web|db)\\d+");
    let keys = [
        ("kafka.topics", "not-this-one"),
        ("kafka.topics.regex", pattern.as_str()),
        ("kafka.consumer.metadata.max.age.ms", "500"),
    ];
    let place = Place::new()?;
    let mut agent = place.run(&to_files(log, &prefix, &keys))?;
    ensure_exactly_once(&place.until_bodies(&mut agent, "out", 2)?, 2)?;
    write(&format!("{prefix}-web3"), 2)?;
    let events = place
        .until_bodies(&mut agent, "out", 3)
        .context("a topic that comes later is found")?;
    ensure_exactly_once(&events, 3)?;
    agent.stop()
}

fn two_agents_share_a_group(log: &LogServer) -> Result<()> {
    let topic = unique_name("source");
    create_topic(log.bootstrap(), &topic, 4)?;
    let conf = to_files(log, &topic, &[("kafka.topics", topic.as_str())]);
    let (first, second) = (Place::new()?, Place::new()?);
    let one = first.run(&conf)?;
    let two = second.run(&conf)?;
    until_members(log, &topic, 2).with_context(|| one.process.evidence())?;
    produce(log.bootstrap(), &topic, &numbers(0..400, 4))?;
    let both = || -> Result<_> { Ok([first.events("out")?, second.events("out")?]) };
    let mut seen = 0;
    let halves = poll::until("both agents together have all events", LIMIT, || {
        let halves = both()?;
        seen = halves[0].len() + halves[1].len();
        Ok((seen >= 400).then_some(halves))
    })
    .with_context(|| format!("{seen} events came"))?;
    ensure_exactly_once(&halves.concat(), 400)?;
    for partition in ["0", "1", "2", "3"] {
        let shares = halves.each_ref().map(|events| {
            events
                .iter()
                .filter(|event| event.header("partition") == partition)
                .count()
        });
        ensure!(
            shares.contains(&0),
            "partition {partition} was read by both: {shares:?}"
        );
    }
    ensure!(
        halves.iter().all(|half| half.len() == 200),
        "each agent has two of the four partitions: {} and {} events",
        halves[0].len(),
        halves[1].len()
    );

    one.stop()?;
    produce(log.bootstrap(), &topic, &numbers(400..800, 4))?;
    poll::until_true("the other agent has taken over", LIMIT, || {
        Ok(both()?.concat().len() >= 800)
    })?;
    ensure_exactly_once(&both()?.concat(), 800)?;
    ensure!(
        first.events("out")?.len() == 200,
        "a stopped agent writes no more"
    );
    two.stop()
}

/// kafka source → file channel → kafka sink; the agent is killed while records come.
fn the_agent_is_killed(log: &LogServer) -> Result<()> {
    const SOURCE_BATCH: usize = 50;
    const SINK_BATCH: usize = 20;
    const KILLS: u32 = 2;
    let topic = unique_name("source");
    let goal = format!("{topic}-goal");
    create_topic(log.bootstrap(), &topic, 2)?;
    create_topic(log.bootstrap(), &goal, 1)?;
    let conf = Conf::of("s1", "c1", "k1")
        .kafka_source("s1", "c1", log.bootstrap(), &topic)
        .with(
            "sources.s1",
            &[
                ("kafka.topics", topic.as_str()),
                ("batchSize", &SOURCE_BATCH.to_string()),
                ("setTopicHeader", "false"),
            ],
        )
        .file("c1")
        .kafka_sink("k1", "c1", log.bootstrap(), &goal)
        .with("sinks.k1", &[("flumeBatchSize", &SINK_BATCH.to_string())]);
    let place = Place::new()?;
    let mut written = 0;
    for _ in 0..KILLS {
        produce(
            log.bootstrap(),
            &topic,
            &numbers(written..written + 2000, 2),
        )?;
        written += 2000;
        let mut agent = place.run(&conf)?;
        poll::until_true("some of the records come out", LIMIT, || {
            Ok(agent.metric("SINK.k1", "EventDrainSuccessCount")? > 0)
        })
        .with_context(|| agent.process.evidence())?;
        agent.process.kill()?;
    }
    produce(log.bootstrap(), &topic, &numbers(written..written + 100, 2))?;
    written += 100;
    let agent = place.run(&conf)?;
    let expected = (0..written as usize).collect();
    let times = until_numbers(log, &goal, &expected).with_context(|| agent.process.evidence())?;
    // A kill can come between the put and the commit of one batch of the source, and between a write and the commit
    // of one batch of the sink.
    let bound = KILLS as usize * (SOURCE_BATCH + SINK_BATCH);
    ensure_nothing_lost(&times, &expected, bound)?;
    agent.stop()
}
