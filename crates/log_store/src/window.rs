//! A large read-ahead over a file, for the scans of a start.

use std::io;

use crate::fs::File;

const WINDOW_BYTES: usize = 1 << 20;

/// Bytes of a file, read in large pieces and handed out in small ones.
#[derive(Debug)]
pub(crate) struct Window<'a> {
    file: &'a dyn File,
    end: u64,
    bytes: Vec<u8>,
    at: u64,
}

impl<'a> Window<'a> {
    /// Over the first `end` bytes of `file`.
    pub(crate) fn new(file: &'a dyn File, end: u64) -> Self {
        Window {
            file,
            end,
            bytes: Vec::new(),
            at: 0,
        }
    }

    /// Exactly `length` bytes, or `None` if the file ends before. Never allocates more than the file has.
    pub(crate) fn exact(&mut self, position: u64, length: usize) -> io::Result<Option<&[u8]>> {
        let wanted_end = position.checked_add(length as u64);
        if wanted_end.is_none_or(|end| end > self.end) {
            return Ok(None);
        }
        let have_end = self.at + self.bytes.len() as u64;
        if position < self.at || wanted_end > Some(have_end) {
            let left = self.end - position;
            let size = (length.max(WINDOW_BYTES) as u64).min(left) as usize;
            if self.bytes.len() < size {
                self.bytes = vec![0; size];
            }
            self.bytes.truncate(size);
            let found = self.file.read_full(&mut self.bytes, position)?;
            self.bytes.truncate(found);
            self.at = position;
        }
        let skip = (position - self.at) as usize;
        Ok(self.bytes.get(skip..skip + length))
    }

    /// What is in the window from `position` on: at least `least` bytes, or `None`.
    pub(crate) fn some(&mut self, position: u64, least: usize) -> io::Result<Option<&[u8]>> {
        if self.exact(position, least)?.is_none() {
            return Ok(None);
        }
        Ok(self.bytes.get((position - self.at) as usize..))
    }

    /// Whether nothing but zeroes lies from `from` to `to`, or up to the end of the file.
    pub(crate) fn only_zeroes(&mut self, from: u64, to: u64) -> io::Result<bool> {
        let mut at = from;
        while at < to {
            let Some(bytes) = self.some(at, 1)? else {
                return Ok(true);
            };
            let count = (bytes.len() as u64).min(to - at) as usize;
            if bytes[..count].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += count as u64;
        }
        Ok(true)
    }
}
