//! The channels' conformance suite on the kafka channel, against a log that keeps what it says.
//!
//! The suite itself is `flafka_flow::conformance::channel`; the channel is made as an agent makes it, from its keys.

use std::sync::Arc;

use anyhow::{Context, Result};
use flafka_channels::kafka::{KafkaChannelConfig, KafkaChannelFactory};
use flafka_flow::channel::Channel;
use flafka_flow::conformance::channel::{Promises, suite};
use flafka_flow::conformance::doubles::build_context;
use flafka_flow::registry::ChannelFactory;
use flafka_flow::settings::{Report, Section, Settings};
use flafka_tests::kafka_client::{create_topic, unique_name};
use flafka_tests::log_server::LogServer;
use flafka_tests::runner::Case;

pub(crate) fn cases() -> Vec<Case<LogServer>> {
    let case = |name, partitions| {
        Case::new(name, move |log: &LogServer| {
            conforms(log.bootstrap(), partitions)
        })
    };
    vec![
        case("channel_conformance::one_partition", 1),
        case("channel_conformance::three_partitions", 3),
    ]
}

fn conforms(bootstrap: &str, partitions: i32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("make a runtime")?;
    let promises = Promises {
        capacity: None,
        ordered: partitions == 1,
        durable: true,
        concurrent_leases: true,
    };
    // The topic is made on a thread of its own: the client of the tests brings its own runtime.
    let make = async || {
        let bootstrap = bootstrap.to_owned();
        let made = tokio::task::spawn_blocking(move || channel(&bootstrap, partitions));
        made.await
            .expect("the thread does not panic")
            .expect("a channel on a new topic")
    };
    runtime.block_on(suite(promises, make));
    Ok(())
}

fn channel(bootstrap: &str, partitions: i32) -> Result<Arc<dyn Channel>> {
    let topic = unique_name("conformance");
    create_topic(bootstrap, &topic, partitions)?;
    let keys = [
        ("kafka.bootstrap.servers", bootstrap),
        ("kafka.topic", &topic),
        ("kafka.consumer.group.id", &topic),
        ("kafka.pollTimeout", "100"),
    ];
    let mut report = Report::new();
    let section = Section::of("a1.channels.c1", keys);
    let config = KafkaChannelConfig::from_section(&section, &mut report)
        .with_context(|| format!("{report:?}"))?;
    Ok(KafkaChannelFactory::build(config, &build_context("c1"))?)
}
