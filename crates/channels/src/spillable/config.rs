//! Settings of the spillable channel: its own, and all of the file channel's for the overflow.

use std::time::Duration;

use flafka_flow::settings::{
    Absent, ByteSize, Count, Field, LenientAmount, Reader, Seconds, Settings,
};

use crate::check_transactions;
use crate::file::FileChannelConfig;
use crate::memory::config::{LARGEST, note_no_slot};

/// The file channel's keys that this channel sets itself.
const OWN_CAPACITY: &str =
    "overflowCapacity and memoryCapacity say how much the channel holds, as in Flume";
const OWN_KEEP_ALIVE: &str = "overflowTimeout says how long a put and a take wait, as in Flume";
const LARGEST_TEXT: &str = "2147483647";

flafka_flow::settings! {
    /// Keeps events in memory and, while the memory is full, in files as the file channel does: as fast as the memory
    /// channel on quiet days, as roomy as a disk on bad ones, and always in the order of the puts.
    ///
    /// **A crash loses what memory holds**, up to `memoryCapacity` events; what lies in the overflow survives. An ordered
    /// stop moves what memory holds into the overflow, behind what lies there and beyond `overflowCapacity` if need be; if
    /// the disk refuses it, the process says what is lost and ends with a failure. Where an acknowledged event must never be
    /// lost, take the file channel.
    pub struct SpillableKeys {
        /// Events that the memory part holds at most, those in open leases included; a crash loses these. 0: no memory
        /// part, every put goes to the disk.
        "memoryCapacity" => memory_capacity: LenientAmount = LenientAmount(10_000),
        /// Events that the overflow on the disk holds at most, those in open leases included. 0: no overflow, no file is
        /// opened, and the channel is a memory channel; let the overflow be emptied before. When both capacities are 0,
        /// this one takes its default.
        "overflowCapacity" => overflow_capacity: LenientAmount = LenientAmount(100_000_000),
        /// Seconds that memory has to be full before puts go to the overflow; also what a put waits for room when both
        /// are full, and a take for a first event.
        "overflowTimeout" => overflow_timeout: Seconds = Seconds(Duration::from_secs(3)),
        /// Percent of `memoryCapacity` that have to be free after a delivery so that puts wait for memory again instead of
        /// going to the overflow at once.
        "overflowDeactivationThreshold" => deactivation_threshold: u32 = 5,
        /// Bytes of event bodies that memory holds at most, less the share of `byteCapacityBufferPercentage`; counted in
        /// slots of `avgEventSize`. 0 means without limit. Without this key: a fifth of the memory that the process may
        /// use, which is what Flume's rule (80 % of the heap) gives in a Java machine with default settings.
        "byteCapacity" => byte_capacity: Option<ByteSize>,
        /// Percent of `byteCapacity` set aside for headers, which are not counted.
        "byteCapacityBufferPercentage" => buffer_percentage: u32 = 20,
        /// Bytes of one slot of `byteCapacity`: about the size of an event.
        "avgEventSize" => avg_event_size: Count = Count(500),
    }
    check(|keys: &SpillableKeys, reader: &mut Reader<'_>| {
        for (key, percent) in [
            ("overflowDeactivationThreshold", keys.deactivation_threshold),
            ("byteCapacityBufferPercentage", keys.buffer_percentage),
        ] {
            if percent > 100 {
                reader.error(key, "more than all of it", Some("a number from 0 to 100".to_owned()));
            }
        }
        let slot_bytes = keys.avg_event_size.0 as u64;
        note_no_slot(reader, keys.byte_capacity, keys.buffer_percentage, slot_bytes);
        for (key, capacity) in [("memoryCapacity", keys.memory_capacity), ("overflowCapacity", keys.overflow_capacity)] {
            if capacity.0 > LARGEST {
                reader.error(key, "too large", Some(format!("a number up to {LARGEST}")));
            }
        }
    })
}

/// The settings of a spillable channel.
#[derive(Debug, Clone)]
pub struct SpillableConfig {
    /// The channel's own.
    pub own: SpillableKeys,
    /// The overflow's; its `capacity` is `overflowCapacity`, its `keep-alive` is 0.
    pub file: FileChannelConfig,
}

impl SpillableConfig {
    /// Whether there is an overflow.
    pub fn has_overflow(&self) -> bool {
        self.own.overflow_capacity.0 > 0
    }

    /// Events that one put or one take moves at most.
    pub fn transaction_capacity(&self) -> usize {
        let largest = match self.has_overflow() {
            true => self.own.overflow_capacity.0,
            false => self.own.memory_capacity.0,
        };
        self.file.transaction_capacity.0.min(largest)
    }
}

impl Settings for SpillableConfig {
    const DOCS: &'static [&'static str] = SpillableKeys::DOCS;

    fn fields() -> Vec<Field> {
        let mut fields = SpillableKeys::fields();
        fields.extend(FileChannelConfig::fields().into_iter().map(as_here));
        fields
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let own = SpillableKeys::read(reader);
        for field in FileChannelConfig::fields() {
            if is_set_here(&field).is_some() {
                reader.moot(&as_here(field));
            }
        }
        let file: Option<FileChannelConfig> =
            reader.among(&[("capacity", LARGEST_TEXT), ("keep-alive", "0")]);
        let (mut own, mut file) = (own?, file?);
        if own.memory_capacity.0 == 0 && own.overflow_capacity.0 == 0 {
            own.overflow_capacity = LenientAmount(100_000_000);
            reader.warning(
                "overflowCapacity",
                "both capacities are 0; overflowCapacity takes its default 100000000, as in Flume",
            );
        }
        let overflow = own.overflow_capacity.0;
        if overflow > 0 {
            let transaction = file.transaction_capacity.0;
            check_transactions(reader, transaction, "overflowCapacity", overflow);
        }
        file.capacity.0 = overflow.max(1);
        (!reader.has_failed()).then_some(Self { own, file })
    }
}

/// Why a key of the file channel has nothing to do here.
fn is_set_here(field: &Field) -> Option<&'static str> {
    match field.key {
        "capacity" => Some(OWN_CAPACITY),
        "keep-alive" => Some(OWN_KEEP_ALIVE),
        _ => None,
    }
}

fn as_here(field: Field) -> Field {
    match (field.key, is_set_here(&field)) {
        (_, Some(reason)) => Field {
            docs: reason.to_owned(),
            kind: "accepted, without effect".to_owned(),
            default: Absent::None,
            note: Some(reason),
            ..field
        },
        ("transactionCapacity", None) => Field {
            docs:
                "Events that one put or one take moves at most. Must not exceed `overflowCapacity`."
                    .to_owned(),
            ..field
        },
        (_, None) => field,
    }
}
