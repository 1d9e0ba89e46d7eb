//! Bytes that no client sends: the broker answers or closes, counts it, and goes on serving others.

use std::time::Duration;

use flafka_kafka_wire::api_versions::SERVED;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Client, PATIENCE, Server, batch, frame, produce_request};

/// Sends bytes, ends the sending side, and waits for the broker to close.
async fn throw(server: &Server, bytes: &[u8]) {
    let mut client = server.client().await;
    // The broker may close before everything is written.
    drop(client.stream.write_all(bytes).await);
    drop(client.stream.shutdown().await);
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, client.stream.read_to_end(&mut answer))
        .await
        .expect("the broker closes")
        .ok();
}

fn request(key: i16, version: i16, tail: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(&key.to_be_bytes());
    body.extend_from_slice(&version.to_be_bytes());
    body.extend_from_slice(&[0, 0, 0, 1]);
    body.extend_from_slice(tail);
    let mut frame = (body.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(&body);
    frame
}

#[tokio::test]
async fn broken_frames_close_the_connection_and_are_counted() {
    let server = Server::start().await;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("negative length", vec![0xff; 12]),
        ("zero length", vec![0, 0, 0, 0]),
        ("oversize", vec![0x7f, 0xff, 0xff, 0xff, 0, 0]),
        ("http", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("tls", vec![0x16, 3, 1, 2, 0, 1, 0, 1]),
        ("unknown key", request(999, 0, &[0xff, 0xff])),
        ("negative key", request(-1, 0, &[0xff, 0xff])),
        ("unknown version", request(3, 99, &[0xff, 0xff])),
        ("produce version 2", request(0, 2, &[0xff, 0xff])),
        ("client id beyond the frame", request(3, 1, &[0x7f, 0xff])),
        (
            "metadata count 2^31-1",
            request(3, 1, &[0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]),
        ),
        (
            "metadata compact count 2^32-1",
            request(3, 12, &[0xff, 0xff, 0, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        ),
        (
            "tag count 2^32-1 in the header",
            request(3, 12, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]),
        ),
        (
            "topic name that is not UTF-8",
            request(3, 1, &[0xff, 0xff, 0, 0, 0, 1, 0, 1, 0xff]),
        ),
    ];
    for (index, (what, bytes)) in cases.iter().enumerate() {
        throw(&server, bytes).await;
        let violations = server.broker.metrics().protocol_violations.get();
        assert_eq!(violations, index as u64 + 1, "{what}");
    }
    server.client().await.create("alive").await;
    server.stop().await;
}

#[tokio::test]
async fn a_frame_cut_at_any_byte_is_no_violation_and_does_nothing() {
    let server = Server::start().await;
    server.client().await.create("t").await;
    let whole = frame(9, &produce_request("t", 0, batch(&["x"]), -1), 1);
    for length in 0..whole.len() {
        throw(&server, &whole[..length]).await;
    }
    assert_eq!(server.broker.metrics().protocol_violations.get(), 0);
    assert_eq!(server.broker.metrics().produced_records.get(), 0);
    server.stop().await;
}

#[tokio::test]
async fn random_bytes_and_damaged_requests_never_stop_the_broker() {
    let seed = 20_261_122u64;
    let mut random = StdRng::seed_from_u64(seed);
    let server = Server::start().await;
    server.client().await.create("t").await;
    let good = frame(9, &produce_request("t", 0, batch(&["x", "y"]), -1), 1);
    for round in 0..400 {
        let bytes = match round % 3 {
            0 => {
                let mut noise = vec![0; random.random_range(0..200)];
                random.fill(&mut noise[..]);
                noise
            }
            1 => {
                let api = SERVED[random.random_range(0..SERVED.len())];
                let mut tail = vec![0; random.random_range(0..80)];
                random.fill(&mut tail[..]);
                request(
                    api.key as i16,
                    random.random_range(api.served_min..=api.max),
                    &tail,
                )
            }
            _ => {
                let mut damaged = good.to_vec();
                for _ in 0..random.random_range(1..4) {
                    let at = random.random_range(4..damaged.len());
                    damaged[at] = random.random();
                }
                damaged
            }
        };
        throw(&server, &bytes).await;
    }
    server.client().await.create(&format!("alive-{seed}")).await;
    server.stop().await;
}

#[tokio::test]
async fn too_many_connections_are_refused_and_places_come_back() {
    let server = Server::with("max.connections=2").await;
    let mut first = server.client().await;
    first.create("a").await;
    let mut second = server.client().await;
    second.create("b").await;
    let mut third = server.client().await;
    assert_eq!(third.raw_answer().await, None);
    assert_eq!(server.broker.metrics().connections_refused.get(), 1);
    drop(first);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while server.broker.metrics().connections_open.get() > 1 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // The place is given back just after the gauge goes down.
    loop {
        let mut again = server.client().await;
        again
            .send(
                12,
                &kafka_protocol::messages::MetadataRequest::default().with_topics(None),
            )
            .await;
        if again.raw_answer().await.is_some() {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline);
    }
    second.create("c").await;
    server.stop().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_is_no_violation() {
    let server = Server::with("connections.max.idle.ms=50").await;
    let mut client: Client = server.client().await;
    assert_eq!(client.raw_answer().await, None);
    assert_eq!(server.broker.metrics().protocol_violations.get(), 0);
    server.stop().await;
}
