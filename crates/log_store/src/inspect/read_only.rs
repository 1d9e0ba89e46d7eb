//! A file system that only reads: what looks into a log must not be able to change it, whatever code it shares with the
//! start.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::fs::{File, Fs, Lock, LockError, OpenMode, RealFs};

/// The machine's file system without its writing half.
#[derive(Debug)]
pub(crate) struct ReadOnly;

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "only looking")
}

impl Fs for ReadOnly {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        match mode {
            OpenMode::Read | OpenMode::Write => RealFs.open(path, OpenMode::Read),
            OpenMode::Create => Err(refused()),
        }
    }

    fn create_dir_all(&self, _path: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn remove_file(&self, _path: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn remove_dir(&self, _path: &Path) -> io::Result<()> {
        Err(refused())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        RealFs.list(dir)
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _path: &Path, _holder: &str) -> Result<Box<dyn Lock>, LockError> {
        Err(LockError::Io(refused()))
    }

    fn space_left(&self, path: &Path) -> io::Result<u64> {
        RealFs.space_left(path)
    }

    fn entropy(&self) -> u64 {
        RealFs.entropy()
    }
}
