//! All file work goes through these two small traits, so that a simulated disk can tear, drop and reorder writes and
//! fail every n-th call ([`crate::sim_fs`]).
//!
//! Rule of the house: whoever creates, renames or removes a name syncs its directory before anything relies on it, in
//! the helpers at the end of this file ([`write_durably`], [`create_durably`], [`remove_durably`]).

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate, fdatasync, statvfs};

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// Must exist, for reading.
    Read,
    /// Must exist, for reading and writing.
    Write,
    /// Created, or emptied if it exists.
    Create,
}

/// Why a lock was not taken.
#[derive(Debug)]
pub enum LockError {
    /// Somebody else holds it; the text is what is written in the file.
    Held(String),
    /// A call failed.
    Io(io::Error),
}

/// Keeps a lock until dropped.
pub trait Lock: Send + Sync + Debug {}

/// A file system.
pub trait Fs: Send + Sync + Debug {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// Creates a directory and its parents; fine if it exists.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Renames a file, replacing what has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the lock file and writes `holder` into it.
    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn Lock>, LockError>;
    /// Free bytes on the volume of `path`.
    fn space_left(&self, path: &Path) -> io::Result<u64>;
    /// A random number, for salts and ids.
    fn entropy(&self) -> u64;
}

/// An open file. Positions are given with each call, so that readers and the writer share it.
pub trait File: Send + Sync + Debug {
    /// Reads at a position; fewer bytes than asked for at the end of the file.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes at a position; may write fewer bytes than given.
    fn write_vectored_at(&self, buffers: &[IoSlice<'_>], position: u64) -> io::Result<usize>;
    /// Makes content and length durable (fdatasync). After an error, never call it again on this file and believe it.
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts or extends.
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// Length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// When the content last changed, milliseconds since 1970; `None` where nobody knows.
    fn modified_ms(&self) -> io::Result<Option<i64>> {
        Ok(None)
    }
    /// Reserves space up to `length` and makes the file that long; new bytes read as zero.
    fn allocate(&self, length: u64) -> io::Result<()>;
}

impl dyn File + '_ {
    /// Reads until the buffer is full or the file ends; says how much.
    pub(crate) fn read_full(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.read_at(&mut buffer[done..], position + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Reads exactly the buffer.
    pub(crate) fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let wanted = buffer.len();
        let found = self.read_full(buffer, position)?;
        if found < wanted {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{wanted} bytes wanted at {position}, {found} there"),
            ));
        }
        Ok(())
    }

    /// Writes all bytes.
    pub(crate) fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.write_all_vectored_at(&mut [IoSlice::new(bytes)], position)
    }

    /// Writes all buffers, however many calls that takes. The slices are used up.
    pub(crate) fn write_all_vectored_at(
        &self,
        mut buffers: &mut [IoSlice<'_>],
        mut position: u64,
    ) -> io::Result<()> {
        const MOST_AT_ONCE: usize = 1024;
        IoSlice::advance_slices(&mut buffers, 0);
        while !buffers.is_empty() {
            let few = &buffers[..buffers.len().min(MOST_AT_ONCE)];
            match self.write_vectored_at(few, position) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    position += count as u64;
                    IoSlice::advance_slices(&mut buffers, count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The machine's file system.
#[derive(Debug, Default)]
pub struct RealFs;

#[derive(Debug)]
struct RealFile(fs::File);

#[derive(Debug)]
struct RealLock {
    _file: fs::File,
}

impl Lock for RealLock {}

/// A process id with the command line it was started with, as far as that can be read.
fn with_command_line(holder: &str) -> String {
    let Ok(process) = holder.parse::<u32>() else {
        return holder.to_string();
    };
    if process == std::process::id() {
        return format!("{holder}, which is this one, for another log of its own");
    }
    let Ok(line) = fs::read(format!("/proc/{process}/cmdline")) else {
        return holder.to_string();
    };
    let line = shown_command_line(&String::from_utf8_lossy(&line));
    match line.is_empty() {
        true => holder.to_string(),
        false => format!("{holder} ({line})"),
    }
}

/// The words of a command line that are no definitions (`-Dkey=value`, `-D key=value`): their values may be secrets.
fn shown_command_line(line: &str) -> String {
    const MOST_CHARACTERS: usize = 200;
    let mut words = line.split('\0').filter(|word| !word.is_empty());
    let mut shown = Vec::new();
    while let Some(word) = words.next() {
        match word.strip_prefix("-D") {
            None => shown.push(word),
            Some("") => drop(words.next()),
            Some(_) => {}
        }
    }
    let plain = |character: char| match character.is_control() {
        true => ' ',
        false => character,
    };
    let line = shown.join(" ");
    line.chars().map(plain).take(MOST_CHARACTERS).collect()
}

impl Fs for RealFs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => {
                options.write(true);
            }
            OpenMode::Create => {
                options.write(true).create(true).truncate(true);
            }
        }
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<OsString>> {
        fs::read_dir(dir)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn Lock>, LockError> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(LockError::Io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let text = fs::read_to_string(path).unwrap_or_default();
                return Err(LockError::Held(with_command_line(text.trim())));
            }
            Err(fs::TryLockError::Error(error)) => return Err(LockError::Io(error)),
        }
        // In place: on a full disk a block that is given back may be gone.
        file.write_all_at(holder.as_bytes(), 0)
            .and_then(|()| file.set_len(holder.len() as u64))
            .map_err(LockError::Io)?;
        Ok(Box::new(RealLock { _file: file }))
    }

    fn space_left(&self, path: &Path) -> io::Result<u64> {
        let stat = statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn entropy(&self) -> u64 {
        use std::hash::{BuildHasher, Hasher, RandomState};
        // The standard library seeds this from the system's random source.
        RandomState::new().build_hasher().finish()
    }
}

impl File for RealFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.0.read_at(buffer, position)
    }

    fn write_vectored_at(&self, buffers: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(&self.0, buffers, position)?)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(fdatasync(&self.0)?)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn modified_ms(&self) -> io::Result<Option<i64>> {
        let changed = self.0.metadata()?.modified()?;
        let since = changed.duration_since(std::time::UNIX_EPOCH);
        Ok(since
            .ok()
            .and_then(|since| i64::try_from(since.as_millis()).ok()))
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        match fallocate(&self.0, FallocateFlags::empty(), 0, length) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {
                write_zeroes(self, 0, length)
            }
            Err(errno) => Err(errno.into()),
        }
    }
}

/// Writes zeroes: slower than [`File::allocate`], but later syncs need not journal anything (faults.md §3.2 rule 6).
pub(crate) fn write_zeroes(file: &dyn File, from: u64, to: u64) -> io::Result<()> {
    const CHUNK: usize = 1 << 20;
    let zeroes = vec![0u8; CHUNK.min(usize::try_from(to.saturating_sub(from)).unwrap_or(CHUNK))];
    let mut position = from;
    while position < to {
        let count = zeroes
            .len()
            .min(usize::try_from(to - position).unwrap_or(usize::MAX));
        file.write_all_at(&zeroes[..count], position)?;
        position += count as u64;
    }
    Ok(())
}

/// Creates an empty file whose name survives a power cut.
pub(crate) fn create_durably(fs: &dyn Fs, dir: &Path, name: &str) -> io::Result<Arc<dyn File>> {
    let file = fs.open(&dir.join(name), OpenMode::Create)?;
    fs.sync_dir(dir)?;
    Ok(file)
}

/// Replaces a file's content as a whole: temporary file, sync, rename, sync of the directory.
pub(crate) fn write_durably(fs: &dyn Fs, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.tmp"));
    let file = fs.open(&temporary, OpenMode::Create)?;
    file.write_all_at(bytes, 0)?;
    file.sync_data()?;
    drop(file);
    fs.rename(&temporary, &dir.join(name))?;
    fs.sync_dir(dir)
}

/// Removes names and syncs their directory once. Names that are gone already are fine.
pub(crate) fn remove_durably(fs: &dyn Fs, dir: &Path, names: &[String]) -> io::Result<()> {
    for name in names {
        match fs.remove_file(&dir.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    if names.is_empty() {
        return Ok(());
    }
    fs.sync_dir(dir)
}

/// Reads a whole file of at most `limit` bytes.
pub(crate) fn read_whole(fs: &dyn Fs, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = fs.open(path, OpenMode::Read)?;
    let length = file.length()?;
    if length > limit {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{length} bytes long, at most {limit} expected"),
        ));
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?];
    let found = file.read_full(&mut bytes, 0)?;
    bytes.truncate(found);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_not_shown_of_a_command_line() {
        for (line, shown) in [
            (
                "flafka\0agent\0-Dpassword=a\0-D\0password=b\0-n\0a1\0",
                "flafka agent -n a1",
            ),
            ("flafka\0\0-D\0", "flafka"),
            ("a\nb\0-Dx", "a b"),
        ] {
            assert_eq!(shown_command_line(line), shown);
        }
        assert_eq!(shown_command_line(&"x".repeat(999)).len(), 200);
        let own = with_command_line(&std::process::id().to_string());
        assert!(own.contains("this one"), "{own}");
    }
}
