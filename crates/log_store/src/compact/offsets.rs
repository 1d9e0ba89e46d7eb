//! Which offset is the newest of each key: a table of fixed size.
//!
//! A key is represented by two hashes of 64 bits under seeds of this pass, as Kafka's cleaner trusts 128 bits of MD5;
//! the seeds are random, so nobody can choose keys that meet. 24 bytes a key, filled to nine tenths.

use std::hash::{DefaultHasher, Hasher};

/// Bytes of one entry.
const SLOT_BYTES: u64 = 24;
/// Fewest entries, so that every pass gets on.
const LEAST_SLOTS: u64 = 64;

#[derive(Debug, Clone, Copy)]
struct Slot {
    hash: (u64, u64),
    /// -1 = free.
    offset: i64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct OffsetMap {
    slots: Vec<Slot>,
    used: usize,
    most: usize,
    seeds: (u64, u64),
}

impl OffsetMap {
    /// A table for `keys` keys, or for as many as `budget_bytes` hold.
    pub(crate) fn new(keys: u64, budget_bytes: u64, seeds: (u64, u64)) -> Self {
        let wanted = keys.saturating_add(keys / 8).saturating_add(1);
        let most = (budget_bytes / SLOT_BYTES).max(LEAST_SLOTS);
        let slots = wanted.clamp(LEAST_SLOTS, most);
        let slots = usize::try_from(slots).unwrap_or(LEAST_SLOTS as usize);
        let free = Slot {
            hash: (0, 0),
            offset: -1,
        };
        OffsetMap {
            slots: vec![free; slots],
            used: 0,
            most: slots / 10 * 9,
            seeds,
        }
    }

    /// Notes a key's offset, which is larger than all before. False if there is no room for another key.
    pub(crate) fn put(&mut self, key: &[u8], offset: i64) -> bool {
        let hash = self.hash(key);
        let at = self.find(hash);
        if self.slots[at].offset < 0 {
            if self.used >= self.most {
                return false;
            }
            self.used += 1;
        }
        self.slots[at] = Slot { hash, offset };
        true
    }

    /// The newest offset of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<i64> {
        let slot = self.slots[self.find(self.hash(key))];
        (slot.offset >= 0).then_some(slot.offset)
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.used
    }

    fn hash(&self, key: &[u8]) -> (u64, u64) {
        let one = |seed| {
            let mut hasher = DefaultHasher::new();
            hasher.write_u64(seed);
            hasher.write(key);
            hasher.finish()
        };
        (one(self.seeds.0), one(self.seeds.1))
    }

    /// The place of a hash, or the free one where it belongs. There always is a free one.
    fn find(&self, hash: (u64, u64)) -> usize {
        let count = self.slots.len();
        let mut at = ((u128::from(hash.0) * count as u128) >> 64) as usize;
        loop {
            let slot = self.slots[at];
            if slot.offset < 0 || slot.hash == hash {
                return at;
            }
            at = if at + 1 == count { 0 } else { at + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_offset_of_each_key_until_it_is_full() {
        let mut map = OffsetMap::new(1_000_000, 24 * 1000, (1, 2));
        let mut known = std::collections::HashMap::new();
        let mut offset = 0;
        let mut full = false;
        for round in 0..3 {
            for key in 0..2000u32 {
                offset += 1;
                let key = (key * 7 + round).to_string();
                if map.put(key.as_bytes(), offset) {
                    known.insert(key, offset);
                } else {
                    full = true;
                    assert!(!known.contains_key(&key), "a known key always has room");
                }
            }
        }
        assert!(full && map.len() == 900 && known.len() == 900);
        for (key, offset) in &known {
            assert_eq!(map.get(key.as_bytes()), Some(*offset));
        }
        assert_eq!(map.get(b"never"), None);
    }

    #[test]
    fn it_is_no_larger_than_the_keys_need() {
        assert!(OffsetMap::new(100, 1 << 30, (1, 2)).slots.len() < 200);
        let mut smallest = OffsetMap::new(u64::MAX, 0, (1, 2));
        assert!(smallest.put(b"a", 0) && smallest.get(b"a") == Some(0));
    }
}
