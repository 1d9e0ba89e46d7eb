//! The sink contract (reference 2.4, 3.3).
//!
//! A sink commits its lease only after its target has answered for every event in it.

use async_trait::async_trait;
use thiserror::Error;

use crate::channel::ChannelError;
pub use crate::source::Status;

/// Why a sink could not deliver. The lease was rolled back.
#[derive(Debug, Error)]
pub enum SinkError {
    /// The channel failed.
    #[error("{}", .0.chain())]
    Channel(#[from] ChannelError),
    /// The target failed (Flume: `EventDeliveryException`).
    #[error("{action} {object}")]
    Failed {
        /// The verb, such as `open` or `send to`.
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

impl SinkError {
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
            SinkError::Channel(error) => error.is_retriable(),
            SinkError::Failed { retriable, .. } => *retriable,
        }
    }
}

/// A sink: takes from its channel, delivers, commits.
#[async_trait]
pub trait Sink: Send {
    /// Opens what is needed; called again after an error.
    ///
    /// # Errors
    /// The supervisor logs it and tries again after a pause.
    async fn start(&mut self) -> Result<(), SinkError>;

    /// Takes one batch, delivers it and commits. [`Status::Backoff`] when there was nothing.
    ///
    /// # Errors
    /// After rolling the lease back.
    ///
    /// # Cancel safety
    /// Cancel-safe in the sense that a dropped call rolls the lease back; the target may then
    /// have events that come again.
    async fn process(&mut self) -> Result<Status, SinkError>;

    /// Finishes what is open (files, connections); called once after the last `process`.
    ///
    /// # Errors
    /// When something could not be finished; it is logged.
    async fn stop(&mut self) -> Result<(), SinkError>;
}
