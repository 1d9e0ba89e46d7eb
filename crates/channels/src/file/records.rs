//! Events to record batches and back: body is the value, headers are record headers, no key. A batch whose record has a
//! key is a sealed one ([`super::encryption`]) and is opened first.

use bytes::{Bytes, BytesMut};
use flafka_flow::{Batch, BatchBuilder as EventsBuilder, Headers, HeadersBuilder};
use flafka_kafka_wire::records::{self, BatchBuilder, BatchError, Compression, HeadersView};
use thiserror::Error;

use super::encryption::{DataKeys, EncryptionError, is_sealed};

/// A record batch is closed when it is larger than this, so that reading one back takes bounded
/// memory whatever the size of the transaction.
const TARGET_BATCH_BYTES: usize = 8 << 20;
/// Puts of one millisecond that are told apart in memory.
const ORDER_BITS: u32 = 20;
/// Room for a record's lengths and deltas.
const RECORD_OVERHEAD: usize = 24;

/// Why stored events cannot be read.
#[derive(Debug, Error)]
pub(super) enum DecodeError {
    /// A batch is not as it should be.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A sealed batch cannot be opened.
    #[error(transparent)]
    Encryption(#[from] EncryptionError),
}

/// Encodes a put transaction as one or more batches; offsets are given by the log.
///
/// # Errors
/// When an event is larger than a record batch can be (2 GiB).
pub(super) fn encode(batch: &Batch, now_ms: i64) -> Result<Vec<Bytes>, BatchError> {
    let total = usize::try_from(batch.total_bytes()).unwrap_or(usize::MAX);
    let mut builder = BatchBuilder::new(Compression::None);
    builder.reserve(
        total
            .min(TARGET_BATCH_BYTES)
            .saturating_add(batch.len() * RECORD_OVERHEAD),
    );
    let mut finished: Vec<Bytes> = Vec::new();
    // Headers are stored as they are kept; their number is found out once for each run of a set.
    let (mut known, mut header_count) = (None, 0);
    for (index, event) in batch.iter().enumerate() {
        if !builder.is_empty() && builder.len_bytes() + event.body.len() > TARGET_BATCH_BYTES {
            finished.push(builder.finish()?);
        }
        let set = batch.header_set(index);
        if known != Some(set) {
            header_count = u32::try_from(event.headers.len()).unwrap_or(u32::MAX);
            known = Some(set);
        }
        let headers = event.headers.encoded();
        builder.push_encoded(now_ms, None, Some(event.body), header_count, headers)?;
    }
    finished.push(builder.finish()?);
    Ok(finished)
}

/// The batches one behind the other.
pub(super) fn join(mut batches: Vec<Bytes>) -> Bytes {
    if batches.len() == 1 {
        return batches.swap_remove(0);
    }
    let mut joined = BytesMut::with_capacity(batches.iter().map(Bytes::len).sum());
    for part in batches {
        joined.extend_from_slice(&part);
    }
    joined.freeze()
}

/// What was read back.
#[derive(Debug)]
pub(super) struct Decoded {
    /// The events, one for each offset.
    pub(super) events: Batch,
    /// The offset behind the last event.
    pub(super) next: i64,
    /// Where each stored batch begins, and when it was put (see [`order_of`]).
    pub(super) starts: Vec<(i64, u64)>,
}

/// The place in the order of puts over several directories: milliseconds since 1970, and room for a count in each.
pub(super) fn order_of(now_ms: i64) -> u64 {
    now_ms.max(0).unsigned_abs() << ORDER_BITS
}

/// Decodes the records with offsets `first..=last` from whole record batches. The events share
/// `bytes`. The offset behind the last event is `first` when there was none.
///
/// # Errors
/// When a batch is damaged or cannot be opened.
pub(super) fn decode(
    bytes: Bytes,
    first: i64,
    last: i64,
    keys: &DataKeys,
) -> Result<Decoded, DecodeError> {
    let mut events = EventsBuilder::new();
    let mut starts = Vec::new();
    let mut next = first;
    let mut at = 0;
    while let Some(header) = next_header(&bytes[at..])? {
        let whole = bytes.slice(at..at + header.total_len());
        at += header.total_len();
        records::verify(&whole)?;
        if header.last_offset() < first {
            continue;
        }
        let base = header.base_offset;
        let next_there = match is_sealed(&header, &whole)? {
            false => decode_batch(&mut events, &whole, 0, first, last)?,
            true => match keys.open_batch(&header, &whole) {
                Ok(plain) => decode_batch(&mut events, &plain, base, first, last)?,
                // What lies before it is delivered first.
                Err(_) if next > first => break,
                Err(error) => return Err(error.into()),
            },
        };
        if let Some(there) = next_there {
            starts.push((base, order_of(header.base_timestamp)));
            next = there;
        }
        if next > last {
            break;
        }
    }
    Ok(Decoded {
        events: events.finish(),
        next,
        starts,
    })
}

/// Decodes the wanted records of one batch in the clear, whose offsets count from `base`. Returns the offset behind the
/// last one.
fn decode_batch(
    events: &mut EventsBuilder,
    whole: &Bytes,
    base: i64,
    first: i64,
    last: i64,
) -> Result<Option<i64>, BatchError> {
    let header = records::BatchHeader::parse(whole)?;
    header.check_one_record_per_offset()?;
    let mut scratch = Vec::new();
    let buffer = events.buffer(whole.clone());
    let (mut before, mut next) = (None, None);
    // Ours are not compressed, and events point into `whole`: a batch that is compressed is refused.
    for record in records::records(&header, whole, &mut scratch, 0)? {
        let record = record?;
        let offset = base.saturating_add(record.offset);
        if offset < first {
            continue;
        }
        if offset > last {
            break;
        }
        let encoded = record.headers.encoded();
        let set = match before {
            Some((same, set)) if same == encoded => set,
            _ => events.headers(headers(whole, record.headers)),
        };
        before = Some((encoded, set));
        events.push(set, buffer, record.value_range);
        next = Some(offset + 1);
    }
    Ok(next)
}

fn next_header(bytes: &[u8]) -> Result<Option<records::BatchHeader>, BatchError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let header = records::BatchHeader::parse(bytes)?;
    Ok((header.total_len() <= bytes.len()).then_some(header))
}

/// Headers of a record of `whole`, sharing its bytes. Text that is not UTF-8 was not written by us and is repaired.
fn headers(whole: &Bytes, view: HeadersView<'_>) -> Headers {
    if view.is_empty() {
        return Headers::new();
    }
    if let Ok(headers) = Headers::from_encoded(whole.slice_ref(view.encoded())) {
        return headers;
    }
    let mut builder = HeadersBuilder::default();
    for (name, value) in view {
        let value = String::from_utf8_lossy(value.unwrap_or_default());
        builder.set(&String::from_utf8_lossy(name), &value);
    }
    builder.finish()
}

#[cfg(test)]
mod tests {
    use flafka_flow::{Event, Headers};

    use super::*;

    fn decode_plain(bytes: Bytes, first: i64, last: i64) -> Result<(Batch, i64), DecodeError> {
        let decoded = decode(bytes, first, last, &DataKeys::none())?;
        Ok((decoded.events, decoded.next))
    }

    #[test]
    fn headers_come_back_whether_repeated_or_not() {
        let headers = |n: usize| match n % 4 {
            0 | 1 => [("host", "h"), ("file", "/var/log/ä")]
                .into_iter()
                .collect(),
            2 => Headers::new(),
            _ => Headers::single("n", &n.to_string()),
        };
        let events = (0..12).map(|n| Event {
            headers: headers(n),
            body: n.to_string().into(),
        });
        let batch = Batch::from_events(events);
        let encoded = join(encode(&batch.slice(1..12), 1).expect("fits"));
        let (decoded, next) = decode_plain(encoded, 0, 10).expect("valid");
        assert_eq!((decoded, next), (batch.slice(1..12), 11));
    }

    #[test]
    fn a_compressed_batch_is_refused() {
        let mut builder = BatchBuilder::new(Compression::Lz4);
        let value = [b'x'; 100];
        builder
            .push(1, None, Some(&value), std::iter::empty())
            .expect("fits");
        let bytes = builder.finish().expect("one record");
        assert!(decode_plain(bytes, 0, 0).is_err());
    }

    #[test]
    fn large_transactions_become_several_batches_and_come_back_whole() {
        let events = (0..5).map(|n| Event {
            headers: Headers::single("n", &n.to_string()),
            body: vec![b'0' + n; 3 << 20].into(),
        });
        let batch = Batch::from_events(events.chain([Event::new("")]));
        let encoded = join(encode(&batch, 1).expect("fits"));
        assert!(records::batches(&encoded).count() > 1);
        // Offsets as the log would give them.
        let mut stored = BytesMut::from(&encoded[..]);
        let (mut at, mut offset) = (0, 40);
        while at < stored.len() {
            let header = records::BatchHeader::parse(&stored[at..]).expect("valid");
            records::patch_offset_and_epoch(&mut stored[at..], offset, 0);
            offset += i64::from(header.record_count);
            at += header.total_len();
        }
        let stored = stored.freeze();
        let (all, next) = decode_plain(stored.clone(), 40, 45).expect("valid");
        assert_eq!((all, next), (batch.clone(), 46));
        let (middle, next) = decode_plain(stored.clone(), 42, 43).expect("valid");
        assert_eq!((middle, next), (batch.slice(2..4), 44));
        let (cut, next) = decode_plain(stored.slice(0..stored.len() - 1), 40, 45)
            .expect("a cut tail is not looked at");
        assert!(next < 46 && cut.len() as i64 == next - 40);
    }
}
