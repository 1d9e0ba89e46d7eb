//! Flume's position file as bytes (reference 3.10): parsing and formatting, no I/O.
//!
//! ```text
//! [{"inode":123,"pos":456,"file":"/var/log/a.log"},…]
//! ```
//!
//! We write exactly these three keys: Flume's reader stops with an exception at a key it does not
//! know, and a Flume that takes over again has to be able to read the file. What we know beyond
//! them stands in the journal beside it (see the `journal` module).
//!
//! As Flume does, an array that is cut or damaged counts up to the damage.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use thiserror::Error;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Inode number; Java writes it as a signed number.
    pub inode: u64,
    /// Bytes that were delivered.
    pub position: u64,
    /// Absolute path.
    pub path: String,
}

/// What is wrong with a position file.
#[derive(Debug, Error)]
pub enum PositionsError {
    /// An entry lacks a key or has a value that cannot be one. Flume refuses to start.
    #[error(
        "entry {entry} has no valid `{key}`; correct it, or delete the entry to read that file from its start"
    )]
    Entry {
        /// Number of the entry, from 1.
        entry: usize,
        /// The key.
        key: &'static str,
    },
    /// No JSON array from some point on. Flume logs it and uses what stands before.
    #[error("is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
}

/// The entries before the first fault, and the fault.
#[derive(Debug, Default)]
pub struct ParsedPositions {
    /// The entries.
    pub positions: Vec<Position>,
    /// The first fault.
    pub fault: Option<PositionsError>,
}

/// Parses a position file. An empty one has no entries and no fault.
pub fn parse_positions(bytes: &[u8]) -> ParsedPositions {
    let mut parsed = ParsedPositions::default();
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return parsed;
    }
    let mut bad_entry = None;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let entries = Entries {
        positions: &mut parsed.positions,
        bad_entry: &mut bad_entry,
    };
    let read = entries.deserialize(&mut reader);
    parsed.fault = match (bad_entry, read) {
        (Some((entry, key)), _) => Some(PositionsError::Entry { entry, key }),
        (None, Err(error)) => Some(PositionsError::Damaged(error)),
        (None, Ok(())) => None,
    };
    parsed
}

/// Formats a position file as Flume does.
pub(super) fn format_positions<'a>(entries: impl Iterator<Item = (u64, u64, &'a str)>) -> Vec<u8> {
    let mut text = String::from("[");
    for (index, (inode, position, path)) in entries.enumerate() {
        if index > 0 {
            text.push(',');
        }
        let path = serde_json::Value::from(path);
        let inode = inode.cast_signed();
        text.push_str(&format!(
            r#"{{"inode":{inode},"pos":{position},"file":{path}}}"#
        ));
    }
    text.push(']');
    text.into_bytes()
}

/// Reads the array entry by entry, so that what stands before a fault is kept.
struct Entries<'a> {
    positions: &'a mut Vec<Position>,
    bad_entry: &'a mut Option<(usize, &'static str)>,
}

impl<'de> DeserializeSeed<'de> for Entries<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Entries<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array of positions")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(raw) = entries.next_element_seed(RawSeed)? {
            match raw.check() {
                Ok(position) => self.positions.push(position),
                Err(key) => {
                    *self.bad_entry = Some((self.positions.len() + 1, key));
                    return Err(A::Error::custom("entry without its keys"));
                }
            }
        }
        Ok(())
    }
}

/// One object; of a repeated key the last counts, keys of others are passed over.
#[derive(Default)]
struct Raw {
    inode: Option<i64>,
    position: Option<i64>,
    path: Option<String>,
}

impl Raw {
    fn check(self) -> Result<Position, &'static str> {
        Ok(Position {
            inode: self.inode.ok_or("inode")?.cast_unsigned(),
            position: self
                .position
                .and_then(|position| u64::try_from(position).ok())
                .ok_or("pos")?,
            path: self.path.ok_or("file")?,
        })
    }
}

struct RawSeed;

impl<'de> DeserializeSeed<'de> for RawSeed {
    type Value = Raw;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Raw, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for RawSeed {
    type Value = Raw;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with inode, pos and file")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut raw = Raw::default();
        while let Some(key) = map.next_key::<String>()? {
            let value: serde_json::Value = map.next_value()?;
            match key.as_str() {
                "inode" => raw.inode = whole_number(&value),
                "pos" => raw.position = whole_number(&value),
                "file" => raw.path = value.as_str().map(str::to_owned),
                _ => {}
            }
        }
        Ok(raw)
    }
}

/// Flume's reader also takes a number in quotes.
fn whole_number(value: &serde_json::Value) -> Option<i64> {
    match value {
        serde_json::Value::Number(number) => number
            .as_i64()
            .or_else(|| number.as_u64().map(u64::cast_signed)),
        serde_json::Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(inode: u64, position: u64, path: &str) -> Position {
        Position {
            inode,
            position,
            path: path.to_owned(),
        }
    }

    #[test]
    fn what_flume_writes_is_read_and_written_back() {
        let text = br#"[{"inode":2621443,"pos":1024,"file":"/var/log/a \"b\".log"},{"inode":7,"pos":0,"file":"/x"}]"#;
        let parsed = parse_positions(text);
        assert!(parsed.fault.is_none(), "{:?}", parsed.fault);
        assert_eq!(
            parsed.positions,
            [
                position(2_621_443, 1024, "/var/log/a \"b\".log"),
                position(7, 0, "/x")
            ]
        );
        let again = format_positions(
            parsed
                .positions
                .iter()
                .map(|entry| (entry.inode, entry.position, entry.path.as_str())),
        );
        assert_eq!(again, text);
        assert_eq!(format_positions(std::iter::empty()), b"[]");
    }

    #[test]
    fn escapes_order_quotes_and_foreign_keys_do_not_matter() {
        let text = br#" [ {"file":"\u003ca\u003e","x":[{}],"pos":"12","inode":-1} ] "#;
        let parsed = parse_positions(text);
        assert_eq!(parsed.positions, [position(u64::MAX, 12, "<a>")]);
        let written = format_positions([(u64::MAX, 12, "<a>")].into_iter());
        assert_eq!(written, br#"[{"inode":-1,"pos":12,"file":"<a>"}]"#);
    }

    #[test]
    fn a_cut_file_counts_up_to_the_cut() {
        let text = br#"[{"inode":1,"pos":2,"file":"/a"},{"inode":2,"po"#;
        let parsed = parse_positions(text);
        assert_eq!(parsed.positions, [position(1, 2, "/a")]);
        assert!(matches!(parsed.fault, Some(PositionsError::Damaged(_))));
        assert!(parse_positions(b" \n").fault.is_none());
        assert!(parse_positions(b"{}").fault.is_some());
    }

    #[test]
    fn an_entry_without_a_key_is_named() {
        for (text, missing) in [
            (&br#"[{"pos":2,"file":"/a"}]"#[..], "inode"),
            (br#"[{"inode":1,"file":"/a"}]"#, "pos"),
            (br#"[{"inode":1,"pos":-2,"file":"/a"}]"#, "pos"),
            (br#"[{"inode":1,"pos":2}]"#, "file"),
        ] {
            let fault = parse_positions(text).fault;
            assert!(
                matches!(fault, Some(PositionsError::Entry { entry: 1, key }) if key == missing),
                "{fault:?}"
            );
        }
    }
}
