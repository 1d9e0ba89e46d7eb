//! The order of what waits: the memory part, and marks for what lies in the overflow.
//!
//! Every event has a number, given in the order of the puts. The memory part is a queue of numbered segments. The overflow
//! is a first-in-first-out store of its own, so here a mark only says how many of its events stand at a place; they have
//! no names. That is exact because of two rules:
//! - memory and overflow are never filled at the same time: while a put is on its way into the overflow nothing enters
//!   memory, so the overflow's own order of its puts cannot cross a segment;
//! - the overflow is read by one take at a time, and what was taken from it and rolled back is kept here until the next
//!   take, which gives it back before it reads. So the overflow's oldest events are always those of the oldest marks.
//!
//! Invariant: marks and segments are sorted by number and do not overlap.

use std::collections::VecDeque;

use flafka_flow::channel::Lease;

use crate::memory::queue::Queue;

/// The number of the first put; numbers below are for what the overflow held before.
const FIRST: u64 = 1 << 62;

/// So many events of the overflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    first: u64,
    count: usize,
}

impl Mark {
    fn end(&self) -> u64 {
        self.first + self.count as u64
    }
}

/// What was taken from the overflow and rolled back; not yet given back to it.
pub(super) struct Returned {
    pub(super) lease: Lease,
    pub(super) marks: Vec<Mark>,
    /// When it was taken, as [`Line::generation`] counts.
    pub(super) generation: u64,
}

/// Where the oldest event is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// In memory; behind the events below this number comes the overflow.
    Memory(u64),
    /// In the overflow, so many in a row.
    Overflow(usize),
    /// Nothing waits.
    Nothing,
}

/// What waits, in order.
pub(super) struct Line {
    /// The memory part.
    pub(super) memory: Queue,
    marks: VecDeque<Mark>,
    /// The lowest number ever given.
    lowest: u64,
    pub(super) returned: Vec<Returned>,
    /// Events on their way into the overflow.
    pub(super) coming: usize,
    /// Memory was full, so puts do not wait for it.
    pub(super) is_spilling: bool,
    /// How often the overflow was closed, or opened again; leases of before are not this line's any more.
    pub(super) generation: u64,
    /// The marks may be fewer than the overflow's events.
    pub(super) is_unsure: bool,
}

impl Line {
    pub(super) fn new(slot_bytes: u64) -> Self {
        Self {
            memory: Queue::new(FIRST, slot_bytes),
            marks: VecDeque::new(),
            lowest: FIRST,
            returned: Vec::new(),
            coming: 0,
            is_spilling: false,
            generation: 0,
            is_unsure: false,
        }
    }

    /// Where the oldest event is.
    pub(super) fn head(&self) -> Head {
        let memory = self.memory.segments.front().map(|segment| segment.first);
        match (memory, self.marks.front()) {
            (None, None) => Head::Nothing,
            (Some(_), None) => Head::Memory(u64::MAX),
            (Some(first), Some(mark)) if first < mark.first => Head::Memory(mark.first),
            (memory, Some(_)) => {
                let end = memory.unwrap_or(u64::MAX);
                let before = self.marks.iter().take_while(|mark| mark.first < end);
                Head::Overflow(before.map(|mark| mark.count).sum())
            }
        }
    }

    /// Events have arrived in the overflow.
    pub(super) fn mark_new(&mut self, count: usize) {
        let mark = Mark {
            first: self.memory.next,
            count,
        };
        self.memory.next = mark.end();
        match self.marks.back_mut() {
            Some(last) if last.end() == mark.first => last.count += count,
            _ => self.marks.push_back(mark),
        }
    }

    /// The oldest `count` events of the overflow are taken.
    pub(super) fn take_marks(&mut self, mut count: usize) -> Vec<Mark> {
        let mut taken = Vec::new();
        while let Some(front) = self.marks.front_mut().filter(|_| count > 0) {
            let part = front.count.min(count);
            taken.push(Mark {
                first: front.first,
                count: part,
            });
            front.first += part as u64;
            front.count -= part;
            count -= part;
            if front.count == 0 {
                self.marks.pop_front();
            }
        }
        taken
    }

    /// Gives back to the overflow what was rolled back.
    pub(super) fn give_back(&mut self) {
        for Returned {
            lease,
            marks,
            generation,
        } in std::mem::take(&mut self.returned)
        {
            if generation == self.generation {
                for mark in marks {
                    let place = self.marks.partition_point(|other| other.first < mark.first);
                    self.marks.insert(place, mark);
                }
            } else {
                self.is_unsure = true;
            }
            lease.rollback();
        }
    }

    /// Sets the marks right: the overflow has `waiting` events that nobody has taken. What is too much goes, what is
    /// missing goes before everything else: nothing that is stored stays behind.
    pub(super) fn reconcile(&mut self, waiting: usize) {
        let known: usize = self.marks.iter().map(|mark| mark.count).sum();
        if waiting < known {
            self.take_marks(known - waiting);
        } else if let missing @ 1.. = waiting.saturating_sub(known + self.coming) {
            self.lowest -= missing as u64;
            self.marks.push_front(Mark {
                first: self.lowest,
                count: missing,
            });
        }
        self.is_unsure &= self.coming > 0;
    }

    /// The overflow was closed: its marks mean nothing any more, and its leases are void.
    pub(super) fn forget_overflow(&mut self) {
        self.generation += 1;
        self.marks.clear();
        self.returned.clear();
        self.is_spilling = false;
        self.is_unsure = false;
    }
}

#[cfg(test)]
mod tests {
    use flafka_flow::channel::TakeLimit;
    use flafka_flow::conformance::numbers;

    use super::*;
    use crate::memory::queue::Segment;

    fn put(line: &mut Line, count: usize) {
        line.memory.push(Segment {
            first: 0,
            batch: numbers(0..count),
            slots: 0,
            bytes: 0,
        });
    }

    #[test]
    fn memory_and_overflow_take_turns_in_the_order_of_the_puts() {
        let mut line = Line::new(100);
        assert_eq!(line.head(), Head::Nothing);
        put(&mut line, 3);
        line.mark_new(4);
        line.mark_new(5);
        put(&mut line, 2);
        line.mark_new(1);
        assert_eq!(line.head(), Head::Memory(FIRST + 3));
        let taken = line.memory.take(TakeLimit::events(100), 100, FIRST + 3);
        assert_eq!(taken.len(), 1);
        assert_eq!(line.head(), Head::Overflow(9));
        let first = line.take_marks(6);
        assert_eq!(line.head(), Head::Overflow(3));
        line.memory.put_back(taken);
        assert_eq!(
            line.head(),
            Head::Memory(FIRST + 9),
            "behind come the other three"
        );
        line.memory.take(TakeLimit::events(100), 100, FIRST + 9);
        let generation = line.generation;
        line.returned.push(Returned {
            lease: Lease::empty(),
            marks: first,
            generation,
        });
        line.give_back();
        assert_eq!(line.head(), Head::Overflow(9));
        assert_eq!(line.take_marks(9).len(), 2, "parts stay apart");
        assert_eq!(line.head(), Head::Memory(FIRST + 14));
    }

    #[test]
    fn marks_are_set_right() {
        let mut line = Line::new(100);
        put(&mut line, 1);
        line.reconcile(7);
        assert_eq!(line.head(), Head::Overflow(7), "before what is in memory");
        line.reconcile(5);
        assert_eq!(line.head(), Head::Overflow(5));
        (line.coming, line.is_unsure) = (4, true);
        line.reconcile(10);
        assert_eq!(
            line.head(),
            Head::Overflow(6),
            "four may be those that come"
        );
        assert!(line.is_unsure);
        line.coming = 0;
        line.reconcile(10);
        assert_eq!((line.head(), line.is_unsure), (Head::Overflow(10), false));
        line.forget_overflow();
        assert_eq!(line.head(), Head::Memory(u64::MAX));
    }
}
