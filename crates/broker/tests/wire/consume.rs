//! What Fetch and ListOffsets answer, and when.

use std::time::{Duration, Instant};

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{FetchRequest, ListOffsetsRequest};

use crate::support::{Server, batch, fetch_request, fetched, name, stamped};

pub(crate) fn list_offsets(topic: &str, partition: i32, timestamp: i64) -> ListOffsetsRequest {
    ListOffsetsRequest::default().with_topics(vec![
        ListOffsetsTopic::default()
            .with_name(name(topic))
            .with_partitions(vec![
                ListOffsetsPartition::default()
                    .with_partition_index(partition)
                    .with_timestamp(timestamp),
            ]),
    ])
}

#[tokio::test]
async fn a_fetch_inside_a_batch_returns_the_whole_batch() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.create("t").await;
    client.produce("t", 0, batch(&["a", "b", "c"])).await;
    for version in 4..=12 {
        let response = client.fetch(version, &fetch_request("t", 0, 1)).await;
        assert_eq!(fetched(&response).len(), 3, "version {version}");
        let partition = &response.responses[0].partitions[0];
        assert_eq!(partition.high_watermark, 3);
        assert_eq!(partition.last_stable_offset, 3);
    }
    server.stop().await;
}

#[tokio::test]
async fn the_first_batch_comes_however_small_the_limits_are() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.create("t").await;
    let large = "x".repeat(10_000);
    client.produce("t", 0, batch(&[&large])).await;
    client.produce("t", 0, batch(&["second"])).await;
    let mut request = fetch_request("t", 0, 0).with_max_bytes(1);
    request.topics[0].partitions[0].partition_max_bytes = 1;
    let response = client.fetch(12, &request).await;
    assert_eq!(fetched(&response).len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_long_poll_ends_when_records_arrive() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.create("t").await;
    let waiting: FetchRequest = fetch_request("t", 0, 0).with_max_wait_ms(50_000);
    client.send(12, &waiting).await;
    let mut producer = server.client().await;
    producer.produce("t", 0, batch(&["news"])).await;
    let response = client.receive::<FetchRequest>(12).await;
    assert_eq!(fetched(&response), [(0, "news".to_owned())]);
    server.stop().await;
}

#[tokio::test]
async fn a_long_poll_waits_for_min_bytes_and_ends_with_its_time() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.create("t").await;
    client.produce("t", 0, batch(&["a"])).await;
    let started = Instant::now();
    let request = fetch_request("t", 0, 0)
        .with_min_bytes(1_000_000)
        .with_max_wait_ms(120);
    let response = client.fetch(12, &request).await;
    assert!(started.elapsed() >= Duration::from_millis(120));
    assert_eq!(fetched(&response).len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn stopping_answers_a_long_poll_at_once() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.create("t").await;
    client
        .send(12, &fetch_request("t", 0, 0).with_max_wait_ms(250_000))
        .await;
    // The broker has begun the request once it is counted.
    while !server.broker.metrics().requests().contains(&(1, 1)) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (stopped, _) = tokio::join!(
        tokio::time::timeout(Duration::from_secs(30), server.stop()),
        client.raw_answer()
    );
    stopped.expect("the long poll does not hold up the stop");
}

#[tokio::test]
async fn offsets_outside_and_wrong_epochs_are_told() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.create("t").await;
    client.produce("t", 0, batch(&["a"])).await;
    let code = |response: &kafka_protocol::messages::FetchResponse| {
        response.responses[0].partitions[0].error_code
    };
    for offset in [-1, 2, i64::MAX] {
        let response = client.fetch(12, &fetch_request("t", 0, offset)).await;
        assert_eq!(code(&response), 1, "offset {offset}");
    }
    let epoch = server.broker.log().epoch();
    for (claimed, expected) in [
        (epoch, 0),
        (epoch + 1, 75),
        (epoch - 1, if epoch == 0 { 0 } else { 74 }),
    ] {
        let mut request = fetch_request("t", 0, 0);
        request.topics[0].partitions[0].current_leader_epoch = claimed;
        assert_eq!(
            code(&client.fetch(12, &request).await),
            expected,
            "epoch {claimed}"
        );
    }
    let session = fetch_request("t", 0, 0)
        .with_session_id(7)
        .with_session_epoch(2);
    assert_eq!(client.fetch(12, &session).await.error_code, 70);
    server.stop().await;
}

#[tokio::test]
async fn offsets_are_found_by_time_and_at_the_ends() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.create("t").await;
    for timestamp in [100, 300, 200] {
        client
            .produce("t", 0, stamped(&["a", "b"], timestamp, None))
            .await;
    }
    for (asked, offset, timestamp) in [
        (-1, 6, -1),
        (-2, 0, -1),
        (-3, 3, 301),
        (-4, 0, -1),
        (-5, -1, -1),
        (0, 0, 100),
        (101, 1, 101),
        (150, 2, 300),
        (301, 3, 301),
        (302, -1, -1),
    ] {
        let response = client.call(10, &list_offsets("t", 0, asked)).await;
        let found = &response.topics[0].partitions[0];
        assert_eq!(found.error_code, 0, "{asked}");
        assert_eq!(
            (found.offset, found.timestamp),
            (offset, timestamp),
            "{asked}"
        );
    }
    let response = client.call(10, &list_offsets("t", 0, -9)).await;
    assert_eq!(response.topics[0].partitions[0].error_code, 35);
    let response = client.call(10, &list_offsets("none", 0, -1)).await;
    assert_eq!(response.topics[0].partitions[0].error_code, 3);
    server.stop().await;
}
