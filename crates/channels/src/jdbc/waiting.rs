//! Which numbers of events wait to be taken: ranges, since most of them are never looked at one by one.
//!
//! Invariant: ranges do not overlap; every stored event that is not leased has its number in exactly one. A range may hold
//! numbers whose events are gone.

use std::collections::BTreeMap;

/// First and last number.
pub(super) type Range = (i64, i64);

/// The waiting ranges.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Last number by first number.
    ranges: BTreeMap<i64, i64>,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Takes the oldest range out.
    pub(super) fn pop(&mut self) -> Option<Range> {
        self.ranges.pop_first()
    }

    /// Adds a range, joined with its neighbours.
    pub(super) fn add(&mut self, (mut first, mut last): Range) {
        if let Some((before, end)) = self.ranges.range(..first).next_back()
            && *end + 1 == first
        {
            first = *before;
        }
        if let Some(end) = self.ranges.remove(&(last + 1)) {
            last = end;
        }
        self.ranges.insert(first, last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oldest_first_and_joined() {
        let mut waiting = Waiting::default();
        waiting.add((11, 20));
        waiting.add((1, 10));
        assert_eq!(waiting.pop(), Some((1, 20)));
        waiting.add((13, 20));
        waiting.add((21, 30));
        waiting.add((1, 5));
        assert_eq!(waiting.pop(), Some((1, 5)));
        waiting.add((1, 5));
        waiting.add((6, 12));
        assert_eq!(waiting.pop(), Some((1, 30)));
        assert!(waiting.is_empty() && waiting.pop().is_none());
    }
}
