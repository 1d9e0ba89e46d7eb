//! Where the positions are kept: in memory, in the journal, in Flume's position file.
//!
//! The table in memory moves on when a channel has taken a batch. The journal follows within
//! milliseconds (appended, not synced: it survives a kill of the process, not a power cut), the
//! position file every `writePosInterval` or [`SAVE_BYTES`], and at stop: written anew, synced and
//! renamed, so that it is always whole.
//!
//! Invariant: no position is ever ahead of what the channels have taken. So a kill repeats what
//! was put since the last append, a power cut what was put since the last save; nothing is lost.
//!
//! A save writes the journal first, then the position file; the journal names both the new and the
//! old position file, so a crash between the two renames leaves a pair that fits.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::journal::{self, Entry, Mark};
use super::positions::{ParsedPositions, format_positions, parse_positions};
use crate::durable_file::replace_file;

/// Bytes put since the last save of the position file that make the next one due at once.
pub(super) const SAVE_BYTES: u64 = 256 << 20;

/// A position file larger than this (about half a million files) is not read.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// What was found at the start.
pub(super) enum Loaded {
    /// The journal belongs to the position file: devices and fingerprints are known.
    Ours(Vec<Entry>),
    /// Only the position file counts: Flume wrote it, or an operator.
    Flume(ParsedPositions),
}

#[derive(Default)]
struct Table {
    entries: BTreeMap<u32, Entry>,
    /// Entries to append in whole.
    whole: BTreeSet<u32>,
    /// Entries of which the position moved.
    moved: BTreeSet<u32>,
    /// Whether the position file is behind.
    changed: bool,
    /// Bytes since the last save.
    bytes: u64,
}

struct Writer {
    journal: Option<File>,
    /// Checksum of the position file on disk.
    position_file: u64,
    /// Held as long as the source runs.
    _lock: File,
}

/// The positions of one source.
pub(super) struct Store {
    path: PathBuf,
    table: Mutex<Table>,
    writer: Mutex<Writer>,
}

impl Store {
    /// Locks and reads the position file `path`; its folder is created when missing.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Loaded)> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let lock = lock_file(&beside(path, ".lock"))?;
        let bytes = read_bounded(path)?;
        let position_file = bytes.as_deref().map_or(0, journal::checksum64);
        let ours = match bytes {
            Some(_) => read_bounded(&beside(path, ".journal"))?
                .and_then(|bytes| journal::decode_journal(&bytes))
                .filter(|journal| {
                    [journal.position_file, journal.previous_position_file].contains(&position_file)
                }),
            None => None,
        };
        let loaded = match ours {
            Some(journal) => Loaded::Ours(journal.entries.into_values().collect()),
            None => Loaded::Flume(parse_positions(bytes.as_deref().unwrap_or_default())),
        };
        let store = Self {
            path: path.to_owned(),
            table: Mutex::new(Table {
                changed: true,
                ..Table::default()
            }),
            writer: Mutex::new(Writer {
                journal: None,
                position_file,
                _lock: lock,
            }),
        };
        Ok((store, loaded))
    }

    /// The position file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds or replaces what is known of a file.
    pub(super) fn set(&self, id: u32, entry: Entry) {
        let mut table = self.table();
        table.entries.insert(id, entry);
        table.whole.insert(id);
        table.changed = true;
    }

    /// Changes what is known of a file beside its position.
    pub(super) fn update(&self, id: u32, change: impl FnOnce(&mut Entry)) {
        let mut table = self.table();
        if let Some(entry) = table.entries.get_mut(&id) {
            change(entry);
            table.whole.insert(id);
            table.changed = true;
        }
    }

    /// Forgets a file; later advances of this id count for nothing.
    pub(super) fn remove(&self, id: u32) {
        let mut table = self.table();
        table.entries.remove(&id);
        table.whole.remove(&id);
        table.moved.remove(&id);
        table.changed = true;
    }

    /// What the channels have taken of a file.
    pub(super) fn committed(&self, id: u32) -> Option<(u64, Mark)> {
        let table = self.table();
        let entry = table.entries.get(&id)?;
        Some((entry.position, entry.tail))
    }

    /// The channels have taken a file up to `position`.
    pub(super) fn advance(&self, id: u32, position: u64, tail: Mark) {
        let mut table = self.table();
        let Some(entry) = table.entries.get_mut(&id) else {
            return;
        };
        let step = position.saturating_sub(entry.position);
        entry.position = position;
        entry.tail = tail;
        table.bytes += step;
        table.moved.insert(id);
        table.changed = true;
    }

    /// Bytes put since the last save.
    pub(super) fn unsaved_bytes(&self) -> u64 {
        self.table().bytes
    }

    /// Whether the journal is behind.
    pub(super) fn has_advances(&self) -> bool {
        let table = self.table();
        !table.moved.is_empty() || !table.whole.is_empty()
    }

    /// Appends the advances to the journal. Blocks.
    pub(super) fn append(&self) -> io::Result<()> {
        let mut writer = self.writer();
        let Some(file) = writer.journal.as_mut() else {
            return Ok(());
        };
        let mut bytes = Vec::new();
        {
            let mut table = self.table();
            let whole = std::mem::take(&mut table.whole);
            for id in std::mem::take(&mut table.moved) {
                if let (false, Some(entry)) = (whole.contains(&id), table.entries.get(&id)) {
                    journal::encode_advance(&mut bytes, id, entry.position, entry.tail);
                }
            }
            for id in whole {
                if let Some(entry) = table.entries.get(&id) {
                    journal::encode_file(&mut bytes, id, entry);
                }
            }
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let written = file.write_all(&bytes);
        if written.is_err() {
            // What follows a cut record would not be read; the next save begins a new journal.
            writer.journal = None;
            self.table().changed = true;
        }
        written
    }

    /// Writes the position file and a new journal, synced, if anything changed. Blocks.
    pub(super) fn save(&self) -> io::Result<()> {
        let mut writer = self.writer();
        let entries = {
            let mut table = self.table();
            if !table.changed {
                return Ok(());
            }
            table.changed = false;
            table.bytes = 0;
            table.whole.clear();
            table.moved.clear();
            table.entries.clone()
        };
        let written = self.write_files(&mut writer, &entries);
        if written.is_err() {
            let mut table = self.table();
            table.changed = true;
            table.whole = table.entries.keys().copied().collect();
        }
        written
    }

    fn write_files(&self, writer: &mut Writer, entries: &BTreeMap<u32, Entry>) -> io::Result<()> {
        let texts: Vec<_> = entries
            .values()
            .map(|entry| (entry, entry.path.to_string_lossy()))
            .collect();
        let json = format_positions(
            texts
                .iter()
                .map(|(entry, path)| (entry.identity.inode, entry.position, path.as_ref())),
        );
        let position_file = journal::checksum64(&json);
        let mut bytes = journal::encode_header(position_file, writer.position_file);
        for (id, entry) in entries {
            journal::encode_file(&mut bytes, *id, entry);
        }
        writer.journal = None;
        let file = replace_file(&beside(&self.path, ".journal"), &bytes)?;
        let file = writer.journal.insert(file);
        replace_file(&self.path, &json)?;
        // From here on the old position file would be an operator's deed, not a crash.
        file.write_all_at(&journal::encode_header(position_file, position_file), 0)?;
        writer.position_file = position_file;
        Ok(())
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Takes the lock that keeps two sources from writing one position file.
fn lock_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "another source uses this position file; give each taildir source a positionFile of its own",
        )),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

fn read_bounded(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("larger than {MAX_FILE_BYTES} bytes: not a position file"),
        ));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::super::journal::Identity;
    use super::*;

    fn entry(path: &str, position: u64) -> Entry {
        Entry {
            identity: Identity {
                device: 1,
                inode: 5,
            },
            path: path.into(),
            position,
            head: Mark::of(b"h"),
            tail: Mark::default(),
        }
    }

    fn ours(path: &Path) -> Option<Vec<(u64, PathBuf)>> {
        match Store::open(path).expect("opens").1 {
            Loaded::Ours(entries) => Some(
                entries
                    .into_iter()
                    .map(|entry| (entry.position, entry.path))
                    .collect(),
            ),
            Loaded::Flume(_) => None,
        }
    }

    #[test]
    fn appended_advances_survive_without_a_save() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("deep/positions.json");
        let (store, _) = Store::open(&path).expect("opens");
        store.set(1, entry("/a", 10));
        store.save().expect("saves");
        store.advance(1, 30, Mark::of(b"t"));
        store.advance(9, 30, Mark::of(b"t"));
        store.set(2, entry("/b", 0));
        store.append().expect("appends");
        assert_eq!(
            std::fs::read_to_string(&path).expect("reads"),
            r#"[{"inode":5,"pos":10,"file":"/a"}]"#
        );
        drop(store);
        let found = ours(&path).expect("journal fits");
        assert_eq!(found, [(30, "/a".into()), (0, "/b".into())]);
    }

    #[test]
    fn a_position_file_of_another_writer_wins() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("positions.json");
        let (store, _) = Store::open(&path).expect("opens");
        store.set(1, entry("/a", 10));
        store.save().expect("saves");
        store.advance(1, 20, Mark::default());
        store.save().expect("saves");
        drop(store);
        assert!(ours(&path).is_some());
        let saved = std::fs::read(&path).expect("reads");
        for text in [
            r#"[{"inode":5,"pos":10,"file":"/a"}]"#,
            r#"[{"inode":5,"pos":0,"file":"/a"}]"#,
        ] {
            std::fs::write(&path, text).expect("writes");
            assert!(ours(&path).is_none(), "written by somebody else: {text}");
        }
        let mut journal = journal::encode_header(1, journal::checksum64(&saved));
        journal::encode_file(&mut journal, 1, &entry("/a", 44));
        std::fs::write(beside(&path, ".journal"), journal).expect("writes");
        std::fs::write(&path, &saved).expect("writes");
        assert!(ours(&path).is_some(), "crash between the two renames");
        std::fs::remove_file(&path).expect("removes");
        match Store::open(&path).expect("opens").1 {
            Loaded::Flume(parsed) => assert!(parsed.positions.is_empty(), "begin anew"),
            Loaded::Ours(_) => panic!("removed positions must not come back"),
        }
    }

    #[test]
    fn a_position_file_has_one_user() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("positions.json");
        let first = Store::open(&path).expect("opens");
        let second = Store::open(&path).err().expect("refused");
        assert!(second.to_string().contains("another source"), "{second}");
        drop(first);
        assert!(Store::open(&path).is_ok());
    }

    #[test]
    fn a_failed_save_is_made_good() {
        let folder = tempfile::tempdir().expect("folder");
        let inside = folder.path().join("inside");
        let path = inside.join("positions.json");
        let (store, _) = Store::open(&path).expect("opens");
        store.set(1, entry("/a", 10));
        std::fs::remove_dir_all(&inside).expect("removes");
        assert!(store.save().is_err());
        assert!(store.append().is_ok(), "waits for a journal");
        std::fs::create_dir(&inside).expect("creates");
        store.save().expect("saves");
        assert!(path.is_file());
    }
}
