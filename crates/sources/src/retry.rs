//! Putting a batch that must not be lost: again and again until the channels have it.
//!
//! For sources whose input cannot be asked a second time (a pipe). While it waits the source
//! does not read, so the pressure reaches the producer. Invariant: a batch is given up only when
//! the component is stopping and its grace has passed, and then the log says how many events.

use std::time::Duration;

use flafka_flow::Batch;
use flafka_flow::channel::ChannelError;
use flafka_flow::counters::{Counters, Metric};
use flafka_flow::source::SourceContext;
use tokio::time::Instant;

/// First pause after a refused put; doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(4);
/// How long a put is tried again once the component is stopping.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// How a put ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// The channels have every event.
    Done,
    /// The component is stopping and some events could not be put.
    GivenUp,
}

/// Puts `batch`, trying again after each refusal; counts refusals in `ChannelWriteFail`.
pub(crate) async fn put_until_accepted(
    context: &SourceContext,
    counters: &Counters,
    mut batch: Batch,
) -> Put {
    let mut pause = FIRST_PAUSE;
    let mut piece = batch.len();
    let mut give_up_at: Option<Instant> = None;
    while !batch.is_empty() {
        let size = piece.min(batch.len());
        let error = match context.channels.process(batch.slice(0..size)).await {
            Ok(()) => {
                batch = batch.slice(size..batch.len());
                pause = FIRST_PAUSE;
                continue;
            }
            Err(error) => error,
        };
        counters.add(Metric::ChannelWriteFail, 1);
        if let ChannelError::TooManyEvents { allowed, .. } = error
            && allowed < size
        {
            piece = allowed.max(1);
            continue;
        }
        if pause == FIRST_PAUSE {
            tracing::warn!(
                error = error.chain(),
                events = batch.len(),
                "channel refused events; they are put again"
            );
        }
        if context.lifecycle.is_stopping() {
            let deadline = *give_up_at.get_or_insert_with(|| Instant::now() + STOP_GRACE);
            if Instant::now() >= deadline {
                tracing::error!(
                    error = error.chain(),
                    events = batch.len(),
                    "events lost: channel refuses them and the source is stopping"
                );
                return Put::GivenUp;
            }
            tokio::time::sleep(FIRST_PAUSE).await;
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = context.lifecycle.stopping() => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Put::Done
}

#[cfg(test)]
mod tests {
    use flafka_flow::conformance::doubles::RecordingProcessor;
    use flafka_flow::conformance::numbers;
    use flafka_flow::counters::{ComponentKind, sets};

    use super::*;

    fn counters() -> Counters {
        Counters::new(ComponentKind::Source, "r1", sets::SOURCE, true)
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_batch_is_put_later() {
        let processor = RecordingProcessor::new();
        processor.fail_next(20);
        let counters = counters();
        let put = put_until_accepted(&processor.context(), &counters, numbers(0..3)).await;
        assert_eq!(put, Put::Done);
        assert_eq!(processor.bodies(), ["0", "1", "2"]);
        assert_eq!(counters.get(Metric::ChannelWriteFail), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stopping_source_gives_up_after_its_grace() {
        let processor = RecordingProcessor::new();
        processor.fail_next(usize::MAX);
        let context = processor.context();
        context.lifecycle.stop();
        let started = Instant::now();
        let put = put_until_accepted(&context, &counters(), numbers(0..3)).await;
        assert_eq!(put, Put::GivenUp);
        assert!(started.elapsed() >= STOP_GRACE);
    }
}
