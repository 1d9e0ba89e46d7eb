//! Tests of all interceptors, and of the rules that every one in the list keeps.

use std::collections::HashSet;
use std::sync::Arc;

use flafka_flow::clock::ManualClock;
use flafka_flow::conformance::doubles::build_context_with;
use flafka_flow::interceptor::Interceptor;
use flafka_flow::settings::{Report, Section};
use flafka_flow::{Batch, Event, Headers};

use crate::INTERCEPTORS;

fn make(name: &str, pairs: &[(&str, &str)]) -> Box<dyn Interceptor> {
    let entry = INTERCEPTORS
        .iter()
        .find(|entry| entry.description.names.matches(name))
        .expect("known");
    let section = Section::of("a1.sources.r1.interceptors.i1", pairs.iter().copied());
    let mut report = Report::new();
    (entry.check)(&section, &mut report);
    assert!(!report.has_errors(), "{report:?}");
    let clock = Arc::new(ManualClock::at(1_700_000_000_123));
    let context = build_context_with("i1", clock, std::env::temp_dir());
    (entry.build)(&section, &context).expect("builds")
}

fn batch() -> Batch {
    Batch::from_events(["plain", "named", "plain again"].map(|body| {
        Event {
            headers: match body {
                "named" => ["timestamp", "host", "id", "key", "own"]
                    .into_iter()
                    .map(|name| (name, "old"))
                    .collect(),
                _ => Headers::new(),
            },
            body: body.into(),
        }
    }))
}

fn values(batch: &Batch, name: &str) -> Vec<String> {
    batch
        .iter()
        .map(|event| event.headers.get(name).unwrap_or("none").to_owned())
        .collect()
}

#[test]
fn timestamp_is_the_clock_of_the_context() {
    let now = "1700000000123";
    let seen = make("timestamp", &[]).intercept(batch());
    assert_eq!(values(&seen, "timestamp"), [now, now, now]);
    assert_eq!(values(&seen, "own"), ["none", "old", "none"]);
    let kept = make(
        "org.apache.flume.interceptor.TimestampInterceptor$Builder",
        &[("preserveExisting", "true")],
    );
    assert_eq!(
        values(&kept.intercept(batch()), "timestamp"),
        [now, "old", now]
    );
    let other = make("timestamp", &[("headerName", "when")]).intercept(batch());
    assert_eq!(values(&other, "when"), [now, now, now]);
    assert_eq!(values(&other, "timestamp"), ["none", "old", "none"]);
}

#[test]
fn static_preserves_unless_told() {
    let seen = make("static", &[]).intercept(batch());
    assert_eq!(values(&seen, "key"), ["value", "old", "value"]);
    let settings = [
        ("key", "own"),
        ("value", "new"),
        ("preserveExisting", "false"),
    ];
    let seen = make("STATIC", &settings).intercept(batch());
    assert_eq!(values(&seen, "own"), ["new", "new", "new"]);
}

#[test]
fn host_is_an_address_or_a_name() {
    let seen = make("host", &[("preserveExisting", "true")]).intercept(batch());
    let hosts = values(&seen, "host");
    assert_eq!(hosts[1], "old");
    let resolvable = hosts[0] != "none";
    if resolvable {
        let address: Result<std::net::IpAddr, _> = hosts[0].parse();
        assert!(address.is_ok(), "{hosts:?}");
    }
    let settings = [("useIP", "false"), ("hostHeader", "machine")];
    let seen = make("host", &settings).intercept(batch());
    let named = values(&seen, "machine");
    assert_eq!(named[0] != "none", resolvable);
    assert!(!named[0].is_empty() && named[0] == named[1]);
}

#[test]
fn uuid_names_every_event_differently() {
    let many = Batch::from_events((0..1000).map(|_| Event::new("x")));
    let seen = make("uuid", &[("prefix", "p-")]).intercept(many);
    let ids: HashSet<String> = values(&seen, "id").into_iter().collect();
    assert_eq!(ids.len(), 1000);
    for id in &ids {
        let bare = id.strip_prefix("p-").expect("prefix");
        let parsed = ::uuid::Uuid::parse_str(bare).expect("a UUID");
        assert_eq!(parsed.get_version_num(), 4);
    }
    let seen = make(
        "org.apache.flume.sink.solr.morphline.UUIDInterceptor$Builder",
        &[],
    )
    .intercept(batch());
    assert_eq!(values(&seen, "id")[1], "old");
    let seen = make("uuid", &[("preserveExisting", "false")]).intercept(batch());
    assert_ne!(values(&seen, "id")[1], "old");
    assert_eq!(values(&seen, "own"), ["none", "old", "none"]);
}

#[test]
fn bodies_and_order_stay() {
    for entry in INTERCEPTORS {
        let name = entry.description.names.main();
        let seen = make(name, &[]).intercept(batch());
        let bodies: Vec<_> = seen.iter().map(|event| event.body.to_vec()).collect();
        let before: Vec<_> = batch().iter().map(|event| event.body.to_vec()).collect();
        assert_eq!(bodies, before, "{name}");
        assert!(make(name, &[]).intercept(Batch::new()).is_empty(), "{name}");
    }
}

#[test]
fn the_list_is_sound() {
    let mut names = HashSet::new();
    for entry in INTERCEPTORS {
        let main = entry.description.names.main();
        for name in entry.description.names.all() {
            assert!(names.insert(name.to_ascii_lowercase()), "{name} twice");
        }
        assert!(!entry.description.docs.is_empty(), "{main}");
        for field in (entry.description.fields)() {
            assert!(!field.docs.is_empty(), "{main}.{}", field.key);
        }
        let mut report = Report::new();
        (entry.check)(&Section::of("i", [("noSuchKey", "1")]), &mut report);
        assert!(report.has_errors(), "{main} takes any key");
    }
}
