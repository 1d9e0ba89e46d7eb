//! Batches that cannot be read: where they are, which offsets are lost with them, and where the next good one is.
//!
//! Nothing is repaired here. The damaged bytes stay where they are and are copied aside, readers are told where to go on,
//! and everything is counted. A good batch is known by its header, its checksum and offsets that fit in: bytes in front
//! of it are skipped one by one.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use flafka_kafka_wire::records::{self, BatchHeader, HEADER_LEN};

use crate::engine::Engine;
use crate::error::ReadError;
use crate::fs::{File, Fs, OpenMode};
use crate::op::{Offset, Position, StreamId};
use crate::read::StreamReader;
use crate::window::Window;

/// Where the magic byte of a batch is.
const MAGIC_AT: usize = 16;

/// Bytes of a log that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Which file.
    pub path: PathBuf,
    /// Where in it.
    pub position: Position,
    /// How many bytes; 0 when offsets are missing without any.
    pub bytes: u64,
    /// The first offset that is lost; of no meaning in a journal.
    pub first: Offset,
    /// The next offset that can be read; of no meaning in a journal.
    pub next: Offset,
    /// What is wrong.
    pub what: String,
    /// The copy of the bytes, if one could be made.
    pub kept: Option<PathBuf>,
}

impl fmt::Display for Damage {
    /// One sentence without its full stop.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, what) = (self.path.display(), &self.what);
        write!(f, "{path} at byte {}: {what}", self.position.0)?;
        match self.lost_offsets() {
            0 => {}
            1 => write!(f, "; offset {} is lost", self.first.0)?,
            _ => {
                let last = self.next.0 - 1;
                write!(f, "; offsets {} to {last} are lost", self.first.0)?;
            }
        }
        match (&self.kept, self.bytes) {
            (_, 0) => Ok(()),
            (Some(kept), bytes) => {
                write!(
                    f,
                    "; {bytes} bytes are skipped, copied to {}",
                    kept.display()
                )
            }
            (None, bytes) => write!(f, "; {bytes} bytes are skipped, not copied"),
        }
    }
}

/// Looks for the first good batch at or behind `from` whose offsets lie in `least..most`, in the first `end` bytes.
pub(crate) fn resync(
    file: &dyn File,
    from: u64,
    end: u64,
    least: i64,
    most: i64,
) -> io::Result<Option<(u64, BatchHeader)>> {
    const ZEROES: [u8; 4096] = [0; 4096];
    let end = end.min(file.length()?);
    let mut window = Window::new(file, end);
    let mut position = from;
    while let Some(bytes) = window.some(position, HEADER_LEN)? {
        if bytes.len() >= ZEROES.len() && bytes[..ZEROES.len()] == ZEROES {
            // The last bytes may be the start of a base offset.
            position += (ZEROES.len() - MAGIC_AT) as u64;
            continue;
        }
        let last = bytes.len() - HEADER_LEN;
        let Some(skip) = (0..=last).find(|at| plausible(&bytes[*at..], least, most)) else {
            position += last as u64 + 1;
            continue;
        };
        position += skip as u64;
        if let Some(header) = whole_batch(&mut window, position, end)? {
            return Ok(Some((position, header)));
        }
        position += 1;
    }
    Ok(None)
}

fn plausible(bytes: &[u8], least: i64, most: i64) -> bool {
    if bytes[MAGIC_AT] != 2 {
        return false;
    }
    let base = bytes
        .first_chunk()
        .map_or(-1, |base| i64::from_be_bytes(*base));
    (least..most).contains(&base)
}

/// The header of the batch at `position` if all of it is there and good.
pub(crate) fn whole_batch(
    window: &mut Window<'_>,
    position: u64,
    end: u64,
) -> io::Result<Option<BatchHeader>> {
    let Some(bytes) = window.exact(position, HEADER_LEN)? else {
        return Ok(None);
    };
    let Ok(header) = BatchHeader::parse(bytes) else {
        return Ok(None);
    };
    if header.total_len() as u64 > end.saturating_sub(position) {
        return Ok(None);
    }
    let batch = window.exact(position, header.total_len())?;
    let good = batch.is_some_and(|batch| records::verify(batch).is_ok());
    Ok(good.then_some(header))
}

/// Most batches behind a jump that are asked about it.
const WITNESSES: usize = 8;

/// The base offset lies outside a batch's checksum. Where it is not `least`, the one that comes next (compaction leaves
/// holes, so does damage), the batch behind it must agree. One behind it that lies below `least` has no say: it is wrong
/// itself, or what a recycled file held before.
pub(crate) fn jump_is_sound(
    window: &mut Window<'_>,
    position: u64,
    header: &BatchHeader,
    end: u64,
    (least, most): (i64, i64),
) -> io::Result<bool> {
    if !(header.base_offset..most).contains(&header.last_offset()) {
        return Ok(false);
    }
    let mut at = position + header.total_len() as u64;
    for _ in 0..WITNESSES {
        match whole_batch(window, at, end)? {
            Some(behind) if behind.base_offset >= least => {
                return Ok(behind.base_offset > header.last_offset());
            }
            Some(behind) => at += behind.total_len() as u64,
            None => break,
        }
    }
    Ok(true)
}

/// Name of the copy of damaged bytes.
fn copy_path(path: &Path, position: u64) -> PathBuf {
    path.with_extension(format!("damaged-{position}"))
}

/// The file that a copy of damaged bytes is from, by the names of both.
pub(crate) fn copied_from(name: &str) -> Option<String> {
    let (stem, _) = name.rsplit_once(".damaged-")?;
    Some(format!("{stem}.log"))
}

/// Whether these bytes were kept before.
pub(crate) fn is_kept(fs: &dyn Fs, path: &Path, position: u64) -> bool {
    fs.open(&copy_path(path, position), OpenMode::Read).is_ok()
}

/// Copies `bytes` from `position` on into a file beside it, unless all of them are zeroes: those stand in for bytes that
/// were never there.
///
/// # Errors
/// What the file system says; whoever called goes on without the copy.
pub(crate) fn keep(
    fs: &dyn Fs,
    path: &Path,
    position: u64,
    bytes: u64,
) -> io::Result<Option<PathBuf>> {
    let source = fs.open(path, OpenMode::Read)?;
    let end = source.length()?.min(position.saturating_add(bytes));
    if end <= position || Window::new(&*source, end).only_zeroes(position, end)? {
        return Ok(None);
    }
    let target_path = copy_path(path, position);
    let target = fs.open(&target_path, OpenMode::Create)?;
    let mut buffer = vec![0; (end - position).min(1 << 20) as usize];
    let mut at = position;
    while at < end {
        let count = buffer.len().min((end - at) as usize);
        source.read_exact_at(&mut buffer[..count], at)?;
        target.write_all_at(&buffer[..count], at - position)?;
        at += count as u64;
    }
    target.sync_data()?;
    if let Some(dir) = path.parent() {
        fs.sync_dir(dir)?;
    }
    Ok(Some(target_path))
}

impl Engine {
    /// See [`crate::Log::set_aside`]. On the commit thread, so that nothing is judged while it is being mended.
    pub(crate) fn set_aside(
        &self,
        stream: StreamId,
        offset: Offset,
    ) -> Result<Option<Damage>, ReadError> {
        let state = self.shared.stream(stream);
        let state = state.ok_or(ReadError::UnknownStream(stream))?;
        let reader = StreamReader {
            stream: &state,
            fs: &*self.fs,
            open: &self.shared.open_segments,
        };
        let Some(mut damage) = reader.damage_at(offset)? else {
            return Ok(None);
        };
        if let Some(known) = self.shared.counts.known(&damage) {
            damage.kept = known.kept;
        } else if damage.bytes > 0 && is_kept(&*self.fs, &damage.path, damage.position.0) {
            damage.kept = Some(copy_path(&damage.path, damage.position.0));
        } else {
            damage.keep_and_tell(&*self.fs);
        }
        self.shared.counts.add_damage(&damage);
        Ok(Some(damage))
    }
}

impl Damage {
    /// How many offsets are lost; none in a journal.
    pub fn lost_offsets(&self) -> u64 {
        u64::try_from(self.next.0.saturating_sub(self.first.0)).unwrap_or(0)
    }

    /// Copies the bytes aside and says so in the log.
    pub(crate) fn keep_and_tell(&mut self, fs: &dyn Fs) {
        match keep(fs, &self.path, self.position.0, self.bytes) {
            Ok(kept) => self.kept = kept,
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "cannot keep a copy of damaged bytes");
            }
        }
        self.tell();
    }

    /// Says so in the log.
    pub(crate) fn tell(&self) {
        tracing::error!(
            path = %self.path.display(), position = self.position.0, bytes = self.bytes,
            first = self.first.0, next = self.next.0, what = self.what,
            kept = self.kept.as_deref().map(|kept| tracing::field::display(kept.display())),
            "damaged data is skipped"
        );
    }
}
