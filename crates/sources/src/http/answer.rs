//! One request: read, made into events, put, answered (Flume reference 3.12).
//!
//! Invariant: 200 is answered only when the channels hold every event of the request. A put that
//! has begun is finished even when the client goes away, as it must not be dropped half-way.

use std::sync::Arc;

use bytes::Bytes;
use flafka_flow::Batch;
use flafka_flow::counters::{Counters, Metric};
use flafka_flow::source::SourceContext;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::Semaphore;

use super::body::BodyLimits;
use super::handler::{Handler, Refusal};

/// Requests with more bytes than this are parsed on a blocking thread: below it, parsing takes a
/// fraction of a millisecond.
const PARSED_ASIDE: usize = 128 << 10;

/// What the requests of a source share.
pub(super) struct Shared {
    pub(super) handler: Handler,
    pub(super) limits: BodyLimits,
    pub(super) counters: Arc<Counters>,
    /// Requests that are parsed and put at a time.
    pub(super) working: Semaphore,
}

/// Answers one request.
pub(super) async fn answer(
    shared: Arc<Shared>,
    context: SourceContext,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    match accept(&shared, context, request).await {
        Ok(()) => Response::new(Full::default()),
        Err(refusal) => refused(refusal),
    }
}

async fn accept(
    shared: &Arc<Shared>,
    context: SourceContext,
    request: Request<Incoming>,
) -> Result<(), Refusal> {
    check_method(request.method())?;
    let (head, body) = request.into_parts();
    let body = shared.limits.read(body).await.inspect_err(|_| {
        shared.counters.add(Metric::EventReadFail, 1);
    })?;
    if body.is_cut {
        tracing::warn!(
            kept = body.bytes.len(),
            "request is longer than maxBlobLength; its event is cut"
        );
    }
    let _place = shared.working.acquire().await;
    let batch = events(shared, head, body.bytes.clone())
        .await
        .inspect_err(|refusal| {
            shared.counters.add(Metric::EventReadFail, 1);
            tracing::warn!(
                status = refusal.status.as_u16(),
                reason = refusal.reason,
                "request refused"
            );
        })?;
    let own = Arc::clone(shared);
    let lifecycle = context.lifecycle.clone();
    let put = lifecycle.spawn("http put", async move { put(&own, &context, batch).await });
    match put.await {
        Ok(outcome) => outcome,
        Err(error) => {
            shared.counters.add(Metric::GenericProcessingFail, 1);
            let reason = format!("unexpected error while putting: {error}");
            Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, reason))
        }
    }
}

/// GET and POST mean the same, on any path; HEAD is GET without an answer body, and the rest is
/// refused with the codes that Flume's servlet gives.
fn check_method(method: &Method) -> Result<(), Refusal> {
    let status = match *method {
        Method::GET | Method::POST | Method::HEAD => return Ok(()),
        Method::OPTIONS | Method::TRACE => StatusCode::FORBIDDEN,
        Method::PUT | Method::DELETE => StatusCode::METHOD_NOT_ALLOWED,
        Method::CONNECT => StatusCode::BAD_REQUEST,
        _ => StatusCode::NOT_IMPLEMENTED,
    };
    Err(Refusal::new(
        status,
        format!("{method} is not accepted; send events with POST"),
    ))
}

async fn events(shared: &Arc<Shared>, head: Parts, body: Bytes) -> Result<Batch, Refusal> {
    if body.len() <= PARSED_ASIDE {
        return shared.handler.events(&head, &body);
    }
    let own = Arc::clone(shared);
    let parsed = tokio::task::spawn_blocking(move || own.handler.events(&head, &body)).await;
    parsed.unwrap_or_else(|error| {
        let reason = format!("unexpected error while parsing: {error}");
        Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, reason))
    })
}

async fn put(shared: &Shared, context: &SourceContext, batch: Batch) -> Result<(), Refusal> {
    let counters = &shared.counters;
    let events = batch.len() as u64;
    counters.add(Metric::AppendBatchReceivedCount, 1);
    counters.add(Metric::EventReceivedCount, events);
    if events > 0
        && let Err(error) = context.channels.process(batch).await
    {
        counters.add(Metric::ChannelWriteFail, 1);
        let reason = error.chain();
        tracing::warn!(error = reason, events, "request answered with 503");
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason));
    }
    counters.add(Metric::AppendBatchAcceptedCount, 1);
    counters.add(Metric::EventAcceptedCount, events);
    Ok(())
}

fn refused(refusal: Refusal) -> Response<Full<Bytes>> {
    let status = refusal.status;
    let mut response = Response::new(Full::new(Bytes::from(refusal.reason + "\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    match status {
        StatusCode::SERVICE_UNAVAILABLE => {
            drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("1")))
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            drop(headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST")))
        }
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT => {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    response
}
