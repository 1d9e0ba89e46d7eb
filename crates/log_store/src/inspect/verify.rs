//! Checks a log: everything can be read, and everything fits together.
//!
//! Node file, checkpoints, journal; then for each stream each batch with its checksum, offsets without gaps or repeats
//! (compacted streams may have gaps), the end that checkpoint and journal promise, and indexes against the batches. A log
//! in use is checked as it was when the check began; what retention removes meanwhile is no damage.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::engine::{CHECKPOINT_DIR, LOG_DIR};
use crate::error::{IoFault, OpenError};
use crate::fs::{Fs, OpenMode};
use crate::index;
use crate::inspect::batches::{BatchCheck, Problem};
use crate::inspect::segment::{SegmentStep, walk};
use crate::inspect::{Inspection, SegmentInfo, StreamInfo, journal};
use crate::node::NODE_FILE;
use crate::op::{Offset, Position};
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
        let mut next = None;
        for (at, info) in stream.segments.iter().enumerate() {
            let last = at + 1 == stream.segments.len();
            if next.is_some_and(|next| next != info.base) && !self.may_have_gaps(stream) {
                let what = format!(
                    "the segment before ends at offset {}",
                    next.unwrap_or_default()
                );
                self.error(&info.path, 0, what);
            }
            next = Some(info.end);
            self.segment(stream, info, last)?;
        }
        if stream
            .segments
            .first()
            .is_some_and(|first| first.base > stream.log_start)
            && !self.may_have_gaps(stream)
        {
            let what = format!(
                "the stream starts at offset {}, which no segment holds",
                stream.log_start
            );
            self.error(&stream.dir, 0, what);
        }
        self.strays(stream)
    }

    /// Where a repair has left out what could not be read, offsets are missing for good.
    fn may_have_gaps(&self, _stream: &StreamInfo) -> bool {
        self.repaired
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
        let mut check = BatchCheck::new(info.base.0, index, self.may_have_gaps(stream));
        let length = info.length.min(found);
        walk(&*file, 0, length, &mut |step| {
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
        if state.next != info.end.0 && info.length > 0 {
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
        let Some(inspection) = self.inspection else {
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

    /// A segment file that is not there.
    fn missing(&mut self, stream: &StreamInfo, info: &SegmentInfo) -> Result<(), IoFault> {
        let in_use = self.inspection.is_some_and(|found| found.owner.is_some());
        if in_use {
            let now = self.inspection.map(|found| Inspection::of(&found.dir));
            let still = |found: &Inspection| {
                let streams = found.streams.iter().filter(|found| found.id == stream.id);
                streams
                    .flat_map(|found| &found.segments)
                    .any(|found| found.base == info.base)
            };
            if let Some(Ok(now)) = now
                && !still(&now)
            {
                return Ok(());
            }
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

    /// Files in a stream's directory that nobody knows.
    fn strays(&mut self, stream: &StreamInfo) -> Result<(), IoFault> {
        let known: BTreeSet<&Path> = stream.segments.iter().map(|found| &*found.path).collect();
        let in_use = self.inspection.is_some_and(|found| found.owner.is_some());
        for path in list(&stream.dir)? {
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned());
            let base = name.as_deref().and_then(segment::parse_file_name);
            let newer = base.is_some_and(|base| base >= stream.end.0);
            let is_log = path.extension().is_some_and(|extension| extension == "log");
            if !is_log || known.contains(&*path) || (in_use && newer) {
                continue;
            }
            let why = match base {
                Some(base) if Offset(base) < stream.log_start => {
                    "its records are below the log start"
                }
                Some(_) if newer => "it was never journaled",
                _ => "no checkpoint and no journal knows it",
            };
            self.note(
                &path,
                0,
                format!(
                    "not part of the stream: {why}; the next start removes it or sets it aside"
                ),
            );
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
                let Some(base) = name.as_deref().and_then(segment::parse_file_name) else {
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

/// The paths in a directory, sorted; none if there is no such directory.
fn list(dir: &Path) -> Result<Vec<PathBuf>, IoFault> {
    let names = match super::ReadOnly.list(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(IoFault::of("list directory", dir)(error)),
    };
    let mut paths: Vec<PathBuf> = names.into_iter().map(|name| dir.join(name)).collect();
    paths.sort();
    Ok(paths)
}
