//! Accepting TCP connections within a bound.
//!
//! When all places are taken nothing more is accepted, so file descriptors and memory stay
//! bounded and clients wait in the system's queue. Running out of descriptors is a pause, not an
//! end. Invariant: a connection holds its place until it is dropped.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use flafka_flow::source::{SourceContext, SourceError};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long, and for how many bytes, the input of a refused connection is still read.
const LINGER: Duration = Duration::from_millis(500);
const LINGER_BYTES: usize = 1 << 20;

/// Where a source listens; a test with port 0 asks here for the real one.
pub(crate) type Bound = watch::Sender<Option<SocketAddr>>;

/// A listening socket with a bound on its connections.
pub(crate) struct Listener {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Listener {
    /// Listens on `host` and `port` for at most `connections` at a time.
    pub(crate) async fn bind(
        host: &str,
        port: u16,
        connections: usize,
        bound: &Bound,
    ) -> Result<Self, SourceError> {
        let failed =
            |error: io::Error| SourceError::retriable("listen on", format!("{host}:{port}"), error);
        let listener = TcpListener::bind((host, port)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        tracing::info!(%address, "listening");
        bound.send_replace(Some(address));
        Ok(Self {
            listener,
            places: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
        })
    }

    /// The next connection with its place; `None` when the source is stopping.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub(crate) async fn accept(
        &self,
        context: &SourceContext,
    ) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        tokio::select! {
            () = context.lifecycle.stopping() => None,
            accepted = self.accept_one() => accepted,
        }
    }

    async fn accept_one(&self) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%peer, %error, "set TCP_NODELAY");
                    }
                    return Some((stream, peer, place));
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "accept connection; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

/// Ends `grace` after the source was asked to stop: the limit for a peer that does not read.
pub(crate) async fn stopped_for(context: &SourceContext, grace: Duration) {
    context.lifecycle.stopping().await;
    tokio::time::sleep(grace).await;
}

/// Closes a connection whose peer may still be sending: what is under way is read and dropped
/// for a moment, since unread input would make the system discard our last answer.
pub(crate) async fn close_gently(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> io::Result<()> {
    stream.shutdown().await?;
    let mut dropped = [0u8; 8 << 10];
    let mut left = LINGER_BYTES;
    let until = tokio::time::Instant::now() + LINGER;
    while left > 0 {
        match tokio::time::timeout_at(until, stream.read(&mut dropped)).await {
            Ok(Ok(count @ 1..)) => left = left.saturating_sub(count),
            _ => break,
        }
    }
    Ok(())
}
