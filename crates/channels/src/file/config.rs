//! Settings of the file channel.

use std::path::{Path, PathBuf};
use std::time::Duration;

use flafka_flow::registry::StoragePlace;
use flafka_flow::settings;
use flafka_flow::settings::{
    BadValue, ByteSize, CommaList, LenientCount, Millis, Names, Prefixed, Reader, Seconds, Setting,
};
use flafka_log_store::Durability;

use super::encryption::KeySource;
use crate::check_transactions;

/// Flume's largest log file, and its default.
const LARGEST_FILE: u64 = 1_623_195_647;
/// Data files are at least and at most so large.
const LEAST_SEGMENT: u64 = 1 << 20;
const LARGEST_SEGMENT: u64 = 256 << 20;
/// `flafka.byteCapacity` for one directory: room for eight data files of 2 MiB.
const LEAST_BYTE_CAPACITY: u64 = 16 << 20;
/// Flume's default of `checkpointInterval`, and how far apart checkpoints are at least.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(30);
const LEAST_CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
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
        Some(self.0.to_string())
    }
}

flafka_flow::choice! {
    /// `encryption.cipherProvider`.
    pub enum CipherProvider {
        /// Flume's cipher; here it stands for AES-GCM.
        AesCtrNoPadding = "AESCTRNOPADDING" | "org.apache.flume.channel.file.encryption.AESCTRNoPaddingProvider",
    }
}

flafka_flow::choice! {
    /// `encryption.keyProvider`.
    pub enum KeyProvider {
        /// A keystore file.
        JceksFile = "JCEKSFILE" | "org.apache.flume.channel.file.encryption.JCEFileKeyProvider$Builder" | "org.apache.flume.channel.file.encryption.JCEFileKeyProvider",
    }
}

settings! {
    /// Keeps events on disk: a put is acknowledged after an fsync, nothing acknowledged is lost
    /// when the process or the machine dies. One directory belongs to one channel of one process.
    pub struct FileChannelConfig {
        /// Directories for the data, separated by commas, best on disks of their own; below each the
        /// folder `flafka`. Puts go to them in turn, takes drain all; one that is full or fails does
        /// not stop the others. A directory that is no longer named, beside one that still is, is drained
        /// as long as it holds events. Give each channel its own. Default: `~/.flume/file-channel/data`.
        "dataDirs" => data_dirs: CommaList = CommaList(Vec::new()),
        /// Events that the channel holds at most, those in open transactions included. It may be
        /// changed at any time.
        "capacity" => capacity: LenientCount = LenientCount(1_000_000),
        /// Events that one put or one take moves at most. Must not exceed `capacity`.
        "transactionCapacity" => transaction_capacity: LenientCount = LenientCount(10_000),
        /// Seconds that a put waits for room, and a take for a first event (Flume's take does not
        /// wait).
        "keep-alive" => keep_alive: Seconds = Seconds(Duration::from_secs(3)),
        /// Milliseconds between checkpoints while something changes; at least 1000. 0 means the default.
        "checkpointInterval" => checkpoint_interval: Millis = Millis(CHECKPOINT_INTERVAL),
        /// Largest data file in bytes; at most 1623195647. Files are kept between 1 MiB and 256 MiB in any
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
        /// Bytes of data files that the channel has at most, in all `dataDirs` together; a put waits for
        /// room up to `keep-alive`. Delivered events count until their data file goes, so data files
        /// are smaller then: an eighth of it at most. At least 16 MiB for each directory. Default: the
        /// free space of the disks.
        "flafka.byteCapacity" => byte_capacity: Option<ByteSize>,
        /// Bytes of put events that stay in memory for sinks that keep up.
        "flafka.cacheBytes" => cache_bytes: ByteSize = ByteSize(16 << 20),
        /// Alias of the master key that new events are encrypted under. To rotate, set it to a new key and keep the
        /// old one in the keystore until what was put before is delivered. Without it, and with a key provider,
        /// encrypted events are read and new ones stay in the clear.
        "encryption.activeKey" => active_key: Option<String>,
        /// Required with `encryption.activeKey`. Flume's only word is accepted; events are sealed with AES-256-GCM,
        /// which also notices changes.
        "encryption.cipherProvider" => cipher_provider: Option<CipherProvider>,
        /// Where master keys come from: a keystore file.
        "encryption.keyProvider" => key_provider: Option<KeyProvider>,
        /// Keystore (JCEKS or PKCS12) with AES secret keys of 128, 192 or 256 bits. Required with a key provider.
        "encryption.keyProvider.keyStoreFile" => key_store_file: Option<PathBuf>,
        /// File with the keystore's password; blanks and line ends around it do not count. Required with a key provider.
        "encryption.keyProvider.keyStorePasswordFile" => key_store_password_file: Option<PathBuf>,
        /// Aliases of the keys, separated by blanks. Required with a key provider.
        "encryption.keyProvider.keys" => keys: Names = Names(Vec::new()),
        /// `<alias>.passwordFile`: file with the password of that key. Default: that of the keystore.
        "encryption.keyProvider.keys.*" => key_settings: Prefixed,
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
        check_transactions(reader, config.transaction_capacity.0, "capacity", config.capacity.0);
        match config.checkpoint_interval.0 {
            Duration::ZERO => reader.note("checkpointInterval", "0 means the default, 30000, as in Flume"),
            interval if interval < LEAST_CHECKPOINT_INTERVAL => {
                reader.note("checkpointInterval", "checkpoints are at least 1000 ms apart, as in Flume");
            }
            _ => {}
        }
        if config.max_file_size.0 < LEAST_SEGMENT {
            reader.note("maxFileSize", "less than the floor of data files; 1048576 counts");
        }
        if config.max_file_size.0 > LARGEST_FILE {
            reader.note("maxFileSize", "larger than Flume allows; 1623195647 counts, as in Flume");
        }
        if config.minimum_required_space.0 < LEAST_SPACE {
            reader.note("minimumRequiredSpace", "less than Flume's floor; 1 MiB counts, as in Flume");
        }
        check_dirs(reader);
        let least = LEAST_BYTE_CAPACITY * config.data_dirs.0.len().max(1) as u64;
        if config.byte_capacity.is_some_and(|bytes| bytes.0 < least) {
            reader.error("flafka.byteCapacity", "too small for the data directories", Some(format!("at least {least}")));
        }
        check_encryption(config, reader);
    })
}

/// The list as written: parsed, a directory that stands there twice is there once, and no directory is the default.
fn check_dirs(reader: &mut Reader<'_>) {
    let Some(written) = reader.section().entries.get("dataDirs") else {
        return;
    };
    let dirs: Vec<&str> = written.value.split(',').map(str::trim).collect();
    let dirs: Vec<&str> = dirs.into_iter().filter(|dir| !dir.is_empty()).collect();
    if dirs.is_empty() && !written.value.trim().is_empty() {
        let allowed = "directories separated by commas".to_owned();
        reader.error("dataDirs", "names no directory", Some(allowed));
    }
    let is_twice = |(at, dir): (usize, &&str)| dirs[..at].contains(dir);
    if let Some((_, twice)) = dirs.iter().enumerate().find(|found| is_twice(*found)) {
        let message = format!("names {twice} twice: each directory has one log");
        reader.error("dataDirs", message, None);
    }
}

/// What belongs together, and what has no meaning alone.
fn check_encryption(config: &FileChannelConfig, reader: &mut Reader<'_>) {
    const KEYS: &str = "encryption.keyProvider.keys";
    let set = |is_set: bool, key: &'static str| (is_set, key);
    if config.key_provider.is_none() {
        let needless = [
            set(config.active_key.is_some(), "encryption.activeKey"),
            set(
                config.cipher_provider.is_some(),
                "encryption.cipherProvider",
            ),
        ];
        for (_, key) in needless.into_iter().filter(|(is_set, _)| *is_set) {
            let message = "without encryption.keyProvider nothing would be encrypted";
            reader.error(
                key,
                message,
                Some("set encryption.keyProvider = JCEKSFILE".to_owned()),
            );
        }
        return;
    }
    let needed = [
        set(
            config.key_store_file.is_some(),
            "encryption.keyProvider.keyStoreFile",
        ),
        set(
            config.key_store_password_file.is_some(),
            "encryption.keyProvider.keyStorePasswordFile",
        ),
        set(!config.keys.0.is_empty(), KEYS),
        set(
            config.cipher_provider.is_some() || config.active_key.is_none(),
            "encryption.cipherProvider",
        ),
    ];
    for (_, key) in needed.into_iter().filter(|(is_set, _)| !*is_set) {
        reader.error(key, "is needed with encryption.keyProvider", None);
    }
    match &config.active_key {
        None => reader.warning("encryption.keyProvider", "no encryption.activeKey: what is encrypted can be read, new events are stored in the clear"),
        Some(active) if !config.keys.0.contains(active) => reader.note("encryption.activeKey", "not among encryption.keyProvider.keys; the keystore's password counts for it, as in Flume"),
        Some(_) => {}
    }
    if config.cipher_provider.is_some() {
        reader.note("encryption.cipherProvider", "events are sealed with AES-256-GCM under data keys of their own; Flume's AES-CTR repeats its key stream");
    }
    for key in config.key_settings.0.keys() {
        let alias = key.strip_suffix(".passwordFile");
        if !alias.is_some_and(|alias| config.keys.0.iter().any(|known| known == alias)) {
            let known: Vec<_> = config
                .keys
                .0
                .iter()
                .map(|alias| format!("{KEYS}.{alias}.passwordFile"))
                .collect();
            reader.error(
                &format!("{KEYS}.{key}"),
                "unknown key",
                Some(known.join(", ")),
            );
        }
    }
}

impl FileChannelConfig {
    /// Where the master keys are; none: nothing is encrypted.
    pub(super) fn key_source(&self, home: &Path) -> Option<KeySource> {
        self.key_provider?;
        let path = |path: &PathBuf| match path.strip_prefix("~/") {
            Ok(below) => home.join(below),
            Err(_) => path.clone(),
        };
        let own = |(key, file): (&String, &String)| {
            let alias = key.strip_suffix(".passwordFile")?;
            Some((alias.to_owned(), path(&PathBuf::from(file.trim()))))
        };
        Some(KeySource {
            keystore: path(self.key_store_file.as_ref()?),
            password_file: path(self.key_store_password_file.as_ref()?),
            key_password_files: self.key_settings.0.iter().filter_map(own).collect(),
            active: self.active_key.clone(),
        })
    }

    /// The data directories; `home` is where Flume's default begins.
    pub fn data_dirs(&self, home: &Path) -> Vec<PathBuf> {
        if self.data_dirs.0.is_empty() {
            return vec![home.join(".flume/file-channel/data")];
        }
        let below_home = |dir: &String| match dir.strip_prefix("~/") {
            Some(below) => home.join(below),
            None => PathBuf::from(dir),
        };
        self.data_dirs.0.iter().map(below_home).collect()
    }

    /// [`FileChannelConfig::data_dirs`], as what this channel has to itself.
    pub(crate) fn places(&self, home: &Path) -> Vec<StoragePlace> {
        let of = |path| StoragePlace {
            key: "dataDirs",
            path,
            is_directory: true,
        };
        self.data_dirs(home).into_iter().map(of).collect()
    }

    /// The folder of the log in a data directory.
    pub fn log_dir(data_dir: &Path) -> PathBuf {
        data_dir.join(super::import::LOG_FOLDER)
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
        let dirs = self.data_dirs.0.len().max(1) as u64;
        let share = self.byte_capacity.map(|bytes| bytes.0 / 8 / dirs);
        let largest = share
            .unwrap_or(LARGEST_SEGMENT)
            .clamp(LEAST_SEGMENT, LARGEST_SEGMENT);
        u32::try_from(self.max_file_size.0.clamp(LEAST_SEGMENT, largest)).unwrap_or(256 << 20)
    }

    pub(super) fn checkpoint_interval(&self) -> Duration {
        match self.checkpoint_interval.0 {
            Duration::ZERO => CHECKPOINT_INTERVAL,
            interval => interval.max(LEAST_CHECKPOINT_INTERVAL),
        }
    }

    pub(crate) fn min_free_bytes(&self) -> u64 {
        self.minimum_required_space.0.max(LEAST_SPACE)
    }
}
