//! Compacted topics over the wire: keys are required, records are not deleted, and of each key the newest stays.

use std::time::Instant;

use bytes::Bytes;
use flafka_kafka_wire::records::{BatchBuilder, Compression, batches, records};
use kafka_protocol::messages::ListOffsetsRequest;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};

use crate::admin::{create, delete_records};
use crate::support::{Client, PATIENCE, Server, fetch_request, name, produce_request};

fn keyed(codec: Compression, now_ms: i64, pairs: &[(Option<&str>, &str)]) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    for (key, value) in pairs {
        builder
            .push(
                now_ms,
                key.map(str::as_bytes),
                Some(value.as_bytes()),
                std::iter::empty(),
            )
            .unwrap();
    }
    builder.finish().unwrap()
}

/// Offset and value of every record, read as a consumer does: from the offset behind the last batch.
async fn read_all(client: &mut Client, topic: &str, end: i64) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    let mut from = 0;
    while from < end {
        let response = client.fetch(12, &fetch_request(topic, 0, from)).await;
        let partition = &response.responses[0].partitions[0];
        assert_eq!(partition.error_code, 0, "at {from}");
        let bytes = partition.records.clone().unwrap();
        for batch in batches(&bytes) {
            let (header, batch) = batch.unwrap();
            let mut scratch = Vec::new();
            for record in records(&header, batch, &mut scratch, 1 << 20).unwrap() {
                let record = record.unwrap();
                let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                found.push((record.offset, value));
            }
            from = header.last_offset() + 1;
        }
        assert!(!bytes.is_empty(), "nothing at {from} of {end}");
    }
    found
}

async fn offset_at(client: &mut Client, topic: &str, timestamp: i64) -> (i64, i64) {
    let request = ListOffsetsRequest::default()
        .with_replica_id((-1).into())
        .with_topics(vec![
            ListOffsetsTopic::default()
                .with_name(name(topic))
                .with_partitions(vec![
                    ListOffsetsPartition::default()
                        .with_partition_index(0)
                        .with_timestamp(timestamp),
                ]),
        ]);
    let response = client.call(7, &request).await;
    let partition = &response.topics[0].partitions[0];
    (partition.offset, partition.timestamp)
}

#[tokio::test]
async fn a_record_without_a_key_is_refused_and_named() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client
        .call(7, &create("a", 1, &[("cleanup.policy", "compact")]))
        .await;
    for codec in [Compression::None, Compression::Zstd] {
        let pairs = [(Some("k"), "1"), (None, "2"), (Some("k"), "3"), (None, "4")];
        let request = produce_request("a", 0, keyed(codec, 1, &pairs), -1);
        let answer = client.call(9, &request).await;
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, 87, "{codec}");
        let places: Vec<i32> = partition
            .record_errors
            .iter()
            .map(|one| one.batch_index)
            .collect();
        assert_eq!(places, [1, 3], "{codec}");
        assert_eq!(
            client.produce("a", 0, keyed(codec, 1, &pairs[..1])).await.0,
            0
        );
    }
    assert_eq!(server.broker.metrics().produced_records.get(), 2);
    let response = client.call(2, &delete_records("a", 0, 1)).await;
    assert_eq!(
        response.topics[0].partitions[0].error_code, 44,
        "policy violation"
    );
    client
        .call(7, &create("b", 1, &[("cleanup.policy", "compact,delete")]))
        .await;
    client
        .produce("b", 0, keyed(Compression::None, 1, &[(Some("k"), "1")]))
        .await;
    let response = client.call(2, &delete_records("b", 0, 1)).await;
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
    server.stop().await;
}

#[tokio::test]
async fn of_each_key_the_newest_stays_and_offsets_and_times_are_found_across_gaps() {
    let server = Server::with("log.cleaner.backoff.ms=0\n").await;
    let mut client = server.client().await;
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "1024"),
        ("min.cleanable.dirty.ratio", "0"),
    ];
    client.call(7, &create("a", 1, &configs)).await;
    let started = Instant::now();
    let done = || {
        let housekeeping = &server.broker.metrics().housekeeping[0];
        housekeeping
            .compaction_removed_records
            .load(std::sync::atomic::Ordering::Relaxed)
    };
    let mut written = 0;
    while done() < 50 {
        assert!(
            started.elapsed() < PATIENCE,
            "{} records were removed",
            done()
        );
        let key = format!("k{}", written % 5);
        let value = format!("{written} {}", "v".repeat(100));
        let batch = keyed(Compression::Lz4, 1_000 + written, &[(Some(&key), &value)]);
        client.produce("a", 0, batch).await;
        written += 1;
    }
    let check = async |client: &mut Client| {
        // The last passes may still be under way: what is judged was the same before and after.
        let (found, at_first) = loop {
            let found = read_all(client, "a", written).await;
            let at_first = offset_at(client, "a", 1_000).await;
            if found == read_all(client, "a", written).await {
                break (found, at_first);
            }
            assert!(started.elapsed() < PATIENCE, "compaction never ends");
        };
        assert!(
            found.len() as i64 <= written - 50,
            "{} of {written}",
            found.len()
        );
        for back in 1..=5 {
            let offset = written - back;
            assert!(
                found
                    .iter()
                    .any(|(at, value)| *at == offset && value.starts_with(&format!("{offset} ")))
            );
        }
        // A time in a gap finds the next record there is.
        let (first, _) = found[0];
        assert!(first > 0);
        assert_eq!(at_first, (first, 1_000 + first));
        assert_eq!(
            offset_at(client, "a", -3).await,
            (written - 1, 999 + written)
        );
    };
    check(&mut client).await;
    let server = server.restart().await;
    check(&mut server.client().await).await;
    server.stop().await;
}

#[tokio::test]
async fn retention_empties_a_quiet_topic_and_offsets_go_on() {
    let server = Server::with("log.retention.check.interval.ms=50\n").await;
    let mut client = server.client().await;
    client
        .call(
            7,
            &create(
                "a",
                1,
                &[("retention.ms", "1"), ("file.delete.delay.ms", "0")],
            ),
        )
        .await;
    for n in 0..3 {
        client
            .produce("a", 0, keyed(Compression::None, 1_000 + n, &[(None, "v")]))
            .await;
    }
    let started = Instant::now();
    let log = server.broker.log().clone();
    let stream = log.stream("topic/a/0").unwrap();
    while log.bounds(stream).unwrap().bytes > 0 {
        assert!(started.elapsed() < PATIENCE);
        tokio::task::yield_now().await;
    }
    assert_eq!(offset_at(&mut client, "a", -2).await.0, 3);
    let server = server.restart().await;
    let mut client = server.client().await;
    assert_eq!(offset_at(&mut client, "a", -2).await.0, 3);
    let batch = keyed(Compression::None, 1_000, &[(None, "w")]);
    assert_eq!(client.produce("a", 0, batch).await, (0, 3));
    server.stop().await;
}
