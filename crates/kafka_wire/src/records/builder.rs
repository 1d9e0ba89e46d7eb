//! Building a record batch in one pass.
//!
//! Each record's length is computed before it is written, so nothing moves afterwards and no record allocates. The
//! header is written when the batch is finished. Base offset is 0 and leader epoch -1: the log sets its own.
//!
//! Invariant: at every moment the buffer holds room for the header and whole records; `count` of them.

use bytes::Bytes;

use super::header::{self, Attributes, BatchHeader, HEADER_LEN};
use super::{BatchError, Compression, codec, varint};

/// Fixed-size part of a record before its key: length, attributes, two deltas, key length.
const PREFIX_MAX: usize = varint::MAX_32 * 3 + 1 + varint::MAX_64;
const MAX_BATCH_LEN: usize = i32::MAX as usize;

/// Collects records into one batch. After [`BatchBuilder::finish`] it is empty and can be used again, with the same
/// codec and producer fields.
///
/// ```
/// use flafka_kafka_wire::records::{BatchBuilder, Compression, records, validate};
///
/// let mut builder = BatchBuilder::new(Compression::None);
/// let headers = [(&b"host"[..], Some(&b"a"[..])), (&b"host"[..], None)];
/// builder.push(1_700_000_000_000, None, Some(b"hello"), headers.into_iter())?;
/// let batch = builder.finish()?;
///
/// let header = validate(&batch)?;
/// let mut scratch = Vec::new();
/// let record = records(&header, &batch, &mut scratch, 1024)?.next().expect("one record")?;
/// assert_eq!(record.value, Some(&b"hello"[..]));
/// assert_eq!(record.headers.len(), 2);
/// # Ok::<(), flafka_kafka_wire::records::BatchError>(())
/// ```
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    buffer: Vec<u8>,
    compression: Compression,
    attributes: i16,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    offset_span: i32,
}

impl BatchBuilder {
    /// An empty batch whose records will be compressed with `compression`.
    pub fn new(compression: Compression) -> BatchBuilder {
        BatchBuilder {
            buffer: Vec::new(),
            compression,
            attributes: 0,
            count: 0,
            base_timestamp: -1,
            max_timestamp: -1,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            offset_span: 0,
        }
    }

    /// Makes room for `additional_bytes` of records, so that pushing them does not move the buffer.
    pub fn reserve(&mut self, additional_bytes: usize) {
        let header = if self.buffer.is_empty() {
            HEADER_LEN
        } else {
            0
        };
        self.buffer.reserve(additional_bytes.saturating_add(header));
    }

    /// Stamps the batch with an idempotent producer's id, epoch and first sequence (KIP-98).
    pub fn set_producer(&mut self, producer_id: i64, producer_epoch: i16, base_sequence: i32) {
        self.producer_id = producer_id;
        self.producer_epoch = producer_epoch;
        self.base_sequence = base_sequence;
    }

    /// Marks the batch as part of a transaction, and as a transaction marker if `control`.
    pub fn set_transactional(&mut self, transactional: bool, control: bool) {
        self.attributes &= !(Attributes::TRANSACTIONAL | Attributes::CONTROL);
        if transactional {
            self.attributes |= Attributes::TRANSACTIONAL;
        }
        if control {
            self.attributes |= Attributes::CONTROL;
        }
    }

    /// Makes the next batch cover `offsets` offsets though it holds fewer records, as compaction may leave one. A number
    /// smaller than that of the records has no effect.
    pub fn set_offset_span(&mut self, offsets: usize) {
        self.offset_span = i32::try_from(offsets).unwrap_or(i32::MAX);
    }

    /// Adds a record. `timestamp` is in milliseconds since 1970.
    ///
    /// # Errors
    /// [`BatchError::TooLarge`] if the batch would pass 2^31-1 bytes; the batch is then as before.
    #[inline]
    pub fn push<'h>(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'h [u8], Option<&'h [u8]>)> + Clone,
    ) -> Result<(), BatchError> {
        let length = value.map(<[u8]>::len);
        let size = HeadersSize::of(headers.clone());
        self.push_with(timestamp, key, length, size, |buffer, count| {
            buffer.extend_from_slice(value.unwrap_or_default());
            push_headers(buffer, count, headers);
        })
    }

    /// As [`BatchBuilder::push`], with `count` headers that are encoded already, one behind the other, as
    /// [`HeadersView::encoded`](super::HeadersView::encoded) gives them. The caller answers for their form.
    ///
    /// # Errors
    /// As [`BatchBuilder::push`].
    #[inline]
    pub fn push_encoded(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        count: u32,
        headers: &[u8],
    ) -> Result<(), BatchError> {
        let length = value.map(<[u8]>::len);
        let size = HeadersSize {
            count: i32::try_from(count).unwrap_or(i32::MAX),
            bytes: headers.len(),
        };
        self.push_with(timestamp, key, length, size, |buffer, count| {
            buffer.extend_from_slice(value.unwrap_or_default());
            varint::push_i32(buffer, count);
            buffer.extend_from_slice(headers);
        })
    }

    /// As [`BatchBuilder::push`], with the value given in pieces that are written one after another.
    ///
    /// # Errors
    /// As [`BatchBuilder::push`].
    #[inline]
    pub fn push_parts<'h>(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: &[&[u8]],
        headers: impl Iterator<Item = (&'h [u8], Option<&'h [u8]>)> + Clone,
    ) -> Result<(), BatchError> {
        let length = value
            .iter()
            .fold(0usize, |sum, part| sum.saturating_add(part.len()));
        let size = HeadersSize::of(headers.clone());
        self.push_with(timestamp, key, Some(length), size, |buffer, count| {
            for part in value {
                buffer.extend_from_slice(part);
            }
            push_headers(buffer, count, headers);
        })
    }

    #[inline]
    fn push_with(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value_len: Option<usize>,
        headers: HeadersSize,
        write_value_and_headers: impl FnOnce(&mut Vec<u8>, i32),
    ) -> Result<(), BatchError> {
        if self.buffer.is_empty() {
            self.buffer.resize(HEADER_LEN, 0);
        }
        let base_timestamp = if self.count == 0 {
            timestamp
        } else {
            self.base_timestamp
        };
        let timestamp_delta = timestamp.wrapping_sub(base_timestamp);

        let length = headers
            .bytes
            .saturating_add(nullable_len(key.map(<[u8]>::len)))
            .saturating_add(nullable_len(value_len))
            .saturating_add(1 + varint::len_i32(headers.count))
            .saturating_add(varint::len_i64(timestamp_delta) + varint::len_i32(self.count));
        let batch_bytes = self.buffer.len();
        // Within this bound every length and the record count fit an i32.
        if batch_bytes
            .saturating_add(length)
            .saturating_add(varint::MAX_32)
            > MAX_BATCH_LEN
        {
            return Err(BatchError::TooLarge {
                record_bytes: length,
                batch_bytes,
            });
        }
        self.buffer.reserve(length + varint::MAX_32);

        let mut prefix = [0u8; PREFIX_MAX];
        let mut end = 0;
        varint::write_i32(&mut prefix, &mut end, length as i32);
        end += 1; // attributes, 0
        varint::write_i64(&mut prefix, &mut end, timestamp_delta);
        varint::write_i32(&mut prefix, &mut end, self.count);
        varint::write_i32(
            &mut prefix,
            &mut end,
            key.map_or(-1, |key| key.len() as i32),
        );
        self.buffer.extend_from_slice(&prefix[..end]);
        if let Some(key) = key {
            self.buffer.extend_from_slice(key);
        }
        varint::push_i32(
            &mut self.buffer,
            value_len.map_or(-1, |length| length as i32),
        );
        write_value_and_headers(&mut self.buffer, headers.count);

        self.max_timestamp = if self.count == 0 {
            timestamp
        } else {
            self.max_timestamp.max(timestamp)
        };
        self.base_timestamp = base_timestamp;
        self.count += 1;
        Ok(())
    }

    /// Bytes of the batch so far, uncompressed, header included.
    pub fn len_bytes(&self) -> usize {
        self.buffer.len().max(HEADER_LEN)
    }

    /// Records so far.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Whether no record was pushed since the start or the last finish.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The finished batch with its CRC; the builder is empty again.
    ///
    /// # Errors
    /// [`BatchError::Empty`] without records; [`BatchError::Compress`] or [`BatchError::TooLarge`] from the codec, the
    /// records are then lost.
    pub fn finish(&mut self) -> Result<Bytes, BatchError> {
        if self.count == 0 {
            return Err(BatchError::Empty);
        }
        let records = std::mem::take(&mut self.buffer);
        let count = std::mem::take(&mut self.count);
        let span = std::mem::take(&mut self.offset_span).max(count);
        let mut batch = match self.compression {
            Compression::None => records,
            codec => {
                let raw = &records[HEADER_LEN..];
                let mut batch = Vec::with_capacity(HEADER_LEN + raw.len() / 2);
                batch.resize(HEADER_LEN, 0);
                codec::compress(codec, raw, &mut batch)?;
                if batch.len() > MAX_BATCH_LEN {
                    return Err(BatchError::TooLarge {
                        record_bytes: raw.len(),
                        batch_bytes: batch.len(),
                    });
                }
                batch
            }
        };
        let header = BatchHeader {
            base_offset: 0,
            batch_length: (batch.len() - 12) as i32,
            partition_leader_epoch: -1,
            magic: 2,
            crc: 0,
            attributes: Attributes(self.attributes | self.compression.id()),
            last_offset_delta: span - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            record_count: count,
        };
        if let Some(out) = batch.first_chunk_mut::<HEADER_LEN>() {
            header.write(out);
        }
        header::patch_crc(&mut batch);
        Ok(Bytes::from(batch))
    }
}

/// How many headers a record has, and the bytes they take without their count.
#[derive(Clone, Copy)]
struct HeadersSize {
    count: i32,
    bytes: usize,
}

impl HeadersSize {
    #[inline]
    fn of<'h>(headers: impl Iterator<Item = (&'h [u8], Option<&'h [u8]>)>) -> Self {
        let mut size = HeadersSize { count: 0, bytes: 0 };
        for (name, value) in headers {
            size.count = size.count.saturating_add(1);
            size.bytes = size
                .bytes
                .saturating_add(nullable_len(Some(name.len())))
                .saturating_add(nullable_len(value.map(<[u8]>::len)));
        }
        size
    }
}

/// Writes headers with their count; every length fits, the caller has checked the sum.
#[inline]
fn push_headers<'h>(
    buffer: &mut Vec<u8>,
    count: i32,
    headers: impl Iterator<Item = (&'h [u8], Option<&'h [u8]>)>,
) {
    varint::push_i32(buffer, count);
    for (name, value) in headers {
        varint::push_i32(buffer, name.len() as i32);
        buffer.extend_from_slice(name);
        varint::push_i32(buffer, value.map_or(-1, |value| value.len() as i32));
        buffer.extend_from_slice(value.unwrap_or_default());
    }
}

/// Bytes of a length field and its content; saturating, the caller bounds the sum.
#[inline]
fn nullable_len(length: Option<usize>) -> usize {
    match length {
        None => 1,
        Some(length) => match i32::try_from(length) {
            Ok(short) => varint::len_i32(short) + length,
            Err(_) => usize::MAX,
        },
    }
}
