//! Tests of look-ups.

use jiff::civil::date;
use proptest::prelude::*;

use super::*;

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn run(pairs: &[(&str, &str)], plain: bool) -> (BTreeMap<String, String>, Vec<Problem>) {
    let now = date(2026, 3, 9)
        .at(14, 5, 7, 42_000_000)
        .in_tz("UTC")
        .expect("UTC");
    let environment = map(&[("HOST", "h1"), ("prod_BIND", "1.2.3.4"), ("REF", "${a}")]);
    let definitions = map(&[("env", "prod")]);
    let sources = Sources {
        environment: &environment,
        definitions: &definitions,
        now: &now,
        plain_environment: plain,
    };
    let mut keys = pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), Entry::new(*value)))
        .collect();
    let problems = resolve(&mut keys, &sources);
    let values = keys
        .into_iter()
        .map(|(key, entry)| (key, entry.value))
        .collect();
    (values, problems)
}

fn one(value: &str) -> String {
    let (values, problems) = run(&[("a", "A"), ("x", value)], false);
    assert_eq!(problems, [], "{value}");
    values["x"].clone()
}

#[test]
fn every_form() {
    assert_eq!(one("<${a}>"), "<A>");
    assert_eq!(one("${env:HOST}:${ENV:HOST}"), "h1:h1");
    assert_eq!(one("${sys:env}"), "prod");
    assert_eq!(one("${env:${sys:env}_BIND}"), "1.2.3.4");
    assert_eq!(one("${env:NOPE:-d}"), "d");
    assert_eq!(one("${nope:-${a}}"), "A");
    assert_eq!(one("${foo:a}"), "A");
    assert_eq!(one("${env:REF}"), "A");
    assert_eq!(one("$${a} $a { $ }$"), "${a} $a { $ }$");
    assert_eq!(one("${a"), "${a");
    assert_eq!(one("${f1['key']}"), "${f1['key']}");
    assert_eq!(
        one("${date:yyyy-MM-dd'T'HH:mm:ss.SSS Z}"),
        "2026-03-09T14:05:07.042 +0000"
    );
    assert_eq!(one("${date:EEE d MMM yy h a}"), "Mon 9 Mar 26 2 PM");
}

#[test]
fn order_does_not_matter() {
    let (values, problems) = run(
        &[("a", "${z}1"), ("m", "${a}${z}"), ("z", "${y}"), ("y", "0")],
        false,
    );
    assert_eq!((values["a"].as_str(), values["m"].as_str()), ("01", "010"));
    assert_eq!(problems, []);
}

#[test]
fn unresolved_stays_with_a_warning() {
    let (values, problems) = run(
        &[
            ("agent.port", "1"),
            (
                "b",
                "${agent.prt} ${env:NO} ${HOST} ${java:version} ${base64Decoder:eA==}",
            ),
        ],
        false,
    );
    assert!(values["b"].starts_with("${agent.prt} ${env:NO} ${HOST} ${java:version}"));
    let helps: Vec<_> = problems
        .iter()
        .map(|problem| problem.help.clone().unwrap_or_default())
        .collect();
    assert_eq!(problems.len(), 5);
    assert!(
        problems
            .iter()
            .all(|problem| problem.severity == Severity::Warning)
    );
    assert!(
        helps[0].contains("${agent.port}") && helps[1].contains("`NO` is not set"),
        "{helps:?}"
    );
    assert!(
        helps[2].contains("${env:HOST}") && helps[3].contains("no Java"),
        "{helps:?}"
    );
    assert!(helps[4].contains("not active"), "{helps:?}");
}

#[test]
fn plain_names_fall_back_to_the_environment_on_demand() {
    assert_eq!(run(&[("x", "${HOST}")], true).0["x"], "h1");
    assert_eq!(run(&[("x", "${HOST}")], false).0["x"], "${HOST}");
}

#[test]
fn a_cycle_is_named_once() {
    let (_, problems) = run(
        &[
            ("b", "${c}"),
            ("c", "${d}"),
            ("d", "${b}"),
            ("e", "${b}"),
            ("s", "${s}"),
        ],
        false,
    );
    let messages: Vec<_> = problems
        .iter()
        .map(|problem| problem.message.as_str())
        .collect();
    assert_eq!(
        messages,
        [
            "look-ups go in a circle: b → c → d → b",
            "look-ups go in a circle: s → s"
        ]
    );
}

#[test]
fn growth_and_depth_are_bounded() {
    let names: Vec<String> = (0..30).map(|n| format!("k{n:02}")).collect();
    let values: Vec<String> = (1..30).map(|n| format!("${{k{n:02}}}").repeat(9)).collect();
    let mut pairs: Vec<(&str, &str)> = names
        .iter()
        .map(String::as_str)
        .zip(values.iter().map(String::as_str))
        .collect();
    pairs.push(("k29", "xxxxxxxxxx"));
    let (_, problems) = run(&pairs, false);
    assert!(
        problems
            .iter()
            .any(|problem| problem.message.contains("grows over"))
    );
    let deep = "${".repeat(200) + &"}".repeat(200);
    let (_, problems) = run(&[("x", &deep)], false);
    assert!(
        problems[0].message.contains("nested more than"),
        "{problems:?}"
    );
    let chain: Vec<(String, String)> = (0..200)
        .map(|n| (format!("c{n:03}"), format!("${{c{:03}}}", n + 1)))
        .collect();
    let chain: Vec<(&str, &str)> = chain
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    assert!(
        run(&chain, false)
            .1
            .iter()
            .any(|problem| problem.message.contains("more than 64 properties"))
    );
}

#[test]
fn filter_references() {
    assert_eq!(filter_reference("f1['a-b_C']"), Some(("f1", "a-b_C")));
    assert_eq!(filter_reference("f1[\"a\"]"), Some(("f1", "a")));
    assert_eq!(filter_reference("f1[a]"), Some(("f1", "a")));
    assert_eq!(filter_reference("f1['a\"]"), None);
    assert_eq!(filter_reference("f1['a b']"), None);
    assert_eq!(filter_reference("plain"), None);
}

proptest! {
    #[test]
    fn never_panics(value in "(\\$|\\{|\\}|a|x|:|-|env:|date:|[a-zA-Z']|ü|\\[|\\]){0,40}") {
        run(&[("a", &value), ("x", "${a}${a:-b}")], true);
    }
}

/// Each line: a value, and what commons-text 1.9 makes of it with the properties below, the
/// environment `V` and the system property `p`.
#[test]
fn resolves_as_commons_text_does() {
    let environment = map(&[("V", "v${a}")]);
    let definitions = map(&[("p", "P")]);
    let now = Zoned::now();
    let sources = Sources {
        environment: &environment,
        definitions: &definitions,
        now: &now,
        plain_environment: false,
    };
    for line in include_str!("../../tests/fixtures/lookup_vectors.txt").lines() {
        let (value, expected) = line.split_once('\t').expect("value and answer");
        let properties = [
            ("a", "A"),
            ("b", "${a}B"),
            ("A_x", "nested"),
            ("q:z", "QZ"),
            ("z", "Z"),
            (" in", value),
        ];
        let mut keys = properties
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Entry::new(*value)))
            .collect();
        resolve(&mut keys, &sources);
        assert_eq!(keys[" in"].value, expected, "{value}");
    }
}
