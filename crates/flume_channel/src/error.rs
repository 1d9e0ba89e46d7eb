//! What can be wrong with a channel's directories. Every error says where, and what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a key cannot be had.
pub type KeyError = Box<dyn std::error::Error + Send + Sync>;

/// Why a channel cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FlumeError {
    /// A file call failed.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// Verb and object.
        action: &'static str,
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A running Flume holds the directory.
    #[error("{} is in use by {holder}: stop that agent first", path.display())]
    InUse {
        /// The lock file.
        path: PathBuf,
        /// Who holds it.
        holder: String,
    },
    /// There is nothing to import.
    #[error(
        "no log files (log-1, log-2 …) in {}: give the channel's dataDirs",
        list(dirs)
    )]
    NoLogFiles {
        /// Where they were looked for.
        dirs: Vec<PathBuf>,
    },
    /// Two data directories have a log file of the same number.
    #[error("{} and {} have the same number: each belongs to another channel", first.display(), second.display())]
    TwoChannels {
        /// One of them.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// Written by another release of Flume.
    #[error(
        "{} has format version {version}, only version 3 (Flume 1.4 and newer) can be read: let Flume 1.4 to 1.11 \
         start on it once, which writes new files as version 3, and drain the old ones",
        path.display()
    )]
    Version {
        /// The log file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// The log file is encrypted, and no keys are given.
    #[error(
        "{} is encrypted ({cipher}, key {key:?}): name the channel in its conf file, whose encryption.* keys say where the \
         key is (-f flume.conf -n AGENT --channel NAME)",
        path.display()
    )]
    Encrypted {
        /// The log file.
        path: PathBuf,
        /// Flume's name of the cipher provider.
        cipher: String,
        /// Alias of the key.
        key: String,
    },
    /// A cipher that Flume does not have.
    #[error("{} is encrypted with {cipher}; only AESCTRNOPADDING can be read", path.display())]
    UnknownCipher {
        /// The log file.
        path: PathBuf,
        /// The cipher provider.
        cipher: String,
    },
    /// Its key cannot be had.
    #[error("{} is encrypted under key {key:?}, which cannot be had", path.display())]
    Key {
        /// The log file.
        path: PathBuf,
        /// Alias of the key.
        key: String,
        /// Why.
        source: KeyError,
    },
    /// The key is another one.
    #[error(
        "none of the first records of {} can be decrypted with key {key:?}: it is not the key that Flume wrote the file \
         with, so another one stands in the keystore under this alias",
        path.display()
    )]
    WrongKey {
        /// The log file.
        path: PathBuf,
        /// Alias of the key.
        key: String,
    },
    /// Something cannot be read.
    #[error("{0}")]
    Damaged(Finding),
}

fn list(dirs: &[PathBuf]) -> String {
    let names: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    names.join(", ")
}

impl FlumeError {
    /// For `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FlumeError {
        let path = path.to_path_buf();
        move |source| FlumeError::Io {
            action,
            path,
            source,
        }
    }
}

/// What a finding means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Worth knowing; no event is missing because of it.
    Note,
    /// Committed events may be missing or come twice because of it.
    Damage,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// Which file.
    pub path: PathBuf,
    /// The byte in it.
    pub position: u64,
    /// What was found there.
    pub what: String,
}

impl Finding {
    pub(crate) fn damage(path: &Path, position: u64, what: impl Into<String>) -> Finding {
        Finding {
            severity: Severity::Damage,
            path: path.to_path_buf(),
            position,
            what: what.into(),
        }
    }

    pub(crate) fn note(path: &Path, position: u64, what: impl Into<String>) -> Finding {
        Finding {
            severity: Severity::Note,
            ..Finding::damage(path, position, what)
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding {
            path,
            position,
            what,
            ..
        } = self;
        write!(f, "{} at byte {position}: {what}", path.display())
    }
}
