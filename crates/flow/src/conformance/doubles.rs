//! Stand-ins for the neighbours of the component under test: a channel that a test fills and
//! inspects, and a channel processor that fails on demand.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::batch::Batch;
use crate::channel::{Channel, ChannelError, Lease, Settle, TakeLimit};
use crate::clock::{Clock, SystemClock};
use crate::counters::{ComponentKind, Counters, CountersRegistry, sets};
use crate::event::Event;
use crate::lifecycle::Lifecycle;
use crate::registry::BuildContext;
use crate::source::{ChannelProcessor, SourceContext};

/// A build context for the component `name`.
pub fn build_context(name: &str) -> BuildContext {
    BuildContext {
        component: format!("test.{name}"),
        clock: Arc::new(SystemClock),
        counters: CountersRegistry::default(),
        lifecycle: Lifecycle::new(),
        home: std::env::temp_dir(),
        contents: None,
    }
}

/// As [`build_context`], with a clock and a home directory.
pub fn build_context_with(name: &str, clock: Arc<dyn Clock>, home: PathBuf) -> BuildContext {
    BuildContext {
        clock,
        home,
        ..build_context(name)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Collects what a source puts; refuses the next `fail_next` puts, then the ones after go through.
#[derive(Default)]
pub struct RecordingProcessor {
    batches: Mutex<Vec<Batch>>,
    failures: AtomicUsize,
    changed: tokio::sync::Notify,
}

impl RecordingProcessor {
    /// An empty one.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The next `count` puts are refused as if the channel were full.
    pub fn fail_next(&self, count: usize) {
        self.failures.store(count, Ordering::SeqCst);
    }

    /// Refusals still to come.
    pub fn failures_left(&self) -> usize {
        self.failures.load(Ordering::SeqCst)
    }

    /// The batches put so far.
    pub fn batches(&self) -> Vec<Batch> {
        lock(&self.batches).clone()
    }

    /// The events put so far.
    pub fn events(&self) -> Vec<Event> {
        lock(&self.batches)
            .iter()
            .flat_map(Batch::to_events)
            .collect()
    }

    /// The bodies put so far, as text.
    pub fn bodies(&self) -> Vec<String> {
        let events = self.events();
        events
            .iter()
            .map(|event| String::from_utf8_lossy(&event.body).into_owned())
            .collect()
    }

    /// Waits until `count` events are there.
    ///
    /// # Panics
    /// After `deadline`, with what is there.
    pub async fn wait_for(&self, count: usize, deadline: Duration) -> Vec<Event> {
        let waited = tokio::time::timeout(deadline, async {
            loop {
                let changed = self.changed.notified();
                if self.events().len() >= count {
                    return;
                }
                changed.await;
            }
        });
        if waited.await.is_err() {
            panic!(
                "{count} events expected within {deadline:?}, there are {:?}",
                self.bodies()
            );
        }
        self.events()
    }

    /// A source context that puts here.
    pub fn context(self: &Arc<Self>) -> SourceContext {
        SourceContext {
            channels: Arc::clone(self) as Arc<dyn ChannelProcessor>,
            lifecycle: Lifecycle::new(),
            clock: Arc::new(SystemClock),
        }
    }
}

#[async_trait]
impl ChannelProcessor for RecordingProcessor {
    async fn process(&self, batch: Batch) -> Result<(), ChannelError> {
        let failed = self
            .failures
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        if failed.is_ok() {
            return Err(full("test", &batch));
        }
        lock(&self.batches).push(batch);
        self.changed.notify_waiters();
        Ok(())
    }
}

fn full(channel: &str, batch: &Batch) -> ChannelError {
    ChannelError::Full {
        channel: channel.into(),
        events: batch.len(),
        bytes: batch.total_bytes(),
        waited: Duration::ZERO,
    }
}

/// A channel for sink tests: filled by the test, empty takes return at once, ends are counted.
pub struct TestChannel {
    events: Mutex<VecDeque<Event>>,
    committed: Mutex<Vec<Event>>,
    rollbacks: AtomicUsize,
    counters: Arc<Counters>,
    this: std::sync::Weak<TestChannel>,
}

impl TestChannel {
    /// An empty channel.
    pub fn new() -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            events: Mutex::default(),
            committed: Mutex::default(),
            rollbacks: AtomicUsize::new(0),
            counters: Arc::new(Counters::new(
                ComponentKind::Channel,
                "test",
                sets::CHANNEL,
                true,
            )),
            this: this.clone(),
        })
    }

    /// Adds events.
    pub fn fill(&self, events: impl IntoIterator<Item = Event>) {
        lock(&self.events).extend(events);
    }

    /// Events still in the channel.
    pub fn remaining(&self) -> usize {
        lock(&self.events).len()
    }

    /// Events whose lease was committed.
    pub fn committed(&self) -> Vec<Event> {
        lock(&self.committed).clone()
    }

    /// Leases rolled back.
    pub fn rollbacks(&self) -> usize {
        self.rollbacks.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Channel for TestChannel {
    async fn start(&self) -> Result<(), ChannelError> {
        Ok(())
    }

    async fn put(&self, batch: Batch) -> Result<(), ChannelError> {
        self.fill(batch.to_events());
        Ok(())
    }

    async fn take(&self, limit: TakeLimit) -> Result<Lease, ChannelError> {
        let mut events = lock(&self.events);
        let count = limit.events.min(events.len());
        if count == 0 {
            return Ok(Lease::empty());
        }
        let taken: Vec<Event> = events.drain(..count).collect();
        let channel = self.this.upgrade().ok_or_else(|| ChannelError::Closed {
            channel: "test".into(),
        })?;
        let batch = Batch::from_events(taken.iter().cloned());
        Ok(Lease::new(
            batch,
            Vec::new(),
            Box::new(TestSettle { channel, taken }),
        ))
    }

    async fn stop(&self) -> Result<(), ChannelError> {
        Ok(())
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}

struct TestSettle {
    channel: Arc<TestChannel>,
    taken: Vec<Event>,
}

#[async_trait]
impl Settle for TestSettle {
    async fn commit(self: Box<Self>) -> Result<(), ChannelError> {
        lock(&self.channel.committed).extend(self.taken);
        Ok(())
    }

    fn rollback(self: Box<Self>) {
        self.channel.rollbacks.fetch_add(1, Ordering::SeqCst);
        let mut events = lock(&self.channel.events);
        for event in self.taken.into_iter().rev() {
            events.push_front(event);
        }
    }
}
