//! Tests of the properties grammar, among them what Java's own reader said to random files.

use proptest::prelude::*;

use super::*;

fn pairs(text: &[u8]) -> Vec<(String, String)> {
    let parsed = parse(text);
    assert_eq!(parsed.mistakes, [], "{:?}", String::from_utf8_lossy(text));
    parsed
        .pairs
        .into_iter()
        .map(|pair| (pair.key, pair.value))
        .collect()
}

fn pair(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}

/// What our reader says, in the form of the recorded answers: UTF-16 units in hexadecimal.
fn answer(bytes: &[u8]) -> String {
    let parsed = parse(bytes);
    if !parsed.mistakes.is_empty() {
        return "refused".to_owned();
    }
    let hex = |text: &str| -> String {
        text.encode_utf16()
            .map(|unit| format!("{unit:04x}"))
            .collect()
    };
    let pairs: Vec<_> = parsed
        .pairs
        .iter()
        .map(|pair| format!("{}={}", hex(&pair.key), hex(&pair.value)))
        .collect();
    format!("ok {}", pairs.join(","))
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .chars()
        .map(|c| c.to_digit(16).expect("hexadecimal") as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// Each line: a file in hexadecimal, then what JDK 17's `Properties.load` and Flume's trimming
/// make of it. `FLAFKA_PROPERTIES_VECTORS` names another file with more of them.
#[test]
fn reads_as_java_does() {
    let recorded = include_str!("../../tests/fixtures/properties_vectors.txt").to_owned();
    let vectors = std::env::var("FLAFKA_PROPERTIES_VECTORS").map_or(recorded, |path| {
        std::fs::read_to_string(path).expect("readable")
    });
    let mut different = Vec::new();
    for line in vectors.lines() {
        let (file, expected) = match line.strip_prefix(' ') {
            Some(expected) => ("", expected),
            None => line.split_once(' ').expect("file and answer"),
        };
        let bytes = bytes_of(file);
        let found = answer(&bytes);
        // Java keeps halves of surrogate pairs; we refuse them.
        let half = parse(&bytes)
            .mistakes
            .iter()
            .any(|mistake| mistake.fault == Fault::LoneSurrogate);
        if found.trim_end() != expected.trim_end() && !half {
            different.push((
                String::from_utf8_lossy(&bytes).into_owned(),
                found,
                expected,
            ));
        }
    }
    assert!(
        different.is_empty(),
        "{} differ: {different:#?}",
        different.len()
    );
}

#[test]
fn separators_comments_and_blanks() {
    let text = b"# c\\\n! c\n a = b \na2:c\na3 d e\na4\t=\te\na5==x\n\n  a6 : = y\nempty=\n";
    assert_eq!(
        pairs(text),
        [
            pair("a", "b"),
            pair("a2", "c"),
            pair("a3", "d e"),
            pair("a4", "e"),
            pair("a5", "=x"),
            pair("a6", "= y"),
            pair("empty", ""),
        ]
    );
}

#[test]
fn escapes_and_continuations() {
    let text =
        b"re=(\\\\d+)\\s\nu=\\u00e9\\u0041\nlist=a \\\n   b \\\r\n  c\nk\\ e\\=y=v\nlast=x\\";
    assert_eq!(
        pairs(text),
        [
            pair("re", "(\\d+)s"),
            pair("u", "\u{e9}A"),
            pair("list", "a b c"),
            pair("k e=y", "v"),
            pair("last", "x"),
        ]
    );
}

#[test]
fn bytes_are_latin_1() {
    assert_eq!(pairs("a=\u{e9}".as_bytes()), [pair("a", "\u{c3}\u{a9}")]);
}

#[test]
fn ranges_show_the_original() {
    let text = b"\n# c\n  a.b = one \\\n   two  \nx=";
    let parsed = parse(text);
    let first = &parsed.pairs[0];
    assert_eq!(&text[first.key_range.clone()], b"a.b");
    assert_eq!(&text[first.value_range.clone()], b"one \\\n   two");
    assert_eq!((first.line, first.value_line), (3, 3));
    let second = &parsed.pairs[1];
    assert_eq!(
        (second.value_range.clone(), second.line),
        (text.len()..text.len(), 5)
    );
}

#[test]
fn every_malformed_escape_is_found() {
    let parsed = parse(b"a=\\u12\nb=ok\n\\uzzzz=c\nd=\\ud800");
    assert_eq!(parsed.pairs.len(), 1);
    let found: Vec<_> = parsed
        .mistakes
        .iter()
        .map(|mistake| (mistake.key.as_str(), mistake.fault, mistake.line))
        .collect();
    assert_eq!(
        found,
        [
            ("a", Fault::MalformedEscape, 1),
            ("\\uzzzz", Fault::MalformedEscape, 3),
            ("d", Fault::LoneSurrogate, 4),
        ]
    );
}

proptest! {
    #[test]
    fn never_panics_and_ranges_lie_inside(bytes in proptest::collection::vec(
        prop_oneof![Just(b'\\'), Just(b'\n'), Just(b'\r'), Just(b'='), Just(b' '), Just(b'u'), Just(b'#'), any::<u8>()], 0..200)
    ) {
        let parsed = parse(&bytes);
        let lines = line_starts(&bytes).len() as u32;
        for pair in &parsed.pairs {
            for range in [&pair.key_range, &pair.value_range] {
                prop_assert!(range.start <= range.end && range.end <= bytes.len());
            }
            prop_assert!(pair.line >= 1 && pair.line <= lines && pair.value_line <= lines);
        }
        for mistake in &parsed.mistakes {
            prop_assert!(mistake.range.start <= mistake.range.end && mistake.range.end <= bytes.len());
        }
    }
}
