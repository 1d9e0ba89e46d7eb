//! Settings of the kafka sink.

use flafka_flow::settings;
use flafka_flow::settings::{Count, Prefixed, Reader, Setting};
use flafka_kafka_client::{Role, check_properties};

use crate::escape::Template;

settings! {
    /// Writes events to Kafka topics: on the embedded log or on any Kafka cluster. The channel's
    /// batch is committed when the broker has acknowledged all of its records. The header `key`
    /// becomes the record's key.
    pub struct KafkaSinkConfig {
        /// Brokers to begin with, `host:port` separated by commas.
        "kafka.bootstrap.servers" | "brokerList" => bootstrap_servers: String,
        /// Topic of events without a topic header. Escapes (`%{header}`, `%Y-%m-%d`, …) are
        /// replaced.
        "kafka.topic" | "topic" => topic: Template = Template::parse("default-flume-topic").expect("a plain name"),
        /// Events in one batch at most.
        "flumeBatchSize" | "batchSize" | "batch-size" => batch_size: Count = Count(100),
        /// Properties of the Java producer, translated for librdkafka. Defaults: `acks=all`,
        /// `enable.idempotence=true`, `linger.ms=0`.
        "kafka.producer.*" => producer: Prefixed,
        /// Acknowledgements to wait for: -1 (all), 1 or 0.
        "requiredAcks" => required_acks: Option<i32>; note "the old name of `kafka.producer.acks`",
        /// Write the whole event (headers and body) as an Avro `AvroFlumeEvent` instead of the
        /// body alone.
        "useFlumeEventFormat" => flume_event_format: bool = false,
        /// Let the topic header of an event choose its topic. An event from a kafka source
        /// carries the topic it came from: set this to false, or remove the header, to send it
        /// elsewhere.
        "allowTopicOverride" => allow_topic_override: bool = true,
        /// Name of the topic header.
        "topicHeader" => topic_header: String = "topic".to_owned(),
        /// Partition of events without a partition header; none lets the key decide.
        "defaultPartitionId" => default_partition: Option<u32>,
        /// Name of a header that holds the partition.
        "partitionIdHeader" => partition_header: Option<String>,
        /// Name of a header that holds the record's timestamp in milliseconds.
        "timestampHeader" => timestamp_header: Option<String>,
        /// `header.<event header> = <record header>`: copies headers to record headers.
        "header.*" => headers: Prefixed,
    }
    moot {
        "serializer.class": "a key of Kafka's old producer; keys are text and values are bytes",
        "key.serializer.class": "a key of Kafka's old producer; keys are text and values are bytes",
        "producer.type": "a key of Kafka's old producer; sending is always asynchronous inside a batch",
    }
    check(|config: &KafkaSinkConfig, reader: &mut Reader<'_>| {
        check_properties(Role::Producer, "kafka.producer.", &config.producer, reader);
        if config.required_acks.is_some_and(|acks| !(-1..=1).contains(&acks)) {
            reader.error("requiredAcks", "no such number of acknowledgements", Some("-1 (all), 1 or 0".to_owned()));
        }
        if config.producer.get("acks") == Some("0") || config.required_acks == Some(0) {
            reader.warning("kafka.producer.acks", "with acks=0 nobody acknowledges: events can be lost");
        }
    })
}
