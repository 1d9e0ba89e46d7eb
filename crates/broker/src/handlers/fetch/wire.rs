//! The Fetch response, versions 4 to 12, written around the records instead of through them.
//!
//! ```text
//! throttle_time_ms i32
//! error_code i16, session_id i32                                version 7+
//! topics: array
//!   name string
//!   partitions: array
//!     index i32, error_code i16, high_watermark i64, last_stable_offset i64
//!     log_start_offset i64                                      version 5+
//!     aborted_transactions: null array
//!     preferred_read_replica i32                                version 11+
//!     records: byte field
//!     tagged fields                                             version 12+
//!   tagged fields                                               version 12+
//! tagged fields                                                 version 12+
//! ```
//! Version 12 has compact lengths (unsigned varint of length + 1). A test decodes every version with the generated
//! structs.

use bytes::{BufMut, BytesMut};
use flafka_log_store::FileRange;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::TopicName;

use crate::dispatch::{Piece, Response};

pub(super) struct PartitionAnswer {
    pub(super) index: i32,
    pub(super) error_code: i16,
    pub(super) high_watermark: i64,
    pub(super) log_start: i64,
    pub(super) records: Vec<FileRange>,
    pub(super) is_recent: bool,
}

pub(super) struct TopicAnswer {
    pub(super) name: TopicName,
    pub(super) partitions: Vec<PartitionAnswer>,
}

impl PartitionAnswer {
    pub(super) fn failed(index: i32, code: ResponseError) -> PartitionAnswer {
        PartitionAnswer {
            index,
            error_code: code.code(),
            high_watermark: -1,
            log_start: -1,
            records: Vec::new(),
            is_recent: false,
        }
    }
}

struct Writer {
    version: i16,
    pieces: Vec<Piece>,
    buffer: BytesMut,
}

pub(super) fn encode(version: i16, error_code: i16, topics: Vec<TopicAnswer>) -> Response {
    let mut writer = Writer {
        version,
        pieces: Vec::new(),
        buffer: BytesMut::with_capacity(256),
    };
    writer.buffer.put_i32(0);
    if version >= 7 {
        writer.buffer.put_i16(error_code);
        writer.buffer.put_i32(0);
    }
    writer.count(topics.len());
    for topic in topics {
        writer.topic(topic);
    }
    writer.tags();
    if !writer.buffer.is_empty() {
        writer.pieces.push(Piece::Bytes(writer.buffer.freeze()));
    }
    Response {
        pieces: writer.pieces,
    }
}

impl Writer {
    fn flexible(&self) -> bool {
        self.version >= 12
    }

    fn topic(&mut self, topic: TopicAnswer) {
        let name = topic.name.as_bytes();
        if self.flexible() {
            self.varint(name.len() + 1);
        } else {
            // A name that came in a request has at most 32 767 bytes.
            self.buffer
                .put_i16(i16::try_from(name.len()).unwrap_or(i16::MAX));
        }
        self.buffer.put_slice(name);
        self.count(topic.partitions.len());
        for partition in topic.partitions {
            self.partition(partition);
        }
        self.tags();
    }

    fn partition(&mut self, answer: PartitionAnswer) {
        self.buffer.put_i32(answer.index);
        self.buffer.put_i16(answer.error_code);
        self.buffer.put_i64(answer.high_watermark);
        self.buffer.put_i64(answer.high_watermark);
        if self.version >= 5 {
            self.buffer.put_i64(answer.log_start);
        }
        if self.flexible() {
            self.varint(0);
        } else {
            self.buffer.put_i32(-1);
        }
        if self.version >= 11 {
            self.buffer.put_i32(-1);
        }
        let length = answer
            .records
            .iter()
            .map(|range| range.length)
            .sum::<usize>();
        if self.flexible() {
            self.varint(length + 1);
        } else {
            // `fetch.max.bytes` keeps it far below 2 GiB.
            self.buffer
                .put_i32(i32::try_from(length).unwrap_or(i32::MAX));
        }
        if length > 0 {
            self.pieces.push(Piece::Bytes(self.buffer.split().freeze()));
            let is_recent = answer.is_recent;
            let records = answer.records.into_iter();
            self.pieces
                .extend(records.map(|range| Piece::Records { range, is_recent }));
        }
        self.tags();
    }

    fn count(&mut self, count: usize) {
        if self.flexible() {
            self.varint(count + 1);
        } else {
            self.buffer
                .put_i32(i32::try_from(count).unwrap_or(i32::MAX));
        }
    }

    fn tags(&mut self) {
        if self.flexible() {
            self.varint(0);
        }
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.buffer.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;
    use flafka_log_store::{Fs, OpenMode, Position, RealFs};
    use kafka_protocol::messages::FetchResponse;
    use kafka_protocol::protocol::{Decodable, StrBytes};

    use super::*;
    use crate::response::{Patient, write_frame};

    #[tokio::test]
    async fn every_version_decodes_with_the_generated_structs() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("segment");
        std::fs::write(&path, [7; 500]).unwrap();
        let file = RealFs.open(&path, OpenMode::Read).unwrap();
        let range = |length| FileRange::new(Arc::clone(&file), Position(1), length);
        for version in 4..=12 {
            let topics = vec![TopicAnswer {
                name: TopicName(StrBytes::from_static_str("t")),
                partitions: vec![
                    PartitionAnswer {
                        index: 0,
                        error_code: 0,
                        high_watermark: 99,
                        log_start: 3,
                        records: vec![range(100), range(200)],
                        is_recent: true,
                    },
                    PartitionAnswer::failed(1, ResponseError::OffsetOutOfRange),
                ],
            }];
            let mut frame = Vec::new();
            let mut socket = Patient::new(&mut frame, Duration::from_secs(60));
            write_frame(&mut socket, 0, false, encode(version, 0, topics))
                .await
                .unwrap();
            let mut body = Bytes::from(frame).slice(8..);
            let response = FetchResponse::decode(&mut body, version).unwrap();
            assert!(body.is_empty(), "version {version}");
            let partitions = &response.responses[0].partitions;
            assert_eq!(response.responses[0].topic.as_str(), "t");
            assert_eq!(partitions[0].high_watermark, 99);
            assert_eq!(partitions[0].last_stable_offset, 99);
            assert_eq!(partitions[0].records.as_deref(), Some(&[7; 300][..]));
            assert_eq!(partitions[0].aborted_transactions, None);
            assert_eq!(partitions[1].error_code, 1);
            if version >= 5 {
                assert_eq!(partitions[0].log_start_offset, 3);
            }
        }
    }
}
