//! Checks the batches of one segment one after the other: checksums, offsets, and the index against them.

use flafka_kafka_wire::records::{self, BatchHeader};

use crate::index::{Index, IndexEntry};
use crate::inspect::Severity;
use crate::inspect::segment::SegmentStep;

/// How bad, where, what.
pub(super) type Problem = (Severity, u64, String);

/// What is known after some batches.
pub(super) struct BatchCheck {
    base: i64,
    /// Offsets may be missing between batches.
    pub(super) may_have_gaps: bool,
    /// Batches may have fewer records than offsets.
    pub(super) may_have_fewer_records: bool,
    index: Option<std::vec::IntoIter<IndexEntry>>,
    /// The index entry that comes next.
    entry: Option<IndexEntry>,
    /// The offset that comes next.
    pub(super) next: i64,
    /// Highest timestamp so far.
    time: i64,
    /// Bad bytes lie in front: what is missing because of them was told.
    behind_bad: bool,
    /// Where the last good batch ends.
    pub(super) end: u64,
    pub(super) batches: u64,
    pub(super) records: u64,
    pub(super) problems: Vec<Problem>,
}

impl BatchCheck {
    /// For the segment that starts at offset `base`.
    pub(super) fn new(base: i64, index: Option<Index>) -> BatchCheck {
        let mut index = index.map(|index| index.into_entries().into_iter());
        BatchCheck {
            base,
            may_have_gaps: false,
            may_have_fewer_records: false,
            entry: index.as_mut().and_then(Iterator::next),
            index,
            next: base,
            behind_bad: false,
            time: i64::MIN,
            end: 0,
            batches: 0,
            records: 0,
            problems: Vec::new(),
        }
    }

    pub(super) fn step(&mut self, step: SegmentStep<'_>) {
        match step {
            SegmentStep::Batch {
                position,
                header,
                bytes,
            } => self.batch(position.0, &header, bytes),
            SegmentStep::Bad {
                position,
                bytes,
                what,
            } => {
                self.error(position.0, format!("{bytes} bytes: {what}"));
                self.behind_bad = true;
            }
            SegmentStep::Unwritten { position, bytes } => {
                self.error(position.0, format!("{bytes} bytes were never written"));
            }
        }
    }

    fn error(&mut self, position: u64, what: String) {
        self.problems.push((Severity::Error, position, what));
    }

    fn batch(&mut self, position: u64, header: &BatchHeader, bytes: &[u8]) {
        let base = header.base_offset;
        let behind_bad = std::mem::take(&mut self.behind_bad);
        if base < self.next || base > self.next && !self.may_have_gaps && !behind_bad {
            self.error(
                position,
                format!("base offset {base} where {} comes next", self.next),
            );
        }
        // One without records stands for a gap.
        let is_gap = self.may_have_gaps && header.record_count == 0;
        if !self.may_have_fewer_records
            && !is_gap
            && let Err(error) = records::validate(bytes)
        {
            self.error(position, error.to_string());
        }
        if behind_bad {
            // The index says what was there once; the next start makes another one.
            (self.entry, self.index) = (None, None);
        }
        self.against_index(position, base);
        self.batches += 1;
        self.records += u64::try_from(header.record_count).unwrap_or(0);
        self.next = header.last_offset() + 1;
        self.time = self.time.max(header.max_timestamp);
        self.end = position + header.total_len() as u64;
    }

    /// An entry that was passed, or that says something else of this batch, is wrong; one is enough to know that.
    fn against_index(&mut self, position: u64, base: i64) {
        let Some(entry) = self.entry else { return };
        if u64::from(entry.position) > position {
            return;
        }
        let right = u64::from(entry.position) == position
            && i64::from(entry.relative_offset) == base - self.base
            && entry.time_before == self.time;
        if right {
            self.entry = self.index.as_mut().and_then(Iterator::next);
            return;
        }
        self.error(
            position,
            format!(
                "the index says that offset {} starts at byte {}",
                self.base + i64::from(entry.relative_offset),
                entry.position
            ),
        );
        (self.entry, self.index) = (None, None);
    }
}
