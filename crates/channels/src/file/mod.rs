//! The file channel (Flume reference 2.3 `file`, 3.8) on the partition log.
//!
//! A put transaction is one or a few record batches v2 in one atomic commit group, acknowledged
//! after the log's fsync; Flume headers are record headers. What was put stays in memory too,
//! within a budget, so sinks that keep up never read the disk. A take hands out runs of offsets;
//! a commit journals an ack of them, in any order. A lost ack costs a re-read, never a loss, so a
//! commit does not wait for the disk.
//!
//! Several data directories are several logs: puts go to them in turn, a take gathers from all.
//!
//! With `encryption.*` set, batches are sealed before they reach the log (`encryption`).
//!
//! Start-up time does not depend on the backlog, and a change of `capacity` needs no replay.
//! Flume's own files are a different format: a directory that holds them is refused until [`import`] has taken over what
//! waits in them.

mod beyond;
mod byte_room;
mod channel;
mod config;
mod encryption;
mod finishing;
mod foreign;
pub mod import;
mod import_error;
mod import_seal;
mod import_state;
mod lease;
mod open;
mod promise;
mod records;
mod runs;
mod siblings;
mod take;
mod volume;

pub use channel::{FileChannel, FileChannelFactory};
pub use config::{DurabilitySetting, FileChannelConfig};
pub(crate) use finishing::Finishing;

#[cfg(test)]
mod import_tests;
#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod several_dirs_tests;
#[cfg(test)]
pub(crate) mod tests;
