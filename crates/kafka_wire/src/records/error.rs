//! What can be wrong with a record batch. Every variant carries the facts; the broker maps them to Kafka error codes
//! (all are CORRUPT_MESSAGE or INVALID_RECORD but [`BatchError::UnsupportedMagic`] and [`BatchError::UnknownCodec`]).

use super::Compression;

/// A record batch that cannot be read, or cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end inside a batch. At the end of a Fetch answer this is normal: the rest comes with the next one.
    #[error("record batch at byte {position} is cut short: {needed} bytes needed, {found} there")]
    Short {
        /// Where the batch starts in the bytes given.
        position: usize,
        /// Bytes the batch needs, as far as that is known.
        needed: usize,
        /// Bytes that are there.
        found: usize,
    },
    /// Bytes follow a batch where exactly one batch is allowed.
    #[error("{extra} bytes follow the record batch where only one batch is allowed")]
    TrailingBytes {
        /// How many bytes are too many.
        extra: usize,
    },
    /// The length field cannot be true for a v2 batch.
    #[error("record batch at byte {position} claims a length of {length}, at least 49 is needed")]
    BadLength {
        /// Where the batch starts in the bytes given.
        position: usize,
        /// The length field.
        length: i32,
    },
    /// Message sets of Kafka 0.10 and older (magic 0 and 1), or garbage.
    #[error("record batch at byte {position} has magic {magic}, only 2 is supported")]
    UnsupportedMagic {
        /// Where the batch starts in the bytes given.
        position: usize,
        /// The magic byte found.
        magic: i8,
    },
    /// The checksum does not match the content.
    #[error("record batch CRC-32C is {found:08x}, its content gives {computed:08x}")]
    BadCrc {
        /// The checksum in the header.
        found: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// Record count and offset deltas contradict each other.
    #[error("record batch counts {count} records but its last offset delta is {last_offset_delta}")]
    BadCount {
        /// The record count of the header.
        count: i32,
        /// The last offset delta of the header.
        last_offset_delta: i32,
    },
    /// The base offset, which no checksum covers, is not one between those of the batches around it.
    #[error(
        "record batch has base offset {base_offset}, which does not fit between its neighbours'"
    )]
    BadBaseOffset {
        /// The base offset of the header.
        base_offset: i64,
    },
    /// The attributes name a codec that does not exist.
    #[error("unknown compression codec {codec}, known are 0 to 4")]
    UnknownCodec {
        /// Bits 0 to 2 of the attributes.
        codec: i16,
    },
    /// The compressed block is damaged.
    #[error("cannot decompress {codec} records: {reason}")]
    Decompress {
        /// The codec that failed.
        codec: Compression,
        /// What the codec said.
        reason: String,
    },
    /// The records decompress to more than the caller allows.
    #[error("{codec} records decompress to more than {limit} bytes")]
    TooLargeDecompressed {
        /// The codec.
        codec: Compression,
        /// The caller's bound.
        limit: usize,
    },
    /// A record's own fields contradict its length.
    #[error("record {index} of the batch is malformed at byte {position}: {what}")]
    BadRecord {
        /// Which record, from 0.
        index: i32,
        /// Byte position inside the records' source (see [`super::RecordIter::source`]).
        position: usize,
        /// Which field.
        what: &'static str,
    },
    /// The codec could not compress.
    #[error("cannot compress records with {codec}: {reason}")]
    Compress {
        /// The codec that failed.
        codec: Compression,
        /// What the codec said.
        reason: String,
    },
    /// A batch's length field holds at most 2^31-1 bytes.
    #[error(
        "a record of {record_bytes} bytes does not fit the batch of {batch_bytes} bytes: 2^31-1 is the limit"
    )]
    TooLarge {
        /// Bytes of the record.
        record_bytes: usize,
        /// Bytes already in the batch.
        batch_bytes: usize,
    },
    /// A batch without records cannot be finished.
    #[error("a record batch needs at least one record")]
    Empty,
}

impl BatchError {
    /// Whether the bytes only end too early, as they may at the end of a Fetch answer.
    pub fn is_short(&self) -> bool {
        matches!(self, BatchError::Short { .. })
    }
}
