//! What the HTTP source carries: the JSON parser alone, and requests of 1000 events of 200 bytes
//! over loopback into nothing and into a file channel that a reader drains.
//!
//! `cargo bench -p flafka-sources --bench http_rates -- [directory]`; two worker threads serve the
//! source, the channel and the clients. Target: 250,000 events a second into the file channel,
//! parsing at 300 MB/s or more. CPU seconds are the process's own, so they hold on a busy machine.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use flafka_channels::CHANNELS;
use flafka_flow::Batch;
use flafka_flow::channel::{Channel, ChannelError, TakeLimit};
use flafka_flow::clock::SystemClock;
use flafka_flow::conformance::doubles::build_context;
use flafka_flow::lifecycle::Lifecycle;
use flafka_flow::settings::Section;
use flafka_flow::source::{BuiltSource, ChannelProcessor, SourceContext};
use flafka_sources::SOURCES;
use flafka_sources::charset::Charset;
use flafka_sources::http::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const EVENTS: usize = 1000;
const CLIENTS: usize = 8;
const LOAD: Duration = Duration::from_secs(5);

fn main() {
    parse(
        "equal headers",
        &request(|_| r#"{"host":"web-1","type":"access"}"#.to_owned()),
    );
    parse(
        "own headers",
        &request(|n| format!(r#"{{"host":"web-1","timestamp":"17000000{n}"}}"#)),
    );
    let directory = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let folder = match directory {
        Some(directory) => tempfile::tempdir_in(directory),
        None => tempfile::tempdir(),
    };
    let folder = folder.expect("a folder");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        load("into nothing", None).await;
        load("into a file channel", Some(file_channel(folder.path()))).await;
    });
}

fn request(headers: impl Fn(usize) -> String) -> Bytes {
    let body = "abcdefghij".repeat(20);
    let event = |number| format!(r#"{{"headers":{},"body":"{body}"}}"#, headers(number));
    let events: Vec<_> = (0..EVENTS).map(event).collect();
    Bytes::from(format!("[{}]", events.join(",")))
}

fn parse(name: &str, request: &Bytes) {
    let rounds = 2000;
    let before = cpu_seconds();
    for _ in 0..rounds {
        let batch = json::parse(request, Charset::UTF_8).expect("good");
        std::hint::black_box(batch);
    }
    let cpu = (cpu_seconds() - before).max(0.01);
    let rate = (rounds * request.len()) as f64 / cpu / 1e6;
    let each = cpu * 1e9 / (rounds * EVENTS) as f64;
    eprintln!("parse, {name}: {rate:.0} MB per CPU second, {each:.0} ns per event");
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<_> = stat
        .rsplit(')')
        .next()
        .expect("a name")
        .split_whitespace()
        .collect();
    let ticks = |index: usize| fields[index].parse::<f64>().expect("a number");
    (ticks(11) + ticks(12)) / 100.0
}

fn file_channel(folder: &Path) -> Arc<dyn Channel> {
    let entry = CHANNELS
        .iter()
        .find(|entry| entry.description.names.matches("file"));
    let path = |name: &str| folder.join(name).display().to_string();
    let (checkpoint, data) = (path("checkpoint"), path("data"));
    let keys = [
        ("checkpointDir", checkpoint.as_str()),
        ("dataDirs", data.as_str()),
    ];
    let section = Section::of("a1.channels.c1", keys);
    (entry.expect("listed").build)(&section, &build_context("c1")).expect("built")
}

struct Into {
    channel: Option<Arc<dyn Channel>>,
    events: AtomicU64,
}

#[async_trait]
impl ChannelProcessor for Into {
    async fn process(&self, batch: Batch) -> Result<(), ChannelError> {
        let events = batch.len() as u64;
        if let Some(channel) = &self.channel {
            channel.put(batch).await?;
        }
        self.events.fetch_add(events, Ordering::Relaxed);
        Ok(())
    }
}

async fn load(name: &str, channel: Option<Arc<dyn Channel>>) {
    if let Some(channel) = &channel {
        channel.start().await.expect("opened");
    }
    let into = Arc::new(Into {
        channel: channel.clone(),
        events: AtomicU64::new(0),
    });
    let context = SourceContext {
        channels: Arc::clone(&into) as Arc<dyn ChannelProcessor>,
        lifecycle: Lifecycle::new(),
        clock: Arc::new(SystemClock),
    };
    let port = free_port();
    let serving = serve(&port, context.clone());
    let done = Arc::new(AtomicBool::new(false));
    let drain = tokio::spawn(drain(channel.clone(), Arc::clone(&done)));
    let request = whole_request();
    let (started, before) = (Instant::now(), cpu_seconds());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| tokio::spawn(client(port.clone(), request.clone())))
        .collect();
    let mut refused = 0;
    for client in clients {
        refused += client.await.expect("no panic");
    }
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds() - before);
    let events = into.events.load(Ordering::Relaxed) as f64;
    eprintln!(
        "{name}: {:.0} events a second, {:.2} CPU us per event with its client, {refused} requests refused",
        events / seconds,
        cpu * 1e6 / events,
    );
    context.lifecycle.stop();
    serving.await.expect("no panic");
    context.lifecycle.drained().await;
    done.store(true, Ordering::Relaxed);
    drain.await.expect("no panic");
    if let Some(channel) = channel {
        channel.stop().await.expect("closed");
    }
}

fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port().to_string()
}

fn serve(port: &str, context: SourceContext) -> tokio::task::JoinHandle<()> {
    let entry = SOURCES
        .iter()
        .find(|entry| entry.description.names.matches("http"));
    let section = Section::of("a1.sources.r1", [("bind", "127.0.0.1"), ("port", port)]);
    let built = (entry.expect("listed").build)(&section, &build_context("r1")).expect("built");
    let BuiltSource::Driven(mut source) = built else {
        panic!("http is driven from outside");
    };
    tokio::spawn(async move { source.run(&context).await.expect("served") })
}

async fn drain(channel: Option<Arc<dyn Channel>>, done: Arc<AtomicBool>) {
    let Some(channel) = channel else { return };
    while !done.load(Ordering::Relaxed) {
        let lease = channel
            .take(TakeLimit::events(10_000))
            .await
            .expect("taken");
        lease.commit().await.expect("committed");
    }
}

fn whole_request() -> Bytes {
    let body = request(|_| r#"{"host":"web-1","type":"access"}"#.to_owned());
    let head = format!(
        "POST / HTTP/1.1\r\nHost: bench\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    Bytes::from([head.as_bytes(), &body].concat())
}

/// Sends requests one after the other; returns how many were refused.
async fn client(port: String, request: Bytes) -> u64 {
    let address = format!("127.0.0.1:{port}");
    let mut stream = loop {
        match TcpStream::connect(&address).await {
            Ok(stream) => break stream,
            Err(_not_yet) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let until = Instant::now() + LOAD;
    let mut refused = 0;
    let mut answer = [0u8; 4096];
    while Instant::now() < until {
        stream.write_all(&request).await.expect("sent");
        let count = stream.read(&mut answer).await.expect("answered");
        refused += u64::from(!answer[..count].starts_with(b"HTTP/1.1 200"));
    }
    refused
}
