//! How a start goes on when what it reads of a stream is damaged: nothing is thrown away, offsets and positions stay what
//! they are, and what is lost is named ([`crate::RecoveryReport::damages`]).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

use crate::damage::{self, Damage};
use crate::error::{IoFault, OpenError};
use crate::fs::{File, OpenMode, create_durably, write_zeroes};
use crate::op::{Offset, Position};
use crate::producers::Producers;
use crate::replay::{ReplaySegment, ReplayStream};
use crate::segment;
use crate::tail::{OTHER_BATCHES, TailCheck};
use crate::tail_walk::TailWalk;
use crate::window::Window;

impl TailCheck<'_> {
    /// Good batches that carry on where the journal's tale ends may be what a damaged frame told: they stay.
    pub(crate) fn adopt(
        &self,
        stream: &mut ReplayStream,
        names: &BTreeSet<String>,
    ) -> Result<(), OpenError> {
        loop {
            let next = segment::file_name(stream.end, 0);
            let known = stream.segments.last().map(|last| last.base);
            if known != Some(stream.end) && names.contains(&next) {
                stream.segments.push(ReplaySegment::new(stream.end));
            } else if stream.segments.is_empty() {
                return Ok(());
            }
            let before = stream.end;
            let Some(last) = stream.segments.last_mut() else {
                return Ok(());
            };
            let path = self
                .dir
                .join(segment::file_name(last.base, last.generation));
            let fault = |action| IoFault::of(action, &path);
            let file = match self.fs.open(&path, OpenMode::Read) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(fault("open segment")(error).into()),
            };
            let found = file.length().map_err(fault("measure segment"))?;
            let mut walk = TailWalk {
                window: Window::new(&*file, found),
                position: last.length,
                offset: before,
                max_timestamp: i64::MIN,
            };
            while walk.position < found && walk.next().map_err(fault("read segment"))?.is_ok() {}
            if walk.offset == before {
                stream.segments.retain(|segment| segment.length > 0);
                return Ok(());
            }
            (last.length, last.promised, last.end) = (walk.position, walk.position, walk.offset);
            stream.end = walk.offset;
        }
    }

    /// A file full of nothing stands in for a segment that is gone, so that offsets and positions stay what they are.
    pub(crate) fn missing(
        &mut self,
        segment: &ReplaySegment,
        path: &Path,
        name: &str,
    ) -> Result<(i64, u64, i64), OpenError> {
        let file =
            create_durably(self.fs, self.dir, name).map_err(IoFault::of("create segment", path))?;
        self.fill(&*file, path, segment.length)?;
        self.damaged(Damage {
            path: path.to_path_buf(),
            position: Position(0),
            bytes: 0,
            first: Offset(segment.base),
            next: Offset(segment.end),
            what: format!(
                "the segment is missing, {} bytes are promised",
                segment.promised
            ),
            kept: None,
        });
        Ok((segment.end, segment.length, segment.max_timestamp))
    }

    /// Makes a file that is too short long enough; what is new reads as damage.
    pub(crate) fn fill(&self, file: &dyn File, path: &Path, length: u64) -> Result<(), OpenError> {
        Ok(file
            .set_len(length)
            .map_err(IoFault::of("extend segment", path))?)
    }

    pub(crate) fn damaged(&mut self, mut damage: Damage) {
        damage.keep_and_tell(self.fs);
        self.report.damages.push(damage);
    }

    /// Marks the segments that damage is known in: what stays in them in place of good batches must not be handed out.
    pub(crate) fn mark_suspects(&self, stream: &mut ReplayStream, names: &BTreeSet<String>) {
        let found = self.report.damages.iter().map(|damage| &*damage.path);
        let here = found.filter(|path| path.parent() == Some(self.dir));
        let files = here.filter_map(Path::file_name).map(OsStr::to_string_lossy);
        let copies = names.iter().filter_map(|name| damage::copied_from(name));
        let damaged: BTreeSet<_> = files.chain(copies.map(Cow::Owned)).collect();
        for segment in &mut stream.segments {
            let name = segment::file_name(segment.base, segment.generation);
            segment.suspect |= damaged.contains(&*name);
        }
    }

    /// Keeps copies of damaged bytes and tells of them. Batches that are good but not those that were acknowledged are
    /// blotted out, so that nobody ever reads them.
    pub(crate) fn pass_damages(
        &mut self,
        stream: &mut ReplayStream,
        damages: Vec<Damage>,
        file: &dyn File,
        path: &Path,
    ) -> Result<(), OpenError> {
        for mut damage in damages {
            damage.keep_and_tell(self.fs);
            if damage.what == OTHER_BATCHES {
                let (from, bytes) = (damage.position.0, damage.bytes);
                write_zeroes(file, from, from + bytes)
                    .map_err(IoFault::of("write segment", path))?;
            }
            self.report.damages.push(damage);
        }
        // What was lost may have been a producer's: better no memory of sequences than a wrong one.
        stream.producers = Producers::default();
        Ok(())
    }
}
