//! The settings of the spooldir source (reference 2.2).

use std::path::PathBuf;
use std::time::Duration;

use flafka_flow::settings::{Count, Millis, Reader};
use flafka_flow::{choice, settings};

use crate::charset::Charset;
use crate::deserializers::{DecodeErrorPolicy, DeserializerConfig, LineDeserializerConfig};
use crate::name_pattern::NamePattern;

settings! {
    /// Reads finished files that are put into a folder, each once, and marks or deletes them afterwards.
    /// A file has to be complete when it appears under a name that matches: write it elsewhere on the
    /// same file system, or under an ignored name, and rename it.
    pub struct SpooldirConfig {
        /// The folder; it has to exist at the start.
        "spoolDir" => spool_dir: PathBuf,
        /// Appended to the name of a file that is done. Files with this ending are not read.
        "fileSuffix" => file_suffix: String = ".COMPLETED".to_owned(),
        /// Whether done files stay (`never`) or are deleted (`immediate`).
        "deletePolicy" => delete_policy: DeletePolicy = DeletePolicy::Never,
        /// How files that are done and stay are marked: renamed, or by an empty file of the same relative
        /// name with the suffix below `trackerDir`, so that the folder itself may be read-only.
        "trackingPolicy" => tracking_policy: TrackingPolicy = TrackingPolicy::Rename,
        /// Where the position in the file being read is kept (`.flumespool-main.meta`, as Flume writes it)
        /// and the marks of `trackingPolicy = tracker_dir`. Relative to the folder, or absolute; created.
        "trackerDir" => tracker_dir: PathBuf = PathBuf::from(".flumespool"),
        /// Whether each event has a header with the file's absolute path.
        "fileHeader" => file_header: bool = false,
        /// Name of that header.
        "fileHeaderKey" => file_header_key: String = "file".to_owned(),
        /// Whether each event has a header with the file's name.
        "basenameHeader" => basename_header: bool = false,
        /// Name of that header.
        "basenameHeaderKey" => basename_header_key: String = "basename".to_owned(),
        /// Java regular expression that has to match the whole name of a file for it to be read.
        "includePattern" => include_pattern: String = "^.*$".to_owned(),
        /// Java regular expression of names that are not read; it wins over `includePattern`.
        "ignorePattern" => ignore_pattern: String = "^$".to_owned(),
        /// Which file is next: by modification time, for equal times by name; or in random order. While
        /// files wait, the folder is listed at most once a second.
        "consumeOrder" => consume_order: ConsumeOrder = ConsumeOrder::Oldest,
        /// Whether sub-folders are searched too, but for those whose name begins with a dot or matches
        /// `ignorePattern`. Links to folders are not followed.
        "recursiveDirectorySearch" => recursive: bool = false,
        /// Pause after the folder has been emptied, in milliseconds.
        "pollDelay" => poll_delay: Millis = Millis(Duration::from_millis(500)),
        /// Longest pause before a refused batch is put again, in milliseconds; the first is 250 ms, each
        /// next one twice as long.
        "maxBackoff" => max_backoff: Millis = Millis(Duration::from_millis(4000)),
        /// Events in one transaction.
        "batchSize" => batch_size: Count = Count(100),
        /// Charset of the files, for deserializers of text.
        "inputCharset" => input_charset: Charset = Charset::UTF_8,
        /// What is done with bytes that are not text of that charset: with `FAIL` the events before
        /// that line are kept and the file is set aside.
        "decodeErrorPolicy" => decode_error_policy: DecodeErrorPolicy = DecodeErrorPolicy::Fail,
        /// How a file becomes events.
        "deserializer" => deserializer: DeserializerConfig = DeserializerConfig::Line(LineDeserializerConfig {
            max_line_length: Count(2048),
            output_charset: Charset::UTF_8,
        }),
        /// Characters of a line at most, for the `LINE` deserializer; wins over
        /// `deserializer.maxLineLength`. Not set = not used.
        "bufferMaxLineLength" => buffer_max_line_length: Option<Count>; note "deprecated: write `deserializer.maxLineLength`",
    }
    moot { "bufferMaxLines": "batches are bounded by batchSize; Flume does not use this key either" }
    check(check)
}

choice! {
    /// What becomes of done files.
    pub enum DeletePolicy {
        /// They stay.
        Never = "never",
        /// They are deleted.
        Immediate = "immediate",
    }
}

choice! {
    /// How done files are marked.
    pub enum TrackingPolicy {
        /// By their name.
        Rename = "rename",
        /// By a file in the tracker folder.
        TrackerDir = "tracker_dir",
    }
}

choice! {
    /// Which file is next.
    pub enum ConsumeOrder {
        /// The one that was modified first.
        Oldest = "oldest",
        /// The one that was modified last.
        Youngest = "youngest",
        /// Any.
        Random = "random",
    }
}

fn check(config: &SpooldirConfig, reader: &mut Reader<'_>) {
    for (key, pattern) in [
        ("includePattern", &config.include_pattern),
        ("ignorePattern", &config.ignore_pattern),
    ] {
        if let Err(error) = NamePattern::new(pattern) {
            reader.error(
                key,
                error.to_string(),
                Some("a Java regular expression".to_owned()),
            );
        }
    }
    if config.file_suffix.is_empty() || config.file_suffix.contains('/') {
        reader.error(
            "fileSuffix",
            "done files could not be told from others",
            Some("an ending of file names".to_owned()),
        );
    }
    if config.buffer_max_line_length.is_some()
        && !matches!(config.deserializer, DeserializerConfig::Line(_))
    {
        reader.note(
            "bufferMaxLineLength",
            "has to do with the LINE deserializer only",
        );
    }
}

impl SpooldirConfig {
    /// The deserializer with the deprecated key applied.
    pub(super) fn effective_deserializer(&self) -> DeserializerConfig {
        match (&self.deserializer, self.buffer_max_line_length) {
            (DeserializerConfig::Line(line), Some(length)) => {
                DeserializerConfig::Line(LineDeserializerConfig {
                    max_line_length: length,
                    ..line.clone()
                })
            }
            (other, _) => other.clone(),
        }
    }
}
