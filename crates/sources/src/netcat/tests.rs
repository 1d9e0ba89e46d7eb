//! Tests of the netcat source with real sockets.

use std::net::SocketAddr;
use std::time::Duration;

use flafka_flow::conformance::doubles::{RecordingProcessor, build_context};
use flafka_flow::conformance::source::RunningSource;
use flafka_flow::settings::{Report, Section, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

struct Fixture {
    processor: Arc<RecordingProcessor>,
    running: RunningSource,
    address: SocketAddr,
    shared: Arc<Shared>,
}

async fn start(keys: &[(&str, &str)]) -> Fixture {
    let keys = [("bind", "127.0.0.1"), ("port", "0")]
        .into_iter()
        .chain(keys.iter().copied());
    let section = Section::of("a1.sources.r1", keys);
    let config = NetcatSourceConfig::from_section(&section, &mut Report::new()).expect("valid");
    let source = NetcatSource::new(config, &build_context("r1"));
    let shared = Arc::clone(&source.shared);
    let mut bound = source.bound.subscribe();
    let processor = RecordingProcessor::new();
    let running = RunningSource::start(BuiltSource::Driven(Box::new(source)), &processor);
    let address = bound
        .wait_for(Option::is_some)
        .await
        .expect("bound")
        .expect("some");
    Fixture {
        processor,
        running,
        address,
        shared,
    }
}

/// Sends `input`, closes the sending side and returns the answers.
async fn talk(address: SocketAddr, input: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    stream.write_all(input).await.expect("send");
    stream.shutdown().await.expect("close");
    let mut answers = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answers)).await;
    read.expect("the source closes too").expect("read");
    answers
}

#[tokio::test]
async fn each_line_is_an_event_and_is_answered() {
    let fixture = start(&[]).await;
    let answers = talk(fixture.address, "one\r\n\nünf\nnot ended".as_bytes()).await;
    assert_eq!(answers, b"OK\nOK\nOK\n");
    assert_eq!(fixture.processor.bodies(), ["one\r", "", "ünf"]);
    assert_eq!(fixture.shared.counters.get(Metric::EventAcceptedCount), 3);
    assert_eq!(fixture.shared.counters.get(Metric::OpenConnectionCount), 0);
    fixture.running.stop().await;
}

#[tokio::test]
async fn lines_of_one_read_are_one_put() {
    let fixture = start(&[]).await;
    let input: String = (0..900).map(|number| format!("{number}\n")).collect();
    assert_eq!(
        talk(fixture.address, input.as_bytes()).await,
        b"OK\n".repeat(900)
    );
    assert_eq!(fixture.processor.events().len(), 900);
    assert!(
        fixture.processor.batches().len() < 50,
        "batched: {}",
        fixture.processor.batches().len()
    );
    fixture.running.stop().await;
}

#[tokio::test]
async fn without_acknowledgements_only_failures_are_answered() {
    let fixture = start(&[("ack-every-event", "false"), ("max-line-length", "8")]).await;
    let answers = talk(fixture.address, b"good\n12345678\nnever").await;
    let expected = b"FAILED: Event exceeds the maximum length (8 chars, including newline)\n";
    assert_eq!(answers, expected);
    assert_eq!(fixture.processor.bodies(), ["good"]);
    fixture.running.stop().await;
}

#[tokio::test]
async fn length_counts_characters_with_the_newline() {
    let fixture = start(&[("max-line-length", "4")]).await;
    let answers = talk(fixture.address, "äöü\n\u{1f600}a\n".as_bytes()).await;
    assert_eq!(answers, b"OK\nOK\n");
    for too_long in ["äöüß", "äöüß\n", "a\u{1f600}\u{1f600}\n"] {
        let answers = talk(fixture.address, too_long.as_bytes()).await;
        assert!(answers.starts_with(b"FAILED: Event exceeds"), "{too_long}");
    }
    assert_eq!(fixture.processor.events().len(), 2);
    fixture.running.stop().await;
}

#[tokio::test]
async fn a_refused_put_is_answered_and_the_connection_goes_on() {
    let fixture = start(&[]).await;
    let mut stream = TcpStream::connect(fixture.address).await.expect("connect");
    let mut answer = [0u8; 200];
    fixture.processor.fail_next(1);
    stream.write_all(b"lost\n").await.expect("send");
    let count = stream.read(&mut answer).await.expect("answer");
    let text = String::from_utf8_lossy(&answer[..count]).into_owned();
    assert!(
        text.starts_with("FAILED: channel test is full") && text.ends_with('\n'),
        "{text}"
    );
    stream.write_all(b"kept\n").await.expect("send");
    let count = stream.read(&mut answer).await.expect("answer");
    assert_eq!(&answer[..count], b"OK\n");
    assert_eq!(fixture.processor.bodies(), ["kept"]);
    assert_eq!(fixture.shared.counters.get(Metric::ChannelWriteFail), 1);
    fixture.running.stop().await;
}

#[tokio::test]
async fn an_encoding_holds_for_lines_and_answers() {
    let fixture = start(&[("encoding", "UTF-16")]).await;
    let mut input = bytes::BytesMut::new();
    Charset::UTF_16.encode("é\nb\n", &mut input);
    let answers = talk(fixture.address, &input).await;
    let mut expected = bytes::BytesMut::new();
    Charset::UTF_16.encode("OK\nOK\n", &mut expected);
    assert_eq!(answers, expected);
    assert_eq!(fixture.processor.bodies(), ["é", "b"]);
    fixture.running.stop().await;
}

#[tokio::test]
async fn input_that_is_no_text_is_refused_after_the_lines_before_it() {
    let fixture = start(&[]).await;
    for input in [&b"good\nb\xffad\n"[..], b"good\nb\xffad"] {
        let answers = talk(fixture.address, input).await;
        assert_eq!(answers, b"OK\nFAILED: Event is not valid UTF-8\n");
    }
    let split = talk(
        fixture.address,
        "é".repeat(40_000).replace("éé", "é\n").as_bytes(),
    )
    .await;
    assert_eq!(split.len(), 20_000 * 3);
    fixture.running.stop().await;
}

#[tokio::test]
async fn a_client_that_never_reads_or_ends_does_not_stop_others_or_the_end() {
    let fixture = start(&[("max_connections", "2")]).await;
    let mut silent = TcpStream::connect(fixture.address).await.expect("connect");
    silent
        .write_all(b"begun and never ended")
        .await
        .expect("send");
    assert_eq!(talk(fixture.address, b"a\n").await, b"OK\n");
    assert_eq!(
        talk(fixture.address, b"b\n").await,
        b"OK\n",
        "its place came free"
    );
    let mut deaf = TcpStream::connect(fixture.address).await.expect("connect");
    let flood =
        tokio::spawn(async move { while deaf.write_all(&b"x\n".repeat(10_000)).await.is_ok() {} });
    fixture.processor.wait_for(50_000, PATIENCE).await;
    fixture.running.stop().await;
    flood.abort();
}
