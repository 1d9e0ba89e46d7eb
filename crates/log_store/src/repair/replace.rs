//! The writing half of a repair: new files are durable before they take a name, and what had the name is moved, never
//! removed (indexes apart, which are derived).

use std::io;
use std::path::Path;

use super::COPY_EXTENSION;
use super::overlay::Overlay;
use crate::fs::{File, Fs, OpenMode};
use crate::index;
use crate::journal::files;

/// Size of the new journal file when there is no old one to go by.
const JOURNAL_BYTES: u64 = 64 << 20;

/// Writes a segment's good pieces into a new file, sets the old one aside, and puts the new one in its place.
pub(super) fn write_anew(
    fs: &dyn Fs,
    path: &Path,
    from: &Overlay,
    pieces: &[(u64, u64)],
    aside: &Path,
) -> io::Result<()> {
    let temporary = path.with_extension(COPY_EXTENSION);
    let from: &dyn File = from;
    let file = fs.open(&temporary, OpenMode::Create)?;
    let mut buffer = vec![0; 1 << 20];
    let mut to = 0;
    for (position, length) in pieces {
        let mut done = 0;
        while done < *length {
            let count = buffer.len().min((length - done) as usize);
            from.read_exact_at(&mut buffer[..count], position + done)?;
            file.write_all_at(&buffer[..count], to)?;
            done += count as u64;
            to += count as u64;
        }
    }
    file.sync_data()?;
    drop_indexes(fs, path)?;
    match set_aside(fs, path, aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs.rename(&temporary, path)?;
    fs.sync_dir(path.parent().unwrap_or(path))
}

/// Moves a file into the folder of what was replaced, under a name that tells where it was.
pub(super) fn set_aside(fs: &dyn Fs, path: &Path, aside: &Path) -> io::Result<()> {
    let part =
        |path: Option<&std::ffi::OsStr>| path.unwrap_or_default().to_string_lossy().into_owned();
    let folder = part(path.parent().and_then(Path::file_name));
    fs.rename(
        path,
        &aside.join(format!("{folder}-{}", part(path.file_name()))),
    )?;
    fs.sync_dir(aside)
}

pub(super) fn drop_indexes(fs: &dyn Fs, path: &Path) -> io::Result<()> {
    for extension in index::EXTENSIONS {
        match fs.remove_file(&path.with_extension(extension)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn journal_size(fs: &dyn Fs, dir: &Path, sequence: u64) -> u64 {
    let file = fs.open(&dir.join(files::file_name(sequence)), OpenMode::Read);
    let size = file.and_then(|file| file.length()).unwrap_or(0);
    match size >= crate::settings::MIN_JOURNAL_FILE_BYTES {
        true => size,
        false => JOURNAL_BYTES,
    }
}
