//! Runs one sink processor with Flume's pauses (reference 3.3), and hands sinks a channel whose
//! takes end when the sink is asked to stop.
//!
//! One rule differs from Flume: an idle sink waits inside its channel's `take`, so the time that
//! call took counts towards the pause, and the first event after a quiet hour is delivered at
//! once instead of up to five seconds later.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use flafka_flow::Batch;
use flafka_flow::channel::{Channel, ChannelError, Contents, Lease, TakeLimit, error_chain};
use flafka_flow::counters::Counters;
use flafka_flow::registry::BuildError;
use flafka_flow::sink::{SinkError, Status};
use flafka_flow::sink_processor::SinkProcessor;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::supervise::Supervised;

/// Pause after an empty poll that took no time, and step of the pause after failures.
const STEP: Duration = Duration::from_secs(1);
/// Longest pause after failures.
const LONGEST: Duration = Duration::from_secs(5);

/// Builds the processor with its sinks again, after a panic.
pub(crate) type Rebuild = Box<dyn Fn() -> Result<Box<dyn SinkProcessor>, BuildError> + Send + Sync>;

/// Why a run of a sink processor ended.
#[derive(Debug, Error)]
enum RunError {
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// Runs a sink processor until the lifecycle asks to stop; then lets the batch in hand finish.
pub(crate) async fn run(supervised: Supervised, first: Box<dyn SinkProcessor>, rebuild: Rebuild) {
    let slot = Arc::new(Mutex::new(Some(first)));
    let rebuild = Arc::new(rebuild);
    let own = supervised.clone();
    supervised
        .keep_alive(move || {
            let (slot, rebuild, own) = (Arc::clone(&slot), Arc::clone(&rebuild), own.clone());
            async move {
                let taken = slot.lock().await.take();
                let mut processor = match taken {
                    Some(processor) => processor,
                    None => rebuild()?,
                };
                let outcome = processor.start().await;
                if outcome.is_ok() {
                    own.running();
                    drain(&own, processor.as_mut()).await;
                    processor.stop().await;
                }
                *slot.lock().await = Some(processor);
                Ok::<(), RunError>(outcome?)
            }
        })
        .await;
}

async fn drain(supervised: &Supervised, processor: &mut dyn SinkProcessor) {
    let mut failures = 0;
    while !supervised.lifecycle.is_stopping() {
        let started = tokio::time::Instant::now();
        let pause = match processor.process().await {
            Ok(status) => {
                if failures > 0 {
                    failures = 0;
                    supervised.running();
                }
                match status {
                    Status::Ready => Duration::ZERO,
                    Status::Backoff => STEP.saturating_sub(started.elapsed()),
                }
            }
            Err(error) => {
                failures += 1;
                supervised.failed(&error_chain(&error), failures);
                (STEP * failures).min(LONGEST)
            }
        };
        if pause.is_zero() {
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = supervised.lifecycle.stopping() => {}
        }
    }
}

/// A channel as a sink sees it: once the sink is asked to stop, a take that waits for events
/// returns without any.
pub(crate) struct SinkChannel {
    inner: Arc<dyn Channel>,
    stopping: CancellationToken,
}

impl SinkChannel {
    pub(crate) fn new(inner: Arc<dyn Channel>, stopping: CancellationToken) -> Self {
        Self { inner, stopping }
    }
}

#[async_trait]
impl Channel for SinkChannel {
    async fn start(&self) -> Result<(), ChannelError> {
        self.inner.start().await
    }

    async fn put(&self, batch: Batch) -> Result<(), ChannelError> {
        self.inner.put(batch).await
    }

    async fn take(&self, limit: TakeLimit) -> Result<Lease, ChannelError> {
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => Ok(Lease::empty()),
            lease = self.inner.take(limit) => lease,
        }
    }

    async fn stop(&self) -> Result<(), ChannelError> {
        self.inner.stop().await
    }

    fn counters(&self) -> &Arc<Counters> {
        self.inner.counters()
    }

    fn refresh(&self) {
        self.inner.refresh();
    }

    fn is_durable(&self) -> bool {
        self.inner.is_durable()
    }

    fn contents(&self) -> Option<Contents> {
        self.inner.contents()
    }

    fn fault(&self) -> Option<String> {
        self.inner.fault()
    }
}
