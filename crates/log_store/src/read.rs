//! Reading: plans of file ranges that hold whole record batches. Lookups by time: [`crate::lookup`].
//!
//! A plan names bytes in files, so that the broker can send them without looking at records. Nothing beyond the high
//! watermark is ever planned. A plan keeps its files open: a segment that is deleted meanwhile still reads. Where damage
//! is known, each batch is looked at first: [`crate::checked`].
//!
//! Compaction leaves gaps between batches and between segments: a read goes on at the next record there is.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, PoisonError, Weak};

use bytes::Bytes;
use flafka_kafka_wire::records::BatchError;

use crate::error::{IoFault, ReadError};
use crate::fs::{File, Fs};
use crate::op::{Offset, Position};
use crate::passing::Order;
use crate::segment::{HeaderWalk, Segment};
use crate::stream::StreamState;
use crate::sync::Mutex;

/// Most segments one plan spans.
const MAX_SLICES: usize = 16;
/// A segment may be freed or replaced between the look at the stream and the opening of its file; then the look is
/// repeated, so often at most.
const LOOKS: usize = 5;
/// Most sealed segments that stay open with their indexes.
const MAX_OPEN_SEGMENTS: usize = 256;

/// Bytes of one file.
#[derive(Debug, Clone)]
pub struct FileRange {
    /// The open file.
    pub file: Arc<dyn File>,
    /// First byte.
    pub position: Position,
    /// How many.
    pub length: usize,
    /// Whose bytes these are.
    pub(crate) segment: Option<Arc<Segment>>,
    /// The offset behind it, unless each of its batches was looked at when it was planned.
    pub(crate) unseen_to: Option<i64>,
}

impl FileRange {
    /// Bytes of a file that is no segment.
    pub fn new(file: Arc<dyn File>, position: Position, length: usize) -> Self {
        FileRange {
            file,
            position,
            length,
            segment: None,
            unseen_to: None,
        }
    }

    /// Fills `buffer` from the range's byte `skip` on. Blocking; usually from the page cache.
    ///
    /// # Errors
    /// What the file system says; `UnexpectedEof` if the file is shorter than it was. It is logged with the file's path
    /// once, and later plans end before what cannot be read and say that it is damaged.
    pub fn read_exact(&self, buffer: &mut [u8], skip: usize) -> io::Result<()> {
        let read = self
            .file
            .read_exact_at(buffer, self.position.0 + skip as u64);
        read.map_err(|error| {
            let Some(segment) = &self.segment else {
                return error;
            };
            let path = segment.path.display();
            if segment.suspect() {
                tracing::error!(%path, %error, "published data cannot be read");
            }
            io::Error::new(error.kind(), format!("read segment {path}: {error}"))
        })
    }

    /// Notes that the batches around the range's byte `at` are not those that were published.
    pub(crate) fn wrong_batch(&self, at: usize) -> io::Error {
        let position = self.position.0 + at as u64;
        let Some(segment) = &self.segment else {
            return io::Error::new(io::ErrorKind::InvalidData, "no record batch");
        };
        let path = segment.path.display();
        if segment.suspect() {
            tracing::error!(%path, position, "a published record batch is not what it was");
        }
        let error = format!("segment {path} has no fitting record batch at byte {position}");
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}

/// What a read will return: whole batches, from the one that holds the asked offset on.
#[derive(Debug, Clone)]
pub struct ReadPlan {
    /// The bytes, in order. Empty when there is nothing to read yet.
    pub slices: Vec<FileRange>,
    /// The stream's high watermark when the plan was made.
    pub high_watermark: Offset,
    /// The stream's log start when the plan was made.
    pub log_start: Offset,
    /// Whether the slices reach the high watermark.
    pub reaches_end: bool,
}

impl ReadPlan {
    /// Bytes of all slices.
    pub fn length(&self) -> usize {
        self.slices.iter().map(|slice| slice.length).sum()
    }

    /// Reads everything. Blocking; usually from the page cache.
    ///
    /// # Errors
    /// As [`FileRange::read_exact`].
    pub fn read_to_bytes(&self) -> io::Result<Bytes> {
        let mut out = vec![0; self.length()];
        let mut done = 0;
        for slice in &self.slices {
            let target = &mut out[done..done + slice.length];
            slice.read_exact(target, 0)?;
            done += slice.length;
        }
        Ok(Bytes::from(out))
    }
}

/// The sealed segments that are open, oldest first: file descriptors and indexes stay bounded.
#[derive(Debug, Default)]
pub(crate) struct OpenSegments(Mutex<VecDeque<Weak<Segment>>>);

impl OpenSegments {
    /// Adds a segment that is open and not active, and closes the oldest beyond the limit.
    pub(crate) fn add(&self, segment: &Arc<Segment>) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.push_back(Arc::downgrade(segment));
        while open.len() > MAX_OPEN_SEGMENTS {
            if let Some(oldest) = open.pop_front().and_then(|weak| weak.upgrade()) {
                oldest.detach();
            }
        }
    }
}

/// What a segment has for a plan.
pub(crate) enum Found {
    /// Bytes, and whether they reach the segment's end.
    Range(FileRange, bool),
    /// A batch that is larger than the room.
    NoRoom,
    /// No batch at or behind the offset.
    Nothing,
}

/// Repeats a read that met a file which was removed after the look at the stream.
pub(crate) fn again_if_gone<T>(read: impl Fn() -> Result<T, ReadError>) -> Result<T, ReadError> {
    for _ in 1..LOOKS {
        match read() {
            Err(ReadError::Io(fault)) if fault.source.kind() == io::ErrorKind::NotFound => {}
            other => return other,
        }
    }
    read()
}

/// Reads with a stream's published state.
#[derive(Debug)]
pub(crate) struct StreamReader<'a> {
    pub(crate) stream: &'a StreamState,
    pub(crate) fs: &'a dyn Fs,
    pub(crate) open: &'a OpenSegments,
}

impl StreamReader<'_> {
    /// See [`crate::Log::read`].
    pub(crate) fn plan(
        &self,
        from: Offset,
        max_bytes: usize,
        min_one_batch: bool,
    ) -> Result<ReadPlan, ReadError> {
        again_if_gone(|| self.plan_once(from, max_bytes, min_one_batch))
    }

    fn plan_once(
        &self,
        from: Offset,
        max_bytes: usize,
        min_one_batch: bool,
    ) -> Result<ReadPlan, ReadError> {
        let (segments, mut plan) = {
            let view = self.stream.view();
            if view.deleted {
                return Err(ReadError::UnknownStream(self.stream.id));
            }
            if from < view.log_start || from > view.high_watermark {
                return Err(ReadError::OutOfRange {
                    offset: from,
                    log_start: view.log_start,
                    log_end: view.high_watermark,
                });
            }
            let plan = ReadPlan {
                slices: Vec::new(),
                high_watermark: view.high_watermark,
                log_start: view.log_start,
                reaches_end: from == view.high_watermark,
            };
            if plan.reaches_end {
                return Ok(plan);
            }
            let first = view.segment_of(from).unwrap_or(0);
            let segments: Vec<_> = view.segments[first..]
                .iter()
                .map(|segment| (Arc::clone(segment), segment.length(), segment.end_offset()))
                .collect();
            (segments, plan)
        };
        let mut room = max_bytes as u64;
        let mut offset = from;
        for (segment, length, end) in &segments {
            if plan.slices.len() == MAX_SLICES {
                return Ok(plan);
            }
            let need_one = min_one_batch && plan.slices.is_empty();
            let (range, ends) = match self.range(segment, (*length, *end), offset, room, need_one) {
                Ok(Found::Range(range, ends)) => (range, ends),
                Ok(Found::NoRoom) => return Ok(plan),
                Ok(Found::Nothing) => {
                    offset = offset.max(Offset(segment.end_offset()));
                    continue;
                }
                // What lies before the damage is delivered first.
                Err(_) if !plan.slices.is_empty() => return Ok(plan),
                Err(error) => return Err(error),
            };
            room = room.saturating_sub(range.length as u64);
            plan.slices.push(range);
            if !ends {
                return Ok(plan);
            }
            offset = Offset(segment.end_offset());
        }
        // What is left up to the high watermark is a gap.
        plan.reaches_end = true;
        Ok(plan)
    }

    /// The bytes of one segment, which had so many bytes and offsets up to the one given, from the first batch at or
    /// behind `offset`.
    fn range(
        &self,
        segment: &Arc<Segment>,
        (length, end_offset): (u64, i64),
        offset: Offset,
        room: u64,
        need_one: bool,
    ) -> Result<Found, ReadError> {
        let file = self.file_of(segment)?;
        if segment.is_suspect() {
            return self.checked_range(segment, file, length, offset, room, need_one);
        }
        let (position, next) = segment.place_of(offset.0);
        let mut walk = HeaderWalk::new(&*file, position, length);
        let mut order = Order { next };
        let fault = |error| IoFault::of("read segment", &segment.path)(error);
        // The first batch at or behind the offset.
        let first = loop {
            match walk.step().map_err(fault)? {
                None => return Ok(Found::Nothing),
                Some(Ok((_, header))) if !order.takes(&header) => break None,
                Some(Ok((_, header))) if header.last_offset() < offset.0 => {}
                Some(Ok(found)) => break Some(found),
                Some(Err(_)) => break None,
            }
        };
        let Some((start, first)) = first else {
            return self.checked_range(segment, file, length, offset, room, need_one);
        };
        let limit = start.saturating_add(room);
        let (end, behind) = match length <= limit {
            true => (length, end_offset),
            false => segment.boundary_below(limit),
        };
        let first_length = first.total_len() as u64;
        let is_alone = end <= start;
        let (end, behind) = match is_alone {
            false => (end, behind),
            true if first_length <= room || need_one => {
                (start + first_length, first.last_offset() + 1)
            }
            true => return Ok(Found::NoRoom),
        };
        // A base offset lies outside the checksum. Where it leaves a gap, or nothing else comes with the batch, the next
        // batch tells whether it is right.
        if first.base_offset > offset.0 || is_alone {
            let follows = match walk.step().map_err(fault)? {
                Some(Ok((_, next))) => order.takes(&next),
                _ => first.last_offset() < end_offset,
            };
            if !follows {
                return self.checked_range(segment, file, length, offset, room, need_one);
            }
        }
        let range = FileRange {
            file,
            position: Position(start),
            length: usize::try_from(end - start).unwrap_or(usize::MAX),
            segment: Some(Arc::clone(segment)),
            unseen_to: Some(behind),
        };
        Ok(Found::Range(range, end == length))
    }

    pub(crate) fn file_of(&self, segment: &Arc<Segment>) -> Result<Arc<dyn File>, ReadError> {
        let (file, opened) = segment.open(self.fs)?;
        if opened {
            self.open.add(segment);
        }
        Ok(file)
    }

    pub(crate) fn corrupt(
        &self,
        segment: &Segment,
        position: u64,
        source: BatchError,
    ) -> ReadError {
        ReadError::Corrupt {
            path: segment.path.clone(),
            position,
            source,
        }
    }
}
