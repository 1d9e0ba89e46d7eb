//! The commit thread's side of a pass: the journal frame that puts a new segment in the place of old ones.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::CompactFault;
use super::pass::{Pass, Replacement, Step};
use super::select::FAILED_PAUSES;
use crate::codec::Writer;
use crate::engine::Engine;
use crate::error::CommitError;
use crate::jobs::Job;
use crate::journal::frame::FrameKind;
use crate::journal::writer::Group;
use crate::op::StreamId;
use crate::segment::{self, Segment};

impl Engine {
    /// Takes over what a step brought and lets the pass go on.
    pub(crate) fn compacted(&mut self, step: Step) {
        self.in_flight.compaction = false;
        let Step { pass, result } = step;
        let id = pass.state.id;
        let same = |writer: &crate::writer::StreamWriter| Arc::ptr_eq(&writer.state, &pass.state);
        if !self.streams.get(&id).is_some_and(same) {
            // Deleted meanwhile: what the step wrote goes with the directory.
            self.jobs.push(Job::RemoveDir(pass.dir.clone()));
            return;
        }
        let switched = result.and_then(|replacement| match replacement {
            Some(replacement) => self.switch(id, replacement),
            None => Ok(()),
        });
        match switched {
            Ok(()) if pass.has_more() => {
                self.in_flight.compaction = true;
                self.jobs.push(Job::Compact(pass));
            }
            Ok(()) => self.pass_done(&pass),
            Err(CompactFault::Stopped) => {}
            Err(fault) => self.pass_failed(&pass, &fault),
        }
    }

    fn pass_done(&mut self, pass: &Pass) {
        let done = pass.done;
        let map = pass.map.as_ref();
        let counters = &self.shared.housekeeping;
        counters.compaction_passes.fetch_add(1, Ordering::Relaxed);
        counters
            .compaction_read_bytes
            .fetch_add(done.read_bytes, Ordering::Relaxed);
        counters
            .compaction_written_bytes
            .fetch_add(done.written_bytes, Ordering::Relaxed);
        counters
            .compaction_removed_records
            .fetch_add(done.removed_records, Ordering::Relaxed);
        tracing::info!(
            stream = %pass.state.name,
            keys = map.map_or(0, |map| map.offsets.len()),
            up_to = map.map_or(0, |map| map.end),
            read_bytes = done.read_bytes,
            written_bytes = done.written_bytes,
            removed_records = done.removed_records,
            "compaction pass done"
        );
        // There may be more for the next one: a full map, another stream.
        self.compacted_at = self
            .clock
            .monotonic()
            .saturating_sub(self.options.compaction_pause);
    }

    fn pass_failed(&mut self, pass: &Pass, fault: &CompactFault) {
        tracing::warn!(stream = %pass.state.name, error = %fault, "compaction pass given up, trying again later");
        let counters = &self.shared.housekeeping;
        counters.compaction_failures.fetch_add(1, Ordering::Relaxed);
        let later = self.options.compaction_pause.saturating_mul(FAILED_PAUSES);
        let from = self.clock.monotonic().saturating_add(later);
        if let Some(writer) = self.streams.get_mut(&pass.state.id) {
            writer.compact_from = from;
        }
    }

    /// Journals the switch, makes it durable, shows it to readers.
    fn switch(&mut self, id: StreamId, replacement: Replacement) -> Result<(), CompactFault> {
        let Replacement {
            old,
            bytes,
            end,
            new,
        } = replacement;
        let there: u64 = old.iter().map(|segment| segment.length()).sum();
        let unchanged = there == bytes && old.last().is_some_and(|last| last.end_offset() == end);
        let Some(at) = self.place_of(id, &old).filter(|_| unchanged) else {
            // Freed or mended meanwhile.
            self.throw_away(new.as_deref());
            return Err(CompactFault::Stopped);
        };
        if let Err(error) = self.journal_switch(id, &old, new.as_deref()) {
            // Poisoned, it may be in the journal all the same: then the file is needed.
            return match error {
                CommitError::NoSpace(fault) | CommitError::Io(fault) => {
                    self.throw_away(new.as_deref());
                    Err(CompactFault::Io(fault))
                }
                _ => Err(CompactFault::Stopped),
            };
        }
        self.changed = true;
        let Some(writer) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        let put = new.iter().cloned();
        let place = at..at + old.len();
        writer.state.view_mut().segments.splice(place, put);
        writer.forget(&old);
        if let Some(new) = &new {
            self.shared.open_segments.add(new);
        }
        self.unlink_later(id, old);
        Ok(())
    }

    /// Where these segments stand in the stream, if they still do.
    fn place_of(&self, id: StreamId, old: &[Arc<Segment>]) -> Option<usize> {
        let view = self.streams.get(&id)?.state.view();
        let first = old.first()?;
        let at = view
            .segments
            .iter()
            .position(|segment| Arc::ptr_eq(segment, first))?;
        let there = view.segments.get(at..at + old.len())?;
        let same = there
            .iter()
            .zip(old)
            .all(|(one, other)| Arc::ptr_eq(one, other));
        same.then_some(at)
    }

    fn journal_switch(
        &mut self,
        id: StreamId,
        old: &[Arc<Segment>],
        new: Option<&Segment>,
    ) -> Result<(), CommitError> {
        let (Some(first), Some(last)) = (old.first(), old.last()) else {
            return Ok(());
        };
        let mut out = Writer::default();
        out.i64(first.base_offset);
        out.i64(last.end_offset());
        out.u32(new.map_or(0, |new| new.generation));
        out.u64(new.map_or(0, Segment::length));
        out.i64(new.map_or(i64::MIN, Segment::max_timestamp));
        out.i64(new.map_or(first.base_offset, |new| new.clean_to));
        let mut group = Group::default();
        let kind = FrameKind::Switch;
        group.push(kind, false, id.0, &out.into_vec(), []);
        let written = self
            .journal
            .write(&group)
            .and_then(|()| self.journal.sync());
        written.map_err(|error| self.journal_fault(error))
    }

    /// Removes the file of a segment that nobody will ever know.
    fn throw_away(&mut self, new: Option<&Segment>) {
        let Some(new) = new else { return };
        let Some(dir) = new.path.parent() else { return };
        self.jobs.push(Job::Unlink {
            dir: dir.to_path_buf(),
            names: segment::all_names(new.base_offset, new.generation).into(),
        });
    }
}
