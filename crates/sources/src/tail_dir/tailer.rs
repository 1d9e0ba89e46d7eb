//! The working half of the source, on blocking threads: looks for files, decides whose turn it
//! is, reads.
//!
//! A *round* is one look over all groups and then, oldest first, a turn for each file that has
//! something new, up to the size it had at the look (so a busy file cannot starve the others) and
//! up to `maxBatchCount` batches. [`Tailer::next`] gives the round chunk by chunk.
//!
//! Invariant: [`Tailer::begin`] takes back whatever was read and not put, so a round may be left
//! at any point.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flafka_flow::counters::{Counters, Metric};
use flafka_flow::{Headers, HeadersBuilder};
use tokio::time::Instant;

use super::file::{
    Chunk, Reading, Request, Seen, TailFile, end_of_lines, identity_of, still_there,
};
use super::finder::Group;
use super::journal::{Entry, Identity, Mark};
use super::lines::MAX_LINE_BYTES;
use super::store::Store;
use crate::complaints::Complaints;

/// How long a file that is gone is remembered: a file system may be away for a while.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// After a failed read, the file rests.
const REST: Duration = Duration::from_secs(5);

/// What of the configuration the tailer needs.
pub(super) struct Options {
    pub(super) batch_size: usize,
    pub(super) max_batch_count: usize,
    pub(super) skip_to_end: bool,
    pub(super) byte_offset: bool,
    pub(super) idle_timeout: Duration,
    /// Name of the header with the path, if there is one.
    pub(super) file_header: Option<String>,
    /// Files open at the same time at most.
    pub(super) max_open: usize,
}

/// One step of a round.
pub(super) enum Step {
    /// Lines to put.
    Chunk(Chunk),
    /// The round is over; how long its look took.
    Done(Duration),
}

struct Turn {
    id: u32,
    modified: std::time::SystemTime,
    until: u64,
    batches: usize,
    flush: bool,
}

/// All files of the source.
pub(super) struct Tailer {
    options: Options,
    groups: Vec<Group>,
    files: BTreeMap<u32, TailFile>,
    by_identity: HashMap<Identity, u32>,
    /// The files of the start that were not found yet: a device may have another number after a
    /// reboot.
    by_inode: HashMap<u64, u32>,
    next_id: u32,
    look: u64,
    look_took: Duration,
    turns: VecDeque<Turn>,
    /// Files read in this round.
    touched: Vec<u32>,
    complaints: Complaints,
    store: Arc<Store>,
    counters: Arc<Counters>,
}

impl Tailer {
    /// A tailer that goes on with the `known` files.
    pub(super) fn new(
        options: Options,
        groups: Vec<Group>,
        known: Vec<Entry>,
        store: Arc<Store>,
        counters: Arc<Counters>,
        now: Instant,
    ) -> Self {
        let mut tailer = Self {
            options,
            groups,
            files: BTreeMap::new(),
            by_identity: HashMap::new(),
            by_inode: HashMap::new(),
            next_id: 1,
            look: 0,
            look_took: Duration::ZERO,
            turns: VecDeque::new(),
            touched: Vec::new(),
            complaints: Complaints::default(),
            store,
            counters,
        };
        for mut entry in known {
            if usize::from(entry.head.length) > Mark::HEAD_BYTES {
                entry.head = Mark::default();
            }
            let id = tailer.add(entry.identity, &entry.path, now);
            if let Some(file) = tailer.files.get_mut(&id) {
                file.go_to(entry.position, entry.tail);
                file.head = entry.head;
                file.gone_since = Some(now);
            }
            if entry.head.length > 0 {
                tailer.by_inode.insert(entry.identity.inode, id);
            }
            tailer.store.set(id, entry);
        }
        tailer
    }

    /// Takes back what was read and not put, looks, and gives the first step of the round.
    pub(super) fn begin(&mut self, now: Instant) -> Step {
        self.turns.clear();
        for id in std::mem::take(&mut self.touched) {
            let Some(file) = self.files.get_mut(&id) else {
                continue;
            };
            if let Some((position, tail)) = self.store.committed(id)
                && position != file.position
            {
                file.go_to(position, tail);
                file.seen = None;
            }
        }
        let started = std::time::Instant::now();
        self.look(now, started);
        self.look_took = started.elapsed();
        self.next(now)
    }

    /// The next step of the round.
    pub(super) fn next(&mut self, now: Instant) -> Step {
        while let Some(mut turn) = self.turns.pop_front() {
            if let Some(chunk) = self.take_turn(&mut turn, now) {
                turn.batches -= chunk.puts.len().min(turn.batches);
                if turn.batches > 0 {
                    self.turns.push_front(turn);
                } else {
                    self.again(turn.id);
                }
                return Step::Chunk(chunk);
            }
        }
        Step::Done(self.look_took)
    }

    fn take_turn(&mut self, turn: &mut Turn, now: Instant) -> Option<Chunk> {
        let file = self.files.get_mut(&turn.id)?;
        let request = Request {
            until: turn.until,
            flush: turn.flush,
            batch_size: self.options.batch_size,
            batches: turn.batches,
            byte_offset: self.options.byte_offset,
        };
        let head = file.head;
        let reading = file.read(&request);
        let (path, position) = (file.path.clone(), file.position);
        if file.head != head {
            let head = file.head;
            self.store.update(turn.id, |entry| entry.head = head);
        }
        match reading {
            Ok(Reading::Chunk(chunk)) => {
                if !turn.flush {
                    file.last_activity = now;
                }
                if self.touched.last() != Some(&turn.id) {
                    self.touched.push(turn.id);
                }
                if chunk.cut {
                    tracing::warn!(path = %path.display(), limit = MAX_LINE_BYTES, "cut a line that is longer than the limit");
                }
                Some(chunk)
            }
            Ok(Reading::Nothing) => None,
            Ok(Reading::Moved) => {
                self.again(turn.id);
                None
            }
            Ok(Reading::Restarted) => {
                tracing::info!(path = %path.display(), position, "file was cut or written anew, reading from its start");
                self.restart(turn, now)
            }
            Err(error) => {
                self.rest(turn.id, now);
                self.complain(&path, "read file", &error, now);
                None
            }
        }
    }

    /// The file's content is another one: from now on it is a new file under the same name.
    /// A new id, so that advances of the old content that are still on their way count no more.
    fn restart(&mut self, turn: &mut Turn, now: Instant) -> Option<Chunk> {
        let old = self.files.remove(&turn.id)?;
        self.store.remove(old.id);
        let id = self.add(old.identity, &old.path, now);
        let file = self.files.get_mut(&id)?;
        file.handle = old.handle;
        file.group = old.group;
        file.headers = old.headers;
        file.seen = old.seen;
        file.found_in = old.found_in;
        file.gone_since = old.gone_since;
        let entry = file.entry();
        self.store.set(id, entry);
        turn.id = id;
        if let Some(size) = self.files.get(&id).and_then(|file| file.seen) {
            turn.until = size.size;
        }
        self.take_turn(turn, now)
    }

    fn add(&mut self, identity: Identity, path: &Path, now: Instant) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        self.files
            .insert(id, TailFile::new(id, identity, path.to_owned(), now));
        self.by_identity.insert(identity, id);
        id
    }

    /// The file gets a turn in the next round, changed or not.
    fn again(&mut self, id: u32) {
        if let Some(file) = self.files.get_mut(&id) {
            file.seen = None;
        }
    }

    fn rest(&mut self, id: u32, now: Instant) {
        if let Some(file) = self.files.get_mut(&id) {
            file.seen = None;
            file.retry_at = Some(now + REST);
        }
    }

    fn look(&mut self, now: Instant, clock: std::time::Instant) {
        self.look += 1;
        let mut complete = true;
        for group in 0..self.groups.len() {
            match self.groups[group].paths(clock) {
                Ok(paths) => {
                    for path in paths.iter() {
                        complete &= self.notice(group, path, now);
                    }
                }
                Err(error) => {
                    complete = false;
                    let folder = self.groups[group].folder().to_owned();
                    self.complain(&folder, "list folder", &error, now);
                }
            }
        }
        self.notice_missing(complete, now);
        self.close_idle(now);
        self.turns
            .make_contiguous()
            .sort_by_key(|turn| (turn.modified, turn.id));
        while self.turns.len() > self.options.max_open {
            if let Some(turn) = self.turns.pop_back() {
                self.again(turn.id);
            }
        }
    }

    /// A path of a group; false when it cannot be told what it is.
    fn notice(&mut self, group: usize, path: &Path, now: Instant) -> bool {
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return true,
            Err(error) => {
                self.complain(path, "look at file", &error, now);
                return false;
            }
        };
        if !metadata.is_file() {
            return true;
        }
        let identity = identity_of(&metadata);
        let id = match self.by_identity.get(&identity) {
            Some(id) => *id,
            None => match self
                .on_new_device(identity)
                .map_or_else(|| self.begin_file(identity, path, now), Ok)
            {
                Ok(id) => id,
                Err(error) => {
                    self.complain(path, "open file", &error, now);
                    return false;
                }
            },
        };
        let look = self.look;
        let Some(file) = self.files.get_mut(&id) else {
            return true;
        };
        if file.found_in == look {
            return true; // A second name, or a second group, of a file that was found already.
        }
        let renamed = file.path != path;
        if renamed && file.gone_since.is_none() && still_there(&file.path, identity) {
            return true; // Its own name comes later in this look, or is outside by now.
        }
        file.found_in = look;
        file.gone_since = None;
        if renamed || file.group != group {
            file.path = path.to_owned();
            file.group = group;
            file.headers = headers_of(&self.groups[group].headers, &self.options, path);
        }
        if renamed {
            tracing::info!(path = %path.display(), inode = identity.inode, "file was renamed, reading on");
            self.store
                .update(id, |entry| path.clone_into(&mut entry.path));
        }
        let seen = Seen::of(&metadata);
        self.consider(id, seen, now);
        true
    }

    /// The file of the start that has this inode on a device of another number. Its first read
    /// tells by the content whether it is the same.
    fn on_new_device(&mut self, identity: Identity) -> Option<u32> {
        let id = self.by_inode.remove(&identity.inode)?;
        let file = self.files.get_mut(&id)?;
        if file.gone_since.is_none() || file.handle.is_some() || file.identity == identity {
            return None;
        }
        self.by_identity.remove(&file.identity);
        file.identity = identity;
        self.by_identity.insert(identity, id);
        self.store.update(id, |entry| entry.identity = identity);
        Some(id)
    }

    /// A file that was not known.
    fn begin_file(&mut self, identity: Identity, path: &Path, now: Instant) -> io::Result<u32> {
        let start = if self.options.skip_to_end && self.look == 1 {
            end_of_lines(path)?
        } else {
            0
        };
        let id = self.add(identity, path, now);
        if let Some(file) = self.files.get_mut(&id) {
            file.go_to(start, Mark::default());
            let entry = file.entry();
            self.store.set(id, entry);
        }
        tracing::info!(path = %path.display(), inode = identity.inode, position = start, "new file");
        Ok(id)
    }

    /// Gives the file a turn if anything changed since the last one.
    fn consider(&mut self, id: u32, seen: Seen, now: Instant) {
        let Some(file) = self.files.get_mut(&id) else {
            return;
        };
        if file.retry_at.is_some_and(|retry_at| now < retry_at) {
            return;
        }
        file.retry_at = None;
        let changed = file.seen != Some(seen);
        if changed && file.seen.is_some() {
            file.last_activity = now;
        }
        let idle = now.duration_since(file.last_activity) >= self.options.idle_timeout;
        let flush = idle && seen.size > file.position;
        if changed || flush {
            file.seen = Some(seen);
            self.turns.push_back(Turn {
                id,
                modified: seen.modified,
                until: seen.size,
                batches: self.options.max_batch_count,
                flush,
            });
        }
    }

    /// Files that no path leads to any more: read on while they are open, then forget them. When
    /// the look was not `complete` they may only be out of sight.
    fn notice_missing(&mut self, complete: bool, now: Instant) {
        let look = self.look;
        let missing: Vec<u32> = self
            .files
            .values()
            .filter(|file| file.found_in != look)
            .map(|file| file.id)
            .collect();
        for id in missing {
            let Some(file) = self.files.get_mut(&id) else {
                continue;
            };
            if complete {
                file.gone_since.get_or_insert(now);
            }
            let forgotten = file
                .gone_since
                .is_some_and(|since| now.duration_since(since) >= REMEMBERED);
            match file.handle.as_ref().map(std::fs::File::metadata) {
                Some(Ok(metadata)) => {
                    let seen = Seen::of(&metadata);
                    self.consider(id, seen, now);
                }
                Some(Err(_)) => file.handle = None,
                None if forgotten => self.forget(id),
                None => {}
            }
        }
    }

    /// Closes files that have rested for the idle time, and some more when too many are open.
    fn close_idle(&mut self, now: Instant) {
        let mut open: Vec<(Instant, u32)> = Vec::new();
        let mut deleted = Vec::new();
        for file in self.files.values_mut() {
            let Some(handle) = &file.handle else { continue };
            let done = file.seen.is_some_and(|seen| seen.size <= file.position)
                && self
                    .store
                    .committed(file.id)
                    .is_some_and(|(position, _)| position == file.position);
            let idle = now.duration_since(file.last_activity) >= self.options.idle_timeout;
            if done && idle {
                if file.gone_since.is_some()
                    && handle
                        .metadata()
                        .is_ok_and(|metadata| metadata.nlink() == 0)
                {
                    deleted.push(file.id);
                }
                file.handle = None;
            } else if file.gone_since.is_none() && done {
                open.push((file.last_activity, file.id));
            }
        }
        for id in deleted {
            self.forget(id);
        }
        let keep = self.options.max_open / 2;
        if open.len() > keep {
            open.sort_unstable();
            for (_, id) in &open[..open.len() - keep] {
                if let Some(file) = self.files.get_mut(id) {
                    file.handle = None;
                }
            }
        }
    }

    fn forget(&mut self, id: u32) {
        if let Some(file) = self.files.remove(&id) {
            tracing::info!(path = %file.path.display(), inode = file.identity.inode, position = file.position, "file is gone");
            if self.by_identity.get(&file.identity) == Some(&id) {
                self.by_identity.remove(&file.identity);
            }
            self.store.remove(id);
        }
    }

    fn complain(&mut self, path: &Path, action: &'static str, error: &io::Error, now: Instant) {
        if !self.complaints.due(path, now) {
            return;
        }
        self.counters.add(Metric::EventReadFail, 1);
        tracing::error!(path = %path.display(), %error, "{action}");
    }
}

fn headers_of(group: &Headers, options: &Options, path: &Path) -> Headers {
    let mut builder = HeadersBuilder::from(group);
    if let Some(name) = &options.file_header {
        builder.set(name, &path.to_string_lossy());
    }
    builder.finish()
}
