//! The commit thread's side of the journal: one group, one vectored write, at most one sync.
//!
//! Invariant: after a failed write or sync nobody knows what the file holds, so nothing is written behind it: the caller
//! goes on in a fresh file ([`JournalWriter::restart`]) with a checkpoint that makes the old one unreachable, or poisons
//! the log. "No space for the next file" is harmless, because it is found out before anything is written.

use std::io::IoSlice;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::IoFault;
use crate::fs::Fs;
use crate::journal::files::{self, FRAMES_AT, JournalFile};
use crate::journal::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind, frame_bytes};

const PADDING: [u8; 8] = [0; 8];

/// The frames of one commit group, borrowing the bulk of their payloads.
#[derive(Debug, Default)]
pub(crate) struct Group<'a> {
    frames: Vec<Pending>,
    /// Payload prefixes of all frames.
    own: Vec<u8>,
    /// Borrowed payload parts of all frames.
    parts: Vec<&'a [u8]>,
    bytes: u64,
}

#[derive(Debug)]
struct Pending {
    kind: FrameKind,
    weak: bool,
    stream: u32,
    own: Range<usize>,
    parts: Range<usize>,
    length: u64,
}

impl<'a> Group<'a> {
    /// Adds a frame: `prefix`, then `parts`.
    pub(crate) fn push(
        &mut self,
        kind: FrameKind,
        weak: bool,
        stream: u32,
        prefix: &[u8],
        parts: impl IntoIterator<Item = &'a [u8]>,
    ) {
        let own = self.own.len()..self.own.len() + prefix.len();
        self.own.extend_from_slice(prefix);
        let first = self.parts.len();
        self.parts.extend(parts);
        let borrowed: usize = self.parts[first..].iter().map(|part| part.len()).sum();
        let length = (prefix.len() + borrowed) as u64;
        self.bytes += frame_bytes(length);
        self.frames.push(Pending {
            kind,
            weak,
            stream,
            own,
            parts: first..self.parts.len(),
            length,
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Bytes in the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Why a group is not in the journal.
#[derive(Debug)]
pub(crate) enum JournalError {
    /// No next file could be made; nothing was written.
    NoRoom(IoFault),
    /// A write or sync failed: what is in the file is unknown.
    Broken(IoFault),
}

/// Where the next group goes.
#[derive(Debug)]
pub(crate) struct JournalWriter {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    file: JournalFile,
    position: u64,
    next_lsn: u64,
    synced_lsn: u64,
    /// Highest LSN that a write, failed or not, may have left in a file.
    attempted_lsn: u64,
    capacity: u64,
    /// Whether the spare file is ready.
    pub(crate) spare: bool,
    /// Whether it is filled, not only reserved.
    pub(crate) spare_filled: bool,
    /// Files that hold frames a checkpoint still needs, oldest first, without the current one.
    older: Vec<u64>,
    /// Those of them that failed: never used again.
    failed: Vec<u64>,
    written: u64,
}

impl JournalWriter {
    /// Writes from the start of `file` on.
    pub(crate) fn new(
        fs: Arc<dyn Fs>,
        dir: PathBuf,
        file: JournalFile,
        next_lsn: u64,
        older: Vec<u64>,
        spare: bool,
    ) -> Self {
        JournalWriter {
            fs,
            dir,
            capacity: file.capacity,
            file,
            position: FRAMES_AT,
            next_lsn,
            synced_lsn: next_lsn - 1,
            attempted_lsn: next_lsn - 1,
            spare,
            spare_filled: false,
            older,
            failed: Vec::new(),
            written: 0,
        }
    }

    /// The directory of the files.
    pub(crate) fn dir(&self) -> &PathBuf {
        &self.dir
    }

    /// Largest group that can ever be written.
    pub(crate) fn largest_group(&self) -> u64 {
        self.capacity - FRAMES_AT
    }

    /// Whether the next file is there, with nothing left to do.
    pub(crate) fn has_filled_spare(&self) -> bool {
        self.spare && self.spare_filled
    }

    /// Bytes left in the current file.
    pub(crate) fn room(&self) -> u64 {
        self.capacity - self.position
    }

    /// Bytes of one file.
    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Whether there are files besides the current one; the next checkpoint may free them.
    pub(crate) fn has_used_files(&self) -> bool {
        !self.older.is_empty()
    }

    /// LSN of the last frame.
    pub(crate) fn last_lsn(&self) -> u64 {
        self.next_lsn - 1
    }

    /// LSN up to which everything is durable.
    pub(crate) fn synced_lsn(&self) -> u64 {
        self.synced_lsn
    }

    /// Sequence and position where the next frame will be: what a checkpoint remembers.
    pub(crate) fn place(&self) -> (u64, u64) {
        (self.file.sequence, self.position)
    }

    /// Bytes written since the last call of [`JournalWriter::forget_before`].
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Writes a group behind the last one, in a new file if need be. Not yet durable.
    pub(crate) fn write(&mut self, group: &Group<'_>) -> Result<(), JournalError> {
        if self.position + group.bytes() > self.capacity {
            self.roll()?;
        }
        self.attempted_lsn = self.last_lsn() + group.frames.len() as u64;
        let headers = self.headers(group);
        let mut slices = Vec::with_capacity(group.frames.len() * 3 + group.parts.len());
        for (frame, header) in group.frames.iter().zip(&headers) {
            slices.push(IoSlice::new(header));
            slices.push(IoSlice::new(&group.own[frame.own.clone()]));
            let parts = &group.parts[frame.parts.clone()];
            slices.extend(parts.iter().map(|part| IoSlice::new(part)));
            let used = FRAME_HEADER_BYTES as u64 + frame.length;
            let padding = (frame_bytes(frame.length) - used) as usize;
            slices.push(IoSlice::new(&PADDING[..padding]));
        }
        self.file
            .file
            .write_all_vectored_at(&mut slices, self.position)
            .map_err(|error| self.broken("write journal", error))?;
        self.position += group.bytes();
        self.written += group.bytes();
        self.next_lsn += group.frames.len() as u64;
        Ok(())
    }

    fn headers(&self, group: &Group<'_>) -> Vec<[u8; FRAME_HEADER_BYTES]> {
        let last = group.frames.len().saturating_sub(1);
        let frames = group.frames.iter().enumerate();
        frames
            .map(|(at, frame)| {
                let header = FrameHeader {
                    kind: frame.kind as u8,
                    last_in_group: at == last,
                    weak: frame.weak,
                    length: frame.length as u32,
                    lsn: self.next_lsn + at as u64,
                    durable_lsn: self.synced_lsn,
                    stream: frame.stream,
                };
                let own = &group.own[frame.own.clone()];
                let parts = group.parts[frame.parts.clone()].iter().copied();
                header.encode(self.file.salt, [own].into_iter().chain(parts))
            })
            .collect()
    }

    /// Makes everything written durable.
    pub(crate) fn sync(&mut self) -> Result<(), JournalError> {
        if self.synced_lsn < self.last_lsn() {
            self.file
                .file
                .sync_data()
                .map_err(|error| self.broken("sync journal", error))?;
            self.synced_lsn = self.last_lsn();
        }
        Ok(())
    }

    fn roll(&mut self) -> Result<(), JournalError> {
        // A durable LSN in the new file speaks for the old one too.
        self.sync()?;
        self.next_file().map_err(JournalError::NoRoom)
    }

    fn next_file(&mut self) -> Result<(), IoFault> {
        let sequence = self.file.sequence + 1;
        let spare = std::mem::take(&mut self.spare);
        let file = files::create(&*self.fs, &self.dir, sequence, self.capacity, spare);
        let path = self.dir.join(files::file_name(sequence));
        let file = file.map_err(IoFault::of("create journal", &path))?;
        self.older.push(self.file.sequence);
        self.file = file;
        self.position = FRAMES_AT;
        Ok(())
    }

    /// Leaves a file whose write or sync failed and goes on in a fresh one. What of the old file is not durable must be
    /// in a checkpoint at [`JournalWriter::last_lsn`] before anything else is written: it holds frames that were
    /// refused. One LSN is left out, so that no start takes the new frames for a continuation of those.
    pub(crate) fn restart(&mut self) -> Result<(), IoFault> {
        let failed = self.file.sequence;
        self.next_file()?;
        self.failed.push(failed);
        self.next_lsn = self.attempted_lsn.max(self.last_lsn()) + 2;
        self.synced_lsn = self.last_lsn();
        self.attempted_lsn = self.last_lsn();
        Ok(())
    }

    /// Leaves out one LSN, for a checkpoint that must not be taken for another one at this place.
    pub(crate) fn skip_lsn(&mut self) {
        if self.synced_lsn == self.last_lsn() {
            self.synced_lsn += 1;
        }
        self.next_lsn += 1;
        self.attempted_lsn = self.attempted_lsn.max(self.last_lsn());
    }

    /// Takes the files that failed out of `sequences`.
    pub(crate) fn take_failed(&mut self, sequences: &mut Vec<u64>) -> Vec<u64> {
        let (gone, kept) = std::mem::take(&mut self.failed)
            .into_iter()
            .partition(|sequence| sequences.contains(sequence));
        self.failed = kept;
        let gone: Vec<u64> = gone;
        sequences.retain(|sequence| !gone.contains(sequence));
        gone
    }

    /// A checkpoint no longer needs the files before `sequence`: takes them out for retirement.
    pub(crate) fn forget_before(&mut self, sequence: u64, written: u64) -> Vec<u64> {
        self.written = self.written.saturating_sub(written);
        let (gone, kept) = self
            .older
            .iter()
            .partition(|&&older_sequence| older_sequence < sequence);
        self.older = kept;
        gone
    }

    fn broken(&self, action: &'static str, error: std::io::Error) -> JournalError {
        JournalError::Broken(IoFault::of(action, &self.file.path)(error))
    }
}
