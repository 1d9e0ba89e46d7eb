//! The sink: take, serialize, write, commit.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use flafka_flow::Batch;
use flafka_flow::channel::{Channel, Lease, TakeLimit};
use flafka_flow::clock::Clock;
use flafka_flow::counters::{ComponentKind, Counters, Metric, sets};
use flafka_flow::registry::BuildContext;
use flafka_flow::sink::{Sink, SinkError, Status};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::config::FileRollSinkConfig;
use super::names::FileNames;
use super::output::{Open, Output, sync_parent};
use crate::serializers::{EventSerializer, SerializeError};

/// Leases that wait in the channel are written together up to about this many bytes: one write
/// (and one sync) for many small transactions.
const GROUP_BYTES: usize = 1 << 20;
/// How long a further lease may take to come before the group is written.
const GROUP_WAIT: Duration = Duration::from_millis(1);
/// A buffer that one huge batch has grown beyond this is not kept.
const KEPT_BYTES: usize = 8 * GROUP_BYTES;
/// Names tried before giving up, when files with these names are there already.
const NAMES_TRIED: usize = 10_000;

/// Writes events into files.
pub(super) struct FileRollSink {
    config: FileRollSinkConfig,
    channel: Arc<dyn Channel>,
    counters: Arc<Counters>,
    clock: Arc<dyn Clock>,
    names: FileNames,
    open: Arc<Open>,
    current: Option<Current>,
    buffer: Vec<u8>,
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

/// The open file and its serializer.
struct Current {
    output: Output,
    serializer: Box<dyn EventSerializer>,
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
            config,
            channel,
            counters: context.counters(ComponentKind::Sink, sets::SINK, true),
            clock: Arc::clone(&context.clock),
            open: Arc::new(open),
            current: None,
            buffer: Vec::new(),
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
        self.recover().await?;
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
        self.ensure_open().await?;
        let delivered = self.deliver(first, limit).await;
        if delivered.is_err() {
            self.counters.add(Metric::EventWriteFail, 1);
        }
        let mut group = delivered?;
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
        let recovered = self.recover().await;
        let finished = self.finish().await;
        self.counters.stopped(self.clock.as_ref());
        recovered.and(finished)
    }
}

impl FileRollSink {
    /// Writes `first` and the leases that wait behind it; returns them to be committed.
    async fn deliver(&mut self, first: Lease, limit: TakeLimit) -> Result<Group, SinkError> {
        self.buffer.clear();
        self.count_attempt(first.batch());
        self.serialize_across_files(first.batch().clone()).await?;
        let mut full = first.batch().len() == limit.events;
        let mut group = Group::default();
        group.0.push_back(first);
        while full && self.buffer.len() < GROUP_BYTES {
            let Ok(Ok(next)) = timeout(GROUP_WAIT, self.channel.take(limit)).await else {
                break;
            };
            full = next.batch().len() == limit.events;
            if next.is_empty() || !self.serialize_into_group(next.batch()) {
                break;
            }
            self.count_attempt(next.batch());
            group.0.push_back(next);
        }
        self.write_out().await?;
        Ok(group)
    }

    fn count_attempt(&self, batch: &Batch) {
        self.counters
            .add(Metric::EventDrainAttemptCount, batch.len() as u64);
    }

    /// Serializes a batch, ending the file and beginning another where the serializer asks for
    /// it. What is in files that were ended stays there if a later part fails.
    async fn serialize_across_files(&mut self, mut batch: Batch) -> Result<(), SinkError> {
        loop {
            self.ensure_open().await?;
            let Some(current) = &mut self.current else {
                continue;
            };
            let count = current.serializer.fitting(&batch);
            let fitting = batch.slice(0..count);
            let path = current.output.path();
            let written = current.serializer.write(&fitting, &mut self.buffer);
            written.map_err(|error| unwritable(path, error))?;
            if count == batch.len() {
                return Ok(());
            }
            batch = batch.slice(count..batch.len());
            self.write_out().await?;
            self.finish().await?;
        }
    }

    /// Adds a batch to what is to be written; false, with the buffer as before, when it has to
    /// be dealt with on its own.
    fn serialize_into_group(&mut self, batch: &Batch) -> bool {
        let Some(current) = &mut self.current else {
            return false;
        };
        let before = self.buffer.len();
        let fits = current.serializer.fitting(batch) == batch.len();
        let written = fits && current.serializer.write(batch, &mut self.buffer).is_ok();
        if !written {
            self.buffer.truncate(before);
        }
        written
    }

    /// Writes the buffer to the current file.
    async fn write_out(&mut self) -> Result<(), SinkError> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        if self.buffer.is_empty() {
            return Ok(());
        }
        let outcome = current
            .output
            .append(&mut self.buffer, self.config.fsync)
            .await;
        if self.buffer.capacity() > KEPT_BYTES {
            self.buffer = Vec::new();
        }
        match outcome {
            Ok(()) => {
                current.output.commit();
                Ok(())
            }
            Err(error) => {
                let object = current.output.path().display().to_string();
                if !current.output.is_usable() {
                    self.current = None;
                    self.counters.add(Metric::ConnectionFailedCount, 1);
                }
                Err(SinkError::retriable("write to", object, error))
            }
        }
    }

    /// Undoes what a dropped call has left in the current file.
    async fn recover(&mut self) -> Result<(), SinkError> {
        let Some(current) = &mut self.current else {
            return Ok(());
        };
        if let Err(error) = current.output.recover().await {
            let path = current.output.path().display();
            warn!(file = %path, %error, "cannot cut the file back; going on in a new one");
        }
        if !current.output.is_usable() {
            self.current = None;
            self.counters.add(Metric::ConnectionFailedCount, 1);
        }
        Ok(())
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
        let Some(mut current) = self.current.take() else {
            return Ok(());
        };
        let path = current.output.path().to_owned();
        self.buffer.clear();
        let mut outcome = current
            .serializer
            .end(&mut self.buffer)
            .map_err(|error| unwritable(&path, error));
        if outcome.is_ok() && !self.buffer.is_empty() {
            let written = current
                .output
                .append(&mut self.buffer, self.config.fsync)
                .await;
            outcome = written
                .map_err(|error| SinkError::retriable("finish", path.display().to_string(), error));
        }
        current.output.close().await;
        let metric = match outcome {
            Ok(()) => Metric::ConnectionClosedCount,
            Err(_) => Metric::ConnectionFailedCount,
        };
        self.counters.add(metric, 1);
        outcome
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

    async fn open_next(&mut self) -> Result<Current, SinkError> {
        let output = self.create().await?;
        let path = output.path().to_owned();
        let mut current = Current {
            serializer: self.config.serializer.build(),
            output,
        };
        let mut beginning = Vec::new();
        let begun = current.serializer.begin(&mut beginning);
        begun.map_err(|error| unwritable(&path, error))?;
        if !beginning.is_empty() {
            let written = current.output.append(&mut beginning, false).await;
            written.map_err(|error| {
                SinkError::retriable("begin", path.display().to_string(), error)
            })?;
            current.output.commit();
        }
        info!(file = %path.display(), "opened a file");
        Ok(current)
    }

    /// Creates the next file whose name is free.
    async fn create(&mut self) -> Result<Output, SinkError> {
        for _ in 0..NAMES_TRIED {
            let path = self.names.next();
            let (open, own, sync) = (Arc::clone(&self.open), path.clone(), self.config.fsync);
            let created = tokio::task::spawn_blocking(move || {
                let medium = open(&own)?;
                if sync {
                    sync_parent(&own)?;
                }
                Ok::<_, std::io::Error>(medium)
            });
            match created.await.unwrap_or_else(|panic| Err(panic.into())) {
                Ok(medium) => return Ok(Output::new(path, medium)),
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

fn unwritable(path: &Path, error: SerializeError) -> SinkError {
    SinkError::fatal("serialize events for", path.display().to_string(), error)
}

/// The first mark after `now`; marks passed in between count as one. `None` = never.
fn next_mark(mark: Instant, now: Instant, interval: Duration) -> Option<Instant> {
    let late = now.duration_since(mark).as_nanos();
    let passed = u32::try_from(late / interval.as_nanos().max(1)).ok()?;
    mark.checked_add(interval.checked_mul(passed.checked_add(1)?)?)
}
