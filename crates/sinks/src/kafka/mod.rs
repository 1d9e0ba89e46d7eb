//! The kafka sink (Flume reference 2.5, 3.13): one record an event, committed when the broker
//! has acknowledged every record of the batch.
//!
//! Differences from Flume: `acks` is `all` and the producer is idempotent unless the
//! configuration says otherwise, because acknowledged events must not be lost; an event whose
//! partition header is no partition goes where its key leads, with a warning, instead of
//! blocking the sink for ever.

mod config;
mod sink;

pub use config::KafkaSinkConfig;
pub use sink::{KafkaSink, KafkaSinkFactory};

#[cfg(test)]
mod tests;
