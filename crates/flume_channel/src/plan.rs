//! The first pass of a replay: reads the heads of all records behind the checkpoint and knows then which puts were taken,
//! how many wait, and what cannot be read. Bodies are not looked at.

use std::collections::HashMap;

use crate::Pointer;
use crate::checkpoint::{Checkpoint, Start};
use crate::error::{Finding, FlumeError, Severity};
use crate::events::Events;
use crate::merge::Merge;
use crate::record::{Head, Kind, Work};
use crate::source::Source;
use crate::taken::Taken;

/// Findings that are kept; more are only counted.
const MOST_FINDINGS: usize = 1000;
/// Records between two reports of progress.
const REPORT_EVERY: u64 = 100_000;

/// What to do with an event that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDamage {
    /// Stop there.
    Stop,
    /// Leave it out and note it.
    LeaveOut,
}

/// How far a pass has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of log files that lie behind.
    pub read_bytes: u64,
    /// Bytes of all log files.
    pub all_bytes: u64,
}

/// What a replay finds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Records read.
    pub records: u64,
    /// Events whose put was committed, those of the checkpoint included.
    pub found: u64,
    /// Of these, events that a committed take has delivered.
    pub taken: u64,
    /// Of these, events that wait: found without taken.
    pub waiting: u64,
    /// Of the waiting ones, events whose take was never committed: they go back.
    pub returned: u64,
    /// Events whose put was neither committed nor rolled back: their source was never told that they are safe.
    pub uncommitted: u64,
    /// Places that cannot be read.
    pub damaged: u64,
}

/// The replay, ready to give its events.
#[derive(Debug)]
pub struct Plan<'a> {
    pub(crate) source: &'a Source,
    pub(crate) taken: Taken,
    /// Events whose take was under way at the checkpoint and not committed later.
    pub(crate) returned: Vec<Pointer>,
    counts: Counts,
    findings: Vec<Finding>,
}

/// A transaction whose end was not seen yet.
#[derive(Debug, Default)]
struct Open {
    puts: u64,
    takes: Vec<Pointer>,
}

impl Source {
    /// Replays the heads of all records. Damage is noted, not an error: see [`Plan::findings`].
    ///
    /// # Errors
    /// A file call failed.
    pub fn plan(&self, progress: &mut dyn FnMut(Progress)) -> Result<Plan<'_>, FlumeError> {
        let mut plan = Plan {
            source: self,
            taken: Taken::new(self.logs.keys().copied()),
            returned: Vec::new(),
            counts: Counts::default(),
            findings: Vec::new(),
        };
        for finding in self.findings() {
            plan.note(finding.clone());
        }
        plan.replay(progress)?;
        Ok(plan)
    }
}

impl<'a> Plan<'a> {
    /// What was found, in numbers.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What is not as it should be, at most the first thousand.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The waiting events from number `from` on, in Flume's order.
    ///
    /// # Errors
    /// A file call failed.
    pub fn events(&self, from: u64, on_damage: OnDamage) -> Result<Events<'_>, FlumeError> {
        Events::new(self, from, on_damage)
    }

    fn note(&mut self, finding: Finding) {
        self.counts.damaged += u64::from(finding.severity == Severity::Damage);
        if self.findings.len() < MOST_FINDINGS {
            self.findings.push(finding);
        }
    }

    fn replay(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<(), FlumeError> {
        let all_bytes = self.source.log_bytes();
        let mut open: HashMap<i64, Open> = HashMap::new();
        let mut in_flight: HashMap<i64, Vec<Pointer>> = HashMap::new();
        let mut after = i64::MIN;
        if let Start::Checkpoint(checkpoint) = &self.source.start {
            after = checkpoint.order;
            self.check_queue(checkpoint)?;
            for (transaction, puts) in &checkpoint.puts {
                open.entry(*transaction).or_default().puts = puts.len() as u64;
            }
            for (transaction, takes) in &checkpoint.takes {
                self.counts.found += takes.len() as u64;
                in_flight.insert(*transaction, takes.clone());
            }
        }
        let mut noted = Vec::new();
        let mut merge = Merge::new(self.source.positions(), after, &mut |f| noted.push(f))?;
        while let Some((_, head)) = merge.next(&mut |finding| noted.push(finding))? {
            for finding in noted.drain(..) {
                self.note(finding);
            }
            self.apply(&head, &mut open, &mut in_flight);
            if self.counts.records.is_multiple_of(REPORT_EVERY) {
                let read_bytes = merge.read_bytes();
                progress(Progress {
                    read_bytes,
                    all_bytes,
                });
            }
        }
        for finding in noted {
            self.note(finding);
        }
        progress(Progress {
            read_bytes: all_bytes,
            all_bytes,
        });
        self.finish(open, in_flight);
        Ok(())
    }

    /// Whether all pointers of the queue lead into a log file.
    fn check_queue(&mut self, checkpoint: &Checkpoint) -> Result<(), FlumeError> {
        let mut at = 0;
        while at < checkpoint.size {
            let pointers = checkpoint.pointers(at)?;
            for (index, pointer) in pointers.iter().enumerate() {
                let log = self.source.logs.get(&pointer.file);
                if log.is_some_and(|log| u64::from(pointer.offset) < log.length) {
                    self.counts.found += 1;
                    continue;
                }
                let what = format!(
                    "event {} of its queue is at byte {} of log-{}, which is not there",
                    at + index as u64,
                    pointer.offset,
                    pointer.file
                );
                self.note(Finding::damage(&checkpoint.path, 0, what));
            }
            at += pointers.len().max(1) as u64;
        }
        Ok(())
    }

    fn apply(
        &mut self,
        head: &Head,
        open: &mut HashMap<i64, Open>,
        in_flight: &mut HashMap<i64, Vec<Pointer>>,
    ) {
        self.counts.records += 1;
        let transaction = head.transaction;
        match head.kind {
            Kind::Put => open.entry(transaction).or_default().puts += 1,
            Kind::Take(put) => open.entry(transaction).or_default().takes.push(put),
            Kind::Rollback => {
                open.remove(&transaction);
            }
            Kind::Commit(Work::Put) => {
                let ended = open.remove(&transaction).unwrap_or_default();
                self.counts.found += ended.puts;
            }
            Kind::Commit(Work::Take) => {
                let ended = open.remove(&transaction).unwrap_or_default();
                let before = in_flight.remove(&transaction).unwrap_or_default();
                for put in before.into_iter().chain(ended.takes) {
                    let log = self.source.logs.get(&put.file);
                    let length = log.map_or(0, |log| log.length);
                    self.counts.taken += u64::from(self.taken.mark(put, length));
                }
            }
        }
    }

    fn finish(&mut self, open: HashMap<i64, Open>, in_flight: HashMap<i64, Vec<Pointer>>) {
        let waits = |put: &Pointer| !self.taken.contains(*put);
        let mut returned: Vec<Pointer> = in_flight.into_values().flatten().filter(waits).collect();
        returned.sort_unstable();
        returned.dedup();
        let mut taken_again = Vec::new();
        for transaction in open.into_values() {
            self.counts.uncommitted += transaction.puts;
            taken_again.extend(transaction.takes.into_iter().filter(waits));
        }
        taken_again.extend(&returned);
        taken_again.sort_unstable();
        taken_again.dedup();
        self.counts.returned = taken_again.len() as u64;
        self.returned = returned;
        self.counts.waiting = self.counts.found.saturating_sub(self.counts.taken);
    }
}
