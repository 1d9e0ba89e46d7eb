//! Opening the data directories: which one is the main one, which are new, which are missing.
//!
//! A directory that gives errors is offline while the others go on; what can only be a mistake of the configuration
//! (directories of two brokers, the main one left out, one in use) stops the start, and so does a main directory that
//! does not open: without its tables nobody knows what the others hold.
//!
//! Invariant: nothing is written into a directory before it is clear that it belongs here. A directory that was emptied,
//! such as the mount point of a disk that is not mounted, is not taken for a new one while partitions are known to be in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flafka_log_store::inspect::is_log;
use flafka_log_store::{Clock, CommitError, Fs, Log, LogOptions, OpenError, RecoveryReport, Table};
use tracing::{info, warn};

use super::error::LogDirError;
use super::notes::{self, Mark, NoteError};
use super::{LogDir, LogDirs, Refusal, State};
use crate::config::BrokerConfig;
use crate::topics::directories_in_use;

/// One directory on its way.
struct Slot {
    path: PathBuf,
    id: Option<String>,
    stage: Stage,
}

enum Stage {
    /// Nothing lies there, as far as can be seen.
    New,
    Opened(Log, RecoveryReport),
    Failed(OpenError),
    Offline(String),
}

impl Slot {
    fn log(&self) -> Option<&Log> {
        match &self.stage {
            Stage::Opened(log, _) => Some(log),
            _ => None,
        }
    }
}

struct Opening<'a> {
    config: &'a BrokerConfig,
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    slots: Vec<Slot>,
}

/// Opens all directories. The report is that of the main one.
pub(crate) async fn open(
    config: &BrokerConfig,
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
) -> Result<(LogDirs, RecoveryReport), LogDirError> {
    let slot = |dir: &PathBuf| Slot {
        // Known by one name, wherever the process was started.
        path: std::path::absolute(dir).unwrap_or_else(|_| dir.clone()),
        id: None,
        stage: Stage::New,
    };
    let mut opening = Opening {
        config,
        fs,
        clock,
        slots: config.log_dirs.iter().map(slot).collect(),
    };
    let (main, log) = match opening.run().await {
        Ok(found) => found,
        Err(error) => {
            for log in opening.slots.iter().filter_map(Slot::log) {
                if let Err(error) = log.clone().close().await {
                    warn!(%error, "close the log after a failed start");
                }
            }
            return Err(error);
        }
    };
    Ok(opening.finish(main, log))
}

impl Opening<'_> {
    /// Opens what can be opened; the place of the main directory, and its log.
    async fn run(&mut self) -> Result<(usize, Log), LogDirError> {
        for place in 0..self.slots.len() {
            if is_log(&self.slots[place].path) {
                self.open_log(place).await?;
            }
        }
        let main = match self.find_main() {
            Ok(Some(main)) => main,
            Ok(None) => self.make_main().await?,
            Err(error) => {
                if let LogDirError::MainMissing { .. } = &error {
                    // One that does not open is the likelier reason.
                    self.refuse_failed()?;
                }
                return Err(error);
            }
        };
        let Some(log) = self.slots[main].log().cloned() else {
            return Err(LogDirError::Runtime);
        };
        let noted = notes::noted(&log).map_err(|source| self.unreadable(main, source))?;
        let in_use = directories_in_use(&log);
        for place in 0..self.slots.len() {
            if place != main {
                self.join(place, main, &log, &noted, &in_use).await?;
            }
        }
        self.add_missing(&log, noted, in_use)
            .await
            .map_err(|source| self.not_noted(main, source))?;
        Ok((main, log))
    }

    /// Opens one log, on a blocking thread: recovery reads files. What is wrong with one disk is kept in the slot.
    async fn open_log(&mut self, place: usize) -> Result<(), LogDirError> {
        let dir = self.slots[place].path.clone();
        // What Kafka's settings give to all directories together is divided among them.
        let share = self.slots.len() as u64;
        let config = self.config;
        let options = LogOptions {
            retention_check_interval: config.retention_check,
            compaction: config.cleaner,
            compaction_pause: config.cleaner_pause,
            compaction_buffer_bytes: (config.cleaner_buffer_bytes / share).max(1),
            compaction_bytes_per_second: config
                .cleaner_bytes_per_second
                .map(|bytes| (bytes / share).max(1)),
            node_id: config.node_id,
            ..LogOptions::new(dir.clone())
        };
        let (fs, clock) = (Arc::clone(&self.fs), Arc::clone(&self.clock));
        let opened = tokio::task::spawn_blocking(move || Log::open(options, fs, clock)).await;
        let slot = &mut self.slots[place];
        match opened.map_err(|_| LogDirError::Runtime)? {
            Ok((log, report)) => {
                slot.id = Some(log.cluster_id().to_owned());
                slot.stage = Stage::Opened(log, report);
                Ok(())
            }
            Err(source) if is_mistake(&source) => Err(LogDirError::Log { dir, source }),
            Err(source) => {
                slot.stage = Stage::Failed(source);
                Ok(())
            }
        }
    }

    /// The directory that holds the broker's tables.
    fn find_main(&self) -> Result<Option<usize>, LogDirError> {
        let mut owner: Option<usize> = None;
        let mut member = None;
        for place in 0..self.slots.len() {
            let Some(log) = self.slots[place].log() else {
                continue;
            };
            if let Some(mark) = self.mark_of(place)? {
                member.get_or_insert((place, mark));
            } else if is_blank(log) {
                // Nothing is known of it yet: it may become the main one, or another.
            } else if let Some(owner) = owner {
                return Err(LogDirError::TwoBrokers {
                    one: self.slots[owner].path.clone(),
                    other: self.slots[place].path.clone(),
                });
            } else {
                owner = Some(place);
            }
        }
        match (owner, member) {
            (None, Some((place, mark))) => Err(LogDirError::MainMissing {
                member: self.slots[place].path.clone(),
                main: mark.main_path,
            }),
            (owner, _) => Ok(owner),
        }
    }

    /// No directory holds anything: the first log becomes the main one, made now if there is none. Every directory
    /// with something in it must open, because it may be the main one.
    async fn make_main(&mut self) -> Result<usize, LogDirError> {
        for place in 0..self.slots.len() {
            let is_new = matches!(self.slots[place].stage, Stage::New);
            if is_new && holds_a_file(&self.slots[place].path) {
                self.open_log(place).await?;
            }
        }
        self.refuse_failed()?;
        if let Some(first) = self.slots.iter().position(|slot| slot.log().is_some()) {
            return Ok(first);
        }
        self.open_log(0).await?;
        self.refuse_failed()?;
        Ok(0)
    }

    /// An error when a directory did not open.
    fn refuse_failed(&mut self) -> Result<(), LogDirError> {
        let several = self.slots.len() > 1;
        for slot in &mut self.slots {
            match std::mem::replace(&mut slot.stage, Stage::New) {
                Stage::Failed(source) => {
                    let dir = slot.path.clone();
                    return Err(match several {
                        true => LogDirError::MainUnknown { dir, source },
                        false => LogDirError::Log { dir, source },
                    });
                }
                stage => slot.stage = stage,
            }
        }
        Ok(())
    }

    /// Takes a directory in: opened already, failed, or new.
    async fn join(
        &mut self,
        place: usize,
        main: usize,
        main_log: &Log,
        noted: &BTreeMap<String, PathBuf>,
        in_use: &BTreeSet<String>,
    ) -> Result<(), LogDirError> {
        let path = self.slots[place].path.clone();
        let known = noted.iter().filter(|(id, known)| {
            **known == path && self.slots.iter().all(|slot| slot.id.as_ref() != Some(id))
        });
        let known = known.map(|(id, _)| id.clone());
        let known = known.max_by_key(|id| in_use.contains(id));
        if let Stage::New = self.slots[place].stage {
            match known.as_ref().filter(|id| in_use.contains(*id)) {
                Some(id) if !holds_a_file(&path) => {
                    let slot = &mut self.slots[place];
                    slot.id = Some(id.clone());
                    slot.stage = Stage::Offline(
                        "it is empty, but partitions are in it: mount its disk or put its files back, or, if they are \
                         lost, delete the topics"
                            .to_owned(),
                    );
                    return Ok(());
                }
                _ => self.open_log(place).await?,
            }
        }
        if let Stage::Failed(error) = &self.slots[place].stage {
            let reason = error.to_string();
            let slot = &mut self.slots[place];
            slot.id = known;
            slot.stage = Stage::Offline(reason);
        }
        let Some(log) = self.slots[place].log().cloned() else {
            return Ok(());
        };
        let main_path = &self.slots[main].path;
        let wanted = Mark {
            main_id: main_log.cluster_id().to_owned(),
            main_path: main_path.clone(),
        };
        let mark = self.mark_of(place)?;
        if let Some(mark) = &mark
            && mark.main_id != wanted.main_id
        {
            return Err(LogDirError::Foreign {
                dir: path,
                owner: mark.main_path.clone(),
                main: main_path.clone(),
            });
        }
        if mark.as_ref() != Some(&wanted)
            && let Err(error) = notes::set_mark(&log, &wanted).await
        {
            warn!(dir = %path.display(), %error, "the data directory could not be marked as this broker's");
            if mark.is_none() {
                let slot = &mut self.slots[place];
                slot.stage =
                    Stage::Offline(format!("it could not be marked as this broker's: {error}"));
                if let Err(error) = log.close().await {
                    warn!(dir = %path.display(), %error, "the log did not close cleanly");
                }
                return Ok(());
            }
        }
        let id = log.cluster_id();
        if noted.get(id) != Some(&path) {
            let done = notes::note(main_log, id, &path).await;
            done.map_err(|source| self.not_noted(main, source))?;
        }
        Ok(())
    }

    /// Adds, as offline, the directories that hold partitions and were not found; forgets those that hold none.
    async fn add_missing(
        &mut self,
        main_log: &Log,
        mut noted: BTreeMap<String, PathBuf>,
        in_use: BTreeSet<String>,
    ) -> Result<(), CommitError> {
        for slot in &self.slots {
            if let Some(id) = &slot.id {
                noted.remove(id);
            }
        }
        for id in in_use {
            if self.slots.iter().any(|slot| slot.id.as_ref() == Some(&id)) {
                continue;
            }
            let path = noted
                .remove(&id)
                .unwrap_or_else(|| PathBuf::from("(unknown)"));
            let reason = match self.slots.iter().any(|slot| slot.path == path) {
                true => "another log is in its place, but partitions are in it",
                false => "log.dirs no longer names it, but partitions are in it",
            };
            self.slots.push(Slot {
                path,
                id: Some(id),
                stage: Stage::Offline(format!(
                    "{reason}: put it back, or, if they are lost or not needed, delete the topics"
                )),
            });
        }
        for (id, path) in noted {
            info!(dir = %path.display(), "a former data directory holds no partitions and is forgotten");
            notes::forget(main_log, &id).await?;
        }
        Ok(())
    }

    fn mark_of(&self, place: usize) -> Result<Option<Mark>, LogDirError> {
        let mark = self.slots[place].log().map(notes::mark);
        let mark = mark.transpose();
        Ok(mark
            .map_err(|source| self.unreadable(place, source))?
            .flatten())
    }

    fn unreadable(&self, place: usize, source: NoteError) -> LogDirError {
        LogDirError::Note {
            dir: self.slots[place].path.clone(),
            source,
        }
    }

    fn not_noted(&self, main: usize, source: CommitError) -> LogDirError {
        LogDirError::Commit {
            dir: self.slots[main].path.clone(),
            source,
        }
    }

    fn finish(self, main: usize, main_log: Log) -> (LogDirs, RecoveryReport) {
        let mut recovery = RecoveryReport::default();
        let mut all = Vec::with_capacity(self.slots.len());
        for (index, slot) in self.slots.into_iter().enumerate() {
            let state = match slot.stage {
                Stage::Opened(log, report) => {
                    if index == main {
                        recovery = report;
                    }
                    State::Open(log)
                }
                Stage::Offline(reason) => State::Offline(reason),
                Stage::Failed(error) => State::Offline(error.to_string()),
                Stage::New => State::Offline("it was not opened".to_owned()),
            };
            let dir = LogDir {
                index,
                path: slot.path,
                id: slot.id,
                state,
                refusal: Refusal::default(),
            };
            if let Err(offline) = dir.log() {
                warn!("{offline}; the broker goes on with the others");
            }
            all.push(Arc::new(dir));
        }
        let dirs = LogDirs {
            main: Arc::clone(&all[main]),
            all: all.into(),
            main_log,
            min_free_bytes: LogOptions::new("").min_free_bytes,
        };
        (dirs, recovery)
    }
}

/// Whether the settings are wrong rather than the disk.
fn is_mistake(error: &OpenError) -> bool {
    match error {
        OpenError::Locked { .. }
        | OpenError::BadOption { .. }
        | OpenError::UnknownVersion { .. } => true,
        OpenError::Io(_)
        | OpenError::Corrupt { .. }
        | OpenError::NodeFileMissing { .. }
        | OpenError::Thread { .. } => false,
    }
}

fn is_blank(log: &Log) -> bool {
    log.streams().is_empty()
        && Table::ALL
            .into_iter()
            .all(|table| log.table(table).is_empty())
}

/// Whether anything can be seen there; a directory that cannot be listed is for the log to judge.
fn holds_a_file(dir: &Path) -> bool {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}
