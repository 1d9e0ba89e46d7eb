//! Kafka requests as a broker reads them: frame length, header, guard, and only then the generated decoder.
//!
//! Seeds are whole frames without their length: the default body of every served API in every version, and a few with
//! content.

use bytes::{Bytes, BytesMut};
use flafka_kafka_wire::api_versions::{SERVED, find};
use flafka_kafka_wire::{frame, guard, header};
use kafka_protocol::messages::{
    AlterConfigsRequest, ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteGroupsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeConfigsRequest, DescribeGroupsRequest, DescribeLogDirsRequest,
    DescribeTopicPartitionsRequest, FetchRequest, FindCoordinatorRequest, HeartbeatRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, JoinGroupRequest, LeaveGroupRequest,
    ListGroupsRequest, ListOffsetsRequest, ListPartitionReassignmentsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest,
    ProduceRequest, SyncGroupRequest,
};
use kafka_protocol::messages::{
    ApiKey, GroupId, RequestHeader, TopicName, join_group_request, metadata_request,
    offset_commit_request,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

const MAX_FRAME: usize = 1 << 20;

/// A decoder for each API; false for a key that is not in the list.
macro_rules! decoders {
    ($($key:ident => $request:ty,)*) => {
        fn decode(key: ApiKey, body: &mut Bytes, version: i16) -> bool {
            match key {
                $(ApiKey::$key => drop(<$request>::decode(body, version)),)*
                _ => return false,
            }
            true
        }
    };
}

decoders! {
    Produce => ProduceRequest,
    Fetch => FetchRequest,
    ListOffsets => ListOffsetsRequest,
    Metadata => MetadataRequest,
    OffsetCommit => OffsetCommitRequest,
    OffsetFetch => OffsetFetchRequest,
    FindCoordinator => FindCoordinatorRequest,
    JoinGroup => JoinGroupRequest,
    Heartbeat => HeartbeatRequest,
    LeaveGroup => LeaveGroupRequest,
    SyncGroup => SyncGroupRequest,
    DescribeGroups => DescribeGroupsRequest,
    ListGroups => ListGroupsRequest,
    ApiVersions => ApiVersionsRequest,
    CreateTopics => CreateTopicsRequest,
    DeleteTopics => DeleteTopicsRequest,
    DeleteRecords => DeleteRecordsRequest,
    InitProducerId => InitProducerIdRequest,
    OffsetForLeaderEpoch => OffsetForLeaderEpochRequest,
    DescribeConfigs => DescribeConfigsRequest,
    AlterConfigs => AlterConfigsRequest,
    DescribeLogDirs => DescribeLogDirsRequest,
    CreatePartitions => CreatePartitionsRequest,
    DeleteGroups => DeleteGroupsRequest,
    IncrementalAlterConfigs => IncrementalAlterConfigsRequest,
    ListPartitionReassignments => ListPartitionReassignmentsRequest,
    OffsetDelete => OffsetDeleteRequest,
    DescribeCluster => DescribeClusterRequest,
    DescribeTopicPartitions => DescribeTopicPartitionsRequest,
}

pub(super) fn run(input: &[u8]) {
    if let Some(prefix) = input.first_chunk::<4>() {
        frame::frame_len(*prefix, MAX_FRAME).ok();
    }
    let Ok(start) = header::peek(input) else {
        return;
    };
    let Some(api) = find(start.api_key) else {
        return;
    };
    let version = start.api_version;
    if !api.serves(version) {
        return;
    }
    let bytes = Bytes::copy_from_slice(input);
    let Ok(head) = header::parse(&bytes, api.flexible_header(version)) else {
        return;
    };
    if guard::check(start.api_key, version, &head.body).is_ok() {
        let mut body = head.body;
        assert!(
            decode(api.key, &mut body, version),
            "a served API is missing in this target's list"
        );
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for api in SERVED {
        for version in api.served_min..=api.max {
            // An empty body of zeros decodes as empty lists and texts in most versions.
            let mut frame = start(api.key, version);
            frame.extend_from_slice(&[0; 40]);
            seeds.push(frame.to_vec());
        }
    }
    for version in [0, 5, 9, 13] {
        let topic = |name| {
            let name = TopicName(StrBytes::from_static_str(name));
            metadata_request::MetadataRequestTopic::default().with_name(Some(name))
        };
        let body = MetadataRequest::default().with_topics(Some(vec![topic("one"), topic("two")]));
        seeds.push(whole(ApiKey::Metadata, version, &body));
    }
    for version in [0, 4, 5, 9] {
        let protocol = join_group_request::JoinGroupRequestProtocol::default()
            .with_name(StrBytes::from_static_str("range"))
            .with_metadata(Bytes::from_static(&[
                0, 1, 0, 0, 0, 1, 0, 1, b't', 255, 255, 255, 255,
            ]));
        let body = JoinGroupRequest::default()
            .with_group_id(GroupId(StrBytes::from_static_str("group")))
            .with_session_timeout_ms(10_000)
            .with_protocol_type(StrBytes::from_static_str("consumer"))
            .with_protocols(vec![protocol.clone(), protocol]);
        seeds.push(whole(ApiKey::JoinGroup, version, &body));
    }
    for version in [2, 7, 9] {
        let partition = offset_commit_request::OffsetCommitRequestPartition::default()
            .with_committed_offset(5)
            .with_committed_metadata(Some(StrBytes::from_static_str("note")));
        let topic = offset_commit_request::OffsetCommitRequestTopic::default()
            .with_name(TopicName(StrBytes::from_static_str("topic")))
            .with_partitions(vec![partition.clone(), partition]);
        let body = OffsetCommitRequest::default()
            .with_group_id(GroupId(StrBytes::from_static_str("group")))
            .with_topics(vec![topic]);
        seeds.push(whole(ApiKey::OffsetCommit, version, &body));
    }
    seeds
}

fn start(key: ApiKey, version: i16) -> BytesMut {
    let mut frame = BytesMut::new();
    RequestHeader::default()
        .with_request_api_key(key as i16)
        .with_request_api_version(version)
        .with_correlation_id(7)
        .with_client_id(Some(StrBytes::from_static_str("seed")))
        .encode(&mut frame, key.request_header_version(version))
        .expect("a header of this version");
    frame
}

fn whole(key: ApiKey, version: i16, body: &impl Encodable) -> Vec<u8> {
    let mut frame = start(key, version);
    body.encode(&mut frame, version)
        .expect("a body of this version");
    frame.to_vec()
}
