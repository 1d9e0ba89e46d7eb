//! What went in and what came out, as a multiset of lines: counts and an order-free checksum.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::path::Path;

use anyhow::Context;

/// A multiset of lines, each by its 64-bit hash.
#[derive(Debug, Clone, Default)]
pub(super) struct Ledger {
    lines: HashMap<u64, u64>,
    total: u64,
}

impl Ledger {
    /// Adds a line.
    pub(super) fn add(&mut self, line: &[u8]) {
        let mut hasher = DefaultHasher::new();
        hasher.write(line);
        *self.lines.entry(hasher.finish()).or_default() += 1;
        self.total += 1;
    }

    /// Adds everything of another ledger.
    pub(super) fn extend(&mut self, other: &Ledger) {
        for (line, count) in &other.lines {
            *self.lines.entry(*line).or_default() += count;
        }
        self.total += other.total;
    }

    /// All lines, repeated ones counted each time.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Sum of the lines' hashes: the same whatever the order.
    pub(super) fn checksum(&self) -> u64 {
        self.sum(|_, count| count)
    }

    /// Lines of this ledger that `other` lacks.
    pub(super) fn missing_in(&self, other: &Ledger) -> u64 {
        self.lines
            .iter()
            .map(|(line, count)| count.saturating_sub(other.count(*line)))
            .sum()
    }

    /// Checksum of the lines of this ledger that `other` has: equal to the own one when nothing
    /// is missing, whatever `other` has twice.
    pub(super) fn checksum_found_in(&self, other: &Ledger) -> u64 {
        self.sum(|line, count| count.min(other.count(line)))
    }

    /// Every line of the files of a folder.
    pub(super) fn of_files(dir: &Path) -> anyhow::Result<Self> {
        let mut ledger = Self::default();
        for entry in std::fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
            let path = entry?.path();
            let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            ledger.add_lines(&bytes);
        }
        Ok(ledger)
    }

    /// Every complete line.
    pub(super) fn add_lines(&mut self, bytes: &[u8]) {
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if let Some(line) = line.strip_suffix(b"\n") {
                self.add(line);
            }
        }
    }

    fn count(&self, line: u64) -> u64 {
        self.lines.get(&line).copied().unwrap_or(0)
    }

    fn sum(&self, weight: impl Fn(u64, u64) -> u64) -> u64 {
        let weighted = |(line, count): (&u64, &u64)| line.wrapping_mul(weight(*line, *count));
        self.lines.iter().map(weighted).fold(0, u64::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_counted_and_losses_are_seen() {
        let (mut given, mut out) = (Ledger::default(), Ledger::default());
        given.add_lines(b"a\nb\na\nunfinished");
        out.add_lines(b"b\na\n");
        assert_eq!((given.total(), given.missing_in(&out)), (3, 1));
        assert_ne!(given.checksum_found_in(&out), given.checksum());
        out.add_lines(b"a\na\n");
        assert_eq!(given.missing_in(&out), 0);
        assert_eq!(given.checksum_found_in(&out), given.checksum());
        assert_ne!(out.checksum(), given.checksum());
        let mut both = given.clone();
        both.extend(&out);
        assert_eq!(both.total(), 7);
    }
}
