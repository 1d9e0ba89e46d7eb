//! Tests of container files.

use std::io::Cursor;

use proptest::prelude::*;

use super::*;

const SCHEMA: &str = r#""bytes""#;
const ALLOWED: usize = 1 << 20;

fn file(codec: Codec, datums: &[Vec<u8>], block_bytes: usize) -> Vec<u8> {
    let mut writer = ContainerWriter::new(codec, [7; SYNC_BYTES], block_bytes);
    let mut out = Vec::new();
    writer.begin(SCHEMA, &mut out);
    for datum in datums {
        writer.append(&mut out, |block| {
            crate::varint::put_bytes(block, datum);
        });
    }
    writer.flush(&mut out);
    out
}

fn read(file: &[u8]) -> Result<Vec<Vec<u8>>, ContainerError> {
    let mut reader = ContainerReader::open(file, ALLOWED)?;
    assert_eq!(reader.header().schema, SCHEMA);
    let mut datums = Vec::new();
    while let Some(block) = reader.next_block()? {
        let mut at = 0;
        for _ in 0..block.datums {
            let found = crate::varint::bytes_at(&block.data, at).ok_or(ContainerError::BadBlock)?;
            datums.push(found.0.to_vec());
            at = found.1;
        }
    }
    Ok(datums)
}

#[test]
fn the_layout_is_that_of_the_specification() {
    let bytes = file(Codec::Null, &[b"ab".to_vec()], 1000);
    let mut expected =
        b"Obj\x01\x04\x16avro.schema\x0e\"bytes\"\x14avro.codec\x08null\x00".to_vec();
    expected.extend([7; 16]);
    expected.extend([2, 6, 4, b'a', b'b']);
    expected.extend([7; 16]);
    assert_eq!(bytes, expected);
}

#[test]
fn every_codec_gives_back_what_it_got() {
    let datums: Vec<_> = (0..500)
        .map(|n| format!("datum {n}").into_bytes())
        .collect();
    for codec in Codec::ALL {
        for block_bytes in [1, 300, 1 << 20] {
            let bytes = file(*codec, &datums, block_bytes);
            assert_eq!(read(&bytes).expect("our own"), datums, "{codec:?}");
        }
    }
    assert!(read(&file(Codec::Null, &[], 10)).expect("empty").is_empty());
}

#[test]
fn snappy_carries_the_checksum_of_the_plain_bytes() {
    let mut packed = Vec::new();
    Codec::Snappy.compress(b"123456789", &mut packed);
    assert_eq!(packed[packed.len() - 4..], 0xcbf4_3926_u32.to_be_bytes());
    let mut out = Vec::new();
    let last = packed.len() - 1;
    packed[last] ^= 1;
    let wrong = Codec::Snappy.decompress(&packed, 100, &mut out);
    assert!(matches!(wrong, Err(ContainerError::BadChecksum)));
    assert!(out.is_empty());
}

#[test]
fn foreign_compressors_are_understood() {
    // `zlib.compressobj(wbits=-15)` and `bz2.compress` of Python over b"hello hello hello".
    let deflate = [0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x57, 0xc8, 0x40, 0x90, 0x00];
    let mut out = Vec::new();
    Codec::Deflate
        .decompress(&deflate, 100, &mut out)
        .expect("raw deflate");
    assert_eq!(out, b"hello hello hello");
    let bzip2 = [
        0x42, 0x5a, 0x68, 0x39, 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, 0x9e, 0x62, 0x5b, 0xfe, 0x00,
        0x00, 0x02, 0x91, 0x00, 0x40, 0x00, 0x02, 0x44, 0xa0, 0x00, 0x21, 0x14, 0x60, 0x66, 0x82,
        0x91, 0xef, 0x23, 0x47, 0x0b, 0xb9, 0x22, 0x9c, 0x28, 0x48, 0x4f, 0x31, 0x2d, 0xff, 0x00,
    ];
    out.clear();
    Codec::Bzip2
        .decompress(&bzip2, 100, &mut out)
        .expect("bzip2");
    assert_eq!(out, b"hello hello hello");
}

#[test]
fn bombs_are_refused() {
    let zeros = vec![0; ALLOWED + 1];
    for codec in Codec::ALL {
        let mut packed = Vec::new();
        codec.compress(&zeros, &mut packed);
        let mut out = Vec::new();
        let outcome = codec.decompress(&packed, ALLOWED, &mut out);
        assert!(
            matches!(outcome, Err(ContainerError::BlockTooLarge { .. })),
            "{codec:?}"
        );
        assert!(out.is_empty());
        codec
            .decompress(&packed, ALLOWED + 1, &mut out)
            .expect("just fits");
        assert_eq!(out, zeros);
    }
    let header = parse_header(&file(Codec::Null, &[], 1))
        .expect("ours")
        .expect("whole");
    let mut block = Vec::new();
    crate::varint::put_long(&mut block, 1);
    crate::varint::put_long(&mut block, i64::MAX);
    let outcome = parse_block(&header, &block, ALLOWED);
    assert!(matches!(outcome, Err(ContainerError::BlockTooLarge { .. })));
}

#[test]
fn reading_can_go_on_at_any_block() {
    let datums: Vec<_> = (0..50u8).map(|n| vec![n; 10]).collect();
    let bytes = file(Codec::Snappy, &datums, 100);
    let mut reader = ContainerReader::open(Cursor::new(&bytes), ALLOWED).expect("opens");
    let mut blocks = Vec::new();
    while let Some(block) = reader.next_block().expect("sound") {
        blocks.push(block);
    }
    assert_eq!(reader.position(), bytes.len() as u64);
    assert_eq!(blocks.len(), 5);
    for block in blocks.iter().rev() {
        reader.seek(block.position).expect("moves");
        assert_eq!(reader.next_block().expect("sound").as_ref(), Some(block));
    }
}

#[test]
fn damage_is_named() {
    let good = file(Codec::Null, &[b"abc".to_vec()], 10);
    assert!(matches!(read(b"PAR1"), Err(ContainerError::NotAContainer)));
    assert!(matches!(read(b""), Err(ContainerError::Cut)));
    for length in 1..good.len() {
        let header = good.len() - 22;
        let outcome = read(&good[..length]);
        if length == header {
            assert!(outcome.expect("no block yet").is_empty());
        } else {
            assert!(matches!(outcome, Err(ContainerError::Cut)), "{length}");
        }
    }
    let mut other = good.clone();
    let last = other.len() - 1;
    other[last] = 0;
    assert!(matches!(read(&other), Err(ContainerError::BadSync)));
    let unknown = String::from_utf8_lossy(&good)
        .replace("null", "lzma")
        .into_bytes();
    assert!(matches!(
        read(&unknown),
        Err(ContainerError::UnknownCodec { name }) if name == "lzma"
    ));
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        datums in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 0..50),
        codec in 0..Codec::ALL.len(),
        block_bytes in 1usize..200,
    ) {
        let bytes = file(Codec::ALL[codec], &datums, block_bytes);
        prop_assert_eq!(read(&bytes).expect("our own"), datums);
    }

    #[test]
    fn damaged_files_never_panic(
        codec in 0..Codec::ALL.len(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
    ) {
        let datums: Vec<_> = (0..20).map(|n| format!("datum {n}").into_bytes()).collect();
        let mut bytes = file(Codec::ALL[codec], &datums, 60);
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        drop(ContainerReader::open(&bytes[..], ALLOWED).map(|mut reader| {
            while let Ok(Some(_)) = reader.next_block() {}
        }));
    }

    #[test]
    fn any_bytes_behind_the_magic_never_panic(tail: Vec<u8>) {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(tail);
        drop(parse_header(&bytes));
    }
}
