//! JSON batches over HTTP into a file channel: a load generator with keep-alive connections, each of which posts the
//! next batch when the last one was acknowledged. From the first byte sent to the last event out of the channel.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::agent::{Agent, Channel, Sink};
use crate::arguments::Arguments;
use crate::input;
use crate::sample::{Durability, Percentiles, Sample};
use crate::workplace::{Workplace, check, deadline, free_port};

/// Longest silence of the source.
const SILENCE: Duration = Duration::from_secs(60);

/// Measures one run.
pub(crate) fn run(
    workplace: &Workplace,
    arguments: &Arguments,
    durability: Durability,
) -> Result<Sample> {
    let requests = (arguments.input_bytes() / arguments.event_bytes / arguments.http_batch).max(1);
    let events = requests * arguments.http_batch;
    let bytes = events * arguments.event_bytes;
    let folder = workplace.fresh()?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let source = format!(
        "a1.sources.r1.type = http\na1.sources.r1.bind = 127.0.0.1\na1.sources.r1.port = {}\n",
        address.port()
    );
    let channel = Channel::File(durability);
    let mut agent = Agent::start(workplace, folder.path(), &source, channel, Sink::Null)?;
    let limit = deadline(bytes);
    agent.until(limit, "the source listens", |_| {
        Ok(TcpStream::connect(address).ok().map(drop))
    })?;
    let before = agent.cost()?;
    let started = Instant::now();
    let waits = post_all(address, arguments, requests, limit)?;
    let taken = agent.until(limit, "all events leave the channel", |agent| {
        Ok(agent.taken()?.filter(|taken| *taken >= events))
    })?;
    let wall = started.elapsed();
    let mut cost = agent.cost()?;
    cost.cpu_seconds -= before.cpu_seconds;
    ensure!(taken == events, "{events} events went in, {taken} came out");
    agent.stop()?;
    Ok(Sample {
        name: format!(
            "HTTP, {} a request → file channel → null",
            arguments.http_batch
        ),
        durability: Some(durability),
        events,
        bytes,
        wall,
        cost: Some(cost),
        waits: Percentiles::of(waits),
    })
}

/// Posts on several connections; how long each acknowledgement took, the sending included.
fn post_all(
    address: SocketAddr,
    arguments: &Arguments,
    requests: u64,
    limit: Instant,
) -> Result<Vec<Duration>> {
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        let connections: Vec<_> = (0..arguments.connections)
            .map(|_| scope.spawn(|| post_some(address, arguments, &next, requests, limit)))
            .collect();
        let mut waits = Vec::with_capacity(requests as usize);
        for connection in connections {
            let own = connection
                .join()
                .map_err(|_| anyhow::anyhow!("a connection of the load generator panicked"))?;
            waits.append(&mut own?);
        }
        Ok(waits)
    })
}

fn post_some(
    address: SocketAddr,
    arguments: &Arguments,
    next: &AtomicU64,
    requests: u64,
    limit: Instant,
) -> Result<Vec<Duration>> {
    let mut stream = TcpStream::connect(address).context("connect to the source")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let mut request = Request::new(address, arguments);
    let mut waits = Vec::new();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= requests {
            return Ok(waits);
        }
        check(limit, "posting")?;
        request.number(number * arguments.http_batch);
        let started = Instant::now();
        stream.write_all(&request.bytes).context("post")?;
        acknowledged(&mut stream)?;
        waits.push(started.elapsed());
    }
}

/// Reads an answer and fails unless it is 200.
fn acknowledged(stream: &mut TcpStream) -> Result<()> {
    let mut answer = [0; 4096];
    let mut length = 0;
    loop {
        let read = stream
            .read(&mut answer[length..])
            .context("wait for an answer")?;
        length += read;
        let text = String::from_utf8_lossy(&answer[..length]);
        if read == 0 || length == answer.len() {
            bail!("the answer is cut: {text}");
        }
        if text.starts_with("HTTP/1.1 200") && text.ends_with("\r\n\r\n") {
            return Ok(());
        }
        if length >= 12 && !text.starts_with("HTTP/1.1 200") {
            bail!("refused: {text}");
        }
    }
}

/// One request, sent again and again with other numbers.
struct Request {
    bytes: Vec<u8>,
    /// Where the numbers stand.
    places: Vec<usize>,
}

impl Request {
    fn new(address: SocketAddr, arguments: &Arguments) -> Self {
        let body = input::body(arguments.event_bytes as usize);
        let mut json = vec![b'['];
        let mut places = Vec::new();
        for event in 0..arguments.http_batch {
            if event > 0 {
                json.push(b',');
            }
            json.extend_from_slice(br#"{"headers":{"host":"web1"},"body":""#);
            places.push(json.len());
            json.extend_from_slice(&body);
            json.extend_from_slice(br#""}"#);
        }
        json.push(b']');
        let head = format!(
            "POST / HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            json.len()
        );
        for place in &mut places {
            *place += head.len();
        }
        let bytes = [head.into_bytes(), json].concat();
        Self { bytes, places }
    }

    /// Numbers the events from `first` on.
    fn number(&mut self, first: u64) {
        for (number, place) in (first..).zip(&self.places) {
            input::set_number(&mut self.bytes[*place..], number);
        }
    }
}
