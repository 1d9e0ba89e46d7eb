//! The queue of whole batches, and how a take cuts them; also the memory part of the spillable channel.

use std::collections::VecDeque;

use flafka_flow::Batch;
use flafka_flow::channel::TakeLimit;

pub(crate) struct Queue {
    pub(crate) open: bool,
    pub(crate) next: u64,
    pub(crate) segments: VecDeque<Segment>,
    /// Bytes of one slot of the byte capacity.
    slot_bytes: u64,
}

/// A run of events that were put together.
pub(crate) struct Segment {
    /// Sequence number of the first event.
    pub(crate) first: u64,
    pub(crate) batch: Batch,
    /// Byte slots whose permits it holds; no more than the budget.
    pub(crate) slots: usize,
    /// Bodies and headers, for the take's limit.
    pub(crate) bytes: u64,
}

impl Queue {
    /// A closed, empty queue whose first event is number `next`.
    pub(crate) fn new(next: u64, slot_bytes: u64) -> Self {
        Self {
            open: false,
            next,
            segments: VecDeque::new(),
            slot_bytes,
        }
    }

    /// What is put from now on is measured in slots of so many bytes.
    pub(crate) fn measure_in(&mut self, slot_bytes: u64) {
        self.slot_bytes = slot_bytes;
    }

    /// Adds a segment at the end; its number is given here.
    pub(crate) fn push(&mut self, mut segment: Segment) {
        segment.first = self.next;
        self.next += segment.batch.len() as u64;
        self.segments.push_back(segment);
    }

    /// Puts taken segments back at their place, before all younger ones.
    pub(crate) fn put_back(&mut self, taken: Vec<Segment>) {
        for segment in taken.into_iter().rev() {
            let place = self
                .segments
                .partition_point(|other| other.first < segment.first);
            self.segments.insert(place, segment);
        }
    }

    /// Takes segments with numbers below `end` from the front, cutting the last one where the limit is reached.
    pub(crate) fn take(
        &mut self,
        limit: TakeLimit,
        transaction_capacity: usize,
        end: u64,
    ) -> Vec<Segment> {
        let mut events = limit.events.clamp(1, transaction_capacity);
        let mut bytes = limit.bytes;
        let mut taken = Vec::new();
        let slot_bytes = self.slot_bytes;
        while let Some(front) = self.segments.front_mut().filter(|front| front.first < end) {
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
                taken.push(front.split_front(count, slot_bytes));
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
    fn split_front(&mut self, count: usize, slot_bytes: u64) -> Segment {
        let batch = self.batch.slice(0..count);
        let (slots, bytes) = measure(&batch, slot_bytes);
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
pub(crate) fn measure(batch: &Batch, slot_bytes: u64) -> (u64, u64) {
    let (mut slots, mut bytes) = (0, 0);
    for event in batch.iter() {
        slots += (event.body.len() as u64).div_ceil(slot_bytes).max(1);
        bytes += event_bytes(event.body, event.headers.encoded());
    }
    (slots, bytes)
}

/// The events of taken segments as one batch.
pub(crate) fn joined(taken: &[Segment]) -> Batch {
    match taken {
        [one] => one.batch.clone(),
        several => Batch::concat(several.iter().map(|part| part.batch.clone()).collect()),
    }
}
