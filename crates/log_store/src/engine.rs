//! The engine: all of the log's state behind the commit thread, without a thread of its own. The commit loop drives it
//! in production; crash tests drive it step by step and run its jobs wherever they like.
//!
//! This file: state, stream changes, time, checkpoints, jobs. The way of a commit round is in [`crate::commit`]. It is
//! longer than 500 lines because what a checkpoint starts and what its end changes are one state, read together.
//!
//! Invariant: after a failed sync the log has either been mended before anybody is answered ([`crate::mend`]), or
//! `failure` is set and nothing is accepted until it is opened again (faults.md §3.2 rule 4).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::checkpoint::Snapshot;
use crate::clock::Clock;
use crate::error::{CommitError, IoFault, OpenError};
use crate::fs::{Fs, Lock, OpenMode};
use crate::jobs::{CheckpointFault, CheckpointJob, IndexSave, Job, JobDone, SyncFault, SyncFile};
use crate::journal::files;
use crate::journal::writer::{JournalError, JournalWriter};
use crate::log::Shared;
use crate::mend::Covered;
use crate::op::StreamId;
use crate::queue::tell;
use crate::recovery::{self, RecoveryReport};
use crate::segment::Segment;
use crate::segment_writes::SecondHand;
use crate::settings::LogOptions;
use crate::writer::StreamWriter;

/// Subdirectory of the journal.
pub(crate) const JOURNAL_DIR: &str = "journal";
/// Subdirectory of the checkpoints.
pub(crate) const CHECKPOINT_DIR: &str = "checkpoint";
/// Subdirectory of the streams.
pub(crate) const LOG_DIR: &str = "log";
/// A checkpoint that could not be written is tried again after this.
const CHECKPOINT_RETRY: Duration = Duration::from_secs(1);

/// Which periodic jobs are with the housekeeper, and how many jobs at all.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    pub(crate) total: usize,
    pub(crate) checkpoint: bool,
    pub(crate) spare: bool,
    pub(crate) retire: bool,
    pub(crate) flush: bool,
    pub(crate) compaction: bool,
    /// What the checkpoint and the flush are syncing.
    checkpointed: Vec<Arc<Segment>>,
    flushed: Vec<Arc<Segment>>,
}

impl InFlight {
    /// Segments that the housekeeper is syncing.
    pub(crate) fn segments(&self) -> Vec<Arc<Segment>> {
        let mut all = self.checkpointed.clone();
        let new = |segment: &&Arc<Segment>| !all.iter().any(|known| Arc::ptr_eq(known, segment));
        let more: Vec<_> = self.flushed.iter().filter(new).cloned().collect();
        all.extend(more);
        all
    }
}

/// Files whose removal waits for a checkpoint at or behind an LSN: until then a start still needs their batches to know
/// the producers. And for a time, if the stream's settings say so.
#[derive(Debug)]
pub(crate) struct PendingUnlink {
    pub(crate) lsn: u64,
    /// On the monotonic clock.
    pub(crate) not_before: Duration,
    pub(crate) dir: PathBuf,
    pub(crate) names: Vec<String>,
    /// Whose they were; one of the files may become another segment.
    pub(crate) stream: StreamId,
    pub(crate) freed: Vec<Arc<Segment>>,
}

/// All state of an open log.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) options: LogOptions,
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shared: Arc<Shared>,
    /// In order of their ids, so that what is written for all of them is the same in each run.
    pub(crate) streams: BTreeMap<StreamId, StreamWriter>,
    pub(crate) journal: JournalWriter,
    /// The newest checkpoint that is durable.
    pub(crate) covered: Covered,
    pub(crate) next_stream_id: u32,
    pub(crate) failure: Option<IoFault>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) in_flight: InFlight,
    pub(crate) unlinks: Vec<PendingUnlink>,
    /// Segments that end before the end of their files, which are cut once a checkpoint says so.
    pub(crate) ended: Vec<Arc<Segment>>,
    /// Something happened since the last checkpoint.
    pub(crate) changed: bool,
    /// Segment bytes since the last checkpoint.
    pub(crate) data_bytes: u64,
    pub(crate) checkpoint_at: Duration,
    pub(crate) retention_at: Duration,
    pub(crate) compacted_at: Duration,
    /// Asks a compaction step to end.
    pub(crate) stop_compaction: Arc<AtomicBool>,
    pub(crate) waiters: Vec<oneshot::Sender<Result<(), CommitError>>>,
    pub(crate) next_waiters: Vec<oneshot::Sender<Result<(), CommitError>>>,
    /// Set while the next journal file cannot be made.
    pub(crate) spare_fault: Option<IoFault>,
    /// Free bytes at the last look, less what was written since.
    pub(crate) free_bytes: u64,
    pub(crate) free_looked_at: Option<Duration>,
    /// Wall time in milliseconds and monotonic time when it was opened.
    pub(crate) opened_at: (i64, Duration),
    /// For what a round copies; empty in between.
    pub(crate) arena: Vec<u8>,
    /// Helps with rounds of many segments where the log has threads.
    pub(crate) second_hand: Option<SecondHand>,
    /// Given back last.
    pub(crate) _lock: Box<dyn Lock>,
}

impl Engine {
    /// Opens or creates the log.
    pub(crate) fn open(
        options: LogOptions,
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Engine, RecoveryReport), OpenError> {
        recovery::open(options, fs, clock)
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Whether time will have something to do.
    pub(crate) fn is_busy(&self) -> bool {
        self.failure.is_none()
            && (self.changed || self.in_flight.total > 0 || self.spare_fault.is_some())
    }

    pub(crate) fn jobs_in_flight(&self) -> usize {
        self.in_flight.total + self.jobs.len()
    }

    /// The jobs made since the last call; each must be run and reported with [`Engine::job_done`].
    pub(crate) fn take_jobs(&mut self) -> Vec<Job> {
        self.in_flight.total += self.jobs.len();
        std::mem::take(&mut self.jobs)
    }

    /// Stops accepting. Nothing is retried: the next start recovers from what was synced.
    pub(crate) fn poison(&mut self, fault: IoFault) {
        if self.failure.is_some() {
            return;
        }
        tracing::error!(error = %fault, "the log stops accepting until it is opened again");
        *self
            .shared
            .failure
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Some(fault.clone());
        for waiter in self.waiters.drain(..).chain(self.next_waiters.drain(..)) {
            tell(waiter, Err(CommitError::Poisoned(fault.clone())));
        }
        self.failure = Some(fault);
    }

    /// Turns a journal failure into a commit's, after mending what can be mended.
    pub(crate) fn journal_fault(&mut self, error: JournalError) -> CommitError {
        match error {
            JournalError::NoRoom(fault) => commit_fault(fault),
            JournalError::Broken(fault) => {
                let mended = self.mend(&fault, Vec::new(), true);
                mended.err().unwrap_or_else(|| commit_fault(fault))
            }
        }
    }

    /// Does what time demands.
    pub(crate) fn tick(&mut self) {
        if self.failure.is_some() {
            return;
        }
        let now = self.clock.monotonic();
        self.flush_intervals(now);
        if now.saturating_sub(self.retention_at) >= self.options.retention_check_interval {
            self.retention_at = now;
            self.retain();
        }
        self.compact_if_due(now);
        self.free_drained();
        self.release_unlinks(now);
        let due = now.saturating_sub(self.checkpoint_at) >= self.options.checkpoint_interval;
        if due && self.changed {
            self.start_checkpoint();
        }
        self.prepare_spare();
    }

    fn flush_intervals(&mut self, now: Duration) {
        if self.in_flight.flush {
            return;
        }
        let mut files = Vec::new();
        for writer in self.streams.values_mut() {
            if !writer.flush_due(now) {
                continue;
            }
            match open_for_sync(&*self.fs, &writer.unsynced) {
                Ok(more) => {
                    files.extend(more);
                    writer.flushed_at = now;
                    writer.flush_wanted = false;
                }
                Err(error) => tracing::warn!(%error, "cannot sync a stream now, trying again"),
            }
        }
        if !files.is_empty() {
            self.in_flight.flush = true;
            self.in_flight.flushed = segments_of(&files);
            self.jobs.push(Job::Flush(files));
        }
    }

    /// Starts a checkpoint if enough has happened.
    pub(crate) fn checkpoint_if_large(&mut self) {
        if self.journal.written() >= self.options.checkpoint_journal_bytes
            || self.data_bytes >= self.options.checkpoint_data_bytes
        {
            self.start_checkpoint();
        }
    }

    /// Starts a checkpoint for somebody who waits for it.
    pub(crate) fn checkpoint_for(&mut self, reply: oneshot::Sender<Result<(), CommitError>>) {
        if let Some(fault) = &self.failure {
            tell(reply, Err(CommitError::Poisoned(fault.clone())));
        } else if self.in_flight.checkpoint {
            self.next_waiters.push(reply);
        } else {
            self.waiters.push(reply);
            self.start_checkpoint();
        }
    }

    pub(crate) fn start_checkpoint(&mut self) {
        if self.in_flight.checkpoint || self.failure.is_some() {
            return;
        }
        match self.make_checkpoint(false) {
            Ok(job) => {
                self.in_flight.checkpoint = true;
                self.in_flight.checkpointed = segments_of(&job.files);
                self.jobs.push(Job::Checkpoint(Box::new(job)));
            }
            Err(fault) => {
                tracing::warn!(error = %fault, "no checkpoint now, trying again");
                self.checkpoint_failed(&fault);
            }
        }
    }

    /// Wall time without its jumps: that of the start, and what has gone by since. A producer that is forgotten because
    /// somebody set the clock would repeat what it has no answer for.
    pub(crate) fn steady_ms(&self) -> i64 {
        let (wall_ms, from) = self.opened_at;
        let since = self.clock.monotonic().saturating_sub(from);
        wall_ms.saturating_add(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    pub(crate) fn make_checkpoint(&mut self, clean: bool) -> Result<CheckpointJob, IoFault> {
        let oldest_ms = self.steady_ms().saturating_sub(
            i64::try_from(self.options.producer_expiry.as_millis()).unwrap_or(i64::MAX),
        );
        let mut files = Vec::new();
        for writer in self.streams.values() {
            let ended = writer.ended_in_recycled(clean);
            let mut segments = writer.unsynced.clone();
            segments.extend(
                ended
                    .iter()
                    .filter(|one| !is_in(one, &writer.unsynced))
                    .cloned(),
            );
            for mut file in open_for_sync(&*self.fs, &segments)? {
                file.cut = is_in(&file.segment, &ended);
                files.push(file);
            }
        }
        let mut indexes = Vec::new();
        let mut streams = Vec::with_capacity(self.streams.len());
        for writer in self.streams.values_mut() {
            writer.producers.expire(oldest_ms);
            indexes.extend(writer.unsynced.drain(..).filter_map(index_save));
            streams.push(writer.snapshot());
        }
        self.checkpoint_at = self.clock.monotonic();
        self.changed = false;
        self.data_bytes = 0;
        let tables = &self.shared.tables;
        Ok(CheckpointJob {
            files,
            snapshot: Snapshot {
                lsn: self.journal.last_lsn(),
                place: self.journal.place(),
                next_stream_id: self.next_stream_id,
                clean,
                tables: tables
                    .read()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone(),
                streams,
            },
            dir: self.options.dir.join(CHECKPOINT_DIR),
            indexes,
            journal_bytes: self.journal.written(),
        })
    }

    fn checkpoint_failed(&mut self, fault: &IoFault) {
        self.shared.counts.add_failed_checkpoint(fault);
        self.changed = true;
        let soon = self
            .options
            .checkpoint_interval
            .saturating_sub(CHECKPOINT_RETRY);
        self.checkpoint_at = self.clock.monotonic().saturating_sub(soon);
        for waiter in self.waiters.drain(..) {
            tell(waiter, Err(commit_fault(fault.clone())));
        }
    }

    /// Takes note of what a job has done.
    pub(crate) fn job_done(&mut self, done: JobDone) {
        self.in_flight.total = self.in_flight.total.saturating_sub(1);
        match done {
            JobDone::Checkpoint {
                result,
                lsn,
                place,
                journal_bytes,
            } => {
                self.in_flight.checkpoint = false;
                self.in_flight.checkpointed.clear();
                match result {
                    Ok(()) => self.checkpoint_stored(lsn, place, journal_bytes),
                    Err(CheckpointFault::Write(fault)) => {
                        tracing::warn!(error = %fault, "no checkpoint, trying again");
                        self.checkpoint_failed(&fault);
                    }
                    Err(CheckpointFault::Sync(failed)) => self.sync_failed(failed),
                }
                if !self.next_waiters.is_empty() {
                    self.waiters = std::mem::take(&mut self.next_waiters);
                    self.start_checkpoint();
                }
            }
            JobDone::Spare(result) => {
                self.in_flight.spare = false;
                match result {
                    Ok(filled) => {
                        self.journal.spare = true;
                        self.journal.spare_filled = filled;
                        self.spare_fault = None;
                    }
                    Err(fault) => self.spare_fault = Some(fault),
                }
            }
            JobDone::Retired { spare } => {
                self.in_flight.retire = false;
                self.journal.spare |= spare;
                if spare {
                    self.journal.spare_filled = true;
                    self.spare_fault = None;
                }
            }
            JobDone::Flushed(result) => {
                self.in_flight.flush = false;
                self.in_flight.flushed.clear();
                // The references must be durable too, else recovery cuts what they name.
                match result {
                    Err(failed) => self.sync_failed(failed),
                    Ok(()) if self.failure.is_none() => {
                        if let Err(error) = self.journal.sync() {
                            self.journal_fault(error);
                        }
                    }
                    Ok(()) => {}
                }
            }
            JobDone::Removed => {}
            JobDone::Recycled(stream, spare) => self.recycled(stream, spare),
            JobDone::Compacted(step) if self.failure.is_none() => self.compacted(step),
            JobDone::Compacted(_) | JobDone::CompactionLost => self.in_flight.compaction = false,
        }
    }

    /// Segments could not be synced beside the commits. A checkpoint comes of mending, if they still count.
    fn sync_failed(&mut self, failed: SyncFault) {
        if self.failure.is_none() && self.mend(&failed.fault, failed.segments, false).is_ok() {
            // Nothing may have been left to mend; who waits for a checkpoint gets one all the same.
            self.changed = true;
            if !self.waiters.is_empty() {
                self.start_checkpoint();
            }
        }
    }

    pub(crate) fn tell_waiters(&mut self) {
        for waiter in self.waiters.drain(..) {
            tell(waiter, Ok(()));
        }
    }

    /// Removes journal files that failed: they are not used again.
    pub(crate) fn remove_failed(&mut self, sequences: Vec<u64>) {
        if !sequences.is_empty() {
            self.jobs.push(Job::Unlink {
                dir: self.journal.dir().clone(),
                names: sequences.into_iter().map(files::file_name).collect(),
            });
        }
    }

    /// Recycles journal files that no checkpoint needs.
    pub(crate) fn retire(&mut self, sequences: Vec<u64>) {
        if !sequences.is_empty() {
            self.in_flight.retire = true;
            self.jobs.push(Job::Retire {
                dir: self.journal.dir().clone(),
                sequences,
                spare: self.journal.spare,
                capacity: self.journal.capacity(),
            });
        }
    }

    /// The final checkpoint. Nothing is in flight any more.
    pub(crate) fn close(&mut self) -> Result<(), CommitError> {
        if let Some(fault) = &self.failure {
            return Err(CommitError::Poisoned(fault.clone()));
        }
        if let Err(error) = self.journal.sync() {
            let error = self.journal_fault(error);
            if self.failure.is_some() {
                return Err(error);
            }
        }
        self.stop_recycling();
        self.checkpoint_here(true)?;
        // Tidying up; what fails here is done at the next start.
        for job in self.take_jobs() {
            let done = job.run(&*self.fs);
            self.job_done(done);
        }
        Ok(())
    }
}

/// What a commit says about a file call that touched nothing acknowledged.
pub(crate) fn commit_fault(fault: IoFault) -> CommitError {
    if fault.is_no_space() {
        CommitError::NoSpace(fault)
    } else {
        CommitError::Io(fault)
    }
}

/// Opens segments again for a sync by another thread.
pub(crate) fn open_for_sync(
    fs: &dyn Fs,
    segments: &[Arc<Segment>],
) -> Result<Vec<SyncFile>, IoFault> {
    let mut files = Vec::with_capacity(segments.len());
    for segment in segments {
        match fs.open(&segment.path, OpenMode::Write) {
            Ok(file) => files.push(SyncFile {
                file,
                covers: (segment.length(), segment.end_offset()),
                segment: Arc::clone(segment),
                cut: false,
            }),
            // Freed and removed meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(IoFault::of("open segment", &segment.path)(error)),
        }
    }
    Ok(files)
}

fn is_in(segment: &Arc<Segment>, segments: &[Arc<Segment>]) -> bool {
    segments.iter().any(|one| Arc::ptr_eq(one, segment))
}

fn segments_of(files: &[SyncFile]) -> Vec<Arc<Segment>> {
    files.iter().map(|file| Arc::clone(&file.segment)).collect()
}

fn index_save(segment: Arc<Segment>) -> Option<IndexSave> {
    let (entries, anew, total) = segment.with_index(|index| {
        let (entries, anew) = index.unsaved();
        (entries, anew, index.len())
    })?;
    Some(IndexSave {
        segment,
        entries,
        anew,
        total,
    })
}
