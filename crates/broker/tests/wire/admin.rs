//! Topics and configs, created, changed, described and deleted.

use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_topic_partitions_request::Cursor;
use kafka_protocol::messages::{
    AlterConfigsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest,
    DeleteTopicsRequest, DescribeConfigsRequest, DescribeConfigsResponse,
    DescribeTopicPartitionsRequest, IncrementalAlterConfigsRequest, MetadataRequest,
    alter_configs_request, create_partitions_request, incremental_alter_configs_request,
    metadata_request,
};

use crate::support::{Server, batch, fetch_request, fetched, name, text};

pub(crate) fn create(
    topic: &str,
    partitions: i32,
    configs: &[(&str, &str)],
) -> CreateTopicsRequest {
    let configs = configs
        .iter()
        .map(|(key, value)| {
            CreatableTopicConfig::default()
                .with_name(text(key))
                .with_value(Some(text(value)))
        })
        .collect();
    CreateTopicsRequest::default().with_topics(vec![
        CreatableTopic::default()
            .with_name(name(topic))
            .with_num_partitions(partitions)
            .with_replication_factor(1)
            .with_configs(configs),
    ])
}

pub(crate) fn delete_records(topic: &str, partition: i32, offset: i64) -> DeleteRecordsRequest {
    DeleteRecordsRequest::default().with_topics(vec![
        DeleteRecordsTopic::default()
            .with_name(name(topic))
            .with_partitions(vec![
                DeleteRecordsPartition::default()
                    .with_partition_index(partition)
                    .with_offset(offset),
            ]),
    ])
}

pub(crate) fn describe(resource_type: i8, resource: &str) -> DescribeConfigsRequest {
    DescribeConfigsRequest::default().with_resources(vec![
        DescribeConfigsResource::default()
            .with_resource_type(resource_type)
            .with_resource_name(text(resource))
            .with_configuration_keys(None),
    ])
}

pub(crate) fn replace(topic: &str, configs: &[(&str, &str)]) -> AlterConfigsRequest {
    let configs = configs
        .iter()
        .map(|(key, value)| {
            alter_configs_request::AlterableConfig::default()
                .with_name(text(key))
                .with_value(Some(text(value)))
        })
        .collect();
    AlterConfigsRequest::default().with_resources(vec![
        alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text(topic))
            .with_configs(configs),
    ])
}

pub(crate) fn change(
    topic: &str,
    operation: i8,
    key: &str,
    value: Option<&str>,
) -> IncrementalAlterConfigsRequest {
    IncrementalAlterConfigsRequest::default().with_resources(vec![
        incremental_alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text(topic))
            .with_configs(vec![
                incremental_alter_configs_request::AlterableConfig::default()
                    .with_name(text(key))
                    .with_config_operation(operation)
                    .with_value(value.map(text)),
            ]),
    ])
}

pub(crate) fn partitions(topic: &str, count: i32) -> CreatePartitionsRequest {
    CreatePartitionsRequest::default().with_topics(vec![
        create_partitions_request::CreatePartitionsTopic::default()
            .with_name(name(topic))
            .with_count(count)
            .with_assignments(None),
    ])
}

/// Value and source of one config.
fn value_of(response: &DescribeConfigsResponse, key: &str) -> (String, i8) {
    let entry = response.results[0]
        .configs
        .iter()
        .find(|entry| entry.name.as_str() == key)
        .unwrap();
    (
        entry.value.clone().unwrap().to_string(),
        entry.config_source,
    )
}

#[tokio::test]
async fn topics_are_created_validated_and_refused() {
    let server = Server::with("num.partitions=3").await;
    let mut client = server.client().await;
    let request = create("a", 2, &[("retention.ms", "1000")]);
    let response = client.call(7, &request).await;
    let created = &response.topics[0];
    assert_eq!((created.error_code, created.num_partitions), (0, 2));
    let retention = created.configs.as_ref().unwrap();
    let retention = retention
        .iter()
        .find(|one| one.name.as_str() == "retention.ms")
        .unwrap();
    assert_eq!(retention.value.as_deref(), Some("1000"));
    assert_eq!(client.call(7, &request).await.topics[0].error_code, 36);
    let default = create("b", -1, &[]);
    assert_eq!(client.call(7, &default).await.topics[0].num_partitions, 3);
    for (request, code) in [
        (create("bad/name", 1, &[]), 17),
        (create("", 1, &[]), 17),
        (create("c", 0, &[]), 37),
        (create("c", 1_000_000, &[]), 37),
        (create("c", 1, &[("retention.ms", "soon")]), 40),
        (create("c", 1, &[("no.such.key", "1")]), 40),
        (create("c", 1, &[("cleanup.policy", "shrink")]), 40),
    ] {
        assert_eq!(
            client.call(7, &request).await.topics[0].error_code,
            code,
            "{request:?}"
        );
    }
    let mut three = create("c", 1, &[]);
    three.topics[0].replication_factor = 3;
    assert_eq!(client.call(7, &three).await.topics[0].error_code, 38);
    let mut twice = create("c", 1, &[]);
    twice.topics.push(twice.topics[0].clone());
    let response = client.call(7, &twice).await;
    assert_eq!(
        (response.topics.len(), response.topics[0].error_code),
        (1, 42)
    );
    let only_checked = create("c", 1, &[]).with_validate_only(true);
    assert_eq!(client.call(7, &only_checked).await.topics[0].error_code, 0);
    let names: Vec<String> = server
        .broker
        .topics()
        .list()
        .iter()
        .map(|one| one.name.to_string())
        .collect();
    assert_eq!(names, ["a", "b"]);
    server.stop().await;
}

#[tokio::test]
async fn a_deleted_topic_is_gone_and_its_name_starts_anew() {
    let server = Server::with("auto.create.topics.enable=false").await;
    let mut client = server.client().await;
    client.call(7, &create("a", 1, &[])).await;
    client.produce("a", 0, batch(&["old"])).await;
    let id = server.broker.topics().get("a").unwrap().id;
    let by_id = DeleteTopicsRequest::default().with_topics(vec![
        DeleteTopicState::default()
            .with_name(None)
            .with_topic_id(id),
    ]);
    let response = client.call(6, &by_id).await;
    assert_eq!(response.responses[0].error_code, 0);
    assert_eq!(response.responses[0].name, Some(name("a")));
    assert_eq!(client.call(6, &by_id).await.responses[0].error_code, 100);
    assert_eq!(client.produce("a", 0, batch(&["x"])).await.0, 3);
    let wanted = metadata_request::MetadataRequestTopic::default().with_name(Some(name("a")));
    let request = MetadataRequest::default().with_topics(Some(vec![wanted]));
    assert_eq!(client.call(12, &request).await.topics[0].error_code, 3);
    client.call(7, &create("a", 1, &[])).await;
    assert_ne!(server.broker.topics().get("a").unwrap().id, id);
    assert_eq!(client.produce("a", 0, batch(&["new"])).await, (0, 0));
    let server = server.restart().await;
    let mut client = server.client().await;
    let values = fetched(&client.fetch(12, &fetch_request("a", 0, 0)).await);
    assert_eq!(values, [(0, "new".to_owned())]);
    server.stop().await;
}

#[tokio::test]
async fn partitions_are_added_and_never_removed() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.call(7, &create("a", 2, &[])).await;
    for (count, code) in [(2, 37), (1, 37), (0, 37), (20_000, 37), (4, 0)] {
        let response = client.call(3, &partitions("a", count)).await;
        assert_eq!(response.results[0].error_code, code, "{count}");
    }
    assert_eq!(client.produce("a", 3, batch(&["x"])).await, (0, 0));
    server.stop().await;
}

#[tokio::test]
async fn configs_are_described_in_full_and_changed() {
    let server = Server::with("log.retention.ms=777").await;
    let mut client = server.client().await;
    client
        .call(7, &create("a", 1, &[("retention.bytes", "5")]))
        .await;
    let response = client.call(4, &describe(2, "a")).await;
    assert!(response.results[0].configs.len() >= 30);
    assert_eq!(value_of(&response, "retention.bytes"), ("5".to_owned(), 1));
    assert_eq!(value_of(&response, "retention.ms"), ("777".to_owned(), 4));
    assert_eq!(
        value_of(&response, "cleanup.policy"),
        ("delete".to_owned(), 5)
    );

    // A change keeps the others, a replacement does not.
    let set = change("a", 0, "max.message.bytes", Some("2000"));
    assert_eq!(client.call(1, &set).await.responses[0].error_code, 0);
    let response = client.call(4, &describe(2, "a")).await;
    assert_eq!(value_of(&response, "retention.bytes"), ("5".to_owned(), 1));
    assert_eq!(
        value_of(&response, "max.message.bytes"),
        ("2000".to_owned(), 1)
    );
    let big = "x".repeat(3000);
    assert_eq!(client.produce("a", 0, batch(&[&big])).await.0, 10);
    let unset = change("a", 1, "max.message.bytes", None);
    assert_eq!(client.call(1, &unset).await.responses[0].error_code, 0);
    assert_eq!(client.produce("a", 0, batch(&[&big])).await.0, 0);
    let only = replace("a", &[("retention.ms", "99000")]);
    assert_eq!(client.call(2, &only).await.responses[0].error_code, 0);
    let response = client.call(4, &describe(2, "a")).await;
    assert_eq!(value_of(&response, "retention.bytes"), ("-1".to_owned(), 5));
    assert_eq!(value_of(&response, "retention.ms"), ("99000".to_owned(), 1));

    for (request, code) in [
        (change("a", 0, "retention.ms", Some("x")), 40),
        (change("a", 2, "retention.ms", Some("1")), 40),
        (change("a", 9, "retention.ms", Some("1")), 42),
        (change("a", 0, "retention.ms", None), 42),
        (change("none", 0, "retention.ms", Some("1")), 3),
    ] {
        assert_eq!(
            client.call(1, &request).await.responses[0].error_code,
            code,
            "{request:?}"
        );
    }
    let broker = client.call(4, &describe(4, "1")).await;
    assert_eq!(value_of(&broker, "log.retention.ms"), ("777".to_owned(), 4));
    let server = server.restart().await;
    let response = server.client().await.call(4, &describe(2, "a")).await;
    assert_eq!(value_of(&response, "retention.ms"), ("99000".to_owned(), 1));
    server.stop().await;
}

#[tokio::test]
async fn deleted_records_move_the_start() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.create("a").await;
    client.produce("a", 0, batch(&["0", "1", "2"])).await;
    let mut ask = async |offset| {
        let response = client.call(2, &delete_records("a", 0, offset)).await;
        let partition = response.topics[0].partitions[0].clone();
        (partition.error_code, partition.low_watermark)
    };
    assert_eq!(ask(2).await, (0, 2));
    assert_eq!(ask(9).await, (1, -1));
    assert_eq!(ask(-2).await, (1, -1));
    assert_eq!(ask(1).await, (0, 2), "below the start nothing changes");
    assert_eq!(ask(-1).await, (0, 3));
    let response = client.fetch(12, &fetch_request("a", 0, 1)).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 1);
    let server = server.restart().await;
    let mut client = server.client().await;
    let response = client.call(2, &delete_records("a", 0, 0)).await;
    assert_eq!(response.topics[0].partitions[0].low_watermark, 3);
    client.produce("a", 0, batch(&["3"])).await;
    let response = client.call(2, &delete_records("a", 7, 0)).await;
    assert_eq!(response.topics[0].partitions[0].error_code, 3);
    server.stop().await;
}

#[tokio::test]
async fn topics_are_described_page_by_page() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.call(7, &create("a", 3, &[])).await;
    client.call(7, &create("b", 3, &[])).await;
    let mut seen = Vec::new();
    let mut cursor: Option<Cursor> = None;
    loop {
        let request = DescribeTopicPartitionsRequest::default()
            .with_response_partition_limit(2)
            .with_cursor(cursor);
        let response = client.call(0, &request).await;
        for topic in &response.topics {
            for partition in &topic.partitions {
                seen.push(format!(
                    "{}-{}",
                    topic.name.as_ref().unwrap().as_str(),
                    partition.partition_index
                ));
            }
        }
        match response.next_cursor {
            Some(next) => {
                cursor = Some(
                    Cursor::default()
                        .with_topic_name(next.topic_name)
                        .with_partition_index(next.partition_index),
                );
            }
            None => break,
        }
    }
    assert_eq!(seen, ["a-0", "a-1", "a-2", "b-0", "b-1", "b-2"]);
    server.stop().await;
}

#[tokio::test]
async fn metadata_tells_the_address_that_the_client_reached() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let response = client
        .call(12, &MetadataRequest::default().with_topics(None))
        .await;
    assert_eq!(response.brokers[0].host.as_str(), "127.0.0.1");
    assert_eq!(
        response.brokers[0].port,
        i32::from(server.broker.local_addr().port())
    );
    let elsewhere = Server::with("advertised.listeners=PLAINTEXT://logs.example:7777").await;
    let mut client = elsewhere.client().await;
    let response = client
        .call(12, &MetadataRequest::default().with_topics(None))
        .await;
    assert_eq!(response.brokers[0].host.as_str(), "logs.example");
    assert_eq!(response.brokers[0].port, 7777);
    server.stop().await;
    elsewhere.stop().await;
}
