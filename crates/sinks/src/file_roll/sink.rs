//! The sink: take, serialize, write, commit.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use flafka_flow::Batch;
use flafka_flow::channel::{Channel, Lease, TakeLimit, error_chain};
use flafka_flow::clock::Clock;
use flafka_flow::counters::{ComponentKind, Counters, Metric, sets};
use flafka_flow::registry::BuildContext;
use flafka_flow::sink::{Sink, SinkError, Status};
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use super::config::FileRollSinkConfig;
use super::names::FileNames;
use super::output::{Open, Output, OutputError, sync_parent};

/// Leases that wait in the channel are written together up to about this many bytes: one write
/// (and one sync) for many small transactions.
const GROUP_BYTES: u64 = 1 << 20;
/// How long a further lease may take to come before the group is written.
const GROUP_WAIT: Duration = Duration::from_millis(1);
/// Names tried before giving up, when files with these names are there already.
const NAMES_TRIED: usize = 10_000;

/// Writes events into files.
pub(super) struct FileRollSink {
    config: FileRollSinkConfig,
    /// Whether events are on the disk before they are committed.
    sync: bool,
    channel: Arc<dyn Channel>,
    counters: Arc<Counters>,
    clock: Arc<dyn Clock>,
    names: FileNames,
    open: Arc<Open>,
    current: Option<Output>,
    next_roll: Option<Instant>,
}

/// Leases whose events are written together. When it ends without commit, the youngest goes back
/// first, so that any channel ends up in its old order.
#[derive(Default)]
struct Group(VecDeque<Lease>);

impl Drop for Group {
    fn drop(&mut self) {
        while let Some(lease) = self.0.pop_back() {
            lease.rollback();
        }
    }
}

impl FileRollSink {
    pub(super) fn new(
        config: FileRollSinkConfig,
        channel: Arc<dyn Channel>,
        context: &BuildContext,
        open: Open,
    ) -> Self {
        Self {
            names: FileNames::new(&config, Arc::clone(&context.clock)),
            sync: config.fsync.unwrap_or(channel.is_durable()),
            config,
            channel,
            counters: context.counters(ComponentKind::Sink, sets::SINK, true),
            clock: Arc::clone(&context.clock),
            open: Arc::new(open),
            current: None,
            next_roll: None,
        }
    }
}

#[async_trait]
impl Sink for FileRollSink {
    async fn start(&mut self) -> Result<(), SinkError> {
        let directory = &self.config.directory;
        let shown = directory.display();
        match std::fs::metadata(directory) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                let cause = "it is not a directory";
                return Err(SinkError::retriable("use", shown.to_string(), cause));
            }
            Err(error) => {
                let object = format!("{shown}; create the directory, file_roll does not");
                return Err(SinkError::retriable("use", object, error));
            }
        }
        self.counters.started(self.clock.as_ref());
        let interval = self.config.roll_interval.0;
        self.next_roll = (!interval.is_zero())
            .then(|| Instant::now().checked_add(interval))
            .flatten();
        Ok(())
    }

    async fn process(&mut self) -> Result<Status, SinkError> {
        self.recover().await;
        self.roll_when_due().await?;
        if self.config.empty_files {
            self.ensure_open().await?;
        }
        let limit = TakeLimit::events(self.config.batch_size.0);
        let taken = self.channel.take(limit).await;
        let first = taken.inspect_err(|_| self.counters.add(Metric::ChannelReadFail, 1))?;
        if first.is_empty() {
            return Ok(Status::Backoff);
        }
        let mut group = self.gather(first, limit).await;
        if let Err(error) = self.deliver(&mut group).await {
            self.counters.add(Metric::EventWriteFail, 1);
            return Err(error);
        }
        let mut outcome = Ok(Status::Ready);
        while let Some(lease) = group.0.pop_front() {
            let events = lease.batch().len() as u64;
            match lease.commit().await {
                Ok(()) => self.counters.add(Metric::EventDrainSuccessCount, events),
                Err(error) => outcome = Err(error.into()),
            }
        }
        outcome
    }

    async fn stop(&mut self) -> Result<(), SinkError> {
        self.recover().await;
        let finished = self.finish().await;
        self.counters.stopped(self.clock.as_ref());
        finished
    }
}

impl FileRollSink {
    /// `first` and the leases that wait behind it.
    async fn gather(&mut self, first: Lease, limit: TakeLimit) -> Group {
        let mut full = first.batch().len() == limit.events;
        let mut bytes = first.batch().body_bytes();
        let mut events = first.batch().len() as u64;
        let mut group = Group::default();
        group.0.push_back(first);
        while full && bytes < GROUP_BYTES {
            let Ok(Ok(next)) = timeout(GROUP_WAIT, self.channel.take(limit)).await else {
                break;
            };
            full = next.batch().len() == limit.events;
            bytes += next.batch().body_bytes();
            events += next.batch().len() as u64;
            if !next.is_empty() {
                group.0.push_back(next);
            }
        }
        self.counters.add(Metric::EventDrainAttemptCount, events);
        group
    }

    /// Writes the leading leases of the group, at least one; the others are rolled back.
    async fn deliver(&mut self, group: &mut Group) -> Result<(), SinkError> {
        let mut batches: Vec<Batch> = group.0.iter().map(|lease| lease.batch().clone()).collect();
        loop {
            self.ensure_open().await?;
            let Some(output) = &mut self.current else {
                continue;
            };
            let outcome = output.append(batches.clone(), self.sync).await;
            let appended = match outcome {
                Ok(appended) => appended,
                Err(error) => return Err(self.failed("write to", error)),
            };
            output.commit();
            if appended.batches > 0 {
                while group.0.len() > appended.batches {
                    // Dropped, it rolls back.
                    group.0.pop_back();
                }
                return Ok(());
            }
            // The first batch needs another file for its rest. What is in this one stays there
            // if the rest fails, and comes again.
            batches.truncate(1);
            if let Some(first) = batches.first_mut() {
                *first = first.slice(appended.events..first.len());
            }
            self.finish().await?;
        }
    }

    /// The error of the current file, which is given up when it cannot be used any more.
    fn failed(&mut self, action: &'static str, error: OutputError) -> SinkError {
        let path = self.current.as_ref().map(Output::path);
        let object = path.unwrap_or(Path::new("")).display().to_string();
        if self
            .current
            .as_ref()
            .is_some_and(|output| !output.is_usable())
        {
            self.current = None;
            self.counters.add(Metric::ConnectionFailedCount, 1);
        }
        sink_error(action, object, error)
    }

    /// Undoes what a dropped call has left in the current file.
    async fn recover(&mut self) {
        let Some(output) = &mut self.current else {
            return;
        };
        if let Err(error) = output.recover().await {
            let error = self.failed("cut back", error);
            let error = error_chain(&error);
            warn!(error, "an unfinished write is left in a file");
        } else if !output.is_usable() {
            self.current = None;
            self.counters.add(Metric::ConnectionFailedCount, 1);
        }
    }

    async fn roll_when_due(&mut self) -> Result<(), SinkError> {
        let (Some(mark), now) = (self.next_roll, Instant::now()) else {
            return Ok(());
        };
        if now < mark {
            return Ok(());
        }
        self.next_roll = next_mark(mark, now, self.config.roll_interval.0);
        self.finish().await
    }

    /// Ends and closes the current file.
    async fn finish(&mut self) -> Result<(), SinkError> {
        let Some(mut output) = self.current.take() else {
            return Ok(());
        };
        let outcome = output.end(self.sync).await;
        let object = output.path().display().to_string();
        output.close().await;
        let metric = match outcome {
            Ok(()) => Metric::ConnectionClosedCount,
            Err(_) => Metric::ConnectionFailedCount,
        };
        self.counters.add(metric, 1);
        outcome.map_err(|error| sink_error("finish", object, error))
    }

    async fn ensure_open(&mut self) -> Result<(), SinkError> {
        if self.current.is_some() {
            return Ok(());
        }
        let opened = self.open_next().await;
        let metric = match opened {
            Ok(_) => Metric::ConnectionCreatedCount,
            Err(_) => Metric::ConnectionFailedCount,
        };
        self.counters.add(metric, 1);
        self.current = Some(opened?);
        Ok(())
    }

    async fn open_next(&mut self) -> Result<Output, SinkError> {
        let mut output = self.create().await?;
        let begun = output.begin().await;
        let object = output.path().display().to_string();
        if let Err(error) = begun {
            return Err(sink_error("begin", object, error));
        }
        debug!(file = object, "opened a file");
        Ok(output)
    }

    /// Creates the next file whose name is free.
    async fn create(&mut self) -> Result<Output, SinkError> {
        for _ in 0..NAMES_TRIED {
            let path = self.names.next();
            let (open, own, sync) = (Arc::clone(&self.open), path.clone(), self.sync);
            let created = tokio::task::spawn_blocking(move || {
                let medium = open(&own)?;
                if sync {
                    sync_parent(&own)?;
                }
                Ok::<_, std::io::Error>(medium)
            });
            match created.await.unwrap_or_else(|panic| Err(panic.into())) {
                Ok(medium) => return Ok(Output::new(path, medium, &self.config.serializer)),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    let object = path.display().to_string();
                    return Err(SinkError::retriable("open", object, error));
                }
            }
        }
        let object = self.config.directory.display().to_string();
        let cause = "ten thousand names in a row are taken";
        Err(SinkError::retriable("create a file in", object, cause))
    }
}

fn sink_error(action: &'static str, object: String, error: OutputError) -> SinkError {
    match error {
        OutputError::Io(error) => SinkError::retriable(action, object, error),
        OutputError::Serialize(error) => SinkError::fatal(action, object, error),
    }
}

/// The first mark after `now`; marks passed in between count as one. `None` = never.
fn next_mark(mark: Instant, now: Instant, interval: Duration) -> Option<Instant> {
    let late = now.duration_since(mark).as_nanos();
    let passed = u32::try_from(late / interval.as_nanos().max(1)).ok()?;
    mark.checked_add(interval.checked_mul(passed.checked_add(1)?)?)
}
