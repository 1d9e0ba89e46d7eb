//! Consumer groups through librdkafka, classic protocol: sharing, rebalance, commits, static members, listing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use flafka_tests::kafka_client::{
    CALL_LIMIT, NewRecord, ReadRecord, config, create_topic, poll_records, produce, unique_name,
};
use flafka_tests::log_server::LogServer;
use flafka_tests::poll;
use flafka_tests::runner::Case;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn cases() -> Vec<Case<LogServer>> {
    let mut cases = vec![
        Case::new(
            "groups::committed_offsets_are_where_the_next_member_starts",
            |log: &LogServer| {
                let topic = topic_with(log, 1, 100)?;
                let first = member(log, &topic, &[])?;
                let found = poll_records(&first, 40, LIMIT)?;
                let mut list = TopicPartitionList::new();
                list.add_partition_offset(&topic, 0, Offset::Offset(found[39].offset + 1))
                    .context("add a partition")?;
                first.commit(&list, CommitMode::Sync).context("commit")?;
                drop(first);
                let second = member(log, &topic, &[])?;
                let found = poll_records(&second, 60, LIMIT)?;
                ensure!(
                    found[0].offset == 40,
                    "the second member started at {}",
                    found[0].offset
                );
                Ok(())
            },
        ),
        Case::new("groups::commit_metadata_is_kept", |log: &LogServer| {
            let topic = topic_with(log, 2, 0)?;
            let consumer = member(log, &topic, &[])?;
            wait_for_assignment(&[&consumer], 2)?;
            let mut list = TopicPartitionList::new();
            list.add_partition_offset(&topic, 1, Offset::Offset(0))
                .context("add a partition")?;
            let with_metadata = list.clone();
            let mut element = with_metadata
                .find_partition(&topic, 1)
                .context("the partition just added")?;
            element.set_metadata("read by a test");
            consumer
                .commit(&with_metadata, CommitMode::Sync)
                .context("commit")?;
            let found = consumer
                .committed_offsets(list, CALL_LIMIT)
                .context("ask for the committed offsets")?;
            let element = found
                .find_partition(&topic, 1)
                .context("no answer for the partition")?;
            ensure!(
                element.offset() == Offset::Offset(0) && element.metadata() == "read by a test",
                "{found:?}"
            );
            Ok(())
        }),
        Case::new(
            "groups::a_member_killed_is_replaced_after_its_session",
            |log: &LogServer| {
                let topic = topic_with(log, 2, 0)?;
                let survivor = member(log, &topic, &[("session.timeout.ms", "6000")])?;
                let doomed = member(
                    log,
                    &topic,
                    &[
                        ("session.timeout.ms", "6000"),
                        ("max.poll.interval.ms", "6000"),
                    ],
                )?;
                wait_for_assignment(&[&survivor, &doomed], 2)?;
                // It is not polled any more: its client leaves the group after max.poll.interval.ms.
                wait_for_assignment(&[&survivor], 2)?;
                drop(doomed);
                Ok(())
            },
        ),
        Case::new(
            "groups::a_static_member_that_comes_back_keeps_its_partitions",
            |log: &LogServer| {
                let topic = topic_with(log, 2, 0)?;
                let other = member(log, &topic, &[("group.instance.id", "other")])?;
                let first = member(
                    log,
                    &topic,
                    &[
                        ("group.instance.id", "mine"),
                        ("session.timeout.ms", "30000"),
                    ],
                )?;
                wait_for_assignment(&[&other, &first], 2)?;
                let before = partitions(&first)?;
                drop(first);
                let again = member(
                    log,
                    &topic,
                    &[
                        ("group.instance.id", "mine"),
                        ("session.timeout.ms", "30000"),
                    ],
                )?;
                let after = poll::until("the member has partitions again", LIMIT, || {
                    drop(again.poll(Duration::from_millis(50)));
                    drop(other.poll(Duration::from_millis(50)));
                    Ok(Some(partitions(&again)?).filter(|found| !found.is_empty()))
                })?;
                ensure!(before == after, "{before:?} before, {after:?} after");
                Ok(())
            },
        ),
        Case::new(
            "groups::a_group_is_listed_with_its_members",
            |log: &LogServer| {
                let topic = topic_with(log, 1, 1)?;
                let consumer = member(log, &topic, &[("client.id", "the-listed-one")])?;
                poll_records(&consumer, 1, LIMIT)?;
                let list = consumer
                    .fetch_group_list(Some(&topic), CALL_LIMIT)
                    .context("list the group")?;
                let group = list
                    .groups()
                    .iter()
                    .find(|group| group.name() == topic)
                    .context("the group is not listed")?;
                ensure!(group.state() == "Stable", "its state is {}", group.state());
                ensure!(
                    group.members().len() == 1,
                    "it has {} members",
                    group.members().len()
                );
                ensure!(
                    group.members()[0].client_id() == "the-listed-one",
                    "{}",
                    group.members()[0].client_id()
                );
                let all = consumer
                    .fetch_group_list(None, CALL_LIMIT)
                    .context("list all groups")?;
                ensure!(
                    all.groups().iter().any(|group| group.name() == topic),
                    "it is not in the list of all"
                );
                Ok(())
            },
        ),
        Case::new(
            "groups::two_groups_read_the_same_topic_independently",
            |log: &LogServer| {
                let topic = topic_with(log, 1, 50)?;
                for group in ["one", "two"] {
                    let group = format!("{topic}-{group}");
                    let consumer = member(log, &topic, &[("group.id", &group)])?;
                    let found = poll_records(&consumer, 50, LIMIT)?;
                    ensure!(
                        found[0].offset == 0 && found[49].offset == 49,
                        "group {group}"
                    );
                    consumer
                        .commit_consumer_state(CommitMode::Sync)
                        .context("commit")?;
                }
                Ok(())
            },
        ),
    ];
    cases.extend(
        ["range", "roundrobin", "cooperative-sticky"].map(|assignor| {
            Case::new(
                format!("groups::two_members_share_and_one_takes_over_{assignor}"),
                move |log: &LogServer| two_members_share_and_one_takes_over(log, assignor),
            )
        }),
    );
    cases
}

/// One reads alone, a second joins and shares, leaves again, and the first has all: nothing is lost on the way.
fn two_members_share_and_one_takes_over(log: &LogServer, assignor: &str) -> Result<()> {
    let topic = topic_with(log, 4, 0)?;
    let settings = [("partition.assignment.strategy", assignor)];
    let first = member(log, &topic, &settings)?;
    wait_for_assignment(&[&first], 4)?;
    write(log, &topic, 0..400)?;
    let mut seen: Vec<ReadRecord> = poll_records(&first, 400, LIMIT)?;
    first
        .commit_consumer_state(CommitMode::Sync)
        .context("commit")?;

    let second = member(log, &topic, &settings)?;
    wait_for_assignment(&[&first, &second], 4)?;
    let (one, two) = (partitions(&first)?, partitions(&second)?);
    ensure!(
        one.len() == 2 && two.len() == 2 && one.is_disjoint(&two),
        "{one:?} and {two:?}"
    );
    write(log, &topic, 400..800)?;
    let started = Instant::now();
    while seen.len() < 800 {
        ensure!(
            started.elapsed() < LIMIT,
            "{} of 800 records came",
            seen.len()
        );
        for consumer in [&first, &second] {
            if let Some(message) = consumer.poll(Duration::from_millis(20)) {
                seen.push(ReadRecord::from_message(&message.context("poll")?));
            }
        }
    }
    second
        .commit_consumer_state(CommitMode::Sync)
        .context("commit")?;
    drop(second);

    wait_for_assignment(&[&first], 4)?;
    write(log, &topic, 800..1_200)?;
    let mut taken_over = 0;
    while taken_over < 400 {
        ensure!(
            started.elapsed() < LIMIT * 2,
            "{taken_over} of the last 400 records came"
        );
        if let Some(message) = first.poll(Duration::from_millis(50)) {
            let record = ReadRecord::from_message(&message.context("poll")?);
            taken_over += usize::from(number(&record)? >= 800);
            seen.push(record);
        }
    }
    let distinct: BTreeSet<u32> = seen.iter().map(number).collect::<Result<_>>()?;
    ensure!(
        distinct == (0..1_200).collect(),
        "{} of 1200 different records came",
        distinct.len()
    );
    Ok(())
}

fn number(record: &ReadRecord) -> Result<u32> {
    record
        .text()
        .parse()
        .with_context(|| format!("{record:?} holds no number"))
}

fn write(log: &LogServer, topic: &str, numbers: std::ops::Range<i32>) -> Result<()> {
    let records: Vec<_> = numbers
        .map(|n| NewRecord::value(n.to_string()).to_partition(n % 4))
        .collect();
    produce(log.bootstrap(), topic, &records).map(drop)
}

fn topic_with(log: &LogServer, partitions: i32, records: i32) -> Result<String> {
    let topic = unique_name("group");
    create_topic(log.bootstrap(), &topic, partitions)?;
    if records > 0 {
        let records: Vec<_> = (0..records)
            .map(|n| NewRecord::value(n.to_string()))
            .collect();
        produce(log.bootstrap(), &topic, &records)?;
    }
    Ok(topic)
}

/// A member of the group that is called like its topic.
fn member(log: &LogServer, topic: &str, settings: &[(&str, &str)]) -> Result<BaseConsumer> {
    let mut config = config(log.bootstrap());
    config
        .set("group.id", topic)
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false");
    config
        .set("session.timeout.ms", "10000")
        .set("heartbeat.interval.ms", "1000");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    let consumer: BaseConsumer = config.create().context("create a consumer")?;
    consumer.subscribe(&[topic]).context("subscribe")?;
    Ok(consumer)
}

fn partitions(consumer: &BaseConsumer) -> Result<BTreeSet<i32>> {
    let assignment = consumer.assignment().context("ask for the assignment")?;
    Ok(assignment
        .elements()
        .iter()
        .map(|element| element.partition())
        .collect())
}

/// Polls all `members` until each has a share and the shares together are `total` partitions.
fn wait_for_assignment(members: &[&BaseConsumer], total: usize) -> Result<()> {
    let mut shares = Vec::new();
    let waited = poll::until_true("every member has its share", LIMIT, || {
        for member in members {
            if let Some(Ok(message)) = member.poll(Duration::from_millis(20)) {
                bail!(
                    "a record came during the wait: {:?}",
                    ReadRecord::from_message(&message)
                );
            }
        }
        shares = members
            .iter()
            .map(|member| partitions(member))
            .collect::<Result<Vec<_>>>()?;
        let all: BTreeSet<_> = shares.iter().flatten().collect();
        let sum: usize = shares.iter().map(BTreeSet::len).sum();
        Ok(shares.iter().all(|share| !share.is_empty()) && all.len() == total && sum == total)
    });
    waited.with_context(|| format!("the shares are {shares:?}"))
}
