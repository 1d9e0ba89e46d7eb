//! The channel against a model in memory: puts, takes, commits and rollbacks of several leases, restarts, in random order.
//!
//! `FLAFKA_SEED=<number>` runs one seed again; every failure names it.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;

use flafka_flow::channel::{Channel, ChannelError, Lease, TakeLimit};
use flafka_flow::conformance::{numbers, to_numbers};
use flafka_flow::counters::Metric;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::SpillableChannel;
use super::tests::bare;

const SEEDS: [u64; 4] = [1, 2, 3, 4];
const STEPS: usize = 250;
const MOST_LEASES: usize = 5;

struct Run {
    random: SmallRng,
    channel: SpillableChannel,
    capacity: usize,
    next: usize,
    waiting: BTreeSet<usize>,
    leases: Vec<Lease>,
}

impl Run {
    async fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..45 => self.put().await,
            45..70 => self.take().await,
            70..86 => self.settle(true).await,
            86..98 => self.settle(false).await,
            _ => self.restart().await,
        }
        self.channel.refresh();
        let size = self.channel.counters().get(Metric::ChannelSize);
        assert_eq!(size as usize, self.held(), "ChannelSize");
    }

    fn held(&self) -> usize {
        let leased = self.leases.iter().map(|lease| lease.batch().len());
        self.waiting.len() + leased.sum::<usize>()
    }

    async fn put(&mut self) {
        let (first, count) = (self.next, self.random.random_range(1..20));
        match self.channel.put(numbers(first..first + count)).await {
            Ok(()) => {
                assert!(
                    self.held() + count <= self.capacity,
                    "more than the capacity"
                );
                self.waiting.extend(first..first + count);
                self.next += count;
            }
            // A batch does not go to both parts, so each may have some room left.
            Err(ChannelError::Full { .. }) => {
                assert!(self.held() + 2 * count > self.capacity, "there was room");
            }
            Err(error) => panic!("put: {}", error.chain()),
        }
    }

    async fn take(&mut self) {
        if self.leases.len() >= MOST_LEASES || self.waiting.is_empty() {
            return;
        }
        let limit = self.random.random_range(1..40);
        let lease = self.channel.take(TakeLimit::events(limit)).await;
        let lease = lease.expect("take");
        let taken = to_numbers(lease.batch());
        assert!(!taken.is_empty() && taken.len() <= limit, "{taken:?}");
        let oldest: Vec<_> = self.waiting.iter().copied().take(taken.len()).collect();
        assert_eq!(taken, oldest, "not the oldest");
        self.waiting.retain(|number| !taken.contains(number));
        self.leases.push(lease);
    }

    async fn settle(&mut self, commit: bool) {
        if self.leases.is_empty() {
            return;
        }
        let at = self.random.random_range(0..self.leases.len());
        let lease = self.leases.swap_remove(at);
        match commit {
            true => lease.commit().await.expect("commit"),
            false => {
                self.waiting.extend(to_numbers(lease.batch()));
                lease.rollback();
            }
        }
    }

    /// In order, with no lease out. The memory part comes behind the overflow then, so the events get new numbers: as they
    /// come out, all of them are put again.
    async fn restart(&mut self) {
        while !self.leases.is_empty() {
            self.settle(false).await;
        }
        self.channel.stop().await.expect("stop");
        assert_eq!(self.channel.held.in_memory.load(Ordering::Relaxed), 0);
        self.channel.start().await.expect("start");
        let mut seen = BTreeSet::new();
        while seen.len() < self.waiting.len() {
            let lease = self.channel.take(TakeLimit::events(30)).await;
            let lease = lease.expect("take");
            assert!(!lease.is_empty(), "{:?} are gone", self.waiting);
            seen.extend(to_numbers(lease.batch()));
            lease.commit().await.expect("commit");
        }
        assert_eq!(seen, self.waiting, "over a restart");
        self.waiting.clear();
        while self.held() < self.capacity / 3 {
            self.put().await;
        }
    }
}

async fn play(memory: usize, overflow: usize, cache_bytes: &str) {
    let seeds = match std::env::var("FLAFKA_SEED").map(|seed| seed.parse()) {
        Ok(Ok(seed)) => vec![seed],
        _ => SEEDS.to_vec(),
    };
    for seed in seeds {
        eprintln!("FLAFKA_SEED={seed}");
        let root = tempfile::tempdir().expect("temporary folder");
        // So that a stop has room for the memory part.
        let room = (overflow + memory).to_string();
        let memory_text = memory.to_string();
        let more = [
            ("memoryCapacity", memory_text.as_str()),
            ("overflowCapacity", room.as_str()),
            ("transactionCapacity", "50"),
            ("overflowTimeout", "0"),
            ("flafka.durability", "os"),
            ("flafka.cacheBytes", cache_bytes),
        ];
        let channel = bare(root.path(), &more);
        channel.start().await.expect("start");
        let mut run = Run {
            random: SmallRng::seed_from_u64(seed),
            channel,
            capacity: overflow + 2 * memory,
            next: 0,
            waiting: BTreeSet::new(),
            leases: Vec::new(),
        };
        for _ in 0..STEPS {
            if run.held() > overflow {
                run.settle(true).await;
                run.take().await;
                continue;
            }
            run.step().await;
        }
        while !run.leases.is_empty() {
            run.settle(true).await;
        }
        while !run.waiting.is_empty() {
            run.take().await;
            run.settle(true).await;
        }
        run.channel.stop().await.expect("stop");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_parts_with_events_of_the_disk_in_memory() {
    play(30, 100, "1000000").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_parts_with_few_events_of_the_disk_in_memory() {
    play(30, 100, "60").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hardly_any_memory() {
    play(7, 100, "60").await;
}
