//! What a restart keeps.

use std::collections::HashSet;

use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{InitProducerIdRequest, OffsetForLeaderEpochRequest};

use crate::support::{Server, batch, fetch_request, fetched, name, stamped};

pub(crate) fn epoch_request(
    topic: &str,
    partition: i32,
    epoch: i32,
) -> OffsetForLeaderEpochRequest {
    OffsetForLeaderEpochRequest::default().with_topics(vec![
        OffsetForLeaderTopic::default()
            .with_topic(name(topic))
            .with_partitions(vec![
                OffsetForLeaderPartition::default()
                    .with_partition(partition)
                    .with_leader_epoch(epoch),
            ]),
    ])
}

#[tokio::test]
async fn topics_records_and_sequences_survive() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.create("t").await;
    let id = server.broker.topics().get("t").unwrap().id;
    let first = stamped(&["a"], 1, Some((5, 0, 0)));
    client.produce("t", 0, first.clone()).await;
    let server = server.restart().await;
    assert_eq!(server.broker.topics().get("t").unwrap().id, id);
    let mut client = server.client().await;
    assert_eq!(
        client.produce("t", 0, first).await,
        (0, 0),
        "still known as a repeat"
    );
    let second = stamped(&["b"], 1, Some((5, 0, 1)));
    assert_eq!(client.produce("t", 0, second).await, (0, 1));
    let values = fetched(&client.fetch(12, &fetch_request("t", 0, 0)).await);
    assert_eq!(values, [(0, "a".to_owned()), (1, "b".to_owned())]);
    server.stop().await;
}

#[tokio::test]
async fn a_producer_id_is_never_given_twice() {
    let mut server = Server::start().await;
    let mut seen = HashSet::new();
    for _ in 0..3 {
        let mut client = server.client().await;
        for _ in 0..3 {
            let request = InitProducerIdRequest::default().with_transactional_id(None);
            let id = client.call(4, &request).await.producer_id.0;
            assert!(seen.insert(id), "{id}");
        }
        server = server.restart().await;
    }
    server.stop().await;
}

#[tokio::test]
async fn each_start_is_a_leader_epoch_with_its_own_end() {
    let server = Server::start().await;
    let first = server.broker.log().epoch();
    let mut client = server.client().await;
    client.create("t").await;
    client.produce("t", 0, batch(&["a", "b"])).await;
    let server = server.restart().await;
    let second = server.broker.log().epoch();
    assert_eq!(second, first + 1);
    let mut client = server.client().await;
    client.produce("t", 0, batch(&["c"])).await;
    for (asked, epoch, end) in [(first, first, 2), (second, second, 3), (second + 1, -1, -1)] {
        let response = client.call(4, &epoch_request("t", 0, asked)).await;
        let found = &response.topics[0].partitions[0];
        assert_eq!(
            (found.error_code, found.leader_epoch, found.end_offset),
            (0, epoch, end),
            "{asked}"
        );
    }
    server.stop().await;
}
