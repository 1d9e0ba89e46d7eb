//! Topic configs: validation and the typed result; the table of keys is in [`super::settings`].
//!
//! All keys that Kafka 4 knows are accepted and shown (clients read, change and write back the whole set); those with
//! an effect are in [`TopicConfig`], the others say so in their text.

use std::collections::BTreeMap;
use std::time::Duration;

use flafka_log_store::{Compaction, Durability, StreamSettings};

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

/// What happens to old records (`cleanup.policy`); at least one is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Whole segments go by time and size.
    pub delete: bool,
    /// Of each key only the newest record stays.
    pub compact: bool,
}

impl CleanupPolicy {
    pub(crate) fn parse(text: &str) -> Result<CleanupPolicy, String> {
        let mut policy = CleanupPolicy {
            delete: false,
            compact: false,
        };
        for word in text.split(',').map(str::trim) {
            match word {
                "delete" => policy.delete = true,
                "compact" => policy.compact = true,
                _ => return Err("expected delete, compact or both with a comma".to_owned()),
            }
        }
        Ok(policy)
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

/// Reads a ratio from 0 to 1 as millionths.
pub(crate) fn dirty_ppm(text: &str) -> Result<u32, String> {
    match text.trim().parse::<f64>() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok((ratio * 1e6).round() as u32),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}

/// Reads milliseconds.
pub(crate) fn lag(text: &str) -> Result<Duration, String> {
    number(text, 0, i64::MAX as u64).map(Duration::from_millis)
}

/// Reads milliseconds; the largest number means never.
pub(crate) fn max_lag(text: &str) -> Result<Option<Duration>, String> {
    let ms = number(text, 1, i64::MAX as u64)?;
    Ok((ms < i64::MAX as u64).then(|| Duration::from_millis(ms)))
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
    /// `segment.ms`.
    pub segment_age: Duration,
    /// `segment.jitter.ms`.
    pub segment_jitter: Duration,
    /// `file.delete.delay.ms`.
    pub delete_delay: Duration,
    /// `retention.ms`; `None` = for ever.
    pub retention: Option<Duration>,
    /// `retention.bytes`; `None` = without limit.
    pub retention_bytes: Option<u64>,
    /// `cleanup.policy`.
    pub cleanup: CleanupPolicy,
    /// `min.cleanable.dirty.ratio`, `min.compaction.lag.ms`, `max.compaction.lag.ms`, `delete.retention.ms`.
    pub compaction: Compaction,
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
    let lag_of = |key: &str| {
        overrides
            .get(key)
            .and_then(|text| number(text, 0, i64::MAX).ok())
    };
    if let (Some(least), Some(most)) = (lag_of(MIN_LAG), lag_of(MAX_LAG))
        && least > most
    {
        return Err(TopicConfigError::Invalid {
            key: MAX_LAG.to_owned(),
            value: most.to_string(),
            reason: format!("expected at least {MIN_LAG}, which is {least}"),
        });
    }
    Ok(())
}

const MIN_LAG: &str = "min.compaction.lag.ms";
const MAX_LAG: &str = "max.compaction.lag.ms";

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
        let millis = |key: &str, default| {
            Duration::from_millis(u64::try_from(long(key, default)).unwrap_or(0))
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
            segment_age: millis("segment.ms", broker.roll_ms),
            segment_jitter: millis("segment.jitter.ms", broker.roll_jitter_ms),
            delete_delay: millis("file.delete.delay.ms", broker.delete_delay_ms),
            retention: u64::try_from(retention_ms).ok().map(Duration::from_millis),
            retention_bytes: u64::try_from(retention_bytes).ok(),
            cleanup: get("cleanup.policy")
                .and_then(|text| CleanupPolicy::parse(text).ok())
                .unwrap_or(broker.cleanup_policy),
            compaction: Compaction {
                min_dirty_ppm: get("min.cleanable.dirty.ratio")
                    .and_then(|text| dirty_ppm(text).ok())
                    .unwrap_or(broker.compaction.min_dirty_ppm),
                min_lag: get("min.compaction.lag.ms")
                    .and_then(|text| lag(text).ok())
                    .unwrap_or(broker.compaction.min_lag),
                max_lag: match get("max.compaction.lag.ms").and_then(|text| max_lag(text).ok()) {
                    Some(most) => most,
                    None => broker.compaction.max_lag,
                },
                tombstone_retention: get("delete.retention.ms")
                    .and_then(|text| lag(text).ok())
                    .unwrap_or(broker.compaction.tombstone_retention),
            },
            durability: durability.unwrap_or(broker.durability),
        }
    }

    /// What the log needs to know of it.
    pub fn stream_settings(&self) -> StreamSettings {
        StreamSettings {
            segment_bytes: self.segment_bytes,
            segment_age: Some(self.segment_age),
            segment_jitter: self.segment_jitter,
            delete_delay: self.delete_delay,
            durability: self.durability,
            retention_bytes: self.retention_bytes.filter(|_| self.cleanup.delete),
            retention: self.retention.filter(|_| self.cleanup.delete),
            compaction: self.cleanup.compact.then(|| self.compaction.clone()),
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
    fn compaction_is_as_the_topic_says_and_else_as_the_broker() {
        let text = "log.cleaner.min.compaction.lag.ms=7\nlog.cleaner.delete.retention.ms=8";
        let (broker, _) = BrokerConfig::from_properties(text).unwrap();
        let stream = |pairs: &[(&str, &str)]| {
            TopicConfig::effective(&broker, &overrides(pairs)).stream_settings()
        };
        assert_eq!(stream(&[]).compaction, None);
        let compacted = stream(&[("cleanup.policy", "compact"), ("retention.bytes", "5")]);
        let compaction = compacted.compaction.unwrap();
        assert_eq!(compaction.min_lag, Duration::from_millis(7));
        assert_eq!(compaction.tombstone_retention, Duration::from_millis(8));
        assert_eq!(
            (compaction.min_dirty_ppm, compaction.max_lag),
            (500_000, None)
        );
        assert_eq!(
            (compacted.retention, compacted.retention_bytes),
            (None, None)
        );
        let both = stream(&[
            ("cleanup.policy", "compact, delete"),
            ("min.cleanable.dirty.ratio", "0.25"),
            ("max.compaction.lag.ms", "9"),
            ("retention.bytes", "5"),
        ]);
        let compaction = both.compaction.unwrap();
        assert_eq!(compaction.min_dirty_ppm, 250_000);
        assert_eq!(compaction.max_lag, Some(Duration::from_millis(9)));
        assert_eq!(both.retention_bytes, Some(5));
        let lags = [
            ("min.compaction.lag.ms", "9"),
            ("max.compaction.lag.ms", "8"),
        ];
        assert!(validate(&overrides(&lags)).is_err());
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
            ("cleanup.policy", "shrink"),
            ("compression.type", "gzip"),
            ("min.cleanable.dirty.ratio", "2"),
            ("min.cleanable.dirty.ratio", "NaN"),
            ("max.compaction.lag.ms", "0"),
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
