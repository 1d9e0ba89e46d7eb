//! A client of the netcat source: lines out, answers back.
//!
//! Invariant: every call ends within its deadline.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

const LIMIT: Duration = Duration::from_secs(30);
/// Lines under way at a time: few enough that neither side's socket buffer can fill up with nobody reading.
const WINDOW: usize = 100;

/// Sends `lines` over one connection to 127.0.0.1 and returns the answer to each, such as `OK`.
///
/// # Errors
/// No connection, or fewer answers than lines in time.
pub fn send<Line: AsRef<str>>(port: u16, lines: &[Line]) -> Result<Vec<String>> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)
        .with_context(|| format!("connect to the netcat source at {address}"))?;
    stream
        .set_read_timeout(Some(LIMIT))
        .context("set the read deadline")?;
    let mut answers = BufReader::new(stream.try_clone().context("read and write one socket")?);
    let mut all = Vec::with_capacity(lines.len());
    for window in lines.chunks(WINDOW) {
        let mut text = String::new();
        for line in window {
            text.push_str(line.as_ref());
            text.push('\n');
        }
        stream.write_all(text.as_bytes()).context("send lines")?;
        for _ in window {
            let mut answer = String::new();
            answers
                .read_line(&mut answer)
                .with_context(|| format!("the answer to line {}", all.len() + 1))?;
            all.push(answer.trim_end().to_owned());
        }
    }
    Ok(all)
}
