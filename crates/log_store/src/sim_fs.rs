//! A simulated disk, for tests here and in other crates: it keeps what was synced and loses, tears or reorders the rest.
//!
//! Model (faults.md §3.4, F4-F8):
//! - A write is durable after a successful sync of its file. At a power cut every 512-byte sector of an unsynced file
//!   holds any one of the contents it had since the last sync, independently of its neighbours; so does the length.
//! - A name (create, rename, remove, directory) is durable after a sync of its directory. At a power cut any subset of
//!   the unsynced ones has happened.
//! - A failed sync drops the file's dirty pages, as Linux does: later syncs succeed and bring nothing back. What reads
//!   still see is a matter of luck. Descriptors that were open hear of it once, by their next sync; new ones do not.
//! - Any call can be made to fail, once or from then on; writes can be cut short; the disk can be full.
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
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fs::{File, Fs, Lock, LockError, OpenMode};

const SECTOR: usize = 512;

/// What a planned failure does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The call fails with this errno and has no effect (a sync drops the dirty pages).
    Errno(i32),
    /// A write writes only a part and says so; other calls fail with EINTR.
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
enum DataOp {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

#[derive(Debug, Clone, Default)]
struct Inode {
    current: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    /// Since the last sync.
    ops: Vec<Arc<DataOp>>,
    /// Failed syncs so far.
    sync_errors: u64,
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

/// A small generator of our own, so that a seed means the same for ever (SplitMix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Dice(seed)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is at least 1.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit.max(1)
    }

    /// True `percent` times in a hundred.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
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
}

#[derive(Debug)]
struct SimFile {
    fs: SimFs,
    inode: u64,
    writable: bool,
    /// Failed syncs of the file that this descriptor knows of.
    known_errors: AtomicU64,
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
        })
    }

    fn from_disk(disk: Disk) -> Self {
        SimFs {
            shared: Arc::new(Shared {
                disk: Mutex::new(disk),
                probes: Mutex::default(),
                locked: Arc::new(AtomicBool::new(false)),
            }),
        }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.shared
            .disk
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.disk().calls
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

    /// Counts a call and says whether it fails.
    fn call(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let mut disk = self.disk();
        match disk.count() {
            None => Ok(disk),
            Some(Failure::Errno(errno)) => Err(io::Error::from_raw_os_error(errno)),
            Some(Failure::Short) => Err(io::ErrorKind::Interrupted.into()),
        }
    }

    fn changed(&self, mut disk: MutexGuard<'_, Disk>) {
        disk.changes += 1;
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
        let mut disk = self.call()?;
        disk.names.apply(&op);
        let dir = dir.unwrap_or(Path::new("/")).to_path_buf();
        disk.name_ops.push((dir, op));
        self.changed(disk);
        Ok(())
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
    /// Counts the call; what happens to it if it is the planned one.
    fn count(&mut self) -> Option<Failure> {
        self.calls += 1;
        let plan = self.plan?;
        let hit = self.calls == plan.call || (plan.for_ever && self.calls > plan.call);
        hit.then_some(plan.failure)
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

impl Inode {
    fn apply(bytes: &mut Vec<u8>, op: &DataOp) {
        match op {
            DataOp::Write(position, data) => {
                let end = *position as usize + data.len();
                if bytes.len() < end {
                    bytes.extend_from_slice(&vec![0; end - bytes.len()]);
                }
                bytes[*position as usize..end].copy_from_slice(data);
            }
            DataOp::SetLen(length) => {
                let length = *length as usize;
                bytes.truncate(length);
                bytes.extend_from_slice(&vec![0; length - bytes.len()]);
            }
        }
    }

    fn push(&mut self, op: DataOp) {
        Self::apply(Arc::make_mut(&mut self.current), &op);
        self.ops.push(Arc::new(op));
    }

    fn sync(&mut self) {
        let durable = Arc::make_mut(&mut self.durable);
        for op in self.ops.drain(..) {
            Self::apply(durable, &op);
        }
    }

    /// A failed sync: the pages count as clean, the disk has the old content.
    fn drop_dirty(&mut self, dice: &mut Dice) {
        self.ops.clear();
        if dice.chance(50) {
            self.current = Arc::clone(&self.durable);
        }
    }

    fn after_cut(&self, dice: &mut Dice) -> Vec<u8> {
        let count = self.ops.len();
        if count == 0 {
            return self.durable.to_vec();
        }
        // Versions 0..=count of the whole file; each sector shows any one of them.
        let mut versions = vec![self.durable.to_vec()];
        for op in &self.ops {
            let mut next = versions.last().cloned().unwrap_or_default();
            Self::apply(&mut next, op);
            versions.push(next);
        }
        match dice.below(4) {
            0 => return self.durable.to_vec(),
            1 => return versions.pop().unwrap_or_default(),
            2 => {
                // In order, the last one torn.
                let kept = dice.below(count as u64) as usize;
                return Self::tear(&versions[kept], &versions[kept + 1], dice);
            }
            _ => {}
        }
        let length = versions[dice.below(count as u64 + 1) as usize].len();
        let mut bytes = vec![0; length];
        for start in (0..length).step_by(SECTOR) {
            let end = (start + SECTOR).min(length);
            let version = &versions[dice.below(count as u64 + 1) as usize];
            let has = version.len().min(end);
            if let Some(sector) = version.get(start..has) {
                bytes[start..has].copy_from_slice(sector);
            }
        }
        bytes
    }

    /// Sectors of `new` up to some point, then those of `old`.
    fn tear(old: &[u8], new: &[u8], dice: &mut Dice) -> Vec<u8> {
        let sectors = new.len().div_ceil(SECTOR) as u64;
        let cut = (dice.below(sectors + 1) as usize * SECTOR).min(new.len());
        let mut bytes = new[..cut].to_vec();
        bytes.extend_from_slice(old.get(cut..).unwrap_or_default());
        bytes
    }
}

impl Fs for SimFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut disk = self.call()?;
        let known = disk.names.files.get(path).copied();
        let inode = match (mode, known) {
            (OpenMode::Read | OpenMode::Write, Some(inode)) => inode,
            (OpenMode::Read | OpenMode::Write, None) => {
                return Err(io::ErrorKind::NotFound.into());
            }
            (OpenMode::Create, Some(number)) => {
                disk.inode(number)?.push(DataOp::SetLen(0));
                self.changed(disk);
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
                self.changed(disk);
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
        let disk = self.call()?;
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
        let mut disk = self.call()?;
        let ops = std::mem::take(&mut disk.name_ops);
        let (synced, waiting): (Vec<_>, Vec<_>) = ops.into_iter().partition(|(of, _)| of == dir);
        disk.name_ops = waiting;
        for (_, op) in synced {
            disk.durable.apply(&op);
        }
        self.changed(disk);
        Ok(())
    }

    fn lock(&self, _path: &Path, holder: &str) -> Result<Box<dyn Lock>, LockError> {
        drop(self.call().map_err(LockError::Io)?);
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
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut disk = self.fs.call()?;
        let bytes = &disk.inode(self.inode)?.current;
        let from = (position as usize).min(bytes.len());
        let count = buffer.len().min(bytes.len() - from);
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
        match disk.count() {
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
        self.fs.changed(disk);
        Ok(count)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.fs.disk();
        let failure = disk.count();
        let Disk { inodes, dice, .. } = &mut *disk;
        let inode = inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        match failure {
            None => {
                inode.sync();
                let errors = inode.sync_errors;
                self.fs.changed(disk);
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
        self.check_writable()?;
        let mut disk = self.fs.call()?;
        let old = disk.inode(self.inode)?.current.len() as u64;
        disk.may_grow(old, length)?;
        disk.inode(self.inode)?.push(DataOp::SetLen(length));
        self.fs.changed(disk);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        let mut disk = self.fs.call()?;
        Ok(disk.inode(self.inode)?.current.len() as u64)
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let old = self.length()?;
        if old < length {
            self.set_len(length)?;
        }
        Ok(())
    }
}
