//! Bounds and times of the group coordinator.

use std::time::Duration;

use crate::config::BrokerConfig;

/// What a group may cost and how long it may wait. The keys are those of `server.properties`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout: Duration,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout: Duration,
    /// `group.initial.rebalance.delay.ms` (KIP-134).
    pub initial_rebalance_delay: Duration,
    /// `group.max.size`: members of one group; as many ids may be handed out and not yet used.
    pub max_group_size: usize,
    /// `offsets.retention.minutes`: offsets go this long after their group has lost its last member.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check: Duration,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_max_bytes: usize,
    /// Groups at once. A client may name groups freely, so their number needs an end.
    pub max_groups: usize,
    /// Bytes of metadata and assignments of one group.
    pub max_group_bytes: usize,
    /// Bytes of metadata and assignments of all groups together.
    pub max_total_bytes: usize,
}

impl From<&BrokerConfig> for GroupConfig {
    fn from(config: &BrokerConfig) -> GroupConfig {
        GroupConfig {
            min_session_timeout: config.group_min_session_timeout,
            max_session_timeout: config.group_max_session_timeout,
            initial_rebalance_delay: config.group_initial_rebalance_delay,
            max_group_size: config.group_max_size,
            offsets_retention: config.offsets_retention,
            offsets_retention_check: config.offsets_retention_check,
            offset_metadata_max_bytes: config.offset_metadata_max_bytes,
            ..GroupConfig::default()
        }
    }
}

impl Default for GroupConfig {
    fn default() -> GroupConfig {
        GroupConfig {
            min_session_timeout: Duration::from_secs(6),
            max_session_timeout: Duration::from_secs(30 * 60),
            initial_rebalance_delay: Duration::ZERO,
            max_group_size: 2_000,
            offsets_retention: Duration::from_secs(7 * 24 * 3600),
            offsets_retention_check: Duration::from_secs(600),
            offset_metadata_max_bytes: 4096,
            max_groups: 100_000,
            max_group_bytes: 32 << 20,
            max_total_bytes: 256 << 20,
        }
    }
}
