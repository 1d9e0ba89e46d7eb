//! Round trips, hand-made vectors, another implementation as witness, and hostile bytes.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

type Header = (Vec<u8>, Option<Vec<u8>>);
type Record = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<Header>);

/// One record, key "k", value "hello", headers a=1, a=null; base offset 7, timestamp 1000, laid out by hand from the
/// drawing in the module. Only the CRC comes from the code under test, and that is checked against a known vector.
const VECTOR: &str = "\
    0000000000000007 00000049 00000003 02 00000000 0000 00000000 \
    00000000000003e8 00000000000003e8 ffffffffffffffff ffff ffffffff 00000001 \
    2e 00 00 00 02 6b 0a 68656c6c6f 04 02 61 02 31 02 61 01";

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// Sets the length field and the CRC so that only the fault under test is left.
fn seal(mut batch: Vec<u8>) -> Vec<u8> {
    let length = (batch.len() - 12) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    header::patch_crc(&mut batch);
    batch
}

fn vector() -> Vec<u8> {
    let mut bytes = from_hex(VECTOR);
    let record_len = bytes.len() - HEADER_LEN - 1;
    bytes[HEADER_LEN] = (record_len * 2) as u8;
    seal(bytes)
}

fn build(compression: Compression, records: &[Record]) -> Bytes {
    let mut builder = BatchBuilder::new(compression);
    for (timestamp, key, value, headers) in records {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.as_slice(), value.as_deref()));
        builder
            .push(*timestamp, key.as_deref(), value.as_deref(), headers)
            .unwrap();
    }
    builder.finish().unwrap()
}

fn read(batch: &[u8]) -> Result<Vec<Record>, BatchError> {
    let header = BatchHeader::parse(batch)?;
    let mut scratch = Vec::new();
    let mut iter = records(&header, batch, &mut scratch, 1 << 20)?;
    let mut out = Vec::new();
    let source = iter.source();
    for record in &mut iter {
        let record = record?;
        if let Some(value) = record.value {
            assert_eq!(&source[record.value_range.clone()], value);
        }
        assert_eq!(record.headers.clone().count(), record.headers.len());
        let headers = record
            .headers
            .map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec)));
        out.push((
            record.timestamp,
            record.key.map(<[u8]>::to_vec),
            record.value.map(<[u8]>::to_vec),
            headers.collect(),
        ));
    }
    assert!(iter.next().is_none());
    Ok(out)
}

fn some_records(count: usize) -> Vec<Record> {
    (0..count)
        .map(|index| {
            let value = format!("value {index} ").repeat(index % 9).into_bytes();
            (
                1_000 + index as i64,
                (index % 3 == 0).then(|| vec![index as u8]),
                Some(value),
                vec![],
            )
        })
        .collect()
}

#[test]
fn the_hand_made_batch_is_read_and_built_alike() {
    // The check value of CRC-32C for "123456789", behind 21 bytes that do not count.
    let mut check = vec![0; 21];
    check.extend_from_slice(b"123456789");
    assert_eq!(crc_of(&check), 0xe306_9283);

    let batch = vector();
    let header = validate(&batch).unwrap();
    assert_eq!((header.base_offset, header.partition_leader_epoch), (7, 3));
    assert_eq!(
        (
            header.base_timestamp,
            header.max_timestamp,
            header.last_offset()
        ),
        (1_000, 1_000, 7)
    );
    let headers = vec![(b"a".to_vec(), Some(b"1".to_vec())), (b"a".to_vec(), None)];
    let record: Record = (1_000, Some(b"k".to_vec()), Some(b"hello".to_vec()), headers);
    assert_eq!(read(&batch).unwrap(), vec![record.clone()]);

    let mut built = build(Compression::None, &[record]).to_vec();
    patch_offset_and_epoch(&mut built, 7, 3);
    assert_eq!(built, batch);
}

#[test]
fn encoded_headers_are_copied_as_they_are() {
    let batch = vector();
    let header = validate(&batch).unwrap();
    let mut scratch = Vec::new();
    let mut records = records(&header, &batch, &mut scratch, 0).unwrap();
    let record = records.next().unwrap().unwrap();
    let headers = record.headers;
    assert_eq!(headers.encoded(), from_hex("02 61 02 31 02 61 01"));
    let mut rest = headers.clone();
    rest.next();
    assert_eq!(rest.encoded(), from_hex("02 61 01"));

    let mut builder = BatchBuilder::new(Compression::None);
    let count = headers.len() as u32;
    builder
        .push_encoded(1_000, record.key, record.value, count, headers.encoded())
        .unwrap();
    let mut built = builder.finish().unwrap().to_vec();
    patch_offset_and_epoch(&mut built, 7, 3);
    assert_eq!(built, batch);
}

#[test]
fn another_implementation_reads_the_same_records() {
    let expected = some_records(50);
    let mut batch = build(Compression::None, &expected);
    let theirs = kafka_protocol::records::RecordBatchDecoder::decode(&mut batch).unwrap();
    assert_eq!(theirs.records.len(), expected.len());
    for (index, (record, (timestamp, key, value, _))) in
        theirs.records.iter().zip(&expected).enumerate()
    {
        assert_eq!(record.offset, index as i64);
        assert_eq!(record.timestamp, *timestamp);
        assert_eq!(record.key.as_deref(), key.as_deref());
        assert_eq!(record.value.as_deref(), value.as_deref());
    }
}

#[test]
fn patching_offset_and_epoch_leaves_the_crc_alone() {
    let mut batch = build(Compression::None, &some_records(3)).to_vec();
    let before = validate(&batch).unwrap();
    patch_offset_and_epoch(&mut batch, 1 << 40, 9);
    let after = validate(&batch).unwrap();
    assert_eq!(
        after,
        BatchHeader {
            base_offset: 1 << 40,
            partition_leader_epoch: 9,
            ..before
        }
    );
    assert_eq!(after.last_offset(), (1 << 40) + 2);
}

#[test]
fn log_append_time_replaces_every_timestamp() {
    let mut batch = build(Compression::Lz4, &some_records(3)).to_vec();
    patch_log_append_time(&mut batch, 77);
    let header = validate(&batch).unwrap();
    assert_eq!(
        header.attributes.timestamp_type(),
        TimestampType::LogAppendTime
    );
    assert_eq!(header.attributes.compression(), Ok(Compression::Lz4));
    assert!(read(&batch).unwrap().iter().all(|record| record.0 == 77));
}

#[test]
fn producer_fields_and_flags_are_written() {
    let mut builder = BatchBuilder::new(Compression::Zstd);
    builder.reserve(100);
    builder.set_producer(5, 2, i32::MAX);
    builder.set_transactional(true, false);
    assert!(builder.is_empty());
    for _ in 0..2 {
        builder
            .push_parts(1, None, &[b"ab", b"", b"c"], std::iter::empty())
            .unwrap();
        assert_eq!(builder.count(), 1);
        let batch = builder.finish().unwrap();
        let header = validate(&batch).unwrap();
        assert_eq!(
            (
                header.producer_id,
                header.producer_epoch,
                header.base_sequence
            ),
            (5, 2, i32::MAX)
        );
        assert!(header.has_producer() && header.attributes.is_transactional());
        assert!(!header.attributes.is_control() && !header.attributes.has_delete_horizon());
        assert_eq!(
            read(&batch).unwrap(),
            vec![(1, None, Some(b"abc".to_vec()), vec![])]
        );
    }
    assert_eq!(builder.finish(), Err(BatchError::Empty));
}

#[test]
fn sequences_wrap_to_zero() {
    let mut header = BatchHeader::parse(&vector()).unwrap();
    assert_eq!(header.last_sequence(), -1);
    (header.base_sequence, header.last_offset_delta) = (i32::MAX - 1, 3);
    assert_eq!(header.last_sequence(), 1);
}

#[test]
fn each_broken_header_field_has_its_own_error() {
    let good = vector();
    let with = |at: usize, bytes: &[u8]| {
        let mut batch = good.clone();
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        batch
    };
    let sealed = |at: usize, bytes: &[u8]| seal(with(at, bytes));
    assert!(matches!(
        validate(&with(16, &[1])),
        Err(BatchError::UnsupportedMagic { magic: 1, .. })
    ));
    assert!(matches!(
        validate(&with(8, &[0, 0, 0, 48])),
        Err(BatchError::BadLength { length: 48, .. })
    ));
    assert!(matches!(
        validate(&with(8, &[0xff; 4])),
        Err(BatchError::BadLength { length: -1, .. })
    ));
    assert!(matches!(
        validate(&with(8, &[0x7f, 0xff, 0xff, 0xff])),
        Err(BatchError::Short { .. })
    ));
    assert!(matches!(
        validate(&with(70, &[9])),
        Err(BatchError::BadCrc { .. })
    ));
    assert_eq!(
        validate(&sealed(22, &[5])),
        Err(BatchError::UnknownCodec { codec: 5 })
    );
    for count in [-1, 0, 2, i32::MAX] {
        assert!(matches!(
            validate(&sealed(57, &i32::to_be_bytes(count))),
            Err(BatchError::BadCount { .. })
        ));
    }
    assert!(matches!(
        validate(&sealed(23, &i32::to_be_bytes(-1))),
        Err(BatchError::BadCount { .. })
    ));
    let mut two = good.clone();
    two.extend_from_slice(&good);
    assert_eq!(
        validate(&two),
        Err(BatchError::TrailingBytes { extra: good.len() })
    );
    for length in 0..good.len() {
        assert!(
            validate(&good[..length]).is_err_and(|error| error.is_short()),
            "{length}"
        );
    }
}

#[test]
fn a_compacted_batch_is_sound_but_no_producer_may_send_it() {
    let mut batch = vector();
    batch[23..27].copy_from_slice(&9i32.to_be_bytes());
    let batch = seal(batch);
    assert_eq!(verify(&batch).unwrap().last_offset(), 16);
    assert!(matches!(
        validate(&batch),
        Err(BatchError::BadCount {
            count: 1,
            last_offset_delta: 9
        })
    ));
}

#[test]
fn a_false_record_count_is_refused_before_anything_is_read() {
    let mut batch = vector();
    batch[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    batch[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
    let batch = seal(batch);
    assert!(
        validate(&batch).is_ok(),
        "validation does not look at records"
    );
    assert!(matches!(read(&batch), Err(BatchError::BadCount { .. })));
}

#[test]
fn malformed_records_name_the_field() {
    let good = vector();
    let broken = |at: usize, byte: u8| {
        let mut batch = good.clone();
        batch[HEADER_LEN + at] = byte;
        match read(&seal(batch)) {
            Err(BatchError::BadRecord { what, .. }) => what,
            other => panic!("byte {at}: {other:?}"),
        }
    };
    assert_eq!(broken(0, 0x7f), "length");
    assert_eq!(broken(0, 0x01), "length");
    assert_eq!(broken(4, 0x7e), "key");
    assert_eq!(broken(4, 0x03), "key");
    assert_eq!(broken(6, 0x7e), "value");
    assert_eq!(broken(12, 0x06), "headers");
    assert_eq!(broken(12, 0x01), "headers");
    assert_eq!(broken(13, 0x01), "headers");
    let mut longer = good.clone();
    longer.push(0);
    assert!(
        matches!(read(&seal(longer)), Err(BatchError::BadRecord { what, .. }) if what.contains("follow"))
    );
}

#[test]
fn walking_stops_at_a_short_tail_and_says_where() {
    let one = build(Compression::None, &some_records(2));
    let mut bytes = [&one[..], &one[..]].concat();
    bytes.extend_from_slice(&one[..one.len() - 1]);
    let mut walk = batches(&bytes);
    for _ in 0..2 {
        let (header, batch) = walk.next().unwrap().unwrap();
        assert_eq!((header.total_len(), batch), (one.len(), &one[..]));
    }
    let error = walk.next().unwrap().unwrap_err();
    let expected = BatchError::Short {
        position: 2 * one.len(),
        needed: one.len(),
        found: one.len() - 1,
    };
    assert_eq!(error, expected);
    assert!(walk.next().is_none());
    assert_eq!(walk.position(), 2 * one.len());
    assert!(batches(&[]).next().is_none());
}

#[test]
fn raw_snappy_as_librdkafka_writes_it_is_read() {
    let plain = build(Compression::None, &some_records(20));
    let block = snap::raw::Encoder::new()
        .compress_vec(&plain[HEADER_LEN..])
        .unwrap();
    let mut batch = plain[..HEADER_LEN].to_vec();
    batch[22] = Compression::Snappy.id() as u8;
    batch.extend_from_slice(&block);
    assert_eq!(read(&seal(batch)).unwrap(), some_records(20));
}

#[test]
fn snappy_over_one_chunk_is_framed_in_several() {
    let value: Vec<u8> = (0..100_000u32)
        .map(|index| (index.wrapping_mul(index) >> 7) as u8)
        .collect();
    let record: Record = (5, None, Some(value), vec![]);
    let batch = build(Compression::Snappy, std::slice::from_ref(&record));
    assert!(batch[HEADER_LEN..].starts_with(b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01"));
    assert_eq!(read(&batch).unwrap(), vec![record]);
}

#[test]
fn decompression_stops_at_the_callers_bound() {
    let record: Record = (5, None, Some(vec![0; 500_000]), vec![]);
    for codec in Compression::ALL.into_iter().skip(1) {
        let batch = build(codec, std::slice::from_ref(&record));
        assert!(batch.len() < 30_000, "{codec} compresses zeros");
        let header = validate(&batch).unwrap();
        let mut scratch = Vec::new();
        let error = records(&header, &batch, &mut scratch, 100_000).err();
        assert_eq!(
            error,
            Some(BatchError::TooLargeDecompressed {
                codec,
                limit: 100_000
            })
        );
        assert!(
            scratch.capacity() <= 300_000,
            "{codec}: {}",
            scratch.capacity()
        );
        assert_eq!(read(&batch).unwrap(), vec![record.clone()]);
    }
}

#[test]
fn a_snappy_block_that_claims_gigabytes_allocates_nothing() {
    let plain = build(Compression::None, &some_records(1));
    let mut batch = plain[..HEADER_LEN].to_vec();
    batch[22] = Compression::Snappy.id() as u8;
    batch.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0]);
    let batch = seal(batch);
    let header = validate(&batch).unwrap();
    let mut scratch = Vec::new();
    assert!(records(&header, &batch, &mut scratch, usize::MAX).is_err());
    assert_eq!(scratch.capacity(), 0);
}

fn arbitrary_bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..200))
}

fn arbitrary_records() -> impl Strategy<Value = Vec<Record>> {
    let header = (prop::collection::vec(any::<u8>(), 0..9), arbitrary_bytes());
    let record = (
        any::<i64>(),
        arbitrary_bytes(),
        arbitrary_bytes(),
        prop::collection::vec(header, 0..5),
    );
    prop::collection::vec(record, 1..20)
}

fn arbitrary_codec() -> impl Strategy<Value = Compression> {
    prop::sample::select(&Compression::ALL[..])
}

proptest! {
    #[test]
    fn what_is_built_is_valid_and_read_back(records in arbitrary_records(), codec in arbitrary_codec()) {
        let batch = build(codec, &records);
        let header = validate(&batch).unwrap();
        prop_assert_eq!(header.record_count as usize, records.len());
        prop_assert_eq!(header.max_timestamp, records.iter().map(|record| record.0).max().unwrap());
        prop_assert_eq!(read(&batch).unwrap(), records);
    }

    #[test]
    fn damaged_batches_never_panic(
        records in arbitrary_records(),
        codec in arbitrary_codec(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut batch = build(codec, &records).to_vec();
        for (at, byte) in damage {
            let at = at.index(batch.len());
            batch[at] = byte;
        }
        let _outcome = validate(&batch);
        let _outcome = read(&batch);
        batch.truncate(cut.index(batch.len() + 1));
        let _outcome = read(&batch);
        for whole in batches(&batch) {
            let _outcome = whole;
        }
        patch_offset_and_epoch(&mut batch, 1, 2);
        patch_log_append_time(&mut batch, 3);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _outcome = validate(&bytes);
        let _outcome = read(&bytes);
    }
}
