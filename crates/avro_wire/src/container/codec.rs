//! The codecs of container files.

use std::io::{self, Read, Write};

use crc_fast::CrcAlgorithm::Crc32IsoHdlc;

use super::ContainerError;

/// Bytes of the checksum behind a snappy block.
const CHECKSUM_BYTES: usize = 4;
/// Largest window of a zstandard block, as a power of two: what decoders accept by default.
const WINDOW_LOG: u32 = 27;

/// How blocks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// Not at all.
    Null,
    /// Deflate without zlib's frame, level 6.
    Deflate,
    /// Snappy, with a CRC-32 of the plain bytes.
    Snappy,
    /// Bzip2, level 9.
    Bzip2,
    /// Zstandard, level 3.
    Zstandard,
}

impl Codec {
    /// Every codec.
    pub const ALL: &'static [Codec] = &[
        Codec::Null,
        Codec::Deflate,
        Codec::Snappy,
        Codec::Bzip2,
        Codec::Zstandard,
    ];

    /// The name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Codec::Null => "null",
            Codec::Deflate => "deflate",
            Codec::Snappy => "snappy",
            Codec::Bzip2 => "bzip2",
            Codec::Zstandard => "zstandard",
        }
    }

    /// The codec of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|codec| codec.name() == name)
    }

    pub(super) fn names() -> String {
        let names: Vec<_> = Self::ALL.iter().map(|codec| codec.name()).collect();
        names.join(", ")
    }

    /// Appends `plain`, compressed, to `out`.
    pub(super) fn compress(self, plain: &[u8], out: &mut Vec<u8>) {
        const MEMORY: &str = "compressing into memory cannot fail";
        match self {
            Codec::Null => out.extend_from_slice(plain),
            Codec::Deflate => {
                let level = flate2::Compression::new(6);
                let mut encoder = flate2::write::DeflateEncoder::new(out, level);
                encoder.write_all(plain).expect(MEMORY);
                encoder.finish().expect(MEMORY);
            }
            Codec::Snappy => {
                let start = out.len();
                out.resize(start + snap::raw::max_compress_len(plain.len()), 0);
                let length = snap::raw::Encoder::new()
                    .compress(plain, &mut out[start..])
                    .expect("blocks are far below snappy's limit of 4 GiB, and there is room");
                out.truncate(start + length);
                out.extend_from_slice(&checksum(plain).to_be_bytes());
            }
            Codec::Bzip2 => {
                let mut encoder = bzip2::write::BzEncoder::new(out, bzip2::Compression::best());
                encoder.write_all(plain).expect(MEMORY);
                encoder.finish().expect(MEMORY);
            }
            Codec::Zstandard => {
                let mut encoder =
                    zstd::stream::write::Encoder::new(out, 3).expect("3 is a level of zstandard");
                encoder.write_all(plain).expect(MEMORY);
                encoder.finish().expect(MEMORY);
            }
        }
    }

    /// Appends what `packed` was made of to `out`, if that is at most `allowed` bytes.
    ///
    /// # Errors
    /// When the bytes are damaged or become too many.
    pub fn decompress(
        self,
        packed: &[u8],
        allowed: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), ContainerError> {
        match self {
            Codec::Null => {
                too_large(packed.len() as u64, allowed)?;
                out.extend_from_slice(packed);
                Ok(())
            }
            Codec::Deflate => {
                let decoder = flate2::bufread::DeflateDecoder::new(packed);
                self.read_all(decoder, allowed, out)
            }
            Codec::Snappy => self.unpack_snappy(packed, allowed, out),
            Codec::Bzip2 => {
                let decoder = bzip2::bufread::BzDecoder::new(packed);
                self.read_all(decoder, allowed, out)
            }
            Codec::Zstandard => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)
                    .map_err(|error| self.damaged(error))?;
                decoder
                    .window_log_max(WINDOW_LOG)
                    .map_err(|error| self.damaged(error))?;
                self.read_all(decoder, allowed, out)
            }
        }
    }

    fn unpack_snappy(
        self,
        packed: &[u8],
        allowed: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), ContainerError> {
        let damaged = ContainerError::BadData {
            codec: self.name(),
            source: None,
        };
        let Some((packed, expected)) = packed.split_last_chunk::<CHECKSUM_BYTES>() else {
            return Err(damaged);
        };
        let wrong = |error: snap::Error| self.damaged(error.into());
        let length = snap::raw::decompress_len(packed).map_err(wrong)?;
        too_large(length as u64, allowed)?;
        let start = out.len();
        out.resize(start + length, 0);
        let plain = &mut out[start..];
        let unpacked = snap::raw::Decoder::new().decompress(packed, plain);
        let outcome = match unpacked.map_err(wrong) {
            Ok(_) if checksum(plain) == u32::from_be_bytes(*expected) => Ok(()),
            Ok(_) => Err(ContainerError::BadChecksum),
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            out.truncate(start);
        }
        outcome
    }

    fn read_all(
        self,
        decoder: impl Read,
        allowed: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), ContainerError> {
        let start = out.len();
        let read = decoder
            .take((allowed as u64).saturating_add(1))
            .read_to_end(out);
        let outcome = match read {
            Ok(length) => too_large(length as u64, allowed),
            Err(error) => Err(self.damaged(error)),
        };
        if outcome.is_err() {
            out.truncate(start);
        }
        outcome
    }

    fn damaged(self, source: io::Error) -> ContainerError {
        ContainerError::BadData {
            codec: self.name(),
            source: Some(source),
        }
    }
}

fn too_large(bytes: u64, allowed: usize) -> Result<(), ContainerError> {
    if bytes > allowed as u64 {
        return Err(ContainerError::BlockTooLarge { bytes, allowed });
    }
    Ok(())
}

fn checksum(bytes: &[u8]) -> u32 {
    crc_fast::checksum(Crc32IsoHdlc, bytes) as u32
}
