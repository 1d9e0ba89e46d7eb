//! Which files wait in the folder, and in what order they are read.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rand::seq::SliceRandom;

use super::config::ConsumeOrder;
use crate::name_pattern::NamePattern;

/// Ending of files that were set aside; they are never read.
pub(super) const SET_ASIDE_SUFFIX: &str = ".REJECTED";

/// What a file was when it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) size: u64,
    pub(super) modified: SystemTime,
    /// Device and inode.
    pub(super) identity: (u64, u64),
}

impl Seen {
    pub(super) fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            size: metadata.len(),
            modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            identity: (metadata.dev(), metadata.ino()),
        }
    }
}

/// A file that waits.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    pub(super) modified: SystemTime,
}

/// The rules of which files count.
pub(super) struct Candidates {
    pub(super) folder: PathBuf,
    pub(super) include: NamePattern,
    pub(super) ignore: NamePattern,
    pub(super) suffix: String,
    pub(super) recursive: bool,
    pub(super) tracker_folder: PathBuf,
    /// Whether done files are marked in the tracker folder.
    pub(super) marked: bool,
}

/// What one listing found.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) candidates: Vec<Candidate>,
    /// Files that are marked as done but were modified later: their name was used again.
    pub(super) reused: Vec<PathBuf>,
    /// What could not be looked at.
    pub(super) failures: Vec<(PathBuf, io::Error)>,
}

impl Candidates {
    /// The mark of a done or set-aside file in the tracker folder.
    pub(super) fn mark(&self, path: &Path, suffix: &str) -> PathBuf {
        let relative = path.strip_prefix(&self.folder).unwrap_or(path);
        with_suffix(&self.tracker_folder.join(relative), suffix)
    }

    /// Lists the folder. Blocks.
    pub(super) fn list(&self) -> io::Result<Listing> {
        let mut listing = Listing::default();
        let mut folders = vec![self.folder.clone()];
        let mut first = true;
        while let Some(folder) = folders.pop() {
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if first => return Err(error),
                Err(error) => {
                    listing.failures.push((folder, error));
                    continue;
                }
            };
            first = false;
            for entry in entries {
                let looked = entry.and_then(|entry| self.look(&entry, &mut folders, &mut listing));
                if let Err(error) = looked
                    && error.kind() != io::ErrorKind::NotFound
                {
                    listing.failures.push((folder.clone(), error));
                }
            }
        }
        Ok(listing)
    }

    fn look(
        &self,
        entry: &std::fs::DirEntry,
        folders: &mut Vec<PathBuf>,
        listing: &mut Listing,
    ) -> io::Result<()> {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') {
            return Ok(());
        }
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if self.recursive && path != self.tracker_folder && !self.ignore.matches(&name) {
                folders.push(path);
            }
            return Ok(());
        }
        if name.ends_with(&self.suffix)
            || name.ends_with(SET_ASIDE_SUFFIX)
            || !self.include.matches(&name)
            || self.ignore.matches(&name)
        {
            return Ok(());
        }
        let metadata = std::fs::metadata(&path)?;
        if !metadata.is_file() {
            return Ok(());
        }
        let modified = metadata.modified()?;
        if self.marked {
            for suffix in [self.suffix.as_str(), SET_ASIDE_SUFFIX] {
                if let Ok(mark) = std::fs::metadata(self.mark(&path, suffix)) {
                    if modified > mark.modified()? {
                        listing.reused.push(path);
                    }
                    return Ok(());
                }
            }
        }
        listing.candidates.push(Candidate { path, modified });
        Ok(())
    }
}

/// Puts candidates into the order in which they are read.
pub(super) fn sort(candidates: &mut [Candidate], order: ConsumeOrder, random: &mut impl rand::Rng) {
    match order {
        ConsumeOrder::Oldest => candidates.sort_unstable_by(|left, right| {
            (left.modified, &left.path).cmp(&(right.modified, &right.path))
        }),
        ConsumeOrder::Youngest => candidates.sort_unstable_by(|left, right| {
            (right.modified, &left.path).cmp(&(left.modified, &right.path))
        }),
        ConsumeOrder::Random => candidates.shuffle(random),
    }
}

/// `path` with `suffix` behind its name.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The first of `path` + `suffix`, `path` + `.1` + `suffix`, … that is free.
pub(super) fn free_name(path: &Path, suffix: &str) -> io::Result<PathBuf> {
    let mut name = with_suffix(path, suffix);
    let mut number = 0;
    while name.try_exists()? {
        number += 1;
        name = with_suffix(path, &format!(".{number}{suffix}"));
    }
    Ok(name)
}
