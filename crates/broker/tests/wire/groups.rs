//! Consumer groups: a member's whole life in every version, and what is left of it after a restart.

use bytes::Bytes;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use crate::support::{Client, Server, name, text};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const UNKNOWN_MEMBER_ID: i16 = 25;
const NON_EMPTY_GROUP: i16 = 68;
const GROUP_ID_NOT_FOUND: i16 = 69;
const MEMBER_ID_REQUIRED: i16 = 79;

fn group(id: &str) -> GroupId {
    GroupId(text(id))
}

fn join_request(id: &str, member_id: &StrBytes) -> JoinGroupRequest {
    let protocol = join_group_request::JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from_static(
            b"\0\x01\0\0\0\x01\0\x01t\xff\xff\xff\xff",
        ));
    JoinGroupRequest::default()
        .with_group_id(group(id))
        .with_session_timeout_ms(10_000)
        .with_member_id(member_id.clone())
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

/// Joins and syncs as the only member; gives the member id back.
async fn join(client: &mut Client, id: &str, version: i16) -> StrBytes {
    let request = |member_id: &StrBytes| {
        let request = join_request(id, member_id);
        if version >= 1 {
            request.with_rebalance_timeout_ms(60_000)
        } else {
            request
        }
    };
    let mut joined = client.call(version, &request(&StrBytes::default())).await;
    if version >= 4 {
        assert_eq!(joined.error_code, MEMBER_ID_REQUIRED);
        joined = client.call(version, &request(&joined.member_id)).await;
    }
    assert_eq!(joined.error_code, 0, "version {version}");
    assert_eq!(joined.leader, joined.member_id);
    assert_eq!(joined.members.len(), 1);
    assert_eq!(joined.protocol_name.as_deref(), Some("range"));
    assert_eq!(joined.protocol_type.is_some(), version >= 7);

    let assignment = sync_group_request::SyncGroupRequestAssignment::default()
        .with_member_id(joined.member_id.clone())
        .with_assignment(Bytes::from_static(b"all"));
    let mut sync = SyncGroupRequest::default()
        .with_group_id(group(id))
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_assignments(vec![assignment]);
    let sync_version = version.min(5);
    if sync_version >= 5 {
        sync = sync
            .with_protocol_type(Some(text("consumer")))
            .with_protocol_name(Some(text("range")));
    }
    let synced = client.call(sync_version, &sync).await;
    assert_eq!(
        (synced.error_code, &synced.assignment[..]),
        (0, &b"all"[..])
    );
    joined.member_id
}

fn commit_request(
    id: &str,
    member_id: &StrBytes,
    generation: i32,
    offset: i64,
) -> OffsetCommitRequest {
    let partition = |index| {
        offset_commit_request::OffsetCommitRequestPartition::default()
            .with_partition_index(index)
            .with_committed_offset(offset)
            .with_committed_metadata(Some(text("note")))
    };
    let topic = offset_commit_request::OffsetCommitRequestTopic::default()
        .with_name(name("t"))
        .with_partitions(vec![partition(0), partition(7)]);
    OffsetCommitRequest::default()
        .with_group_id(group(id))
        .with_member_id(member_id.clone())
        .with_generation_id_or_member_epoch(generation)
        .with_topics(vec![topic])
}

/// Commits for a partition that exists and one that does not.
async fn commit(client: &mut Client, version: i16, request: OffsetCommitRequest) -> Vec<i16> {
    let response = client.call(version, &request).await;
    response.topics[0]
        .partitions
        .iter()
        .map(|partition| partition.error_code)
        .collect()
}

/// Offset and metadata of partition 0 and of the unknown partition 7.
async fn fetch(client: &mut Client, version: i16, id: &str) -> Vec<(i64, String)> {
    let indexes = vec![0, 7];
    if version >= 8 {
        let topics = offset_fetch_request::OffsetFetchRequestTopics::default()
            .with_name(name("t"))
            .with_partition_indexes(indexes);
        let asked = offset_fetch_request::OffsetFetchRequestGroup::default()
            .with_group_id(group(id))
            .with_topics(Some(vec![topics]));
        let request = OffsetFetchRequest::default().with_groups(vec![asked]);
        let response = client.call(version, &request).await;
        assert_eq!(response.groups[0].error_code, 0);
        let partitions = response.groups[0].topics[0].partitions.iter();
        return partitions
            .map(|one| (one.committed_offset, text_of(&one.metadata)))
            .collect();
    }
    let topics = offset_fetch_request::OffsetFetchRequestTopic::default()
        .with_name(name("t"))
        .with_partition_indexes(indexes);
    let request = OffsetFetchRequest::default()
        .with_group_id(group(id))
        .with_topics(Some(vec![topics]));
    let response = client.call(version, &request).await;
    assert_eq!(response.error_code, 0);
    let partitions = response.topics[0].partitions.iter();
    partitions
        .map(|one| (one.committed_offset, text_of(&one.metadata)))
        .collect()
}

fn text_of(text: &Option<StrBytes>) -> String {
    text.as_ref().map(ToString::to_string).unwrap_or_default()
}

async fn describe(client: &mut Client, version: i16, id: &str) -> (i16, String, usize) {
    let request = DescribeGroupsRequest::default().with_groups(vec![group(id)]);
    let response = client.call(version, &request).await;
    let described = &response.groups[0];
    (
        described.error_code,
        described.group_state.to_string(),
        described.members.len(),
    )
}

async fn leave(client: &mut Client, version: i16, id: &str, member_id: &StrBytes) -> i16 {
    let request = LeaveGroupRequest::default().with_group_id(group(id));
    if version < 3 {
        return client
            .call(version, &request.with_member_id(member_id.clone()))
            .await
            .error_code;
    }
    let member = leave_group_request::MemberIdentity::default().with_member_id(member_id.clone());
    let response = client
        .call(version, &request.with_members(vec![member]))
        .await;
    assert_eq!(response.error_code, 0);
    response.members[0].error_code
}

async fn delete(client: &mut Client, version: i16, id: &str) -> i16 {
    let request = DeleteGroupsRequest::default().with_groups_names(vec![group(id)]);
    client.call(version, &request).await.results[0].error_code
}

#[tokio::test]
async fn a_member_lives_and_leaves_in_every_version() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.create("t").await;
    for version in 0..=9 {
        let id = format!("g{version}");
        let client = &mut client;
        assert_eq!(
            fetch(client, version.max(1), &id).await,
            [(-1, String::new()), (-1, String::new())]
        );
        let member_id = join(client, &id, version).await;
        let beat = HeartbeatRequest::default()
            .with_group_id(group(&id))
            .with_generation_id(1)
            .with_member_id(member_id.clone());
        assert_eq!(client.call(version.min(4), &beat).await.error_code, 0);
        assert_eq!(
            describe(client, version.min(6), &id).await,
            (0, "Stable".to_owned(), 1)
        );

        let (commits, fetches) = (version.max(2), version.max(1));
        let request = commit_request(&id, &member_id, 1, 42);
        assert_eq!(
            commit(client, commits, request).await,
            [0, UNKNOWN_TOPIC_OR_PARTITION]
        );
        let stranger = commit_request(&id, &text("stranger"), 1, 43);
        assert_eq!(
            commit(client, commits, stranger).await[0],
            UNKNOWN_MEMBER_ID
        );
        let expected = [(42, "note".to_owned()), (-1, String::new())];
        assert_eq!(fetch(client, fetches, &id).await, expected);

        let deletes = version.min(2);
        assert_eq!(delete(client, deletes, &id).await, NON_EMPTY_GROUP);
        assert_eq!(leave(client, version.min(5), &id, &member_id).await, 0);
        assert_eq!(
            leave(client, version.min(5), &id, &member_id).await,
            UNKNOWN_MEMBER_ID
        );
        assert_eq!(
            describe(client, version.min(6), &id).await,
            (0, "Empty".to_owned(), 0)
        );
        assert_eq!(delete(client, deletes, &id).await, 0);
        assert_eq!(delete(client, deletes, &id).await, GROUP_ID_NOT_FOUND);
        let code = if version >= 6 { GROUP_ID_NOT_FOUND } else { 0 };
        assert_eq!(
            describe(client, version.min(6), &id).await,
            (code, "Dead".to_owned(), 0)
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn all_offsets_of_several_groups_survive_a_restart() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.create("t").await;
    for (id, offset) in [("one", 1), ("two", 2)] {
        let request = commit_request(id, &StrBytes::default(), -1, offset);
        assert_eq!(
            commit(&mut client, 9, request).await,
            [0, UNKNOWN_TOPIC_OR_PARTITION]
        );
    }
    let member_id = join(&mut client, "three", 9).await;
    let request = commit_request("three", &member_id, 1, 3);
    assert_eq!(commit(&mut client, 9, request).await[0], 0);

    let server = server.restart().await;
    let mut client = server.client().await;
    let asked = ["one", "two", "three", "none"].map(|id| {
        offset_fetch_request::OffsetFetchRequestGroup::default()
            .with_group_id(group(id))
            .with_topics(None)
    });
    let request = OffsetFetchRequest::default()
        .with_groups(asked.to_vec())
        .with_require_stable(true);
    let response = client.call(9, &request).await;
    let offsets: Vec<i64> = response
        .groups
        .iter()
        .flat_map(|group| &group.topics)
        .flat_map(|topic| &topic.partitions)
        .map(|partition| partition.committed_offset)
        .collect();
    assert_eq!(offsets, [1, 2, 3]);

    let listed = async |client: &mut Client, states: &[&'static str], types: &[&'static str]| {
        let filter = |names: &[&'static str]| names.iter().map(|name| text(name)).collect();
        let request = ListGroupsRequest::default()
            .with_states_filter(filter(states))
            .with_types_filter(filter(types));
        let groups = client.call(5, &request).await.groups;
        groups
            .into_iter()
            .map(|group| group.group_id.0.to_string())
            .collect::<Vec<_>>()
    };
    let client = &mut client;
    assert_eq!(
        listed(client, &["empty"], &["Classic"]).await,
        ["one", "three", "two"]
    );
    assert!(listed(client, &["Stable"], &[]).await.is_empty());
    assert!(listed(client, &[], &["consumer"]).await.is_empty());

    let partitions = [0, 7].map(|index| {
        offset_delete_request::OffsetDeleteRequestPartition::default().with_partition_index(index)
    });
    let topic = offset_delete_request::OffsetDeleteRequestTopic::default()
        .with_name(name("t"))
        .with_partitions(partitions.to_vec());
    let request = OffsetDeleteRequest::default()
        .with_group_id(group("one"))
        .with_topics(vec![topic]);
    let response = client.call(0, &request).await;
    let codes: Vec<i16> = response.topics[0]
        .partitions
        .iter()
        .map(|partition| partition.error_code)
        .collect();
    assert_eq!(
        (response.error_code, codes),
        (0, vec![0, UNKNOWN_TOPIC_OR_PARTITION])
    );
    assert_eq!(fetch(client, 9, "one").await[0].0, -1);
    server.stop().await;
}

#[tokio::test]
async fn a_connection_that_goes_frees_its_place_in_the_rebalance() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let first = join(&mut client, "g", 9).await;
    let mut lost = server.client().await;
    // Version 3 tells the id only with the answer, so nobody knows this member when the connection goes.
    lost.send(
        3,
        &join_request("g", &StrBytes::default()).with_rebalance_timeout_ms(60_000),
    )
    .await;
    while describe(&mut client, 6, "g").await.2 < 2 {
        tokio::task::yield_now().await;
    }
    drop(lost);
    while describe(&mut client, 6, "g").await.2 > 1 {
        tokio::task::yield_now().await;
    }
    let request = join_request("g", &first).with_rebalance_timeout_ms(60_000);
    let joined = client.call(9, &request).await;
    assert_eq!((joined.error_code, joined.members.len()), (0, 1));
    server.stop().await;
}
