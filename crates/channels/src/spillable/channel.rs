//! The channel: its parts, its start and stop, and where a take comes from.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use flafka_flow::channel::{Channel, ChannelError, Contents, Lease, TakeLimit};
use flafka_flow::clock::Clock;
use flafka_flow::counters::{ComponentKind, Counters, CountersRegistry, Metric, sets};
use flafka_flow::registry::{BuildContext, BuildError, ChannelFactory, StoragePlace, TypeNames};
use flafka_flow::{Batch, Promise};
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

use super::SpillableConfig;
use super::lease;
use super::line::{Head, Line};
use crate::file::FileChannel;
use crate::memory::LONGEST_WAIT;
use crate::memory::config::{LARGEST, slot_budget};
use crate::memory::queue::Segment;
use crate::memory::room::Room;

/// Makes spillable channels.
pub struct SpillableFactory;

impl ChannelFactory for SpillableFactory {
    type Config = SpillableConfig;
    const NAMES: TypeNames = TypeNames {
        alias: Some("spillablememory"),
        also: &[],
        classes: &["org.apache.flume.channel.SpillableMemoryChannel"],
    };

    fn build(
        config: SpillableConfig,
        context: &BuildContext,
    ) -> Result<Arc<dyn Channel>, BuildError> {
        Ok(Arc::new(SpillableChannel::new(&config, context)))
    }

    fn transaction_capacity(config: &SpillableConfig) -> Option<usize> {
        Some(config.transaction_capacity())
    }

    fn promise(config: &SpillableConfig, home: &Path) -> Promise {
        config.promise(home)
    }

    fn places(config: &SpillableConfig, home: &Path, _channel: &str) -> Vec<StoragePlace> {
        match config.has_overflow() {
            true => config.file.places(home),
            false => Vec::new(),
        }
    }
}

/// A channel whose events lie in memory and, when that is full, on the disk.
pub struct SpillableChannel {
    pub(super) held: Arc<Held>,
    pub(super) overflow: Option<Arc<FileChannel>>,
    pub(super) memory_capacity: usize,
    pub(super) slot_bytes: u64,
    pub(super) transaction_capacity: usize,
    pub(super) timeout: Duration,
    threshold_percent: usize,
    pub(super) counters: Arc<Counters>,
    clock: Arc<dyn Clock>,
}

/// What outlives a reload of the configuration: the memory part.
pub(super) struct Held {
    pub(super) name: Arc<str>,
    pub(super) room: Room,
    /// Of the byte capacity.
    pub(super) slots: Room,
    line: Mutex<Line>,
    /// One take at a time finds out what is oldest.
    pub(super) turn: Semaphore,
    /// Something can be taken.
    pub(super) filled: Notify,
    /// Room came free.
    pub(super) freed: Notify,
    /// Puts on their way into the overflow have ended.
    pub(super) landed: Notify,
    /// Events of the memory part, leased ones included.
    pub(super) in_memory: AtomicUsize,
    /// Events that the overflow held when it was closed.
    pub(super) left_on_disk: AtomicUsize,
}

impl SpillableChannel {
    /// A channel with `config`, closed; with the memory part of the one before a reload, if there was one.
    pub fn new(config: &SpillableConfig, context: &BuildContext) -> Self {
        let timeout = config.own.overflow_timeout.0.min(LONGEST_WAIT);
        Self::with_timeout(config, context, timeout)
    }

    /// As [`SpillableChannel::new`], with an `overflowTimeout` that need not be whole seconds.
    pub(super) fn with_timeout(
        config: &SpillableConfig,
        context: &BuildContext,
        timeout: Duration,
    ) -> Self {
        let own = &config.own;
        let counters = context.counters(ComponentKind::Channel, sets::SPILLABLE_CHANNEL, true);
        let capacity = own.memory_capacity.0 + own.overflow_capacity.0;
        counters.set(Metric::ChannelCapacity, capacity as i64);
        let slot_bytes = own.avg_event_size.0 as u64;
        let budget = slot_budget(own.byte_capacity, own.buffer_percentage, slot_bytes);
        let budget = budget.unwrap_or(LARGEST);
        let before = context.contents.clone();
        let held = match before.and_then(|contents| contents.downcast::<Held>().ok()) {
            Some(held) => {
                held.room.resize(own.memory_capacity.0);
                held.slots.resize(budget);
                held.line().memory.measure_in(slot_bytes);
                held
            }
            None => Arc::new(Held {
                name: context.name().into(),
                room: Room::new(own.memory_capacity.0),
                slots: Room::new(budget),
                line: Mutex::new(Line::new(slot_bytes)),
                turn: Semaphore::new(1),
                filled: Notify::new(),
                freed: Notify::new(),
                landed: Notify::new(),
                in_memory: AtomicUsize::new(0),
                left_on_disk: AtomicUsize::new(0),
            }),
        };
        // The channel's counters are its own; those of the overflow are not shown, as in Flume.
        let unlisted = BuildContext {
            counters: CountersRegistry::default(),
            contents: None,
            ..context.clone()
        };
        let overflow = config.has_overflow();
        let overflow = overflow.then(|| Arc::new(FileChannel::new(config.file.clone(), &unlisted)));
        Self {
            held,
            overflow,
            memory_capacity: own.memory_capacity.0,
            slot_bytes,
            transaction_capacity: config.transaction_capacity(),
            timeout,
            threshold_percent: own.deactivation_threshold as usize,
            counters,
            clock: Arc::clone(&context.clock),
        }
    }

    /// Events that the overflow holds, leased ones included.
    pub(super) fn on_disk(&self) -> usize {
        let size = |file: &Arc<FileChannel>| file.counters().get(Metric::ChannelSize);
        self.overflow
            .as_ref()
            .map_or(0, |file| usize::try_from(size(file)).unwrap_or(0))
    }

    /// How many events have to be free so that puts wait for memory again.
    pub(super) fn enough_free(&self) -> usize {
        (self.memory_capacity * self.threshold_percent).div_ceil(100)
    }
}

#[async_trait]
impl Channel for SpillableChannel {
    async fn start(&self) -> Result<(), ChannelError> {
        let held = &self.held;
        let _turn = held.turn.acquire().await;
        if held.line().memory.open {
            return Ok(());
        }
        let mut waiting = 0;
        match &self.overflow {
            Some(overflow) => {
                overflow.start().await?;
                waiting = overflow.waiting();
            }
            None => match held.left_on_disk.swap(0, Ordering::Relaxed) {
                0 => {}
                events => {
                    warn!(
                        channel = &*held.name,
                        events,
                        "overflowCapacity is 0 now, but events wait in the overflow: they stay in dataDirs until it is set again"
                    )
                }
            },
        }
        let mut line = held.line();
        line.forget_overflow();
        line.reconcile(waiting);
        line.memory.open = true;
        drop(line);
        let memory_capacity = self.memory_capacity;
        info!(
            channel = &*held.name,
            memory_capacity,
            waiting_on_disk = waiting,
            has_overflow = self.overflow.is_some(),
            "spillable channel is open: a crash loses what its memory holds, a stop moves that into the overflow"
        );
        self.counters.started(self.clock.as_ref());
        Ok(())
    }

    async fn put(&self, batch: Batch) -> Result<(), ChannelError> {
        let events = batch.len();
        if events == 0 {
            return Ok(());
        }
        self.counters
            .add(Metric::EventPutAttemptCount, events as u64);
        if events > self.transaction_capacity {
            return Err(ChannelError::TooManyEvents {
                channel: Arc::clone(&self.held.name),
                events,
                allowed: self.transaction_capacity,
            });
        }
        self.place(&batch).await?;
        self.counters
            .add(Metric::EventPutSuccessCount, events as u64);
        Ok(())
    }

    async fn take(&self, limit: TakeLimit) -> Result<Lease, ChannelError> {
        let deadline = Instant::now() + self.timeout;
        let limit = TakeLimit {
            events: limit.events.clamp(1, self.transaction_capacity.max(1)),
            ..limit
        };
        loop {
            let filled = self.held.filled.notified();
            if let Some(lease) = self.oldest(limit).await? {
                let events = lease.batch().len() as u64;
                self.counters.add(Metric::EventTakeAttemptCount, events);
                return Ok(lease);
            }
            if timeout_at(deadline, filled).await.is_err() {
                self.counters.add(Metric::EventTakeAttemptCount, 1);
                return Ok(Lease::empty());
            }
        }
    }

    async fn stop(&self) -> Result<(), ChannelError> {
        let held = &self.held;
        let _turn = held.turn.acquire().await;
        {
            let mut line = held.line();
            if !line.memory.open {
                // Taken over from the channel before a reload, and nowhere to put it.
                return match self.overflow.is_some() && held.in_memory() > 0 {
                    true => Err(held.stranded("the overflow is not open".into())),
                    false => Ok(()),
                };
            }
            line.memory.open = false;
            line.forget_overflow();
        }
        held.filled.notify_waiters();
        held.freed.notify_waiters();
        held.landed.notify_waiters();
        let mut closed = Ok(());
        if let Some(overflow) = &self.overflow {
            closed = self.move_to_overflow(overflow).await;
            held.left_on_disk.store(self.on_disk(), Ordering::Relaxed);
            closed = overflow.stop().await.and(closed);
        }
        self.counters.stopped(self.clock.as_ref());
        closed
    }

    async fn reopen(&self) -> Result<(), ChannelError> {
        match &self.overflow {
            Some(overflow) if self.held.line().memory.open => self.reopen_overflow(overflow).await,
            _ => self.start().await,
        }
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// With an overflow that works, events survive an ordered end of the process.
    fn is_durable(&self) -> bool {
        self.overflow
            .as_ref()
            .is_some_and(|overflow| overflow.fault().is_none())
    }

    fn contents(&self) -> Option<Contents> {
        Some(Arc::clone(&self.held) as Contents)
    }

    fn refresh(&self) {
        let held = self.held.in_memory() + self.on_disk();
        self.counters.set(Metric::ChannelSize, held as i64);
        if let Some(overflow) = &self.overflow {
            overflow.refresh();
            for metric in sets::LOG {
                self.counters.set(*metric, overflow.counters().get(*metric));
            }
        }
    }

    fn warnings(&self) -> Vec<String> {
        let overflow = self.overflow.as_ref();
        overflow.map_or_else(Vec::new, |overflow| overflow.warnings())
    }

    fn fault(&self) -> Option<String> {
        self.overflow
            .as_ref()
            .and_then(|overflow| overflow.fault())
            .map(|fault| format!("the overflow: {fault}"))
    }
}

impl SpillableChannel {
    /// Leases the oldest events, if there are any.
    async fn oldest(&self, limit: TakeLimit) -> Result<Option<Lease>, ChannelError> {
        let held = &self.held;
        let _turn = held.turn.acquire().await;
        loop {
            let (end, in_overflow) = {
                let mut line = held.line();
                if !line.memory.open {
                    return Err(held.closed());
                }
                line.give_back();
                if let Some(overflow) = self.overflow.as_ref().filter(|_| line.is_unsure) {
                    line.reconcile(overflow.waiting());
                }
                match line.head() {
                    Head::Nothing => return Ok(None),
                    Head::Memory(end) => (end, 0),
                    Head::Overflow(count) => (0, count),
                }
            };
            if in_overflow == 0 {
                let mut line = held.line();
                let taken = line.memory.take(limit, self.transaction_capacity, end);
                let has_more = line.head() != Head::Nothing;
                drop(line);
                self.wake_next(has_more);
                return Ok((!taken.is_empty()).then(|| lease::of_memory(self, taken)));
            }
            let Some(overflow) = &self.overflow else {
                held.line().reconcile(0);
                continue;
            };
            let part = TakeLimit {
                events: limit.events.min(in_overflow),
                ..limit
            };
            let taken = overflow.take(part).await?;
            let mut line = held.line();
            if taken.is_empty() {
                // Damaged events were skipped, or a disk has failed: what is behind goes on.
                line.reconcile(overflow.waiting());
                match line.head() {
                    Head::Overflow(_) => return Ok(None),
                    _ => continue,
                }
            }
            let marks = line.take_marks(taken.batch().len());
            let generation = line.generation;
            let has_more = line.head() != Head::Nothing;
            drop(line);
            self.wake_next(has_more);
            return Ok(Some(lease::of_overflow(self, taken, marks, generation)));
        }
    }

    fn wake_next(&self, has_more: bool) {
        if has_more {
            self.held.filled.notify_one();
        }
    }
}

impl Held {
    pub(super) fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn closed(&self) -> ChannelError {
        ChannelError::Closed {
            channel: Arc::clone(&self.name),
        }
    }

    /// Events of the memory part, leased ones included.
    pub(super) fn in_memory(&self) -> usize {
        self.in_memory.load(Ordering::Relaxed)
    }

    /// What memory holds has no place on the disk.
    pub(super) fn stranded(
        &self,
        source: Box<dyn std::error::Error + Send + Sync>,
    ) -> ChannelError {
        ChannelError::Stranded {
            channel: Arc::clone(&self.name),
            events: self.in_memory(),
            source,
        }
    }

    /// Gives back the room of events that are no longer in memory.
    pub(super) fn release(&self, taken: &[Segment]) {
        let events = taken.iter().map(|part| part.batch.len()).sum();
        self.in_memory.fetch_sub(events, Ordering::Relaxed);
        self.slots
            .give_back(taken.iter().map(|part| part.slots).sum());
        self.room.give_back(events);
    }
}
