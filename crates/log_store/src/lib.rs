//! The partition log: one storage engine under the embedded topics, the file channel, quarantine and the ledger.
//!
//! A *stream* (a topic partition or a file channel) is a directory of segments that hold Kafka record batches v2 exactly
//! as on the wire. One shared commit journal makes durability independent of the number of streams: small appends go
//! into it as idempotent redo, bulk appends sync their segment and journal only a reference. A commit group is atomic
//! over appends, acks, tables and trims.
//!
//! The way of a commit: [`Log::commit`] checks the batches on the caller's thread and queues the group; the commit thread
//! takes everything queued, plans it in memory, writes the segments, writes and syncs the journal once, publishes,
//! and answers. Checkpoints run beside it on the housekeeper's thread. What an acknowledgement means is
//! [`Durability`]; what a start does after a crash is in [`RecoveryReport`].
//!
//! Design: `kafka-reference.md` §4 and `faults.md` §3.2 of the project's notes.

mod acks;
mod assemble;
mod checked;
mod checkpoint;
mod chunks;
mod clock;
mod codec;
mod commit;
mod compact;
mod control;
mod counts;
#[cfg(test)]
mod crash;
mod damage;
#[cfg(test)]
mod damaged_reads;
mod engine;
mod error;
mod frames;
mod fs;
#[doc(hidden)]
pub mod fuzzing;
mod housekeeping;
mod index;
pub mod inspect;
mod jobs;
mod journal;
mod log;
mod lookup;
mod mend;
mod node;
mod op;
mod passing;
mod plan;
mod prepare;
mod producers;
mod queue;
mod read;
mod recovery;
mod recycle;
mod repair;
mod replay;
mod retention;
mod salvage;
mod segment;
mod segment_writes;
mod settings;
#[doc(hidden)]
pub mod sim_fs;
mod sim_inode;
mod space;
mod stream;
mod sync;
mod tables;
mod tail;
mod tail_walk;
mod threads;
mod window;
mod writer;

#[cfg(test)]
mod tests;

pub use self::acks::AckState;
pub use self::clock::{Clock, ManualClock, SystemClock};
pub use self::compact::MAX_UNPACKED_BYTES;
pub use self::counts::{LogCounts, Troubles};
pub use self::damage::Damage;
pub use self::error::{CommitError, IoFault, OpenError, ReadError};
pub use self::fs::{File, Fs, Lock, LockError, OpenMode, RealFs};
pub use self::housekeeping::Housekeeping;
pub use self::log::{Log, Submitted};
pub use self::op::{AppendStamp, Offset, Op, OpOutcome, Position, StreamId, Table};
pub use self::passing::RangeReader;
pub use self::queue::Ticket;
pub use self::read::{FileRange, ReadPlan};
pub use self::recovery::{Cut, RecoveryReport};
pub use self::repair::{LostOffsets, RepairAction, RepairReport, repair};
pub use self::settings::{
    Compaction, Durability, LogOptions, MAX_KEY_BYTES, MAX_STREAM_NAME_BYTES, MAX_VALUE_BYTES,
    MIN_JOURNAL_FILE_BYTES, StreamSettings, TimestampType,
};
pub use self::stream::StreamBounds;
pub use self::tables::MAX_TABLE_BYTES;
