//! Which offsets may be committed when several leases end in any order.
//!
//! For each partition everything that was read and not committed is kept in offset order, leased
//! or not; the committed offset moves over the delivered spans at the front only, so nothing
//! undelivered is ever skipped.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use flafka_kafka_client::PartitionSpan;

/// A topic partition.
type Partition = (Arc<str>, i32);

/// The outstanding spans of all partitions.
#[derive(Debug, Default)]
pub(super) struct Progress {
    outstanding: HashMap<Partition, BTreeMap<i64, Outstanding>>,
}

#[derive(Debug)]
struct Outstanding {
    last: i64,
    delivered: bool,
}

impl Progress {
    /// These spans were read, or are the halves of one that was.
    pub(super) fn read(&mut self, spans: &[PartitionSpan]) {
        for span in spans {
            let outstanding = Outstanding {
                last: span.last,
                delivered: false,
            };
            self.partition(span).insert(span.first, outstanding);
        }
    }

    /// These spans are delivered; returns what may be committed now.
    pub(super) fn delivered(&mut self, spans: &[PartitionSpan]) -> Vec<PartitionSpan> {
        let mut committable = Vec::new();
        for span in spans {
            let partition = self.partition(span);
            if let Some(own) = partition.get_mut(&span.first) {
                own.delivered = true;
            }
            let mut reached = None;
            while let Some(front) = partition
                .first_entry()
                .filter(|front| front.get().delivered)
            {
                reached = Some((*front.key(), front.get().last));
                front.remove();
            }
            if let Some((first, last)) = reached {
                committable.push(PartitionSpan {
                    first,
                    last,
                    ..span.clone()
                });
            }
        }
        committable
    }

    /// Forgets the partitions that are no longer this member's.
    pub(super) fn keep_only(&mut self, assigned: &[(String, i32)]) {
        let kept = |partition: &Partition| {
            assigned
                .iter()
                .any(|(topic, number)| **topic == *partition.0 && *number == partition.1)
        };
        self.outstanding.retain(|partition, _| kept(partition));
    }

    fn partition(&mut self, span: &PartitionSpan) -> &mut BTreeMap<i64, Outstanding> {
        let key = (Arc::clone(&span.topic), span.partition);
        self.outstanding.entry(key).or_default()
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

    #[test]
    fn the_commit_waits_for_the_oldest_lease() {
        let mut progress = Progress::default();
        let (a, b, c) = (span(0, 0, 9), span(0, 10, 19), span(1, 0, 4));
        for leased in [&a, &b, &c] {
            progress.read(std::slice::from_ref(leased));
        }
        assert!(
            progress.delivered(std::slice::from_ref(&b)).is_empty(),
            "a is still out"
        );
        assert_eq!(
            progress.delivered(std::slice::from_ref(&c)),
            [span(1, 0, 4)]
        );
        assert_eq!(
            progress.delivered(std::slice::from_ref(&a)),
            [span(0, 10, 19)],
            "a and b at once"
        );
        progress.read(&[span(0, 20, 20), span(1, 5, 5)]);
        progress.keep_only(&[("t".to_owned(), 1)]);
        assert_eq!(progress.delivered(&[span(1, 5, 5)]), [span(1, 5, 5)]);
        assert!(
            progress.delivered(&[span(0, 20, 20)]).is_empty(),
            "no longer ours"
        );
    }
}
