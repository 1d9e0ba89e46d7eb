//! Counters of what went wrong and was dealt with.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::damage::Damage;

/// What went wrong and was dealt with since the start.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    mended: AtomicU64,
    damages: AtomicU64,
    damaged_bytes: AtomicU64,
    skipped_offsets: AtomicU64,
}

impl Counts {
    pub(crate) fn read(&self) -> LogCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        LogCounts {
            mended: read(&self.mended),
            damages: read(&self.damages),
            damaged_bytes: read(&self.damaged_bytes),
            skipped_offsets: read(&self.skipped_offsets),
        }
    }

    pub(crate) fn add_mended(&self) {
        self.mended.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_damage(&self, damage: &Damage) {
        self.damages.fetch_add(1, Ordering::Relaxed);
        self.damaged_bytes
            .fetch_add(damage.bytes, Ordering::Relaxed);
        let skipped = u64::try_from(damage.next.0 - damage.first.0).unwrap_or(0);
        self.skipped_offsets.fetch_add(skipped, Ordering::Relaxed);
    }
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
}
