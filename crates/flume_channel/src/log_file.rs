//! One log file, record by record in the order of the file.
//!
//! The written part ends at the first 0x80, at the end of the file, or at a torn record: one that was being written when
//! the machine died, so nothing behind it is a record and its own end is filling or missing. No commit can depend on it.
//! Everything else that is no record is damage: it is noted with its position, and reading goes on at the next place
//! that holds a whole record.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cipher::Cipher;
use crate::error::{Finding, FlumeError};
use crate::record::{
    HEAD_BYTES, Head, Kind, LEAST_PAYLOAD_BYTES, Malformed, OPERATION_END, OPERATION_NOOP,
    OPERATION_RECORD, PREFIX_BYTES, head, put, whole,
};

/// Bytes read at once.
const READ_BYTES: usize = 128 * 1024;

/// A file with a piece of it in memory.
#[derive(Debug)]
pub(crate) struct Window {
    pub(crate) path: PathBuf,
    file: Option<File>,
    pub(crate) length: u64,
    buffer: Vec<u8>,
    buffer_at: u64,
    cipher: Option<Arc<Cipher>>,
    /// What was decrypted last.
    plain: Vec<u8>,
}

impl Window {
    /// A file whose records are decrypted with `cipher`, if there is one.
    pub(crate) fn new(path: &Path, length: u64, cipher: Option<Arc<Cipher>>) -> Window {
        Window {
            path: path.to_path_buf(),
            file: None,
            length,
            buffer: Vec::new(),
            buffer_at: 0,
            cipher,
            plain: Vec::new(),
        }
    }

    /// A file that is only in memory.
    pub(crate) fn in_memory(bytes: &[u8]) -> Window {
        Window {
            path: PathBuf::new(),
            file: None,
            length: bytes.len() as u64,
            buffer: bytes.to_vec(),
            buffer_at: 0,
            cipher: None,
            plain: Vec::new(),
        }
    }

    /// Closes the file and forgets the piece, until the next read.
    pub(crate) fn park(&mut self) {
        if self.file.take().is_some() {
            self.buffer = Vec::new();
            self.plain = Vec::new();
        }
    }

    /// `count` bytes from `position` on, fewer only at the end of the file.
    pub(crate) fn read(&mut self, position: u64, count: usize) -> Result<&[u8], FlumeError> {
        let left = usize::try_from(self.length.saturating_sub(position)).unwrap_or(usize::MAX);
        let count = count.min(left);
        let end = self.buffer_at + self.buffer.len() as u64;
        if position < self.buffer_at || position + count as u64 > end {
            self.fill(position, count.max(READ_BYTES.min(left)))?;
        }
        let skip = ((position - self.buffer_at) as usize).min(self.buffer.len());
        let found = &self.buffer[skip..];
        Ok(&found[..count.min(found.len())])
    }

    fn fill(&mut self, position: u64, count: usize) -> Result<(), FlumeError> {
        let file = match &self.file {
            Some(file) => file,
            None => {
                let opened = File::open(&self.path);
                self.file
                    .insert(opened.map_err(FlumeError::io("open", &self.path))?)
            }
        };
        self.buffer.resize(count, 0);
        self.buffer.shrink_to(READ_BYTES.max(count));
        self.buffer_at = position;
        let mut filled = 0;
        while filled < count {
            match file.read_at(&mut self.buffer[filled..], position + filled as u64) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.buffer.clear();
                    return Err(FlumeError::io("read", &self.path)(error));
                }
            }
        }
        self.buffer.truncate(filled);
        Ok(())
    }

    /// The first `count` bytes of the payload of the record at `position`, decrypted.
    pub(crate) fn plain(&mut self, position: u64, count: usize) -> Result<&[u8], FlumeError> {
        let start = position + PREFIX_BYTES as u64;
        let Some(cipher) = self.cipher.clone() else {
            return self.read(start, count);
        };
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        plain.extend_from_slice(self.read(start, count)?);
        cipher.decrypt(&mut plain);
        self.plain = plain;
        Ok(&self.plain)
    }

    /// The payload of the record at `position`, if one can be there.
    pub(crate) fn payload(&mut self, position: u64) -> Result<Option<&[u8]>, FlumeError> {
        let Some(length) = self.record_length(position)? else {
            return Ok(None);
        };
        self.plain(position, length).map(Some)
    }

    /// False when several records start the file and none of them comes out of the cipher as one. A single one may be
    /// torn.
    pub(crate) fn key_fits(&mut self) -> Result<bool, FlumeError> {
        const TRIED: usize = 16;
        let (mut at, mut tried) = (0, 0);
        while tried < TRIED {
            let Some(length) = self.record_length(at)? else {
                break;
            };
            if whole(self.plain(at, length)?).is_ok() {
                return Ok(true);
            }
            tried += 1;
            at += (PREFIX_BYTES + length) as u64;
        }
        Ok(tried < 2)
    }

    /// Payload length of the record at `position`, if it fits into the file.
    fn record_length(&mut self, position: u64) -> Result<Option<usize>, FlumeError> {
        let whole = self.length;
        let prefix = self.read(position, PREFIX_BYTES)?;
        let [OPERATION_RECORD, length @ ..] = prefix else {
            return Ok(None);
        };
        let Some(length) = length.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = i32::from_be_bytes(*length);
        let fits = position + PREFIX_BYTES as u64 + u64::from(length.unsigned_abs()) <= whole;
        Ok(usize::try_from(length)
            .ok()
            .filter(|length| fits && *length >= LEAST_PAYLOAD_BYTES))
    }
}

/// A record and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) offset: u32,
    pub(crate) head: Head,
}

/// Reads one log file from a position on.
#[derive(Debug)]
pub(crate) struct LogReader {
    pub(crate) window: Window,
    position: u64,
    ended: bool,
}

impl LogReader {
    /// Reads what is in `window` from a position on.
    pub(crate) fn new(window: Window, from: u64) -> LogReader {
        LogReader {
            window,
            position: from,
            ended: false,
        }
    }

    /// Over bytes in memory, from their start.
    pub(crate) fn in_memory(bytes: &[u8]) -> LogReader {
        LogReader {
            window: Window::in_memory(bytes),
            position: 0,
            ended: false,
        }
    }

    /// Bytes behind which nothing was read yet.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next record. What is not as it should be goes to `findings`.
    pub(crate) fn next(
        &mut self,
        findings: &mut dyn FnMut(Finding),
    ) -> Result<Option<Entry>, FlumeError> {
        while !self.ended && self.position < self.window.length {
            let at = self.position;
            let operation = self.window.read(at, 1)?.first().copied();
            match operation {
                Some(OPERATION_RECORD) => match self.record(at)? {
                    Ok(entry) => return Ok(Some(entry)),
                    Err(what) => self.damaged(at, what, findings)?,
                },
                Some(OPERATION_NOOP) => self.skip_repaired(at, findings)?,
                Some(OPERATION_END) | None => self.ended = true,
                Some(_) => {
                    self.damaged(at, Malformed("no record starts here"), findings)?;
                }
            }
        }
        self.ended = true;
        self.window.park();
        Ok(None)
    }

    fn record(&mut self, at: u64) -> Result<Result<Entry, Malformed>, FlumeError> {
        let Ok(offset) = u32::try_from(at) else {
            return Ok(Err(Malformed("the file is larger than Flume makes them")));
        };
        let Some(length) = self.window.record_length(at)? else {
            return Ok(Err(Malformed("the record's length is impossible here")));
        };
        // The whole of it: a length that was damaged must not jump over what follows.
        let found = match whole(self.window.plain(at, length)?) {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        self.position = at + (PREFIX_BYTES + length) as u64;
        Ok(Ok(Entry {
            offset,
            head: found,
        }))
    }

    /// A record that Flume's integrity tool has marked as not there, or zeroes that a power cut left.
    fn skip_repaired(
        &mut self,
        at: u64,
        findings: &mut dyn FnMut(Finding),
    ) -> Result<(), FlumeError> {
        let prefix = self.window.read(at, PREFIX_BYTES)?;
        let length = prefix.get(1..).and_then(|length| length.first_chunk::<4>());
        let length = length.map(|length| i32::from_be_bytes(*length));
        let next = length
            .and_then(|length| u64::try_from(length).ok())
            .map(|length| at + PREFIX_BYTES as u64 + length);
        match next {
            Some(next) if next > at + PREFIX_BYTES as u64 && next <= self.window.length => {
                let what = "a record that was repaired away is left out, as Flume does";
                findings(Finding::note(&self.window.path, at, what));
                self.position = next;
                Ok(())
            }
            _ => self.damaged(at, Malformed("no record starts here"), findings),
        }
    }

    /// Decides whether the bytes at `at` are a torn end or damage, and goes on behind them.
    fn damaged(
        &mut self,
        at: u64,
        what: Malformed,
        findings: &mut dyn FnMut(Finding),
    ) -> Result<(), FlumeError> {
        let next = self.find_record(at + 1)?;
        if next.is_none() && self.is_torn(at)? {
            let what = "the last record was not written to its end; Flume leaves it out too";
            findings(Finding::note(&self.window.path, at, what));
            self.ended = true;
            return Ok(());
        }
        let rest = match next {
            Some(next) => format!("{what}; the next whole record is at byte {next}"),
            None => format!("{what}; no whole record follows"),
        };
        findings(Finding::damage(&self.window.path, at, rest));
        match next {
            Some(next) => self.position = next,
            None => self.ended = true,
        }
        Ok(())
    }

    /// Whether the bytes at `at`, which no record follows, end in filling or are cut by the end of the file.
    fn is_torn(&mut self, at: u64) -> Result<bool, FlumeError> {
        let end = self.window.length;
        let prefix = self.window.read(at, PREFIX_BYTES)?;
        let Some(&[operation, a, b, c, d]) = prefix.first_chunk::<PREFIX_BYTES>() else {
            return Ok(true);
        };
        if operation != OPERATION_RECORD {
            // Zeroes where the filling never reached the disk.
            return self.only_filling(at);
        }
        let length = i32::from_be_bytes([a, b, c, d]);
        if [a, b, c, d].contains(&OPERATION_END) && length < 0 {
            return self.only_filling(at + PREFIX_BYTES as u64);
        }
        let Ok(length) = u64::try_from(length) else {
            return Ok(false);
        };
        let behind = at + PREFIX_BYTES as u64 + length;
        if behind > end {
            return Ok(true);
        }
        let last = self.window.read(behind - 1, 1)?.first().copied();
        Ok(last == Some(OPERATION_END) && self.only_filling(behind)?)
    }

    fn only_filling(&mut self, mut at: u64) -> Result<bool, FlumeError> {
        loop {
            let bytes = self.window.read(at, READ_BYTES)?;
            if bytes.is_empty() {
                return Ok(true);
            }
            let filling = |byte: &u8| matches!(*byte, OPERATION_END | OPERATION_NOOP);
            if !bytes.iter().all(filling) {
                return Ok(false);
            }
            at += bytes.len() as u64;
        }
    }

    /// The first whole record at or behind `from`.
    fn find_record(&mut self, from: u64) -> Result<Option<u64>, FlumeError> {
        let mut at = from;
        loop {
            let bytes = self.window.read(at, READ_BYTES)?;
            if bytes.is_empty() {
                return Ok(None);
            }
            let Some(skip) = bytes.iter().position(|byte| *byte == OPERATION_RECORD) else {
                at += bytes.len() as u64;
                continue;
            };
            at += skip as u64;
            if self.starts_record(at)? {
                return Ok(Some(at));
            }
            at += 1;
        }
    }

    fn starts_record(&mut self, at: u64) -> Result<bool, FlumeError> {
        let Some(length) = self.window.record_length(at)? else {
            return Ok(false);
        };
        // Cheap first: most places that look like an operation are text.
        let first = length.min(HEAD_BYTES);
        if head(self.window.plain(at, first)?).is_err() {
            return Ok(false);
        }
        let payload = self.window.payload(at)?;
        Ok(payload.is_some_and(put_or_other))
    }
}

/// Whether a payload is certainly that of a record: a put's checksum must fit, for it was found by searching.
fn put_or_other(payload: &[u8]) -> bool {
    match whole(payload) {
        Ok(found) if found.kind == Kind::Put => put(payload).is_ok(),
        found => found.is_ok(),
    }
}
