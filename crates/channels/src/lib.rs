//! The channels: memory, file, spillable, kafka.

use flafka_flow::registry::ChannelEntry;

pub mod file;
pub mod kafka;
pub mod memory;
pub mod spillable;

/// Every channel of this crate.
pub const CHANNELS: &[ChannelEntry] = &[
    ChannelEntry::of::<memory::MemoryChannelFactory>(),
    ChannelEntry::of::<file::FileChannelFactory>(),
    ChannelEntry::of::<spillable::SpillableFactory>(),
    ChannelEntry::of::<kafka::KafkaChannelFactory>(),
];

#[cfg(test)]
mod tests;
