//! Peers that are slow or silent (fault F22): they lose their connection, not the others' place.

use std::time::Duration;

use kafka_protocol::messages::MetadataRequest;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::support::{PATIENCE, Server, batch, fetch_request, frame, name, produce_request};

/// Waits until so many connections were closed for being slow.
async fn stalled(server: &Server, count: u64) {
    let deadline = Instant::now() + PATIENCE;
    while server.broker.metrics().connections_stalled.get() < count {
        assert!(Instant::now() < deadline, "the connection is kept");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A request frame of 256 KiB.
fn large(correlation_id: i32) -> bytes::Bytes {
    let value = "x".repeat(256 << 10);
    frame(
        9,
        &produce_request("t", 0, batch(&[&value]), -1),
        correlation_id,
    )
}

/// A Metadata request of 256 KiB: unlike a Produce, many of them are read before the first is answered.
fn large_metadata(correlation_id: i32) -> bytes::Bytes {
    let topic = || MetadataRequestTopic::default().with_name(Some(name(&"x".repeat(32_000))));
    let topics = (0..8).map(|_| topic()).collect();
    frame(
        4,
        &MetadataRequest::default().with_topics(Some(topics)),
        correlation_id,
    )
}

#[tokio::test]
async fn a_client_that_never_reads_is_closed_and_holds_nobody_up() {
    let server = Server::with(
        "flafka.socket.stall.ms=1500\nqueued.max.request.bytes=1048576\nsocket.send.buffer.bytes=65536",
    )
    .await;
    let mut honest = server.client().await;
    honest.create("t").await;
    let value = "x".repeat(256 << 10);
    for _ in 0..8 {
        assert_eq!(honest.produce("t", 0, batch(&[&value])).await.0, 0);
    }
    // Asks for all of it many times and reads nothing; what it sends behind that is as much as all may hold together.
    let mut silent = Vec::new();
    for _ in 0..4 {
        let mut client = server.client().await;
        for _ in 0..12 {
            client.send(4, &fetch_request("t", 0, 0)).await;
        }
        let (mut read, mut write) = client.stream.into_split();
        let sending = tokio::spawn(async move {
            for number in 0..16 {
                if write.write_all(&large_metadata(number)).await.is_err() {
                    break;
                }
            }
            write
        });
        silent.push(async move {
            let write = sending.await.unwrap();
            // What the sockets hold is still there, then the end.
            let mut buffer = vec![0; 1 << 16];
            while read.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
            drop(write);
        });
    }
    // A quarter each: the fifth gets in when one of them is closed at the latest.
    for _ in 0..8 {
        assert_eq!(honest.produce("t", 0, batch(&[&value])).await.0, 0);
    }
    stalled(&server, 4).await;
    for client in silent {
        tokio::time::timeout(PATIENCE, client)
            .await
            .expect("closed");
    }
    assert_eq!(server.broker.metrics().protocol_violations.get(), 0);
    assert_eq!(honest.produce("t", 0, batch(&["y"])).await.0, 0);
    assert_eq!(server.broker.metrics().connections_stalled.get(), 4);
    server.stop().await;
}

#[tokio::test]
async fn one_client_alone_gets_a_quarter_of_what_all_may_hold() {
    // A silent client is not closed within this test.
    let server = Server::with(
        "flafka.socket.stall.ms=600000\nqueued.max.request.bytes=1048576\nsocket.send.buffer.bytes=65536",
    )
    .await;
    let mut honest = server.client().await;
    honest.create("t").await;
    let value = "x".repeat(256 << 10);
    for _ in 0..8 {
        assert_eq!(honest.produce("t", 0, batch(&[&value])).await.0, 0);
    }
    let mut client = server.client().await;
    for _ in 0..12 {
        client.send(4, &fetch_request("t", 0, 0)).await;
    }
    let (_unread, mut write) = client.stream.into_split();
    let sending = tokio::spawn(async move {
        for number in 0..16 {
            if write.write_all(&large_metadata(number)).await.is_err() {
                break;
            }
        }
    });
    let several = async {
        for _ in 0..20 {
            assert_eq!(honest.produce("t", 0, batch(&[&value])).await.0, 0);
        }
    };
    tokio::time::timeout(PATIENCE, several)
        .await
        .expect("the honest client is served");
    assert_eq!(server.broker.metrics().connections_stalled.get(), 0);
    sending.abort();
    drop(_unread);
    server.stop().await;
}

#[tokio::test]
async fn a_request_that_trickles_in_ends_the_connection_a_slow_one_is_served() {
    let server = Server::with("flafka.socket.stall.ms=400").await;
    let mut honest = server.client().await;
    honest.create("t").await;
    // A byte now and then, never so late that it counts as a pause.
    let mut client = server.client().await;
    let trickling = large(1);
    client.stream.write_all(&trickling[..4]).await.unwrap();
    let started = Instant::now();
    for byte in &trickling[4..] {
        if client.stream.write_all(&[*byte]).await.is_err() {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "the connection is kept");
        if server.broker.metrics().connections_stalled.get() > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stalled(&server, 1).await;
    // One that stops altogether.
    let mut client = server.client().await;
    client.stream.write_all(&trickling[..9]).await.unwrap();
    stalled(&server, 2).await;
    assert_eq!(client.raw_answer().await, None);
    // In pieces, but in time.
    let mut client = server.client().await;
    for piece in large(1).chunks(32 << 10) {
        client.stream.write_all(piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(client.raw_answer().await.is_some());
    assert_eq!(server.broker.metrics().connections_stalled.get(), 2);
    server.stop().await;
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * rustix::param::page_size()
}

/// Both ends of every connection are in this process, so there are half as many as it may have files.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_connections_cost_little_and_hold_nobody_up() {
    let server = Server::with("max.connections=20000\nsocket.listen.backlog.size=1000").await;
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let files = files.current.map_or(1 << 20, |files| files as usize);
    let count = 10_000.min((files - 300) / 2);
    let mut honest = server.client().await;
    honest.create("t").await;
    let before = resident_bytes();
    let mut idle = Vec::new();
    let metadata = frame(12, &MetadataRequest::default().with_topics(None), 1);
    for _ in 0..count {
        let mut client = server.client().await;
        // It was of use once.
        client.stream.write_all(&metadata).await.unwrap();
        client.raw_answer().await.expect("an answer");
        idle.push(client);
    }
    assert_eq!(
        server.broker.metrics().connections_open.get(),
        count as u64 + 1
    );
    let each = resident_bytes().saturating_sub(before) / count;
    assert!(each < 12 << 10, "{each} bytes for an idle connection");
    assert_eq!(honest.produce("t", 0, batch(&["y"])).await.0, 0);
    drop(idle);
    server.stop().await;
}

#[tokio::test]
async fn the_limit_for_one_address_is_its_own() {
    let server = Server::with("max.connections.per.ip=2").await;
    let mut first = server.client().await;
    first.create("a").await;
    let mut second = server.client().await;
    second.create("b").await;
    assert_eq!(server.client().await.raw_answer().await, None);
    assert_eq!(server.broker.metrics().connections_refused.get(), 1);
    second.create("c").await;
    server.stop().await;
}
