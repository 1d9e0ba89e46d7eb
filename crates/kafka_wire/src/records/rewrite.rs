//! Taking records out of a batch: what compaction does.
//!
//! The batch keeps its base offset, last offset delta, leader epoch, producer and codec; the records that stay keep
//! their bytes, offsets, times and headers, so that a consumer sees gaps and nothing else. A batch may end up without
//! any record: it then only says which sequence its producer has reached.
//!
//! With a delete horizon (KIP-534) the base timestamp becomes the time from which the batch's tombstones may go, and the
//! records' timestamp deltas are written anew against it.
//!
//! Invariant: what is written, [`verify`](super::verify) accepts.

use super::header::{self, Attributes, BatchHeader, HEADER_LEN};
use super::{BatchError, RecordIter, TimestampType, codec, varint};

/// Appends to `out` the batch of `header` with those of its `records` for which `keep` says true, by their place. The
/// iterator must stand at its start; `delete_horizon_ms` counts only if the batch has none yet.
///
/// # Errors
/// A malformed record, or what the codec says. `out` may then hold a part of the batch.
pub fn rewrite(
    header: &BatchHeader,
    mut records: RecordIter<'_>,
    keep: &[bool],
    delete_horizon_ms: Option<i64>,
    out: &mut Vec<u8>,
) -> Result<(), BatchError> {
    let horizon = delete_horizon_ms.filter(|_| !header.attributes.has_delete_horizon());
    let base_timestamp = horizon.unwrap_or(header.base_timestamp);
    let shift = header.base_timestamp.wrapping_sub(base_timestamp);
    let source = records.source();
    let mut raw = Vec::with_capacity(source.len());
    let mut count = 0;
    let mut newest = i64::MIN;
    for place in 0.. {
        let start = records.position();
        let Some(record) = records.next() else { break };
        let record = record?;
        if !keep.get(place).copied().unwrap_or(false) {
            continue;
        }
        let bytes = &source[start..records.position()];
        if shift == 0 {
            raw.extend_from_slice(bytes);
        } else {
            push_shifted(&mut raw, bytes, shift).ok_or(BatchError::BadRecord {
                index: count,
                position: start,
                what: "timestamp delta",
            })?;
        }
        newest = newest.max(record.timestamp);
        count += 1;
    }
    if count == 0 {
        append_empty(header, out);
        return Ok(());
    }
    let mut attributes = header.attributes;
    if horizon.is_some() {
        attributes.0 |= Attributes::DELETE_HORIZON;
    }
    let max_timestamp = match header.attributes.timestamp_type() {
        TimestampType::CreateTime => newest,
        TimestampType::LogAppendTime => header.max_timestamp,
    };
    let start = out.len();
    out.resize(start + HEADER_LEN, 0);
    codec::compress(attributes.compression()?, &raw, out)?;
    finish(
        BatchHeader {
            attributes,
            base_timestamp,
            max_timestamp,
            record_count: count,
            ..*header
        },
        &mut out[start..],
    );
    Ok(())
}

/// Appends to `out` the batch of `header` without any record: offsets and producer stay.
pub fn append_empty(header: &BatchHeader, out: &mut Vec<u8>) {
    let gone = Attributes::CODEC_MASK | Attributes::DELETE_HORIZON;
    let start = out.len();
    out.resize(start + HEADER_LEN, 0);
    finish(
        BatchHeader {
            attributes: Attributes(header.attributes.0 & !gone),
            base_timestamp: header.max_timestamp,
            record_count: 0,
            ..*header
        },
        &mut out[start..],
    );
}

fn finish(header: BatchHeader, batch: &mut [u8]) {
    let header = BatchHeader {
        // Not longer than the batch it was made of by more than the codec's and the deltas' slack.
        batch_length: i32::try_from(batch.len() - 12).unwrap_or(i32::MAX),
        ..header
    };
    if let Some(out) = batch.first_chunk_mut::<HEADER_LEN>() {
        header.write(out);
    }
    header::patch_crc(batch);
}

/// Copies a record, its length field included, with `shift` added to its timestamp delta.
fn push_shifted(raw: &mut Vec<u8>, record: &[u8], shift: i64) -> Option<()> {
    let mut position = 0;
    varint::read_i32(record, &mut position)?;
    let attributes = *record.get(position)?;
    position += 1;
    let delta = varint::read_i64(record, &mut position)?.wrapping_add(shift);
    let rest = record.get(position..)?;
    let length = i32::try_from(1 + varint::len_i64(delta) + rest.len()).ok()?;
    varint::push_i32(raw, length);
    raw.push(attributes);
    let mut field = [0; varint::MAX_64];
    let mut end = 0;
    varint::write_i64(&mut field, &mut end, delta);
    raw.extend_from_slice(&field[..end]);
    raw.extend_from_slice(rest);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::{BatchBuilder, Compression, patch_offset_and_epoch, records, verify};
    use super::*;

    type Plain = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, usize);

    fn batch(codec: Compression) -> Vec<u8> {
        let mut builder = BatchBuilder::new(codec);
        builder.set_producer(9, 2, 40);
        for n in 0..20i64 {
            let key = format!("key {}", n % 5);
            let value = (n % 7 != 0).then(|| format!("value {n}"));
            let value = value.as_deref().map(str::as_bytes);
            let headers = [(&b"h"[..], Some(&b"x"[..])), (&b"h"[..], None)];
            builder
                .push(
                    1_700_000_000_000 - n * 1000,
                    Some(key.as_bytes()),
                    value,
                    headers.into_iter(),
                )
                .unwrap();
        }
        let mut bytes = builder.finish().unwrap().to_vec();
        patch_offset_and_epoch(&mut bytes, 1000, 3);
        bytes
    }

    fn plain(batch: &[u8]) -> Vec<Plain> {
        let header = verify(batch).unwrap();
        let mut scratch = Vec::new();
        records(&header, batch, &mut scratch, 1 << 20)
            .unwrap()
            .map(|record| {
                let record = record.unwrap();
                (
                    record.offset,
                    record.timestamp,
                    record.key.map(<[u8]>::to_vec),
                    record.value.map(<[u8]>::to_vec),
                    record.headers.len(),
                )
            })
            .collect()
    }

    fn rewritten(batch: &[u8], keep: &[bool], horizon: Option<i64>) -> Vec<u8> {
        let header = verify(batch).unwrap();
        let mut scratch = Vec::new();
        let mut out = b"before".to_vec();
        let iter = records(&header, batch, &mut scratch, 1 << 20).unwrap();
        rewrite(&header, iter, keep, horizon, &mut out).unwrap();
        out.split_off(6)
    }

    #[test]
    fn what_stays_is_unchanged_in_every_codec() {
        for codec in Compression::ALL {
            let whole = batch(codec);
            let keep: Vec<bool> = (0..20).map(|n| n % 3 == 1).collect();
            for horizon in [None, Some(1_800_000_000_000), Some(5)] {
                let less = rewritten(&whole, &keep, horizon);
                let expected: Vec<Plain> = plain(&whole)
                    .into_iter()
                    .zip(&keep)
                    .filter_map(|(record, keep)| keep.then_some(record))
                    .collect();
                assert_eq!(plain(&less), expected, "{codec}, {horizon:?}");
                let (before, after) = (verify(&whole).unwrap(), verify(&less).unwrap());
                assert_eq!(after.last_offset(), before.last_offset());
                assert_eq!(after.last_sequence(), before.last_sequence());
                assert_eq!(after.partition_leader_epoch, 3);
                assert_eq!(after.attributes.compression().unwrap(), codec);
                assert_eq!(after.attributes.has_delete_horizon(), horizon.is_some());
                assert_eq!(
                    after.max_timestamp,
                    expected.iter().map(|one| one.1).max().unwrap()
                );
                if let Some(horizon) = horizon {
                    assert_eq!(after.base_timestamp, horizon);
                    // A second horizon changes nothing.
                    let again = rewritten(&less, &vec![true; expected.len()], Some(77));
                    assert_eq!(plain(&again), expected);
                    assert_eq!(verify(&again).unwrap().base_timestamp, horizon);
                }
            }
        }
    }

    #[test]
    fn an_emptied_batch_keeps_offsets_and_producer() {
        let whole = batch(Compression::Zstd);
        let empty = rewritten(&whole, &[], None);
        assert_eq!(empty.len(), HEADER_LEN);
        let (before, after) = (verify(&whole).unwrap(), verify(&empty).unwrap());
        assert_eq!((after.record_count, after.base_offset), (0, 1000));
        assert_eq!(after.last_offset(), before.last_offset());
        assert_eq!(after.last_sequence(), before.last_sequence());
        assert_eq!((after.producer_id, after.producer_epoch), (9, 2));
        assert_eq!(plain(&empty), []);
    }
}
