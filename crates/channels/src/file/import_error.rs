//! Why an import can end early. Each says what to do.

use std::path::PathBuf;

use flafka_flume_channel::{Finding, FlumeError, KeyError};
use flafka_kafka_wire::records::BatchError;
use flafka_log_store::{CommitError, OpenError, ReadError};

use super::encryption::EncryptionError;

fn places(count: u64) -> String {
    match count {
        1 => "1 place".to_owned(),
        _ => format!("{count} places"),
    }
}

/// Why an import ended early. What was imported stays, and the same import goes on behind it.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The source cannot be read.
    #[error(transparent)]
    Source(#[from] FlumeError),
    /// Something in the source is damaged.
    #[error(
        "{} of the source cannot be read (listed above); this run imported nothing. Restore from a copy, or import what can \
         be read with --leave-out-damaged",
        places(*count)
    )]
    Damaged {
        /// How many places.
        count: u64,
    },
    /// An event is damaged.
    #[error(
        "{finding}. {imported} events were imported so far. Restore the file from a copy, or run the same import with \
         --leave-out-damaged to go on without this event"
    )]
    DamagedEvent {
        /// Where.
        finding: Finding,
        /// Events that are in the target.
        imported: u64,
    },
    /// A Flume has written to the source meanwhile.
    #[error(
        "the source has changed since the import began: a Flume has run on it. Its events cannot be told apart from \
         those that were imported; restore the source as it was, or import into a new channel"
    )]
    Changed,
    /// Another source is half imported.
    #[error(
        "{} holds an unfinished import of another source, or of this one before a Flume ran on it again: finish that one \
         first, or import into a new channel",
        dir.display()
    )]
    OtherUnfinished {
        /// The target.
        dir: PathBuf,
    },
    /// The target is not empty.
    #[error(
        "{} holds events already; imported ones would come behind them. Use --append if that is fine, or import into a \
         new channel",
        dir.display()
    )]
    NotEmpty {
        /// The target.
        dir: PathBuf,
    },
    /// The target holds sealed events.
    #[error(
        "{} is encrypted, and imported events would lie in it in the clear: name the channel in its conf file, whose \
         encryption.activeKey they are encrypted under (-f flume.conf -n AGENT --channel NAME), or import into a new \
         channel",
        dir.display()
    )]
    EncryptedTarget {
        /// The target.
        dir: PathBuf,
    },
    /// The channel's keys do not open, or do not encrypt.
    #[error("use the encryption keys of the channel")]
    Keys(#[source] KeyError),
    /// The system gave no thread or memory for the work.
    #[error("start the import")]
    Runtime(#[source] std::io::Error),
    /// The target cannot be opened.
    #[error("open the target: {0}")]
    Open(#[from] OpenError),
    /// The target does not take the events.
    #[error("write to the target: {0}")]
    Commit(#[from] CommitError),
    /// The target cannot be read.
    #[error("read the target: {0}")]
    Read(#[from] ReadError),
    /// An event is too large.
    #[error("encode an event: {0}")]
    Encode(#[from] BatchError),
}

impl ImportError {
    pub(super) fn keys(error: EncryptionError) -> ImportError {
        ImportError::Keys(error.into())
    }
}
