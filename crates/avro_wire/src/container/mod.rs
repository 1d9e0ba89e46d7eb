//! Avro object container files.
//!
//! ```text
//! file    "Obj" 01 | metadata: map of bytes | sync marker, 16 random bytes | block …
//! block   datums: long | bytes: long | the datums, through the codec | sync marker
//! ```
//! Metadata holds `avro.schema` (JSON) and `avro.codec`. Codecs: `null`; `deflate`, without zlib's
//! frame; `snappy`, followed by the CRC-32 of the plain bytes, big-endian; `bzip2`; `zstandard`.
//!
//! [`ContainerWriter`] appends to a buffer of the caller; [`parse_header`] and [`parse_block`]
//! read from one, and [`ContainerReader`] from any [`std::io::Read`].

mod codec;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use codec::Codec;
pub use reader::{Block, BlockView, ContainerReader, Header, parse_block, parse_header};
use thiserror::Error;
pub use writer::ContainerWriter;

const MAGIC: &[u8; 4] = b"Obj\x01";
const SCHEMA_KEY: &str = "avro.schema";
const CODEC_KEY: &str = "avro.codec";

/// Bytes of the sync marker.
pub const SYNC_BYTES: usize = 16;
/// Bytes of a file's header at most: a schema of a megabyte is already absurd.
pub const MAX_HEADER_BYTES: usize = 4 << 20;

/// Why bytes are no container file.
#[derive(Debug, Error)]
pub enum ContainerError {
    /// The first bytes are not those of a container file.
    #[error("not an Avro container file: it does not begin with `Obj` and 1")]
    NotAContainer,
    /// The header is damaged.
    #[error("the header of the Avro file is damaged at byte {at}")]
    BadHeader {
        /// Position in the file.
        at: usize,
    },
    /// The header is larger than [`MAX_HEADER_BYTES`].
    #[error("the header of the Avro file has more than {MAX_HEADER_BYTES} bytes")]
    HeaderTooLarge,
    /// The header has no schema.
    #[error("the header of the Avro file holds no `{SCHEMA_KEY}`")]
    NoSchema,
    /// The codec is none of ours.
    #[error(
        "the Avro file is compressed with `{name}`; known are {}",
        Codec::names()
    )]
    UnknownCodec {
        /// The codec's name in the file.
        name: String,
    },
    /// A count or a length of a block makes no sense.
    #[error("a block of the Avro file has a bad count or length")]
    BadBlock,
    /// A block is larger than the reader allows.
    #[error("a block of the Avro file has {bytes} bytes; {allowed} are allowed")]
    BlockTooLarge {
        /// Bytes that the block claims or that came out of it.
        bytes: u64,
        /// Bytes that the caller allows.
        allowed: usize,
    },
    /// A block does not end in the file's sync marker.
    #[error("a block of the Avro file does not end in the sync marker")]
    BadSync,
    /// A block cannot be decompressed.
    #[error("a block of the Avro file is damaged: {codec} data")]
    BadData {
        /// The codec's name.
        codec: &'static str,
        /// What the codec found.
        #[source]
        source: Option<std::io::Error>,
    },
    /// The checksum of a snappy block does not match.
    #[error("a snappy block of the Avro file has a wrong checksum")]
    BadChecksum,
    /// The file ends within a header or a block.
    #[error("the Avro file ends in the middle of a block")]
    Cut,
    /// The input cannot be read.
    #[error("read the Avro file")]
    Read(#[source] std::io::Error),
}
