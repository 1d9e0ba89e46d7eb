//! The kafka sink against librdkafka's mock cluster; real clusters are under `tests/real/`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use flafka_broker::{Broker, BrokerConfig};
use flafka_flow::channel::Channel;
use flafka_flow::conformance::doubles::{TestChannel, build_context};
use flafka_flow::event::{Event, Headers};
use flafka_flow::registry::SinkFactory;
use flafka_flow::settings::{Report, Section, Settings};
use flafka_flow::sink::Sink;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
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
    let refused = sink.process().await.expect_err("refused");
    let shown = flafka_flow::channel::error_chain(&refused);
    assert!(shown.contains("gave up"), "{shown}");
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

/// An embedded log with one topic of one partition, which can grow (the mock cluster's cannot).
struct Growing {
    broker: Broker,
    bootstrap: String,
    admin: AdminClient<DefaultClientContext>,
    reader: Arc<BaseConsumer>,
    _dir: tempfile::TempDir,
}

impl Growing {
    async fn start() -> Growing {
        let dir = tempfile::TempDir::new().expect("directory");
        let text = format!(
            "listeners=PLAINTEXT://127.0.0.1:0\nlog.dirs={}\n",
            dir.path().display()
        );
        let (config, _) = BrokerConfig::from_properties(&text).expect("config");
        let broker = Broker::start(config).await.expect("broker");
        let bootstrap = broker.local_addr().to_string();
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &bootstrap);
        let admin: AdminClient<_> = client.create().expect("admin");
        let topic = NewTopic::new("t", 1, TopicReplication::Fixed(1));
        let made = admin.create_topics([&topic], &AdminOptions::new()).await;
        made.expect("asked")[0].as_ref().expect("topic");
        client.set("group.id", "g");
        Growing {
            reader: Arc::new(client.create().expect("consumer")),
            broker,
            bootstrap,
            admin,
            _dir: dir,
        }
    }

    async fn grow(&self, partitions: usize) {
        let more = NewPartitions::new("t", partitions);
        let made = self
            .admin
            .create_partitions([&more], &AdminOptions::new())
            .await;
        made.expect("asked")[0].as_ref().expect("more partitions");
    }

    /// Records in each partition.
    async fn counts(&self, partitions: i32) -> Vec<i64> {
        let reader = Arc::clone(&self.reader);
        let count = move |partition| {
            let patience = Duration::from_secs(10);
            let marks = reader.fetch_watermarks("t", partition, patience);
            marks.expect("watermarks").1
        };
        tokio::task::spawn_blocking(move || (0..partitions).map(count).collect())
            .await
            .expect("asked")
    }

    async fn stop(self) {
        let stopped = self.broker.shutdown(Duration::from_secs(10)).await;
        stopped.expect("stopped");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_was_added_is_found_by_its_number() {
    let log = Growing::start().await;
    let channel = TestChannel::new();
    let mut sink = sink(&log.bootstrap, &[("partitionIdHeader", "p")], &channel);
    sink.start().await.expect("start");
    let to = |partition: &str| Event {
        headers: Headers::single("p", partition),
        body: "x".into(),
    };
    channel.fill([to("0")]);
    sink.process().await.expect("sent");
    log.grow(3).await;
    // At most a second passes in which the new number still counts as none.
    let deadline = Instant::now() + Duration::from_secs(60);
    while log.counts(3).await[2] == 0 {
        assert!(Instant::now() < deadline, "the partition is never used");
        channel.fill([to("2")]);
        sink.process().await.expect("sent");
    }
    channel.fill([to("1")]);
    sink.process().await.expect("sent");
    assert_eq!(log.counts(3).await[1], 1);
    sink.stop().await.expect("stop");
    log.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_default_partition_that_was_added_is_found_at_once() {
    let log = Growing::start().await;
    let channel = TestChannel::new();
    let mut sink = sink(&log.bootstrap, &[("defaultPartitionId", "1")], &channel);
    sink.start().await.expect("start");
    channel.fill([Event::new("x")]);
    sink.process().await.expect_err("there is no partition 1");
    log.grow(2).await;
    sink.process().await.expect("sent");
    assert_eq!(log.counts(2).await, [0, 1]);
    sink.stop().await.expect("stop");
    log.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_without_a_partition_spread_over_added_ones_within_the_metadata_age() {
    let log = Growing::start().await;
    let channel = TestChannel::new();
    let age = ("kafka.producer.metadata.max.age.ms", "100");
    let mut sink = sink(&log.bootstrap, &[age], &channel);
    sink.start().await.expect("start");
    channel.fill([Event::new("x")]);
    sink.process().await.expect("sent");
    log.grow(2).await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while log.counts(2).await[1] == 0 {
        assert!(Instant::now() < deadline, "the partition is never used");
        channel.fill([Event::new("x")]);
        sink.process().await.expect("sent");
    }
    sink.stop().await.expect("stop");
    log.stop().await;
}
