//! The small journaled key-value tables, in memory: topics, configs, group offsets, producer id blocks, cursors.
//!
//! The journal is their truth; every checkpoint carries them whole. Bounded by [`MAX_TABLE_BYTES`] for all together.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::op::Table;

/// Most bytes of keys and values in all tables together.
pub const MAX_TABLE_BYTES: u64 = 256 << 20;

/// All tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tables {
    maps: BTreeMap<Table, BTreeMap<Bytes, Bytes>>,
    bytes: u64,
}

impl Tables {
    /// Sets a key. Copies both, so that a table never keeps a request's buffer alive.
    pub(crate) fn put(&mut self, table: Table, key: &[u8], value: &[u8]) {
        let value = Bytes::copy_from_slice(value);
        self.bytes += value.len() as u64;
        let map = self.maps.entry(table).or_default();
        if let Some(old) = map.get_mut(key) {
            self.bytes -= old.len() as u64;
            *old = value;
        } else {
            self.bytes += key.len() as u64;
            map.insert(Bytes::copy_from_slice(key), value);
        }
    }

    /// Removes a key, if it is there.
    pub(crate) fn delete(&mut self, table: Table, key: &[u8]) {
        if let Some(old) = self.maps.get_mut(&table).and_then(|map| map.remove(key)) {
            self.bytes -= (key.len() + old.len()) as u64;
        }
    }

    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Option<Bytes> {
        self.maps.get(&table)?.get(key).cloned()
    }

    /// Entries whose key starts with `prefix`, ascending.
    pub(crate) fn scan_prefix(&self, table: Table, prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        let Some(map) = self.maps.get(&table) else {
            return Vec::new();
        };
        map.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// Bytes of all keys and values.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Every entry of every table.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Table, &Bytes, &Bytes)> {
        self.maps
            .iter()
            .flat_map(|(table, map)| map.iter().map(|(key, value)| (*table, key, value)))
    }

    pub(crate) fn len(&self) -> usize {
        self.maps.values().map(BTreeMap::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scans_by_prefix_and_counts_bytes() {
        let mut tables = Tables::default();
        tables.put(Table::Topics, b"a/1", b"x");
        tables.put(Table::Topics, b"a/2", b"yy");
        tables.put(Table::Topics, b"b", b"z");
        tables.put(Table::Topics, b"a/1", b"longer");
        let keys: Vec<_> = tables.scan_prefix(Table::Topics, b"a/");
        assert_eq!(keys.len(), 2);
        assert_eq!(keys[0].1, "longer");
        assert_eq!(tables.bytes(), 3 + 6 + 3 + 2 + 1 + 1);
        tables.delete(Table::Topics, b"a/1");
        tables.delete(Table::Topics, b"a/1");
        assert_eq!(tables.bytes(), 3 + 2 + 1 + 1);
        assert!(tables.get(Table::Groups, b"b").is_none());
    }
}
