//! Every served API in every served version gets an answer that decodes to its last byte.

use flafka_kafka_wire::api_versions::SERVED;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Request, StrBytes};

use crate::support::{Client, Server, batch, fetch_request, name, produce_request, text};

async fn ask<Q: Request>(client: &mut Client, version: i16, request: Q) -> Q::Response {
    client.call(version, &request).await
}

#[tokio::test]
async fn every_version_of_every_api_is_answered() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.create("t").await;
    let group = || GroupId(text("g"));
    for api in SERVED {
        for version in api.served_min..=api.max {
            let client = &mut client;
            match api.key {
                ApiKey::Produce => {
                    let request = produce_request("t", 0, batch(&["x"]), -1);
                    let response = ask(client, version, request).await;
                    let partition = &response.responses[0].partition_responses[0];
                    assert_eq!(partition.error_code, 0, "version {version}");
                    let request = produce_request("t", 9, batch(&["x"]), -1);
                    let response = ask(client, version, request).await;
                    assert_eq!(response.responses[0].partition_responses[0].error_code, 3);
                }
                ApiKey::Fetch => {
                    ask(client, version, fetch_request("t", 0, 0)).await;
                    ask(client, version, fetch_request("none", 0, 0)).await;
                }
                ApiKey::ListOffsets => {
                    ask(client, version, crate::consume::list_offsets("t", 0, -1)).await;
                    ask(client, version, crate::consume::list_offsets("none", 0, -2)).await;
                }
                ApiKey::Metadata => {
                    let all = MetadataRequest::default();
                    let all = if version == 0 {
                        all
                    } else {
                        all.with_topics(None)
                    };
                    let response = ask(client, version, all).await;
                    assert_eq!(response.topics.len(), 1, "version {version}");
                }
                ApiKey::OffsetCommit => {
                    ask(
                        client,
                        version,
                        OffsetCommitRequest::default().with_group_id(group()),
                    )
                    .await;
                }
                ApiKey::OffsetFetch => {
                    let request = if version >= 8 {
                        OffsetFetchRequest::default().with_groups(vec![
                            offset_fetch_request::OffsetFetchRequestGroup::default()
                                .with_group_id(group()),
                        ])
                    } else {
                        OffsetFetchRequest::default().with_group_id(group())
                    };
                    ask(client, version, request).await;
                }
                ApiKey::FindCoordinator => {
                    let request = FindCoordinatorRequest::default();
                    let request = if version >= 4 {
                        request.with_coordinator_keys(vec![text("g")])
                    } else {
                        request.with_key(text("g"))
                    };
                    ask(client, version, request).await;
                }
                ApiKey::JoinGroup => {
                    ask(
                        client,
                        version,
                        JoinGroupRequest::default().with_group_id(group()),
                    )
                    .await;
                }
                ApiKey::Heartbeat => {
                    ask(
                        client,
                        version,
                        HeartbeatRequest::default().with_group_id(group()),
                    )
                    .await;
                }
                ApiKey::LeaveGroup => {
                    ask(
                        client,
                        version,
                        LeaveGroupRequest::default().with_group_id(group()),
                    )
                    .await;
                }
                ApiKey::SyncGroup => {
                    ask(
                        client,
                        version,
                        SyncGroupRequest::default().with_group_id(group()),
                    )
                    .await;
                }
                ApiKey::DescribeGroups => {
                    let request = DescribeGroupsRequest::default().with_groups(vec![group()]);
                    ask(client, version, request).await;
                }
                ApiKey::ListGroups => {
                    drop(ask(client, version, ListGroupsRequest::default()).await)
                }
                ApiKey::ApiVersions => {
                    let request = ApiVersionsRequest::default();
                    let request = if version >= 3 {
                        request
                            .with_client_software_name(text("wire-test"))
                            .with_client_software_version(text("1.0"))
                    } else {
                        request
                    };
                    let response = ask(client, version, request).await;
                    assert_eq!(response.error_code, 0);
                    assert_eq!(response.api_keys.len(), SERVED.len());
                }
                ApiKey::CreateTopics => {
                    let request = crate::admin::create("made", 2, &[]).with_validate_only(true);
                    let response = ask(client, version, request).await;
                    assert_eq!(response.topics[0].error_code, 0, "version {version}");
                    ask(client, version, crate::admin::create("bad name", 1, &[])).await;
                }
                ApiKey::DeleteTopics => {
                    let request = if version >= 6 {
                        DeleteTopicsRequest::default().with_topics(vec![
                            delete_topics_request::DeleteTopicState::default()
                                .with_name(Some(name("none"))),
                        ])
                    } else {
                        DeleteTopicsRequest::default().with_topic_names(vec![name("none")])
                    };
                    let response = ask(client, version, request).await;
                    assert_eq!(response.responses[0].error_code, 3);
                }
                ApiKey::DeleteRecords => {
                    ask(client, version, crate::admin::delete_records("t", 0, 0)).await;
                    ask(client, version, crate::admin::delete_records("none", 0, 0)).await;
                }
                ApiKey::InitProducerId => {
                    let response = ask(
                        client,
                        version,
                        InitProducerIdRequest::default().with_transactional_id(None),
                    )
                    .await;
                    assert_eq!(response.error_code, 0);
                    let named = Some(TransactionalId(StrBytes::from_static_str("tx")));
                    let request = InitProducerIdRequest::default().with_transactional_id(named);
                    assert_eq!(ask(client, version, request).await.error_code, 35);
                }
                ApiKey::OffsetForLeaderEpoch => {
                    ask(client, version, crate::restart::epoch_request("t", 0, 0)).await;
                }
                ApiKey::DescribeConfigs => {
                    for (resource, name) in
                        [(2, "t"), (2, "none"), (4, "1"), (4, ""), (4, "7"), (9, "x")]
                    {
                        let mut request =
                            crate::admin::describe(resource, name).with_include_synonyms(true);
                        if version >= 3 {
                            request = request.with_include_documentation(true);
                        }
                        ask(client, version, request).await;
                    }
                }
                ApiKey::AlterConfigs => {
                    ask(
                        client,
                        version,
                        crate::admin::replace("t", &[("retention.ms", "5000")]),
                    )
                    .await;
                    ask(
                        client,
                        version,
                        crate::admin::replace("t", &[("nonsense", "1")]),
                    )
                    .await;
                }
                ApiKey::IncrementalAlterConfigs => {
                    ask(
                        client,
                        version,
                        crate::admin::change("t", 0, "retention.ms", Some("6000")),
                    )
                    .await;
                    ask(
                        client,
                        version,
                        crate::admin::change("none", 0, "retention.ms", Some("6000")),
                    )
                    .await;
                }
                ApiKey::DescribeLogDirs => {
                    let response = ask(
                        client,
                        version,
                        DescribeLogDirsRequest::default().with_topics(None),
                    )
                    .await;
                    assert_eq!(response.results[0].topics.len(), 1);
                }
                ApiKey::CreatePartitions => {
                    ask(client, version, crate::admin::partitions("none", 5)).await;
                }
                ApiKey::DeleteGroups => {
                    let request = DeleteGroupsRequest::default().with_groups_names(vec![group()]);
                    ask(client, version, request).await;
                }
                ApiKey::ListPartitionReassignments => {
                    ask(
                        client,
                        version,
                        ListPartitionReassignmentsRequest::default(),
                    )
                    .await;
                }
                ApiKey::OffsetDelete => {
                    ask(
                        client,
                        version,
                        OffsetDeleteRequest::default().with_group_id(group()),
                    )
                    .await;
                }
                ApiKey::DescribeCluster => {
                    let response = ask(client, version, DescribeClusterRequest::default()).await;
                    assert_eq!(response.brokers.len(), 1);
                    assert_eq!(response.error_code, 0);
                }
                ApiKey::DescribeTopicPartitions => {
                    let request = DescribeTopicPartitionsRequest::default();
                    assert_eq!(ask(client, version, request).await.topics.len(), 1);
                }
                other => panic!("{other:?} is served but not tried here"),
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_newer_api_versions_is_answered_in_version_zero() {
    let server = Server::start().await;
    let mut client = server.client().await;
    // Version 99 with a flexible header, as a future client sends it.
    let frame = [0, 0, 0, 13, 0, 18, 0, 99, 0, 0, 0, 5, 0xff, 0xff, 0, 1, 1];
    tokio::io::AsyncWriteExt::write_all(&mut client.stream, &frame)
        .await
        .unwrap();
    let answer = client.raw_answer().await.unwrap();
    assert_eq!(answer[..6], [0, 0, 0, 5, 0, 35]);
    assert_eq!(answer.len(), 4 + 2 + 4 + 6 * SERVED.len());
    // The connection stays usable.
    client.create("t").await;
    server.stop().await;
}

#[tokio::test]
async fn software_names_outside_the_pattern_are_refused() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let request = ApiVersionsRequest::default()
        .with_client_software_name(text("bad name"))
        .with_client_software_version(text("1"));
    assert_eq!(client.call(3, &request).await.error_code, 42);
    server.stop().await;
}
