//! What sinks cost: nanoseconds per event of the serializers, and megabytes a second of
//! file_roll with and without a sync before each commit.
//!
//! `cargo bench -p flafka-sinks --bench rates -- [directory]`; 200-byte bodies, one header,
//! transactions of 1000 events. Budget: `TEXT` below 20 ns an event, file_roll at 200 MB/s or
//! more. Prints the best of several rounds, because the machines this runs on are shared; the
//! directory decides which disk is measured.

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use flafka_flow::channel::{Channel, ChannelError, Lease, Settle, TakeLimit};
use flafka_flow::conformance::doubles::build_context;
use flafka_flow::counters::{ComponentKind, Counters, sets};
use flafka_flow::settings::{Report, Section};
use flafka_flow::sink::Status;
use flafka_flow::{Batch, BatchBuilder, Headers};
use flafka_sinks::SINKS;
use flafka_sinks::serializers::{AvroEventConfig, Compression, SerializerConfig};

const EVENTS: usize = 1000;
const BODY: usize = 200;
const ROUNDS: usize = 200;
/// Batches written by one run of file_roll: 400 MB.
const BATCHES: usize = 2000;

fn main() {
    let batch = batch();
    let avro = |compression| {
        SerializerConfig::AvroEvent(AvroEventConfig {
            block_bytes: 2_048_000,
            compression,
        })
    };
    for (name, config) in [
        ("TEXT", SerializerConfig::default()),
        ("AVRO_EVENT", avro(Compression::Null)),
        ("AVRO_EVENT snappy", avro(Compression::Snappy)),
        ("AVRO_EVENT deflate", avro(Compression::Deflate)),
    ] {
        let mut serializer = config.build();
        let mut out = Vec::new();
        let mut fastest = Duration::MAX;
        for _ in 0..ROUNDS {
            out.clear();
            let started = Instant::now();
            serializer
                .write(black_box(&batch), &mut out)
                .expect("our own events");
            black_box(&out);
            fastest = fastest.min(started.elapsed());
        }
        let each = fastest.as_nanos() as f64 / EVENTS as f64;
        eprintln!("{name:>18}: {each:7.1} ns per event, {} bytes", out.len());
    }
    let directory = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let directory = directory.map_or_else(std::env::temp_dir, PathBuf::from);
    for batch_size in ["1000", "100"] {
        for fsync in ["false", "true"] {
            let megabytes: Vec<_> = (0..3)
                .map(|_| file_roll(&directory, &batch, batch_size, fsync))
                .collect();
            let best = megabytes.iter().copied().fold(0.0, f64::max);
            eprintln!(
                "file_roll, batchSize {batch_size:>4}, fsync {fsync:>5}: {best:6.0} MB/s ({megabytes:.0?})"
            );
        }
    }
}

fn batch() -> Batch {
    let mut builder = BatchBuilder::with_capacity(EVENTS);
    let set = builder.headers(Headers::single("file", "/var/log/nginx/access.log"));
    for number in 0..EVENTS {
        let line = format!("{number:08} ");
        builder.push_with(set, |own| {
            own.extend_from_slice(line.as_bytes());
            own.resize(own.len() + BODY - line.len(), b'x');
        });
    }
    builder.finish()
}

/// Megabytes a second from start to the last commit.
fn file_roll(directory: &std::path::Path, batch: &Batch, batch_size: &str, fsync: &str) -> f64 {
    let directory = tempfile::tempdir_in(directory).expect("a directory");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let shown = directory.path().display().to_string();
    let settings = [
        ("sink.directory", shown.as_str()),
        ("sink.batchSize", batch_size),
        ("flafka.fsync", fsync),
    ];
    let section = Section::of("b.sinks.k", settings);
    let events: usize = batch_size.parse().expect("a number");
    let supply = Arc::new(Supply {
        batch: batch.slice(0..events),
        left: AtomicUsize::new(BATCHES * EVENTS / events),
        counters: Arc::new(Counters::new(
            ComponentKind::Channel,
            "c",
            sets::CHANNEL,
            true,
        )),
    });
    let entry = SINKS
        .iter()
        .find(|entry| entry.description.names.matches("file_roll"))
        .expect("listed");
    let mut report = Report::new();
    (entry.check)(&section, &mut report);
    assert!(!report.has_errors(), "{report:?}");
    let mut sink = (entry.build)(&section, supply, &build_context("k")).expect("builds");
    let took = runtime.block_on(async {
        sink.start().await.expect("starts");
        let started = Instant::now();
        while sink.process().await.expect("works") == Status::Ready {}
        let took = started.elapsed();
        sink.stop().await.expect("stops");
        took
    });
    (BATCHES * EVENTS * BODY) as f64 / took.as_secs_f64() / 1e6
}

/// A channel that has the same batch many times.
struct Supply {
    batch: Batch,
    left: AtomicUsize,
    counters: Arc<Counters>,
}

struct Forget;

#[async_trait]
impl Settle for Forget {
    async fn commit(self: Box<Self>) -> Result<(), ChannelError> {
        Ok(())
    }

    fn rollback(self: Box<Self>) {}
}

#[async_trait]
impl Channel for Supply {
    async fn start(&self) -> Result<(), ChannelError> {
        Ok(())
    }

    async fn put(&self, _batch: Batch) -> Result<(), ChannelError> {
        Ok(())
    }

    async fn take(&self, _limit: TakeLimit) -> Result<Lease, ChannelError> {
        let taken = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        Ok(match taken {
            Ok(_) => Lease::new(self.batch.clone(), Vec::new(), Box::new(Forget)),
            Err(_) => Lease::empty(),
        })
    }

    async fn stop(&self) -> Result<(), ChannelError> {
        Ok(())
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}
