//! `flafka log`: one file an action, and what they share.

mod arguments;
mod dump;
mod import;
mod list;
mod repair;
mod stats;
pub(super) mod text;
mod verify;

use std::path::{Path, PathBuf};

use anyhow::bail;
use flafka_log_store::inspect::{Inspection, is_log};

use self::arguments::LogAction;
pub(crate) use self::arguments::LogOptions;
use crate::exit::Outcome;

/// Folder of a file channel's log in its first data directory.
const CHANNEL_FOLDER: &str = "flafka";

pub(crate) fn run(options: LogOptions) -> Outcome {
    match options.action {
        LogAction::Import(arguments) => import::run(arguments),
        LogAction::List(arguments) => list::run(&arguments),
        LogAction::Dump(arguments) => dump::run(&arguments),
        LogAction::Verify(arguments) => verify::run(&arguments),
        LogAction::Repair(arguments) => repair::run(&arguments),
        LogAction::Stats(arguments) => stats::run(&arguments),
    }
}

/// The log that a user means by a directory: itself, or that of the file channel whose data directory it is.
fn find_log(dir: &Path) -> anyhow::Result<PathBuf> {
    let below = dir.join(CHANNEL_FOLDER);
    for candidate in [dir, &*below] {
        if is_log(candidate) {
            return Ok(candidate.to_path_buf());
        }
    }
    bail!(
        "{} is no log: name the first of a file channel's dataDirs, or one of a broker's log.dirs",
        dir.display()
    )
}

/// What a start would find there.
fn look(dir: &Path) -> anyhow::Result<Inspection> {
    Ok(Inspection::of(&find_log(dir)?)?)
}
