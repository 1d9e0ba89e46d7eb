//! The server with real sockets: status codes, bounds, hostile clients, TLS, stop.

use std::net::SocketAddr;

use flafka_flow::conformance::doubles::{RecordingProcessor, build_context};
use flafka_flow::conformance::source::RunningSource;
use flafka_flow::settings::{Report, Section, Settings, Severity};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::*;

const PATIENCE: Duration = Duration::from_secs(20);
const ONE: &str = r#"[{"headers":{"a":"b"},"body":"x"}]"#;

struct Fixture {
    processor: Arc<RecordingProcessor>,
    running: RunningSource,
    address: SocketAddr,
    shared: Arc<Shared>,
}

fn config(keys: &[(&str, &str)]) -> (Option<HttpSourceConfig>, Report) {
    let keys = [("bind", "127.0.0.1"), ("port", "0")]
        .into_iter()
        .chain(keys.iter().copied());
    let section = Section::of("a1.sources.r1", keys);
    let mut report = Report::new();
    let config = HttpSourceConfig::from_section(&section, &mut report);
    (config, report)
}

async fn start(keys: &[(&str, &str)]) -> Fixture {
    let (config, report) = config(keys);
    let config = config.unwrap_or_else(|| panic!("{report:?}"));
    let source = HttpSource::new(config, &build_context("r1")).expect("built");
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

impl Fixture {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connect")
    }

    /// One request on a connection of its own: status and answer.
    async fn send(&self, head: &str, body: &[u8]) -> (u16, String) {
        let mut stream = self.connect().await;
        request(&mut stream, head, body).await
    }

    async fn post(&self, body: &str) -> (u16, String) {
        self.send(
            "POST / HTTP/1.1\r\nContent-Type: application/json",
            body.as_bytes(),
        )
        .await
    }

    fn count(&self, metric: Metric) -> i64 {
        self.shared.counters.get(metric)
    }
}

async fn request(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    head: &str,
    body: &[u8],
) -> (u16, String) {
    let head = format!(
        "{head}\r\nHost: test\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("send head");
    // The source may answer before it has taken the whole body.
    let _refused = stream.write_all(body).await;
    response(stream).await
}

/// Reads one response that has a length.
async fn response(stream: &mut (impl AsyncRead + Unpin)) -> (u16, String) {
    let read = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let length = head
            .split("content-length: ")
            .nth(1)?
            .split("\r\n")
            .next()?
            .parse()
            .ok()?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        Some((status, String::from_utf8_lossy(&body).into_owned()))
    };
    let read = tokio::time::timeout(PATIENCE, read)
        .await
        .expect("an answer in time");
    read.unwrap_or((0, "closed".to_owned()))
}

#[tokio::test]
async fn each_case_has_flumes_status() {
    let fixture = start(&[]).await;
    let (status, answer) = fixture.post(ONE).await;
    assert_eq!((status, answer.as_str()), (200, ""));
    assert_eq!(fixture.post("[]").await.0, 200);
    for (body, expected) in [
        ("[{]", 400),
        ("[{\"body\":{}}]", 400),
        ("", 500),
        ("null", 500),
        ("[null]", 500),
    ] {
        let (status, answer) = fixture.post(body).await;
        assert_eq!(status, expected, "{body}");
        assert!(answer.len() > 10, "a reason: {answer}");
    }
    let latin = "POST / HTTP/1.1\r\nContent-Type: application/json; charset=iso-8859-1";
    assert_eq!(fixture.send(latin, ONE.as_bytes()).await.0, 500);
    fixture.processor.fail_next(1);
    let (status, answer) = fixture.post(ONE).await;
    assert_eq!(status, 503);
    assert!(answer.contains("channel test is full"), "{answer}");
    assert_eq!(fixture.post(ONE).await.0, 200, "room again");
    assert_eq!(fixture.processor.bodies(), ["x", "x"]);
    let counts = [
        Metric::AppendBatchReceivedCount,
        Metric::AppendBatchAcceptedCount,
        Metric::EventReceivedCount,
    ];
    assert_eq!(counts.map(|metric| fixture.count(metric)), [4, 3, 3]);
    assert_eq!(fixture.count(Metric::EventAcceptedCount), 2);
    assert_eq!(fixture.count(Metric::EventReadFail), 6);
    assert_eq!(fixture.count(Metric::ChannelWriteFail), 1);
    fixture.running.stop().await;
}

#[tokio::test]
async fn methods_and_paths_are_as_in_flume() {
    let fixture = start(&[]).await;
    let methods = [
        ("GET", 200),
        ("POST", 200),
        ("PUT", 405),
        ("DELETE", 405),
        ("OPTIONS", 403),
        ("TRACE", 403),
        ("PATCH", 501),
        ("FOO", 501),
    ];
    for (method, expected) in methods {
        let head = format!("{method} /any/path?x=y HTTP/1.1");
        assert_eq!(
            fixture.send(&head, ONE.as_bytes()).await.0,
            expected,
            "{method}"
        );
    }
    assert_eq!(fixture.processor.events().len(), 2);
    fixture.running.stop().await;
}

#[tokio::test]
async fn a_connection_is_kept_and_requests_may_be_pipelined() {
    let fixture = start(&[]).await;
    let mut stream = fixture.connect().await;
    for _ in 0..3 {
        assert_eq!(
            request(&mut stream, "POST / HTTP/1.1", ONE.as_bytes())
                .await
                .0,
            200
        );
    }
    let one = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{ONE}",
        ONE.len()
    );
    let chunked = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n[{\"b\r\n9\r\nody\":\"y\"}\r\n1\r\n]\r\n0\r\n\r\n";
    stream
        .write_all((one.repeat(2) + chunked).as_bytes())
        .await
        .expect("send");
    for _ in 0..3 {
        assert_eq!(response(&mut stream).await.0, 200);
    }
    assert_eq!(fixture.processor.bodies(), ["x", "x", "x", "x", "x", "y"]);
    fixture.running.stop().await;
}

#[tokio::test]
async fn a_large_batch_is_one_put() {
    let fixture = start(&[]).await;
    let event = format!(
        "{{\"headers\":{{\"h\":\"v\"}},\"body\":\"{}\"}}",
        "z".repeat(200)
    );
    let batch = format!("[{}]", vec![event; 5000].join(","));
    assert_eq!(fixture.post(&batch).await.0, 200);
    let batches = fixture.processor.batches();
    assert_eq!(
        (
            batches.len(),
            batches[0].len(),
            batches[0].header_sets().len()
        ),
        (1, 5000, 1)
    );
    fixture.running.stop().await;
}

#[tokio::test]
async fn blob_handlers_take_the_body_and_the_parameters() {
    let keys = [
        ("handler", "org.apache.flume.source.http.BLOBHandler"),
        ("handler.mandatoryParameters", "a"),
    ];
    let fixture = start(&keys).await;
    let (status, answer) = fixture.send("POST /?b=1 HTTP/1.1", b"raw").await;
    assert!(
        status == 500 && answer.contains("`a` is missing"),
        "{answer}"
    );
    assert_eq!(
        fixture.send("POST /?a=1&b=x+y HTTP/1.1", b"raw\0").await.0,
        200
    );
    let event = &fixture.processor.events()[0];
    assert_eq!(
        (&event.body[..], event.headers.get("b")),
        (&b"raw\0"[..], Some("x y"))
    );
    fixture.running.stop().await;

    let keys = [
        (
            "handler",
            "org.apache.flume.sink.solr.morphline.BlobHandler",
        ),
        ("handler.maxBlobLength", "4"),
    ];
    let fixture = start(&keys).await;
    let head = "POST /?a=1 HTTP/1.1\r\nContent-Type: text/plain";
    assert_eq!(fixture.send(head, b"123456").await.0, 200);
    let form = "POST / HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded";
    assert_eq!(fixture.send(form, b"k=v").await.0, 200);
    let events = fixture.processor.events();
    assert_eq!(
        (&events[0].body[..], events[0].headers.get("Content-Type")),
        (&b"1234"[..], Some("text/plain"))
    );
    assert_eq!(
        (&events[1].body[..], events[1].headers.get("k")),
        (&b""[..], Some("v"))
    );
    fixture.running.stop().await;

    let fixture = start(&[("handler", "org.apache.flume.source.http.BLOBHandler")]).await;
    assert_eq!(
        fixture.send("POST / HTTP/1.1", b"raw").await.0,
        200,
        "no parameter is demanded by default"
    );
    fixture.running.stop().await;
}

#[tokio::test]
async fn requests_beyond_the_bounds_are_refused() {
    let fixture = start(&[
        ("max_request_bytes", "1000"),
        ("max_buffered_bytes", "1500"),
    ])
    .await;
    let (status, answer) = fixture.post(&"x".repeat(1001)).await;
    assert!(
        status == 413 && answer.contains("max_request_bytes"),
        "{status} {answer}"
    );
    let mut chunked = fixture.connect().await;
    let head = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3f0\r\n";
    let piece = format!(
        "{}\r\n3f0\r\n{}\r\n0\r\n\r\n",
        "x".repeat(0x3f0),
        "x".repeat(0x3f0)
    );
    chunked
        .write_all((head.to_owned() + &piece).as_bytes())
        .await
        .expect("send");
    assert_eq!(response(&mut chunked).await.0, 413, "chunked");
    let mut head = "POST / HTTP/1.1\r\nX-Long: ".to_owned();
    head.push_str(&"y".repeat(20_000));
    assert_eq!(fixture.send(&head, b"").await.0, 431);
    let many: String = (0..2000)
        .map(|number| format!("\r\nX-{number}: 1"))
        .collect();
    assert_eq!(
        fixture.send(&format!("POST / HTTP/1.1{many}"), b"").await.0,
        431
    );

    let mut holder = fixture.connect().await;
    let half = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{}",
        " ".repeat(900)
    );
    holder.write_all(half.as_bytes()).await.expect("send");
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while fixture.shared.limits.budget.available_permits() > 600 {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the first half is read"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (status, answer) = fixture.post(&format!("{}[]", " ".repeat(900))).await;
    assert!(
        status == 503 && answer.contains("max_buffered_bytes"),
        "{status} {answer}"
    );
    holder
        .write_all(format!("{}[]", " ".repeat(98)).as_bytes())
        .await
        .expect("send");
    assert_eq!(response(&mut holder).await.0, 200);
    assert_eq!(
        fixture.shared.limits.budget.available_permits(),
        1500,
        "all given back"
    );
    fixture.running.stop().await;
}

#[tokio::test]
async fn slow_clients_are_sent_away_and_others_served() {
    let fixture = start(&[
        ("ServerConnector.idleTimeout", "300"),
        ("max_connections", "3"),
    ])
    .await;
    let mut slow_head = fixture.connect().await;
    slow_head
        .write_all(b"POST / HTTP/1.1\r\nHos")
        .await
        .expect("send");
    let mut slow_body = fixture.connect().await;
    slow_body
        .write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n[")
        .await
        .expect("send");
    let mut idle = fixture.connect().await;
    assert_eq!(
        request(&mut idle, "POST / HTTP/1.1", ONE.as_bytes())
            .await
            .0,
        200,
        "served beside them"
    );
    assert_eq!(response(&mut slow_body).await.0, 408);
    let mut rest = Vec::new();
    for stream in [&mut slow_head, &mut idle] {
        let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        closed.expect("closed by the source").expect("read");
    }
    assert_eq!(fixture.post(ONE).await.0, 200, "their places came free");
    fixture.running.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_does_not_drop_a_put_half_way() {
    let fixture = start(&[]).await;
    let mut stream = fixture.connect().await;
    let one = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{ONE}",
        ONE.len()
    );
    stream.write_all(one.as_bytes()).await.expect("send");
    drop(stream);
    fixture.processor.wait_for(1, PATIENCE).await;
    fixture.running.stop().await;
}

#[tokio::test]
async fn tls_is_served_and_plain_text_on_it_is_closed() {
    let keystore = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tls/testdata/ec.p12");
    let keystore = keystore.to_str().expect("a path");
    let keys = [
        ("enableSSL", "true"),
        ("keystore", keystore),
        ("keystorePassword", "changeit"),
        ("keystore-type", "PKCS12"),
    ];
    let fixture = start(&keys).await;
    let host = ServerName::try_from("localhost").expect("a name");
    let stream = fixture.connect().await;
    let mut stream = crate::tls::tests::client()
        .connect(host, stream)
        .await
        .expect("handshake");
    for _ in 0..2 {
        assert_eq!(
            request(&mut stream, "POST / HTTP/1.1", ONE.as_bytes())
                .await
                .0,
            200
        );
    }
    assert_eq!(fixture.post(ONE).await.0, 0, "plain text is no handshake");
    assert_eq!(fixture.processor.events().len(), 2);
    fixture.running.stop().await;
}

#[test]
fn settings_of_jetty_are_mapped_or_named() {
    let (config, report) = config(&[
        ("QueuedThreadPool.maxThreads", "7"),
        ("ServerConnector.idleTimout", "5"),
        ("HttpConfiguration.sendServerVersion", "false"),
        ("SslContextFactory.needClientAuth", "true"),
    ]);
    assert_eq!(config.expect("valid").max_threads.0, 7);
    let problems: Vec<_> = report
        .problems()
        .iter()
        .map(|problem| {
            (
                problem.severity,
                format!("{} {}", problem.key, problem.message),
            )
        })
        .collect();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(
        problems
            .iter()
            .all(|(severity, _)| *severity == Severity::Warning)
    );
    let misspelt = problems
        .iter()
        .any(|(_, text)| text.contains("did you mean `ServerConnector.idleTimeout`"));
    assert!(misspelt, "{problems:?}");
}

#[test]
fn settings_that_cannot_work_are_refused() {
    for keys in [
        &[("ssl", "true")][..],
        &[("max_request_bytes", "1000"), ("max_buffered_bytes", "10")],
        &[("handler", "com.example.MyHandler")],
        &[("ServerConnector.idleTimeout", "soon")],
    ] {
        let (config, report) = config(keys);
        assert!(config.is_none() && report.has_errors(), "{keys:?}");
    }
}

#[test]
fn the_keys_of_the_handlers_are_keys_of_the_source() {
    let known = HttpSourceConfig::fields();
    for handler in HANDLERS {
        assert!(
            handler
                .names
                .all()
                .all(|name| config(&[("handler", name)]).0.is_some())
        );
        for field in (handler.fields)() {
            let key = format!("handler.{}", field.key);
            let own = known.iter().find(|known| known.key == key);
            assert_eq!(own.map(|own| &own.default), Some(&field.default), "{key}");
        }
    }
}
