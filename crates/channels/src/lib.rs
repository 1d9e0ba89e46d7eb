//! The channels: memory, file, kafka.

use flafka_flow::registry::ChannelEntry;

pub mod memory;

/// Every channel of this crate.
pub const CHANNELS: &[ChannelEntry] = &[ChannelEntry::of::<memory::MemoryChannelFactory>()];

#[cfg(test)]
mod tests;
