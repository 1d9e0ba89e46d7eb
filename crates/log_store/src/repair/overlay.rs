//! A segment as a start would complete it: the file, and over it the small appends that only the journal is sure to hold.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use crate::error::{IoFault, OpenError};
use crate::fs::{File, Fs, OpenMode};
use crate::inspect::{Gathered, ReadOnly};
use crate::op::StreamId;
use crate::replay::ReplaySegment;

/// A segment with the small appends over it that only the journal is sure to hold.
#[derive(Debug)]
pub(super) struct Overlay {
    file: Option<Arc<dyn File>>,
    patches: Vec<Patch>,
}

#[derive(Debug)]
struct Patch {
    position: u64,
    length: u64,
    journal: Arc<dyn File>,
    at: u64,
}

impl Overlay {
    pub(super) fn open(
        gathered: &Gathered,
        id: StreamId,
        segment: &ReplaySegment,
        path: &Path,
    ) -> Result<Overlay, OpenError> {
        let file = match ReadOnly.open(path, OpenMode::Read) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(IoFault::of("open segment", path)(error).into()),
        };
        let mut patches = Vec::new();
        // What compaction wrote was durable before the journal named it: appends are of the segment it has replaced.
        let appended = segment.generation == 0;
        let redo = gathered.replay.redo.iter().filter(|_| appended);
        for redo in redo.filter(|redo| redo.stream == id && redo.segment == segment.base) {
            let Some(journal) = gathered.files.get(redo.file) else {
                continue;
            };
            patches.push(Patch {
                position: redo.position,
                length: redo.length,
                journal: Arc::clone(&journal.file),
                at: redo.at,
            });
        }
        Ok(Overlay { file, patches })
    }

    pub(super) fn is_patched(&self) -> bool {
        !self.patches.is_empty()
    }
}

impl File for Overlay {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let end = self.length()?;
        let wanted = (buffer.len() as u64).min(end.saturating_sub(position)) as usize;
        let buffer = &mut buffer[..wanted];
        let found = match &self.file {
            Some(file) => file.read_full(buffer, position)?,
            None => 0,
        };
        buffer[found..].fill(0);
        for patch in &self.patches {
            let from = patch.position.max(position);
            let to = (patch.position + patch.length).min(position + wanted as u64);
            if from < to {
                let part = &mut buffer[(from - position) as usize..(to - position) as usize];
                patch
                    .journal
                    .read_exact_at(part, patch.at + (from - patch.position))?;
            }
        }
        Ok(wanted)
    }

    fn write_vectored_at(&self, _buffers: &[IoSlice<'_>], _position: u64) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _length: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn length(&self) -> io::Result<u64> {
        let file = match &self.file {
            Some(file) => file.length()?,
            None => 0,
        };
        let patches = self
            .patches
            .iter()
            .map(|patch| patch.position + patch.length);
        Ok(patches.fold(file, u64::max))
    }

    fn allocate(&self, _length: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}
