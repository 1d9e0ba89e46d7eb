//! Offsets through librdkafka: watermarks, by time, reading from one, out of range.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flafka_tests::kafka_client::{
    CALL_LIMIT, NewRecord, config, create_topic, poll_records, produce, unique_name,
};
use flafka_tests::log_server::LogServer;
use flafka_tests::runner::Case;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const LIMIT: Duration = Duration::from_secs(60);

/// A topic of one partition with 100 records, a second apart.
struct Clocked {
    topic: String,
    first_ms: i64,
}

impl Clocked {
    fn new(log: &LogServer) -> Result<Self> {
        let clocked = Self {
            topic: unique_name("offsets"),
            first_ms: 1_700_000_000_000,
        };
        create_topic(log.bootstrap(), &clocked.topic, 1)?;
        let records: Vec<_> = (0..100)
            .map(|n| NewRecord::value(n.to_string()).at(clocked.first_ms + n * 1_000))
            .collect();
        produce(log.bootstrap(), &clocked.topic, &records)?;
        Ok(clocked)
    }

    fn settings(&self, log: &LogServer) -> ClientConfig {
        let mut settings = config(log.bootstrap());
        settings
            .set("group.id", &self.topic)
            .set("enable.auto.commit", "false");
        settings
    }

    fn assign(&self, consumer: &BaseConsumer, offset: Offset) -> Result<()> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, 0, offset)
            .context("add a partition")?;
        consumer.assign(&list).context("assign a partition")
    }
}

pub(crate) fn cases() -> Vec<Case<LogServer>> {
    vec![
        Case::new(
            "offsets::watermarks_are_start_and_end",
            |log: &LogServer| {
                let clocked = Clocked::new(log)?;
                let consumer: BaseConsumer = clocked
                    .settings(log)
                    .create()
                    .context("create a consumer")?;
                let ends = consumer
                    .fetch_watermarks(&clocked.topic, 0, CALL_LIMIT)
                    .context("fetch watermarks")?;
                ensure!(ends == (0, 100), "{ends:?}");
                Ok(())
            },
        ),
        Case::new(
            "offsets::a_time_finds_the_first_record_not_before_it",
            |log: &LogServer| {
                let clocked = Clocked::new(log)?;
                let consumer: BaseConsumer = clocked
                    .settings(log)
                    .create()
                    .context("create a consumer")?;
                let asked = [
                    (clocked.first_ms - 1, Offset::Offset(0)),
                    (clocked.first_ms, Offset::Offset(0)),
                    (clocked.first_ms + 41_500, Offset::Offset(42)),
                    (clocked.first_ms + 42_000, Offset::Offset(42)),
                    (clocked.first_ms + 99_000, Offset::Offset(99)),
                    (clocked.first_ms + 99_001, Offset::End),
                ];
                for (time_ms, expected) in asked {
                    let mut list = TopicPartitionList::new();
                    list.add_partition_offset(&clocked.topic, 0, Offset::Offset(time_ms))
                        .context("add a partition")?;
                    let answer = consumer
                        .offsets_for_times(list, CALL_LIMIT)
                        .context("offsets by time")?;
                    let found = answer.elements_for_topic(&clocked.topic)[0].offset();
                    ensure!(
                        found == expected,
                        "time {time_ms}: {found:?} and not {expected:?}"
                    );
                }
                Ok(())
            },
        ),
        Case::new("offsets::reading_starts_where_asked", |log: &LogServer| {
            let clocked = Clocked::new(log)?;
            let consumer: BaseConsumer = clocked
                .settings(log)
                .create()
                .context("create a consumer")?;
            for (offset, expected) in [
                (Offset::Offset(57), 57),
                (Offset::OffsetTail(3), 97),
                (Offset::Beginning, 0),
                (Offset::Offset(99), 99),
            ] {
                clocked.assign(&consumer, offset)?;
                let found = poll_records(&consumer, 1, LIMIT)?;
                ensure!(
                    found[0].offset == expected,
                    "{offset:?} gave {}",
                    found[0].offset
                );
                ensure!(
                    found[0].text() == expected.to_string(),
                    "offset {expected} holds {}",
                    found[0].text()
                );
            }
            Ok(())
        }),
        Case::new(
            "offsets::an_offset_out_of_range_falls_back_as_the_client_says",
            |log: &LogServer| {
                let clocked = Clocked::new(log)?;
                let mut settings = clocked.settings(log);
                let consumer: BaseConsumer = settings
                    .set("auto.offset.reset", "earliest")
                    .create()
                    .context("create a consumer")?;
                clocked.assign(&consumer, Offset::Offset(5_000))?;
                let found = poll_records(&consumer, 1, LIMIT)?;
                ensure!(
                    found[0].offset == 0,
                    "the reset went to {}",
                    found[0].offset
                );
                Ok(())
            },
        ),
    ]
}
