//! Changes to the file system that last: what returned without error is there after a power cut.
//!
//! Replacing a small state file leaves the old or the new content at any moment: write beside,
//! sync, rename, sync the folder.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes `bytes` as the whole content of `path`. Returns the file, open for appending.
///
/// # Errors
/// When a step fails; `path` then still has its old content, or the new one if only the last sync
/// failed.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    let beside = PathBuf::from(beside);
    let written = write_synced(&beside, bytes).and_then(|file| {
        std::fs::rename(&beside, path)?;
        Ok(file)
    });
    match written {
        Ok(file) => {
            sync_parent(path)?;
            Ok(file)
        }
        Err(error) => {
            // A disk may be full: the half-written copy must not keep it so.
            if let Err(left) = std::fs::remove_file(&beside)
                && left.kind() != io::ErrorKind::NotFound
            {
                tracing::debug!(path = %beside.display(), %left, "remove temporary file");
            }
            Err(error)
        }
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    Ok(file)
}

/// Makes a created, renamed or removed name in the folder of `path` durable.
///
/// # Errors
/// When the folder cannot be opened or synced.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)?.sync_all()
}

/// Renames a file within its folder; something of the new name is replaced.
///
/// # Errors
/// When the file cannot be renamed or the folder cannot be synced.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)?;
    sync_parent(to)
}

/// Creates an empty file with the folders above it.
///
/// # Errors
/// When a step fails.
pub(crate) fn create_empty(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    write_synced(path, b"")?;
    sync_parent(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_is_replaced_and_can_be_appended_to() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("state");
        replace_file(&path, b"one").expect("writes");
        let mut file = replace_file(&path, b"two").expect("writes");
        file.write_all(b" three").expect("appends");
        assert_eq!(std::fs::read(&path).expect("reads"), b"two three");
        let left: Vec<_> = std::fs::read_dir(folder.path()).expect("lists").collect();
        assert_eq!(left.len(), 1, "no temporary file stays: {left:?}");
        assert!(replace_file(&folder.path().join("none/state"), b"x").is_err());
    }
}
