//! The comparisons with topics: kafka sink, kafka source, kafka channel.

use std::time::Duration;

use anyhow::{Context, Result};
use flafka_tests::avro_datum;
use flafka_tests::kafka_client::{NewRecord, create_topic, produce, read_topic};

use crate::differential::Comparison;
use crate::drivers::{event, post_events};
use crate::outcome::{Outcome, header_lines_of, records_of, text};
use crate::scene::Scene;

pub(crate) fn all() -> Vec<Comparison> {
    vec![
        Comparison {
            name: "kafka_sink",
            conf: include_str!("cases/kafka_sink.conf"),
            prepare: two_topics,
            drive: drive_sink,
            taken: 64,
            outcome: |scene| {
                let mut outcome = Outcome::default();
                outcome.add("topic", records_of(scene, &scene.topic, 62)?);
                outcome.add(
                    "other topic",
                    records_of(scene, &format!("{}-b", scene.topic), 2)?,
                );
                Ok(outcome)
            },
        },
        Comparison {
            name: "kafka_sink_flume_event",
            conf: include_str!("cases/kafka_sink_flume_event.conf"),
            prepare: two_topics,
            drive: |scene| {
                let mut events: Vec<_> = (0..20)
                    .map(|n| event(&[("to", &(n % 4).to_string()), ("n", "ü")], &n.to_string()))
                    .collect();
                events.push(event(&[("key", "k")], "to the default partition"));
                post_events(scene, &events)
            },
            taken: 21,
            outcome: |scene| {
                let mut outcome = Outcome::default();
                outcome.add("topic", flume_events_of(scene, 21, true)?);
                Ok(outcome)
            },
        },
        Comparison {
            name: "kafka_source",
            conf: include_str!("cases/kafka_source.conf"),
            prepare: |scene| {
                two_topics(scene)?;
                let records: Vec<_> = (0..100).map(incoming).collect();
                produce(scene.bootstrap(), &scene.topic, &records)?;
                produce(
                    scene.bootstrap(),
                    &format!("{}-b", scene.topic),
                    &records[..10],
                )
                .map(drop)
            },
            drive: |_| Ok(()),
            taken: 110,
            outcome: |scene| {
                let mut outcome = Outcome::default();
                outcome.add("out, sorted", sorted(header_lines_of(scene, "out")?));
                Ok(outcome)
            },
        },
        Comparison {
            name: "kafka_channel",
            conf: include_str!("cases/kafka_channel.conf"),
            prepare: two_topics,
            drive: |scene| {
                let events: Vec<_> = (0..60)
                    .map(|n| {
                        event(
                            &[("n", &n.to_string()), ("key", &format!("k{}", n % 7))],
                            "ü",
                        )
                    })
                    .collect();
                post_events(scene, &events)?;
                post_events(scene, &[event(&[], ""), event(&[("only", "header")], "")])
            },
            taken: 62,
            outcome: |scene| {
                let mut outcome = Outcome::default();
                outcome.add("out, sorted", sorted(header_lines_of(scene, "out")?));
                outcome.add("topic", flume_events_of(scene, 62, false)?);
                Ok(outcome)
            },
        },
        Comparison {
            name: "kafka_channel_plain",
            conf: include_str!("cases/kafka_channel_plain.conf"),
            prepare: |scene| {
                two_topics(scene)?;
                produce(
                    scene.bootstrap(),
                    &scene.topic,
                    &(0..100).map(incoming).collect::<Vec<_>>(),
                )
                .map(drop)
            },
            drive: |_| Ok(()),
            taken: 100,
            outcome: |scene| {
                let mut outcome = Outcome::default();
                outcome.add("out, sorted", sorted(header_lines_of(scene, "out")?));
                Ok(outcome)
            },
        },
    ]
}

fn two_topics(scene: &Scene) -> Result<()> {
    create_topic(scene.bootstrap(), &scene.topic, 4)?;
    create_topic(scene.bootstrap(), &format!("{}-b", scene.topic), 1)
}

fn drive_sink(scene: &Scene) -> Result<()> {
    let keyed: Vec<_> = (0..60)
        .map(|n| event(&[("key", &format!("key {n}"))], &format!("value {n}")))
        .collect();
    post_events(scene, &keyed)?;
    let other = format!("{}-b", scene.topic);
    post_events(
        scene,
        &[
            event(
                &[("topic", &other), ("when", "1700000000123")],
                "in the other topic",
            ),
            event(
                &[("topic", &other), ("origin", "here"), ("key", "k")],
                "with a header",
            ),
            event(
                &[("key", "late"), ("when", "no number"), ("ignored", "x")],
                "bad time",
            ),
            event(&[], "no header at all"),
        ],
    )
}

/// A record with and without key and header, at a time of its own, in a partition that is known.
fn incoming(number: i32) -> NewRecord {
    let record =
        NewRecord::value(format!("value {number}")).at(1_700_000_000_000 + i64::from(number));
    let record = if number % 3 == 0 {
        record
    } else {
        record.with_key(format!("key {number}"))
    };
    let record = if number % 2 == 0 {
        record
    } else {
        record.with_header("origin", format!("from {number}"))
    };
    record.to_partition(0)
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// The records of the topic, each value decoded as an event; the partition where `placed` or where a key decides it.
fn flume_events_of(scene: &Scene, expected: usize, placed: bool) -> Result<Vec<String>> {
    let records = read_topic(
        scene.bootstrap(),
        &scene.topic,
        expected,
        Duration::from_secs(30),
    )?;
    let mut texts = Vec::new();
    for record in records {
        let value = record.value.as_deref().context("a record has no value")?;
        let event = avro_datum::decode(value).with_context(|| format!("decode {}", text(value)))?;
        let partition = (placed || record.key.is_some()).then_some(record.partition);
        let key = record.key.as_deref().map(text);
        texts.push(format!(
            "partition {partition:?} key {key:?} {:?} {}",
            event.headers,
            text(&event.body)
        ));
    }
    texts.sort();
    Ok(texts)
}
