//! The keys of the file_roll sink.

use std::path::PathBuf;
use std::time::Duration;

use flafka_flow::settings::{Count, Seconds};

use crate::serializers::SerializerConfig;

flafka_flow::choice! {
    /// How files are named.
    pub enum PathManager {
        /// `<prefix><start of the sink, ms>-<n>`.
        Default = "DEFAULT" | "org.apache.flume.formatter.output.DefaultPathManager$Builder",
        /// `<prefix><time of the roll, yyyyMMddHHmmss, local>-<n>`.
        RollTime = "ROLLTIME" | "org.apache.flume.formatter.output.RollTimePathManager$Builder",
    }
}

flafka_flow::settings! {
    /// Writes events into files of a local directory and begins a new file at each interval.
    /// A file never replaces another: when a name is taken, the next number is used. A write
    /// that fails leaves nothing behind: the file is cut back to its last committed event.
    pub struct FileRollSinkConfig {
        /// Directory of the files. It must be there; it is not created.
        "sink.directory" => directory: PathBuf,
        /// Seconds from one file to the next, counted from the start of the sink. 0 = one file
        /// for as long as the sink runs.
        "sink.rollInterval" => roll_interval: Seconds = Seconds(Duration::from_secs(30)),
        /// Events in one transaction at most. Transactions that wait in the channel are written
        /// together.
        "sink.batchSize" => batch_size: Count = Count(100),
        /// How events are written.
        "sink.serializer" => serializer: SerializerConfig = SerializerConfig::default(),
        /// How files are named: `DEFAULT` is `<prefix><start of the sink in ms>-<n>`, `ROLLTIME`
        /// is `<prefix><local time of the roll as yyyyMMddHHmmss>-<n>`; n counts from 1.
        "sink.pathManager" => path_manager: PathManager = PathManager::Default,
        /// First part of each file name.
        "sink.pathManager.prefix" => prefix: String = String::new(),
        /// Last part of each file name, after a dot; a dot at its beginning is not doubled.
        "sink.pathManager.extension" => extension: Option<String>,
        /// Whether events are forced to the disk before they are committed, so that they survive
        /// a power cut. With `false` they are handed to the operating system, as Flume does:
        /// they survive the end of the process, and a power cut takes the last seconds. Without
        /// this key: `true` when the channel keeps its events through a power cut (file, kafka),
        /// `false` when it does not (memory), so that a delivered event is as safe as one that
        /// still waits.
        "flafka.fsync" => fsync: Option<bool>,
        /// Whether a file is begun although no event has come, as Flume does: an empty file for
        /// each interval without events. With `false` a file begins with its first event.
        "flafka.emptyFiles" => empty_files: bool = true,
    }
}
