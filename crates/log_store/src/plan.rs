//! What one round of the commit thread will do, worked out in memory: offsets, segments, journal frames, new states.
//!
//! Nothing of the real state is touched, so a round that fails before the journal is simply forgotten. Each group is
//! judged as a whole before any of it is put into the plan; that makes groups atomic without undoing anything.
//!
//! Bulk bytes are not copied: a batch above [`COPY_BELOW`] is its patched header and a slice of the caller's buffer.

use std::collections::HashMap;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use flafka_kafka_wire::records::{self, BatchHeader, HEADER_LEN};

use crate::acks::MAX_ACK_RANGES;
use crate::codec::{Crc, Writer};
use crate::error::CommitError;
use crate::fs::File;
use crate::index::IndexEntry;
use crate::journal::frame::{APPEND_PREFIX_BYTES, FrameKind};
use crate::journal::writer::Group;
use crate::op::{AppendStamp, Offset, Op, OpOutcome, StreamId, Table};
use crate::producers::{self, Producer, Verdict};
use crate::queue::Prepared;
use crate::segment::Segment;
use crate::settings::TimestampType;
use crate::tables::MAX_TABLE_BYTES;
use crate::writer::StreamWriter;

/// Smaller batches are copied together: cheaper than an extra slice for each.
const COPY_BELOW: usize = 4096;
/// Journal bytes of an op besides keys, values and batches.
const OP_BYTES: u64 = 128;
/// Attribute bit of batches that the log stamped.
const LOG_APPEND_TIME: i16 = 0x08;

/// What the plan needs to know of the engine.
#[derive(Debug)]
pub(crate) struct PlanContext<'a> {
    pub(crate) streams: &'a HashMap<StreamId, StreamWriter>,
    pub(crate) epoch: i32,
    pub(crate) now_ms: i64,
    pub(crate) table_weak: bool,
    pub(crate) table_bytes: u64,
    /// Why appends are refused, if the volume is full.
    pub(crate) no_space: Option<&'a CommitError>,
}

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
    batches_crc: Crc,
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
    pub(crate) producers: HashMap<i64, Producer>,
    segment_bytes: u64,
}

/// A change of everything that is not segment data.
#[derive(Debug)]
pub(crate) enum Effect {
    Put(Table, Bytes, Bytes),
    Delete(Table, Bytes),
    Ack(StreamId, Offset, Offset),
    Trim(StreamId, Offset),
}

/// A round.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) arena: Vec<u8>,
    pub(crate) streams: Vec<StreamPlan>,
    by_id: HashMap<StreamId, usize>,
    /// Each with whether it is weak.
    pub(crate) effects: Vec<(Effect, bool)>,
    /// Something of it must be synced before it is answered.
    pub(crate) strong: bool,
}

/// A judged op.
enum Decision<'a> {
    Append(AppendDecision<'a>),
    Effect(Effect, bool),
    Outcome(OpOutcome),
}

struct AppendDecision<'a> {
    stream: StreamId,
    /// Batches to append, with their place in the buffer.
    accepted: Vec<(&'a BatchHeader, Range<usize>)>,
    batches: &'a Bytes,
    stamp_ms: Option<i64>,
    log_start: Offset,
}

/// State inside a group that is being judged.
#[derive(Default)]
struct Overlay {
    ends: HashMap<StreamId, i64>,
    producers: HashMap<(StreamId, i64), Producer>,
    ack_ranges: usize,
    table_bytes: u64,
}

/// Journal bytes that a group needs at most, apart from appended data.
pub(crate) fn journal_estimate(ops: &[Prepared]) -> u64 {
    ops.iter()
        .map(|op| match op {
            Prepared::Append { headers, .. } => OP_BYTES * headers.len() as u64,
            Prepared::Plain(Op::Put { key, value, .. }) => {
                OP_BYTES + (key.len() + value.len()) as u64
            }
            Prepared::Plain(Op::Delete { key, .. }) => OP_BYTES + key.len() as u64,
            Prepared::Plain(_) => OP_BYTES,
            Prepared::Refused(_) => 0,
        })
        .sum()
}

impl Plan {
    pub(crate) fn is_empty(&self) -> bool {
        self.streams.iter().all(|stream| stream.chunks.is_empty()) && self.effects.is_empty()
    }

    /// Adds a group, all or nothing. Says whether all of it is weak.
    pub(crate) fn add_all(
        &mut self,
        context: &PlanContext<'_>,
        ops: &[Prepared],
    ) -> Result<(Vec<OpOutcome>, bool), CommitError> {
        let mut overlay = Overlay::default();
        let decisions = ops
            .iter()
            .map(|op| self.judge(context, op, &mut overlay))
            .collect::<Result<Vec<_>, _>>()?;
        let weak = decisions
            .iter()
            .all(|decision| self.decision_is_weak(context, decision));
        let outcomes = decisions
            .into_iter()
            .map(|decision| self.apply(context, decision))
            .collect();
        self.settle_producers(context, overlay);
        Ok((outcomes, weak))
    }

    /// Adds each op for itself.
    pub(crate) fn add_each(
        &mut self,
        context: &PlanContext<'_>,
        ops: &[Prepared],
    ) -> (Vec<Result<OpOutcome, CommitError>>, bool) {
        let mut weak = true;
        let results = ops
            .iter()
            .map(|op| {
                let (mut outcomes, op_weak) = self.add_all(context, std::slice::from_ref(op))?;
                weak &= op_weak;
                outcomes.pop().ok_or(CommitError::Closed)
            })
            .collect();
        (results, weak)
    }

    fn decision_is_weak(&self, context: &PlanContext<'_>, decision: &Decision<'_>) -> bool {
        match decision {
            Decision::Append(append) => self.is_weak(context, append.stream),
            Decision::Effect(_, weak) => *weak,
            Decision::Outcome(_) => true,
        }
    }

    fn is_weak(&self, context: &PlanContext<'_>, stream: StreamId) -> bool {
        context
            .streams
            .get(&stream)
            .is_some_and(StreamWriter::is_weak)
    }

    /// Where the stream ends with this plan and the group so far.
    fn end_of(&self, writer: &StreamWriter, overlay: &Overlay) -> i64 {
        let id = writer.state.id;
        let planned = self.by_id.get(&id).map(|at| self.streams[*at].end);
        let group = overlay.ends.get(&id).copied();
        group.or(planned).unwrap_or(writer.end)
    }

    fn judge<'a>(
        &self,
        context: &PlanContext<'_>,
        op: &'a Prepared,
        overlay: &mut Overlay,
    ) -> Result<Decision<'a>, CommitError> {
        match op {
            Prepared::Append {
                stream,
                batches,
                headers,
                stamp,
            } => self.judge_append(context, *stream, batches, headers, *stamp, overlay),
            Prepared::Plain(op) => self.judge_plain(context, op, overlay),
            Prepared::Refused(error) => Err(error.clone()),
        }
    }

    fn judge_append<'a>(
        &self,
        context: &PlanContext<'_>,
        stream: StreamId,
        batches: &'a Bytes,
        headers: &'a [BatchHeader],
        stamp: AppendStamp,
        overlay: &mut Overlay,
    ) -> Result<Decision<'a>, CommitError> {
        let writer = writer_of(context, stream)?;
        if let Some(no_space) = context.no_space {
            return Err(no_space.clone());
        }
        let mut end = self.end_of(writer, overlay);
        let mut duplicate: Option<(Offset, Offset)> = None;
        let mut accepted = Vec::with_capacity(headers.len());
        let mut at = 0;
        for header in headers {
            let range = at..at + header.total_len();
            at = range.end;
            if header.total_len() > writer.settings.max_batch_bytes as usize {
                return Err(CommitError::TooLarge {
                    what: "record batch",
                    found: header.total_len() as u64,
                    allowed: u64::from(writer.settings.max_batch_bytes),
                });
            }
            if producers::tracks(header) {
                let key = (stream, header.producer_id);
                let known = overlay
                    .producers
                    .get(&key)
                    .or_else(|| self.producer(writer, header.producer_id));
                match producers::judge(known, header) {
                    Verdict::Accept => {}
                    Verdict::Refuse(error) => return Err(error),
                    Verdict::Duplicate { base, last } => {
                        let first = duplicate.map_or(base, |seen| seen.0);
                        duplicate = Some((first, last));
                        continue;
                    }
                }
                let next = Producer::after(known, header, end, context.now_ms);
                overlay.producers.insert(key, next);
            }
            end += i64::from(header.last_offset_delta) + 1;
            accepted.push((header, range));
        }
        overlay.ends.insert(stream, end);
        let log_start = writer.log_start;
        match duplicate {
            Some((base_offset, last_offset)) if accepted.is_empty() => {
                Ok(Decision::Outcome(OpOutcome::Duplicate {
                    base_offset,
                    last_offset,
                    log_start,
                }))
            }
            _ => Ok(Decision::Append(AppendDecision {
                stream,
                accepted,
                batches,
                stamp_ms: stamp_ms(writer, stamp, context.now_ms),
                log_start,
            })),
        }
    }

    fn producer<'s>(&'s self, writer: &'s StreamWriter, id: i64) -> Option<&'s Producer> {
        self.by_id
            .get(&writer.state.id)
            .and_then(|at| self.streams[*at].producers.get(&id))
            .or_else(|| writer.producers.get(id))
    }

    fn judge_plain(
        &self,
        context: &PlanContext<'_>,
        op: &Op,
        overlay: &mut Overlay,
    ) -> Result<Decision<'static>, CommitError> {
        Ok(match op {
            Op::Put { table, key, value } => {
                overlay.table_bytes += (key.len() + value.len()) as u64;
                let total = context.table_bytes + overlay.table_bytes;
                if total > MAX_TABLE_BYTES {
                    return Err(CommitError::TooLarge {
                        what: "all tables",
                        found: total,
                        allowed: MAX_TABLE_BYTES,
                    });
                }
                let put = Effect::Put(*table, key.clone(), value.clone());
                Decision::Effect(put, context.table_weak)
            }
            Op::Delete { table, key } => {
                Decision::Effect(Effect::Delete(*table, key.clone()), context.table_weak)
            }
            Op::Ack {
                stream,
                first,
                last,
            } => {
                let writer = writer_of(context, *stream)?;
                self.judge_ack(writer, *first, *last, overlay)?;
                let ack = Effect::Ack(*stream, *first, *last);
                Decision::Effect(ack, writer.is_weak())
            }
            Op::TrimTo { stream, log_start } => {
                let writer = writer_of(context, *stream)?;
                let end = Offset(self.end_of(writer, overlay));
                if *log_start > end || log_start.0 < 0 {
                    return Err(out_of_range(*log_start, *log_start, end));
                }
                if *log_start <= writer.log_start {
                    return Ok(Decision::Outcome(OpOutcome::Done));
                }
                let trim = Effect::Trim(*stream, *log_start);
                Decision::Effect(trim, writer.is_weak())
            }
            // Appends are always prepared.
            Op::Append { .. } => return Err(CommitError::EmptyAppend),
        })
    }

    fn judge_ack(
        &self,
        writer: &StreamWriter,
        first: Offset,
        last: Offset,
        overlay: &mut Overlay,
    ) -> Result<(), CommitError> {
        if !writer.settings.acked {
            return Err(CommitError::NotAcked(writer.state.id));
        }
        let end = Offset(self.end_of(writer, overlay));
        if first.0 < 0 || first > last || last >= end {
            return Err(out_of_range(first, last, end));
        }
        overlay.ack_ranges += 1;
        let view = writer.state.view();
        let found = view.acks.acked_ranges.len() + overlay.ack_ranges;
        // What moves the low watermark makes ranges fewer, so it is always welcome.
        if found > MAX_ACK_RANGES && first > view.acks.low {
            return Err(CommitError::TooManyAckRanges {
                stream: writer.state.id,
                found,
                allowed: MAX_ACK_RANGES,
            });
        }
        Ok(())
    }

    fn apply(&mut self, context: &PlanContext<'_>, decision: Decision<'_>) -> OpOutcome {
        match decision {
            Decision::Outcome(outcome) => outcome,
            Decision::Effect(effect, weak) => {
                self.strong |= !weak;
                self.effects.push((effect, weak));
                OpOutcome::Done
            }
            Decision::Append(append) => self.append(context, append),
        }
    }

    fn append(&mut self, context: &PlanContext<'_>, append: AppendDecision<'_>) -> OpOutcome {
        let at = self.stream_plan(context, append.stream);
        let base = self.streams[at].end;
        let Plan { arena, streams, .. } = self;
        let stream = &mut streams[at];
        for (header, range) in append.accepted {
            let batch = append.batches.slice(range);
            stream.add(arena, context.epoch, header, batch, append.stamp_ms);
        }
        stream.first_new.get_or_insert(base);
        let last = stream.end - 1;
        let weak = stream.weak;
        self.strong |= !weak;
        OpOutcome::Appended {
            base_offset: Offset(base),
            last_offset: Offset(last),
            log_append_time_ms: append.stamp_ms,
            log_start: append.log_start,
        }
    }

    fn settle_producers(&mut self, context: &PlanContext<'_>, overlay: Overlay) {
        for ((stream, id), producer) in overlay.producers {
            let at = self.stream_plan(context, stream);
            self.streams[at].producers.insert(id, producer);
        }
    }

    fn stream_plan(&mut self, context: &PlanContext<'_>, id: StreamId) -> usize {
        if let Some(at) = self.by_id.get(&id) {
            return *at;
        }
        let at = self.streams.len();
        // Judged before: the stream exists.
        let writer = &context.streams[&id];
        self.streams.push(StreamPlan::new(writer));
        self.by_id.insert(id, at);
        at
    }

    /// Decides which streams go in bulk: large ones, and what would not fit into a journal file.
    pub(crate) fn choose_bulk(&mut self, bulk_bytes: u64, journal_room: u64) {
        let mut redo = 0;
        for stream in self.streams.iter_mut().filter(|stream| !stream.weak) {
            let whole = redo + stream.bytes + OP_BYTES * stream.chunks.len() as u64;
            stream.bulk = stream.bytes >= bulk_bytes || whole > journal_room / 2;
            if !stream.bulk {
                redo = whole;
            }
        }
    }

    /// The bytes of a chunk.
    pub(crate) fn slices<'a>(&'a self, chunk: &'a Chunk) -> impl Iterator<Item = &'a [u8]> {
        chunk.parts.iter().map(|part| match part {
            Part::Copied(range) => &self.arena[range.clone()],
            Part::Shared(bytes) => &bytes[..],
        })
    }

    /// The same for a vectored write.
    pub(crate) fn io_slices<'a>(&'a self, chunk: &'a Chunk) -> Vec<IoSlice<'a>> {
        self.slices(chunk).map(IoSlice::new).collect()
    }

    /// The journal group of this round.
    pub(crate) fn journal_group(&self) -> Group<'_> {
        let mut group = Group::default();
        for stream in &self.streams {
            for chunk in &stream.chunks {
                self.chunk_frame(&mut group, stream, chunk);
            }
        }
        for (effect, weak) in &self.effects {
            effect_frame(&mut group, effect, *weak);
        }
        group
    }

    fn chunk_frame<'a>(&'a self, group: &mut Group<'a>, stream: &StreamPlan, chunk: &'a Chunk) {
        let mut prefix = Writer::default();
        prefix.i64(chunk.segment);
        prefix.u64(chunk.position);
        prefix.i64(chunk.next_offset);
        if stream.weak || stream.bulk {
            prefix.u64(chunk.length);
            prefix.u32(chunk.batches_crc.value());
            let kind = FrameKind::AppendRef;
            group.push(kind, stream.weak, stream.id.0, &prefix.into_vec(), []);
        } else {
            let prefix = prefix.into_vec();
            debug_assert_eq!(prefix.len(), APPEND_PREFIX_BYTES);
            let kind = FrameKind::Append;
            group.push(kind, false, stream.id.0, &prefix, self.slices(chunk));
        }
    }
}

fn effect_frame<'a>(group: &mut Group<'a>, effect: &'a Effect, weak: bool) {
    let mut prefix = Writer::default();
    match effect {
        Effect::Put(table, key, value) => {
            prefix.u8(table.code());
            prefix.bytes(key);
            group.push(FrameKind::Put, weak, 0, &prefix.into_vec(), [&value[..]]);
        }
        Effect::Delete(table, key) => {
            prefix.u8(table.code());
            group.push(FrameKind::Delete, weak, 0, &prefix.into_vec(), [&key[..]]);
        }
        Effect::Ack(stream, first, last) => {
            prefix.i64(first.0);
            prefix.i64(last.0);
            group.push(FrameKind::Ack, weak, stream.0, &prefix.into_vec(), []);
        }
        Effect::Trim(stream, log_start) => {
            prefix.i64(log_start.0);
            group.push(FrameKind::Trim, weak, stream.0, &prefix.into_vec(), []);
        }
    }
}

fn writer_of<'a>(
    context: &PlanContext<'a>,
    stream: StreamId,
) -> Result<&'a StreamWriter, CommitError> {
    context
        .streams
        .get(&stream)
        .ok_or(CommitError::UnknownStream(stream))
}

fn out_of_range(first: Offset, last: Offset, log_end: Offset) -> CommitError {
    CommitError::OutOfRange {
        first,
        last,
        log_end,
    }
}

fn stamp_ms(writer: &StreamWriter, stamp: AppendStamp, now_ms: i64) -> Option<i64> {
    let stamped = match stamp {
        AppendStamp::AsStream => writer.settings.timestamp_type == TimestampType::LogAppendTime,
        AppendStamp::CreateTime => false,
        AppendStamp::LogAppendTime => true,
    };
    stamped.then_some(now_ms)
}

impl StreamPlan {
    fn new(writer: &StreamWriter) -> Self {
        StreamPlan {
            id: writer.state.id,
            weak: writer.is_weak(),
            chunks: Vec::new(),
            bytes: 0,
            bulk: false,
            end: writer.end,
            first_new: None,
            segment: writer.active.as_ref().map(|active| active.base_offset),
            position: writer.position,
            indexed_at: writer.indexed_at,
            max_timestamp: writer.max_timestamp,
            producers: HashMap::new(),
            segment_bytes: u64::from(writer.settings.segment_bytes),
        }
    }

    fn add(
        &mut self,
        arena: &mut Vec<u8>,
        epoch: i32,
        header: &BatchHeader,
        batch: Bytes,
        stamp_ms: Option<i64>,
    ) {
        let length = batch.len() as u64;
        let segment = self.segment_for(length, i64::from(header.last_offset_delta));
        let at = self.position;
        let base = self.end;
        let max_timestamp = stamp_ms.unwrap_or(header.max_timestamp);
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
    fn segment_for(&mut self, length: u64, last_offset_delta: i64) -> i64 {
        const MAX_RELATIVE: i64 = i32::MAX as i64;
        let fits = self.segment.filter(|base| {
            let far = self.end + last_offset_delta - base > MAX_RELATIVE;
            let full = self.position > 0 && self.position + length > self.segment_bytes;
            !far && !full
        });
        let (segment, new) = match fits {
            Some(segment) => (segment, false),
            None => {
                self.position = 0;
                self.indexed_at = None;
                self.max_timestamp = i64::MIN;
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
