//! The guard in front of the generated decoder: walks a request body by its schema and bounds every count.
//!
//! Why: the decoder of `kafka-protocol` allocates `count` elements before it has seen one of them, so four hostile
//! bytes ask for 150 GB and abort the process. The guard reads the same bytes first, allocates nothing, and lets a body
//! pass only if every string, byte field, array element and tagged field really lies inside the frame and the number of
//! elements is within [`MAX_ELEMENTS`]. What the decoder may then allocate is bounded by the frame and that number.
//!
//! Invariant: for every body that passes, the decoder sees the same lengths as the guard (same varints, same tags), so
//! no count it trusts is unchecked. Schemas: `schemas`, one per served key, after Kafka's message JSON files.

use crate::schemas::{Field, Kind, Schema, schema_of};

/// Most array elements and tagged fields in one request, all arrays together. Far above what a client sends (a Fetch
/// of every partition of a large broker has tens of thousands) and small enough that their decoded form stays within
/// tens of megabytes.
pub const MAX_ELEMENTS: usize = 250_000;

/// Why a body is refused. Positions are bytes from the start of the walked slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GuardError {
    /// No schema for this key: the caller must refuse the key before.
    #[error("api key {key} has no schema")]
    UnknownKey {
        /// The API key.
        key: i16,
    },
    /// A field needs more bytes than the frame still has.
    #[error("field at byte {position} needs {needed} bytes, {remaining} remain")]
    Truncated {
        /// Where the field starts.
        position: usize,
        /// Bytes it needs.
        needed: usize,
        /// Bytes left in the frame.
        remaining: usize,
    },
    /// A length below -1.
    #[error("length {length} at byte {position} is negative")]
    NegativeLength {
        /// Where the length stands.
        position: usize,
        /// The length as sent.
        length: i32,
    },
    /// An array claims more elements than bytes remain.
    #[error("array at byte {position} claims {count} elements, {remaining} bytes remain")]
    CountTooLarge {
        /// Where the count stands.
        position: usize,
        /// The count as sent.
        count: u32,
        /// Bytes left in the frame.
        remaining: usize,
    },
    /// More than [`MAX_ELEMENTS`] elements in the request.
    #[error("more than {MAX_ELEMENTS} array elements in one request")]
    TooManyElements,
    /// A varint longer than five bytes or above 32 bits.
    #[error("varint at byte {position} is too long")]
    Varint {
        /// Where the varint starts.
        position: usize,
    },
    /// A known tagged field's declared size is not the size of its content.
    #[error("tagged field {tag} at byte {position} declares {declared} bytes but holds {actual}")]
    TagSize {
        /// Where the content starts.
        position: usize,
        /// The tag.
        tag: u32,
        /// Declared bytes.
        declared: usize,
        /// Bytes its content takes.
        actual: usize,
    },
}

/// Walks the body of a request; `Ok` means that the generated decoder may have it.
///
/// # Errors
/// The first length or count that does not fit, with its position.
pub fn check(key: i16, version: i16, body: &[u8]) -> Result<(), GuardError> {
    let schema = schema_of(key).ok_or(GuardError::UnknownKey { key })?;
    Walker::new(body).message(schema, version)
}

/// A bounded reader over one frame. Never allocates.
#[derive(Debug)]
pub(crate) struct Walker<'a> {
    bytes: &'a [u8],
    position: usize,
    elements: usize,
}

impl<'a> Walker<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Walker {
            bytes,
            position: 0,
            elements: 0,
        }
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    pub(crate) fn skip(&mut self, needed: usize) -> Result<(), GuardError> {
        self.take(needed).map(|_| ())
    }

    fn take(&mut self, needed: usize) -> Result<&'a [u8], GuardError> {
        let remaining = self.remaining();
        if needed > remaining {
            return Err(GuardError::Truncated {
                position: self.position,
                needed,
                remaining,
            });
        }
        let taken = &self.bytes[self.position..self.position + needed];
        self.position += needed;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], GuardError> {
        let mut value = [0; N];
        value.copy_from_slice(self.take(N)?);
        Ok(value)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, GuardError> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    pub(crate) fn i32(&mut self) -> Result<i32, GuardError> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    fn uvarint(&mut self) -> Result<u32, GuardError> {
        let start = self.position;
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed()?;
            if shift == 28 && byte > 0x0f {
                return Err(GuardError::Varint { position: start });
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(GuardError::Varint { position: start })
    }

    /// A signed length: -1 is null, below is an error.
    fn length(&self, length: i32, position: usize) -> Result<Option<u32>, GuardError> {
        match u32::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(GuardError::NegativeLength { position, length }),
        }
    }

    /// The length of a string, byte field or array; `None` is null. `wide` = i32 instead of i16 when not flexible.
    fn any_length(&mut self, flexible: bool, wide: bool) -> Result<Option<u32>, GuardError> {
        let position = self.position;
        if flexible {
            return Ok(self.uvarint()?.checked_sub(1));
        }
        let length = if wide {
            self.i32()?
        } else {
            i32::from(self.i16()?)
        };
        self.length(length, position)
    }

    fn count_elements(&mut self, count: u32, position: usize) -> Result<(), GuardError> {
        let remaining = self.remaining();
        if count as usize > remaining {
            return Err(GuardError::CountTooLarge {
                position,
                count,
                remaining,
            });
        }
        self.elements += count as usize;
        if self.elements > MAX_ELEMENTS {
            return Err(GuardError::TooManyElements);
        }
        Ok(())
    }

    fn message(&mut self, schema: &Schema, version: i16) -> Result<(), GuardError> {
        let flexible = version >= schema.flexible;
        self.fields(schema.fields, version, flexible)
    }

    fn fields(&mut self, fields: &[Field], version: i16, flexible: bool) -> Result<(), GuardError> {
        for field in fields {
            if field.tag.is_none() && field.in_version(version) {
                self.value(&field.kind, version, flexible)?;
            }
        }
        if flexible {
            self.tags(fields, version)?;
        }
        Ok(())
    }

    fn value(&mut self, kind: &Kind, version: i16, flexible: bool) -> Result<(), GuardError> {
        let position = self.position;
        match kind {
            Kind::Fixed(width) => self.skip(*width),
            Kind::Text => {
                let length = self.any_length(flexible, false)?;
                self.skip(length.unwrap_or(0) as usize)
            }
            Kind::Blob => {
                let length = self.any_length(flexible, true)?;
                self.skip(length.unwrap_or(0) as usize)
            }
            Kind::List(element) => {
                let count = self.any_length(flexible, true)?.unwrap_or(0);
                self.count_elements(count, position)?;
                for _ in 0..count {
                    self.value(element, version, flexible)?;
                }
                Ok(())
            }
            Kind::Structs(fields) => {
                let count = self.any_length(flexible, true)?.unwrap_or(0);
                self.count_elements(count, position)?;
                for _ in 0..count {
                    self.fields(fields, version, flexible)?;
                }
                Ok(())
            }
            Kind::OptionalStruct(fields) => {
                let [present] = self.fixed()?;
                if present == 1 {
                    self.fields(fields, version, flexible)?;
                }
                Ok(())
            }
        }
    }

    fn tags(&mut self, fields: &[Field], version: i16) -> Result<(), GuardError> {
        let position = self.position;
        let count = self.uvarint()?;
        self.count_elements(count, position)?;
        for _ in 0..count {
            let tag = self.uvarint()?;
            let declared = self.uvarint()? as usize;
            let known = fields
                .iter()
                .find(|field| field.tag == Some(tag) && field.in_version(version));
            let Some(field) = known else {
                self.skip(declared)?;
                continue;
            };
            let start = self.position;
            self.value(&field.kind, version, true)?;
            let actual = self.position - start;
            if actual != declared {
                return Err(GuardError::TagSize {
                    position: start,
                    tag,
                    declared,
                    actual,
                });
            }
        }
        Ok(())
    }

    /// Tagged fields of which none is known (request headers).
    pub(crate) fn unknown_tags(&mut self) -> Result<(), GuardError> {
        self.tags(&[], 0)
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, Bytes, BytesMut};
    use kafka_protocol::messages::*;
    use kafka_protocol::protocol::Decodable;

    use super::*;
    use crate::api_versions::SERVED;

    /// Deterministic small generator; the seed is in every failure message.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (self.0 >> 33) % bound
        }
    }

    fn put_uvarint(out: &mut BytesMut, mut value: u32) {
        while value >= 0x80 {
            out.put_u8((value as u8) | 0x80);
            value >>= 7;
        }
        out.put_u8(value as u8);
    }

    fn put_length(out: &mut BytesMut, length: u32, flexible: bool, wide: bool) {
        match (flexible, wide) {
            (true, _) => put_uvarint(out, length + 1),
            (false, true) => out.put_i32(length as i32),
            (false, false) => out.put_i16(length as i16),
        }
    }

    fn write_value(
        out: &mut BytesMut,
        kind: &Kind,
        version: i16,
        flexible: bool,
        random: &mut Random,
    ) {
        let length = random.below(4) as u32;
        match kind {
            Kind::Fixed(width) => out.put_bytes(1, *width),
            Kind::Text | Kind::Blob => {
                put_length(out, length, flexible, matches!(kind, Kind::Blob));
                out.put_bytes(b'a', length as usize);
            }
            Kind::List(element) => {
                put_length(out, length, flexible, true);
                for _ in 0..length {
                    write_value(out, element, version, flexible, random);
                }
            }
            Kind::Structs(fields) => {
                put_length(out, length, flexible, true);
                for _ in 0..length {
                    write_fields(out, fields, version, flexible, random);
                }
            }
            Kind::OptionalStruct(fields) => {
                if length == 0 {
                    out.put_i8(-1);
                } else {
                    out.put_i8(1);
                    write_fields(out, fields, version, flexible, random);
                }
            }
        }
    }

    fn write_fields(
        out: &mut BytesMut,
        fields: &[Field],
        version: i16,
        flexible: bool,
        random: &mut Random,
    ) {
        let present = |field: &&Field| field.in_version(version);
        for field in fields
            .iter()
            .filter(present)
            .filter(|field| field.tag.is_none())
        {
            write_value(out, &field.kind, version, flexible, random);
        }
        if !flexible {
            return;
        }
        let tagged: Vec<&Field> = fields
            .iter()
            .filter(present)
            .filter(|field| field.tag.is_some())
            .collect();
        put_uvarint(out, tagged.len() as u32 + 1);
        for field in tagged {
            let mut content = BytesMut::new();
            write_value(&mut content, &field.kind, version, true, random);
            put_uvarint(out, field.tag.unwrap());
            put_uvarint(out, content.len() as u32);
            out.put_slice(&content);
        }
        put_uvarint(out, 99);
        put_uvarint(out, 2);
        out.put_slice(b"??");
    }

    /// Decodes with the generated struct of the key; the number of bytes left over.
    fn decode(key: ApiKey, version: i16, mut body: Bytes) -> Result<usize, String> {
        macro_rules! by_key {
            ($($name:ident => $request:ty),* $(,)?) => {
                match key {
                    $(ApiKey::$name => <$request>::decode(&mut body, version).map(drop),)*
                    other => panic!("{other:?} has no decoder in this test"),
                }
            };
        }
        by_key!(
            Produce => ProduceRequest, Fetch => FetchRequest, ListOffsets => ListOffsetsRequest,
            Metadata => MetadataRequest, OffsetCommit => OffsetCommitRequest, OffsetFetch => OffsetFetchRequest,
            FindCoordinator => FindCoordinatorRequest, JoinGroup => JoinGroupRequest, Heartbeat => HeartbeatRequest,
            LeaveGroup => LeaveGroupRequest, SyncGroup => SyncGroupRequest, DescribeGroups => DescribeGroupsRequest,
            ListGroups => ListGroupsRequest, ApiVersions => ApiVersionsRequest, CreateTopics => CreateTopicsRequest,
            DeleteTopics => DeleteTopicsRequest, DeleteRecords => DeleteRecordsRequest,
            InitProducerId => InitProducerIdRequest, OffsetForLeaderEpoch => OffsetForLeaderEpochRequest,
            DescribeConfigs => DescribeConfigsRequest, AlterConfigs => AlterConfigsRequest,
            DescribeLogDirs => DescribeLogDirsRequest, CreatePartitions => CreatePartitionsRequest,
            DeleteGroups => DeleteGroupsRequest, IncrementalAlterConfigs => IncrementalAlterConfigsRequest,
            ListPartitionReassignments => ListPartitionReassignmentsRequest, OffsetDelete => OffsetDeleteRequest,
            DescribeCluster => DescribeClusterRequest, DescribeTopicPartitions => DescribeTopicPartitionsRequest,
        )
        .map(|()| body.len())
        .map_err(|error| error.to_string())
    }

    #[test]
    fn schemas_agree_with_the_generated_structs_in_every_version() {
        for api in SERVED {
            for version in api.served_min..=api.max {
                for seed in 0..40 {
                    let schema = schema_of(api.key as i16).unwrap();
                    let mut body = BytesMut::new();
                    let flexible = version >= schema.flexible;
                    assert_eq!(
                        flexible,
                        api.flexible_header(version),
                        "{:?} v{version}",
                        api.key
                    );
                    write_fields(
                        &mut body,
                        schema.fields,
                        version,
                        flexible,
                        &mut Random(seed),
                    );
                    let body = body.freeze();
                    let mut walker = Walker::new(&body);
                    walker.message(schema, version).unwrap();
                    assert_eq!(
                        walker.remaining(),
                        0,
                        "{:?} v{version} seed {seed}",
                        api.key
                    );
                    assert_eq!(
                        decode(api.key, version, body),
                        Ok(0),
                        "{:?} v{version} seed {seed}",
                        api.key
                    );
                }
            }
        }
    }

    #[test]
    fn whatever_passes_the_guard_decodes_without_an_abort() {
        for seed in 0..60_000u64 {
            let mut random = Random(seed);
            let api = &SERVED[random.below(SERVED.len() as u64) as usize];
            let version =
                api.served_min + random.below((api.max - api.served_min + 1) as u64) as i16;
            let schema = schema_of(api.key as i16).unwrap();
            let mut body = BytesMut::new();
            write_fields(
                &mut body,
                schema.fields,
                version,
                version >= schema.flexible,
                &mut random,
            );
            let flips = random.below(4);
            for _ in 0..flips {
                let at = random.below(body.len().max(1) as u64) as usize;
                if let Some(byte) = body.get_mut(at) {
                    *byte = [0x7f, 0xff, 0x80, 0, 0x0f, 2][random.below(6) as usize];
                }
            }
            let body = body.freeze();
            if check(api.key as i16, version, &body).is_ok() {
                let _decoded = decode(api.key, version, body);
            }
        }
    }

    #[test]
    fn huge_counts_are_refused_before_anything_is_allocated() {
        let metadata = [0x7f, 0xff, 0xff, 0xff];
        assert!(matches!(
            check(3, 1, &metadata),
            Err(GuardError::CountTooLarge { .. })
        ));
        let compact = [0xff, 0xff, 0xff, 0xff, 0x0f];
        assert!(matches!(
            check(3, 12, &compact),
            Err(GuardError::CountTooLarge { .. })
        ));
        assert!(matches!(
            check(3, 1, &[0x80, 0, 0, 0]),
            Err(GuardError::NegativeLength { .. })
        ));
        assert!(matches!(
            check(3, 12, &[0xff; 6]),
            Err(GuardError::Varint { .. })
        ));
        assert_eq!(check(999, 0, &[]), Err(GuardError::UnknownKey { key: 999 }));
    }

    #[test]
    fn the_number_of_elements_is_bounded_however_long_the_frame_is() {
        let count = MAX_ELEMENTS as u32 + 1;
        let mut body = BytesMut::new();
        body.put_u32(count);
        body.put_bytes(0, count as usize * 2);
        assert_eq!(check(42, 0, &body), Err(GuardError::TooManyElements));
    }

    #[test]
    fn a_known_tag_must_hold_what_it_declares() {
        let mut body = BytesMut::new();
        body.put_bytes(0, 4 + 4 + 4 + 4 + 1 + 4 + 4);
        body.put_slice(&[1, 1, 1]);
        body.put_slice(&[1, 0, 9, 2, b'x']);
        assert!(matches!(
            check(1, 12, &body),
            Err(GuardError::TagSize {
                tag: 0,
                declared: 9,
                ..
            })
        ));
    }
}
