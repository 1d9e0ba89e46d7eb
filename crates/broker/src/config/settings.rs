//! The table of settings: key, default as text, meaning, and how a value is read. The reference and DescribeConfigs
//! (Kafka API key 32, broker resource) are made from it. Order matters where two keys set one field: the later wins.
//!
//! It is longer than 500 lines because it is one table that is read key by key.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use flafka_log_store::Durability;

use super::BrokerConfig;
use crate::topics::config::{
    CleanupPolicy, TimestampType, dirty_ppm, lag, max_lag, parse_durability,
};

/// The type that DescribeConfigs reports, numbered as Kafka's `ConfigDef.Type` in the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// `true` or `false`.
    Boolean = 1,
    /// Text.
    String = 2,
    /// 32 bits.
    Int = 3,
    /// 16 bits.
    Short = 4,
    /// 64 bits.
    Long = 5,
    /// Floating point.
    Double = 6,
    /// Comma-separated.
    List = 7,
}

/// One key of `server.properties`.
#[derive(Debug)]
pub struct Setting {
    /// Kafka's key name, or `flafka.…` for ours.
    pub key: &'static str,
    /// The default, as it would stand in the file. Empty = not set.
    pub default: &'static str,
    /// The type for DescribeConfigs.
    pub value_type: ValueType,
    /// What it does, units, allowed values.
    pub doc: &'static str,
    pub(super) apply: fn(&mut BrokerConfig, &str) -> Result<(), String>,
}

const HOUR_MS: i64 = 3_600_000;

/// Reads a number within bounds; the error says what is allowed.
pub(crate) fn number<T>(text: &str, low: T, high: T) -> Result<T, String>
where
    T: FromStr + PartialOrd + std::fmt::Display,
{
    match text.trim().parse::<T>() {
        Ok(value) if value >= low && value <= high => Ok(value),
        Ok(_) | Err(_) => Err(format!("expected a whole number from {low} to {high}")),
    }
}

/// Reads `true` or `false` in any case, as Kafka does.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text.trim() {
        value if value.eq_ignore_ascii_case("true") => Ok(true),
        value if value.eq_ignore_ascii_case("false") => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

fn millis(text: &str, low: u64) -> Result<Duration, String> {
    Ok(Duration::from_millis(number(text, low, i64::MAX as u64)?))
}

fn directories(config: &mut BrokerConfig, text: &str) -> Result<(), String> {
    const MOST: usize = 1_000;
    let parts = text.split(',').map(str::trim);
    let dirs: Vec<PathBuf> = parts
        .filter(|part| !part.is_empty())
        .map(PathBuf::from)
        .collect();
    if !(1..=MOST).contains(&dirs.len()) {
        return Err(format!(
            "expected a directory, or up to {MOST} with commas between them"
        ));
    }
    // Links are followed as far as they exist; one that is made later meets the lock of the log.
    let real = |dir: &PathBuf| {
        let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
        absolute.canonicalize().unwrap_or(absolute)
    };
    let mut places: Vec<(PathBuf, &PathBuf)> = dirs.iter().map(|dir| (real(dir), dir)).collect();
    // What lies in a directory comes right behind it.
    places.sort();
    for pair in places.windows(2) {
        let [(above, outer), (place, inner)] = pair else {
            continue;
        };
        let (inner, outer) = (inner.display(), outer.display());
        if place == above {
            return Err(format!(
                "{outer} and {inner} are one directory: name it once"
            ));
        }
        if place.starts_with(above) {
            return Err(format!(
                "{inner} lies in {outer}: each data directory needs a place of its own"
            ));
        }
    }
    config.log_dirs = dirs;
    Ok(())
}

fn buffer_size(text: &str) -> Result<Option<u32>, String> {
    let size: i32 = number(text, -1, i32::MAX)?;
    Ok(u32::try_from(size).ok().filter(|size| *size > 0))
}

/// All settings with an effect.
pub const SETTINGS: &[Setting] = &[
    Setting {
        key: "broker.id",
        default: "1",
        value_type: ValueType::Int,
        doc: "Id of this node as clients see it; older name of node.id.",
        apply: |config, text| number(text, 0, i32::MAX).map(|value| config.node_id = value),
    },
    Setting {
        key: "node.id",
        default: "1",
        value_type: ValueType::Int,
        doc: "Id of this node as clients see it.",
        apply: |config, text| number(text, 0, i32::MAX).map(|value| config.node_id = value),
    },
    Setting {
        key: "log.dir",
        default: "./flafka-data",
        value_type: ValueType::String,
        doc: "Data directories; log.dirs wins if both are set.",
        apply: directories,
    },
    Setting {
        key: "log.dirs",
        default: "./flafka-data",
        value_type: ValueType::String,
        doc: "Data directories, with commas between them, at best one a disk. A new partition goes to the one with the fewest partitions; one that is full or fails does not stop the others. The directory with the broker's own tables (the first one, when all are new) must be there.",
        apply: directories,
    },
    Setting {
        key: "num.partitions",
        default: "1",
        value_type: ValueType::Int,
        doc: "Partitions of a topic that is created without a number.",
        apply: |config, text| number(text, 1, 10_000).map(|value| config.num_partitions = value),
    },
    Setting {
        key: "auto.create.topics.enable",
        default: "true",
        value_type: ValueType::Boolean,
        doc: "Whether a topic is created when a client asks for it and allows that.",
        apply: |config, text| boolean(text).map(|value| config.auto_create_topics = value),
    },
    Setting {
        key: "delete.topic.enable",
        default: "true",
        value_type: ValueType::Boolean,
        doc: "Whether clients may delete topics.",
        apply: |config, text| boolean(text).map(|value| config.delete_topics = value),
    },
    Setting {
        key: "message.max.bytes",
        default: "1048588",
        value_type: ValueType::Int,
        doc: "Largest record batch in bytes; per topic: max.message.bytes.",
        apply: |config, text| {
            number(text, 0, i32::MAX).map(|value| config.message_max_bytes = value)
        },
    },
    Setting {
        key: "socket.request.max.bytes",
        default: "104857600",
        value_type: ValueType::Int,
        doc: "Largest request frame in bytes; a larger one closes the connection.",
        apply: |config, text| {
            number(text, 1_024, i32::MAX as usize).map(|value| config.request_max_bytes = value)
        },
    },
    Setting {
        key: "queued.max.request.bytes",
        default: "67108864",
        value_type: ValueType::Long,
        doc: "Bytes of requests held at once by all connections together; reading pauses above it.",
        apply: |config, text| {
            number(text, 1 << 20, u32::MAX as usize)
                .map(|value| config.queued_max_request_bytes = value)
        },
    },
    Setting {
        key: "fetch.max.bytes",
        default: "57671680",
        value_type: ValueType::Int,
        doc: "Most record bytes in one Fetch answer, whatever the client asks for.",
        apply: |config, text| {
            number(text, 1_024, i32::MAX).map(|value| config.fetch_max_bytes = value)
        },
    },
    Setting {
        key: "log.segment.bytes",
        default: "1073741824",
        value_type: ValueType::Int,
        doc: "Size in bytes at which a segment file is closed and a new one begun.",
        apply: |config, text| {
            number(text, 1_048_576, i32::MAX).map(|value| config.segment_bytes = value)
        },
    },
    Setting {
        key: "log.roll.hours",
        default: "168",
        value_type: ValueType::Int,
        doc: "Age in hours at which a segment file is closed; .ms wins. See log.roll.ms.",
        apply: |config, text| {
            number(text, 1, i64::from(i32::MAX)).map(|hours| config.roll_ms = hours * HOUR_MS)
        },
    },
    Setting {
        key: "log.roll.ms",
        default: "",
        value_type: ValueType::Long,
        doc: "Age in milliseconds at which a segment file is closed: when a record is so much younger than the file's \
              first, or when none came for so long.",
        apply: |config, text| number(text, 1, i64::MAX).map(|value| config.roll_ms = value),
    },
    Setting {
        key: "log.roll.jitter.hours",
        default: "0",
        value_type: ValueType::Int,
        doc: "Most hours taken off log.roll.ms, different for each segment file; .ms wins.",
        apply: |config, text| {
            number(text, 0, i64::from(i32::MAX))
                .map(|hours| config.roll_jitter_ms = hours * HOUR_MS)
        },
    },
    Setting {
        key: "log.roll.jitter.ms",
        default: "",
        value_type: ValueType::Long,
        doc: "Most milliseconds taken off log.roll.ms, different for each segment file.",
        apply: |config, text| number(text, 0, i64::MAX).map(|value| config.roll_jitter_ms = value),
    },
    Setting {
        key: "log.segment.delete.delay.ms",
        default: "60000",
        value_type: ValueType::Long,
        doc: "How long the files of freed segments stay on the disk, in milliseconds; a full disk and a restart end the \
              wait.",
        apply: |config, text| number(text, 0, i64::MAX).map(|value| config.delete_delay_ms = value),
    },
    Setting {
        key: "log.retention.hours",
        default: "168",
        value_type: ValueType::Int,
        doc: "How long records are kept, in hours; -1 for ever; .minutes and .ms win.",
        apply: |config, text| {
            number(text, -1, i64::from(i32::MAX))
                .map(|hours| config.retention_ms = if hours < 0 { -1 } else { hours * HOUR_MS })
        },
    },
    Setting {
        key: "log.retention.minutes",
        default: "",
        value_type: ValueType::Int,
        doc: "How long records are kept, in minutes; -1 for ever; .ms wins.",
        apply: |config, text| {
            number(text, -1, i64::from(i32::MAX)).map(|minutes| {
                config.retention_ms = if minutes < 0 { -1 } else { minutes * 60_000 }
            })
        },
    },
    Setting {
        key: "log.retention.ms",
        default: "",
        value_type: ValueType::Long,
        doc: "How long records are kept, in milliseconds; -1 for ever.",
        apply: |config, text| number(text, -1, i64::MAX).map(|value| config.retention_ms = value),
    },
    Setting {
        key: "log.retention.bytes",
        default: "-1",
        value_type: ValueType::Long,
        doc: "Bytes kept per partition; -1 is without limit.",
        apply: |config, text| {
            number(text, -1, i64::MAX).map(|value| config.retention_bytes = value)
        },
    },
    Setting {
        key: "log.retention.check.interval.ms",
        default: "300000",
        value_type: ValueType::Long,
        doc: "How often retention is checked, in milliseconds.",
        apply: |config, text| millis(text, 1).map(|value| config.retention_check = value),
    },
    Setting {
        key: "log.cleanup.policy",
        default: "delete",
        value_type: ValueType::List,
        doc: "What happens to old records of topics that do not say it themselves: delete, compact, or both with a comma.",
        apply: |config, text| CleanupPolicy::parse(text).map(|value| config.cleanup_policy = value),
    },
    Setting {
        key: "log.cleaner.enable",
        default: "true",
        value_type: ValueType::Boolean,
        doc: "Whether compacted topics are compacted.",
        apply: |config, text| boolean(text).map(|value| config.cleaner = value),
    },
    Setting {
        key: "log.cleaner.min.cleanable.ratio",
        default: "0.5",
        value_type: ValueType::Double,
        doc: "Compaction of a partition begins when more than this part of its closed segments was never compacted.",
        apply: |config, text| dirty_ppm(text).map(|value| config.compaction.min_dirty_ppm = value),
    },
    Setting {
        key: "log.cleaner.min.compaction.lag.ms",
        default: "0",
        value_type: ValueType::Long,
        doc: "Records younger than so many milliseconds are not compacted.",
        apply: |config, text| lag(text).map(|value| config.compaction.min_lag = value),
    },
    Setting {
        key: "log.cleaner.max.compaction.lag.ms",
        default: "9223372036854775807",
        value_type: ValueType::Long,
        doc: "A record is compacted at the latest so many milliseconds after it came.",
        apply: |config, text| max_lag(text).map(|value| config.compaction.max_lag = value),
    },
    Setting {
        key: "log.cleaner.delete.retention.ms",
        default: "86400000",
        value_type: ValueType::Long,
        doc: "How long compaction keeps a tombstone after it first met it, in milliseconds.",
        apply: |config, text| lag(text).map(|value| config.compaction.tombstone_retention = value),
    },
    Setting {
        key: "log.cleaner.backoff.ms",
        default: "15000",
        value_type: ValueType::Long,
        doc: "Pause between two looks for a partition to compact, in milliseconds.",
        apply: |config, text| millis(text, 0).map(|value| config.cleaner_pause = value),
    },
    Setting {
        key: "log.cleaner.dedupe.buffer.size",
        default: "134217728",
        value_type: ValueType::Long,
        doc: "Most memory for the keys of a compaction pass in bytes, 24 for each key; what does not fit waits for the \
              next pass. Taken only while a pass runs.",
        apply: |config, text| {
            number(text, 1 << 16, i64::MAX as u64).map(|value| config.cleaner_buffer_bytes = value)
        },
    },
    Setting {
        key: "log.cleaner.io.max.bytes.per.second",
        default: "1.7976931348623157E308",
        value_type: ValueType::Double,
        doc: "Bytes that compaction reads in a second at most.",
        apply: |config, text| match text.trim().parse::<f64>() {
            Ok(rate) if rate >= 1.0 => {
                config.cleaner_bytes_per_second = (rate < i64::MAX as f64).then_some(rate as u64);
                Ok(())
            }
            _ => Err("expected a number of bytes from 1".to_owned()),
        },
    },
    Setting {
        key: "compression.type",
        default: "producer",
        value_type: ValueType::String,
        doc: "The broker never recompresses: `producer` keeps what the client chose.",
        apply: |_, text| match text.trim() {
            "producer" => Ok(()),
            _ => Err("only `producer`: batches are stored as they were sent".to_owned()),
        },
    },
    Setting {
        key: "log.message.timestamp.type",
        default: "CreateTime",
        value_type: ValueType::String,
        doc: "CreateTime keeps the producer's timestamps, LogAppendTime replaces them by the time of arrival.",
        apply: |config, text| TimestampType::parse(text).map(|value| config.timestamp_type = value),
    },
    Setting {
        key: "log.message.timestamp.before.max.ms",
        default: "9223372036854775807",
        value_type: ValueType::Long,
        doc: "How far a batch's newest timestamp may lie in the past, in milliseconds (CreateTime only).",
        apply: |config, text| {
            number(text, 0, i64::MAX).map(|value| config.timestamp_before_max_ms = value)
        },
    },
    Setting {
        key: "log.message.timestamp.after.max.ms",
        default: "3600000",
        value_type: ValueType::Long,
        doc: "How far a batch's newest timestamp may lie in the future, in milliseconds (CreateTime only).",
        apply: |config, text| {
            number(text, 0, i64::MAX).map(|value| config.timestamp_after_max_ms = value)
        },
    },
    Setting {
        key: "min.insync.replicas",
        default: "1",
        value_type: ValueType::Int,
        doc: "Above 1, acks=all answers NOT_ENOUGH_REPLICAS, as Kafka does with one replica.",
        apply: |config, text| {
            number(text, 1, i32::MAX).map(|value| config.min_insync_replicas = value)
        },
    },
    Setting {
        key: "flafka.durability",
        default: "fsync",
        value_type: ValueType::String,
        doc: "When a produce is acknowledged: `fsync` after the journal is synced; `interval:<ms>` after the write, \
              synced every so often; `os` after the write, synced by the system. A crash of the process alone loses \
              nothing in any mode.",
        apply: |config, text| {
            parse_durability(text).map(|value: Durability| config.durability = value)
        },
    },
    Setting {
        key: "max.connections",
        default: "1000",
        value_type: ValueType::Int,
        doc: "Connections at once; more are closed at accept.",
        apply: |config, text| {
            number(text, 1, i32::MAX as usize).map(|value| config.max_connections = value)
        },
    },
    Setting {
        key: "max.connections.per.ip",
        default: "2147483647",
        value_type: ValueType::Int,
        doc: "Connections at once from one address.",
        apply: |config, text| {
            number(text, 0, i32::MAX as usize).map(|value| config.max_connections_per_ip = value)
        },
    },
    Setting {
        key: "connections.max.idle.ms",
        default: "600000",
        value_type: ValueType::Long,
        doc: "A connection without a request for so many milliseconds is closed; -1 never.",
        apply: |config, text| {
            let value: i64 = number(text, -1, i64::MAX)?;
            config.connections_max_idle =
                u64::try_from(value).map_or(Duration::MAX, Duration::from_millis);
            Ok(())
        },
    },
    Setting {
        key: "flafka.socket.stall.ms",
        default: "30000",
        value_type: ValueType::Long,
        doc: "A client that sends nothing of a request it began, or takes nothing of an answer, for so many milliseconds \
              is closed; so is one that sends a request at less than 128 KiB/s on top of that time.",
        apply: |config, text| millis(text, 1).map(|value| config.socket_stall = value),
    },
    Setting {
        key: "socket.listen.backlog.size",
        default: "50",
        value_type: ValueType::Int,
        doc: "Connections waiting for accept.",
        apply: |config, text| number(text, 1, 65_535).map(|value| config.listen_backlog = value),
    },
    Setting {
        key: "socket.send.buffer.bytes",
        default: "-1",
        value_type: ValueType::Int,
        doc: "SO_SNDBUF in bytes; -1 leaves it to the system.",
        apply: |config, text| buffer_size(text).map(|value| config.send_buffer_bytes = value),
    },
    Setting {
        key: "socket.receive.buffer.bytes",
        default: "-1",
        value_type: ValueType::Int,
        doc: "SO_RCVBUF in bytes; -1 leaves it to the system.",
        apply: |config, text| buffer_size(text).map(|value| config.receive_buffer_bytes = value),
    },
    Setting {
        key: "group.initial.rebalance.delay.ms",
        default: "0",
        value_type: ValueType::Int,
        doc: "How long a new group waits for more members before its first rebalance, in milliseconds.",
        apply: |config, text| {
            millis(text, 0).map(|value| config.group_initial_rebalance_delay = value)
        },
    },
    Setting {
        key: "group.min.session.timeout.ms",
        default: "6000",
        value_type: ValueType::Int,
        doc: "Shortest session timeout a group member may ask for, in milliseconds.",
        apply: |config, text| millis(text, 1).map(|value| config.group_min_session_timeout = value),
    },
    Setting {
        key: "group.max.session.timeout.ms",
        default: "1800000",
        value_type: ValueType::Int,
        doc: "Longest session timeout a group member may ask for, in milliseconds.",
        apply: |config, text| millis(text, 1).map(|value| config.group_max_session_timeout = value),
    },
    Setting {
        key: "group.max.size",
        default: "2000",
        value_type: ValueType::Int,
        doc: "Members of one group.",
        apply: |config, text| {
            number(text, 1, i32::MAX as usize).map(|value| config.group_max_size = value)
        },
    },
    Setting {
        key: "offsets.retention.minutes",
        default: "10080",
        value_type: ValueType::Int,
        doc: "How long an empty group's offsets are kept, in minutes.",
        apply: |config, text| {
            number(text, 1, i32::MAX as u64)
                .map(|minutes| config.offsets_retention = Duration::from_secs(minutes * 60))
        },
    },
    Setting {
        key: "offsets.retention.check.interval.ms",
        default: "600000",
        value_type: ValueType::Long,
        doc: "How often expired offsets are looked for, in milliseconds.",
        apply: |config, text| millis(text, 1).map(|value| config.offsets_retention_check = value),
    },
    Setting {
        key: "offset.metadata.max.bytes",
        default: "4096",
        value_type: ValueType::Int,
        doc: "Longest metadata text of a committed offset, in bytes.",
        apply: |config, text| {
            number(text, 0, i32::MAX as usize).map(|value| config.offset_metadata_max_bytes = value)
        },
    },
];
