//! The channel contract: atomic puts, leases that own their events.
//!
//! A put returns when the batch is as durable as the channel promises. A take gives a [`Lease`];
//! several leases may be out at once, and they may end in any order. A lease that is dropped is
//! rolled back, so its events come again, before younger ones (Flume reference 3.1, 3.2, but a
//! transaction is an owned value, not a property of a thread).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;

use crate::batch::Batch;
use crate::counters::{Counters, Metric};

/// Why a channel did not do what was asked.
#[derive(Debug, Error)]
pub enum ChannelError {
    /// No room came free within the channel's `keep-alive`.
    #[error(
        "channel {channel} is full: no room for {events} events ({bytes} bytes){}; its sinks are too slow or stopped, or its capacity is too small",
        within(*waited)
    )]
    Full {
        /// Channel name.
        channel: Arc<str>,
        /// Events of the refused batch.
        events: usize,
        /// Bytes of the refused batch.
        bytes: u64,
        /// How long the put waited.
        waited: Duration,
    },
    /// The channel's data files have no room for the bytes within its `keep-alive`.
    #[error(
        "channel {channel} is full: its data files hold {used} of {allowed} bytes, and no room for {bytes} more came free{}; its sinks are too slow or stopped, or its flafka.byteCapacity is too small",
        within(*waited)
    )]
    FullOfBytes {
        /// Channel name.
        channel: Arc<str>,
        /// Bytes of the refused batch.
        bytes: u64,
        /// Bytes of the data files.
        used: u64,
        /// The channel's limit.
        allowed: u64,
        /// How long the put waited.
        waited: Duration,
    },
    /// The batch can never fit into one transaction.
    #[error(
        "channel {channel} takes at most {allowed} events in one transaction, not {events}; raise its transactionCapacity or lower the batch size"
    )]
    TooManyEvents {
        /// Channel name.
        channel: Arc<str>,
        /// Events of the refused batch.
        events: usize,
        /// The channel's `transactionCapacity`.
        allowed: usize,
    },
    /// The channel is not started, or stopping.
    #[error("channel {channel} is not open")]
    Closed {
        /// Channel name.
        channel: Arc<str>,
    },
    /// A channel that was stopped could not store what it holds in memory. The next channel that takes over its contents
    /// goes on with it.
    #[error(
        "channel {channel} cannot store {events} acknowledged events that are in memory: they are lost when the process ends"
    )]
    Stranded {
        /// Channel name.
        channel: Arc<str>,
        /// How many.
        events: usize,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The channel's storage or its server failed.
    #[error("channel {channel}: {action}")]
    Failed {
        /// Channel name.
        channel: Arc<str>,
        /// Verb and object, such as `append to log`.
        action: &'static str,
        /// Whether the same call may succeed later.
        retriable: bool,
        /// The cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// How long a put waited, if it did.
fn within(waited: Duration) -> String {
    match waited.is_zero() {
        true => String::new(),
        false => format!(" within {}", duration_text(waited)),
    }
}

/// A duration as people read it: `3 s`, `250 ms`.
pub fn duration_text(duration: Duration) -> String {
    match duration.subsec_nanos() {
        0 => format!("{} s", duration.as_secs()),
        _ => format!("{} ms", duration.as_millis()),
    }
}

impl ChannelError {
    /// Whether the same call may succeed later.
    pub fn is_retriable(&self) -> bool {
        match self {
            ChannelError::Full { .. }
            | ChannelError::FullOfBytes { .. }
            | ChannelError::Stranded { .. }
            | ChannelError::Closed { .. } => true,
            ChannelError::TooManyEvents { .. } => false,
            ChannelError::Failed { retriable, .. } => *retriable,
        }
    }

    /// The message with the messages of its causes, for a log line or an answer to a client.
    pub fn chain(&self) -> String {
        error_chain(self)
    }
}

/// An error's message followed by those of its causes.
pub fn error_chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

/// How much one take may return.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakeLimit {
    /// Events at most; at least one is returned when there is one.
    pub events: usize,
    /// Bytes of bodies and headers at most, except that one event is always allowed.
    pub bytes: u64,
}

impl TakeLimit {
    /// A limit in events alone, with bytes bounded by 64 MiB so that memory stays bounded.
    pub fn events(events: usize) -> Self {
        Self {
            events,
            bytes: 64 << 20,
        }
    }
}

/// Where a run of leased events lies in a log; sinks build exactly-once delivery on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginRun {
    /// Index of the run's first event in the lease's batch.
    pub first_event: usize,
    /// Name of the log stream or topic.
    pub log: Arc<str>,
    /// Partition in it.
    pub partition: i32,
    /// Offset of the run's first event.
    pub first_offset: i64,
    /// Offset of the run's last event.
    pub last_offset: i64,
}

/// What a channel holds, known to channels of its own type only.
pub type Contents = Arc<dyn std::any::Any + Send + Sync>;

/// A channel (reference 2.3). Handles are shared; all methods may be called at the same time.
#[async_trait]
pub trait Channel: Send + Sync {
    /// Opens the channel. Called once before any put or take; called again after an error.
    ///
    /// # Errors
    /// When its storage or server cannot be used; the supervisor tries again.
    async fn start(&self) -> Result<(), ChannelError>;

    /// Puts a batch as one transaction: all of it or nothing, returned when it is as durable as
    /// the channel promises. Waits for room up to the channel's `keep-alive`.
    ///
    /// # Errors
    /// When the batch is not in the channel.
    ///
    /// # Cancel safety
    /// Not cancel-safe: a dropped call may or may not have put the batch.
    async fn put(&self, batch: Batch) -> Result<(), ChannelError>;

    /// Takes up to `limit`; waits for a first event up to the channel's `keep-alive`, then
    /// returns a lease without events.
    ///
    /// # Errors
    /// When the channel cannot be read.
    ///
    /// # Cancel safety
    /// Cancel-safe: a dropped call leaves the events in the channel.
    async fn take(&self, limit: TakeLimit) -> Result<Lease, ChannelError>;

    /// Closes the channel; what was acknowledged stays if the channel is durable.
    ///
    /// # Errors
    /// When the close could not be completed; the channel is closed all the same.
    async fn stop(&self) -> Result<(), ChannelError>;

    /// Opens again what has failed while the channel ran; called when its counter `Unhealthy` says so, and again after
    /// an error. By default the whole channel is closed and opened.
    ///
    /// # Errors
    /// When something of it still cannot be used.
    async fn reopen(&self) -> Result<(), ChannelError> {
        if let Err(error) = self.stop().await {
            let error = error.chain();
            tracing::warn!(error, "channel is closed");
        }
        self.start().await
    }

    /// The channel's counters.
    fn counters(&self) -> &Arc<Counters>;

    /// Whether events survive the end of the process. A channel that forgets them is drained
    /// before its agent stops.
    fn is_durable(&self) -> bool {
        true
    }

    /// What a channel of the same name and type goes on with after a reload of the configuration
    /// (through its `BuildContext`), for channels that would forget their events otherwise. Flume
    /// keeps the channel object, unless its class is `@Disposable`.
    fn contents(&self) -> Option<Contents> {
        None
    }

    /// Refreshes the gauges (`ChannelSize` and such) before the counters are shown.
    fn refresh(&self) {}

    /// What is not as it should be although the channel works, a sentence each, such as damaged data that it skips:
    /// for `/health`. Bounded.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// Why the channel has to be stopped and started again before it works, if it has to. Its
    /// agent asks about once a second, and does so.
    fn fault(&self) -> Option<String> {
        let unhealthy = self.counters().get(Metric::Unhealthy) != 0;
        unhealthy.then(|| "its storage has failed".to_owned())
    }
}

/// How a lease ends; implemented by each channel.
#[async_trait]
pub trait Settle: Send {
    /// The events are delivered: they leave the channel for good.
    ///
    /// # Errors
    /// When that could not be recorded; the events may come again.
    async fn commit(self: Box<Self>) -> Result<(), ChannelError>;

    /// The events go back, before younger ones. Never waits.
    fn rollback(self: Box<Self>);
}

/// Events taken from a channel. Ends by [`Lease::commit`] or [`Lease::rollback`]; dropping it
/// rolls back.
pub struct Lease {
    batch: Batch,
    origin: Vec<OriginRun>,
    settle: Option<Box<dyn Settle>>,
}

impl Lease {
    /// A lease over `batch`; `settle` is told how it ended.
    pub fn new(batch: Batch, origin: Vec<OriginRun>, settle: Box<dyn Settle>) -> Self {
        Self {
            batch,
            origin,
            settle: Some(settle),
        }
    }

    /// A lease without events.
    pub fn empty() -> Self {
        Self {
            batch: Batch::new(),
            origin: Vec::new(),
            settle: None,
        }
    }

    /// The events.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Where the events come from; empty when the channel is not backed by a log.
    pub fn origin(&self) -> &[OriginRun] {
        &self.origin
    }

    /// Whether there is no event.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// The events are delivered.
    ///
    /// # Errors
    /// When the channel could not record it; the events may come again.
    pub async fn commit(mut self) -> Result<(), ChannelError> {
        match self.settle.take() {
            Some(settle) => settle.commit().await,
            None => Ok(()),
        }
    }

    /// The events go back to the channel.
    pub fn rollback(self) {
        drop(self);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(settle) = self.settle.take() {
            settle.rollback();
        }
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Lease")
            .field("events", &self.batch.len())
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_channel_says_how_long_a_put_waited_if_it_did() {
        for (milliseconds, text) in [
            (0, "(9 bytes); its"),
            (3000, "(9 bytes) within 3 s; its"),
            (250, "(9 bytes) within 250 ms; its"),
        ] {
            let full = ChannelError::Full {
                channel: "c1".into(),
                events: 2,
                bytes: 9,
                waited: Duration::from_millis(milliseconds),
            };
            assert!(full.chain().contains(text), "{}", full.chain());
        }
    }
}
