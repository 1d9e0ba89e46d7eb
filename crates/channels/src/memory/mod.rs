//! The memory channel: a bounded queue of whole batches (Flume reference 2.3 `memory`, 3.2).
//!
//! A put moves one [`Batch`] into the queue and a take moves it out again, so the cost is a few
//! locks a batch and nothing an event, but for one walk that measures the bodies. Capacity is
//! held by two semaphores, events and byte slots of 100 bytes, from the put until the lease is
//! committed: leased events still occupy memory. Waiting puts are served in order; a put wakes
//! one waiting take, and a take that leaves events behind wakes the next.
//!
//! Invariant: every event is either queued or in exactly one lease, and its permits are held.
//! Segments carry the sequence number of their first event, so a rollback goes back to its place
//! among the others whatever the order in which leases end.
//!
//! Over a reload of the configuration the queue, its leases and its room go to the next channel of
//! the name, with the new capacities (Flume keeps the object). A capacity below what is held applies
//! as events leave; Flume gives that up with a warning.
//!
//! Differences from Flume: bytes are always charged (Flume forgets them when a transaction takes
//! at least as much as it puts), and a batch that is larger than the whole byte capacity is let
//! in alone instead of being refused for ever.

pub(crate) mod config;
pub(crate) mod queue;
pub(crate) mod room;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
pub use config::MemoryChannelConfig;
use flafka_flow::channel::{Channel, ChannelError, Contents, Lease, Settle, TakeLimit};
use flafka_flow::clock::Clock;
use flafka_flow::counters::{ComponentKind, Counters, Metric, sets};
use flafka_flow::registry::{BuildContext, BuildError, ChannelFactory, TypeNames};
use flafka_flow::{Batch, Promise};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use self::config::{LARGEST, slot_budget};
use self::queue::{Queue, Segment, joined, measure};
use self::room::Room;

/// A longer `keep-alive` means for ever; clocks cannot be added up without end.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);
/// Bytes of one slot of the byte capacity.
const SLOT_BYTES: u64 = 100;

/// Makes memory channels.
pub struct MemoryChannelFactory;

impl ChannelFactory for MemoryChannelFactory {
    type Config = MemoryChannelConfig;
    const NAMES: TypeNames = TypeNames {
        alias: Some("memory"),
        also: &[],
        classes: &["org.apache.flume.channel.MemoryChannel"],
    };

    fn build(
        config: MemoryChannelConfig,
        context: &BuildContext,
    ) -> Result<Arc<dyn Channel>, BuildError> {
        Ok(Arc::new(MemoryChannel::new(&config, context)))
    }

    fn transaction_capacity(config: &MemoryChannelConfig) -> Option<usize> {
        Some(config.transaction_capacity.0)
    }

    fn promise(config: &MemoryChannelConfig, _home: &Path) -> Promise {
        let budget = slot_budget(config.byte_capacity, config.buffer_percentage, SLOT_BYTES);
        let everything = "every event that no sink has delivered, up to the capacity";
        Promise {
            durability: "none (type memory)".to_owned(),
            acknowledged: "when the events are in this process's memory".to_owned(),
            kill_loses: everything.to_owned(),
            power_cut_loses: everything.to_owned(),
            repeats: "nothing of this channel; an ordered stop delivers what it holds first"
                .to_owned(),
            capacity_events: Some(config.capacity.0 as u64),
            capacity_bytes: budget.map(|slots| slots as u64 * SLOT_BYTES),
            when_full: format!(
                "a put waits {} s for room, then fails and its source tries again",
                config.keep_alive.0.as_secs()
            ),
            encrypted: None,
            directories: Vec::new(),
        }
    }
}

/// The channel.
pub struct MemoryChannel {
    shared: Arc<Shared>,
    transaction_capacity: usize,
    keep_alive: Duration,
    counters: Arc<Counters>,
    clock: Arc<dyn Clock>,
}

/// What outlives a reload of the configuration.
struct Shared {
    name: Arc<str>,
    room: Room,
    /// Of the byte capacity.
    slots: Room,
    queue: Mutex<Queue>,
    filled: Notify,
    held: AtomicUsize,
}

impl MemoryChannel {
    /// A channel with `config`, closed; with the events of the one before a reload, if there was one.
    pub fn new(config: &MemoryChannelConfig, context: &BuildContext) -> Self {
        let counters = context.counters(ComponentKind::Channel, sets::CHANNEL, true);
        let capacity = config.capacity.0.min(LARGEST);
        counters.set(Metric::ChannelCapacity, capacity as i64);
        let budget = slot_budget(config.byte_capacity, config.buffer_percentage, SLOT_BYTES);
        let budget = budget.unwrap_or(LARGEST);
        let before = context.contents.clone();
        let shared = match before.and_then(|contents| contents.downcast::<Shared>().ok()) {
            Some(shared) => {
                shared.room.resize(capacity);
                shared.slots.resize(budget);
                shared
            }
            None => Arc::new(Shared {
                name: context.name().into(),
                room: Room::new(capacity),
                slots: Room::new(budget),
                queue: Mutex::new(Queue::new(0, SLOT_BYTES)),
                filled: Notify::new(),
                held: AtomicUsize::new(0),
            }),
        };
        Self {
            shared,
            transaction_capacity: config.transaction_capacity.0.min(capacity),
            keep_alive: config.keep_alive.0.min(LONGEST_WAIT),
            counters,
            clock: Arc::clone(&context.clock),
        }
    }
}

#[async_trait]
impl Channel for MemoryChannel {
    async fn start(&self) -> Result<(), ChannelError> {
        self.shared.lock().open = true;
        self.counters.started(self.clock.as_ref());
        Ok(())
    }

    async fn put(&self, batch: Batch) -> Result<(), ChannelError> {
        let shared = &self.shared;
        let events = batch.len();
        if events == 0 {
            return Ok(());
        }
        self.counters
            .add(Metric::EventPutAttemptCount, events as u64);
        if events > self.transaction_capacity {
            return Err(ChannelError::TooManyEvents {
                channel: Arc::clone(&shared.name),
                events,
                allowed: self.transaction_capacity,
            });
        }
        if !shared.lock().open {
            return Err(shared.closed());
        }
        let (slots, bytes) = measure(&batch, SLOT_BYTES);
        let segment = Segment {
            first: 0,
            batch,
            slots: shared.slots.charged(slots),
            bytes,
        };
        shared.admit(segment, self.keep_alive).await?;
        self.counters
            .add(Metric::EventPutSuccessCount, events as u64);
        Ok(())
    }

    async fn take(&self, limit: TakeLimit) -> Result<Lease, ChannelError> {
        let shared = &self.shared;
        if let Some(lease) = self.pop(limit)? {
            return Ok(lease);
        }
        let deadline = Instant::now() + self.keep_alive;
        loop {
            let woken = timeout_at(deadline, shared.filled.notified()).await;
            if let Some(lease) = self.pop(limit)? {
                return Ok(lease);
            }
            if woken.is_err() {
                self.counters.add(Metric::EventTakeAttemptCount, 1);
                return Ok(Lease::empty());
            }
        }
    }

    async fn stop(&self) -> Result<(), ChannelError> {
        self.shared.lock().open = false;
        self.shared.filled.notify_waiters();
        self.counters.stopped(self.clock.as_ref());
        Ok(())
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    fn is_durable(&self) -> bool {
        false
    }

    fn refresh(&self) {
        let held = self.shared.held.load(Ordering::Relaxed);
        self.counters.set(Metric::ChannelSize, held as i64);
    }

    fn contents(&self) -> Option<Contents> {
        Some(Arc::clone(&self.shared) as Contents)
    }
}

impl MemoryChannel {
    /// Leases what is there now, if anything is.
    fn pop(&self, limit: TakeLimit) -> Result<Option<Lease>, ChannelError> {
        let shared = &self.shared;
        let mut queue = shared.lock();
        if !queue.open {
            return Err(shared.closed());
        }
        let taken = queue.take(limit, self.transaction_capacity, u64::MAX);
        let more = !queue.segments.is_empty();
        drop(queue);
        if more {
            shared.filled.notify_one();
        }
        if taken.is_empty() {
            return Ok(None);
        }
        let batch = joined(&taken);
        self.counters
            .add(Metric::EventTakeAttemptCount, batch.len() as u64);
        let settle = MemorySettle {
            shared: Arc::clone(shared),
            counters: Arc::clone(&self.counters),
            taken,
        };
        Ok(Some(Lease::new(batch, Vec::new(), Box::new(settle))))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn closed(&self) -> ChannelError {
        ChannelError::Closed {
            channel: Arc::clone(&self.name),
        }
    }

    /// Waits for room and queues the segment.
    async fn admit(&self, segment: Segment, keep_alive: Duration) -> Result<(), ChannelError> {
        let events = segment.batch.len();
        let full = || ChannelError::Full {
            channel: Arc::clone(&self.name),
            events,
            bytes: segment.bytes,
            waited: keep_alive,
        };
        let deadline = Instant::now() + keep_alive;
        let slots = self.slots.take(segment.slots, deadline).await;
        let slots = slots.ok_or_else(full)?;
        let room = self.room.take(events, deadline).await.ok_or_else(full)?;
        let mut queue = self.lock();
        if !queue.open {
            return Err(self.closed());
        }
        queue.push(segment);
        self.held.fetch_add(events, Ordering::Relaxed);
        drop(queue);
        room.forget();
        slots.forget();
        self.filled.notify_one();
        Ok(())
    }

    /// Gives back the room of delivered events.
    fn release(&self, taken: &[Segment]) {
        let events = taken.iter().map(|part| part.batch.len()).sum();
        self.held.fetch_sub(events, Ordering::Relaxed);
        self.slots
            .give_back(taken.iter().map(|part| part.slots).sum());
        self.room.give_back(events);
    }

    /// Puts leased events back at their place, before all younger ones.
    fn give_back(&self, taken: Vec<Segment>) {
        self.lock().put_back(taken);
        self.filled.notify_one();
    }
}

/// Events on their way to a sink. Dropped without an end, as a cancelled commit does, they go
/// back.
struct MemorySettle {
    shared: Arc<Shared>,
    counters: Arc<Counters>,
    taken: Vec<Segment>,
}

#[async_trait]
impl Settle for MemorySettle {
    async fn commit(mut self: Box<Self>) -> Result<(), ChannelError> {
        let taken = std::mem::take(&mut self.taken);
        let events: usize = taken.iter().map(|part| part.batch.len()).sum();
        self.counters
            .add(Metric::EventTakeSuccessCount, events as u64);
        self.shared.release(&taken);
        Ok(())
    }

    fn rollback(self: Box<Self>) {}
}

impl Drop for MemorySettle {
    fn drop(&mut self) {
        if !self.taken.is_empty() {
            self.shared.give_back(std::mem::take(&mut self.taken));
        }
    }
}

#[cfg(test)]
mod tests;
