//! Finds the files of a file group: a folder and a regular expression over names (reference 3.10).
//!
//! Sub-folders never match. The folder is listed again only when its modification time moved, or
//! moved so lately that the clock's grain may hide a second change; with
//! `cachePatternMatching = false` at every look.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use flafka_flow::Headers;

use crate::name_pattern::{NamePattern, PatternError};

/// A folder whose modification time has been seen unchanged for this long is settled: coarse
/// file systems keep times in steps of up to two seconds.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// Splits a file group's value into its folder and the pattern of the last path element, as
/// Flume does: at the last slash.
///
/// # Errors
/// When there is no pattern behind the last slash.
pub(super) fn split_group(value: &str) -> Result<(PathBuf, &str), &'static str> {
    let (folder, pattern) = value
        .rsplit_once('/')
        .map_or((".", value), |(folder, pattern)| {
            (if folder.is_empty() { "/" } else { folder }, pattern)
        });
    if pattern.is_empty() {
        return Err("ends in a slash: a pattern of file names has to follow the folder");
    }
    Ok((PathBuf::from(folder), pattern))
}

struct Listing {
    modified: SystemTime,
    /// When this modification time was first seen.
    first_seen: Instant,
    listed_at: Instant,
    paths: Arc<[PathBuf]>,
}

/// A file group at work.
pub(super) struct Group {
    /// Headers of all its events.
    pub(super) headers: Headers,
    folder: PathBuf,
    pattern: NamePattern,
    cached: bool,
    listing: Option<Listing>,
}

impl Group {
    /// A group over `value`, which was checked before. The folder becomes absolute.
    pub(super) fn new(value: &str, headers: Headers, cached: bool) -> Result<Self, GroupError> {
        let (folder, pattern) = split_group(value).map_err(GroupError::Shape)?;
        Ok(Self {
            headers,
            folder: std::path::absolute(folder).map_err(GroupError::Folder)?,
            pattern: NamePattern::new(pattern)?,
            cached,
            listing: None,
        })
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The paths that match now, sorted; sub-folders may still be among them.
    pub(super) fn paths(&mut self, now: Instant) -> io::Result<Arc<[PathBuf]>> {
        let modified = std::fs::metadata(&self.folder)?.modified()?;
        let mut first_seen = now;
        if let Some(listing) = &self.listing
            && listing.modified == modified
        {
            if self.cached && listing.listed_at - listing.first_seen >= SETTLED_AFTER {
                return Ok(Arc::clone(&listing.paths));
            }
            first_seen = listing.first_seen;
        }
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            if self.pattern.matches(&entry.file_name().to_string_lossy()) {
                paths.push(entry.path());
            }
        }
        paths.sort_unstable();
        let paths: Arc<[PathBuf]> = paths.into();
        self.listing = Some(Listing {
            modified,
            first_seen,
            listed_at: now,
            paths: Arc::clone(&paths),
        });
        Ok(paths)
    }
}

/// Why a file group cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum GroupError {
    /// Not a folder and a pattern.
    #[error("{0}")]
    Shape(&'static str),
    /// The pattern is none.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A relative folder without a current one.
    #[error("cannot tell the current folder")]
    Folder(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_split_at_its_last_slash() {
        assert_eq!(
            split_group("/var/log/.*log"),
            Ok((PathBuf::from("/var/log"), ".*log"))
        );
        assert_eq!(split_group("/x"), Ok((PathBuf::from("/"), "x")));
        assert_eq!(split_group("x.*"), Ok((PathBuf::from("."), "x.*")));
        assert!(split_group("/var/log/").is_err());
    }

    #[test]
    fn a_new_file_is_seen_with_and_without_the_cache() {
        let folder = tempfile::tempdir().expect("folder");
        for cached in [true, false] {
            let value = format!("{}/.*[.]log", folder.path().display());
            let mut group = Group::new(&value, Headers::new(), cached).expect("a group");
            let start = Instant::now();
            assert!(group.paths(start).expect("lists").is_empty());
            let path = folder.path().join("a.log");
            for (seconds, there) in [(1, true), (10, true), (20, false), (30, false)] {
                if there {
                    std::fs::write(&path, "x").expect("writes");
                    std::fs::write(folder.path().join("other"), "x").expect("writes");
                } else if path.is_file() {
                    std::fs::remove_file(&path).expect("removes");
                }
                let now = start + Duration::from_secs(seconds);
                let found = group.paths(now).expect("lists");
                assert_eq!(found.contains(&path), there, "after {seconds} s");
                assert_eq!(found.len(), usize::from(there));
            }
        }
    }
}
