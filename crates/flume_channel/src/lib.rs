//! Reads the directories of an Apache Flume file channel (log files version 3; Flume reference 2.3 `file` and 3.8), so
//! that its waiting events can be taken over. Nothing is ever written to them.
//!
//! [`Source::open`] finds the files and makes sure that no Flume holds them; [`Source::plan`] does what a replay of Flume
//! does and knows afterwards which events wait; [`Plan::events`] gives them in Flume's order, from any of them on.
//!
//! What waits: puts whose transaction was committed and that no committed transaction took. Takes that were under way
//! come first again, puts that were never committed are left out. Order: events whose take was under way at Flume's last
//! checkpoint, the checkpoint's queue, then commits by write order id.
//!
//! Memory: a bit for each 32 bytes of log (4 MiB for a GiB), the transactions that are under way, and small buffers; it
//! does not grow with the number of waiting events.
//!
//! - [`record`]: one record, drawn byte by byte.
//! - [`meta`]: the small files: `log-N.meta`, `checkpoint.meta`, `inflightputs`, `inflighttakes`.
//! - `cipher`: what an encrypted channel's records are decrypted with.
//! - `log_file`, `merge`: one log file in order; all of them by write order id.
//! - `checkpoint`, `source`: what is in the directories; `in_use`: whether a Flume runs there.
//! - `plan`, `events`: the two passes of the replay.

mod checkpoint;
mod cipher;
mod error;
mod events;
#[doc(hidden)]
pub mod fuzzing;
mod in_use;
mod log_file;
mod md5;
mod merge;
pub mod meta;
mod plan;
mod protobuf;
pub mod record;
mod source;
mod taken;

pub use self::error::{Finding, FlumeError, KeyError, Severity};
pub use self::events::{Event, Events};
pub use self::plan::{Counts, OnDamage, Plan, Progress};
pub use self::record::Malformed;
pub use self::source::{FindKey, Source, directory_print, log_files};

#[cfg(test)]
mod tests;

/// Where a record starts: log file and byte in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pointer {
    /// The N of `log-N`.
    pub file: u32,
    /// The byte.
    pub offset: u32,
}

impl Pointer {
    /// As in the checkpoint: `fileID << 32 | offset`.
    pub fn from_long(long: i64) -> Pointer {
        Pointer {
            file: (long >> 32) as u32,
            offset: long as u32,
        }
    }
}
