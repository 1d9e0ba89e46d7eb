//! Which puts were taken: a bit for each 32 bytes of log. A put is at least 33 bytes long, so no two share a bit; a sum of
//! offsets for each file tells whether every bit was set for the exact start of a put.

use std::collections::HashMap;

use crate::Pointer;
use crate::record::{LEAST_PAYLOAD_BYTES, PREFIX_BYTES};

const SLOT_BYTES: u32 = 32;
const _: () = assert!(PREFIX_BYTES + LEAST_PAYLOAD_BYTES + 2 >= SLOT_BYTES as usize);

#[derive(Debug, Clone, Default)]
struct Slots {
    bits: Vec<u64>,
    marked: Tally,
}

/// How many, and the sum of their offsets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) count: u64,
    sum: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, offset: u32) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(u64::from(offset));
    }
}

/// The taken puts of all log files.
#[derive(Debug, Clone, Default)]
pub(crate) struct Taken {
    files: HashMap<u32, Slots>,
}

fn slot(offset: u32) -> (usize, u64) {
    let slot = (offset / SLOT_BYTES) as usize;
    (slot / 64, 1 << (slot % 64))
}

impl Taken {
    /// For log files of these numbers.
    pub(crate) fn new(files: impl Iterator<Item = u32>) -> Taken {
        Taken {
            files: files.map(|file| (file, Slots::default())).collect(),
        }
    }

    /// Marks a put; false when its log file is gone already, or it was marked before.
    pub(crate) fn mark(&mut self, put: Pointer, file_bytes: u64) -> bool {
        let Some(slots) = self.files.get_mut(&put.file) else {
            return false;
        };
        if u64::from(put.offset) >= file_bytes {
            return false;
        }
        let (word, bit) = slot(put.offset);
        if slots.bits.len() <= word {
            slots.bits.resize(word + 1, 0);
        }
        if slots.bits[word] & bit != 0 {
            return false;
        }
        slots.bits[word] |= bit;
        slots.marked.add(put.offset);
        true
    }

    pub(crate) fn contains(&self, put: Pointer) -> bool {
        let (word, bit) = slot(put.offset);
        let slots = self.files.get(&put.file);
        slots.is_some_and(|slots| slots.bits.get(word).is_some_and(|found| found & bit != 0))
    }

    /// How many of a file are marked.
    pub(crate) fn tally(&self, file: u32) -> Tally {
        self.files
            .get(&file)
            .map(|slots| slots.marked)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_once_and_only_known_files() {
        let mut taken = Taken::new([3].into_iter());
        let at = |offset| Pointer { file: 3, offset };
        assert!(taken.mark(at(0), 100) && taken.mark(at(40), 100));
        assert!(!taken.mark(at(0), 100) && !taken.mark(at(100), 100));
        assert!(!taken.mark(Pointer { file: 4, offset: 0 }, 100));
        assert!(taken.contains(at(0)) && taken.contains(at(40)) && !taken.contains(at(64)));
        let mut seen = Tally::default();
        seen.add(0);
        seen.add(40);
        assert_eq!(taken.tally(3), seen);
    }
}
