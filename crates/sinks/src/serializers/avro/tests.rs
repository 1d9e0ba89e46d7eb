//! Tests of the serializers that write Avro container files.

use flafka_avro_wire::container::ContainerReader;
use flafka_avro_wire::flume_event::decode;
use flafka_flow::{Event, Headers};

use super::*;

const ALLOWED: usize = 64 << 20;

fn event_config(compression: Compression) -> AvroEventConfig {
    AvroEventConfig {
        block_bytes: 1000,
        compression,
    }
}

fn body_config(schema_url: Option<&str>) -> AvroBodyConfig {
    AvroBodyConfig {
        block_bytes: DEFAULT_BLOCK_BYTES,
        compression: Compression::Deflate,
        schema_url: schema_url.map(str::to_owned),
    }
}

fn with_header(name: &str, value: &str, body: &[u8]) -> Event {
    Event {
        headers: Headers::single(name, value),
        body: body.to_vec().into(),
    }
}

#[test]
fn events_come_out_of_an_avro_event_file() {
    let batch = Batch::from_events((0..100).map(|number| {
        Event {
            headers: match number % 3 {
                0 => Headers::new(),
                1 => Headers::single("k", "v"),
                _ => [("a", &*number.to_string()), ("b", "")]
                    .into_iter()
                    .collect(),
            },
            body: format!("body {number}").into(),
        }
    }));
    for compression in [Compression::Null, Compression::Snappy, Compression::Bzip2] {
        let mut serializer = AvroEventSerializer::new(&event_config(compression));
        let mut out = Vec::new();
        serializer.begin(&mut out).expect("begins");
        for part in [batch.slice(0..60), batch.slice(60..100)] {
            serializer.write(&part, &mut out).expect("writes");
        }
        serializer.end(&mut out).expect("ends");
        let mut reader = ContainerReader::open(&out[..], ALLOWED).expect("a container");
        assert_eq!(reader.header().schema, EVENT_SCHEMA);
        let mut seen = Vec::new();
        while let Some(block) = reader.next_block().expect("sound") {
            let mut rest = &block.data[..];
            for _ in 0..block.datums {
                let event = decode(rest).expect("an event");
                let headers: Headers = event.headers().collect();
                seen.push((headers, event.body().to_vec()));
                rest = &rest[event.encoded_len()..];
            }
            assert!(rest.is_empty());
        }
        let expected: Vec<_> = batch
            .iter()
            .map(|event| (event.headers.clone(), event.body.to_vec()))
            .collect();
        assert_eq!(seen, expected);
    }
}

#[test]
fn bodies_are_datums_of_the_schema_in_the_header() {
    let literal = r#"{"type":"record","name":"R","fields":[{"name":"n","type":"int"}]}"#;
    let event = |body: &[u8]| with_header("flume.avro.schema.literal", literal, body);
    let mut serializer = AvroBodySerializer::new(&body_config(None));
    let mut out = Vec::new();
    serializer.begin(&mut out).expect("begins");
    assert!(out.is_empty(), "nothing is known yet");
    let batch = Batch::from_events([event(&[2]), event(&[4]), Event::new(vec![6])]);
    assert_eq!(serializer.fitting(&batch), 3, "an event may say nothing");
    serializer.write(&batch, &mut out).expect("writes");
    let mut reader = ContainerReader::open(&out[..], ALLOWED).expect("a container");
    assert_eq!(reader.header().schema, literal);
    let block = reader.next_block().expect("sound").expect("a block");
    assert_eq!((block.datums, block.data), (3, vec![2, 4, 6]));

    let before = out.len();
    let bad = Batch::from_events([event(&[2]), event(&[2, 2])]);
    let error = serializer.write(&bad, &mut out).expect_err("too long");
    assert!(error.to_string().contains("1 bytes"), "{error}");
    let bad = Batch::from_events([event(&[])]);
    assert!(serializer.write(&bad, &mut out).is_err());
    assert_eq!(out.len(), before, "a refused batch leaves nothing");
}

#[test]
fn another_schema_does_not_fit_the_file() {
    let first = with_header("flume.avro.schema.literal", r#""int""#, &[2]);
    let second = with_header("flume.avro.schema.literal", r#""long""#, &[2]);
    let batch = Batch::from_events([first.clone(), first.clone(), second.clone(), first]);
    let mut serializer = AvroBodySerializer::new(&body_config(None));
    assert_eq!(serializer.fitting(&batch), 2);
    let mut out = Vec::new();
    serializer
        .write(&batch.slice(0..2), &mut out)
        .expect("writes");
    assert_eq!(serializer.fitting(&batch.slice(2..4)), 0);
    assert_eq!(serializer.fitting(&batch.slice(3..4)), 1);
}

#[test]
fn schemas_can_lie_in_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("schema.avsc");
    std::fs::write(&path, r#""string""#).expect("writable");
    let url = format!("file://{}", path.display());
    let batch = Batch::from_events([
        Event::new(vec![2, b'a']),
        with_header("flume.avro.schema.url", &url, &[2, b'b']),
    ]);
    for schema_url in [url.as_str(), &path.display().to_string()] {
        let mut serializer = AvroBodySerializer::new(&body_config(Some(schema_url)));
        let mut out = Vec::new();
        let fitting = serializer.fitting(&batch);
        serializer
            .write(&batch.slice(0..fitting), &mut out)
            .expect("writes");
        let mut reader = ContainerReader::open(&out[..], ALLOWED).expect("a container");
        assert_eq!(reader.header().schema, r#""string""#);
        assert!(reader.next_block().expect("sound").is_some());
    }
}

#[test]
fn what_is_missing_or_out_of_reach_is_named() {
    let write = |event: Event| {
        let mut serializer = AvroBodySerializer::new(&body_config(None));
        let batch = Batch::from_events([event]);
        assert_eq!(serializer.fitting(&batch), 1);
        serializer
            .write(&batch, &mut Vec::new())
            .expect_err("no schema")
    };
    assert!(matches!(write(Event::new("x")), SerializeError::NoSchema));
    let header = "flume.avro.schema.url";
    for url in ["hdfs://name/schema", "http://host/schema", "relative"] {
        let error = write(with_header(header, url, b"x")).to_string();
        assert!(error.contains(url) && error.contains("file"), "{error}");
    }
    let error = write(with_header(header, "file:///no/such/schema", b"x"));
    assert!(
        matches!(error, SerializeError::ReadSchema { .. }),
        "{error}"
    );
    let error = write(with_header("flume.avro.schema.literal", "{", b"x"));
    assert!(matches!(error, SerializeError::Schema(_)), "{error}");
}
