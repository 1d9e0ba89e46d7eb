//! The segment data of a round: for each stream the runs of batches with their offsets, epoch and time set.
//!
//! Bulk bytes are not copied: a batch above [`COPY_BELOW`] is its patched header and a slice of the caller's buffer; base
//! offset and leader epoch lie outside the batch's checksum, so nothing has to be computed again.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use flafka_kafka_wire::records::{self, BatchHeader, HEADER_LEN};

use crate::codec::Crc;
use crate::fs::File;
use crate::index::IndexEntry;
use crate::op::StreamId;
use crate::producers::Producer;
use crate::retention::RollAge;
use crate::segment::Segment;
use crate::writer::StreamWriter;

/// Smaller batches are copied together: cheaper than an extra slice for each.
const COPY_BELOW: usize = 1024;
/// Attribute bit of batches that the log stamped.
const LOG_APPEND_TIME: i16 = 0x08;

/// A piece of segment data.
#[derive(Debug)]
pub(crate) enum Part {
    Copied(Range<usize>),
    Shared(Bytes),
}

/// Consecutive bytes of one segment.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) segment: i64,
    /// The segment starts with this chunk.
    pub(crate) new: bool,
    pub(crate) position: u64,
    pub(crate) length: u64,
    pub(crate) next_offset: i64,
    /// Over the checksums of its batches: tells them from others that lay there before.
    pub(crate) batches_crc: Crc,
    pub(crate) parts: Vec<Part>,
    pub(crate) entries: Vec<IndexEntry>,
    pub(crate) max_timestamp: i64,
    /// The new segment, once its file is there.
    pub(crate) opened: Option<(Arc<Segment>, Arc<dyn File>)>,
}

/// What happens to one stream.
#[derive(Debug)]
pub(crate) struct StreamPlan {
    pub(crate) id: StreamId,
    pub(crate) weak: bool,
    pub(crate) acked: bool,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) bytes: u64,
    /// Its own segments are synced and the journal gets references.
    pub(crate) bulk: bool,
    pub(crate) end: i64,
    pub(crate) first_new: Option<i64>,
    segment: Option<i64>,
    pub(crate) position: u64,
    pub(crate) indexed_at: Option<u64>,
    pub(crate) max_timestamp: i64,
    pub(crate) first_timestamp: i64,
    pub(crate) producers: HashMap<i64, Producer>,
    segment_bytes: u64,
    roll: RollAge,
}

impl StreamPlan {
    pub(crate) fn new(writer: &StreamWriter) -> Self {
        StreamPlan {
            id: writer.state.id,
            weak: writer.is_weak(),
            acked: writer.settings.acked,
            chunks: Vec::new(),
            bytes: 0,
            bulk: false,
            end: writer.end,
            first_new: None,
            segment: writer.active.as_ref().map(|active| active.base_offset),
            position: writer.position,
            indexed_at: writer.indexed_at,
            max_timestamp: writer.max_timestamp,
            first_timestamp: writer.first_timestamp,
            producers: HashMap::new(),
            segment_bytes: u64::from(writer.settings.segment_bytes),
            roll: RollAge::of(writer),
        }
    }

    pub(crate) fn add(
        &mut self,
        arena: &mut Vec<u8>,
        epoch: i32,
        header: &BatchHeader,
        batch: Bytes,
        stamp_ms: Option<i64>,
    ) {
        let length = batch.len() as u64;
        let max_timestamp = stamp_ms.unwrap_or(header.max_timestamp);
        let segment = self.segment_for(length, i64::from(header.last_offset_delta), max_timestamp);
        let at = self.position;
        let base = self.end;
        let entry = self
            .indexed_at
            .is_none_or(|last| at - last >= crate::index::INDEX_STEP_BYTES);
        let entry = entry.then(|| IndexEntry {
            relative_offset: (base - segment) as u32,
            position: at as u32,
            time_before: self.max_timestamp,
        });
        if entry.is_some() {
            self.indexed_at = Some(at);
        }
        self.max_timestamp = self.max_timestamp.max(max_timestamp);
        self.end = base + i64::from(header.last_offset_delta) + 1;
        self.position += length;
        self.bytes += length;
        let Some(chunk) = self.chunks.last_mut() else {
            return;
        };
        let patched_crc = chunk.push_batch(arena, batch, base, epoch, stamp_ms);
        chunk.entries.extend(entry);
        chunk.length += length;
        chunk.next_offset = self.end;
        chunk.batches_crc.add(&patched_crc.to_be_bytes());
        chunk.max_timestamp = self.max_timestamp;
    }

    /// The segment for the next batch; makes a new chunk where one is needed.
    fn segment_for(&mut self, length: u64, last_offset_delta: i64, timestamp: i64) -> i64 {
        const MAX_RELATIVE: i64 = i32::MAX as i64;
        let fits = self.segment.filter(|base| {
            let far = self.end + last_offset_delta - base > MAX_RELATIVE;
            let full = self.position > 0 && self.position + length > self.segment_bytes;
            let old = self.roll.is_due(*base, self.first_timestamp, timestamp);
            !far && !full && !old
        });
        let (segment, new) = match fits {
            Some(segment) => (segment, false),
            None => {
                self.position = 0;
                self.indexed_at = None;
                self.max_timestamp = i64::MIN;
                self.first_timestamp = timestamp;
                (self.end, true)
            }
        };
        self.segment = Some(segment);
        if new || self.chunks.is_empty() {
            self.chunks.push(Chunk {
                segment,
                new,
                position: self.position,
                length: 0,
                next_offset: self.end,
                batches_crc: Crc::new(),
                parts: Vec::new(),
                entries: Vec::new(),
                max_timestamp: self.max_timestamp,
                opened: None,
            });
        }
        segment
    }
}

impl Chunk {
    /// Adds a batch with its offset, epoch and perhaps time set; returns its checksum.
    fn push_batch(
        &mut self,
        arena: &mut Vec<u8>,
        batch: Bytes,
        base_offset: i64,
        epoch: i32,
        stamp_ms: Option<i64>,
    ) -> u32 {
        let start = arena.len();
        if batch.len() < COPY_BELOW {
            arena.extend_from_slice(&batch);
            let copy = &mut arena[start..];
            if let Some(ms) = stamp_ms {
                records::patch_log_append_time(copy, ms);
            }
            records::patch_offset_and_epoch(copy, base_offset, epoch);
            let crc = crc_field(copy);
            self.push_copied(start..arena.len());
            return crc;
        }
        arena.extend_from_slice(&batch[..HEADER_LEN]);
        let header = &mut arena[start..];
        let rest = batch.slice(HEADER_LEN..);
        if let Some(ms) = stamp_ms {
            stamp_header(header, &rest, ms);
        }
        records::patch_offset_and_epoch(header, base_offset, epoch);
        let crc = crc_field(header);
        self.push_copied(start..arena.len());
        self.parts.push(Part::Shared(rest));
        crc
    }

    fn push_copied(&mut self, range: Range<usize>) {
        match self.parts.last_mut() {
            Some(Part::Copied(last)) if last.end == range.start => last.end = range.end,
            _ => self.parts.push(Part::Copied(range)),
        }
    }
}

fn crc_field(batch: &[u8]) -> u32 {
    batch.get(17..21).map_or(0, |bytes| {
        u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    })
}

/// [`records::patch_log_append_time`] for a header that is apart from its records.
fn stamp_header(header: &mut [u8], rest: &[u8], ms: i64) {
    let attributes = i16::from_be_bytes([header[21], header[22]]) | LOG_APPEND_TIME;
    header[21..23].copy_from_slice(&attributes.to_be_bytes());
    header[35..43].copy_from_slice(&ms.to_be_bytes());
    let mut crc = Crc::new();
    crc.add(&header[21..]);
    crc.add(rest);
    let crc = crc.value();
    header[17..21].copy_from_slice(&crc.to_be_bytes());
}
