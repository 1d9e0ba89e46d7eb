//! What every source must do (see [`crate::source`]).

use std::sync::Arc;
use std::time::Duration;

use super::doubles::RecordingProcessor;
use crate::source::{BuiltSource, SourceContext};

/// A source under test that runs as the agent would run it.
pub struct RunningSource {
    context: SourceContext,
    task: tokio::task::JoinHandle<()>,
}

impl RunningSource {
    /// Starts `source`, putting into `processor`; polls without Flume's pauses.
    pub fn start(source: BuiltSource, processor: &Arc<RecordingProcessor>) -> Self {
        let context = processor.context();
        let task = tokio::spawn(drive(source, context.clone()));
        Self { context, task }
    }

    /// Asks the source to stop and waits for it.
    ///
    /// # Panics
    /// When it panicked or does not stop in ten seconds.
    pub async fn stop(self) {
        self.context.lifecycle.stop();
        let ended = tokio::time::timeout(Duration::from_secs(10), self.task).await;
        ended.expect("the source stops").expect("no panic");
        self.context.lifecycle.drained().await;
    }
}

async fn drive(source: BuiltSource, context: SourceContext) {
    const PAUSE: Duration = Duration::from_millis(5);
    match source {
        BuiltSource::Driven(mut source) => {
            while let Err(_again) = source.run(&context).await {
                if context.lifecycle.is_stopping() {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        BuiltSource::Polled(mut source) => {
            while source.start(&context).await.is_err() && !context.lifecycle.is_stopping() {
                tokio::time::sleep(PAUSE).await;
            }
            while !context.lifecycle.is_stopping() {
                let ready = matches!(
                    source.process(&context).await,
                    Ok(crate::source::Status::Ready)
                );
                if !ready {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            source.stop().await;
        }
    }
}

/// Rules for sources whose input waits (files, topics, generated events): `make` builds a source
/// whose input holds exactly `expected`, in that order.
///
/// # Panics
/// With the rule that was broken.
pub async fn suite(expected: &[&str], make: impl FnOnce() -> BuiltSource) {
    let processor = RecordingProcessor::new();
    processor.fail_next(3);
    let running = RunningSource::start(make(), &processor);
    processor
        .wait_for(expected.len(), Duration::from_secs(30))
        .await;
    running.stop().await;
    assert_eq!(processor.failures_left(), 0, "a refused put is tried again");
    assert_eq!(
        processor.bodies(),
        expected,
        "refused puts lose, double and reorder nothing"
    );
}
