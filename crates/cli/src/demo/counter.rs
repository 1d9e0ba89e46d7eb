//! The second consumer group: a plain Kafka client that counts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{ClientConfig, Message};

use super::ledger::Ledger;

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    in_topic: AtomicU64,
    ledger: Mutex<Ledger>,
}

/// The counting thread.
pub(super) struct Counter {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Counter {
    /// Joins the group `counter` and counts every record.
    pub(super) fn start(bootstrap: &str, topic: &str) -> anyhow::Result<Self> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "counter")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .create()
            .context("make a Kafka client")?;
        consumer
            .subscribe(&[topic])
            .context("join the group counter")?;
        let shared = Arc::new(Shared::default());
        let (own, topic) = (Arc::clone(&shared), topic.to_owned());
        let thread = std::thread::spawn(move || count(&consumer, &topic, &own));
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Records counted so far.
    pub(super) fn count(&self) -> u64 {
        self.lock().total()
    }

    /// What was counted so far.
    pub(super) fn ledger(&self) -> Ledger {
        self.lock().clone()
    }

    /// Records in the topic, as the broker said last.
    pub(super) fn end_offsets(&self) -> u64 {
        self.shared.in_topic.load(Ordering::Relaxed)
    }

    /// Leaves the group; returns what was counted.
    pub(super) fn stop(&mut self) -> anyhow::Result<Ledger> {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread
                .join()
                .map_err(|_| anyhow::anyhow!("the counting thread panicked"))??;
        }
        Ok(self.ledger())
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.shared
            .ledger
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn count(consumer: &BaseConsumer, topic: &str, shared: &Shared) -> anyhow::Result<()> {
    const LOOK: Duration = Duration::from_millis(100);
    let mut uncommitted = 0;
    let mut looked = std::time::Instant::now();
    while !shared.stop.load(Ordering::Relaxed) {
        match consumer.poll(LOOK) {
            Some(Ok(record)) => {
                let mut ledger = shared.ledger.lock().unwrap_or_else(PoisonError::into_inner);
                ledger.add(record.payload().unwrap_or_default());
                uncommitted += 1;
            }
            Some(Err(error)) => tracing::debug!(%error, "the counter goes on"),
            None => {}
        }
        if uncommitted > 0 && looked.elapsed() > LOOK * 5 {
            consumer
                .commit_consumer_state(CommitMode::Async)
                .context("commit offsets")?;
            uncommitted = 0;
        }
        if looked.elapsed() > LOOK * 5 {
            looked = std::time::Instant::now();
            let end = |partition| {
                consumer
                    .fetch_watermarks(topic, partition, LOOK * 10)
                    .map_or(0, |(_, end)| end.max(0) as u64)
            };
            shared
                .in_topic
                .store((0..2).map(end).sum(), Ordering::Relaxed);
        }
    }
    Ok(())
}
