//! What is waiting in a file channel: runs of offsets in order, with their events in memory or
//! not.
//!
//! Invariant: runs do not overlap; every offset that is stored, not acked and not leased is in
//! exactly one run. The oldest run is handed out first, so events that were rolled back come
//! before younger ones.

use std::collections::BTreeMap;

use flafka_flow::Batch;

/// A run of consecutive offsets.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Run {
    pub(super) first: i64,
    pub(super) last: i64,
    /// The events, one for each offset; none means they are on the disk only.
    pub(super) batch: Option<Batch>,
    /// When it was put, for the order over several directories; none: it has to be read to know.
    pub(super) order: Option<u64>,
}

impl Run {
    pub(super) fn len(&self) -> usize {
        usize::try_from(self.last - self.first + 1).unwrap_or(0)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.batch.as_ref().map_or(0, Batch::total_bytes)
    }

    /// The first `count` offsets, and the rest.
    fn split(self, count: usize) -> (Run, Option<Run>) {
        if count >= self.len() {
            return (self, None);
        }
        let middle = self.first + count as i64;
        let part =
            |range: std::ops::Range<usize>| self.batch.as_ref().map(|batch| batch.slice(range));
        let head = Run {
            first: self.first,
            last: middle - 1,
            batch: part(0..count),
            order: self.order,
        };
        let tail = Run {
            first: middle,
            last: self.last,
            batch: part(count..self.len()),
            order: self.order,
        };
        (head, Some(tail))
    }
}

/// The waiting runs.
#[derive(Debug, Default)]
pub(super) struct Runs {
    runs: BTreeMap<i64, Run>,
    cached: u64,
    budget: u64,
}

/// The oldest run, or a part of it.
#[derive(Debug, PartialEq)]
pub(super) enum Pop {
    /// A run with its events.
    InMemory(Run),
    /// A run whose events have to be read.
    OnDisk(Run),
    /// There is one that does not fit, or has to be read first.
    NotNow,
    /// Nothing is waiting.
    Nothing,
}

impl Runs {
    /// No runs; at most about `budget` bytes of events stay in memory.
    pub(super) fn new(budget: u64) -> Self {
        Self {
            budget,
            ..Self::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(super) fn events(&self) -> usize {
        self.runs.values().map(Run::len).sum()
    }

    /// Adds a run; its events are forgotten when the budget is used up.
    pub(super) fn add(&mut self, mut run: Run) {
        if self.cached.saturating_add(run.bytes()) > self.budget {
            run.batch = None;
        }
        self.put_back(run);
    }

    /// Adds a run that keeps its events: it was leased, so they are in memory anyhow.
    pub(super) fn put_back(&mut self, mut run: Run) {
        if run.batch.is_none() {
            self.melt(&mut run);
        }
        self.cached += run.bytes();
        self.runs.insert(run.first, run);
    }

    /// When the oldest run was put; the inner `None` stands for not known.
    pub(super) fn front_order(&self) -> Option<Option<u64>> {
        let (_, run) = self.runs.first_key_value()?;
        Some(run.order)
    }

    /// The oldest run up to the limits. The first of a lease may be one on the disk, and gets at least one event.
    pub(super) fn pop(&mut self, events: usize, bytes: u64, is_first: bool) -> Pop {
        let Some(entry) = self.runs.first_entry() else {
            return Pop::Nothing;
        };
        if entry.get().batch.is_none() {
            return match is_first {
                true => Pop::OnDisk(entry.remove()),
                false => Pop::NotNow,
            };
        }
        let fitting = fitting(entry.get(), events, bytes, is_first);
        if fitting == 0 {
            return Pop::NotNow;
        }
        let run = entry.remove();
        self.cached -= run.bytes();
        let (head, tail) = run.split(fitting);
        if let Some(tail) = tail {
            self.put_back(tail);
        }
        Pop::InMemory(head)
    }

    /// Joins a run on the disk with its neighbours on the disk, so that a long backlog is one run.
    fn melt(&mut self, run: &mut Run) {
        if let Some((_, before)) = self.runs.range(..run.first).next_back()
            && before.batch.is_none()
            && before.last + 1 == run.first
        {
            (run.first, run.order) = (before.first, before.order);
            self.runs.remove(&run.first);
        }
        if let Some(after) = self.runs.get(&(run.last + 1))
            && after.batch.is_none()
        {
            let gone = after.first;
            run.last = after.last;
            self.runs.remove(&gone);
        }
    }
}

/// How many events of a run fit.
fn fitting(run: &Run, room: usize, room_bytes: u64, at_least_one: bool) -> usize {
    let count = run.len().min(room);
    let Some(batch) = &run.batch else {
        return count;
    };
    if run.bytes() <= room_bytes {
        return count;
    }
    let mut left = room_bytes;
    let mut fits = 0;
    for event in batch.iter().take(count) {
        let size = event.body.len() as u64 + event.headers.encoded().len() as u64;
        if size > left {
            break;
        }
        left -= size;
        fits += 1;
    }
    fits.max(usize::from(at_least_one))
}

#[cfg(test)]
mod tests {
    use flafka_flow::conformance::numbers;

    use super::*;

    fn in_memory(first: i64, last: i64) -> Run {
        Run {
            first,
            last,
            batch: Some(numbers(first as usize..last as usize + 1)),
            order: None,
        }
    }

    fn on_disk(first: i64, last: i64) -> Run {
        Run {
            first,
            last,
            batch: None,
            order: None,
        }
    }

    fn take(runs: &mut Runs, mut events: usize, mut bytes: u64) -> Vec<(i64, i64)> {
        let mut spans = Vec::new();
        while events > 0
            && let Pop::InMemory(run) = runs.pop(events, bytes, spans.is_empty())
        {
            events -= run.len();
            bytes = bytes.saturating_sub(run.bytes());
            spans.push((run.first, run.last));
        }
        spans
    }

    #[test]
    fn oldest_first_split_and_joined() {
        let mut runs = Runs::new(1 << 20);
        runs.add(in_memory(10, 19));
        runs.add(in_memory(0, 4));
        assert_eq!(take(&mut runs, 8, 1000), [(0, 4), (10, 12)]);
        runs.put_back(in_memory(0, 4));
        assert_eq!(
            take(&mut runs, 100, 1),
            [(0, 0)],
            "one event is always allowed"
        );
        assert_eq!(take(&mut runs, 100, 3), [(1, 3)]);
        assert_eq!(take(&mut runs, 100, 1000), [(4, 4), (13, 19)]);
        assert!(runs.is_empty() && runs.cached == 0);
    }

    #[test]
    fn a_backlog_beyond_the_budget_is_one_run() {
        let mut runs = Runs::new(12);
        runs.add(in_memory(0, 9));
        for first in (10..100).step_by(10) {
            runs.add(in_memory(first, first + 9));
        }
        assert_eq!(take(&mut runs, 100, 1000), [(0, 9)]);
        assert_eq!(runs.pop(100, 1000, false), Pop::NotNow);
        assert_eq!(runs.pop(100, 1000, true), Pop::OnDisk(on_disk(10, 99)));
        runs.put_back(on_disk(50, 99));
        runs.put_back(on_disk(10, 49));
        assert_eq!(runs.pop(100, 1000, true), Pop::OnDisk(on_disk(10, 99)));
        assert_eq!(runs.pop(1, 1, true), Pop::Nothing);
    }
}
