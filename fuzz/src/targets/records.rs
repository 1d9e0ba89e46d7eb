//! Record batches: the header, the walk over several batches, and the records behind every codec.

use flafka_kafka_wire::records::{
    BatchBuilder, BatchHeader, Compression, HEADER_LEN, batches, crc_of, patch_log_append_time,
    patch_offset_and_epoch, records, validate,
};

/// Records of one batch in this target may decompress to so many bytes.
const MAX_DECOMPRESSED: usize = 1 << 20;

pub(super) fn run(input: &[u8]) {
    read(input);
    for (header, batch) in batches(input).flatten() {
        read_records(&header, batch);
    }
    let mut sealed = input.to_vec();
    if sealed.len() >= HEADER_LEN {
        let length = (sealed.len() - 12) as i32;
        sealed[8..12].copy_from_slice(&length.to_be_bytes());
        sealed[16] = 2;
        let crc = crc_of(&sealed);
        sealed[17..21].copy_from_slice(&crc.to_be_bytes());
        read(&sealed);
        patch_offset_and_epoch(&mut sealed, 5, 1);
        patch_log_append_time(&mut sealed, 7);
        let header = BatchHeader::parse(&sealed).expect("a sealed batch has a sound header");
        assert_eq!(
            header.crc,
            crc_of(&sealed),
            "a patched batch has the right CRC"
        );
    }
}

fn read(batch: &[u8]) {
    if let Ok(header) = validate(batch) {
        read_records(&header, batch);
    }
}

fn read_records(header: &BatchHeader, batch: &[u8]) {
    let mut scratch = Vec::new();
    if let Ok(mut iter) = records(header, batch, &mut scratch, MAX_DECOMPRESSED) {
        let source = iter.source();
        for record in iter.by_ref().flatten() {
            if let Some(value) = record.value {
                assert_eq!(
                    value,
                    &source[record.value_range.clone()],
                    "the range names the value"
                );
            }
            assert_eq!(
                record.headers.clone().count(),
                record.headers.len(),
                "all headers are there"
            );
        }
    }
    assert!(
        scratch.len() <= MAX_DECOMPRESSED + 1,
        "decompression is bounded"
    );
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for codec in Compression::ALL {
        let mut builder = BatchBuilder::new(codec);
        let mut two = Vec::new();
        for round in 0..2i64 {
            builder.set_producer(round * 4, 1, 10);
            for index in 0..=round * 6 {
                let value = format!("value {index} ").repeat(6);
                let headers = [(&b"host"[..], Some(&b"a"[..])), (&b"host"[..], None)];
                let key = (index % 2 == 0).then_some(&b"key"[..]);
                builder
                    .push(
                        1_000 + index,
                        key,
                        Some(value.as_bytes()),
                        headers.into_iter(),
                    )
                    .expect("a small record");
            }
            let batch = builder.finish().expect("a batch with records");
            two.extend_from_slice(&batch);
            seeds.push(batch.to_vec());
        }
        seeds.push(two);
    }
    seeds
}
