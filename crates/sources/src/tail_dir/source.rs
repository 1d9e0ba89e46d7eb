//! The asynchronous half: puts what the tailer reads, with the next read already under way, and
//! keeps the positions written.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use flafka_flow::counters::{ComponentKind, Counters, Metric, sets};
use flafka_flow::registry::{BuildContext, BuildError, SourceFactory, TypeNames};
use flafka_flow::source::{BuiltSource, PollableSource, SourceContext, SourceError, Status};
use thiserror::Error;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::config::TaildirConfig;
use super::file::{CHUNK_BYTES, Chunk, Put, identity_of};
use super::finder::GroupError;
use super::journal::{Entry, Mark};
use super::positions::{ParsedPositions, PositionsError};
use super::store::{Loaded, SAVE_BYTES, Store};
use super::tailer::{Options, Step, Tailer};

/// First wait after a refused put; doubles up to the longest (Flume's numbers).
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// Pause after a round that gave less than a chunk; an idle source doubles it.
const SHORT_PAUSE: Duration = Duration::from_millis(5);
const LONG_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause, for so many files that a look takes long.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A look may take one part in this many of the time.
const LOOK_SHARE: u32 = 10;
/// Under load the journal is appended to at most this often.
const APPEND_EVERY: Duration = Duration::from_millis(2);

/// Makes [`TaildirSource`]s.
pub struct TaildirSourceFactory;

impl SourceFactory for TaildirSourceFactory {
    type Config = TaildirConfig;
    const NAMES: TypeNames = TypeNames {
        alias: Some("taildir"),
        also: &[],
        classes: &["org.apache.flume.source.taildir.TaildirSource"],
    };

    fn build(config: TaildirConfig, context: &BuildContext) -> Result<BuiltSource, BuildError> {
        let position_file = config.position_path(&context.home).map_err(|error| {
            context.error("cannot tell where positionFile is", Some(error.into()))
        })?;
        let counters = context.counters(ComponentKind::Source, sets::SOURCE, true);
        Ok(BuiltSource::Polled(Box::new(TaildirSource {
            config,
            position_file,
            counters,
            running: None,
            pause: SHORT_PAUSE,
        })))
    }

    fn batch_size(config: &TaildirConfig) -> Option<usize> {
        Some(config.batch_size.0)
    }
}

/// Why the source does not start.
#[derive(Debug, Error)]
enum StartError {
    #[error("{key}: {cause}")]
    Group { key: String, cause: GroupError },
    #[error("folder {} of a file group does not exist or cannot be read; create it or correct `filegroups`", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("position file {}", path.display())]
    Store {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("position file {}: {cause}", path.display())]
    Positions {
        path: PathBuf,
        cause: PositionsError,
    },
}

/// The source.
pub struct TaildirSource {
    config: TaildirConfig,
    position_file: PathBuf,
    counters: Arc<Counters>,
    running: Option<Running>,
    pause: Duration,
}

struct Running {
    tailer: Arc<Mutex<Tailer>>,
    store: Arc<Store>,
    next_save: Instant,
    next_append: Instant,
    saving: Option<JoinHandle<()>>,
    appending: Option<JoinHandle<()>>,
}

#[async_trait]
impl PollableSource for TaildirSource {
    async fn start(&mut self, context: &SourceContext) -> Result<(), SourceError> {
        self.counters.started(context.clock.as_ref());
        let config = self.config.clone();
        let (path, counters) = (self.position_file.clone(), Arc::clone(&self.counters));
        let now = Instant::now();
        let opened = tokio::task::spawn_blocking(move || open(&config, path, counters, now)).await;
        let opened = opened.map_err(|error| SourceError::retriable("start", "taildir", error))?;
        let (tailer, store) =
            opened.map_err(|error| SourceError::retriable("start", "taildir", error))?;
        self.running = Some(Running {
            tailer: Arc::new(Mutex::new(tailer)),
            store,
            next_save: now,
            next_append: now,
            saving: None,
            appending: None,
        });
        Ok(())
    }

    /// One round; afterwards it has already paused as long as it is sensible (see the module), so
    /// it says [`Status::Ready`] also when there was nothing, and Flume's back-off of up to 5 s
    /// does not add to the latency.
    ///
    /// # Cancel safety
    /// Cancel-safe but for the put that is under way: what was read and not put is read again.
    async fn process(&mut self, context: &SourceContext) -> Result<Status, SourceError> {
        let mut bytes = 0;
        let mut step = self.read(Tailer::begin)?;
        let look_took = loop {
            match step
                .await
                .map_err(|error| SourceError::retriable("run", "tail reader", error))?
            {
                Step::Done(look_took) => break look_took,
                Step::Chunk(chunk) => {
                    step = self.read(Tailer::next)?;
                    bytes += chunk.bytes;
                    if !self.put_chunk(context, chunk).await? {
                        return Ok(Status::Backoff);
                    }
                }
            }
        };
        self.keep_positions(true);
        self.pause_after(context, bytes, look_took).await;
        Ok(Status::Ready)
    }

    async fn stop(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        for job in [running.saving, running.appending].into_iter().flatten() {
            if let Err(error) = job.await {
                tracing::error!(%error, "write positions");
            }
        }
        let store = running.store;
        let saved = tokio::task::spawn_blocking(move || {
            let saved = store.save();
            (saved, store)
        });
        match saved.await {
            Ok((Ok(()), _)) => {}
            Ok((Err(error), store)) => self.report_position_failure(&store, &error),
            Err(error) => tracing::error!(%error, "write positions"),
        }
    }
}

impl TaildirSource {
    fn running(&mut self) -> Result<&mut Running, SourceError> {
        let not_started = || SourceError::retriable("poll", "taildir", "it was not started");
        self.running.as_mut().ok_or_else(not_started)
    }

    /// Starts a step of the tailer on a blocking thread.
    fn read(
        &mut self,
        step: fn(&mut Tailer, Instant) -> Step,
    ) -> Result<JoinHandle<Step>, SourceError> {
        let tailer = Arc::clone(&self.running()?.tailer);
        let now = Instant::now();
        Ok(tokio::task::spawn_blocking(move || {
            let mut tailer = tailer.lock().unwrap_or_else(PoisonError::into_inner);
            step(&mut tailer, now)
        }))
    }

    /// Puts all batches of a chunk; false when the source is to stop.
    async fn put_chunk(
        &mut self,
        context: &SourceContext,
        chunk: Chunk,
    ) -> Result<bool, SourceError> {
        for put in chunk.puts {
            if !self.put(context, &put).await? {
                return Ok(false);
            }
            self.running()?
                .store
                .advance(chunk.id, put.position, put.tail);
            self.keep_positions(false);
            if context.lifecycle.is_stopping() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Puts a batch, again and again while the channels are full, as Flume does; false when the
    /// source is to stop.
    async fn put(&self, context: &SourceContext, put: &Put) -> Result<bool, SourceError> {
        let events = put.batch.len() as u64;
        let mut wait = FIRST_RETRY;
        loop {
            self.counters.add(Metric::AppendBatchReceivedCount, 1);
            self.counters.add(Metric::EventReceivedCount, events);
            let Err(error) = context.channels.process(put.batch.clone()).await else {
                self.counters.add(Metric::AppendBatchAcceptedCount, 1);
                self.counters.add(Metric::EventAcceptedCount, events);
                return Ok(true);
            };
            self.counters.add(Metric::ChannelWriteFail, 1);
            if !error.is_retriable() {
                return Err(error.into());
            }
            tracing::warn!(
                error = error.chain(),
                wait_ms = wait.as_millis(),
                "put refused, trying again"
            );
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = context.lifecycle.stopping() => return Ok(false),
            }
            wait = LONGEST_RETRY.min(wait * 2);
        }
    }

    /// Starts writing the journal or the position file when it is due and not under way.
    fn keep_positions(&mut self, round_over: bool) {
        let interval = self.config.write_position_interval.0;
        let counters = Arc::clone(&self.counters);
        let Some(running) = &mut self.running else {
            return;
        };
        let now = Instant::now();
        if is_free(&running.saving)
            && (now >= running.next_save || running.store.unsaved_bytes() >= SAVE_BYTES)
        {
            running.next_save = now + interval;
            running.saving = Some(in_background(&running.store, &counters, Store::save));
        }
        if is_free(&running.appending)
            && (round_over || now >= running.next_append)
            && running.store.has_advances()
        {
            running.next_append = now + APPEND_EVERY;
            running.appending = Some(in_background(&running.store, &counters, Store::append));
        }
    }

    async fn pause_after(&mut self, context: &SourceContext, bytes: u64, look_took: Duration) {
        if bytes >= CHUNK_BYTES as u64 {
            self.pause = SHORT_PAUSE;
            return;
        }
        self.pause = match bytes {
            0 => LONG_PAUSE.min(self.pause * 2),
            _ => SHORT_PAUSE,
        };
        let pause = self.pause.max(look_took * LOOK_SHARE).min(LONGEST_PAUSE);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = context.lifecycle.stopping() => {}
        }
    }

    fn report_position_failure(&self, store: &Store, error: &std::io::Error) {
        report_position_failure(store, &self.counters, error);
    }
}

fn is_free(job: &Option<JoinHandle<()>>) -> bool {
    job.as_ref().is_none_or(JoinHandle::is_finished)
}

fn in_background(
    store: &Arc<Store>,
    counters: &Arc<Counters>,
    write: fn(&Store) -> std::io::Result<()>,
) -> JoinHandle<()> {
    let (store, counters) = (Arc::clone(store), Arc::clone(counters));
    tokio::task::spawn_blocking(move || {
        if let Err(error) = write(&store) {
            report_position_failure(&store, &counters, &error);
        }
    })
}

/// The data goes on; more of it comes again should the process end now.
fn report_position_failure(store: &Store, counters: &Counters, error: &std::io::Error) {
    counters.add(Metric::GenericProcessingFail, 1);
    tracing::error!(path = %store.path().display(), %error, "write positions");
}

/// Opens everything. Blocks.
fn open(
    config: &TaildirConfig,
    position_file: PathBuf,
    counters: Arc<Counters>,
    now: Instant,
) -> Result<(Tailer, Arc<Store>), StartError> {
    let groups = config
        .groups()
        .map_err(|(key, cause)| StartError::Group { key, cause })?;
    for group in &groups {
        let path = group.folder().to_owned();
        if let Err(cause) = std::fs::read_dir(&path) {
            return Err(StartError::Folder { path, cause });
        }
    }
    let (store, loaded) = Store::open(&position_file).map_err(|cause| StartError::Store {
        path: position_file.clone(),
        cause,
    })?;
    let known = match loaded {
        Loaded::Ours(entries) => entries,
        Loaded::Flume(parsed) => adopt(parsed, &position_file, &counters)?,
    };
    let options = Options {
        batch_size: config.batch_size.0,
        max_batch_count: config.max_batch_count.0,
        skip_to_end: config.skip_to_end,
        byte_offset: config.byte_offset_header,
        idle_timeout: config.idle_timeout.0,
        file_header: config.file_header.then(|| config.file_header_key.clone()),
        max_open: max_open_files(),
    };
    let store = Arc::new(store);
    let tailer = Tailer::new(options, groups, known, Arc::clone(&store), counters, now);
    Ok((tailer, store))
}

/// The entries of a position file that Flume would use: those whose inode and path still belong
/// together.
fn adopt(
    parsed: ParsedPositions,
    path: &std::path::Path,
    counters: &Counters,
) -> Result<Vec<Entry>, StartError> {
    match parsed.fault {
        None => {}
        Some(cause @ PositionsError::Entry { .. }) => {
            return Err(StartError::Positions {
                path: path.to_owned(),
                cause,
            });
        }
        Some(damage) => {
            counters.add(Metric::GenericProcessingFail, 1);
            tracing::error!(path = %path.display(), %damage, entries = parsed.positions.len(), "use the position file up to the damage; files behind it are read again");
        }
    }
    let mut known = Vec::new();
    for position in parsed.positions {
        let found = std::fs::metadata(&position.path).map(|metadata| identity_of(&metadata));
        match found {
            Ok(identity) if identity.inode == position.inode => known.push(Entry {
                identity,
                path: position.path.into(),
                position: position.position,
                head: Mark::default(),
                tail: Mark::default(),
            }),
            _ => tracing::info!(
                path = position.path,
                inode = position.inode,
                "file of the position file is not there any more"
            ),
        }
    }
    Ok(known)
}

/// A part of what the process may have open.
fn max_open_files() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let limit = limit
        .and_then(|limit| usize::try_from(limit).ok())
        .unwrap_or(usize::MAX);
    (limit / 3).clamp(16, 2048)
}
