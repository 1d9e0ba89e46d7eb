//! Topic configs: validation and the typed result; the table of keys is in [`super::settings`].
//!
//! All keys that Kafka 4 knows are accepted and shown (clients read, change and write back the whole set); those with
//! an effect are in [`TopicConfig`], the others say so in their text. `cleanup.policy=compact` is refused with a
//! reason, because accepting it would keep data that the user believes to be compacted away.

use std::collections::BTreeMap;
use std::time::Duration;

use flafka_log_store::{Durability, StreamSettings};

pub use super::settings::{TOPIC_SETTINGS, TopicSetting, find};
use crate::config::BrokerConfig;
use crate::config::settings::number;

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
