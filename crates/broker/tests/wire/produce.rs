//! What Produce accepts, refuses, orders and never stores twice.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{InitProducerIdRequest, MetadataRequest, ProduceRequest};
use tokio::io::AsyncWriteExt;

use crate::support::{
    Server, batch, fetch_request, fetched, frame, produce_request, read_records, stamped,
};

fn with_byte(batch: &Bytes, at: usize, value: u8) -> Bytes {
    let mut changed = BytesMut::from(&batch[..]);
    changed[at] = value;
    changed.freeze()
}

/// The same batch with other attributes and a right checksum.
fn with_attributes(batch: &Bytes, attributes: u8) -> Bytes {
    let changed = with_byte(batch, 22, attributes);
    let crc = flafka_kafka_wire::records::crc_of(&changed);
    let mut changed = BytesMut::from(&changed[..]);
    changed[17..21].copy_from_slice(&crc.to_be_bytes());
    changed.freeze()
}

#[tokio::test]
async fn offsets_go_on_and_records_come_back_as_sent() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.create("t").await;
    assert_eq!(client.produce("t", 0, batch(&["a", "b"])).await, (0, 0));
    assert_eq!(client.produce("t", 0, batch(&["c"])).await, (0, 2));
    let response = client.fetch(12, &fetch_request("t", 0, 0)).await;
    let values = fetched(&response);
    assert_eq!(
        values,
        [
            (0, "a".to_owned()),
            (1, "b".to_owned()),
            (2, "c".to_owned())
        ]
    );
    assert_eq!(server.broker.metrics().produced_records.get(), 3);
    server.stop().await;
}

#[tokio::test]
async fn bad_batches_are_refused_with_kafkas_codes() {
    let server = Server::with("message.max.bytes=5000").await;
    let mut client = server.client().await;
    client.create("t").await;
    let good = batch(&["a", "b"]);
    let two: Bytes = [good.clone(), good.clone()].concat().into();
    let far_ahead = stamped(&["x"], 9_000_000_000_000, None);
    let large = batch(&["x".repeat(6000).as_str()]);
    let cases = [
        ("empty", Bytes::new(), 87),
        ("two batches", two, 87),
        ("wrong checksum", with_byte(&good, good.len() - 1, 0x7f), 2),
        ("cut short", good.slice(..good.len() - 1), 2),
        ("shorter than a header", good.slice(..30), 2),
        ("magic 1", with_byte(&good, 16, 1), 87),
        ("control batch", with_attributes(&good, 0x20), 87),
        ("transactional batch", with_attributes(&good, 0x10), 48),
        ("unknown codec", with_attributes(&good, 0x07), 76),
        ("too large", large, 10),
        ("timestamp in the future", far_ahead, 32),
    ];
    for (what, bytes, code) in cases {
        assert_eq!(client.produce("t", 0, bytes).await, (code, -1), "{what}");
    }
    assert_eq!(client.produce("t", 1, good.clone()).await, (3, -1));
    assert_eq!(client.produce("none", 0, good.clone()).await, (3, -1));
    let acks_two = client
        .call(9, &produce_request("t", 0, good.clone(), 2))
        .await;
    assert_eq!(acks_two.responses[0].partition_responses[0].error_code, 21);
    assert_eq!(
        client.produce("t", 0, good).await,
        (0, 0),
        "nothing of it is in the log"
    );
    server.stop().await;
}

#[tokio::test]
async fn min_insync_replicas_above_one_refuses_acks_all_only() {
    let server = Server::with("min.insync.replicas=2").await;
    let mut client = server.client().await;
    client.create("t").await;
    assert_eq!(client.produce("t", 0, batch(&["a"])).await.0, 19);
    let response = client
        .call(9, &produce_request("t", 0, batch(&["a"]), 1))
        .await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    server.stop().await;
}

#[tokio::test]
async fn a_repeated_batch_of_an_idempotent_producer_is_stored_once() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.create("t").await;
    let request = InitProducerIdRequest::default().with_transactional_id(None);
    let id = client.call(4, &request).await.producer_id.0;
    let one = |sequence, value| stamped(&[value], 1, Some((id, 0, sequence)));
    assert_eq!(client.produce("t", 0, one(0, "a")).await, (0, 0));
    assert_eq!(client.produce("t", 0, one(1, "b")).await, (0, 1));
    assert_eq!(
        client.produce("t", 0, one(0, "a")).await,
        (0, 0),
        "the offset from then"
    );
    assert_eq!(client.produce("t", 0, one(5, "f")).await.0, 45);
    assert_eq!(client.produce("t", 0, one(2, "c")).await, (0, 2));
    let old_epoch = stamped(&["z"], 1, Some((id, 1, 0)));
    assert_eq!(
        client.produce("t", 0, old_epoch).await,
        (0, 3),
        "a new epoch starts at 0"
    );
    assert_eq!(client.produce("t", 0, one(3, "d")).await.0, 47);
    let values = fetched(&client.fetch(11, &fetch_request("t", 0, 0)).await);
    let values: Vec<&str> = values.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(values, ["a", "b", "c", "z"]);
    server.stop().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_take_effect_in_order() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.create("t").await;
    let mut wire = Vec::new();
    for number in 0..40 {
        let value = number.to_string();
        if number % 10 == 7 {
            let all = MetadataRequest::default().with_topics(None);
            wire.extend_from_slice(&frame(12, &all, number));
        } else {
            let request = produce_request("t", 0, batch(&[value.as_str()]), -1);
            wire.extend_from_slice(&frame(9, &request, number));
        }
    }
    let mut other = server.client().await;
    other.stream.write_all(&wire).await.unwrap();
    for number in 0..40 {
        let answer = other.raw_answer().await.unwrap();
        assert_eq!(answer[..4], i32::to_be_bytes(number));
    }
    let response = client.fetch(12, &fetch_request("t", 0, 0)).await;
    let values: Vec<i32> = fetched(&response)
        .into_iter()
        .map(|(_, value)| value.parse().unwrap())
        .collect();
    let expected: Vec<i32> = (0..40).filter(|number| number % 10 != 7).collect();
    assert_eq!(values, expected);
    server.stop().await;
}

/// Produce requests that arrived behind another request wait for it; later ones must not overtake them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_produce_does_not_overtake_those_that_wait_behind_another_request() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.create("t").await;
    let mut other = server.client().await;
    for round in 0..50 {
        let first = 4 * round;
        let produce = |number: i32| {
            let value = number.to_string();
            frame(
                9,
                &produce_request("t", 0, batch(&[value.as_str()]), -1),
                number,
            )
        };
        let all = MetadataRequest::default().with_topics(None);
        let together = [
            frame(12, &all, first),
            produce(first + 1),
            produce(first + 2),
        ]
        .concat();
        other.stream.write_all(&together).await.unwrap();
        other.raw_answer().await.unwrap();
        other.stream.write_all(&produce(first + 3)).await.unwrap();
        for _ in 0..3 {
            other.raw_answer().await.unwrap();
        }
    }
    let response = client.fetch(12, &fetch_request("t", 0, 0)).await;
    let values: Vec<i32> = fetched(&response)
        .into_iter()
        .map(|(_, value)| value.parse().unwrap())
        .collect();
    let expected: Vec<i32> = (0..200).filter(|number| number % 4 != 0).collect();
    assert_eq!(values, expected);
    server.stop().await;
}

#[tokio::test]
async fn without_acks_there_is_no_answer_and_the_data_is_there() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.create("t").await;
    client
        .send(9, &produce_request("t", 0, batch(&["quiet"]), 0))
        .await;
    client
        .send(9, &produce_request("t", 0, batch(&["loud"]), 1))
        .await;
    let response = client.receive::<ProduceRequest>(9).await;
    assert_eq!(response.responses[0].partition_responses[0].base_offset, 1);
    assert_eq!(
        fetched(&client.fetch(12, &fetch_request("t", 0, 0)).await).len(),
        2
    );
    server.stop().await;
}

#[tokio::test]
async fn log_append_time_is_stamped_and_told() {
    let server = Server::with("log.message.timestamp.type=LogAppendTime").await;
    let mut client = server.client().await;
    client.create("t").await;
    let response = client
        .call(9, &produce_request("t", 0, batch(&["a"]), -1))
        .await;
    let stamped = response.responses[0].partition_responses[0].log_append_time_ms;
    assert!(stamped > 1_600_000_000_000, "{stamped}");
    let response = client.fetch(12, &fetch_request("t", 0, 0)).await;
    let records = response.responses[0].partitions[0].records.clone().unwrap();
    let header = flafka_kafka_wire::records::validate(&records).unwrap();
    assert_eq!(header.max_timestamp, stamped);
    assert_eq!(read_records(&records).len(), 1);
    server.stop().await;
}
