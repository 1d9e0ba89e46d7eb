//! A topic as it lies in the log's journaled table: key = topic name, value =
//!
//! ```text
//! version u8 = 1 | topic id 16 bytes | partitions u32 BE | created, ms since 1970 i64 BE
//! | overrides u32 BE count, then per override: key length u16 BE, key, value length u32 BE, value
//! ```
//!
//! The journal carries the checksum. An entry that does not parse stops the start: topics are never guessed.

use uuid::Uuid;

use super::config::Overrides;

const VERSION: u8 = 1;

/// The persistent part of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredTopic {
    pub(super) id: Uuid,
    pub(super) partitions: u32,
    pub(super) created_ms: i64,
    pub(super) overrides: Overrides,
}

/// Why an entry cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoredTopicError {
    /// The entry ends too early, is too long, or holds text that is not UTF-8.
    #[error("the entry is damaged")]
    Damaged,
    /// Written by a later version of this program.
    #[error(
        "the entry has format version {0}; this program knows version 1: use the program that wrote it"
    )]
    Version(u8),
}

impl StoredTopic {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
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
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<StoredTopic, StoredTopicError> {
        let mut rest = bytes;
        let [version] = take(&mut rest)?;
        if version != VERSION {
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
        if rest.is_empty() {
            Ok(StoredTopic {
                id,
                partitions,
                created_ms,
                overrides,
            })
        } else {
            Err(StoredTopicError::Damaged)
        }
    }
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

    #[test]
    fn what_is_written_is_read_and_every_cut_is_noticed() {
        let topic = StoredTopic {
            id: Uuid::from_u128(7),
            partitions: 3,
            created_ms: 1_700_000_000_000,
            overrides: [("retention.ms".to_owned(), "5".to_owned())].into(),
        };
        let bytes = topic.encode();
        assert_eq!(StoredTopic::decode(&bytes), Ok(topic));
        for len in 0..bytes.len() {
            assert_eq!(
                StoredTopic::decode(&bytes[..len]),
                Err(StoredTopicError::Damaged),
                "{len}"
            );
        }
        let mut later = bytes;
        later[0] = 2;
        assert_eq!(
            StoredTopic::decode(&later),
            Err(StoredTopicError::Version(2))
        );
    }
}
