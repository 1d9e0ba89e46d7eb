//! The derived indexes of a segment: sparse entries (one for each 4 KiB of batches) that find an offset or a time
//! without reading the segment from its start. They hold nothing that the segment does not say, so no index is ever
//! trusted against it: a bad or missing one is rebuilt.
//!
//! In memory one entry serves both lookups. On disk there are two files, as in Kafka, little-endian:
//! ```text
//! <base offset>.oix                              <base offset>.tix
//! byte 0  magic "FLOX"                           byte 0  magic "FLTX"
//!      4  format version  u32 = 1                     4  format version  u32 = 1
//!      8  base offset     i64                         8  base offset     i64
//!     16  blocks                                     16  blocks
//! block: count u32, CRC-32C of the entries u32, then count entries
//! entry: relative offset u32, position u32       entry: time before it i64, relative offset u32
//! ```
//! An entry's *time before* is the highest timestamp of all batches in front of its position (i64::MIN at the start),
//! so the first batch at or after time t lies behind the last entry whose time before is below t.
//! A checkpoint appends a block to the files of the active segment, so a start need not read all of it.

use std::io;
use std::path::Path;

use flafka_kafka_wire::records::BatchHeader;

use crate::codec::{Reader, Writer, crc32c};
use crate::fs::{Fs, OpenMode, read_whole};

/// An entry is made when at least so many bytes lie behind the last one.
pub(crate) const INDEX_STEP_BYTES: u64 = 4096;
/// Extensions of the index files of a segment.
pub(crate) const EXTENSIONS: [&str; 2] = ["oix", "tix"];
const HEADER_BYTES: usize = 16;
const VERSION: u32 = 1;
const OFFSET_MAGIC: &[u8; 4] = b"FLOX";
const TIME_MAGIC: &[u8; 4] = b"FLTX";
/// 4 GiB of segment at an entry for each 4 KiB, 12 bytes an entry, and block headers.
const MAX_FILE_BYTES: u64 = 32 << 20;

/// Where a batch starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    /// Its base offset minus the segment's.
    pub(crate) relative_offset: u32,
    /// Its byte in the segment.
    pub(crate) position: u32,
    /// Highest timestamp of all batches before it.
    pub(crate) time_before: i64,
}

/// The entries of one segment and how many of them are in the files.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    entries: Vec<IndexEntry>,
    saved: usize,
}

impl Index {
    /// Whether a batch at `position` gets an entry.
    pub(crate) fn wants(&self, position: u64) -> bool {
        self.entries.last().is_none_or(|last| {
            position.saturating_sub(u64::from(last.position)) >= INDEX_STEP_BYTES
        })
    }

    /// Whether an entry for a batch of a segment that starts at `base_offset` would lie behind the last one.
    pub(crate) fn would_ascend(&self, base_offset: i64, header: &BatchHeader) -> bool {
        let relative = header.base_offset.checked_sub(base_offset);
        let relative = relative.and_then(|relative| u32::try_from(relative).ok());
        let least = self.last().map(|last| last.relative_offset);
        relative.is_some_and(|relative| least.is_none_or(|least| relative > least))
    }

    pub(crate) fn push(&mut self, entry: IndexEntry) {
        self.entries.push(entry);
    }

    /// The last entry.
    pub(crate) fn last(&self) -> Option<IndexEntry> {
        self.entries.last().copied()
    }

    /// A batch start at or before the batch that holds `relative_offset`.
    pub(crate) fn place_of(&self, relative_offset: u64) -> Option<IndexEntry> {
        let after = self
            .entries
            .partition_point(|entry| u64::from(entry.relative_offset) <= relative_offset);
        self.entry_before(after)
    }

    /// A batch start at or before the first batch with a timestamp of at least `timestamp`.
    pub(crate) fn place_at_time(&self, timestamp: i64) -> Option<IndexEntry> {
        let after = self
            .entries
            .partition_point(|entry| entry.time_before < timestamp);
        self.entry_before(after)
    }

    /// The last known batch start that is at most `limit`.
    pub(crate) fn boundary_below(&self, limit: u64) -> Option<IndexEntry> {
        let after = self
            .entries
            .partition_point(|entry| u64::from(entry.position) <= limit);
        self.entry_before(after)
    }

    fn entry_before(&self, after: usize) -> Option<IndexEntry> {
        let at = after.checked_sub(1)?;
        self.entries.get(at).copied()
    }

    /// The entries that the files do not hold yet, and whether the files must be written from the start.
    pub(crate) fn unsaved(&self) -> (Vec<IndexEntry>, bool) {
        (self.entries[self.saved..].to_vec(), self.saved == 0)
    }

    /// Notes that the first `count` entries are in the files.
    pub(crate) fn mark_saved(&mut self, count: usize) {
        self.saved = count.min(self.entries.len());
    }

    /// Forgets the entries from `position` on.
    pub(crate) fn truncate(&mut self, position: u64) {
        let kept = |entry: &IndexEntry| u64::from(entry.position) < position;
        let kept = self.entries.partition_point(kept);
        if kept < self.entries.len() {
            self.entries.truncate(kept);
            // The files hold more: they are written anew.
            self.saved = 0;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// All entries, ascending.
    pub(crate) fn into_entries(self) -> Vec<IndexEntry> {
        self.entries
    }
}

/// Appends entries to both files of the segment `segment_path`, or writes them anew. Not synced: the CRC of each block
/// tells after a crash what is good.
pub(crate) fn save(
    fs: &dyn Fs,
    segment_path: &Path,
    base_offset: i64,
    entries: &[IndexEntry],
    anew: bool,
) -> io::Result<()> {
    if entries.is_empty() && !anew {
        return Ok(());
    }
    let (mut offsets, mut times) = (Writer::default(), Writer::default());
    for entry in entries {
        offsets.u32(entry.relative_offset);
        offsets.u32(entry.position);
        times.i64(entry.time_before);
        times.u32(entry.relative_offset);
    }
    let count = u32::try_from(entries.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    for (extension, magic, block) in [
        ("oix", OFFSET_MAGIC, offsets.into_vec()),
        ("tix", TIME_MAGIC, times.into_vec()),
    ] {
        let path = segment_path.with_extension(extension);
        let mut out = Writer::default();
        let mode = if anew {
            out.raw(magic);
            out.u32(VERSION);
            out.i64(base_offset);
            OpenMode::Create
        } else {
            OpenMode::Write
        };
        out.u32(count);
        out.u32(crc32c(&block));
        out.raw(&block);
        let file = fs.open(&path, mode)?;
        let at = file.length()?;
        file.write_all_at(&out.into_vec(), at)?;
    }
    Ok(())
}

/// Reads both files as far as they are good and agree, up to the batch at `end`. `None` if there is nothing usable.
pub(crate) fn load(fs: &dyn Fs, segment_path: &Path, base_offset: i64, end: u64) -> Option<Index> {
    let offsets = read_blocks(fs, segment_path, "oix", OFFSET_MAGIC, base_offset, 8)?;
    let times = read_blocks(fs, segment_path, "tix", TIME_MAGIC, base_offset, 12)?;
    let mut entries: Vec<IndexEntry> = Vec::with_capacity(offsets.len() / 8);
    for (offset, time) in offsets.chunks_exact(8).zip(times.chunks_exact(12)) {
        let (mut offset, mut time) = (Reader::new(offset), Reader::new(time));
        let entry = IndexEntry {
            relative_offset: offset.u32().ok()?,
            position: offset.u32().ok()?,
            time_before: time.i64().ok()?,
        };
        let in_order = entries.last().is_none_or(|last| {
            last.relative_offset < entry.relative_offset
                && last.position < entry.position
                && last.time_before <= entry.time_before
        });
        if !in_order
            || time.u32().ok()? != entry.relative_offset
            || u64::from(entry.position) >= end
        {
            break;
        }
        entries.push(entry);
    }
    if entries.first()?.position != 0 {
        return None;
    }
    // Whatever the files hold beyond these entries must not stay in front of later blocks.
    let all = entries.len() * 8 == offsets.len() && entries.len() * 12 == times.len();
    let saved = if all { entries.len() } else { 0 };
    Some(Index { entries, saved })
}

/// The entries of all good blocks; `None` if the header is not right. A bad block ends it.
fn read_blocks(
    fs: &dyn Fs,
    segment_path: &Path,
    extension: &str,
    magic: &[u8; 4],
    base_offset: i64,
    entry_bytes: usize,
) -> Option<Vec<u8>> {
    let bytes = read_whole(fs, &segment_path.with_extension(extension), MAX_FILE_BYTES).ok()?;
    let mut reader = Reader::new(&bytes);
    if reader.raw(4).ok()? != magic
        || reader.u32().ok()? != VERSION
        || reader.i64().ok()? != base_offset
    {
        return None;
    }
    let mut entries = Vec::with_capacity(bytes.len() - HEADER_BYTES);
    while let (Ok(count), Ok(crc)) = (reader.u32(), reader.u32()) {
        let length = (count as usize).checked_mul(entry_bytes);
        match length.and_then(|length| reader.raw(length).ok()) {
            Some(block) if crc32c(block) == crc => entries.extend_from_slice(block),
            // One byte too many makes the caller see that the files are not fully good.
            _ => {
                entries.push(0);
                break;
            }
        }
    }
    Some(entries)
}
