//! The broker under librdkafka: an idempotent producer, a consumer group, admin calls.
#![expect(
    clippy::unwrap_used,
    reason = "a test that meets the unexpected should panic"
)]

use std::collections::HashSet;
use std::time::{Duration, Instant};

use flafka_broker::{Broker, BrokerConfig};
use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use tempfile::TempDir;

/// Only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(120);

struct Server {
    broker: Broker,
    _dir: TempDir,
}

async fn start() -> Server {
    let dir = TempDir::new().unwrap();
    let text = format!(
        "listeners=PLAINTEXT://127.0.0.1:0\nlog.dirs={}\nnum.partitions=3\n",
        dir.path().display()
    );
    let (config, _) = BrokerConfig::from_properties(text).unwrap();
    let broker = Broker::start(config).await.unwrap();
    Server { broker, _dir: dir }
}

impl Server {
    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.broker.local_addr().to_string());
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }

    async fn stop(self) {
        self.broker.shutdown(PATIENCE).await.unwrap();
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(PATIENCE))
}

fn produce(config: &ClientConfig, topic: &str, count: u32) {
    let producer: ThreadedProducer<DefaultProducerContext> = config.create().unwrap();
    for number in 0..count {
        let payload = number.to_be_bytes();
        let key = (number % 7).to_be_bytes();
        let headers = || {
            OwnedHeaders::new()
                .insert(Header {
                    key: "n",
                    value: Some(&payload),
                })
                .insert(Header {
                    key: "n",
                    value: Some("again"),
                })
        };
        let mut record = BaseRecord::to(topic).payload(&payload[..]).key(&key[..]);
        if number == 0 {
            record = record.headers(headers());
        }
        loop {
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    std::thread::sleep(Duration::from_millis(1));
                    record = back;
                }
                Err((error, _)) => panic!("{error}"),
            }
        }
    }
    producer.flush(PATIENCE).unwrap();
}

fn consume(consumer: &BaseConsumer, count: u32) -> HashSet<u32> {
    let deadline = Instant::now() + PATIENCE;
    let mut seen = HashSet::new();
    while seen.len() < count as usize {
        assert!(
            Instant::now() < deadline,
            "{} of {count} records",
            seen.len()
        );
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let message = message.unwrap();
        let number = u32::from_be_bytes(message.payload().unwrap().try_into().unwrap());
        assert!(seen.insert(number), "record {number} came twice");
        assert_eq!(message.key().unwrap(), (number % 7).to_be_bytes());
        if number == 0 {
            assert_eq!(message.headers().unwrap().count(), 2);
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_records_reach_a_group_once() {
    let server = start().await;
    let mut config = server.client();
    config
        .set("enable.idempotence", "true")
        .set("linger.ms", "5");
    let mut consuming = server.client();
    consuming
        .set("group.id", "readers")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false");
    tokio::task::spawn_blocking(move || {
        const COUNT: u32 = 100_000;
        produce(&config, "numbers", COUNT);
        let consumer: BaseConsumer = consuming.create().unwrap();
        consumer.subscribe(&["numbers"]).unwrap();
        assert_eq!(consume(&consumer, COUNT).len(), COUNT as usize);
        consumer.commit_consumer_state(CommitMode::Sync).unwrap();
        drop(consumer);
        // A second member of the group goes on where the first one stopped.
        for codec in ["gzip", "snappy", "lz4", "zstd"] {
            let mut compressing = config.clone();
            compressing.set("compression.codec", codec);
            produce(&compressing, "numbers", 500);
            let consumer: BaseConsumer = consuming.create().unwrap();
            consumer.subscribe(&["numbers"]).unwrap();
            assert_eq!(consume(&consumer, 500).len(), 500, "{codec}");
            consumer.commit_consumer_state(CommitMode::Sync).unwrap();
        }
    })
    .await
    .unwrap();
    let metrics = server.broker.metrics();
    assert_eq!(metrics.protocol_violations.get(), 0);
    assert_eq!(metrics.produced_records.get(), 102_000);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn admin_creates_describes_changes_and_deletes() {
    let server = start().await;
    let admin = server.admin();
    let topic = NewTopic::new("made", 2, TopicReplication::Fixed(1)).set("retention.ms", "60000");
    let created = admin.create_topics([&topic], &options()).await.unwrap();
    assert_eq!(created, [Ok("made".to_owned())]);
    let again = admin.create_topics([&topic], &options()).await.unwrap();
    assert_eq!(
        again,
        [Err((
            "made".to_owned(),
            RDKafkaErrorCode::TopicAlreadyExists
        ))]
    );
    let more = NewPartitions::new("made", 5);
    admin.create_partitions([&more], &options()).await.unwrap();
    let value_of = async |key: &str| {
        let resource = ResourceSpecifier::Topic("made");
        let described = admin
            .describe_configs([&resource], &options())
            .await
            .unwrap();
        let described = described.into_iter().next().unwrap().unwrap();
        assert!(described.entries.len() > 30);
        described.get(key).unwrap().value.clone().unwrap()
    };
    assert_eq!(value_of("retention.ms").await, "60000");
    let change = AlterConfig::new(ResourceSpecifier::Topic("made")).set("retention.ms", "70000");
    admin.alter_configs([&change], &options()).await.unwrap();
    assert_eq!(value_of("retention.ms").await, "70000");
    let consumer: BaseConsumer = server.client().create().unwrap();
    let metadata = tokio::task::spawn_blocking(move || {
        consumer.fetch_metadata(Some("made"), PATIENCE).unwrap()
    })
    .await
    .unwrap();
    assert_eq!(metadata.topics()[0].partitions().len(), 5);
    let deleted = admin.delete_topics(&["made"], &options()).await.unwrap();
    assert_eq!(deleted, [Ok("made".to_owned())]);
    server.stop().await;
}
