//! Asking tasks to stop, and waiting until they have.
//!
//! The token asks, the tracker waits; they travel together so that nothing is freed while it is
//! in use. Every task of a component is spawned here, with a name.

use std::future::Future;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The stop signal of a component and the tasks it has to wait for.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    token: CancellationToken,
    tracker: TaskTracker,
}

impl Lifecycle {
    /// A lifecycle of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// A lifecycle that is also asked to stop when this one is, with tasks of its own.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            token: self.token.child_token(),
            tracker: TaskTracker::new(),
        }
    }

    /// The token that asks; cheap to clone.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Whether the component was asked to stop.
    pub fn is_stopping(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Ends when the component is asked to stop.
    ///
    /// # Cancel safety
    /// Cancel-safe.
    pub async fn stopping(&self) {
        self.token.cancelled().await;
    }

    /// Asks all tasks to stop.
    pub fn stop(&self) {
        self.token.cancel();
    }

    /// Runs `future` as a task that [`Lifecycle::drained`] waits for.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        use tracing::Instrument;
        self.tracker
            .spawn(future.instrument(tracing::debug_span!("task", name)))
    }

    /// Ends when every task has ended; spawn nothing afterwards.
    pub async fn drained(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}
