//! Settings of the kafka channel.

use std::time::Duration;

use flafka_flow::Promise;
use flafka_flow::settings;
use flafka_flow::settings::{Millis, Prefixed, Reader};
use flafka_kafka_client::{Role, check_properties};

settings! {
    /// Keeps events in a Kafka topic, of the embedded log or of any Kafka cluster: durable,
    /// shared by several agents, readable by any Kafka client.
    pub struct KafkaChannelConfig {
        /// Brokers to begin with, `host:port` separated by commas.
        "kafka.bootstrap.servers" | "brokerList" => bootstrap_servers: String,
        /// The topic.
        "kafka.topic" | "topic" => topic: String = "flume-channel".to_owned(),
        /// Consumer group of the sinks.
        "kafka.consumer.group.id" | "groupId" => group: String = "flume".to_owned(),
        /// Values are Avro `AvroFlumeEvent`s (headers and body). With false the value is the
        /// body, and headers but `key` are lost.
        "parseAsFlumeEvent" => flume_event_format: bool = true,
        /// Longest wait of a take for a first record, in milliseconds.
        "kafka.pollTimeout" | "pollTimeout" => poll_timeout: Millis = Millis(Duration::from_millis(500)),
        /// Partition of events without a partition header; none lets the key decide.
        "defaultPartitionId" => default_partition: Option<u32>,
        /// Name of a header that holds the partition; not a number is an error of the put.
        "partitionIdHeader" => partition_header: Option<String>,
        /// Properties of the Java producer, translated for librdkafka. Defaults: `acks=all`,
        /// `enable.idempotence=true`, `linger.ms=0`.
        "kafka.producer.*" => producer: Prefixed,
        /// Properties of the Java consumer, translated for librdkafka. Default:
        /// `auto.offset.reset=earliest`.
        "kafka.consumer.*" => consumer: Prefixed,
        /// Where a group without committed offsets begins.
        "readSmallestOffset" => read_smallest: Option<bool>; note "the old name: write kafka.consumer.auto.offset.reset = earliest (true) or latest (false)",
        /// Brokers were once found through ZooKeeper.
        "zookeeperConnect" => zookeeper: Option<String>; note "ZooKeeper is not asked for brokers or offsets: set kafka.bootstrap.servers; offsets kept in ZooKeeper before Kafka 0.9 are not migrated",
    }
    moot {
        "migrateZookeeperOffsets": "offsets kept in ZooKeeper before Kafka 0.9 are not migrated",
        "capacity": "the topic's retention is the only limit",
        "transactionCapacity": "a transaction has no limit but memory",
    }
    check(|config: &KafkaChannelConfig, reader: &mut Reader<'_>| {
        check_properties(Role::Producer, "kafka.producer.", &config.producer, reader);
        check_properties(Role::Consumer, "kafka.consumer.", &config.consumer, reader);
        if config.producer.get("acks").is_some_and(|acks| !matches!(acks, "all" | "-1")) {
            reader.warning("kafka.producer.acks", "a put is then not as durable as the topic: events can be lost");
        }
    })
}

impl KafkaChannelConfig {
    /// What the channel promises, for `flafka explain`: what the topic's brokers do is theirs.
    pub(super) fn promise(&self) -> Promise {
        let acks = self.producer.get("acks").unwrap_or("all");
        let (topic, servers) = (&self.topic, &self.bootstrap_servers);
        let (acknowledged, power_cut_loses) = match acks {
            "all" | "-1" => (
                format!("when {servers} have answered the produce with acks=all"),
                "what the brokers lose: nothing with the embedded log's default (fsync); Apache Kafka acknowledges from \
                 the page caches of its in-sync replicas"
                    .to_owned(),
            ),
            "0" => (
                "when the events are sent; nobody says that they arrived".to_owned(),
                "whatever was on its way or not written".to_owned(),
            ),
            _ => (
                "when the partition's leader has answered".to_owned(),
                "what only that leader had, if it is the one that fails".to_owned(),
            ),
        };
        Promise {
            durability: format!("that of topic {topic} (kafka.producer.acks = {acks})"),
            acknowledged,
            kill_loses: match acks {
                "0" => "what was not yet sent".to_owned(),
                _ => "nothing: the events are with the brokers".to_owned(),
            },
            power_cut_loses,
            repeats: "what sinks had delivered since the last commit of offsets".to_owned(),
            capacity_events: None,
            capacity_bytes: None,
            when_full: "the topic's retention is the only limit: what is older or more than that goes, delivered or not"
                .to_owned(),
            encrypted: None,
            directories: Vec::new(),
        }
    }
}
