//! The data directories (`log.dirs`): a log in each, so that a disk that is full or fails stops nobody else.
//!
//! One of them, the main directory, also holds the broker's own tables: topics, configs, committed offsets, producer
//! ids. Which one that is stands in the directories (`notes.rs`), not in the order of `log.dirs`. A directory is known by
//! the id that its log was given when it was made, so a list may be reordered and a disk mounted elsewhere.
//!
//! Invariants: the main directory is open. A directory that failed is offline until the next start, as in Kafka.

mod error;
mod notes;
mod open;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use flafka_log_store::{CommitError, Housekeeping, Log, LogCounts, StreamId};
use tokio::time::Instant;
use tracing::warn;

pub use self::error::LogDirError;
pub(crate) use self::notes::ID_BYTES;
pub use self::notes::NoteError;
pub(crate) use self::open::open;

/// A write that was refused is remembered for so long, unless one succeeds before.
const REFUSAL_COUNTS: Duration = Duration::from_secs(300);

/// One data directory.
#[derive(Debug)]
pub struct LogDir {
    index: usize,
    path: PathBuf,
    /// The id of its log; `None` for one that could never be opened.
    id: Option<String>,
    state: State,
    refusal: Refusal,
}

/// The last write that the disk refused, while the log itself goes on.
#[derive(Debug, Default)]
struct Refusal {
    /// Whether there is one: what every produce looks at.
    is_there: AtomicBool,
    last: Mutex<Option<(Instant, String)>>,
}

#[derive(Debug)]
enum State {
    Open(Log),
    /// Since the start, with the reason.
    Offline(String),
}

/// A data directory cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the data directory {} is offline: {reason}", dir.display())]
pub struct Offline {
    /// Which.
    pub dir: PathBuf,
    /// Why.
    pub reason: String,
}

/// Bytes of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Volume {
    /// All of them.
    pub total: u64,
    /// Those that are free.
    pub free: u64,
}

impl LogDir {
    /// Its place among [`LogDirs::all`].
    pub fn index(&self) -> usize {
        self.index
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The id of its log.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Its log, unless it has failed.
    ///
    /// # Errors
    /// [`Offline`] with the reason.
    pub fn log(&self) -> Result<&Log, Offline> {
        let reason = match &self.state {
            State::Open(log) => match log.failure() {
                None => return Ok(log),
                Some(fault) => format!("its log stopped accepting: {fault}"),
            },
            State::Offline(reason) => reason.clone(),
        };
        Err(Offline {
            dir: self.path.clone(),
            reason,
        })
    }

    /// Remembers what became of a write, for [`LogDir::refusal`].
    pub(crate) fn note<T>(&self, done: &Result<T, CommitError>) {
        let reason = match done {
            Ok(_) if !self.refusal.is_there.load(Ordering::Relaxed) => return,
            Ok(_) => None,
            Err(error @ (CommitError::Io(_) | CommitError::NoSpace(_))) => Some(error.to_string()),
            Err(_) => return,
        };
        let mut last = self
            .refusal
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *last = reason.map(|reason| (Instant::now(), reason));
        self.refusal
            .is_there
            .store(last.is_some(), Ordering::Relaxed);
    }

    /// Why the disk has refused the last write, if that was not long ago.
    pub fn refusal(&self) -> Option<String> {
        if !self.refusal.is_there.load(Ordering::Relaxed) {
            return None;
        }
        let last = self
            .refusal
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let (when, reason) = last.as_ref()?;
        (when.elapsed() < REFUSAL_COUNTS).then(|| reason.clone())
    }

    /// The room on its volume; `None` = not known. Asks the system.
    pub fn volume(&self) -> Option<Volume> {
        let volume = rustix::fs::statvfs(&self.path).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(volume.f_frsize);
        Some(Volume {
            total: bytes(volume.f_blocks),
            free: bytes(volume.f_bavail),
        })
    }

    /// The log that was opened, whether it has failed since or not.
    fn opened(&self) -> Option<&Log> {
        match &self.state {
            State::Open(log) => Some(log),
            State::Offline(_) => None,
        }
    }
}

/// Where the records of one partition lie. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Partition {
    dir: Arc<LogDir>,
    /// `None` when the directory was offline at the start, or refused to make the stream.
    stream: Option<StreamId>,
}

impl Partition {
    pub(crate) fn new(dir: Arc<LogDir>, stream: Option<StreamId>) -> Partition {
        Partition { dir, stream }
    }

    /// Its directory.
    pub fn dir(&self) -> &Arc<LogDir> {
        &self.dir
    }

    /// The log and the stream in it.
    ///
    /// # Errors
    /// [`Offline`]: the directory has failed.
    pub fn online(&self) -> Result<(&Log, StreamId), Offline> {
        let log = self.dir.log()?;
        match self.stream {
            Some(stream) => Ok((log, stream)),
            None => Err(Offline {
                dir: self.dir.path.clone(),
                reason: "it refused to open the partition at the start".to_owned(),
            }),
        }
    }
}

/// All data directories. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogDirs {
    all: Arc<[Arc<LogDir>]>,
    main: Arc<LogDir>,
    main_log: Log,
    /// Below so much free space a log accepts nothing new.
    min_free_bytes: u64,
}

impl LogDirs {
    /// The log of the main directory, with the broker's own tables.
    pub fn main(&self) -> &Log {
        &self.main_log
    }

    /// The main directory.
    pub fn main_dir(&self) -> &Arc<LogDir> {
        &self.main
    }

    /// Those of `log.dirs` in its order, then those that it no longer names though they hold partitions.
    pub fn all(&self) -> &[Arc<LogDir>] {
        &self.all
    }

    /// The directory with this id.
    pub fn by_id(&self, id: &str) -> Option<&Arc<LogDir>> {
        self.all.iter().find(|dir| dir.id() == Some(id))
    }

    /// The logs that were opened.
    pub fn logs(&self) -> impl Iterator<Item = &Log> {
        self.all.iter().filter_map(|dir| dir.opened())
    }

    /// Where new partitions go: of the directories that work, those that have room and take writes if there are any, each
    /// time the one with the fewest partitions. `taken` are these by directory.
    pub(crate) fn place(&self, taken: &mut [usize], count: usize) -> Vec<Arc<LogDir>> {
        let online = self.all.iter().filter(|dir| dir.log().is_ok());
        let mut online: Vec<_> = online.collect();
        if online.len() > 1 {
            let well = |dir: &&Arc<LogDir>| dir.refusal().is_none() && !self.is_full(dir);
            let well: Vec<_> = online.iter().copied().filter(well).collect();
            if !well.is_empty() {
                online = well;
            }
        }
        let mut places = Vec::with_capacity(count);
        for _ in 0..count {
            // Without any, the main log says why.
            let fewest = online.iter().copied().min_by_key(|dir| taken[dir.index]);
            let dir = fewest.unwrap_or(&self.main);
            taken[dir.index] += 1;
            places.push(Arc::clone(dir));
        }
        places
    }

    /// Why a directory that works takes no new records just now.
    fn trouble_of(&self, dir: &LogDir) -> Option<String> {
        let path = dir.path.display();
        if let Some(reason) = dir.refusal() {
            return Some(format!(
                "the data directory {path} refuses writes for its partitions: {reason}"
            ));
        }
        let least = self.min_free_bytes >> 20;
        self.is_full(dir).then(|| {
            format!(
                "the data directory {path} is full: less than {least} MiB are free, so nothing new is taken for its partitions"
            )
        })
    }

    fn is_full(&self, dir: &LogDir) -> bool {
        let volume = dir.volume();
        volume.is_some_and(|volume| volume.free < self.min_free_bytes)
    }

    /// How many do not work.
    pub fn offline(&self) -> usize {
        self.all.iter().filter(|dir| dir.log().is_err()).count()
    }

    /// What went wrong in all logs and was dealt with.
    pub fn counts(&self) -> LogCounts {
        self.logs().fold(LogCounts::default(), |mut sum, log| {
            sum += log.counts();
            sum
        })
    }

    /// What retention and compaction do in each log.
    pub fn housekeeping(&self) -> Vec<Arc<Housekeeping>> {
        self.logs()
            .map(|log| Arc::clone(log.housekeeping()))
            .collect()
    }

    /// What an operator should look after, a sentence each: for `/health`. Asks the system for free space.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for dir in &*self.all {
            let path = dir.path.display();
            match dir.log() {
                Err(offline) => warnings.push(format!(
                    "{offline}; its partitions answer KAFKA_STORAGE_ERROR until the broker is started again with the disk in order"
                )),
                Ok(_) => warnings.extend(self.trouble_of(dir)),
            }
            let troubles = dir.opened().map(|log| log.troubles().sentences());
            let named = |sentence: String| match self.all.len() {
                1 => sentence,
                _ => format!("{path}: {sentence}"),
            };
            warnings.extend(troubles.into_iter().flatten().map(named));
        }
        warnings
    }

    /// Closes all logs.
    ///
    /// # Errors
    /// That of the main one; others are logged.
    pub(crate) async fn close(&self) -> Result<(), CommitError> {
        let others = self.all.iter().filter(|dir| dir.index != self.main.index);
        for dir in others {
            if let Some(log) = dir.opened()
                && let Err(error) = log.clone().close().await
            {
                warn!(dir = %dir.path.display(), %error, "the log did not close cleanly");
            }
        }
        self.main_log.clone().close().await
    }
}
