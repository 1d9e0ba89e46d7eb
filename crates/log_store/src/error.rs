//! Everything that can go wrong in the log, each variant with its facts. One failure of the disk may fail many tickets,
//! so the errors of commits are cheap to clone.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flafka_kafka_wire::records::BatchError;

use crate::op::{Offset, StreamId};

/// A file call that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{action} {}: {source}", path.display())]
pub struct IoFault {
    /// Verb and object, such as "write segment".
    pub action: &'static str,
    /// Which file or directory.
    pub path: PathBuf,
    /// What the system said.
    pub source: Arc<io::Error>,
}

impl IoFault {
    /// For `map_err`.
    pub(crate) fn of(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IoFault {
        let path = path.to_path_buf();
        move |source| IoFault {
            action,
            path,
            source: Arc::new(source),
        }
    }

    /// Whether the volume is full or the quota used up.
    pub fn is_no_space(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }
}

/// Why a log could not be opened. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// An option is outside its range.
    #[error("log option {option} is {found}, allowed is {allowed}")]
    BadOption {
        /// Which.
        option: &'static str,
        /// Its value.
        found: u64,
        /// The range.
        allowed: &'static str,
    },
    /// Another process has the directory.
    #[error("{} is in use by process {holder}: stop it, or choose another directory", dir.display())]
    Locked {
        /// The log's directory.
        dir: PathBuf,
        /// Its process id as written in the lock file, with its command line if that can be read, or "unknown".
        holder: String,
    },
    /// A file call failed.
    #[error(transparent)]
    Io(#[from] IoFault),
    /// Acknowledged data is damaged or missing. Nothing was changed.
    #[error(
        "{} is damaged at byte {position}: {what}; acknowledged data would be lost, so the log does not start. \
         Restore the directory from a copy, let `flafka log repair` save what can be read, or move the directory away \
         and start empty",
        path.display()
    )]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// What was found there.
        what: String,
    },
    /// Written by a newer release.
    #[error(
        "{} has format version {found}, this release reads up to {supported}: use the release that wrote it",
        path.display()
    )]
    UnknownVersion {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest this release knows.
        supported: u32,
    },
    /// The directory holds log files but no node file.
    #[error(
        "{} holds {found} but no node.id: put the node file back, or choose an empty directory",
        dir.display()
    )]
    NodeFileMissing {
        /// The log's directory.
        dir: PathBuf,
        /// What else is there.
        found: String,
    },
    /// A thread of the log could not be started.
    #[error("start thread {name}: {source}")]
    Thread {
        /// Which.
        name: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a commit group, or one op of it, was not committed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// No such stream, or it was deleted.
    #[error("stream {0} does not exist")]
    UnknownStream(StreamId),
    /// A stream of this name exists with other settings.
    #[error("stream {0} exists with other settings")]
    StreamExists(StreamId),
    /// The name is empty, too long or has control characters.
    #[error("stream name {name:?} is not allowed: 1 to {allowed} bytes, no control characters")]
    BadStreamName {
        /// The name.
        name: String,
        /// The longest.
        allowed: usize,
    },
    /// A setting is outside its range.
    #[error("stream setting {setting} is {found}, allowed is {allowed}")]
    BadSetting {
        /// Which.
        setting: &'static str,
        /// Its value.
        found: u64,
        /// The range.
        allowed: &'static str,
    },
    /// The batch does not continue the producer's sequence (Kafka OUT_OF_ORDER_SEQUENCE_NUMBER, 45).
    #[error("producer {producer_id} sent sequence {found}, {expected} comes next")]
    OutOfOrderSequence {
        /// The producer.
        producer_id: i64,
        /// The next sequence in order.
        expected: i32,
        /// The batch's first sequence.
        found: i32,
    },
    /// A newer instance of the producer has taken over (Kafka INVALID_PRODUCER_EPOCH, 47).
    #[error("producer {producer_id} has epoch {current}, the batch says {found}")]
    InvalidProducerEpoch {
        /// The producer.
        producer_id: i64,
        /// Its epoch.
        current: i16,
        /// The batch's.
        found: i16,
    },
    /// The bytes are not whole, valid record batches (Kafka CORRUPT_MESSAGE, 2).
    #[error("invalid record batch: {0}")]
    InvalidBatch(BatchError),
    /// An append without any batch.
    #[error("the append holds no record batch")]
    EmptyAppend,
    /// Larger than a limit (Kafka MESSAGE_TOO_LARGE, 10).
    #[error("{what} is {found} bytes, {allowed} are allowed")]
    TooLarge {
        /// "record batch", "key", "value" or "commit group".
        what: &'static str,
        /// Its size.
        found: u64,
        /// The limit.
        allowed: u64,
    },
    /// The offsets are not in the stream, or the range is upside down (Kafka OFFSET_OUT_OF_RANGE, 1).
    #[error("offsets {first} to {last} are outside the stream, which ends at {log_end}")]
    OutOfRange {
        /// First offset asked for.
        first: Offset,
        /// Last offset asked for.
        last: Offset,
        /// The next offset to be given.
        log_end: Offset,
    },
    /// An ack for a stream that keeps none.
    #[error("stream {0} keeps no acks")]
    NotAcked(StreamId),
    /// The acks of a stream are too scattered to remember.
    #[error("stream {stream} has {found} separate ack ranges, {allowed} are allowed")]
    TooManyAckRanges {
        /// Which stream.
        stream: StreamId,
        /// How many there would be.
        found: usize,
        /// The limit.
        allowed: usize,
    },
    /// The volume is full; acks still work (Kafka KAFKA_STORAGE_ERROR, 56).
    #[error("no space for new data: {0}")]
    NoSpace(IoFault),
    /// A write failed; nothing of the group is in the log.
    #[error(transparent)]
    Io(IoFault),
    /// A file failed, and going on in a fresh one failed too: the log accepts nothing until it is opened again. Whether
    /// the group survives that is not known.
    #[error("the log stopped accepting after a failure, restart to recover: {0}")]
    Poisoned(IoFault),
    /// Too many stream changes are waiting.
    #[error("too many stream changes are waiting")]
    Busy,
    /// The log is closed.
    #[error("the log is closed")]
    Closed,
}

impl CommitError {
    /// Whether the same group may succeed later without anybody changing it.
    pub fn is_retriable(&self) -> bool {
        matches!(
            self,
            CommitError::NoSpace(_) | CommitError::Io(_) | CommitError::Busy
        )
    }
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No such stream, or it was deleted.
    #[error("stream {0} does not exist")]
    UnknownStream(StreamId),
    /// Kafka OFFSET_OUT_OF_RANGE (1).
    #[error("offset {offset} is outside {log_start} to {log_end}")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// First readable offset.
        log_start: Offset,
        /// The next offset to be given.
        log_end: Offset,
    },
    /// A stored batch is damaged (Kafka CORRUPT_MESSAGE, 2). [`crate::Log::set_aside`] says where to go on.
    #[error("{} is damaged at byte {position}: {source}", path.display())]
    Corrupt {
        /// Which segment.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// What is wrong.
        source: BatchError,
    },
    /// The log is closed.
    #[error("the log is closed")]
    Closed,
    /// A file call failed.
    #[error(transparent)]
    Io(#[from] IoFault),
}
