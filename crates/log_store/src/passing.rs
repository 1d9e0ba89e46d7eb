//! A look at the headers of batches on their way to a reader.
//!
//! The base offset of a batch lies outside its checksum, so no consumer can tell that it is wrong: it would skip the
//! batch, or take another one for it. And librdkafka ends its process at a batch of zeroes. What is handed out unread is
//! therefore watched as it passes, header by header; the records themselves are under the checksum that consumers verify.

use std::io;

use flafka_kafka_wire::records::{BatchHeader, HEADER_LEN};

use crate::read::FileRange;

/// Whether batches that follow each other carry on with their offsets. Compaction, repairs and damage leave gaps; a base
/// offset that became higher shows by the batch behind it, which then lies too low.
#[derive(Debug)]
pub(crate) struct Order {
    /// The least offset that may come next.
    pub(crate) next: i64,
}

impl Order {
    /// Takes the next batch, unless it does not fit in.
    pub(crate) fn takes(&mut self, header: &BatchHeader) -> bool {
        let fits = header.base_offset >= self.next;
        let behind = header.base_offset.checked_add(1);
        let behind = behind.and_then(|base| base.checked_add(i64::from(header.last_offset_delta)));
        self.next = behind.unwrap_or(i64::MAX);
        fits && self.next > header.base_offset
    }
}

/// Reads a [`FileRange`] from its start to its end and watches the headers in it.
#[derive(Debug)]
pub struct RangeReader {
    range: FileRange,
    done: usize,
    /// Not where each batch was looked at when the range was planned.
    watch: Option<Watch>,
}

#[derive(Debug)]
struct Watch {
    order: Order,
    /// The offset behind the range.
    end: i64,
    /// Bytes that pass before the next header begins.
    ahead: usize,
    /// What has passed of a header.
    header: [u8; HEADER_LEN],
    seen: usize,
}

impl FileRange {
    /// A reader of its bytes.
    pub fn reader(&self) -> RangeReader {
        RangeReader {
            watch: self.unseen_to.map(|end| Watch {
                order: Order { next: 0 },
                end,
                ahead: 0,
                header: [0; HEADER_LEN],
                seen: 0,
            }),
            range: self.clone(),
            done: 0,
        }
    }
}

impl RangeReader {
    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.range.length - self.done
    }

    /// Fills `buffer`, which is at most [`RangeReader::left`] long, with the next bytes. Blocking; usually from the page
    /// cache.
    ///
    /// # Errors
    /// As [`FileRange::read_exact`], and `InvalidData` if these are not the batches that were published: nothing of
    /// `buffer` may be handed out then. Later plans end before them and say that they are damaged.
    pub fn fill(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.range.read_exact(buffer, self.done)?;
        let is_last = buffer.len() >= self.left();
        let wrong = self.watch.as_mut().and_then(|watch| {
            let wrong = watch.pass(buffer);
            wrong.or((is_last && !watch.may_end()).then_some(buffer.len()))
        });
        if let Some(at) = wrong {
            return Err(self.range.wrong_batch(self.done + at));
        }
        self.done += buffer.len();
        Ok(())
    }
}

impl Watch {
    /// Lets bytes pass; says where among them it saw that something is wrong.
    fn pass(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            if self.ahead > 0 {
                let skipped = self.ahead.min(bytes.len() - at);
                self.ahead -= skipped;
                at += skipped;
                continue;
            }
            let part = (HEADER_LEN - self.seen).min(bytes.len() - at);
            self.header[self.seen..self.seen + part].copy_from_slice(&bytes[at..at + part]);
            self.seen += part;
            if self.seen == HEADER_LEN {
                let header = BatchHeader::parse(&self.header).ok();
                let Some(header) = header.filter(|header| self.order.takes(header)) else {
                    return Some(at);
                };
                self.seen = 0;
                self.ahead = header.total_len() - HEADER_LEN;
            }
            at += part;
        }
        None
    }

    /// Whether a batch has just ended, with no offset beyond the range.
    fn may_end(&self) -> bool {
        self.ahead == 0 && self.seen == 0 && self.order.next <= self.end
    }
}
