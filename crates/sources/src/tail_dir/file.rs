//! One tailed file: its handle, how far it was read, and how it is known again.
//!
//! Reading goes ahead of the channels: `position` is where the next read begins; what the channels
//! have taken stands in the store, and a source that stops in between goes back to it.
//!
//! A file is the one we know when device and inode are the same, it is not shorter than the
//! position, and its first bytes and those before the position are unchanged. The last three are
//! checked after every read, so a file that was cut and written anew under our hands gives no
//! torn line: the read is dropped and the file begins at 0.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use flafka_flow::{Batch, BatchBuilder, Headers, HeadersBuilder};
use tokio::time::Instant;

use super::journal::{Entry, Identity, Mark};
use super::lines::{LineSpans, MAX_LINE_BYTES};
use crate::plain_file::open_plain;

/// Bytes of one read. Large enough that the hand-over between threads costs nothing, small enough
/// for the processor's cache and for the memory budget.
pub(super) const CHUNK_BYTES: usize = 256 << 10;

/// A line without end of this many bytes is not read again at every growth, only searched on.
const SEARCH_FROM_BYTES: u64 = 64 << 10;

/// Size and modification time: whether there is anything new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) size: u64,
    pub(super) modified: SystemTime,
}

impl Seen {
    pub(super) fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            size: metadata.len(),
            modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        }
    }
}

/// One batch and where the file stands behind it.
pub(super) struct Put {
    pub(super) batch: Batch,
    pub(super) position: u64,
    pub(super) tail: Mark,
}

/// The batches of one read.
pub(super) struct Chunk {
    pub(super) id: u32,
    pub(super) puts: Vec<Put>,
    pub(super) bytes: u64,
    /// Whether a line was cut because it is too long.
    pub(super) cut: bool,
}

/// What a read gave.
pub(super) enum Reading {
    /// Lines.
    Chunk(Chunk),
    /// No whole line up to where the read was to go.
    Nothing,
    /// The file was cut or written anew.
    Restarted,
    /// The path leads to another file by now; the next look will find it.
    Moved,
}

/// How far and in what form to read.
#[derive(Clone, Copy)]
pub(super) struct Request {
    /// Read up to here.
    pub(super) until: u64,
    /// Whether the rest behind the last newline is an event.
    pub(super) flush: bool,
    /// Events in a batch.
    pub(super) batch_size: usize,
    /// Batches at most.
    pub(super) batches: usize,
    /// Whether each event tells where it begins.
    pub(super) byte_offset: bool,
}

/// A tailed file.
pub(super) struct TailFile {
    pub(super) id: u32,
    pub(super) identity: Identity,
    pub(super) path: PathBuf,
    /// Index of its file group; none before it was found.
    pub(super) group: usize,
    pub(super) headers: Headers,
    pub(super) handle: Option<File>,
    pub(super) position: u64,
    /// No newline between the position and here.
    pub(super) searched: u64,
    pub(super) head: Mark,
    pub(super) tail: Mark,
    /// Bytes of the last full batch, so that a read ends about where a batch does.
    batch_bytes: usize,
    pub(super) seen: Option<Seen>,
    pub(super) last_activity: Instant,
    /// The look in which it was found by its path.
    pub(super) found_in: u64,
    /// Not found any more since.
    pub(super) gone_since: Option<Instant>,
    /// After a failure: not before.
    pub(super) retry_at: Option<Instant>,
}

impl TailFile {
    /// A file that is not open yet.
    pub(super) fn new(id: u32, identity: Identity, path: PathBuf, now: Instant) -> Self {
        Self {
            id,
            identity,
            path,
            group: usize::MAX,
            headers: Headers::new(),
            handle: None,
            position: 0,
            searched: 0,
            head: Mark::default(),
            tail: Mark::default(),
            batch_bytes: 0,
            seen: None,
            last_activity: now,
            found_in: 0,
            gone_since: None,
            retry_at: None,
        }
    }

    /// What the store keeps of it.
    pub(super) fn entry(&self) -> Entry {
        Entry {
            identity: self.identity,
            path: self.path.clone(),
            position: self.position,
            head: self.head,
            tail: self.tail,
        }
    }

    /// Goes to `position`, forward or back.
    pub(super) fn go_to(&mut self, position: u64, tail: Mark) {
        self.position = position;
        self.searched = position;
        self.tail = tail;
    }

    /// Opens the file if needed; false when its path leads to another one now.
    pub(super) fn open(&mut self) -> io::Result<bool> {
        if self.handle.is_some() {
            return Ok(true);
        }
        let handle = open_plain(&self.path)?;
        if identity_of(&handle.metadata()?) != self.identity {
            return Ok(false);
        }
        self.handle = Some(handle);
        Ok(true)
    }

    /// Reads the next whole lines. Blocks.
    pub(super) fn read(&mut self, request: &Request) -> io::Result<Reading> {
        if !self.open()? {
            return Ok(Reading::Moved);
        }
        let handle = self.handle.take().expect("just opened");
        let reading = self.read_from(&handle, request);
        self.handle = Some(handle);
        reading
    }

    fn read_from(&mut self, handle: &File, request: &Request) -> io::Result<Reading> {
        let size = handle.metadata()?.len();
        if size < self.position {
            return Ok(Reading::Restarted);
        }
        let until = request.until.min(size);
        let buffer = if until > self.position && self.may_have_line(handle, until, request)? {
            self.fill(handle, until, request)?
        } else {
            Vec::new()
        };
        if !self.is_same(handle, self.position + buffer.len() as u64)? {
            return Ok(Reading::Restarted);
        }
        let length = buffer.len() as u64;
        // A file that grew meanwhile is not idle: its last line is not ended by force.
        let flush = request.flush && self.position + length == size;
        let more = self.position + length < until;
        let chunk = self.cut_batches(Bytes::from(buffer), request, flush, more);
        match chunk.puts.last() {
            None => {
                self.searched = self.searched.max(self.position + length);
                Ok(Reading::Nothing)
            }
            Some(last) => {
                let (position, tail) = (last.position, last.tail);
                self.go_to(position, tail);
                Ok(Reading::Chunk(chunk))
            }
        }
    }

    /// Whether there can be an event before `until`: looks on where the last search ended.
    fn may_have_line(&mut self, handle: &File, until: u64, request: &Request) -> io::Result<bool> {
        let known = self.searched - self.position;
        if request.flush
            || known < SEARCH_FROM_BYTES
            || until - self.position > MAX_LINE_BYTES as u64
        {
            return Ok(true);
        }
        let mut part = [0; 16 << 10];
        while self.searched < until {
            let wanted = part.len().min((until - self.searched) as usize);
            let read = handle.read_at(&mut part[..wanted], self.searched)?;
            if read == 0 || memchr::memchr(b'\n', &part[..read]).is_some() {
                return Ok(read > 0);
            }
            self.searched += read as u64;
        }
        Ok(false)
    }

    /// Reads from the position: a chunk, or more until there is a newline.
    fn fill(&self, handle: &File, until: u64, request: &Request) -> io::Result<Vec<u8>> {
        let available = until - self.position;
        // A few batches are wanted at most: do not read much more than they can hold.
        let enough = request
            .batches
            .saturating_mul(request.batch_size)
            .saturating_mul(512)
            .clamp(64 << 10, CHUNK_BYTES);
        let enough = whole_batches(enough, self.batch_bytes);
        let longest = MAX_LINE_BYTES + 2;
        let mut buffer = Vec::with_capacity(enough.min(available as usize));
        loop {
            let from = buffer.len();
            let full = read_on(handle, &mut buffer, self.position)?;
            let done = !full
                || buffer.len() as u64 >= available
                || buffer.len() >= longest
                || memchr::memchr(b'\n', &buffer[from..]).is_some();
            if done {
                return Ok(buffer);
            }
            let left = (available - buffer.len() as u64) as usize;
            buffer.reserve_exact(buffer.len().min(left).min(longest - buffer.len()));
        }
    }

    /// Whether this still is the content we know, and at least `size` bytes of it.
    fn is_same(&mut self, handle: &File, size: u64) -> io::Result<bool> {
        let now = handle.metadata()?.len();
        if now < size {
            return Ok(false);
        }
        let mut bytes = [0; Mark::HEAD_BYTES];
        let head = usize::from(self.head.length);
        let wanted = if head < Mark::HEAD_BYTES {
            Mark::HEAD_BYTES.min(now as usize)
        } else {
            head
        };
        let read = read_fully(handle, &mut bytes[..wanted.max(head)], 0)?;
        if head > 0 && (read < head || Mark::of(&bytes[..head]) != self.head) {
            return Ok(false);
        }
        let tail = usize::from(self.tail.length);
        let mut before = [0; Mark::TAIL_BYTES];
        if tail > 0 && tail <= before.len() && self.position >= tail as u64 {
            let read = read_fully(handle, &mut before[..tail], self.position - tail as u64)?;
            if read < tail || Mark::of(&before[..tail]) != self.tail {
                return Ok(false);
            }
        }
        if read > head {
            self.head = Mark::of(&bytes[..read]);
        }
        Ok(true)
    }

    /// Cuts a buffer that begins at the position into batches of lines. When there is `more` behind it, the last batch
    /// is left for the next read unless it is full: each batch may cost its channel a sync.
    fn cut_batches(&mut self, buffer: Bytes, request: &Request, flush: bool, more: bool) -> Chunk {
        let mut chunk = Chunk {
            id: self.id,
            puts: Vec::new(),
            bytes: 0,
            cut: false,
        };
        let mut spans = LineSpans::new(&buffer, MAX_LINE_BYTES, flush);
        while chunk.puts.len() < request.batches {
            let room = request.batch_size.min(buffer.len() / 32 + 1);
            let mut builder = BatchBuilder::with_capacity(room);
            let shared = builder.buffer(buffer.clone());
            let mut headers = builder.headers(self.headers.clone());
            let mut end = 0;
            while builder.len() < request.batch_size {
                let Some(span) = spans.next() else { break };
                if request.byte_offset {
                    let start = self.position + span.body.start as u64;
                    headers = builder.headers(with_offset(&self.headers, start));
                }
                builder.push(headers, shared, span.body);
                end = span.end;
                chunk.cut |= span.cut;
            }
            let is_full = builder.len() >= request.batch_size;
            if builder.is_empty() || (more && !is_full && !chunk.puts.is_empty()) {
                break;
            }
            if is_full {
                self.batch_bytes = end - chunk.bytes as usize;
            }
            chunk.bytes = end as u64;
            chunk.puts.push(Put {
                batch: builder.finish(),
                position: self.position + end as u64,
                tail: Mark::of_tail(&buffer[..end]),
            });
        }
        chunk
    }
}

/// Bytes of a read of about `enough` that ends soon after a batch, when batches of `batch_bytes` go on.
fn whole_batches(enough: usize, batch_bytes: usize) -> usize {
    // Lines differ in length: a bit more, so that the last batch is not missed by a line.
    let batch_bytes = batch_bytes + batch_bytes / 16;
    match enough.checked_div(batch_bytes) {
        None | Some(0) => enough,
        Some(batches) => batches * batch_bytes,
    }
}

/// The headers with `byteoffset`; a header of that name from the configuration wins, as in Flume.
fn with_offset(headers: &Headers, offset: u64) -> Headers {
    const NAME: &str = "byteoffset";
    let mut builder = HeadersBuilder::from(headers);
    if !builder.contains(NAME) {
        builder.push_unchecked(NAME, &offset.to_string());
    }
    builder.finish()
}

/// What `metadata` belongs to.
pub(super) fn identity_of(metadata: &std::fs::Metadata) -> Identity {
    Identity {
        device: metadata.dev(),
        inode: metadata.ino(),
    }
}

/// Whether `path` leads to this file.
pub(super) fn still_there(path: &Path, identity: Identity) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| identity_of(&metadata) == identity)
}

/// Fills the spare capacity of `buffer`, which begins at `start` of the file; false at its end.
fn read_on(handle: &File, buffer: &mut Vec<u8>, start: u64) -> io::Result<bool> {
    while buffer.len() < buffer.capacity() {
        let at = start + buffer.len() as u64;
        match rustix::io::pread(handle, rustix::buffer::spare_capacity(buffer), at) {
            Ok(0) => return Ok(false),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

/// Reads until `bytes` is full or the file ends.
fn read_fully(handle: &File, bytes: &mut [u8], start: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match handle.read_at(&mut bytes[read..], start + read as u64) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// Where the last line of a file begins that is not ended yet; its size when it ends in a
/// newline, or when that line is longer than this looks back.
pub(super) fn end_of_lines(path: &Path) -> io::Result<u64> {
    const LOOK_BACK: u64 = 64 << 10;
    let handle = open_plain(path)?;
    let size = handle.metadata()?.len();
    let from = size.saturating_sub(LOOK_BACK);
    let mut bytes = vec![0; (size - from) as usize];
    let read = read_fully(&handle, &mut bytes, from)?;
    Ok(match memchr::memrchr(b'\n', &bytes[..read]) {
        Some(newline) => from + newline as u64 + 1,
        None if from == 0 => 0,
        None => size,
    })
}
