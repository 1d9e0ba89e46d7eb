//! Listening sockets, connection limits, one task per connection.
//!
//! Invariants: at most `max.connections` connections are open, `max.connections.per.ip` from one address; a refused
//! connection is closed at once and counted; running out of descriptors slows accepting instead of spinning.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kafka_protocol::protocol::StrBytes;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::config::{BrokerConfig, Endpoint, HostAndPort};
use crate::connection::Connection;
use crate::context::{Advertised, HandlerContext};

/// How long accepting rests after an error such as "too many open files".
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound listener.
pub(crate) struct Listener {
    socket: TcpListener,
    name: String,
    /// From `advertised.listeners`; `None` = the address that the client reached.
    advertised: Option<HostAndPort>,
}

/// What all listeners share.
#[derive(Clone)]
pub(crate) struct Acceptor {
    pub(crate) context: HandlerContext,
    pub(crate) budget: Arc<Semaphore>,
    pub(crate) tasks: TaskTracker,
    pub(crate) open: Arc<OpenConnections>,
}

impl Listener {
    /// Binds one endpoint.
    ///
    /// # Errors
    /// The host does not resolve, or the address is taken.
    pub(crate) async fn bind(endpoint: &Endpoint, config: &BrokerConfig) -> io::Result<Listener> {
        let address = resolve(&endpoint.address).await?;
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        if let Some(bytes) = config.send_buffer_bytes {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(bytes) = config.receive_buffer_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.bind(address)?;
        let advertised = config
            .advertised
            .iter()
            .find(|advertised| advertised.name == endpoint.name)
            .map(|advertised| advertised.address.clone());
        Ok(Listener {
            socket: socket.listen(config.listen_backlog)?,
            name: endpoint.name.clone(),
            advertised,
        })
    }

    /// The bound address, with the port that the system chose if 0 was asked for.
    ///
    /// # Errors
    /// The system does not know it.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts until the broker stops.
    pub(crate) async fn accept_all(self, acceptor: Acceptor) {
        let shutdown = acceptor.context.shutdown.clone();
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = shutdown.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => self.admit(&acceptor, stream, peer),
                Err(error) => {
                    warn!(listener = %self.name, %error, "accept connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn admit(&self, acceptor: &Acceptor, stream: TcpStream, peer: SocketAddr) {
        let metrics = &acceptor.context.metrics;
        let place = match OpenConnections::enter(&acceptor.open, peer.ip()) {
            Ok(place) => place,
            Err(Reached { key, limit }) => {
                metrics.connections_refused.add(1);
                warn!(%peer, key, limit, "refuse connection: the limit is reached");
                return;
            }
        };
        let advertised = match self.advertised_to(&stream) {
            Ok(advertised) => advertised,
            // The peer is gone already.
            Err(_) => return,
        };
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%peer, %error, "set TCP_NODELAY");
        }
        metrics.connections_accepted.add(1);
        let connection = Connection {
            context: acceptor.context.clone(),
            peer,
            advertised,
            budget: Arc::clone(&acceptor.budget),
            share: Connection::share_of(&acceptor.context.config),
        };
        let metrics = Arc::clone(metrics);
        acceptor.tasks.spawn(async move {
            metrics.connections_open.add(1);
            let closed = connection.serve(stream).await;
            metrics.connections_open.subtract(1);
            if closed.is_stall() {
                metrics.connections_stalled.add(1);
                warn!(%peer, reason = %closed, "close connection");
            } else if closed.is_violation() {
                metrics.protocol_violations.add(1);
                warn!(%peer, reason = %closed, "close connection");
            } else {
                debug!(%peer, reason = %closed, "close connection");
            }
            drop(place);
        });
    }

    fn advertised_to(&self, stream: &TcpStream) -> io::Result<Advertised> {
        if let Some(address) = &self.advertised {
            return Ok(Advertised {
                host: StrBytes::from_string(address.host.clone()),
                port: i32::from(if address.port == 0 {
                    self.local_addr()?.port()
                } else {
                    address.port
                }),
            });
        }
        let reached = stream.local_addr()?;
        let host = match reached.ip() {
            // A client that came over IPv4 to a dual-stack socket.
            IpAddr::V6(address) => address
                .to_ipv4_mapped()
                .map_or(IpAddr::V6(address), IpAddr::V4),
            address @ IpAddr::V4(_) => address,
        };
        Ok(Advertised {
            host: StrBytes::from_string(host.to_string()),
            port: i32::from(reached.port()),
        })
    }
}

async fn resolve(address: &HostAndPort) -> io::Result<SocketAddr> {
    if address.host.is_empty() {
        return Ok(SocketAddr::from(([0, 0, 0, 0], address.port)));
    }
    tokio::net::lookup_host((address.host.as_str(), address.port))
        .await?
        .next()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the host has no address"))
}

/// Counts open connections, all and by address.
pub(crate) struct OpenConnections {
    limit: usize,
    limit_per_ip: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    all: usize,
    by_ip: HashMap<IpAddr, usize>,
}

/// A connection's place in the count; given back when dropped.
pub(crate) struct Place {
    connections: Arc<OpenConnections>,
    ip: IpAddr,
}

/// The limit that a connection is over.
struct Reached {
    key: &'static str,
    limit: usize,
}

impl OpenConnections {
    pub(crate) fn new(config: &BrokerConfig) -> Arc<OpenConnections> {
        Arc::new(OpenConnections {
            limit: config.max_connections,
            limit_per_ip: config.max_connections_per_ip,
            open: Mutex::default(),
        })
    }

    fn enter(connections: &Arc<OpenConnections>, ip: IpAddr) -> Result<Place, Reached> {
        let mut open = connections
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let here = open.by_ip.get(&ip).copied().unwrap_or(0);
        for (key, count, limit) in [
            ("max.connections", open.all, connections.limit),
            ("max.connections.per.ip", here, connections.limit_per_ip),
        ] {
            if count >= limit {
                return Err(Reached { key, limit });
            }
        }
        open.all += 1;
        open.by_ip.insert(ip, here + 1);
        Ok(Place {
            connections: Arc::clone(connections),
            ip,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self
            .connections
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        open.all = open.all.saturating_sub(1);
        if let Some(here) = open.by_ip.get_mut(&self.ip) {
            *here -= 1;
            if *here == 0 {
                open.by_ip.remove(&self.ip);
            }
        }
    }
}

/// Tells once where the broker listens.
pub(crate) fn announce(listener: &Listener, address: SocketAddr) {
    info!(listener = %listener.name, %address, "listen for Kafka clients");
}
