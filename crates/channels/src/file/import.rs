//! Takes over the events that wait in the directories of an Apache Flume file channel (`flafka log import`).
//!
//! The source is only read. Events go into the channel's log in Flume's order, some at a time; each of these commit groups
//! also moves the journaled place of the import (`import_state`). So an import that was killed goes on where it
//! was, and one that has ended does nothing when it is run again: no event is missing and none comes twice.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use flafka_flow::{Batch, BatchBuilder, HeadersBuilder};
use flafka_flume_channel::{
    Counts, Events, Finding, FlumeError, OnDamage, Plan, Progress, Severity, Source,
};
use flafka_log_store::{
    AppendStamp, Clock, Durability, Log, LogOptions, Op, RealFs, StreamId, StreamSettings,
    SystemClock, Table,
};

use super::FileChannelConfig;
use super::encryption::{KeySource, MasterKeys};
pub use super::import_error::ImportError;
use super::import_seal::Sealer;
use super::import_state::{self, ImportState};
use super::open::{JOURNAL_FILE_BYTES, STREAM};
use super::records::{encode, join};

/// Folder of the log in a data directory.
pub(super) const LOG_FOLDER: &str = "flafka";
/// A commit group ends after so many bytes of events: large enough that the sync of each is cheap.
const GROUP_BYTES: u64 = 2 << 20;
/// And after so many events.
const GROUP_EVENTS: usize = 10_000;
/// Size of the target's data files until the channel sets its own.
const SEGMENT_BYTES: u32 = 256 << 20;

/// What to import, and where to.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Flume's `checkpointDir`. Without it all logs are read from their start.
    pub checkpoint_dir: Option<PathBuf>,
    /// Flume's `dataDirs`, all of them.
    pub data_dirs: Vec<PathBuf>,
    /// The first of the `dataDirs` of our channel; the log is in its folder `flafka`.
    pub to: PathBuf,
    /// Import what can be read although something cannot.
    pub leave_out_damaged: bool,
    /// Import into a channel that holds events already; they come first then.
    pub append: bool,
    /// Only read and count.
    pub dry_run: bool,
    /// The keys of an encrypted channel; with an active one what is imported is encrypted too.
    pub keys: Option<ImportKeys>,
}

/// Where the keys of an encrypted channel are.
#[derive(Debug, Clone)]
pub struct ImportKeys(KeySource);

impl ImportKeys {
    /// Those of a channel's settings; `home` is where paths with `~` begin. `None`: it is not encrypted.
    pub fn of(config: &FileChannelConfig, home: &Path) -> Option<ImportKeys> {
        config.key_source(home).map(ImportKeys)
    }
}

/// What an import is doing.
#[derive(Debug, Clone)]
pub enum ImportStep {
    /// It finds out what waits.
    Reading(Progress),
    /// Something is not as it should be.
    Found(Finding),
    /// Events are on the disk of the target.
    Importing {
        /// So many, those of earlier runs included.
        done: u64,
        /// Of so many.
        all: u64,
    },
}

/// What an import has done.
#[derive(Debug, Clone, Default)]
pub struct ImportReport {
    /// The log in which the events are now.
    pub log_dir: PathBuf,
    /// Where reading started, for people.
    pub start: String,
    /// Log files of the source, and their bytes.
    pub source: (usize, u64),
    /// What was found there; `None` when an earlier run had ended the import.
    pub counts: Option<Counts>,
    /// Events imported by this run.
    pub imported: u64,
    /// Events imported by earlier runs.
    pub imported_before: u64,
    /// Events that were left out because they cannot be read.
    pub left_out: u64,
    /// Places that cannot be read, those of left out events included.
    pub damaged: u64,
}

/// Imports the waiting events of a Flume file channel. Blocks for as long as it takes; not for async threads.
///
/// # Errors
/// See [`ImportError`].
pub fn import(
    options: &ImportOptions,
    step: &mut dyn FnMut(ImportStep),
) -> Result<ImportReport, ImportError> {
    import_limited(options, GROUP_EVENTS, None, step)
}

/// As [`import`], with groups of at most `group_events` events; ends after `groups` of them as if it had been killed.
pub(super) fn import_limited(
    options: &ImportOptions,
    group_events: usize,
    groups: Option<usize>,
    step: &mut dyn FnMut(ImportStep),
) -> Result<ImportReport, ImportError> {
    let keys = options.keys.as_ref().map(|keys| &keys.0);
    let source = open_source(options, keys)?;
    let log_dir = options.to.join(LOG_FOLDER);
    let mut state = ImportState {
        fingerprint: source.fingerprint()?,
        directories: source.prints().to_vec(),
        ..ImportState::default()
    };
    let mut report = ImportReport {
        log_dir: log_dir.clone(),
        start: source.start(),
        source: (source.log_count(), source.log_bytes()),
        ..ImportReport::default()
    };
    // An import that has ended is found out before anything is read.
    let mut target = None;
    if !options.dry_run && log_dir.is_dir() {
        let opened = Target::open(&log_dir, &mut state, options.append, keys)?;
        if state.done {
            report.imported_before = state.imported;
            report.left_out = state.left_out;
            opened.close()?;
            return Ok(report);
        }
        target = Some(opened);
    }
    let plan = source.plan(&mut |progress| step(ImportStep::Reading(progress)))?;
    for finding in plan.findings() {
        step(ImportStep::Found(finding.clone()));
    }
    report.counts = Some(plan.counts());
    report.damaged = plan.counts().damaged;
    if options.dry_run {
        return Ok(report);
    }
    if report.damaged > 0 && !options.leave_out_damaged {
        return Err(ImportError::Damaged {
            count: report.damaged,
        });
    }
    let target = match target {
        Some(target) => target,
        None => Target::open(&log_dir, &mut state, options.append, keys)?,
    };
    report.imported_before = state.imported;
    let mut copy = Copy {
        options,
        group_events,
        groups: groups.unwrap_or(usize::MAX),
        target: &target,
        state: &mut state,
    };
    let copied = copy.run(&plan, &mut report, step);
    report.imported = state.imported - report.imported_before;
    report.left_out = state.left_out;
    let copied = copied.and_then(|ended| match source.is_unchanged()? {
        true if ended => {
            state.done = true;
            target.commit(vec![state.store()])
        }
        true => Ok(()),
        false => Err(ImportError::Changed),
    });
    let closed = target.close();
    copied?;
    closed?;
    Ok(report)
}

fn open_source(options: &ImportOptions, keys: Option<&KeySource>) -> Result<Source, ImportError> {
    let checkpoint_dir = options.checkpoint_dir.as_deref();
    let Some(keys) = keys else {
        return Ok(Source::open(checkpoint_dir, &options.data_dirs, None)?);
    };
    // The active key is for what is written; for reading only the keys of the log files are needed.
    let reading = KeySource {
        active: None,
        ..keys.clone()
    };
    let masters = MasterKeys::open(reading).map_err(ImportError::keys)?;
    let mut find = |alias: &str| masters.raw(alias).map_err(Into::into);
    Ok(Source::open(
        checkpoint_dir,
        &options.data_dirs,
        Some(&mut find),
    )?)
}

/// The events on their way into the target.
struct Copy<'a> {
    options: &'a ImportOptions,
    group_events: usize,
    groups: usize,
    target: &'a Target,
    state: &'a mut ImportState,
}

impl Copy<'_> {
    /// Brings the events from `state.next` on into the target; whether they were all.
    fn run(
        &mut self,
        plan: &Plan<'_>,
        report: &mut ImportReport,
        step: &mut dyn FnMut(ImportStep),
    ) -> Result<bool, ImportError> {
        let on_damage = match self.options.leave_out_damaged {
            true => OnDamage::LeaveOut,
            false => OnDamage::Stop,
        };
        let all = plan.counts().waiting;
        let mut events = plan.events(self.state.next, on_damage)?;
        for _ in 0..self.groups {
            let (batch, end) = self.group(&mut events);
            // What was read before a damaged event is worth keeping.
            self.target.append(&batch, events.position(), self.state)?;
            for finding in events.drain_findings() {
                report.damaged += u64::from(finding.severity == Severity::Damage);
                step(ImportStep::Found(finding));
            }
            step(ImportStep::Importing {
                done: self.state.imported + self.state.left_out,
                all,
            });
            match end {
                End::Group => {}
                End::Source => return Ok(true),
                End::Failed(FlumeError::Damaged(finding)) => {
                    let imported = self.state.imported;
                    return Err(ImportError::DamagedEvent { finding, imported });
                }
                End::Failed(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    /// The next events that are one commit group, and what ended it.
    fn group(&self, events: &mut Events<'_>) -> (Batch, End) {
        let mut batch = BatchBuilder::new();
        let mut bytes = 0;
        let mut builder = HeadersBuilder::default();
        while bytes < GROUP_BYTES && batch.len() < self.group_events {
            let event = match events.next_event() {
                Ok(Some(event)) => event,
                Ok(None) => return (batch.finish(), End::Source),
                Err(error) => return (batch.finish(), End::Failed(error)),
            };
            for (name, value) in &event.headers {
                builder.set(name, value);
                bytes += (name.len() + value.len()) as u64;
            }
            bytes += event.body.len() as u64;
            let headers = batch.headers(builder.finish());
            batch.push_copy(headers, &event.body);
        }
        (batch.finish(), End::Group)
    }
}

/// What ended a commit group.
enum End {
    /// It is large enough.
    Group,
    /// There are no more events.
    Source,
    /// The next event cannot be read.
    Failed(FlumeError),
}

/// The log that takes the events.
struct Target {
    log: Log,
    stream: StreamId,
    clock: SystemClock,
    /// With an active key.
    sealer: Option<Sealer>,
}

impl Target {
    /// Opens or creates it; `state` becomes the one of an earlier run, if there was one.
    fn open(
        dir: &Path,
        state: &mut ImportState,
        append: bool,
        keys: Option<&KeySource>,
    ) -> Result<Target, ImportError> {
        let options = LogOptions {
            journal_file_bytes: JOURNAL_FILE_BYTES,
            ..LogOptions::new(dir)
        };
        let (log, _) = Log::open(options, Arc::new(RealFs), Arc::new(SystemClock::new()))?;
        let stream = match log.stream(STREAM) {
            Some(stream) => stream,
            None => log.create_stream(STREAM, settings()).wait()?,
        };
        let mut target = Target {
            log,
            stream,
            clock: SystemClock::new(),
            sealer: None,
        };
        let found = target.find(dir, state, append, keys);
        match found.and_then(|()| target.seal_under(keys)) {
            Ok(()) => Ok(target),
            Err(error) => {
                target.close()?;
                Err(error)
            }
        }
    }

    /// From now on events are encrypted, if there is an active key.
    fn seal_under(&mut self, keys: Option<&KeySource>) -> Result<(), ImportError> {
        let Some(keys) = keys.filter(|keys| keys.active.is_some()) else {
            return Ok(());
        };
        self.sealer = Some(Sealer::open(&self.log, self.stream, keys.clone())?);
        Ok(())
    }

    fn find(
        &self,
        dir: &Path,
        state: &mut ImportState,
        append: bool,
        keys: Option<&KeySource>,
    ) -> Result<(), ImportError> {
        let dir = dir.to_path_buf();
        let seals = keys.is_some_and(|keys| keys.active.is_some());
        if !seals && !self.log.table(Table::DataKeys).is_empty() {
            return Err(ImportError::EncryptedTarget { dir });
        }
        let known = import_state::all(&self.log);
        let other = |other: &&ImportState| other.fingerprint != state.fingerprint;
        if known.iter().filter(other).any(|other| !other.done) {
            return Err(ImportError::OtherUnfinished { dir });
        }
        if let Some(found) = known
            .into_iter()
            .find(|found| found.fingerprint == state.fingerprint)
        {
            *state = found;
            return Ok(());
        }
        let bounds = self.log.bounds(self.stream)?;
        if bounds.log_start < bounds.high_watermark && !append {
            return Err(ImportError::NotEmpty { dir });
        }
        Ok(())
    }

    /// Stores a batch and where the import is behind it, in one atomic group.
    fn append(&self, batch: &Batch, next: u64, state: &mut ImportState) -> Result<(), ImportError> {
        let passed = next - state.next;
        if passed == 0 {
            return Ok(());
        }
        let count = batch.len() as u64;
        let mut after = state.clone();
        after.next = next;
        after.imported += count;
        after.left_out += passed - count;
        let mut ops = vec![after.store()];
        if count > 0 {
            let mut batches = encode(batch, self.clock.now_ms())?;
            if let Some(sealer) = &self.sealer {
                batches = sealer.seal(&self.log, batches)?;
            }
            ops.push(Op::Append {
                stream: self.stream,
                batches: join(batches),
                stamp: AppendStamp::AsStream,
            });
        }
        self.commit(ops)?;
        *state = after;
        Ok(())
    }

    fn commit(&self, ops: Vec<Op>) -> Result<(), ImportError> {
        self.log.commit_blocking(ops)?;
        Ok(())
    }

    fn close(self) -> Result<(), ImportError> {
        Ok(self.log.close_blocking()?)
    }
}

fn settings() -> StreamSettings {
    StreamSettings {
        segment_bytes: SEGMENT_BYTES,
        durability: Durability::Fsync,
        max_batch_bytes: i32::MAX as u32,
        acked: true,
        ..StreamSettings::default()
    }
}
