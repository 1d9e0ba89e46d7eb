//! A sink of a group, and the error of a group of which no sink could work.

use flafka_flow::channel::error_chain;
use flafka_flow::sink::{SinkError, Status};
use flafka_flow::sink_processor::NamedSink;
use thiserror::Error;
use tracing::warn;

/// A sink that remembers whether it was started.
pub(super) struct Member {
    named: NamedSink,
    started: bool,
}

impl Member {
    pub(super) fn new(named: NamedSink) -> Self {
        Self {
            named,
            started: false,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.named.name
    }

    /// Starts the sink unless it is started.
    pub(super) async fn start(&mut self) -> Result<(), SinkError> {
        if !self.started {
            self.named.sink.start().await?;
            self.started = true;
        }
        Ok(())
    }

    /// Lets the sink process one batch, starting it before if that has failed so far.
    pub(super) async fn process(&mut self) -> Result<Status, SinkError> {
        self.start().await?;
        self.named.sink.process().await
    }

    /// Stops the sink if it was started.
    pub(super) async fn stop(&mut self) {
        if !self.started {
            return;
        }
        self.started = false;
        if let Err(error) = self.named.sink.stop().await {
            let error = error_chain(&error);
            warn!(sink = self.name(), error, "the sink did not stop cleanly");
        }
    }
}

/// Starts all members; those that fail are returned with their error.
pub(super) async fn start_all(members: &mut [Member]) -> Vec<(usize, SinkError)> {
    let mut failed = Vec::new();
    for (index, member) in members.iter_mut().enumerate() {
        if let Err(error) = member.start().await {
            let text = error_chain(&error);
            warn!(
                sink = member.name(),
                error = text,
                "a sink of the group did not start"
            );
            failed.push((index, error));
        }
    }
    failed
}

/// Why a group has no sink to try.
#[derive(Debug, Error)]
#[error("every sink has failed and waits for its next try")]
struct AllWait;

/// No sink could work; `last` is why the last one tried could not.
pub(super) fn none_worked(members: &[Member], last: Option<SinkError>) -> SinkError {
    let names: Vec<_> = members.iter().map(Member::name).collect();
    let object = format!("any sink of the group ({})", names.join(", "));
    match last {
        Some(error) => SinkError::retriable("deliver through", object, error),
        None => SinkError::retriable("deliver through", object, AllWait),
    }
}
