//! Which offsets may be committed when several leases end in any order.
//!
//! For each partition the offsets that were read and not delivered are kept as disjoint ranges; the committed offset
//! never passes the first of them, so nothing undelivered is skipped. After a rebalance the same offsets can be out
//! twice, in runs that begin or end elsewhere (a lease from before, and a read from the committed offset on), so ranges
//! are joined when read and cut out when delivered, whatever their bounds.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use flafka_kafka_client::PartitionSpan;

/// A topic partition.
type Partition = (Arc<str>, i32);

/// The outstanding offsets of all partitions.
#[derive(Debug, Default)]
pub(super) struct Progress {
    partitions: HashMap<Partition, Outstanding>,
}

/// The offsets of one partition.
#[derive(Debug, Default)]
struct Outstanding {
    /// Read and not delivered: first offset to the one behind the last, disjoint.
    ranges: BTreeMap<i64, i64>,
    /// Behind the last offset that was read.
    read_to: i64,
    /// Where the last commit was.
    committed: i64,
}

impl Outstanding {
    fn insert(&mut self, mut first: i64, mut end: i64) {
        self.read_to = self.read_to.max(end);
        self.committed = self.committed.min(first);
        while let Some((start, stop)) = self.before(end).filter(|(_, stop)| *stop >= first) {
            self.ranges.remove(&start);
            first = first.min(start);
            end = end.max(stop);
        }
        self.ranges.insert(first, end);
    }

    fn remove(&mut self, first: i64, end: i64) {
        while let Some((start, stop)) = self.before(end - 1).filter(|(_, stop)| *stop > first) {
            self.ranges.remove(&start);
            if end < stop {
                self.ranges.insert(end, stop);
            }
            if start < first {
                self.ranges.insert(start, first);
            }
        }
    }

    /// The last range that starts at `offset` or before.
    fn before(&self, offset: i64) -> Option<(i64, i64)> {
        let found = self.ranges.range(..=offset).next_back();
        found.map(|(start, stop)| (*start, *stop))
    }

    /// Up to where everything that was read is delivered.
    fn floor(&self) -> i64 {
        let first = self.ranges.keys().next();
        first.copied().unwrap_or(self.read_to)
    }
}

impl Progress {
    /// These spans were read.
    pub(super) fn read(&mut self, spans: &[PartitionSpan]) {
        for span in spans {
            let key = (Arc::clone(&span.topic), span.partition);
            let partition = self.partitions.entry(key).or_insert_with(|| Outstanding {
                read_to: span.first,
                committed: span.first,
                ..Outstanding::default()
            });
            partition.insert(span.first, span.last + 1);
        }
    }

    /// These spans are delivered.
    pub(super) fn delivered(&mut self, spans: &[PartitionSpan]) {
        for span in spans {
            let key = (Arc::clone(&span.topic), span.partition);
            if let Some(partition) = self.partitions.get_mut(&key) {
                partition.remove(span.first, span.last + 1);
            }
        }
    }

    /// What may be committed, each offset once: whoever asks commits it, before anybody asks again.
    pub(super) fn committable(&mut self) -> Vec<PartitionSpan> {
        let partitions = self.partitions.iter_mut();
        let committable = partitions.filter_map(|((topic, number), partition)| {
            let floor = partition.floor();
            (floor > partition.committed).then(|| PartitionSpan {
                topic: Arc::clone(topic),
                partition: *number,
                first: std::mem::replace(&mut partition.committed, floor),
                last: floor - 1,
            })
        });
        committable.collect()
    }

    /// Forgets the partitions that are no longer this member's.
    pub(super) fn keep_only(&mut self, assigned: &[(String, i32)]) {
        let kept = |partition: &Partition| {
            assigned
                .iter()
                .any(|(topic, number)| **topic == *partition.0 && *number == partition.1)
        };
        self.partitions.retain(|partition, _| kept(partition));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(partition: i32, first: i64, last: i64) -> PartitionSpan {
        PartitionSpan {
            topic: "t".into(),
            partition,
            first,
            last,
        }
    }

    fn deliver(progress: &mut Progress, span: &PartitionSpan) -> Vec<PartitionSpan> {
        progress.delivered(std::slice::from_ref(span));
        progress.committable()
    }

    #[test]
    fn the_commit_waits_for_the_oldest_lease() {
        let mut progress = Progress::default();
        let (a, b, c) = (span(0, 0, 9), span(0, 10, 19), span(1, 0, 4));
        for leased in [&a, &b, &c] {
            progress.read(std::slice::from_ref(leased));
        }
        assert!(deliver(&mut progress, &b).is_empty(), "a is still out");
        assert_eq!(deliver(&mut progress, &c), [span(1, 0, 4)]);
        assert_eq!(
            deliver(&mut progress, &a),
            [span(0, 0, 19)],
            "a and b at once"
        );
        progress.read(&[span(0, 20, 20), span(1, 5, 5)]);
        progress.keep_only(&[("t".to_owned(), 1)]);
        assert_eq!(deliver(&mut progress, &span(1, 5, 5)), [span(1, 5, 5)]);
        assert!(
            deliver(&mut progress, &span(0, 20, 20)).is_empty(),
            "no longer ours"
        );
    }

    /// An eager rebalance gives the same partition back: the lease from before is still out, and a longer run from the
    /// committed offset on is read again.
    #[test]
    fn a_lease_from_before_a_rebalance_frees_its_own_offsets_only() {
        let mut progress = Progress::default();
        progress.read(&[span(0, 0, 9)]);
        progress.read(&[span(0, 0, 19)]);
        assert_eq!(
            deliver(&mut progress, &span(0, 0, 9)),
            [span(0, 0, 9)],
            "10 to 19 are not delivered"
        );
        assert_eq!(deliver(&mut progress, &span(0, 0, 19)), [span(0, 10, 19)]);
    }

    #[test]
    fn random_reads_and_deliveries_never_commit_what_is_out() {
        use std::collections::BTreeSet;

        use rand::rngs::SmallRng;
        use rand::{Rng, SeedableRng};

        for seed in 0..200 {
            let mut random = SmallRng::seed_from_u64(seed);
            let mut progress = Progress::default();
            let mut out: BTreeSet<i64> = BTreeSet::new();
            for _ in 0..60 {
                let first = random.random_range(0..80);
                let last = first + random.random_range(0..15);
                if random.random_bool(0.5) {
                    progress.read(&[span(0, first, last)]);
                    out.extend(first..=last);
                } else {
                    let may = deliver(&mut progress, &span(0, first, last));
                    out.retain(|offset| !(first..=last).contains(offset));
                    for committed in may {
                        let open = out.range(..=committed.last).next();
                        assert_eq!(open, None, "seed {seed}: {committed:?}");
                    }
                }
            }
        }
    }
}
