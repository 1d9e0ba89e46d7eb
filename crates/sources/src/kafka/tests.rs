//! The kafka source against librdkafka's mock cluster; real clusters are under `tests/real/`.

use std::time::{Duration, Instant};

use flafka_flow::channel::error_chain;
use flafka_flow::conformance::doubles::{RecordingProcessor, build_context};
use flafka_flow::registry::SourceFactory;
use flafka_flow::settings::{Report, Section, Settings};
use flafka_flow::source::BuiltSource;
use flafka_kafka_client::{BatchProducer, OutRecord};
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

use super::{KafkaSourceConfig, KafkaSourceFactory};

/// Another process with the same `group.instance.id` took the member's place: librdkafka's client is of no use any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_gave_up_is_reported_and_replaced() {
    let cluster = MockCluster::new(1).expect("mock cluster");
    cluster.create_topic("t", 1, 1).expect("topic");
    let bootstrap = cluster.bootstrap_servers();
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", &bootstrap);
    let producer = BatchProducer::new(&client).expect("producer");
    let send = async |value: &str| {
        let record = OutRecord {
            topic: "t",
            value: value.as_bytes(),
            ..OutRecord::default()
        };
        producer
            .send_all(std::iter::once(record))
            .await
            .expect("sent");
    };
    let pairs = [
        ("kafka.bootstrap.servers", bootstrap.as_str()),
        ("kafka.topics", "t"),
        ("batchDurationMillis", "100"),
        ("kafka.consumer.auto.offset.reset", "earliest"),
        ("kafka.consumer.group.instance.id", "one"),
        ("kafka.consumer.session.timeout.ms", "6000"),
        ("kafka.consumer.heartbeat.interval.ms", "100"),
    ];
    let mut report = Report::new();
    let section = Section::of("a1.sources.r1", pairs);
    let config = KafkaSourceConfig::from_section(&section, &mut report);
    let config = config.unwrap_or_else(|| panic!("{report:?}"));
    let built = KafkaSourceFactory::build(config, &build_context("r1")).expect("built");
    let BuiltSource::Polled(mut source) = built else {
        panic!("the kafka source is polled");
    };
    let channels = RecordingProcessor::new();
    let context = channels.context();
    source.start(&context).await.expect("start");
    send("one").await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while channels.bodies().is_empty() {
        assert!(Instant::now() < deadline, "nothing is read");
        source.process(&context).await.expect("read");
    }
    let fenced = RDKafkaRespErr::RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID;
    cluster.request_errors(RDKafkaApiKey::Heartbeat, &[fenced]);
    let failure = loop {
        assert!(Instant::now() < deadline, "the failure is never reported");
        if let Err(error) = source.process(&context).await {
            break error_chain(&error);
        }
    };
    assert!(
        failure.contains("gave up") && failure.contains("Fenced"),
        "{failure}"
    );
    send("two").await;
    while channels.bodies().len() < 2 {
        assert!(Instant::now() < deadline, "{:?}", channels.bodies());
        source
            .process(&context)
            .await
            .expect("read by another client");
    }
    assert_eq!(channels.bodies(), ["one", "two"]);
    source.stop().await;
}
