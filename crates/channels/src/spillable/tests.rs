//! The spillable channel on real files in a temporary folder.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flafka_flow::Batch;
use flafka_flow::Event;
use flafka_flow::channel::{Channel, ChannelError, Lease, TakeLimit};
use flafka_flow::conformance::channel::{Promises, suite};
use flafka_flow::conformance::doubles::build_context;
use flafka_flow::conformance::{numbers, to_numbers};
use flafka_flow::counters::Metric;
use flafka_flow::registry::{BuildContext, ChannelFactory};
use flafka_flow::settings::{Report, Section, Settings, Severity};
use flafka_log_store::RealFs;

use super::{SpillableChannel, SpillableConfig, SpillableFactory};
use crate::file::FileChannel;
use crate::file::tests::Flaky;

fn read(pairs: &[(&str, &str)]) -> (Option<SpillableConfig>, Report) {
    let section = Section::of("a1.channels.c1", pairs.iter().copied());
    let mut report = Report::new();
    let config = SpillableConfig::from_section(&section, &mut report);
    (config, report)
}

fn config(dir: &Path, more: &[(&str, &str)]) -> SpillableConfig {
    let path = dir.display().to_string();
    let own = [
        ("dataDirs", path.as_str()),
        ("minimumRequiredSpace", "1048576"),
    ];
    let all: Vec<_> = own.into_iter().chain(more.iter().copied()).collect();
    let (config, report) = read(&all);
    config.unwrap_or_else(|| panic!("{report:?}"))
}

fn built(config: &SpillableConfig, context: &BuildContext) -> SpillableChannel {
    SpillableChannel::with_timeout(config, context, Duration::from_millis(100))
}

pub(super) fn bare(dir: &Path, more: &[(&str, &str)]) -> SpillableChannel {
    built(&config(dir, more), &build_context("c1"))
}

/// `memory` and `overflow` events of room.
async fn open(dir: &Path, memory: &str, overflow: &str) -> SpillableChannel {
    let more = [
        ("memoryCapacity", memory),
        ("overflowCapacity", overflow),
        ("transactionCapacity", "50"),
    ];
    let channel = bare(dir, &more);
    channel.start().await.expect("start");
    channel
}

async fn take(channel: &SpillableChannel, events: usize) -> Lease {
    channel.take(TakeLimit::events(events)).await.expect("take")
}

/// Takes and delivers until nothing is left.
async fn drain(channel: &SpillableChannel) -> Vec<usize> {
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

fn size(channel: &SpillableChannel) -> (usize, usize, i64) {
    channel.refresh();
    let in_memory = channel.held.in_memory.load(Ordering::Relaxed);
    let size = channel.counters().get(Metric::ChannelSize);
    (in_memory, channel.on_disk(), size)
}

async fn conforms(memory: &str, overflow: &str, durable: bool) {
    let root = tempfile::tempdir().expect("temporary folder");
    let promises = Promises {
        capacity: Some(100),
        ordered: true,
        durable,
        concurrent_leases: true,
    };
    let mut number = 0;
    suite(promises, async || {
        number += 1;
        let dir = root.path().join(number.to_string());
        let more = [
            ("memoryCapacity", memory),
            ("overflowCapacity", overflow),
            ("transactionCapacity", "40"),
        ];
        Arc::new(bare(&dir, &more)) as Arc<dyn Channel>
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_with_both_parts() {
    conforms("40", "60", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_with_a_memory_smaller_than_a_batch() {
    conforms("5", "100", true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_as_a_memory_channel() {
    conforms("100", "0", false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms_as_a_file_channel() {
    conforms("0", "100", true).await;
}

#[test]
fn settings_follow_flume() {
    let (defaults, _) = read(&[]);
    let defaults = defaults.expect("valid");
    assert_eq!(defaults.own.memory_capacity.0, 10_000);
    assert_eq!(defaults.own.overflow_capacity.0, 100_000_000);
    assert_eq!(defaults.file.capacity.0, 100_000_000);
    assert_eq!(defaults.file.keep_alive.0, Duration::ZERO);
    assert_eq!(defaults.own.avg_event_size.0, 500);
    let (both, report) = read(&[("memoryCapacity", "0"), ("overflowCapacity", "0")]);
    assert_eq!(both.expect("valid").own.overflow_capacity.0, 100_000_000);
    assert_eq!(report.problems().len(), 1, "{report:?}");
    let (bad, _) = read(&[("memoryCapacity", "-1"), ("overflowCapacity", "x")]);
    let bad = bad.expect("as in Flume, the defaults");
    assert_eq!(bad.own.memory_capacity.0, 10_000);
    assert_eq!(bad.own.overflow_capacity.0, 100_000_000);
    let (noted, report) = read(&[
        ("capacity", "5"),
        ("keep-alive", "7"),
        ("checkpointDir", "/x"),
    ]);
    assert_eq!(noted.expect("valid").file.capacity.0, 100_000_000);
    let noted = report.problems();
    assert!(
        noted
            .iter()
            .all(|problem| problem.severity == Severity::Note)
    );
    assert_eq!(noted.len(), 3, "{report:?}");
    let (refused, report) = read(&[("overflowCapacity", "1000")]);
    assert!(refused.is_none(), "transactionCapacity is 10000");
    let text = format!("{report:?}");
    assert!(text.contains("larger than overflowCapacity 1000"), "{text}");
    assert!(text.contains("c1.overflowCapacity"), "{text}");
    let (unlimited, report) = read(&[("byteCapacity", "500")]);
    let said = format!("{:?}", report.problems());
    assert!(unlimited.is_some() && said.contains("without limit"));
    let (small, _) = read(&[("overflowCapacity", "0"), ("memoryCapacity", "100")]);
    let capacity = SpillableFactory::transaction_capacity(&small.expect("valid"));
    assert_eq!(capacity, Some(100));
    for bad in [
        ("avgEventSize", "0"),
        ("overflowDeactivationThreshold", "101"),
        ("byteCapacityBufferPercentage", "101"),
        ("memoryCapacity", "3000000000"),
        ("encryption.activeKey", "k"),
        ("flafka.durability", "never"),
    ] {
        assert!(read(&[bad]).0.is_none(), "{bad:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_memory_has_no_room_for_goes_to_the_disk_and_comes_out_in_order() {
    let root = tempfile::tempdir().expect("temporary folder");
    let channel = open(root.path(), "20", "100").await;
    for first in [0, 10, 20, 30] {
        channel.put(numbers(first..first + 10)).await.expect("put");
    }
    assert_eq!(size(&channel), (20, 20, 40));
    assert_eq!(channel.counters().get(Metric::ChannelCapacity), 120);
    let lease = take(&channel, 30).await;
    assert_eq!(
        to_numbers(lease.batch()),
        (0..20).collect::<Vec<_>>(),
        "a take does not cross from memory to the disk"
    );
    assert!(lease.origin().is_empty());
    lease.commit().await.expect("commit");
    // Memory is free again: the next goes there, behind what is on the disk.
    channel.put(numbers(40..50)).await.expect("put");
    assert_eq!(size(&channel), (10, 20, 30));
    let lease = take(&channel, 15).await;
    assert_eq!(to_numbers(lease.batch()), (20..35).collect::<Vec<_>>());
    assert_eq!(lease.origin().len(), 1, "events on the disk have an origin");
    assert_eq!(drain(&channel).await, (35..50).collect::<Vec<_>>());
    lease.rollback();
    assert_eq!(drain(&channel).await, (20..35).collect::<Vec<_>>());
    assert_eq!(size(&channel), (0, 0, 0));
    channel.stop().await.expect("stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolled_back_events_of_both_parts_go_back_to_their_places() {
    let root = tempfile::tempdir().expect("temporary folder");
    let channel = open(root.path(), "10", "100").await;
    channel.put(numbers(0..10)).await.expect("memory");
    channel.put(numbers(10..20)).await.expect("disk");
    let memory = take(&channel, 10).await;
    let disk = take(&channel, 6).await;
    memory.commit().await.expect("commit");
    channel.put(numbers(20..30)).await.expect("memory again");
    channel.put(numbers(30..40)).await.expect("disk again");
    let rest = take(&channel, 50).await;
    assert_eq!(to_numbers(rest.batch()), (16..20).collect::<Vec<_>>());
    let newer = take(&channel, 50).await;
    assert_eq!(to_numbers(newer.batch()), (20..30).collect::<Vec<_>>());
    let newest = take(&channel, 50).await;
    assert_eq!(to_numbers(newest.batch()), (30..40).collect::<Vec<_>>());
    for lease in [newest, rest, newer, disk] {
        lease.rollback();
    }
    assert_eq!(drain(&channel).await, (10..40).collect::<Vec<_>>());
    channel.stop().await.expect("stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_of_memory_are_counted_in_slots_of_the_average_event() {
    let root = tempfile::tempdir().expect("temporary folder");
    let more = [
        ("byteCapacity", "1000"),
        ("byteCapacityBufferPercentage", "50"),
        ("avgEventSize", "100"),
    ];
    let channel = bare(root.path(), &more);
    channel.start().await.expect("start");
    let of = |size: usize, count: usize| {
        Batch::from_events((0..count).map(|_| Event::new(vec![b'x'; size])))
    };
    channel.put(of(101, 2)).await.expect("4 of 5 slots");
    assert_eq!(size(&channel), (2, 0, 2));
    channel.put(of(1, 2)).await.expect("no room in memory");
    assert_eq!(size(&channel), (2, 2, 4));
    channel.put(of(1, 1)).await.expect("5 of 5 slots");
    assert_eq!(size(&channel), (3, 2, 5));
    take(&channel, 10).await.commit().await.expect("commit");
    channel.put(of(600, 1)).await.expect("more than all slots");
    assert_eq!(size(&channel), (1, 3, 4));
    channel.stop().await.expect("stop");
}

/// After a delivery that frees less than the threshold puts go on to the disk without waiting; when enough is free they
/// wait for memory again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_threshold_ends_the_overflow() {
    let root = tempfile::tempdir().expect("temporary folder");
    let more = [
        ("memoryCapacity", "20"),
        ("overflowDeactivationThreshold", "50"),
    ];
    let channel = bare(root.path(), &more);
    channel.start().await.expect("start");
    channel.put(numbers(0..20)).await.expect("memory");
    assert!(!channel.held.line().is_spilling);
    channel.put(numbers(20..30)).await.expect("disk");
    assert!(channel.held.line().is_spilling);
    take(&channel, 5).await.commit().await.expect("commit");
    assert!(channel.held.line().is_spilling, "a quarter is free");
    take(&channel, 5).await.commit().await.expect("commit");
    assert!(!channel.held.line().is_spilling, "half is free");
    channel.stop().await.expect("stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_moves_memory_into_the_overflow_and_a_crash_keeps_only_the_overflow() {
    let root = tempfile::tempdir().expect("temporary folder");
    let channel = open(root.path(), "20", "100").await;
    channel.put(numbers(0..20)).await.expect("memory");
    channel.put(numbers(20..35)).await.expect("disk");
    assert!(channel.is_durable());
    channel.stop().await.expect("stop");
    assert_eq!(size(&channel).0, 0);
    let next = open(root.path(), "20", "100").await;
    assert_eq!(size(&next), (0, 35, 35));
    let seen = drain(&next).await;
    let expected: Vec<usize> = (20..35).chain(0..20).collect();
    assert_eq!(seen, expected, "the memory part comes behind the overflow");
    next.put(numbers(0..20)).await.expect("memory");
    next.put(numbers(20..35)).await.expect("disk");
    // A crash: nobody stops it.
    next.overflow
        .as_ref()
        .expect("overflow")
        .stop()
        .await
        .expect("release the files");
    drop(next);
    let last = open(root.path(), "20", "100").await;
    assert_eq!(drain(&last).await, (20..35).collect::<Vec<_>>());
    last.stop().await.expect("stop");
}

/// The capacity bounds puts, not a stop: afterwards the overflow is over-full until as much is delivered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_moves_memory_into_a_full_overflow_too() {
    let root = tempfile::tempdir().expect("temporary folder");
    let channel = open(root.path(), "60", "50").await;
    for first in [0, 30] {
        let batch = numbers(first..first + 30);
        channel.put(batch).await.expect("memory");
    }
    channel.put(numbers(60..110)).await.expect("disk");
    let full = channel.put(numbers(110..111)).await;
    assert!(matches!(full, Err(ChannelError::Full { .. })), "{full:?}");
    channel.stop().await.expect("the disk has room");
    assert_eq!(size(&channel).0, 0);

    let next = open(root.path(), "0", "50").await;
    assert_eq!(size(&next), (0, 110, 110));
    let mut seen = Vec::new();
    for _ in 0..2 {
        let full = next.put(numbers(110..111)).await;
        assert!(matches!(full, Err(ChannelError::Full { .. })), "{full:?}");
        let lease = take(&next, 30).await;
        seen.extend(to_numbers(lease.batch()));
        lease.commit().await.expect("commit");
    }
    let left = 110 - seen.len();
    next.put(numbers(110..111)).await.expect_err("exactly full");
    seen.extend(drain(&next).await);
    let expected: Vec<usize> = (60..110).chain(0..60).collect();
    assert_eq!(seen, expected, "{left} were left");
    next.put(numbers(0..50)).await.expect("all room is back");
    let full = next.put(numbers(50..51)).await;
    assert!(matches!(full, Err(ChannelError::Full { .. })), "{full:?}");
    next.stop().await.expect("stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_disk_refuses_at_a_stop_is_an_error_and_kept_over_a_reload() {
    let root = tempfile::tempdir().expect("temporary folder");
    let first = open(root.path(), "60", "50").await;
    first.put(numbers(0..30)).await.expect("memory");
    first.stop().await.expect("stop");
    // Read and delivered as long as that is all: but nothing new has room.
    let full_disk = [("minimumRequiredSpace", "9000000000000000000")];
    let channel = bare(root.path(), &full_disk);
    channel.start().await.expect("start");
    channel.put(numbers(30..80)).await.expect("memory");
    let refused = channel.stop().await.expect_err("no room on the disk");
    let text = refused.chain();
    let is_stranded = matches!(refused, ChannelError::Stranded { events: 50, .. });
    assert!(is_stranded && text.contains("50 acknowledged"), "{text}");
    let context = BuildContext {
        contents: channel.contents(),
        ..build_context("c1")
    };
    let next = built(&config(root.path(), &[]), &context);
    let unopened = next.stop().await.expect_err("memory has them still");
    assert!(matches!(unopened, ChannelError::Stranded { .. }));
    next.start().await.expect("start");
    assert_eq!(size(&next), (50, 30, 80));
    assert_eq!(drain(&next).await, (0..80).collect::<Vec<_>>());
    next.stop().await.expect("stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_keeps_a_pure_memory_part_and_its_leases() {
    let root = tempfile::tempdir().expect("temporary folder");
    let more = [("memoryCapacity", "20"), ("overflowCapacity", "0")];
    let old = bare(root.path(), &more);
    old.start().await.expect("start");
    assert!(!old.is_durable());
    old.put(numbers(0..20)).await.expect("put");
    let full = old.put(numbers(20..21)).await;
    assert!(matches!(full, Err(ChannelError::Full { .. })), "{full:?}");
    let lease = take(&old, 5).await;
    old.stop().await.expect("stop");
    assert!(
        std::fs::read_dir(root.path())
            .expect("list")
            .next()
            .is_none(),
        "no files"
    );
    let context = BuildContext {
        contents: old.contents(),
        ..build_context("c1")
    };
    let more = [("memoryCapacity", "30"), ("overflowCapacity", "10000")];
    let new = built(&config(root.path(), &more), &context);
    new.start().await.expect("start");
    lease.rollback();
    new.put(numbers(20..30)).await.expect("the new capacity");
    new.put(numbers(30..40)).await.expect("the new overflow");
    assert_eq!(size(&new), (30, 10, 40));
    assert_eq!(drain(&new).await, (0..40).collect::<Vec<_>>());
    new.stop().await.expect("stop");
}

/// Many sources at once over a memory that is full again and again: the puts of each come out in their order.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_source_keeps_its_order() {
    const SOURCES: usize = 6;
    const PUTS: usize = 60;
    let root = tempfile::tempdir().expect("temporary folder");
    let more = [
        ("memoryCapacity", "8"),
        ("flafka.durability", "os"),
        ("overflowDeactivationThreshold", "30"),
    ];
    let config = config(root.path(), &more);
    let context = build_context("c1");
    let channel = Arc::new(SpillableChannel::with_timeout(
        &config,
        &context,
        Duration::ZERO,
    ));
    channel.start().await.expect("start");
    let mut sources = Vec::new();
    for source in 0..SOURCES {
        let channel = Arc::clone(&channel);
        sources.push(tokio::spawn(async move {
            for put in 0..PUTS {
                let first = (source * PUTS + put) * 10;
                channel.put(numbers(first..first + 3)).await.expect("put");
            }
        }));
    }
    // Nothing is taken before there is more than memory can hold.
    while channel.on_disk() == 0 {
        tokio::task::yield_now().await;
    }
    let mut newest = [None; SOURCES];
    let (mut seen, mut round, mut on_disk) = (0, 0, false);
    while seen < SOURCES * PUTS * 3 {
        let lease = take(&channel, 7).await;
        round += 1;
        if round % 4 == 0 {
            lease.rollback();
            continue;
        }
        on_disk |= !lease.origin().is_empty();
        for number in to_numbers(lease.batch()) {
            let source = number / (PUTS * 10);
            assert!(
                newest[source] < Some(number),
                "{number} after {:?}",
                newest[source]
            );
            newest[source] = Some(number);
            seen += 1;
        }
        lease.commit().await.expect("commit");
    }
    for source in sources {
        source.await.expect("no panic");
    }
    assert!(on_disk, "memory was never full: this test shows nothing");
    channel.stop().await.expect("stop");
}

/// A put whose caller is gone leaves nothing behind that blocks the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_that_is_cut_off_is_finished() {
    let root = tempfile::tempdir().expect("temporary folder");
    let channel = Arc::new(open(root.path(), "0", "100").await);
    for first in 0..20 {
        let putting = {
            let channel = Arc::clone(&channel);
            tokio::spawn(async move { channel.put(numbers(first..first + 1)).await })
        };
        tokio::task::yield_now().await;
        putting.abort();
        drop(putting.await);
    }
    let mut seen = drain(&channel).await;
    let settled = async {
        while channel.held.line().coming > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), settled)
        .await
        .expect("every put ends");
    seen.extend(drain(&channel).await);
    let count = seen.len();
    seen.dedup();
    assert_eq!(seen.len(), count, "once each: {seen:?}");
    assert_eq!(size(&channel), (0, 0, 0));
    channel.put(numbers(0..50)).await.expect("all room is free");
    channel.stop().await.expect("stop");
}

/// A disk that fails while the channel runs: what memory holds goes on; after the repair nothing acknowledged is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_overflow_is_opened_again_without_a_loss() {
    let root = tempfile::tempdir().expect("temporary folder");
    let config = config(root.path(), &[("memoryCapacity", "10")]);
    let mut channel = built(&config, &build_context("c1"));
    let broken = Arc::new(AtomicBool::new(false));
    let fs = Arc::new(Flaky(RealFs, Arc::clone(&broken)));
    let file = FileChannel::new(config.file.clone(), &build_context("unlisted")).on(fs);
    channel.overflow = Some(Arc::new(file));
    channel.start().await.expect("start");
    channel.put(numbers(0..10)).await.expect("memory");
    channel.put(numbers(10..20)).await.expect("disk");
    let memory = take(&channel, 10).await;
    let disk = take(&channel, 4).await;
    assert_eq!((memory.batch().len(), disk.batch().len()), (10, 4));
    broken.store(true, Ordering::SeqCst);
    let refused = channel.put(numbers(100..101)).await.expect_err("no disk");
    assert!(refused.is_retriable(), "{}", refused.chain());
    assert!(
        channel
            .fault()
            .is_some_and(|fault| fault.contains("overflow"))
    );
    assert!(!channel.is_durable());
    memory.commit().await.expect("memory needs no disk");
    channel.put(numbers(20..30)).await.expect("memory has room");
    broken.store(false, Ordering::SeqCst);
    channel.reopen().await.expect("reopen");
    assert_eq!(channel.fault(), None);
    disk.rollback();
    let mut seen = drain(&channel).await;
    // What was refused may be there all the same.
    seen.retain(|number| *number != 100);
    assert_eq!(seen, (10..30).collect::<Vec<_>>());
    assert_eq!(size(&channel), (0, 0, 0));
    channel.stop().await.expect("stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_channel_says_so_and_a_second_owner_is_refused() {
    let root = tempfile::tempdir().expect("temporary folder");
    let channel = open(root.path(), "10", "100").await;
    let second = bare(root.path(), &[]);
    let refused = second.start().await.expect_err("the files are in use");
    assert!(refused.chain().contains("in use"), "{}", refused.chain());
    channel.stop().await.expect("stop");
    let put = channel.put(numbers(0..1)).await;
    assert!(matches!(put, Err(ChannelError::Closed { .. })), "{put:?}");
    let taken = channel.take(TakeLimit::events(1)).await;
    assert!(matches!(taken, Err(ChannelError::Closed { .. })));
    let too_many = channel.put(numbers(0..51)).await;
    assert!(matches!(
        too_many,
        Err(ChannelError::TooManyEvents { allowed: 50, .. })
    ));
}
