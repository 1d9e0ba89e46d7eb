//! Nanoseconds per record for building, validating and reading batches, per codec.
//!
//! `cargo bench -p flafka-kafka-wire --bench records`; budget: building and reading a 200-byte record without codec
//! together below 40 ns. Prints the best of several rounds, because the machines this runs on are shared.

use std::hint::black_box;
use std::time::{Duration, Instant};

use flafka_kafka_wire::records::{BatchBuilder, Compression, records, validate};

const RECORDS: usize = 500;
const ROUNDS: usize = 300;

fn main() {
    let line =
        b"2026-11-22T10:00:00Z host-17 nginx[4242]: GET /index.html 200 5123 \"Mozilla/5.0\" "
            .repeat(3);
    let value = &line[..200];
    for codec in Compression::ALL {
        let mut builder = BatchBuilder::new(codec);
        let build = best(|| {
            builder.reserve(RECORDS * 240);
            for index in 0..RECORDS {
                let headers = [(&b"host"[..], Some(&b"host-17"[..]))].into_iter();
                builder
                    .push(
                        1_700_000_000_000 + index as i64,
                        None,
                        Some(black_box(value)),
                        headers,
                    )
                    .expect("a batch of 110 KiB");
            }
            builder.finish().expect("a batch with records")
        });
        let batch = build.1;
        let check = best(|| validate(black_box(&batch)).expect("a valid batch"));
        let mut scratch = Vec::new();
        let read = best(|| {
            let mut sum = 0;
            let iter = records(&check.1, black_box(&batch), &mut scratch, 1 << 24);
            for record in iter.expect("a valid batch") {
                let record = record.expect("a valid record");
                sum += record.value.map_or(0, <[u8]>::len) + record.headers.len();
            }
            sum
        });
        eprintln!(
            "{codec:>6}: build {:6.1} ns, validate {:5.2} ns, read {:6.1} ns per record; {} bytes",
            build.0,
            check.0,
            read.0,
            batch.len(),
        );
    }
}

/// Runs `work` several times; nanoseconds per record of the fastest run, and the last result.
fn best<T>(mut work: impl FnMut() -> T) -> (f64, T) {
    let mut fastest = Duration::MAX;
    let mut result = work();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        result = black_box(work());
        fastest = fastest.min(start.elapsed());
    }
    (fastest.as_nanos() as f64 / RECORDS as f64, result)
}
