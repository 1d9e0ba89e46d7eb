//! What stands for records that were lost at the end of a topic's partition.
//!
//! A consumer goes on behind the last batch that it gets: where none reaches the high watermark, it waits for the rest for
//! ever and its lag stays. So a batch without records, as compaction leaves them too, covers the offsets that are lost.

use std::path::{Path, PathBuf};

use flafka_kafka_wire::records::{self, Attributes, BatchHeader};

use crate::checkpoint::SegmentSnapshot;
use crate::error::IoFault;
use crate::fs::{Fs, write_durably};
use crate::replay::ReplayStream;
use crate::segment;

/// A segment of one batch without records.
pub(super) struct Filler {
    dir: PathBuf,
    pub(super) segment: SegmentSnapshot,
    bytes: Vec<u8>,
}

impl Filler {
    /// For the offsets behind `kept` in the stream's directory, if any are lost there and a consumer may wait for them.
    pub(super) fn of(
        stream: &ReplayStream,
        kept: &[SegmentSnapshot],
        dir: &Path,
    ) -> Option<Filler> {
        let base = kept.last().map_or(stream.log_start.0, |last| last.end);
        let base = base.max(stream.log_start.0);
        if stream.settings.acked || base >= stream.end {
            return None;
        }
        let newest = kept.iter().map(|segment| segment.max_timestamp).max();
        let header = BatchHeader {
            base_offset: base,
            batch_length: 0,
            partition_leader_epoch: stream.epochs.last().map_or(0, |(epoch, _)| *epoch),
            magic: 2,
            crc: 0,
            attributes: Attributes::default(),
            last_offset_delta: i32::try_from(stream.end - 1 - base).ok()?,
            base_timestamp: -1,
            max_timestamp: newest.unwrap_or(-1).max(-1),
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 0,
        };
        let mut bytes = Vec::new();
        records::append_empty(&header, &mut bytes);
        Some(Filler {
            dir: dir.to_path_buf(),
            segment: SegmentSnapshot {
                base,
                generation: 0,
                clean_to: base,
                end: stream.end,
                length: bytes.len() as u64,
                max_timestamp: header.max_timestamp,
            },
            bytes,
        })
    }

    pub(super) fn path(&self) -> PathBuf {
        self.dir.join(segment::file_name(self.segment.base, 0))
    }

    /// Writes it, durable.
    pub(super) fn write(&self, fs: &dyn Fs) -> Result<(), IoFault> {
        let name = segment::file_name(self.segment.base, 0);
        fs.create_dir_all(&self.dir)
            .and_then(|()| write_durably(fs, &self.dir, &name, &self.bytes))
            .map_err(IoFault::of("write segment", &self.path()))
    }
}
