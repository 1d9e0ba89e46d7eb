//! The file channel itself: puts are spread over its volumes, takes gather from all of them.

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use flafka_flow::channel::{Channel, ChannelError, Lease, TakeLimit, error_chain};
use flafka_flow::counters::{ComponentKind, Counters, Metric, sets};
use flafka_flow::registry::{BuildContext, BuildError, ChannelFactory, StoragePlace, TypeNames};
use flafka_flow::{Batch, Promise};
use flafka_log_store::{Fs, LogCounts, RealFs};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tracing::{info, warn};

use super::FileChannelConfig;
use super::byte_room::reserve_bytes;
use super::finishing::Finishing;
use super::lease::{Claim, lease};
use super::records::order_of;
use super::take::{Gathered, Source};
use super::volume::{Open, Volume};
use crate::count_troubles;

/// A longer `keep-alive` means for ever; clocks cannot be added up without end.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// The volumes of an open channel.
pub(super) type Volumes = Arc<[Arc<Volume>]>;

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

    fn promise(config: &FileChannelConfig, home: &Path) -> Promise {
        config.promise(home)
    }

    fn places(config: &FileChannelConfig, home: &Path, _channel: &str) -> Vec<StoragePlace> {
        config.places(home)
    }
}

/// A channel whose events lie on the disk.
pub struct FileChannel {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) name: Arc<str>,
    pub(super) context: BuildContext,
    pub(super) counters: Arc<Counters>,
    pub(super) config: FileChannelConfig,
    pub(super) keep_alive: Duration,
    pub(super) fs: Arc<dyn Fs>,
    /// Empty while the channel is closed.
    volumes: RwLock<Volumes>,
    /// Which volume gets the next put.
    next_volume: AtomicUsize,
    /// When the last put was, as [`order_of`] counts.
    last_order: AtomicU64,
    /// Permits for the events that may still be put.
    room: Semaphore,
    /// Events over the capacity, when it was lowered: these acks free no room.
    over: AtomicUsize,
    pub(super) filled: Notify,
    /// Deliveries are marked, so data files may have gone.
    pub(super) freed: Notify,
    /// Bytes of puts that have room and are not yet in the data files.
    pub(super) coming_bytes: AtomicU64,
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
                volumes: RwLock::new(Arc::new([])),
                next_volume: AtomicUsize::new(0),
                last_order: AtomicU64::new(0),
                room: Semaphore::new(0),
                over: AtomicUsize::new(0),
                filled: Notify::new(),
                freed: Notify::new(),
                coming_bytes: AtomicU64::new(0),
                config,
            }),
        }
    }

    /// Events that a take could get now: neither leased nor in a directory that has failed.
    pub(crate) fn waiting(&self) -> usize {
        let volumes = self.shared.volumes();
        volumes.iter().map(|volume| volume.waiting()).sum()
    }

    /// On another file system, for tests.
    #[cfg(test)]
    pub(crate) fn on(mut self, fs: Arc<dyn Fs>) -> Self {
        Arc::get_mut(&mut self.shared).expect("not shared yet").fs = fs;
        self
    }

    /// How many data keys the log holds, for tests.
    #[cfg(test)]
    pub(super) fn data_keys(&self) -> usize {
        let open = self.shared.volumes()[0].open().expect("started");
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
        if !shared.volumes().is_empty() {
            return Ok(());
        }
        shared.room.forget_permits(Semaphore::MAX_PERMITS);
        shared.room.add_permits(shared.config.capacity.0);
        shared.over.store(0, Ordering::SeqCst);
        shared.counters.set(Metric::ChannelSize, 0);
        let opened = shared.open_volumes().await;
        let are_healthy = opened
            .as_ref()
            .is_ok_and(|volumes| !volumes.iter().any(|volume| volume.has_failed()));
        shared
            .counters
            .set(Metric::Unhealthy, i64::from(!are_healthy));
        shared.set_volumes(opened?);
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
        let volumes = shared.volumes();
        if volumes.is_empty() {
            return Err(shared.is_closed());
        }
        let room = shared.reserve(&batch).await?;
        let bytes = reserve_bytes(shared, batch.total_bytes()).await?;
        if !shared.is_current(&volumes) {
            // Closed meanwhile: the room was given by the channel as it is now, and goes back.
            return Err(shared.is_closed());
        }
        room.forget();
        let shared = Arc::clone(shared);
        let putting = async move {
            let stored = shared.put(&volumes, batch).await;
            drop(bytes);
            stored
        };
        Finishing::new(putting).await
    }

    async fn take(&self, limit: TakeLimit) -> Result<Lease, ChannelError> {
        let shared = &self.shared;
        shared.counters.add(Metric::EventTakeAttemptCount, 1);
        let limit = TakeLimit {
            events: limit.events.min(shared.config.transaction_capacity.0),
            ..limit
        };
        let deadline = Instant::now() + shared.keep_alive;
        loop {
            let filled = shared.filled.notified();
            match shared.gather(limit)? {
                Gathered::InMemory(parts) => {
                    shared.wake_next();
                    return Ok(lease(shared, parts));
                }
                Gathered::OnDisk(part) => Claim::new(shared, part).read().await?,
                Gathered::Nothing => {
                    if tokio::time::timeout_at(deadline, filled).await.is_err() {
                        return Ok(Lease::empty());
                    }
                }
            }
        }
    }

    async fn stop(&self) -> Result<(), ChannelError> {
        let shared = &self.shared;
        let volumes = shared.set_volumes(Arc::new([]));
        if volumes.is_empty() {
            return Ok(());
        }
        shared.counters.set(Metric::Open, 0);
        shared.counters.set(Metric::Closed, 1);
        shared.room.forget_permits(Semaphore::MAX_PERMITS);
        let mut closed = Ok(());
        for volume in volumes.iter() {
            closed = volume.close().await.and(closed);
            // The next configuration may not name the directory any more.
            let waiting = volume.stored.load(Ordering::Relaxed);
            if waiting > 0 {
                let (channel, dir) = (&*shared.name, volume.dir.display());
                info!(channel, %dir, waiting, "events wait in this directory for the next start of the channel");
            }
        }
        shared.counters.stopped(shared.context.clock.as_ref());
        closed.map_err(|error| shared.failed("close the log", true, error))
    }

    async fn reopen(&self) -> Result<(), ChannelError> {
        match self.shared.volumes().is_empty() {
            true => self.start().await,
            false => self.shared.reopen_failed().await,
        }
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.shared.counters
    }

    fn refresh(&self) {
        let mut counts = LogCounts::default();
        for volume in self.shared.volumes().iter() {
            counts += volume.troubles().counts;
        }
        count_troubles(&self.shared.counters, counts);
    }

    fn warnings(&self) -> Vec<String> {
        let volumes = self.shared.volumes();
        let of_each = volumes.iter().map(|volume| volume.troubles().sentences());
        of_each.flatten().collect()
    }

    fn fault(&self) -> Option<String> {
        let shared = &self.shared;
        (shared.counters.get(Metric::Unhealthy) != 0).then(|| {
            let volumes = shared.volumes();
            let failed = volumes.iter().filter(|volume| volume.has_failed());
            let dirs: Vec<_> = failed
                .map(|volume| volume.dir.display().to_string())
                .collect();
            match dirs.is_empty() {
                true => "its storage has failed".to_owned(),
                false => format!("its storage has failed in {}", dirs.join(", ")),
            }
        })
    }
}

impl Shared {
    pub(super) fn volumes(&self) -> Volumes {
        let volumes = self.volumes.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&volumes)
    }

    /// Whether the channel was not closed since these were its volumes.
    pub(super) fn is_current(&self, volumes: &Volumes) -> bool {
        Arc::ptr_eq(volumes, &self.volumes())
    }

    /// Returns the ones of before.
    fn set_volumes(&self, new: Volumes) -> Volumes {
        let mut volumes = self.volumes.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *volumes, new)
    }

    pub(super) fn is_closed(&self) -> ChannelError {
        ChannelError::Closed {
            channel: Arc::clone(&self.name),
        }
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

    /// Takes an opened log into use and sets the room right.
    pub(super) fn install(&self, volume: &Volume, open: Open) -> Result<(), ChannelError> {
        let size = volume
            .install(open)
            .map_err(|error| self.failed("read the log", true, error))?;
        let accounted = volume.accounted.swap(size, Ordering::SeqCst);
        if size > accounted {
            self.take_room_or_more(size - accounted);
        } else {
            self.give_room(accounted - size);
        }
        let before = volume.stored.swap(size, Ordering::SeqCst);
        let change = size as i64 - before as i64;
        self.counters.shift(Metric::ChannelSize, change);
        Ok(())
    }

    /// Takes room whether there is any or not; what is beyond the capacity is the first that comes back.
    pub(super) fn take_room_or_more(&self, events: usize) {
        let forgotten = self.room.forget_permits(events);
        self.over.fetch_add(events - forgotten, Ordering::SeqCst);
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
    pub(super) async fn put(&self, volumes: &Volumes, batch: Batch) -> Result<(), ChannelError> {
        let stored = self.spread(volumes, &batch).await;
        match &stored {
            Ok(()) => {
                self.counters
                    .add(Metric::EventPutSuccessCount, batch.len() as u64);
                self.filled.notify_one();
            }
            Err(_) => self.counters.add(Metric::EventPutErrorCount, 1),
        }
        stored
    }

    /// Puts a batch into the next volume, or another one when that one certainly has not got it. Its room is taken, and
    /// given back when no volume accounts for it.
    async fn spread(&self, volumes: &Volumes, batch: &Batch) -> Result<(), ChannelError> {
        let turn = self.next_volume.fetch_add(1, Ordering::Relaxed);
        let (before, after) = volumes.split_at(turn % volumes.len().max(1));
        let now = Instant::now();
        let mut candidates: Vec<_> = after.iter().chain(before).filter(|v| v.accepts).collect();
        if candidates.len() > 1 {
            candidates.sort_by_key(|volume| volume.reluctance(now));
        }
        let mut refused = self.is_closed();
        for volume in candidates {
            let not_stored = match volume.put(self, batch, || self.next_order()).await {
                Ok(()) => return Ok(()),
                Err(not_stored) => not_stored,
            };
            refused = not_stored.error;
            if not_stored.accounted {
                return Err(refused);
            }
            if !not_stored.elsewhere {
                break;
            }
        }
        if self.is_current(volumes) {
            self.give_room(batch.len());
        }
        Err(refused)
    }

    /// The place of a put in the order over all volumes.
    fn next_order(&self) -> u64 {
        let now = order_of(self.context.clock.now_ms());
        let next = |last: u64| Some(now.max(last + 1));
        let before = self
            .last_order
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, next);
        now.max(before.unwrap_or(0) + 1)
    }

    /// Shows that a volume's log accepts nothing any more; whoever watches `Unhealthy` opens it again.
    pub(super) fn note_failure(&self, volume: &Volume, open: &Open) {
        if let Some(fault) = open.log.failure()
            && let Some(_current) = volume.runs_of(open)
            && !volume.has_failed()
        {
            volume.set_failed();
            self.counters.set(Metric::Unhealthy, 1);
            warn!(channel = &*self.name, %fault, "the log has stopped accepting");
        }
    }

    /// Shows that a volume's data cannot be read, so that the others' can; the only volume is asked again and again.
    pub(super) fn note_unreadable(&self, (volume, open): &Source, error: &ChannelError) {
        if self.volumes().len() > 1 && volume.runs_of(open).is_some() {
            volume.set_failed();
            self.counters.set(Metric::Unhealthy, 1);
            let error = error_chain(error);
            warn!(channel = &*self.name, dir = %volume.dir.display(), error, "the directory cannot be read; the others go on");
        }
    }

    /// A put wakes one take; a take that leaves events wakes the next.
    fn wake_next(&self) {
        if self.volumes().iter().any(|volume| volume.is_waiting()) {
            self.filled.notify_one();
        }
    }

    /// Gives room back for delivered events of a volume.
    pub(super) fn free(&self, volume: &Volume, events: usize) {
        self.give_up(volume, events);
        self.counters
            .add(Metric::EventTakeSuccessCount, events as u64);
    }

    /// Gives room back for events of a volume that are gone.
    pub(super) fn give_up(&self, volume: &Volume, events: usize) {
        volume.accounted.fetch_sub(events, Ordering::SeqCst);
        volume.stored.fetch_sub(events, Ordering::SeqCst);
        self.give_room(events);
        self.counters.shift(Metric::ChannelSize, -(events as i64));
    }

    /// Gives room back, but first what was taken beyond the capacity.
    fn give_room(&self, events: usize) {
        let over = self
            .over
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |over| {
                Some(over.saturating_sub(events))
            });
        let over = over.unwrap_or(0);
        self.room.add_permits(events.saturating_sub(over));
    }
}
