//! The APIs this broker serves and the versions it advertises.
//!
//! Rule: advertise only what is proved. Below topic ids on the data path (Fetch 12, Produce 11) and without the
//! transaction keys, so that clients fall back on their own. Produce is advertised from version 0 although 0-2 are
//! refused: older librdkafka looks for version 0 before it compresses (Kafka 4 does the same, KAFKA-18659).

use kafka_protocol::messages::ApiKey;

/// One served API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServedApi {
    /// The API.
    pub key: ApiKey,
    /// Lowest version in the ApiVersions answer.
    pub advertised_min: i16,
    /// Lowest version that is answered.
    pub served_min: i16,
    /// Highest version, advertised and served.
    pub max: i16,
}

const fn served(key: ApiKey, min: i16, max: i16) -> ServedApi {
    ServedApi {
        key,
        advertised_min: min,
        served_min: min,
        max,
    }
}

/// All served APIs in key order.
pub const SERVED: &[ServedApi] = &[
    ServedApi {
        key: ApiKey::Produce,
        advertised_min: 0,
        served_min: 3,
        max: 11,
    },
    served(ApiKey::Fetch, 4, 12),
    served(ApiKey::ListOffsets, 1, 10),
    served(ApiKey::Metadata, 0, 13),
    served(ApiKey::OffsetCommit, 2, 9),
    served(ApiKey::OffsetFetch, 1, 9),
    served(ApiKey::FindCoordinator, 0, 6),
    served(ApiKey::JoinGroup, 0, 9),
    served(ApiKey::Heartbeat, 0, 4),
    served(ApiKey::LeaveGroup, 0, 5),
    served(ApiKey::SyncGroup, 0, 5),
    served(ApiKey::DescribeGroups, 0, 6),
    served(ApiKey::ListGroups, 0, 5),
    served(ApiKey::ApiVersions, 0, 4),
    served(ApiKey::CreateTopics, 2, 7),
    served(ApiKey::DeleteTopics, 1, 6),
    served(ApiKey::DeleteRecords, 0, 2),
    served(ApiKey::InitProducerId, 0, 5),
    served(ApiKey::OffsetForLeaderEpoch, 2, 4),
    served(ApiKey::DescribeConfigs, 1, 4),
    served(ApiKey::AlterConfigs, 0, 2),
    served(ApiKey::DescribeLogDirs, 1, 4),
    served(ApiKey::CreatePartitions, 0, 3),
    served(ApiKey::DeleteGroups, 0, 2),
    served(ApiKey::IncrementalAlterConfigs, 0, 1),
    served(ApiKey::ListPartitionReassignments, 0, 0),
    served(ApiKey::OffsetDelete, 0, 0),
    served(ApiKey::DescribeCluster, 0, 2),
    served(ApiKey::DescribeTopicPartitions, 0, 0),
];

/// The entry of an API key as sent by a client.
pub fn find(key: i16) -> Option<&'static ServedApi> {
    SERVED.iter().find(|api| api.key as i16 == key)
}

impl ServedApi {
    /// Whether a request of this version is answered.
    pub fn serves(&self, version: i16) -> bool {
        (self.served_min..=self.max).contains(&version)
    }

    /// Whether this version has header version 2 (client id, then tagged fields).
    pub fn flexible_header(&self, version: i16) -> bool {
        self.key.request_header_version(version) >= 2
    }

    /// Whether the response header of this version ends with tagged fields.
    pub fn flexible_response_header(&self, version: i16) -> bool {
        self.key.response_header_version(version) >= 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted_unique_and_within_the_generated_structs() {
        let mut last = -1;
        for api in SERVED {
            assert!(api.key as i16 > last, "{:?}", api.key);
            last = api.key as i16;
            let known = api.key.valid_versions();
            assert!(
                known.min <= api.served_min && api.max <= known.max,
                "{api:?}"
            );
            assert!(
                crate::schemas::schema_of(api.key as i16).is_some(),
                "{api:?}"
            );
        }
    }

    #[test]
    fn versions_that_old_clients_compare_are_advertised() {
        for (key, version) in [
            (ApiKey::Produce, 0),
            (ApiKey::Produce, 7),
            (ApiKey::Fetch, 4),
            (ApiKey::Fetch, 10),
            (ApiKey::ListOffsets, 1),
            (ApiKey::FindCoordinator, 0),
            (ApiKey::JoinGroup, 0),
            (ApiKey::SyncGroup, 0),
            (ApiKey::Heartbeat, 0),
            (ApiKey::LeaveGroup, 0),
            (ApiKey::OffsetFetch, 1),
            (ApiKey::OffsetCommit, 2),
        ] {
            let api = find(key as i16).unwrap();
            assert!((api.advertised_min..=api.max).contains(&version), "{key:?}");
        }
    }

    #[test]
    fn api_versions_response_header_is_never_flexible() {
        let api = find(18).unwrap();
        assert!(!api.flexible_response_header(4));
        assert!(api.flexible_header(3));
    }
}
