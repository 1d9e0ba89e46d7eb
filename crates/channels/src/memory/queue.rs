//! The queue of whole batches, and how a take cuts them.

use std::collections::VecDeque;

use flafka_flow::Batch;
use flafka_flow::channel::TakeLimit;

/// Bytes of one slot of the byte capacity.
pub(super) const SLOT_BYTES: u64 = 100;

#[derive(Default)]
pub(super) struct Queue {
    pub(super) open: bool,
    pub(super) next: u64,
    pub(super) segments: VecDeque<Segment>,
}

/// A run of events that were put together.
pub(super) struct Segment {
    /// Sequence number of the first event.
    pub(super) first: u64,
    pub(super) batch: Batch,
    /// Byte slots whose permits it holds; no more than the budget.
    pub(super) slots: usize,
    /// Bodies and headers, for the take's limit.
    pub(super) bytes: u64,
}

impl Queue {
    /// Takes segments from the front, cutting the last one where the limit is reached.
    pub(super) fn take(&mut self, limit: TakeLimit, transaction_capacity: usize) -> Vec<Segment> {
        let mut events = limit.events.clamp(1, transaction_capacity);
        let mut bytes = limit.bytes;
        let mut taken = Vec::new();
        while let Some(front) = self.segments.front_mut() {
            if front.batch.len() <= events && front.bytes <= bytes {
                events -= front.batch.len();
                bytes -= front.bytes;
                taken.extend(self.segments.pop_front());
                continue;
            }
            let count = front.fitting(events, bytes, taken.is_empty());
            if count == front.batch.len() {
                taken.extend(self.segments.pop_front());
            } else if count > 0 {
                taken.push(front.split_front(count));
            }
            break;
        }
        taken
    }
}

impl Segment {
    /// How many leading events fit into both limits; at least one when `needs_one`.
    fn fitting(&self, events: usize, bytes: u64, needs_one: bool) -> usize {
        let most = events.min(self.batch.len());
        if self.bytes <= bytes {
            return most;
        }
        let mut left = bytes;
        for (index, event) in self.batch.iter().take(most).enumerate() {
            let size = event_bytes(event.body, event.headers.encoded());
            if size > left {
                return index.max(usize::from(needs_one));
            }
            left -= size;
        }
        most
    }

    /// Cuts off the first `count` events.
    fn split_front(&mut self, count: usize) -> Segment {
        let batch = self.batch.slice(0..count);
        let (slots, bytes) = measure(&batch);
        let front = Segment {
            first: self.first,
            batch,
            slots: usize::try_from(slots).unwrap_or(usize::MAX).min(self.slots),
            bytes,
        };
        self.first += count as u64;
        self.batch = self.batch.slice(count..self.batch.len());
        self.slots -= front.slots;
        self.bytes -= front.bytes;
        front
    }
}

fn event_bytes(body: &[u8], headers: &[u8]) -> u64 {
    body.len() as u64 + headers.len() as u64
}

/// Byte slots, and bytes with headers, of a batch. An empty body takes one slot.
pub(super) fn measure(batch: &Batch) -> (u64, u64) {
    let (mut slots, mut bytes) = (0, 0);
    for event in batch.iter() {
        slots += (event.body.len() as u64).div_ceil(SLOT_BYTES).max(1);
        bytes += event_bytes(event.body, event.headers.encoded());
    }
    (slots, bytes)
}
