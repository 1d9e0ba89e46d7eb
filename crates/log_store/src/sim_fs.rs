//! A simulated disk, for tests here and in other crates: it keeps what was synced and loses, tears or reorders the rest.
//!
//! Model (faults.md §3.4, F4-F8):
//! - A write is durable after a successful sync of its file. At a power cut every 512-byte sector of an unsynced file
//!   holds any one of the contents it had since the last sync, independently of its neighbours; so does the length.
//! - A name (create, rename, remove, directory) is durable after a sync of its directory. At a power cut any subset of
//!   the unsynced ones has happened.
//! - A failed sync drops the file's dirty pages, as Linux does: later syncs succeed and bring nothing back. What reads
//!   still see is a matter of luck. Descriptors that were open hear of it once, by their next sync; new ones do not.
//! - Any call can be made to fail, once or from then on; writes and reads can be cut short; the disk can be full.
//! - Calls are folded into a hash, so that two runs of one seed can be compared call by call (F26), and can be listed
//!   by kind, so that a test fails "the third sync" and knows which points it has covered (F2, F8).
//!
//! It is longer than 500 lines because it is one test instrument that is read as a whole: no part of it has another
//! user.
//!
//! Everything random comes from a seed, so a run can be repeated.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::fs::{File, Fs, Lock, LockError, OpenMode};
pub use crate::sim_inode::Dice;
use crate::sim_inode::{DataOp, Inode};

/// What a call asks of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallKind {
    /// Open an existing file, or create or empty one.
    Open,
    /// Read from a file.
    Read,
    /// Write to a file.
    Write,
    /// Sync a file.
    Sync,
    /// Cut or extend a file.
    SetLength,
    /// Ask for a file's length.
    Length,
    /// Reserve space.
    Allocate,
    /// Make a directory.
    MakeDir,
    /// Rename a file.
    Rename,
    /// Remove a file's name.
    Remove,
    /// Remove a directory.
    RemoveDir,
    /// List a directory.
    List,
    /// Sync a directory.
    SyncDir,
    /// Take the lock.
    Lock,
}

/// A call and the kind of file it was for, by the end of its name: what a table of covered points is made of.
pub type CallPoint = (CallKind, &'static str);

/// What a planned failure does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The call fails with this errno and has no effect (a sync drops the dirty pages).
    Errno(i32),
    /// A write or a read handles only a part and says so; other calls fail with EINTR.
    Short,
}

/// When it does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Number of the call, counted from 1 by [`SimFs::calls`].
    pub call: u64,
    /// What happens.
    pub failure: Failure,
    /// Every later call fails too.
    pub for_ever: bool,
}

#[derive(Debug, Clone)]
enum NameOp {
    Link(PathBuf, u64),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, u64),
    MakeDir(PathBuf),
    RemoveDir(PathBuf),
}

#[derive(Debug, Clone, Default)]
struct Names {
    files: BTreeMap<PathBuf, u64>,
    dirs: BTreeSet<PathBuf>,
}

#[derive(Debug, Clone)]
struct Disk {
    inodes: BTreeMap<u64, Inode>,
    names: Names,
    durable: Names,
    /// With the directory whose sync makes each durable.
    name_ops: Vec<(PathBuf, NameOp)>,
    next_inode: u64,
    calls: u64,
    plan: Option<Plan>,
    dice: Dice,
    /// Most bytes of all files.
    space: u64,
    /// Keep a copy after every so many changing calls.
    probe_every: u64,
    changes: u64,
    /// Hash of all calls so far.
    trace: u64,
    /// The newest changing call.
    last_change: Option<CallPoint>,
}

/// The file system.
#[derive(Debug, Clone)]
pub struct SimFs {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    disk: Mutex<Disk>,
    probes: Mutex<Vec<Disk>>,
    locked: Arc<AtomicBool>,
    /// Number and kind of each call, if somebody wants the list.
    listed: Mutex<Option<Vec<(u64, CallKind)>>>,
    /// Called before each look at the disk.
    before_each: OnceLock<fn()>,
}

#[derive(Debug)]
struct SimFile {
    fs: SimFs,
    inode: u64,
    writable: bool,
    /// Failed syncs of the file that this descriptor knows of.
    known_errors: AtomicU64,
    /// The kind of file, by its name.
    role: &'static str,
}

#[derive(Debug)]
struct SimLock(Arc<AtomicBool>);

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl SimFs {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        Self::from_disk(Disk {
            inodes: BTreeMap::new(),
            names: Names::default(),
            durable: Names::default(),
            name_ops: Vec::new(),
            next_inode: 1,
            calls: 0,
            plan: None,
            dice: Dice::new(seed),
            space: u64::MAX,
            probe_every: 0,
            changes: 0,
            trace: 0,
            last_change: None,
        })
    }

    fn from_disk(disk: Disk) -> Self {
        SimFs {
            shared: Arc::new(Shared {
                disk: Mutex::new(disk),
                probes: Mutex::default(),
                locked: Arc::new(AtomicBool::new(false)),
                listed: Mutex::default(),
                before_each: OnceLock::new(),
            }),
        }
    }

    /// Calls `hook` before each call on this disk, not on copies of it: where a scheduler may let another thread go on.
    pub fn before_each_call(&self, hook: fn()) {
        self.shared.before_each.get_or_init(|| hook);
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        if let Some(hook) = self.shared.before_each.get() {
            hook();
        }
        self.shared
            .disk
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.disk().calls
    }

    /// A hash of all calls so far, their places and what they wrote: equal for two runs that did the same.
    pub fn trace(&self) -> u64 {
        self.disk().trace
    }

    /// Which call made the newest change: for a probe, the call it was taken after.
    pub fn last_change(&self) -> Option<CallPoint> {
        self.disk().last_change
    }

    /// Lists calls from now on.
    pub fn list_calls(&self) {
        *self.listed() = Some(Vec::new());
    }

    /// The numbers of the calls of one kind since [`SimFs::list_calls`].
    pub fn calls_of(&self, kind: CallKind) -> Vec<u64> {
        let listed = self.listed();
        let calls = listed.iter().flatten().filter(|(_, of)| *of == kind);
        calls.map(|(number, _)| *number).collect()
    }

    fn listed(&self) -> MutexGuard<'_, Option<Vec<(u64, CallKind)>>> {
        let listed = &self.shared.listed;
        listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plans a failure, or none.
    pub fn fail(&self, plan: Option<Plan>) {
        self.disk().plan = plan;
    }

    /// Bytes of all files.
    pub fn used(&self) -> u64 {
        self.disk().used()
    }

    /// Sets the size of the disk.
    pub fn set_space(&self, bytes: u64) {
        self.disk().space = bytes;
    }

    /// Keeps a copy of the disk after every `every`-th changing call; 0 = none.
    pub fn probe(&self, every: u64) {
        self.disk().probe_every = every;
    }

    /// The copies kept since the last call.
    pub fn take_probes(&self) -> Vec<SimFs> {
        let mut probes = self
            .shared
            .probes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        probes.drain(..).map(Self::from_disk).collect()
    }

    /// A copy of the disk as it is, unlocked, as after SIGKILL.
    pub fn killed(&self) -> SimFs {
        let mut disk = self.disk().clone();
        disk.plan = None;
        disk.probe_every = 0;
        Self::from_disk(disk)
    }

    /// A copy of the disk as a power cut may have left it.
    pub fn power_cut(&self, seed: u64) -> SimFs {
        let mut dice = Dice::new(seed);
        let old = self.disk().clone();
        let names = old.names_after_cut(&mut dice);
        let referenced: BTreeSet<u64> = names.files.values().copied().collect();
        let inodes = old
            .inodes
            .iter()
            .filter(|(number, _)| referenced.contains(number))
            .map(|(number, inode)| {
                let content = Arc::new(inode.after_cut(&mut dice));
                let inode = Inode {
                    current: Arc::clone(&content),
                    durable: content,
                    ops: Vec::new(),
                    sync_errors: 0,
                };
                (*number, inode)
            })
            .collect();
        Self::from_disk(Disk {
            inodes,
            durable: names.clone(),
            names,
            name_ops: Vec::new(),
            plan: None,
            probe_every: 0,
            dice,
            ..old
        })
    }

    /// The paths of all files.
    pub fn files(&self) -> Vec<PathBuf> {
        self.disk().names.files.keys().cloned().collect()
    }

    /// A file's content as reads see it.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let disk = self.disk();
        let inode = disk.names.files.get(path)?;
        Some(disk.inodes.get(inode)?.current.to_vec())
    }

    /// Replaces a file's content, durably: bit rot, or somebody's editor.
    pub fn damage(&self, path: &Path, content: Vec<u8>) {
        let mut disk = self.disk();
        let number = disk.names.files.get(path).copied();
        if let Some(inode) = number.and_then(|number| disk.inodes.get_mut(&number)) {
            inode.current = Arc::new(content);
            inode.durable = Arc::clone(&inode.current);
            inode.ops.clear();
        }
    }

    /// Counts a call and says what happens to it if it is the planned one.
    fn count(&self, disk: &mut Disk, kind: CallKind, place: u64) -> Option<Failure> {
        disk.calls += 1;
        disk.note(kind as u64 + 1);
        disk.note(place);
        if let Some(listed) = &mut *self.listed() {
            listed.push((disk.calls, kind));
        }
        let plan = disk.plan?;
        let hit = disk.calls == plan.call || (plan.for_ever && disk.calls > plan.call);
        hit.then_some(plan.failure)
    }

    /// [`SimFs::count`] for calls that cannot be cut short.
    fn call(&self, kind: CallKind, place: u64) -> io::Result<MutexGuard<'_, Disk>> {
        let mut disk = self.disk();
        match self.count(&mut disk, kind, place) {
            None => Ok(disk),
            Some(Failure::Errno(errno)) => Err(io::Error::from_raw_os_error(errno)),
            Some(Failure::Short) => Err(io::ErrorKind::Interrupted.into()),
        }
    }

    fn changed(&self, mut disk: MutexGuard<'_, Disk>, point: CallPoint) {
        disk.changes += 1;
        disk.last_change = Some(point);
        if disk.probe_every > 0 && disk.changes.is_multiple_of(disk.probe_every) {
            let mut copy = disk.clone();
            copy.plan = None;
            copy.probe_every = 0;
            drop(disk);
            self.shared
                .probes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(copy);
        }
    }

    fn name_op(&self, dir: Option<&Path>, op: NameOp) -> io::Result<()> {
        let (kind, path) = match &op {
            NameOp::Link(path, _) => (CallKind::Open, path),
            NameOp::Unlink(path) => (CallKind::Remove, path),
            NameOp::Rename(_, path, _) => (CallKind::Rename, path),
            NameOp::MakeDir(path) => (CallKind::MakeDir, path),
            NameOp::RemoveDir(path) => (CallKind::RemoveDir, path),
        };
        let point = (kind, role(path));
        let mut disk = self.call(kind, place(path))?;
        disk.names.apply(&op);
        let dir = dir.unwrap_or(Path::new("/")).to_path_buf();
        disk.name_ops.push((dir, op));
        self.changed(disk, point);
        Ok(())
    }
}

/// A path as a number.
fn place(path: &Path) -> u64 {
    let bytes = path.as_os_str().as_encoded_bytes();
    u64::from(crate::codec::crc32c(bytes)) | (bytes.len() as u64) << 32
}

/// What kind of file a path is, for tables of covered points.
fn role(path: &Path) -> &'static str {
    let end = path.extension().and_then(|end| end.to_str());
    match end {
        Some("jnl") => "journal",
        Some("log") => "segment",
        Some("tmp") => "temporary",
        _ if path.file_name().is_some_and(|name| name == "node.id") => "node",
        _ if path.iter().any(|part| part == "checkpoint") => "checkpoint",
        _ => "other",
    }
}

impl Names {
    fn apply(&mut self, op: &NameOp) {
        match op {
            NameOp::Link(path, inode) => {
                self.files.insert(path.clone(), *inode);
            }
            NameOp::Unlink(path) => {
                self.files.remove(path);
            }
            NameOp::Rename(from, to, inode) => {
                if self.files.get(from) == Some(inode) {
                    self.files.remove(from);
                }
                self.files.insert(to.clone(), *inode);
            }
            NameOp::MakeDir(path) => {
                self.dirs.insert(path.clone());
            }
            NameOp::RemoveDir(path) => {
                self.dirs.remove(path);
            }
        }
    }

    fn has_dir(&self, path: &Path) -> bool {
        path == Path::new("/") || self.dirs.contains(path)
    }
}

impl Disk {
    /// Folds a number into the trace.
    fn note(&mut self, number: u64) {
        self.trace = Dice::new(self.trace ^ number).roll();
    }

    fn names_after_cut(&self, dice: &mut Dice) -> Names {
        let mut names = self.durable.clone();
        let percent = [0, 50, 100][dice.below(3) as usize];
        for (_, op) in &self.name_ops {
            if dice.chance(percent) {
                names.apply(op);
            }
        }
        let dirs = names.dirs.clone();
        let reachable = |path: &Path| {
            path.ancestors().skip(1).all(|dir| {
                dir == Path::new("/") || dir.as_os_str().is_empty() || dirs.contains(dir)
            })
        };
        names.files.retain(|path, _| reachable(path));
        names.dirs.retain(|path| reachable(path));
        names
    }

    fn used(&self) -> u64 {
        let linked = self.names.files.values();
        linked
            .filter_map(|number| self.inodes.get(number))
            .map(|inode| inode.current.len() as u64)
            .sum()
    }

    /// Whether a file may grow.
    fn may_grow(&self, from: u64, to: u64) -> io::Result<()> {
        let more = to.saturating_sub(from);
        if self.space != u64::MAX && more > 0 && self.used() + more > self.space {
            return Err(io::Error::from_raw_os_error(28));
        }
        Ok(())
    }

    fn inode(&mut self, number: u64) -> io::Result<&mut Inode> {
        self.inodes
            .get_mut(&number)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Fs for SimFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut disk = self.call(CallKind::Open, place(path))?;
        let known = disk.names.files.get(path).copied();
        let inode = match (mode, known) {
            (OpenMode::Read | OpenMode::Write, Some(inode)) => inode,
            (OpenMode::Read | OpenMode::Write, None) => {
                return Err(io::ErrorKind::NotFound.into());
            }
            (OpenMode::Create, Some(number)) => {
                disk.inode(number)?.push(DataOp::SetLen(0));
                self.changed(disk, (CallKind::Open, role(path)));
                disk = self.disk();
                number
            }
            (OpenMode::Create, None) => {
                let parent = path.parent().unwrap_or(Path::new("/")).to_path_buf();
                if !disk.names.has_dir(&parent) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                let number = disk.next_inode;
                disk.next_inode += 1;
                disk.inodes.insert(number, Inode::default());
                let op = NameOp::Link(path.to_path_buf(), number);
                disk.names.apply(&op);
                disk.name_ops.push((parent, op));
                self.changed(disk, (CallKind::Open, role(path)));
                disk = self.disk();
                number
            }
        };
        let errors = disk.inode(inode)?.sync_errors;
        Ok(Arc::new(SimFile {
            fs: self.clone(),
            inode,
            known_errors: AtomicU64::new(errors),
            writable: mode != OpenMode::Read,
            role: role(path),
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let missing: Vec<PathBuf> = {
            let disk = self.disk();
            let dirs = path.ancestors().take_while(|dir| !disk.names.has_dir(dir));
            dirs.filter(|dir| !dir.as_os_str().is_empty())
                .map(Path::to_path_buf)
                .collect()
        };
        for dir in missing.into_iter().rev() {
            let parent = dir.parent().map(Path::to_path_buf);
            self.name_op(parent.as_deref(), NameOp::MakeDir(dir))?;
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let inode = {
            let disk = self.disk();
            disk.names.files.get(from).copied()
        };
        let inode = inode.ok_or(io::ErrorKind::NotFound)?;
        let op = NameOp::Rename(from.to_path_buf(), to.to_path_buf(), inode);
        self.name_op(to.parent(), op)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let known = self.disk().names.files.contains_key(path);
        if !known {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.name_op(path.parent(), NameOp::Unlink(path.to_path_buf()))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        {
            let disk = self.disk();
            if !disk.names.has_dir(path) {
                return Err(io::ErrorKind::NotFound.into());
            }
            if disk.names.files.keys().any(|file| file.starts_with(path)) {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
        }
        self.name_op(path.parent(), NameOp::RemoveDir(path.to_path_buf()))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        let disk = self.call(CallKind::List, place(dir))?;
        if !disk.names.has_dir(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let files = disk.names.files.keys();
        Ok(files
            .chain(&disk.names.dirs)
            .filter(|path| path.parent() == Some(dir))
            .filter_map(|path| path.file_name().map(OsString::from))
            .collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut disk = self.call(CallKind::SyncDir, place(dir))?;
        let ops = std::mem::take(&mut disk.name_ops);
        let (synced, waiting): (Vec<_>, Vec<_>) = ops.into_iter().partition(|(of, _)| of == dir);
        disk.name_ops = waiting;
        for (_, op) in synced {
            disk.durable.apply(&op);
        }
        self.changed(disk, (CallKind::SyncDir, "directory"));
        Ok(())
    }

    fn lock(&self, _path: &Path, holder: &str) -> Result<Box<dyn Lock>, LockError> {
        let counted = self.call(CallKind::Lock, 0);
        drop(counted.map_err(LockError::Io)?);
        let locked = &self.shared.locked;
        if locked.swap(true, Ordering::AcqRel) {
            return Err(LockError::Held(holder.to_string()));
        }
        Ok(Box::new(SimLock(Arc::clone(locked))))
    }

    fn space_left(&self, _path: &Path) -> io::Result<u64> {
        let disk = self.disk();
        Ok(disk.space.saturating_sub(disk.used()))
    }

    fn entropy(&self) -> u64 {
        self.disk().dice.roll()
    }
}

impl SimFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.writable {
            Ok(())
        } else {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }

    fn resize(&self, kind: CallKind, length: u64) -> io::Result<()> {
        let mut disk = self.fs.call(kind, self.inode)?;
        let old = disk.inode(self.inode)?.current.len() as u64;
        disk.may_grow(old, length)?;
        disk.inode(self.inode)?.push(DataOp::SetLen(length));
        self.fs.changed(disk, (kind, self.role));
        Ok(())
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut disk = self.fs.disk();
        let failure = self.fs.count(&mut disk, CallKind::Read, self.inode);
        disk.note(position);
        if let Some(Failure::Errno(errno)) = failure {
            return Err(io::Error::from_raw_os_error(errno));
        }
        let wanted = match failure {
            Some(_) => 1 + disk.dice.below(buffer.len() as u64) as usize,
            None => buffer.len(),
        };
        let bytes = &disk.inode(self.inode)?.current;
        let from = (position as usize).min(bytes.len());
        let count = wanted.min(buffer.len()).min(bytes.len() - from);
        buffer[..count].copy_from_slice(&bytes[from..from + count]);
        Ok(count)
    }

    fn write_vectored_at(&self, buffers: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        self.check_writable()?;
        let mut data = Vec::new();
        for part in buffers {
            data.extend_from_slice(part);
        }
        let mut disk = self.fs.disk();
        let failure = self.fs.count(&mut disk, CallKind::Write, self.inode);
        disk.note(position);
        disk.note(data.len() as u64 | u64::from(crate::codec::crc32c(&data)) << 32);
        match failure {
            None => {}
            Some(Failure::Errno(errno)) => return Err(io::Error::from_raw_os_error(errno)),
            Some(Failure::Short) => {
                let part = disk.dice.below(data.len() as u64) as usize;
                data.truncate(part.max(1));
            }
        }
        let length = disk.inode(self.inode)?.current.len() as u64;
        disk.may_grow(length, position + data.len() as u64)?;
        let count = data.len();
        disk.inode(self.inode)?.push(DataOp::Write(position, data));
        self.fs.changed(disk, (CallKind::Write, self.role));
        Ok(count)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.fs.disk();
        let failure = self.fs.count(&mut disk, CallKind::Sync, self.inode);
        let Disk { inodes, dice, .. } = &mut *disk;
        let inode = inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        match failure {
            None => {
                inode.sync();
                let errors = inode.sync_errors;
                self.fs.changed(disk, (CallKind::Sync, self.role));
                if self.known_errors.swap(errors, Ordering::AcqRel) < errors {
                    return Err(io::Error::from_raw_os_error(5));
                }
                Ok(())
            }
            Some(failure) => {
                inode.drop_dirty(dice);
                inode.sync_errors += 1;
                self.known_errors
                    .store(inode.sync_errors, Ordering::Release);
                Err(match failure {
                    Failure::Errno(errno) => io::Error::from_raw_os_error(errno),
                    Failure::Short => io::Error::from_raw_os_error(5),
                })
            }
        }
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.resize(CallKind::SetLength, length)
    }

    fn length(&self) -> io::Result<u64> {
        let mut disk = self.fs.call(CallKind::Length, self.inode)?;
        Ok(disk.inode(self.inode)?.current.len() as u64)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let old = self.length()?;
        if old < length {
            self.resize(CallKind::Allocate, length)?;
        }
        Ok(())
    }
}
