//! The JDBC channel on real files in a temporary folder.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flafka_flow::channel::{Channel, ChannelError, Lease, TakeLimit};
use flafka_flow::conformance::channel::{Promises, suite};
use flafka_flow::conformance::doubles::{build_context, build_context_with};
use flafka_flow::conformance::{numbers, to_numbers};
use flafka_flow::counters::Metric;
use flafka_flow::settings::{Report, Section, Settings, Severity};
use flafka_flow::{Batch, Event};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rusqlite::Connection;

use super::{JdbcChannel, JdbcChannelConfig};

fn read(pairs: &[(&str, &str)]) -> (Option<JdbcChannelConfig>, Report) {
    let section = Section::of("a1.channels.c1", pairs.iter().copied());
    let mut report = Report::new();
    let config = JdbcChannelConfig::from_section(&section, &mut report);
    (config, report)
}

fn bare(dir: &Path, more: &[(&str, &str)]) -> JdbcChannel {
    let url = format!("jdbc:sqlite:{}", dir.join("events.db").display());
    let own = [("driver.url", url.as_str())];
    let all: Vec<_> = own.into_iter().chain(more.iter().copied()).collect();
    let (config, report) = read(&all);
    let config = config.unwrap_or_else(|| panic!("{report:?}"));
    let channel = JdbcChannel::new(&config, &build_context("c1")).expect("a place");
    channel.with_keep_alive(Duration::from_millis(100))
}

async fn open(dir: &Path, more: &[(&str, &str)]) -> JdbcChannel {
    let channel = bare(dir, more);
    channel.start().await.expect("start");
    channel
}

async fn take(channel: &JdbcChannel, events: usize) -> Lease {
    channel.take(TakeLimit::events(events)).await.expect("take")
}

async fn drain(channel: &JdbcChannel) -> Vec<usize> {
    let mut seen = Vec::new();
    loop {
        let lease = take(channel, 30).await;
        if lease.is_empty() {
            return seen;
        }
        seen.extend(to_numbers(lease.batch()));
        lease.commit().await.expect("commit");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let root = tempfile::tempdir().expect("temporary folder");
    let promises = Promises {
        capacity: Some(100),
        ordered: true,
        durable: true,
        concurrent_leases: true,
    };
    let mut number = 0;
    suite(promises, async || {
        number += 1;
        let dir = root.path().join(number.to_string());
        Arc::new(bare(&dir, &[("maximum.capacity", "100")])) as Arc<dyn Channel>
    })
    .await;
}

#[test]
fn keys_work_or_say_what_they_mean() {
    let noted = |pairs: &[(&str, &str)]| {
        let (config, report) = read(pairs);
        assert!(config.is_some(), "{pairs:?}: {report:?}");
        let problems = report.problems();
        assert!(
            problems
                .iter()
                .all(|problem| problem.severity == Severity::Note)
        );
        problems.len()
    };
    assert_eq!(noted(&[]), 0);
    for pair in [
        ("driver.class", "org.apache.derby.jdbc.EmbeddedDriver"),
        ("db.username", "sa"),
        ("db.password", "secret"),
        ("connection.properties.file", "/x"),
        ("create.index", "false"),
        ("create.foreignkey", "true"),
        ("transaction.isolation", "SERIALIZABLE"),
        ("maximum.connections", "3"),
        ("db.type", "MYSQL"),
        ("sysprop.other", "x"),
        ("org.apache.flume.channel.jdbc.maximum.capacity", "7"),
    ] {
        assert_eq!(noted(&[pair]), 1, "{pair:?}");
    }
    assert_eq!(
        noted(&[("sysprop.user.home", "/h"), ("db.type", "derby")]),
        0
    );
    for refused in [
        &[("driver.url", "jdbc:postgresql://db/flume")][..],
        &[("driver.url", "jdbc:sqlite:/x"), ("db.type", "MYSQL")],
        &[("db.type", "ORACLE")],
        &[("transaction.isolation", "NONE")],
        &[("maximum.capacity", "many")],
        &[("sysprop.user.home", "here")],
        &[("create.schema", "perhaps")],
    ] {
        assert!(read(refused).0.is_none(), "{refused:?}");
    }
    let (_, report) = read(&[("db.password", "secret"), ("driver.url", "jdbc:x:y")]);
    assert!(!format!("{report:?}").contains("secret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flumes_default_place_has_a_file_for_each_channel_and_a_derby_database_is_refused() {
    let root = tempfile::tempdir().expect("temporary folder");
    let clock = build_context("c1").clock;
    let home = root.path().to_owned();
    let of = |name| {
        let context = build_context_with(name, Arc::clone(&clock), home.clone());
        let config = read(&[]).0.expect("valid");
        JdbcChannel::new(&config, &context).expect("a place")
    };
    let (first, second) = (of("c1"), of("c2"));
    for channel in [&first, &second] {
        channel.start().await.expect("start");
        channel.put(numbers(0..1)).await.expect("put");
    }
    let folder = home.join(".flume/jdbc-channel/db");
    for name in ["c1.sqlite", "c2.sqlite"] {
        assert!(folder.join("flafka").join(name).is_file(), "{name}");
    }
    for channel in [&first, &second] {
        channel.stop().await.expect("stop");
    }
    std::fs::write(folder.join("service.properties"), "#").expect("as Derby does");
    let refused = first.start().await.expect_err("Flume's database");
    let text = refused.chain();
    assert!(
        text.contains("holds a Derby database") && text.contains("let Flume deliver"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_owner_is_refused_with_the_name_of_the_first() {
    let root = tempfile::tempdir().expect("temporary folder");
    let first = open(root.path(), &[]).await;
    let refused = bare(root.path(), &[]).start().await.expect_err("in use");
    let text = refused.chain();
    let own = format!("in use by process {}", std::process::id());
    assert!(text.contains(&own), "{text}");
    first.stop().await.expect("stop");
    open(root.path(), &[]).await.stop().await.expect("stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_not_ours_or_damaged_are_refused_and_left_alone() {
    let root = tempfile::tempdir().expect("temporary folder");
    let file = root.path().join("events.db");
    let refusal = async |more: &[(&str, &str)]| {
        let before = std::fs::read(&file).ok();
        let refused = bare(root.path(), more).start().await.expect_err("refused");
        if before.is_some() {
            assert_eq!(std::fs::read(&file).ok(), before, "changed");
        }
        refused.chain()
    };
    let text = refusal(&[("create.schema", "false")]).await;
    assert!(text.contains("no table for events"), "{text}");
    std::fs::write(&file, vec![b'x'; 8192]).expect("write");
    let text = refusal(&[]).await;
    assert!(
        text.contains("is damaged") && text.contains(".recover"),
        "{text}"
    );
    std::fs::remove_file(&file).expect("remove");
    let other = Connection::open(&file).expect("open");
    other.execute_batch("CREATE TABLE t (a)").expect("create");
    other.close().expect("close");
    let text = refusal(&[]).await;
    assert!(text.contains("another program"), "{text}");
    std::fs::remove_file(&file).expect("remove");
    open(root.path(), &[]).await.stop().await.expect("stop");
    let later = Connection::open(&file).expect("open");
    later
        .pragma_update(None, "user_version", 9)
        .expect("update");
    later.close().expect("close");
    let text = refusal(&[]).await;
    assert!(text.contains("has format 9"), "{text}");
}

/// Damage that only shows when the events are read: said each time, and the channel is to be opened again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_inside_the_file_is_said() {
    let root = tempfile::tempdir().expect("temporary folder");
    let file = root.path().join("events.db");
    let channel = open(root.path(), &[]).await;
    channel.put(numbers(0..10)).await.expect("put");
    channel.stop().await.expect("stop");
    let editor = Connection::open(&file).expect("open");
    let sql = "UPDATE event SET headers = x'ff' WHERE id = 1";
    editor.execute_batch(sql).expect("update");
    editor.close().expect("close");
    channel.start().await.expect("start");
    for _ in 0..2 {
        let refused = channel.take(TakeLimit::events(5)).await;
        let text = refused.expect_err("damaged").chain();
        assert!(text.contains("headers of event 1"), "{text}");
    }
    assert!(
        channel
            .fault()
            .is_some_and(|fault| fault.contains("events.db"))
    );
    channel.reopen().await.expect("reopen");
    assert_eq!(channel.fault(), None);
    channel.stop().await.expect("stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_of_before_a_restart_are_void() {
    let root = tempfile::tempdir().expect("temporary folder");
    let channel = open(root.path(), &[("maximum.capacity", "20")]).await;
    channel.put(numbers(0..20)).await.expect("put");
    let (late, dropped) = (take(&channel, 5).await, take(&channel, 5).await);
    channel.stop().await.expect("stop");
    let put = channel.put(numbers(0..1)).await;
    assert!(matches!(put, Err(ChannelError::Closed { .. })), "{put:?}");
    channel.start().await.expect("start");
    let refused = late.commit().await;
    assert!(
        matches!(refused, Err(ChannelError::Closed { .. })),
        "{refused:?}"
    );
    dropped.rollback();
    assert_eq!(drain(&channel).await, (0..20).collect::<Vec<_>>());
    channel.put(numbers(0..20)).await.expect("all room is free");
    let full = channel.put(numbers(0..1)).await;
    assert!(matches!(full, Err(ChannelError::Full { .. })), "{full:?}");
    channel.stop().await.expect("stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn takes_respect_bytes_but_return_one_event() {
    let root = tempfile::tempdir().expect("temporary folder");
    let channel = open(root.path(), &[]).await;
    let events = (0..5).map(|_| Event::new(vec![b'x'; 1000]));
    channel.put(Batch::from_events(events)).await.expect("put");
    for (bytes, events) in [(10, 1), (2999, 2), (2000, 2)] {
        let limit = TakeLimit { events: 10, bytes };
        let lease = channel.take(limit).await.expect("take");
        assert_eq!(lease.batch().len(), events, "{bytes}");
        lease.commit().await.expect("commit");
    }
    channel.stop().await.expect("stop");
}

/// A full disk refuses the puts that do not fit, whole; deliveries go on, and nothing has to be opened again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_whole_puts_and_drains() {
    let root = tempfile::tempdir().expect("temporary folder");
    // SQLite's own limit answers as a full disk does.
    let channel = bare(root.path(), &[]).with_most_pages(64);
    channel.start().await.expect("start");
    let large = |first: usize| {
        Batch::from_events((first..first + 10).map(|number| Event::new(format!("{number:01000}"))))
    };
    let (mut put, mut refused) = (0, None);
    while refused.is_none() {
        match channel.put(large(put)).await {
            Ok(()) => put += 10,
            Err(error) => refused = Some(error),
        }
        assert!(put < 1000, "it never fills");
    }
    let error = refused.expect("the loop ends with it");
    assert!(
        error.is_retriable() && error.chain().contains("full"),
        "{}",
        error.chain()
    );
    assert_eq!(channel.fault(), None);
    let lease = take(&channel, 20).await;
    assert_eq!(to_numbers(lease.batch()), (0..20).collect::<Vec<_>>());
    lease.commit().await.expect("commit on a full disk");
    channel.put(large(put)).await.expect("room again");
    assert_eq!(drain(&channel).await, (20..put + 10).collect::<Vec<_>>());
    channel.stop().await.expect("stop");
}

/// A put whose caller is gone is stored whole or not at all, and its room comes back with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn puts_that_are_cut_off_leave_no_room_taken() {
    let root = tempfile::tempdir().expect("temporary folder");
    let channel = Arc::new(open(root.path(), &[("maximum.capacity", "40")]).await);
    for first in 0..20 {
        let putting = {
            let channel = Arc::clone(&channel);
            tokio::spawn(async move { channel.put(numbers(first * 2..first * 2 + 2)).await })
        };
        tokio::task::yield_now().await;
        putting.abort();
        drop(putting.await);
    }
    let seen = drain(&channel).await;
    assert!(
        seen.chunks(2).all(|pair| pair[0] + 1 == pair[1]),
        "{seen:?}"
    );
    channel.put(numbers(0..40)).await.expect("all room is free");
    channel.stop().await.expect("stop");
}

/// Puts, takes, commits and rollbacks of several leases and restarts, in random order, against a sorted set of numbers.
/// `FLAFKA_SEED=<number>` runs one seed again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_use_matches_a_model() {
    let seeds = match std::env::var("FLAFKA_SEED").map(|seed| seed.parse()) {
        Ok(Ok(seed)) => vec![seed],
        _ => vec![1, 2, 3],
    };
    for seed in seeds {
        eprintln!("FLAFKA_SEED={seed}");
        let mut random = SmallRng::seed_from_u64(seed);
        let root = tempfile::tempdir().expect("temporary folder");
        let channel = open(root.path(), &[("maximum.capacity", "120")]).await;
        let (mut next, mut waiting) = (0, BTreeSet::new());
        let mut leases: Vec<Lease> = Vec::new();
        for _ in 0..250 {
            let leased: usize = leases.iter().map(|lease| lease.batch().len()).sum();
            match random.random_range(0..100) {
                0..40 => {
                    let count = random.random_range(1..20);
                    let fits = waiting.len() + leased + count <= 120;
                    let put = channel.put(numbers(next..next + count)).await;
                    assert_eq!(put.is_ok(), fits, "{put:?}");
                    if fits {
                        waiting.extend(next..next + count);
                        next += count;
                    }
                }
                40..65 if leases.len() < 5 && !waiting.is_empty() => {
                    let limit = random.random_range(1..40);
                    let lease = take(&channel, limit).await;
                    let expected: Vec<_> = waiting.iter().copied().take(limit).collect();
                    assert_eq!(to_numbers(lease.batch()), expected, "the oldest");
                    waiting.retain(|number| !expected.contains(number));
                    leases.push(lease);
                }
                choice @ 65..97 if !leases.is_empty() => {
                    let lease = leases.swap_remove(random.random_range(0..leases.len()));
                    if choice < 85 {
                        lease.commit().await.expect("commit");
                    } else {
                        waiting.extend(to_numbers(lease.batch()));
                        lease.rollback();
                    }
                }
                97.. => {
                    channel.stop().await.expect("stop");
                    for lease in leases.drain(..) {
                        waiting.extend(to_numbers(lease.batch()));
                    }
                    channel.start().await.expect("start");
                }
                _ => {}
            }
            let leased: usize = leases.iter().map(|lease| lease.batch().len()).sum();
            let size = channel.counters().get(Metric::ChannelSize);
            assert_eq!(size as usize, waiting.len() + leased, "ChannelSize");
        }
        for lease in leases {
            waiting.extend(to_numbers(lease.batch()));
            lease.rollback();
        }
        let left: Vec<_> = waiting.into_iter().collect();
        assert_eq!(drain(&channel).await, left);
        channel.stop().await.expect("stop");
    }
}
