//! How close the log comes to the disk: `commit_rate [directory] [seconds]`.
//!
//! Prints raw write + fdatasync of the same sizes beside the log's commits, so that the ratio means something on any
//! machine: 1 MiB commits of 200-byte records to one stream, and groups of 64 streams with 4 KiB each.
//!
//! `commit_rate <directory> <seconds> segments` compares the ways a segment file could be laid out instead: growing,
//! space reserved, zeroes written beforehand or ahead of the data and counted, and written over a second time (recycled).
//!
//! `commit_rate <directory> <seconds> recycling` compares commits to a stream whose segments are freed as fast as they
//! fill, with and without recycling of their files.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flafka_kafka_wire::records::{BatchBuilder, Compression};
use flafka_log_store::{
    AppendStamp, Log, LogOptions, Offset, Op, OpOutcome, RealFs, StreamId, StreamSettings,
    SystemClock,
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().unwrap_or_else(|| ".".to_string());
    let seconds: u64 = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let dir = Path::new(&parent).join("commit-rate-data");
    let time = Duration::from_secs(seconds);
    std::fs::create_dir_all(&dir)?;
    let mut out = std::io::stdout().lock();
    match arguments.next().as_deref() {
        Some("segments") => {
            layouts(&mut out, &dir, time)?;
            return Ok(std::fs::remove_dir_all(&dir)?);
        }
        Some("recycling") => {
            recycling(&mut out, &dir, time)?;
            return Ok(std::fs::remove_dir_all(&dir)?);
        }
        _ => {}
    }
    for _ in 0..2 {
        report(&mut out, "raw  1 MiB", 1 << 20, raw(&dir, 1 << 20, time)?)?;
        report(&mut out, "log  1 MiB", 1 << 20, bulk(&dir, time)?)?;
        report(
            &mut out,
            "raw  256 KiB",
            256 << 10,
            raw(&dir, 256 << 10, time)?,
        )?;
        report(&mut out, "log  64 x 4 KiB", 256 << 10, many(&dir, time)?)?;
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

/// Sorted times of every commit.
fn repeat(
    time: Duration,
    mut body: impl FnMut() -> Result<(), Box<dyn Error>>,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    let start = Instant::now();
    let mut times = Vec::new();
    while start.elapsed() < time {
        let one = Instant::now();
        body()?;
        times.push(one.elapsed());
    }
    Ok(times)
}

fn report(
    out: &mut impl Write,
    name: &str,
    bytes: usize,
    mut times: Vec<Duration>,
) -> std::io::Result<()> {
    let total: Duration = times.iter().sum();
    let rate = (bytes * times.len()) as f64 / total.as_secs_f64() / 1e6;
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    let (p50, p99) = (at(50), at(99));
    writeln!(
        out,
        "{name:16} {rate:8.1} MB/s  p50 {p50:7.2} ms  p99 {p99:7.2} ms  n {}",
        times.len()
    )
}

fn raw(dir: &Path, size: usize, time: Duration) -> Result<Vec<Duration>, Box<dyn Error>> {
    let path = dir.join("raw");
    let mut file = std::fs::File::create(&path)?;
    let bytes = vec![7; size];
    let times = repeat(time, || {
        file.write_all(&bytes)?;
        Ok(file.sync_data()?)
    })?;
    std::fs::remove_file(path)?;
    Ok(times)
}

/// How a segment file could lie on the disk before it is written.
#[derive(Clone, Copy, PartialEq)]
enum Layout {
    Growing,
    Reserved,
    Zeroed,
    /// In steps, by the writer, inside the time that is measured.
    ZeroedAhead,
    Recycled,
}

/// Step of [`Layout::ZeroedAhead`].
const AHEAD_BYTES: u64 = 16 << 20;
/// Bytes of the file that is written; the next one starts when it is full.
const LAYOUT_FILE_BYTES: u64 = 256 << 20;

/// All layouts in turn and several times over, so that the disk's moods fall on all of them.
fn layouts(out: &mut impl Write, dir: &Path, time: Duration) -> Result<(), Box<dyn Error>> {
    for size in [64 << 10, 1 << 20] {
        let names = [
            ("growing", Layout::Growing),
            ("reserved", Layout::Reserved),
            ("zeroed", Layout::Zeroed),
            ("zeroed ahead", Layout::ZeroedAhead),
            ("recycled", Layout::Recycled),
        ];
        let mut times: [Vec<Duration>; 5] = Default::default();
        for _ in 0..5 {
            for ((_, layout), times) in names.iter().zip(&mut times) {
                times.extend(lay_out(dir, size, time / 5, *layout)?);
            }
        }
        for ((name, _), times) in names.iter().zip(times) {
            report(out, &format!("{name} {} KiB", size >> 10), size, times)?;
        }
    }
    Ok(())
}

fn lay_out(
    dir: &Path,
    size: usize,
    time: Duration,
    layout: Layout,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    use std::os::unix::fs::FileExt;
    let path = dir.join("layout");
    let file = std::fs::File::create(&path)?;
    let bytes = vec![7; size];
    if layout == Layout::Reserved {
        rustix::fs::fallocate(
            &file,
            rustix::fs::FallocateFlags::empty(),
            0,
            LAYOUT_FILE_BYTES,
        )?;
    }
    if matches!(layout, Layout::Zeroed | Layout::Recycled) {
        let fill = [0, 9][usize::from(layout == Layout::Recycled)];
        let block = vec![fill; 1 << 20];
        for at in (0..LAYOUT_FILE_BYTES).step_by(1 << 20) {
            file.write_all_at(&block, at)?;
        }
    }
    file.sync_all()?;
    let zeroes = vec![0; AHEAD_BYTES as usize];
    let mut at = 0;
    let times = repeat(time, || {
        if at + size as u64 > LAYOUT_FILE_BYTES {
            at = 0;
            if matches!(layout, Layout::Growing | Layout::ZeroedAhead) {
                file.set_len(0)?;
            }
        }
        if layout == Layout::ZeroedAhead && at % AHEAD_BYTES == 0 {
            file.write_all_at(&zeroes, at)?;
        }
        file.write_all_at(&bytes, at)?;
        at += size as u64;
        Ok(file.sync_data()?)
    })?;
    std::fs::remove_file(path)?;
    Ok(times)
}

/// A batch of 200-byte records, about `size` bytes.
fn batch(size: usize) -> Result<Bytes, Box<dyn Error>> {
    let mut builder = BatchBuilder::new(Compression::None);
    let value = [b'x'; 200];
    while builder.len_bytes() + 220 < size {
        builder.push(1, None, Some(&value), std::iter::empty())?;
    }
    Ok(builder.finish()?)
}

fn append(stream: StreamId, batches: &Bytes) -> Op {
    Op::Append {
        stream,
        batches: batches.clone(),
        stamp: AppendStamp::AsStream,
    }
}

fn with_log(
    dir: &Path,
    streams: usize,
    (recycle_bytes, segment_bytes): (u64, u32),
    body: impl FnOnce(&Log, &[StreamId]) -> Result<Vec<Duration>, Box<dyn Error>>,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    let dir = dir.join("log");
    let options = LogOptions {
        recycle_bytes,
        ..LogOptions::new(&dir)
    };
    let (log, _) = Log::open(options, Arc::new(RealFs), Arc::new(SystemClock::new()))?;
    let ids = (0..streams)
        .map(|at| {
            let name = format!("topic/t/{at}");
            let settings = StreamSettings {
                segment_bytes,
                ..StreamSettings::default()
            };
            log.create_stream(&name, settings).wait()
        })
        .collect::<Result<Vec<_>, _>>()?;
    let times = body(&log, &ids)?;
    drop(log);
    // The log's threads end by themselves; their files may go meanwhile.
    std::thread::sleep(Duration::from_secs(1));
    std::fs::remove_dir_all(dir)?;
    Ok(times)
}

fn bulk(dir: &Path, time: Duration) -> Result<Vec<Duration>, Box<dyn Error>> {
    let batch = batch(1 << 20)?;
    with_log(dir, 1, (0, 1 << 30), |log, streams| {
        repeat(time, || {
            log.commit_blocking(vec![append(streams[0], &batch)])?;
            Ok(())
        })
    })
}

/// Both ways in turn and several times over.
fn recycling(out: &mut impl Write, dir: &Path, time: Duration) -> Result<(), Box<dyn Error>> {
    let mut times: [Vec<Duration>; 3] = Default::default();
    for _ in 0..4 {
        times[0].extend(raw(dir, 1 << 20, time / 4)?);
        times[1].extend(drained(dir, time / 4, 0)?);
        times[2].extend(drained(dir, time / 4, 2 << 30)?);
    }
    for (name, times) in ["raw", "growing", "recycling"].iter().zip(times) {
        report(out, &format!("{name} 1 MiB"), 1 << 20, times)?;
    }
    Ok(())
}

/// A stream whose segments are freed as soon as they are full.
fn drained(
    dir: &Path,
    time: Duration,
    recycle_bytes: u64,
) -> Result<Vec<Duration>, Box<dyn Error>> {
    let batch = batch(1 << 20)?;
    with_log(dir, 1, (recycle_bytes, 64 << 20), |log, streams| {
        let stream = streams[0];
        let mut log_start = Offset(0);
        repeat(time, || {
            let trim = Op::TrimTo { stream, log_start };
            let done = log.commit_blocking(vec![append(stream, &batch), trim])?;
            if let Some(OpOutcome::Appended { base_offset, .. }) = done.first() {
                log_start = *base_offset;
            }
            Ok(())
        })
    })
}

fn many(dir: &Path, time: Duration) -> Result<Vec<Duration>, Box<dyn Error>> {
    let batch = batch(4096)?;
    with_log(dir, 64, (0, 1 << 30), |log, streams| {
        repeat(time, || {
            let ops = streams
                .iter()
                .map(|stream| append(*stream, &batch))
                .collect();
            log.commit_blocking(ops)?;
            Ok(())
        })
    })
}
