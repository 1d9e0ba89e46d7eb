//! The second pass of a replay: the waiting events in Flume's order, each read from its log file and checked.
//!
//! The sequence is the same for each pass over the same files, so the number of an event is its place in it and a reader
//! that was interrupted goes on by number.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use crate::Pointer;
use crate::checkpoint::Start;
use crate::error::{Finding, FlumeError};
use crate::log_file::Window;
use crate::merge::Merge;
use crate::plan::{OnDamage, Plan};
use crate::record::{HEAD_BYTES, Kind, Work, head, put};
use crate::taken::Tally;

/// Log files that stay open.
const OPEN_FILES: usize = 16;

/// An event of the channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its headers in the order of the file.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Bytes,
}

/// Gives the waiting events one by one.
#[derive(Debug)]
pub struct Events<'a> {
    plan: &'a Plan<'a>,
    on_damage: OnDamage,
    /// Pointers that come next; taken ones among them.
    next: VecDeque<Pointer>,
    /// Events of the checkpoint's queue that were read, and how many there are.
    queue: (u64, u64),
    merge: Merge,
    open: HashMap<i64, Vec<Pointer>>,
    from: u64,
    position: u64,
    seen: HashMap<u32, Tally>,
    files: Files<'a>,
    findings: Vec<Finding>,
    ended: bool,
}

impl<'a> Events<'a> {
    pub(crate) fn new(
        plan: &'a Plan<'a>,
        from: u64,
        on_damage: OnDamage,
    ) -> Result<Events<'a>, FlumeError> {
        let source = plan.source;
        let mut files = Files {
            plan,
            open: Vec::new(),
        };
        let (mut after, mut queue, mut open) = (i64::MIN, 0, HashMap::new());
        let mut seen: HashMap<u32, Tally> = HashMap::new();
        if let Start::Checkpoint(checkpoint) = &source.start {
            after = checkpoint.order;
            queue = checkpoint.size;
            open.extend(checkpoint.puts.clone());
            // Takes that were under way and then committed: their events are in no queue.
            let taken = checkpoint.takes.values().flatten();
            for put in taken.filter(|put| plan.taken.contains(**put)) {
                seen.entry(put.file).or_default().add(put.offset);
            }
        }
        let mut returned = Vec::new();
        for put in &plan.returned {
            returned.push((files.order(*put)?, *put));
        }
        returned.sort_unstable();
        // The first pass has noted what is wrong with the records.
        let merge = Merge::new(source.positions(), after, &mut |_| {})?;
        Ok(Events {
            plan,
            on_damage,
            next: returned.into_iter().map(|(_, put)| put).collect(),
            queue: (0, queue),
            merge,
            open,
            from,
            position: 0,
            seen,
            files,
            findings: Vec::new(),
            ended: false,
        })
    }

    /// Number of the event that comes next; events that were left out have a number too.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// What was left out since the last call, and what did not fit at the end.
    pub fn drain_findings(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.findings)
    }

    /// The next event; `None` at the end.
    ///
    /// # Errors
    /// A file call failed, or the event is damaged and [`OnDamage::Stop`] was asked for.
    pub fn next_event(&mut self) -> Result<Option<Event>, FlumeError> {
        loop {
            let Some(pointer) = self.next.pop_front() else {
                if self.refill()? {
                    continue;
                }
                self.finish();
                return Ok(None);
            };
            if self.plan.taken.contains(pointer) {
                self.seen
                    .entry(pointer.file)
                    .or_default()
                    .add(pointer.offset);
                continue;
            }
            // Pointers that lead nowhere were noted by the first pass and have no number.
            if !self.files.is_inside(pointer) {
                continue;
            }
            if self.position < self.from {
                self.position += 1;
                continue;
            }
            match self.files.event(pointer)? {
                Ok(event) => {
                    self.position += 1;
                    return Ok(Some(event));
                }
                Err(finding) if self.on_damage == OnDamage::LeaveOut => {
                    self.position += 1;
                    self.findings.push(finding);
                }
                Err(finding) => {
                    self.next.push_front(pointer);
                    return Err(FlumeError::Damaged(finding));
                }
            }
        }
    }

    /// Fetches more pointers; false at the end.
    fn refill(&mut self) -> Result<bool, FlumeError> {
        let (read, size) = self.queue;
        if let Start::Checkpoint(checkpoint) = &self.plan.source.start
            && read < size
        {
            let pointers = checkpoint.pointers(read)?;
            self.queue.0 += pointers.len().max(1) as u64;
            self.next.extend(pointers);
            return Ok(true);
        }
        while let Some((at, head)) = self.merge.next(&mut |_| {})? {
            match head.kind {
                Kind::Put => self.open.entry(head.transaction).or_default().push(at),
                Kind::Take(_) => {}
                Kind::Rollback | Kind::Commit(Work::Take) => {
                    self.open.remove(&head.transaction);
                }
                Kind::Commit(Work::Put) => {
                    let puts = self.open.remove(&head.transaction).unwrap_or_default();
                    self.next.extend(puts);
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Every committed take must have been about an event that was met.
    fn finish(&mut self) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        for log in self.plan.source.logs.values() {
            let seen = self.seen.get(&log.number).copied().unwrap_or_default();
            let marked = self.plan.taken.tally(log.number);
            if seen != marked {
                let what = format!(
                    "{} committed takes of its events, but {} events at these places",
                    marked.count, seen.count
                );
                self.findings.push(Finding::damage(&log.path, 0, what));
            }
        }
    }
}

/// The log files, for reading at any place; the ones read last stay open.
#[derive(Debug)]
struct Files<'a> {
    plan: &'a Plan<'a>,
    open: Vec<(u32, Window)>,
}

impl Files<'_> {
    fn is_inside(&self, pointer: Pointer) -> bool {
        let log = self.plan.source.logs.get(&pointer.file);
        log.is_some_and(|log| u64::from(pointer.offset) < log.length)
    }

    fn window(&mut self, file: u32) -> Option<&mut Window> {
        let known = self.open.iter().position(|(number, _)| *number == file);
        match known {
            Some(0) => {}
            Some(at) => self.open[..=at].rotate_right(1),
            None => {
                let log = self.plan.source.logs.get(&file)?;
                self.open.truncate(OPEN_FILES - 1);
                self.open.insert(0, (file, log.window()));
            }
        }
        self.open.first_mut().map(|(_, window)| window)
    }

    /// Write order id of a put; the lowest when it cannot be read, which [`Files::event`] will say.
    fn order(&mut self, pointer: Pointer) -> Result<i64, FlumeError> {
        let Some(window) = self.window(pointer.file) else {
            return Ok(i64::MIN);
        };
        let bytes = window.plain(u64::from(pointer.offset), HEAD_BYTES)?;
        Ok(head(bytes).map_or(i64::MIN, |head| head.order))
    }

    fn event(&mut self, pointer: Pointer) -> Result<Result<Event, Finding>, FlumeError> {
        let at = u64::from(pointer.offset);
        let Some(window) = self.window(pointer.file) else {
            let path = std::path::PathBuf::from(format!("log-{}", pointer.file));
            return Ok(Err(Finding::damage(&path, at, "the file is not there")));
        };
        let path = window.path.clone();
        let damage = |what: &str| Ok(Err(Finding::damage(&path, at, what)));
        let Some(payload) = window.payload(at)? else {
            return damage("an event waits here, but no whole record starts here");
        };
        match put(payload) {
            Ok(put) => Ok(Ok(Event {
                headers: put
                    .headers
                    .iter()
                    .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                    .collect(),
                body: Bytes::copy_from_slice(&payload[put.body]),
            })),
            Err(error) => damage(&format!("an event waits here, but {error}")),
        }
    }
}
