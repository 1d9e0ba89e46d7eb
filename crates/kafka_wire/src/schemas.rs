//! The shape of every served request, in wire order, for the guard. A table: longer than other files on purpose.
//!
//! After Kafka's message definitions (`clients/src/main/resources/common/message/*Request.json`). Only what moves the
//! reading position matters here: widths, lengths, counts, versions and known tags. A test encodes every request in
//! every version and demands that the walk ends exactly at its last byte.

use kafka_protocol::messages::ApiKey;

/// How a field takes up bytes.
#[derive(Debug)]
pub(crate) enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A string, nullable or not.
    Text,
    /// A byte field or records, nullable or not.
    Blob,
    /// An array of primitives.
    List(&'static Kind),
    /// An array of structs.
    Structs(&'static [Field]),
    /// A nullable struct: one presence byte, then the struct if it is 1.
    OptionalStruct(&'static [Field]),
}

/// One field and the versions that have it.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) kind: Kind,
    pub(crate) from: i16,
    pub(crate) to: i16,
    pub(crate) tag: Option<u32>,
}

impl Field {
    pub(crate) fn in_version(&self, version: i16) -> bool {
        (self.from..=self.to).contains(&version)
    }
}

/// One request.
#[derive(Debug)]
pub(crate) struct Schema {
    key: ApiKey,
    /// First version with compact lengths and tagged fields; `i16::MAX` = none.
    pub(crate) flexible: i16,
    pub(crate) fields: &'static [Field],
}

/// The schema of an API key, if it is served.
pub(crate) fn schema_of(key: i16) -> Option<&'static Schema> {
    SCHEMAS.iter().find(|schema| schema.key as i16 == key)
}

const fn all(kind: Kind) -> Field {
    versions(kind, 0, i16::MAX)
}
const fn since(kind: Kind, from: i16) -> Field {
    versions(kind, from, i16::MAX)
}
const fn until(kind: Kind, to: i16) -> Field {
    versions(kind, 0, to)
}
const fn versions(kind: Kind, from: i16, to: i16) -> Field {
    Field {
        kind,
        from,
        to,
        tag: None,
    }
}
const fn tagged(kind: Kind, tag: u32, from: i16) -> Field {
    Field {
        kind,
        from,
        to: i16::MAX,
        tag: Some(tag),
    }
}
const fn schema(key: ApiKey, flexible: i16, fields: &'static [Field]) -> Schema {
    Schema {
        key,
        flexible,
        fields,
    }
}

const BYTE: Kind = Kind::Fixed(1);
const SHORT: Kind = Kind::Fixed(2);
const INT: Kind = Kind::Fixed(4);
const LONG: Kind = Kind::Fixed(8);
const UUID: Kind = Kind::Fixed(16);
const TEXT: Kind = Kind::Text;
const BLOB: Kind = Kind::Blob;
const TEXTS: Kind = Kind::List(&Kind::Text);
const INTS: Kind = Kind::List(&Kind::Fixed(4));
const NEVER: i16 = i16::MAX;

const NAME_AND_PARTITIONS: &[Field] = &[all(TEXT), all(INTS)];
const NAME_AND_VALUE: &[Field] = &[all(TEXT), all(TEXT)];

const SCHEMAS: &[Schema] = &[
    schema(
        ApiKey::Produce,
        9,
        &[
            all(TEXT),
            all(SHORT),
            all(INT),
            all(Kind::Structs(&[
                until(TEXT, 12),
                since(UUID, 13),
                all(Kind::Structs(&[all(INT), all(BLOB)])),
            ])),
        ],
    ),
    schema(
        ApiKey::Fetch,
        12,
        &[
            until(INT, 14),
            all(INT),
            all(INT),
            all(INT),
            all(BYTE),
            since(INT, 7),
            since(INT, 7),
            all(Kind::Structs(&[
                until(TEXT, 12),
                since(UUID, 13),
                all(Kind::Structs(&[
                    all(INT),
                    since(INT, 9),
                    all(LONG),
                    since(INT, 12),
                    since(LONG, 5),
                    all(INT),
                    tagged(UUID, 0, 17),
                    tagged(LONG, 1, 18),
                ])),
            ])),
            since(
                Kind::Structs(&[until(TEXT, 12), since(UUID, 13), all(INTS)]),
                7,
            ),
            since(TEXT, 11),
            tagged(TEXT, 0, 12),
        ],
    ),
    schema(
        ApiKey::ListOffsets,
        6,
        &[
            all(INT),
            since(BYTE, 2),
            all(Kind::Structs(&[
                all(TEXT),
                all(Kind::Structs(&[all(INT), since(INT, 4), all(LONG)])),
            ])),
            since(INT, 10),
        ],
    ),
    schema(
        ApiKey::Metadata,
        9,
        &[
            all(Kind::Structs(&[since(UUID, 10), all(TEXT)])),
            since(BYTE, 4),
            versions(BYTE, 8, 10),
            since(BYTE, 8),
        ],
    ),
    schema(
        ApiKey::OffsetCommit,
        8,
        &[
            all(TEXT),
            all(INT),
            all(TEXT),
            since(TEXT, 7),
            versions(LONG, 2, 4),
            all(Kind::Structs(&[
                all(TEXT),
                all(Kind::Structs(&[
                    all(INT),
                    all(LONG),
                    since(INT, 6),
                    all(TEXT),
                ])),
            ])),
        ],
    ),
    schema(
        ApiKey::OffsetFetch,
        6,
        &[
            until(TEXT, 7),
            until(Kind::Structs(NAME_AND_PARTITIONS), 7),
            since(
                Kind::Structs(&[
                    all(TEXT),
                    since(TEXT, 9),
                    since(INT, 9),
                    all(Kind::Structs(NAME_AND_PARTITIONS)),
                ]),
                8,
            ),
            since(BYTE, 7),
        ],
    ),
    schema(
        ApiKey::FindCoordinator,
        3,
        &[until(TEXT, 3), since(BYTE, 1), since(TEXTS, 4)],
    ),
    schema(
        ApiKey::JoinGroup,
        6,
        &[
            all(TEXT),
            all(INT),
            since(INT, 1),
            all(TEXT),
            since(TEXT, 5),
            all(TEXT),
            all(Kind::Structs(&[all(TEXT), all(BLOB)])),
            since(TEXT, 8),
        ],
    ),
    schema(
        ApiKey::Heartbeat,
        4,
        &[all(TEXT), all(INT), all(TEXT), since(TEXT, 3)],
    ),
    schema(
        ApiKey::LeaveGroup,
        4,
        &[
            all(TEXT),
            until(TEXT, 2),
            since(Kind::Structs(&[all(TEXT), all(TEXT), since(TEXT, 5)]), 3),
        ],
    ),
    schema(
        ApiKey::SyncGroup,
        4,
        &[
            all(TEXT),
            all(INT),
            all(TEXT),
            since(TEXT, 3),
            since(TEXT, 5),
            since(TEXT, 5),
            all(Kind::Structs(&[all(TEXT), all(BLOB)])),
        ],
    ),
    schema(ApiKey::DescribeGroups, 5, &[all(TEXTS), since(BYTE, 3)]),
    schema(ApiKey::ListGroups, 3, &[since(TEXTS, 4), since(TEXTS, 5)]),
    schema(ApiKey::ApiVersions, 3, &[since(TEXT, 3), since(TEXT, 3)]),
    schema(
        ApiKey::CreateTopics,
        5,
        &[
            all(Kind::Structs(&[
                all(TEXT),
                all(INT),
                all(SHORT),
                all(Kind::Structs(&[all(INT), all(INTS)])),
                all(Kind::Structs(NAME_AND_VALUE)),
            ])),
            all(INT),
            since(BYTE, 1),
        ],
    ),
    schema(
        ApiKey::DeleteTopics,
        4,
        &[
            since(Kind::Structs(&[all(TEXT), all(UUID)]), 6),
            until(TEXTS, 5),
            all(INT),
        ],
    ),
    schema(
        ApiKey::DeleteRecords,
        2,
        &[
            all(Kind::Structs(&[
                all(TEXT),
                all(Kind::Structs(&[all(INT), all(LONG)])),
            ])),
            all(INT),
        ],
    ),
    schema(
        ApiKey::InitProducerId,
        2,
        &[all(TEXT), all(INT), since(LONG, 3), since(SHORT, 3)],
    ),
    schema(
        ApiKey::OffsetForLeaderEpoch,
        4,
        &[
            since(INT, 3),
            all(Kind::Structs(&[
                all(TEXT),
                all(Kind::Structs(&[all(INT), since(INT, 2), all(INT)])),
            ])),
        ],
    ),
    schema(
        ApiKey::DescribeConfigs,
        4,
        &[
            all(Kind::Structs(&[all(BYTE), all(TEXT), all(TEXTS)])),
            since(BYTE, 1),
            since(BYTE, 3),
        ],
    ),
    schema(
        ApiKey::AlterConfigs,
        2,
        &[
            all(Kind::Structs(&[
                all(BYTE),
                all(TEXT),
                all(Kind::Structs(NAME_AND_VALUE)),
            ])),
            all(BYTE),
        ],
    ),
    schema(
        ApiKey::DescribeLogDirs,
        2,
        &[all(Kind::Structs(NAME_AND_PARTITIONS))],
    ),
    schema(
        ApiKey::CreatePartitions,
        2,
        &[
            all(Kind::Structs(&[
                all(TEXT),
                all(INT),
                all(Kind::Structs(&[all(INTS)])),
            ])),
            all(INT),
            all(BYTE),
        ],
    ),
    schema(ApiKey::DeleteGroups, 2, &[all(TEXTS)]),
    schema(
        ApiKey::IncrementalAlterConfigs,
        1,
        &[
            all(Kind::Structs(&[
                all(BYTE),
                all(TEXT),
                all(Kind::Structs(&[all(TEXT), all(BYTE), all(TEXT)])),
            ])),
            all(BYTE),
        ],
    ),
    schema(
        ApiKey::ListPartitionReassignments,
        0,
        &[all(INT), all(Kind::Structs(NAME_AND_PARTITIONS))],
    ),
    schema(
        ApiKey::OffsetDelete,
        NEVER,
        &[
            all(TEXT),
            all(Kind::Structs(&[all(TEXT), all(Kind::Structs(&[all(INT)]))])),
        ],
    ),
    schema(
        ApiKey::DescribeCluster,
        0,
        &[all(BYTE), since(BYTE, 1), since(BYTE, 2)],
    ),
    schema(
        ApiKey::DescribeTopicPartitions,
        0,
        &[
            all(Kind::Structs(&[all(TEXT)])),
            all(INT),
            all(Kind::OptionalStruct(&[all(TEXT), all(INT)])),
        ],
    ),
];
