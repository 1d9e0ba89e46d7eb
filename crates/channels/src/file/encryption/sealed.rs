//! One sealed batch, byte by byte.
//!
//! Constraints: it must be a record batch v2 that Kafka's tools read; it must cover one offset for each of its events,
//! so that acks stay per event; it must say under which key it is; a batch in the clear must never look like one.
//!
//! ```text
//! record batch v2, no compression, last offset delta = events - 1, one record:
//!   key    "FLAFSEAL" | version u8 = 1 | data key number u32 | counter u64          (batches in the clear have no keys)
//!   value  AES-256-GCM of the batch as it would be in the clear, base offset 0 | tag 16
//!   nonce  0u32 | counter u64
//!   AAD    "flafka file channel" 0 | the record's key | events u32 | base timestamp i64 | stream u32 | log's cluster id
//! ```
//! All numbers are big-endian. The offset is not bound: the log gives it after the sealing.

use aws_lc_rs::aead::{Aad, LessSafeKey, NONCE_LEN, Nonce};
use bytes::{Bytes, BytesMut};
use flafka_kafka_wire::records::{BatchBuilder, BatchError, BatchHeader, Compression, records};
use flafka_log_store::StreamId;

use super::EncryptionError;

const MARKER: [u8; 8] = *b"FLAFSEAL";
const VERSION: u8 = 1;
const KEY_LEN: usize = MARKER.len() + 1 + 4 + 8;
const TAG_LEN: usize = 16;
const DOMAIN: &[u8] = b"flafka file channel\0";
/// Outer header, record fields and varints.
const OVERHEAD: usize = 128;

/// Whose batches they are: part of what is authenticated.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) cluster_id: String,
    pub(super) stream: StreamId,
}

impl Place {
    fn aad(&self, key: &[u8; KEY_LEN], events: i32, timestamp: i64) -> Vec<u8> {
        let mut aad = Vec::with_capacity(DOMAIN.len() + KEY_LEN + 16 + self.cluster_id.len());
        aad.extend_from_slice(DOMAIN);
        aad.extend_from_slice(key);
        aad.extend_from_slice(&events.to_be_bytes());
        aad.extend_from_slice(&timestamp.to_be_bytes());
        aad.extend_from_slice(&self.stream.0.to_be_bytes());
        aad.extend_from_slice(self.cluster_id.as_bytes());
        aad
    }
}

/// Which data key a batch is under, and its counter.
#[derive(Debug, Clone, Copy)]
pub(super) struct SealedUnder {
    pub(super) number: u32,
    counter: u64,
}

impl SealedUnder {
    pub(super) fn new(number: u32, counter: u64) -> Self {
        Self { number, counter }
    }

    fn encode(self) -> [u8; KEY_LEN] {
        let mut key = [0; KEY_LEN];
        key[..8].copy_from_slice(&MARKER);
        key[8] = VERSION;
        key[9..13].copy_from_slice(&self.number.to_be_bytes());
        key[13..].copy_from_slice(&self.counter.to_be_bytes());
        key
    }

    fn nonce(self) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[4..].copy_from_slice(&self.counter.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Seals one batch that the channel has encoded.
pub(super) fn seal(
    plain: Bytes,
    data_key: &LessSafeKey,
    under: SealedUnder,
    place: &Place,
) -> Result<Bytes, EncryptionError> {
    let refused = |_: BatchError| EncryptionError::CipherRefused;
    let header = BatchHeader::parse(&plain).map_err(refused)?;
    let (events, timestamp) = (header.record_count, header.base_timestamp);
    let key = under.encode();
    let mut text = BytesMut::from(plain);
    let aad = Aad::from(place.aad(&key, events, timestamp));
    let tag = data_key
        .seal_in_place_separate_tag(under.nonce(), aad, &mut text)
        .map_err(|_| EncryptionError::CipherRefused)?;
    let mut builder = BatchBuilder::new(Compression::None);
    builder.reserve(text.len() + OVERHEAD);
    builder.set_offset_span(events.max(0) as usize);
    let value = [&text[..], tag.as_ref()];
    builder
        .push_parts(timestamp, Some(&key), &value, std::iter::empty())
        .map_err(refused)?;
    builder.finish().map_err(refused)
}

/// Whether a batch is a sealed one: its first record has a key.
pub(in crate::file) fn is_sealed(header: &BatchHeader, whole: &[u8]) -> Result<bool, BatchError> {
    let mut scratch = Vec::new();
    let first = records(header, whole, &mut scratch, 0)?
        .next()
        .transpose()?;
    Ok(first.is_some_and(|record| record.key.is_some()))
}

/// A sealed batch, taken apart.
pub(super) struct SealedBatch<'b> {
    pub(super) under: SealedUnder,
    header: BatchHeader,
    value: &'b [u8],
}

impl<'b> SealedBatch<'b> {
    /// Takes apart a batch for which [`is_sealed`] is true.
    pub(super) fn parse(header: &BatchHeader, whole: &'b [u8]) -> Result<Self, EncryptionError> {
        let changed = |what| EncryptionError::Changed {
            offset: header.base_offset,
            what,
        };
        let mut scratch = Vec::new();
        let record = records(header, whole, &mut scratch, 0)
            .ok()
            .and_then(|mut records| records.next()?.ok())
            .ok_or_else(|| changed("record"))?;
        let key = record.key.and_then(|key| key.first_chunk::<KEY_LEN>());
        let key = key.ok_or_else(|| changed("marker"))?;
        let number = u32::from_be_bytes([key[9], key[10], key[11], key[12]]);
        let counter = key[13..]
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let under = SealedUnder { number, counter };
        if record.key != Some(&under.encode()) || header.record_count != 1 {
            return Err(changed("marker"));
        }
        Ok(Self {
            under,
            header: *header,
            value: &whole[record.value_range],
        })
    }

    /// The batch in the clear, with base offset 0.
    pub(super) fn open(
        &self,
        data_key: &LessSafeKey,
        place: &Place,
    ) -> Result<Bytes, EncryptionError> {
        let changed = |what| EncryptionError::Changed {
            offset: self.header.base_offset,
            what,
        };
        let Some((text, tag)) = self.value.split_last_chunk::<TAG_LEN>() else {
            return Err(changed("length"));
        };
        let events = self.header.last_offset_delta.saturating_add(1);
        let aad = place.aad(&self.under.encode(), events, self.header.base_timestamp);
        let mut plain = vec![0; text.len()];
        data_key
            .open_separate_gather(self.under.nonce(), Aad::from(aad), text, tag, &mut plain)
            .map_err(|_| changed("authentication"))?;
        let inner = BatchHeader::parse(&plain).map_err(|_| changed("contents"))?;
        if inner.record_count != events || inner.total_len() != plain.len() {
            return Err(changed("contents"));
        }
        Ok(Bytes::from(plain))
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::aead::{AES_256_GCM, UnboundKey};
    use flafka_kafka_wire::records::{patch_offset_and_epoch, verify};

    use super::*;

    fn key(byte: u8) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[byte; 32]).expect("32 bytes"))
    }

    fn place(cluster_id: &str, stream: u32) -> Place {
        Place {
            cluster_id: cluster_id.to_owned(),
            stream: StreamId(stream),
        }
    }

    fn sealed(key_value: Option<&[u8]>) -> Bytes {
        let mut builder = BatchBuilder::new(Compression::None);
        for value in [&b"one"[..], b"two", b"three"] {
            builder
                .push(7, key_value, Some(value), std::iter::empty())
                .expect("fits");
        }
        let plain = builder.finish().expect("three records");
        seal(plain, &key(1), SealedUnder::new(5, 9), &place("a", 1)).expect("sealed")
    }

    fn open(batch: &[u8], key_byte: u8, place: &Place) -> Result<Bytes, EncryptionError> {
        let header = BatchHeader::parse(batch).expect("header");
        SealedBatch::parse(&header, batch)?.open(&key(key_byte), place)
    }

    #[test]
    fn a_batch_opens_at_any_offset_with_its_key_in_its_channel_only() {
        let mut batch = sealed(None).to_vec();
        patch_offset_and_epoch(&mut batch, 1000, 3);
        let header = verify(&batch).expect("valid");
        assert_eq!((header.record_count, header.last_offset()), (1, 1002));
        assert!(is_sealed(&header, &batch).expect("readable"));
        let plain = open(&batch, 1, &place("a", 1)).expect("opens");
        let inner = BatchHeader::parse(&plain).expect("header");
        assert_eq!((inner.record_count, inner.base_offset), (3, 0));
        for (key_byte, place) in [(2, place("a", 1)), (1, place("b", 1)), (1, place("a", 2))] {
            let error = open(&batch, key_byte, &place).expect_err("another");
            assert!(error.to_string().contains("1000"), "{error}");
        }
    }

    #[test]
    fn every_changed_byte_behind_the_logs_own_fields_is_noticed() {
        let good = sealed(None);
        let header = BatchHeader::parse(&good).expect("header");
        for at in 61..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 1;
            let opened = SealedBatch::parse(&header, &bad)
                .and_then(|batch| batch.open(&key(1), &place("a", 1)));
            // The record's own framing is not authenticated: it either does not parse or changes nothing.
            if let Ok(plain) = opened {
                assert_eq!(
                    plain,
                    open(&good, 1, &place("a", 1)).expect("good"),
                    "byte {at}"
                );
            }
        }
        let more_events = BatchHeader {
            last_offset_delta: 3,
            ..header
        };
        let batch = SealedBatch::parse(&more_events, &good).expect("parses");
        assert!(batch.open(&key(1), &place("a", 1)).is_err());
    }
}
