//! Files in a stream's directory that are not part of the stream, and why they are there.
//!
//! A crash leaves some behind: compaction's new segment before the switch, the old ones behind it, what a trim has freed,
//! appends that no journal frame names. A log in use has them too for a while. None of them is damage; a start removes
//! them, or sets aside what it cannot explain ([`crate::tail`]).

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::IoFault;
use crate::fs::{Fs, OpenMode};
use crate::inspect::{ReadOnly, StreamInfo, list};
use crate::mend::COPY_EXTENSION;
use crate::op::Offset;
use crate::segment::{self, SPARE, UNFINISHED};

/// A file that no segment of the stream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Why it is there.
    pub kind: LeftoverKind,
}

/// Why a file is there that no segment of the stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeftoverKind {
    /// Compaction has put another segment in its place, or nothing.
    Replaced,
    /// Compaction wrote it; nothing says that it stands for the segments it was made of.
    NotSwitched,
    /// A copy that was not finished: by compaction, by mending after a failed sync, or by a repair.
    Unfinished,
    /// Its records are below the log start.
    Freed,
    /// Freed and kept, so that the next segment is written over it.
    Spare,
    /// Behind the end of the stream.
    NotJournaled,
    /// An earlier start set it aside: nobody knew it.
    SetAside,
    /// No checkpoint and no journal knows it.
    Unknown,
}

impl LeftoverKind {
    /// Whether a log in use makes such files in passing.
    pub(crate) fn is_passing(self) -> bool {
        use LeftoverKind::{NotJournaled, NotSwitched, Spare, Unfinished};
        matches!(self, NotJournaled | NotSwitched | Spare | Unfinished)
    }
}

impl fmt::Display for LeftoverKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LeftoverKind::Replaced => "replaced by compaction",
            LeftoverKind::NotSwitched => "written by compaction, not in use",
            LeftoverKind::Unfinished => "an unfinished copy",
            LeftoverKind::Freed => "its records are below the log start",
            LeftoverKind::Spare => "kept for the next segment to be written over it",
            LeftoverKind::NotJournaled => "it was never journaled",
            LeftoverKind::SetAside => "set aside by an earlier start",
            LeftoverKind::Unknown => "no checkpoint and no journal knows it",
        })
    }
}

impl StreamInfo {
    /// Files of its directory that are not part of it. A log in use may remove some while one looks.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn leftovers(&self) -> Result<Vec<Leftover>, IoFault> {
        let mut found = Vec::new();
        for path in list(&self.dir)? {
            let Some(kind) = self.leftover_kind(&path) else {
                continue;
            };
            let file = ReadOnly.open(&path, OpenMode::Read);
            // Gone meanwhile, it needs no mention.
            if let Ok(bytes) = file.and_then(|file| file.length()) {
                found.push(Leftover { path, bytes, kind });
            }
        }
        Ok(found)
    }

    /// `None` for what belongs to the stream, and for files that are no copy of a segment.
    fn leftover_kind(&self, path: &Path) -> Option<LeftoverKind> {
        if self.segments.iter().any(|segment| segment.path == path) {
            return None;
        }
        let name = path.with_extension("log");
        let parsed = segment::parse_file_name(&name.file_name()?.to_string_lossy());
        let extension = path.extension()?.to_string_lossy();
        let (base, generation) = match (&*extension, parsed) {
            ("stray", _) => return Some(LeftoverKind::SetAside),
            (SPARE, Some(_)) => return Some(LeftoverKind::Spare),
            ("log", Some(parsed)) => parsed,
            ("log", None) => return Some(LeftoverKind::Unknown),
            (UNFINISHED | COPY_EXTENSION | crate::repair::COPY_EXTENSION, Some(_)) => {
                return Some(LeftoverKind::Unfinished);
            }
            _ => return None,
        };
        let base = Offset(base);
        let holds = |segment: &&super::SegmentInfo| (segment.base..segment.end).contains(&base);
        let known = self.segments.iter().find(holds);
        Some(match known.map(|known| known.generation) {
            _ if base < self.log_start && known.is_none() => LeftoverKind::Freed,
            _ if base >= self.end => LeftoverKind::NotJournaled,
            Some(now) if now > generation => LeftoverKind::Replaced,
            Some(_) if generation > 0 => LeftoverKind::NotSwitched,
            // All that was in it is gone.
            None if self.is_compacted() => LeftoverKind::Replaced,
            _ => LeftoverKind::Unknown,
        })
    }
}
