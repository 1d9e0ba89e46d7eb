//! Counters of what went wrong and was dealt with, and the places of it.
//!
//! Invariant: a damaged place that is still among the newest is counted once, however often it is met.

use std::collections::VecDeque;
use std::ops::AddAssign;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::damage::Damage;
use crate::error::IoFault;

/// Damaged places that are kept by name; older ones are only counted.
const KEPT_DAMAGES: usize = 16;

/// What went wrong and was dealt with since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    mended: AtomicU64,
    damages: AtomicU64,
    damaged_bytes: AtomicU64,
    skipped_offsets: AtomicU64,
    failed_checkpoints: AtomicU64,
    newest: Mutex<VecDeque<Damage>>,
    /// Why there is no newer checkpoint; none when the last one was written.
    no_checkpoint: Mutex<Option<IoFault>>,
}

impl Counts {
    pub(crate) fn read(&self) -> LogCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        LogCounts {
            mended: read(&self.mended),
            damages: read(&self.damages),
            damaged_bytes: read(&self.damaged_bytes),
            skipped_offsets: read(&self.skipped_offsets),
            failed_checkpoints: read(&self.failed_checkpoints),
        }
    }

    pub(crate) fn troubles(&self) -> Troubles {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        Troubles {
            counts: self.read(),
            damages: newest.iter().cloned().collect(),
            no_checkpoint: self.no_checkpoint().as_ref().map(why_no_checkpoint),
        }
    }

    fn no_checkpoint(&self) -> MutexGuard<'_, Option<IoFault>> {
        let fault = self.no_checkpoint.lock();
        fault.unwrap_or_else(PoisonError::into_inner)
    }

    /// A checkpoint could not be written.
    pub(crate) fn add_failed_checkpoint(&self, fault: &IoFault) {
        self.failed_checkpoints.fetch_add(1, Ordering::Relaxed);
        *self.no_checkpoint() = Some(fault.clone());
    }

    /// A checkpoint was written.
    pub(crate) fn checkpoint_written(&self) {
        *self.no_checkpoint() = None;
    }

    pub(crate) fn add_mended(&self) {
        self.mended.fetch_add(1, Ordering::Relaxed);
    }

    /// The place as it was told before.
    pub(crate) fn known(&self, damage: &Damage) -> Option<Damage> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.iter().find(|known| is_same(known, damage)).cloned()
    }

    pub(crate) fn add_damage(&self, damage: &Damage) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.iter().any(|known| is_same(known, damage)) {
            return;
        }
        if newest.len() == KEPT_DAMAGES {
            newest.pop_front();
        }
        newest.push_back(damage.clone());
        self.damages.fetch_add(1, Ordering::Relaxed);
        self.damaged_bytes
            .fetch_add(damage.bytes, Ordering::Relaxed);
        self.skipped_offsets
            .fetch_add(damage.lost_offsets(), Ordering::Relaxed);
    }
}

/// Not the first offset: it is no lower than the log start was.
fn is_same(known: &Damage, damage: &Damage) -> bool {
    (&known.path, known.position, known.next) == (&damage.path, damage.position, damage.next)
}

/// What went wrong since the start and was dealt with, for metrics. A start counts what it found damaged too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogCounts {
    /// Times that a file failed and the log went on in a fresh one.
    pub mended: u64,
    /// Damaged places found.
    pub damages: u64,
    /// Bytes of them.
    pub damaged_bytes: u64,
    /// Offsets that were lost with them.
    pub skipped_offsets: u64,
    /// Checkpoints that could not be written; each is tried again.
    pub failed_checkpoints: u64,
}

impl AddAssign for LogCounts {
    fn add_assign(&mut self, other: LogCounts) {
        self.mended += other.mended;
        self.damages += other.damages;
        self.damaged_bytes += other.damaged_bytes;
        self.skipped_offsets += other.skipped_offsets;
        self.failed_checkpoints += other.failed_checkpoints;
    }
}

/// The counts with the newest damaged places that they speak of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Troubles {
    /// How much there was.
    pub counts: LogCounts,
    /// Oldest first, at most 16.
    pub damages: Vec<Damage>,
    /// Why the newest of these logs has no newer checkpoint, a sentence; none when all is well.
    pub no_checkpoint: Option<String>,
}

/// A sentence for `/health`.
fn why_no_checkpoint(fault: &IoFault) -> String {
    let meaning = match fault.source.kind() {
        std::io::ErrorKind::NotFound => {
            "files of the log were removed while it runs, and what is put now may be lost when the process ends: let it \
             be emptied, stop it, and put the directory back"
        }
        _ => {
            "nothing is lost by that, but the journal grows and the next start takes longer: look after the disk"
        }
    };
    format!("no checkpoint can be written ({fault}): {meaning}")
}

impl Troubles {
    /// One sentence for each, for `/health`; none when all was well.
    pub fn sentences(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        let mended = self.counts.mended;
        if mended > 0 {
            let times = match mended {
                1 => "a file failed and was replaced".to_owned(),
                _ => format!("files failed {mended} times and were replaced"),
            };
            sentences.push(format!(
                "{times}, nothing is lost by that: look after the disk"
            ));
        }
        let older = self
            .counts
            .damages
            .saturating_sub(self.damages.len() as u64);
        if older > 0 {
            let places = match older {
                1 => "1 damaged place was".to_owned(),
                _ => format!("{older} damaged places were"),
            };
            sentences.push(format!("{places} found before the ones named here"));
        }
        sentences.extend(self.no_checkpoint.clone());
        let named = self.damages.iter();
        sentences.extend(named.map(|damage| format!("damaged data: {damage}")));
        sentences
    }
}

impl AddAssign for Troubles {
    fn add_assign(&mut self, other: Troubles) {
        self.counts += other.counts;
        self.damages.extend(other.damages);
        let surplus = self.damages.len().saturating_sub(KEPT_DAMAGES);
        self.damages.drain(..surplus);
        self.no_checkpoint = other.no_checkpoint;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::{Offset, Position};

    #[test]
    fn a_place_is_counted_once_and_the_newest_are_kept() {
        let counts = Counts::default();
        let damage = |position| Damage {
            path: "log/channel.1/00.log".into(),
            position: Position(position),
            bytes: 10,
            first: Offset(5),
            next: Offset(8),
            what: "bad checksum".to_owned(),
            kept: None,
        };
        for position in [0, 100, 100, 0] {
            counts.add_damage(&damage(position));
        }
        let read = counts.read();
        assert_eq!(
            (read.damages, read.damaged_bytes, read.skipped_offsets),
            (2, 20, 6)
        );
        for position in 0..KEPT_DAMAGES as u64 {
            counts.add_damage(&damage(1000 + position));
        }
        counts.add_mended();
        let mut troubles = counts.troubles();
        let before = std::mem::take(&mut troubles);
        troubles += before;
        assert_eq!(troubles.damages.len(), KEPT_DAMAGES);
        let sentences = troubles.sentences();
        assert!(
            sentences[0].starts_with("a file failed and"),
            "{sentences:?}"
        );
        assert!(sentences[1].starts_with("2 damaged"), "{sentences:?}");
        assert_eq!(
            sentences[2],
            "damaged data: log/channel.1/00.log at byte 1000: bad checksum; offsets 5 to 7 are lost; 10 bytes are \
             skipped, not copied"
        );
    }

    #[test]
    fn a_checkpoint_that_cannot_be_written_is_named_until_one_is() {
        let counts = Counts::default();
        for kind in [
            std::io::ErrorKind::StorageFull,
            std::io::ErrorKind::NotFound,
        ] {
            let path = std::path::Path::new("/data/checkpoint");
            counts.add_failed_checkpoint(&IoFault::of("write checkpoint", path)(kind.into()));
        }
        let mut troubles = counts.troubles();
        assert_eq!(troubles.counts.failed_checkpoints, 2);
        let sentences = troubles.sentences();
        assert_eq!(sentences.len(), 1, "{sentences:?}");
        for part in ["/data/checkpoint", "were removed"] {
            assert!(sentences[0].contains(part), "{sentences:?}");
        }
        counts.checkpoint_written();
        troubles += counts.troubles();
        assert_eq!(troubles.sentences(), Vec::<String>::new());
        assert_eq!(troubles.counts.failed_checkpoints, 4);
    }
}
