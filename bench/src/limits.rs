//! What the machine itself can do: no path through it can be faster than these.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::sample::{Percentiles, Sample};
use crate::workplace::Workplace;

/// How long each limit is measured.
const TIME: Duration = Duration::from_secs(1);
/// Bytes written at most, so that a fast disk is not filled.
const MOST_WRITTEN: u64 = 1 << 30;
/// Far larger than the processor's caches.
const COPIED: usize = 128 << 20;
const TCP_WRITE: usize = 64 << 10;

/// Measures all limits.
pub(crate) fn run(workplace: &Workplace) -> Result<Vec<Sample>> {
    let folder = workplace.fresh()?;
    let mut samples = Vec::new();
    for (name, size) in [("4 KiB", 4 << 10), ("64 KiB", 64 << 10), ("1 MiB", 1 << 20)] {
        let path = folder.path().join(name);
        let sample = synced_writes(&path, format!("machine: append {name} + fdatasync"), size);
        samples.push(sample.context("write and sync")?);
    }
    samples.push(loopback().context("send over loopback")?);
    samples.push(copies());
    Ok(samples)
}

fn limit(name: String, operations: u64, bytes: u64, wall: Duration) -> Sample {
    Sample {
        name,
        durability: None,
        events: operations,
        bytes,
        wall,
        cost: None,
        waits: None,
    }
}

/// Appends blocks to a new file, with a sync after each.
pub(crate) fn synced_writes(path: &Path, name: String, size: usize) -> Result<Sample> {
    let waits = synced_write_waits(path, size, TIME)?;
    let count = waits.len() as u64;
    let mut sample = limit(name, count, count * size as u64, waits.iter().sum());
    sample.waits = Percentiles::of(waits);
    Ok(sample)
}

/// The time of each such append.
pub(crate) fn synced_write_waits(
    path: &Path,
    size: usize,
    time: Duration,
) -> Result<Vec<Duration>> {
    let mut file = File::create_new(path)?;
    let block = vec![b'x'; size];
    let mut waits = Vec::new();
    let started = Instant::now();
    while started.elapsed() < time && ((waits.len() * size) as u64) < MOST_WRITTEN {
        let begun = Instant::now();
        file.write_all(&block)?;
        file.sync_data()?;
        waits.push(begun.elapsed());
    }
    Ok(waits)
}

/// One connection, one direction, a thread at each end.
fn loopback() -> Result<Sample> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let receiver = std::thread::spawn(move || -> std::io::Result<u64> {
        let (mut stream, _) = listener.accept()?;
        let mut buffer = vec![0; 256 << 10];
        let mut received = 0;
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(received),
                read => received += read as u64,
            }
        }
    });
    let mut stream = TcpStream::connect(address)?;
    let block = vec![b'x'; TCP_WRITE];
    let mut writes = 0;
    let started = Instant::now();
    while started.elapsed() < TIME {
        stream.write_all(&block)?;
        writes += 1;
    }
    drop(stream);
    let received = receiver
        .join()
        .map_err(|_| anyhow!("the receiver panicked"))??;
    let name = "machine: loopback TCP, 64 KiB writes".to_owned();
    Ok(limit(name, writes, received, started.elapsed()))
}

fn copies() -> Sample {
    let from = vec![b'x'; COPIED];
    let mut to = vec![0; COPIED];
    to.copy_from_slice(&from);
    let mut count = 0;
    let started = Instant::now();
    while started.elapsed() < TIME {
        std::hint::black_box(&mut to).copy_from_slice(std::hint::black_box(&from));
        count += 1;
    }
    let name = "machine: memcpy, 128 MiB".to_owned();
    limit(name, count, count * COPIED as u64, started.elapsed())
}
