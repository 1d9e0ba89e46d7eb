//! Tests of the memory channel.

use flafka_flow::conformance::channel::{Promises, suite};
use flafka_flow::conformance::doubles::build_context;
use flafka_flow::conformance::{numbers, to_numbers};
use flafka_flow::settings::{ByteSize, LenientCount, Report, Seconds, Section, Settings};
use flafka_flow::{Event, Headers};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::config::default_byte_capacity;
use super::*;

fn config(capacity: usize, byte_capacity: u64) -> MemoryChannelConfig {
    MemoryChannelConfig {
        capacity: LenientCount(capacity),
        transaction_capacity: LenientCount(capacity),
        keep_alive: Seconds(Duration::from_millis(100)),
        byte_capacity: Some(ByteSize(byte_capacity)),
        buffer_percentage: 0,
    }
}

async fn open(config: &MemoryChannelConfig) -> Arc<dyn Channel> {
    let channel: Arc<dyn Channel> = Arc::new(MemoryChannel::new(config, &build_context("c1")));
    channel.start().await.expect("starts");
    channel
}

fn bodies_of(size: usize, count: usize) -> Batch {
    Batch::from_events((0..count).map(|_| Event::new(vec![b'x'; size])))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conforms() {
    let promises = Promises {
        capacity: Some(100),
        ordered: true,
        durable: false,
        concurrent_leases: true,
    };
    suite(promises, async || {
        Arc::new(MemoryChannel::new(&config(100, 0), &build_context("c1"))) as Arc<dyn Channel>
    })
    .await;
}

#[test]
fn settings_follow_flume() {
    let budget = |config: &MemoryChannelConfig| {
        slot_budget(config.byte_capacity, config.buffer_percentage, SLOT_BYTES)
    };
    let read = |pairs: &[(&str, &str)]| {
        let mut report = Report::new();
        let section = Section::of("a1.channels.c1", pairs.iter().copied());
        let config = MemoryChannelConfig::from_section(&section, &mut report);
        (config, report)
    };
    let (config, report) = read(&[("capacity", "-5"), ("byteCapacity", "800000")]);
    let config = config.expect("valid");
    assert_eq!(config.capacity.0, 100, "{report:?}");
    assert_eq!(budget(&config), Some(6400));
    assert!(read(&[("capacity", "50")]).0.is_none(), "100 > 50");
    assert!(read(&[("byteCapacityBufferPercentage", "101")]).0.is_none());
    let (config, _) = read(&[
        ("byteCapacity", "99"),
        ("byteCapacityBufferPercentage", "0"),
    ]);
    assert_eq!(budget(&config.expect("valid")), None, "under a slot");
    assert!(default_byte_capacity() > 1 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_has_a_largest_size() {
    let channel = open(&MemoryChannelConfig {
        transaction_capacity: LenientCount(10),
        ..config(100, 0)
    })
    .await;
    let refused = channel.put(numbers(0..11)).await;
    assert!(
        matches!(
            refused,
            Err(ChannelError::TooManyEvents { allowed: 10, .. })
        ),
        "{refused:?}"
    );
    channel.put(numbers(0..10)).await.expect("put");
    channel.put(numbers(10..20)).await.expect("put");
    let lease = channel.take(TakeLimit::events(50)).await.expect("take");
    assert_eq!(to_numbers(lease.batch()), (0..10).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn takes_join_and_cut_puts_at_the_limit() {
    let channel = open(&config(100, 0)).await;
    for first in [0, 15, 30] {
        channel.put(numbers(first..first + 15)).await.expect("put");
    }
    let mut seen = Vec::new();
    for expected in [20, 20, 5] {
        let lease = channel.take(TakeLimit::events(20)).await.expect("take");
        assert_eq!(lease.batch().len(), expected);
        seen.extend(to_numbers(lease.batch()));
        lease.commit().await.expect("commit");
    }
    assert_eq!(seen, (0..45).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn takes_respect_bytes_but_return_one_event() {
    let channel = open(&config(100, 0)).await;
    channel.put(bodies_of(1000, 5)).await.expect("put");
    let limit = |bytes| TakeLimit { events: 10, bytes };
    for (bytes, events) in [(10, 1), (2999, 2), (2000, 2)] {
        let lease = channel.take(limit(bytes)).await.expect("take");
        assert_eq!(lease.batch().len(), events, "{bytes}");
        lease.commit().await.expect("commit");
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_are_counted_in_slots_and_given_back_by_commit() {
    let channel = open(&config(100, 1000)).await;
    channel.put(bodies_of(0, 4)).await.expect("4 slots");
    channel.put(bodies_of(101, 3)).await.expect("6 slots");
    let full = channel.put(bodies_of(1, 1)).await;
    assert!(matches!(full, Err(ChannelError::Full { .. })), "{full:?}");
    let lease = channel.take(TakeLimit::events(5)).await.expect("take");
    let full = channel.put(bodies_of(1, 1)).await;
    assert!(full.is_err(), "leased events still hold their bytes");
    lease.commit().await.expect("commit");
    channel.put(bodies_of(600, 1)).await.expect("6 slots free");
    assert!(channel.put(bodies_of(1, 1)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_batch_larger_than_the_byte_capacity_goes_in_alone() {
    let channel = open(&config(100, 1000)).await;
    channel.put(bodies_of(1, 1)).await.expect("put");
    assert!(channel.put(bodies_of(5000, 2)).await.is_err());
    let lease = channel.take(TakeLimit::events(5)).await.expect("take");
    lease.commit().await.expect("commit");
    channel.put(bodies_of(5000, 2)).await.expect("alone");
    assert!(channel.put(bodies_of(1, 1)).await.is_err());
    for _ in 0..2 {
        let lease = channel.take(TakeLimit::events(1)).await.expect("take");
        lease.commit().await.expect("commit");
    }
    channel.put(bodies_of(100, 10)).await.expect("all free");
}

#[tokio::test(start_paused = true)]
async fn a_closed_channel_says_so() {
    let channel = open(&config(100, 0)).await;
    channel.put(numbers(0..1)).await.expect("put");
    let lease = channel.take(TakeLimit::events(1)).await.expect("take");
    channel.stop().await.expect("stop");
    let put = channel.put(numbers(1..2)).await;
    assert!(matches!(put, Err(ChannelError::Closed { .. })), "{put:?}");
    let take = channel.take(TakeLimit::events(1)).await;
    assert!(matches!(take, Err(ChannelError::Closed { .. })));
    drop(lease);
    channel.start().await.expect("start");
    let lease = channel.take(TakeLimit::events(1)).await.expect("take");
    assert_eq!(to_numbers(lease.batch()), [0], "contents outlive a stop");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_take_and_a_dropped_commit_lose_nothing() {
    let channel = open(&config(100, 0)).await;
    {
        let mut waiting = Box::pin(channel.take(TakeLimit::events(5)));
        let polled = std::future::poll_fn(|context| {
            std::task::Poll::Ready(waiting.as_mut().poll(context).is_pending())
        });
        assert!(polled.await);
        channel.put(numbers(0..3)).await.expect("put");
    }
    let lease = channel.take(TakeLimit::events(5)).await.expect("take");
    assert_eq!(lease.batch().len(), 3);
    drop(lease.commit());
    let lease = channel.take(TakeLimit::events(5)).await.expect("take");
    assert_eq!(
        lease.batch().len(),
        3,
        "a commit that never ran is a rollback"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_put_reaches_every_waiting_take() {
    let channel = open(&MemoryChannelConfig {
        keep_alive: Seconds(Duration::from_secs(30)),
        ..config(100, 0)
    })
    .await;
    let takers: Vec<_> = (0..4)
        .map(|_| {
            let channel = Arc::clone(&channel);
            tokio::spawn(async move {
                let lease = channel.take(TakeLimit::events(1)).await.expect("take");
                let number = to_numbers(lease.batch());
                lease.commit().await.expect("commit");
                number
            })
        })
        .collect();
    channel.put(numbers(0..4)).await.expect("put");
    let mut seen = Vec::new();
    for taker in takers {
        let taken = tokio::time::timeout(Duration::from_secs(20), taker).await;
        seen.extend(taken.expect("woken").expect("no panic"));
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3]);
}

/// Random puts, takes, commits and rollbacks against a model that is a sorted set of numbers.
#[tokio::test(start_paused = true)]
async fn random_use_matches_a_model() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let channel = open(&config(200, 4000)).await;
    let (mut next, mut waiting) = (0, std::collections::BTreeSet::new());
    let mut leases: Vec<Lease> = Vec::new();
    for _ in 0..3000 {
        match random.random_range(0..4) {
            0 => {
                let count = random.random_range(1..30);
                if channel.put(numbers(next..next + count)).await.is_ok() {
                    waiting.extend(next..next + count);
                    next += count;
                }
            }
            1 if leases.len() < 5 => {
                let limit = random.random_range(1..40);
                let lease = channel.take(TakeLimit::events(limit)).await.expect("take");
                let expected: Vec<_> = waiting.iter().copied().take(limit).collect();
                assert_eq!(to_numbers(lease.batch()), expected, "seed {seed}");
                waiting.retain(|number| !expected.contains(number));
                leases.push(lease);
            }
            choice if !leases.is_empty() => {
                let lease = leases.swap_remove(random.random_range(0..leases.len()));
                if choice == 2 {
                    lease.commit().await.expect("commit");
                } else {
                    waiting.extend(to_numbers(lease.batch()));
                    lease.rollback();
                }
            }
            _ => {}
        }
        let leased: usize = leases.iter().map(|lease| lease.batch().len()).sum();
        channel.refresh();
        let size = channel.counters().get(Metric::ChannelSize);
        assert_eq!(size as usize, waiting.len() + leased, "seed {seed}");
    }
    for lease in leases {
        waiting.extend(to_numbers(lease.batch()));
    }
    loop {
        let lease = channel.take(TakeLimit::events(50)).await.expect("take");
        if lease.is_empty() {
            break;
        }
        for number in to_numbers(lease.batch()) {
            assert_eq!(waiting.pop_first(), Some(number), "seed {seed}");
        }
        lease.commit().await.expect("commit");
    }
    assert!(waiting.is_empty());
    channel.put(numbers(0..30)).await.expect("all room is free");
}

#[test]
fn headers_do_not_count_as_body_bytes() {
    let event = Event {
        headers: Headers::single("a", &"v".repeat(1000)),
        body: vec![1u8; 100].into(),
    };
    let (slots, bytes) = measure(&Batch::from_events([event]), SLOT_BYTES);
    assert_eq!(slots, 1);
    assert!(bytes > 1100);
}

/// As the agent does at a reload: the old channel is stopped, the new one is built with what it held.
fn reloaded(channel: &dyn Channel, config: &MemoryChannelConfig) -> MemoryChannel {
    let context = flafka_flow::registry::BuildContext {
        contents: channel.contents(),
        ..build_context("c1")
    };
    MemoryChannel::new(config, &context)
}

#[tokio::test(start_paused = true)]
async fn a_reload_keeps_queued_and_leased_events_and_changes_the_capacity() {
    let old = MemoryChannel::new(&config(10, 0), &build_context("c1"));
    old.start().await.expect("start");
    old.put(numbers(0..8)).await.expect("put");
    let lease = old.take(TakeLimit::events(3)).await.expect("take");
    old.stop().await.expect("stop");
    let new = reloaded(&old, &config(6, 0));
    new.start().await.expect("start");
    new.refresh();
    assert_eq!(new.counters().get(Metric::ChannelSize), 8);
    assert_eq!(new.counters().get(Metric::ChannelCapacity), 6);
    lease.rollback();
    let full = new.put(numbers(8..9)).await;
    assert!(matches!(full, Err(ChannelError::Full { .. })), "{full:?}");
    let lease = new.take(TakeLimit::events(3)).await.expect("take");
    assert_eq!(to_numbers(lease.batch()), [0, 1, 2], "in their order");
    lease.commit().await.expect("commit");
    new.put(numbers(8..9)).await.expect("five of six were held");
    let full = new.put(numbers(9..10)).await;
    assert!(matches!(full, Err(ChannelError::Full { .. })), "{full:?}");
    new.stop().await.expect("stop");
    let larger = reloaded(&new, &config(20, 0));
    larger.start().await.expect("start");
    larger.put(numbers(9..23)).await.expect("room for fourteen");
    let mut seen = Vec::new();
    while seen.len() < 20 {
        let lease = larger.take(TakeLimit::events(100)).await.expect("take");
        seen.extend(to_numbers(lease.batch()));
        lease.commit().await.expect("commit");
    }
    assert_eq!(seen, (3..23).collect::<Vec<_>>());
}
