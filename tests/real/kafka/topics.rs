//! Topics through librdkafka's admin client: create, list, describe, settings, delete, and what is refused.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use flafka_tests::kafka_client::{
    CALL_LIMIT, NewRecord, admin, block_on, create_topic, create_topic_with, delete_topic, produce,
    topics, unique_name,
};
use flafka_tests::log_server::LogServer;
use flafka_tests::poll;
use flafka_tests::runner::Case;
use rdkafka::admin::{AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::RDKafkaErrorCode;

pub(crate) fn cases() -> Vec<Case<LogServer>> {
    vec![
        Case::new("topics::created_listed_and_deleted", |log: &LogServer| {
            let topic = unique_name("admin");
            create_topic(log.bootstrap(), &topic, 3)?;
            ensure!(
                topics(log.bootstrap())?.get(&topic) == Some(&3),
                "the topic is not listed with 3 partitions"
            );
            delete_topic(log.bootstrap(), &topic)?;
            poll::until_true(
                "the topic is gone from the list",
                Duration::from_secs(30),
                || Ok(!topics(log.bootstrap())?.contains_key(&topic)),
            )
        }),
        Case::new(
            "topics::a_deleted_topic_starts_anew_at_offset_0",
            |log: &LogServer| {
                let topic = unique_name("reborn");
                create_topic(log.bootstrap(), &topic, 1)?;
                produce(
                    log.bootstrap(),
                    &topic,
                    &[NewRecord::value("old"), NewRecord::value("older")],
                )?;
                delete_topic(log.bootstrap(), &topic)?;
                poll::until_true(
                    "the topic is gone from the list",
                    Duration::from_secs(30),
                    || Ok(!topics(log.bootstrap())?.contains_key(&topic)),
                )?;
                create_topic(log.bootstrap(), &topic, 1)?;
                let answers = produce(log.bootstrap(), &topic, &[NewRecord::value("new")])?;
                ensure!(
                    answers == [(0, 0)],
                    "the new topic's first record is at {answers:?}"
                );
                Ok(())
            },
        ),
        Case::new(
            "topics::the_same_name_twice_is_refused",
            |log: &LogServer| {
                let topic = unique_name("twice");
                create_topic(log.bootstrap(), &topic, 1)?;
                let code = refusal(log, &NewTopic::new(&topic, 1, TopicReplication::Fixed(1)))?;
                ensure!(code == RDKafkaErrorCode::TopicAlreadyExists, "{code:?}");
                Ok(())
            },
        ),
        Case::new("topics::a_bad_name_is_refused", |log: &LogServer| {
            let code = refusal(
                log,
                &NewTopic::new("no/slashes here", 1, TopicReplication::Fixed(1)),
            )?;
            ensure!(code == RDKafkaErrorCode::InvalidTopic, "{code:?}");
            Ok(())
        }),
        Case::new(
            "topics::more_replicas_than_brokers_are_refused",
            |log: &LogServer| {
                let topic = unique_name("replicas");
                let code = refusal(log, &NewTopic::new(&topic, 1, TopicReplication::Fixed(3)))?;
                ensure!(
                    code == RDKafkaErrorCode::InvalidReplicationFactor,
                    "{code:?}"
                );
                Ok(())
            },
        ),
        Case::new(
            "topics::an_unknown_topic_cannot_be_deleted",
            |log: &LogServer| {
                let name = unique_name("never-was");
                let admin = admin(log.bootstrap())?;
                let answers = block_on(admin.delete_topics(&[&name], &AdminOptions::new()))?
                    .context("delete a topic")?;
                match answers
                    .into_iter()
                    .next()
                    .context("no answer for the topic")?
                {
                    Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => Ok(()),
                    other => bail!("the answer was {other:?}"),
                }
            },
        ),
        Case::new(
            "topics::settings_given_at_creation_are_described",
            |log: &LogServer| {
                let topic = unique_name("settings");
                let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1))
                    .set("retention.ms", "86400000")
                    .set("segment.bytes", "1048576");
                create_topic_with(log.bootstrap(), new)?;
                for (key, expected) in [("retention.ms", "86400000"), ("segment.bytes", "1048576")]
                {
                    let found = described(log, &topic, key)?;
                    ensure!(
                        found.as_deref() == Some(expected),
                        "{key} is {found:?} and not {expected}"
                    );
                }
                // A default is described as well.
                let found = described(log, &topic, "cleanup.policy")?;
                ensure!(
                    found.as_deref() == Some("delete"),
                    "cleanup.policy is {found:?}"
                );
                Ok(())
            },
        ),
        Case::new("topics::a_bad_setting_is_refused", |log: &LogServer| {
            let topic = unique_name("bad-setting");
            let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1))
                .set("retention.ms", "tomorrow");
            let code = refusal(log, &new)?;
            ensure!(code == RDKafkaErrorCode::InvalidConfig, "{code:?}");
            Ok(())
        }),
    ]
}

/// The error code with which creating `topic` is refused.
fn refusal(log: &LogServer, topic: &NewTopic<'_>) -> Result<RDKafkaErrorCode> {
    let admin = admin(log.bootstrap())?;
    let answers =
        block_on(admin.create_topics([topic], &AdminOptions::new()))?.context("create a topic")?;
    match answers
        .into_iter()
        .next()
        .context("no answer for the topic")?
    {
        Ok(name) => bail!("{name} was created"),
        Err((_, code)) => Ok(code),
    }
}

fn described(log: &LogServer, topic: &str, key: &str) -> Result<Option<String>> {
    let admin = admin(log.bootstrap())?;
    let options = AdminOptions::new().request_timeout(Some(CALL_LIMIT));
    let answers = block_on(admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options))?
        .context("describe the settings of a topic")?;
    let answer = answers
        .into_iter()
        .next()
        .context("no answer for the topic")?;
    let resource = answer.map_err(|code| anyhow!("describe the settings of {topic}: {code}"))?;
    Ok(resource
        .get(key)
        .with_context(|| format!("{key} is not described"))?
        .value
        .clone())
}
