//! Directories that are not ours.

use std::path::Path;

/// Refuses a directory that holds the log files of a Flume file channel: its events would be
/// left behind without a word.
pub(super) fn refuse_flume_files(data_dir: &Path) -> Result<(), String> {
    let Ok(entries) = std::fs::read_dir(data_dir) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("log-"));
        if number.is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        }) {
            return Err(format!(
                "{} holds the files of an Apache Flume file channel ({}); importing them is not available in this version: let Flume drain the channel, or set dataDirs to another directory",
                data_dir.display(),
                name.display()
            ));
        }
    }
    Ok(())
}
