//! Directories that are not ours: those in which a Flume file channel has kept its events.
//!
//! They are refused, for their events would be left behind without a word, until an import has taken these events over
//! and no Flume has run there since.

use std::path::PathBuf;

use flafka_flume_channel::{directory_print, log_files};
use flafka_log_store::Log;
use tracing::{info, warn};

use super::{FileChannelConfig, import_state};

/// A data directory with a Flume's log files.
#[derive(Debug)]
pub(super) struct FlumeDir {
    dir: PathBuf,
    /// The first of the files.
    file: PathBuf,
    /// See [`directory_print`].
    print: u64,
}

/// The directories with Flume's log files. An error when there are some and none of the directories has a log of ours
/// yet: then nothing was imported, and nothing shall be created there. Blocking.
pub(super) fn find(data_dirs: &[PathBuf]) -> Result<Vec<FlumeDir>, String> {
    let mut found = Vec::new();
    for dir in data_dirs {
        // A directory that cannot be read fails by itself, without the others.
        let files = log_files(dir).unwrap_or_default();
        if let Some((_, file)) = files.into_iter().next() {
            found.push(FlumeDir {
                print: directory_print(dir).map_err(|error| error.to_string())?,
                dir: dir.clone(),
                file,
            });
        }
    }
    let mut logs = data_dirs.iter().map(|dir| FileChannelConfig::log_dir(dir));
    match found.first() {
        Some(first) if !logs.any(|log| log.is_dir()) => Err(refusal(first)),
        _ => Ok(found),
    }
}

/// An error when the events of one of the directories were not imported as they are now; the logs of all directories say
/// what was.
pub(super) fn refuse_not_imported(flumes: &[FlumeDir], logs: &[Log]) -> Result<(), String> {
    let imports: Vec<_> = logs.iter().flat_map(import_state::all).collect();
    if imports.iter().any(|import| !import.done) {
        warn!("an import into this channel has not ended; run `flafka log import` again to end it");
    }
    for found in flumes {
        let mut done = imports.iter().filter(|import| import.done);
        if !done.any(|import| import.directories.contains(&found.print)) {
            return Err(refusal(found));
        }
        info!(
            directory = %found.dir.display(),
            "the files of an Apache Flume file channel were imported and can be deleted"
        );
    }
    Ok(())
}

fn refusal(found: &FlumeDir) -> String {
    format!(
        "{} holds the files of an Apache Flume file channel ({}) whose events were not imported: stop that Flume and \
         run `flafka log import -f <flume.conf> -n <agent> --channel <channel>`, or set dataDirs to another directory",
        found.dir.display(),
        found
            .file
            .file_name()
            .unwrap_or(found.file.as_os_str())
            .display()
    )
}
