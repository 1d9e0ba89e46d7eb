//! The log itself beside the disk: groups committed one after the other through the log's interface, and the disk's own
//! synced appends of as many bytes, by turns, so that the disk's moods fall on all of them.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use flafka_kafka_wire::records::{BatchBuilder, Compression};
use flafka_log_store::{
    AppendStamp, Durability as LogDurability, Log, LogOptions, Op, RealFs, StreamId,
    StreamSettings, SystemClock,
};

use crate::arguments::Arguments;
use crate::limits;
use crate::sample::{Durability, Percentiles, Sample};
use crate::workplace::Workplace;

/// Turns of each load, and the time of one.
const TURNS: usize = 5;
const TIME: Duration = Duration::from_secs(2);
/// Bytes of a record's value.
const VALUE: usize = 200;
/// Room that a record takes besides its value, about.
const RECORD_OVERHEAD: usize = 10;

/// Groups of one shape.
#[derive(Debug, Clone, Copy)]
struct Shape {
    name: &'static str,
    streams: usize,
    /// Bytes appended to each stream in a group.
    bytes: usize,
}

/// One stream and many, with as many bytes in a group.
const SHAPES: [Shape; 3] = [
    Shape {
        name: "1 MiB to one stream",
        streams: 1,
        bytes: 1 << 20,
    },
    Shape {
        name: "256 KiB to one stream",
        streams: 1,
        bytes: 256 << 10,
    },
    Shape {
        name: "64 × 4 KiB to 64 streams",
        streams: 64,
        bytes: 4 << 10,
    },
];

/// The disk's limits and the log's rates.
pub(crate) fn run(
    workplace: &Workplace,
    arguments: &Arguments,
    durability: Durability,
) -> Result<Vec<Sample>> {
    let folder = workplace.fresh()?;
    let (turns, time) = match arguments.quick {
        true => (1, TIME / 10),
        false => (TURNS, TIME),
    };
    let mut bare = Timed::default();
    let mut logs = SHAPES.map(|shape| (shape, Timed::default()));
    for turn in 0..turns {
        let path = folder.path().join(format!("bare-{turn}"));
        bare.add(limits::synced_write_waits(&path, 1 << 20, time)?);
        std::fs::remove_file(&path)?;
        for (shape, timed) in &mut logs {
            let dir = folder.path().join(format!("log-{turn}-{}", shape.streams));
            timed.add(shape.groups(&dir, durability, time)?);
            std::fs::remove_dir_all(&dir)?;
        }
    }
    let mut samples = vec![bare.sample("disk: append 1 MiB + fdatasync", 1 << 20, None)];
    for (shape, timed) in logs {
        let name = format!("log: groups of {}", shape.name);
        samples.push(timed.sample(&name, shape.streams * shape.bytes, Some(durability)));
    }
    Ok(samples)
}

/// Waits of groups committed one after the other.
#[derive(Debug, Default)]
struct Timed {
    waits: Vec<Duration>,
}

impl Timed {
    fn add(&mut self, waits: Vec<Duration>) {
        self.waits.extend(waits);
    }

    fn sample(self, name: &str, group: usize, durability: Option<Durability>) -> Sample {
        let count = self.waits.len() as u64;
        Sample {
            name: name.to_owned(),
            durability,
            events: count,
            bytes: count * group as u64,
            wall: self.waits.iter().sum(),
            cost: None,
            waits: Percentiles::of(self.waits),
        }
    }
}

impl Shape {
    fn groups(self, dir: &Path, durability: Durability, time: Duration) -> Result<Vec<Duration>> {
        let mut builder = BatchBuilder::new(Compression::None);
        while builder.len_bytes() + VALUE + RECORD_OVERHEAD <= self.bytes {
            builder.push(1, None, Some(&[b'x'; VALUE]), std::iter::empty())?;
        }
        let batches = builder.finish()?;
        let clock = Arc::new(SystemClock::new());
        let (log, _) =
            Log::open(LogOptions::new(dir), Arc::new(RealFs), clock).context("open the log")?;
        let settings = StreamSettings {
            durability: match durability {
                Durability::Fsync => LogDurability::Fsync,
                Durability::Os => LogDurability::Os,
            },
            ..StreamSettings::default()
        };
        let streams = (0..self.streams)
            .map(|at| {
                log.create_stream(&format!("topic/t/{at}"), settings.clone())
                    .wait()
            })
            .collect::<Result<Vec<StreamId>, _>>()?;
        let (begun, mut waits) = (Instant::now(), Vec::new());
        while begun.elapsed() < time {
            let ops = streams.iter().map(|stream| Op::Append {
                stream: *stream,
                batches: batches.clone(),
                stamp: AppendStamp::AsStream,
            });
            let asked = Instant::now();
            log.commit_blocking(ops.collect())?;
            waits.push(asked.elapsed());
        }
        log.close_blocking()?;
        Ok(waits)
    }
}
