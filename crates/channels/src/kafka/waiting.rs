//! Events that the channel holds and nobody has taken: read ahead, or rolled back.
//!
//! Invariant: the spans name the events of the batch in their order, one offset an event.

use flafka_flow::Batch;
use flafka_kafka_client::PartitionSpan;

/// A run of events with the offsets they have.
pub(super) struct Waiting {
    pub(super) batch: Batch,
    pub(super) spans: Vec<PartitionSpan>,
    /// The assignment's generation in which they were read.
    pub(super) generation: u64,
}

impl Waiting {
    /// Cuts off what is beyond the first `limit` events.
    pub(super) fn split_off(&mut self, limit: usize) -> Option<Waiting> {
        if self.batch.len() <= limit {
            return None;
        }
        let (head, tail) = split_spans(&self.spans, limit);
        let rest = Waiting {
            batch: self.batch.slice(limit..self.batch.len()),
            spans: tail,
            generation: self.generation,
        };
        self.batch = self.batch.slice(0..limit);
        self.spans = head;
        Some(rest)
    }

    /// Leaves the events of these partitions; says whether there are any. Those of another partition are another
    /// member's now, but the others need not be read again: they are here or nowhere.
    pub(super) fn keep_only(&mut self, assigned: &[(String, i32)]) -> bool {
        let ours = |span: &PartitionSpan| {
            assigned
                .iter()
                .any(|(topic, number)| **topic == *span.topic && *number == span.partition)
        };
        if self.spans.iter().all(ours) {
            return true;
        }
        let mut first = 0;
        let mut kept = Vec::new();
        for span in &self.spans {
            let behind = first + events_in(span);
            if ours(span) {
                kept.extend(first..behind);
            }
            first = behind;
        }
        self.batch = self.batch.pick(kept);
        self.spans.retain(ours);
        !self.spans.is_empty()
    }

    /// Whether rolled back events are older than waiting ones of the same partition; events of other partitions have
    /// no order among each other, the rolled back ones go first.
    pub(super) fn starts_before(&self, other: &Waiting) -> bool {
        let (Some(own), Some(first)) = (self.spans.first(), other.spans.first()) else {
            return true;
        };
        own.partition != first.partition || own.first < first.first
    }
}

/// Events in a span: its offsets are consecutive.
pub(super) fn events_in(span: &PartitionSpan) -> usize {
    usize::try_from(span.last - span.first + 1).unwrap_or(0)
}

/// Splits spans after `count` events.
fn split_spans(
    spans: &[PartitionSpan],
    mut count: usize,
) -> (Vec<PartitionSpan>, Vec<PartitionSpan>) {
    let (mut head, mut tail) = (Vec::new(), Vec::new());
    for span in spans {
        let taken = count.min(events_in(span)) as i64;
        count -= taken as usize;
        let middle = span.first + taken;
        if taken > 0 {
            head.push(PartitionSpan {
                last: middle - 1,
                ..span.clone()
            });
        }
        if middle <= span.last {
            tail.push(PartitionSpan {
                first: middle,
                ..span.clone()
            });
        }
    }
    (head, tail)
}

#[cfg(test)]
mod tests {
    use flafka_flow::conformance::{numbers, to_numbers};

    use super::*;

    fn span(partition: i32, first: i64, last: i64) -> PartitionSpan {
        PartitionSpan {
            topic: "t".into(),
            partition,
            first,
            last,
        }
    }

    fn waiting() -> Waiting {
        Waiting {
            batch: numbers(0..10),
            spans: vec![span(0, 5, 7), span(1, 20, 23), span(0, 8, 10)],
            generation: 1,
        }
    }

    #[test]
    fn a_split_keeps_events_and_offsets_together() {
        let mut head = waiting();
        let tail = head.split_off(4).expect("six are over");
        assert_eq!(to_numbers(&head.batch), [0, 1, 2, 3]);
        assert_eq!(head.spans, [span(0, 5, 7), span(1, 20, 20)]);
        assert_eq!(to_numbers(&tail.batch), [4, 5, 6, 7, 8, 9]);
        assert_eq!(tail.spans, [span(1, 21, 23), span(0, 8, 10)]);
        assert!(head.split_off(4).is_none());
    }

    /// A cooperative rebalance takes one partition away; the consumer goes on behind what it has read of the other.
    #[test]
    fn a_partition_that_left_takes_only_its_own_events_along() {
        let mut some = waiting();
        assert!(some.keep_only(&[("t".to_owned(), 0)]));
        assert_eq!(to_numbers(&some.batch), [0, 1, 2, 7, 8, 9]);
        assert_eq!(some.spans, [span(0, 5, 7), span(0, 8, 10)]);
        assert!(!waiting().keep_only(&[("u".to_owned(), 0)]));
    }
}
