//! Checkpoints: the whole small state of the log at one LSN, so that a start reads only the journal behind it.
//!
//! `checkpoint/<lsn, 20 digits>.ckp`, written as a whole (temporary file, sync, rename, sync of the directory); the two
//! newest are kept. Little-endian:
//! ```text
//! byte 0  magic "FLAFKCKP"
//!      8  format version  u32 = 2 (1: segments without generation and clean offset)
//!     12  flags           u32       1 = written by a clean stop
//!     16  body length     u64
//!     24  body
//!         CRC-32C of everything before  u32
//! body: lsn u64, journal sequence u64, journal position u64, next stream id u32,
//!       table entries: count u32, each: table u8, key (length u32, bytes), value (length u32, bytes)
//!       streams: count u32, each:
//!         id u32, name (length u32, bytes), settings (see journal::frame), log start i64, end offset i64,
//!         ack low i64, ack ranges: count u32, each first i64, last i64,
//!         epochs: count u32, each epoch i32, first offset i64,
//!         segments: count u32, each base offset i64, end offset i64, length u64, max timestamp i64,
//!                   generation u32, clean offset i64,
//!         producers: count u32, each id i64, epoch i16, last ms i64, batches: count u8,
//!                    each first sequence i32, last sequence i32, base offset i64, last offset i64
//! ```
//! What lies behind the checksum is room for a larger checkpoint and is never read. A checkpoint is written into the room
//! of one that is no longer needed (`reserve.tmp`), so that a full disk cannot keep acks from freeing space.
//!
//! Invariant: all segment bytes that a checkpoint names were synced before it was written.

use std::io;
use std::path::{Path, PathBuf};

use crate::acks::AckState;
use crate::codec::{Malformed, Reader, Writer, crc32c};
use crate::error::{IoFault, OpenError};
use crate::fs::{Fs, OpenMode, read_whole, remove_durably};
use crate::journal::frame::{decode_settings, encode_settings};
use crate::op::{Offset, StreamId, Table};
use crate::producers::Producers;
use crate::settings::StreamSettings;
use crate::tables::Tables;

const MAGIC: &[u8; 8] = b"FLAFKCKP";
const VERSION: u32 = 2;
/// The oldest version that is read.
const OLDEST_VERSION: u32 = 1;
const CLEAN: u32 = 1;
const HEADER_BYTES: usize = 24;
/// The room for the next checkpoint.
const RESERVE_NAME: &str = "reserve.tmp";
/// Room is taken in pieces of this.
const ROOM_BYTES: u64 = 64 << 10;
/// Checkpoints kept, the newest included.
const KEPT: usize = 2;
/// Largest checkpoint that is read.
const MAX_BYTES: u64 = 2 << 30;

/// The state at one LSN.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Includes all frames up to this one.
    pub(crate) lsn: u64,
    /// Journal sequence and position of the next frame.
    pub(crate) place: (u64, u64),
    pub(crate) next_stream_id: u32,
    pub(crate) clean: bool,
    pub(crate) tables: Tables,
    pub(crate) streams: Vec<StreamSnapshot>,
}

/// One stream in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamSnapshot {
    pub(crate) id: StreamId,
    pub(crate) name: String,
    pub(crate) settings: StreamSettings,
    pub(crate) log_start: Offset,
    pub(crate) end: i64,
    pub(crate) acks: AckState,
    pub(crate) epochs: Vec<(i32, Offset)>,
    pub(crate) segments: Vec<SegmentSnapshot>,
    pub(crate) producers: Producers,
}

/// One segment of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentSnapshot {
    pub(crate) base: i64,
    pub(crate) generation: u32,
    pub(crate) clean_to: i64,
    pub(crate) end: i64,
    pub(crate) length: u64,
    pub(crate) max_timestamp: i64,
}

/// Name of a checkpoint file.
pub(crate) fn file_name(lsn: u64) -> String {
    format!("{lsn:020}.ckp")
}

fn parse_file_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".ckp")?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

impl Snapshot {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut body = Writer::default();
        body.u64(self.lsn);
        body.u64(self.place.0);
        body.u64(self.place.1);
        body.u32(self.next_stream_id);
        body.u32(self.tables.len() as u32);
        for (table, key, value) in self.tables.entries() {
            body.u8(table.code());
            body.bytes(key);
            body.bytes(value);
        }
        body.u32(self.streams.len() as u32);
        for stream in &self.streams {
            stream.encode(&mut body);
        }
        let body = body.into_vec();
        let mut out = Writer::default();
        out.raw(MAGIC);
        out.u32(VERSION);
        out.u32(if self.clean { CLEAN } else { 0 });
        out.u64(body.len() as u64);
        out.raw(&body);
        let mut bytes = out.into_vec();
        let crc = crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Snapshot, Malformed> {
        let content = content(bytes).ok_or(Malformed)?;
        let mut reader = Reader::new(content);
        if reader.raw(8)? != MAGIC {
            return Err(Malformed);
        }
        let version = reader.u32()?;
        if !(OLDEST_VERSION..=VERSION).contains(&version) {
            return Err(Malformed);
        }
        let clean = reader.u32()? & CLEAN != 0;
        if reader.u64()? != reader.rest().len() as u64 {
            return Err(Malformed);
        }
        let mut snapshot = Snapshot {
            lsn: reader.u64()?,
            place: (reader.u64()?, reader.u64()?),
            next_stream_id: reader.u32()?,
            clean,
            ..Snapshot::default()
        };
        for _ in 0..reader.count(9)? {
            let table = Table::from_code(reader.u8()?).ok_or(Malformed)?;
            let (key, value) = (reader.bytes()?, reader.bytes()?);
            snapshot.tables.put(table, key, value);
        }
        for _ in 0..reader.count(40)? {
            snapshot
                .streams
                .push(StreamSnapshot::decode(&mut reader, version)?);
        }
        if !reader.is_empty() {
            return Err(Malformed);
        }
        Ok(snapshot)
    }

    /// Writes the file durably, then keeps the newest two, and one for its room.
    pub(crate) fn store(&self, fs: &dyn Fs, dir: &Path) -> Result<(), IoFault> {
        let name = file_name(self.lsn);
        let bytes = self.encode();
        write_into_reserve(fs, dir, &name, &bytes)
            .map_err(IoFault::of("write checkpoint", &dir.join(&name)))?;
        let mut lsns = list(fs, dir)?;
        lsns.truncate(lsns.len().saturating_sub(KEPT));
        let mut old: Vec<String> = lsns.into_iter().map(file_name).collect();
        let recycled = old
            .pop()
            .is_some_and(|old| fs.rename(&dir.join(old), &dir.join(RESERVE_NAME)).is_ok());
        if recycled {
            fs.sync_dir(dir)
                .map_err(IoFault::of("remove old checkpoints", dir))?;
        }
        remove_durably(fs, dir, &old).map_err(IoFault::of("remove old checkpoints", dir))?;
        if let Err(error) = make_room(fs, dir, recycled, bytes.len() as u64) {
            // It is there to be had as long as the disk is not full.
            tracing::debug!(dir = %dir.display(), %error, "no room reserved for the next checkpoint");
        }
        Ok(())
    }
}

/// What the checksum covers, if it is right.
fn content(bytes: &[u8]) -> Option<&[u8]> {
    let length = bytes.get(HEADER_BYTES - 8..HEADER_BYTES)?.first_chunk()?;
    let end = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    let end = end.checked_add(HEADER_BYTES)?;
    let content = bytes.get(..end)?;
    let crc = bytes.get(end..end.checked_add(4)?)?;
    (crc32c(content).to_le_bytes() == *crc).then_some(content)
}

/// As [`crate::fs::write_durably`], in the room of the reserve if there is one.
fn write_into_reserve(fs: &dyn Fs, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    // Under its own name until it is whole: of two renames that hang together a power cut may undo the first.
    let temporary = dir.join(RESERVE_NAME);
    let written = || -> io::Result<()> {
        let file = match fs.open(&temporary, OpenMode::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs.open(&temporary, OpenMode::Create)?
            }
            opened => opened?,
        };
        file.write_all_at(bytes, 0)?;
        file.sync_data()
    };
    if let Err(error) = written() {
        // Room or garbage: either way it must not lie about under this name. A file whose sync failed is not used again.
        drop(fs.remove_file(&temporary));
        return Err(error);
    }
    fs.rename(&temporary, &dir.join(name))?;
    fs.sync_dir(dir)
}

/// Sees to it that the next checkpoint has room, twice what this one needed.
fn make_room(fs: &dyn Fs, dir: &Path, exists: bool, bytes: u64) -> io::Result<()> {
    let wanted = (bytes * 2).next_multiple_of(ROOM_BYTES);
    let mode = if exists {
        OpenMode::Write
    } else {
        OpenMode::Create
    };
    let file = fs.open(&dir.join(RESERVE_NAME), mode)?;
    if file.length()? < wanted {
        file.allocate(wanted)?;
    }
    Ok(())
}

/// Gives the space of all checkpoints but the newest back. Says whether there was any.
pub(crate) fn drop_older(fs: &dyn Fs, dir: &Path) -> Result<bool, IoFault> {
    let mut lsns = list(fs, dir)?;
    lsns.pop();
    let old: Vec<String> = lsns.into_iter().map(file_name).collect();
    remove_durably(fs, dir, &old).map_err(IoFault::of("remove old checkpoints", dir))?;
    Ok(!old.is_empty())
}

impl StreamSnapshot {
    fn encode(&self, out: &mut Writer) {
        out.u32(self.id.0);
        out.bytes(self.name.as_bytes());
        encode_settings(&self.settings, out);
        out.i64(self.log_start.0);
        out.i64(self.end);
        out.i64(self.acks.low.0);
        out.u32(self.acks.acked_ranges.len() as u32);
        for (first, last) in &self.acks.acked_ranges {
            out.i64(first.0);
            out.i64(last.0);
        }
        out.u32(self.epochs.len() as u32);
        for (epoch, first) in &self.epochs {
            out.i32(*epoch);
            out.i64(first.0);
        }
        out.u32(self.segments.len() as u32);
        for segment in &self.segments {
            out.i64(segment.base);
            out.i64(segment.end);
            out.u64(segment.length);
            out.i64(segment.max_timestamp);
            out.u32(segment.generation);
            out.i64(segment.clean_to);
        }
        self.producers.encode(out);
    }

    fn decode(reader: &mut Reader<'_>, version: u32) -> Result<StreamSnapshot, Malformed> {
        let id = StreamId(reader.u32()?);
        let name = std::str::from_utf8(reader.bytes()?)
            .map_err(|_| Malformed)?
            .to_string();
        let settings = decode_settings(reader)?;
        let (log_start, end) = (Offset(reader.i64()?), reader.i64()?);
        let low = Offset(reader.i64()?);
        let acked_ranges = (0..reader.count(16)?)
            .map(|_| Ok((Offset(reader.i64()?), Offset(reader.i64()?))))
            .collect::<Result<_, Malformed>>()?;
        let epochs = (0..reader.count(12)?)
            .map(|_| Ok((reader.i32()?, Offset(reader.i64()?))))
            .collect::<Result<_, Malformed>>()?;
        let segments = (0..reader.count(32)?)
            .map(|_| {
                let base = reader.i64()?;
                Ok(SegmentSnapshot {
                    base,
                    end: reader.i64()?,
                    length: reader.u64()?,
                    max_timestamp: reader.i64()?,
                    generation: if version > 1 { reader.u32()? } else { 0 },
                    clean_to: if version > 1 { reader.i64()? } else { base },
                })
            })
            .collect::<Result<_, Malformed>>()?;
        Ok(StreamSnapshot {
            id,
            name,
            settings,
            log_start,
            end,
            acks: AckState { low, acked_ranges },
            epochs,
            segments,
            producers: Producers::decode(reader)?,
        })
    }
}

/// The LSNs of all checkpoint files, ascending. Temporary files are not counted.
pub(crate) fn list(fs: &dyn Fs, dir: &Path) -> Result<Vec<u64>, IoFault> {
    let names = fs.list(dir).map_err(IoFault::of("list checkpoints", dir))?;
    let mut lsns: Vec<u64> = names
        .iter()
        .filter_map(|name| parse_file_name(&name.to_string_lossy()))
        .collect();
    lsns.sort_unstable();
    Ok(lsns)
}

/// One checkpoint.
///
/// # Errors
/// [`OpenError::Corrupt`] when it is damaged.
pub(crate) fn load(fs: &dyn Fs, path: &Path) -> Result<Snapshot, OpenError> {
    let bytes = read_whole(fs, path, MAX_BYTES).map_err(IoFault::of("read checkpoint", path))?;
    if bytes.get(..8) == Some(MAGIC)
        && let Some(version) = bytes.get(8..12)
    {
        let found = u32::from_le_bytes([version[0], version[1], version[2], version[3]]);
        if found > VERSION && content(&bytes).is_some() {
            return Err(OpenError::UnknownVersion {
                path: path.to_path_buf(),
                found,
                supported: VERSION,
            });
        }
    }
    Snapshot::decode(&bytes).map_err(|_| OpenError::Corrupt {
        path: path.to_path_buf(),
        position: 0,
        what: "the checkpoint's checksum or form is wrong".to_string(),
    })
}

/// The newest good checkpoint. An older one counts only while the journal still reaches back to it.
pub(crate) fn load_newest(
    fs: &dyn Fs,
    dir: &Path,
    journal_sequences: &[u64],
) -> Result<Snapshot, OpenError> {
    let mut bad: Option<PathBuf> = None;
    for lsn in list(fs, dir)?.into_iter().rev() {
        let path = dir.join(file_name(lsn));
        match load(fs, &path) {
            Ok(snapshot) if snapshot.lsn == lsn => {
                if bad.is_none() || journal_sequences.contains(&snapshot.place.0) {
                    return Ok(snapshot);
                }
            }
            Err(error @ (OpenError::Io(_) | OpenError::UnknownVersion { .. })) => {
                return Err(error);
            }
            _ => {
                tracing::warn!(path = %path.display(), "checkpoint is damaged, trying the one before");
                bad.get_or_insert(path);
            }
        }
    }
    Err(OpenError::Corrupt {
        path: bad.unwrap_or_else(|| dir.to_path_buf()),
        position: 0,
        what: "there is no good checkpoint that the journal reaches back to".to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_survives_and_any_damage_is_seen() {
        let mut snapshot = Snapshot {
            lsn: 42,
            place: (3, 4096),
            next_stream_id: 9,
            clean: true,
            ..Snapshot::default()
        };
        snapshot.tables.put(Table::Topics, b"t", b"v");
        snapshot.streams.push(StreamSnapshot {
            id: StreamId(8),
            name: "topic/t/0".to_string(),
            settings: StreamSettings::default(),
            log_start: Offset(5),
            end: 20,
            acks: AckState {
                low: Offset(6),
                acked_ranges: vec![(Offset(8), Offset(9))],
            },
            epochs: vec![(1, Offset(0))],
            segments: vec![SegmentSnapshot {
                base: 0,
                generation: 3,
                clean_to: 11,
                end: 20,
                length: 700,
                max_timestamp: 77,
            }],
            producers: Producers::default(),
        });
        let bytes = snapshot.encode();
        assert_eq!(Snapshot::decode(&bytes), Ok(snapshot));
        for at in 0..bytes.len() {
            assert_eq!(Snapshot::decode(&bytes[..at]), Err(Malformed));
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            assert_eq!(Snapshot::decode(&flipped), Err(Malformed), "byte {at}");
        }
    }
}
