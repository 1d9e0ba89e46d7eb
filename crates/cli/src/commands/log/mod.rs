//! `flafka log`: one file an action, and what they share.

mod arguments;
mod dump;
mod import;
mod list;
mod repair;
mod stats;
pub(super) mod text;
mod verify;

use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::bail;
use flafka_log_store::inspect::{Inspection, is_log};

use self::arguments::LogAction;
pub(crate) use self::arguments::LogOptions;
use crate::exit::Outcome;

/// Folder of a file channel's log in each of its data directories.
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
    for place in [dir, &*below] {
        match std::fs::read_dir(place) {
            Err(error) if place == dir || error.kind() != ErrorKind::NotFound => {
                bail!(cannot_look(place, &error))
            }
            _ => {}
        }
    }
    bail!(
        "{} is no log: name one of a file channel's dataDirs (each is a log of its own), or one of a broker's log.dirs",
        dir.display()
    )
}

fn cannot_look(dir: &Path, error: &Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => format!("{} does not exist", dir.display()),
        _ => format!("cannot look into {}: {error}", dir.display()),
    }
}

/// What a start would find there.
fn look(dir: &Path) -> anyhow::Result<Inspection> {
    Ok(Inspection::of(&find_log(dir)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_a_directory_is_no_log_is_said() {
        let root = tempfile::tempdir().expect("temporary folder");
        let why = |dir: &Path| find_log(dir).expect_err("no log").to_string();
        let gone = root.path().join("gone");
        assert_eq!(why(&gone), format!("{} does not exist", gone.display()));
        let file = root.path().join("file");
        std::fs::write(&file, "").expect("write");
        assert!(why(&file).starts_with("cannot look into"), "{}", why(&file));
        let empty = why(root.path());
        assert!(empty.contains("is no log"), "{empty}");
        let refused = Error::from(ErrorKind::PermissionDenied);
        assert_eq!(
            cannot_look(Path::new("/data"), &refused),
            "cannot look into /data: permission denied"
        );
    }
}
