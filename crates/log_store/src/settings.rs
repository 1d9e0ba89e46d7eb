//! What can be set: for the whole log and for one stream. Defaults are safe ones: fsync before every acknowledgement.
//!
//! Settings are plain values; the config crates translate `server.properties` and `flume.conf` keys into them.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::OpenError;

/// Longest key of a table entry, bytes.
pub const MAX_KEY_BYTES: usize = 64 * 1024;
/// Longest value of a table entry, bytes.
pub const MAX_VALUE_BYTES: usize = 1024 * 1024;
/// Longest stream name, bytes.
pub const MAX_STREAM_NAME_BYTES: usize = 512;
/// Smallest journal file that is accepted, bytes.
pub const MIN_JOURNAL_FILE_BYTES: u64 = 16 * 1024;

/// When an acknowledgement is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// After one successful fdatasync that covers it. Loses nothing at a power cut.
    #[default]
    Fsync,
    /// After the write to the page cache, synced at least this often. A power cut may lose about that much time;
    /// a crash of the process loses nothing.
    Interval(Duration),
    /// After the write to the page cache. A power cut may lose what the system had not yet written; a crash of the
    /// process loses nothing.
    Os,
}

impl Durability {
    /// Whether acknowledgements wait for the disk.
    pub fn is_fsync(self) -> bool {
        self == Durability::Fsync
    }

    /// When an acknowledgement is given, in words.
    pub fn acknowledged(self) -> String {
        match self {
            Durability::Fsync => {
                "after an fdatasync that covers the data: it is on the disk".to_owned()
            }
            Durability::Interval(interval) => format!(
                "when the system's page cache has the data, which is synced every {} ms",
                interval.as_millis()
            ),
            Durability::Os => {
                "when the system's page cache has the data; the system writes it when it likes (Linux: within about 30 s)"
                    .to_owned()
            }
        }
    }

    /// What a power cut, or a crash of the kernel, takes of the acknowledged, in words. A crash of the process alone takes
    /// nothing in any mode.
    pub fn power_cut_loses(self) -> String {
        match self {
            Durability::Fsync => "nothing".to_owned(),
            Durability::Interval(interval) => format!(
                "what was acknowledged in about the last {} ms, longer when the disk is slow",
                interval.as_millis()
            ),
            Durability::Os => {
                "whatever the system had not yet written: usually the last 30 s, without any bound"
                    .to_owned()
            }
        }
    }
}

impl fmt::Display for Durability {
    /// As it is written in a configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Durability::Fsync => f.write_str("fsync"),
            Durability::Interval(interval) => write!(f, "interval:{}", interval.as_millis()),
            Durability::Os => f.write_str("os"),
        }
    }
}

/// Whose time records carry (Kafka `message.timestamp.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// The producer's.
    #[default]
    CreateTime,
    /// The log's at commit.
    LogAppendTime,
}

/// How a stream is compacted: of each key only the newest record stays (Kafka `cleanup.policy=compact`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compaction {
    /// A pass starts when at least this part of the bytes was never compacted (Kafka `min.cleanable.dirty.ratio`), in
    /// millionths.
    pub min_dirty_ppm: u32,
    /// Records younger than this are left alone (Kafka `min.compaction.lag.ms`).
    pub min_lag: Duration,
    /// A pass starts when a record has waited this long (Kafka `max.compaction.lag.ms`); `None` = the ratio decides
    /// alone.
    pub max_lag: Option<Duration>,
    /// How long a tombstone stays after the pass that found it (Kafka `delete.retention.ms`).
    pub tombstone_retention: Duration,
}

impl Default for Compaction {
    fn default() -> Self {
        Compaction {
            min_dirty_ppm: 500_000,
            min_lag: Duration::ZERO,
            max_lag: None,
            tombstone_retention: Duration::from_secs(24 * 3600),
        }
    }
}

/// Settings of one stream. Journaled with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSettings {
    /// A segment is closed before it would grow beyond this (Kafka `segment.bytes`). 1 KiB to 2^31-1, default 1 GiB.
    pub segment_bytes: u32,
    /// A segment is also closed when a batch is so much younger than its first one, or when nothing came for so long
    /// (Kafka `segment.ms`); `None` = by size only.
    pub segment_age: Option<Duration>,
    /// Up to so much is taken off `segment_age`, another part for each segment (Kafka `segment.jitter.ms`).
    pub segment_jitter: Duration,
    /// How long the files of freed segments stay on the disk (Kafka `file.delete.delay.ms`), default 0. A full disk and
    /// a restart end the wait.
    pub delete_delay: Duration,
    /// When appends are acknowledged (Kafka `flush.messages`, `flush.ms`; ours `flafka.durability`).
    pub durability: Durability,
    /// Whole segments go while the stream is larger than this (Kafka `retention.bytes`); `None` = no limit.
    pub retention_bytes: Option<u64>,
    /// Whole segments go when their newest record is older than this (Kafka `retention.ms`); `None` = no limit.
    pub retention: Option<Duration>,
    /// Whether and how the stream is compacted; `None` = never.
    pub compaction: Option<Compaction>,
    /// Whose time records carry.
    pub timestamp_type: TimestampType,
    /// Largest batch (Kafka `max.message.bytes`), default 1 MiB + 12 as Kafka's.
    pub max_batch_bytes: u32,
    /// Whether the stream keeps ack ranges (file channel); its log start follows the acks.
    pub acked: bool,
}

impl Default for StreamSettings {
    fn default() -> Self {
        StreamSettings {
            segment_bytes: 1 << 30,
            segment_age: None,
            segment_jitter: Duration::ZERO,
            delete_delay: Duration::ZERO,
            compaction: None,
            durability: Durability::Fsync,
            retention_bytes: None,
            retention: None,
            timestamp_type: TimestampType::CreateTime,
            max_batch_bytes: 1_048_588,
            acked: false,
        }
    }
}

/// Settings of the whole log.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// The log's own directory; created if missing.
    pub dir: PathBuf,
    /// Size of one journal file; at least 16 KiB, default 64 MiB. A group's keys and
    /// values must fit into a third of it. Two or three of them exist.
    pub journal_file_bytes: u64,
    /// Longest time between two checkpoints while something changes, default 5 s.
    pub checkpoint_interval: Duration,
    /// A checkpoint also starts after so many journal bytes, default 32 MiB: a start has to read and redo them.
    pub checkpoint_journal_bytes: u64,
    /// A checkpoint also starts after so many bytes of segment data, default 64 MiB: it bounds the tail that a start
    /// has to check.
    pub checkpoint_data_bytes: u64,
    /// From so many bytes in one round a stream's own segment is synced instead of copying its data into the journal,
    /// default 768 KiB: two syncs, one of them of a file that grows, cost more than a second copy of less.
    pub bulk_bytes: u64,
    /// The same for streams that keep acks, default 64 KiB: their segments are soon freed and written over again, and the
    /// sync of a file that does not grow costs less than a second copy of that much.
    pub acked_bulk_bytes: u64,
    /// Most bytes of queued groups; a commit waits for room. Default 64 MiB.
    pub queue_bytes: u64,
    /// Most bytes of groups taken into one round, default 16 MiB.
    pub round_bytes: u64,
    /// Idempotent producers kept for each stream, oldest go first; default 10 000.
    pub max_producers: usize,
    /// An idempotent producer is forgotten after so long, default 24 h (Kafka `producer.id.expiration.ms`).
    pub producer_expiry: Duration,
    /// How often retention is looked at, default 30 s.
    pub retention_check_interval: Duration,
    /// Whether streams are compacted at all, default true (Kafka `log.cleaner.enable`).
    pub compaction: bool,
    /// Pause between two looks for a stream to compact, default 15 s (Kafka `log.cleaner.backoff.ms`).
    pub compaction_pause: Duration,
    /// Most memory for the keys of a pass, 24 bytes each, default 128 MiB (Kafka `log.cleaner.dedupe.buffer.size`).
    /// What does not fit waits for the next pass.
    pub compaction_buffer_bytes: u64,
    /// Bytes that compaction reads in a second, `None` = no limit (Kafka `log.cleaner.io.max.bytes.per.second`).
    pub compaction_bytes_per_second: Option<u64>,
    /// Appends answer "no space" below so much free space on the volume; default 64 MiB, 0 = off.
    pub min_free_bytes: u64,
    /// Most bytes of freed segment files that are kept to be written over as next segments, default 2 GiB, 0 = off: one
    /// for each stream whose rounds are synced in its own segments. They go when the disk gets short.
    pub recycle_bytes: u64,
    /// When groups without any stream (tables only) are acknowledged.
    pub table_durability: Durability,
    /// Node id written into a new node file.
    pub node_id: i32,
}

impl LogOptions {
    /// The defaults for a log in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        LogOptions {
            dir: dir.into(),
            journal_file_bytes: 64 << 20,
            checkpoint_interval: Duration::from_secs(5),
            checkpoint_journal_bytes: 32 << 20,
            checkpoint_data_bytes: 64 << 20,
            bulk_bytes: 768 << 10,
            acked_bulk_bytes: 64 << 10,
            queue_bytes: 64 << 20,
            round_bytes: 16 << 20,
            max_producers: 10_000,
            producer_expiry: Duration::from_secs(24 * 3600),
            retention_check_interval: Duration::from_secs(30),
            compaction: true,
            compaction_pause: Duration::from_secs(15),
            compaction_buffer_bytes: 128 << 20,
            compaction_bytes_per_second: None,
            min_free_bytes: 64 << 20,
            recycle_bytes: 2 << 30,
            table_durability: Durability::Fsync,
            node_id: 1,
        }
    }

    /// Checks the values without touching the disk.
    ///
    /// # Errors
    /// [`OpenError::BadOption`] with the option, its value and what is allowed.
    pub fn validate(&self) -> Result<(), OpenError> {
        let bad = |option, found: u64, allowed| {
            Err(OpenError::BadOption {
                option,
                found,
                allowed,
            })
        };
        if self.journal_file_bytes < MIN_JOURNAL_FILE_BYTES || self.journal_file_bytes > 1 << 30 {
            return bad(
                "journal_file_bytes",
                self.journal_file_bytes,
                "16 KiB to 1 GiB",
            );
        }
        if self.queue_bytes < 1024 || self.queue_bytes > 1 << 40 {
            return bad("queue_bytes", self.queue_bytes, "1 KiB to 1 TiB");
        }
        if self.round_bytes == 0 {
            return bad("round_bytes", self.round_bytes, "at least 1");
        }
        if self.max_producers == 0 {
            return bad("max_producers", 0, "at least 1");
        }
        Ok(())
    }
}
