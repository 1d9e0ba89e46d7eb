//! Free loopback ports.
//!
//! A port is found by binding to port 0 and letting go again, so another program may take it in between: the window is
//! short, and a server that then cannot bind says so in its log, which the failing test shows. Invariant: one test
//! process never hands out the same port twice.

use std::collections::HashSet;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// A TCP port on 127.0.0.1 that nothing listens on now.
///
/// # Errors
/// The system has no free port, or keeps offering ports that were handed out before.
pub fn free_port() -> Result<u16> {
    for _ in 0..64 {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind a free port on 127.0.0.1")?;
        let port = listener
            .local_addr()
            .context("read the port just bound")?
            .port();
        let mut given = GIVEN
            .lock()
            .expect("no test panics while it asks for a port");
        if given.get_or_insert_with(HashSet::new).insert(port) {
            return Ok(port);
        }
    }
    bail!("no free port on 127.0.0.1 after 64 tries")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_different() {
        let first = free_port().expect("a port");
        let second = free_port().expect("another port");
        assert_ne!(first, second);
        TcpListener::bind((Ipv4Addr::LOCALHOST, first)).expect("the port is free");
    }
}
