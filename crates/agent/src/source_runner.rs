//! Runs one source: a driven one until it ends, a polled one in a loop with Flume's pauses
//! (reference 3.3). After a panic the source is built anew.

use std::sync::Arc;
use std::time::Duration;

use flafka_flow::channel::ChannelError;
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
        let outcome = source.process(context).await;
        match &outcome {
            Ok(Status::Backoff) => quiet += 1,
            Ok(Status::Ready) | Err(_) => quiet = 0,
        }
        if outcome.is_ok() && failures > 0 {
            failures = 0;
            supervised.running();
        }
        let pause = match outcome {
            Ok(Status::Ready) => None,
            Ok(Status::Backoff) => Some((pauses.increment * quiet).min(pauses.longest)),
            Err(SourceError::Channel(error)) if error.is_retriable() => {
                failures += 1;
                // A full channel is back pressure, one that is closed is shown itself.
                match &error {
                    ChannelError::Failed { .. } => supervised.failed(&error.chain(), failures),
                    _ => warn!(
                        component = supervised.name,
                        error = error.chain(),
                        "channel refused events; they are put again"
                    ),
                }
                Some((pauses.increment * failures).min(pauses.longest))
            }
            Err(error) => {
                failures += 1;
                supervised.failed(&flafka_flow::channel::error_chain(&error), failures);
                Some(pauses.longest)
            }
        };
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

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use flafka_flow::Batch;
    use flafka_flow::clock::SystemClock;
    use flafka_flow::lifecycle::Lifecycle;
    use flafka_flow::source::ChannelProcessor;

    use super::*;
    use crate::health::{ComponentState, HealthBoard};

    /// Quiet twice, then failing for ever.
    #[derive(Default)]
    struct Breaks(u32);

    #[async_trait]
    impl PollableSource for Breaks {
        async fn start(&mut self, _: &SourceContext) -> Result<(), SourceError> {
            Ok(())
        }

        async fn process(&mut self, _: &SourceContext) -> Result<Status, SourceError> {
            self.0 += 1;
            match self.0 {
                1 | 2 => Ok(Status::Backoff),
                _ => Err(SourceError::retriable("read", "a file", "it is gone")),
            }
        }

        async fn stop(&mut self) {}
    }

    struct Nowhere;

    #[async_trait]
    impl ChannelProcessor for Nowhere {
        async fn process(&self, _: Batch) -> Result<(), ChannelError> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_after_quiet_polls_stays_on_the_board() {
        let supervised = Supervised {
            name: "a1.sources.r1".to_owned(),
            board: HealthBoard::default(),
            lifecycle: Lifecycle::new(),
        };
        let context = SourceContext {
            channels: Arc::new(Nowhere),
            lifecycle: supervised.lifecycle.clone(),
            clock: Arc::new(SystemClock),
        };
        let pauses = PollPauses {
            increment: Duration::from_secs(1),
            longest: Duration::from_secs(5),
        };
        let (mut source, polled) = (Breaks::default(), supervised.clone());
        let polling = poll(&polled, &mut source, &context, pauses);
        let watching = async {
            tokio::time::sleep(Duration::from_secs(60)).await;
            let state = supervised.board.get("a1.sources.r1");
            supervised.lifecycle.stop();
            state
        };
        let (polled, state) = tokio::join!(polling, watching);
        polled.expect("ends when asked to");
        let failed = |attempts| matches!(attempts, Some(ComponentState::Failed { attempts, .. }) if attempts > 5);
        assert!(failed(state.clone()), "{state:?}");
    }
}
