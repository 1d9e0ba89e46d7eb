//! The channels: memory, file, kafka.

use flafka_flow::registry::ChannelEntry;

pub mod file;
pub mod kafka;
pub mod memory;

/// Every channel of this crate.
pub const CHANNELS: &[ChannelEntry] = &[
    ChannelEntry::of::<memory::MemoryChannelFactory>(),
    ChannelEntry::of::<file::FileChannelFactory>(),
    ChannelEntry::of::<kafka::KafkaChannelFactory>(),
];

#[cfg(test)]
mod tests;
