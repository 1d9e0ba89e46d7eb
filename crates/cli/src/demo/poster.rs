//! Posts events over HTTP, each batch again until it is acknowledged, and remembers what was.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::ledger::Ledger;

/// Events in a post.
const EVENTS: u64 = 50;
/// Pause between posts: a steady stream, not a load test.
const PAUSE: Duration = Duration::from_millis(4);
/// Pause after a failed post.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    acknowledged: AtomicU64,
    failures: AtomicU64,
}

/// The posting thread.
pub(super) struct Poster {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Ledger>>,
}

impl Poster {
    /// Starts posting to the http source on a loopback port.
    pub(super) fn start(port: u16) -> Self {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let thread = std::thread::spawn(move || post_until_stopped(port, &own));
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// Events that were answered with 200.
    pub(super) fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Posts that failed and were sent again.
    pub(super) fn failures(&self) -> u64 {
        self.shared.failures.load(Ordering::Relaxed)
    }

    /// Ends after the post under way is acknowledged; returns everything that was.
    pub(super) fn stop(&mut self) -> anyhow::Result<Ledger> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take();
        let joined = thread.map(|thread| {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("the posting thread panicked"))
        });
        joined.unwrap_or_else(|| Ok(Ledger::default()))
    }
}

fn post_until_stopped(port: u16, shared: &Shared) -> Ledger {
    let mut acknowledged = Ledger::default();
    let mut connection: Option<BufReader<TcpStream>> = None;
    let mut number = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let lines: Vec<String> = (number..number + EVENTS)
            .map(|number| {
                format!(
                    "flafka demo post {number:09} from process {}",
                    std::process::id()
                )
            })
            .collect();
        let request = request(&lines);
        // After a stop the post under way is still tried for a while: its fate must be known.
        let mut tries = 0;
        while !send(port, &mut connection, &request) {
            shared.failures.fetch_add(1, Ordering::Relaxed);
            tries += 1;
            if shared.stop.load(Ordering::Relaxed) && tries > 100 {
                return acknowledged;
            }
            std::thread::sleep(RETRY_PAUSE);
        }
        for line in &lines {
            acknowledged.add(line.as_bytes());
        }
        number += EVENTS;
        shared.acknowledged.fetch_add(EVENTS, Ordering::Relaxed);
        std::thread::sleep(PAUSE);
    }
    acknowledged
}

fn request(lines: &[String]) -> String {
    let mut body = String::from("[");
    for (index, line) in lines.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(
            body,
            "{comma}{{\"headers\":{{\"origin\":\"demo\"}},\"body\":\"{line}\"}}"
        )
        .expect("a String takes everything");
    }
    body.push(']');
    let length = body.len();
    format!(
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// Sends a request; true when it was answered with 200. A broken connection is dropped.
fn send(port: u16, connection: &mut Option<BufReader<TcpStream>>, request: &str) -> bool {
    let answered = exchange(port, connection, request).unwrap_or(false);
    if !answered {
        *connection = None;
    }
    answered
}

fn exchange(
    port: u16,
    connection: &mut Option<BufReader<TcpStream>>,
    request: &str,
) -> std::io::Result<bool> {
    let stream = match connection {
        Some(stream) => stream,
        None => {
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream.set_nodelay(true)?;
            connection.insert(BufReader::new(stream))
        }
    };
    stream.get_mut().write_all(request.as_bytes())?;
    let mut status = String::new();
    stream.read_line(&mut status)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(status.split(' ').nth(1) == Some("200"))
}
