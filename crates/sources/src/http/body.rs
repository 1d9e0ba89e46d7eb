//! Reading a request body within bounds: size, memory of all requests together, time.
//!
//! Invariant: memory that bodies take is covered by permits of the source's budget before it is
//! allocated, and goes back when the request has been answered. A client that sends too slowly
//! is sent away, so that it cannot hold a place for ever.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body, Incoming};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::handler::Refusal;

/// How long a body may be slow before its rate counts.
const RATE_GRACE: Duration = Duration::from_secs(5);
/// How long the rest of a body that is too long is still read, so that the client sees the answer.
const DRAIN: Duration = Duration::from_secs(1);
/// First allocation for a body, whatever length its head claims.
const FIRST_ALLOCATION: usize = 256 << 10;

/// The bounds of one body.
#[derive(Debug, Clone)]
pub(super) struct BodyLimits {
    /// Longest body, in bytes.
    pub(super) longest: usize,
    /// Bytes that are kept; what is beyond is read and dropped.
    pub(super) kept: Option<usize>,
    /// Longest pause between two pieces.
    pub(super) idle: Duration,
    /// Least bytes a second, on average after the grace; 0 = any.
    pub(super) least_rate: u64,
    /// Bytes that all bodies may take together.
    pub(super) budget: Arc<Semaphore>,
}

/// A body with its share of the budget.
pub(super) struct ReadBody {
    pub(super) bytes: Bytes,
    /// Whether something was cut off at `kept`.
    pub(super) is_cut: bool,
    _share: Option<OwnedSemaphorePermit>,
}

impl BodyLimits {
    /// Reads a whole body.
    pub(super) async fn read(&self, mut body: Incoming) -> Result<ReadBody, Refusal> {
        let claimed = body.size_hint().exact();
        if self.kept.is_none() && claimed.is_some_and(|length| length > self.longest as u64) {
            drain(&mut body).await;
            return Err(self.too_long());
        }
        let mut collected = Collected::new(self, claimed);
        let started = Instant::now();
        while let Some(frame) = self.frame(&mut body, started, collected.received).await? {
            if !collected.add(self, &frame)? {
                drain(&mut body).await;
                return Err(self.too_long());
            }
        }
        Ok(ReadBody {
            bytes: collected.bytes.freeze(),
            is_cut: collected.is_cut,
            _share: collected.share,
        })
    }

    async fn frame(
        &self,
        body: &mut Incoming,
        started: Instant,
        received: u64,
    ) -> Result<Option<Bytes>, Refusal> {
        loop {
            let frame = match tokio::time::timeout(self.idle, body.frame()).await {
                Err(_late) => return Err(too_slow(format!("no data for {:?}", self.idle))),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => {
                    return Err(Refusal::new(
                        StatusCode::BAD_REQUEST,
                        format!("the request body is broken: {error}"),
                    ));
                }
                Ok(Some(Ok(frame))) => frame,
            };
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let elapsed = started.elapsed();
            let expected = self.least_rate as f64 * elapsed.as_secs_f64();
            if elapsed > RATE_GRACE && ((received + data.len() as u64) as f64) < expected {
                return Err(too_slow(format!(
                    "less than {} bytes a second",
                    self.least_rate
                )));
            }
            return Ok(Some(data));
        }
    }

    fn too_long(&self) -> Refusal {
        let reason = format!(
            "the request body is longer than {} bytes; send smaller batches or raise max_request_bytes",
            self.longest
        );
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, reason)
    }
}

fn too_slow(what: String) -> Refusal {
    Refusal::new(
        StatusCode::REQUEST_TIMEOUT,
        format!("the request body came too slowly: {what}"),
    )
}

async fn drain(body: &mut Incoming) {
    let until = Instant::now() + DRAIN;
    while let Ok(Some(Ok(_))) = tokio::time::timeout_at(until, body.frame()).await {}
}

struct Collected {
    bytes: BytesMut,
    received: u64,
    is_cut: bool,
    share: Option<OwnedSemaphorePermit>,
}

impl Collected {
    fn new(limits: &BodyLimits, claimed: Option<u64>) -> Self {
        let claimed = claimed.unwrap_or(0).min(FIRST_ALLOCATION as u64) as usize;
        Self {
            bytes: BytesMut::with_capacity(claimed.min(limits.kept.unwrap_or(usize::MAX))),
            received: 0,
            is_cut: false,
            share: None,
        }
    }

    /// Adds a piece; false when the body is too long.
    fn add(&mut self, limits: &BodyLimits, piece: &Bytes) -> Result<bool, Refusal> {
        self.received += piece.len() as u64;
        let room = limits.kept.unwrap_or(limits.longest) - self.bytes.len();
        let taken = piece.len().min(room);
        if taken < piece.len() {
            if limits.kept.is_none() {
                return Ok(false);
            }
            self.is_cut = true;
        }
        self.cover(limits, taken)?;
        self.bytes.extend_from_slice(&piece[..taken]);
        Ok(true)
    }

    fn cover(&mut self, limits: &BodyLimits, bytes: usize) -> Result<(), Refusal> {
        let wanted = u32::try_from(bytes).unwrap_or(u32::MAX);
        let Ok(more) = Arc::clone(&limits.budget).try_acquire_many_owned(wanted) else {
            let reason = "the source is holding as many request bytes as max_buffered_bytes allows; try again";
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason));
        };
        match &mut self.share {
            Some(share) => share.merge(more),
            None => self.share = Some(more),
        }
        Ok(())
    }
}
