//! Tests of YAML files.

use proptest::prelude::*;

use super::*;

fn keys(text: &str) -> Vec<(String, String)> {
    let parsed = parse(text);
    assert_eq!(parsed.mistakes, []);
    let mut keys: Vec<_> = parsed
        .pairs
        .into_iter()
        .map(|yaml| (yaml.pair.key, yaml.pair.value))
        .collect();
    keys.sort();
    keys
}

fn messages(text: &str) -> Vec<(String, u32)> {
    parse(text)
        .mistakes
        .into_iter()
        .map(|mistake| (mistake.message, mistake.line))
        .collect()
}

#[test]
fn nested_keys_flatten_and_mappings_declare_names() {
    let text = "
a1:
  sources:
    r2: { type: netcat, port: 010, channels: [c1, c2] }
    r1:
      type: seq
      interceptors:
        i1: { type: host }
  channels.c1.type: memory
  sinks: k1
";
    let found = keys(text);
    let get = |key: &str| {
        found
            .iter()
            .find(|(found, _)| found == key)
            .map(|(_, value)| value.as_str())
    };
    assert_eq!(get("a1.sources"), Some("r2 r1"));
    assert_eq!(get("a1.sources.r2.port"), Some("010"));
    assert_eq!(get("a1.sources.r2.channels"), Some("c1 c2"));
    assert_eq!(get("a1.sources.r1.interceptors"), Some("i1"));
    assert_eq!(get("a1.sources.r1.interceptors.i1.type"), Some("host"));
    assert_eq!(get("a1.channels.c1.type"), Some("memory"));
    assert_eq!(get("a1.sinks"), Some("k1"));
    assert_eq!(get("a1.channels"), None);
}

#[test]
fn places_are_bytes_of_the_text() {
    let text = "# äöü\na1:\n  x: \"ü\"\n  yy: plain text # comment\n";
    let parsed = parse(text);
    let places: Vec<_> = parsed
        .pairs
        .iter()
        .map(|yaml| {
            let pair = &yaml.pair;
            (
                &text[pair.key_range.clone()],
                &text[pair.value_range.clone()],
                pair.line,
            )
        })
        .collect();
    assert_eq!(places, [("x", "\"ü\"", 3), ("yy", "plain text", 4)]);
}

#[test]
fn anchors_merge_and_nulls() {
    let text = "base: &base {type: memory, capacity: 5}\na1:\n  channels:\n    c1: {<<: *base, capacity: 7}\n    c2: *base\n  empty:\n";
    let found = keys(text);
    let expected = [
        ("a1.channels", "c1 c2"),
        ("a1.channels.c1.capacity", "7"),
        ("a1.channels.c1.type", "memory"),
        ("a1.channels.c2.capacity", "5"),
        ("a1.channels.c2.type", "memory"),
        ("a1.empty", ""),
        ("base.capacity", "5"),
        ("base.type", "memory"),
    ];
    let expected: Vec<_> = expected
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn mistakes_have_lines() {
    assert_eq!(
        messages("a1:\n  - {x: 1}\n"),
        [("a list may hold texts only".to_owned(), 2)]
    );
    assert_eq!(
        messages("- a\n"),
        [("the document is not a mapping".to_owned(), 1)]
    );
    assert_eq!(
        messages("a: 1\n---\nb: 2\n"),
        [("a second document in one file".to_owned(), 2)]
    );
    assert_eq!(messages("a: !secret x\n")[0].1, 1);
    assert_eq!(
        messages("a: &x [*x]\n"),
        [("an alias inside of what it names".to_owned(), 1)]
    );
    let broken = messages("a1:\n  b: [1,\n  c: 2\n");
    assert!(
        broken.len() == 1 && broken[0].0.starts_with("not YAML: "),
        "{broken:?}"
    );
}

#[test]
fn aliases_cannot_explode() {
    let mut text = "a0: &a0 {x: 1, y: 2, z: 3, u: 4, v: 5, w: 6, p: 7, q: 8, r: 9}\n".to_owned();
    for level in 1..9 {
        let before = level - 1;
        let parts: Vec<_> = (0..9).map(|n| format!("k{n}: *a{before}")).collect();
        text.push_str(&format!("a{level}: &a{level} {{{}}}\n", parts.join(", ")));
    }
    let parsed = parse(&text);
    assert!(parsed.pairs.len() <= MAX_KEYS);
    assert!(
        parsed
            .mistakes
            .iter()
            .any(|mistake| mistake.message.contains("more than"))
    );
    let deep = "[".repeat(100);
    assert!(
        parse(&format!("a: {deep}")).mistakes[0]
            .message
            .contains("levels")
    );
}

proptest! {
    #[test]
    fn never_panics_and_ranges_lie_inside(text in "([a-c]: |- |\\[|\\]|\\{|\\}|,|\n|  |\"|'|&a |\\*a|#|\\||>|!|ü|~|[a-z%@`\\\\]){0,40}") {
        let parsed = parse(&text);
        for yaml in &parsed.pairs {
            prop_assert!(text.get(yaml.pair.key_range.clone()).is_some());
            prop_assert!(text.get(yaml.pair.value_range.clone()).is_some());
        }
        for mistake in &parsed.mistakes {
            prop_assert!(text.get(mistake.range.clone()).is_some());
        }
    }
}
