//! What the log must contain: the plain-collections truth that recovered logs are compared with.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::op::Table;

/// A batch: base offset, how many offsets it spans, checksum (unique in a history).
pub(crate) type ModelBatch = (i64, i32, u32);

/// The last batch of an idempotent producer, for the check of duplicates.
#[derive(Debug, Clone)]
pub(crate) struct LastProduced {
    pub(crate) bytes: bytes::Bytes,
    pub(crate) base: i64,
    pub(crate) next_sequence: i32,
}

/// One stream.
#[derive(Debug, Clone, Default)]
pub(crate) struct ModelStream {
    pub(crate) id: u32,
    pub(crate) weak: bool,
    pub(crate) log_start: i64,
    pub(crate) end: i64,
    /// Acked offsets from `low` on.
    pub(crate) low: i64,
    pub(crate) acks: BTreeSet<i64>,
    /// Those that reach beyond the log start.
    pub(crate) batches: Vec<ModelBatch>,
    pub(crate) produced: Option<LastProduced>,
    /// Which producer writes to it.
    pub(crate) producer_id: i64,
    /// Weak data below this was covered by a checkpoint.
    pub(crate) floor: i64,
    /// Weak data is damaged in between.
    pub(crate) holes: bool,
    /// Batches that compaction replaced or wrote, or that were trimmed.
    pub(crate) former: Vec<ModelBatch>,
}

/// Everything.
#[derive(Clone, Default)]
pub(crate) struct Model {
    pub(crate) tables: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
    pub(crate) streams: BTreeMap<String, ModelStream>,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f)?;
        for ((_, key), value) in &self.tables {
            writeln!(f, "  {key:?}: {} x {:?}", value.len(), value.first())?;
        }
        for (name, s) in &self.streams {
            let ModelStream {
                log_start,
                end,
                low,
                floor,
                ..
            } = s;
            let acks = &s.acks;
            writeln!(
                f,
                "  {name}: {log_start}..{end}, low {low} {acks:?}, floor {floor}, {:?}",
                s.batches
            )?;
        }
        Ok(())
    }
}

impl ModelStream {
    pub(crate) fn append(&mut self, count: i32, crc: u32) -> i64 {
        let base = self.end;
        self.batches.push((base, count, crc));
        self.end += i64::from(count);
        base
    }

    pub(crate) fn ack(&mut self, first: i64, last: i64) {
        self.acks
            .extend((first..=last).filter(|offset| *offset >= self.low));
        while self.acks.remove(&self.low) {
            self.low += 1;
        }
        self.trim(self.low);
    }

    pub(crate) fn trim(&mut self, log_start: i64) {
        self.log_start = self.log_start.max(log_start);
        while self.low < self.log_start || self.acks.contains(&self.low) {
            self.acks.remove(&self.low);
            self.low += 1;
        }
        self.log_start = self.log_start.max(self.low);
        let start = self.log_start;
        let below = |(base, count, _): &ModelBatch| base + i64::from(*count) <= start;
        self.former
            .extend(self.batches.iter().copied().filter(below));
        self.batches.retain(|batch| !below(batch));
    }

    /// First offset that is of use: a trim may meet acked offsets, and the next start then begins behind these.
    fn start(&self) -> i64 {
        self.log_start.max(self.low)
    }

    fn reaching_beyond_start(&self) -> Vec<&ModelBatch> {
        let batches = self.batches.iter();
        batches
            .filter(|(base, count, _)| base + i64::from(*count) > self.start())
            .collect()
    }

    /// Whether a recovered stream may be this one.
    fn matches(&self, found: &ModelStream) -> bool {
        if self.id != found.id {
            return false;
        }
        if !self.weak {
            return self.start() == found.start()
                && self.end == found.end
                && self.low == found.low
                && self.acks == found.acks
                && self.reaching_beyond_start() == found.reaching_beyond_start();
        }
        if found.holes {
            // A failed sync has cost some of it.
            return found
                .batches
                .iter()
                .all(|batch| self.batches.contains(batch))
                && found.end <= self.end
                && found.log_start == self.log_start.min(found.end);
        }
        // Weak data may be missing at the end, never in between, and not below the last checkpoint.
        let prefix = found.batches.len() <= self.batches.len()
            && self.batches[..found.batches.len()] == found.batches[..];
        prefix
            && found.end <= self.end
            && found.end >= self.floor
            && found.log_start == self.log_start.min(found.end)
    }
}

impl Model {
    /// Batches of all streams.
    pub(crate) fn batches(&self) -> usize {
        self.streams
            .values()
            .map(|stream| stream.batches.len())
            .sum()
    }

    /// Whether a recovered log may be this one; with `exact`, weak streams too must be whole.
    pub(crate) fn matches(&self, found: &Model, exact: bool) -> bool {
        self.tables == found.tables
            && self.streams.len() == found.streams.len()
            && self.streams.iter().all(|(name, stream)| {
                found.streams.get(name).is_some_and(|found| {
                    stream.matches(found) && (!exact || stream.end == found.end)
                })
            })
    }

    /// Everything found in a damaged log must have been written, at its own offset.
    pub(crate) fn contains(&self, found: &Model, context: &str) {
        for (name, stream) in &found.streams {
            let Some(mine) = self.streams.get(name) else {
                continue;
            };
            for batch in &stream.batches {
                // The base offset lies outside the batch's checksum, in Kafka's format as in ours.
                let mut written = mine.batches.iter().chain(&mine.former);
                let known = written.any(|(_, count, crc)| (*count, *crc) == (batch.1, batch.2))
                    || batch.0 < mine.log_start;
                assert!(known, "{context}: {name} has the made-up batch {batch:?}");
            }
        }
    }
}
