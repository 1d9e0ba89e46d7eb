//! Settings of the kafka source.

use std::time::Duration;

use flafka_flow::settings;
use flafka_flow::settings::{CommaList, Count, Millis, Prefixed, Reader};
use flafka_kafka_client::{Role, check_properties, topic_pattern};

settings! {
    /// Reads records from Kafka topics, of the embedded log or of any Kafka cluster, as a member
    /// of a consumer group. Offsets are committed after the channels hold the events.
    pub struct KafkaSourceConfig {
        /// Brokers to begin with, `host:port` separated by commas.
        "kafka.bootstrap.servers" => bootstrap_servers: Option<String>,
        /// Topics to read, separated by commas.
        "kafka.topics" | "topic" => topics: CommaList = CommaList::default(),
        /// Regular expression over whole topic names (no look-around, no back references); counts instead of
        /// `kafka.topics`. A new topic is found after `kafka.consumer.metadata.max.age.ms` at the latest.
        "kafka.topics.regex" => topics_regex: Option<String>,
        /// Consumer group. Sources of one group share the partitions.
        "kafka.consumer.group.id" | "groupId" => group: String = "flume".to_owned(),
        /// Properties of the Java consumer, translated for librdkafka. A group without committed
        /// offsets begins at the end (`auto.offset.reset=latest`), as in Flume.
        "kafka.consumer.*" => consumer: Prefixed,
        /// Events in one batch at most.
        "batchSize" => batch_size: Count = Count(1000),
        /// Longest time to fill a batch, in milliseconds.
        "batchDurationMillis" => batch_duration: Millis = Millis(Duration::from_secs(1)),
        /// Values are Avro `AvroFlumeEvent`s (headers and body), as a kafka sink with the same
        /// setting writes them.
        "useFlumeEventFormat" => flume_event_format: bool = false,
        /// Put the topic into a header.
        "setTopicHeader" => set_topic_header: bool = true,
        /// Name of that header.
        "topicHeader" => topic_header: String = "topic".to_owned(),
        /// `header.<event header> = <record header>`: copies record headers; of several with one
        /// name the last counts.
        "header.*" => headers: Prefixed,
        /// Brokers were once found through ZooKeeper.
        "zookeeperConnect" => zookeeper: Option<String>; note "ZooKeeper is not asked for brokers or offsets: set kafka.bootstrap.servers; offsets kept in ZooKeeper before Kafka 0.9 are not migrated",
    }
    moot {
        "migrateZookeeperOffsets": "offsets kept in ZooKeeper before Kafka 0.9 are not migrated",
        "timestampHeader": "stands in Flume's guide but not in its code: the record's time is in the header `timestamp`",
    }
    check(|config: &KafkaSourceConfig, reader: &mut Reader<'_>| {
        check_properties(Role::Consumer, "kafka.consumer.", &config.consumer, reader);
        if config.bootstrap_servers.is_none() {
            let help = "host:port of a broker, such as 127.0.0.1:9092";
            reader.error("kafka.bootstrap.servers", "required key is missing", Some(help.to_owned()));
        }
        if config.topics.0.is_empty() && config.topics_regex.is_none() {
            reader.error("kafka.topics", "neither kafka.topics nor kafka.topics.regex is set", None);
        }
        if let Some(Err(error)) = config.topics_regex.as_deref().map(topic_pattern) {
            let reason = flafka_flow::channel::error_chain(&error);
            reader.error("kafka.topics.regex", reason, None);
        }
    })
}
