//! Idempotent producers of one stream: the last five batches of each, so that a repeated batch gets its old offsets and
//! a gap is refused (reference §1.3, Kafka's `ProducerStateEntry`).
//!
//! Rebuilt from the checkpoint and the headers behind it. A producer without state may start with any sequence.

use std::collections::HashMap;

use flafka_kafka_wire::records::BatchHeader;

use crate::codec::{Malformed, Reader, Writer};
use crate::error::CommitError;
use crate::op::Offset;

/// Batches remembered for each producer; the most a client may have in flight.
const REMEMBERED: usize = 5;

/// One remembered batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    first_sequence: i32,
    last_sequence: i32,
    base_offset: i64,
    last_offset: i64,
}

/// One producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Producer {
    epoch: i16,
    /// Oldest first, at most [`REMEMBERED`].
    marks: Vec<Mark>,
    /// Time of the last append ([`crate::engine::Engine::steady_ms`]), for expiry.
    last_ms: i64,
}

/// What to do with a batch.
#[derive(Debug)]
pub(crate) enum Verdict {
    Accept,
    Duplicate { base: Offset, last: Offset },
    Refuse(CommitError),
}

/// Judges a batch against its producer's state, `None` for an unknown one.
pub(crate) fn judge(producer: Option<&Producer>, header: &BatchHeader) -> Verdict {
    let Some(producer) = producer else {
        return Verdict::Accept;
    };
    let (first, last) = (header.base_sequence, header.last_sequence());
    if header.producer_epoch < producer.epoch {
        return Verdict::Refuse(CommitError::InvalidProducerEpoch {
            producer_id: header.producer_id,
            current: producer.epoch,
            found: header.producer_epoch,
        });
    }
    let expected = if header.producer_epoch > producer.epoch {
        0
    } else {
        let same = |mark: &&Mark| mark.first_sequence == first && mark.last_sequence == last;
        if let Some(mark) = producer.marks.iter().find(same) {
            return Verdict::Duplicate {
                base: Offset(mark.base_offset),
                last: Offset(mark.last_offset),
            };
        }
        match producer.marks.last() {
            Some(mark) => next_sequence(mark.last_sequence),
            None => return Verdict::Accept,
        }
    };
    if first != expected {
        return Verdict::Refuse(CommitError::OutOfOrderSequence {
            producer_id: header.producer_id,
            expected,
            found: first,
        });
    }
    Verdict::Accept
}

fn next_sequence(last: i32) -> i32 {
    if last == i32::MAX { 0 } else { last + 1 }
}

impl Producer {
    /// The state after a batch was appended at `base_offset`.
    pub(crate) fn after(
        before: Option<&Producer>,
        header: &BatchHeader,
        base_offset: i64,
        now_ms: i64,
    ) -> Producer {
        let mut producer = match before {
            Some(before) if before.epoch == header.producer_epoch => before.clone(),
            _ => Producer {
                epoch: header.producer_epoch,
                marks: Vec::with_capacity(REMEMBERED),
                last_ms: now_ms,
            },
        };
        if producer.marks.len() == REMEMBERED {
            producer.marks.remove(0);
        }
        producer.marks.push(Mark {
            first_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base_offset,
            last_offset: base_offset + i64::from(header.last_offset_delta),
        });
        producer.last_ms = now_ms;
        producer
    }
}

/// All producers of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Producers(HashMap<i64, Producer>);

impl Producers {
    pub(crate) fn get(&self, producer_id: i64) -> Option<&Producer> {
        self.0.get(&producer_id)
    }

    /// The last offset of each.
    pub(crate) fn last_offsets(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        let all = self.0.iter();
        all.filter_map(|(id, producer)| Some((*id, producer.marks.last()?.last_offset)))
    }

    /// Sets one; beyond `most` the tenth that is longest silent is forgotten.
    pub(crate) fn set(&mut self, producer_id: i64, producer: Producer, most: usize) {
        self.0.insert(producer_id, producer);
        if self.0.len() > most {
            let mut ages: Vec<i64> = self.0.values().map(|producer| producer.last_ms).collect();
            ages.sort_unstable();
            let keep_from = ages[(ages.len() / 10).max(1)];
            let too_many = self.0.len() - most;
            let mut gone = 0;
            self.0.retain(|id, producer| {
                let old = producer.last_ms < keep_from || gone < too_many;
                let keep = *id == producer_id || !old;
                gone += usize::from(!keep);
                keep
            });
        }
    }

    /// Notes a batch found in a segment at start.
    pub(crate) fn replay(&mut self, header: &BatchHeader, now_ms: i64, most: usize) {
        if tracks(header) {
            let next = Producer::after(
                self.get(header.producer_id),
                header,
                header.base_offset,
                now_ms,
            );
            self.set(header.producer_id, next, most);
        }
    }

    /// Forgets producers silent since before `oldest_ms`.
    pub(crate) fn expire(&mut self, oldest_ms: i64) {
        self.0.retain(|_, producer| producer.last_ms >= oldest_ms);
    }

    pub(crate) fn encode(&self, out: &mut Writer) {
        out.u32(self.0.len() as u32);
        // In one order, so that a checkpoint of the same state has the same bytes.
        let mut ordered: Vec<_> = self.0.iter().collect();
        ordered.sort_unstable_by_key(|(id, _)| **id);
        for (id, producer) in ordered {
            out.i64(*id);
            out.i16(producer.epoch);
            out.i64(producer.last_ms);
            out.u8(producer.marks.len() as u8);
            for mark in &producer.marks {
                out.i32(mark.first_sequence);
                out.i32(mark.last_sequence);
                out.i64(mark.base_offset);
                out.i64(mark.last_offset);
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = reader.count(19)?;
        let mut producers = HashMap::with_capacity(count);
        for _ in 0..count {
            let id = reader.i64()?;
            let (epoch, last_ms) = (reader.i16()?, reader.i64()?);
            let marks = (0..reader.u8()?)
                .map(|_| {
                    Ok(Mark {
                        first_sequence: reader.i32()?,
                        last_sequence: reader.i32()?,
                        base_offset: reader.i64()?,
                        last_offset: reader.i64()?,
                    })
                })
                .collect::<Result<Vec<_>, Malformed>>()?;
            if marks.len() > REMEMBERED {
                return Err(Malformed);
            }
            producers.insert(
                id,
                Producer {
                    epoch,
                    marks,
                    last_ms,
                },
            );
        }
        Ok(Producers(producers))
    }
}

/// Whether a batch takes part in sequence checks: control batches and plain producers do not.
pub(crate) fn tracks(header: &BatchHeader) -> bool {
    header.has_producer() && header.base_sequence >= 0 && !header.attributes.is_control()
}

#[cfg(test)]
mod tests {
    use flafka_kafka_wire::records::Attributes;

    use super::*;

    fn header(epoch: i16, first: i32, count: i32) -> BatchHeader {
        BatchHeader {
            base_offset: 0,
            batch_length: 49,
            partition_leader_epoch: 0,
            magic: 2,
            crc: 0,
            attributes: Attributes(0),
            last_offset_delta: count - 1,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id: 7,
            producer_epoch: epoch,
            base_sequence: first,
            record_count: count,
        }
    }

    fn after(batches: &[BatchHeader]) -> Producer {
        let mut producer = None;
        let mut offset = 100;
        for header in batches {
            producer = Some(Producer::after(producer.as_ref(), header, offset, 0));
            offset += i64::from(header.record_count);
        }
        producer.unwrap()
    }

    #[test]
    fn a_repeat_among_the_last_five_gets_its_old_offset() {
        let batches: Vec<_> = (0..7).map(|n| header(0, n * 10, 10)).collect();
        let producer = after(&batches);
        for (n, header) in batches.iter().enumerate() {
            match judge(Some(&producer), header) {
                Verdict::Duplicate { base, .. } if n >= 2 => {
                    assert_eq!(base.0, 100 + n as i64 * 10);
                }
                Verdict::Refuse(CommitError::OutOfOrderSequence { expected: 70, .. }) if n < 2 => {}
                other => panic!("batch {n}: {other:?}"),
            }
        }
    }

    #[test]
    fn sequences_wrap_and_gaps_are_refused() {
        let producer = after(&[header(0, i32::MAX - 1, 2)]);
        assert!(matches!(
            judge(Some(&producer), &header(0, 0, 1)),
            Verdict::Accept
        ));
        assert!(matches!(
            judge(Some(&producer), &header(0, 5, 1)),
            Verdict::Refuse(CommitError::OutOfOrderSequence { expected: 0, .. })
        ));
    }

    #[test]
    fn epochs_fence_and_new_ones_start_at_zero() {
        let producer = after(&[header(3, 0, 4)]);
        assert!(matches!(
            judge(Some(&producer), &header(2, 4, 1)),
            Verdict::Refuse(CommitError::InvalidProducerEpoch { current: 3, .. })
        ));
        assert!(matches!(
            judge(Some(&producer), &header(4, 4, 1)),
            Verdict::Refuse(CommitError::OutOfOrderSequence { expected: 0, .. })
        ));
        assert!(matches!(
            judge(Some(&producer), &header(4, 0, 1)),
            Verdict::Accept
        ));
        assert!(matches!(judge(None, &header(0, 99, 1)), Verdict::Accept));
    }

    #[test]
    fn the_longest_silent_go_first_and_all_survives_encoding() {
        let mut producers = Producers::default();
        for id in 0..100 {
            let state = Producer::after(None, &header(0, 0, 1), id, id);
            producers.set(id, state, 50);
        }
        assert!(producers.0.len() <= 50);
        assert!(producers.get(99).is_some() && producers.get(0).is_none());
        let mut out = Writer::default();
        producers.encode(&mut out);
        let bytes = out.into_vec();
        assert_eq!(
            Producers::decode(&mut Reader::new(&bytes)).unwrap(),
            producers
        );
        for cut in 0..bytes.len() {
            assert!(Producers::decode(&mut Reader::new(&bytes[..cut])).is_err());
        }
    }
}
