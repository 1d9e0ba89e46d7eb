//! The 61 bytes in front of the records: parse, check, patch in place, and walk batches that lie one after another.
//!
//! Invariant: [`BatchHeader::parse`] accepts only headers whose `batch_length` covers the header itself, so
//! `total_len()` is at least [`HEADER_LEN`] and never wraps.

use super::{BatchError, Compression};

/// Bytes before the records.
pub const HEADER_LEN: usize = 61;
/// Bytes before and including the length field: what `batch_length` does not count.
const LENGTH_END: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
/// The CRC covers everything from here to the end of the batch.
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;
const MAGIC: i8 = 2;

/// Whose clock the record timestamps come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's: each record has its own.
    CreateTime,
    /// The log's: all records have the batch's max timestamp.
    LogAppendTime,
}

/// The attribute bits of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(pub i16);

impl Attributes {
    pub(super) const CODEC_MASK: i16 = 0x07;
    pub(super) const LOG_APPEND_TIME: i16 = 0x08;
    pub(super) const TRANSACTIONAL: i16 = 0x10;
    pub(super) const CONTROL: i16 = 0x20;
    pub(super) const DELETE_HORIZON: i16 = 0x40;

    /// The codec of the records.
    ///
    /// # Errors
    /// [`BatchError::UnknownCodec`] for 5 to 7.
    pub fn compression(self) -> Result<Compression, BatchError> {
        Compression::from_id(self.0 & Self::CODEC_MASK)
    }

    /// Whose clock the timestamps come from.
    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether the batch holds a transaction marker instead of data.
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether the base timestamp is the time from which tombstones may go (KIP-534).
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }
}

/// The header of a record batch, decoded. The drawing is in the [module](super).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Bytes after the length field.
    pub batch_length: i32,
    /// The log's epoch when it took the batch, -1 from producers.
    pub partition_leader_epoch: i32,
    /// Always 2.
    pub magic: i8,
    /// CRC-32C from the attributes to the end.
    pub crc: u32,
    /// Codec, timestamp type, transactional, control, delete horizon.
    pub attributes: Attributes,
    /// Offset of the last record minus the base offset; stays when compaction removes that record.
    pub last_offset_delta: i32,
    /// Milliseconds since 1970 to which the records' deltas are relative.
    pub base_timestamp: i64,
    /// Highest timestamp of the batch, milliseconds since 1970; with log append time that of every record.
    pub max_timestamp: i64,
    /// The idempotent producer's id, -1 for none.
    pub producer_id: i64,
    /// The idempotent producer's epoch, -1 for none.
    pub producer_epoch: i16,
    /// Sequence of the first record, -1 for none.
    pub base_sequence: i32,
    /// How many records follow.
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header at the start of `bytes`, which may be shorter than the whole batch.
    ///
    /// # Errors
    /// [`BatchError::Short`], [`BatchError::BadLength`], [`BatchError::UnsupportedMagic`].
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        Self::parse_at(bytes, 0)
    }

    fn parse_at(bytes: &[u8], position: usize) -> Result<BatchHeader, BatchError> {
        let found = bytes.len();
        // The magic stands at the same place in all formats, so old message sets get the right answer.
        if let Some(&magic) = bytes.get(MAGIC_AT)
            && magic as i8 != MAGIC
        {
            return Err(BatchError::UnsupportedMagic {
                position,
                magic: magic as i8,
            });
        }
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(BatchError::Short {
                position,
                needed: HEADER_LEN,
                found,
            });
        };
        let batch_length = i32_at(header, 8);
        if batch_length < (HEADER_LEN - LENGTH_END) as i32 {
            return Err(BatchError::BadLength {
                position,
                length: batch_length,
            });
        }
        Ok(BatchHeader {
            base_offset: i64_at(header, 0),
            batch_length,
            partition_leader_epoch: i32_at(header, LENGTH_END),
            magic: MAGIC,
            crc: i32_at(header, CRC_AT) as u32,
            attributes: Attributes(i16_at(header, ATTRIBUTES_AT)),
            last_offset_delta: i32_at(header, 23),
            base_timestamp: i64_at(header, 27),
            max_timestamp: i64_at(header, MAX_TIMESTAMP_AT),
            producer_id: i64_at(header, 43),
            producer_epoch: i16_at(header, 51),
            base_sequence: i32_at(header, 53),
            record_count: i32_at(header, 57),
        })
    }

    /// Bytes of the whole batch, header included.
    pub fn total_len(&self) -> usize {
        LENGTH_END + self.batch_length as usize
    }

    /// Offset of the last record (or of the one that compaction removed).
    pub fn last_offset(&self) -> i64 {
        self.base_offset
            .wrapping_add(i64::from(self.last_offset_delta))
    }

    /// Whether an idempotent or transactional producer wrote it.
    pub fn has_producer(&self) -> bool {
        self.producer_id >= 0
    }

    /// Whether the batch is as a producer must send it: at least one record, and one for each offset (trap T9 of the
    /// reference).
    ///
    /// # Errors
    /// [`BatchError::BadCount`].
    pub fn check_one_record_per_offset(&self) -> Result<(), BatchError> {
        let (count, last) = (self.record_count, self.last_offset_delta);
        if count < 1 || i64::from(count) != i64::from(last) + 1 {
            return Err(BatchError::BadCount {
                count,
                last_offset_delta: last,
            });
        }
        Ok(())
    }

    /// Sequence of the last record; sequences go from 2^31-1 to 0. -1 without a producer.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        let last = i64::from(self.base_sequence) + i64::from(self.last_offset_delta.max(0));
        (last & i64::from(i32::MAX)) as i32
    }

    pub(super) fn write(&self, out: &mut [u8; HEADER_LEN]) {
        out[0..8].copy_from_slice(&self.base_offset.to_be_bytes());
        out[8..12].copy_from_slice(&self.batch_length.to_be_bytes());
        out[12..16].copy_from_slice(&self.partition_leader_epoch.to_be_bytes());
        out[MAGIC_AT] = self.magic as u8;
        out[17..21].copy_from_slice(&self.crc.to_be_bytes());
        out[21..23].copy_from_slice(&self.attributes.0.to_be_bytes());
        out[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        out[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        out[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        out[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        out[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        out[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        out[57..61].copy_from_slice(&self.record_count.to_be_bytes());
    }
}

/// Checks one whole batch as a log finds it on disk or a consumer on the wire: length, magic, CRC, codec, and counts
/// as compaction may have left them (fewer records than offsets, even none). Does not decompress.
///
/// # Errors
/// The first thing that is wrong; [`BatchError::TrailingBytes`] if more than one batch was given.
pub fn verify(batch: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let needed = header.total_len();
    if batch.len() < needed {
        return Err(BatchError::Short {
            position: 0,
            needed,
            found: batch.len(),
        });
    }
    if batch.len() > needed {
        return Err(BatchError::TrailingBytes {
            extra: batch.len() - needed,
        });
    }
    let computed = crc_of(batch);
    if computed != header.crc {
        return Err(BatchError::BadCrc {
            found: header.crc,
            computed,
        });
    }
    header.attributes.compression()?;
    let (count, last) = (header.record_count, header.last_offset_delta);
    if count < 0 || last < 0 || i64::from(count) > i64::from(last) + 1 {
        return Err(BatchError::BadCount {
            count,
            last_offset_delta: last,
        });
    }
    Ok(header)
}

/// Checks one whole batch as a producer must send it: as [`verify`], and at least one record with one offset each
/// (trap T9 of the reference). Does not decompress.
///
/// # Errors
/// As [`verify`].
pub fn validate(batch: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = verify(batch)?;
    header.check_one_record_per_offset()?;
    Ok(header)
}

/// CRC-32C of the bytes from the attributes to the end; 0 for bytes too short to have any.
pub fn crc_of(batch: &[u8]) -> u32 {
    batch.get(ATTRIBUTES_AT..).map_or(0, crc_fast::crc32_iscsi)
}

/// Sets the two fields that belong to the log. Both lie outside the CRC. Bytes shorter than a header stay as they are.
pub fn patch_offset_and_epoch(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    if let Some(header) = batch.first_chunk_mut::<HEADER_LEN>() {
        header[0..8].copy_from_slice(&base_offset.to_be_bytes());
        header[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
    }
}

/// Marks a whole batch as stamped by the log at `ms` and recomputes the CRC (topic option
/// `message.timestamp.type=LogAppendTime`). Bytes shorter than a header stay as they are.
pub fn patch_log_append_time(batch: &mut [u8], ms: i64) {
    let Some(header) = batch.first_chunk_mut::<HEADER_LEN>() else {
        return;
    };
    let attributes = i16_at(header, ATTRIBUTES_AT) | Attributes::LOG_APPEND_TIME;
    header[21..23].copy_from_slice(&attributes.to_be_bytes());
    header[35..43].copy_from_slice(&ms.to_be_bytes());
    patch_crc(batch);
}

/// Writes the CRC that the bytes of a whole batch give.
pub(super) fn patch_crc(batch: &mut [u8]) {
    let crc = crc_of(batch);
    if let Some(field) = batch.get_mut(CRC_AT..ATTRIBUTES_AT) {
        field.copy_from_slice(&crc.to_be_bytes());
    }
}

/// Walks batches that lie one after another, as in a segment or a Fetch answer. No CRC is checked.
pub fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches {
        bytes,
        position: 0,
        ended: false,
    }
}

/// Iterator of [`batches`]: each batch with its bytes. After an error, which may be a harmless short tail
/// ([`BatchError::is_short`]), it ends; [`Batches::position`] then says how many bytes were good.
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    position: usize,
    ended: bool,
}

impl Batches<'_> {
    /// Bytes of the whole batches seen so far.
    pub fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<(BatchHeader, &'a [u8]), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.position..)?;
        if self.ended || rest.is_empty() {
            return None;
        }
        let whole = BatchHeader::parse_at(rest, self.position).and_then(|header| {
            let needed = header.total_len();
            match rest.get(..needed) {
                Some(batch) => Ok((header, batch)),
                None => Err(BatchError::Short {
                    position: self.position,
                    needed,
                    found: rest.len(),
                }),
            }
        });
        match &whole {
            Ok((_, batch)) => self.position += batch.len(),
            Err(_) => self.ended = true,
        }
        Some(whole)
    }
}

fn i16_at(header: &[u8; HEADER_LEN], at: usize) -> i16 {
    i16::from_be_bytes([header[at], header[at + 1]])
}

fn i32_at(header: &[u8; HEADER_LEN], at: usize) -> i32 {
    i32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

fn i64_at(header: &[u8; HEADER_LEN], at: usize) -> i64 {
    (i64::from(i32_at(header, at)) << 32) | i64::from(i32_at(header, at + 4) as u32)
}
