//! The kafka sink against librdkafka's mock cluster; real clusters are under `tests/real/`.

use std::sync::Arc;

use flafka_flow::channel::Channel;
use flafka_flow::conformance::doubles::{TestChannel, build_context};
use flafka_flow::event::Event;
use flafka_flow::registry::SinkFactory;
use flafka_flow::settings::{Report, Section, Settings};
use flafka_flow::sink::Sink;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::KafkaSinkConfig;
use super::sink::KafkaSinkFactory;

fn sink(bootstrap: &str, more: &[(&str, &str)], channel: &Arc<TestChannel>) -> Box<dyn Sink> {
    let own = [("kafka.bootstrap.servers", bootstrap), ("kafka.topic", "t")];
    let section = Section::of("a1.sinks.k1", own.into_iter().chain(more.iter().copied()));
    let mut report = Report::new();
    let config = KafkaSinkConfig::from_section(&section, &mut report);
    let config = config.unwrap_or_else(|| panic!("{report:?}"));
    let channel = Arc::clone(channel) as Arc<dyn Channel>;
    KafkaSinkFactory::build(config, channel, &build_context("k1")).expect("built")
}

/// A topic that is deleted and made again forgets the sequences of the client, which then refuses everything for good.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_refuses_everything_is_replaced() {
    let cluster = MockCluster::new(1).expect("mock cluster");
    cluster.create_topic("t", 1, 1).expect("topic");
    let channel = TestChannel::new();
    let mut sink = sink(&cluster.bootstrap_servers(), &[], &channel);
    sink.start().await.expect("start");
    channel.fill([Event::new("one")]);
    sink.process().await.expect("sent");
    let unknown = RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    cluster.request_errors(RDKafkaApiKey::Produce, &[unknown]);
    channel.fill([Event::new("two")]);
    sink.process().await.expect_err("refused");
    sink.process().await.expect("sent by another client");
    assert_eq!((channel.committed().len(), channel.remaining()), (2, 0));
    sink.stop().await.expect("stop");
}

/// Both are fine beside Flume's client, whose default is no idempotence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn properties_that_contradict_idempotence_switch_it_off() {
    let cluster = MockCluster::new(1).expect("mock cluster");
    cluster.create_topic("t", 1, 1).expect("topic");
    for pair in [
        ("kafka.producer.retries", "0"),
        ("kafka.producer.max.in.flight.requests.per.connection", "20"),
    ] {
        let channel = TestChannel::new();
        let mut sink = sink(&cluster.bootstrap_servers(), &[pair], &channel);
        sink.start().await.expect("start");
        channel.fill([Event::new("one")]);
        sink.process().await.expect("sent");
        sink.stop().await.expect("stop");
    }
}
