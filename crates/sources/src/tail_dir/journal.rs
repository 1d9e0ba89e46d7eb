//! The position journal as bytes: what Flume's position file cannot say. Pure, no I/O.
//!
//! It stands beside the position file (`<positionFile>.journal`) and holds for each file its
//! device, its position and two fingerprints, then every later advance, appended as it happens.
//! So a killed process repeats no more than it put since its last append, a moment ago, and a
//! file that took over another's inode is told from it.
//!
//! The journal counts only together with the position file it was written for: a checksum of
//! that file, and of the one before it, stands in the header. When a running Flume or an
//! operator has written or removed the position file since, the journal is passed over.
//!
//! ```text
//! header, 36 bytes            record
//!   0  magic "FLAFTAIL"         0  checksum u32: CRC-32C of all behind it
//!   8  version u32 = 1          4  payload length u16
//!  12  zero u32                 6  kind u8: 1 file, 2 advance
//!  16  position file u64        7  payload
//!  24  the one before u64     file: id u32, device u64, inode u64, position u64,
//!  32  checksum u32:                head mark, tail mark, path (the rest)
//!      CRC-32C of 0..32       advance: id u32, position u64, tail mark
//! ```
//!
//! Numbers are little-endian. A mark is length u16 and CRC-64/NVME u64 of that many bytes: the
//! first ones of the file, or the last ones before the position. Position files are named by
//! CRC-64/NVME, an absent one by 0. A record that is cut or damaged ends the journal.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crc_fast::CrcAlgorithm;

const MAGIC: &[u8; 8] = b"FLAFTAIL";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 36;
const RECORD_HEAD_BYTES: usize = 7;
const KIND_FILE: u8 = 1;
const KIND_ADVANCE: u8 = 2;

/// The fingerprint of some bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// How many bytes; 0 = nothing is known.
    pub length: u16,
    /// Their CRC-64/NVME.
    pub checksum: u64,
}

impl Mark {
    /// Bytes of the start of a file that are fingerprinted.
    pub const HEAD_BYTES: usize = 256;
    /// Bytes before the position that are fingerprinted.
    pub const TAIL_BYTES: usize = 64;

    /// The mark of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            length: u16::try_from(bytes.len()).unwrap_or(u16::MAX),
            checksum: checksum64(bytes),
        }
    }

    /// The mark of the last bytes of `bytes`.
    pub fn of_tail(bytes: &[u8]) -> Self {
        Self::of(&bytes[bytes.len().saturating_sub(Self::TAIL_BYTES)..])
    }
}

/// Device and inode: what a file is, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// `st_dev`.
    pub device: u64,
    /// `st_ino`.
    pub inode: u64,
}

/// What is kept of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Which file.
    pub identity: Identity,
    /// Its absolute path when it was last seen.
    pub path: PathBuf,
    /// Bytes delivered.
    pub position: u64,
    /// Fingerprint of its first bytes.
    pub head: Mark,
    /// Fingerprint of the bytes before the position.
    pub tail: Mark,
}

/// A decoded journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    /// Checksum of the position file it was written with.
    pub position_file: u64,
    /// Checksum of the position file before that one.
    pub previous_position_file: u64,
    /// The files by id, with all advances applied.
    pub entries: BTreeMap<u32, Entry>,
}

/// The checksum by which a position file and the marks are known.
pub(super) fn checksum64(bytes: &[u8]) -> u64 {
    crc_fast::checksum(CrcAlgorithm::Crc64Nvme, bytes)
}

fn checksum32(bytes: &[u8]) -> u32 {
    crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// Starts a journal.
pub(super) fn encode_header(position_file: u64, previous_position_file: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&0u32.to_le_bytes());
    out.extend_from_slice(&position_file.to_le_bytes());
    out.extend_from_slice(&previous_position_file.to_le_bytes());
    let checksum = checksum32(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

/// Appends a file with all that is known of it.
pub(super) fn encode_file(out: &mut Vec<u8>, id: u32, entry: &Entry) {
    record(out, KIND_FILE, |out| {
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&entry.identity.device.to_le_bytes());
        out.extend_from_slice(&entry.identity.inode.to_le_bytes());
        out.extend_from_slice(&entry.position.to_le_bytes());
        put_mark(out, entry.head);
        put_mark(out, entry.tail);
        let path = entry.path.as_os_str().as_bytes();
        out.extend_from_slice(&path[..path.len().min(usize::from(u16::MAX) / 2)]);
    });
}

/// Appends an advance of a known file.
pub(super) fn encode_advance(out: &mut Vec<u8>, id: u32, position: u64, tail: Mark) {
    record(out, KIND_ADVANCE, |out| {
        out.extend_from_slice(&id.to_le_bytes());
        out.extend_from_slice(&position.to_le_bytes());
        put_mark(out, tail);
    });
}

fn put_mark(out: &mut Vec<u8>, mark: Mark) {
    out.extend_from_slice(&mark.length.to_le_bytes());
    out.extend_from_slice(&mark.checksum.to_le_bytes());
}

fn record(out: &mut Vec<u8>, kind: u8, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_HEAD_BYTES]);
    payload(out);
    let length = u16::try_from(out.len() - start - RECORD_HEAD_BYTES)
        .expect("paths are cut at half of what fits");
    out[start + 4..start + 6].copy_from_slice(&length.to_le_bytes());
    out[start + 6] = kind;
    let checksum = checksum32(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
}

/// Decodes a journal up to the first record that is cut or damaged; `None` when it has no valid
/// header or is of an unknown version.
pub fn decode_journal(bytes: &[u8]) -> Option<Journal> {
    let header = bytes.get(..HEADER_BYTES)?;
    let mut fields = Fields(header);
    let magic = fields.take::<8>()?;
    let version = fields.u32()?;
    fields.u32()?;
    let mut journal = Journal {
        position_file: fields.u64()?,
        previous_position_file: fields.u64()?,
        entries: BTreeMap::new(),
    };
    if &magic != MAGIC || version != VERSION || fields.u32()? != checksum32(&header[..32]) {
        return None;
    }
    let mut rest = &bytes[HEADER_BYTES..];
    while let Some(next) = apply_record(rest, &mut journal.entries) {
        rest = next;
    }
    Some(journal)
}

fn apply_record<'a>(bytes: &'a [u8], entries: &mut BTreeMap<u32, Entry>) -> Option<&'a [u8]> {
    let mut fields = Fields(bytes);
    let checksum = fields.u32()?;
    let length = usize::from(fields.u16()?);
    let [kind] = fields.take::<1>()?;
    let end = RECORD_HEAD_BYTES + length;
    if checksum32(bytes.get(4..end)?) != checksum {
        return None;
    }
    let mut payload = Fields(&bytes[RECORD_HEAD_BYTES..end]);
    let id = payload.u32()?;
    match kind {
        KIND_FILE => {
            let entry = Entry {
                identity: Identity {
                    device: payload.u64()?,
                    inode: payload.u64()?,
                },
                position: payload.u64()?,
                head: payload.mark()?,
                tail: payload.mark()?,
                path: PathBuf::from(OsString::from_vec(payload.0.to_vec())),
            };
            entries.insert(id, entry);
        }
        KIND_ADVANCE => {
            let entry = entries.get_mut(&id)?;
            entry.position = payload.u64()?;
            entry.tail = payload.mark()?;
        }
        _ => return None,
    }
    bytes.get(end..)
}

/// Takes little-endian fields off the front.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn mark(&mut self) -> Option<Mark> {
        Some(Mark {
            length: self.u16()?,
            checksum: self.u64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, position: u64) -> Entry {
        Entry {
            identity: Identity {
                device: 3,
                inode: 9,
            },
            path: path.into(),
            position,
            head: Mark::of(b"head"),
            tail: Mark::of_tail(b"before"),
        }
    }

    fn sample() -> Vec<u8> {
        let mut bytes = encode_header(11, 7);
        encode_file(&mut bytes, 1, &entry("/a", 10));
        encode_file(&mut bytes, 2, &entry("/b", 0));
        encode_advance(&mut bytes, 1, 25, Mark::of(b"x"));
        bytes
    }

    #[test]
    fn advances_apply_to_their_file() {
        let journal = decode_journal(&sample()).expect("a journal");
        assert_eq!(
            (journal.position_file, journal.previous_position_file),
            (11, 7)
        );
        let expected = Entry {
            tail: Mark::of(b"x"),
            ..entry("/a", 25)
        };
        assert_eq!(journal.entries[&1], expected);
        assert_eq!(journal.entries[&2], entry("/b", 0));
    }

    #[test]
    fn every_cut_and_flip_keeps_the_records_before_it() {
        let bytes = sample();
        let whole = decode_journal(&bytes).expect("a journal");
        for length in 0..bytes.len() {
            match decode_journal(&bytes[..length]) {
                None => assert!(length < HEADER_BYTES),
                Some(journal) => {
                    let known = journal.entries.get(&1).map(|entry| entry.position);
                    assert!(matches!(known, None | Some(10)), "{length}: {known:?}");
                }
            }
        }
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            assert_ne!(decode_journal(&damaged).as_ref(), Some(&whole), "byte {at}");
        }
    }
}
