//! The asynchronous half: puts what the spooler reads, with the next read already under way.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use flafka_flow::counters::{ComponentKind, Counters, Metric, sets};
use flafka_flow::registry::{BuildContext, BuildError, SourceFactory, TypeNames};
use flafka_flow::source::{BuiltSource, Source, SourceContext, SourceError};
use thiserror::Error;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::candidates::Candidates;
use super::config::{DeletePolicy, SpooldirConfig, TrackingPolicy};
use super::spooler::{Options, Retirement, Spooler, Step};
use super::tracker::{self, Tracker};
use crate::deserializers::{Opening, Piece};
use crate::name_pattern::{NamePattern, PatternError};

/// First wait after a refused put; doubles up to `maxBackoff` (Flume's number).
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// Under load the tracker is appended to at most this often.
const APPEND_EVERY: Duration = Duration::from_millis(2);

/// Makes [`SpooldirSource`]s.
pub struct SpooldirSourceFactory;

impl SourceFactory for SpooldirSourceFactory {
    type Config = SpooldirConfig;
    const NAMES: TypeNames = TypeNames {
        alias: Some("spooldir"),
        also: &[],
        classes: &["org.apache.flume.source.SpoolDirectorySource"],
    };

    fn build(config: SpooldirConfig, context: &BuildContext) -> Result<BuiltSource, BuildError> {
        let counters = context.counters(ComponentKind::Source, sets::SOURCE, true);
        Ok(BuiltSource::Driven(Box::new(SpooldirSource {
            config,
            counters,
        })))
    }

    fn batch_size(config: &SpooldirConfig) -> Option<usize> {
        Some(config.batch_size.0)
    }
}

/// Why the source does not start.
#[derive(Debug, Error)]
enum StartError {
    #[error("pattern {pattern}")]
    Pattern {
        pattern: String,
        #[source]
        cause: PatternError,
    },
    #[error("spoolDir {} does not exist or cannot be listed; create it or correct the key", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("cannot create and delete files in spoolDir {}; mend the permissions, or use trackingPolicy = tracker_dir", path.display())]
    NotWritable {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("cannot write into trackerDir {}", path.display())]
    TrackerDir {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
}

/// The source.
pub struct SpooldirSource {
    config: SpooldirConfig,
    counters: Arc<Counters>,
}

/// The source at work.
struct Running<'a> {
    config: &'a SpooldirConfig,
    counters: &'a Arc<Counters>,
    context: &'a SourceContext,
    spooler: Arc<Mutex<Spooler>>,
    tracker: Arc<Mutex<Tracker>>,
    next_append: Instant,
    appending: Option<JoinHandle<()>>,
}

#[async_trait]
impl Source for SpooldirSource {
    async fn run(&mut self, context: &SourceContext) -> Result<(), SourceError> {
        self.counters.started(context.clock.as_ref());
        let (config, counters) = (self.config.clone(), Arc::clone(&self.counters));
        let opened = blocking(move || open(&config, counters)).await?;
        let (spooler, tracker) =
            opened.map_err(|error| SourceError::retriable("start", "spooldir", error))?;
        let mut running = Running {
            config: &self.config,
            counters: &self.counters,
            context,
            spooler: Arc::new(Mutex::new(spooler)),
            tracker,
            next_append: Instant::now(),
            appending: None,
        };
        let outcome = running.work().await;
        running.settle().await;
        outcome
    }
}

impl Running<'_> {
    async fn work(&mut self) -> Result<(), SourceError> {
        let mut step = self.start_step(Spooler::next);
        while !self.context.lifecycle.is_stopping() {
            match join(step).await? {
                Step::Pieces(pieces) => {
                    step = self.start_step(Spooler::next);
                    for piece in pieces {
                        if !self.put(&piece).await? {
                            return Ok(());
                        }
                        lock(&self.tracker).advance(piece.position);
                        self.keep_tracker();
                    }
                    continue;
                }
                Step::EndOfFile => join(self.start_step(Spooler::finish)).await?,
                Step::Failed(error) => {
                    join(self.start_step(move |spooler, now| spooler.give_up(&error, now))).await?;
                }
                Step::Idle => self.pause(self.config.poll_delay.0).await,
            }
            step = self.start_step(Spooler::next);
        }
        Ok(())
    }

    /// Starts a step of the spooler on a blocking thread.
    fn start_step<T: Send + 'static>(
        &self,
        step: impl FnOnce(&mut Spooler, Instant) -> T + Send + 'static,
    ) -> JoinHandle<T> {
        let spooler = Arc::clone(&self.spooler);
        let now = Instant::now();
        tokio::task::spawn_blocking(move || step(&mut lock(&spooler), now))
    }

    /// Puts a batch, again and again while the channels are full; false when the source is to stop.
    async fn put(&self, piece: &Piece) -> Result<bool, SourceError> {
        let events = piece.batch.len() as u64;
        let mut wait = FIRST_RETRY.min(self.config.max_backoff.0);
        loop {
            if self.context.lifecycle.is_stopping() {
                return Ok(false);
            }
            self.counters.add(Metric::AppendBatchReceivedCount, 1);
            self.counters.add(Metric::EventReceivedCount, events);
            let Err(error) = self.context.channels.process(piece.batch.clone()).await else {
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
            self.pause(wait).await;
            wait = self.config.max_backoff.0.min(wait * 2);
        }
    }

    async fn pause(&self, pause: Duration) {
        // A pause of nothing would keep the thread busy for ever.
        let pause = pause.max(Duration::from_millis(1));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.context.lifecycle.stopping() => {}
        }
    }

    /// Starts appending to the tracker when it is due and not under way.
    fn keep_tracker(&mut self) {
        let now = Instant::now();
        let busy = self
            .appending
            .as_ref()
            .is_some_and(|job| !job.is_finished());
        if busy || now < self.next_append || !lock(&self.tracker).is_behind() {
            return;
        }
        self.next_append = now + APPEND_EVERY;
        let (tracker, counters) = (Arc::clone(&self.tracker), Arc::clone(self.counters));
        self.appending = Some(tokio::task::spawn_blocking(move || {
            append(&tracker, &counters)
        }));
    }

    /// Waits for the work under way and writes the last position.
    async fn settle(&mut self) {
        let (tracker, counters) = (Arc::clone(&self.tracker), Arc::clone(self.counters));
        let settled = self.start_step(move |_, _| append(&tracker, &counters));
        if let Err(error) = settled.await {
            tracing::error!(%error, "write tracker");
        }
    }
}

fn append(tracker: &Mutex<Tracker>, counters: &Counters) {
    if let Err(error) = lock(tracker).append() {
        counters.add(Metric::GenericProcessingFail, 1);
        tracing::error!(%error, "write tracker; after a restart the file comes again from its start");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SourceError> {
    join(tokio::task::spawn_blocking(work)).await
}

async fn join<T>(job: JoinHandle<T>) -> Result<T, SourceError> {
    job.await
        .map_err(|error| SourceError::retriable("run", "spool reader", error))
}

/// Checks the folders and opens the tracker. Blocks.
fn open(
    config: &SpooldirConfig,
    counters: Arc<Counters>,
) -> Result<(Spooler, Arc<Mutex<Tracker>>), StartError> {
    let pattern = |pattern: &str| {
        NamePattern::new(pattern).map_err(|cause| StartError::Pattern {
            pattern: pattern.to_owned(),
            cause,
        })
    };
    let in_folder = |cause| StartError::Folder {
        path: config.spool_dir.clone(),
        cause,
    };
    let folder = std::path::absolute(&config.spool_dir).map_err(in_folder)?;
    std::fs::read_dir(&folder).map_err(in_folder)?;
    let retirement = match (config.delete_policy, config.tracking_policy) {
        (DeletePolicy::Immediate, _) => Retirement::Delete,
        (DeletePolicy::Never, TrackingPolicy::Rename) => Retirement::Rename,
        (DeletePolicy::Never, TrackingPolicy::TrackerDir) => Retirement::Mark,
    };
    if retirement != Retirement::Mark {
        sing(&folder).map_err(|cause| StartError::NotWritable {
            path: folder.clone(),
            cause,
        })?;
    }
    let tracker_folder = folder.join(&config.tracker_dir);
    let resume =
        open_tracker(&tracker_folder, &counters).map_err(|cause| StartError::TrackerDir {
            path: tracker_folder.clone(),
            cause,
        })?;
    let options = Options {
        order: config.consume_order,
        retirement,
        opening: Opening {
            config: config.effective_deserializer(),
            charset: config.input_charset,
            policy: config.decode_error_policy,
        },
        batch_size: config.batch_size.0,
        file_header: config.file_header.then(|| config.file_header_key.clone()),
        basename_header: config
            .basename_header
            .then(|| config.basename_header_key.clone()),
        candidates: Candidates {
            include: pattern(&config.include_pattern)?,
            ignore: pattern(&config.ignore_pattern)?,
            suffix: config.file_suffix.clone(),
            recursive: config.recursive,
            marked: config.tracking_policy == TrackingPolicy::TrackerDir,
            tracker_folder: tracker_folder.clone(),
            folder,
        },
    };
    let tracker = Arc::new(Mutex::new(Tracker::new(&tracker_folder)));
    let spooler = Spooler::new(options, resume, Arc::clone(&tracker), counters);
    Ok((spooler, tracker))
}

/// What the tracker in `folder` says; the folder is created. A damaged one is reported.
fn open_tracker(folder: &Path, counters: &Counters) -> io::Result<Option<tracker::Tracked>> {
    std::fs::create_dir_all(folder)?;
    let found = tracker::load(folder)?;
    tracker::probe(folder)?;
    match found {
        None => Ok(None),
        Some(Ok(tracked)) => Ok(Some(tracked)),
        Some(Err(error)) => {
            counters.add(Metric::GenericProcessingFail, 1);
            tracing::error!(folder = %folder.display(), %error, "the tracker is damaged, reading the file it was about from its start");
            Ok(None)
        }
    }
}

/// Flume's canary: whether files can be created, read and deleted in the folder.
fn sing(folder: &Path) -> io::Result<()> {
    const SONG: &[u8] = b"testing file permissions\n";
    let name = format!("flume-spooldir-perm-check-{}.canary", uuid::Uuid::new_v4());
    let path = folder.join(name);
    std::fs::write(&path, SONG)?;
    let heard = std::fs::read(&path);
    std::fs::remove_file(&path)?;
    if heard? != SONG {
        return Err(io::Error::other("a file does not hold what was written"));
    }
    Ok(())
}
