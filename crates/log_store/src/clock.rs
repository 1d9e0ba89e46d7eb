//! Time comes in through this trait, so that tests stop, jump and repeat it.
//!
//! Wall time is only ever written into records and compared for retention; order never depends on it.

use std::fmt::Debug;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The two clocks the log reads.
pub trait Clock: Send + Sync + Debug {
    /// Wall time, milliseconds since 1970.
    fn now_ms(&self) -> i64;
    /// Time since some fixed point, never going back.
    fn monotonic(&self) -> Duration;
}

/// The system's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic zero is now.
    pub fn new() -> Self {
        SystemClock {
            start: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| {
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            })
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that stands still until it is told otherwise; for tests.
#[derive(Debug)]
pub struct ManualClock {
    elapsed_ms: AtomicI64,
    /// Wall time at the monotonic zero.
    zero_ms: AtomicI64,
}

impl ManualClock {
    /// A clock that shows `now_ms`, with a monotonic time of as much.
    pub fn new(now_ms: i64) -> Self {
        ManualClock {
            elapsed_ms: AtomicI64::new(now_ms),
            zero_ms: AtomicI64::new(0),
        }
    }

    /// Moves both clocks forward.
    pub fn advance(&self, by: Duration) {
        let ms = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.elapsed_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Sets the wall clock, forward or back; the monotonic one goes on as before.
    pub fn set_wall(&self, now_ms: i64) {
        let elapsed_ms = self.elapsed_ms.load(Ordering::Relaxed);
        self.zero_ms.store(now_ms - elapsed_ms, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        self.elapsed_ms.load(Ordering::Relaxed) + self.zero_ms.load(Ordering::Relaxed)
    }

    fn monotonic(&self) -> Duration {
        let elapsed_ms = self.elapsed_ms.load(Ordering::Relaxed);
        Duration::from_millis(u64::try_from(elapsed_ms).unwrap_or(0))
    }
}
