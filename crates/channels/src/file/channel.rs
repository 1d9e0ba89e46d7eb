//! The file channel itself.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use flafka_flow::Batch;
use flafka_flow::channel::{Channel, ChannelError, Lease, TakeLimit};
use flafka_flow::counters::{ComponentKind, Counters, Metric, sets};
use flafka_flow::registry::{BuildContext, BuildError, ChannelFactory, TypeNames};
use flafka_log_store::{AppendStamp, Fs, Op, OpOutcome, RealFs};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tracing::warn;

use super::FileChannelConfig;
use super::encryption::{EncryptionError, seal};
use super::finishing::Finishing;
use super::lease::{Claim, lease};
use super::open::Open;
use super::records::{encode, join};
use super::runs::{Next, Run, Runs};

/// A longer `keep-alive` means for ever; clocks cannot be added up without end.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// Makes file channels.
pub struct FileChannelFactory;

impl ChannelFactory for FileChannelFactory {
    type Config = FileChannelConfig;
    const NAMES: TypeNames = TypeNames {
        alias: Some("file"),
        also: &[],
        classes: &["org.apache.flume.channel.file.FileChannel"],
    };

    fn build(
        config: FileChannelConfig,
        context: &BuildContext,
    ) -> Result<Arc<dyn Channel>, BuildError> {
        Ok(Arc::new(FileChannel::new(config, context)))
    }

    fn transaction_capacity(config: &FileChannelConfig) -> Option<usize> {
        Some(config.transaction_capacity.0)
    }
}

/// A channel whose events lie on the disk.
pub struct FileChannel {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) name: Arc<str>,
    pub(super) context: BuildContext,
    pub(super) counters: Arc<Counters>,
    pub(super) config: FileChannelConfig,
    keep_alive: Duration,
    pub(super) fs: Arc<dyn Fs>,
    open: RwLock<Option<Open>>,
    /// How often the channel was closed. Changed under the lock of `runs`: what belongs to a log
    /// that is closed must not come back into the runs of the next one.
    pub(super) closed: AtomicU64,
    /// Permits for the events that may still be put.
    room: Semaphore,
    /// Events over the capacity, when it was lowered: these acks free no room.
    over: AtomicUsize,
    runs: Mutex<Runs>,
    pub(super) filled: Notify,
}

impl FileChannel {
    /// A channel with `config`, closed.
    pub fn new(config: FileChannelConfig, context: &BuildContext) -> Self {
        let counters = context.counters(ComponentKind::Channel, sets::FILE_CHANNEL, true);
        counters.set(Metric::ChannelCapacity, config.capacity.0 as i64);
        counters.set(Metric::Closed, 1);
        let keep_alive = config.keep_alive.0.min(LONGEST_WAIT);
        Self {
            shared: Arc::new(Shared {
                name: context.name().into(),
                context: context.clone(),
                counters,
                keep_alive,
                fs: Arc::new(RealFs),
                open: RwLock::default(),
                closed: AtomicU64::new(0),
                room: Semaphore::new(0),
                over: AtomicUsize::new(0),
                runs: Mutex::new(Runs::new(config.cache_bytes.0)),
                filled: Notify::new(),
                config,
            }),
        }
    }

    /// On another file system, for tests.
    #[cfg(test)]
    pub(super) fn on(mut self, fs: Arc<dyn Fs>) -> Self {
        Arc::get_mut(&mut self.shared).expect("not shared yet").fs = fs;
        self
    }

    /// How many data keys the log holds, for tests.
    #[cfg(test)]
    pub(super) fn data_keys(&self) -> usize {
        let open = self.shared.open().expect("started");
        open.log.table(flafka_log_store::Table::DataKeys).len()
    }

    /// As [`FileChannel::new`], waiting for `keep_alive` instead of whole seconds, for tests.
    #[cfg(test)]
    pub(super) fn with_keep_alive(
        config: FileChannelConfig,
        context: &BuildContext,
        keep_alive: Duration,
    ) -> Self {
        let mut channel = Self::new(config, context);
        Arc::get_mut(&mut channel.shared)
            .expect("not shared yet")
            .keep_alive = keep_alive;
        channel
    }
}

#[async_trait]
impl Channel for FileChannel {
    async fn start(&self) -> Result<(), ChannelError> {
        let shared = &self.shared;
        if shared.open().is_ok() {
            return Ok(());
        }
        let opened = shared.open_log().await;
        let unhealthy = i64::from(opened.is_err());
        shared.counters.set(Metric::Unhealthy, unhealthy);
        let open = opened?;
        shared.fill(&open)?;
        *shared.open.write().unwrap_or_else(PoisonError::into_inner) = Some(open);
        shared.counters.set(Metric::Open, 1);
        shared.counters.set(Metric::Closed, 0);
        shared.counters.started(shared.context.clock.as_ref());
        Ok(())
    }

    async fn put(&self, batch: Batch) -> Result<(), ChannelError> {
        let count = batch.len();
        if count == 0 {
            return Ok(());
        }
        let shared = &self.shared;
        shared
            .counters
            .add(Metric::EventPutAttemptCount, count as u64);
        let open = shared.open()?;
        let room = shared.reserve(&batch).await?;
        // Closed meanwhile: the room was given by the channel as it is now, and goes back.
        drop(shared.runs_of(&open)?);
        room.forget();
        let shared = Arc::clone(shared);
        Finishing::new(async move { shared.put(&open, batch).await }).await
    }

    async fn take(&self, limit: TakeLimit) -> Result<Lease, ChannelError> {
        let shared = &self.shared;
        shared.counters.add(Metric::EventTakeAttemptCount, 1);
        let open = shared.open()?;
        let limit = TakeLimit {
            events: limit.events.min(shared.config.transaction_capacity.0),
            ..limit
        };
        let deadline = Instant::now() + shared.keep_alive;
        loop {
            let filled = shared.filled.notified();
            let next = shared.runs_of(&open)?.next(limit.events, limit.bytes);
            match next {
                Next::InMemory(runs) => {
                    shared.wake_next();
                    return Ok(lease(shared, &open, runs));
                }
                Next::OnDisk(run) => {
                    Claim::new(shared, &open, run).read().await?;
                }
                Next::Nothing => {
                    if tokio::time::timeout_at(deadline, filled).await.is_err() {
                        return Ok(Lease::empty());
                    }
                }
            }
        }
    }

    async fn stop(&self) -> Result<(), ChannelError> {
        let shared = &self.shared;
        let open = shared
            .open
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(open) = open else { return Ok(()) };
        shared.counters.set(Metric::Open, 0);
        shared.counters.set(Metric::Closed, 1);
        shared.room.forget_permits(Semaphore::MAX_PERMITS);
        {
            let mut runs = shared.runs();
            shared.closed.fetch_add(1, Ordering::SeqCst);
            *runs = Runs::new(shared.config.cache_bytes.0);
        }
        let closed = open.log.close().await;
        shared.counters.stopped(shared.context.clock.as_ref());
        closed.map_err(|error| shared.failed("close the log", true, error))
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.shared.counters
    }
}

impl Shared {
    pub(super) fn runs(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runs of this log; an error when it is not the channel's log any more.
    pub(super) fn runs_of(&self, open: &Open) -> Result<MutexGuard<'_, Runs>, ChannelError> {
        let runs = self.runs();
        match self.closed.load(Ordering::SeqCst) == open.closed {
            true => Ok(runs),
            false => Err(self.is_closed()),
        }
    }

    fn is_closed(&self) -> ChannelError {
        ChannelError::Closed {
            channel: Arc::clone(&self.name),
        }
    }

    pub(super) fn open(&self) -> Result<Open, ChannelError> {
        let open = self
            .open
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        open.ok_or_else(|| self.is_closed())
    }

    pub(super) fn failed(
        &self,
        action: &'static str,
        retriable: bool,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> ChannelError {
        ChannelError::Failed {
            channel: Arc::clone(&self.name),
            action,
            retriable,
            source: source.into(),
        }
    }

    /// Makes the runs and the room from what the log holds.
    fn fill(&self, open: &Open) -> Result<(), ChannelError> {
        let failed = |error: flafka_log_store::ReadError| self.failed("read the log", true, error);
        let bounds = open.log.bounds(open.stream).map_err(failed)?;
        let acks = open.log.unacked(open.stream).map_err(failed)?;
        let mut runs = self.runs();
        *runs = Runs::new(self.config.cache_bytes.0);
        let mut size = 0;
        let mut first = acks.low.0.max(bounds.log_start.0);
        let end = (bounds.high_watermark, bounds.high_watermark);
        for (acked_first, acked_last) in acks.acked_ranges.iter().copied().chain([end]) {
            if first < acked_first.0 {
                let run = Run {
                    first,
                    last: acked_first.0 - 1,
                    batch: None,
                };
                size += run.len();
                runs.put_back(run);
            }
            first = first.max(acked_last.0 + 1);
        }
        let capacity = self.config.capacity.0;
        self.over
            .store(size.saturating_sub(capacity), Ordering::SeqCst);
        self.room.forget_permits(Semaphore::MAX_PERMITS);
        self.room.add_permits(capacity.saturating_sub(size));
        self.counters.set(Metric::ChannelSize, size as i64);
        Ok(())
    }

    /// Takes room for a batch, waiting up to `keep-alive`.
    async fn reserve(&self, batch: &Batch) -> Result<SemaphorePermit<'_>, ChannelError> {
        let events = batch.len();
        let allowed = self.config.transaction_capacity.0;
        if events > allowed {
            return Err(ChannelError::TooManyEvents {
                channel: Arc::clone(&self.name),
                events,
                allowed,
            });
        }
        let permits = u32::try_from(events).unwrap_or(u32::MAX);
        match tokio::time::timeout(self.keep_alive, self.room.acquire_many(permits)).await {
            Ok(Ok(permits)) => Ok(permits),
            _ => Err(ChannelError::Full {
                channel: Arc::clone(&self.name),
                events,
                bytes: batch.total_bytes(),
                waited: self.keep_alive,
            }),
        }
    }

    /// Stores a batch that has room, and shows it to the takes. Has to be finished once begun.
    async fn put(&self, open: &Open, batch: Batch) -> Result<(), ChannelError> {
        let count = batch.len();
        let stored = self.store(open, &batch).await;
        // When the channel was closed meanwhile, the next start counts what the log holds.
        let runs = self.runs_of(open);
        let first = match stored {
            Ok(first) => first,
            Err(error) => {
                if runs.is_ok() {
                    self.room.add_permits(count);
                }
                self.counters.add(Metric::EventPutErrorCount, 1);
                return Err(error);
            }
        };
        self.counters
            .add(Metric::EventPutSuccessCount, count as u64);
        if let Ok(mut runs) = runs {
            self.counters.shift(Metric::ChannelSize, count as i64);
            runs.add(Run {
                first,
                last: first + count as i64 - 1,
                batch: Some(batch),
            });
        }
        self.filled.notify_one();
        Ok(())
    }

    /// Appends a batch; returns its first offset.
    async fn store(&self, open: &Open, batch: &Batch) -> Result<i64, ChannelError> {
        let mut batches = encode(batch, self.context.clock.now_ms())
            .map_err(|error| self.failed("encode events", false, error))?;
        let failed = |error: EncryptionError| {
            self.note_failure(open);
            self.failed("encrypt events", error.is_retriable(), error)
        };
        if let Some(key) = open.keys.sealing(&open.log).await.map_err(failed)? {
            batches = seal(key, batches).await.map_err(failed)?;
        }
        let append = Op::Append {
            stream: open.stream,
            batches: join(batches),
            stamp: AppendStamp::AsStream,
        };
        let outcomes = open.log.commit(vec![append]).await.map_err(|error| {
            self.note_failure(open);
            self.failed("append to the log", true, error)
        })?;
        match outcomes.first() {
            Some(
                OpOutcome::Appended { base_offset, .. } | OpOutcome::Duplicate { base_offset, .. },
            ) => Ok(base_offset.0),
            _ => Err(self.failed(
                "append to the log",
                false,
                "the log answered without an offset",
            )),
        }
    }

    /// Shows that the log accepts nothing any more; whoever watches `Unhealthy` opens it again.
    pub(super) fn note_failure(&self, open: &Open) {
        if let Some(fault) = open.log.failure()
            && self.runs_of(open).is_ok()
        {
            self.counters.set(Metric::Unhealthy, 1);
            warn!(channel = &*self.name, %fault, "the log has stopped accepting");
        }
    }

    /// A put wakes one take; a take that leaves events wakes the next.
    fn wake_next(&self) {
        if !self.runs().is_empty() {
            self.filled.notify_one();
        }
    }

    /// Gives room back for delivered events.
    pub(super) fn free(&self, events: usize) {
        self.give_up(events);
        self.counters
            .add(Metric::EventTakeSuccessCount, events as u64);
    }

    /// Gives room back for events that are gone.
    pub(super) fn give_up(&self, events: usize) {
        let over = self
            .over
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |over| {
                Some(over.saturating_sub(events))
            });
        let over = over.unwrap_or(0);
        self.room.add_permits(events.saturating_sub(over));
        self.counters.shift(Metric::ChannelSize, -(events as i64));
    }
}
