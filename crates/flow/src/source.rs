//! The source contracts (reference 2.1, 3.3, 3.4).
//!
//! A source advances its own state (file position, consumer offset, HTTP 200) only after
//! [`ChannelProcessor::process`] returned without error. Back-off and restarts belong to the
//! agent, which calls [`PollableSource::process`] in a loop and restarts a [`Source`] whose `run`
//! failed.

use std::sync::Arc;

use async_trait::async_trait;
use thiserror::Error;

use crate::batch::Batch;
use crate::channel::ChannelError;
use crate::clock::Clock;
use crate::lifecycle::Lifecycle;

/// What a poll of a source or a sink found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// There was work; ask again at once.
    Ready,
    /// There was none; ask again after a pause.
    Backoff,
}

/// The way from a source into its channels: interceptors, selector, one transaction a channel.
#[async_trait]
pub trait ChannelProcessor: Send + Sync {
    /// Puts a batch into all channels that the selector names. When it returns without error,
    /// every required channel holds the batch as durably as it promises.
    ///
    /// # Errors
    /// The error of the first required channel that failed; channels before it keep their copy
    /// (Flume's rule), so repeating the call repeats the events there.
    ///
    /// # Cancel safety
    /// Not cancel-safe: a dropped call may or may not have put the batch.
    async fn process(&self, batch: Batch) -> Result<(), ChannelError>;
}

/// Why a source stopped or a poll failed.
#[derive(Debug, Error)]
pub enum SourceError {
    /// A channel refused; nothing was advanced, the same events come again.
    #[error("{}", .0.chain())]
    Channel(#[from] ChannelError),
    /// The outside (file, socket, server, process) failed.
    #[error("{action} {object}")]
    Failed {
        /// The verb, such as `bind` or `read`.
        action: &'static str,
        /// What it was done to.
        object: String,
        /// Whether trying again can help.
        retriable: bool,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl SourceError {
    /// A failure that trying again can mend.
    pub fn retriable(
        action: &'static str,
        object: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Failed {
            action,
            object: object.into(),
            retriable: true,
            source: source.into(),
        }
    }

    /// A failure that needs an operator.
    pub fn fatal(
        action: &'static str,
        object: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Failed {
            action,
            object: object.into(),
            retriable: false,
            source: source.into(),
        }
    }

    /// Whether trying again can help.
    pub fn is_retriable(&self) -> bool {
        match self {
            SourceError::Channel(error) => error.is_retriable(),
            SourceError::Failed { retriable, .. } => *retriable,
        }
    }
}

/// What a running source works with.
#[derive(Clone)]
pub struct SourceContext {
    /// The way into the channels.
    pub channels: Arc<dyn ChannelProcessor>,
    /// Asks the source to stop and waits for the tasks it spawned.
    pub lifecycle: Lifecycle,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
}

/// A source that is driven from outside (Flume: event-driven): http, netcat, exec, spooldir.
#[async_trait]
pub trait Source: Send {
    /// Works until the lifecycle asks to stop, then finishes what it has accepted and returns.
    /// An `Ok` before that means that the source has nothing left to do, for good.
    ///
    /// # Errors
    /// The supervisor logs the error and calls `run` again after a pause.
    async fn run(&mut self, context: &SourceContext) -> Result<(), SourceError>;
}

/// A source that the agent polls (Flume: pollable): taildir, kafka, seq.
#[async_trait]
pub trait PollableSource: Send {
    /// Opens what is needed; called again after an error.
    ///
    /// # Errors
    /// The supervisor logs it and tries again after a pause.
    async fn start(&mut self, context: &SourceContext) -> Result<(), SourceError>;

    /// Reads at most one round, puts it, and then advances its own state.
    ///
    /// # Errors
    /// The runner logs the error and pauses as Flume does (reference 3.3).
    async fn process(&mut self, context: &SourceContext) -> Result<Status, SourceError>;

    /// Closes; called once after the last poll.
    async fn stop(&mut self);
}

/// A built source of either kind.
pub enum BuiltSource {
    /// Driven from outside.
    Driven(Box<dyn Source>),
    /// Polled by the agent.
    Polled(Box<dyn PollableSource>),
}
