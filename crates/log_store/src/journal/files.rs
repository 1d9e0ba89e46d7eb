//! The journal's files: `<sequence, 20 digits>.jnl`, all of one size, little-endian:
//! ```text
//! byte    0  header       magic "FLAFKJNL", version u32 = 1, size of the file in KiB u32 (0: not told, as
//!                           releases before wrote it), sequence u64, salt u32, CRC-32C u32
//!      2048  header again a single damaged sector must not hide which salt the frames have
//!      4096  frames, see [`super::frame`]
//! ```
//! A file is born as `.tmp`: space reserved, header written, synced, renamed, directory synced; the spare's name is
//! durable before it is used, so that no two names ever mean one file. So a `.jnl` file without
//! a good header is damage, never a half-made file. Used files are recycled: their blocks are written already, and a
//! sync of written blocks has no metadata to journal (faults.md §3.2 rule 6); the new salt keeps old frames out.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codec::{Reader, Writer, crc32c};
use crate::error::{IoFault, OpenError};
use crate::fs::{File, Fs, OpenMode, write_zeroes};

/// Where frames start.
pub(crate) const FRAMES_AT: u64 = 4096;
const SECOND_HEADER_AT: u64 = 2048;
const HEADER_BYTES: usize = 32;
const MAGIC: &[u8; 8] = b"FLAFKJNL";
const VERSION: u32 = 1;
/// A file whose space is ready but that has no sequence yet.
const SPARE_NAME: &str = "spare.tmp";

/// Name of a journal file.
pub(crate) fn file_name(sequence: u64) -> String {
    format!("{sequence:020}.jnl")
}

/// The sequence in a file name.
pub(crate) fn parse_file_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".jnl")?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// An open journal file.
#[derive(Debug, Clone)]
pub(crate) struct JournalFile {
    pub(crate) sequence: u64,
    pub(crate) salt: u32,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
    /// Bytes of the file.
    pub(crate) capacity: u64,
    /// Bytes that it had when it was made, if it tells.
    pub(crate) made_with: Option<u64>,
}

impl JournalFile {
    /// How many bytes are missing at its end: a file never changes its size.
    pub(crate) fn missing_bytes(&self) -> u64 {
        self.made_with.unwrap_or(0).saturating_sub(self.capacity)
    }
}

/// The size as the header tells it: whole KiB, rounded down.
fn in_kib(capacity: u64) -> u32 {
    u32::try_from(capacity >> 10).unwrap_or(0)
}

fn encode_header(sequence: u64, salt: u32, capacity: u64) -> Vec<u8> {
    let mut out = Writer::default();
    out.raw(MAGIC);
    out.u32(VERSION);
    out.u32(in_kib(capacity));
    out.u64(sequence);
    out.u32(salt);
    let mut bytes = out.into_vec();
    let crc = crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// What a good header tells.
struct Header {
    version: u32,
    kib: u32,
    sequence: u64,
    salt: u32,
}

fn decode_header(bytes: &[u8]) -> Option<Header> {
    if bytes[HEADER_BYTES - 4..] != crc32c(&bytes[..HEADER_BYTES - 4]).to_le_bytes() {
        return None;
    }
    let mut reader = Reader::new(bytes);
    if reader.raw(8).ok()? != MAGIC {
        return None;
    }
    Some(Header {
        version: reader.u32().ok()?,
        kib: reader.u32().ok()?,
        sequence: reader.u64().ok()?,
        salt: reader.u32().ok()?,
    })
}

/// Makes a new file for `sequence`, from the spare if there is one. Durable when it returns.
pub(crate) fn create(
    fs: &dyn Fs,
    dir: &Path,
    sequence: u64,
    capacity: u64,
    spare: bool,
) -> io::Result<JournalFile> {
    // One rename and no more: of two that hang together a power cut may undo the first.
    let spare_path = dir.join(SPARE_NAME);
    let taken = match spare {
        true => fs.open(&spare_path, OpenMode::Write).ok(),
        false => None,
    };
    let (temporary, file) = match taken {
        Some(file) => (spare_path, file),
        None => {
            let temporary = dir.join(format!("{sequence:020}.tmp"));
            let file = fs.open(&temporary, OpenMode::Create)?;
            (temporary, file)
        }
    };
    if file.length()? != capacity {
        file.set_len(0)?;
        file.allocate(capacity)?;
    }
    let salt = (fs.entropy() >> 16) as u32;
    let header = encode_header(sequence, salt, capacity);
    file.write_all_at(&header, 0)?;
    file.write_all_at(&header, SECOND_HEADER_AT)?;
    file.sync_data()?;
    let path = dir.join(file_name(sequence));
    fs.rename(&temporary, &path)?;
    fs.sync_dir(dir)?;
    Ok(JournalFile {
        sequence,
        salt,
        path,
        file,
        capacity,
        made_with: Some(capacity),
    })
}

/// Opens an existing file for scanning and for cutting its tail.
pub(crate) fn open(fs: &dyn Fs, dir: &Path, sequence: u64) -> Result<JournalFile, OpenError> {
    let path = dir.join(file_name(sequence));
    let fault = |action| IoFault::of(action, &path);
    let file = fs
        .open(&path, OpenMode::Write)
        .map_err(fault("open journal"))?;
    let capacity = file.length().map_err(fault("measure journal"))?;
    for at in [0, SECOND_HEADER_AT] {
        let mut bytes = [0; HEADER_BYTES];
        let found = file
            .read_full(&mut bytes, at)
            .map_err(fault("read journal"))?;
        if found < HEADER_BYTES {
            continue;
        }
        match decode_header(&bytes) {
            Some(header) if header.version != VERSION => {
                return Err(OpenError::UnknownVersion {
                    path,
                    found: header.version,
                    supported: VERSION,
                });
            }
            Some(header) if header.sequence == sequence => {
                return Ok(JournalFile {
                    sequence,
                    salt: header.salt,
                    path,
                    file,
                    capacity,
                    made_with: (header.kib > 0).then(|| u64::from(header.kib) << 10),
                });
            }
            _ => {}
        }
    }
    Err(OpenError::Corrupt {
        path,
        position: 0,
        what: "both copies of the journal file's header are bad".to_string(),
    })
}

/// The sequences of all journal files, ascending, and whether there is a spare.
pub(crate) fn list_only(fs: &dyn Fs, dir: &Path) -> io::Result<(Vec<u64>, bool)> {
    let names = fs.list(dir)?;
    let names = names.iter().map(|name| name.to_string_lossy());
    let spare = names.clone().any(|name| name == SPARE_NAME);
    let mut sequences: Vec<u64> = names.filter_map(|name| parse_file_name(&name)).collect();
    sequences.sort_unstable();
    Ok((sequences, spare))
}

/// The sequences of all journal files, ascending. Leftovers of unfinished creations are the spare, or go.
pub(crate) fn list(fs: &dyn Fs, dir: &Path) -> io::Result<(Vec<u64>, bool)> {
    let (sequences, mut spare) = list_only(fs, dir)?;
    for name in fs.list(dir)? {
        let name = name.to_string_lossy().into_owned();
        if !name.ends_with(".tmp") || name == SPARE_NAME {
            continue;
        }
        // Its space is worth keeping: the disk may be full.
        if spare {
            fs.remove_file(&dir.join(name))?;
        } else {
            fs.rename(&dir.join(name), &dir.join(SPARE_NAME))?;
            fs.sync_dir(dir)?;
            spare = true;
        }
    }
    Ok((sequences, spare))
}

/// Prepares the spare: its space, and if `fill` is set written zeroes, so that later syncs are cheap. A spare that has its
/// space already is filled; it has another name meanwhile. Runs beside the commits.
pub(crate) fn make_spare(fs: &dyn Fs, dir: &Path, capacity: u64, fill: bool) -> io::Result<()> {
    let path = dir.join(SPARE_NAME);
    let filling = dir.join("filling.tmp");
    let mode = match fs.rename(&path, &filling) {
        Ok(()) => OpenMode::Write,
        Err(_) => OpenMode::Create,
    };
    let file = fs.open(&filling, mode)?;
    if file.length()? < capacity {
        file.allocate(capacity)?;
    }
    if fill {
        write_zeroes(&*file, 0, capacity)?;
    }
    file.sync_data()?;
    fs.rename(&filling, &path)?;
    fs.sync_dir(dir)
}

/// Makes a used file that nobody needs the spare.
pub(crate) fn recycle(fs: &dyn Fs, dir: &Path, sequence: u64) -> io::Result<()> {
    fs.rename(&dir.join(file_name(sequence)), &dir.join(SPARE_NAME))?;
    fs.sync_dir(dir)
}

/// Turns used files into the spare, or removes them if there is one. The checkpoint that frees them is durable.
/// Returns whether there is a spare now.
pub(crate) fn retire(
    fs: &dyn Fs,
    dir: &Path,
    sequences: &[u64],
    spare: bool,
    capacity: u64,
) -> io::Result<bool> {
    let mut spare = spare;
    for sequence in sequences {
        let path = dir.join(file_name(*sequence));
        let right_size =
            || -> io::Result<bool> { Ok(fs.open(&path, OpenMode::Read)?.length()? == capacity) };
        let done = if !spare && right_size().unwrap_or(false) {
            spare = true;
            fs.rename(&path, &dir.join(SPARE_NAME))
        } else {
            fs.remove_file(&path)
        };
        match done {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs.sync_dir(dir)?;
    Ok(spare)
}
