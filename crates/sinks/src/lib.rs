//! The sinks: kafka, file_roll, logger, null, and the event serializers.

use flafka_flow::registry::{Description, SinkEntry};

pub mod escape;
pub mod file_roll;
pub mod kafka;
pub mod logger;
pub mod null;
pub mod serializers;

/// Every sink of this crate.
pub const SINKS: &[SinkEntry] = &[
    SinkEntry::of::<kafka::KafkaSinkFactory>(),
    SinkEntry::of::<null::NullSinkFactory>(),
    SinkEntry::of::<logger::LoggerSinkFactory>(),
    SinkEntry::of::<file_roll::FileRollSinkFactory>(),
];

/// Every event serializer.
pub const SERIALIZERS: &[Description] = serializers::SERIALIZERS;

#[cfg(test)]
mod tests;
