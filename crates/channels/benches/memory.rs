//! What the memory channel costs: nanoseconds per event of put, take and commit.
//!
//! `cargo bench -p flafka-channels --bench memory`; 200-byte bodies. Budget: a transaction of
//! 1000 events below 5 ns an event, most of it the walk that measures the bodies. Prints the best
//! of several rounds, because the machines this runs on are shared.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flafka_channels::memory::{MemoryChannel, MemoryChannelConfig};
use flafka_flow::channel::{Channel, TakeLimit};
use flafka_flow::conformance::doubles::build_context;
use flafka_flow::settings::{ByteSize, LenientCount, Seconds};
use flafka_flow::{Batch, BatchBuilder, Headers};

const ROUNDS: usize = 200;
const BATCHES: usize = 200;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    for (name, put, take, byte_capacity) in [
        ("put 1000, take 1000", 1000, 1000, 1 << 30),
        ("the same, no byte capacity", 1000, 1000, 0),
        ("put 1000, take 100", 1000, 100, 1 << 30),
        ("put 100, take 1000", 100, 1000, 1 << 30),
        ("put 1, take 1000", 1, 1000, 1 << 30),
    ] {
        let channel = channel(byte_capacity);
        let batch = batch(put);
        let mut fastest = Duration::MAX;
        for _ in 0..ROUNDS {
            let took = runtime.block_on(one_after_the_other(&channel, &batch, take));
            fastest = fastest.min(took);
        }
        let each = fastest.as_nanos() as f64 / (BATCHES * put) as f64;
        eprintln!("{name:>28}: {each:7.2} ns per event");
    }
    let channel = channel(1 << 30);
    let took = runtime.block_on(side_by_side(&channel, batch(1000), 20 * BATCHES));
    let each = took.as_nanos() as f64 / (20 * BATCHES * 1000) as f64;
    eprintln!("{:>28}: {each:7.2} ns per event", "two tasks, 1000 each");
}

fn channel(byte_capacity: u64) -> Arc<MemoryChannel> {
    let config = MemoryChannelConfig {
        capacity: LenientCount(1_000_000),
        transaction_capacity: LenientCount(10_000),
        keep_alive: Seconds(Duration::from_secs(3)),
        byte_capacity: Some(ByteSize(byte_capacity)),
        buffer_percentage: 20,
    };
    Arc::new(MemoryChannel::new(&config, &build_context("c1")))
}

fn batch(events: usize) -> Batch {
    let mut builder = BatchBuilder::with_capacity(events);
    let set = builder.headers(Headers::single("file", "/var/log/nginx/access.log"));
    for _ in 0..events {
        builder.push_copy(set, &[b'x'; 200]);
    }
    builder.finish()
}

async fn one_after_the_other(channel: &MemoryChannel, batch: &Batch, take: usize) -> Duration {
    channel.start().await.expect("starts");
    let started = Instant::now();
    for _ in 0..BATCHES {
        channel.put(batch.clone()).await.expect("room");
    }
    let mut left = BATCHES * batch.len();
    while left > 0 {
        let lease = channel.take(TakeLimit::events(take)).await.expect("open");
        left -= lease.batch().len();
        lease.commit().await.expect("memory");
    }
    started.elapsed()
}

async fn side_by_side(channel: &Arc<MemoryChannel>, batch: Batch, batches: usize) -> Duration {
    channel.start().await.expect("starts");
    let started = Instant::now();
    let taker = tokio::spawn({
        let (channel, mut left) = (Arc::clone(channel), batches * batch.len());
        async move {
            while left > 0 {
                let lease = channel.take(TakeLimit::events(1000)).await.expect("open");
                left -= lease.batch().len();
                lease.commit().await.expect("memory");
            }
        }
    });
    for _ in 0..batches {
        channel.put(batch.clone()).await.expect("room");
    }
    taker.await.expect("no panic");
    started.elapsed()
}
