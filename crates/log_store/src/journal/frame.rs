//! One journal frame, little-endian, padded with zeroes to 8 bytes:
//! ```text
//! byte 0  magic        u16  0xF1AF
//!      2  type         u8   see below
//!      3  flags        u8   1 = last frame of its group, 2 = weak (its data was not synced; it promises nothing)
//!      4  length       u32  of the payload, without padding
//!      8  lsn          u64  one more than the frame before
//!     16  durable lsn  u64  all frames up to this one were synced when this frame was written
//!     24  stream       u32  0 where there is none
//!     28  CRC-32C      u32  of the file's salt (u32), bytes 0..28 and the payload
//!     32  payload
//! ```
//! The salt makes frames of a recycled file's former life fail. The durable LSN lets a start tell a torn tail (nobody
//! claims the bad frame was durable) from corruption (a later frame does).
//!
//! ```text
//! type                payload
//!  1 Append           segment i64, position u64, next offset i64, batches     redo: write them there
//!  2 AppendRef        segment i64, position u64, next offset i64, length u64, CRC-32C of the batches' CRC fields u32
//!  3 Put              table u8, key length u32, key, value
//!  4 Delete           table u8, key
//!  5 Ack              first offset i64, last offset i64
//!  6 Trim             log start i64, whole u8: 1 = the last segment may go too (missing = 0)
//!  7 CreateStream     name length u32, name, settings
//!  8 DeleteStream
//!  9 UpdateStream     settings
//! 10 Switch           first i64, end i64, generation u32, length u64, max timestamp i64, clean offset i64:
//!                     the segments from first to end are one compacted segment now, or nothing if length is 0
//! settings: segment bytes u32, max batch bytes u32, durability u8 (0 fsync, 1 os, 2 interval), interval ms u64,
//!           retention bytes u64 (max = none), retention ms u64 (max = none), flags u8 (1 log append time, 2 acked,
//!           4 what follows is there),
//!           segment age ms u64 (max = none), segment jitter ms u64, delete delay ms u64, compacted u8 (0, 1), and then
//!           least dirty part u32, least lag ms u64, most lag ms u64 (max = none), tombstones kept ms u64
//! ```

use std::time::Duration;

use crate::codec::{Crc, Malformed, Reader, Writer};
use crate::op::Table;
use crate::settings::{Compaction, Durability, StreamSettings, TimestampType};

/// Bytes before the payload.
pub(crate) const FRAME_HEADER_BYTES: usize = 32;
/// First two bytes.
pub(crate) const FRAME_MAGIC: u16 = 0xF1AF;
/// Frames start at multiples of this.
pub(crate) const FRAME_ALIGN: u64 = 8;
/// Payload bytes of Append before the batches.
pub(crate) const APPEND_PREFIX_BYTES: usize = 24;

const LAST_IN_GROUP: u8 = 1;
const WEAK: u8 = 2;

const LOG_APPEND_TIME: u8 = 1;
const ACKED: u8 = 2;
const EXTENDED: u8 = 4;

/// The frame types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum FrameKind {
    Append = 1,
    AppendRef = 2,
    Put = 3,
    Delete = 4,
    Ack = 5,
    Trim = 6,
    CreateStream = 7,
    DeleteStream = 8,
    UpdateStream = 9,
    Switch = 10,
}

/// The decoded fixed part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) kind: u8,
    pub(crate) last_in_group: bool,
    pub(crate) weak: bool,
    pub(crate) length: u32,
    pub(crate) lsn: u64,
    pub(crate) durable_lsn: u64,
    pub(crate) stream: u32,
}

/// Bytes that a frame takes in the file.
pub(crate) fn frame_bytes(payload: u64) -> u64 {
    (FRAME_HEADER_BYTES as u64 + payload).next_multiple_of(FRAME_ALIGN)
}

impl FrameHeader {
    /// The bytes in the file, checksum included.
    pub(crate) fn encode<'a>(
        &self,
        salt: u32,
        payload: impl IntoIterator<Item = &'a [u8]>,
    ) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[0..2].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
        bytes[2] = self.kind;
        bytes[3] =
            if self.last_in_group { LAST_IN_GROUP } else { 0 } | if self.weak { WEAK } else { 0 };
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.lsn.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.durable_lsn.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.stream.to_le_bytes());
        let crc = checksum(salt, &bytes, payload);
        bytes[28..32].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Decodes the fixed part if it looks like a frame; the checksum is [`verify`]'s.
    pub(crate) fn decode(bytes: &[u8; FRAME_HEADER_BYTES]) -> Option<FrameHeader> {
        let mut reader = Reader::new(bytes);
        let magic = reader.raw(2).ok()?;
        if magic != FRAME_MAGIC.to_le_bytes() {
            return None;
        }
        let (kind, flags) = (reader.u8().ok()?, reader.u8().ok()?);
        Some(FrameHeader {
            kind,
            last_in_group: flags & LAST_IN_GROUP != 0,
            weak: flags & WEAK != 0,
            length: reader.u32().ok()?,
            lsn: reader.u64().ok()?,
            durable_lsn: reader.u64().ok()?,
            stream: reader.u32().ok()?,
        })
    }
}

/// Whether header and payload belong together under this salt.
pub(crate) fn verify(salt: u32, header: &[u8; FRAME_HEADER_BYTES], payload: &[u8]) -> bool {
    header[28..32] == checksum(salt, header, [payload]).to_le_bytes()
}

fn checksum<'a>(
    salt: u32,
    header: &[u8; FRAME_HEADER_BYTES],
    payload: impl IntoIterator<Item = &'a [u8]>,
) -> u32 {
    let mut crc = Crc::new();
    crc.add(&salt.to_le_bytes());
    crc.add(&header[..28]);
    for part in payload {
        crc.add(part);
    }
    crc.value()
}

/// A decoded payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    Append {
        segment: i64,
        position: u64,
        next_offset: i64,
        bytes: &'a [u8],
    },
    AppendRef {
        segment: i64,
        position: u64,
        next_offset: i64,
        length: u64,
        batches_crc: u32,
    },
    Put {
        table: Table,
        key: &'a [u8],
        value: &'a [u8],
    },
    Delete {
        table: Table,
        key: &'a [u8],
    },
    Ack {
        first: i64,
        last: i64,
    },
    Trim {
        log_start: i64,
        whole: bool,
    },
    CreateStream {
        name: &'a str,
        settings: StreamSettings,
    },
    DeleteStream,
    UpdateStream {
        settings: StreamSettings,
    },
    Switch {
        first: i64,
        end: i64,
        generation: u32,
        length: u64,
        max_timestamp: i64,
        clean_to: i64,
    },
}

impl<'a> Record<'a> {
    /// Takes a payload apart. A frame that passed its checksum and fails here was written by another release.
    pub(crate) fn decode(kind: u8, payload: &'a [u8]) -> Result<Record<'a>, Malformed> {
        let mut reader = Reader::new(payload);
        let known = |kind: FrameKind| kind as u8;
        let record = match kind {
            k if k == known(FrameKind::Append) => Record::Append {
                segment: reader.i64()?,
                position: reader.u64()?,
                next_offset: reader.i64()?,
                bytes: reader.rest(),
            },
            k if k == known(FrameKind::AppendRef) => Record::AppendRef {
                segment: reader.i64()?,
                position: reader.u64()?,
                next_offset: reader.i64()?,
                length: reader.u64()?,
                batches_crc: reader.u32()?,
            },
            k if k == known(FrameKind::Put) => Record::Put {
                table: Table::from_code(reader.u8()?).ok_or(Malformed)?,
                key: reader.bytes()?,
                value: reader.rest(),
            },
            k if k == known(FrameKind::Delete) => Record::Delete {
                table: Table::from_code(reader.u8()?).ok_or(Malformed)?,
                key: reader.rest(),
            },
            k if k == known(FrameKind::Ack) => Record::Ack {
                first: reader.i64()?,
                last: reader.i64()?,
            },
            k if k == known(FrameKind::Trim) => Record::Trim {
                log_start: reader.i64()?,
                whole: !reader.is_empty() && reader.u8()? != 0,
            },
            k if k == known(FrameKind::CreateStream) => Record::CreateStream {
                name: std::str::from_utf8(reader.bytes()?).map_err(|_| Malformed)?,
                settings: decode_settings(&mut reader)?,
            },
            k if k == known(FrameKind::DeleteStream) => Record::DeleteStream,
            k if k == known(FrameKind::UpdateStream) => Record::UpdateStream {
                settings: decode_settings(&mut reader)?,
            },
            k if k == known(FrameKind::Switch) => Record::Switch {
                first: reader.i64()?,
                end: reader.i64()?,
                generation: reader.u32()?,
                length: reader.u64()?,
                max_timestamp: reader.i64()?,
                clean_to: reader.i64()?,
            },
            _ => return Err(Malformed),
        };
        Ok(record)
    }
}

/// Settings as the drawing says.
pub(crate) fn encode_settings(settings: &StreamSettings, out: &mut Writer) {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX - 1);
    out.u32(settings.segment_bytes);
    out.u32(settings.max_batch_bytes);
    let (code, interval) = match settings.durability {
        Durability::Fsync => (0, 0),
        Durability::Os => (1, 0),
        Durability::Interval(interval) => (2, ms(interval)),
    };
    out.u8(code);
    out.u64(interval);
    out.u64(settings.retention_bytes.unwrap_or(u64::MAX));
    out.u64(settings.retention.map_or(u64::MAX, ms));
    let mut flags = EXTENDED;
    if settings.timestamp_type == TimestampType::LogAppendTime {
        flags |= LOG_APPEND_TIME;
    }
    if settings.acked {
        flags |= ACKED;
    }
    out.u8(flags);
    out.u64(settings.segment_age.map_or(u64::MAX, ms));
    out.u64(ms(settings.segment_jitter));
    out.u64(ms(settings.delete_delay));
    out.u8(u8::from(settings.compaction.is_some()));
    if let Some(compaction) = &settings.compaction {
        out.u32(compaction.min_dirty_ppm);
        out.u64(ms(compaction.min_lag));
        out.u64(compaction.max_lag.map_or(u64::MAX, ms));
        out.u64(ms(compaction.tombstone_retention));
    }
}

/// The other way.
pub(crate) fn decode_settings(reader: &mut Reader<'_>) -> Result<StreamSettings, Malformed> {
    let (segment_bytes, max_batch_bytes) = (reader.u32()?, reader.u32()?);
    let (code, interval) = (reader.u8()?, reader.u64()?);
    let durability = match code {
        0 => Durability::Fsync,
        1 => Durability::Os,
        2 => Durability::Interval(Duration::from_millis(interval)),
        _ => return Err(Malformed),
    };
    let some = |value: u64| (value != u64::MAX).then_some(value);
    let (retention_bytes, retention_ms) = (some(reader.u64()?), some(reader.u64()?));
    let flags = reader.u8()?;
    let extended = match flags & EXTENDED {
        0 => StreamSettings::default(),
        _ => decode_extension(reader)?,
    };
    Ok(StreamSettings {
        segment_bytes,
        durability,
        retention_bytes,
        retention: retention_ms.map(Duration::from_millis),
        timestamp_type: if flags & LOG_APPEND_TIME != 0 {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        },
        max_batch_bytes,
        acked: flags & ACKED != 0,
        ..extended
    })
}

fn decode_extension(reader: &mut Reader<'_>) -> Result<StreamSettings, Malformed> {
    let age_ms = reader.u64()?;
    let jitter_ms = reader.u64()?;
    let delay_ms = reader.u64()?;
    let compaction = match reader.u8()? {
        0 => None,
        _ => Some(Compaction {
            min_dirty_ppm: reader.u32()?,
            min_lag: Duration::from_millis(reader.u64()?),
            max_lag: some_ms(reader.u64()?),
            tombstone_retention: Duration::from_millis(reader.u64()?),
        }),
    };
    Ok(StreamSettings {
        segment_age: some_ms(age_ms),
        segment_jitter: Duration::from_millis(jitter_ms),
        delete_delay: Duration::from_millis(delay_ms),
        compaction,
        ..StreamSettings::default()
    })
}

fn some_ms(ms: u64) -> Option<Duration> {
    (ms != u64::MAX).then(|| Duration::from_millis(ms))
}
