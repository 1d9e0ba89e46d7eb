//! What consumers get of a partition with damaged files: everything that is whole, and CORRUPT_MESSAGE where it is not.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use flafka_kafka_wire::records;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::{CreateTopicsRequest, FetchRequest};

use crate::support::{Client, PATIENCE, Server, batch, fetch_request, fetched, name, text};

const RECORDS: i64 = 40;

/// A topic of forty records of a kibibyte, each its own batch, with about 15 of them in a segment.
async fn filled(server: &Server) {
    let mut client = server.client().await;
    let config = CreatableTopicConfig::default()
        .with_name(text("segment.bytes"))
        .with_value(Some(text("16384")));
    let topic = CreatableTopic::default()
        .with_name(name("t"))
        .with_num_partitions(1)
        .with_replication_factor(1)
        .with_configs(vec![config]);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]);
    let response = client.call(7, &request).await;
    assert_eq!(response.topics[0].error_code, 0);
    for number in 0..RECORDS {
        let value = format!("{number} {}", "v".repeat(1000));
        let (code, base) = client.produce("t", 0, batch(&[&value])).await;
        assert_eq!((code, base), (0, number));
    }
}

/// The segments of the topic, oldest first.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let streams = std::fs::read_dir(dir.join("log")).unwrap();
    let mut found = Vec::new();
    for stream in streams {
        let stream = stream.unwrap();
        if !stream
            .file_name()
            .to_string_lossy()
            .starts_with("topic_t_0.")
        {
            continue;
        }
        for file in std::fs::read_dir(stream.path()).unwrap() {
            found.push(file.unwrap().path());
        }
    }
    found.retain(|path| path.extension().is_some_and(|end| end == "log"));
    found.sort();
    assert!(found.len() > 1, "{found:?}");
    found
}

/// Cuts a segment in the middle of its `number`-th batch of two; the offset that is lost first.
fn cut(path: &Path, number: usize) -> i64 {
    let bytes = std::fs::read(path).unwrap();
    let batches: Vec<_> = records::batches(&bytes).map(Result::unwrap).collect();
    let whole: usize = batches[..number].iter().map(|(_, batch)| batch.len()).sum();
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(whole as u64 + 500).unwrap();
    batches[number].0.base_offset
}

/// Fetches on from an offset until there is no more or a fetch fails; where, and with what.
async fn read_on(client: &mut Client, mut from: i64) -> (i64, i16) {
    loop {
        let response = client.fetch(12, &fetch_request("t", 0, from)).await;
        let code = response.responses[0].partitions[0].error_code;
        if code != 0 {
            return (from, code);
        }
        let found = fetched(&response);
        if found.is_empty() {
            return (from, 0);
        }
        for (offset, value) in found {
            assert_eq!(offset, from);
            assert!(value.starts_with(&format!("{offset} ")));
            from += 1;
        }
    }
}

fn assert_named(server: &Server, path: &Path) {
    let warnings = server.broker.log_dirs().warnings();
    let path = path.display().to_string();
    let naming = warnings.iter().filter(|warning| warning.contains(&path));
    assert_eq!(naming.count(), 1, "{path}: {warnings:?}");
}

#[tokio::test]
async fn a_segment_that_became_shorter_is_served_as_far_as_it_goes() {
    let server = Server::start().await;
    filled(&server).await;
    let path = segments(server.dir.path())[0].clone();
    let behind = records::batches(&std::fs::read(&path).unwrap()).count() as i64;
    let server = server.restart_after(|_| assert_eq!(cut(&path, 5), 5)).await;
    let mut client = server.client().await;
    for _ in 0..2 {
        let corrupt = ResponseError::CorruptMessage.code();
        assert_eq!(read_on(&mut client, 0).await, (5, corrupt));
    }
    assert_named(&server, &path);
    assert_eq!(read_on(&mut client, behind).await, (RECORDS, 0));
    server.stop().await;
}

#[tokio::test]
async fn a_segment_cut_under_a_running_broker_ends_one_connection_and_then_is_damage() {
    let server = Server::start().await;
    filled(&server).await;
    let mut client = server.client().await;
    assert_eq!(read_on(&mut client, 0).await, (RECORDS, 0));
    let path = segments(server.dir.path())[1].clone();
    let bytes = std::fs::read(&path).unwrap();
    let first = records::batches(&bytes).next();
    let first = first.unwrap().unwrap().0.base_offset;
    let lost = cut(&path, 3);
    let request: FetchRequest = fetch_request("t", 0, first);
    client.send(12, &request).await;
    assert!(
        client.raw_answer().await.is_none(),
        "its length was promised"
    );
    let mut client = server.client().await;
    let corrupt = ResponseError::CorruptMessage.code();
    assert_eq!(read_on(&mut client, first).await, (lost, corrupt));
    assert_named(&server, &path);
    server.stop().await;
}

#[tokio::test]
async fn what_a_start_filled_up_is_not_served_as_records() {
    let server = Server::start().await;
    filled(&server).await;
    let path = segments(server.dir.path()).pop().unwrap();
    let mut lost = 0;
    let mut server = server.restart_after(|_| lost = cut(&path, 2)).await;
    for _ in 0..2 {
        let mut client = server.client().await;
        let corrupt = ResponseError::CorruptMessage.code();
        assert_eq!(read_on(&mut client, 0).await, (lost, corrupt));
        server = server.restart().await;
    }
    let mut client = server.client().await;
    assert_eq!(read_on(&mut client, RECORDS).await, (RECORDS, 0));
    let value = format!("{RECORDS} new");
    assert_eq!(client.produce("t", 0, batch(&[&value])).await, (0, RECORDS));
    assert_eq!(read_on(&mut client, RECORDS).await, (RECORDS + 1, 0));
    server.broker.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_wrong_base_offset_that_nobody_knows_of_makes_no_consumer_skip_a_record() {
    let server = Server::start().await;
    filled(&server).await;
    let path = segments(server.dir.path())[0].clone();
    let server = server
        .restart_after(|_| {
            let mut bytes = std::fs::read(&path).unwrap();
            let batches = records::batches(&bytes).map(|batch| batch.unwrap().1.len());
            let place: usize = batches.take(5).sum();
            bytes[place + 7] ^= 0x40;
            std::fs::write(&path, bytes).unwrap();
        })
        .await;
    let mut client = server.client().await;
    client.send(12, &fetch_request("t", 0, 0)).await;
    let answer = client.raw_answer().await;
    assert!(answer.is_none(), "what was on its way is not finished");
    let mut client = server.client().await;
    let corrupt = ResponseError::CorruptMessage.code();
    assert_eq!(read_on(&mut client, 0).await, (5, corrupt));
    assert_named(&server, &path);
    assert_eq!(read_on(&mut client, 6).await, (RECORDS, 0));
    server.stop().await;
}
