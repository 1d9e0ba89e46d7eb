//! Counters of the broker, for the console.
//!
//! Plain atomics, bumped per request or per batch, never per record. Reading them is a snapshot of each counter, not
//! of all at one instant.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use flafka_log_store::Housekeeping;

use crate::log_dirs::LogDirs;

/// API keys run from 0 to below this.
const KEYS: usize = 96;

/// A counter that only grows, or a gauge that is raised and lowered in pairs.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Takes `amount` away again (gauges).
    pub fn subtract(&self, amount: u64) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }

    /// The present value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the broker has done since it started.
#[derive(Debug)]
pub struct BrokerMetrics {
    /// Connections accepted.
    pub connections_accepted: Counter,
    /// Connections closed at accept because of `max.connections` or `max.connections.per.ip`.
    pub connections_refused: Counter,
    /// Connections open now.
    pub connections_open: Counter,
    /// Connections closed because the peer stopped in the middle of a request, sent it too slowly, or took nothing of an
    /// answer.
    pub connections_stalled: Counter,
    /// Connections closed for breaking the protocol.
    pub protocol_violations: Counter,
    /// Bytes of request frames.
    pub bytes_in: Counter,
    /// Bytes of response frames.
    pub bytes_out: Counter,
    /// Bytes of record batches appended.
    pub produced_bytes: Counter,
    /// Records appended, from the batch headers.
    pub produced_records: Counter,
    /// Bytes of record batches sent to consumers.
    pub fetched_bytes: Counter,
    /// Partition-level errors in Produce answers.
    pub produce_errors: Counter,
    /// Partition-level errors in Fetch answers.
    pub fetch_errors: Counter,
    /// What retention and compaction have done, for each data directory that was opened.
    pub housekeeping: Vec<Arc<Housekeeping>>,
    requests: [Counter; KEYS],
}

impl Default for BrokerMetrics {
    fn default() -> Self {
        BrokerMetrics {
            connections_accepted: Counter::default(),
            connections_refused: Counter::default(),
            connections_open: Counter::default(),
            connections_stalled: Counter::default(),
            protocol_violations: Counter::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            produced_bytes: Counter::default(),
            produced_records: Counter::default(),
            fetched_bytes: Counter::default(),
            produce_errors: Counter::default(),
            fetch_errors: Counter::default(),
            housekeeping: Vec::new(),
            requests: std::array::from_fn(|_| Counter::default()),
        }
    }
}

impl BrokerMetrics {
    /// The counters of a broker over these logs.
    pub(crate) fn of(dirs: &LogDirs) -> Self {
        BrokerMetrics {
            housekeeping: dirs.housekeeping(),
            ..BrokerMetrics::default()
        }
    }

    /// Counts one request of an API key.
    pub(crate) fn count_request(&self, key: i16) {
        if let Some(counter) = usize::try_from(key)
            .ok()
            .and_then(|key| self.requests.get(key))
        {
            counter.add(1);
        }
    }

    /// Requests so far by API key, keys without one left out.
    pub fn requests(&self) -> Vec<(i16, u64)> {
        (0i16..)
            .zip(&self.requests)
            .map(|(key, counter)| (key, counter.get()))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_key() {
        let metrics = BrokerMetrics::default();
        metrics.count_request(3);
        metrics.count_request(3);
        metrics.count_request(-1);
        metrics.count_request(i16::MAX);
        assert_eq!(metrics.requests(), [(3, 2)]);
    }
}
