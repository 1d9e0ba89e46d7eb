//! Whether a Flume runs on a directory, and how it is kept away meanwhile.
//!
//! Flume locks `in_use.lock` in each directory with a Java `FileLock`, a POSIX record lock. But Flume 1.11 loses it at once:
//! it opens the file a second time to see whether locks work, and a POSIX lock goes when its process closes the file
//! anywhere. The file itself stays open as long as that Flume runs. So two things are looked at: the lock, and whether any
//! process has the file open (those of other users are seen only by root). And a shared lock is held, which needs no
//! writing: a Flume that is started meanwhile finds it and does not start.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, fcntl_getlk};

use crate::error::FlumeError;

/// Holds the lock of a directory; `None` if there is no lock file, so no Flume runs there.
pub(crate) fn hold(dir: &Path) -> Result<Option<File>, FlumeError> {
    let path = dir.join("in_use.lock");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FlumeError::io("open", &path)(error)),
    };
    let in_use = |holder| FlumeError::InUse {
        path: path.clone(),
        holder,
    };
    match fcntl_lock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {}
        Err(Errno::AGAIN | Errno::ACCESS) => return Err(in_use(holder(&file))),
        Err(errno) => return Err(FlumeError::io("lock", &path)(errno.into())),
    }
    let found = file.metadata().map_err(FlumeError::io("look at", &path))?;
    match opener((found.dev(), found.ino())) {
        Some(process) => Err(in_use(format!("process {process}"))),
        None => Ok(Some(file)),
    }
}

/// Who has locked the file.
fn holder(file: &File) -> String {
    match fcntl_getlk(file, &Flock::from(FlockType::ReadLock)) {
        Ok(Some(Flock { pid: Some(pid), .. })) => format!("process {}", pid.as_raw_pid()),
        _ => "another process".to_owned(),
    }
}

/// A process other than this one that has the file open.
fn opener(file: (u64, u64)) -> Option<u32> {
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let others = numbers.filter(|process| *process != std::process::id());
    others.into_iter().find(|process| {
        // A process that ended meanwhile, or that is not ours to look at.
        let Ok(open) = fs::read_dir(format!("/proc/{process}/fd")) else {
            return false;
        };
        let mut found = open
            .flatten()
            .filter_map(|entry| fs::metadata(entry.path()).ok());
        found.any(|found| (found.dev(), found.ino()) == file)
    })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_directory_whose_lock_file_is_open_elsewhere_is_in_use() {
        let dir = tempfile::tempdir().expect("temporary folder");
        assert!(hold(dir.path()).expect("free").is_none());
        let path = dir.path().join("in_use.lock");
        fs::write(&path, "").expect("write");
        assert!(hold(dir.path()).expect("free").is_some());
        let input = File::open(&path).expect("open");
        let mut other = Command::new("sleep")
            .arg("600")
            .stdin(Stdio::from(input))
            .spawn()
            .expect("start");
        let refused = hold(dir.path()).expect_err("in use").to_string();
        other.kill().expect("kill");
        other.wait().expect("its end");
        assert!(
            refused.contains(&format!("process {}:", other.id())),
            "{refused}"
        );
        assert!(hold(dir.path()).expect("free again").is_some());
    }
}
