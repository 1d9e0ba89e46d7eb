//! Settings of the file channel.

use std::path::PathBuf;
use std::time::Duration;

use flafka_flow::settings;
use flafka_flow::settings::{
    BadValue, ByteSize, CommaList, LenientCount, Millis, Prefixed, Reader, Seconds, Setting,
};
use flafka_log_store::Durability;

/// Flume's largest log file, and its default.
const LARGEST_FILE: u64 = 1_623_195_647;
/// Flume's floor for `minimumRequiredSpace`.
const LEAST_SPACE: u64 = 1 << 20;

/// `flafka.durability`: when a put is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DurabilitySetting(pub Durability);

impl Setting for DurabilitySetting {
    fn parse(text: &str) -> Result<Self, BadValue> {
        let interval = |millis: &str| millis.parse().ok().filter(|millis| *millis > 0);
        match text.split_once(':') {
            None if text == "fsync" => Ok(Self(Durability::Fsync)),
            None if text == "os" => Ok(Self(Durability::Os)),
            Some(("interval", millis)) if interval(millis).is_some() => {
                let millis = interval(millis).unwrap_or(1);
                Ok(Self(Durability::Interval(Duration::from_millis(millis))))
            }
            _ => Err(BadValue::new("not a durability", Self::kind())),
        }
    }

    fn kind() -> String {
        "`fsync`, `interval:<milliseconds>` or `os`".to_owned()
    }

    fn show(&self) -> Option<String> {
        Some(match self.0 {
            Durability::Fsync => "fsync".to_owned(),
            Durability::Interval(interval) => format!("interval:{}", interval.as_millis()),
            Durability::Os => "os".to_owned(),
        })
    }
}

settings! {
    /// Keeps events on disk: a put is acknowledged after an fsync, nothing acknowledged is lost
    /// when the process or the machine dies. One directory belongs to one channel of one process.
    pub struct FileChannelConfig {
        /// Directories for the data, separated by commas. The first one is used, below it the
        /// folder `flafka`; give each channel its own. Default: `~/.flume/file-channel/data`.
        "dataDirs" => data_dirs: CommaList = CommaList(Vec::new()),
        /// Events that the channel holds at most, those in open transactions included. It may be
        /// changed at any time.
        "capacity" => capacity: LenientCount = LenientCount(1_000_000),
        /// Events that one put or one take moves at most. Must not exceed `capacity`.
        "transactionCapacity" => transaction_capacity: LenientCount = LenientCount(10_000),
        /// Seconds that a put waits for room, and a take for a first event (Flume's take does not
        /// wait).
        "keep-alive" => keep_alive: Seconds = Seconds(Duration::from_secs(3)),
        /// Milliseconds between checkpoints while something changes.
        "checkpointInterval" => checkpoint_interval: Millis = Millis(Duration::from_secs(30)),
        /// Largest data file in bytes; at most 1623195647. Files are kept below 256 MiB in any
        /// case, so that delivered events free the disk sooner.
        "maxFileSize" => max_file_size: ByteSize = ByteSize(LARGEST_FILE),
        /// Free space in bytes that puts leave on the volume; at least 1 MiB. Takes go on below
        /// it.
        "minimumRequiredSpace" => minimum_required_space: ByteSize = ByteSize(524_288_000),
        /// Acknowledge a put after an fsync. With false the data is synced every `fsyncInterval`:
        /// a crash of the process loses nothing, a power cut may lose the last interval.
        "fsyncPerTransaction" => fsync_per_transaction: bool = true,
        /// Seconds between syncs when `fsyncPerTransaction` is false.
        "fsyncInterval" => fsync_interval: Seconds = Seconds(Duration::from_secs(5)),
        /// When a put is acknowledged; counts instead of the two keys above. `fsync`: after the
        /// data is on the disk. `interval:<ms>`: after the page cache has it, synced that often.
        /// `os`: after the page cache has it.
        "flafka.durability" => durability: Option<DurabilitySetting>,
        /// Bytes of put events that stay in memory for sinks that keep up.
        "flafka.cacheBytes" => cache_bytes: ByteSize = ByteSize(16 << 20),
        /// Keys of Flume's encryption.
        "encryption.*" => encryption: Prefixed,
    }
    moot {
        "checkpointDir": "checkpoints lie beside the data, one source of truth; nothing is written to this folder",
        "useDualCheckpoints": "two checkpoints are always kept, and either can be missing",
        "backupCheckpointDir": "two checkpoints are always kept beside the data",
        "compressBackupCheckpoint": "checkpoints are small: they do not grow with the backlog",
        "checkpointOnClose": "a clean stop always writes a checkpoint",
        "use-log-replay-v1": "there is no replay: a start reads a checkpoint and the tail of the journal",
        "use-fast-replay": "there is no replay: a start reads a checkpoint and the tail of the journal",
    }
    check(|config: &FileChannelConfig, reader: &mut Reader<'_>| {
        if config.transaction_capacity > config.capacity {
            let allowed = format!("at most the capacity, {}", config.capacity.0);
            reader.error("transactionCapacity", "larger than the capacity", Some(allowed));
        }
        if config.max_file_size.0 > LARGEST_FILE {
            reader.note("maxFileSize", "larger than Flume allows; 1623195647 counts, as in Flume");
        }
        if config.minimum_required_space.0 < LEAST_SPACE {
            reader.note("minimumRequiredSpace", "less than Flume's floor; 1 MiB counts, as in Flume");
        }
        if config.data_dirs.0.len() > 1 {
            reader.warning("dataDirs", "only the first directory is used in this version");
        }
        if let Some(key) = config.encryption.0.keys().next() {
            let key = format!("encryption.{key}");
            reader.secret_error(&key, "encryption at rest is not available in this version: events would be stored in the clear; remove the encryption keys to accept that");
        }
    })
}

impl FileChannelConfig {
    /// The folder of the channel's log; `home` is where Flume's default begins.
    pub fn log_dir(&self, home: &std::path::Path) -> PathBuf {
        self.data_dir(home).join("flafka")
    }

    /// The first data directory.
    pub fn data_dir(&self, home: &std::path::Path) -> PathBuf {
        match self.data_dirs.0.first() {
            None => home.join(".flume/file-channel/data"),
            Some(dir) => match dir.strip_prefix("~/") {
                Some(below) => home.join(below),
                None => PathBuf::from(dir),
            },
        }
    }

    pub(super) fn durability(&self) -> Durability {
        match (&self.durability, self.fsync_per_transaction) {
            (Some(setting), _) => setting.0,
            (None, true) => Durability::Fsync,
            (None, false) => {
                Durability::Interval(self.fsync_interval.0.max(Duration::from_millis(1)))
            }
        }
    }

    pub(super) fn segment_bytes(&self) -> u32 {
        u32::try_from(self.max_file_size.0.clamp(1 << 20, 256 << 20)).unwrap_or(256 << 20)
    }

    pub(super) fn min_free_bytes(&self) -> u64 {
        self.minimum_required_space.0.max(LEAST_SPACE)
    }
}
