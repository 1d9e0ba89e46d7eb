//! Avro: Flume's event datum, container files, schemas.

use flafka_avro_wire::container::{Codec, ContainerReader, ContainerWriter};
use flafka_avro_wire::flume_event as event;
use flafka_avro_wire::schema::Schema;

const MAX_BLOCK: usize = 1 << 20;
const SCHEMA: &str = r#"{"type":"record","name":"e","namespace":"n","fields":[{"name":"a","type":["null","long"]},
    {"name":"b","type":{"type":"map","values":"bytes"}},{"name":"c","type":{"type":"array","items":"n.e"}},
    {"name":"d","type":{"type":"enum","name":"k","symbols":["x","y"]}},{"name":"f","type":{"type":"fixed","name":"q","size":4}}]}"#;

pub(super) fn flume_event(input: &[u8]) {
    if let Ok(event) = event::decode(input) {
        assert!(event.encoded_len() <= input.len());
        event.headers().for_each(drop);
    }
    event::decode_raw(input).ok();
}

pub(super) fn flume_event_seeds() -> Vec<Vec<u8>> {
    let mut empty = Vec::new();
    event::encode([].into_iter(), b"", &mut empty);
    let mut filled = Vec::new();
    event::encode(
        [("host", "a"), ("timestamp", "1")].into_iter(),
        b"a line of text",
        &mut filled,
    );
    vec![empty, filled]
}

pub(super) fn container(input: &[u8]) {
    let Ok(mut reader) = ContainerReader::open(input, MAX_BLOCK) else {
        return;
    };
    while let Ok(Some(block)) = reader.next_block() {
        assert!(block.data.len() <= MAX_BLOCK);
    }
}

pub(super) fn container_seeds() -> Vec<Vec<u8>> {
    let file = |codec: &Codec| {
        let mut out = Vec::new();
        let mut writer = ContainerWriter::new(*codec, [7; 16], 64);
        writer.begin("\"bytes\"", &mut out);
        for _ in 0..9 {
            writer.append(&mut out, |out| out.extend_from_slice(b"\x14ten bytes!"));
        }
        writer.flush(&mut out);
        out
    };
    Codec::ALL.iter().map(file).collect()
}

/// The text up to the first zero byte is a schema, what follows a datum of it.
pub(super) fn schema(input: &[u8]) {
    let end = input
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(input.len());
    let (json, datum) = input.split_at(end);
    let Ok(schema) = Schema::parse(&String::from_utf8_lossy(json)) else {
        return;
    };
    schema.canonical_form();
    schema.fingerprint();
    if let Ok(next) = schema.skip(datum, 0) {
        assert!(next <= datum.len());
    }
}

pub(super) fn schema_seeds() -> Vec<Vec<u8>> {
    let datum: &[u8] = &[
        0, 2, 4, 2, 2, b'k', 2, b'v', 0, 0, 2, 1, 2, 3, 4, 0, 0, 0, 0,
    ];
    let with_datum = |schema: &str| [schema.as_bytes(), datum].concat();
    vec![
        with_datum(SCHEMA),
        with_datum("\"long\""),
        with_datum(r#"["null",{"type":"array","items":"null"}]"#),
    ]
}
