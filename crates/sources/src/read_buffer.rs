//! The buffer between a pipe or socket and the events that are cut from it.
//!
//! Events share the memory they were read into, so a few small events must not keep a large
//! allocation alive: what is taken out is copied when it fills only a small part of it.
//! Invariant: at most one copy for each byte, and none in the case of full reads.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// First and smallest read.
const SMALLEST_READ: usize = 4 << 10;
/// Largest read.
const LARGEST_READ: usize = 64 << 10;
/// Taken bytes may keep alive at most this many times their own size.
const LARGEST_SHARE: usize = 4;

/// Bytes read and not yet taken.
#[derive(Default)]
pub(crate) struct ReadBuffer {
    bytes: BytesMut,
    /// Size of the allocation that `bytes` lies in.
    allocated: usize,
    read_size: usize,
}

impl ReadBuffer {
    /// What has been read.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads once and returns how many bytes came; 0 is the end of the input.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub(crate) async fn fill(&mut self, input: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        self.make_room();
        let count = input.read_buf(&mut self.bytes).await?;
        self.filled(count);
        Ok(count)
    }

    /// Appends bytes that were decoded elsewhere.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        let before = self.bytes.capacity();
        self.bytes.put_slice(bytes);
        if self.bytes.capacity() != before {
            self.allocated = self.bytes.capacity();
        }
    }

    /// Reads what is there through `read`, which fills a slice; used with `try_read`.
    pub(crate) fn fill_with(
        &mut self,
        read: impl FnOnce(&mut BytesMut) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.make_room();
        let count = read(&mut self.bytes)?;
        self.filled(count);
        Ok(count)
    }

    /// Gives the memory back when nothing is in it: an idle connection costs none.
    pub(crate) fn release_if_empty(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
            self.allocated = 0;
        }
    }

    /// Takes the first `length` bytes.
    ///
    /// # Panics
    /// When there are fewer.
    pub(crate) fn take(&mut self, length: usize) -> Bytes {
        let taken = self.bytes.split_to(length);
        if length * LARGEST_SHARE < self.allocated {
            Bytes::copy_from_slice(&taken)
        } else {
            taken.freeze()
        }
    }

    fn make_room(&mut self) {
        let spare = self.bytes.capacity() - self.bytes.len();
        if spare < SMALLEST_READ {
            let size = self.read_size.clamp(SMALLEST_READ, LARGEST_READ);
            self.bytes.reserve(size);
            self.allocated = self.bytes.capacity();
        }
    }

    fn filled(&mut self, count: usize) {
        let size = self.read_size.clamp(SMALLEST_READ, LARGEST_READ);
        self.read_size = if count >= size { size * 2 } else { size };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn small_takes_do_not_keep_large_memory_and_full_ones_are_not_copied() {
        let mut buffer = ReadBuffer::default();
        let mut input: &[u8] = &[b'x'; 4096];
        assert_eq!(buffer.fill(&mut input).await.expect("read"), 4096);
        let start = buffer.bytes().as_ptr();
        let large = buffer.take(4000);
        assert_eq!(large.as_ptr(), start, "shared");
        let start = buffer.bytes().as_ptr();
        let small = buffer.take(96);
        assert_ne!(small.as_ptr(), start, "copied");
        buffer.release_if_empty();
        assert_eq!(buffer.bytes.capacity(), 0);
    }
}
