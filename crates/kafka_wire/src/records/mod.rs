//! Record batches, format v2 ("magic 2"): the bytes that producers send, the log stores and consumers fetch.
//!
//! A broker never re-encodes a batch: it checks the header and the CRC, patches the fields that are its own and passes
//! the bytes on. Only those who need the records themselves (the file channel, time lookup, compaction, sinks) walk
//! them, without copying. Own code rather than the `kafka-protocol` crate's: that one trusts counts, loses duplicate
//! header names and copies every record.
//!
//! Invariants: nothing here panics on any bytes; no allocation is larger than the caller's bound or a small constant
//! times the input; what [`BatchBuilder`] writes, [`validate`] accepts and [`records`] reads back unchanged.
//!
//! Specification: the Kafka protocol's record batch (KIP-98, headers KIP-82, zstd KIP-110, delete horizon KIP-534).
//!
//! ```text
//! batch, big-endian                                  record (all "var" are zigzag varints of at most 32 or 64 bits)
//! byte  0  base offset             i64               length          var32  bytes after this field
//!       8  batch length            i32  after byte 12  attributes    i8     unused, 0
//!      12  partition leader epoch  i32               timestamp delta var64  to the base timestamp
//!      16  magic = 2               i8                offset delta    var32  to the base offset
//!      17  CRC-32C of bytes 21..   u32               key length      var32  -1 = null
//!      21  attributes              i16               key
//!      23  last offset delta       i32               value length    var32  -1 = null
//!      27  base timestamp          i64  ms           value
//!      35  max timestamp           i64  ms           header count    var32
//!      43  producer id             i64  -1 = none    per header: name length var32, name (UTF-8),
//!      51  producer epoch          i16  -1 = none                value length var32 (-1 = null), value
//!      53  base sequence           i32  -1 = none
//!      57  record count            i32
//!      61  records, compressed as one block if the attributes say so
//!
//! attributes: bits 0-2 codec (0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd), bit 3 timestamp type (1 = log append time),
//!             bit 4 transactional, bit 5 control batch, bit 6 base timestamp is the delete horizon
//! ```
//!
//! Base offset and leader epoch stand before the CRC's range, so the log can set them without touching the checksum.

mod builder;
mod codec;
mod error;
mod header;
mod iter;
mod rewrite;
mod varint;

#[cfg(test)]
mod tests;

pub use self::builder::BatchBuilder;
pub use self::codec::Compression;
pub use self::error::BatchError;
pub use self::header::{
    Attributes, BatchHeader, Batches, HEADER_LEN, TimestampType, batches, crc_of,
    patch_log_append_time, patch_offset_and_epoch, validate, verify,
};
pub use self::iter::{HeadersView, RecordIter, RecordView, records};
pub use self::rewrite::{append_empty, rewrite};
