//! A full disk must still drain (faults.md F9): acks, trims and checkpoints work without a free byte, and they are what
//! frees space.
//!
//! - The next journal file has its space before it is needed: taken when the log opens, filled with zeroes when it comes
//!   nearer, later the used file that a checkpoint frees.
//! - A checkpoint is written into the room of an older one ([`crate::checkpoint`]).
//! - Freed segment files that wait to be used again ([`crate::recycle`]) go while there is twice as much room as has to
//!   stay.
//! - A channel whose events are all delivered gives back the segment that grows too, which no append would ever close:
//!   else what it delivered could keep the disk full for good.
//! - Appends are refused while less than `min_free_bytes` are free, or while the next journal file cannot be made.

use crate::engine::Engine;
use crate::error::{CommitError, IoFault};
use crate::jobs::Job;
use crate::op::Offset;
use crate::queue::Prepared;
use crate::writer::StreamWriter;

/// How many bytes may be written before the free space is looked at again.
const FREE_LOOK_BYTES: u64 = 8 << 20;
/// How long a look at the free space counts.
const FREE_LOOK_TIME: std::time::Duration = std::time::Duration::from_secs(1);

impl Engine {
    /// Asks for the next journal file in good time. A used file that a checkpoint frees is as good as a new one and costs
    /// no write of a whole file, so a new one is filled only when there is none to free, or when it gets late.
    pub(crate) fn prepare_spare(&mut self) {
        if self.in_flight.spare || self.in_flight.retire || self.journal.has_filled_spare() {
            return;
        }
        let (room, capacity) = (self.journal.room(), self.journal.capacity());
        let late = room < capacity / 4;
        let near = late || room < capacity / 2;
        if self.journal.has_used_files() && !late {
            if room <= capacity / 4 * 3 && !self.journal.spare {
                self.start_checkpoint();
            }
        } else if near || !self.journal.spare {
            self.in_flight.spare = true;
            self.journal.spare = false;
            self.jobs.push(Job::Spare {
                dir: self.journal.dir().clone(),
                capacity,
                fill: near,
            });
        }
    }

    /// Whether appends have to be refused, so that acks and trims can still make room.
    pub(crate) fn look_for_space(&mut self) -> Option<CommitError> {
        // Another fault may be over when the next file is needed; if not, that write says so.
        if let Some(fault) = self
            .spare_fault
            .as_ref()
            .filter(|fault| fault.is_no_space())
            && self.journal.room() < self.journal.capacity() / 4
        {
            return Some(CommitError::NoSpace(fault.clone()));
        }
        let least = self.options.min_free_bytes;
        if least == 0 {
            return None;
        }
        let now = self.clock.monotonic();
        let old = self
            .free_looked_at
            .is_none_or(|at| now.saturating_sub(at) >= FREE_LOOK_TIME);
        if old || self.free_bytes < least.saturating_add(FREE_LOOK_BYTES) {
            self.free_looked_at = Some(now);
            // A file system that cannot say how full it is will say so by the write.
            self.free_bytes = self.fs.space_left(&self.options.dir).unwrap_or(u64::MAX);
        }
        if self.space_is_short() {
            self.drop_spares();
        }
        if self.free_bytes < least {
            self.hurry_unlinks();
        }
        (self.free_bytes < least).then(|| {
            let source = std::io::Error::new(
                std::io::ErrorKind::StorageFull,
                format!("{} bytes are free, {least} have to stay", self.free_bytes),
            );
            CommitError::NoSpace(IoFault::of("append to log", &self.options.dir)(source))
        })
    }

    /// Frees the growing segments of drained channels while the disk is full.
    pub(crate) fn free_drained(&mut self) {
        if self.free_looked_at.is_none() || self.free_bytes >= self.options.min_free_bytes {
            return;
        }
        let is_drained = |writer: &&StreamWriter| {
            writer.settings.acked
                && writer.position > 0
                && writer.state.view().acks.low.0 == writer.end
        };
        let drained = self.streams.values().filter(is_drained);
        let ops: Vec<Prepared> = drained
            .map(|writer| Prepared::Expire {
                stream: writer.state.id,
                log_start: Offset(writer.end),
            })
            .collect();
        if ops.is_empty() {
            return;
        }
        tracing::info!(
            streams = ops.len(),
            "the disk is full: delivered data that is not in a closed segment goes too"
        );
        self.round_by_itself(ops);
        self.hurry_unlinks();
    }
}
