//! Reads another process's `/metrics` and `/ready`: what any dashboard could do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// The answer of `/metrics`.
pub(super) struct Metrics(Value);

impl Metrics {
    /// A counter, such as `CHANNEL.c1` and `ChannelSize`.
    pub(super) fn get(&self, component: &str, name: &str) -> Option<u64> {
        self.0.get(component)?.get(name)?.as_str()?.parse().ok()
    }
}

/// The counters of the process that serves them on a loopback port; none when it is away.
pub(super) fn read(port: u16) -> Option<Metrics> {
    let (_, body) = get(port, "/metrics")?;
    serde_json::from_str(&body).ok().map(Metrics)
}

/// Whether `/ready` says yes.
pub(super) fn is_ready(port: u16) -> bool {
    get(port, "/ready").is_some_and(|(status, _)| status == 200)
}

fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let patience = Duration::from_millis(500);
    let mut stream =
        TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), patience).ok()?;
    stream.set_read_timeout(Some(patience)).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.to_owned()))
}
