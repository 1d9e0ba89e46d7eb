//! The channel against a model in memory: puts, takes, commits and rollbacks of several leases, restarts, in random order.
//!
//! `FLAFKA_SEED=<number>` runs one seed again; every failure names it.

use std::collections::BTreeSet;
use std::path::Path;

use flafka_flow::channel::{Channel, ChannelError, Lease, TakeLimit};
use flafka_flow::conformance::{numbers, to_numbers};
use flafka_flow::counters::Metric;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::FileChannel;
use super::tests::bare;

const SEEDS: [u64; 3] = [1, 2, 3];
const STEPS: usize = 250;
const CAPACITY: usize = 120;
const MOST_LEASES: usize = 5;

/// What a channel must hold. Events are numbered in the order of their puts.
#[derive(Default)]
struct Model {
    next: usize,
    waiting: BTreeSet<usize>,
    /// Numbers of each lease that is out, and whether the channel was closed since.
    leased: Vec<(Vec<usize>, bool)>,
    delivered: BTreeSet<usize>,
}

impl Model {
    fn held(&self) -> usize {
        let leased = self.leased.iter().filter(|(_, is_void)| !is_void);
        self.waiting.len() + leased.map(|(numbers, _)| numbers.len()).sum::<usize>()
    }

    /// A restart: leases are void, their events wait again.
    fn restart(&mut self) {
        for (numbers, is_void) in &mut self.leased {
            if !std::mem::replace(is_void, true) {
                self.waiting.extend(numbers.iter().copied());
            }
        }
    }
}

/// How the channel is set up.
struct Setup {
    dirs: &'static [&'static str],
    cache_bytes: &'static str,
    /// Oldest first, always.
    ordered: bool,
}

struct Run<'r> {
    random: SmallRng,
    channel: FileChannel,
    model: Model,
    leases: Vec<Lease>,
    setup: &'r Setup,
}

impl Run<'_> {
    async fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..40 => self.put().await,
            40..65 => self.take().await,
            65..85 => self.settle(true).await,
            85..97 => self.settle(false).await,
            _ => self.restart().await,
        }
        let size = self.channel.counters().get(Metric::ChannelSize);
        assert_eq!(size, self.model.held() as i64, "ChannelSize");
    }

    async fn put(&mut self) {
        let (first, count) = (self.model.next, self.random.random_range(1..20));
        let fits = self.model.held() + count <= CAPACITY;
        match self.channel.put(numbers(first..first + count)).await {
            Ok(()) => {
                assert!(fits, "more than the capacity");
                self.model.waiting.extend(first..first + count);
                self.model.next += count;
            }
            Err(ChannelError::Full { .. }) => assert!(!fits, "there was room"),
            Err(error) => panic!("put: {}", error.chain()),
        }
    }

    async fn take(&mut self) {
        if self.model.leased.len() >= MOST_LEASES || self.model.waiting.is_empty() {
            return;
        }
        let limit = self.random.random_range(1..40);
        let lease = self
            .channel
            .take(TakeLimit::events(limit))
            .await
            .expect("take");
        let taken = to_numbers(lease.batch());
        assert!(!taken.is_empty() && taken.len() <= limit, "{taken:?}");
        if self.setup.ordered {
            let oldest = self.model.waiting.iter().take(taken.len());
            assert!(oldest.eq(taken.iter()), "not the oldest: {taken:?}");
        }
        for number in &taken {
            assert!(
                self.model.waiting.remove(number),
                "{number} was not waiting"
            );
        }
        self.model.leased.push((taken, false));
        self.leases.push(lease);
    }

    async fn settle(&mut self, commit: bool) {
        if self.leases.is_empty() {
            return;
        }
        let at = self.random.random_range(0..self.leases.len());
        let lease = self.leases.swap_remove(at);
        let (numbers, is_void) = self.model.leased.swap_remove(at);
        match commit {
            true => assert_eq!(lease.commit().await.is_err(), is_void, "commit"),
            false => lease.rollback(),
        }
        match (is_void, commit) {
            (true, _) => {}
            (false, true) => {
                for number in numbers {
                    assert!(self.model.delivered.insert(number), "{number} comes twice");
                }
            }
            (false, false) => self.model.waiting.extend(numbers),
        }
    }

    async fn restart(&mut self) {
        self.channel.stop().await.expect("stop");
        self.model.restart();
        self.channel.start().await.expect("start");
    }
}

async fn play(setup: &Setup) {
    let seeds = match std::env::var("FLAFKA_SEED").map(|seed| seed.parse()) {
        Ok(Ok(seed)) => vec![seed],
        _ => SEEDS.to_vec(),
    };
    for seed in seeds {
        eprintln!("FLAFKA_SEED={seed}");
        let root = tempfile::tempdir().expect("temporary folder");
        let dirs: Vec<_> = setup
            .dirs
            .iter()
            .map(|name| root.path().join(name).display().to_string())
            .collect();
        let capacity = CAPACITY.to_string();
        let more = [
            ("capacity", capacity.as_str()),
            ("transactionCapacity", "50"),
            ("flafka.cacheBytes", setup.cache_bytes),
        ];
        let channel = bare(Path::new(&dirs.join(",")), &more);
        channel.start().await.expect("start");
        let mut run = Run {
            random: SmallRng::seed_from_u64(seed),
            channel,
            model: Model::default(),
            leases: Vec::new(),
            setup,
        };
        for _ in 0..STEPS {
            run.step().await;
        }
        while !run.leases.is_empty() {
            run.settle(true).await;
        }
        while !run.model.waiting.is_empty() {
            run.take().await;
            run.settle(true).await;
        }
        assert_eq!(
            run.model.delivered.len(),
            run.model.next,
            "all of them, once"
        );
        run.channel.stop().await.expect("stop");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_directory_with_events_in_memory() {
    let setup = Setup {
        dirs: &["a"],
        cache_bytes: "1000000",
        ordered: true,
    };
    play(&setup).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_directory_with_few_events_in_memory() {
    let setup = Setup {
        dirs: &["a"],
        cache_bytes: "60",
        ordered: true,
    };
    play(&setup).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_directories_with_few_events_in_memory() {
    let setup = Setup {
        dirs: &["a", "b", "c"],
        cache_bytes: "60",
        ordered: false,
    };
    play(&setup).await;
}
