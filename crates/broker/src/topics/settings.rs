//! The table of topic config keys: defaults, types, meaning and validation.

use super::config::{CleanupPolicy, TimestampType, dirty_ppm, max_lag, parse_durability};
use crate::config::BrokerConfig;
use crate::config::settings::{ValueType, boolean, number};

/// One topic config key.
#[derive(Debug)]
pub struct TopicSetting {
    /// The key.
    pub key: &'static str,
    /// The broker key that gives its default, if there is one.
    pub broker_key: Option<&'static str>,
    /// The default if no broker key gives one.
    pub default: &'static str,
    /// The type for DescribeConfigs.
    pub value_type: ValueType,
    /// What it does.
    pub doc: &'static str,
    pub(super) validate: fn(&str) -> Result<(), String>,
}

/// The setting of a key.
pub fn find(key: &str) -> Option<&'static TopicSetting> {
    TOPIC_SETTINGS.iter().find(|setting| setting.key == key)
}

impl TopicSetting {
    /// The default of this key under a broker's configuration, as text.
    pub fn default_text(&self, broker: &BrokerConfig) -> String {
        match self.key {
            "retention.ms" => broker.retention_ms.to_string(),
            "segment.ms" => broker.roll_ms.to_string(),
            "segment.jitter.ms" => broker.roll_jitter_ms.to_string(),
            _ => self
                .broker_key
                .and_then(|key| crate::config::SETTINGS.iter().find(|one| one.key == key))
                .map_or_else(
                    || self.default.to_owned(),
                    |setting| broker.text_of(setting),
                ),
        }
    }
}

fn any(_: &str) -> Result<(), String> {
    Ok(())
}
fn flag(text: &str) -> Result<(), String> {
    boolean(text).map(drop)
}
fn never(text: &str) -> Result<(), String> {
    match boolean(text)? {
        false => Ok(()),
        true => Err("not served; leave it false".to_owned()),
    }
}
fn non_negative_long(text: &str) -> Result<(), String> {
    number(text, 0, i64::MAX).map(drop)
}
fn long_or_minus_one(text: &str) -> Result<(), String> {
    number(text, -1, i64::MAX).map(drop)
}
fn long_or_minus_two(text: &str) -> Result<(), String> {
    number(text, -2, i64::MAX).map(drop)
}
fn positive_long(text: &str) -> Result<(), String> {
    number(text, 1, i64::MAX).map(drop)
}
fn non_negative_int(text: &str) -> Result<(), String> {
    number(text, 0, i32::MAX).map(drop)
}
fn positive_int(text: &str) -> Result<(), String> {
    number(text, 1, i32::MAX).map(drop)
}
fn segment_bytes(text: &str) -> Result<(), String> {
    number(text, 1_024, i32::MAX).map(drop)
}
fn ratio(text: &str) -> Result<(), String> {
    dirty_ppm(text).map(drop)
}
fn level(text: &str) -> Result<(), String> {
    number(text, -131_072, 22).map(drop)
}
fn cleanup(text: &str) -> Result<(), String> {
    CleanupPolicy::parse(text).map(drop)
}
fn compaction_lag(text: &str) -> Result<(), String> {
    max_lag(text).map(drop)
}
fn compression(text: &str) -> Result<(), String> {
    match text {
        "producer" => Ok(()),
        _ => Err("expected producer: batches are stored as they were sent".to_owned()),
    }
}
fn timestamp_type(text: &str) -> Result<(), String> {
    TimestampType::parse(text).map(drop)
}
fn durability(text: &str) -> Result<(), String> {
    parse_durability(text).map(drop)
}

const fn setting(
    key: &'static str,
    broker_key: Option<&'static str>,
    default: &'static str,
    value_type: ValueType,
    validate: fn(&str) -> Result<(), String>,
    doc: &'static str,
) -> TopicSetting {
    TopicSetting {
        key,
        broker_key,
        default,
        value_type,
        doc,
        validate,
    }
}

/// All topic configs in key order.
pub const TOPIC_SETTINGS: &[TopicSetting] = &[
    setting(
        "cleanup.policy",
        Some("log.cleanup.policy"),
        "delete",
        ValueType::List,
        cleanup,
        "What happens to old records: delete (whole segments by time and size), compact (of each key only the newest record stays), or both with a comma.",
    ),
    setting(
        "compression.gzip.level",
        None,
        "-1",
        ValueType::Int,
        level,
        "No effect: the broker never recompresses.",
    ),
    setting(
        "compression.lz4.level",
        None,
        "9",
        ValueType::Int,
        level,
        "No effect: the broker never recompresses.",
    ),
    setting(
        "compression.type",
        Some("compression.type"),
        "producer",
        ValueType::String,
        compression,
        "producer: batches are stored as they were sent.",
    ),
    setting(
        "compression.zstd.level",
        None,
        "3",
        ValueType::Int,
        level,
        "No effect: the broker never recompresses.",
    ),
    setting(
        "delete.retention.ms",
        Some("log.cleaner.delete.retention.ms"),
        "86400000",
        ValueType::Long,
        non_negative_long,
        "How long compaction keeps a tombstone (a null value) after it first met it, in milliseconds.",
    ),
    setting(
        "file.delete.delay.ms",
        Some("log.segment.delete.delay.ms"),
        "60000",
        ValueType::Long,
        non_negative_long,
        "How long the files of freed segments stay on the disk, in milliseconds; a full disk and a restart end the wait.",
    ),
    setting(
        "flafka.durability",
        Some("flafka.durability"),
        "fsync",
        ValueType::String,
        durability,
        "When a produce is acknowledged: fsync, os or interval:<ms>.",
    ),
    setting(
        "flush.messages",
        None,
        "9223372036854775807",
        ValueType::Long,
        positive_long,
        "No effect: flafka.durability decides.",
    ),
    setting(
        "flush.ms",
        None,
        "9223372036854775807",
        ValueType::Long,
        non_negative_long,
        "No effect: flafka.durability decides.",
    ),
    setting(
        "follower.replication.throttled.replicas",
        None,
        "",
        ValueType::List,
        any,
        "No effect: there are no replicas.",
    ),
    setting(
        "index.interval.bytes",
        None,
        "4096",
        ValueType::Int,
        non_negative_int,
        "No effect: indexes are derived and sized by the log.",
    ),
    setting(
        "leader.replication.throttled.replicas",
        None,
        "",
        ValueType::List,
        any,
        "No effect: there are no replicas.",
    ),
    setting(
        "local.retention.bytes",
        None,
        "-2",
        ValueType::Long,
        long_or_minus_two,
        "No effect: there is no tiered storage.",
    ),
    setting(
        "local.retention.ms",
        None,
        "-2",
        ValueType::Long,
        long_or_minus_two,
        "No effect: there is no tiered storage.",
    ),
    setting(
        "max.compaction.lag.ms",
        Some("log.cleaner.max.compaction.lag.ms"),
        "9223372036854775807",
        ValueType::Long,
        compaction_lag,
        "A record is compacted at the latest so many milliseconds after it came, whatever the dirty ratio; segments are closed in time for it.",
    ),
    setting(
        "max.message.bytes",
        Some("message.max.bytes"),
        "1048588",
        ValueType::Int,
        non_negative_int,
        "Largest record batch in bytes.",
    ),
    setting(
        "message.timestamp.after.max.ms",
        Some("log.message.timestamp.after.max.ms"),
        "3600000",
        ValueType::Long,
        non_negative_long,
        "How far a batch's newest timestamp may lie in the future, in milliseconds (CreateTime only).",
    ),
    setting(
        "message.timestamp.before.max.ms",
        Some("log.message.timestamp.before.max.ms"),
        "9223372036854775807",
        ValueType::Long,
        non_negative_long,
        "How far a batch's newest timestamp may lie in the past, in milliseconds (CreateTime only).",
    ),
    setting(
        "message.timestamp.type",
        Some("log.message.timestamp.type"),
        "CreateTime",
        ValueType::String,
        timestamp_type,
        "CreateTime or LogAppendTime.",
    ),
    setting(
        "min.cleanable.dirty.ratio",
        Some("log.cleaner.min.cleanable.ratio"),
        "0.5",
        ValueType::Double,
        ratio,
        "Compaction begins when more than this part of a partition's closed segments was never compacted.",
    ),
    setting(
        "min.compaction.lag.ms",
        Some("log.cleaner.min.compaction.lag.ms"),
        "0",
        ValueType::Long,
        non_negative_long,
        "Records younger than so many milliseconds are not compacted.",
    ),
    setting(
        "min.insync.replicas",
        Some("min.insync.replicas"),
        "1",
        ValueType::Int,
        positive_int,
        "Above 1, acks=all answers NOT_ENOUGH_REPLICAS, as Kafka does with one replica.",
    ),
    setting(
        "preallocate",
        None,
        "false",
        ValueType::Boolean,
        flag,
        "No effect: the log sizes its files itself.",
    ),
    setting(
        "remote.log.copy.disable",
        None,
        "false",
        ValueType::Boolean,
        flag,
        "No effect: there is no tiered storage.",
    ),
    setting(
        "remote.log.delete.on.disable",
        None,
        "false",
        ValueType::Boolean,
        flag,
        "No effect: there is no tiered storage.",
    ),
    setting(
        "remote.storage.enable",
        None,
        "false",
        ValueType::Boolean,
        never,
        "There is no tiered storage: only false.",
    ),
    setting(
        "retention.bytes",
        Some("log.retention.bytes"),
        "-1",
        ValueType::Long,
        long_or_minus_one,
        "Bytes kept per partition; -1 is without limit. Whole segments go while at least so much stays.",
    ),
    setting(
        "retention.ms",
        Some("log.retention.ms"),
        "604800000",
        ValueType::Long,
        long_or_minus_one,
        "How long records are kept, in milliseconds; -1 for ever. A segment goes when its newest record is older.",
    ),
    setting(
        "segment.bytes",
        Some("log.segment.bytes"),
        "1073741824",
        ValueType::Int,
        segment_bytes,
        "Size in bytes at which a segment file is closed and a new one begun; retention and compaction take whole ones.",
    ),
    setting(
        "segment.index.bytes",
        None,
        "10485760",
        ValueType::Int,
        non_negative_int,
        "No effect: indexes are derived and sized by the log.",
    ),
    setting(
        "segment.jitter.ms",
        Some("log.roll.jitter.ms"),
        "0",
        ValueType::Long,
        non_negative_long,
        "Most milliseconds taken off segment.ms, different for each segment.",
    ),
    setting(
        "segment.ms",
        Some("log.roll.ms"),
        "604800000",
        ValueType::Long,
        positive_long,
        "Age in milliseconds at which a segment is closed: when a record is so much younger than its first, or when none came for so long.",
    ),
    setting(
        "unclean.leader.election.enable",
        None,
        "false",
        ValueType::Boolean,
        flag,
        "No effect: the one node leads every partition.",
    ),
];
