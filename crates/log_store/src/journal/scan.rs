//! Reads the journal at start: every whole group behind the checkpoint, and a verdict on where it ends.
//!
//! The first bad frame is the end if nobody claims otherwise. A later valid frame whose durable LSN reaches the bad one
//! says that it had been synced: then it is damage to what was acknowledged (reference §4.3). Truncating there, as "stop
//! at the first bad checksum" would, drops acknowledged data; so the damaged bytes are noted and the scan goes on with
//! the next valid frame. Frames behind damage are marked ([`ScannedFrame::behind_damage`]): they need not fit what was
//! read before. A file that is shorter than it was made may have lost its last frames: that is damage too. A group of which
//! frames are missing counts as far as it is there, since it was acknowledged as a whole;
//! behind the last frame that anybody claims to be durable only whole groups count.

use std::path::Path;

use crate::damage::Damage;
use crate::error::OpenError;
use crate::fs::Fs;
use crate::journal::files::{self, FRAMES_AT, JournalFile};
use crate::journal::frame::{FRAME_ALIGN, FRAME_HEADER_BYTES, FrameHeader, frame_bytes};
use crate::journal::frames::{Frames, find_magic};
use crate::op::{Offset, Position};

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
    /// Frames before it are missing.
    pub(crate) behind_damage: bool,
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
    /// Bytes in between that are damaged.
    pub(crate) damages: Vec<Damage>,
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
    /// The frame that comes next, and where in the last file.
    lsn: u64,
    position: u64,
    frames: u64,
    damages: Vec<Damage>,
}

/// What lies behind a place in one file.
#[derive(Default)]
struct Survey {
    /// Highest LSN that a valid frame says is durable.
    durable: u64,
    /// The first valid frame.
    first: Option<(u64, FrameHeader)>,
    valid: u64,
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
        lsn: first_lsn,
        position: place.1,
        frames: 0,
        damages: Vec::new(),
    };
    loop {
        scanner.groups(visit)?;
        if !scanner.pass_damage(visit)? {
            return scanner.finish();
        }
    }
}

impl Scanner<'_> {
    /// Whole groups, through as many files as carry on.
    fn groups(
        &mut self,
        visit: &mut dyn FnMut(&ScannedFrame) -> Result<(), OpenError>,
    ) -> Result<(), OpenError> {
        let mut end_before = None;
        loop {
            let file = self.files.len() - 1;
            let journal = self.files[file].clone();
            let mut window = Frames::new(&journal);
            while let Some((mut group, end)) = window.group(self.position, self.lsn, file)? {
                for frame in &mut group {
                    self.give(frame, visit)?;
                }
                self.position = end;
            }
            if let Some(end) = end_before.filter(|_| self.position == FRAMES_AT) {
                // Its first group is not whole: the chain ends in the file before.
                self.files.pop();
                self.position = end;
                return Ok(());
            }
            if !self.continues(self.lsn)? {
                return Ok(());
            }
            end_before = Some(self.position);
            self.position = FRAMES_AT;
        }
    }

    fn give(
        &mut self,
        frame: &mut ScannedFrame,
        visit: &mut dyn FnMut(&ScannedFrame) -> Result<(), OpenError>,
    ) -> Result<(), OpenError> {
        frame.behind_damage = !self.damages.is_empty();
        self.note(frame);
        visit(frame)?;
        self.frames += 1;
        self.lsn = frame.header.lsn + 1;
        Ok(())
    }

    /// Where the frames end: if a later frame says that the missing one was durable, notes the damage and moves behind
    /// it. Returns whether there is more to read.
    fn pass_damage(
        &mut self,
        visit: &mut dyn FnMut(&ScannedFrame) -> Result<(), OpenError>,
    ) -> Result<bool, OpenError> {
        let (durable, _) = self.behind()?;
        if durable < self.lsn {
            return Ok(false);
        }
        let bad_lsn = self.lsn;
        // From here on every frame is one behind damage; where that is exactly turns out soon.
        let before = self.damages.len();
        self.damages
            .push(damage(self.last(), self.position, 0, String::new()));
        // The frames of the broken group that are still there were acknowledged with the rest of it.
        while self.loose_frame(durable, visit)?.is_some() {}
        let (from, broken) = (self.position, self.last().clone());
        let next = self.next_valid()?;
        let next = next.filter(|next| next.2.lsn <= durable);
        if let Some((true, FRAMES_AT, header)) = &next
            && header.lsn == self.lsn
        {
            // No damage yet: the first group of the next file is not whole.
            self.damages.truncate(before);
            self.position = FRAMES_AT;
            while self.loose_frame(durable, visit)? == Some(false) {}
            return Ok(true);
        }
        let behind = next.as_ref().map_or(durable + 1, |next| next.2.lsn);
        let lost = behind.saturating_sub(1);
        let frames = match lost <= bad_lsn {
            true => format!("journal frame {bad_lsn} is"),
            false => format!("journal frames {bad_lsn} to {lost} are"),
        };
        let what =
            format!("{frames} bad or missing, though the journal was synced up to {durable}");
        let places = match &next {
            Some((false, position, _)) => vec![damage(&broken, from, position - from, what)],
            Some((true, position, _)) => {
                let here = damage(&broken, from, used_bytes(&broken, from)?, what.clone());
                let there = damage(self.last(), FRAMES_AT, position - FRAMES_AT, what);
                // An end of a file that was never used is no damage, if there is any elsewhere.
                let mut both = vec![here, there];
                both.sort_by_key(|damage| damage.bytes == 0);
                both.dedup_by(|second, _| second.bytes == 0);
                both
            }
            None => vec![damage(&broken, from, used_bytes(&broken, from)?, what)],
        };
        self.damages.truncate(before);
        self.damages.extend(places);
        let Some((_, position, header)) = next else {
            self.lsn = self.lsn.max(behind);
            return Ok(false);
        };
        (self.position, self.lsn) = (position, header.lsn);
        // Perhaps the middle of a group: up to its end frame by frame.
        while self.loose_frame(durable, visit)? == Some(false) {}
        Ok(true)
    }

    /// Gives the next frame whether its group is whole or not; returns whether it is the last one of its group.
    fn loose_frame(
        &mut self,
        durable: u64,
        visit: &mut dyn FnMut(&ScannedFrame) -> Result<(), OpenError>,
    ) -> Result<Option<bool>, OpenError> {
        let file = self.files.len() - 1;
        let journal = self.files[file].clone();
        let mut window = Frames::new(&journal);
        let fits = |header: &FrameHeader| header.lsn == self.lsn && header.lsn <= durable;
        let Some(header) = window.frame(self.position)?.filter(fits) else {
            return Ok(None);
        };
        let mut frame = window.scanned(self.position, header, file)?;
        self.position += frame_bytes(u64::from(header.length));
        self.give(&mut frame, visit)?;
        Ok(Some(header.last_in_group))
    }

    fn last(&self) -> &JournalFile {
        // There is always one.
        &self.files[self.files.len() - 1]
    }

    fn later(&self) -> Vec<u64> {
        let last = self.last().sequence;
        let later = self.sequences.iter().filter(|sequence| **sequence > last);
        later.copied().collect()
    }

    /// Highest LSN that anybody behind the end says is durable, and how many valid frames there are.
    fn behind(&self) -> Result<(u64, u64), OpenError> {
        let survey = survey(self.last(), self.position, self.lsn)?;
        let (mut durable, mut valid) = (survey.durable, survey.valid);
        for sequence in self.later() {
            let Some(file) = self.readable(sequence)? else {
                continue;
            };
            let survey = survey_file(&file, self.lsn)?;
            durable = durable.max(survey.durable);
            valid += survey.valid;
        }
        Ok((durable, valid))
    }

    /// A file, unless its header is damaged: nobody knows its salt, so its frames are gone.
    fn readable(&self, sequence: u64) -> Result<Option<JournalFile>, OpenError> {
        match files::open(self.fs, self.dir, sequence) {
            Ok(file) => Ok(Some(file)),
            Err(OpenError::Corrupt { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The first valid frame behind the end: whether it is in a later file (which joins `files`), where, its header.
    fn next_valid(&mut self) -> Result<Option<(bool, u64, FrameHeader)>, OpenError> {
        let here = survey(self.last(), self.position, self.lsn)?;
        if let Some((position, header)) = here.first {
            return Ok(Some((false, position, header)));
        }
        for sequence in self.later() {
            let Some(file) = self.readable(sequence)? else {
                continue;
            };
            if let Some((position, header)) = survey_file(&file, self.lsn)?.first {
                self.files.push(file);
                return Ok(Some((true, position, header)));
            }
        }
        Ok(None)
    }

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

    fn finish(mut self) -> Result<Scan, OpenError> {
        let (_, dropped_frames) = self.behind()?;
        let last = self.last();
        let missing = last.missing_bytes();
        if missing > 0 {
            // Nobody is left who could claim that frames were there.
            let what = format!(
                "{missing} bytes of the journal file are missing: its last frames may have been there"
            );
            let short = damage(last, last.capacity, 0, what);
            self.damages.push(short);
        }
        let end = (self.files.len() - 1, self.position);
        let unproven = self
            .starts
            .iter()
            .find(|start| start.0 > self.claimed)
            .map_or(end, |start| (start.1, start.2));
        Ok(Scan {
            files: self.files,
            next_lsn: self.lsn,
            end,
            unproven,
            frames: self.frames,
            dropped_frames,
            damages: self.damages,
        })
    }
}

fn damage(file: &JournalFile, position: u64, bytes: u64, what: String) -> Damage {
    Damage {
        path: file.path.clone(),
        position: Position(position),
        bytes,
        first: Offset(0),
        next: Offset(0),
        what,
        kept: None,
    }
}

fn survey_file(file: &JournalFile, lsn: u64) -> Result<Survey, OpenError> {
    survey(file, FRAMES_AT, lsn)
}

/// Looks at all valid frames behind `from` that are not older than `lsn`.
fn survey(file: &JournalFile, from: u64, lsn: u64) -> Result<Survey, OpenError> {
    let mut window = Frames::new(file);
    let mut position = from.next_multiple_of(FRAME_ALIGN);
    let mut survey = Survey::default();
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
            survey.valid += 1;
            survey.durable = survey.durable.max(header.durable_lsn);
            survey.first.get_or_insert((position, header));
            position += frame_bytes(u64::from(header.length));
            continue;
        }
        position += FRAME_ALIGN;
    }
    Ok(survey)
}

/// How many bytes from `from` on are not zero at the end of the file.
fn used_bytes(journal: &JournalFile, from: u64) -> Result<u64, OpenError> {
    let mut window = Frames::new(journal);
    let (mut position, mut used) = (from, 0);
    while position + FRAME_ALIGN <= journal.capacity {
        let length = (journal.capacity - position).min(1 << 16);
        let Some(bytes) = window.exact(position, length as usize)? else {
            break;
        };
        if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
            used = position + last as u64 + 1 - from;
        }
        position += length;
    }
    Ok(used)
}
