//! The kafka source (Flume reference 2.2, 3.13): a member of a consumer group that puts records
//! into its channels and commits their offsets afterwards.
//!
//! The order is read, put, commit: a crash in between repeats records, never loses them. Records
//! that a channel refuses stay in memory and are put again by the next poll.

mod config;
mod source;

pub use config::KafkaSourceConfig;
pub use source::{KafkaSource, KafkaSourceFactory};

#[cfg(test)]
mod tests;
