//! Tests of the sink processors, on a paused clock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use flafka_flow::conformance::doubles::build_context;
use flafka_flow::settings::{Report, Section, Severity};
use flafka_flow::sink::{Sink, SinkError, Status};
use flafka_flow::sink_processor::{NamedSink, SinkProcessor};
use tokio::time::advance;

use super::SINK_PROCESSORS;

/// What a sink does when it is called.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Works,
    IsIdle,
    Fails,
    DoesNotStart,
}

/// Sinks that behave as told and write down who was called.
#[derive(Clone, Default)]
struct Stage {
    moods: Arc<Mutex<HashMap<String, Mood>>>,
    calls: Arc<Mutex<Vec<String>>>,
}

struct Actor {
    name: String,
    stage: Stage,
}

impl Stage {
    fn set(&self, name: &str, mood: Mood) {
        self.moods
            .lock()
            .expect("no panic")
            .insert(name.to_owned(), mood);
    }

    fn mood(&self, name: &str) -> Mood {
        let moods = self.moods.lock().expect("no panic");
        moods.get(name).copied().unwrap_or(Mood::Works)
    }

    /// Who was called since the last look.
    fn calls(&self) -> String {
        let mut calls = self.calls.lock().expect("no panic");
        std::mem::take(&mut *calls).join(" ")
    }

    fn group(&self, kind: &str, names: &[&str], pairs: &[(&str, &str)]) -> Box<dyn SinkProcessor> {
        let (entry, section) = (entry(kind), section(pairs));
        let own: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut report = Report::new();
        (entry.check)(&section, &own, &mut report);
        assert!(!report.has_errors(), "{report:?}");
        let sinks = own.into_iter().map(|name| NamedSink {
            sink: Box::new(Actor {
                name: name.clone(),
                stage: self.clone(),
            }),
            name,
        });
        (entry.build)(&section, sinks.collect(), &build_context("g1")).expect("builds")
    }
}

fn entry(kind: &str) -> &'static flafka_flow::registry::SinkProcessorEntry {
    SINK_PROCESSORS
        .iter()
        .find(|entry| entry.description.names.matches(kind))
        .expect("known")
}

fn section(pairs: &[(&str, &str)]) -> Section {
    Section::of("a1.sinkgroups.g1.processor", pairs.iter().copied())
}

#[async_trait]
impl Sink for Actor {
    async fn start(&mut self) -> Result<(), SinkError> {
        match self.stage.mood(&self.name) {
            Mood::DoesNotStart => Err(SinkError::retriable("start", &*self.name, "told so")),
            _ => Ok(()),
        }
    }

    async fn process(&mut self) -> Result<Status, SinkError> {
        let mut calls = self.stage.calls.lock().expect("no panic");
        calls.push(self.name.clone());
        match self.stage.mood(&self.name) {
            Mood::Works => Ok(Status::Ready),
            Mood::IsIdle => Ok(Status::Backoff),
            _ => Err(SinkError::retriable("send", &*self.name, "told so")),
        }
    }

    async fn stop(&mut self) -> Result<(), SinkError> {
        self.stage
            .calls
            .lock()
            .expect("no panic")
            .push(format!("stop-{}", self.name));
        Ok(())
    }
}

async fn ready(processor: &mut Box<dyn SinkProcessor>) {
    assert_eq!(processor.process().await.expect("works"), Status::Ready);
}

const MS: Duration = Duration::from_millis(1);

#[tokio::test(start_paused = true)]
async fn default_has_one_sink() {
    let stage = Stage::default();
    let mut processor = stage.group("default", &["k1"], &[]);
    processor.start().await.expect("starts");
    ready(&mut processor).await;
    stage.set("k1", Mood::Fails);
    assert!(processor.process().await.is_err());
    processor.stop().await;
    assert_eq!(stage.calls(), "k1 k1 stop-k1");
}

#[tokio::test(start_paused = true)]
async fn failover_prefers_the_highest_priority_and_comes_back() {
    let stage = Stage::default();
    let settings = [("priority.k1", "5"), ("priority.k2", "10")];
    let mut group = stage.group("failover", &["k1", "k2", "k3"], &settings);
    group.start().await.expect("starts");
    ready(&mut group).await;
    assert_eq!(stage.calls(), "k2");

    stage.set("k2", Mood::Fails);
    ready(&mut group).await;
    assert_eq!(stage.calls(), "k2 k1");
    advance(Duration::from_secs(2)).await;
    ready(&mut group).await;
    assert_eq!(stage.calls(), "k1", "2 s have to be over");
    advance(MS).await;
    ready(&mut group).await;
    assert_eq!(stage.calls(), "k2 k1", "tried again, fails again");
    advance(Duration::from_secs(4)).await;
    ready(&mut group).await;
    assert_eq!(stage.calls(), "k1", "now 4 s");
    advance(MS).await;
    stage.set("k2", Mood::IsIdle);
    assert_eq!(group.process().await.expect("idle"), Status::Backoff);
    assert_eq!(
        stage.calls(),
        "k2",
        "an idle sink is neither punished nor live"
    );
    stage.set("k2", Mood::Works);
    ready(&mut group).await;
    ready(&mut group).await;
    assert_eq!(stage.calls(), "k2 k2");
}

#[tokio::test(start_paused = true)]
async fn failover_penalties_grow_to_the_limit_and_never_overflow() {
    let stage = Stage::default();
    stage.set("k1", Mood::Fails);
    let settings = [("priority.k1", "1"), ("maxpenalty", "5000")];
    let mut group = stage.group("failover", &["k1", "k2"], &settings);
    group.start().await.expect("starts");
    ready(&mut group).await;
    assert_eq!(stage.calls(), "k1 k2");
    for (failure, seconds) in [2, 4].into_iter().chain([5; 40]).enumerate() {
        advance(Duration::from_secs(seconds)).await;
        ready(&mut group).await;
        assert_eq!(stage.calls(), "k2", "after failure {}", failure + 1);
        advance(MS).await;
        ready(&mut group).await;
        assert_eq!(stage.calls(), "k1 k2", "after failure {}", failure + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn failover_with_nobody_left_is_an_error() {
    let stage = Stage::default();
    for sink in ["k1", "k2"] {
        stage.set(sink, Mood::Fails);
    }
    let mut group = stage.group("failover", &["k1", "k2"], &[]);
    group.start().await.expect("starts");
    let error = group.process().await.expect_err("all fail");
    assert!(
        error.is_retriable() && error.to_string().contains("k1, k2"),
        "{error}"
    );
    assert_eq!(stage.calls(), "k1 k2", "-1 before -2");
    assert!(group.process().await.is_err());
    assert_eq!(stage.calls(), "");
    advance(Duration::from_millis(2001)).await;
    stage.set("k1", Mood::Works);
    ready(&mut group).await;
    assert_eq!(stage.calls(), "k1");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_does_not_start_is_a_failed_one() {
    for kind in ["failover", "load_balance"] {
        let stage = Stage::default();
        stage.set("k1", Mood::DoesNotStart);
        let settings: &[_] = match kind {
            "failover" => &[],
            _ => &[("backoff", "true")],
        };
        let mut group = stage.group(kind, &["k1", "k2"], settings);
        group.start().await.expect("one of two starts");
        ready(&mut group).await;
        assert_eq!(stage.calls(), "k2", "{kind}");
        stage.set("k1", Mood::Works);
        advance(Duration::from_millis(2001)).await;
        ready(&mut group).await;
        ready(&mut group).await;
        assert!(stage.calls().contains("k1"), "{kind}");
        group.stop().await;
        assert_eq!(stage.calls(), "stop-k1 stop-k2", "{kind}");

        let stage = Stage::default();
        stage.set("k1", Mood::DoesNotStart);
        stage.set("k2", Mood::DoesNotStart);
        let mut group = stage.group(kind, &["k1", "k2"], settings);
        assert!(group.start().await.is_err(), "{kind}");
        stage.set("k1", Mood::Works);
        group.start().await.expect("a later start works");
    }
}

#[tokio::test(start_paused = true)]
async fn round_robin_takes_turns_and_goes_on_after_a_failure() {
    let stage = Stage::default();
    let mut group = stage.group("load_balance", &["k1", "k2", "k3"], &[]);
    group.start().await.expect("starts");
    for _ in 0..4 {
        ready(&mut group).await;
    }
    assert_eq!(stage.calls(), "k1 k2 k3 k1");
    stage.set("k2", Mood::Fails);
    ready(&mut group).await;
    assert_eq!(stage.calls(), "k2 k3");
    stage.set("k3", Mood::IsIdle);
    assert_eq!(group.process().await.expect("idle"), Status::Backoff);
    assert_eq!(stage.calls(), "k3", "an empty channel is no failure");
    for sink in ["k1", "k3"] {
        stage.set(sink, Mood::Fails);
    }
    assert!(group.process().await.is_err());
    assert_eq!(stage.calls(), "k1 k2 k3");
    assert!(
        group.process().await.is_err(),
        "without backoff all are tried again"
    );
    assert_eq!(stage.calls(), "k2 k3 k1");
}

#[tokio::test(start_paused = true)]
async fn backoff_leaves_failed_sinks_out_longer_and_longer() {
    let stage = Stage::default();
    stage.set("k2", Mood::Fails);
    let settings = [("backoff", "true"), ("selector.maxTimeOut", "7000")];
    let mut group = stage.group("load_balance", &["k1", "k2"], &settings);
    group.start().await.expect("starts");
    ready(&mut group).await;
    ready(&mut group).await;
    assert_eq!(stage.calls(), "k1 k2 k1");
    for seconds in [2, 4, 7, 7] {
        advance(Duration::from_secs(seconds)).await;
        ready(&mut group).await;
        ready(&mut group).await;
        assert_eq!(stage.calls(), "k1 k1", "left out for {seconds} s");
        advance(MS).await;
        ready(&mut group).await;
        ready(&mut group).await;
        assert!(stage.calls().contains("k2"), "{seconds} s are over");
    }
    // Success does not reset the count, an hour of peace does.
    stage.set("k2", Mood::Works);
    advance(Duration::from_secs(8)).await;
    ready(&mut group).await;
    ready(&mut group).await;
    stage.set("k2", Mood::Fails);
    advance(Duration::from_secs(3600 + 8)).await;
    ready(&mut group).await;
    ready(&mut group).await;
    stage.calls();
    advance(Duration::from_millis(2001)).await;
    ready(&mut group).await;
    ready(&mut group).await;
    assert!(stage.calls().contains("k2"), "2 s again");
}

#[tokio::test(start_paused = true)]
async fn all_sinks_left_out_is_an_error_in_both_orders() {
    for order in ["round_robin", "random"] {
        let stage = Stage::default();
        for sink in ["k1", "k2"] {
            stage.set(sink, Mood::Fails);
        }
        let settings = [("backoff", "true"), ("selector", order)];
        let mut group = stage.group("load_balance", &["k1", "k2"], &settings);
        group.start().await.expect("starts");
        assert!(group.process().await.is_err());
        stage.calls();
        assert!(group.process().await.is_err(), "{order}");
        assert_eq!(stage.calls(), "", "{order}");
        advance(Duration::from_millis(2001)).await;
        stage.set("k1", Mood::Works);
        ready(&mut group).await;
    }
}

#[tokio::test(start_paused = true)]
async fn random_uses_every_sink() {
    let stage = Stage::default();
    let names = ["k1", "k2", "k3"];
    let mut group = stage.group("load_balance", &names, &[("selector", "RANDOM")]);
    group.start().await.expect("starts");
    for _ in 0..300 {
        ready(&mut group).await;
    }
    let calls = stage.calls();
    for name in names {
        let count = calls.matches(name).count();
        assert!((30..200).contains(&count), "{name} {count}");
    }
}

#[test]
fn checks_name_what_is_wrong() {
    let check = |kind: &str, sinks: &[&str], pairs: &[(&str, &str)]| {
        let sinks: Vec<_> = sinks.iter().map(|name| (*name).to_owned()).collect();
        let mut report = Report::new();
        (entry(kind).check)(&section(pairs), &sinks, &mut report);
        report
    };
    assert!(check("default", &["k1", "k2"], &[]).has_errors());
    assert!(check("load_balance", &["k1"], &[]).has_errors());
    assert!(check("load_balance", &["k1", "k2"], &[("selector", "com.Mine")]).has_errors());
    let report = check("failover", &["sink1", "sink2"], &[("priority.snik1", "1")]);
    assert_eq!(
        report.problems()[0].help.as_deref(),
        Some("did you mean `sink1`?")
    );
    let settings = [
        ("priority.k1", "5"),
        ("priority.k2", "5"),
        ("priority.k3", "high"),
        ("maxpenalty", "soon"),
    ];
    let report = check("failover", &["k1", "k2", "k3"], &settings);
    let severities: Vec<_> = report
        .problems()
        .iter()
        .map(|problem| problem.severity)
        .collect();
    assert_eq!(severities, [Severity::Warning; 3], "{report:?}");
}
