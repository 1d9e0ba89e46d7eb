//! A topic as it lies in the log's journaled table: key = topic name, value =
//!
//! ```text
//! version u8 = 1 | topic id 16 bytes | partitions u32 BE | created, ms since 1970 i64 BE
//! | overrides u32 BE count, then per override: key length u16 BE, key, value length u32 BE, value
//! version 2 goes on:
//! | directories u16 BE count, then the id of each, 22 ASCII
//! | per partition u16 BE: 0 = the main directory, n = the n-th of these
//! ```
//!
//! Version 2 is written only when a partition lies outside the main directory.
//!
//! The journal carries the checksum. An entry that does not parse stops the start: topics are never guessed.

use uuid::Uuid;

use super::config::Overrides;
use crate::log_dirs::ID_BYTES;

const ALL_IN_MAIN: u8 = 1;
const PLACED: u8 = 2;

/// In which data directory each partition lies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Places {
    /// Ids of directories other than the main one.
    ids: Vec<String>,
    /// By partition: 0 = main, else one more than the place in `ids`. Empty = all in the main directory.
    of: Vec<u16>,
}

impl Places {
    /// Those of partitions in the directories with these ids; `None` = the main one.
    pub(super) fn new<'a>(ids: impl Iterator<Item = Option<&'a str>>) -> Places {
        let mut places = Places::default();
        for id in ids {
            let place = match id {
                None => 0,
                Some(id) => match places.ids.iter().position(|known| known == id) {
                    Some(known) => known + 1,
                    None => {
                        places.ids.push(id.to_owned());
                        places.ids.len()
                    }
                },
            };
            places.of.push(u16::try_from(place).unwrap_or(u16::MAX));
        }
        if places.ids.is_empty() {
            places.of.clear();
        }
        places
    }

    /// The id of a partition's directory; `None` = the main one.
    pub(super) fn id_of(&self, partition: usize) -> Option<&str> {
        let place = usize::from(*self.of.get(partition)?);
        self.ids.get(place.checked_sub(1)?).map(String::as_str)
    }

    /// Every directory but the main one.
    pub(super) fn ids(&self) -> &[String] {
        &self.ids
    }
}

/// The persistent part of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredTopic {
    pub(super) id: Uuid,
    pub(super) partitions: u32,
    pub(super) created_ms: i64,
    pub(super) overrides: Overrides,
    pub(super) places: Places,
}

/// Why an entry cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoredTopicError {
    /// The entry ends too early, is too long, or holds text that is not UTF-8.
    #[error("the entry is damaged")]
    Damaged,
    /// Written by a later version of this program.
    #[error(
        "the entry has format version {0}; this program knows versions 1 and 2: use the program that wrote it"
    )]
    Version(u8),
}

impl StoredTopic {
    pub(super) fn encode(&self) -> Vec<u8> {
        let placed = !self.places.ids.is_empty();
        let mut out = vec![if placed { PLACED } else { ALL_IN_MAIN }];
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(&self.partitions.to_be_bytes());
        out.extend_from_slice(&self.created_ms.to_be_bytes());
        out.extend_from_slice(&(self.overrides.len() as u32).to_be_bytes());
        for (key, value) in &self.overrides {
            out.extend_from_slice(&(key.len() as u16).to_be_bytes());
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(&(value.len() as u32).to_be_bytes());
            out.extend_from_slice(value.as_bytes());
        }
        if placed {
            out.extend_from_slice(&(self.places.ids.len() as u16).to_be_bytes());
            for id in &self.places.ids {
                out.extend_from_slice(id.as_bytes());
            }
            for place in &self.places.of {
                out.extend_from_slice(&place.to_be_bytes());
            }
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<StoredTopic, StoredTopicError> {
        let mut rest = bytes;
        let [version] = take(&mut rest)?;
        if !matches!(version, ALL_IN_MAIN | PLACED) {
            return Err(StoredTopicError::Version(version));
        }
        let id = Uuid::from_bytes(take(&mut rest)?);
        let partitions = u32::from_be_bytes(take(&mut rest)?);
        let created_ms = i64::from_be_bytes(take(&mut rest)?);
        let count = u32::from_be_bytes(take(&mut rest)?);
        let mut overrides = Overrides::new();
        for _ in 0..count {
            let key_len = u16::from_be_bytes(take(&mut rest)?);
            let key = text(&mut rest, usize::from(key_len))?;
            let value_len = u32::from_be_bytes(take(&mut rest)?);
            let value = text(&mut rest, value_len as usize)?;
            overrides.insert(key, value);
        }
        let places = match version {
            PLACED => places(&mut rest, partitions)?,
            _ => Places::default(),
        };
        if rest.is_empty() {
            Ok(StoredTopic {
                id,
                partitions,
                created_ms,
                overrides,
                places,
            })
        } else {
            Err(StoredTopicError::Damaged)
        }
    }
}

fn places(rest: &mut &[u8], partitions: u32) -> Result<Places, StoredTopicError> {
    let count = u16::from_be_bytes(take(rest)?);
    let mut places = Places::default();
    for _ in 0..count {
        places.ids.push(text(rest, ID_BYTES)?);
    }
    for _ in 0..partitions {
        let place = u16::from_be_bytes(take(rest)?);
        if place > count {
            return Err(StoredTopicError::Damaged);
        }
        places.of.push(place);
    }
    Ok(places)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], StoredTopicError> {
    let (head, tail) = rest.split_first_chunk().ok_or(StoredTopicError::Damaged)?;
    *rest = tail;
    Ok(*head)
}

fn text(rest: &mut &[u8], len: usize) -> Result<String, StoredTopicError> {
    let (head, tail) = rest
        .split_at_checked(len)
        .ok_or(StoredTopicError::Damaged)?;
    *rest = tail;
    String::from_utf8(head.to_vec()).map_err(|_| StoredTopicError::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(places: Places) -> StoredTopic {
        StoredTopic {
            id: Uuid::from_u128(7),
            partitions: 3,
            created_ms: 1_700_000_000_000,
            overrides: [("retention.ms".to_owned(), "5".to_owned())].into(),
            places,
        }
    }

    #[test]
    fn what_is_written_is_read_and_every_cut_is_noticed() {
        let (one, other) = ("1".repeat(ID_BYTES), "2".repeat(ID_BYTES));
        let all_in_main = Places::new([None; 3].into_iter());
        assert_eq!(all_in_main, Places::default());
        let placed = [Some(&*other), None, Some(&*one)];
        for (version, places) in [
            (ALL_IN_MAIN, all_in_main),
            (PLACED, Places::new(placed.into_iter())),
        ] {
            let topic = topic(places);
            let bytes = topic.encode();
            assert_eq!(bytes[0], version);
            assert_eq!(StoredTopic::decode(&bytes), Ok(topic));
            for len in 0..bytes.len() {
                assert_eq!(
                    StoredTopic::decode(&bytes[..len]),
                    Err(StoredTopicError::Damaged),
                    "{len}"
                );
            }
            let mut later = bytes;
            later[0] = 3;
            assert_eq!(
                StoredTopic::decode(&later),
                Err(StoredTopicError::Version(3))
            );
        }
        let places = Places::new(placed.into_iter());
        let ids: Vec<_> = (0..4).map(|partition| places.id_of(partition)).collect();
        assert_eq!(ids, [Some(&*other), None, Some(&*one), None]);
    }

    #[test]
    fn a_place_that_is_none_is_damage() {
        let id = "1".repeat(ID_BYTES);
        let mut bytes = topic(Places::new([Some(&*id); 3].into_iter())).encode();
        *bytes.last_mut().unwrap() = 2;
        assert_eq!(StoredTopic::decode(&bytes), Err(StoredTopicError::Damaged));
    }
}
