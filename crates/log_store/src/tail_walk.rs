//! A walk over the batches at the end of a segment, for a start and for a copy of a segment.

use flafka_kafka_wire::records::{self, BatchHeader, HEADER_LEN};

use crate::window::Window;

/// Walks whole batches, each checked, with offsets that carry on from one to the next.
pub(crate) struct TailWalk<'a> {
    pub(crate) window: Window<'a>,
    pub(crate) position: u64,
    /// The offset that comes next.
    pub(crate) offset: i64,
    pub(crate) max_timestamp: i64,
}

impl TailWalk<'_> {
    /// The next batch, or what is wrong with it.
    pub(crate) fn next(&mut self) -> std::io::Result<Result<BatchHeader, String>> {
        let Some(bytes) = self.window.exact(self.position, HEADER_LEN)? else {
            return Ok(Err("the file ends inside a record batch".to_string()));
        };
        let header = match BatchHeader::parse(bytes) {
            Ok(header) => header,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let Some(batch) = self.window.exact(self.position, header.total_len())? else {
            return Ok(Err("the file ends inside a record batch".to_string()));
        };
        if let Err(error) = records::verify(batch) {
            return Ok(Err(error.to_string()));
        }
        if header.base_offset != self.offset {
            let (found, wanted) = (header.base_offset, self.offset);
            return Ok(Err(format!(
                "base offset {found} where {wanted} comes next"
            )));
        }
        self.position += header.total_len() as u64;
        self.offset = header.last_offset() + 1;
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        Ok(Ok(header))
    }
}
