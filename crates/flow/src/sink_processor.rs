//! The sink processor contract (reference 2.7, 3.5): one runner, one or more sinks.

use async_trait::async_trait;

use crate::sink::{Sink, SinkError, Status};

/// A sink with its name in the configuration.
pub struct NamedSink {
    /// Name in the configuration.
    pub name: String,
    /// The sink.
    pub sink: Box<dyn Sink>,
}

/// Decides which of its sinks works next. Owns them.
#[async_trait]
pub trait SinkProcessor: Send {
    /// Starts the sinks.
    ///
    /// # Errors
    /// When none of them could be started.
    async fn start(&mut self) -> Result<(), SinkError>;

    /// Lets one sink process one batch.
    ///
    /// # Errors
    /// When no sink could deliver.
    ///
    /// # Cancel safety
    /// As [`Sink::process`].
    async fn process(&mut self) -> Result<Status, SinkError>;

    /// Stops all sinks; errors are logged by the processor.
    async fn stop(&mut self);
}
