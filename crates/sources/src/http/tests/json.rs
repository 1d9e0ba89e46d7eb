//! The JSON parser against the answers of Flume 1.11, and its bounds.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::super::json::{DEEPEST, parse};
use crate::charset::Charset;

/// What Flume answers and we, on purpose, do not: the request, our answer.
const DIFFERENCES: &[(&str, &str)] = &[
    ("[{\"body\":\"\\u12G4\"}]", "400"),
    ("[{\"body\":\"\\u12\"}]", "400"),
    ("[{\"body\":\"\\u+123\"}]", "400"),
    ("[{\"headers\":{\"a\":null},\"body\":\"x\"}]", "200\t{} x"),
];

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("\\x") {
        out.extend(rest[..at].bytes());
        out.push(u8::from_str_radix(&rest[at + 2..at + 4], 16).expect("two digits"));
        rest = &rest[at + 4..];
    }
    out.extend(rest.bytes());
    out
}

fn escape(bytes: &[u8]) -> String {
    let one = |byte: &u8| match *byte {
        b'\\' => "\\x5c".to_owned(),
        0x20..0x7f => char::from(*byte).to_string(),
        other => format!("\\x{other:02x}"),
    };
    bytes.iter().map(one).collect()
}

fn show(request: &[u8], charset: Charset) -> String {
    let batch = match parse(&Bytes::copy_from_slice(request), charset) {
        Ok(batch) => batch,
        Err(error) if error.is_syntax() => return "400".to_owned(),
        Err(_) => return "500".to_owned(),
    };
    let mut shown = "200".to_owned();
    for event in batch.iter() {
        let mut headers: Vec<_> = event.headers.iter().collect();
        headers.sort_unstable();
        let headers: Vec<_> = headers
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        shown.push_str(&format!(
            "\t{{{}}} {}",
            headers.join(", "),
            escape(event.body)
        ));
    }
    shown
}

#[test]
fn requests_are_read_as_flume_reads_them() {
    let recorded = include_str!("../testdata/flume-1.11-answers.tsv");
    let mut compared = 0;
    for line in recorded.lines().filter(|line| !line.starts_with("# ")) {
        let (left, answer) = line.split_once("\t=>\t").expect("an answer");
        let parts: Vec<_> = left.splitn(3, '\t').collect();
        let [method, content_type, request] = parts[..] else {
            panic!("three parts: {left}");
        };
        let charset = match content_type.to_ascii_lowercase().rsplit_once("charset=") {
            None if content_type == "application/json" => Charset::UTF_8,
            Some((_, "utf-8" | "utf8" | "\"utf-8\"")) => Charset::UTF_8,
            Some((_, "utf-16")) => Charset::UTF_16,
            Some((_, "utf-32")) => Charset::UTF_32,
            _ => continue,
        };
        if method != "POST" {
            continue;
        }
        let request = unescape(request);
        let difference = DIFFERENCES
            .iter()
            .find(|(known, _)| known.as_bytes() == request);
        let expected = difference.map_or(answer, |(_, ours)| ours);
        let expected = expected.trim_end();
        assert_eq!(
            show(&request, charset).trim_end(),
            expected,
            "request: {left}"
        );
        compared += 1;
    }
    assert!(compared > 130, "{compared} compared");
}

#[test]
fn bodies_share_the_request_and_equal_headers_are_one_set() {
    let body = "x".repeat(200);
    let event = format!("{{\"headers\":{{\"host\":\"h1\",\"n\":\"1\"}},\"body\":\"{body}\"}}");
    let request = Bytes::from(format!("[{}]", vec![event; 100].join(",")));
    let batch = parse(&request, Charset::UTF_8).expect("good");
    assert_eq!((batch.len(), batch.header_sets().len()), (100, 1));
    let inside = request.as_ptr_range();
    assert!(
        batch
            .iter()
            .all(|event| inside.contains(&event.body.as_ptr())),
        "no copy"
    );
}

#[test]
fn a_small_body_in_a_large_request_does_not_keep_it() {
    let request = Bytes::from(format!(
        "[{{\"ignored\":\"{}\",\"body\":\"small\"}}]",
        "x".repeat(10_000)
    ));
    let batch = parse(&request, Charset::UTF_8).expect("good");
    assert_eq!(batch.get(0).body, b"small");
    assert!(
        !request.as_ptr_range().contains(&batch.get(0).body.as_ptr()),
        "copied"
    );
}

#[test]
fn escapes_of_one_string_do_not_leak_into_the_next() {
    let request =
        br#"[{"unknown":"a\nb\t","body":"c\td"},{"body":"\n","headers":{"e\/":"\u0066"}}]"#;
    let shown = show(request, Charset::UTF_8);
    assert_eq!(shown, "200\t{} c\\x09d\t{e/=f} \\x0a");
}

#[test]
fn many_headers_take_linear_time_and_doubles_are_found() {
    let headers = |count: usize| -> String {
        let pairs: Vec<_> = (0..count)
            .map(|number| format!("\"h{number}\":\"{number}\""))
            .collect();
        pairs.join(",")
    };
    let request = format!("[{{\"headers\":{{{}}},\"body\":\"x\"}}]", headers(200_000));
    let batch = parse(&Bytes::from(request), Charset::UTF_8).expect("good");
    assert_eq!(batch.get(0).headers.len(), 200_000);
    for count in [1, 15, 16, 17, 18, 40] {
        let request = format!(
            "[{{\"headers\":{{{},h0:1}},\"body\":\"x\"}}]",
            headers(count)
        );
        assert_eq!(show(request.as_bytes(), Charset::UTF_8), "400", "{count}");
    }
}

#[test]
fn deep_nesting_is_refused() {
    for open in ["[", "{\"a\":"] {
        let request = format!("[{{\"a\":{}", open.repeat(100_000));
        let error = parse(&Bytes::from(request), Charset::UTF_8).expect_err("too deep");
        assert!(error.to_string().contains(&DEEPEST.to_string()), "{error}");
    }
    let allowed = format!("[{{\"a\":{}{}}}]", "[".repeat(150), "]".repeat(150));
    assert_eq!(show(allowed.as_bytes(), Charset::UTF_8), "200\t{} ");
}

#[test]
fn errors_say_where_and_what() {
    for (request, text) in [
        ("[{\"body\" \"x\"}]", "byte 9: expected `:`, found `\"`"),
        (
            "{\"body\":\"x\"}",
            "byte 0: expected an array of events, found `{`",
        ),
        ("[{\"body\":[]}]", "byte 9: expected text, found `[`"),
        (
            "[{\"body\":\"x\"}]]",
            "byte 14: expected the end of the request after the array, found `]`",
        ),
        (
            "[{\"body\":\"x}]",
            "byte 9: a string begins here and does not end",
        ),
        ("[{}", "byte 3: expected `,` or `]`, found the end"),
        (
            "[{},]",
            "event 1 of the array is null (or there is a comma too many)",
        ),
    ] {
        let error = parse(&Bytes::from(request), Charset::UTF_8).expect_err(request);
        assert_eq!(error.to_string(), text, "{request}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_serde_writes_is_read_back(
        events in proptest::collection::vec((proptest::collection::btree_map(any::<String>(), any::<String>(), 0..20), any::<String>()), 0..8),
        pretty: bool,
    ) {
        let json: Vec<_> = events
            .iter()
            .map(|(headers, body)| serde_json::json!({"headers": headers, "body": body, "other": [1, {"a": body}]}))
            .collect();
        let request = if pretty { serde_json::to_vec_pretty(&json) } else { serde_json::to_vec(&json) };
        let request = Bytes::from(request.expect("JSON"));
        let batch = parse(&request, Charset::UTF_8).expect("good JSON");
        prop_assert_eq!(batch.len(), events.len());
        for (event, (headers, body)) in batch.iter().zip(&events) {
            prop_assert_eq!(event.body, body.as_bytes());
            let mut found: Vec<_> = event.headers.iter().collect();
            found.sort_unstable();
            let expected: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            prop_assert_eq!(found, expected);
        }
        let text = std::str::from_utf8(&request).expect("UTF-8");
        let mut wide = BytesMut::new();
        Charset::UTF_16.encode(text, &mut wide);
        let wide = parse(&wide.freeze(), Charset::UTF_16).expect("good JSON");
        prop_assert_eq!(wide.len(), events.len());
    }

    #[test]
    fn any_bytes_are_read_or_refused(parts in proptest::collection::vec(
        proptest::sample::select(vec!["[", "]", "{", "}", "\"", "'", "\\", "\\u", "d83d", ":", "=", ">", ",", ";", "body", "headers", "null", "/*", "*/", "//", "#", "\n", " ", "é", "\u{1f600}"]), 0..40)
    ) {
        let text = parts.concat();
        for request in [text.clone(), format!("[{{\"body\":{text}")] {
            let _read_or_refused = parse(&Bytes::from(request), Charset::UTF_8);
        }
    }
}
