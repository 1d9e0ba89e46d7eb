//! Who has the log open, found out without touching its lock.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Name of the lock file.
const LOCK_FILE: &str = "LOCK";

/// The process that holds the log in `dir` open, as the system's list of locks says.
pub fn owner(dir: &Path) -> Option<u32> {
    let inode = fs::metadata(dir.join(LOCK_FILE)).ok()?.ino();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    locks.lines().find_map(|line| holder(line, inode))
}

/// `1: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF`: the process of a lock on the file of this inode.
fn holder(line: &str, inode: u64) -> Option<u32> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [_, "FLOCK", _, "WRITE", pid, place, ..] = words[..] else {
        return None;
    };
    let found: u64 = place.rsplit(':').next()?.parse().ok()?;
    (found == inode).then(|| pid.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_holder_of_a_lock() {
        let line = "2: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF";
        assert_eq!(holder(line, 5678), Some(1234));
        assert_eq!(holder(line, 1234), None);
        assert_eq!(
            holder("2: -> FLOCK ADVISORY WRITE 1 a:b:5678 0 EOF", 5678),
            None
        );
        assert_eq!(holder("", 0), None);
    }

    #[test]
    fn a_locked_directory_has_an_owner() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let file = fs::File::create(dir.path().join(LOCK_FILE)).expect("create");
        assert_eq!(owner(dir.path()), None);
        file.lock().expect("lock");
        assert_eq!(owner(dir.path()), Some(std::process::id()));
    }
}
