//! Tests of schemas.

use proptest::prelude::*;

use super::*;
use crate::varint::{put_bytes, put_long};

const PERSON: &str = r#"{
  "type": "record", "name": "Person", "namespace": "org.example", "doc": "who",
  "fields": [
    {"name": "name", "type": {"type": "string", "avro.java.string": "String"}},
    {"name": "age", "type": ["null", "int"], "default": null},
    {"name": "id", "type": {"type": "fixed", "name": "Id", "size": 4}},
    {"name": "other", "type": "Id"},
    {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
    {"name": "friends", "type": {"type": "array", "items": "Person"}},
    {"name": "scores", "type": {"type": "map", "values": "double"}}
  ]
}"#;

/// A person without friends.
fn person(out: &mut Vec<u8>) {
    put_bytes(out, b"Ann");
    put_long(out, 1);
    put_long(out, 33);
    out.extend_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    put_long(out, 1);
    out.push(0);
    put_long(out, 1);
    put_bytes(out, b"go");
    out.extend_from_slice(&1.5f64.to_le_bytes());
    out.push(0);
}

#[test]
fn datums_are_stepped_over() {
    let schema = Schema::parse(PERSON).expect("valid");
    let mut bytes = Vec::new();
    person(&mut bytes);
    let first = bytes.len();
    person(&mut bytes);
    assert_eq!(schema.skip(&bytes, 0), Ok(first));
    assert_eq!(schema.skip(&bytes, first), Ok(bytes.len()));
    for length in 0..first {
        assert!(schema.skip(&bytes[..length], 0).is_err(), "{length}");
    }
    let with_friend = {
        let mut bytes = bytes[..first - 13].to_vec();
        bytes.pop();
        put_long(&mut bytes, 1);
        person(&mut bytes);
        bytes.extend([0, 0]);
        bytes
    };
    assert_eq!(schema.skip(&with_friend, 0), Ok(with_friend.len()));
}

#[test]
fn canonical_form_strips_and_orders() {
    let schema = Schema::parse(PERSON).expect("valid");
    assert_eq!(
        schema.canonical_form(),
        concat!(
            r#"{"name":"org.example.Person","type":"record","fields":["#,
            r#"{"name":"name","type":"string"},{"name":"age","type":["null","int"]},"#,
            r#"{"name":"id","type":{"name":"org.example.Id","type":"fixed","size":4}},"#,
            r#"{"name":"other","type":"org.example.Id"},"#,
            r#"{"name":"kind","type":{"name":"org.example.Kind","type":"enum","symbols":["A","B"]}},"#,
            r#"{"name":"friends","type":{"type":"array","items":"org.example.Person"}},"#,
            r#"{"name":"scores","type":{"type":"map","values":"double"}}]}"#,
        )
    );
    let again = Schema::parse(&schema.canonical_form()).expect("valid");
    assert_eq!(again.fingerprint(), schema.fingerprint());
}

#[test]
fn fingerprints_are_those_of_the_specification() {
    for (json, fingerprint) in [
        (r#""null""#, 7_195_948_357_588_979_594_u64),
        (r#"{"type":"int"}"#, 8_247_732_601_305_521_295),
    ] {
        let schema = Schema::parse(json).expect("valid");
        assert_eq!(schema.fingerprint(), fingerprint, "{json}");
    }
}

#[test]
fn what_is_no_schema_is_refused() {
    for json in [
        "",
        "nul",
        "5",
        r#""Unknown""#,
        r#"{"name":"x"}"#,
        r#"{"type":"array"}"#,
        r#"{"type":"record","name":"R"}"#,
        r#"{"type":"record","fields":[]}"#,
        r#"{"type":"record","name":"R","fields":[{"name":"f"}]}"#,
        r#"{"type":"fixed","name":"F","size":-1}"#,
        r#"{"type":"enum","name":"E","symbols":[1]}"#,
        r#"[{"type":"fixed","name":"F","size":1},{"type":"fixed","name":"F","size":1}]"#,
    ] {
        assert!(Schema::parse(json).is_err(), "{json}");
    }
    let deep = "[".repeat(100_000);
    assert!(Schema::parse(&deep).is_err());
}

#[test]
fn hostile_schemas_and_datums_end_quickly() {
    let nulls = Schema::parse(r#"{"type":"array","items":"null"}"#).expect("valid");
    let mut bytes = Vec::new();
    put_long(&mut bytes, i64::MAX);
    bytes.push(0);
    assert_eq!(nulls.skip(&bytes, 0), Ok(bytes.len()));

    let itself = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"R"},{"name":"b","type":"R"}]}"#;
    let itself = Schema::parse(itself).expect("valid, though no datum can exist");
    assert_eq!(itself.skip(&[], 0), Err(DatumError::TooDeep));

    let mut doubling = r#"{"type":"fixed","name":"F0","size":0}"#.to_owned();
    for level in 1..60 {
        doubling = format!(
            r#"{{"type":"record","name":"F{level}","fields":[{{"name":"a","type":{doubling}}},{{"name":"b","type":"F{}"}}]}}"#,
            level - 1
        );
    }
    if let Ok(doubling) = Schema::parse(&doubling) {
        assert_eq!(doubling.skip(&[], 0), Ok(0));
    }

    let list = r#"{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}"#;
    let list = Schema::parse(list).expect("valid");
    assert_eq!(list.skip(&[2; 50_000], 0), Err(DatumError::TooDeep));
    assert_eq!(list.skip(&[2, 2, 0], 0), Ok(3));
}

proptest! {
    #[test]
    fn no_text_panics(json: String) {
        drop(Schema::parse(&json));
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let schema = Schema::parse(PERSON).expect("valid");
        if let Ok(end) = schema.skip(&bytes, 0) {
            prop_assert!(end <= bytes.len());
        }
    }
}
