//! `server.properties`: Kafka's own key names, read strictly.
//!
//! [`BrokerConfig`] is the typed result; [`settings`] is the one table of keys with their defaults and meaning, from
//! which the reference is generated. Three kinds of keys: settings with an effect here; Kafka keys without a meaning
//! on one node, accepted with a note so that an existing file works; and keys whose silent loss would hurt (TLS, SASL,
//! authorizer), refused with the reason. An unknown key stops the start and names the nearest known one.
//!
//! Invariant: all problems of a file are reported at once, each with its line.

mod foreign;
mod listeners;
mod properties;
pub mod settings;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use flafka_log_store::{Compaction, Durability};

pub use self::listeners::{Endpoint, HostAndPort};
pub use self::properties::{Entry, Place};
pub use self::settings::{SETTINGS, Setting};
use crate::topics::config::{CleanupPolicy, TimestampType};

/// The broker's effective configuration. Built by [`BrokerConfig::default`], [`BrokerConfig::from_properties`] or
/// [`BrokerConfig::from_entries`]; every field is one key of `server.properties`, named in its comment.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// `node.id` (`broker.id`): the id clients see. Default 1.
    pub node_id: i32,
    /// `listeners`: addresses to listen on. Default `PLAINTEXT://127.0.0.1:9092`.
    pub listeners: Vec<Endpoint>,
    /// `advertised.listeners`: what clients are told, by listener name; empty = the address the client reached.
    pub advertised: Vec<Endpoint>,
    /// `log.dirs` (`log.dir`): the data directories, at least one. Default `./flafka-data`.
    pub log_dirs: Vec<PathBuf>,
    /// `num.partitions`: partitions of topics created without a number. Default 1.
    pub num_partitions: i32,
    /// `auto.create.topics.enable`. Default true.
    pub auto_create_topics: bool,
    /// `delete.topic.enable`. Default true.
    pub delete_topics: bool,
    /// `message.max.bytes`: largest record batch. Default 1 048 588.
    pub message_max_bytes: i32,
    /// `socket.request.max.bytes`: largest request frame. Default 100 MiB.
    pub request_max_bytes: usize,
    /// `queued.max.request.bytes`: request bytes held at once by all connections together. Default 64 MiB.
    pub queued_max_request_bytes: usize,
    /// `fetch.max.bytes`: most record bytes in one Fetch answer. Default 55 MiB.
    pub fetch_max_bytes: i32,
    /// `log.segment.bytes`. Default 1 GiB.
    pub segment_bytes: i32,
    /// `log.roll.ms` / `.hours`: age at which a segment is closed. Default 7 days.
    pub roll_ms: i64,
    /// `log.roll.jitter.ms` / `.hours`. Default 0.
    pub roll_jitter_ms: i64,
    /// `log.segment.delete.delay.ms`: how long freed segment files stay. Default 1 minute.
    pub delete_delay_ms: i64,
    /// `log.retention.ms` / `.minutes` / `.hours`: -1 keeps for ever. Default 7 days.
    pub retention_ms: i64,
    /// `log.retention.bytes` per partition: -1 is without limit. Default -1.
    pub retention_bytes: i64,
    /// `log.retention.check.interval.ms`. Default 5 minutes.
    pub retention_check: Duration,
    /// `log.cleanup.policy`. Default delete.
    pub cleanup_policy: CleanupPolicy,
    /// `log.cleaner.min.cleanable.ratio`, `.min.compaction.lag.ms`, `.max.compaction.lag.ms`, `.delete.retention.ms`.
    pub compaction: Compaction,
    /// `log.cleaner.enable`. Default true.
    pub cleaner: bool,
    /// `log.cleaner.backoff.ms`. Default 15 s.
    pub cleaner_pause: Duration,
    /// `log.cleaner.dedupe.buffer.size`. Default 128 MiB.
    pub cleaner_buffer_bytes: u64,
    /// `log.cleaner.io.max.bytes.per.second`; `None` = without limit, the default.
    pub cleaner_bytes_per_second: Option<u64>,
    /// `log.message.timestamp.type`. Default CreateTime.
    pub timestamp_type: TimestampType,
    /// `log.message.timestamp.before.max.ms`. Default without limit.
    pub timestamp_before_max_ms: i64,
    /// `log.message.timestamp.after.max.ms`. Default 1 hour, as Kafka 4.
    pub timestamp_after_max_ms: i64,
    /// `min.insync.replicas`: above 1, `acks=all` answers NOT_ENOUGH_REPLICAS as Kafka on one node does. Default 1.
    pub min_insync_replicas: i32,
    /// `flafka.durability`: `fsync`, `os` or `interval:<ms>`. Default fsync.
    pub durability: Durability,
    /// `max.connections`. Default 1 000.
    pub max_connections: usize,
    /// `max.connections.per.ip`. Default as `max.connections`.
    pub max_connections_per_ip: usize,
    /// `connections.max.idle.ms`. Default 10 minutes.
    pub connections_max_idle: Duration,
    /// `flafka.socket.stall.ms`: longest pause of a peer within a request or an answer. Default 30 s.
    pub socket_stall: Duration,
    /// `socket.listen.backlog.size`. Default 50.
    pub listen_backlog: u32,
    /// `socket.send.buffer.bytes`: -1 leaves it to the system. Default -1.
    pub send_buffer_bytes: Option<u32>,
    /// `socket.receive.buffer.bytes`: -1 leaves it to the system. Default -1.
    pub receive_buffer_bytes: Option<u32>,
    /// `group.initial.rebalance.delay.ms`. Default 0.
    pub group_initial_rebalance_delay: Duration,
    /// `group.min.session.timeout.ms`. Default 6 s.
    pub group_min_session_timeout: Duration,
    /// `group.max.session.timeout.ms`. Default 30 min.
    pub group_max_session_timeout: Duration,
    /// `group.max.size`: members of one group. Default 2 000.
    pub group_max_size: usize,
    /// `offsets.retention.minutes`. Default 7 days.
    pub offsets_retention: Duration,
    /// `offsets.retention.check.interval.ms`. Default 10 minutes.
    pub offsets_retention_check: Duration,
    /// `offset.metadata.max.bytes`. Default 4 096.
    pub offset_metadata_max_bytes: usize,
    /// The keys that the file set, as written; DescribeConfigs shows them as static broker configs.
    pub explicit: BTreeMap<&'static str, String>,
}

/// Something in the file that has no effect here; worth one log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Where it stands.
    pub place: Place,
    /// The key.
    pub key: String,
    /// Why it has no effect.
    pub reason: &'static str,
}

/// One mistake in the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigProblem {
    /// No such key.
    #[error("{place}: unknown key `{key}`{}", suggestion(.nearest))]
    UnknownKey {
        /// Where it stands.
        place: Place,
        /// The key as written.
        key: String,
        /// The known key that is closest in spelling, if any is close.
        nearest: Option<&'static str>,
    },
    /// The value is not allowed.
    #[error("{place}: `{key} = {value}`: {reason}")]
    BadValue {
        /// Where it stands.
        place: Place,
        /// The key.
        key: String,
        /// The value as written.
        value: String,
        /// What is allowed.
        reason: String,
    },
    /// A Kafka key whose effect this broker lacks and whose loss would hurt.
    #[error("{place}: `{key}` is not supported: {reason}")]
    Unsupported {
        /// Where it stands.
        place: Place,
        /// The key.
        key: String,
        /// What would go wrong, and what to do.
        reason: &'static str,
    },
    /// The line is not `key = value`.
    #[error("{place}: {reason}")]
    Syntax {
        /// Where it stands.
        place: Place,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// All mistakes of a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", list(.0))]
pub struct ConfigProblems(pub Vec<ConfigProblem>);

fn suggestion(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |key| format!("; did you mean `{key}`?"))
}

fn list(problems: &[ConfigProblem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

impl Default for BrokerConfig {
    fn default() -> Self {
        BrokerConfig {
            node_id: 1,
            listeners: vec![Endpoint::plaintext("127.0.0.1", 9092)],
            advertised: Vec::new(),
            log_dirs: vec![PathBuf::from("./flafka-data")],
            num_partitions: 1,
            auto_create_topics: true,
            delete_topics: true,
            message_max_bytes: 1_048_588,
            request_max_bytes: 104_857_600,
            queued_max_request_bytes: 64 << 20,
            fetch_max_bytes: 57_671_680,
            segment_bytes: 1 << 30,
            roll_ms: 604_800_000,
            roll_jitter_ms: 0,
            delete_delay_ms: 60_000,
            retention_ms: 604_800_000,
            retention_bytes: -1,
            retention_check: Duration::from_secs(300),
            cleanup_policy: CleanupPolicy {
                delete: true,
                compact: false,
            },
            compaction: Compaction::default(),
            cleaner: true,
            cleaner_pause: Duration::from_secs(15),
            cleaner_buffer_bytes: 128 << 20,
            cleaner_bytes_per_second: None,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            min_insync_replicas: 1,
            durability: Durability::Fsync,
            max_connections: 1_000,
            max_connections_per_ip: usize::MAX,
            connections_max_idle: Duration::from_secs(600),
            socket_stall: Duration::from_secs(30),
            listen_backlog: 50,
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
            group_initial_rebalance_delay: Duration::ZERO,
            group_min_session_timeout: Duration::from_secs(6),
            group_max_session_timeout: Duration::from_secs(1800),
            group_max_size: 2_000,
            offsets_retention: Duration::from_secs(7 * 86_400),
            offsets_retention_check: Duration::from_secs(600),
            offset_metadata_max_bytes: 4_096,
            explicit: BTreeMap::new(),
        }
    }
}

impl BrokerConfig {
    /// Reads a `server.properties` file over the defaults. The bytes are ISO-8859-1 with `\\u` escapes, as Java reads
    /// such files.
    ///
    /// # Errors
    /// Every unknown key, bad value and unsupported key of the file, with lines.
    pub fn from_properties(
        file: impl AsRef<[u8]>,
    ) -> Result<(BrokerConfig, Vec<Note>), ConfigProblems> {
        let (entries, problems) = properties::read(file.as_ref());
        Self::build(&entries, problems)
    }

    /// The same with words of the command line, such as `num.partitions=3`, which win over the file.
    ///
    /// # Errors
    /// Every unknown key, bad value and unsupported key, with its line or its word.
    pub fn from_properties_and_overrides(
        file: &[u8],
        overrides: &[String],
    ) -> Result<(BrokerConfig, Vec<Note>), ConfigProblems> {
        let (mut entries, mut problems) = properties::read(file);
        let (more, mistakes) = properties::read_overrides(overrides);
        entries.extend(more);
        problems.extend(mistakes);
        Self::build(&entries, problems)
    }

    /// The same from entries that were read elsewhere. A later entry of a key wins, as in Java.
    ///
    /// # Errors
    /// Every unknown key, bad value and unsupported key, with lines.
    pub fn from_entries(entries: &[Entry]) -> Result<(BrokerConfig, Vec<Note>), ConfigProblems> {
        Self::build(entries, Vec::new())
    }

    fn build(
        entries: &[Entry],
        mut problems: Vec<ConfigProblem>,
    ) -> Result<(BrokerConfig, Vec<Note>), ConfigProblems> {
        let mut config = BrokerConfig::default();
        let mut notes = Vec::new();
        let mut by_key: BTreeMap<&str, &Entry> = BTreeMap::new();
        for entry in entries {
            by_key.insert(&entry.key, entry);
        }
        // In table order, so that the finer unit of a pair (`.ms` after `.minutes` after `.hours`) wins as in Kafka.
        for setting in SETTINGS {
            if let Some(entry) = by_key.remove(setting.key) {
                match (setting.apply)(&mut config, &entry.value) {
                    Ok(()) => {
                        config.explicit.insert(setting.key, entry.value.clone());
                    }
                    Err(reason) => problems.push(ConfigProblem::BadValue {
                        place: entry.place.clone(),
                        key: entry.key.clone(),
                        value: entry.value.clone(),
                        reason,
                    }),
                }
            }
        }
        let named = listeners::NamedListeners::take(&mut by_key);
        listeners::resolve(&mut config, &named, &mut notes, &mut problems);
        for entry in by_key.into_values() {
            foreign::judge(entry, &mut notes, &mut problems);
        }
        if problems.is_empty() {
            notes.sort_by(|one, other| one.place.cmp(&other.place));
            Ok((config, notes))
        } else {
            problems.sort_by(|one, other| one.place().cmp(other.place()));
            Err(ConfigProblems(problems))
        }
    }

    /// The effective value of a setting as text: what the file says, else the default.
    pub fn text_of(&self, setting: &Setting) -> String {
        self.explicit
            .get(setting.key)
            .cloned()
            .unwrap_or_else(|| setting.default.to_owned())
    }
}

impl ConfigProblem {
    /// Where the mistake stands.
    pub fn place(&self) -> &Place {
        match self {
            ConfigProblem::UnknownKey { place, .. }
            | ConfigProblem::BadValue { place, .. }
            | ConfigProblem::Unsupported { place, .. }
            | ConfigProblem::Syntax { place, .. } => place,
        }
    }
}
