//! Reads the frames of one journal file, each checked; what a start's scan is made of.

use crate::error::{IoFault, OpenError};
use crate::journal::files::JournalFile;
use crate::journal::frame::{
    APPEND_PREFIX_BYTES, FRAME_ALIGN, FRAME_HEADER_BYTES, FRAME_MAGIC, FrameHeader, FrameKind,
    frame_bytes, verify,
};
use crate::journal::scan::ScannedFrame;
use crate::window::Window;

/// The first aligned place that starts with the magic. Most of a file is zeroes: those go by in large steps.
pub(crate) fn find_magic(bytes: &[u8]) -> Option<usize> {
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
pub(crate) struct Frames<'a> {
    journal: &'a JournalFile,
    window: Window<'a>,
}

impl<'a> Frames<'a> {
    pub(crate) fn new(journal: &'a JournalFile) -> Self {
        Frames {
            journal,
            window: Window::new(&*journal.file, journal.capacity),
        }
    }

    pub(crate) fn exact(
        &mut self,
        position: u64,
        length: usize,
    ) -> Result<Option<&[u8]>, OpenError> {
        let read = self.window.exact(position, length);
        Ok(read.map_err(IoFault::of("read journal", &self.journal.path))?)
    }

    /// What the window holds from `position` on, at least a header.
    pub(crate) fn some(&mut self, position: u64) -> Result<Option<&[u8]>, OpenError> {
        let read = self.window.some(position, FRAME_HEADER_BYTES);
        Ok(read.map_err(IoFault::of("read journal", &self.journal.path))?)
    }

    /// The fixed part at `position`, unchecked.
    pub(crate) fn peek(&mut self, position: u64) -> Result<Option<FrameHeader>, OpenError> {
        let bytes = self.exact(position, FRAME_HEADER_BYTES)?;
        Ok(bytes
            .and_then(|bytes| bytes.first_chunk())
            .and_then(FrameHeader::decode))
    }

    /// The header of a valid frame at `position`.
    pub(crate) fn frame(&mut self, position: u64) -> Result<Option<FrameHeader>, OpenError> {
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
    pub(crate) fn group(
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
            group.push(self.scanned(position, header, file)?);
            position += frame_bytes(u64::from(header.length));
            lsn += 1;
            if header.last_in_group {
                return Ok(Some((group, position)));
            }
        }
    }

    /// A frame whose header is known to be good.
    pub(crate) fn scanned(
        &mut self,
        position: u64,
        header: FrameHeader,
        file: usize,
    ) -> Result<ScannedFrame, OpenError> {
        let payload_at = position + FRAME_HEADER_BYTES as u64;
        let length = header.length as usize;
        let kept = if header.kind == FrameKind::Append as u8 {
            length.min(APPEND_PREFIX_BYTES)
        } else {
            length
        };
        let sequence = self.journal.sequence;
        let payload = self.exact(payload_at, kept)?;
        Ok(ScannedFrame {
            header,
            file,
            sequence,
            payload_at,
            payload: payload.map(<[u8]>::to_vec).unwrap_or_default(),
            behind_damage: false,
        })
    }
}
