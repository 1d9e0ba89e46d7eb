//! A segment: one file `<base offset, 20 digits>.log` with whole record batches v2 in offset order and nothing else, so
//! Kafka's own `DumpLogSegments` reads it. The drawing of a batch is in [`flafka_kafka_wire::records`]. A segment that
//! compaction wrote carries its generation, from 1: `<base offset, 20 digits>.<generation>.log`.
//!
//! Invariant: `length` and `end_offset` only ever name whole batches that were published; bytes behind `length` in the
//! file are unacknowledged, or what a recycled file held before ([`crate::recycle`]), and may be overwritten.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use flafka_kafka_wire::records::{BatchError, BatchHeader, HEADER_LEN};

use crate::damage::resync;
use crate::error::IoFault;
use crate::fs::{File, Fs, OpenMode};
use crate::index::{self, Index, IndexEntry};
use crate::passing::Order;
use crate::sync::{Mutex, RwLock};

/// Extension of a file that compaction has not finished.
pub(crate) const UNFINISHED: &str = "cleaned";
/// Extension of a freed file that waits to become another segment.
pub(crate) const SPARE: &str = "spare";

/// File name of the segment that starts at `base_offset`.
pub(crate) fn file_name(base_offset: i64, generation: u32) -> String {
    format!("{}.log", stem(base_offset, generation))
}

/// Names of the segment and its index files.
pub(crate) fn all_names(base_offset: i64, generation: u32) -> [String; 3] {
    ["log", "oix", "tix"].map(|extension| format!("{}.{extension}", stem(base_offset, generation)))
}

fn stem(base_offset: i64, generation: u32) -> String {
    match generation {
        0 => format!("{base_offset:020}"),
        _ => format!("{base_offset:020}.{generation}"),
    }
}

/// The base offset and generation of a segment's file name.
pub(crate) fn parse_file_name(name: &str) -> Option<(i64, u32)> {
    let stem = name.strip_suffix(".log")?;
    let (digits, generation) = match stem.split_once('.') {
        Some((digits, generation)) => {
            let generation = generation.parse().ok().filter(|number| *number > 0)?;
            (digits, generation)
        }
        None => (stem, 0),
    };
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let base_offset = digits.parse().ok()?;
    (file_name(base_offset, generation) == name).then_some((base_offset, generation))
}

/// One segment, shared between the commit thread and readers.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Offset of its first record.
    pub(crate) base_offset: i64,
    /// 0 as appended; more if compaction wrote it.
    pub(crate) generation: u32,
    /// Of the records below this offset none hides another; the base offset if it was never compacted.
    pub(crate) clean_to: i64,
    /// The file.
    pub(crate) path: PathBuf,
    end_offset: AtomicI64,
    length: AtomicU64,
    max_timestamp: AtomicI64,
    /// Bytes of the file where they may be more than `length`: it is a recycled one. 0 for a file that grows.
    laid_out: AtomicU64,
    suspect: AtomicBool,
    /// Bytes that a successful sync is known to have covered, and the offset behind them.
    synced: Mutex<(u64, i64)>,
    handles: RwLock<Handles>,
}

#[derive(Debug, Default)]
struct Handles {
    file: Option<Arc<dyn File>>,
    index: Option<Index>,
}

impl Segment {
    pub(crate) fn new(dir: &Path, base_offset: i64) -> Self {
        Self::cleaned(dir, base_offset, 0, base_offset)
    }

    /// One that compaction wrote, if `generation` is not 0.
    pub(crate) fn cleaned(dir: &Path, base_offset: i64, generation: u32, clean_to: i64) -> Self {
        Segment {
            base_offset,
            generation,
            clean_to,
            path: dir.join(file_name(base_offset, generation)),
            end_offset: AtomicI64::new(base_offset),
            length: AtomicU64::new(0),
            max_timestamp: AtomicI64::new(i64::MIN),
            laid_out: AtomicU64::new(0),
            suspect: AtomicBool::new(false),
            synced: Mutex::new((0, base_offset)),
            handles: RwLock::default(),
        }
    }

    /// The offset after its last record.
    pub(crate) fn end_offset(&self) -> i64 {
        self.end_offset.load(Ordering::Acquire)
    }

    /// Published bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length.load(Ordering::Acquire)
    }

    /// Highest timestamp of its batches; i64::MIN when empty.
    pub(crate) fn max_timestamp(&self) -> i64 {
        self.max_timestamp.load(Ordering::Acquire)
    }

    /// Notes that the file has so many bytes, whatever is published; 0 when it ends where the segment ends.
    pub(crate) fn lay_out(&self, bytes: u64) {
        self.laid_out.store(bytes, Ordering::Release);
    }

    /// Bytes of the file if it may be longer than the segment, else 0.
    pub(crate) fn laid_out(&self) -> u64 {
        self.laid_out.load(Ordering::Acquire)
    }

    /// Notes that some of what was published is damaged or gone: from now on reads check each batch before they hand it
    /// out. Says whether that is news.
    pub(crate) fn suspect(&self) -> bool {
        !self.suspect.swap(true, Ordering::AcqRel)
    }

    /// Whether reads have to check each batch.
    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Acquire)
    }

    /// The same segment, if nobody else has it or its file any more: then the file may become another one.
    pub(crate) fn into_unused(self: Arc<Self>) -> Option<Segment> {
        let mut segment = Arc::into_inner(self)?;
        let handles = segment.handles.get_mut();
        let handles = handles.unwrap_or_else(PoisonError::into_inner);
        let file = handles.file.take();
        file.is_none_or(|file| Arc::strong_count(&file) == 1)
            .then_some(segment)
    }

    /// Sets what is published.
    pub(crate) fn publish(&self, end_offset: i64, length: u64, max_timestamp: i64) {
        self.end_offset.store(end_offset, Ordering::Release);
        self.length.store(length, Ordering::Release);
        self.max_timestamp
            .fetch_max(max_timestamp, Ordering::AcqRel);
    }

    /// Notes that a successful sync covered the first `length` bytes, which end before offset `end`.
    pub(crate) fn note_synced(&self, length: u64, end: i64) {
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        if length > synced.0 {
            *synced = (length, end);
        }
    }

    /// What a successful sync is known to have covered: bytes, and the offset behind them. A batch boundary.
    pub(crate) fn synced(&self) -> (u64, i64) {
        let synced = *self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        if synced.0 >= self.length() {
            (self.length(), self.end_offset())
        } else {
            synced
        }
    }

    /// Ends the segment at a batch boundary below its end: what lay behind it has moved to another one.
    pub(crate) fn end_at(&self, length: u64, end_offset: i64) {
        self.publish(end_offset, length, i64::MIN);
        // Whoever moved it also cuts it.
        self.lay_out(0);
        self.with_index(|index| index.truncate(length));
    }

    /// Gives the segment an open file and index: new or active segments.
    pub(crate) fn attach(&self, file: Arc<dyn File>, index: Index) {
        let mut handles = self.handles.write().unwrap_or_else(PoisonError::into_inner);
        *handles = Handles {
            file: Some(file),
            index: Some(index),
        };
    }

    /// Closes file and index; the next reader opens them again.
    pub(crate) fn detach(&self) {
        *self.handles.write().unwrap_or_else(PoisonError::into_inner) = Handles::default();
    }

    /// Runs `body` on the index in memory, if it is there.
    pub(crate) fn with_index<R>(&self, body: impl FnOnce(&mut Index) -> R) -> Option<R> {
        let mut handles = self.handles.write().unwrap_or_else(PoisonError::into_inner);
        handles.index.as_mut().map(body)
    }

    /// The open file, opening it (and loading or rebuilding the index) if need be; the flag says that it was opened now.
    pub(crate) fn open(&self, fs: &dyn Fs) -> Result<(Arc<dyn File>, bool), IoFault> {
        {
            let handles = self.handles.read().unwrap_or_else(PoisonError::into_inner);
            if let (Some(file), Some(_)) = (&handles.file, &handles.index) {
                return Ok((Arc::clone(file), false));
            }
        }
        let file = fs
            .open(&self.path, OpenMode::Read)
            .map_err(IoFault::of("open segment", &self.path))?;
        let there = file
            .length()
            .map_err(IoFault::of("measure segment", &self.path))?;
        if there < self.length() {
            self.suspect();
        }
        let index = self
            .load_index(fs, &*file, self.length(), self.length())
            .map_err(IoFault::of("index segment", &self.path))?;
        let mut handles = self.handles.write().unwrap_or_else(PoisonError::into_inner);
        if handles.file.is_none() {
            *handles = Handles {
                file: Some(Arc::clone(&file)),
                index: Some(index),
            };
        }
        Ok((file, true))
    }

    /// The index up to `end`: from its files as far as they are good and reach at most to `trusted`, the rest from the
    /// batches' headers.
    pub(crate) fn load_index(
        &self,
        fs: &dyn Fs,
        file: &dyn File,
        trusted: u64,
        end: u64,
    ) -> io::Result<Index> {
        let mut index = index::load(fs, &self.path, self.base_offset, trusted).unwrap_or_default();
        let (from, mut time) = match index.last() {
            Some(last) => (u64::from(last.position), last.time_before),
            None => (0, i64::MIN),
        };
        let mut walk = HeaderWalk::new(file, from, end);
        let mut order = Order {
            next: self.base_offset,
        };
        while let Some(step) = walk.step()? {
            let Ok((position, header)) = step else {
                // Damage: what lies behind it is indexed all the same.
                if walk.resync(self.base_offset, i64::MAX)?.is_none() {
                    break;
                }
                continue;
            };
            // A damaged base offset must lead no lookup past its batch: entries ascend, and only a batch that carries on
            // from the one before it gets one, unless compaction has left gaps between all of them.
            let is_next = header.base_offset == order.next;
            let fits = order.takes(&header) && (is_next || self.generation > 0);
            if fits && index.would_ascend(self.base_offset, &header) && index.wants(position) {
                index.push(self.entry(&header, position, time));
            }
            time = time.max(header.max_timestamp);
        }
        Ok(index)
    }

    /// The index entry of a batch. Segments end before offsets or positions leave 32 bits.
    pub(crate) fn entry(
        &self,
        header: &BatchHeader,
        position: u64,
        time_before: i64,
    ) -> IndexEntry {
        IndexEntry {
            relative_offset: (header.base_offset - self.base_offset) as u32,
            position: position as u32,
            time_before,
        }
    }

    /// A batch start at or before `offset`, and the offset that comes there.
    pub(crate) fn place_of(&self, offset: i64) -> (u64, i64) {
        let relative = u64::try_from(offset - self.base_offset).unwrap_or(0);
        let place = self.with_index(|index| index.place_of(relative));
        self.place(place.flatten())
    }

    /// The last indexed batch start up to `limit`, and the offset that comes there.
    pub(crate) fn boundary_below(&self, limit: u64) -> (u64, i64) {
        let place = self.with_index(|index| index.boundary_below(limit));
        self.place(place.flatten())
    }

    /// A batch start at or before the first batch at or after `timestamp`, and the offset that comes there.
    pub(crate) fn place_at_time(&self, timestamp: i64) -> (u64, i64) {
        let place = self.with_index(|index| index.place_at_time(timestamp));
        self.place(place.flatten())
    }

    fn place(&self, entry: Option<IndexEntry>) -> (u64, i64) {
        entry.map_or((0, self.base_offset), |entry| {
            let offset = self.base_offset + i64::from(entry.relative_offset);
            (u64::from(entry.position), offset)
        })
    }
}

/// The time of a segment's first batch, its highest timestamp; -1 if there is none.
pub(crate) fn first_timestamp(file: &dyn File, length: u64) -> io::Result<i64> {
    let first = HeaderWalk::new(file, 0, length).step()?;
    Ok(match first {
        Some(Ok((_, header))) => header.max_timestamp,
        _ => -1,
    })
}

/// Walks the headers of the batches between two positions, without their records. Reads ahead a little, so that small
/// batches do not cost a call each.
#[derive(Debug)]
pub(crate) struct HeaderWalk<'a> {
    file: &'a dyn File,
    position: u64,
    end: u64,
    buffer: Vec<u8>,
    buffer_at: u64,
}

impl<'a> HeaderWalk<'a> {
    const READ_AHEAD: usize = 8 * 1024;

    pub(crate) fn new(file: &'a dyn File, from: u64, end: u64) -> Self {
        HeaderWalk {
            file,
            position: from,
            end,
            buffer: Vec::new(),
            buffer_at: 0,
        }
    }

    /// Where the next batch starts.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// After a bad batch: goes on to the next good one with offsets in `least..most`. Returns its base offset.
    pub(crate) fn resync(&mut self, least: i64, most: i64) -> io::Result<Option<i64>> {
        let found = resync(self.file, self.position + 1, self.end, least, most)?;
        self.position = found.map_or(self.end, |(position, _)| position);
        Ok(found.map(|(_, header)| header.base_offset))
    }

    /// The next batch's position and header, or what is wrong with it; `None` at the end.
    pub(crate) fn step(&mut self) -> io::Result<Option<Result<(u64, BatchHeader), BatchError>>> {
        if self.position >= self.end {
            return Ok(None);
        }
        let position = self.position;
        let skip = position.wrapping_sub(self.buffer_at) as usize;
        let inside = position >= self.buffer_at && skip + HEADER_LEN <= self.buffer.len();
        if !inside {
            let most = usize::try_from(self.end - position).unwrap_or(usize::MAX);
            self.buffer = vec![0; Self::READ_AHEAD.min(most)];
            let found = self.file.read_full(&mut self.buffer, position)?;
            self.buffer.truncate(found);
            self.buffer_at = position;
        }
        let at = if inside { skip } else { 0 };
        let header = match BatchHeader::parse(&self.buffer[at.min(self.buffer.len())..]) {
            Ok(header) => header,
            Err(error) => return Ok(Some(Err(error))),
        };
        let next = position + header.total_len() as u64;
        if next > self.end {
            return Ok(Some(Err(BatchError::Short {
                position: 0,
                needed: header.total_len(),
                found: (self.end - position) as usize,
            })));
        }
        self.position = next;
        Ok(Some(Ok((position, header))))
    }
}
