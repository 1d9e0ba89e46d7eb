//! Freed segment files become next segments of their stream: a sync of blocks that are written already has no metadata
//! to journal (faults.md §3.2 rule 6), and neither freeing nor taking blocks disturbs the file system.
//!
//! - **Who gains**: streams whose rounds are synced in their own segments. All others only ever sync the journal, so they
//!   keep nothing. Zeroes are not written ahead: that is a second write of all data, and where that is cheaper than the
//!   metadata the journal is used anyway.
//! - **When**: the record that frees a segment is covered by a durable checkpoint, its delay is over, and nobody has the
//!   file open any more (a read plan keeps it). Then it is renamed to `<base offset>.spare`, one for each stream and
//!   [`crate::LogOptions::recycle_bytes`] for all, and the directory is synced: no two renames ever hang together. A
//!   start removes spares; so does a disk that gets short.
//! - **How recovery is not fooled**: what a file held before are batches of the same stream below its new base offset
//!   ([`Engine::create_segment`] checks it). Every walk over a tail demands the offset that comes next, which is never
//!   below the base, so a former batch is at most bytes that are no batch; and how far a segment goes only checkpoint and
//!   journal say. A torn overwrite is a batch with a wrong checksum, as a torn append is.
//! - **When it ends**: a segment that is full, and at a clean stop also the newest, is cut to its length before a
//!   checkpoint names it as closed. Up to then it was the checkpoint's newest or came behind it, and those a start looks
//!   at and cuts. So Kafka's tools, indexes and copies see plain segments.
//!
//! Nothing here can fail a commit: where a spare cannot be used, a new file is made.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::damage::resync;
use crate::engine::{Engine, PendingUnlink};
use crate::error::IoFault;
use crate::fs::{File, Fs, OpenMode, create_durably, remove_durably};
use crate::index::Index;
use crate::jobs::Job;
use crate::op::StreamId;
use crate::segment::{self, Segment};
use crate::stream::StreamState;
use crate::tail_walk::TailWalk;
use crate::window::Window;

/// What the page cache reads before a part of it can be written.
const PAGE: u64 = 4096;
const ZEROES: [u8; PAGE as usize] = [0; PAGE as usize];

/// A stream's freed file.
#[derive(Debug, Default)]
pub(crate) enum Spare {
    #[default]
    None,
    /// The housekeeper is at it; so many bytes.
    Coming(u64),
    Ready(SpareFile),
}

/// A freed file that waits to become a segment.
#[derive(Debug)]
pub(crate) struct SpareFile {
    path: PathBuf,
    bytes: u64,
    /// The offset behind all that it holds.
    end: i64,
}

impl Spare {
    fn bytes(&self) -> u64 {
        match self {
            Spare::None => 0,
            Spare::Coming(bytes) | Spare::Ready(SpareFile { bytes, .. }) => *bytes,
        }
    }

    fn take_ready(&mut self) -> Option<SpareFile> {
        match std::mem::take(self) {
            Spare::Ready(file) => Some(file),
            other => {
                *self = other;
                None
            }
        }
    }
}

impl SpareFile {
    /// Gives a freed file its name as a spare; what cannot be kept goes. Blocking.
    pub(crate) fn keep(self, fs: &dyn Fs, from: &Path) -> Option<SpareFile> {
        let dir = from.parent()?;
        let kept = fs
            .rename(from, &self.path)
            .and_then(|()| fs.sync_dir(dir))
            .and_then(|()| fs.open(&self.path, OpenMode::Read)?.length());
        match kept {
            Ok(bytes) => Some(SpareFile { bytes, ..self }),
            Err(error) => {
                tracing::warn!(path = %from.display(), %error, "cannot keep a freed segment for the next one");
                let names = [file_name(from), file_name(&self.path)].concat();
                if let Err(error) = remove_durably(fs, dir, &names) {
                    tracing::warn!(path = %from.display(), %error, "cannot remove it either");
                }
                None
            }
        }
    }

    fn removal(&self) -> Job {
        Job::Unlink {
            dir: self.path.parent().unwrap_or(&self.path).to_path_buf(),
            names: file_name(&self.path),
        }
    }
}

/// The last part of a path, as a list.
fn file_name(path: &Path) -> Vec<String> {
    let name = path.file_name().map(|name| name.to_string_lossy());
    name.into_iter().map(|name| name.into_owned()).collect()
}

impl Engine {
    /// Takes one of the files that may go now out of the list, if its stream has a use for it.
    pub(crate) fn keep_one(&mut self, unlink: &mut PendingUnlink) {
        let freed = std::mem::take(&mut unlink.freed);
        if freed.is_empty() || self.space_is_short() {
            return;
        }
        let kept: u64 = self.streams.values().map(|one| one.spare.bytes()).sum();
        let room = self.options.recycle_bytes.saturating_sub(kept);
        let Some(writer) = self.streams.get_mut(&unlink.stream) else {
            return;
        };
        if !writer.bulky || !matches!(writer.spare, Spare::None) {
            return;
        }
        let fitting = freed
            .into_iter()
            .filter(|segment| (1..=room).contains(&segment.length()));
        let largest = fitting.max_by_key(|segment| segment.length());
        let Some(segment) = largest.and_then(Segment::into_unused) else {
            return;
        };
        let name = segment::file_name(segment.base_offset, segment.generation);
        unlink.names.retain(|other| *other != name);
        let spare = SpareFile {
            path: segment.path.with_extension(segment::SPARE),
            bytes: segment.length(),
            end: segment.end_offset(),
        };
        writer.spare = Spare::Coming(spare.bytes);
        self.jobs.push(Job::Recycle {
            stream: unlink.stream,
            from: segment.path,
            spare,
        });
    }

    /// Takes note of a spare that is there now, or is not.
    pub(crate) fn recycled(&mut self, stream: StreamId, spare: Option<SpareFile>) {
        // A deleted stream's directory goes with all that is in it.
        let Some(writer) = self.streams.get_mut(&stream) else {
            return;
        };
        writer.spare = spare.map_or(Spare::None, Spare::Ready);
        if self.options.recycle_bytes == 0 || self.space_is_short() {
            self.drop_spares();
        }
    }

    /// Whether the disk is too full to keep what could be free.
    pub(crate) fn space_is_short(&self) -> bool {
        let least = self.options.min_free_bytes.saturating_mul(2);
        self.free_looked_at.is_some() && self.free_bytes < least
    }

    /// Gives back what all spares hold.
    pub(crate) fn drop_spares(&mut self) {
        let spares = self.streams.values_mut();
        let removals: Vec<Job> = spares
            .filter_map(|writer| Some(writer.spare.take_ready()?.removal()))
            .collect();
        self.jobs.extend(removals);
    }

    /// The end: nothing is left for a next segment.
    pub(crate) fn stop_recycling(&mut self) {
        self.options.recycle_bytes = 0;
        self.drop_spares();
    }

    /// The file for a new segment, its name durable.
    pub(crate) fn create_segment(
        &mut self,
        state: &StreamState,
        base: i64,
    ) -> Result<(Arc<Segment>, Arc<dyn File>), IoFault> {
        let segment = Segment::new(&state.dir, base);
        let file = match self.reuse(state.id, &segment) {
            Some(file) => file,
            None => create_durably(&*self.fs, &state.dir, &segment::file_name(base, 0))
                .map_err(IoFault::of("create segment", &segment.path))?,
        };
        segment.attach(Arc::clone(&file), Index::default());
        Ok((Arc::new(segment), file))
    }

    /// The stream's spare under the segment's name.
    fn reuse(&mut self, stream: StreamId, segment: &Segment) -> Option<Arc<dyn File>> {
        let spare = self.streams.get_mut(&stream)?.spare.take_ready()?;
        let dir = segment.path.parent()?;
        let rename = || -> io::Result<Arc<dyn File>> {
            if spare.end > segment.base_offset {
                return Err(io::Error::other("it holds offsets that come again"));
            }
            let file = self.fs.open(&spare.path, OpenMode::Write)?;
            self.fs.rename(&spare.path, &segment.path)?;
            self.fs.sync_dir(dir)?;
            Ok(file)
        };
        match rename() {
            Ok(file) => {
                segment.lay_out(spare.bytes);
                let counters = &self.shared.housekeeping;
                counters.recycled_segments.fetch_add(1, Ordering::Relaxed);
                Some(file)
            }
            Err(error) => {
                tracing::warn!(path = %spare.path.display(), %error, "cannot use a freed segment again");
                self.jobs.push(spare.removal());
                None
            }
        }
    }
}

/// Zeroes from the end of a write to the end of its page, as far as a recycled file goes: else the page would have to be
/// read first.
pub(crate) fn padding(end: u64, laid_out: u64) -> Option<IoSlice<'static>> {
    let page_end = end.next_multiple_of(PAGE).min(laid_out);
    let missing = page_end.saturating_sub(end) as usize;
    (missing > 0).then(|| IoSlice::new(&ZEROES[..missing]))
}

/// Cuts what a recycled file held before behind a segment that does not grow any more. What cannot be cut stays: nobody
/// reads it.
pub(crate) fn cut_former(file: &dyn File, segment: &Segment, length: u64) {
    let cut = file.length().and_then(|found| match found > length {
        true => file.set_len(length),
        false => Ok(()),
    });
    match cut {
        Ok(()) => segment.lay_out(0),
        Err(error) => {
            tracing::warn!(path = %segment.path.display(), %error, "cannot cut a recycled segment, trying again");
        }
    }
}

/// How far somebody has written behind the journaled end `from` (position and next offset) of the segment at `base`,
/// whose file has `found` bytes: whole batches that carry on, and what is torn; not what the file held before.
pub(crate) fn written_behind(
    file: &dyn File,
    base: i64,
    from: (u64, i64),
    found: u64,
) -> io::Result<u64> {
    let mut walk = TailWalk {
        window: Window::new(file, found),
        position: from.0,
        offset: from.1,
        max_timestamp: i64::MIN,
    };
    while walk.position < found && walk.next()?.is_ok() {}
    let written = walk.position;
    let former = resync(file, written, found, 0, base)?;
    Ok(if former.is_some() { written } else { found })
}
