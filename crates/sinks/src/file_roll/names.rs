//! The names of the files.

use std::path::PathBuf;
use std::sync::Arc;

use flafka_flow::clock::Clock;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::config::{FileRollSinkConfig, PathManager};

/// Makes one name after the other.
pub(super) struct FileNames {
    directory: PathBuf,
    prefix: String,
    /// With its dot; empty for none.
    extension: String,
    manager: PathManager,
    clock: Arc<dyn Clock>,
    /// What stands before the number now.
    series: String,
    index: u64,
}

impl FileNames {
    pub(super) fn new(config: &FileRollSinkConfig, clock: Arc<dyn Clock>) -> Self {
        let extension = config.extension.as_deref().unwrap_or("");
        let extension = extension.strip_prefix('.').unwrap_or(extension);
        Self {
            directory: config.directory.clone(),
            prefix: config.prefix.clone(),
            extension: match extension {
                "" => String::new(),
                extension => format!(".{extension}"),
            },
            manager: config.path_manager,
            series: clock.now_ms().to_string(),
            index: 0,
            clock,
        }
    }

    /// The next name.
    pub(super) fn next(&mut self) -> PathBuf {
        if self.manager == PathManager::RollTime {
            let now = local_second(self.clock.now_ms());
            if now != self.series {
                self.series = now;
                self.index = 0;
            }
        }
        self.index += 1;
        let (prefix, series, extension) = (&self.prefix, &self.series, &self.extension);
        let name = format!("{prefix}{series}-{}{extension}", self.index);
        self.directory.join(name)
    }
}

/// Local time as `yyyyMMddHHmmss`; the milliseconds themselves outside the years 1 to 9999.
fn local_second(ms: i64) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(time) => time
            .to_zoned(TimeZone::system())
            .strftime("%Y%m%d%H%M%S")
            .to_string(),
        Err(_) => ms.to_string(),
    }
}
