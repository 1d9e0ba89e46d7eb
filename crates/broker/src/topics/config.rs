//! Topic configs: the table of keys, their validation and the typed result.
//!
//! All keys that Kafka 4 knows are accepted and shown (clients read, change and write back the whole set); those with
//! an effect are in [`TopicConfig`], the others say so in their text. `cleanup.policy=compact` is refused with a
//! reason, because accepting it would keep data that the user believes to be compacted away.

use std::collections::BTreeMap;
use std::time::Duration;

use flafka_log_store::{Durability, StreamSettings};

use crate::config::BrokerConfig;
use crate::config::settings::{ValueType, boolean, number};

/// Overrides of a topic as clients set them: key and value text.
pub type Overrides = BTreeMap<String, String>;

/// Who stamps records (`message.timestamp.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's time is kept.
    CreateTime,
    /// The broker's time of arrival replaces it.
    LogAppendTime,
}

impl TimestampType {
    pub(crate) fn parse(text: &str) -> Result<TimestampType, String> {
        match text.trim() {
            "CreateTime" => Ok(TimestampType::CreateTime),
            "LogAppendTime" => Ok(TimestampType::LogAppendTime),
            _ => Err("expected CreateTime or LogAppendTime".to_owned()),
        }
    }
}

/// Reads `fsync`, `os` or `interval:<ms>`.
pub(crate) fn parse_durability(text: &str) -> Result<Durability, String> {
    match text.trim() {
        "fsync" => Ok(Durability::Fsync),
        "os" => Ok(Durability::Os),
        other => other
            .strip_prefix("interval:")
            .and_then(|ms| ms.parse::<u64>().ok())
            .filter(|ms| (1..=3_600_000).contains(ms))
            .map(|ms| Durability::Interval(Duration::from_millis(ms)))
            .ok_or_else(|| "expected fsync, os or interval:<ms> with 1 to 3600000 ms".to_owned()),
    }
}

/// The configs of a topic that have an effect, after overrides and broker defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicConfig {
    /// `max.message.bytes`: largest record batch.
    pub max_message_bytes: usize,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// `min.insync.replicas`.
    pub min_insync_replicas: i32,
    /// `segment.bytes`.
    pub segment_bytes: u32,
    /// `retention.ms`; `None` = for ever.
    pub retention: Option<Duration>,
    /// `retention.bytes`; `None` = without limit.
    pub retention_bytes: Option<u64>,
    /// `flafka.durability`.
    pub durability: Durability,
}

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
    validate: fn(&str) -> Result<(), String>,
}

/// An override that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicConfigError {
    /// No such topic config.
    #[error("Unknown topic config name: {0}")]
    Unknown(String),
    /// The value is not allowed.
    #[error("Invalid value {value} for configuration {key}: {reason}")]
    Invalid {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// What is allowed.
        reason: String,
    },
}

/// The setting of a key.
pub fn find(key: &str) -> Option<&'static TopicSetting> {
    TOPIC_SETTINGS.iter().find(|setting| setting.key == key)
}

/// Checks every override.
///
/// # Errors
/// The first unknown key or bad value, in key order.
pub fn validate(overrides: &Overrides) -> Result<(), TopicConfigError> {
    for (key, value) in overrides {
        let setting = find(key).ok_or_else(|| TopicConfigError::Unknown(key.clone()))?;
        (setting.validate)(value).map_err(|reason| TopicConfigError::Invalid {
            key: key.clone(),
            value: value.clone(),
            reason,
        })?;
    }
    Ok(())
}

impl TopicSetting {
    /// The default of this key under a broker's configuration, as text.
    pub fn default_text(&self, broker: &BrokerConfig) -> String {
        match self.key {
            "retention.ms" => broker.retention_ms.to_string(),
            "segment.ms" => broker.segment_ms.to_string(),
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

impl TopicConfig {
    /// The typed configs. Overrides were validated before they were stored; one that no longer parses (written by
    /// another version) falls back to the broker's default.
    pub fn effective(broker: &BrokerConfig, overrides: &Overrides) -> TopicConfig {
        let get = |key: &str| overrides.get(key).map(String::as_str);
        let long = |key: &str, default: i64| {
            get(key)
                .and_then(|text| number(text, i64::MIN, i64::MAX).ok())
                .unwrap_or(default)
        };
        let retention_ms = long("retention.ms", broker.retention_ms);
        let retention_bytes = long("retention.bytes", broker.retention_bytes);
        let timestamp =
            get("message.timestamp.type").and_then(|text| TimestampType::parse(text).ok());
        let durability = get("flafka.durability").and_then(|text| parse_durability(text).ok());
        let max_message_bytes = long("max.message.bytes", i64::from(broker.message_max_bytes));
        let segment_bytes = long("segment.bytes", i64::from(broker.segment_bytes));
        let min_insync = long("min.insync.replicas", i64::from(broker.min_insync_replicas));
        TopicConfig {
            max_message_bytes: usize::try_from(max_message_bytes).unwrap_or(0),
            timestamp_type: timestamp.unwrap_or(broker.timestamp_type),
            timestamp_before_max_ms: long(
                "message.timestamp.before.max.ms",
                broker.timestamp_before_max_ms,
            ),
            timestamp_after_max_ms: long(
                "message.timestamp.after.max.ms",
                broker.timestamp_after_max_ms,
            ),
            min_insync_replicas: i32::try_from(min_insync).unwrap_or(i32::MAX),
            segment_bytes: u32::try_from(segment_bytes).unwrap_or(1 << 30),
            retention: u64::try_from(retention_ms).ok().map(Duration::from_millis),
            retention_bytes: u64::try_from(retention_bytes).ok(),
            durability: durability.unwrap_or(broker.durability),
        }
    }

    /// What the log needs to know of it.
    pub fn stream_settings(&self) -> StreamSettings {
        StreamSettings {
            segment_bytes: self.segment_bytes,
            durability: self.durability,
            retention_bytes: self.retention_bytes,
            retention: self.retention,
            timestamp_type: match self.timestamp_type {
                TimestampType::CreateTime => flafka_log_store::TimestampType::CreateTime,
                TimestampType::LogAppendTime => flafka_log_store::TimestampType::LogAppendTime,
            },
            max_batch_bytes: u32::try_from(self.max_message_bytes).unwrap_or(u32::MAX),
            ..StreamSettings::default()
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
    number(text, 0.0f64, 1.0)
        .map(drop)
        .map_err(|_| "expected a number from 0 to 1".to_owned())
}
fn level(text: &str) -> Result<(), String> {
    number(text, -131_072, 22).map(drop)
}
fn cleanup(text: &str) -> Result<(), String> {
    let policies: Vec<&str> = text.split(',').map(str::trim).collect();
    if policies
        .iter()
        .any(|policy| !matches!(*policy, "delete" | "compact"))
    {
        return Err("expected delete".to_owned());
    }
    if policies.contains(&"compact") {
        return Err(
            "compaction is not served yet; use delete with retention.ms or retention.bytes"
                .to_owned(),
        );
    }
    Ok(())
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
        "What happens to old segments: delete. Compaction is not served yet.",
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
        None,
        "86400000",
        ValueType::Long,
        non_negative_long,
        "No effect without compaction.",
    ),
    setting(
        "file.delete.delay.ms",
        None,
        "60000",
        ValueType::Long,
        non_negative_long,
        "No effect: files go when the journal has freed them.",
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
        None,
        "9223372036854775807",
        ValueType::Long,
        positive_long,
        "No effect without compaction.",
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
        None,
        "0.5",
        ValueType::Double,
        ratio,
        "No effect without compaction.",
    ),
    setting(
        "min.compaction.lag.ms",
        None,
        "0",
        ValueType::Long,
        non_negative_long,
        "No effect without compaction.",
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
        "Bytes kept per partition; -1 is without limit.",
    ),
    setting(
        "retention.ms",
        Some("log.retention.ms"),
        "604800000",
        ValueType::Long,
        long_or_minus_one,
        "How long records are kept, in milliseconds; -1 for ever.",
    ),
    setting(
        "segment.bytes",
        Some("log.segment.bytes"),
        "1073741824",
        ValueType::Int,
        segment_bytes,
        "Size in bytes at which a segment file is closed and a new one begun.",
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
        None,
        "0",
        ValueType::Long,
        non_negative_long,
        "No effect: segments of partitions roll one by one.",
    ),
    setting(
        "segment.ms",
        Some("log.roll.ms"),
        "604800000",
        ValueType::Long,
        positive_long,
        "Age in milliseconds at which a segment file is closed.",
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

#[cfg(test)]
mod tests {
    use super::*;

    fn overrides(pairs: &[(&str, &str)]) -> Overrides {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn every_default_is_valid_and_keys_are_sorted() {
        let broker = BrokerConfig::default();
        for pair in TOPIC_SETTINGS.windows(2) {
            assert!(pair[0].key < pair[1].key, "{}", pair[1].key);
        }
        for setting in TOPIC_SETTINGS {
            let text = setting.default_text(&broker);
            assert_eq!((setting.validate)(&text), Ok(()), "{}", setting.key);
        }
    }

    #[test]
    fn overrides_win_over_the_broker() {
        let broker = BrokerConfig::default();
        let config = TopicConfig::effective(
            &broker,
            &overrides(&[
                ("retention.ms", "-1"),
                ("retention.bytes", "10"),
                ("max.message.bytes", "1000"),
                ("flafka.durability", "interval:20"),
                ("message.timestamp.type", "LogAppendTime"),
            ]),
        );
        assert_eq!(config.retention, None);
        assert_eq!(config.retention_bytes, Some(10));
        assert_eq!(config.max_message_bytes, 1000);
        assert_eq!(config.timestamp_type, TimestampType::LogAppendTime);
        assert_eq!(
            config.durability,
            Durability::Interval(Duration::from_millis(20))
        );
    }

    #[test]
    fn mistakes_are_named() {
        let unknown = validate(&overrides(&[("retention.millis", "1")])).unwrap_err();
        assert_eq!(
            unknown,
            TopicConfigError::Unknown("retention.millis".to_owned())
        );
        for (key, value) in [
            ("retention.ms", "abc"),
            ("retention.ms", "-2"),
            ("cleanup.policy", "compact"),
            ("cleanup.policy", "shrink"),
            ("compression.type", "gzip"),
            ("min.cleanable.dirty.ratio", "2"),
            ("flafka.durability", "interval:0"),
            ("remote.storage.enable", "true"),
        ] {
            assert!(
                validate(&overrides(&[(key, value)])).is_err(),
                "{key}={value}"
            );
        }
    }
}
