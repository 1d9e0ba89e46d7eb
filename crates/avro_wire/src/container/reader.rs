//! Reading container files.

use std::io::{self, Read, Seek, SeekFrom};

use super::{CODEC_KEY, Codec, ContainerError, MAGIC, MAX_HEADER_BYTES, SCHEMA_KEY, SYNC_BYTES};
use crate::varint::{bytes_at, long_at};

/// How much is read at a time.
const READ_BYTES: usize = 64 << 10;
/// Metadata entries at most.
const MAX_METADATA: usize = 10_000;
/// Bytes of the two numbers before a block's data at most.
const MAX_BLOCK_PREFIX: usize = 20;

/// The header of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The schema, as JSON.
    pub schema: String,
    /// How blocks are compressed.
    pub codec: Codec,
    /// What ends each block.
    pub sync: [u8; SYNC_BYTES],
    /// All metadata, schema and codec included, in file order.
    pub metadata: Vec<(String, Vec<u8>)>,
    /// Bytes of the header: the first block begins there.
    pub length: usize,
}

/// A block as it lies in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockView<'a> {
    /// Datums in it.
    pub datums: u64,
    /// Its data, still compressed.
    pub packed: &'a [u8],
    /// Bytes of the whole block: the next one begins there.
    pub length: usize,
}

/// Reads a file's header from its first bytes; `None` = more bytes are needed.
///
/// # Errors
/// When the bytes are no header.
pub fn parse_header(bytes: &[u8]) -> Result<Option<Header>, ContainerError> {
    let shown = bytes.len().min(MAGIC.len());
    if bytes[..shown] != MAGIC[..shown] {
        return Err(ContainerError::NotAContainer);
    }
    match header_behind_magic(bytes)? {
        None if bytes.len() >= MAX_HEADER_BYTES => Err(ContainerError::HeaderTooLarge),
        found => Ok(found),
    }
}

fn header_behind_magic(bytes: &[u8]) -> Result<Option<Header>, ContainerError> {
    let mut metadata = Vec::new();
    let mut at = MAGIC.len();
    loop {
        let bad = ContainerError::BadHeader { at };
        let Some((mut count, next)) = long_at(bytes, at) else {
            return if bytes.len() > at + 10 {
                Err(bad)
            } else {
                Ok(None)
            };
        };
        at = next;
        if count == 0 {
            break;
        }
        if count < 0 {
            let Some((_, next)) = long_at(bytes, at) else {
                return Ok(None);
            };
            at = next;
            count = count
                .checked_neg()
                .ok_or(ContainerError::BadHeader { at })?;
        }
        if count > (MAX_METADATA - metadata.len()) as i64 {
            return Err(bad);
        }
        for _ in 0..count {
            let pair =
                bytes_at(bytes, at).and_then(|(name, next)| Some((name, bytes_at(bytes, next)?)));
            let Some((name, (value, next))) = pair else {
                return Ok(None);
            };
            let name = std::str::from_utf8(name).map_err(|_| ContainerError::BadHeader { at })?;
            metadata.push((name.to_owned(), value.to_vec()));
            at = next;
        }
    }
    let Some(sync) = bytes.get(at..).and_then(<[u8]>::first_chunk) else {
        return Ok(None);
    };
    Ok(Some(Header {
        schema: text_of(&metadata, SCHEMA_KEY).ok_or(ContainerError::NoSchema)?,
        codec: codec_of(&metadata)?,
        sync: *sync,
        metadata,
        length: at + SYNC_BYTES,
    }))
}

fn text_of(metadata: &[(String, Vec<u8>)], key: &str) -> Option<String> {
    let (_, value) = metadata.iter().find(|(name, _)| name == key)?;
    String::from_utf8(value.clone()).ok()
}

fn codec_of(metadata: &[(String, Vec<u8>)]) -> Result<Codec, ContainerError> {
    let name = text_of(metadata, CODEC_KEY).unwrap_or_else(|| Codec::Null.name().to_owned());
    Codec::from_name(&name).ok_or(ContainerError::UnknownCodec { name })
}

/// Reads the block at the front of `bytes`; `None` = more bytes are needed.
///
/// # Errors
/// When the bytes are no block of this file, or one of more than `allowed` bytes.
pub fn parse_block<'a>(
    header: &Header,
    bytes: &'a [u8],
    allowed: usize,
) -> Result<Option<BlockView<'a>>, ContainerError> {
    let numbers =
        long_at(bytes, 0).and_then(|(datums, next)| Some((datums, long_at(bytes, next)?)));
    let Some((datums, (length, start))) = numbers else {
        return if bytes.len() >= MAX_BLOCK_PREFIX {
            Err(ContainerError::BadBlock)
        } else {
            Ok(None)
        };
    };
    let datums = u64::try_from(datums).map_err(|_| ContainerError::BadBlock)?;
    let claimed = u64::try_from(length).map_err(|_| ContainerError::BadBlock)?;
    let length = usize::try_from(claimed).unwrap_or(usize::MAX);
    if length > allowed {
        return Err(ContainerError::BlockTooLarge {
            bytes: claimed,
            allowed,
        });
    }
    let end = start + length;
    let Some(sync) = bytes.get(end..end + SYNC_BYTES) else {
        return Ok(None);
    };
    if sync != header.sync {
        return Err(ContainerError::BadSync);
    }
    Ok(Some(BlockView {
        datums,
        packed: &bytes[start..end],
        length: end + SYNC_BYTES,
    }))
}

/// A block, unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Datums in it.
    pub datums: u64,
    /// The datums, one behind the other.
    pub data: Vec<u8>,
    /// Where it begins in the file.
    pub position: u64,
}

/// Reads a file block by block.
pub struct ContainerReader<R> {
    input: R,
    header: Header,
    allowed: usize,
    buffer: Vec<u8>,
    /// Where in the buffer the next block begins, and in the file.
    at: usize,
    position: u64,
}

impl<R: Read> ContainerReader<R> {
    /// Reads the header. Blocks of more than `allowed` bytes, packed or unpacked, are refused.
    ///
    /// # Errors
    /// When the input cannot be read or is no container file.
    pub fn open(mut input: R, allowed: usize) -> Result<Self, ContainerError> {
        let mut buffer = Vec::new();
        loop {
            let read = read_more(&mut input, &mut buffer, READ_BYTES)?;
            if let Some(header) = parse_header(&buffer)? {
                return Ok(Self {
                    input,
                    at: header.length,
                    position: header.length as u64,
                    header,
                    allowed,
                    buffer,
                });
            }
            if read == 0 {
                return Err(ContainerError::Cut);
            }
        }
    }

    /// The file's header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Where the next block begins in the file.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next block; `None` at the end of the file. After an error, the same error comes again.
    ///
    /// # Errors
    /// When the input cannot be read or the block is damaged.
    pub fn next_block(&mut self) -> Result<Option<Block>, ContainerError> {
        loop {
            let rest = &self.buffer[self.at..];
            if let Some(view) = parse_block(&self.header, rest, self.allowed)? {
                let mut data = Vec::new();
                self.header
                    .codec
                    .decompress(view.packed, self.allowed, &mut data)?;
                let block = Block {
                    datums: view.datums,
                    data,
                    position: self.position,
                };
                self.at += view.length;
                self.position += view.length as u64;
                return Ok(Some(block));
            }
            self.buffer.drain(..self.at);
            self.at = 0;
            let wanted = self.buffer.len().max(READ_BYTES);
            if read_more(&mut self.input, &mut self.buffer, wanted)? == 0 {
                return match self.buffer.is_empty() {
                    true => Ok(None),
                    false => Err(ContainerError::Cut),
                };
            }
        }
    }
}

impl<R: Read + Seek> ContainerReader<R> {
    /// Goes on at `position`, where a block has to begin.
    ///
    /// # Errors
    /// When the input cannot be moved there.
    pub fn seek(&mut self, position: u64) -> Result<(), ContainerError> {
        let moved = self.input.seek(SeekFrom::Start(position));
        moved.map_err(ContainerError::Read)?;
        self.buffer.clear();
        self.at = 0;
        self.position = position;
        Ok(())
    }
}

fn read_more<R: Read>(
    input: &mut R,
    buffer: &mut Vec<u8>,
    wanted: usize,
) -> Result<usize, ContainerError> {
    let before = buffer.len();
    buffer.resize(before + wanted, 0);
    let read = loop {
        match input.read(&mut buffer[before..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => break outcome,
        }
    };
    buffer.truncate(before + *read.as_ref().unwrap_or(&0));
    read.map_err(ContainerError::Read)
}
