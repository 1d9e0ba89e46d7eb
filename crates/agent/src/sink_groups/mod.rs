//! The sink processors: which sink of a group works next (Flume reference 2.7, 3.5).
//!
//! Delays run on tokio's clock. A sink that could not be started counts as one that failed: the
//! group starts when at least one sink did, and starting the others is tried again when their
//! delay has passed.

mod default;
mod failover;
mod load_balance;
mod member;
#[cfg(test)]
mod tests;

pub use default::{DefaultProcessorConfig, DefaultProcessorFactory};
pub use failover::{FailoverProcessorConfig, FailoverProcessorFactory};
use flafka_flow::registry::SinkProcessorEntry;
pub use load_balance::{LoadBalanceProcessorConfig, LoadBalanceProcessorFactory, Order};

/// Every sink processor; the first one is that of a sink outside any group.
pub const SINK_PROCESSORS: &[SinkProcessorEntry] = &[
    SinkProcessorEntry::of::<DefaultProcessorFactory>(),
    SinkProcessorEntry::of::<FailoverProcessorFactory>(),
    SinkProcessorEntry::of::<LoadBalanceProcessorFactory>(),
];
