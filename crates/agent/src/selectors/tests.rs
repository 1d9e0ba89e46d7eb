//! Tests of the channel selectors.

use flafka_flow::conformance::doubles::build_context;
use flafka_flow::selector::Delivery;
use flafka_flow::settings::{Report, Section, Severity};
use flafka_flow::{Batch, Event, Headers};

use super::SELECTORS;

fn channels() -> Vec<String> {
    ["c1", "c2", "c3"].map(str::to_owned).to_vec()
}

fn check(kind: &str, pairs: &[(&str, &str)]) -> Report {
    let section = Section::of("a1.sources.r1.selector", pairs.iter().copied());
    let mut report = Report::new();
    let entry = SELECTORS
        .iter()
        .find(|entry| entry.description.names.matches(kind))
        .expect("known");
    (entry.check)(&section, &channels(), &mut report);
    report
}

/// What each channel gets, as `channel required body body`.
fn select(kind: &str, pairs: &[(&str, &str)], events: &[(&str, &str)]) -> Vec<String> {
    let report = check(kind, pairs);
    assert!(!report.has_errors(), "{report:?}");
    let section = Section::of("a1.sources.r1.selector", pairs.iter().copied());
    let entry = SELECTORS
        .iter()
        .find(|entry| entry.description.names.matches(kind))
        .expect("known");
    let selector = (entry.build)(&section, &channels(), &build_context("r1")).expect("builds");
    let batch = Batch::from_events(events.iter().map(|(value, body)| Event {
        headers: match *value {
            "-" => Headers::single("other", "x"),
            value => Headers::single("state", value),
        },
        body: (*body).to_owned().into(),
    }));
    selector.select(batch).iter().map(shown).collect()
}

fn shown(delivery: &Delivery) -> String {
    let bodies: Vec<_> = delivery
        .batch
        .iter()
        .map(|event| String::from_utf8_lossy(event.body).into_owned())
        .collect();
    let kind = if delivery.required {
        "required"
    } else {
        "optional"
    };
    format!("c{} {kind} {}", delivery.channel + 1, bodies.join(" "))
}

#[test]
fn replicating_copies_and_puts_optional_channels_last() {
    let events = [("-", "a"), ("-", "b")];
    assert_eq!(
        select("replicating", &[], &events),
        ["c1 required a b", "c2 required a b", "c3 required a b"]
    );
    assert_eq!(
        select("REPLICATING", &[("optional", "c2 c1")], &events),
        ["c3 required a b", "c1 optional a b", "c2 optional a b"]
    );
}

#[test]
fn multiplexing_goes_by_the_value() {
    let settings = [
        ("header", "state"),
        ("mapping.CZ", "c1"),
        ("mapping.US", "c2  c3"),
        ("optional.US", "c1 c3"),
        ("optional.PL", "c1 c3"),
        ("default", "c3"),
    ];
    let select = |events: &[(&str, &str)]| select("multiplexing", &settings, events);
    assert_eq!(select(&[("CZ", "a"), ("CZ", "b")]), ["c1 required a b"]);
    assert_eq!(
        select(&[("US", "a"), ("CZ", "b"), ("-", "c"), ("US", "d")]),
        [
            "c1 required b",
            "c2 required a d",
            "c3 required a c d",
            "c1 optional a d"
        ]
    );
    for unmapped in ["-", "cz", " ", "", "DE"] {
        assert_eq!(select(&[(unmapped, "a")]), ["c3 required a"], "{unmapped}");
    }
    let only_optional = select(&[("PL", "a")]);
    assert_eq!(only_optional, ["c3 required a", "c1 optional a"]);
    assert!(select(&[]).is_empty());
}

#[test]
fn multiplexing_without_default_drops_and_the_check_says_so() {
    let settings = [("header", "state"), ("mapping.CZ", "c1")];
    let seen = select("multiplexing", &settings, &[("DE", "a"), ("CZ", "b")]);
    assert_eq!(seen, ["c1 required b"]);
    assert!(select("multiplexing", &settings, &[("DE", "a")]).is_empty());
    let report = check("multiplexing", &settings);
    assert_eq!(report.problems()[0].severity, Severity::Warning);
}

#[test]
fn channels_that_the_source_does_not_have_are_errors() {
    for (kind, key, value) in [
        ("replicating", "optional", "c1 c22"),
        ("multiplexing", "default", "c22"),
        ("multiplexing", "mapping.CZ", "c22"),
        ("multiplexing", "optional.CZ", "c22"),
    ] {
        let report = check(kind, &[(key, value)]);
        let problem = report
            .problems()
            .iter()
            .find(|problem| problem.key.ends_with(key));
        let problem = problem.unwrap_or_else(|| panic!("{key}: {report:?}"));
        assert_eq!(problem.severity, Severity::Error);
        assert_eq!(problem.help.as_deref(), Some("did you mean `c2`?"));
    }
    assert!(check("multiplexing", &[("mapping.CZ", " ")]).has_errors());
}
