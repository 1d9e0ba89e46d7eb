//! What the Kafka source, sink and channel share: Java client properties translated to
//! librdkafka's, a producer that acknowledges whole batches, a consumer that hands out batches
//! and commits what was delivered.
//!
//! Flume users write the Java client's keys below `kafka.producer.` and `kafka.consumer.`;
//! librdkafka is what runs. [`properties`] maps one to the other and refuses what has no
//! counterpart, with the reason.

mod client_log;
pub mod consumer;
pub mod partition_counts;
pub mod producer;
pub mod properties;
pub mod topic_pattern;

pub use consumer::{
    BatchConsumer, ConsumerError, Fetched, PartitionSpan, Subscription, is_transient,
};
pub use partition_counts::PartitionCounts;
pub use producer::{BatchProducer, BatchTicket, OutRecord, ProducerError, idempotence_fits};
pub use properties::{Role, check_properties, client_config};
pub use topic_pattern::{TopicPatternError, topic_pattern};

/// Numbers as Kafka record header bytes and header lists, for sinks that map headers.
pub use rdkafka::message::{Header, OwnedHeaders};
