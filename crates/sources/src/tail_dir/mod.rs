//! The `taildir` source: follows growing files (reference 2.2, 3.10).
//!
//! What Flume does and this source does not, because it loses, doubles or delays:
//!
//! | Flume 1.11 | here |
//! |---|---|
//! | a file renamed to a name that matches is read again from 0 | read on: a file is its device, inode and content |
//! | an inode that another file has taken over under the same name is taken for the old file | told apart by the first bytes and those before the position, then read from 0 |
//! | a file that was truncated and has grown beyond the old position goes on in the middle of a line | the same check: read from 0 |
//! | the position file is overwritten in place | written anew, synced, renamed |
//! | a killed process repeats up to `writePosInterval` | what was put since the journal's last append, a few milliseconds ago |
//! | a file renamed away from the pattern is left until idle, its lines come late | read on as long as it is open |
//! | after every drained round a pause of up to 5 s | looks again after 5 ms, when idle after up to 100 ms |
//! | one file that grows without pause keeps all others waiting | a turn ends at the size that the file had when it began |
//! | two sources with one position file destroy each other's positions | the second does not start |
//! | a line of any length is held in memory | a line longer than 64 MiB is cut, with a warning |
//! | `skipToEnd` begins in the middle of an unfinished line | begins at the start of that line |
//!
//! What no tail can know: lines that are written between the copy and the truncation of a
//! copy-truncate rotation, or that are truncated away before they were read; and that a file which
//! looks like a copy is one (keep copies out of the pattern). A line that is not ended within
//! `idleTimeout` becomes an event as it is, as in Flume; what is appended to it later is another
//! event. Files that are renamed out of the pattern while the source is stopped are not found.
//!
//! Invariant: a position moves only when the channels have taken all that lies before it.

mod config;
mod file;
mod finder;
mod journal;
mod lines;
mod positions;
mod source;
mod store;
mod tailer;
#[cfg(test)]
mod tests;

pub use config::TaildirConfig;
pub use journal::{Entry, Identity, Journal, Mark, decode_journal};
pub use lines::{LineSpan, LineSpans, MAX_LINE_BYTES};
pub use positions::{ParsedPositions, Position, PositionsError, parse_positions};
pub use source::{TaildirSource, TaildirSourceFactory};
