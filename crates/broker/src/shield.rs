//! A handler that panics ends its connection, not the broker.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use kafka_protocol::messages::ApiKey;

use crate::connection::Closed;
use crate::dispatch::DispatchError;

/// Runs a request's work so that a panic in it ends one connection and not the task that serves it.
pub(crate) async fn shielded<T>(
    work: impl Future<Output = Result<T, DispatchError>> + Send,
    key: ApiKey,
    version: i16,
) -> Result<T, Closed> {
    let caught = CatchUnwind {
        inner: Box::pin(work),
    };
    match caught.await {
        Some(Ok(value)) => Ok(value),
        Some(Err(source)) => Err(Closed::Dispatch {
            key,
            version,
            source,
        }),
        None => Err(Closed::Panicked { key, version }),
    }
}

struct CatchUnwind<F> {
    inner: Pin<Box<F>>,
}

impl<F: Future> Future for CatchUnwind<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Self::Output> {
        let inner = self.inner.as_mut();
        match std::panic::catch_unwind(AssertUnwindSafe(|| inner.poll(task))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Some(output)),
            Err(_) => Poll::Ready(None),
        }
    }
}
