//! Reads the journal at start: every whole group behind the checkpoint, and a verdict on where it ends.
//!
//! The first bad frame is the end if nobody claims otherwise. A later valid frame whose durable LSN reaches the bad one
//! says that it had been synced: then it is corruption, and the log does not start (reference §4.3). Truncating there,
//! as "stop at the first bad checksum" would, drops acknowledged data.

use std::path::Path;

use crate::error::{IoFault, OpenError};
use crate::fs::Fs;
use crate::journal::files::{self, FRAMES_AT, JournalFile};
use crate::journal::frame::{
    APPEND_PREFIX_BYTES, FRAME_ALIGN, FRAME_HEADER_BYTES, FRAME_MAGIC, FrameHeader, FrameKind,
    frame_bytes, verify,
};
use crate::window::Window;

/// A frame of a whole group. Of an `Append` only the fixed part of the payload is kept: its batches stay in the file.
#[derive(Debug, Clone)]
pub(crate) struct ScannedFrame {
    pub(crate) header: FrameHeader,
    /// Index into [`Scan::files`].
    pub(crate) file: usize,
    /// The file's sequence.
    pub(crate) sequence: u64,
    /// Where the payload starts.
    pub(crate) payload_at: u64,
    pub(crate) payload: Vec<u8>,
}

/// What the scan found.
#[derive(Debug)]
pub(crate) struct Scan {
    /// The files that were read, in order.
    pub(crate) files: Vec<JournalFile>,
    /// LSN of the first frame that is not there.
    pub(crate) next_lsn: u64,
    /// Where that frame would be: index into `files`, position.
    pub(crate) end: (usize, u64),
    /// Where frames start that nobody claims to be durable.
    pub(crate) unproven: (usize, u64),
    /// Whole frames that were given to the visitor.
    pub(crate) frames: u64,
    /// Bytes behind the end that look like frames.
    pub(crate) dropped_frames: u64,
}

struct Scanner<'a> {
    fs: &'a dyn Fs,
    dir: &'a Path,
    files: Vec<JournalFile>,
    /// Sequences on disk.
    sequences: Vec<u64>,
    claimed: u64,
    /// Start of each frame not known durable yet: (lsn, file, position).
    starts: Vec<(u64, usize, u64)>,
}

/// Scans from a checkpoint's place, giving every frame of every whole group to `visit`.
pub(crate) fn scan(
    fs: &dyn Fs,
    dir: &Path,
    sequences: Vec<u64>,
    place: (u64, u64),
    first_lsn: u64,
    visit: &mut dyn FnMut(&ScannedFrame) -> Result<(), OpenError>,
) -> Result<Scan, OpenError> {
    let first = files::open(fs, dir, place.0)?;
    let mut scanner = Scanner {
        fs,
        dir,
        files: vec![first],
        sequences,
        claimed: first_lsn - 1,
        starts: Vec::new(),
    };
    let mut lsn = first_lsn;
    let mut position = place.1;
    let mut frames = 0;
    let mut end_before = None;
    loop {
        let file = scanner.files.len() - 1;
        let journal = scanner.files[file].clone();
        let mut window = Frames::new(&journal);
        // Whole groups of this file.
        loop {
            let group = window.group(position, lsn, file)?;
            let Some((group, end)) = group else { break };
            for frame in &group {
                scanner.note(frame);
                visit(frame)?;
            }
            frames += group.len() as u64;
            lsn += group.len() as u64;
            position = end;
        }
        if let Some(end) = end_before.filter(|_| position == FRAMES_AT) {
            // Its first group is not whole: the chain ends in the file before.
            scanner.files.pop();
            position = end;
            break;
        }
        if !scanner.continues(lsn)? {
            break;
        }
        end_before = Some(position);
        position = FRAMES_AT;
    }
    scanner.finish(lsn, position, frames)
}

impl Scanner<'_> {
    fn note(&mut self, frame: &ScannedFrame) {
        self.claimed = self.claimed.max(frame.header.durable_lsn);
        let at = frame.payload_at - FRAME_HEADER_BYTES as u64;
        self.starts.push((frame.header.lsn, frame.file, at));
        // Keeps the list short without moving it for each frame.
        if self.starts.len() > 4096 {
            let claimed = self.claimed;
            self.starts.retain(|start| start.0 > claimed);
        }
    }

    /// Opens the next file if its first frame carries on with `lsn`.
    fn continues(&mut self, lsn: u64) -> Result<bool, OpenError> {
        let Some(next) = self.next_file()? else {
            return Ok(false);
        };
        let mut window = Frames::new(&next);
        let follows = window
            .frame(FRAMES_AT)?
            .is_some_and(|header| header.lsn == lsn);
        if follows {
            self.files.push(next);
        }
        Ok(follows)
    }

    fn next_file(&self) -> Result<Option<JournalFile>, OpenError> {
        let next = self.files.last().map_or(0, |last| last.sequence) + 1;
        if !self.sequences.contains(&next) {
            return Ok(None);
        }
        // A file that cannot be read is not one that is not there.
        files::open(self.fs, self.dir, next).map(Some)
    }

    /// Judges what lies behind the end.
    fn finish(self, lsn: u64, position: u64, frames: u64) -> Result<Scan, OpenError> {
        let last = self.files.len() - 1;
        let mut dropped_frames = 0;
        let mut claim = search(&self.files[last], position, lsn, &mut dropped_frames)?;
        let later: Vec<u64> = self
            .sequences
            .iter()
            .copied()
            .filter(|sequence| *sequence > self.files[last].sequence)
            .collect();
        for sequence in later {
            let file = files::open(self.fs, self.dir, sequence)?;
            let found = search(&file, FRAMES_AT, lsn, &mut dropped_frames)?;
            claim = claim.or(found);
        }
        if let Some(claim) = claim {
            return Err(OpenError::Corrupt {
                path: self.files[last].path.clone(),
                position,
                what: format!(
                    "journal frame {lsn} is bad or missing, but frame {} says that it was synced",
                    claim.lsn
                ),
            });
        }
        let unproven = self
            .starts
            .iter()
            .find(|start| start.0 > self.claimed)
            .map_or((last, position), |start| (start.1, start.2));
        Ok(Scan {
            files: self.files,
            next_lsn: lsn,
            end: (last, position),
            unproven,
            frames,
            dropped_frames,
        })
    }
}

/// Looks for a valid frame behind `from` that claims the frame `lsn` to be durable.
fn search(
    file: &JournalFile,
    from: u64,
    lsn: u64,
    dropped: &mut u64,
) -> Result<Option<FrameHeader>, OpenError> {
    let mut window = Frames::new(file);
    let mut position = from.next_multiple_of(FRAME_ALIGN);
    while position + FRAME_HEADER_BYTES as u64 <= file.capacity {
        let Some(bytes) = window.some(position)? else {
            break;
        };
        match find_magic(bytes) {
            Some(0) => {}
            Some(skip) => {
                position += skip as u64;
                continue;
            }
            None => {
                position += bytes.len() as u64 & !(FRAME_ALIGN - 1);
                continue;
            }
        }
        let plausible = window.peek(position)?.is_some_and(|header| {
            header.lsn >= lsn && header.durable_lsn < header.lsn && header.kind <= 64
        });
        if plausible && let Some(header) = window.frame(position)? {
            *dropped += 1;
            if header.durable_lsn >= lsn {
                return Ok(Some(header));
            }
        }
        position += FRAME_ALIGN;
    }
    Ok(None)
}

/// The first aligned place that starts with the magic. Most of a file is zeroes: those go by in large steps.
fn find_magic(bytes: &[u8]) -> Option<usize> {
    const STEP: usize = 512;
    const ZEROES: [u8; STEP] = [0; STEP];
    let magic = FRAME_MAGIC.to_le_bytes();
    let mut at = 0;
    while at + FRAME_ALIGN as usize <= bytes.len() {
        if bytes.len() - at >= STEP && bytes[at..at + STEP] == ZEROES {
            at += STEP;
            continue;
        }
        let end = (at + STEP).min(bytes.len());
        while at + FRAME_ALIGN as usize <= end {
            if bytes[at..at + 2] == magic {
                return Some(at);
            }
            at += FRAME_ALIGN as usize;
        }
    }
    None
}

/// Reads the frames of one file.
struct Frames<'a> {
    journal: &'a JournalFile,
    window: Window<'a>,
}

impl<'a> Frames<'a> {
    fn new(journal: &'a JournalFile) -> Self {
        Frames {
            journal,
            window: Window::new(&*journal.file, journal.capacity),
        }
    }

    fn exact(&mut self, position: u64, length: usize) -> Result<Option<&[u8]>, OpenError> {
        let read = self.window.exact(position, length);
        Ok(read.map_err(IoFault::of("read journal", &self.journal.path))?)
    }

    /// What the window holds from `position` on, at least a header.
    fn some(&mut self, position: u64) -> Result<Option<&[u8]>, OpenError> {
        let read = self.window.some(position, FRAME_HEADER_BYTES);
        Ok(read.map_err(IoFault::of("read journal", &self.journal.path))?)
    }

    /// The fixed part at `position`, unchecked.
    fn peek(&mut self, position: u64) -> Result<Option<FrameHeader>, OpenError> {
        let bytes = self.exact(position, FRAME_HEADER_BYTES)?;
        Ok(bytes
            .and_then(|bytes| bytes.first_chunk())
            .and_then(FrameHeader::decode))
    }

    /// The header of a valid frame at `position`.
    fn frame(&mut self, position: u64) -> Result<Option<FrameHeader>, OpenError> {
        let Some(header) = self.peek(position)? else {
            return Ok(None);
        };
        let length = FRAME_HEADER_BYTES as u64 + u64::from(header.length);
        if position + length > self.journal.capacity {
            return Ok(None);
        }
        let salt = self.journal.salt;
        let Some(bytes) = self.exact(position, length as usize)? else {
            return Ok(None);
        };
        let Some((fixed, payload)) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>() else {
            return Ok(None);
        };
        Ok(verify(salt, fixed, payload).then_some(header))
    }

    /// The whole group at `position` whose first frame is `lsn`, and where it ends.
    fn group(
        &mut self,
        mut position: u64,
        mut lsn: u64,
        file: usize,
    ) -> Result<Option<(Vec<ScannedFrame>, u64)>, OpenError> {
        let mut group = Vec::new();
        loop {
            let Some(header) = self.frame(position)? else {
                return Ok(None);
            };
            if header.lsn != lsn {
                return Ok(None);
            }
            let payload_at = position + FRAME_HEADER_BYTES as u64;
            let length = header.length as usize;
            let kept = if header.kind == FrameKind::Append as u8 {
                length.min(APPEND_PREFIX_BYTES)
            } else {
                length
            };
            let payload = self
                .exact(payload_at, kept)?
                .map(<[u8]>::to_vec)
                .unwrap_or_default();
            group.push(ScannedFrame {
                header,
                file,
                sequence: self.journal.sequence,
                payload_at,
                payload,
            });
            position += frame_bytes(length as u64);
            lsn += 1;
            if header.last_in_group {
                return Ok(Some((group, position)));
            }
        }
    }
}
