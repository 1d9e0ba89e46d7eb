//! The batches of one segment, good and bad.

use std::io;
use std::path::Path;

use flafka_kafka_wire::records::{self, BatchHeader, HEADER_LEN};

use crate::error::IoFault;
use crate::fs::{File, Fs, OpenMode};
use crate::inspect::ReadOnly;
use crate::op::Position;
use crate::segment;
use crate::window::Window;

/// Where the magic byte of a batch is, and its value.
const MAGIC: (usize, u8) = (16, 2);

/// What is at a place of a segment.
#[derive(Debug)]
pub enum SegmentStep<'a> {
    /// A whole batch with the right checksum.
    Batch {
        /// Where it starts.
        position: Position,
        /// Its header.
        header: BatchHeader,
        /// Its bytes, header included.
        bytes: &'a [u8],
    },
    /// Bytes that are no batch.
    Bad {
        /// Where they start.
        position: Position,
        /// How many, up to the next good batch or the end.
        bytes: u64,
        /// What is wrong with them.
        what: String,
    },
    /// Space up to the end that was not written yet: zeroes, or what a recycled file held before.
    Unwritten {
        /// Where they start.
        position: Position,
        /// How many.
        bytes: u64,
    },
}

/// Walks over the first `end` bytes of a segment (all without) until `visit` returns false. Memory: the largest batch.
/// The file's name says which offsets it may hold.
///
/// # Errors
/// A file call failed.
pub fn walk_segment(
    path: &Path,
    end: Option<u64>,
    visit: &mut dyn FnMut(SegmentStep<'_>) -> bool,
) -> Result<(), IoFault> {
    let file = ReadOnly
        .open(path, OpenMode::Read)
        .map_err(IoFault::of("open segment", path))?;
    let found = file
        .length()
        .map_err(IoFault::of("measure segment", path))?;
    let end = end.unwrap_or(found).min(found);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let least = segment::parse_file_name(&name).map_or(i64::MIN, |(base, _)| base);
    walk(&*file, least, end, visit).map_err(IoFault::of("read segment", path))
}

/// As [`walk_segment`], on an open file whose batches begin at offset `least`.
pub(crate) fn walk(
    file: &dyn File,
    least: i64,
    end: u64,
    visit: &mut dyn FnMut(SegmentStep<'_>) -> bool,
) -> io::Result<()> {
    let mut window = Window::new(file, end);
    let mut at = 0;
    while at < end {
        let mut former = false;
        let what = match check(&mut window, at)? {
            Ok(header) if header.base_offset >= least => {
                let length = header.total_len();
                let bytes = window.exact(at, length)?.unwrap_or_default();
                let position = Position(at);
                if !visit(SegmentStep::Batch {
                    position,
                    header,
                    bytes,
                }) {
                    return Ok(());
                }
                at += length as u64;
                continue;
            }
            Ok(header) => {
                former = true;
                let offset = header.base_offset;
                format!("a batch of offset {offset} in a segment that begins at {least}")
            }
            Err(what) => what,
        };
        let next = find_batch(&mut window, at + 1, end, least, &mut former)?;
        let next = next.unwrap_or(end);
        let (position, bytes) = (Position(at), next - at);
        let unwritten = next == end && (former || window.only_zeroes(at, end)?);
        let step = match unwritten {
            true => SegmentStep::Unwritten { position, bytes },
            false => SegmentStep::Bad {
                position,
                bytes,
                what,
            },
        };
        if !visit(step) {
            return Ok(());
        }
        at = next;
    }
    Ok(())
}

/// The header of a good batch at `at`, or what is wrong with it.
fn check(window: &mut Window<'_>, at: u64) -> io::Result<Result<BatchHeader, String>> {
    let cut = || Ok(Err("the file ends inside a record batch".to_string()));
    let Some(bytes) = window.exact(at, HEADER_LEN)? else {
        return cut();
    };
    let header = match BatchHeader::parse(bytes) {
        Ok(header) => header,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let Some(batch) = window.exact(at, header.total_len())? else {
        return cut();
    };
    Ok(records::verify(batch).map_err(|error| error.to_string()))
}

/// The first good batch at or behind `from` with an offset from `least` on; notes those below it.
fn find_batch(
    window: &mut Window<'_>,
    from: u64,
    end: u64,
    least: i64,
    former: &mut bool,
) -> io::Result<Option<u64>> {
    let (magic_at, magic) = MAGIC;
    let mut at = from;
    while at + HEADER_LEN as u64 <= end {
        let Some(bytes) = window.some(at, HEADER_LEN)? else {
            return Ok(None);
        };
        let candidates = &bytes[magic_at..=bytes.len() - (HEADER_LEN - magic_at)];
        let Some(skip) = candidates.iter().position(|byte| *byte == magic) else {
            at += candidates.len() as u64;
            continue;
        };
        at += skip as u64;
        match check(window, at)? {
            Ok(header) if header.base_offset >= least => return Ok(Some(at)),
            Ok(header) => {
                *former = true;
                at += header.total_len() as u64;
            }
            Err(_) => at += 1,
        }
    }
    Ok(None)
}
