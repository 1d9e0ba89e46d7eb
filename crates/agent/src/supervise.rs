//! Keeps one component alive: a failed or panicked task is started again after a pause that
//! grows to Flume's three seconds (reference 1.7), and its state is on the health board.

use std::future::Future;
use std::time::Duration;

use flafka_flow::channel::error_chain;
use flafka_flow::lifecycle::Lifecycle;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info};

use crate::health::{ComponentState, HealthBoard};

/// First pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause: what Flume's supervisor always waits.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// A component's name and where its state is shown.
#[derive(Clone)]
pub(crate) struct Supervised {
    pub(crate) name: String,
    pub(crate) board: HealthBoard,
    pub(crate) lifecycle: Lifecycle,
}

impl Supervised {
    /// Runs `attempt` until it succeeds or the lifecycle asks to stop; each attempt is a task of
    /// its own, so that a panic is a failure like another.
    ///
    /// # Cancel safety
    /// Dropped, it ends the attempt under way too: that is how a stop is forced.
    pub(crate) async fn keep_alive<F, Run, E>(&self, mut attempt: F)
    where
        F: FnMut() -> Run,
        Run: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + Send + 'static,
    {
        let mut attempts = 0;
        while !self.lifecycle.is_stopping() {
            let started = tokio::time::Instant::now();
            let attempt = self.lifecycle.spawn("component", attempt());
            let outcome = AbortOnDropHandle::new(attempt).await;
            let message = match outcome {
                Ok(Ok(())) => break,
                Ok(Err(error)) => error_chain(&error),
                Err(join) if join.is_panic() => panic_message(join.into_panic()),
                Err(_cancelled) => break,
            };
            if started.elapsed() > LONGEST_PAUSE * 10 {
                attempts = 0;
            }
            attempts += 1;
            self.failed(&message, attempts);
            let pause = pause_after(attempts);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.lifecycle.stopping() => {}
            }
        }
        let state = if self.lifecycle.is_stopping() {
            ComponentState::Stopped
        } else {
            ComponentState::Finished
        };
        self.board.set(&self.name, state);
    }

    /// Shows a failure once in the log and on the board.
    pub(crate) fn failed(&self, message: &str, attempts: u32) {
        if attempts == 1 || !self.same_failure(message) {
            error!(
                component = self.name,
                error = message,
                "component failed; it is tried again"
            );
        }
        let error = message.to_owned();
        self.board
            .set(&self.name, ComponentState::Failed { error, attempts });
    }

    /// Shows that the component works, and in the log that it does again.
    pub(crate) fn running(&self) {
        if matches!(
            self.board.get(&self.name),
            Some(ComponentState::Failed { .. })
        ) {
            info!(component = self.name, "component works again");
        }
        self.board.set(&self.name, ComponentState::Running);
    }

    fn same_failure(&self, message: &str) -> bool {
        matches!(self.board.get(&self.name), Some(ComponentState::Failed { error, .. }) if error == message)
    }
}

/// The pause after so many failures in a row.
pub(crate) fn pause_after(attempts: u32) -> Duration {
    (FIRST_PAUSE * 2u32.saturating_pow(attempts.saturating_sub(1).min(8))).min(LONGEST_PAUSE)
}

fn panic_message(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    format!(
        "panicked (a defect, please report it): {}",
        text.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn supervised() -> Supervised {
        Supervised {
            name: "a1.sources.r1".to_owned(),
            board: HealthBoard::default(),
            lifecycle: Lifecycle::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_and_panics_are_tried_again() {
        let supervised = supervised();
        let attempts = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&attempts);
        supervised
            .keep_alive(move || {
                let attempt = counted.fetch_add(1, Ordering::SeqCst);
                async move {
                    assert!(attempt != 1, "planned panic");
                    if attempt < 3 {
                        Err(std::io::Error::other("down"))
                    } else {
                        Ok(())
                    }
                }
            })
            .await;
        assert_eq!(attempts.load(Ordering::SeqCst), 4);
        assert_eq!(
            supervised.board.get("a1.sources.r1"),
            Some(ComponentState::Finished)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn stopping_ends_the_retries() {
        let supervised = supervised();
        let lifecycle = supervised.lifecycle.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(60)).await;
            lifecycle.stop();
        });
        supervised
            .keep_alive(|| async { Err(std::io::Error::other("down")) })
            .await;
        assert_eq!(
            supervised.board.get("a1.sources.r1"),
            Some(ComponentState::Stopped)
        );
        assert_eq!(pause_after(1), FIRST_PAUSE);
        assert_eq!(pause_after(40), LONGEST_PAUSE);
    }

    struct SetWhenDropped(Arc<AtomicU32>);

    impl Drop for SetWhenDropped {
        fn drop(&mut self) {
            self.0.store(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn a_forced_stop_ends_the_attempt() {
        let supervised = supervised();
        let dropped = Arc::new(AtomicU32::new(0));
        let held = Arc::clone(&dropped);
        let alive = supervised.keep_alive(move || {
            let held = SetWhenDropped(Arc::clone(&held));
            async move {
                std::future::pending::<()>().await;
                drop(held);
                Ok::<(), std::io::Error>(())
            }
        });
        let forced = tokio::time::timeout(Duration::from_millis(20), alive).await;
        assert!(forced.is_err());
        supervised.lifecycle.drained().await;
        assert_eq!(dropped.load(Ordering::SeqCst), 1);
    }
}
