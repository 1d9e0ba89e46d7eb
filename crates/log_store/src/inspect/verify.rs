//! Checks a log: everything can be read, and everything fits together.
//!
//! Node file, checkpoints, journal; then for each stream each batch with its checksum, offsets without gaps or repeats
//! (what compaction wrote may have gaps), the end that checkpoint and journal promise, and indexes against the batches. A
//! log in use is checked as it was when the check began; what retention and compaction remove meanwhile is no damage.

use std::io;
use std::path::{Path, PathBuf};

use crate::engine::{CHECKPOINT_DIR, LOG_DIR};
use crate::error::{IoFault, OpenError};
use crate::fs::{Fs, OpenMode};
use crate::index;
use crate::inspect::batches::{BatchCheck, Problem};
use crate::inspect::segment::{SegmentStep, walk};
use crate::inspect::{Inspection, LeftoverKind, SegmentInfo, StreamInfo, journal, list};
use crate::node::NODE_FILE;
use crate::op::Position;
use crate::{checkpoint, segment};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Worth knowing; the log is sound.
    Note,
    /// Something is damaged or missing.
    Error,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// Which file.
    pub path: PathBuf,
    /// Where in it.
    pub position: Position,
    /// What was found.
    pub what: String,
}

/// What a check is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerifyStep {
    /// It looks at a segment.
    Segment {
        /// The file.
        path: PathBuf,
        /// Bytes of all segments before it, and of all.
        read_bytes: u64,
        /// Bytes of all segments.
        all_bytes: u64,
    },
    /// Something is not as it should be.
    Found(Finding),
}

/// What was looked at, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// Streams.
    pub streams: u64,
    /// Segments.
    pub segments: u64,
    /// Batches.
    pub batches: u64,
    /// Records.
    pub records: u64,
    /// Bytes of segments.
    pub bytes: u64,
    /// Findings that are errors.
    pub errors: u64,
    /// Findings that are notes.
    pub notes: u64,
}

struct Check<'a> {
    inspection: Option<&'a Inspection>,
    all_bytes: u64,
    /// A repair has left its folder here.
    repaired: bool,
    counts: Verified,
    report: &'a mut dyn FnMut(VerifyStep),
}

/// Checks the log in `dir`.
///
/// # Errors
/// A file call failed; what is damaged is reported instead.
pub fn verify(dir: &Path, report: &mut dyn FnMut(VerifyStep)) -> Result<Verified, IoFault> {
    let mut check = Check {
        inspection: None,
        all_bytes: 0,
        repaired: list(dir)?.iter().any(|path| is_repair_folder(path)),
        counts: Verified::default(),
        report,
    };
    let inspection = match Inspection::of(dir) {
        Ok(inspection) => inspection,
        Err(OpenError::Io(fault)) if fault.source.kind() != io::ErrorKind::NotFound => {
            return Err(fault);
        }
        Err(error) => {
            check.refused(dir, &error);
            check.loose_segments(dir)?;
            return Ok(check.counts);
        }
    };
    for damage in &inspection.journal_damage {
        check.error(&damage.path, damage.position.0, damage.what.clone());
    }
    if inspection.node.is_none() {
        check.error(&dir.join(NODE_FILE), 0, "the node file is missing");
    }
    if inspection.dropped_frames > 0 {
        let path = dir.join(crate::engine::JOURNAL_DIR);
        let what = format!(
            "{} frames of a torn end were never acknowledged",
            inspection.dropped_frames
        );
        check.note(&path, 0, what);
    }
    check.checkpoints(dir)?;
    check.inspection = Some(&inspection);
    check.all_bytes = inspection.streams.iter().map(StreamInfo::bytes).sum();
    for stream in &inspection.streams {
        check.stream(stream)?;
    }
    Ok(check.counts)
}

impl Check<'_> {
    fn found(&mut self, severity: Severity, path: &Path, position: u64, what: String) {
        match severity {
            Severity::Note => self.counts.notes += 1,
            Severity::Error => self.counts.errors += 1,
        }
        (self.report)(VerifyStep::Found(Finding {
            severity,
            path: path.to_path_buf(),
            position: Position(position),
            what,
        }));
    }

    fn error(&mut self, path: &Path, position: u64, what: impl Into<String>) {
        self.found(Severity::Error, path, position, what.into());
    }

    fn note(&mut self, path: &Path, position: u64, what: impl Into<String>) {
        self.found(Severity::Note, path, position, what.into());
    }

    /// What would stop a start.
    fn refused(&mut self, dir: &Path, error: &OpenError) {
        match error {
            OpenError::Corrupt {
                path,
                position,
                what,
            } => self.error(path, *position, what.clone()),
            OpenError::Io(fault) => self.error(&fault.path, 0, fault.to_string()),
            error => self.error(dir, 0, error.to_string()),
        }
    }

    fn checkpoints(&mut self, dir: &Path) -> Result<(), IoFault> {
        let dir = dir.join(CHECKPOINT_DIR);
        let fs = &super::ReadOnly;
        for lsn in checkpoint::list(fs, &dir)? {
            let path = dir.join(checkpoint::file_name(lsn));
            match journal::summary(fs, &path) {
                Ok(summary) if summary.lsn == lsn => {}
                Ok(summary) => {
                    let what = format!("its name says {lsn}, it is of frame {}", summary.lsn);
                    self.error(&path, 0, what);
                }
                // Old ones go while the log is in use.
                Err(OpenError::Io(fault)) if fault.source.kind() == io::ErrorKind::NotFound => {}
                Err(OpenError::Io(fault)) => return Err(fault),
                Err(error) => self.refused(&dir, &error),
            }
        }
        Ok(())
    }

    fn stream(&mut self, stream: &StreamInfo) -> Result<(), IoFault> {
        self.counts.streams += 1;
        let mut next = stream.log_start;
        for (at, info) in stream.segments.iter().enumerate() {
            let last = at + 1 == stream.segments.len();
            if at > 0 && info.base < next {
                let what = format!("the segment before ends at offset {next}");
                self.error(&info.path, 0, what);
            } else if info.base > next && !stream.is_compacted() && !self.repaired {
                // Not damage for certain: compaction may have been switched off since.
                let what = format!("no segment holds offset {next} and those behind it");
                self.note(&info.path, 0, what);
            }
            next = info.end;
            self.segment(stream, info, last)?;
        }
        self.leftovers(stream)
    }

    fn segment(
        &mut self,
        stream: &StreamInfo,
        info: &SegmentInfo,
        last: bool,
    ) -> Result<(), IoFault> {
        let path = &info.path;
        (self.report)(VerifyStep::Segment {
            path: path.clone(),
            read_bytes: self.counts.bytes,
            all_bytes: self.all_bytes,
        });
        self.counts.segments += 1;
        let fs = &super::ReadOnly;
        let file = match fs.open(path, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.missing(stream, info);
            }
            Err(error) => return Err(IoFault::of("open segment", path)(error)),
        };
        let found = file
            .length()
            .map_err(IoFault::of("measure segment", path))?;
        let index = index::load(fs, path, info.base.0, info.length);
        let mut check = BatchCheck::new(info.base.0, index);
        // A repair leaves out what cannot be read, and a sealed put of a file channel is one record for all its events.
        check.may_have_gaps = info.generation > 0 || self.repaired;
        check.may_have_fewer_records = info.generation > 0 || stream.settings.acked;
        let length = info.length.min(found);
        walk(&*file, info.base.0, length, &mut |step| {
            check.step(step);
            true
        })
        .map_err(IoFault::of("read segment", path))?;
        self.counts.batches += check.batches;
        self.counts.records += check.records;
        self.counts.bytes += length;
        let mut problems = std::mem::take(&mut check.problems);
        if problems.is_empty() {
            problems.extend(self.ends(info, found, &check, last));
        }
        let errors = problems.iter().any(|problem| problem.0 == Severity::Error);
        if errors && self.in_journal(stream, info, &problems) {
            let what = "the end is only in the journal yet; the next start writes it";
            problems = vec![(Severity::Note, check.end, what.to_string())];
        } else if errors && self.is_gone(stream, info) {
            // Freed meanwhile, its file may be another segment's by now.
            return Ok(());
        }
        for (severity, position, what) in problems {
            self.found(severity, path, position, what);
        }
        Ok(())
    }

    /// Whether the end is where checkpoint and journal say.
    fn ends(
        &self,
        info: &SegmentInfo,
        found: u64,
        state: &BatchCheck,
        last: bool,
    ) -> Option<Problem> {
        if found < info.length {
            let what = format!("the file ends here, {} bytes are promised", info.length);
            return Some((Severity::Error, found, what));
        }
        // Compaction may have removed the last records.
        let earlier = info.generation > 0 && state.next < info.end.0;
        if state.next != info.end.0 && !earlier && info.length > 0 {
            let what = format!(
                "ends before offset {}, the journal says {}",
                state.next, info.end
            );
            return Some((Severity::Error, state.end, what));
        }
        let in_use = self.inspection.is_some_and(|found| found.owner.is_some());
        if found > info.length && !(in_use && last) {
            let what = format!("{} bytes behind the journaled end", found - info.length);
            return Some((Severity::Note, info.length, what));
        }
        None
    }

    /// Whether all that is wrong lies where the journal holds the bytes itself.
    fn in_journal(&self, stream: &StreamInfo, info: &SegmentInfo, problems: &[Problem]) -> bool {
        // What compaction wrote was durable before the journal named it.
        let Some(inspection) = self.inspection.filter(|_| info.generation == 0) else {
            return false;
        };
        let mut redo = inspection
            .redo
            .iter()
            .filter(|redo| redo.stream == stream.id && redo.segment == info.base.0);
        let Some(from) = redo.next().map(|redo| redo.position) else {
            return false;
        };
        from >= info.durable && problems.iter().all(|(_, position, _)| *position >= from)
    }

    /// Whether a log in use has freed the segment since the check began.
    fn is_gone(&self, stream: &StreamInfo, info: &SegmentInfo) -> bool {
        let in_use = |found: &&Inspection| found.owner.is_some();
        let Some(before) = self.inspection.filter(in_use) else {
            return false;
        };
        Inspection::of(&before.dir).is_ok_and(|now| {
            let streams = now.streams.iter().filter(|found| found.id == stream.id);
            let mut segments = streams.flat_map(|found| &found.segments);
            !segments.any(|found| found.path == info.path)
        })
    }

    /// A segment file that is not there.
    fn missing(&mut self, stream: &StreamInfo, info: &SegmentInfo) -> Result<(), IoFault> {
        if self.is_gone(stream, info) {
            return Ok(());
        }
        if self.in_journal(stream, info, &[(Severity::Error, 0, String::new())]) {
            self.note(
                &info.path,
                0,
                "the segment is only in the journal yet; the next start writes it",
            );
        } else if info.length > 0 {
            let what = format!("the segment is missing, {} bytes are promised", info.length);
            self.error(&info.path, 0, what);
        }
        Ok(())
    }

    /// Files in a stream's directory that are not part of it.
    fn leftovers(&mut self, stream: &StreamInfo) -> Result<(), IoFault> {
        let in_use = self.inspection.is_some_and(|found| found.owner.is_some());
        for leftover in stream.leftovers()? {
            let kind = leftover.kind;
            if kind == LeftoverKind::SetAside || in_use && kind.is_passing() {
                continue;
            }
            let damaged = self
                .inspection
                .is_some_and(|found| !found.journal_damage.is_empty());
            let when = match kind {
                LeftoverKind::Replaced | LeftoverKind::Freed if in_use => {
                    "it goes with a checkpoint"
                }
                LeftoverKind::Unknown => "the next start sets it aside",
                // Damaged frames may have named it.
                LeftoverKind::Replaced | LeftoverKind::NotSwitched if damaged => {
                    "the next start sets it aside"
                }
                _ => "the next start removes it",
            };
            let what = format!("not part of the stream: {kind}; {when}");
            self.note(&leftover.path, 0, what);
        }
        Ok(())
    }

    /// Without checkpoint and journal: at least whether each segment is sound in itself.
    fn loose_segments(&mut self, dir: &Path) -> Result<(), IoFault> {
        for stream in list(&dir.join(LOG_DIR))? {
            self.counts.streams += 1;
            for path in list(&stream)? {
                let name = path
                    .file_name()
                    .map(|name| name.to_string_lossy().into_owned());
                let Some((base, _)) = name.as_deref().and_then(segment::parse_file_name) else {
                    continue;
                };
                self.loose_segment(&path, base)?;
            }
        }
        Ok(())
    }

    fn loose_segment(&mut self, path: &Path, base: i64) -> Result<(), IoFault> {
        self.counts.segments += 1;
        let mut next = base;
        let mut problems = Vec::new();
        let mut counts = self.counts;
        super::walk_segment(path, None, &mut |step| {
            match step {
                SegmentStep::Batch {
                    position, header, ..
                } => {
                    if header.base_offset < next {
                        let what =
                            format!("base offset {} where {next} comes next", header.base_offset);
                        problems.push((position.0, what));
                    }
                    next = header.last_offset() + 1;
                    counts.batches += 1;
                    counts.records += u64::try_from(header.record_count).unwrap_or(0);
                    counts.bytes += header.total_len() as u64;
                }
                SegmentStep::Bad {
                    position,
                    bytes,
                    what,
                } => problems.push((position.0, format!("{bytes} bytes: {what}"))),
                SegmentStep::Unwritten { .. } => {}
            }
            true
        })?;
        self.counts = counts;
        for (position, what) in problems {
            self.error(path, position, what);
        }
        Ok(())
    }
}

fn is_repair_folder(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(crate::repair::KEPT_FOLDER)
}
