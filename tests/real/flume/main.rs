//! The Flume suites: the same `flume.conf` run by a real Apache Flume 1.11.0 and by `flafka agent`, results compared.
//!
//! Cases that need no topic run as `local`, the others against a real Apache Kafka and against the embedded log. Run:
//! `./dev test real`, or `cargo test -p flafka-tests --features real --test real_flume -- local`. With
//! `FLAFKA_DIFFERENTIAL_SELF_CHECK=1` Flume is compared with itself and its results are shown: whether a new case is
//! deterministic, and whether it compares what it should.

mod differential;
mod drivers;
mod import_cases;
mod kafka_cases;
mod local_cases;
mod outcome;
mod scene;

use std::process::ExitCode;

use flafka_tests::log_server::LogServer;
use flafka_tests::real::{apache_kafka, prepare_flume};
use flafka_tests::runner::{Case, Run};

use crate::differential::Comparison;

fn local() -> Vec<Case<()>> {
    let compare =
        |comparison: Comparison| Case::new(comparison.name, move |(): &()| comparison.run(None));
    let mut cases: Vec<Case<()>> = local_cases::all().into_iter().map(compare).collect();
    cases.extend(import_cases::cases());
    cases
}

fn with_a_log() -> Vec<Case<LogServer>> {
    let compare = |comparison: Comparison| {
        Case::new(comparison.name, move |log: &LogServer| {
            comparison.run(Some(log.bootstrap()))
        })
    };
    kafka_cases::all().into_iter().map(compare).collect()
}

fn main() -> anyhow::Result<ExitCode> {
    let mut run = Run::from_arguments()?;
    run.suite("local", prepare_flume, local());
    run.suite(
        "apache_kafka",
        || prepare_flume().and_then(|()| apache_kafka()),
        with_a_log(),
    );
    run.suite(
        "embedded_log",
        || prepare_flume().and_then(|()| LogServer::embedded()),
        with_a_log(),
    );
    Ok(run.finish())
}
