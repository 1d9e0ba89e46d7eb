//! The records of all log files in Flume's order: always the one with the lowest write order id among the files' next
//! ones, as Flume's replay reads them. Files of which nothing is needed yet are closed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::Pointer;
use crate::error::{Finding, FlumeError};
use crate::log_file::{Entry, LogReader};
use crate::record::{Head, Kind};
use crate::source::LogFile;

/// Order of records: write order id; two of one id (a defect of Flume 1.2) by transaction, ends of transactions last.
type Key = (i64, i64, u8, u32);

fn key(file: u32, head: &Head) -> Key {
    let rank = match head.kind {
        Kind::Take(_) => 0,
        Kind::Put => 1,
        Kind::Rollback => 2,
        Kind::Commit(_) => 3,
    };
    (head.order, head.transaction, rank, file)
}

/// All records behind the checkpoint.
#[derive(Debug)]
pub(crate) struct Merge {
    readers: BTreeMap<u32, (LogReader, Option<Entry>)>,
    next: BinaryHeap<Reverse<Key>>,
    /// Records up to this write order id are in the checkpoint.
    after: i64,
    read_bytes: u64,
}

impl Merge {
    /// Reads the first record of each file.
    pub(crate) fn new<'a>(
        files: impl Iterator<Item = (&'a LogFile, u64)>,
        after: i64,
        findings: &mut dyn FnMut(Finding),
    ) -> Result<Merge, FlumeError> {
        let mut merge = Merge {
            readers: BTreeMap::new(),
            next: BinaryHeap::new(),
            after,
            read_bytes: 0,
        };
        for (file, from) in files {
            let mut reader = LogReader::new(file.window(), from);
            let first = reader.next(findings)?;
            reader.window.park();
            merge.add(file.number, reader, first);
        }
        Ok(merge)
    }

    fn add(&mut self, file: u32, reader: LogReader, entry: Option<Entry>) {
        match entry {
            Some(found) => {
                self.next.push(Reverse(key(file, &found.head)));
                self.readers.insert(file, (reader, entry));
            }
            None => self.read_bytes += reader.position(),
        }
    }

    /// The next record and where it is.
    pub(crate) fn next(
        &mut self,
        findings: &mut dyn FnMut(Finding),
    ) -> Result<Option<(Pointer, Head)>, FlumeError> {
        loop {
            let Some(Reverse((.., file))) = self.next.pop() else {
                return Ok(None);
            };
            let Some((mut reader, Some(entry))) = self.readers.remove(&file) else {
                continue;
            };
            let following = reader.next(findings)?;
            self.add(file, reader, following);
            if entry.head.order > self.after {
                let offset = entry.offset;
                return Ok(Some((Pointer { file, offset }, entry.head)));
            }
        }
    }

    /// Bytes that lie behind, for showing progress.
    pub(crate) fn read_bytes(&self) -> u64 {
        let open = self.readers.values().map(|(reader, _)| reader.position());
        self.read_bytes + open.sum::<u64>()
    }
}
