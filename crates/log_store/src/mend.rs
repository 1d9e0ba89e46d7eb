//! What the log does when the disk refuses a write or a sync (faults.md §3.2 rule 4): it goes on in fresh files.
//!
//! After a failed sync Linux counts the file's pages as clean: they may show what the disk does not have, or not even
//! show it, and a second sync says "done" about nothing. So a file whose sync failed is never synced again:
//! - **A segment** ends at the last byte that an earlier sync covered. What was published behind it is copied into a
//!   fresh segment: read back, checked batch by batch, and where the page cache has lost it, taken from the journal. The
//!   copy is synced; the stream goes on there, or in yet another file if nothing had to be copied.
//! - **The journal** goes on in a fresh file. What the failed one holds behind its last sync was refused or is weak.
//! - A **checkpoint** of what is published then makes the old places unreachable: a refused frame is never replayed
//!   under a later one that has its offsets. Only then anybody is answered. If any of this fails the log is poisoned.
//!
//! All of it runs on the commit thread, so no round ever sees a half-mended log. A segment that the housekeeper is
//! syncing at that time is copied too: its error would be reported to the housekeeper's descriptor only.

use std::path::Path;
use std::sync::Arc;

use crate::engine::{Engine, commit_fault};
use crate::error::{CommitError, IoFault};
use crate::fs::{File, OpenMode};
use crate::jobs::{CheckpointFault, Job, JobDone, SyncFault};
use crate::journal::files;
use crate::journal::frame::{APPEND_PREFIX_BYTES, FrameKind, Record};
use crate::journal::scan;
use crate::op::StreamId;
use crate::segment::{self, Segment};
use crate::tail_walk::TailWalk;
use crate::window::Window;
use crate::writer::StreamWriter;

/// Extension of a copy that has no name yet; a start removes what is left of it.
pub(crate) const COPY_EXTENSION: &str = "mend";
/// How often a checkpoint may find yet another segment that cannot be synced.
const MAX_ATTEMPTS: usize = 8;

/// Published bytes of a segment that no sync covered.
struct Loose {
    stream: StreamId,
    segment: Arc<Segment>,
    /// First of them, and the offset there.
    from: (u64, i64),
    length: u64,
    end: i64,
}

impl Engine {
    /// Goes on after `cause`: `wounded` are the segments whose sync failed, `journal` says that the journal's file did.
    ///
    /// # Errors
    /// The log is poisoned then.
    pub(crate) fn mend(
        &mut self,
        cause: &IoFault,
        wounded: Vec<Arc<Segment>>,
        journal: bool,
    ) -> Result<(), CommitError> {
        tracing::error!(error = %cause, "a file failed, the log goes on in a fresh one");
        let proven_lsn = self.journal.synced_lsn();
        match self.try_mend(wounded, journal, proven_lsn) {
            Ok(()) => {
                self.shared.counts.add_mended();
                Ok(())
            }
            Err(second) => {
                tracing::error!(error = %second, "and that failed too");
                self.poison(cause.clone());
                Err(CommitError::Poisoned(cause.clone()))
            }
        }
    }

    fn try_mend(
        &mut self,
        wounded: Vec<Arc<Segment>>,
        journal: bool,
        proven_lsn: u64,
    ) -> Result<(), IoFault> {
        if journal {
            self.journal.restart()?;
        }
        let moved = self.move_out(wounded, proven_lsn)?;
        if !journal && !moved {
            return Ok(());
        }
        self.checkpoint_with(false, proven_lsn, moved)
    }

    /// Writes a checkpoint on this thread: at the end, or at a start that needs one.
    pub(crate) fn checkpoint_here(&mut self, clean: bool) -> Result<(), CommitError> {
        let proven_lsn = self.journal.synced_lsn();
        self.checkpoint_with(clean, proven_lsn, false)
            .map_err(commit_fault)
    }

    /// A checkpoint on this thread, whatever the housekeeper is doing. Segments that cannot be synced move out first.
    fn checkpoint_with(
        &mut self,
        clean: bool,
        proven_lsn: u64,
        moved: bool,
    ) -> Result<(), IoFault> {
        for attempt in 0..MAX_ATTEMPTS {
            let in_flight = self.in_flight.segments();
            self.move_out(in_flight, proven_lsn)?;
            if attempt > 0 || moved || self.in_flight.checkpoint {
                // The housekeeper may yet store a checkpoint of this place, without what has moved: ours is a later one.
                self.journal.skip_lsn();
            }
            let job = self.make_checkpoint(clean)?;
            let JobDone::Checkpoint {
                result,
                lsn,
                place,
                journal_bytes,
            } = job.run(&*self.fs)
            else {
                break;
            };
            match result {
                Ok(()) => {
                    self.checkpoint_stored(lsn, place, journal_bytes);
                    return Ok(());
                }
                Err(CheckpointFault::Write(fault)) => {
                    self.changed = true;
                    return Err(fault);
                }
                Err(CheckpointFault::Sync(SyncFault { fault, segments })) => {
                    tracing::error!(error = %fault, "a segment failed, its data moves to a fresh one");
                    self.move_out(segments, proven_lsn)?;
                }
            }
        }
        let error = std::io::Error::other("one segment after the other cannot be synced");
        Err(IoFault::of("write checkpoint", &self.options.dir)(error))
    }

    /// Copies what only the page cache or the journal has of these segments into fresh ones, and ends them before it.
    /// Says whether there was anything to copy.
    fn move_out(&mut self, segments: Vec<Arc<Segment>>, proven_lsn: u64) -> Result<bool, IoFault> {
        let mut moved = false;
        for segment in segments {
            let Some(stream) = self.stream_of(&segment) else {
                continue; // Freed or moved meanwhile.
            };
            let (from, length) = (segment.synced(), segment.length());
            if from.0 >= length {
                self.seal(stream, &segment);
                continue;
            }
            let loose = Loose {
                stream,
                from,
                length,
                end: segment.end_offset(),
                segment,
            };
            let copy = self.copy_out(&loose, proven_lsn)?;
            self.swap_in(&loose, copy);
            moved = true;
        }
        Ok(moved)
    }

    fn stream_of(&self, segment: &Arc<Segment>) -> Option<StreamId> {
        let holds = |writer: &&StreamWriter| {
            let view = writer.state.view();
            view.segments
                .iter()
                .any(|known| Arc::ptr_eq(known, segment))
        };
        self.streams
            .values()
            .find(holds)
            .map(|writer| writer.state.id)
    }

    /// Nothing goes into this segment any more.
    fn seal(&mut self, stream: StreamId, segment: &Arc<Segment>) {
        let Some(writer) = self.streams.get_mut(&stream) else {
            return;
        };
        writer.unsynced.retain(|known| !Arc::ptr_eq(known, segment));
        let active = writer.active.as_ref();
        if active.is_some_and(|active| Arc::ptr_eq(active, segment)) {
            writer.seal();
            self.shared.open_segments.add(segment);
        }
    }

    /// Makes the durable copy under its final name.
    fn copy_out(
        &self,
        loose: &Loose,
        proven_lsn: u64,
    ) -> Result<(Arc<Segment>, Arc<dyn File>), IoFault> {
        let dir = &self.streams[&loose.stream].state.dir;
        let copy = Segment::new(dir, loose.from.1);
        let temporary = copy.path.with_extension(COPY_EXTENSION);
        let fault = |action| IoFault::of(action, &temporary);
        let length = loose.length - loose.from.0;
        let file = self
            .fs
            .open(&temporary, OpenMode::Create)
            .map_err(fault("create segment"))?;
        self.copy_bytes(loose, &*file)
            .map_err(fault("copy segment"))?;
        let mut newest = soundness(loose, &*file).map_err(fault("read segment"))?;
        if newest.is_err() {
            self.overlay_journal(loose, &*file, proven_lsn)?;
            newest = soundness(loose, &*file).map_err(fault("read segment"))?;
        }
        if let Err((position, what)) = &newest {
            // Weak data that only the page cache had, or a journal that cannot be read either.
            tracing::error!(
                path = %loose.segment.path.display(), position, what,
                "data was lost by a failed sync, reads will skip it"
            );
        }
        file.sync_data().map_err(fault("sync segment"))?;
        self.fs
            .rename(&temporary, &copy.path)
            .and_then(|()| self.fs.sync_dir(dir))
            .map_err(fault("rename segment"))?;
        let newest = newest.unwrap_or(loose.segment.max_timestamp());
        copy.publish(loose.end, length, newest);
        copy.note_synced(length, loose.end);
        let index = copy
            .load_index(&*self.fs, &*file, 0, length)
            .map_err(fault("index segment"))?;
        copy.attach(Arc::clone(&file), index);
        Ok((Arc::new(copy), file))
    }

    fn copy_bytes(&self, loose: &Loose, target: &dyn File) -> std::io::Result<()> {
        let source = self.fs.open(&loose.segment.path, OpenMode::Read)?;
        let mut buffer = vec![0; 1 << 20];
        let mut position = loose.from.0;
        while position < loose.length {
            let count = buffer.len().min((loose.length - position) as usize);
            let part = &mut buffer[..count];
            let found = source.read_full(part, position)?;
            part[found..].fill(0);
            target.write_all_at(part, position - loose.from.0)?;
            position += count as u64;
        }
        Ok(())
    }

    /// Writes what the journal has of the segment over the copy.
    fn overlay_journal(
        &self,
        loose: &Loose,
        target: &dyn File,
        proven_lsn: u64,
    ) -> Result<(), IoFault> {
        let dir = self.journal.dir();
        let (sequences, _) =
            files::list_only(&*self.fs, dir).map_err(IoFault::of("list journal", dir))?;
        let mut found = Vec::new();
        let scanned = scan::scan(
            &*self.fs,
            dir,
            sequences,
            self.covered.place,
            self.covered.lsn + 1,
            &mut |frame| {
                let append = frame.header.kind == FrameKind::Append as u8;
                let ours = append && frame.header.stream == loose.stream.0;
                if ours
                    && frame.header.lsn <= proven_lsn
                    && let Ok(Record::Append {
                        segment, position, ..
                    }) = Record::decode(frame.header.kind, &frame.payload)
                    && segment == loose.segment.base_offset
                {
                    let length = u64::from(frame.header.length) - APPEND_PREFIX_BYTES as u64;
                    let at = frame.payload_at + APPEND_PREFIX_BYTES as u64;
                    found.push((frame.file, at, position, length));
                }
                Ok(())
            },
        );
        let scan = match scanned {
            Ok(scan) => scan,
            Err(error) => {
                tracing::error!(%error, "cannot read the journal back");
                return Ok(());
            }
        };
        let mut bytes = Vec::new();
        for (file, at, position, length) in found {
            let journal = &scan.files[file];
            let inside = position >= loose.from.0 && position + length <= loose.length;
            if !inside {
                continue;
            }
            bytes.resize(length as usize, 0);
            journal
                .file
                .read_exact_at(&mut bytes, at)
                .map_err(IoFault::of("read journal", &journal.path))?;
            target
                .write_all_at(&bytes, position - loose.from.0)
                .map_err(IoFault::of("copy segment", &loose.segment.path))?;
        }
        Ok(())
    }

    /// The copy takes its place in the stream, and the writer's if the old one was active.
    fn swap_in(&mut self, loose: &Loose, (copy, file): (Arc<Segment>, Arc<dyn File>)) {
        let Some(writer) = self.streams.get_mut(&loose.stream) else {
            return;
        };
        let old = &loose.segment;
        let is_old = |known: &Arc<Segment>| Arc::ptr_eq(known, old);
        {
            let mut view = writer.state.view_mut();
            if let Some(at) = view.segments.iter().position(is_old) {
                if loose.from.0 == 0 {
                    view.segments[at] = Arc::clone(&copy);
                } else {
                    old.end_at(loose.from.0, loose.from.1);
                    view.segments.insert(at + 1, Arc::clone(&copy));
                }
            }
        }
        if loose.from.0 > 0 {
            self.ended.push(Arc::clone(old));
        }
        writer.unsynced.retain(|known| !is_old(known));
        writer.unsynced.push(Arc::clone(&copy));
        if writer.active.as_ref().is_some_and(is_old) {
            writer.go_on_in(copy, file);
            if loose.from.0 > 0 {
                self.shared.open_segments.add(old);
            }
        } else {
            self.shared.open_segments.add(&copy);
        }
    }

    /// Takes note of a durable checkpoint.
    pub(crate) fn checkpoint_stored(&mut self, lsn: u64, place: (u64, u64), journal_bytes: u64) {
        if lsn >= self.covered.lsn {
            self.covered = Covered { lsn, place };
        }
        self.shared.counts.checkpoint_written();
        let mut sequences = self.journal.forget_before(place.0, journal_bytes);
        let failed = self.journal.take_failed(&mut sequences);
        self.remove_failed(failed);
        let cuts = self.ended.drain(..).map(|segment| Job::Cut {
            path: segment.path.clone(),
            length: segment.length(),
        });
        self.jobs.extend(cuts);
        self.retire(sequences);
        self.release_unlinks(self.clock.monotonic());
        self.tell_waiters();
    }
}

/// What the newest checkpoint covers.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Covered {
    pub(crate) lsn: u64,
    /// Journal sequence and position behind it.
    pub(crate) place: (u64, u64),
}

/// The highest timestamp if every batch of the copy is good; else where the first bad one is and what is wrong with it.
fn soundness(loose: &Loose, file: &dyn File) -> std::io::Result<Result<i64, (u64, String)>> {
    let length = loose.length - loose.from.0;
    let mut walk = TailWalk {
        window: Window::new(file, length),
        position: 0,
        offset: loose.from.1,
        max_timestamp: i64::MIN,
    };
    while walk.position < length {
        let at = walk.position;
        if let Err(what) = walk.next()? {
            return Ok(Err((at, what)));
        }
    }
    if walk.offset != loose.end {
        return Ok(Err((length, format!("it ends at offset {}", walk.offset))));
    }
    Ok(Ok(walk.max_timestamp))
}

/// Whether a file is what an interrupted [`Engine::mend`], or an interrupted repair, left behind.
pub(crate) fn is_leftover(name: &str) -> bool {
    let path = Path::new(name);
    let copies = [COPY_EXTENSION, crate::repair::COPY_EXTENSION];
    path.extension()
        .is_some_and(|end| copies.iter().any(|copy| end == *copy))
        && segment::parse_file_name(&path.with_extension("log").to_string_lossy()).is_some()
}
