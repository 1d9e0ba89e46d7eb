//! Response frames: length, header, and the pieces of the body.
//!
//! ```text
//! length i32 BE | correlation id i32 BE | tagged fields, empty (0x00): header version 1 only | body pieces
//! ```
//!
//! Record data of a Fetch is read from its segment in steps of [`STEP`] bytes as the socket takes it, so a slow reader
//! holds one step in memory and not its whole answer, and the step stays in the processor's cache between the read and
//! the write. A read that fails in the middle of a frame, or that meets batches which do not follow each other, can only
//! close the connection; the client asks again, and then the log knows that the segment is not what it was.

use std::io::{self, IoSlice};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flafka_log_store::{FileRange, RangeReader};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use crate::dispatch::{Piece, Response};

/// Slices per system call; the kernel takes 1 024.
const MAX_SLICES: usize = 64;
/// Bytes of records that are in memory at once for one connection.
const STEP: usize = 128 * 1024;
/// A step read within this time came from the page cache; one that took longer waited for the disk.
const CACHED: Duration = Duration::from_micros(300);
/// Bodies up to this long are copied behind the header instead of being gathered.
const SMALL_BODY: usize = 1024;

/// Why a response was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// The peer took nothing for as long as it may.
    #[error("the peer takes nothing")]
    Stalled,
    /// The socket's error, or that of reading records.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A socket that is given up when its peer takes nothing for `stall`. Time in which there is nothing to write does not
/// count.
pub(crate) struct Patient<W> {
    socket: W,
    stall: Duration,
}

impl<W: AsyncWrite + Unpin> Patient<W> {
    pub(crate) fn new(socket: W, stall: Duration) -> Self {
        Patient { socket, stall }
    }

    async fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> Result<usize, WriteError> {
        match timeout(self.stall, self.socket.write_vectored(slices)).await {
            Ok(Ok(0)) => Err(WriteError::Io(io::ErrorKind::WriteZero.into())),
            Ok(written) => Ok(written?),
            Err(_) => Err(WriteError::Stalled),
        }
    }
}

/// Writes one response frame and returns its length in bytes.
///
/// # Errors
/// When the peer takes nothing, or with the error of the socket or of reading records; nothing more can be written to
/// the socket then.
pub(crate) async fn write_frame<W: AsyncWrite + Unpin>(
    socket: &mut Patient<W>,
    correlation_id: i32,
    flexible_header: bool,
    response: Response,
) -> Result<u64, WriteError> {
    let header_len = if flexible_header { 5 } else { 4 };
    let length = header_len + response.pieces.iter().map(Piece::length).sum::<usize>();
    let prefix = i32::try_from(length)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "response above 2 GiB"))?;
    let mut head = BytesMut::with_capacity(9 + SMALL_BODY);
    head.put_i32(prefix);
    head.put_i32(correlation_id);
    if flexible_header {
        head.put_u8(0);
    }
    if let [Piece::Bytes(only)] = response.pieces.as_slice()
        && only.len() <= SMALL_BODY
    {
        head.extend_from_slice(only);
        write_gathered(socket, &mut [], &head).await?;
        return Ok(4 + length as u64);
    }
    let mut waiting = vec![head.freeze()];
    let mut step = Vec::new();
    for piece in response.pieces {
        match piece {
            Piece::Bytes(bytes) => waiting.push(bytes),
            Piece::Records { range, is_recent } => {
                write_records(socket, &mut waiting, &mut step, &range, is_recent).await?;
            }
        }
    }
    write_gathered(socket, &mut waiting, &[]).await?;
    Ok(4 + length as u64)
}

/// Writes what waits and then the records, step by step. A step is read in place while the reads before it came from
/// the page cache, else on a blocking thread: the hop there costs as much as the read of a cached step.
async fn write_records<W: AsyncWrite + Unpin>(
    socket: &mut Patient<W>,
    waiting: &mut Vec<Bytes>,
    step: &mut Vec<u8>,
    range: &FileRange,
    is_recent: bool,
) -> Result<(), WriteError> {
    let mut is_cached = is_recent;
    let mut reader = range.reader();
    while reader.left() > 0 {
        step.resize(STEP.min(reader.left()), 0);
        let took = if is_cached {
            timed_fill(&mut reader, step)?
        } else {
            let took;
            (reader, *step, took) = fill_blocking(reader, std::mem::take(step)).await?;
            took
        };
        is_cached = took < CACHED;
        write_gathered(socket, waiting, step).await?;
        waiting.clear();
    }
    Ok(())
}

async fn fill_blocking(
    mut reader: RangeReader,
    mut step: Vec<u8>,
) -> io::Result<(RangeReader, Vec<u8>, Duration)> {
    tokio::task::spawn_blocking(move || {
        let took = timed_fill(&mut reader, &mut step)?;
        Ok((reader, step, took))
    })
    .await
    .map_err(io::Error::other)?
}

fn timed_fill(reader: &mut RangeReader, step: &mut [u8]) -> io::Result<Duration> {
    let started = Instant::now();
    reader.fill(step)?;
    Ok(started.elapsed())
}

/// Writes all of `pieces`, then `tail`, with as few system calls as it takes.
async fn write_gathered<W: AsyncWrite + Unpin>(
    socket: &mut Patient<W>,
    pieces: &mut [Bytes],
    mut tail: &[u8],
) -> Result<(), WriteError> {
    let mut first = 0;
    loop {
        while pieces.get(first).is_some_and(Bytes::is_empty) {
            first += 1;
        }
        if first == pieces.len() && tail.is_empty() {
            return Ok(());
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut used = 0;
        for piece in pieces[first..].iter().take(MAX_SLICES) {
            slices[used] = IoSlice::new(piece);
            used += 1;
        }
        if used < MAX_SLICES {
            slices[used] = IoSlice::new(tail);
            used += 1;
        }
        let mut written = socket.write_vectored(&slices[..used]).await?;
        while written > 0 {
            match pieces.get_mut(first) {
                Some(piece) => {
                    let part = written.min(piece.len());
                    piece.advance(part);
                    written -= part;
                    first += usize::from(piece.is_empty());
                }
                None => {
                    tail = &tail[written..];
                    written = 0;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use flafka_log_store::{Fs, OpenMode, Position, RealFs};
    use tokio::io::AsyncReadExt;

    use super::*;

    async fn written(flexible: bool, pieces: Vec<Piece>) -> Vec<u8> {
        // A pipe far smaller than the frame, so that every write is cut somewhere.
        let (near, mut far) = tokio::io::duplex(7);
        let writing = async move {
            let mut near = Patient::new(near, Duration::from_secs(60));
            write_frame(&mut near, 5, flexible, Response { pieces })
                .await
                .unwrap()
        };
        let mut bytes = Vec::new();
        let (length, _) = tokio::join!(writing, far.read_to_end(&mut bytes));
        assert_eq!(length, bytes.len() as u64);
        bytes
    }

    #[tokio::test]
    async fn pieces_arrive_in_order_however_writes_are_cut() {
        let parts: Vec<Bytes> = (0..200u8)
            .map(|value| Bytes::from(vec![value; usize::from(value % 9)]))
            .collect();
        let body: Vec<u8> = parts.concat();
        let bytes = written(true, parts.into_iter().map(Piece::Bytes).collect()).await;
        assert_eq!(bytes[..4], (body.len() as i32 + 5).to_be_bytes());
        assert_eq!(bytes[4..9], [0, 0, 0, 5, 0]);
        assert_eq!(&bytes[9..], &body[..]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_something_now_and_then_is_waited_for_one_that_takes_nothing_is_not()
    {
        const STALL: Duration = Duration::from_secs(30);
        for (bytes_taken, finishes) in [(100, true), (40, false)] {
            let (near, mut far) = tokio::io::duplex(7);
            let writing = async move {
                let body = Bytes::from(vec![1; 80]);
                let pieces = vec![Piece::Bytes(body)];
                write_frame(
                    &mut Patient::new(near, STALL),
                    5,
                    false,
                    Response { pieces },
                )
                .await
            };
            let reading = async move {
                let mut taken = 0;
                let mut buffer = [0; 7];
                while taken < bytes_taken {
                    tokio::time::sleep(STALL / 2).await;
                    match far.read(&mut buffer).await.unwrap() {
                        0 => break,
                        read => taken += read,
                    }
                }
                far
            };
            let (written, _far) = tokio::join!(writing, reading);
            match written {
                Ok(length) => assert!(finishes && length == 88),
                Err(error) => assert!(!finishes && matches!(error, WriteError::Stalled)),
            }
        }
    }

    #[tokio::test]
    async fn a_small_body_is_one_write_behind_the_header() {
        let pieces = vec![Piece::Bytes(Bytes::from_static(b"xy"))];
        let bytes = written(false, pieces).await;
        assert_eq!(bytes, [0, 0, 0, 6, 0, 0, 0, 5, b'x', b'y']);
    }

    #[tokio::test]
    async fn records_come_from_their_file_between_the_fields() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("segment");
        let content: Vec<u8> = (0..STEP as u32 + 5000).map(|at| at as u8).collect();
        std::fs::write(&path, &content).unwrap();
        let fs: Arc<dyn Fs> = Arc::new(RealFs);
        let file = fs.open(&path, OpenMode::Read).unwrap();
        for is_recent in [true, false] {
            let range = FileRange::new(Arc::clone(&file), Position(3), STEP + 4000);
            let pieces = vec![
                Piece::Bytes(Bytes::from_static(b"ab")),
                Piece::Records { range, is_recent },
                Piece::Bytes(Bytes::from_static(b"z")),
            ];
            let bytes = written(false, pieces).await;
            assert_eq!(&bytes[8..10], b"ab");
            assert!(bytes[10..bytes.len() - 1] == content[3..STEP + 4003]);
            assert_eq!(bytes.last(), Some(&b'z'));
        }
    }
}
