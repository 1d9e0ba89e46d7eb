//! Opening the volumes of a channel, all at the same time, and those that have failed again.
//!
//! What is wrong with the configuration (a directory in use or of Flume's, keys that do not fit) keeps the whole
//! channel from starting; what is wrong with one disk keeps that directory out, as long as another one works.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use flafka_flow::channel::{ChannelError, error_chain};
use flafka_flow::counters::Metric;
use flafka_log_store::{
    CommitError, Log, LogOptions, OpenError, ReadError, RecoveryReport, StreamId, StreamSettings,
    SystemClock,
};
use tokio::task::JoinSet;
use tracing::{info, warn};

use super::FileChannelConfig;
use super::channel::{Shared, Volumes};
use super::encryption::{DataKeys, EncryptionError, MasterKeys};
use super::foreign::{self, FlumeDir};
use super::siblings;
use super::volume::{Open, Volume};

/// Name of the channel's stream in its log.
pub(super) const STREAM: &str = "channel";
/// Size of the log's journal files.
pub(super) const JOURNAL_FILE_BYTES: u64 = 32 << 20;

/// Why a volume could not be opened.
struct OpenFault {
    error: ChannelError,
    /// The channel must not start without it.
    is_fatal: bool,
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

impl Shared {
    /// Opens every data directory. Those that failed are among the volumes, marked; if all did, it is an error.
    pub(super) async fn open_volumes(self: &Arc<Self>) -> Result<Volumes, ChannelError> {
        let dirs: Vec<PathBuf> = self.config.data_dirs(&self.context.home);
        let flumes = self.flume_dirs(dirs.clone()).await?;
        let cache_bytes = self.config.cache_bytes.0 / dirs.len() as u64;
        let volume = |(index, dir): (usize, PathBuf)| {
            // Known by one name, wherever the process was started.
            let dir = std::path::absolute(&dir).unwrap_or(dir);
            Arc::new(Volume::new(index, dir, true, cache_bytes))
        };
        let mut volumes: Vec<_> = dirs.into_iter().enumerate().map(volume).collect();
        let opened = match self.open_all(&volumes).await {
            Ok(()) => self.open_former(&mut volumes, cache_bytes).await,
            Err(error) => Err(error),
        };
        match opened.and_then(|()| self.refuse_not_imported(&flumes, &volumes)) {
            Ok(()) => Ok(volumes.into()),
            Err(error) => {
                for volume in &volumes {
                    self.close_quietly(volume).await;
                }
                Err(error)
            }
        }
    }

    /// The directories with Flume's files; an error when nothing can have been imported from them.
    async fn flume_dirs(&self, dirs: Vec<PathBuf>) -> Result<Vec<FlumeDir>, ChannelError> {
        let found = tokio::task::spawn_blocking(move || foreign::find(&dirs)).await;
        let found = found.map_err(|error| self.failed("look for Flume's files", true, error))?;
        found.map_err(|error| self.failed("open the log", true, error))
    }

    async fn refuse_flumes_of(&self, volumes: &[Arc<Volume>]) -> Result<(), ChannelError> {
        let dirs = volumes.iter().map(|volume| volume.dir.clone()).collect();
        let flumes = self.flume_dirs(dirs).await?;
        self.refuse_not_imported(&flumes, volumes)
    }

    /// An import notes in one log what it has read from all directories.
    fn refuse_not_imported(
        &self,
        flumes: &[FlumeDir],
        volumes: &[Arc<Volume>],
    ) -> Result<(), ChannelError> {
        let opens = volumes.iter().filter_map(|volume| volume.open());
        let logs: Vec<Log> = opens.map(|open| open.log).collect();
        foreign::refuse_not_imported(flumes, &logs)
            .map_err(|error| self.failed("open the log", true, error))
    }

    async fn open_all(self: &Arc<Self>, volumes: &[Arc<Volume>]) -> Result<(), ChannelError> {
        let mut opening = JoinSet::new();
        for volume in volumes {
            let (shared, volume) = (Arc::clone(self), Arc::clone(volume));
            opening.spawn(async move { shared.open_volume(&volume).await });
        }
        let (mut first_fault, mut any_opened, mut fatal) = (None, false, None);
        while let Some(opened) = opening.join_next().await {
            let panicked = |error| OpenFault {
                error: self.failed("open the log", true, error),
                is_fatal: true,
            };
            match opened.map_err(panicked).flatten() {
                Ok(()) => any_opened = true,
                Err(fault) if fault.is_fatal => fatal = Some(fault.error),
                Err(fault) => {
                    if volumes.len() > 1 {
                        let error = error_chain(&fault.error);
                        warn!(
                            channel = &*self.name,
                            error,
                            "a data directory cannot be opened; the channel starts without it"
                        );
                    }
                    first_fault.get_or_insert(fault.error);
                }
            }
        }
        match fatal.or(first_fault.filter(|_| !any_opened)) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Opens the directories that are no longer named and still hold events, and notes the new list in all.
    async fn open_former(
        self: &Arc<Self>,
        volumes: &mut Vec<Arc<Volume>>,
        cache_bytes: u64,
    ) -> Result<(), ChannelError> {
        let failed = |error| self.failed("note the data directories", true, error);
        let opens: Vec<Open> = volumes.iter().filter_map(|volume| volume.open()).collect();
        let mut known: Vec<PathBuf> = volumes.iter().map(|volume| volume.dir.clone()).collect();
        for dir in siblings::of(&opens) {
            if known.contains(&dir) {
                continue;
            }
            if !is_there(&FileChannelConfig::log_dir(&dir)) {
                if !is_there(&dir) {
                    warn!(channel = &*self.name, dir = %dir.display(), "a former data directory is not there: if it holds events, put it back into dataDirs");
                    known.push(dir);
                }
                continue;
            }
            let volume = Arc::new(Volume::new(volumes.len(), dir.clone(), false, cache_bytes));
            match self.open_volume(&volume).await {
                // Not among the settings, so it keeps nothing from starting; it may be another channel's now.
                Err(fault) if fault.is_fatal => {
                    let error = error_chain(&fault.error);
                    warn!(
                        channel = &*self.name,
                        error,
                        "a former data directory cannot be used; if it holds events, they wait"
                    );
                    known.push(dir);
                    continue;
                }
                Err(fault) => {
                    let error = error_chain(&fault.error);
                    warn!(
                        channel = &*self.name,
                        error, "a former data directory cannot be opened; its events wait"
                    );
                }
                Ok(()) if !volume.is_waiting() => {
                    if let Some(open) = volume.open() {
                        siblings::forget(&open).await.map_err(failed)?;
                    }
                    info!(channel = &*self.name, dir = %dir.display(), "a former data directory is empty and can be removed");
                    self.close_quietly(&volume).await;
                    continue;
                }
                Ok(()) => {
                    warn!(channel = &*self.name, dir = %dir.display(), "dataDirs no longer names this directory, which holds events: they are delivered, nothing new is put there");
                }
            }
            known.push(dir);
            volumes.push(volume);
        }
        siblings::note(&opens, &known).await.map_err(failed)
    }

    async fn close_quietly(&self, volume: &Volume) {
        if let Err(error) = volume.close().await {
            let error = error_chain(&error);
            warn!(
                channel = &*self.name,
                error, "the log did not close cleanly"
            );
        }
    }

    /// Opens those volumes again that have failed.
    pub(super) async fn reopen_failed(self: &Arc<Self>) -> Result<(), ChannelError> {
        let mut reopened = Ok(());
        let volumes = self.volumes();
        for volume in volumes.iter().filter(|volume| volume.has_failed()) {
            self.close_quietly(volume).await;
            if let Err(fault) = self.open_volume(volume).await {
                reopened = Err(fault.error);
            } else if let Err(error) = self.refuse_flumes_of(&volumes).await {
                // What could not be seen at the start.
                self.close_quietly(volume).await;
                volume.set_failed();
                reopened = Err(error);
            } else {
                self.filled.notify_one();
            }
        }
        if !self.is_current(&volumes) {
            // Stopped meanwhile.
            for volume in volumes.iter() {
                self.close_quietly(volume).await;
            }
            return Err(self.is_closed());
        }
        let unhealthy = i64::from(reopened.is_err());
        self.counters.set(Metric::Unhealthy, unhealthy);
        reopened
    }

    /// Opens one volume and takes it into use; it is marked as failed when that does not work.
    async fn open_volume(&self, volume: &Volume) -> Result<(), OpenFault> {
        let opened = self.open_log(volume).await;
        let opened = match opened {
            Ok(open) => self.install(volume, open).map_err(|error| OpenFault {
                error,
                is_fatal: false,
            }),
            Err(fault) => Err(fault),
        };
        opened.inspect_err(|_| volume.set_failed())
    }

    async fn open_log(&self, volume: &Volume) -> Result<Open, OpenFault> {
        let options = LogOptions {
            journal_file_bytes: JOURNAL_FILE_BYTES,
            checkpoint_interval: self.config.checkpoint_interval(),
            min_free_bytes: self.config.min_free_bytes(),
            ..LogOptions::new(FileChannelConfig::log_dir(&volume.dir))
        };
        let fs = Arc::clone(&self.fs);
        let key_source = self.config.key_source(&self.context.home);
        let opening = tokio::task::spawn_blocking(move || {
            let fatal = |error: Cause| (error, true);
            let masters = key_source.map(MasterKeys::open).transpose();
            let masters = masters.map_err(|error| fatal(error.into()))?;
            let (log, report) =
                Log::open(options, fs, Arc::new(SystemClock::new())).map_err(|error| {
                    let is_fatal = is_fatal(&error);
                    (Cause::from(error), is_fatal)
                })?;
            Ok::<_, (Cause, bool)>((log, report, masters))
        });
        let opened = opening
            .await
            .unwrap_or_else(|error| Err((error.into(), true)));
        let (log, report, masters) = opened.map_err(|(error, is_fatal)| OpenFault {
            error: self.failed("open the log", true, error),
            is_fatal,
        })?;
        tell(&self.name, &volume.dir, &report);
        let opened = self.open_stream(volume, &log, masters).await;
        if opened.is_err()
            && let Err(error) = log.close().await
        {
            let error = error_chain(&error);
            warn!(
                channel = &*self.name,
                error, "the log did not close cleanly"
            );
        }
        opened
    }

    async fn open_stream(
        &self,
        volume: &Volume,
        log: &Log,
        masters: Option<MasterKeys>,
    ) -> Result<Open, OpenFault> {
        let settings = StreamSettings {
            segment_bytes: self.config.segment_bytes(),
            durability: self.config.durability(),
            max_batch_bytes: i32::MAX as u32,
            acked: true,
            ..StreamSettings::default()
        };
        let failed = |error: CommitError| OpenFault {
            error: self.failed("create the stream", true, error),
            is_fatal: false,
        };
        let stream = match log.stream(STREAM) {
            None => log.create_stream(STREAM, settings).await.map_err(failed)?,
            Some(stream) => {
                log.update_stream(stream, settings).await.map_err(failed)?;
                stream
            }
        };
        let keys = self.open_keys(log, stream, masters).await?;
        Ok(Open {
            log: log.clone(),
            stream,
            keys: Arc::new(keys),
            closed: volume.generation(),
        })
    }

    async fn open_keys(
        &self,
        log: &Log,
        stream: StreamId,
        masters: Option<MasterKeys>,
    ) -> Result<DataKeys, OpenFault> {
        let failed = |error: ReadError| OpenFault {
            error: self.failed("read the log", true, error),
            is_fatal: false,
        };
        let bounds = log.bounds(stream).map_err(failed)?;
        let low = log.unacked(stream).map_err(failed)?.low;
        let waiting = (low.max(bounds.log_start).0, bounds.high_watermark.0);
        let roll_bytes = u64::from(self.config.segment_bytes());
        let keys = DataKeys::open(log, stream, masters, waiting, roll_bytes).await;
        keys.map_err(|error| OpenFault {
            is_fatal: !matches!(error, EncryptionError::Store(_)),
            error: self.failed("open the encryption keys", error.is_retriable(), error),
        })
    }
}

/// Says how a log was opened; what was nothing is left out. Damage was named where it was found.
fn tell(channel: &str, dir: &Path, report: &RecoveryReport) {
    let some = |count: u64| (count > 0).then_some(count);
    let how = match (report.created, report.clean) {
        (true, _) => "made new",
        (false, true) => "closed in order before",
        (false, false) => "not closed before, recovered",
    };
    info!(
        channel,
        dir = %dir.display(),
        how,
        replayed_frames = some(report.frames),
        dropped_frames = some(report.dropped_frames),
        restored_bytes = some(report.redone_bytes),
        checked_bytes = some(report.checked_bytes),
        damaged_places = some(report.damages.len() as u64),
        "file channel opened its log"
    );
    for cut in &report.cuts {
        let (file, bytes) = (cut.path.display(), cut.bytes);
        match cut.acknowledged_weakly {
            true => {
                warn!(channel, %file, bytes, "the end of a file is cut: what a power cut had lost, acknowledged before its sync")
            }
            false => {
                info!(channel, %file, bytes, "the end of a file is cut: it was never acknowledged")
            }
        }
    }
    for path in &report.set_aside {
        warn!(channel, path = %path.display(), "set aside at the start: it belongs to nothing that the log knows");
    }
}

/// Whether the settings are wrong rather than the disk.
fn is_fatal(error: &OpenError) -> bool {
    match error {
        OpenError::Locked { .. }
        | OpenError::BadOption { .. }
        | OpenError::UnknownVersion { .. } => true,
        OpenError::Io(_)
        | OpenError::Corrupt { .. }
        | OpenError::NodeFileMissing { .. }
        | OpenError::Thread { .. } => false,
    }
}

fn is_there(dir: &Path) -> bool {
    std::fs::metadata(dir).is_ok()
}
