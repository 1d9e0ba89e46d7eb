//! The channels: memory, file, spillable, jdbc, kafka.

use flafka_flow::counters::{Counters, Metric};
use flafka_flow::registry::ChannelEntry;
use flafka_flow::settings::Reader;
use flafka_log_store::LogCounts;

pub mod file;
pub mod jdbc;
pub mod kafka;
pub mod memory;
pub mod spillable;

/// Every channel of this crate.
pub const CHANNELS: &[ChannelEntry] = &[
    ChannelEntry::of::<memory::MemoryChannelFactory>(),
    ChannelEntry::of::<file::FileChannelFactory>(),
    ChannelEntry::of::<spillable::SpillableFactory>(),
    ChannelEntry::of::<jdbc::JdbcChannelFactory>(),
    ChannelEntry::of::<kafka::KafkaChannelFactory>(),
];

/// Shows what a log has met in counters that have the set [`flafka_flow::counters::sets::LOG`].
pub fn count_troubles(counters: &Counters, counts: LogCounts) {
    for (metric, count) in [
        (Metric::LogMendedCount, counts.mended),
        (Metric::LogDamageCount, counts.damages),
        (Metric::LogDamagedByteCount, counts.damaged_bytes),
        (Metric::LogLostOffsetCount, counts.skipped_offsets),
        (Metric::CheckpointWriteErrorCount, counts.failed_checkpoints),
    ] {
        counters.set(metric, i64::try_from(count).unwrap_or(i64::MAX));
    }
}

/// Refuses transactions that are larger than the channel, at the key that is written.
pub(crate) fn check_transactions(
    reader: &mut Reader<'_>,
    transaction: usize,
    capacity_key: &str,
    capacity: usize,
) {
    const KEY: &str = "transactionCapacity";
    if transaction <= capacity {
        return;
    }
    if reader.section().entries.contains_key(KEY) {
        let message = format!("{KEY} {transaction} is larger than {capacity_key} {capacity}");
        let allowed = format!("a number up to {capacity_key}, {capacity}");
        reader.error(KEY, message, Some(allowed));
    } else {
        let message =
            format!("{KEY}, by default {transaction}, is larger than {capacity_key} {capacity}");
        let allowed = format!("at least {transaction}, or set {KEY} to at most {capacity} too");
        reader.error(capacity_key, message, Some(allowed));
    }
}

#[cfg(test)]
mod tests;
