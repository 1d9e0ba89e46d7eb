//! What one round of the commit thread will do, worked out in memory: offsets, segments, journal frames, new states.
//!
//! Nothing of the real state is touched, so a round that fails before the journal is simply forgotten. Each group is
//! judged as a whole before any of it is put into the plan; that makes groups atomic without undoing anything.
//! What goes into the segments, byte by byte, is in [`crate::chunks`].

use std::collections::{BTreeMap, HashMap};
use std::io::IoSlice;
use std::ops::Range;

use bytes::Bytes;
use flafka_kafka_wire::records::BatchHeader;

use crate::acks::MAX_ACK_RANGES;
use crate::chunks::{Chunk, Part, StreamPlan};
use crate::error::CommitError;
use crate::op::{AppendStamp, Offset, Op, OpOutcome, StreamId, Table};
use crate::producers::{self, Producer, Verdict};
use crate::queue::Prepared;
use crate::settings::{LogOptions, TimestampType};
use crate::tables::MAX_TABLE_BYTES;
use crate::writer::StreamWriter;

/// Journal bytes of an op besides keys, values and batches.
const OP_BYTES: u64 = 128;
/// What the plan needs to know of the engine.
#[derive(Debug)]
pub(crate) struct PlanContext<'a> {
    pub(crate) streams: &'a BTreeMap<StreamId, StreamWriter>,
    pub(crate) epoch: i32,
    pub(crate) now_ms: i64,
    /// See [`crate::engine::Engine::steady_ms`].
    pub(crate) steady_ms: i64,
    pub(crate) table_weak: bool,
    pub(crate) table_bytes: u64,
    /// Why appends are refused, if the volume is full.
    pub(crate) no_space: Option<&'a CommitError>,
}

/// A change of everything that is not segment data.
#[derive(Debug)]
pub(crate) enum Effect {
    Put(Table, Bytes, Bytes),
    Delete(Table, Bytes),
    Ack(StreamId, Offset, Offset),
    /// With whether the last segment may go too.
    Trim(StreamId, Offset, bool),
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
    /// A group has weak parts and others: it is published as a whole, after the sync.
    pub(crate) mixed: bool,
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
            Prepared::Plain(_) | Prepared::Expire { .. } => OP_BYTES,
            Prepared::Refused(_) => 0,
        })
        .sum()
}

impl Plan {
    /// Without anything; what it copies goes into `arena`, which is empty.
    pub(crate) fn new(arena: Vec<u8>) -> Self {
        Plan {
            arena,
            ..Plan::default()
        }
    }

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
        let is_weak = |decision: &Decision<'_>| self.decision_is_weak(context, decision);
        let weak = decisions.iter().all(is_weak);
        self.mixed |= !weak && decisions.iter().any(is_weak);
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
        let (mut weak, mut some_weak) = (true, false);
        let results = ops
            .iter()
            .map(|op| {
                let (mut outcomes, op_weak) = self.add_all(context, std::slice::from_ref(op))?;
                weak &= op_weak;
                some_weak |= op_weak;
                outcomes.pop().ok_or(CommitError::Closed)
            })
            .collect();
        self.mixed |= some_weak && !weak;
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
            Prepared::Expire { stream, log_start } => {
                self.judge_trim(context, *stream, *log_start, true, overlay)
            }
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
            writer.accepts(header)?;
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
                let next = Producer::after(known, header, end, context.steady_ms);
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
                return self.judge_trim(context, *stream, *log_start, false, overlay);
            }
            // Appends are always prepared.
            Op::Append { .. } => return Err(CommitError::EmptyAppend),
        })
    }

    fn judge_trim(
        &self,
        context: &PlanContext<'_>,
        stream: StreamId,
        log_start: Offset,
        whole: bool,
        overlay: &Overlay,
    ) -> Result<Decision<'static>, CommitError> {
        let writer = writer_of(context, stream)?;
        let end = Offset(self.end_of(writer, overlay));
        if log_start > end || log_start.0 < 0 {
            return Err(out_of_range(log_start, log_start, end));
        }
        // A whole one may find the log start already there and still free the last segment.
        if log_start < writer.log_start || (log_start == writer.log_start && !whole) {
            return Ok(Decision::Outcome(OpOutcome::Done));
        }
        let trim = Effect::Trim(stream, log_start, whole);
        Ok(Decision::Effect(trim, writer.is_weak()))
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
    pub(crate) fn choose_bulk(&mut self, options: &LogOptions, journal_room: u64) {
        let mut redo = 0;
        for stream in self.streams.iter_mut().filter(|stream| !stream.weak) {
            let whole = redo + stream.bytes + OP_BYTES * stream.chunks.len() as u64;
            let bulk_bytes = match stream.acked {
                true => options.acked_bulk_bytes,
                false => options.bulk_bytes,
            };
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
