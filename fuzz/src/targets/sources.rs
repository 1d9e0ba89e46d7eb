//! State files and requests of the sources.

use bytes::Bytes;
use flafka_avro_wire::container::{Codec, ContainerWriter};
use flafka_avro_wire::varint::put_long;
use flafka_sources::charset::Charset;
use flafka_sources::http::json;
use flafka_sources::spool_dir;
use flafka_sources::tail_dir;

pub(super) fn http_json(input: &[u8]) {
    let request = Bytes::copy_from_slice(input);
    for charset in [Charset::UTF_8, Charset::UTF_16, Charset::UTF_32] {
        json::parse(&request, charset).ok();
    }
}

pub(super) fn http_json_seeds() -> Vec<Vec<u8>> {
    let two = r#"[{"headers":{"host":"a","odd":null},"body":"one \u00e9 \ud83d\ude00"},{"body":"two","extra":[1,{"x":2.5e3}]}]"#;
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    vec![
        two.as_bytes().to_vec(),
        b"[]".to_vec(),
        wide(two),
        vec![b'['; 200],
    ]
}

pub(super) fn taildir_positions(input: &[u8]) {
    tail_dir::parse_positions(input);
}

pub(super) fn taildir_position_seeds() -> Vec<Vec<u8>> {
    let two = br#"[{"inode":2496272,"pos":12,"file":"/var/log/a.log"},{"inode":2496275,"pos":0,"file":"/var/log/b \u00e9.log"}]"#;
    vec![
        two.to_vec(),
        b"[]".to_vec(),
        br#"[{"inode":-1,"pos":9223372036854775807,"file":""}"#.to_vec(),
    ]
}

pub(super) fn spooldir_tracker(input: &[u8]) {
    spool_dir::parse_tracker(input).ok();
}

pub(super) fn spooldir_tracker_seeds() -> Vec<Vec<u8>> {
    let schema = r#"{"type":"record","name":"TransferStateFileMeta","namespace":"org.apache.flume.serialization","fields":[{"name":"offset","type":"long"}]}"#;
    let tracker = |metadata: &[(&str, &[u8])], positions: &[i64]| {
        let mut out = Vec::new();
        // One record a block, as the source writes them.
        let mut writer = ContainerWriter::new(Codec::Null, [7; 16], 1);
        writer.begin_with(schema, metadata, &mut out);
        for position in positions {
            writer.append(&mut out, |datum| put_long(datum, *position));
        }
        writer.flush(&mut out);
        out
    };
    let file = ("file", &b"/spool/a.log"[..]);
    vec![
        tracker(
            &[file, ("flafka.identity", b"64769:2496272")],
            &[0, 812, 90_000],
        ),
        tracker(&[file], &[i64::MAX, -1]),
        tracker(&[], &[5]),
    ]
}

/// Bytes before the first record, of which the last four are the checksum of the others.
const JOURNAL_HEADER: usize = 36;
/// Bytes before a record's payload: checksum, length, kind.
const RECORD_HEADER: usize = 7;

/// Reads the journal as it is, and once more with all checksums made to fit.
pub(super) fn taildir_journal(input: &[u8]) {
    tail_dir::decode_journal(input);
    let mut sealed = input.to_vec();
    let mut at = JOURNAL_HEADER;
    if let Some(header) = sealed.get_mut(..JOURNAL_HEADER) {
        let crc = crc_fast::crc32_iscsi(&header[..JOURNAL_HEADER - 4]);
        header[JOURNAL_HEADER - 4..].copy_from_slice(&crc.to_le_bytes());
    }
    while let Some(record) = sealed
        .get_mut(at..)
        .filter(|rest| rest.len() >= RECORD_HEADER)
    {
        let end = RECORD_HEADER + usize::from(u16::from_le_bytes([record[4], record[5]]));
        let Some(record) = record.get_mut(..end) else {
            break;
        };
        let crc = crc_fast::crc32_iscsi(&record[4..]);
        record[..4].copy_from_slice(&crc.to_le_bytes());
        at += end;
    }
    tail_dir::decode_journal(&sealed);
}

pub(super) fn taildir_journal_seeds() -> Vec<Vec<u8>> {
    let mut header = b"FLAFTAIL".to_vec();
    header.extend_from_slice(&1u32.to_le_bytes());
    header.resize(JOURNAL_HEADER, 0);
    let record = |kind: u8, payload: &[u8]| {
        let length = (payload.len() as u16).to_le_bytes();
        [&[0; 4], &length[..], &[kind], payload].concat()
    };
    let file = [&[1, 0, 0, 0][..], &[7; 56], b"/var/log/a.log"].concat();
    let advance = [&[1, 0, 0, 0][..], &[9; 24]].concat();
    let records = [
        record(1, &file),
        record(2, &advance),
        record(3, &[1, 0, 0, 0]),
    ]
    .concat();
    vec![header.clone(), [header, records].concat()]
}
