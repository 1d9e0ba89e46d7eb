//! The working half of the source, on blocking threads: picks files, reads them, and puts them out
//! of the way when they are done.
//!
//! Life of a file: picked → read in pieces → at its end, once the channels have taken everything,
//! *retired* (renamed, marked or deleted). A surprise never ends the source; the file is *set
//! aside* (renamed with `.REJECTED`, or marked so in the tracker folder) or left to rest.
//!
//! Invariant: a file is retired or set aside only after all that was read of it is in the channels,
//! and nothing is ever overwritten.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use flafka_flow::counters::{Counters, Metric};
use flafka_flow::{BatchBuilder, Headers, HeadersBuilder};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::time::Instant;

use super::candidates::{
    Candidate, Candidates, SET_ASIDE_SUFFIX, Seen, free_name, sort, with_suffix,
};
use super::config::ConsumeOrder;
use super::tracker::{Tracked, Tracker};
use crate::complaints::Complaints;
use crate::deserializers::{DeserializeError, EventDeserializer, Opening, Piece};
use crate::durable_file::{create_empty, rename, sync_parent};
use crate::plain_file::open_plain;

/// Bodies that are read ahead at most, in bytes, and in batches.
const AHEAD_BYTES: usize = 256 << 10;
const AHEAD_PIECES: usize = 64;
/// While files wait the folder is listed at most this often.
const LIST_EVERY: Duration = Duration::from_secs(1);
/// How long a file that could not be read is left alone.
const REST: Duration = Duration::from_secs(60);
/// How long it is then remembered where it was left.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// What becomes of a file that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retirement {
    Rename,
    Mark,
    Delete,
}

/// What of the configuration the spooler needs.
pub(super) struct Options {
    pub(super) candidates: Candidates,
    pub(super) order: ConsumeOrder,
    pub(super) retirement: Retirement,
    pub(super) opening: Opening,
    pub(super) batch_size: usize,
    /// Name of the header with the path.
    pub(super) file_header: Option<String>,
    /// Name of the header with the name.
    pub(super) basename_header: Option<String>,
}

/// One step of the work.
pub(super) enum Step {
    /// Batches to put, in order.
    Pieces(Vec<Piece>),
    /// All of the file is read; [`Spooler::finish`] is due once it is put.
    EndOfFile,
    /// The file cannot be read on; [`Spooler::give_up`] is due once what was read is put.
    Failed(DeserializeError),
    /// No file waits.
    Idle,
}

struct Current {
    path: PathBuf,
    seen: Seen,
    headers: Headers,
    deserializer: Box<dyn EventDeserializer>,
    /// Whether an event was given already, now or before a restart.
    begun: bool,
}

struct Rest {
    until: Instant,
    identity: (u64, u64),
    position: u64,
}

/// All of the folder.
pub(super) struct Spooler {
    options: Options,
    queue: VecDeque<Candidate>,
    listed_at: Option<Instant>,
    current: Option<Current>,
    /// What the tracker said at the start.
    resume: Option<Tracked>,
    resting: HashMap<PathBuf, Rest>,
    complaints: Complaints,
    tracker: Arc<Mutex<Tracker>>,
    counters: Arc<Counters>,
    random: SmallRng,
}

impl Spooler {
    /// A spooler that goes on where `resume` says.
    pub(super) fn new(
        options: Options,
        resume: Option<Tracked>,
        tracker: Arc<Mutex<Tracker>>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            options,
            queue: VecDeque::new(),
            listed_at: None,
            current: None,
            resume,
            resting: HashMap::new(),
            complaints: Complaints::default(),
            tracker,
            counters,
            random: SmallRng::from_os_rng(),
        }
    }

    /// The next batches, of one file. Blocks.
    pub(super) fn next(&mut self, now: Instant) -> Step {
        if self.current.is_none() && !self.open_next(now) {
            return Step::Idle;
        }
        let Some(current) = &mut self.current else {
            return Step::Idle;
        };
        let mut pieces = Vec::new();
        let mut bytes = 0;
        while bytes < AHEAD_BYTES && pieces.len() < AHEAD_PIECES {
            match current.deserializer.read(self.options.batch_size) {
                Ok(Some(piece)) => {
                    current.begun = true;
                    bytes += piece.bytes;
                    pieces.push(piece);
                }
                Ok(None) if pieces.is_empty() && !current.begun => {
                    current.begun = true;
                    pieces.push(empty_event(&current.headers));
                }
                Ok(None) if pieces.is_empty() => return Step::EndOfFile,
                Err(error) if pieces.is_empty() => return Step::Failed(error),
                Ok(None) | Err(_) => break,
            }
        }
        Step::Pieces(pieces)
    }

    /// Opens the next file that can be opened; false when none waits.
    fn open_next(&mut self, now: Instant) -> bool {
        let stale = self
            .listed_at
            .is_none_or(|at| now.duration_since(at) >= LIST_EVERY);
        if self.queue.is_empty() || (stale && self.options.order != ConsumeOrder::Random) {
            self.list(now);
        }
        while let Some(candidate) = self.queue.pop_front() {
            match self.open(&candidate.path, now) {
                Ok(Some(current)) => {
                    self.current = Some(current);
                    return true;
                }
                Ok(None) => {}
                Err(error) if error.is_content() => {
                    let reason = flafka_flow::channel::error_chain(&error);
                    self.reject(&candidate.path, &reason, None, now);
                }
                Err(error) => self.leave_alone(&candidate.path, None, &error, now),
            }
        }
        false
    }

    fn list(&mut self, now: Instant) {
        self.listed_at = Some(now);
        let listing = match self.options.candidates.list() {
            Ok(listing) => listing,
            Err(error) => {
                let folder = self.options.candidates.folder.clone();
                self.complain(&folder, "list folder", &error, now);
                return;
            }
        };
        for (path, error) in &listing.failures {
            self.complain(path, "look at file", error, now);
        }
        for path in &listing.reused {
            if self.complaints.due(path, now) {
                self.counters.add(Metric::GenericProcessingFail, 1);
                tracing::error!(path = %path.display(), "file is marked as done but was modified afterwards, not reading it; give new content a new name");
            }
        }
        let mut candidates = listing.candidates;
        sort(&mut candidates, self.options.order, &mut self.random);
        self.queue = candidates.into();
        if let Some(resume) = &self.resume {
            let begun = self
                .queue
                .iter()
                .position(|candidate| is_file_of(resume, &candidate.path));
            match begun.and_then(|index| self.queue.remove(index)) {
                Some(candidate) => self.queue.push_front(candidate),
                None => self.forget_tracker(),
            }
        }
    }

    /// The tracker is about a file that is not there any more.
    fn forget_tracker(&mut self) {
        self.resume = None;
        if let Err(error) = self.tracker().end() {
            self.report_tracker(&error);
        }
    }

    /// Opens a candidate; `None` when it is to be passed over.
    fn open(&mut self, path: &Path, now: Instant) -> Result<Option<Current>, DeserializeError> {
        if let Some(rest) = self.resting.get(path)
            && now < rest.until
        {
            return Ok(None);
        }
        let file = match open_plain(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let seen = Seen::of(&metadata);
        let position = self.start_of(path, &seen);
        let headers = self.headers_of(path);
        let deserializer = self.options.opening.open(file, position, headers.clone())?;
        let begun = self.tracker().begin(path, seen.identity, position);
        if let Err(error) = begun {
            self.report_tracker(&error);
        }
        self.resting.remove(path);
        Ok(Some(Current {
            path: path.to_owned(),
            seen,
            headers,
            deserializer,
            begun: position > 0,
        }))
    }

    /// Where to begin: at the start, or where this very file was left.
    fn start_of(&mut self, path: &Path, seen: &Seen) -> u64 {
        let tracked = self.resume.take_if(|resume| is_file_of(resume, path));
        let known = match (tracked, self.resting.get(path)) {
            (Some(tracked), _) => {
                // The inode alone: a device may have another number after a reboot.
                let same = tracked
                    .identity
                    .is_none_or(|(_, inode)| inode == seen.identity.1);
                same.then_some(tracked.position)
            }
            (None, Some(rest)) if rest.position > 0 => {
                (rest.identity == seen.identity).then_some(rest.position)
            }
            (None, _) => Some(0),
        };
        match known {
            Some(position) if position <= seen.size => position,
            _ => {
                tracing::warn!(path = %path.display(), "another file has the name of the one that was begun, reading it from its start");
                0
            }
        }
    }

    /// The file is read and put to its end: retires it, unless it turns out to have changed.
    pub(super) fn finish(&mut self, now: Instant) {
        let Some(current) = &mut self.current else {
            return;
        };
        let found = std::fs::metadata(&current.path).map(|metadata| Seen::of(&metadata));
        match found {
            Ok(found) if found == current.seen => {
                let path = current.path.clone();
                self.retire(&path, found.identity, now);
            }
            Ok(found)
                if found.identity == current.seen.identity && found.size > current.seen.size =>
            {
                tracing::warn!(path = %current.path.display(), "file has grown while it was read, reading on; a file has to be complete before it is put into the folder");
                current.seen = found;
                self.counters.add(Metric::GenericProcessingFail, 1);
            }
            Ok(found) if found.identity == current.seen.identity => {
                let path = current.path.clone();
                let reason = "it was modified while it was read";
                self.reject(&path, &reason, Some(found.identity), now);
            }
            Ok(_) | Err(_) => {
                tracing::warn!(path = %current.path.display(), "file was removed or replaced while it was read; what it held is delivered");
                self.counters.add(Metric::GenericProcessingFail, 1);
                self.current = None;
                self.end_tracker();
            }
        }
    }

    /// What was read of the file is put, the rest of it cannot be read.
    pub(super) fn give_up(&mut self, error: &DeserializeError, now: Instant) {
        let Some(current) = self.current.take() else {
            return;
        };
        let identity = Some(current.seen.identity);
        if error.is_content() {
            let reason = flafka_flow::channel::error_chain(error);
            self.reject(&current.path, &reason, identity, now);
        } else {
            self.leave_alone(&current.path, identity, error, now);
        }
    }

    fn retire(&mut self, path: &Path, identity: (u64, u64), now: Instant) {
        self.current = None;
        let suffix = &self.options.candidates.suffix;
        let retired = match self.options.retirement {
            Retirement::Delete => std::fs::remove_file(path).and_then(|()| sync_parent(path)),
            Retirement::Mark => create_empty(&self.options.candidates.mark(path, suffix)),
            Retirement::Rename => {
                let wanted = with_suffix(path, suffix);
                free_name(path, suffix).and_then(|free| {
                    if free != wanted {
                        self.counters.add(Metric::GenericProcessingFail, 1);
                        tracing::warn!(path = %path.display(), renamed = %free.display(), "a file of this name was done before, keeping both");
                    }
                    rename(path, &free)
                })
            }
        };
        match retired {
            Ok(()) => {
                tracing::info!(path = %path.display(), "file is done");
                self.end_tracker();
            }
            Err(error) => {
                // Tried again after the rest; should the process end before, the file comes again.
                self.complain(path, "retire file", &error, now);
                self.rest(path, Some(identity), now);
            }
        }
    }

    /// Sets a file aside whose content cannot be dealt with; `begun` when it was being read.
    fn reject(
        &mut self,
        path: &Path,
        reason: &dyn std::fmt::Display,
        begun: Option<(u64, u64)>,
        now: Instant,
    ) {
        self.current = None;
        self.counters.add(Metric::EventReadFail, 1);
        let aside = match self.options.retirement {
            Retirement::Mark => {
                let name = self.options.candidates.mark(path, SET_ASIDE_SUFFIX);
                create_empty(&name).map(|()| name)
            }
            Retirement::Rename | Retirement::Delete => free_name(path, SET_ASIDE_SUFFIX)
                .and_then(|name| rename(path, &name).map(|()| name)),
        };
        match aside {
            Ok(name) => {
                tracing::error!(path = %path.display(), %reason, aside = %name.display(), "file set aside, going on with the next; mend it and put it back under a new name");
                self.end_tracker();
            }
            Err(error) => {
                tracing::error!(path = %path.display(), %reason, "file cannot be read on");
                self.complain(path, "set file aside", &error, now);
                self.rest(path, begun, now);
            }
        }
    }

    /// Leaves a file alone for a while that the file system does not let us read.
    fn leave_alone(
        &mut self,
        path: &Path,
        begun: Option<(u64, u64)>,
        error: &DeserializeError,
        now: Instant,
    ) {
        let reason = flafka_flow::channel::error_chain(error);
        self.complain(path, "read file", &reason, now);
        self.rest(path, begun, now);
    }

    /// Passes a file over for a while, and remembers how far it was read: if it was `begun` that is
    /// what the channels have taken of it.
    fn rest(&mut self, path: &Path, begun: Option<(u64, u64)>, now: Instant) {
        self.resting.retain(|_, rest| now < rest.until + REMEMBERED);
        let known = self.resting.get(path);
        let (identity, position) = match (begun, known) {
            (Some(identity), _) => (identity, self.tracker().committed()),
            (None, Some(rest)) => (rest.identity, rest.position),
            (None, None) => (Default::default(), 0),
        };
        let until = now + REST;
        let rest = Rest {
            until,
            identity,
            position,
        };
        self.resting.insert(path.to_owned(), rest);
    }

    fn headers_of(&self, path: &Path) -> Headers {
        let mut builder = HeadersBuilder::default();
        if let Some(name) = &self.options.file_header {
            builder.set(name, &path.to_string_lossy());
        }
        if let Some(name) = &self.options.basename_header {
            let basename = path.file_name().unwrap_or_default();
            builder.set(name, &basename.to_string_lossy());
        }
        builder.finish()
    }

    fn end_tracker(&mut self) {
        let ended = self.tracker().end();
        if let Err(error) = ended {
            self.report_tracker(&error);
        }
    }

    fn tracker(&self) -> MutexGuard<'_, Tracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report_tracker(&self, error: &io::Error) {
        self.counters.add(Metric::GenericProcessingFail, 1);
        tracing::error!(%error, "write tracker; after a restart the file comes again from its start");
    }

    fn complain(
        &mut self,
        path: &Path,
        action: &'static str,
        error: &dyn std::fmt::Display,
        now: Instant,
    ) {
        if self.complaints.due(path, now) {
            self.counters.add(Metric::EventReadFail, 1);
            tracing::error!(path = %path.display(), %error, "{action}");
        }
    }
}

/// Whether the tracker is about `path`; Flume writes the path as it was configured.
fn is_file_of(tracked: &Tracked, path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let named = Path::new(std::ffi::OsStr::from_bytes(&tracked.file));
    std::path::absolute(named).is_ok_and(|named| named == path)
}

/// What Flume makes of an empty file.
fn empty_event(headers: &Headers) -> Piece {
    let mut builder = BatchBuilder::new();
    let headers = builder.headers(headers.clone());
    builder.push_copy(headers, b"");
    Piece {
        batch: builder.finish(),
        position: 0,
        bytes: 0,
    }
}
