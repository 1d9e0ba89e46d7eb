//! A small HTTP/1.1 client, one request per connection, for the HTTP source and the agent's metrics.
//!
//! By hand, so that a test can also send what a well-behaved client would not. Invariant: every call ends within its
//! deadline.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

const LIMIT: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Body, de-chunked if need be.
    pub body: Vec<u8>,
}

/// GET of `path` on 127.0.0.1.
///
/// # Errors
/// No connection, no answer in time, or an answer that is not HTTP.
pub fn get(port: u16, path: &str) -> Result<Answer> {
    request(port, "GET", path, &[], b"")
}

/// POST of `body` with `headers` (name, value) to `path` on 127.0.0.1.
///
/// # Errors
/// No connection, no answer in time, or an answer that is not HTTP.
pub fn post(port: u16, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
    request(port, "POST", path, headers, body)
}

/// Any request.
///
/// # Errors
/// No connection, no answer in time, or an answer that is not HTTP.
pub fn request(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)
        .with_context(|| format!("connect to {address}"))?;
    stream
        .set_read_timeout(Some(LIMIT))
        .context("set the read deadline")?;
    let mut head =
        format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    stream
        .write_all(head.as_bytes())
        .context("send the request head")?;
    stream.write_all(body).context("send the request body")?;
    let mut answer = Vec::new();
    stream
        .read_to_end(&mut answer)
        .with_context(|| format!("read the answer to {method} {path}"))?;
    parse(&answer).with_context(|| format!("understand the answer to {method} {path}"))
}

fn parse(answer: &[u8]) -> Result<Answer> {
    let end = find(answer, b"\r\n\r\n").context("the answer has no end of its headers")?;
    let head = std::str::from_utf8(&answer[..end]).context("the answer's headers are not text")?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .with_context(|| format!("no status in {head:?}"))?;
    let chunked = lines.any(|line| line.eq_ignore_ascii_case("transfer-encoding: chunked"));
    let body = &answer[end + 4..];
    Ok(Answer {
        status,
        body: if chunked {
            join_chunks(body)?
        } else {
            body.to_vec()
        },
    })
}

fn join_chunks(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = find(rest, b"\r\n").context("a chunk has no length line")?;
        let length = std::str::from_utf8(&rest[..end]).context("a chunk length is not text")?;
        let length = usize::from_str_radix(length.trim(), 16)
            .with_context(|| format!("chunk length {length:?}"))?;
        if length == 0 {
            return Ok(body);
        }
        rest = &rest[end + 2..];
        body.extend_from_slice(rest.get(..length).context("a chunk is cut short")?);
        rest = rest.get(length + 2..).context("a chunk has no end")?;
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_and_chunked_answers_are_read() {
        let plain = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").expect("an answer");
        assert_eq!(
            plain,
            Answer {
                status: 200,
                body: b"hi".to_vec()
            }
        );
        let chunked = b"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        assert_eq!(
            parse(chunked).expect("an answer"),
            Answer {
                status: 503,
                body: b"abcde".to_vec()
            }
        );
        assert!(parse(b"nonsense").is_err());
    }
}
