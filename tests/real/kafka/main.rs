//! The Kafka suites: one list of cases, run against a real Apache Kafka 4.3.1 and against the embedded log.
//!
//! Foreign clients, and the kafka source, sink and channel of our own agents. No case knows which of the two it talks
//! to. Every case makes topics and groups of its own, so that cases can share
//! the server. Run: `./dev test real`, or
//! `cargo test -p flafka-tests --features real --test real_kafka -- apache_kafka` for one server only.

mod agents;
mod channel_conformance;
mod groups;
mod java_tools;
mod kafka_python;
mod kcat;
mod offsets;
mod old_records;
mod produce_consume;
mod topics;

use std::process::ExitCode;

use flafka_tests::log_server::LogServer;
use flafka_tests::real::apache_kafka;
use flafka_tests::runner::{Case, Run};

fn cases() -> Vec<Case<LogServer>> {
    [
        topics::cases(),
        produce_consume::cases(),
        groups::cases(),
        offsets::cases(),
        kcat::cases(),
        kafka_python::cases(),
        java_tools::cases(),
        old_records::cases(),
        channel_conformance::cases(),
        agents::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn main() -> anyhow::Result<ExitCode> {
    let mut run = Run::from_arguments()?;
    run.suite("apache_kafka", apache_kafka, cases());
    run.suite("embedded_log", LogServer::embedded, cases());
    Ok(run.finish())
}
