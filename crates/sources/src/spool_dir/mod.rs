//! The `spooldir` source: reads finished files out of a folder, each once (reference 2.2, 3.9).
//!
//! In Flume every surprise ends the source until a restart. Here it is reported and counted, and the
//! source goes on with the next file:
//!
//! | surprise | here |
//! |---|---|
//! | bytes that are not text, with `decodeErrorPolicy = FAIL`; a damaged Avro file | the events before it are kept, the file is set aside: renamed with `.REJECTED`, with `trackingPolicy = tracker_dir` marked so in the tracker folder; never deleted |
//! | the file has grown when its end was reached | it is read on to its new end |
//! | the file was modified but has not grown | set aside |
//! | the file was replaced or removed | what was read of it is delivered; what has its name now is another file |
//! | a done file has the name already | both are kept: the new one becomes `<name>.1<suffix>` |
//! | a marked file was modified after its mark (`tracker_dir`) | an error is logged; it is not read, as in Flume |
//! | no permission, an input/output error | left alone for a minute, then tried again where it was left |
//! | the tracker is damaged | the file it was about is read from its start |
//!
//! Other differences: a restart at the end of a file gives no empty event (an empty file does, as in
//! Flume); the begun file is read on first, whatever `consumeOrder` says; a new file under the
//! begun file's name is not taken for it; the folder is listed at most once a second while files
//! wait; missing parents of `trackerDir` are created.
//!
//! A kill repeats what was put since the tracker's last append, a few milliseconds ago (with the
//! AVRO deserializer: since the start of the block); a power cut repeats the file from where the
//! file system kept the tracker.

mod candidates;
mod config;
mod source;
mod spooler;
#[cfg(test)]
mod tests;
mod tracker;

pub use config::{ConsumeOrder, DeletePolicy, SpooldirConfig, TrackingPolicy};
pub use source::{SpooldirSource, SpooldirSourceFactory};
pub use tracker::{Tracked, TrackerError, parse_tracker};
