//! `flafka topic`: create, list, describe and delete topics of any Kafka cluster, and delete their oldest records.

use std::time::Duration;

use anyhow::{Context, bail};
use flafka_kafka_client::Role;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};

use super::kafka;
use crate::arguments::{ClientOptions, TopicAction, TopicOptions};
use crate::exit::{Ending, Outcome, counted, say};

const DEADLINE: Duration = Duration::from_secs(15);

pub(crate) fn run(options: TopicOptions) -> Outcome {
    match options.action {
        TopicAction::List => list(&options.client),
        TopicAction::Describe { topic } => {
            kafka::runtime()?.block_on(describe(&options.client, &topic))
        }
        TopicAction::Create {
            topic,
            partitions,
            configs,
        } => kafka::runtime()?.block_on(create(
            &options.client,
            &topic,
            partitions.unwrap_or(-1),
            &configs,
        )),
        TopicAction::DeleteRecords {
            topic,
            before,
            all: _,
            partitions,
        } => {
            let before = before.map_or(Offset::End, Offset::Offset);
            let work = delete_records(&options.client, &topic, before, &partitions);
            kafka::runtime()?.block_on(work)
        }
        TopicAction::Delete { topics } => {
            kafka::runtime()?.block_on(delete(&options.client, &topics))
        }
    }
}

fn consumer(client: &ClientOptions) -> anyhow::Result<BaseConsumer> {
    let config = kafka::config(Role::Consumer, client, &[("group.id", "flafka-topic")])?;
    config.create().context("make a Kafka client")
}

fn admin(client: &ClientOptions) -> anyhow::Result<AdminClient<DefaultClientContext>> {
    let config = kafka::config(Role::Producer, client, &[])?;
    config.create().context("make a Kafka client")
}

fn list(client: &ClientOptions) -> Outcome {
    let metadata = consumer(client)?
        .fetch_metadata(None, DEADLINE)
        .with_context(|| format!("ask {} for its topics", client.bootstrap))?;
    let mut topics: Vec<_> = metadata
        .topics()
        .iter()
        .map(|topic| (topic.name(), topic.partitions().len()))
        .collect();
    topics.sort_unstable();
    let width = topics.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, partitions) in topics {
        let noun = if partitions == 1 {
            "partition"
        } else {
            "partitions"
        };
        say(&format!("{name:width$}  {partitions} {noun}"))?;
    }
    Ok(Ending::Done)
}

async fn create(
    client: &ClientOptions,
    topic: &str,
    partitions: i32,
    configs: &[String],
) -> Outcome {
    let configs = kafka::pairs(configs)?;
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(-1));
    for (key, value) in &configs {
        new = new.set(key, value);
    }
    let answers = admin(client)?
        .create_topics(
            [&new],
            &AdminOptions::new().operation_timeout(Some(DEADLINE)),
        )
        .await
        .with_context(|| format!("ask {} to create {topic}", client.bootstrap))?;
    for answer in answers {
        match answer {
            Ok(name) => say(&format!("created {name}"))?,
            Err((name, code)) => bail!("create {name}: {code}"),
        }
    }
    Ok(Ending::Done)
}

async fn delete(client: &ClientOptions, topics: &[String]) -> Outcome {
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let answers = admin(client)?
        .delete_topics(
            &names,
            &AdminOptions::new().operation_timeout(Some(DEADLINE)),
        )
        .await
        .with_context(|| format!("ask {} to delete topics", client.bootstrap))?;
    let mut ending = Ending::Done;
    for answer in answers {
        match answer {
            Ok(name) => say(&format!("deleted {name}"))?,
            Err((name, code)) => {
                crate::exit::complain(&format!("flafka: delete {name}: {code}"));
                ending = Ending::Failed;
            }
        }
    }
    Ok(ending)
}

async fn delete_records(
    client: &ClientOptions,
    topic: &str,
    before: Offset,
    partitions: &[i32],
) -> Outcome {
    let known = partitions_of(&consumer(client)?, client, topic)?;
    if let Some(missing) = partitions.iter().find(|one| !known.contains(one)) {
        bail!(
            "there is no partition {missing} of {topic}; it has {}",
            known.len()
        );
    }
    let mut offsets = TopicPartitionList::new();
    for partition in known {
        if partitions.is_empty() || partitions.contains(&partition) {
            offsets.add_partition_offset(topic, partition, before)?;
        }
    }
    let answers = admin(client)?
        .delete_records(
            &offsets,
            &AdminOptions::new().operation_timeout(Some(DEADLINE)),
        )
        .await
        .with_context(|| format!("ask {} to delete records of {topic}", client.bootstrap))?;
    let mut ending = Ending::Done;
    for answer in answers.elements() {
        let partition = answer.partition();
        match (answer.error(), answer.offset()) {
            (Ok(()), Offset::Offset(first)) => {
                say(&format!("{topic}/{partition} begins at offset {first}"))?;
            }
            (Ok(()), other) => say(&format!("{topic}/{partition} begins at {other:?}"))?,
            (Err(error), _) => {
                crate::exit::complain(&format!("flafka: {topic}/{partition}: {error}"));
                ending = Ending::Failed;
            }
        }
    }
    Ok(ending)
}

fn partitions_of(
    consumer: &BaseConsumer,
    client: &ClientOptions,
    topic: &str,
) -> anyhow::Result<Vec<i32>> {
    let metadata = consumer
        .fetch_metadata(None, DEADLINE)
        .with_context(|| format!("ask {} for its topics", client.bootstrap))?;
    let Some(found) = metadata.topics().iter().find(|known| known.name() == topic) else {
        bail!(
            "there is no topic {topic} on {}; `flafka topic list` shows those there are",
            client.bootstrap
        );
    };
    Ok(found.partitions().iter().map(|one| one.id()).collect())
}

async fn describe(client: &ClientOptions, topic: &str) -> Outcome {
    let consumer = consumer(client)?;
    let metadata = consumer
        .fetch_metadata(None, DEADLINE)
        .with_context(|| format!("ask {} for its topics", client.bootstrap))?;
    let Some(found) = metadata.topics().iter().find(|known| known.name() == topic) else {
        bail!(
            "there is no topic {topic} on {}; `flafka topic list` shows those there are",
            client.bootstrap
        );
    };
    say(&format!(
        "topic {topic}, {}",
        counted(found.partitions().len() as u64, "partition")
    ))?;
    for partition in found.partitions() {
        let (first, next) = consumer
            .fetch_watermarks(topic, partition.id(), DEADLINE)
            .with_context(|| format!("ask for the offsets of {topic}/{}", partition.id()))?;
        say(&format!(
            "  partition {}: offsets {first} to {next} ({})",
            partition.id(),
            counted(next.saturating_sub(first).unsigned_abs(), "record")
        ))?;
    }
    let specifier = ResourceSpecifier::Topic(topic);
    let answers = admin(client)?
        .describe_configs(
            [&specifier],
            &AdminOptions::new().request_timeout(Some(DEADLINE)),
        )
        .await?;
    for resource in answers {
        let resource = resource.map_err(|code| anyhow::anyhow!("describe {topic}: {code}"))?;
        let mut entries = resource.entries;
        entries.sort_by(|left, right| left.name.cmp(&right.name));
        for entry in entries {
            let origin = if entry.is_default { "" } else { "  (set)" };
            say(&format!(
                "  {} = {}{origin}",
                entry.name,
                entry.value.unwrap_or_default()
            ))?;
        }
    }
    Ok(Ending::Done)
}
