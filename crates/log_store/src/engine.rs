//! The engine: all of the log's state behind the commit thread, without a thread of its own. The commit loop drives it
//! in production; crash tests drive it step by step and run its jobs wherever they like.
//!
//! This file: state, stream changes, time, checkpoints, jobs. The way of a commit round is in [`crate::commit`].
//!
//! Invariant: after a failed sync of anything that was acknowledged or will be, `failure` is set and nothing is accepted
//! until the log is opened again (faults.md §3.2 rule 4).

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::checkpoint::Snapshot;
use crate::clock::Clock;
use crate::codec::Writer;
use crate::error::{CommitError, IoFault, OpenError};
use crate::fs::{Fs, Lock, OpenMode};
use crate::jobs::{CheckpointFault, CheckpointJob, IndexSave, Job, JobDone, SyncFile};
use crate::journal::frame::{FrameKind, encode_settings};
use crate::journal::writer::{Group, JournalError, JournalWriter};
use crate::log::Shared;
use crate::op::StreamId;
use crate::queue::{Control, tell};
use crate::recovery::{self, RecoveryReport};
use crate::segment::Segment;
use crate::settings::{LogOptions, MAX_STREAM_NAME_BYTES, StreamSettings};
use crate::stream::{self, StreamState, StreamView};
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
}

/// Files whose removal waits for a checkpoint at or behind an LSN: until then a start still needs their batches to know
/// the producers.
#[derive(Debug)]
pub(crate) struct PendingUnlink {
    pub(crate) lsn: u64,
    pub(crate) dir: PathBuf,
    pub(crate) names: Vec<String>,
}

/// All state of an open log.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) options: LogOptions,
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) streams: HashMap<StreamId, StreamWriter>,
    pub(crate) journal: JournalWriter,
    pub(crate) next_stream_id: u32,
    pub(crate) failure: Option<IoFault>,
    pub(crate) jobs: Vec<Job>,
    pub(crate) in_flight: InFlight,
    pub(crate) unlinks: Vec<PendingUnlink>,
    /// Something happened since the last checkpoint.
    pub(crate) changed: bool,
    /// Segment bytes since the last checkpoint.
    pub(crate) data_bytes: u64,
    pub(crate) checkpoint_at: Duration,
    pub(crate) retention_at: Duration,
    pub(crate) waiters: Vec<oneshot::Sender<Result<(), CommitError>>>,
    pub(crate) next_waiters: Vec<oneshot::Sender<Result<(), CommitError>>>,
    /// Set while the next journal file cannot be made.
    pub(crate) spare_fault: Option<IoFault>,
    /// Free bytes at the last look, less what was written since.
    pub(crate) free_bytes: u64,
    pub(crate) free_looked_at: Option<Duration>,
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

    /// Creates, updates and deletes streams, all in one group.
    pub(crate) fn control(&mut self, controls: Vec<Control>) {
        if let Some(fault) = &self.failure {
            for control in controls {
                control.fail(CommitError::Poisoned(fault.clone()));
            }
            return;
        }
        let mut rest = controls.into_iter();
        // A group must fit into a journal file; the rest waits for the next one.
        loop {
            let mut batch = ControlBatch::default();
            let largest = self.journal.largest_group() / 4;
            for control in rest.by_ref() {
                self.plan_control(control, &mut batch);
                if batch.group.bytes() > largest {
                    break;
                }
            }
            if batch.planned.is_empty() {
                return;
            }
            self.run_controls(batch);
        }
    }

    fn plan_control(&mut self, control: Control, batch: &mut ControlBatch) {
        match control {
            Control::Create {
                name,
                settings,
                reply,
            } => match self.judge_create(&name, &settings, batch) {
                Err(error) => {
                    tell(reply, Err(error));
                }
                Ok(Some(id)) => {
                    tell(reply, Ok(id));
                }
                Ok(None) => {
                    let id = StreamId(self.next_stream_id);
                    self.next_stream_id += 1;
                    let mut out = Writer::default();
                    out.bytes(name.as_bytes());
                    encode_settings(&settings, &mut out);
                    let kind = FrameKind::CreateStream;
                    batch.group.push(kind, false, id.0, &out.into_vec(), []);
                    batch.created.insert(name.clone(), (id, settings.clone()));
                    batch
                        .planned
                        .push(Planned::Create(id, name, settings, reply));
                }
            },
            Control::Update {
                id,
                settings,
                reply,
            } => {
                let known = self.streams.contains_key(&id);
                match check_settings(&settings) {
                    _ if !known => tell(reply, Err(CommitError::UnknownStream(id))),
                    Err(error) => tell(reply, Err(error)),
                    Ok(()) => {
                        let mut out = Writer::default();
                        encode_settings(&settings, &mut out);
                        let kind = FrameKind::UpdateStream;
                        batch.group.push(kind, false, id.0, &out.into_vec(), []);
                        batch.planned.push(Planned::Update(id, settings, reply));
                    }
                }
            }
            Control::Delete { id, reply } => {
                if !self.streams.contains_key(&id) || batch.deleted.contains(&id) {
                    tell(reply, Err(CommitError::UnknownStream(id)));
                    return;
                }
                let kind = FrameKind::DeleteStream;
                batch.group.push(kind, false, id.0, &[], []);
                batch.deleted.push(id);
                batch.planned.push(Planned::Delete(id, reply));
            }
        }
    }

    /// The stream if it is there already, `None` if it has to be made.
    fn judge_create(
        &self,
        name: &str,
        settings: &StreamSettings,
        batch: &ControlBatch,
    ) -> Result<Option<StreamId>, CommitError> {
        let bad_name = name.is_empty()
            || name.len() > MAX_STREAM_NAME_BYTES
            || name.contains(char::is_control);
        if bad_name {
            return Err(CommitError::BadStreamName {
                name: name.chars().take(100).collect(),
                allowed: MAX_STREAM_NAME_BYTES,
            });
        }
        check_settings(settings)?;
        let exists = |id, same: bool| {
            if same {
                Ok(Some(id))
            } else {
                Err(CommitError::StreamExists(id))
            }
        };
        if let Some((id, planned)) = batch.created.get(name) {
            return exists(*id, planned == settings);
        }
        let id = {
            let registry = &self.shared.registry;
            let registry = registry.read().unwrap_or_else(PoisonError::into_inner);
            registry.by_name.get(name).copied()
        };
        match id.filter(|id| !batch.deleted.contains(id)) {
            None => Ok(None),
            Some(id) => {
                let same = self
                    .streams
                    .get(&id)
                    .is_some_and(|writer| writer.settings == *settings);
                exists(id, same)
            }
        }
    }

    fn run_controls(&mut self, batch: ControlBatch) {
        let ControlBatch { group, planned, .. } = batch;
        match self.commit_controls(&group, &planned) {
            Ok(()) => {
                self.changed = true;
                for control in planned {
                    self.apply_control(control);
                }
            }
            Err(error) => {
                for control in planned {
                    control.fail(error.clone());
                }
            }
        }
    }

    fn commit_controls(
        &mut self,
        group: &Group<'_>,
        planned: &[Planned],
    ) -> Result<(), CommitError> {
        let log_dir = self.options.dir.join(LOG_DIR);
        let mut made = false;
        for control in planned {
            match control {
                Planned::Create(id, name, ..) => {
                    let dir = log_dir.join(stream::dir_name(*id, name));
                    self.fs
                        .create_dir_all(&dir)
                        .map_err(IoFault::of("create stream directory", &dir))
                        .map_err(commit_fault)?;
                    made = true;
                }
                Planned::Update(id, settings, _) => self.harden(*id, settings)?,
                Planned::Delete(..) => {}
            }
        }
        if made {
            self.fs
                .sync_dir(&log_dir)
                .map_err(IoFault::of("sync directory", &log_dir))
                .map_err(commit_fault)?;
        }
        let written = self.journal.write(group).and_then(|()| self.journal.sync());
        written.map_err(|error| self.journal_fault(error))
    }

    /// From now on appends of this stream promise that all before them is durable: make that true.
    fn harden(&mut self, id: StreamId, settings: &StreamSettings) -> Result<(), CommitError> {
        let Some(writer) = self.streams.get(&id) else {
            return Ok(());
        };
        if !writer.is_weak() || !settings.durability.is_fsync() {
            return Ok(());
        }
        let files = open_for_sync(&*self.fs, &writer.unsynced).map_err(CommitError::Io)?;
        let done = Job::Flush(files).run(&*self.fs);
        if let JobDone::Flushed(Err(fault)) = done {
            self.poison(fault.clone());
            return Err(CommitError::Poisoned(fault));
        }
        Ok(())
    }

    fn apply_control(&mut self, control: Planned) {
        let now = self.clock.monotonic();
        match control {
            Planned::Create(id, name, settings, reply) => {
                let dir = self
                    .options
                    .dir
                    .join(LOG_DIR)
                    .join(stream::dir_name(id, &name));
                let view = StreamView::new(settings.clone());
                let state = Arc::new(StreamState::new(id, name.clone(), dir, view));
                self.streams
                    .insert(id, StreamWriter::empty(Arc::clone(&state), settings, now));
                self.register(|registry| {
                    registry.by_id.insert(id, state);
                    registry.by_name.insert(name, id);
                });
                tell(reply, Ok(id));
            }
            Planned::Update(id, settings, reply) => {
                if let Some(writer) = self.streams.get_mut(&id) {
                    writer.settings = settings.clone();
                    writer.state.view_mut().settings = settings;
                }
                tell(reply, Ok(()));
            }
            Planned::Delete(id, reply) => {
                if let Some(writer) = self.streams.remove(&id) {
                    let state = writer.state;
                    state.view_mut().deleted = true;
                    self.register(|registry| {
                        registry.by_id.remove(&id);
                        registry.by_name.remove(&state.name);
                    });
                    self.unlinks.retain(|unlink| unlink.dir != state.dir);
                    self.jobs.push(Job::RemoveDir(state.dir.clone()));
                }
                tell(reply, Ok(()));
            }
        }
    }

    fn register(&self, change: impl FnOnce(&mut crate::log::Registry)) {
        let registry = &self.shared.registry;
        change(&mut registry.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Turns a journal failure into a commit's, poisoning the log if it is final.
    pub(crate) fn journal_fault(&mut self, error: JournalError) -> CommitError {
        match error {
            JournalError::NoRoom(fault) => commit_fault(fault),
            JournalError::Broken(fault) => {
                self.poison(fault.clone());
                CommitError::Poisoned(fault)
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
            self.jobs.push(Job::Flush(files));
        }
    }

    /// Asks for the next journal file in good time. A used file that a checkpoint frees is as good as a new one and
    /// costs no write of a whole file, so a new one is made only when there is none to free, or when it gets late.
    pub(crate) fn prepare_spare(&mut self) {
        let (room, capacity) = (self.journal.room(), self.journal.capacity());
        let on_its_way = self.in_flight.spare || self.in_flight.retire;
        if self.journal.spare || on_its_way || room > capacity / 4 * 3 {
            return;
        }
        let late = room < capacity / 4;
        if self.journal.has_used_files() && !late {
            self.start_checkpoint();
        } else if late || room < capacity / 2 {
            self.in_flight.spare = true;
            self.jobs.push(Job::Spare {
                dir: self.journal.dir().clone(),
                capacity,
            });
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
                self.jobs.push(Job::Checkpoint(Box::new(job)));
            }
            Err(fault) => {
                tracing::warn!(error = %fault, "no checkpoint now, trying again");
                self.checkpoint_failed(&fault);
            }
        }
    }

    fn make_checkpoint(&mut self, clean: bool) -> Result<CheckpointJob, IoFault> {
        let oldest_ms = self.clock.now_ms().saturating_sub(
            i64::try_from(self.options.producer_expiry.as_millis()).unwrap_or(i64::MAX),
        );
        let mut files = Vec::new();
        for writer in self.streams.values() {
            files.extend(open_for_sync(&*self.fs, &writer.unsynced)?);
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
                sequence,
                journal_bytes,
            } => {
                self.in_flight.checkpoint = false;
                self.checkpoint_done(result, lsn, sequence, journal_bytes);
                if !self.next_waiters.is_empty() {
                    self.waiters = std::mem::take(&mut self.next_waiters);
                    self.start_checkpoint();
                }
            }
            JobDone::Spare(result) => {
                self.in_flight.spare = false;
                self.journal.spare |= result.is_ok();
                self.spare_fault = result.err();
            }
            JobDone::Retired { spare } => {
                self.in_flight.retire = false;
                self.journal.spare |= spare;
                if spare {
                    self.spare_fault = None;
                }
            }
            JobDone::Flushed(result) => {
                self.in_flight.flush = false;
                // The references must be durable too, else recovery cuts what they name.
                let synced = match result {
                    Ok(()) => self.journal.sync().map_err(|error| match error {
                        JournalError::NoRoom(fault) | JournalError::Broken(fault) => fault,
                    }),
                    Err(fault) => Err(fault),
                };
                if let Err(fault) = synced {
                    self.poison(fault);
                }
            }
            JobDone::Removed => {}
        }
    }

    fn checkpoint_done(
        &mut self,
        result: Result<(), CheckpointFault>,
        lsn: u64,
        sequence: u64,
        journal_bytes: u64,
    ) {
        match result {
            Ok(()) => {
                let sequences = self.journal.forget_before(sequence, journal_bytes);
                self.retire(sequences);
                self.release_unlinks(lsn);
                for waiter in self.waiters.drain(..) {
                    tell(waiter, Ok(()));
                }
            }
            Err(CheckpointFault::Write(fault)) => {
                tracing::warn!(error = %fault, "no checkpoint, trying again");
                self.checkpoint_failed(&fault);
            }
            Err(CheckpointFault::Sync(fault)) => self.poison(fault),
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

    /// Removes files that a checkpoint at `lsn` no longer names.
    fn release_unlinks(&mut self, lsn: u64) {
        let (ready, waiting) = std::mem::take(&mut self.unlinks)
            .into_iter()
            .partition(|unlink: &PendingUnlink| unlink.lsn <= lsn);
        self.unlinks = waiting;
        let ready: Vec<PendingUnlink> = ready;
        self.jobs
            .extend(ready.into_iter().map(|unlink| Job::Unlink {
                dir: unlink.dir,
                names: unlink.names,
            }));
    }

    /// Writes a checkpoint on this thread: at the end, or at a start that needs one.
    pub(crate) fn checkpoint_here(&mut self, clean: bool) -> Result<(), CommitError> {
        let job = self.make_checkpoint(clean).map_err(commit_fault)?;
        self.in_flight.total += 1;
        self.in_flight.checkpoint = true;
        let done = job.run(&*self.fs);
        let failed = match &done {
            JobDone::Checkpoint {
                result: Err(CheckpointFault::Sync(fault) | CheckpointFault::Write(fault)),
                ..
            } => Some(fault.clone()),
            _ => None,
        };
        self.job_done(done);
        failed.map_or(Ok(()), |fault| Err(commit_fault(fault)))
    }

    /// The final checkpoint. Nothing is in flight any more.
    pub(crate) fn close(&mut self) -> Result<(), CommitError> {
        if let Some(fault) = &self.failure {
            return Err(CommitError::Poisoned(fault.clone()));
        }
        self.journal
            .sync()
            .map_err(|error| self.journal_fault(error))?;
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
                path: segment.path.clone(),
            }),
            // Freed and removed meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(IoFault::of("open segment", &segment.path)(error)),
        }
    }
    Ok(files)
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

fn check_settings(settings: &StreamSettings) -> Result<(), CommitError> {
    let bad = |setting, found: u32, allowed| {
        Err(CommitError::BadSetting {
            setting,
            found: u64::from(found),
            allowed,
        })
    };
    if !(1024..=i32::MAX as u32).contains(&settings.segment_bytes) {
        return bad("segment_bytes", settings.segment_bytes, "1 KiB to 2^31-1");
    }
    if !(61..=i32::MAX as u32).contains(&settings.max_batch_bytes) {
        return bad("max_batch_bytes", settings.max_batch_bytes, "61 to 2^31-1");
    }
    Ok(())
}

#[derive(Default)]
struct ControlBatch {
    group: Group<'static>,
    planned: Vec<Planned>,
    created: HashMap<String, (StreamId, StreamSettings)>,
    deleted: Vec<StreamId>,
}

enum Planned {
    Create(
        StreamId,
        String,
        StreamSettings,
        oneshot::Sender<Result<StreamId, CommitError>>,
    ),
    Update(
        StreamId,
        StreamSettings,
        oneshot::Sender<Result<(), CommitError>>,
    ),
    Delete(StreamId, oneshot::Sender<Result<(), CommitError>>),
}

impl Planned {
    fn fail(self, error: CommitError) {
        match self {
            Planned::Create(.., reply) => tell(reply, Err(error)),
            Planned::Update(.., reply) | Planned::Delete(_, reply) => {
                tell(reply, Err(error));
            }
        }
    }
}

impl Control {
    fn fail(self, error: CommitError) {
        match self {
            Control::Create { reply, .. } => tell(reply, Err(error)),
            Control::Update { reply, .. } | Control::Delete { reply, .. } => {
                tell(reply, Err(error));
            }
        }
    }
}
