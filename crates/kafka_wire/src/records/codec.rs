//! The codecs of record batches: the whole run of records is one compressed block.
//!
//! Snappy is written in the framing of xerial's snappy-java, as the Java client does, and read both so and raw, as
//! librdkafka writes it. LZ4 is the frame format with independent blocks (the Java client reads no others).
//!
//! ```text
//! xerial:  82 53 4e 41 50 50 59 00 ("\x82SNAPPY\0"), i32 version = 1, i32 oldest reader = 1,
//!          then chunks: i32 length, one raw snappy block of that length (at most 32 KiB uncompressed when written)
//! ```
//!
//! Invariant: decompression never holds more than `limit` bytes of output, and never allocates for a claimed size that
//! the input is too short to fill. (zstd may reserve its window, at most 128 MiB as in every decoder, untouched.)

use std::fmt;
use std::io::{self, Read, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::BatchError;

const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_LEN: usize = 16;
const XERIAL_CHUNK_LEN: usize = 32 * 1024;
/// A snappy copy element of two bytes gives at most 64, so no block expands more than this.
const SNAPPY_MAX_RATIO: usize = 64;

/// How the records of a batch are compressed (topic option `compression.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// Gzip, level 6.
    Gzip,
    /// Snappy in xerial framing.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard, level 3 (KIP-110).
    Zstd,
}

impl Compression {
    /// All of them, in the order of their ids.
    pub const ALL: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    /// The bits in a batch's attributes.
    pub fn id(self) -> i16 {
        match self {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        }
    }

    /// The codec with these attribute bits.
    ///
    /// # Errors
    /// [`BatchError::UnknownCodec`].
    pub fn from_id(id: i16) -> Result<Compression, BatchError> {
        match id {
            0 => Ok(Compression::None),
            1 => Ok(Compression::Gzip),
            2 => Ok(Compression::Snappy),
            3 => Ok(Compression::Lz4),
            4 => Ok(Compression::Zstd),
            codec => Err(BatchError::UnknownCodec { codec }),
        }
    }

    /// The name in Kafka's configuration.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Appends `raw`, compressed, to `out`.
pub(super) fn compress(
    codec: Compression,
    raw: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), BatchError> {
    let done = match codec {
        Compression::None => {
            out.extend_from_slice(raw);
            Ok(())
        }
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
            encoder
                .write_all(raw)
                .and_then(|()| encoder.finish().map(drop))
        }
        Compression::Snappy => compress_snappy(raw, out),
        Compression::Lz4 => {
            let frame = FrameInfo::new()
                .block_mode(BlockMode::Independent)
                .block_size(BlockSize::Max64KB)
                .content_checksum(false);
            let mut encoder = FrameEncoder::with_frame_info(frame, out);
            encoder
                .write_all(raw)
                .and_then(|()| encoder.finish().map(drop).map_err(io::Error::other))
        }
        Compression::Zstd => zstd::bulk::compress(raw, zstd::DEFAULT_COMPRESSION_LEVEL)
            .map(|block| out.extend_from_slice(&block)),
    };
    done.map_err(|error| BatchError::Compress {
        codec,
        reason: error.to_string(),
    })
}

/// Replaces `out` with `block`, decompressed, if that is at most `limit` bytes.
pub(super) fn decompress(
    codec: Compression,
    block: &[u8],
    out: &mut Vec<u8>,
    limit: usize,
) -> Result<(), BatchError> {
    out.clear();
    match codec {
        Compression::None => {
            if block.len() > limit {
                return Err(BatchError::TooLargeDecompressed { codec, limit });
            }
            out.extend_from_slice(block);
            Ok(())
        }
        Compression::Gzip => read_all(
            codec,
            flate2::bufread::MultiGzDecoder::new(block),
            out,
            limit,
        ),
        Compression::Snappy => decompress_snappy(block, out, limit),
        Compression::Lz4 => read_all(codec, FrameDecoder::new(block), out, limit),
        Compression::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(block).map_err(|error| {
                BatchError::Decompress {
                    codec,
                    reason: error.to_string(),
                }
            })?;
            read_all(codec, decoder, out, limit)
        }
    }
}

fn read_all(
    codec: Compression,
    decoder: impl Read,
    out: &mut Vec<u8>,
    limit: usize,
) -> Result<(), BatchError> {
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    decoder
        .take(bound)
        .read_to_end(out)
        .map_err(|error| BatchError::Decompress {
            codec,
            reason: error.to_string(),
        })?;
    if out.len() > limit {
        return Err(BatchError::TooLargeDecompressed { codec, limit });
    }
    Ok(())
}

fn compress_snappy(raw: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for chunk in raw.chunks(XERIAL_CHUNK_LEN) {
        let length_at = out.len();
        let start = length_at + 4;
        out.resize(start + snap::raw::max_compress_len(chunk.len()), 0);
        let written = encoder
            .compress(chunk, &mut out[start..])
            .map_err(io::Error::other)?;
        out.truncate(start + written);
        // A chunk of 32 KiB compresses to far less than 2^31 bytes.
        out[length_at..start].copy_from_slice(&(written as u32).to_be_bytes());
    }
    Ok(())
}

fn decompress_snappy(block: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), BatchError> {
    let mut decoder = snap::raw::Decoder::new();
    if !block.starts_with(&XERIAL_MAGIC) {
        return decompress_snappy_block(&mut decoder, block, out, limit);
    }
    let cut = || snappy_error("xerial framing is cut short");
    let mut rest = block.get(XERIAL_HEADER_LEN..).ok_or_else(cut)?;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
        let length = u32::from_be_bytes(*length) as usize;
        let chunk = after.get(..length).ok_or_else(cut)?;
        decompress_snappy_block(&mut decoder, chunk, out, limit)?;
        rest = &after[length..];
    }
    Ok(())
}

fn decompress_snappy_block(
    decoder: &mut snap::raw::Decoder,
    block: &[u8],
    out: &mut Vec<u8>,
    limit: usize,
) -> Result<(), BatchError> {
    let codec = Compression::Snappy;
    let length =
        snap::raw::decompress_len(block).map_err(|error| snappy_error(&error.to_string()))?;
    if length > block.len().saturating_mul(SNAPPY_MAX_RATIO) {
        return Err(snappy_error("a block claims more bytes than it can hold"));
    }
    let start = out.len();
    if length > limit.saturating_sub(start) {
        return Err(BatchError::TooLargeDecompressed { codec, limit });
    }
    out.resize(start + length, 0);
    match decoder.decompress(block, &mut out[start..]) {
        Ok(written) => {
            out.truncate(start + written);
            Ok(())
        }
        Err(error) => Err(snappy_error(&error.to_string())),
    }
}

fn snappy_error(reason: &str) -> BatchError {
    BatchError::Decompress {
        codec: Compression::Snappy,
        reason: reason.to_owned(),
    }
}
