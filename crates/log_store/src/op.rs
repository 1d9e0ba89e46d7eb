//! What a commit group is made of, and what comes back: the vocabulary between the log and its users.
//!
//! A group is atomic: after a crash either all of it is there or nothing. That is the exactly-once primitive inside one
//! process (DESIGN §3): data, consumer positions, channel acks and producer state become durable in one step.

use std::fmt;

use bytes::Bytes;

/// Number of a record in a stream, counted from 0. Never a byte position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(pub i64);

/// Number of a byte in a file, counted from 0. Never a record's offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

/// Number of a stream. Given once at creation, never used again after the stream's deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Whose timestamps the records of an append carry (Kafka `message.timestamp.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AppendStamp {
    /// As the stream's settings say.
    #[default]
    AsStream,
    /// The producer's, whatever the stream says: quarantine, ledger and imports keep their times.
    CreateTime,
    /// The log's clock at commit, whatever the stream says.
    LogAppendTime,
}

/// One step of a commit group.
#[derive(Debug, Clone)]
pub enum Op {
    /// Adds whole record batches v2, one or more. The log sets base offset, leader epoch and, if asked, the time. In an
    /// `acked` stream a batch may hold fewer records than offsets (a sealed put of a file channel), else it may not.
    Append {
        /// Where to.
        stream: StreamId,
        /// The batches as they came from the wire or a builder; their base offsets do not matter.
        batches: Bytes,
        /// Whose time.
        stamp: AppendStamp,
    },
    /// Marks offsets as taken for good (file channel). Any order, repeats are harmless. The stream must be `acked`.
    Ack {
        /// Which stream.
        stream: StreamId,
        /// First offset, inclusive.
        first: Offset,
        /// Last offset, inclusive; below the log end.
        last: Offset,
    },
    /// Sets a key of a table.
    Put {
        /// Which table.
        table: Table,
        /// At most [`crate::MAX_KEY_BYTES`].
        key: Bytes,
        /// At most [`crate::MAX_VALUE_BYTES`].
        value: Bytes,
    },
    /// Removes a key of a table; removing what is not there is fine.
    Delete {
        /// Which table.
        table: Table,
        /// The key.
        key: Bytes,
    },
    /// Moves the log start offset up (Kafka DeleteRecords, retention). Lower than now is a no-op.
    TrimTo {
        /// Which stream.
        stream: StreamId,
        /// The new first readable offset; at most the log end.
        log_start: Offset,
    },
}

/// What became of one [`Op`], in the order of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpOutcome {
    /// The batches are in the log.
    Appended {
        /// Offset of the first record.
        base_offset: Offset,
        /// Offset of the last record.
        last_offset: Offset,
        /// The log's time if it stamped the records, milliseconds since 1970.
        log_append_time_ms: Option<i64>,
        /// The stream's log start offset.
        log_start: Offset,
    },
    /// The producer has sent this batch before; these are its offsets from then (reference §1.3).
    Duplicate {
        /// Offset of the first record.
        base_offset: Offset,
        /// Offset of the last record.
        last_offset: Offset,
        /// The stream's log start offset.
        log_start: Offset,
    },
    /// Every other op.
    Done,
}

/// The small journaled key-value tables. Held in memory, part of every checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Topics by name.
    Topics = 1,
    /// Topic and broker configs.
    Configs = 2,
    /// Consumer groups.
    Groups = 3,
    /// Committed offsets of consumer groups.
    GroupOffsets = 4,
    /// Blocks of producer ids that were handed out.
    ProducerIds = 5,
    /// Transactional ids and their state.
    Transactions = 6,
    /// Cursors of channels and sources.
    Cursors = 7,
    /// Counts and checksums for the audit.
    Ledger = 8,
    /// SCRAM users.
    Users = 9,
    /// Data keys of encrypted channels, each sealed by a master key that is not in the log.
    DataKeys = 10,
}

impl Table {
    /// Every table.
    pub const ALL: [Table; 10] = [
        Table::Topics,
        Table::Configs,
        Table::Groups,
        Table::GroupOffsets,
        Table::ProducerIds,
        Table::Transactions,
        Table::Cursors,
        Table::Ledger,
        Table::Users,
        Table::DataKeys,
    ];

    /// The table's number on disk.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    /// The table of a number on disk.
    pub(crate) fn from_code(code: u8) -> Option<Table> {
        Self::ALL.into_iter().find(|table| table.code() == code)
    }
}
