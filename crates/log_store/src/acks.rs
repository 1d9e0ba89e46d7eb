//! Which offsets of an `acked` stream (file channel) were taken for good: a low watermark and ranges above it.
//!
//! Several sinks commit their leases in any order, so acks arrive out of order. Invariant: ranges are sorted, disjoint,
//! not adjacent, and all above `low`.

use crate::op::Offset;

/// Most separate ranges that are remembered for one stream.
pub(crate) const MAX_ACK_RANGES: usize = 65_536;

/// The acks of one stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AckState {
    /// The first offset that is not acked; everything below is.
    pub low: Offset,
    /// Acked ranges above `low`, first and last offset inclusive, ascending.
    pub acked_ranges: Vec<(Offset, Offset)>,
}

impl AckState {
    /// Adds `first..=last`. Overlaps and repeats are fine.
    pub(crate) fn insert(&mut self, first: Offset, last: Offset) {
        let first = first.max(self.low);
        if last < first {
            return;
        }
        let ranges = &mut self.acked_ranges;
        // All ranges that touch or overlap the new one melt into it.
        let from = ranges.partition_point(|range| range.1.0.saturating_add(1) < first.0);
        let to = ranges.partition_point(|range| range.0.0 <= last.0.saturating_add(1));
        let mut merged = (first, last);
        for range in &ranges[from..to.max(from)] {
            merged.0 = merged.0.min(range.0);
            merged.1 = merged.1.max(range.1);
        }
        ranges.splice(from..to.max(from), [merged]);
        self.settle();
    }

    /// Everything below `low` counts as acked (log start moved by DeleteRecords or retention).
    pub(crate) fn raise_low(&mut self, low: Offset) {
        if low > self.low {
            self.low = low;
            self.settle();
        }
    }

    /// Forgets acks at or above `end`: weak data that a power cut took.
    pub(crate) fn cut(&mut self, end: Offset) {
        self.low = self.low.min(end);
        self.acked_ranges.retain(|range| range.0 < end);
        if let Some(last) = self.acked_ranges.last_mut() {
            last.1 = last.1.min(Offset(end.0 - 1));
        }
    }

    fn settle(&mut self) {
        let mut gone = 0;
        for range in &mut self.acked_ranges {
            if range.0 > self.low {
                break;
            }
            self.low = self.low.max(Offset(range.1.0 + 1));
            gone += 1;
        }
        self.acked_ranges.drain(..gone);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn out_of_order_acks_move_the_low_watermark_when_the_gap_closes() {
        let mut acks = AckState::default();
        acks.insert(Offset(5), Offset(9));
        assert_eq!(acks.low, Offset(0));
        acks.insert(Offset(0), Offset(3));
        assert_eq!(acks.low, Offset(4));
        acks.insert(Offset(4), Offset(4));
        assert_eq!(acks.low, Offset(10));
        assert!(acks.acked_ranges.is_empty());
    }

    #[test]
    fn random_acks_agree_with_a_set() {
        for seed in 0..50 {
            let mut random = SmallRng::seed_from_u64(seed);
            let mut acks = AckState::default();
            let mut model = BTreeSet::new();
            for _ in 0..100 {
                let first = random.random_range(0..200i64);
                let last = first + random.random_range(0..12i64);
                acks.insert(Offset(first), Offset(last));
                model.extend(first..=last);
                let low = (0..).find(|offset| !model.contains(offset)).unwrap();
                assert_eq!(acks.low, Offset(low), "seed {seed}");
                let above: BTreeSet<i64> = acks
                    .acked_ranges
                    .iter()
                    .flat_map(|range| range.0.0..=range.1.0)
                    .collect();
                let wanted: BTreeSet<i64> = model.iter().copied().filter(|o| *o > low).collect();
                assert_eq!(above, wanted, "seed {seed}");
                let apart = |pair: &[(Offset, Offset)]| pair[0].1.0 + 1 < pair[1].0.0;
                assert!(acks.acked_ranges.windows(2).all(apart), "seed {seed}");
            }
        }
    }
}
