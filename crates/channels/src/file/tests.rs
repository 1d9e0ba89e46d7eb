//! The file channel on real files in a temporary folder.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flafka_flow::channel::{Channel, ChannelError, TakeLimit};
use flafka_flow::conformance::channel::{Promises, suite};
use flafka_flow::conformance::doubles::build_context;
use flafka_flow::conformance::{numbers, to_numbers};
use flafka_flow::settings::{Report, Section, Settings};

use super::{FileChannel, FileChannelConfig};

fn channel(dir: &Path, more: &[(&str, &str)]) -> Arc<dyn Channel> {
    let path = dir.display().to_string();
    let own = [
        ("dataDirs", path.as_str()),
        ("minimumRequiredSpace", "1048576"),
    ];
    let section = Section::of(
        "a1.channels.c1",
        own.into_iter().chain(more.iter().copied()),
    );
    let mut report = Report::new();
    let config = FileChannelConfig::from_section(&section, &mut report)
        .unwrap_or_else(|| panic!("{report:?}"));
    let keep_alive = Duration::from_millis(100);
    Arc::new(FileChannel::with_keep_alive(
        config,
        &build_context("c1"),
        keep_alive,
    ))
}

async fn conforms(more: &[(&str, &str)]) {
    let root = tempfile::tempdir().expect("temporary folder");
    let mut number = 0;
    let promises = Promises {
        capacity: Some(100),
        ordered: true,
        durable: true,
        concurrent_leases: true,
    };
    suite(promises, async || {
        number += 1;
        let all: Vec<_> = [("capacity", "100"), ("transactionCapacity", "100")]
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        channel(&root.path().join(number.to_string()), &all)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_with_events_in_memory() {
    conforms(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_with_events_on_the_disk_only() {
    conforms(&[("flafka.cacheBytes", "0")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_without_fsync() {
    conforms(&[("flafka.durability", "os")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lowered_capacity_needs_no_replay_and_holds_back_puts() {
    let root = tempfile::tempdir().expect("temporary folder");
    let large = channel(
        root.path(),
        &[("capacity", "100"), ("transactionCapacity", "60")],
    );
    large.start().await.expect("start");
    large.put(numbers(0..60)).await.expect("put");
    large.stop().await.expect("stop");
    let small = channel(
        root.path(),
        &[("capacity", "50"), ("transactionCapacity", "20")],
    );
    small.start().await.expect("start");
    assert!(matches!(
        small.put(numbers(60..61)).await,
        Err(ChannelError::Full { .. })
    ));
    let too_many = small.put(numbers(60..81)).await;
    assert!(matches!(
        too_many,
        Err(ChannelError::TooManyEvents { allowed: 20, .. })
    ));
    for _ in 0..2 {
        let lease = small.take(TakeLimit::events(7)).await.expect("take");
        assert_eq!(lease.batch().len(), 7);
        lease.commit().await.expect("commit");
    }
    small.put(numbers(60..64)).await.expect("46 + 4 fit");
    assert!(matches!(
        small.put(numbers(64..65)).await,
        Err(ChannelError::Full { .. })
    ));
    let lease = small.take(TakeLimit::events(20)).await.expect("take");
    assert_eq!(to_numbers(lease.batch()), (14..34).collect::<Vec<_>>());
    assert_eq!(
        (
            lease.origin()[0].first_offset,
            lease.origin()[0].last_offset
        ),
        (14, 33)
    );
    drop(lease);
    small.stop().await.expect("stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_owner_and_flumes_files_are_refused() {
    let root = tempfile::tempdir().expect("temporary folder");
    let first = channel(root.path(), &[]);
    first.start().await.expect("start");
    let second = channel(root.path(), &[]).start().await.expect_err("in use");
    assert!(
        second.chain().contains(&std::process::id().to_string()),
        "{}",
        second.chain()
    );
    first.stop().await.expect("stop");

    let flumes = tempfile::tempdir().expect("temporary folder");
    std::fs::write(flumes.path().join("log-3"), b"x").expect("write");
    let refused = channel(flumes.path(), &[])
        .start()
        .await
        .expect_err("Flume's");
    assert!(
        refused.chain().contains("log-3") && refused.chain().contains("dataDirs"),
        "{}",
        refused.chain()
    );
}
