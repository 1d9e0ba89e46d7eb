//! Events to record batches and back: body is the value, headers are record headers, no key.

use bytes::{Bytes, BytesMut};
use flafka_flow::{Batch, BatchBuilder as EventsBuilder, Headers, HeadersBuilder};
use flafka_kafka_wire::records::{self, BatchBuilder, BatchError, Compression, HeadersView};

/// A record batch is closed when it is larger than this, so that reading one back takes bounded
/// memory whatever the size of the transaction.
const TARGET_BATCH_BYTES: usize = 8 << 20;
/// Room for a record's lengths and deltas.
const RECORD_OVERHEAD: usize = 24;

/// Encodes a put transaction; offsets are given by the log.
///
/// # Errors
/// When an event is larger than a record batch can be (2 GiB).
pub(super) fn encode(batch: &Batch, now_ms: i64) -> Result<Bytes, BatchError> {
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
    let last = builder.finish()?;
    if finished.is_empty() {
        return Ok(last);
    }
    finished.push(last);
    let mut joined = BytesMut::with_capacity(finished.iter().map(Bytes::len).sum());
    for part in finished {
        joined.extend_from_slice(&part);
    }
    Ok(joined.freeze())
}

/// Decodes the records with offsets `first..=last` from whole record batches. The events share
/// `bytes`. Returns the offset behind the last event, which is `first` when there was none.
///
/// # Errors
/// When a batch is damaged.
pub(super) fn decode(bytes: Bytes, first: i64, last: i64) -> Result<(Batch, i64), BatchError> {
    let mut events = EventsBuilder::new();
    let mut next = first;
    let mut at = 0;
    while let Some(header) = next_header(&bytes[at..])? {
        let whole = bytes.slice(at..at + header.total_len());
        at += header.total_len();
        records::validate(&whole)?;
        let mut scratch = Vec::new();
        let buffer = events.buffer(whole.clone());
        let mut before = None;
        // Ours are not compressed, and events point into `whole`: a batch that is compressed is refused.
        for record in records::records(&header, &whole, &mut scratch, 0)? {
            let record = record?;
            if record.offset < first {
                continue;
            }
            if record.offset > last {
                return Ok((events.finish(), next));
            }
            let encoded = record.headers.encoded();
            let set = match before {
                Some((same, set)) if same == encoded => set,
                _ => events.headers(headers(&whole, record.headers)),
            };
            before = Some((encoded, set));
            events.push(set, buffer, record.value_range);
            next = record.offset + 1;
        }
    }
    Ok((events.finish(), next))
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
        let encoded = encode(&batch.slice(1..12), 1).expect("fits");
        let (decoded, next) = decode(encoded, 0, 10).expect("valid");
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
        assert!(decode(bytes, 0, 0).is_err());
    }

    #[test]
    fn large_transactions_become_several_batches_and_come_back_whole() {
        let events = (0..5).map(|n| Event {
            headers: Headers::single("n", &n.to_string()),
            body: vec![b'0' + n; 3 << 20].into(),
        });
        let batch = Batch::from_events(events.chain([Event::new("")]));
        let encoded = encode(&batch, 1).expect("fits");
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
        let (all, next) = decode(stored.clone(), 40, 45).expect("valid");
        assert_eq!((all, next), (batch.clone(), 46));
        let (middle, next) = decode(stored.clone(), 42, 43).expect("valid");
        assert_eq!((middle, next), (batch.slice(2..4), 44));
        let (cut, next) =
            decode(stored.slice(0..stored.len() - 1), 40, 45).expect("a cut tail is not looked at");
        assert!(next < 46 && cut.len() as i64 == next - 40);
    }
}
