//! The `netcat` source: each line of a TCP connection is an event, answered with `OK`
//! (reference 2.2, netcat).
//!
//! Lines that arrive together are put together and answered one by one, in order, after the put.
//! Text after the last newline of a connection is dropped as in Flume: it was never
//! acknowledged. Invariant: `OK` is written only for a line that the channels hold.

mod connection;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;
use flafka_flow::counters::{ComponentKind, Counters, Metric, sets};
use flafka_flow::registry::{BuildContext, BuildError, SourceFactory, TypeNames};
use flafka_flow::settings;
use flafka_flow::settings::{Count, Port};
use flafka_flow::source::{BuiltSource, Source, SourceContext, SourceError};

use crate::charset::Charset;
use crate::listen::{Bound, Listener};
use connection::Connection;

/// Lines in one put at most; a channel that takes fewer says so and is then given fewer.
const LINES_PER_PUT: usize = 1000;

settings! {
    /// Listens on a TCP port and makes an event of each line, without headers. Bodies are UTF-8
    /// without the `\n`; a `\r` before it stays. Text behind the last `\n` of a connection is
    /// dropped, as in Flume. A line that a channel refuses is answered `FAILED: <reason>`.
    pub struct NetcatSourceConfig {
        /// Host name or address to listen on.
        "bind" => bind: String,
        /// Port to listen on.
        "port" => port: Port,
        /// Answer `OK` to each line that the channels hold. `FAILED` is answered in any case.
        "ack-every-event" => ack_every_event: bool = true,
        /// Longest line in characters (UTF-16 units, as Java counts), with its newline. A longer
        /// one is answered `FAILED` and its connection is closed.
        "max-line-length" => max_line_length: Count = Count(512),
        /// Charset of the lines and of the answers. Input that is not valid in it is answered
        /// `FAILED` and its connection is closed (Flume closes without a word).
        "encoding" => encoding: Charset = Charset::UTF_8,
        /// Connections served at a time; more wait until one ends. Not in Flume, which has no bound.
        "max_connections" => max_connections: Count = Count(4096),
    }
}

/// Makes [`NetcatSource`]s.
pub struct NetcatSourceFactory;

impl SourceFactory for NetcatSourceFactory {
    type Config = NetcatSourceConfig;
    const NAMES: TypeNames = TypeNames {
        alias: Some("netcat"),
        also: &[],
        classes: &["org.apache.flume.source.NetcatSource"],
    };

    fn build(
        config: NetcatSourceConfig,
        context: &BuildContext,
    ) -> Result<BuiltSource, BuildError> {
        Ok(BuiltSource::Driven(Box::new(NetcatSource::new(
            config, context,
        ))))
    }
}

/// What the connections of a source share.
struct Shared {
    config: NetcatSourceConfig,
    counters: Arc<Counters>,
    /// Lines in one put, lowered when a channel says that it takes fewer.
    lines_per_put: AtomicUsize,
}

/// The source.
pub struct NetcatSource {
    shared: Arc<Shared>,
    bound: Bound,
}

impl NetcatSource {
    fn new(config: NetcatSourceConfig, context: &BuildContext) -> Self {
        Self {
            shared: Arc::new(Shared {
                config,
                counters: context.counters(ComponentKind::Source, sets::SOURCE, false),
                lines_per_put: AtomicUsize::new(LINES_PER_PUT),
            }),
            bound: Bound::default(),
        }
    }
}

#[async_trait]
impl Source for NetcatSource {
    async fn run(&mut self, context: &SourceContext) -> Result<(), SourceError> {
        let config = &self.shared.config;
        let places = config.max_connections.0;
        let listener = Listener::bind(&config.bind, config.port.0, places, &self.bound).await?;
        while let Some((stream, peer, place)) = listener.accept(context).await {
            let shared = Arc::clone(&self.shared);
            let own = context.clone();
            context.lifecycle.spawn("netcat connection", async move {
                shared.counters.shift(Metric::OpenConnectionCount, 1);
                let served = Connection::new(stream, &shared, &own).serve().await;
                shared.counters.shift(Metric::OpenConnectionCount, -1);
                if let Err(error) = served {
                    tracing::debug!(%peer, %error, "connection ended");
                }
                drop(place);
            });
        }
        Ok(())
    }
}
