//! The `http` source: a request is a batch of events (reference 2.2, http, and 3.12).
//!
//! hyper serves the connections (HTTP/1.1 with keep-alive and pipelining), within bounds on
//! connections, heads, bodies, memory and time, so that slow or hostile clients cost little.
//! Invariant: a request is answered with 200 only when the channels hold all of its events.

mod answer;
mod body;
mod handler;
mod jetty;
pub mod json;
mod parameters;
mod scan;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use flafka_flow::counters::{ComponentKind, Metric, sets};
use flafka_flow::registry::{BuildContext, BuildError, SourceFactory, TypeNames};
use flafka_flow::settings;
use flafka_flow::settings::{ByteSize, CommaList, Count, Millis, Names, Port, Prefixed, Secret};
use flafka_flow::source::{BuiltSource, Source, SourceContext, SourceError};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use crate::listen::{Bound, Listener, close_gently, stopped_for};
use crate::tls::{KeystoreType, ServerTls};
use answer::Shared;
use body::BodyLimits;
use handler::Handler;
pub use handler::{HANDLERS, HandlerName};

/// How long a stopping source waits for the requests under way.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// hyper's least buffer for a head.
const SMALLEST_HEAD_BUFFER: usize = 8 << 10;
/// Largest piece in which a body is read.
const READ_BUFFER: usize = 64 << 10;

settings! {
    /// Listens for HTTP and makes events of GET and POST requests on any path. A request is one
    /// transaction: 200 when the channels hold all of its events; 400 for bad JSON syntax, 500
    /// for other bad requests, 503 when a channel refuses. Errors say why in the answer's body.
    ///
    /// The default handler takes an array of `{"headers":{"name":"value"},"body":"text"}`, as
    /// leniently as Flume does.
    pub struct HttpSourceConfig {
        /// Host name or address to listen on.
        "bind" => bind: String = "0.0.0.0".to_owned(),
        /// Port to listen on.
        "port" => port: Port,
        /// What makes events of a request.
        "handler" => handler: HandlerName = HandlerName::Json,
        /// For `BLOBHandler`: parameters that every request must have; none by default (in Flume
        /// the default is a parameter without a name, so that every request fails).
        "handler.mandatoryParameters" => mandatory_parameters: CommaList = CommaList::default(),
        /// For the morphline `BlobHandler`: longest body in bytes; a longer one is cut, with a warning.
        "handler.maxBlobLength" => max_blob_length: Count = Count(100_000_000),
        /// Longest request body, in bytes; a longer one is answered with 413. Flume has no bound.
        "max_request_bytes" => max_request_bytes: Count = Count(100 << 20),
        /// Bytes of request bodies that are held at a time; beyond, requests are answered with 503.
        /// Flume has no bound.
        "max_buffered_bytes" => max_buffered_bytes: Count = Count(256 << 20),
        /// Connections served at a time; more wait until one ends. Flume has no bound.
        "max_connections" => max_connections: Count = Count(4096),
        /// Serve TLS.
        "ssl" | "enableSSL" => ssl: bool = false,
        /// Path of the keystore: JKS, JCEKS, PKCS12 or PEM, recognised by its content.
        "keystore" => keystore: Option<std::path::PathBuf>,
        /// Password of the keystore.
        "keystore-password" | "keystorePassword" => keystore_password: Option<Secret>,
        /// Kind of the keystore.
        "keystore-type" => keystore_type: Option<KeystoreType>,
        /// TLS protocols that are not offered. Below TLSv1.2 none is offered in any case.
        "exclude-protocols" | "excludeProtocols" => exclude_protocols: Option<Names>,
        /// TLS protocols that are offered; all by default.
        "include-protocols" => include_protocols: Option<Names>,
        /// Cipher suites that are not offered: Java's names, or regular expressions over them.
        "exclude-cipher-suites" => exclude_cipher_suites: Option<Names>,
        /// Cipher suites that are offered; all by default.
        "include-cipher-suites" => include_cipher_suites: Option<Names>,
        /// Alias of the key to use when the keystore has several.
        "SslContextFactory.certAlias" => cert_alias: Option<String>,
        /// Requests that are parsed and put at a time.
        "QueuedThreadPool.maxThreads" => max_threads: Count = Count(200),
        /// Largest request head, in bytes; a larger one is answered with 431.
        "HttpConfiguration.requestHeaderSize" => request_header_size: Count = Count(8192),
        /// Least bytes a second that a request body has to come with, after five seconds; 0 = any.
        /// A slower one is answered with 408. Jetty's own default is 0.
        "HttpConfiguration.minRequestDataRate" => min_request_data_rate: ByteSize = ByteSize(240),
        /// Whether answers have a `Date` header.
        "HttpConfiguration.sendDateHeader" => send_date_header: bool = true,
        /// Longest pause of a client, in milliseconds: between requests, within a head, and
        /// between two pieces of a body.
        "ServerConnector.idleTimeout" => idle_timeout: Millis = Millis(Duration::from_secs(30)),
        /// Other settings of Jetty's thread pool: named in a warning, without effect.
        "QueuedThreadPool.*" => thread_pool: Prefixed,
        /// Other settings of Jetty's HTTP configuration: named in a warning, without effect.
        "HttpConfiguration.*" => http_configuration: Prefixed,
        /// Other settings of Jetty's connector: named in a warning, without effect.
        "ServerConnector.*" => connector: Prefixed,
        /// Other settings of Jetty's TLS: named in a warning, without effect.
        "SslContextFactory.*" => ssl_context: Prefixed,
    }
    check(|config: &HttpSourceConfig, reader: &mut settings::Reader<'_>| {
        jetty::note_unmapped([
            ("QueuedThreadPool", &config.thread_pool),
            ("HttpConfiguration", &config.http_configuration),
            ("ServerConnector", &config.connector),
            ("SslContextFactory", &config.ssl_context),
        ], reader);
        if config.max_buffered_bytes < config.max_request_bytes {
            reader.error("max_buffered_bytes", "is less than max_request_bytes, so that the largest request could never be read", None);
        }
        let blob = config.handler == HandlerName::MorphlineBlob;
        if blob && config.max_blob_length > config.max_buffered_bytes {
            reader.error("handler.maxBlobLength", "is more than max_buffered_bytes", None);
        }
        config.tls().check(reader);
    })
}

impl HttpSourceConfig {
    fn tls(&self) -> ServerTls {
        ServerTls {
            ssl: self.ssl,
            keystore: self.keystore.clone(),
            keystore_password: self.keystore_password.clone(),
            keystore_type: self.keystore_type,
            exclude_protocols: self.exclude_protocols.clone(),
            include_protocols: self.include_protocols.clone(),
            exclude_cipher_suites: self.exclude_cipher_suites.clone(),
            include_cipher_suites: self.include_cipher_suites.clone(),
            alias: self.cert_alias.clone(),
        }
        .with_global_defaults()
    }
}

/// Makes [`HttpSource`]s.
pub struct HttpSourceFactory;

impl SourceFactory for HttpSourceFactory {
    type Config = HttpSourceConfig;
    const NAMES: TypeNames = TypeNames {
        alias: Some("http"),
        also: &[],
        classes: &["org.apache.flume.source.http.HTTPSource"],
    };

    fn build(config: HttpSourceConfig, context: &BuildContext) -> Result<BuiltSource, BuildError> {
        let source = HttpSource::new(config, context)?;
        Ok(BuiltSource::Driven(Box::new(source)))
    }
}

/// The source.
pub struct HttpSource {
    config: HttpSourceConfig,
    shared: Arc<Shared>,
    server: http1::Builder,
    tls: Option<TlsAcceptor>,
    bound: Bound,
}

impl HttpSource {
    fn new(config: HttpSourceConfig, context: &BuildContext) -> Result<Self, BuildError> {
        let tls = config.tls();
        let tls = match config.ssl {
            false => None,
            true => Some(
                tls.acceptor()
                    .map_err(|error| context.error("open keystore", Some(Box::new(error))))?,
            ),
        };
        let handler = Handler::of(&config);
        let limits = BodyLimits {
            longest: config.max_request_bytes.0,
            kept: handler.kept_bytes(),
            idle: config.idle_timeout.0,
            least_rate: config.min_request_data_rate.0,
            budget: Arc::new(Semaphore::new(
                config.max_buffered_bytes.0.min(Semaphore::MAX_PERMITS),
            )),
        };
        let shared = Arc::new(Shared {
            handler,
            limits,
            counters: context.counters(ComponentKind::Source, sets::SOURCE, true),
            working: Semaphore::new(config.max_threads.0.min(Semaphore::MAX_PERMITS)),
        });
        Ok(Self {
            server: server(&config),
            config,
            shared,
            tls,
            bound: Bound::default(),
        })
    }
}

fn server(config: &HttpSourceConfig) -> http1::Builder {
    let head = config.request_header_size.0;
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(config.idle_timeout.0)
        .max_header_size(head)
        .max_buf_size(head.max(READ_BUFFER).max(SMALLEST_HEAD_BUFFER))
        .half_close(true)
        .auto_date_header(config.send_date_header);
    server
}

#[async_trait]
impl Source for HttpSource {
    async fn run(&mut self, context: &SourceContext) -> Result<(), SourceError> {
        let config = &self.config;
        let places = config.max_connections.0;
        let listener = Listener::bind(&config.bind, config.port.0, places, &self.bound).await?;
        while let Some((stream, peer, place)) = listener.accept(context).await {
            let connection = Connection {
                server: self.server.clone(),
                tls: self.tls.clone(),
                shared: Arc::clone(&self.shared),
                context: context.clone(),
                handshake: config.idle_timeout.0,
            };
            context.lifecycle.spawn("http connection", async move {
                let counters = Arc::clone(&connection.shared.counters);
                counters.shift(Metric::OpenConnectionCount, 1);
                if let Err(error) = Box::pin(connection.serve(stream)).await {
                    tracing::debug!(%peer, error, "connection ended");
                }
                counters.shift(Metric::OpenConnectionCount, -1);
                drop(place);
            });
        }
        Ok(())
    }
}

struct Connection {
    server: http1::Builder,
    tls: Option<TlsAcceptor>,
    shared: Arc<Shared>,
    context: SourceContext,
    handshake: Duration,
}

impl Connection {
    async fn serve(self, stream: TcpStream) -> Result<(), String> {
        let Some(tls) = self.tls.clone() else {
            return self.serve_http(stream).await;
        };
        let stream = tokio::select! {
            accepted = tokio::time::timeout(self.handshake, tls.accept(stream)) => match accepted {
                Ok(accepted) => accepted.map_err(|error| format!("TLS handshake: {error}"))?,
                Err(_late) => return Err("TLS handshake took too long".to_owned()),
            },
            () = self.context.lifecycle.stopping() => return Ok(()),
        };
        self.serve_http(stream).await
    }

    async fn serve_http(
        self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    ) -> Result<(), String> {
        let stopping = self.context.clone();
        let served = self.serve_requests(&mut stream).await;
        if !stopping.lifecycle.is_stopping() {
            let closed = close_gently(&mut stream).await;
            tracing::trace!(?closed, "connection closed");
        }
        served
    }

    async fn serve_requests(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    ) -> Result<(), String> {
        let Self {
            server,
            shared,
            context,
            ..
        } = self;
        let own = context.clone();
        let service = service_fn(move |request| {
            let answer = answer::answer(Arc::clone(&shared), own.clone(), request);
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let mut connection = std::pin::pin!(server.serve_connection(TokioIo::new(stream), service));
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = context.lifecycle.stopping() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    served = connection.as_mut() => served,
                    () = stopped_for(&context, STOP_GRACE) => {
                        return Err("still busy when the source stopped".to_owned());
                    }
                }
            }
        };
        served.map_err(|error| flafka_flow::channel::error_chain(&error))
    }
}
