//! One client connection: frames in, answers out in the same order.
//!
//! Two halves run in one task. The reading half cuts frames and starts their requests; the writing half finishes them
//! one after the other and writes each answer. Kafka's rule is that a connection's requests take effect in order and
//! one at a time; the only overlap allowed here is between Produce requests, which are handed to the log in the order
//! they arrive and then wait for durability together (clients keep five in flight). Every other request runs when the
//! answers before it are written, and a Produce behind one is not read past until then: a later Produce would overtake it.
//!
//! Invariants: at most [`MAX_PIPELINED`] requests of a connection and `queued.max.request.bytes` of all connections
//! are held, of which one connection gets a quarter (or one request alone); a request that was started is finished even
//! if the peer leaves, so that no change stops half-way; bytes that break the protocol close the connection with one
//! logged reason.
//!
//! A peer cannot hold what is shared for long: a request has to arrive at [`SLOWEST`] or faster and its bytes are given
//! back before its answer is written; a peer that takes nothing of an answer, or sends nothing of a request it began, for
//! `flafka.socket.stall.ms` is closed and counted. A connection without a request holds no buffer.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flafka_kafka_wire::api_versions;
use flafka_kafka_wire::frame::{self, FrameError, PREFIX_LEN};
use flafka_kafka_wire::guard::{self, GuardError};
use flafka_kafka_wire::header::{self, HeaderError};
use kafka_protocol::messages::ApiKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::config::BrokerConfig;
use crate::context::{Advertised, HandlerContext, RequestContext};
use crate::dispatch::{self, DispatchError, Response};
use crate::response::{Patient, WriteError, write_frame};
use crate::shield::shielded;

/// Requests of one connection that are read before the first of them is answered. Clients pipeline five.
const MAX_PIPELINED: usize = 16;
/// How much is read ahead of a known frame; larger would be copied when a large frame begins.
const READ_AHEAD: usize = 16 * 1024;
/// Bytes a second at which a request has to arrive, all in all: a batch of a mebibyte may take eight seconds more than
/// `flafka.socket.stall.ms`.
const SLOWEST: u64 = 128 * 1024;
/// The share of `queued.max.request.bytes` that one connection gets.
const SHARE: usize = 4;
/// Unit of the shared byte budget; a semaphore counts in `u32`.
pub(crate) const BUDGET_UNIT: usize = 1024;

/// Why a connection ended. Only violations are worth a line in the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Closed {
    #[error("the peer closed the connection")]
    Eof,
    #[error("no request for connections.max.idle.ms")]
    Idle,
    #[error("the broker stops")]
    Stopping,
    #[error("socket: {0}")]
    Socket(#[from] io::Error),
    #[error("the peer sent nothing for {0:?} in the middle of a request")]
    Stalled(Duration),
    #[error("the peer had sent {received} of the {length} bytes of a request after {allowed:?}")]
    Slow {
        received: usize,
        length: usize,
        allowed: Duration,
    },
    #[error("the peer took nothing of an answer for {0:?}")]
    Unread(Duration),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Header(#[from] HeaderError),
    #[error("api key {key} is not served (version {version})")]
    UnknownKey { key: i16, version: i16 },
    #[error("{key:?} version {version} is not served")]
    UnservedVersion { key: ApiKey, version: i16 },
    #[error("{key:?} version {version}: {source}")]
    Guard {
        key: ApiKey,
        version: i16,
        source: GuardError,
    },
    #[error("{key:?} version {version}: {source}")]
    Dispatch {
        key: ApiKey,
        version: i16,
        source: DispatchError,
    },
    #[error("{key:?} version {version}: the handler panicked; this is a defect, please report it")]
    Panicked { key: ApiKey, version: i16 },
}

impl Closed {
    /// Whether the peer broke the protocol (as opposed to leaving).
    pub(crate) fn is_violation(&self) -> bool {
        match self {
            Closed::Eof | Closed::Idle | Closed::Stopping | Closed::Socket(_) => false,
            Closed::Stalled(_) | Closed::Slow { .. } | Closed::Unread(_) => false,
            Closed::Frame(_)
            | Closed::Header(_)
            | Closed::UnknownKey { .. }
            | Closed::UnservedVersion { .. }
            | Closed::Guard { .. }
            | Closed::Dispatch { .. }
            | Closed::Panicked { .. } => true,
        }
    }

    /// Whether the peer was too slow to be waited for.
    pub(crate) fn is_stall(&self) -> bool {
        matches!(
            self,
            Closed::Stalled(_) | Closed::Slow { .. } | Closed::Unread(_)
        )
    }
}

type Work = Pin<Box<dyn Future<Output = Result<Option<Response>, Closed>> + Send>>;

/// A request that was read: the work that is left, and what its answer needs.
struct Pending {
    work: Work,
    is_produce: bool,
    /// The log has the batches already.
    is_submitted: bool,
    flexible_response: bool,
    correlation_id: i32,
    /// Given back when the work is done, however long the peer takes for the answer.
    budget: Option<Budget>,
}

/// Room for a request, of the connection and of all of them.
struct Budget {
    _own: OwnedSemaphorePermit,
    _shared: OwnedSemaphorePermit,
}

/// What a connection knows of itself.
pub(crate) struct Connection {
    pub(crate) context: HandlerContext,
    pub(crate) peer: SocketAddr,
    pub(crate) advertised: Advertised,
    /// Room for requests of all connections together.
    pub(crate) budget: Arc<Semaphore>,
    /// Room for this connection's requests.
    pub(crate) share: Arc<Semaphore>,
}

impl Connection {
    /// What [`Connection::share`] begins with.
    pub(crate) fn share_of(config: &BrokerConfig) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(share_units(config)))
    }

    /// Serves the connection until one side ends it.
    pub(crate) async fn serve(self, mut stream: TcpStream) -> Closed {
        let (mut read, mut write) = stream.split();
        let disconnected = self.context.shutdown.child_token();
        let (sender, receiver) = mpsc::channel(MAX_PIPELINED);
        let pipelined = Pipelined::default();
        let reading = async {
            let closed = self
                .read_requests(&mut read, sender, &disconnected, &pipelined)
                .await;
            disconnected.cancel();
            closed
        };
        let writing = async {
            let failed = self.write_answers(&mut write, receiver, &pipelined).await;
            disconnected.cancel();
            failed
        };
        let (closed, failed) = tokio::join!(reading, writing);
        failed.unwrap_or(closed)
    }

    async fn read_requests(
        &self,
        socket: &mut ReadHalf<'_>,
        sender: mpsc::Sender<Pending>,
        disconnected: &CancellationToken,
        pipelined: &Pipelined,
    ) -> Closed {
        let mut buffer = BytesMut::new();
        loop {
            let frame = tokio::select! {
                frame = self.read_frame(socket, &mut buffer, pipelined) => frame,
                () = disconnected.cancelled() => Err(Closed::Stopping),
            };
            let (frame, budget) = match frame {
                Ok(frame) => frame,
                Err(closed) => return closed,
            };
            let pending = match self.begin(frame, budget, disconnected, pipelined).await {
                Ok(pending) => pending,
                Err(closed) => return closed,
            };
            if sender.send(pending).await.is_err() {
                return Closed::Eof;
            }
        }
    }

    /// Reads the next frame. Cancel safety: none; the connection ends when this is dropped.
    async fn read_frame(
        &self,
        socket: &mut ReadHalf<'_>,
        buffer: &mut BytesMut,
        pipelined: &Pipelined,
    ) -> Result<(Bytes, Option<Budget>), Closed> {
        let stall = self.context.config.socket_stall;
        while buffer.len() < PREFIX_LEN {
            buffer.reserve(READ_AHEAD);
            match socket.try_read_buf(buffer) {
                Ok(0) => return Err(Closed::Eof),
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(Closed::Socket(error)),
            }
            let patience = if buffer.is_empty() {
                // Ten thousand idle connections hold no memory.
                *buffer = BytesMut::new();
                self.context.config.connections_max_idle
            } else {
                stall
            };
            match timeout(patience, socket.readable()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(Closed::Socket(error)),
                Err(_) if !buffer.is_empty() => return Err(Closed::Stalled(stall)),
                // A long poll is not idleness.
                Err(_) if pipelined.all.load(Ordering::Relaxed) > 0 => {}
                Err(_) => return Err(Closed::Idle),
            }
        }
        let mut prefix = [0; PREFIX_LEN];
        prefix.copy_from_slice(&buffer.split_to(PREFIX_LEN));
        let length = frame::frame_len(prefix, self.context.config.request_max_bytes)?;
        let budget = self.reserve_budget(length).await;
        if buffer.len() < length {
            let allowed = stall + Duration::from_millis(length as u64 * 1000 / SLOWEST);
            match timeout(allowed, read_rest(socket, buffer, length, stall)).await {
                Ok(read) => read?,
                Err(_) => {
                    return Err(Closed::Slow {
                        received: buffer.len(),
                        length,
                        allowed,
                    });
                }
            }
        }
        self.context
            .metrics
            .bytes_in
            .add((PREFIX_LEN + length) as u64);
        Ok((buffer.split_to(length).freeze(), budget))
    }

    /// Small frames are bounded by the number of connections; large ones share a budget, which one frame may exceed
    /// alone but never together with another. The connection's own share comes first, so that it waits for itself
    /// before it takes from the others.
    async fn reserve_budget(&self, length: usize) -> Option<Budget> {
        if length <= READ_AHEAD {
            return None;
        }
        let config = &self.context.config;
        let whole = config.queued_max_request_bytes / BUDGET_UNIT;
        let units = length / BUDGET_UNIT + 1;
        let take = |semaphore: &Arc<Semaphore>, most: usize| {
            let units = u32::try_from(units.min(most)).unwrap_or(u32::MAX);
            Arc::clone(semaphore).acquire_many_owned(units)
        };
        let own = take(&self.share, share_units(config)).await.ok()?;
        let shared = take(&self.budget, whole).await.ok()?;
        Some(Budget {
            _own: own,
            _shared: shared,
        })
    }

    /// Checks a frame and prepares its answer. A Produce is queued in the log here, once all requests before it that are
    /// no Produce are answered; that wait, and the one for room in the log, are the back-pressure on this connection's
    /// reading.
    async fn begin(
        &self,
        frame: Bytes,
        budget: Option<Budget>,
        disconnected: &CancellationToken,
        pipelined: &Pipelined,
    ) -> Result<Pending, Closed> {
        let start = header::peek(&frame)?;
        let (api_key, version) = (start.api_key, start.api_version);
        let api = api_versions::find(api_key).ok_or(Closed::UnknownKey {
            key: api_key,
            version,
        })?;
        let key = api.key;
        self.context.metrics.count_request(api_key);
        pipelined.enter(key);
        let mut is_submitted = false;
        let work: Work = if api.serves(version) {
            let head = header::parse(&frame, api.flexible_header(version))?;
            guard::check(api_key, version, &head.body).map_err(|source| Closed::Guard {
                key,
                version,
                source,
            })?;
            let request = RequestContext {
                api_version: version,
                client_id: head.client_id,
                peer: self.peer,
                advertised: self.advertised.clone(),
                disconnected: disconnected.clone(),
            };
            is_submitted = key == ApiKey::Produce;
            if is_submitted {
                tokio::select! {
                    () = pipelined.no_others() => {}
                    () = disconnected.cancelled() => return Err(Closed::Stopping),
                }
                self.submit_produce(request, version, head.body).await?
            } else {
                let context = self.context.clone();
                let answer = dispatch::dispatch(context, request, key, head.body);
                Box::pin(shielded(answer, key, version))
            }
        } else if key == ApiKey::ApiVersions {
            // KIP-511: a client that is newer than the broker learns the versions from an answer in version 0.
            let response = dispatch::unsupported_api_versions();
            Box::pin(async move {
                response.map(Some).map_err(|source| Closed::Dispatch {
                    key,
                    version,
                    source,
                })
            })
        } else {
            return Err(Closed::UnservedVersion { key, version });
        };
        Ok(Pending {
            work,
            is_produce: key == ApiKey::Produce,
            is_submitted,
            flexible_response: api.flexible_response_header(version),
            correlation_id: start.correlation_id,
            budget,
        })
    }

    /// Queues a Produce in the log; the work that is left is to wait for it.
    async fn submit_produce(
        &self,
        request: RequestContext,
        version: i16,
        body: Bytes,
    ) -> Result<Work, Closed> {
        let key = ApiKey::Produce;
        let submitting = dispatch::submit_produce(&self.context, &request, body);
        let produced = shielded(submitting, key, version).await?;
        let context = self.context.clone();
        let finishing = async move { dispatch::finish_produce(&context, &request, produced).await };
        Ok(Box::pin(shielded(finishing, key, version)))
    }

    async fn write_answers(
        &self,
        socket: &mut WriteHalf<'_>,
        mut receiver: mpsc::Receiver<Pending>,
        pipelined: &Pipelined,
    ) -> Option<Closed> {
        let stall = self.context.config.socket_stall;
        while let Some(pending) = receiver.recv().await {
            let Pending {
                work,
                is_produce,
                is_submitted: _,
                flexible_response,
                correlation_id,
                budget,
            } = pending;
            let done = work.await;
            drop(budget);
            let written = match done {
                Ok(Some(response)) => {
                    let mut socket = Patient::new(&mut *socket, stall);
                    write_frame(&mut socket, correlation_id, flexible_response, response).await
                }
                Ok(None) => Ok(0),
                Err(closed) => return Some(closed),
            };
            pipelined.leave(is_produce);
            match written {
                Ok(bytes) => self.context.metrics.bytes_out.add(bytes),
                Err(WriteError::Stalled) => {
                    return self.drain(receiver, Closed::Unread(stall)).await;
                }
                Err(WriteError::Io(error)) => {
                    return self.drain(receiver, Closed::Socket(error)).await;
                }
            }
        }
        // Ends the stream for the peer after the last answer.
        socket.shutdown().await.err().map(Closed::Socket)
    }

    /// The peer no longer reads: finish what was started, so that no change stops half-way.
    async fn drain(&self, mut receiver: mpsc::Receiver<Pending>, closed: Closed) -> Option<Closed> {
        receiver.close();
        while let Some(pending) = receiver.recv().await {
            if pending.is_submitted {
                // The log has the batches; only the answer is lost.
                drop(pending.work.await);
            }
        }
        Some(closed)
    }
}

/// The units of a connection's share.
fn share_units(config: &BrokerConfig) -> usize {
    (config.queued_max_request_bytes / BUDGET_UNIT / SHARE).max(1)
}

/// Reads until `buffer` has the `length` bytes of a frame.
async fn read_rest(
    socket: &mut ReadHalf<'_>,
    buffer: &mut BytesMut,
    length: usize,
    stall: Duration,
) -> Result<(), Closed> {
    buffer.reserve(length - buffer.len());
    while buffer.len() < length {
        // Not beyond the frame: what follows it would have to be copied away from a large buffer.
        let missing = length - buffer.len();
        let mut limited = socket.take(missing as u64);
        match timeout(stall, limited.read_buf(buffer)).await {
            Ok(Ok(0)) => return Err(Closed::Eof),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(Closed::Socket(error)),
            Err(_) => return Err(Closed::Stalled(stall)),
        }
    }
    Ok(())
}

/// How many requests were read and are not answered.
#[derive(Default)]
struct Pipelined {
    all: AtomicUsize,
    /// Those of them that are no Produce.
    others: AtomicUsize,
    /// Told when an answer is written.
    answered: Notify,
}

impl Pipelined {
    fn enter(&self, key: ApiKey) {
        self.all.fetch_add(1, Ordering::Relaxed);
        if key != ApiKey::Produce {
            self.others.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn leave(&self, is_produce: bool) {
        self.all.fetch_sub(1, Ordering::Relaxed);
        if !is_produce {
            self.others.fetch_sub(1, Ordering::Relaxed);
        }
        // One waiter at most, the reading half; told early, it finds a permit.
        self.answered.notify_one();
    }

    /// Ends when no request but Produce is under way.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    async fn no_others(&self) {
        while self.others.load(Ordering::Relaxed) > 0 {
            self.answered.notified().await;
        }
    }
}
