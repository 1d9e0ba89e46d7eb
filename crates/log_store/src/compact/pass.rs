//! A pass over one stream and its steps: first the map of keys, then run after run of segments.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flafka_kafka_wire::records::{self, BatchError, BatchHeader, HEADER_LEN};

use super::offsets::OffsetMap;
use super::{CompactFault, MAX_UNPACKED_BYTES};
use crate::error::IoFault;
use crate::fs::{File, Fs, OpenMode};
use crate::passing::Order;
use crate::segment::Segment;
use crate::stream::StreamState;
use crate::window::Window;

/// A pass over one stream. Owns all it needs; travels between the thread that cleans and the commit thread.
#[derive(Debug)]
pub(crate) struct Pass {
    pub(crate) state: Arc<StreamState>,
    pub(crate) dir: PathBuf,
    /// Sealed segments from the stream's start on, those that may be compacted.
    pub(crate) segments: Vec<Arc<Segment>>,
    /// What was never compacted begins here.
    pub(crate) first_dirty: i64,
    pub(crate) segment_bytes: u64,
    pub(crate) tombstones_ms: i64,
    pub(crate) now_ms: i64,
    /// The last offset of each known producer.
    pub(crate) producers: HashMap<i64, i64>,
    pub(crate) budget_bytes: u64,
    /// Bytes that have to stay free on the volume.
    pub(crate) least_free: u64,
    pub(crate) bytes_per_second: Option<u64>,
    /// Set when the log closes.
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) map: Option<KeyMap>,
    pub(crate) runs: VecDeque<Vec<Arc<Segment>>>,
    pub(crate) done: Tally,
}

/// The keys between the first dirty offset and `end`.
#[derive(Debug)]
pub(crate) struct KeyMap {
    pub(crate) offsets: OffsetMap,
    /// Every key below it is in.
    pub(crate) end: i64,
}

/// What a pass has done so far.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tally {
    pub(crate) read_bytes: u64,
    pub(crate) written_bytes: u64,
    pub(crate) removed_records: u64,
}

/// A run of segments and what stands for it from now on.
#[derive(Debug)]
pub(crate) struct Replacement {
    pub(crate) old: Vec<Arc<Segment>>,
    /// Bytes and end offset of the run when it was read; mending after a failed sync may have changed them since.
    pub(crate) bytes: u64,
    pub(crate) end: i64,
    /// `None` if nothing stays.
    pub(crate) new: Option<Arc<Segment>>,
}

/// What one step of a pass brought.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) pass: Box<Pass>,
    /// `None` without anything to switch.
    pub(crate) result: Result<Option<Replacement>, CompactFault>,
}

impl Pass {
    /// One step. Blocking, as long as one segment takes to be written.
    pub(crate) fn step(mut self: Box<Self>, fs: &dyn Fs) -> Step {
        let result = self.try_step(fs);
        Step { pass: self, result }
    }

    fn try_step(&mut self, fs: &dyn Fs) -> Result<Option<Replacement>, CompactFault> {
        if self.map.is_none() {
            let map = self.read_keys(fs)?;
            self.runs = runs(&self.segments, map.end, self.segment_bytes);
            self.map = Some(map);
        }
        match self.runs.pop_front() {
            Some(run) => super::clean::clean(self, fs, run),
            None => Ok(None),
        }
    }

    /// Whether a step is still to come.
    pub(crate) fn has_more(&self) -> bool {
        !self.runs.is_empty()
    }

    pub(crate) fn check_stop(&self) -> Result<(), CompactFault> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(CompactFault::Stopped),
            false => Ok(()),
        }
    }

    /// Waits as long as `bytes` may take at the allowed rate.
    pub(crate) fn pace(&self, bytes: u64) -> Result<(), CompactFault> {
        self.check_stop()?;
        let Some(rate) = self.bytes_per_second.filter(|rate| *rate > 0) else {
            return Ok(());
        };
        let mut left = Duration::from_secs_f64(bytes as f64 / rate as f64);
        while !left.is_zero() {
            let nap = left.min(Duration::from_millis(100));
            std::thread::sleep(nap);
            left -= nap;
            self.check_stop()?;
        }
        Ok(())
    }

    fn read_keys(&self, fs: &dyn Fs) -> Result<KeyMap, CompactFault> {
        let dirty = || {
            let segments = self.segments.iter();
            segments.filter(|segment| segment.end_offset() > self.first_dirty)
        };
        let most: i64 = dirty()
            .map(|segment| segment.end_offset() - segment.base_offset.max(self.first_dirty))
            .sum();
        let keys = u64::try_from(most).unwrap_or(0);
        let seeds = (fs.entropy(), fs.entropy());
        let mut map = KeyMap {
            offsets: OffsetMap::new(keys, self.budget_bytes, seeds),
            end: self.first_dirty,
        };
        let mut scratch = Vec::new();
        let mut keep_on = true;
        for segment in dirty() {
            for_each_batch(self, fs, segment, &mut |header, batch| {
                if keep_on && header.last_offset() >= self.first_dirty {
                    keep_on = add_keys(&mut map, self.first_dirty, header, batch, &mut scratch);
                }
                Ok(keep_on)
            })?;
            if !keep_on {
                break;
            }
            map.end = segment.end_offset();
        }
        Ok(map)
    }
}

/// Adds a batch's keys; false when the map is full. Its end then lies in the batch, which is left to the next pass from
/// there on.
fn add_keys(
    map: &mut KeyMap,
    first_dirty: i64,
    header: &BatchHeader,
    batch: &[u8],
    scratch: &mut Vec<u8>,
) -> bool {
    map.end = map.end.max(header.base_offset);
    if !header.attributes.is_control() && header.record_count > 0 {
        // What cannot be read is not removed either.
        if let Ok(records) = records::records(header, batch, scratch, MAX_UNPACKED_BYTES) {
            for record in records.map_while(Result::ok) {
                let Some(key) = record.key.filter(|_| record.offset >= first_dirty) else {
                    continue;
                };
                if !map.offsets.put(key, record.offset) {
                    map.end = record.offset;
                    return false;
                }
            }
        }
    }
    map.end = header.last_offset() + 1;
    true
}

/// Runs of neighbouring segments that together are no larger than one may be. Segments from `end` on are left out.
fn runs(segments: &[Arc<Segment>], end: i64, segment_bytes: u64) -> VecDeque<Vec<Arc<Segment>>> {
    let mut runs: VecDeque<Vec<Arc<Segment>>> = VecDeque::new();
    let mut bytes = 0;
    for segment in segments.iter().filter(|segment| segment.base_offset < end) {
        let fits = runs
            .back()
            .and_then(|run| run.first())
            .is_some_and(|first| {
                bytes + segment.length() <= segment_bytes
                    && segment.end_offset() - first.base_offset <= i64::from(i32::MAX)
            });
        bytes = if fits { bytes } else { 0 } + segment.length();
        match runs.back_mut() {
            Some(run) if fits => run.push(Arc::clone(segment)),
            _ => runs.push_back(vec![Arc::clone(segment)]),
        }
    }
    runs
}

/// What is done with a batch. False ends the walk.
type OnBatch<'a> = dyn FnMut(&BatchHeader, &[u8]) -> Result<bool, CompactFault> + 'a;

/// Reads a segment's batches in order, each checked. A base offset lies outside the checksum, and a record that seems older
/// than it is would be removed for an older one: so one that does not carry on ends the walk like any other damage.
pub(crate) fn for_each_batch(
    pass: &Pass,
    fs: &dyn Fs,
    segment: &Segment,
    on_batch: &mut OnBatch<'_>,
) -> Result<(), CompactFault> {
    const PACE_BYTES: u64 = 1 << 20;
    let path = &segment.path;
    let file: Arc<dyn File> = fs
        .open(path, OpenMode::Read)
        .map_err(IoFault::of("open segment", path))?;
    let length = segment.length();
    let mut window = Window::new(&*file, length);
    let (mut position, mut paced) = (0, 0);
    let end_offset = segment.end_offset();
    let mut order = Order {
        next: segment.base_offset,
    };
    while position < length {
        let corrupt = |source| {
            segment.suspect();
            CompactFault::Corrupt {
                path: path.clone(),
                position,
                source,
            }
        };
        let ends_early = || {
            let kind = std::io::ErrorKind::UnexpectedEof;
            CompactFault::Io(IoFault::of("read segment", path)(kind.into()))
        };
        let bytes = window
            .exact(position, HEADER_LEN)
            .map_err(IoFault::of("read segment", path))?;
        let header = BatchHeader::parse(bytes.ok_or_else(ends_early)?).map_err(corrupt)?;
        let bytes = window
            .exact(position, header.total_len())
            .map_err(IoFault::of("read segment", path))?;
        let batch = bytes.ok_or_else(ends_early)?;
        records::verify(batch).map_err(corrupt)?;
        if !order.takes(&header) || order.next > end_offset {
            let base_offset = header.base_offset;
            return Err(corrupt(BatchError::BadBaseOffset { base_offset }));
        }
        if !on_batch(&header, batch)? {
            return Ok(());
        }
        position += header.total_len() as u64;
        if position - paced >= PACE_BYTES || position == length {
            pass.pace(position - paced)?;
            paced = position;
        }
    }
    Ok(())
}
