//! The commit thread's own state of a stream: where the next batch goes and what is not yet synced.
//!
//! Invariant between rounds: it agrees with the published [`crate::stream::StreamView`]; segments whose bytes a
//! checkpoint may not yet name are in `unsynced`.

use std::sync::Arc;
use std::time::Duration;

use flafka_kafka_wire::records::BatchHeader;

use crate::checkpoint::{SegmentSnapshot, StreamSnapshot};
use crate::chunks::{Chunk, StreamPlan};
use crate::error::CommitError;
use crate::fs::File;
use crate::op::Offset;
use crate::producers::Producers;
use crate::read::OpenSegments;
use crate::recycle::Spare;
use crate::segment::{self, Segment};
use crate::settings::{Durability, StreamSettings};
use crate::stream::StreamState;

/// A stream as the commit thread sees it.
#[derive(Debug)]
pub(crate) struct StreamWriter {
    pub(crate) state: Arc<StreamState>,
    pub(crate) settings: StreamSettings,
    pub(crate) log_start: Offset,
    /// The next offset.
    pub(crate) end: i64,
    /// The segment that grows, with its file.
    pub(crate) active: Option<Arc<Segment>>,
    pub(crate) file: Option<Arc<dyn File>>,
    /// Where the next batch goes in it.
    pub(crate) position: u64,
    /// Position of its last index entry.
    pub(crate) indexed_at: Option<u64>,
    /// Highest timestamp in it.
    pub(crate) max_timestamp: i64,
    /// Highest timestamp of its first batch, -1 if there is none.
    pub(crate) first_timestamp: i64,
    /// Something was appended since the last retention pass.
    pub(crate) touched: bool,
    /// No compaction before this time.
    pub(crate) compact_from: Duration,
    pub(crate) producers: Producers,
    /// Segments with bytes that no checkpoint names yet.
    pub(crate) unsynced: Vec<Arc<Segment>>,
    /// Whether the newest segment got rounds that were synced in it; only such streams gain by a recycled file.
    pub(crate) bulky: bool,
    pub(crate) spare: Spare,
    /// Mode `interval`: when it was last synced, and whether something came since.
    pub(crate) flushed_at: Duration,
    pub(crate) flush_wanted: bool,
}

impl StreamWriter {
    /// A stream without data.
    pub(crate) fn empty(state: Arc<StreamState>, settings: StreamSettings, now: Duration) -> Self {
        StreamWriter {
            state,
            settings,
            log_start: Offset(0),
            end: 0,
            active: None,
            file: None,
            position: 0,
            indexed_at: None,
            max_timestamp: i64::MIN,
            first_timestamp: -1,
            touched: true,
            compact_from: Duration::ZERO,
            producers: Producers::default(),
            unsynced: Vec::new(),
            bulky: false,
            spare: Spare::None,
            flushed_at: now,
            flush_wanted: false,
        }
    }

    /// Whether a batch may go into the stream: not too large, and one record for each offset. In a stream that keeps
    /// acks it may have fewer: a sealed put of a file channel is one record for all its events.
    pub(crate) fn accepts(&self, header: &BatchHeader) -> Result<(), CommitError> {
        if header.total_len() > self.settings.max_batch_bytes as usize {
            return Err(CommitError::TooLarge {
                what: "record batch",
                found: header.total_len() as u64,
                allowed: u64::from(self.settings.max_batch_bytes),
            });
        }
        match self.settings.acked && header.record_count >= 1 {
            true => Ok(()),
            false => header
                .check_one_record_per_offset()
                .map_err(CommitError::InvalidBatch),
        }
    }

    /// Whether its appends are acknowledged before they are synced.
    pub(crate) fn is_weak(&self) -> bool {
        !self.settings.durability.is_fsync()
    }

    /// Whether an interval sync is due.
    pub(crate) fn flush_due(&self, now: Duration) -> bool {
        match self.settings.durability {
            Durability::Interval(interval) => {
                self.flush_wanted && now.saturating_sub(self.flushed_at) >= interval
            }
            _ => false,
        }
    }

    /// Takes over and publishes what a round has written.
    pub(crate) fn publish(
        &mut self,
        plan: &mut StreamPlan,
        epoch: i32,
        max_producers: usize,
        open: &OpenSegments,
    ) {
        for (id, producer) in plan.producers.drain() {
            self.producers.set(id, producer, max_producers);
        }
        if plan.chunks.is_empty() {
            return;
        }
        let state = Arc::clone(&self.state);
        {
            let mut view = state.view_mut();
            for chunk in &mut plan.chunks {
                if let Some((segment, file)) = chunk.opened.take() {
                    self.bulky = false;
                    view.segments.push(Arc::clone(&segment));
                    let sealed = self.active.replace(segment);
                    self.file = Some(file);
                    if let Some(sealed) = sealed {
                        open.add(&sealed);
                    }
                }
                self.grow(chunk, plan.bulk);
            }
            if let Some(first) = plan.first_new {
                view.note_epoch(epoch, Offset(first));
            }
            view.high_watermark = Offset(plan.end);
        }
        self.bulky |= plan.bulk;
        self.end = plan.end;
        self.position = plan.position;
        self.indexed_at = plan.indexed_at;
        self.max_timestamp = plan.max_timestamp;
        self.first_timestamp = plan.first_timestamp;
        self.touched = true;
        self.flush_wanted |= self.is_weak();
        state.announce(Offset(plan.end));
    }

    /// The next batch starts a new segment.
    pub(crate) fn seal(&mut self) {
        self.active = None;
        self.file = None;
        self.position = 0;
        self.indexed_at = None;
        self.max_timestamp = i64::MIN;
        self.first_timestamp = -1;
    }

    /// The next batch goes behind what `segment` holds.
    pub(crate) fn go_on_in(&mut self, segment: Arc<Segment>, file: Arc<dyn File>) {
        self.position = segment.length();
        self.max_timestamp = segment.max_timestamp();
        // Unknown, only its size and silence close the segment.
        self.first_timestamp = segment::first_timestamp(&*file, self.position).unwrap_or(-1);
        self.indexed_at = segment
            .with_index(|index| index.last().map(|entry| u64::from(entry.position)))
            .flatten();
        self.active = Some(segment);
        self.file = Some(file);
    }

    /// Segments in recycled files that do not grow any more; with `all` the newest one too.
    pub(crate) fn ended_in_recycled(&self, all: bool) -> Vec<Arc<Segment>> {
        let active = self.active.as_ref().filter(|_| !all);
        let grows = |one: &Arc<Segment>| active.is_some_and(|active| Arc::ptr_eq(active, one));
        let view = self.state.view();
        let segments = view.segments.iter();
        segments
            .filter(|one| one.laid_out() > 0 && !grows(one))
            .cloned()
            .collect()
    }

    /// Takes note that segments left the stream.
    pub(crate) fn forget(&mut self, gone: &[Arc<Segment>]) {
        let is_gone = |segment: &Arc<Segment>| gone.iter().any(|one| Arc::ptr_eq(one, segment));
        self.unsynced.retain(|segment| !is_gone(segment));
        if self.active.as_ref().is_some_and(is_gone) {
            self.seal();
        }
    }

    fn grow(&mut self, chunk: &Chunk, synced: bool) {
        let Some(active) = &self.active else { return };
        active.with_index(|index| {
            for entry in &chunk.entries {
                index.push(*entry);
            }
        });
        let length = chunk.position + chunk.length;
        active.publish(chunk.next_offset, length, chunk.max_timestamp);
        if synced {
            active.note_synced(length, chunk.next_offset);
        }
        if !self.unsynced.iter().any(|known| Arc::ptr_eq(known, active)) {
            self.unsynced.push(Arc::clone(active));
        }
    }

    /// Its part of a checkpoint.
    pub(crate) fn snapshot(&self) -> StreamSnapshot {
        let view = self.state.view();
        StreamSnapshot {
            id: self.state.id,
            name: self.state.name.clone(),
            settings: self.settings.clone(),
            log_start: view.log_start,
            end: self.end,
            acks: view.acks.clone(),
            epochs: view.epochs.clone(),
            segments: view
                .segments
                .iter()
                .map(|segment| SegmentSnapshot {
                    base: segment.base_offset,
                    generation: segment.generation,
                    clean_to: segment.clean_to,
                    end: segment.end_offset(),
                    length: segment.length(),
                    max_timestamp: segment.max_timestamp(),
                })
                .collect(),
            producers: self.producers.clone(),
        }
    }
}
