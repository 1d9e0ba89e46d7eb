//! Response frames: length, header, and the pieces of the body in one vectored write.
//!
//! ```text
//! length i32 BE | correlation id i32 BE | tagged fields, empty (0x00): header version 1 only | body pieces
//! ```
//!
//! Record data of a Fetch is a piece of its own and goes from the read buffer to the socket without another copy.

use std::io::{self, IoSlice};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::dispatch::Response;

/// Slices per system call; the kernel takes 1 024.
const MAX_SLICES: usize = 64;

/// Writes one response frame and returns its length in bytes.
///
/// # Errors
/// The socket's; nothing more can be written to it then.
pub(crate) async fn write_frame<W: AsyncWrite + Unpin>(
    socket: &mut W,
    correlation_id: i32,
    flexible_header: bool,
    response: Response,
) -> io::Result<u64> {
    let header_len = if flexible_header { 5 } else { 4 };
    let length = header_len + response.pieces.iter().map(Bytes::len).sum::<usize>();
    let prefix = i32::try_from(length)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "response above 2 GiB"))?;
    let mut head = BytesMut::with_capacity(9);
    head.put_i32(prefix);
    head.put_i32(correlation_id);
    if flexible_header {
        head.put_u8(0);
    }
    let mut pieces = response.pieces;
    if let [only] = pieces.as_slice()
        && only.len() <= 1024
    {
        head.extend_from_slice(only);
        socket.write_all(&head).await?;
    } else {
        pieces.insert(0, head.freeze());
        write_pieces(socket, &mut pieces).await?;
    }
    Ok(4 + length as u64)
}

async fn write_pieces<W: AsyncWrite + Unpin>(
    socket: &mut W,
    pieces: &mut [Bytes],
) -> io::Result<()> {
    let mut first = 0;
    while first < pieces.len() {
        if pieces[first].is_empty() {
            first += 1;
            continue;
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let mut used = 0;
        for piece in pieces[first..].iter().take(MAX_SLICES) {
            slices[used] = IoSlice::new(piece);
            used += 1;
        }
        let mut written = socket.write_vectored(&slices[..used]).await?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while written > 0 {
            let part = written.min(pieces[first].len());
            pieces[first].advance(part);
            written -= part;
            if pieces[first].is_empty() {
                first += 1;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    async fn written(flexible: bool, pieces: Vec<Bytes>) -> Vec<u8> {
        // A pipe far smaller than the frame, so that every write is cut somewhere.
        let (mut near, mut far) = tokio::io::duplex(7);
        let writing = async move {
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
        let pieces: Vec<Bytes> = (0..200u8)
            .map(|value| Bytes::from(vec![value; usize::from(value % 9)]))
            .collect();
        let body: Vec<u8> = pieces.concat();
        let bytes = written(true, pieces).await;
        assert_eq!(bytes[..4], (body.len() as i32 + 5).to_be_bytes());
        assert_eq!(bytes[4..9], [0, 0, 0, 5, 0]);
        assert_eq!(&bytes[9..], &body[..]);
    }

    #[tokio::test]
    async fn a_small_body_is_one_write_behind_the_header() {
        let bytes = written(false, vec![Bytes::from_static(b"xy")]).await;
        assert_eq!(bytes, [0, 0, 0, 6, 0, 0, 0, 5, b'x', b'y']);
    }
}
