//! Compaction: of each key only the newest record stays (Kafka `cleanup.policy=compact`).
//!
//! A **pass** over one stream goes beside the commits, in steps that each end with a switch:
//!
//! 1. [`select`](self) picks the stream with the largest part that was never compacted;
//! 2. the pass reads the keys of that part into an [`OffsetMap`](offsets::OffsetMap) of bounded size; what does not fit
//!    is left to the next pass ([`map`](pass));
//! 3. for each run of sealed segments that fit into one, from the stream's start on, it writes a new segment with what
//!    stays ([`clean`](clean)) and hands it to the commit thread, which switches ([`switch`](switch)).
//!
//! Records keep their offsets, so there are gaps. Of a key the newest record stays; a tombstone (null value) stays until
//! the delete horizon in its batch's header has passed (KIP-534), which the first pass that meets it sets; records
//! without a key go; control batches stay; the last batch of each known producer stays, emptied if need be, so that
//! sequences survive. Segments that grow and records younger than the least lag are left alone.
//!
//! **The switch** needs no rename over a name that is in use: a new segment has the base offset of the first one that it
//! replaces and a generation of its own in its file name. Its file is written under another suffix, synced, renamed, its
//! directory synced; only then one journal frame says that it stands for the old ones. A crash before the frame leaves
//! the old ones, and a start removes the file nobody knows; a crash behind it leaves the new one, and a start removes
//! the old files. These go when a checkpoint has passed the frame. Readers keep the files they have open.
//!
//! Invariant: of the records below a segment's clean offset none hides another one, so a pass need not map them again.

mod clean;
mod offsets;
mod pass;
mod select;
mod switch;

#[cfg(test)]
mod tests;

pub(crate) use self::pass::{Pass, Step};

use std::path::PathBuf;

use flafka_kafka_wire::records::BatchError;

use crate::error::IoFault;

/// Most bytes a batch may unpack to; one that is larger stays as it is.
pub const MAX_UNPACKED_BYTES: usize = 64 << 20;

/// Why a pass ended before its end. The stream is as it was after the last switch.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CompactFault {
    /// The log is being closed, or the stream was deleted.
    #[error("stopped")]
    Stopped,
    /// A file call failed.
    #[error(transparent)]
    Io(#[from] IoFault),
    /// There is no room for a second copy of the segments in work.
    #[error("{needed} bytes are needed, {free} are free")]
    NoSpace {
        /// Bytes of the old segments and the space that has to stay free.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// A batch is damaged.
    #[error("{} at byte {position}: {source}", path.display())]
    Corrupt {
        /// Which segment.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// What is wrong.
        source: BatchError,
    },
}
