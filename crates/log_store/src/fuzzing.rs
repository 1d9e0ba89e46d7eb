//! Doors for the fuzz targets: the parsers of journal and checkpoint, with checksums made to fit, because random bytes
//! would never get past them. Not part of the API.

use crate::checkpoint::Snapshot;
use crate::codec::crc32c;
use crate::journal::frame::{FRAME_HEADER_BYTES, FrameHeader, Record};

/// Takes the first byte as a frame's kind and the rest as its payload, and all of it as the head of a frame.
pub fn journal_record(bytes: &[u8]) {
    if let Some((kind, payload)) = bytes.split_first() {
        Record::decode(*kind, payload).ok();
    }
    if let Some(header) = bytes.first_chunk::<FRAME_HEADER_BYTES>() {
        FrameHeader::decode(header);
    }
}

/// Reads a checkpoint as it is, and once more with the lengths and the checksum that its reader asks for.
pub fn checkpoint(bytes: &[u8]) {
    Snapshot::decode(bytes).ok();
    let mut sealed = bytes.to_vec();
    if let Some(length) = sealed.get_mut(16..24) {
        length.copy_from_slice(&(bytes.len() as u64 - 24).to_le_bytes());
    }
    let crc = crc32c(&sealed);
    sealed.extend_from_slice(&crc.to_le_bytes());
    Snapshot::decode(&sealed).ok();
}

/// Whole checkpoints and journal records for the fuzz corpus: without the checksum that [`checkpoint`] adds.
pub fn seeds() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let empty = Snapshot::default().encode();
    let mut filled = Snapshot {
        lsn: 7,
        place: (1, 64),
        next_stream_id: 3,
        ..Snapshot::default()
    };
    filled
        .tables
        .put(crate::op::Table::Topics, b"topic", b"value");
    let filled = filled.encode();
    let unsealed = |bytes: &[u8]| bytes[..bytes.len() - 4].to_vec();
    let records = (1..=9u8).map(|kind| [&[kind][..], &[1, 0, 0, 0, 3, 0, 0, 0], &[0; 40]].concat());
    (vec![unsealed(&empty), unsealed(&filled)], records.collect())
}
