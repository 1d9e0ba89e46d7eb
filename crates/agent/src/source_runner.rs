//! Runs one source: a driven one until it ends, a polled one in a loop with Flume's pauses
//! (reference 3.3). After a panic the source is built anew.

use std::sync::Arc;
use std::time::Duration;

use flafka_flow::registry::BuildError;
use flafka_flow::source::{BuiltSource, PollableSource, SourceContext, SourceError, Status};
use thiserror::Error;
use tokio::sync::Mutex;
use tracing::warn;

use crate::supervise::Supervised;

/// Builds the source again, after a panic.
pub(crate) type Rebuild = Box<dyn Fn() -> Result<BuiltSource, BuildError> + Send + Sync>;

/// Flume's `backoffSleepIncrement` and `maxBackoffSleep`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PollPauses {
    pub(crate) increment: Duration,
    pub(crate) longest: Duration,
}

/// Why a run of a source ended.
#[derive(Debug, Error)]
enum RunError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// Runs a source until the lifecycle asks to stop, or until it has nothing left to do.
pub(crate) async fn run(
    supervised: Supervised,
    first: BuiltSource,
    rebuild: Rebuild,
    context: SourceContext,
    pauses: PollPauses,
) {
    let slot = Arc::new(Mutex::new(Some(first)));
    let rebuild = Arc::new(rebuild);
    let own = supervised.clone();
    supervised
        .keep_alive(move || {
            let (slot, rebuild, own, context) = (
                Arc::clone(&slot),
                Arc::clone(&rebuild),
                own.clone(),
                context.clone(),
            );
            async move {
                let taken = slot.lock().await.take();
                let mut source = match taken {
                    Some(source) => source,
                    None => rebuild()?,
                };
                let outcome = match &mut source {
                    BuiltSource::Driven(source) => {
                        own.running();
                        source.run(&context).await
                    }
                    BuiltSource::Polled(source) => {
                        poll(&own, source.as_mut(), &context, pauses).await
                    }
                };
                *slot.lock().await = Some(source);
                Ok::<(), RunError>(outcome?)
            }
        })
        .await;
}

async fn poll(
    supervised: &Supervised,
    source: &mut dyn PollableSource,
    context: &SourceContext,
    pauses: PollPauses,
) -> Result<(), SourceError> {
    source.start(context).await?;
    supervised.running();
    let mut quiet = 0;
    let mut failures = 0;
    while !context.lifecycle.is_stopping() {
        let pause = match source.process(context).await {
            Ok(Status::Ready) => {
                quiet = 0;
                None
            }
            Ok(Status::Backoff) => {
                quiet += 1;
                Some((pauses.increment * quiet).min(pauses.longest))
            }
            Err(SourceError::Channel(error)) if error.is_retriable() => {
                failures += 1;
                warn!(
                    component = supervised.name,
                    error = error.chain(),
                    "channel refused events; they are put again"
                );
                Some((pauses.increment * failures).min(pauses.longest))
            }
            Err(error) => {
                failures += 1;
                supervised.failed(&flafka_flow::channel::error_chain(&error), failures);
                Some(pauses.longest)
            }
        };
        if failures > 0 && (pause.is_none() || quiet > 0) {
            failures = 0;
            supervised.running();
        }
        match pause {
            None => tokio::task::yield_now().await,
            Some(pause) => tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = context.lifecycle.stopping() => {}
            },
        }
    }
    source.stop().await;
    Ok(())
}
