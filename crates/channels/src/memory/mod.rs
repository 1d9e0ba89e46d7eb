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
//! Differences from Flume: bytes are always charged (Flume forgets them when a transaction takes
//! at least as much as it puts), and a batch that is larger than the whole byte capacity is let
//! in alone instead of being refused for ever.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use flafka_flow::Batch;
use flafka_flow::channel::{Channel, ChannelError, Lease, Settle, TakeLimit};
use flafka_flow::clock::Clock;
use flafka_flow::counters::{ComponentKind, Counters, Metric, sets};
use flafka_flow::registry::{BuildContext, BuildError, ChannelFactory, TypeNames};
use flafka_flow::settings::{ByteSize, LenientCount, Reader, Seconds};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

/// Bytes of one slot of the byte capacity.
const SLOT_BYTES: u64 = 100;
/// Flume counts events and slots in 32-bit integers; more means without limit there.
const LARGEST: usize = i32::MAX as usize;
/// A longer `keep-alive` means for ever; clocks cannot be added up without end.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);
/// Assumed when the machine does not say how much memory it has.
const UNKNOWN_MEMORY_BYTES: u64 = 1 << 30;

flafka_flow::settings! {
    /// Keeps events in memory: the fastest channel, and its events are lost when the process
    /// dies. At an ordered stop the agent drains it first.
    pub struct MemoryChannelConfig {
        /// Events that the channel holds at most, those in open leases included.
        "capacity" => capacity: LenientCount = LenientCount(100),
        /// Events that one put or one take moves at most. Must not exceed `capacity`.
        "transactionCapacity" => transaction_capacity: LenientCount = LenientCount(100),
        /// Seconds that a put waits for room, and a take for a first event.
        "keep-alive" => keep_alive: Seconds = Seconds(Duration::from_secs(3)),
        /// Bytes of event bodies that the channel holds at most, less the share of
        /// `byteCapacityBufferPercentage`; counted in slots of 100 bytes a body. 0 means without
        /// limit. Without this key: a fifth of the memory that the process may use, which is
        /// what Flume's rule (80 % of the heap) gives in a Java machine with default settings.
        "byteCapacity" => byte_capacity: Option<ByteSize>,
        /// Percent of `byteCapacity` set aside for headers, which are not counted.
        "byteCapacityBufferPercentage" => buffer_percentage: u32 = 20,
    }
    check(|config: &MemoryChannelConfig, reader: &mut Reader<'_>| {
        if config.transaction_capacity > config.capacity {
            reader.error(
                "transactionCapacity",
                format!(
                    "transactionCapacity {} is larger than capacity {}",
                    config.transaction_capacity.0, config.capacity.0
                ),
                Some("a number up to `capacity`".to_owned()),
            );
        }
        if config.capacity.0 > LARGEST {
            reader.error("capacity", "too large", Some(format!("a number up to {LARGEST}")));
        }
        if config.buffer_percentage > 100 {
            reader.error(
                "byteCapacityBufferPercentage",
                "more than all of it",
                Some("a number from 0 to 100".to_owned()),
            );
        }
    })
}

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
}

/// The channel.
pub struct MemoryChannel {
    shared: Arc<Shared>,
}

struct Shared {
    name: Arc<str>,
    transaction_capacity: usize,
    keep_alive: Duration,
    room: Semaphore,
    slots: Option<Slots>,
    queue: Mutex<Queue>,
    filled: Notify,
    held: AtomicUsize,
    counters: Arc<Counters>,
    clock: Arc<dyn Clock>,
}

/// The byte capacity, in slots.
struct Slots {
    budget: usize,
    free: Semaphore,
}

#[derive(Default)]
struct Queue {
    open: bool,
    next: u64,
    segments: VecDeque<Segment>,
}

/// A run of events that were put together.
struct Segment {
    /// Sequence number of the first event.
    first: u64,
    batch: Batch,
    /// Byte slots whose permits it holds; no more than the budget.
    slots: usize,
    /// Bodies and headers, for the take's limit.
    bytes: u64,
}

impl MemoryChannel {
    /// A channel with `config`, closed.
    pub fn new(config: &MemoryChannelConfig, context: &BuildContext) -> Self {
        let counters = context.counters(ComponentKind::Channel, sets::CHANNEL, true);
        let capacity = config.capacity.0.min(LARGEST);
        counters.set(Metric::ChannelCapacity, capacity as i64);
        let slots = slot_budget(config).map(|budget| Slots {
            budget,
            free: Semaphore::new(budget),
        });
        Self {
            shared: Arc::new(Shared {
                name: context.name().into(),
                transaction_capacity: config.transaction_capacity.0.min(capacity),
                keep_alive: config.keep_alive.0.min(LONGEST_WAIT),
                room: Semaphore::new(capacity),
                slots,
                queue: Mutex::default(),
                filled: Notify::new(),
                held: AtomicUsize::new(0),
                counters,
                clock: Arc::clone(&context.clock),
            }),
        }
    }
}

#[async_trait]
impl Channel for MemoryChannel {
    async fn start(&self) -> Result<(), ChannelError> {
        let shared = &self.shared;
        shared.lock().open = true;
        shared.counters.started(shared.clock.as_ref());
        Ok(())
    }

    async fn put(&self, batch: Batch) -> Result<(), ChannelError> {
        let shared = &self.shared;
        let events = batch.len();
        if events == 0 {
            return Ok(());
        }
        shared
            .counters
            .add(Metric::EventPutAttemptCount, events as u64);
        if events > shared.transaction_capacity {
            return Err(ChannelError::TooManyEvents {
                channel: Arc::clone(&shared.name),
                events,
                allowed: shared.transaction_capacity,
            });
        }
        if !shared.lock().open {
            return Err(shared.closed());
        }
        let (slots, bytes) = measure(&batch);
        let segment = Segment {
            first: 0,
            batch,
            slots: shared.charged(slots),
            bytes,
        };
        shared.admit(segment).await?;
        shared
            .counters
            .add(Metric::EventPutSuccessCount, events as u64);
        Ok(())
    }

    async fn take(&self, limit: TakeLimit) -> Result<Lease, ChannelError> {
        let shared = &self.shared;
        if let Some(lease) = self.pop(limit)? {
            return Ok(lease);
        }
        let deadline = Instant::now() + shared.keep_alive;
        loop {
            let woken = timeout_at(deadline, shared.filled.notified()).await;
            if let Some(lease) = self.pop(limit)? {
                return Ok(lease);
            }
            if woken.is_err() {
                shared.counters.add(Metric::EventTakeAttemptCount, 1);
                return Ok(Lease::empty());
            }
        }
    }

    async fn stop(&self) -> Result<(), ChannelError> {
        self.shared.lock().open = false;
        self.shared.filled.notify_waiters();
        self.shared.counters.stopped(self.shared.clock.as_ref());
        Ok(())
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.shared.counters
    }

    fn is_durable(&self) -> bool {
        false
    }

    fn refresh(&self) {
        let held = self.shared.held.load(Ordering::Relaxed);
        self.shared.counters.set(Metric::ChannelSize, held as i64);
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
        let taken = queue.take(limit, shared.transaction_capacity);
        let more = !queue.segments.is_empty();
        drop(queue);
        if more {
            shared.filled.notify_one();
        }
        if taken.is_empty() {
            return Ok(None);
        }
        let batch = match taken.as_slice() {
            [one] => one.batch.clone(),
            several => Batch::concat(several.iter().map(|part| part.batch.clone()).collect()),
        };
        shared
            .counters
            .add(Metric::EventTakeAttemptCount, batch.len() as u64);
        let settle = MemorySettle {
            shared: Arc::clone(shared),
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

    /// The slots that a batch of `slots` has to hold: all of them when it is larger than that.
    fn charged(&self, slots: u64) -> usize {
        let budget = self.slots.as_ref().map_or(0, |slots| slots.budget);
        usize::try_from(slots).unwrap_or(usize::MAX).min(budget)
    }

    /// Waits for room and queues the segment.
    async fn admit(&self, mut segment: Segment) -> Result<(), ChannelError> {
        let events = segment.batch.len();
        let full = || ChannelError::Full {
            channel: Arc::clone(&self.name),
            events,
            bytes: segment.bytes,
            waited: self.keep_alive,
        };
        let deadline = Instant::now() + self.keep_alive;
        let bytes = match &self.slots {
            Some(slots) => Some(
                permits(&slots.free, segment.slots, deadline)
                    .await
                    .ok_or_else(full)?,
            ),
            None => None,
        };
        let room = permits(&self.room, events, deadline)
            .await
            .ok_or_else(full)?;
        let mut queue = self.lock();
        if !queue.open {
            return Err(self.closed());
        }
        segment.first = queue.next;
        queue.next += events as u64;
        queue.segments.push_back(segment);
        self.held.fetch_add(events, Ordering::Relaxed);
        drop(queue);
        room.forget();
        if let Some(bytes) = bytes {
            bytes.forget();
        }
        self.filled.notify_one();
        Ok(())
    }

    /// Gives back the room of delivered events.
    fn release(&self, taken: &[Segment]) {
        let events = taken.iter().map(|part| part.batch.len()).sum();
        self.held.fetch_sub(events, Ordering::Relaxed);
        if let Some(slots) = &self.slots {
            slots
                .free
                .add_permits(taken.iter().map(|part| part.slots).sum());
        }
        self.room.add_permits(events);
        self.counters
            .add(Metric::EventTakeSuccessCount, events as u64);
    }

    /// Puts leased events back at their place, before all younger ones.
    fn give_back(&self, taken: Vec<Segment>) {
        let mut queue = self.lock();
        for segment in taken.into_iter().rev() {
            let place = queue
                .segments
                .partition_point(|other| other.first < segment.first);
            queue.segments.insert(place, segment);
        }
        drop(queue);
        self.filled.notify_one();
    }
}

/// `count` permits, or `None` when they did not come free before `deadline`.
async fn permits(
    semaphore: &Semaphore,
    count: usize,
    deadline: Instant,
) -> Option<SemaphorePermit<'_>> {
    let count = u32::try_from(count).ok()?;
    if let Ok(permits) = semaphore.try_acquire_many(count) {
        return Some(permits);
    }
    timeout_at(deadline, semaphore.acquire_many(count))
        .await
        .ok()?
        .ok()
}

impl Queue {
    /// Takes segments from the front, cutting the last one where the limit is reached.
    fn take(&mut self, limit: TakeLimit, transaction_capacity: usize) -> Vec<Segment> {
        let mut events = limit.events.clamp(1, transaction_capacity);
        let mut bytes = limit.bytes;
        let mut taken = Vec::new();
        while let Some(front) = self.segments.front_mut() {
            if front.batch.len() <= events && front.bytes <= bytes {
                events -= front.batch.len();
                bytes -= front.bytes;
                taken.extend(self.segments.pop_front());
                continue;
            }
            let count = front.fitting(events, bytes, taken.is_empty());
            if count == front.batch.len() {
                taken.extend(self.segments.pop_front());
            } else if count > 0 {
                taken.push(front.split_front(count));
            }
            break;
        }
        taken
    }
}

impl Segment {
    /// How many leading events fit into both limits; at least one when `needs_one`.
    fn fitting(&self, events: usize, bytes: u64, needs_one: bool) -> usize {
        let most = events.min(self.batch.len());
        if self.bytes <= bytes {
            return most;
        }
        let mut left = bytes;
        for (index, event) in self.batch.iter().take(most).enumerate() {
            let size = event_bytes(event.body, event.headers.encoded());
            if size > left {
                return index.max(usize::from(needs_one));
            }
            left -= size;
        }
        most
    }

    /// Cuts off the first `count` events.
    fn split_front(&mut self, count: usize) -> Segment {
        let batch = self.batch.slice(0..count);
        let (slots, bytes) = measure(&batch);
        let front = Segment {
            first: self.first,
            batch,
            slots: usize::try_from(slots).unwrap_or(usize::MAX).min(self.slots),
            bytes,
        };
        self.first += count as u64;
        self.batch = self.batch.slice(count..self.batch.len());
        self.slots -= front.slots;
        self.bytes -= front.bytes;
        front
    }
}

fn event_bytes(body: &[u8], headers: &[u8]) -> u64 {
    body.len() as u64 + headers.len() as u64
}

/// Byte slots, and bytes with headers, of a batch. An empty body takes one slot.
fn measure(batch: &Batch) -> (u64, u64) {
    let (mut slots, mut bytes) = (0, 0);
    for event in batch.iter() {
        slots += (event.body.len() as u64).div_ceil(SLOT_BYTES).max(1);
        bytes += event_bytes(event.body, event.headers.encoded());
    }
    (slots, bytes)
}

/// Events on their way to a sink. Dropped without an end, as a cancelled commit does, they go
/// back.
struct MemorySettle {
    shared: Arc<Shared>,
    taken: Vec<Segment>,
}

#[async_trait]
impl Settle for MemorySettle {
    async fn commit(mut self: Box<Self>) -> Result<(), ChannelError> {
        let taken = std::mem::take(&mut self.taken);
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

/// The byte capacity in slots; `None` = without limit.
fn slot_budget(config: &MemoryChannelConfig) -> Option<usize> {
    let capacity = match config.byte_capacity {
        Some(ByteSize(bytes)) => bytes,
        None => default_byte_capacity(),
    };
    let for_bodies = u128::from(capacity) * u128::from(100 - config.buffer_percentage.min(100));
    let slots = usize::try_from(for_bodies / 100 / u128::from(SLOT_BYTES)).unwrap_or(usize::MAX);
    (1..LARGEST).contains(&slots).then_some(slots)
}

/// A fifth of what the process may use: a Java machine without settings takes a quarter of the
/// memory as its heap, and Flume 80 % of the heap.
fn default_byte_capacity() -> u64 {
    let machine = {
        let info = rustix::system::sysinfo();
        u64::try_from(info.totalram)
            .unwrap_or(UNKNOWN_MEMORY_BYTES)
            .saturating_mul(u64::from(info.mem_unit).max(1))
    };
    let limits = [
        "/sys/fs/cgroup/memory.max",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ];
    let allowed = limits
        .iter()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .filter_map(|text| text.trim().parse().ok())
        .fold(machine, u64::min);
    allowed / 5
}

#[cfg(test)]
mod tests;
