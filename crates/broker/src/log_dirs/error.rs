//! Why a broker does not start with its data directories.

use std::path::PathBuf;

use flafka_log_store::{CommitError, OpenError};

use super::notes::NoteError;

/// Why the data directories cannot be opened. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum LogDirError {
    /// The main directory's log does not open: locked, damaged, no room; or another one is in use.
    #[error("open the log in {}: {source}", dir.display())]
    Log {
        /// The data directory.
        dir: PathBuf,
        /// The log's reason.
        source: OpenError,
    },
    /// The main directory is not among `log.dirs`.
    #[error(
        "{} belongs to a broker that keeps its topics and committed offsets in {}, which is not \
         among log.dirs, is empty or does not open: name that directory too, or the one that it was moved to",
        member.display(), main.display()
    )]
    MainMissing {
        /// A directory with partitions alone.
        member: PathBuf,
        /// Where the main directory was.
        main: PathBuf,
    },
    /// Nobody knows which directory is the main one.
    #[error(
        "open the log in {}: {source}; no other directory of log.dirs holds the broker's topics and committed offsets, \
         so the broker does not start without this one", dir.display()
    )]
    MainUnknown {
        /// The directory that does not open.
        dir: PathBuf,
        /// The log's reason.
        source: OpenError,
    },
    /// Two directories hold tables of a broker.
    #[error(
        "{} and {} each hold the topics of a broker of its own: name one of them in log.dirs, and move what the other \
         holds with a Kafka client",
        one.display(), other.display()
    )]
    TwoBrokers {
        /// One of them.
        one: PathBuf,
        /// The next.
        other: PathBuf,
    },
    /// A directory is another broker's.
    #[error(
        "{} belongs to the broker whose topics are in {}, not to that of {}: take it out of log.dirs, or \
         empty it if nothing in it is needed",
        dir.display(), owner.display(), main.display()
    )]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// The main directory of its broker.
        owner: PathBuf,
        /// The main directory here.
        main: PathBuf,
    },
    /// An entry about the directories does not parse.
    #[error("{}: {source}: use the release that wrote it", dir.display())]
    Note {
        /// Where.
        dir: PathBuf,
        /// What is wrong.
        source: NoteError,
    },
    /// The main log refused to note the directories.
    #[error("note the data directories in {}: {source}", dir.display())]
    Commit {
        /// The main directory.
        dir: PathBuf,
        /// The log's reason.
        source: CommitError,
    },
    /// The start was run on a runtime that is shutting down.
    #[error("the runtime stopped while the log was being opened")]
    Runtime,
}
