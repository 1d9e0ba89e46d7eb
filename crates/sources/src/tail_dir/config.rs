//! The settings of the taildir source (reference 2.2).

use std::path::{Path, PathBuf};
use std::time::Duration;

use flafka_flow::settings;
use flafka_flow::settings::{Count, LenientCount, Millis, Names, Prefixed, Reader};
use flafka_flow::{Headers, HeadersBuilder};

use super::finder::{Group, GroupError, split_group};
use crate::name_pattern::NamePattern;

settings! {
    /// Follows files as they grow, one event a line, and keeps its positions over restarts. Files are
    /// known by device, inode and content: a renamed file is read on, not again; a file that was
    /// truncated or written anew is read from its start; a deleted file is read to its end.
    pub struct TaildirConfig {
        /// Names of the file groups.
        "filegroups" => filegroups: Names,
        /// One file group: a folder, a slash, and a Java regular expression that has to match the whole
        /// name of a file, as in `/var/log/app/.*\\.log`. The folder is taken literally and has to exist
        /// at the start; sub-folders are not searched.
        "filegroups.*" => patterns: Prefixed,
        /// `headers.<group>.<name>`: a header that all events of the group get.
        "headers.*" => headers: Prefixed,
        /// Where the positions are kept, in Flume's format; its folder is created. Each source needs a
        /// file of its own. Beside it stand `<file>.journal` (what the format cannot say: devices,
        /// fingerprints, the latest advances) and `<file>.lock`. A position file that a Flume left behind
        /// is taken over, and Flume can read the one written here.
        "positionFile" => position_file: PathBuf = PathBuf::from("~/.flume/taildir_position.json"),
        /// Lines in one transaction.
        "batchSize" => batch_size: Count = Count(100),
        /// Batches in a row from one file before the others get a turn. 0 and less mean the default.
        "maxBatchCount" => max_batch_count: LenientCount = LenientCount(i64::MAX as usize),
        /// Whether files without a known position begin at their end: only those that are there at the
        /// start; later ones begin at their start. A last line that is not ended yet is still read.
        "skipToEnd" => skip_to_end: bool = false,
        /// Whether each event has the header `byteoffset`: where its line begins in the file. Costs a
        /// header set for each event.
        "byteOffsetHeader" => byte_offset_header: bool = false,
        /// A file that did not change for this long is closed, and a last line without newline becomes an
        /// event. It is opened again when it changes. In milliseconds.
        "idleTimeout" => idle_timeout: Millis = Millis(Duration::from_secs(120)),
        /// How often the position file is written and synced, in milliseconds; also after every 256 MiB
        /// and at stop. After a power cut, what was put since then comes again; after a kill of the
        /// process only what was put since the journal's last append, a few milliseconds ago.
        "writePosInterval" => write_position_interval: Millis = Millis(Duration::from_secs(3)),
        /// Whether a folder is listed again only when its modification time changed.
        "cachePatternMatching" => cache_pattern_matching: bool = true,
        /// Whether each event has a header with the file's absolute path.
        "fileHeader" => file_header: bool = false,
        /// Name of that header.
        "fileHeaderKey" => file_header_key: String = "file".to_owned(),
    }
    check(check)
}

fn check(config: &TaildirConfig, reader: &mut Reader<'_>) {
    if config.filegroups.0.is_empty() {
        reader.error(
            "filegroups",
            "names no file group",
            Some("names separated by blanks".to_owned()),
        );
    }
    for name in &config.filegroups.0 {
        let key = format!("filegroups.{name}");
        let Some(value) = config.patterns.get(name) else {
            reader.error(
                &key,
                "required key is missing: the file group has no files",
                Some("a folder, a slash and a regular expression".to_owned()),
            );
            continue;
        };
        match split_group(value) {
            Err(message) => reader.error(
                &key,
                message,
                Some("a folder, a slash and a regular expression".to_owned()),
            ),
            Ok((_, pattern)) => {
                if let Err(error) = NamePattern::new(pattern) {
                    reader.error(
                        &key,
                        error.to_string(),
                        Some("a Java regular expression behind the last slash".to_owned()),
                    );
                }
            }
        }
    }
    let known = |name: &str| config.filegroups.0.iter().any(|group| group == name);
    for name in config.patterns.0.keys().filter(|name| !known(name)) {
        reader.warning(
            &format!("filegroups.{name}"),
            "is not in `filegroups`, so it is not used",
        );
    }
    for key in config.headers.0.keys() {
        let full = format!("headers.{key}");
        match key.split_once('.') {
            Some((group, name)) if !name.is_empty() => {
                if !known(group) {
                    reader.warning(
                        &full,
                        format!("file group `{group}` is not in `filegroups`, so it is not used"),
                    );
                }
            }
            _ => reader.error(
                &full,
                "has no header name",
                Some("headers.<group>.<name>".to_owned()),
            ),
        }
    }
    if config.write_position_interval.0.is_zero() {
        reader.error(
            "writePosInterval",
            "has to be more than 0",
            Some("milliseconds".to_owned()),
        );
    }
}

impl TaildirConfig {
    /// The file groups in their order.
    pub(super) fn groups(&self) -> Result<Vec<Group>, (String, GroupError)> {
        let mut groups = Vec::new();
        for name in &self.filegroups.0 {
            let value = self.patterns.get(name).unwrap_or_default();
            let group = Group::new(value, self.group_headers(name), self.cache_pattern_matching);
            groups.push(group.map_err(|error| (format!("filegroups.{name}"), error))?);
        }
        Ok(groups)
    }

    fn group_headers(&self, group: &str) -> Headers {
        let mut builder = HeadersBuilder::default();
        for (key, value) in &self.headers.0 {
            if let Some((of, name)) = key.split_once('.')
                && of == group
            {
                builder.set(name, value);
            }
        }
        builder.finish()
    }

    /// The position file, absolute.
    pub(super) fn position_path(&self, home: &Path) -> std::io::Result<PathBuf> {
        let path = match self.position_file.strip_prefix("~") {
            Ok(rest) => home.join(rest),
            Err(_) => self.position_file.clone(),
        };
        std::path::absolute(path)
    }
}
