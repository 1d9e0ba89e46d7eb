//! What runs beside the commits: checkpoints, spare journal files, interval syncs, removal of files. A job owns all it
//! needs and reports back with a [`JobDone`]; tests run the same jobs on their own thread, between any two rounds.
//!
//! Syncs here use descriptors of their own, opened when the job was made: the kernel reports a write error once for each
//! open descriptor, so neither thread can swallow the other's. A descriptor that is opened after the error was reported
//! hears nothing of it, so a segment whose sync failed is never synced again ([`crate::mend`]).

use std::path::PathBuf;
use std::sync::Arc;

use crate::checkpoint::Snapshot;
use crate::compact::{Pass, Step};
use crate::error::IoFault;
use crate::fs::{File, Fs, OpenMode, remove_durably};
use crate::index::{self, IndexEntry};
use crate::journal::files;
use crate::op::StreamId;
use crate::recycle::{SpareFile, cut_former};
use crate::segment::Segment;

/// A file to be synced.
#[derive(Debug)]
pub(crate) struct SyncFile {
    pub(crate) file: Arc<dyn File>,
    pub(crate) segment: Arc<Segment>,
    /// Bytes that the sync covers, and the offset behind them.
    pub(crate) covers: (u64, i64),
    /// Nothing comes behind these bytes any more: what a recycled file holds there is cut first.
    pub(crate) cut: bool,
}

/// Segments that could not be synced. What of them only the page cache had may be gone.
#[derive(Debug)]
pub(crate) struct SyncFault {
    pub(crate) fault: IoFault,
    pub(crate) segments: Vec<Arc<Segment>>,
}

/// Index entries to be written.
#[derive(Debug)]
pub(crate) struct IndexSave {
    pub(crate) segment: Arc<Segment>,
    pub(crate) entries: Vec<IndexEntry>,
    pub(crate) anew: bool,
    /// Entries that the files hold afterwards.
    pub(crate) total: usize,
}

/// Sync what the snapshot names, then write it.
#[derive(Debug)]
pub(crate) struct CheckpointJob {
    pub(crate) files: Vec<SyncFile>,
    pub(crate) snapshot: Snapshot,
    pub(crate) dir: PathBuf,
    pub(crate) indexes: Vec<IndexSave>,
    /// Journal bytes written up to the snapshot.
    pub(crate) journal_bytes: u64,
}

/// Something to do beside the commits.
#[derive(Debug)]
pub(crate) enum Job {
    Checkpoint(Box<CheckpointJob>),
    /// Prepare the next journal file.
    Spare {
        dir: PathBuf,
        capacity: u64,
        /// With zeroes; else only its space is taken.
        fill: bool,
    },
    /// Journal files that a checkpoint has freed.
    Retire {
        dir: PathBuf,
        sequences: Vec<u64>,
        spare: bool,
        capacity: u64,
    },
    /// Sync streams of mode `interval`.
    Flush(Vec<SyncFile>),
    /// Remove files whose freeing is durable.
    Unlink {
        dir: PathBuf,
        names: Vec<String>,
    },
    /// Keep a freed file for the stream's next segment.
    Recycle {
        stream: StreamId,
        /// Its name as a segment.
        from: PathBuf,
        spare: SpareFile,
    },
    /// Cut what lies behind a segment's end; nobody reads it.
    Cut {
        path: PathBuf,
        length: u64,
    },
    /// Remove a deleted stream's directory.
    RemoveDir(PathBuf),
    /// The next step of a compaction pass. Long: it has a thread of its own.
    Compact(Box<Pass>),
}

/// How a checkpoint failed.
#[derive(Debug)]
pub(crate) enum CheckpointFault {
    /// Segment data may be gone.
    Sync(SyncFault),
    /// The checkpoint file could not be written: the next attempt may.
    Write(IoFault),
}

/// What a job reports.
#[derive(Debug)]
pub(crate) enum JobDone {
    Checkpoint {
        result: Result<(), CheckpointFault>,
        lsn: u64,
        /// Journal sequence and position behind it.
        place: (u64, u64),
        journal_bytes: u64,
    },
    /// Whether the spare is filled.
    Spare(Result<bool, IoFault>),
    Retired {
        spare: bool,
    },
    Flushed(Result<(), SyncFault>),
    Removed,
    /// The spare, if there is one now.
    Recycled(StreamId, Option<SpareFile>),
    Compacted(Step),
    /// The thread of a compaction step ended without an answer.
    CompactionLost,
}

impl Job {
    /// Runs it. Blocking.
    pub(crate) fn run(self, fs: &dyn Fs) -> JobDone {
        match self {
            Job::Checkpoint(job) => job.run(fs),
            Job::Spare {
                dir,
                capacity,
                fill,
            } => {
                let made = files::make_spare(fs, &dir, capacity, fill);
                let made = made.map(|()| fill);
                JobDone::Spare(made.map_err(IoFault::of("prepare journal", &dir)))
            }
            Job::Retire {
                dir,
                sequences,
                spare,
                capacity,
            } => {
                let spare = files::retire(fs, &dir, &sequences, spare, capacity).unwrap_or_else(
                    |error| {
                        tracing::warn!(dir = %dir.display(), %error, "cannot recycle journal files");
                        false
                    },
                );
                JobDone::Retired { spare }
            }
            Job::Flush(files) => JobDone::Flushed(sync_all(&files)),
            Job::Unlink { dir, names } => {
                // What stays is found again at the next start.
                if let Err(error) = remove_durably(fs, &dir, &names) {
                    tracing::warn!(dir = %dir.display(), %error, "cannot remove segments");
                }
                JobDone::Removed
            }
            Job::Recycle {
                stream,
                from,
                spare,
            } => JobDone::Recycled(stream, spare.keep(fs, &from)),
            Job::Cut { path, length } => {
                let cut = fs
                    .open(&path, OpenMode::Write)
                    .and_then(|file| file.set_len(length));
                if let Err(error) = cut {
                    tracing::warn!(path = %path.display(), %error, "cannot cut a segment that ended early");
                }
                JobDone::Removed
            }
            Job::Compact(pass) => JobDone::Compacted(pass.step(fs)),
            Job::RemoveDir(dir) => {
                if let Err(error) = remove_dir(fs, &dir) {
                    tracing::warn!(dir = %dir.display(), %error, "cannot remove a deleted stream");
                }
                JobDone::Removed
            }
        }
    }
}

impl CheckpointJob {
    pub(crate) fn run(self, fs: &dyn Fs) -> JobDone {
        let result = sync_all(&self.files)
            .map_err(CheckpointFault::Sync)
            .and_then(|()| {
                self.snapshot
                    .store(fs, &self.dir)
                    .map_err(CheckpointFault::Write)
            });
        for save in self.indexes {
            let segment = &save.segment;
            let saved = index::save(
                fs,
                &segment.path,
                segment.base_offset,
                &save.entries,
                save.anew,
            );
            let total = if saved.is_ok() { save.total } else { 0 };
            segment.with_index(|index| index.mark_saved(total));
        }
        JobDone::Checkpoint {
            result,
            lsn: self.snapshot.lsn,
            place: self.snapshot.place,
            journal_bytes: self.journal_bytes,
        }
    }
}

/// Syncs all of them, whatever happens to one.
pub(crate) fn sync_all(files: &[SyncFile]) -> Result<(), SyncFault> {
    let mut failed: Option<SyncFault> = None;
    for SyncFile {
        file,
        segment,
        covers,
        cut,
    } in files
    {
        if *cut {
            cut_former(&**file, segment, covers.0);
        }
        match file.sync_data() {
            Ok(()) => segment.note_synced(covers.0, covers.1),
            Err(error) => {
                let fault = IoFault::of("sync segment", &segment.path)(error);
                let failed = failed.get_or_insert(SyncFault {
                    fault,
                    segments: Vec::new(),
                });
                failed.segments.push(Arc::clone(segment));
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Removes a stream's directory with all that is in it.
pub(crate) fn remove_dir(fs: &dyn Fs, dir: &std::path::Path) -> std::io::Result<()> {
    let names = match fs.list(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for name in names {
        fs.remove_file(&dir.join(name))?;
    }
    fs.remove_dir(dir)?;
    match dir.parent() {
        Some(parent) => fs.sync_dir(parent),
        None => Ok(()),
    }
}
