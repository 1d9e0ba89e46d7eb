//! The channel: room, what waits, and the way to the thread that has the file.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use flafka_flow::channel::{Channel, ChannelError, Lease, Settle, TakeLimit};
use flafka_flow::counters::{ComponentKind, Counters, Metric, sets};
use flafka_flow::registry::{BuildContext, BuildError, ChannelFactory, StoragePlace, TypeNames};
use flafka_flow::{Batch, Promise};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tracing::info;

use super::JdbcChannelConfig;
use super::place::Place;
use super::store::{Store, StoreError};
use super::waiting::{Range, Waiting};
use super::worker::{Command, MOST_COMMANDS, Worker};

/// How long a take waits for a first event. Flume's does not wait; its sinks pause instead.
const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// Makes JDBC channels.
pub struct JdbcChannelFactory;

impl ChannelFactory for JdbcChannelFactory {
    type Config = JdbcChannelConfig;
    const NAMES: TypeNames = TypeNames {
        alias: Some("jdbc"),
        also: &[],
        classes: &["org.apache.flume.channel.jdbc.JdbcChannel"],
    };

    fn build(
        config: JdbcChannelConfig,
        context: &BuildContext,
    ) -> Result<Arc<dyn Channel>, BuildError> {
        Ok(Arc::new(JdbcChannel::new(&config, context)?))
    }

    fn promise(config: &JdbcChannelConfig, home: &Path) -> Promise {
        config.promise(home)
    }

    fn places(config: &JdbcChannelConfig, home: &Path, channel: &str) -> Vec<StoragePlace> {
        let place = config.place(home, channel).ok();
        let of = |place: Place| StoragePlace {
            key: "driver.url",
            path: place.file,
            is_directory: false,
        };
        place.into_iter().map(of).collect()
    }
}

/// A channel whose events lie in an SQLite file.
pub struct JdbcChannel {
    shared: Arc<Shared>,
    place: Place,
    create_schema: bool,
    keep_alive: Duration,
    context: BuildContext,
    /// The file gets no larger, as on a full disk.
    #[cfg(test)]
    most_pages: Option<u32>,
}

pub(super) struct Shared {
    pub(super) name: Arc<str>,
    pub(super) counters: Arc<Counters>,
    /// `maximum.capacity`; 0 = without limit.
    capacity: u64,
    state: Mutex<State>,
    has_failed: AtomicBool,
    filled: Notify,
}

#[derive(Default)]
struct State {
    /// The way to the thread; none while the channel is closed.
    commands: Option<mpsc::Sender<Command>>,
    /// How often the file was opened; what belongs to an earlier time is void.
    generation: u64,
    /// Events that are stored or on their way.
    held: u64,
    waiting: Waiting,
}

/// Room for the events of a put; given back unless they are stored.
pub(super) struct Room {
    shared: Arc<Shared>,
    generation: u64,
    events: u64,
}

impl Room {
    /// They are stored.
    pub(super) fn keep(mut self) {
        self.events = 0;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        if state.generation == self.generation {
            state.held = state.held.saturating_sub(self.events);
        }
    }
}

impl JdbcChannel {
    /// A channel with `config`, closed.
    ///
    /// # Errors
    /// When the file's path cannot be made of the settings.
    pub fn new(config: &JdbcChannelConfig, context: &BuildContext) -> Result<Self, BuildError> {
        // Not in Flume's JSON: its JDBC channel has no counters.
        let counters = context.counters(ComponentKind::Channel, sets::CHANNEL, false);
        let capacity = i64::try_from(config.maximum_capacity).unwrap_or(i64::MAX);
        counters.set(Metric::ChannelCapacity, capacity);
        let place = config.place(&context.home, context.name());
        let place = place.map_err(|refused| context.error(refused.message, None))?;
        Ok(Self {
            shared: Arc::new(Shared {
                name: context.name().into(),
                counters,
                capacity: config.maximum_capacity,
                state: Mutex::default(),
                has_failed: AtomicBool::new(false),
                filled: Notify::new(),
            }),
            place,
            create_schema: config.create_schema,
            keep_alive: KEEP_ALIVE,
            context: context.clone(),
            #[cfg(test)]
            most_pages: None,
        })
    }

    /// Takes wait so long, for tests.
    #[cfg(test)]
    pub(super) fn with_keep_alive(mut self, keep_alive: Duration) -> Self {
        self.keep_alive = keep_alive;
        self
    }

    /// On a disk that is full after so many pages, for tests.
    #[cfg(test)]
    pub(super) fn with_most_pages(mut self, pages: u32) -> Self {
        self.most_pages = Some(pages);
        self
    }

    /// Sends a command and waits for its answer.
    async fn ask<T>(
        &self,
        commands: &mpsc::Sender<Command>,
        command: impl FnOnce(oneshot::Sender<Result<T, ChannelError>>) -> Command,
    ) -> Result<T, ChannelError> {
        ask(&self.shared, commands, command).await
    }
}

async fn ask<T>(
    shared: &Shared,
    commands: &mpsc::Sender<Command>,
    command: impl FnOnce(oneshot::Sender<Result<T, ChannelError>>) -> Command,
) -> Result<T, ChannelError> {
    let (answer, answered) = oneshot::channel();
    let place = commands.reserve().await.map_err(|_| shared.closed())?;
    place.send(command(answer));
    answered.await.unwrap_or_else(|_| Err(shared.closed()))
}

impl Drop for JdbcChannel {
    fn drop(&mut self) {
        // The thread ends when nobody can ask it anything.
        self.shared.state().commands = None;
    }
}

#[async_trait]
impl Channel for JdbcChannel {
    async fn start(&self) -> Result<(), ChannelError> {
        let shared = &self.shared;
        if shared.state().commands.is_some() {
            return Ok(());
        }
        let (place, create_schema) = (self.place.clone(), self.create_schema);
        let opening = tokio::task::spawn_blocking(move || Store::open(&place, create_schema));
        let opened = opening
            .await
            .map_err(|error| shared.failed_by("open the database", true, error))?;
        let (store, found) = opened.map_err(|error| shared.failed("open the database", error))?;
        #[cfg(test)]
        if let Some(pages) = self.most_pages {
            store.limit_pages(pages);
        }
        let (commands, inbox) = mpsc::channel(MOST_COMMANDS);
        let mut state = shared.state();
        let worker = Worker {
            store,
            shared: Arc::clone(shared),
            generation: state.generation + 1,
            next: found.range.map_or(1, |(_, last)| last + 1),
            has_failed: false,
        };
        let thread = std::thread::Builder::new().name(format!("jdbc-{}", shared.name));
        let spawned = thread.spawn(move || worker.run(inbox));
        spawned.map_err(|error| shared.failed_by("start the database's thread", true, error))?;
        *state = State {
            commands: Some(commands),
            generation: state.generation + 1,
            held: found.events as u64,
            waiting: Waiting::default(),
        };
        if let Some(range) = found.range {
            state.waiting.add(range);
        }
        drop(state);
        shared.set_failed(false);
        let counters = &shared.counters;
        counters.set(Metric::ChannelSize, found.events as i64);
        counters.started(self.context.clock.as_ref());
        shared.filled.notify_one();
        info!(channel = &*shared.name, file = %self.place.file.display(), waiting = found.events, "jdbc channel opened its SQLite file");
        Ok(())
    }

    async fn put(&self, batch: Batch) -> Result<(), ChannelError> {
        let events = batch.len() as u64;
        if events == 0 {
            return Ok(());
        }
        let shared = &self.shared;
        shared.counters.add(Metric::EventPutAttemptCount, events);
        let (commands, room) = shared.reserve(&batch)?;
        self.ask(&commands, |answer| Command::Put {
            batch,
            room,
            answer,
        })
        .await
    }

    async fn take(&self, limit: TakeLimit) -> Result<Lease, ChannelError> {
        let shared = &self.shared;
        shared.counters.add(Metric::EventTakeAttemptCount, 1);
        let limit = TakeLimit {
            events: limit.events.max(1),
            ..limit
        };
        let deadline = Instant::now() + self.keep_alive;
        loop {
            let filled = shared.filled.notified();
            let (commands, is_empty) = {
                let state = shared.state();
                let commands = state.commands.clone().ok_or_else(|| shared.closed())?;
                (commands, state.waiting.is_empty())
            };
            if !is_empty {
                let taken = self.ask(&commands, |answer| Command::Take { limit, answer });
                if let Some(lease) = taken.await? {
                    shared.wake_next();
                    return Ok(lease);
                }
            }
            if timeout_at(deadline, filled).await.is_err() {
                return Ok(Lease::empty());
            }
        }
    }

    async fn stop(&self) -> Result<(), ChannelError> {
        let shared = &self.shared;
        let commands = {
            let mut state = shared.state();
            state.generation += 1;
            state.waiting = Waiting::default();
            state.commands.take()
        };
        let Some(commands) = commands else {
            return Ok(());
        };
        shared.filled.notify_waiters();
        let closed = self
            .ask(&commands, |answer| Command::Close { answer })
            .await;
        shared.counters.stopped(self.context.clock.as_ref());
        closed
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.shared.counters
    }

    fn fault(&self) -> Option<String> {
        let shared = &self.shared;
        let is_gone = shared
            .state()
            .commands
            .as_ref()
            .is_some_and(mpsc::Sender::is_closed);
        let has_failed = is_gone || shared.has_failed.load(Ordering::SeqCst);
        has_failed.then(|| format!("its database has failed in {}", self.place.file.display()))
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn closed(&self) -> ChannelError {
        ChannelError::Closed {
            channel: Arc::clone(&self.name),
        }
    }

    pub(super) fn failed(&self, action: &'static str, error: StoreError) -> ChannelError {
        let retriable = error.is_retriable();
        self.failed_by(action, retriable, error)
    }

    fn failed_by(
        &self,
        action: &'static str,
        retriable: bool,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> ChannelError {
        ChannelError::Failed {
            channel: Arc::clone(&self.name),
            action,
            retriable,
            source: Box::new(source),
        }
    }

    pub(super) fn set_failed(&self, has_failed: bool) {
        self.has_failed.store(has_failed, Ordering::SeqCst);
    }

    /// Room for a batch, at once or not at all, as in Flume.
    fn reserve(
        self: &Arc<Self>,
        batch: &Batch,
    ) -> Result<(mpsc::Sender<Command>, Room), ChannelError> {
        let events = batch.len() as u64;
        let mut state = self.state();
        let commands = state.commands.clone().ok_or_else(|| self.closed())?;
        if self.capacity > 0 && state.held.saturating_add(events) > self.capacity {
            return Err(ChannelError::Full {
                channel: Arc::clone(&self.name),
                events: batch.len(),
                bytes: batch.total_bytes(),
                waited: Duration::ZERO,
            });
        }
        state.held += events;
        let room = Room {
            shared: Arc::clone(self),
            generation: state.generation,
            events,
        };
        Ok((commands, room))
    }

    /// Shows ranges to the takes.
    pub(super) fn add_waiting(&self, generation: u64, ranges: &[Range]) {
        let mut state = self.state();
        if state.generation == generation {
            for range in ranges {
                state.waiting.add(*range);
            }
        }
        drop(state);
        self.filled.notify_one();
    }

    pub(super) fn pop_waiting(&self, generation: u64) -> Option<Range> {
        let mut state = self.state();
        match state.generation == generation {
            true => state.waiting.pop(),
            false => None,
        }
    }

    /// A put wakes one take; a take that leaves events wakes the next.
    fn wake_next(&self) {
        if !self.state().waiting.is_empty() {
            self.filled.notify_one();
        }
    }

    /// Events have left the file.
    pub(super) fn delivered(&self, generation: u64, events: usize) {
        let mut state = self.state();
        if state.generation == generation {
            state.held = state.held.saturating_sub(events as u64);
        }
        drop(state);
        self.counters.shift(Metric::ChannelSize, -(events as i64));
        self.counters
            .add(Metric::EventTakeSuccessCount, events as u64);
    }
}

/// Events on their way to a sink. Dropped without an end they go back.
pub(super) struct JdbcSettle {
    shared: Arc<Shared>,
    generation: u64,
    pub(super) ranges: Vec<Range>,
    pub(super) events: usize,
}

impl JdbcSettle {
    pub(super) fn new(shared: &Arc<Shared>, generation: u64) -> Self {
        Self {
            shared: Arc::clone(shared),
            generation,
            ranges: Vec::new(),
            events: 0,
        }
    }
}

#[async_trait]
impl Settle for JdbcSettle {
    async fn commit(mut self: Box<Self>) -> Result<(), ChannelError> {
        let shared = Arc::clone(&self.shared);
        let commands = {
            let state = shared.state();
            let is_current = state.generation == self.generation;
            state.commands.clone().filter(|_| is_current)
        };
        let commands = commands.ok_or_else(|| shared.closed())?;
        ask(&shared, &commands, |answer| Command::Deliver {
            ranges: std::mem::take(&mut self.ranges),
            events: self.events,
            answer,
        })
        .await
    }

    fn rollback(self: Box<Self>) {}
}

impl Drop for JdbcSettle {
    fn drop(&mut self) {
        if !self.ranges.is_empty() {
            self.shared.add_waiting(self.generation, &self.ranges);
        }
    }
}
