//! Looks into a log from outside, for `flafka log`: nothing is opened for writing, no lock is taken, and the log may be in
//! use meanwhile (its end then moves on while one looks).
//!
//! - [`Inspection`]: what a start would find: streams, bounds, acks, tables, from checkpoint and journal.
//! - [`walk_segment`], [`frames`], [`checkpoint_summary`]: what one file holds.
//! - [`verify`]: whether everything can be read and fits together.

mod batches;
mod files;
mod journal;
mod leftovers;
mod read_only;
mod segment;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_compacted;
mod verify;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::files::owner;
pub use self::journal::{CheckpointSummary, FieldValue, Frame, checkpoint_summary, frames};
pub use self::leftovers::{Leftover, LeftoverKind};
pub(crate) use self::read_only::ReadOnly;
pub(crate) use self::segment::walk;
pub use self::segment::{SegmentStep, walk_segment};
pub use self::verify::{Finding, Severity, Verified, VerifyStep, verify};
use crate::acks::AckState;
use crate::checkpoint;
use crate::damage::Damage;
use crate::engine::{CHECKPOINT_DIR, JOURNAL_DIR, LOG_DIR};
use crate::error::{IoFault, OpenError};
use crate::fs::Fs;
use crate::journal::files::{self as journal_files, JournalFile};
use crate::journal::scan;
use crate::node::{NODE_FILE, Node};
use crate::op::{Offset, StreamId, Table};
use crate::replay::{Redo, Replay};
use crate::settings::StreamSettings;
use crate::stream;

/// A log that is in use may remove a file between two looks at its directory.
const ATTEMPTS: usize = 5;
const PAUSE: Duration = Duration::from_millis(20);

/// What a start would find in a log's directory.
#[derive(Debug)]
pub struct Inspection {
    /// The log's directory.
    pub dir: PathBuf,
    /// Who this log is.
    pub node: Option<NodeInfo>,
    /// The process that has the log open.
    pub owner: Option<u32>,
    /// LSN of the checkpoint that a start would begin with.
    pub checkpoint_lsn: u64,
    /// Whether a clean stop wrote it.
    pub clean: bool,
    /// Sequences of the journal files on the disk.
    pub journal_files: Vec<u64>,
    /// Frames behind the checkpoint.
    pub frames: u64,
    /// Frames of a torn end.
    pub dropped_frames: u64,
    /// Damaged bytes of the journal behind the checkpoint: a start goes on behind them, and looks in the segments for what
    /// they said.
    pub journal_damage: Vec<Damage>,
    /// Tables with their entries and bytes, those that are not empty.
    pub tables: Vec<(Table, usize, u64)>,
    /// The streams by id.
    pub streams: Vec<StreamInfo>,
    pub(crate) redo: Vec<Redo>,
}

/// Content of the node file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeInfo {
    /// Kafka's `node.id`.
    pub node_id: i32,
    /// Starts so far.
    pub epoch: i32,
    /// Kafka's cluster id.
    pub cluster_id: String,
}

/// One stream.
#[derive(Debug, Clone)]
pub struct StreamInfo {
    /// Its number.
    pub id: StreamId,
    /// Its name, such as `channel` or `topic/orders/0`.
    pub name: String,
    /// Its directory.
    pub dir: PathBuf,
    /// Its settings.
    pub settings: StreamSettings,
    /// First readable offset.
    pub log_start: Offset,
    /// The next offset to be given.
    pub end: Offset,
    /// What was taken for good, if the stream is a channel.
    pub acks: AckState,
    /// Its segments, ascending.
    pub segments: Vec<SegmentInfo>,
}

/// One segment of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The file.
    pub path: PathBuf,
    /// Offset of its first record; compaction may have removed that one.
    pub base: Offset,
    /// 0 as appended; from 1 on if compaction wrote it, one more each time.
    pub generation: u32,
    /// Of the records below this offset none hides another with the same key; its base if it was never compacted.
    pub clean_to: Offset,
    /// The offset behind its last record; compaction may have removed that one.
    pub end: Offset,
    /// Bytes that count.
    pub length: u64,
    /// Bytes that a start does not have to check.
    pub durable: u64,
}

impl StreamInfo {
    /// Bytes of all segments.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.length).sum()
    }

    /// Whether offsets may be missing: it is compacted, or was.
    pub fn is_compacted(&self) -> bool {
        let mut segments = self.segments.iter();
        self.settings.compaction.is_some() || segments.any(|segment| segment.generation > 0)
    }

    /// Records that no ack covers; `None` if the stream keeps no acks.
    pub fn unacked(&self) -> Option<u64> {
        if !self.settings.acked {
            return None;
        }
        let low = self.acks.low.max(self.log_start).0;
        let acked = self.acks.acked_ranges.iter();
        let acked: i64 = acked.map(|(first, last)| last.0 - first.0 + 1).sum();
        u64::try_from(self.end.0 - low - acked).ok()
    }
}

/// Whether a log lies in `dir`, sound or not.
pub fn is_log(dir: &Path) -> bool {
    let has = |name: &str| std::fs::metadata(dir.join(name)).is_ok();
    has(NODE_FILE) || has(JOURNAL_DIR) && has(CHECKPOINT_DIR)
}

impl Inspection {
    /// Looks at the log in `dir`. Damage in the journal is no error: see [`Inspection::journal_damage`].
    ///
    /// # Errors
    /// As those of a start: no good checkpoint, a newer format, a call that failed.
    pub fn of(dir: &Path) -> Result<Inspection, OpenError> {
        let mut attempt = 1;
        loop {
            match Self::look(dir) {
                Err(OpenError::Io(fault))
                    if attempt < ATTEMPTS && fault.source.kind() == io::ErrorKind::NotFound => {}
                // Only a log in use can be sound at the second look.
                Err(OpenError::Corrupt { .. }) if attempt < ATTEMPTS && owner(dir).is_some() => {}
                done => return done,
            }
            attempt += 1;
            std::thread::sleep(PAUSE);
        }
    }

    fn look(dir: &Path) -> Result<Inspection, OpenError> {
        let gathered = Gathered::of(dir, owner(dir))?;
        let mut inspection = Inspection {
            dir: dir.to_path_buf(),
            node: gathered.node.map(|node| NodeInfo {
                node_id: node.node_id,
                epoch: node.epoch,
                cluster_id: node.cluster_id,
            }),
            owner: gathered.owner,
            checkpoint_lsn: gathered.lsn,
            clean: gathered.clean && gathered.frames == 0,
            journal_files: gathered.sequences,
            frames: gathered.frames,
            dropped_frames: gathered.dropped_frames,
            journal_damage: gathered.damages,
            tables: Vec::new(),
            streams: Vec::new(),
            redo: gathered.replay.redo.clone(),
        };
        inspection.fill(gathered.replay);
        Ok(inspection)
    }

    fn fill(&mut self, replay: Replay) {
        for table in Table::ALL {
            let entries = replay.tables.scan_prefix(table, b"");
            let bytes = entries
                .iter()
                .map(|(key, value)| (key.len() + value.len()) as u64);
            let bytes = bytes.sum();
            if !entries.is_empty() {
                self.tables.push((table, entries.len(), bytes));
            }
        }
        for (id, found) in replay.streams {
            let dir = self
                .dir
                .join(LOG_DIR)
                .join(stream::dir_name(id, &found.name));
            let segments = found.segments.iter().map(|segment| SegmentInfo {
                path: dir.join(crate::segment::file_name(segment.base, segment.generation)),
                base: Offset(segment.base),
                generation: segment.generation,
                clean_to: Offset(segment.clean_to),
                end: Offset(segment.end),
                length: segment.length,
                durable: segment.durable,
            });
            self.streams.push(StreamInfo {
                id,
                segments: segments.collect(),
                name: found.name,
                dir,
                settings: found.settings,
                log_start: found.log_start,
                end: Offset(found.end),
                acks: found.acks,
            });
        }
    }
}

/// The paths in a directory, sorted; none if there is no such directory.
fn list(dir: &Path) -> Result<Vec<PathBuf>, IoFault> {
    let names = match ReadOnly.list(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(IoFault::of("list directory", dir)(error)),
    };
    let mut paths: Vec<PathBuf> = names.into_iter().map(|name| dir.join(name)).collect();
    paths.sort();
    Ok(paths)
}

/// Checkpoint and journal of a log, read as a start reads them.
#[derive(Debug)]
pub(crate) struct Gathered {
    pub(crate) node: Option<Node>,
    pub(crate) owner: Option<u32>,
    /// Of the checkpoint.
    pub(crate) lsn: u64,
    pub(crate) clean: bool,
    /// Journal files on the disk.
    pub(crate) sequences: Vec<u64>,
    /// The journal files behind the checkpoint, open for reading.
    pub(crate) files: Vec<JournalFile>,
    pub(crate) replay: Replay,
    pub(crate) frames: u64,
    pub(crate) dropped_frames: u64,
    /// Damaged bytes in the journal.
    pub(crate) damages: Vec<Damage>,
    pub(crate) next_lsn: u64,
}

impl Gathered {
    /// Reads the log in `dir`, which `owner` has open.
    pub(crate) fn of(dir: &Path, owner: Option<u32>) -> Result<Gathered, OpenError> {
        let fs = ReadOnly;
        let journal_dir = dir.join(JOURNAL_DIR);
        let node = Node::load(&fs, dir)?;
        let (sequences, _) = journal_files::list_only(&fs, &journal_dir)
            .map_err(IoFault::of("list journal", &journal_dir))?;
        let snapshot = checkpoint::load_newest(&fs, &dir.join(CHECKPOINT_DIR), &sequences)?;
        let (place, lsn, clean) = (snapshot.place, snapshot.lsn, snapshot.clean);
        let mut replay = Replay::new(snapshot, &journal_dir);
        let scan = scan::scan(
            &fs,
            &journal_dir,
            sequences.clone(),
            place,
            lsn + 1,
            &mut |frame| replay.apply(frame),
        )?;
        // The owner writes on while one looks: what seems damaged was not there yet a moment before.
        let damages = match owner {
            Some(_) => Vec::new(),
            None => scan.damages,
        };
        Ok(Gathered {
            node,
            owner,
            lsn,
            clean,
            sequences,
            files: scan.files,
            replay,
            frames: scan.frames,
            dropped_frames: scan.dropped_frames,
            damages,
            next_lsn: scan.next_lsn,
        })
    }

    /// A number that no good frame has.
    pub(crate) fn next_lsn(&self) -> u64 {
        self.next_lsn
    }
}
