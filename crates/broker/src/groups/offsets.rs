//! Committed offsets and group records as they stand in the log's tables `GroupOffsets` and `Groups`.
//!
//! ```text
//! key in Groups        group
//! key in GroupOffsets  u16 group length, group, u16 topic length, topic, i32 partition
//! value, group record  version u8 = 1, generation i32, empty since i64 (ms since 1970, -1 = has members),
//!                      u16 protocol type length, protocol type
//! value, offset        version u8 = 1, offset i64, leader epoch i32 (-1 = unknown), committed at i64 (ms since 1970),
//!                      u32 metadata length, metadata
//! ```
//!
//! All integers big-endian. Names are at most 32 767 bytes long, as the protocol has it. A value that does not decode
//! is reported and treated as absent: it can only come from a newer version.

use bytes::Bytes;
use kafka_protocol::protocol::StrBytes;

const VERSION: u8 = 1;

/// An offset that a group has committed for a partition (OffsetCommit).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next record to read.
    pub offset: i64,
    /// Leader epoch of the last record read, -1 if the client did not say.
    pub leader_epoch: i32,
    /// When, in milliseconds since 1970.
    pub committed_at_ms: i64,
    /// Whatever the client wants to get back.
    pub metadata: StrBytes,
}

impl CommittedOffset {
    pub(crate) fn encode(&self) -> Bytes {
        let mut value = Vec::with_capacity(25 + self.metadata.len());
        value.push(VERSION);
        value.extend_from_slice(&self.offset.to_be_bytes());
        value.extend_from_slice(&self.leader_epoch.to_be_bytes());
        value.extend_from_slice(&self.committed_at_ms.to_be_bytes());
        value.extend_from_slice(&(self.metadata.len() as u32).to_be_bytes());
        value.extend_from_slice(self.metadata.as_bytes());
        Bytes::from(value)
    }

    pub(crate) fn decode(value: &[u8]) -> Option<CommittedOffset> {
        let (version, rest) = value.split_first()?;
        let (offset, rest) = rest.split_first_chunk::<8>()?;
        let (leader_epoch, rest) = rest.split_first_chunk::<4>()?;
        let (committed_at, rest) = rest.split_first_chunk::<8>()?;
        let (length, metadata) = rest.split_first_chunk::<4>()?;
        if *version != VERSION || u32::from_be_bytes(*length) as usize != metadata.len() {
            return None;
        }
        Some(CommittedOffset {
            offset: i64::from_be_bytes(*offset),
            leader_epoch: i32::from_be_bytes(*leader_epoch),
            committed_at_ms: i64::from_be_bytes(*committed_at),
            metadata: owned_text(metadata)?,
        })
    }
}

/// What outlives a group's members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupRecord {
    pub(crate) generation: i32,
    /// Milliseconds since 1970; `None` while the group has members.
    pub(crate) empty_since_ms: Option<i64>,
    /// Empty if nobody ever joined.
    pub(crate) protocol_type: StrBytes,
}

impl GroupRecord {
    pub(crate) fn encode(&self) -> Bytes {
        let mut value = Vec::with_capacity(15 + self.protocol_type.len());
        value.push(VERSION);
        value.extend_from_slice(&self.generation.to_be_bytes());
        value.extend_from_slice(&self.empty_since_ms.unwrap_or(-1).to_be_bytes());
        push_text(&mut value, &self.protocol_type);
        Bytes::from(value)
    }

    pub(crate) fn decode(value: &[u8]) -> Option<GroupRecord> {
        let (version, rest) = value.split_first()?;
        let (generation, rest) = rest.split_first_chunk::<4>()?;
        let (empty_since, rest) = rest.split_first_chunk::<8>()?;
        let (protocol_type, rest) = take_text(rest)?;
        if *version != VERSION || !rest.is_empty() {
            return None;
        }
        let empty_since_ms = i64::from_be_bytes(*empty_since);
        Some(GroupRecord {
            generation: i32::from_be_bytes(*generation).max(0),
            empty_since_ms: (empty_since_ms >= 0).then_some(empty_since_ms),
            protocol_type: owned_text(protocol_type)?,
        })
    }
}

/// The key of a group's record.
pub(crate) fn group_key(group: &str) -> Bytes {
    Bytes::copy_from_slice(group.as_bytes())
}

/// What the keys of all offsets of `group` begin with.
pub(crate) fn offsets_prefix(group: &str) -> Bytes {
    let mut key = Vec::with_capacity(2 + group.len());
    push_text(&mut key, group);
    Bytes::from(key)
}

pub(crate) fn offset_key(group: &str, topic: &str, partition: i32) -> Bytes {
    let mut key = Vec::with_capacity(8 + group.len() + topic.len());
    push_text(&mut key, group);
    push_text(&mut key, topic);
    key.extend_from_slice(&partition.to_be_bytes());
    Bytes::from(key)
}

/// The group of a group record's key.
pub(crate) fn parse_group_key(key: &[u8]) -> Option<StrBytes> {
    owned_text(key)
}

/// Group, topic and partition of an offset's key.
pub(crate) fn parse_offset_key(key: &[u8]) -> Option<(StrBytes, StrBytes, i32)> {
    let (group, rest) = take_text(key)?;
    let (topic, rest) = take_text(rest)?;
    let partition = <[u8; 4]>::try_from(rest).ok()?;
    Some((
        owned_text(group)?,
        owned_text(topic)?,
        i32::from_be_bytes(partition),
    ))
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    // Names come from protocol strings, whose length is an i16 or was checked against it.
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&text.as_bytes()[..usize::from(length)]);
}

fn take_text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

fn owned_text(bytes: &[u8]) -> Option<StrBytes> {
    let text = std::str::from_utf8(bytes).ok()?;
    Some(StrBytes::from_string(text.to_owned()))
}

/// A copy that does not keep the request's buffer alive.
pub(crate) fn detach(text: &StrBytes) -> StrBytes {
    StrBytes::from_string(text.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_come_back() {
        let key = offset_key("group", "topic", 7);
        let (group, topic, partition) = parse_offset_key(&key).unwrap();
        assert_eq!(
            (group.as_str(), topic.as_str(), partition),
            ("group", "topic", 7)
        );
        assert!(key.starts_with(&offsets_prefix("group")));
        assert!(!key.starts_with(&offsets_prefix("grou")));
        assert_eq!(parse_group_key(&group_key("g")).unwrap().as_str(), "g");
        assert_eq!(parse_offset_key(&key[..key.len() - 1]), None);

        let offset = CommittedOffset {
            offset: 42,
            leader_epoch: -1,
            committed_at_ms: 1_700_000_000_000,
            metadata: StrBytes::from_static_str("näher"),
        };
        assert_eq!(
            CommittedOffset::decode(&offset.encode()),
            Some(offset.clone())
        );
        for empty_since_ms in [None, Some(5)] {
            let protocol_type = StrBytes::from_static_str("consumer");
            let record = GroupRecord {
                generation: 3,
                empty_since_ms,
                protocol_type,
            };
            assert_eq!(GroupRecord::decode(&record.encode()), Some(record));
        }
    }

    #[test]
    fn damaged_values_are_absent_not_wrong() {
        let offset = CommittedOffset {
            offset: 1,
            leader_epoch: 2,
            committed_at_ms: 3,
            metadata: StrBytes::default(),
        };
        let value = offset.encode();
        for length in 0..value.len() {
            assert_eq!(CommittedOffset::decode(&value[..length]), None);
        }
        let mut newer = value.to_vec();
        newer[0] = 2;
        assert_eq!(CommittedOffset::decode(&newer), None);
    }
}
