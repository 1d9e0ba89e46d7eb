//! Reading the records of one batch without copying them.
//!
//! Invariant: a [`RecordView`] that is handed out has been checked to its last header, so its accessors cannot fail;
//! every slice lies inside [`RecordIter::source`]. Duplicate header names stay, in order.

use std::ops::Range;

use super::{BatchError, BatchHeader, Compression, HEADER_LEN, TimestampType, codec, varint};

/// A record costs at least this many bytes: length, attributes, two deltas, two lengths, header count.
const MIN_RECORD_LEN: usize = 7;

/// One record, borrowed from its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// Its offset in the partition.
    pub offset: i64,
    /// Milliseconds since 1970; with log append time that of the batch.
    pub timestamp: i64,
    /// The key, `None` for null.
    pub key: Option<&'a [u8]>,
    /// The value, `None` for null (a tombstone).
    pub value: Option<&'a [u8]>,
    /// The headers in their order.
    pub headers: HeadersView<'a>,
    /// Where the value lies in [`RecordIter::source`], so that an owner of the batch can slice instead of copy.
    /// Empty for null.
    pub value_range: Range<usize>,
}

/// The headers of a record: an iterator of name and value, duplicates kept. Names are UTF-8 by specification but are
/// given as bytes, as they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadersView<'a> {
    bytes: &'a [u8],
    position: usize,
    remaining: u32,
}

impl<'a> HeadersView<'a> {
    /// The bytes of the headers still to come, without their count: name and value of each, a zigzag varint of its
    /// length before each.
    pub fn encoded(&self) -> &'a [u8] {
        // A view ends where its record ends.
        &self.bytes[self.position..]
    }

    /// Number of headers still to come.
    pub fn len(&self) -> usize {
        self.remaining as usize
    }

    /// Whether there are none left.
    pub fn is_empty(&self) -> bool {
        self.remaining == 0
    }
}

impl<'a> Iterator for HeadersView<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.remaining = self.remaining.checked_sub(1)?;
        let name = read_nullable(self.bytes, &mut self.position)??;
        let value = read_nullable(self.bytes, &mut self.position)?;
        Some((name, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.len(), Some(self.len()))
    }
}

impl ExactSizeIterator for HeadersView<'_> {}

/// Opens the records of `batch`, whose header is `header`. Uncompressed records are borrowed from `batch`; compressed
/// ones are decompressed into `scratch`, whose old content goes, up to `max_decompressed` bytes.
///
/// # Errors
/// [`BatchError::Short`], [`BatchError::UnknownCodec`], [`BatchError::Decompress`],
/// [`BatchError::TooLargeDecompressed`], [`BatchError::BadCount`] if so many records cannot be in so few bytes.
pub fn records<'a>(
    header: &BatchHeader,
    batch: &'a [u8],
    scratch: &'a mut Vec<u8>,
    max_decompressed: usize,
) -> Result<RecordIter<'a>, BatchError> {
    let needed = header.total_len().max(HEADER_LEN);
    let Some(batch) = batch.get(..needed) else {
        return Err(BatchError::Short {
            position: 0,
            needed,
            found: batch.len(),
        });
    };
    let (source, position) = match header.attributes.compression()? {
        Compression::None => (batch, HEADER_LEN),
        codec => {
            codec::decompress(codec, &batch[HEADER_LEN..], scratch, max_decompressed)?;
            (scratch.as_slice(), 0)
        }
    };
    let count = usize::try_from(header.record_count).unwrap_or(usize::MAX);
    if count > (source.len() - position) / MIN_RECORD_LEN {
        return Err(BatchError::BadCount {
            count: header.record_count,
            last_offset_delta: header.last_offset_delta,
        });
    }
    let append_time = match header.attributes.timestamp_type() {
        TimestampType::CreateTime => None,
        TimestampType::LogAppendTime => Some(header.max_timestamp),
    };
    Ok(RecordIter {
        source,
        position,
        index: 0,
        count: header.record_count,
        base_offset: header.base_offset,
        base_timestamp: header.base_timestamp,
        append_time,
    })
}

/// Iterator of [`records`]. After an error it ends. Bytes behind the last record are an error too.
#[derive(Debug, Clone)]
pub struct RecordIter<'a> {
    source: &'a [u8],
    position: usize,
    index: i32,
    count: i32,
    base_offset: i64,
    base_timestamp: i64,
    append_time: Option<i64>,
}

impl<'a> RecordIter<'a> {
    /// The bytes that positions and ranges refer to: the whole batch if it is not compressed, else the decompressed
    /// records.
    pub fn source(&self) -> &'a [u8] {
        self.source
    }

    /// Where the next record starts in [`RecordIter::source`].
    pub(super) fn position(&self) -> usize {
        self.position
    }

    #[inline]
    fn read(&mut self) -> Result<RecordView<'a>, &'static str> {
        let source = self.source;
        let mut position = self.position;
        let length = varint::read_i32(source, &mut position).ok_or("length")?;
        let length = usize::try_from(length).map_err(|_| "length")?;
        let end = position.checked_add(length).ok_or("length")?;
        // All reads below see only this record.
        let record = source.get(..end).ok_or("length")?;
        record.get(position).ok_or("attributes")?;
        position += 1;
        let timestamp_delta = varint::read_i64(record, &mut position).ok_or("timestamp delta")?;
        let offset_delta = varint::read_i32(record, &mut position).ok_or("offset delta")?;
        let key = read_nullable(record, &mut position).ok_or("key")?;
        let value = read_nullable(record, &mut position).ok_or("value")?;
        let value_range = position - value.map_or(0, <[u8]>::len)..position;
        let headers = read_headers(record, position).ok_or("headers")?;
        self.position = end;
        Ok(RecordView {
            offset: self.base_offset.wrapping_add(i64::from(offset_delta)),
            timestamp: match self.append_time {
                Some(time) => time,
                None => self.base_timestamp.wrapping_add(timestamp_delta),
            },
            key,
            value,
            headers,
            value_range: if value.is_some() { value_range } else { 0..0 },
        })
    }

    fn fail(&mut self, what: &'static str) -> BatchError {
        let error = BatchError::BadRecord {
            index: self.index,
            position: self.position,
            what,
        };
        self.index = self.count;
        self.position = self.source.len();
        error
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<RecordView<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.count {
            if self.position == self.source.len() {
                return None;
            }
            return Some(Err(self.fail("bytes follow the last record")));
        }
        match self.read() {
            Ok(record) => {
                self.index += 1;
                Some(Ok(record))
            }
            Err(what) => Some(Err(self.fail(what))),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (
            0,
            usize::try_from(self.count - self.index)
                .ok()
                .map(|count| count.saturating_add(1)),
        )
    }
}

/// Reads a length and as many bytes; -1 is null, other negative lengths are malformed (outer `None`).
#[inline]
fn read_nullable<'a>(bytes: &'a [u8], position: &mut usize) -> Option<Option<&'a [u8]>> {
    let length = varint::read_i32(bytes, position)?;
    if length < 0 {
        return (length == -1).then_some(None);
    }
    let end = position.checked_add(length as usize)?;
    let slice = bytes.get(*position..end)?;
    *position = end;
    Some(Some(slice))
}

/// Checks that the headers at `position` fill `record` to its end exactly.
#[inline]
fn read_headers(record: &[u8], position: usize) -> Option<HeadersView<'_>> {
    let mut walk = position;
    let count = u32::try_from(varint::read_i32(record, &mut walk)?).ok()?;
    let first = walk;
    // Each header takes at least one byte, so a false count ends this loop early.
    for _ in 0..count {
        read_nullable(record, &mut walk)??;
        read_nullable(record, &mut walk)?;
    }
    (walk == record.len()).then_some(HeadersView {
        bytes: record,
        position: first,
        remaining: count,
    })
}
