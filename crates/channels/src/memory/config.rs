//! The keys of the memory channel, and how many byte slots they mean.

use std::time::Duration;

use flafka_flow::settings::{ByteSize, LenientCount, Reader, Seconds};

use super::SLOT_BYTES;
use crate::check_transactions;

/// Flume counts events and slots in 32-bit integers; more means without limit there.
pub(crate) const LARGEST: usize = i32::MAX as usize;

flafka_flow::settings! {
    /// Keeps events in memory: the fastest channel, and its events are lost when the process
    /// dies. At an ordered stop the agent drains it first.
    pub struct MemoryChannelConfig {
        /// Events that the channel holds at most, those in open leases included.
        "capacity" => capacity: LenientCount = LenientCount(100),
        /// Events that one put or one take moves at most. Must not exceed `capacity`.
        "transactionCapacity" => transaction_capacity: LenientCount = LenientCount(100),
        /// Seconds that a put waits for room, and a take for a first event.
        "keep-alive" => keep_alive: Seconds = Seconds(Duration::from_secs(3)),
        /// Bytes of event bodies that the channel holds at most, less the share of
        /// `byteCapacityBufferPercentage`; counted in slots of 100 bytes a body. 0 means without
        /// limit. Without this key: a fifth of the memory that the process may use, which is
        /// what Flume's rule (80 % of the heap) gives in a Java machine with default settings.
        "byteCapacity" => byte_capacity: Option<ByteSize>,
        /// Percent of `byteCapacity` set aside for headers, which are not counted.
        "byteCapacityBufferPercentage" => buffer_percentage: u32 = 20,
    }
    check(|config: &MemoryChannelConfig, reader: &mut Reader<'_>| {
        check_transactions(reader, config.transaction_capacity.0, "capacity", config.capacity.0);
        note_no_slot(reader, config.byte_capacity, config.buffer_percentage, SLOT_BYTES);
        if config.capacity.0 > LARGEST {
            reader.error("capacity", "too large", Some(format!("a number up to {LARGEST}")));
        }
        if config.buffer_percentage > 100 {
            reader.error(
                "byteCapacityBufferPercentage",
                "more than all of it",
                Some("a number from 0 to 100".to_owned()),
            );
        }
    })
}

/// Says that a byte capacity without room for one slot means none, as in Flume.
pub(crate) fn note_no_slot(
    reader: &mut Reader<'_>,
    byte_capacity: Option<ByteSize>,
    buffer_percentage: u32,
    slot_bytes: u64,
) {
    let is_set = byte_capacity.is_some_and(|bytes| bytes.0 > 0);
    if is_set && slots(byte_capacity, buffer_percentage, slot_bytes) == 0 {
        let message = format!(
            "less than one slot of {slot_bytes} bytes is left of it, which means without limit, as in Flume"
        );
        reader.warning("byteCapacity", message);
    }
}

/// The byte capacity in slots, less what is set aside for headers; `None` = without limit.
pub(crate) fn slot_budget(
    byte_capacity: Option<ByteSize>,
    buffer_percentage: u32,
    slot_bytes: u64,
) -> Option<usize> {
    let slots = slots(byte_capacity, buffer_percentage, slot_bytes);
    (1..LARGEST).contains(&slots).then_some(slots)
}

fn slots(byte_capacity: Option<ByteSize>, buffer_percentage: u32, slot_bytes: u64) -> usize {
    let capacity = match byte_capacity {
        Some(ByteSize(bytes)) => bytes,
        None => default_byte_capacity(),
    };
    let for_bodies = u128::from(capacity) * u128::from(100 - buffer_percentage.min(100));
    let slots = for_bodies / 100 / u128::from(slot_bytes.max(1));
    usize::try_from(slots).unwrap_or(usize::MAX)
}

/// A fifth of what the process may use: a Java machine without settings takes a quarter of the
/// memory as its heap, and Flume 80 % of the heap.
pub(super) fn default_byte_capacity() -> u64 {
    let machine = {
        let info = rustix::system::sysinfo();
        (info.totalram as u64).saturating_mul(u64::from(info.mem_unit).max(1))
    };
    let limits = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let allowed = limits
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .filter_map(|text| text.trim().parse().ok())
        .fold(machine, u64::min);
    allowed / 5
}
