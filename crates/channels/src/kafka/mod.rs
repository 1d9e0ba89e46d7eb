//! The kafka channel (Flume reference 2.3, 3.13): events wait in a Kafka topic.
//!
//! A put is acknowledged by the brokers; a take reads as a member of a consumer group; a commit
//! commits offsets. Several leases may be out at once: `progress` commits an offset only when
//! everything before it is delivered. It can be used without a source (reads a topic) or without
//! a sink (fills a topic): the producer and the consumer are made when they are first needed.

mod channel;
mod config;
mod progress;
mod reading;
mod waiting;

pub use channel::{KafkaChannel, KafkaChannelFactory};
pub use config::KafkaChannelConfig;
