//! `flafka consume`: records to lines.

use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

use anyhow::Context;
use flafka_kafka_client::{Role, is_transient};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers};
use rdkafka::{Message, Offset, TopicPartitionList};

use super::kafka;
use crate::arguments::ConsumeOptions;
use crate::exit::{Ending, Outcome};

const DEADLINE: Duration = Duration::from_secs(15);

pub(crate) fn run(options: ConsumeOptions) -> Outcome {
    let reset = if options.latest { "latest" } else { "earliest" };
    let group = options
        .group
        .clone()
        .unwrap_or_else(|| format!("flafka-consume-{}", std::process::id()));
    let defaults = [
        ("group.id", group.as_str()),
        ("auto.offset.reset", reset),
        ("enable.auto.commit", "false"),
        ("enable.partition.eof", "true"),
    ];
    let consumer: BaseConsumer = kafka::config(Role::Consumer, &options.client, &defaults)?
        .create()
        .context("make a Kafka client")?;
    subscribe(&consumer, &options)?;
    print_records(&consumer, &options)
}

/// With a group the coordinator assigns; without one every partition is read.
fn subscribe(consumer: &BaseConsumer, options: &ConsumeOptions) -> anyhow::Result<()> {
    let mut list = TopicPartitionList::new();
    let begin = if options.latest {
        Offset::End
    } else {
        Offset::Beginning
    };
    for topic in &options.topics {
        let metadata = consumer
            .fetch_metadata(Some(topic), DEADLINE)
            .with_context(|| format!("ask {} for {topic}", options.client.bootstrap))?;
        let partitions = metadata
            .topics()
            .iter()
            .flat_map(|found| found.partitions());
        let before = list.count();
        for partition in partitions {
            list.add_partition_offset(topic, partition.id(), begin)?;
        }
        anyhow::ensure!(
            list.count() > before,
            "there is no topic {topic} on {}",
            options.client.bootstrap
        );
    }
    if options.group.is_some() {
        let topics: Vec<&str> = options.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).context("join the group")?;
    } else {
        consumer.assign(&list).context("assign the partitions")?;
    }
    Ok(())
}

/// Which partitions have come to their end. The client says the number and not the topic, so a
/// number has ended when it was said once for each topic that has it.
#[derive(Default)]
struct Ends(HashMap<i32, usize>);

impl Ends {
    /// A partition with this number has ended; says whether all of `assigned` have.
    fn end(&mut self, partition: i32, assigned: &[i32]) -> bool {
        let topics = |number: i32| assigned.iter().filter(|other| **other == number).count();
        let ended = self.0.entry(partition).or_default();
        *ended = (*ended + 1).min(topics(partition));
        let ended = |number: i32| self.0.get(&number).copied().unwrap_or(0);
        assigned
            .iter()
            .all(|number| ended(*number) >= topics(*number))
    }

    /// A partition with this number goes on.
    fn go_on(&mut self, partition: i32, assigned: &[i32]) {
        let topics = assigned.iter().filter(|other| **other == partition).count();
        if let Some(ended) = self.0.get_mut(&partition).filter(|ended| **ended >= topics) {
            *ended -= 1;
        }
    }
}

fn assigned(consumer: &BaseConsumer) -> Vec<i32> {
    let list = consumer.assignment();
    let numbers = |list: TopicPartitionList| {
        let elements = list.elements();
        elements.iter().map(|element| element.partition()).collect()
    };
    list.map(numbers).unwrap_or_default()
}

fn print_records(consumer: &BaseConsumer, options: &ConsumeOptions) -> Outcome {
    const COMMIT_EVERY: Duration = Duration::from_secs(1);
    const LOOK_EVERY: u64 = 1_000;
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    let mut ends = Ends::default();
    let (mut printed, mut committed) = (0u64, Instant::now());
    let mut commit = |force: bool| {
        if options.group.is_some() && (force || committed.elapsed() > COMMIT_EVERY) {
            committed = Instant::now();
            match consumer.commit_consumer_state(CommitMode::Sync) {
                Ok(())
                | Err(KafkaError::ConsumerCommit(rdkafka::error::RDKafkaErrorCode::NoOffset)) => {
                    Ok(())
                }
                Err(error) => Err(error).context("commit offsets"),
            }
        } else {
            Ok(())
        }
    };
    while options.count.is_none_or(|count| printed < count) {
        match consumer.poll(Duration::from_millis(200)) {
            None => {
                out.flush()?;
                commit(false)?;
            }
            Some(Ok(record)) => {
                print(&mut out, &record, options.verbose)?;
                printed += 1;
                if !ends.0.is_empty() {
                    ends.go_on(record.partition(), &assigned(consumer));
                }
                if printed % LOOK_EVERY == 0 {
                    out.flush()?;
                    commit(false)?;
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                out.flush()?;
                if ends.end(partition, &assigned(consumer)) && options.exit {
                    break;
                }
            }
            // Waiting for more outlives a broker that is away for a while.
            Some(Err(error)) if !options.exit && is_transient(&error) => {}
            Some(Err(error)) => return Err(error).context("read records"),
        }
    }
    out.flush()?;
    commit(true)?;
    Ok(Ending::Done)
}

fn print(out: &mut impl Write, record: &BorrowedMessage<'_>, verbose: bool) -> std::io::Result<()> {
    if verbose {
        let (topic, partition, offset) = (record.topic(), record.partition(), record.offset());
        write!(out, "{topic}/{partition}@{offset}")?;
        if let Some(millis) = record.timestamp().to_millis() {
            write!(out, " t={millis}")?;
        }
        if let Some(key) = record.key() {
            write!(out, " key={:?}", String::from_utf8_lossy(key))?;
        }
        for header in record
            .headers()
            .into_iter()
            .flat_map(|headers| headers.iter())
        {
            let value = String::from_utf8_lossy(header.value.unwrap_or_default());
            write!(out, " {}={value:?}", header.key)?;
        }
        write!(out, ": ")?;
    }
    out.write_all(record.payload().unwrap_or_default())?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_topics_end_when_each_of_them_has() {
        let mut ends = Ends::default();
        let assigned = [0, 1, 0];
        assert!(!ends.end(0, &assigned) && !ends.end(1, &assigned));
        assert!(ends.end(0, &assigned), "the second topic's 0");
        ends.go_on(0, &assigned);
        assert!(!ends.end(1, &assigned));
        assert!(ends.end(0, &assigned));
    }
}
