//! Records in and out through librdkafka: content kept, codecs, idempotence, order, acks, long polls, auto-creation.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flafka_tests::kafka_client::{
    NewRecord, assign_all, config, create_topic, create_topic_with, poll_records, produce,
    produce_with, read_topic, topics, unique_name,
};
use flafka_tests::log_server::LogServer;
use flafka_tests::runner::Case;
use rdkafka::admin::{NewTopic, TopicReplication};
use rdkafka::consumer::BaseConsumer;

const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn cases() -> Vec<Case<LogServer>> {
    let mut cases = vec![
        Case::new("produce_consume::content_is_kept", |log: &LogServer| {
            let topic = unique_name("content");
            create_topic(log.bootstrap(), &topic, 1)?;
            let mut tombstone = NewRecord::default().with_key("gone");
            tombstone.headers.push(("null".to_owned(), None));
            let records = vec![
                NewRecord::value("plain").at(1_700_000_000_123),
                NewRecord::value("keyed")
                    .with_key("k")
                    .with_header("h", "1")
                    .with_header("h", "2")
                    .at(1),
                NewRecord::value("").with_header("empty", "").at(2),
                NewRecord::value(vec![0_u8, 0xff, b'\n', 0x80])
                    .with_key(vec![0_u8; 3])
                    .at(3),
                tombstone.at(4),
                NewRecord::value("größer als ASCII")
                    .with_header("ключ", "значение")
                    .at(5),
            ];
            let answers = produce(log.bootstrap(), &topic, &records)?;
            ensure!(
                answers == (0..6).map(|n| (0, n)).collect::<Vec<_>>(),
                "answered offsets: {answers:?}"
            );
            let found = read_topic(log.bootstrap(), &topic, records.len(), LIMIT)?;
            ensure!(
                found.len() == records.len(),
                "{} records came back",
                found.len()
            );
            for (sent, read) in records.iter().zip(&found) {
                // librdkafka shows an empty and an absent value both as absent; everything else must be equal.
                let same_value = sent.value.clone().unwrap_or_default()
                    == read.value.clone().unwrap_or_default();
                let same = same_value && sent.key == read.key && sent.headers == read.headers;
                ensure!(
                    same && sent.timestamp_ms == read.timestamp_ms,
                    "sent {sent:?}, read {read:?}"
                );
            }
            Ok(())
        }),
        Case::new(
            "produce_consume::100000_records_keep_their_order_in_each_partition",
            |log: &LogServer| {
                let topic = unique_name("many");
                create_topic(log.bootstrap(), &topic, 4)?;
                let records: Vec<_> = (0..100_000)
                    .map(|n| {
                        NewRecord::value(format!("{n:0>100}")).with_key(format!("key-{}", n % 97))
                    })
                    .collect();
                let answers = produce(log.bootstrap(), &topic, &records)?;
                ensure!(
                    answers.iter().collect::<BTreeSet<_>>().len() == records.len(),
                    "two records share an offset"
                );
                let found = read_topic(log.bootstrap(), &topic, records.len(), LIMIT)?;
                ensure!(
                    found.len() == records.len(),
                    "{} of {} records came back",
                    found.len(),
                    records.len()
                );
                let mut expected: Vec<_> = answers.into_iter().zip(&records).collect();
                expected.sort_by_key(|(place, _)| *place);
                for ((place, sent), read) in expected.iter().zip(&found) {
                    let same = *place == (read.partition, read.offset)
                        && sent.value == read.value
                        && sent.key == read.key;
                    ensure!(same, "at {place:?} stands {read:?} and not {sent:?}");
                }
                Ok(())
            },
        ),
        Case::new(
            "produce_consume::a_large_record_comes_back",
            |log: &LogServer| {
                let topic = unique_name("large");
                create_topic(log.bootstrap(), &topic, 1)?;
                let value: Vec<u8> = (0..900_000_u32)
                    .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0])
                    .collect();
                produce(log.bootstrap(), &topic, &[NewRecord::value(value.clone())])?;
                let found = read_topic(log.bootstrap(), &topic, 1, LIMIT)?;
                ensure!(
                    found.len() == 1 && found[0].value.as_deref() == Some(&value[..]),
                    "the record changed"
                );
                Ok(())
            },
        ),
        Case::new(
            "produce_consume::a_record_over_the_topics_limit_is_refused",
            |log: &LogServer| {
                let topic = unique_name("limited");
                let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1))
                    .set("max.message.bytes", "2000");
                create_topic_with(log.bootstrap(), new)?;
                let error = produce(
                    log.bootstrap(),
                    &topic,
                    &[NewRecord::value(vec![b'x'; 10_000])],
                )
                .err()
                .context("a record of 10000 bytes was taken")?;
                ensure!(
                    format!("{error:#}").contains("MessageSizeTooLarge"),
                    "{error:#}"
                );
                produce(log.bootstrap(), &topic, &[NewRecord::value("small")])?;
                Ok(())
            },
        ),
        Case::new("produce_consume::acks_0_and_1_arrive", |log: &LogServer| {
            for acks in ["0", "1"] {
                let topic = unique_name("acks");
                create_topic(log.bootstrap(), &topic, 1)?;
                let records: Vec<_> = (0..500).map(|n| NewRecord::value(n.to_string())).collect();
                produce_with(&[("acks", acks)], log.bootstrap(), &topic, &records)?;
                let found = read_topic(log.bootstrap(), &topic, records.len(), LIMIT)?;
                ensure!(found.len() == 500, "acks={acks}: {} records", found.len());
                ensure!(
                    found
                        .iter()
                        .enumerate()
                        .all(|(n, read)| read.text() == n.to_string()),
                    "acks={acks}: order"
                );
            }
            Ok(())
        }),
        Case::new(
            "produce_consume::two_idempotent_producers_share_a_partition",
            |log: &LogServer| {
                let topic = unique_name("idempotent");
                create_topic(log.bootstrap(), &topic, 1)?;
                let bootstrap = log.bootstrap();
                let write = |name: &'static str| {
                    let records: Vec<_> = (0..5_000)
                        .map(|n| NewRecord::value(format!("{name} {n}")))
                        .collect();
                    // Small batches in flight five at a time: what sequence numbers are for.
                    let settings = [
                        ("enable.idempotence", "true"),
                        ("batch.num.messages", "50"),
                        ("linger.ms", "0"),
                    ];
                    produce_with(&settings, bootstrap, &topic, &records)
                };
                std::thread::scope(|scope| -> Result<()> {
                    let writers = [scope.spawn(|| write("a")), scope.spawn(|| write("b"))];
                    for writer in writers {
                        writer
                            .join()
                            .map_err(|_| anyhow::anyhow!("a writer panicked"))??;
                    }
                    Ok(())
                })?;
                let found = read_topic(bootstrap, &topic, 10_000, LIMIT)?;
                for name in ["a", "b"] {
                    let own: Vec<_> = found
                        .iter()
                        .map(|read| read.text())
                        .filter(|text| text.starts_with(name))
                        .collect();
                    let expected: Vec<_> = (0..5_000).map(|n| format!("{name} {n}")).collect();
                    ensure!(
                        own == expected,
                        "the records of producer {name} are not 5000 in order, but {}",
                        own.len()
                    );
                }
                Ok(())
            },
        ),
        Case::new(
            "produce_consume::a_waiting_consumer_gets_a_record_at_once",
            |log: &LogServer| {
                let topic = unique_name("long-poll");
                create_topic(log.bootstrap(), &topic, 1)?;
                let mut settings = config(log.bootstrap());
                settings
                    .set("group.id", &topic)
                    .set("fetch.wait.max.ms", "20000")
                    .set("enable.auto.commit", "false");
                settings.set("socket.timeout.ms", "60000");
                let consumer: BaseConsumer = settings.create().context("create a consumer")?;
                assign_all(&consumer, &topic)?;
                ensure!(
                    consumer.poll(Duration::from_secs(1)).is_none(),
                    "an empty topic gave something"
                );
                let sent = Instant::now();
                produce(log.bootstrap(), &topic, &[NewRecord::value("now")])?;
                let found = poll_records(&consumer, 1, LIMIT)?;
                ensure!(found[0].text() == "now");
                // The fetch waits up to 20 s for data; a record must wake it, not the end of the wait.
                ensure!(
                    sent.elapsed() < Duration::from_secs(10),
                    "it came after {:?}",
                    sent.elapsed()
                );
                Ok(())
            },
        ),
        Case::new(
            "produce_consume::a_topic_is_made_by_writing_to_it",
            |log: &LogServer| {
                let topic = unique_name("auto");
                produce(log.bootstrap(), &topic, &[NewRecord::value("first")])?;
                ensure!(
                    topics(log.bootstrap())?.get(&topic) == Some(&1),
                    "the topic has not one partition"
                );
                ensure!(read_topic(log.bootstrap(), &topic, 1, LIMIT)?[0].text() == "first");
                Ok(())
            },
        ),
    ];
    cases.extend(["none", "gzip", "snappy", "lz4", "zstd"].map(|codec| {
        Case::new(
            format!("produce_consume::codec_{codec}"),
            move |log: &LogServer| every_record_comes_back(log, codec),
        )
    }));
    cases
}

fn every_record_comes_back(log: &LogServer, codec: &str) -> Result<()> {
    let topic = unique_name(codec);
    create_topic(log.bootstrap(), &topic, 1)?;
    let records: Vec<_> = (0..2_000)
        .map(|n| {
            NewRecord::value(format!("line {n} of a log that repeats itself"))
                .with_header("n", n.to_string())
        })
        .collect();
    let settings = [("enable.idempotence", "true"), ("compression.type", codec)];
    produce_with(&settings, log.bootstrap(), &topic, &records)?;
    let found = read_topic(log.bootstrap(), &topic, records.len(), LIMIT)?;
    ensure!(
        found.len() == records.len(),
        "{} of {} records came back",
        found.len(),
        records.len()
    );
    for (sent, read) in records.iter().zip(&found) {
        ensure!(
            sent.value == read.value && sent.headers == read.headers,
            "sent {sent:?}, read {read:?}"
        );
    }
    Ok(())
}
