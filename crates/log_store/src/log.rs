//! The handle that everybody else holds: queues commits, reads what is published.
//!
//! Cloning is cheap. When the last handle goes, the threads write a final checkpoint and end by themselves;
//! [`Log::close`] waits for that.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use crate::acks::AckState;
use crate::clock::Clock;
use crate::counts::{Counts, LogCounts, Troubles};
use crate::damage::Damage;
use crate::engine::Engine;
use crate::error::{CommitError, IoFault, OpenError, ReadError};
use crate::fs::Fs;
use crate::housekeeping::Housekeeping;
use crate::op::{Offset, Op, OpOutcome, StreamId, Table};
use crate::prepare::prepare;
use crate::queue::{Command, CommitRequest, Control, Prepared, Queue, Reply, Ticket, block_on};
use crate::read::{OpenSegments, ReadPlan, StreamReader};
use crate::recovery::RecoveryReport;
use crate::settings::{LogOptions, StreamSettings};
use crate::stream::{StreamBounds, StreamState};
use crate::sync::{RwLock, RwLockReadGuard};
use crate::tables::Tables;
use crate::threads;

/// An open log. See the [crate] for the whole picture.
#[derive(Debug, Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// What the commit thread publishes for everybody.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) registry: RwLock<Registry>,
    pub(crate) tables: RwLock<Tables>,
    pub(crate) open_segments: OpenSegments,
    pub(crate) epoch: i32,
    pub(crate) cluster_id: String,
    pub(crate) node_id: i32,
    pub(crate) housekeeping: Arc<Housekeeping>,
    /// Set once, when a file failed and going on in a fresh one failed too: the log stops accepting.
    pub(crate) failure: RwLock<Option<IoFault>>,
    pub(crate) counts: Counts,
}

/// The streams by id and by name.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    pub(crate) by_id: HashMap<StreamId, Arc<StreamState>>,
    pub(crate) by_name: HashMap<String, StreamId>,
}

impl Shared {
    pub(crate) fn stream(&self, id: StreamId) -> Option<Arc<StreamState>> {
        let registry = self.registry.read().unwrap_or_else(PoisonError::into_inner);
        registry.by_id.get(&id).cloned()
    }
}

impl Log {
    /// Opens the log in `options.dir`, creating it if there is nothing, recovering what a crash left. Blocking.
    ///
    /// # Errors
    /// See [`OpenError`]; a second opener is refused with the holder's process id.
    pub fn open(
        options: LogOptions,
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Log, RecoveryReport), OpenError> {
        let queue = Arc::new(Queue::new(options.queue_bytes));
        let (engine, report) = Engine::open(options, fs, clock)?;
        let shared = engine.shared();
        threads::start(engine, &queue)?;
        let inner = Arc::new(Inner { shared, queue });
        Ok((Log { inner }, report))
    }

    /// Creates a stream, or finds the one that has this name and these settings.
    pub fn create_stream(&self, name: &str, settings: StreamSettings) -> Ticket<StreamId> {
        self.control(|reply| Control::Create {
            name: name.to_string(),
            settings,
            reply,
        })
    }

    /// Deletes a stream with all its data.
    pub fn delete_stream(&self, id: StreamId) -> Ticket<()> {
        self.control(|reply| Control::Delete { id, reply })
    }

    /// Replaces a stream's settings. They count from the next append on.
    pub fn update_stream(&self, id: StreamId, settings: StreamSettings) -> Ticket<()> {
        self.control(|reply| Control::Update {
            id,
            settings,
            reply,
        })
    }

    fn control<T>(
        &self,
        make: impl FnOnce(oneshot::Sender<Result<T, CommitError>>) -> Control,
    ) -> Ticket<T> {
        let (reply, receiver) = oneshot::channel();
        match self.inner.queue.push(Command::Control(make(reply))) {
            Ok(()) => Ticket::open(receiver),
            Err(error) => Ticket::failed(error),
        }
    }

    /// The stream of this name.
    pub fn stream(&self, name: &str) -> Option<StreamId> {
        let shared = &self.inner.shared;
        let registry = shared
            .registry
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        registry.by_name.get(name).copied()
    }

    /// All streams, by id.
    pub fn streams(&self) -> Vec<(StreamId, String)> {
        let shared = &self.inner.shared;
        let registry = shared
            .registry
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = registry
            .by_name
            .iter()
            .map(|(name, id)| (*id, name.clone()))
            .collect();
        all.sort_unstable();
        all
    }

    /// A stream's settings.
    ///
    /// # Errors
    /// [`ReadError::UnknownStream`].
    pub fn settings(&self, stream: StreamId) -> Result<StreamSettings, ReadError> {
        Ok(self.state(stream)?.view().settings.clone())
    }

    /// Commits one atomic group; resolves when it is as durable as its streams promise. Waits for room in the queue.
    ///
    /// # Errors
    /// The first op that cannot be done fails the whole group; then nothing of it is in the log.
    ///
    /// # Cancel safety
    /// Dropped while it waits for room, nothing happens; dropped later, the group is committed all the same.
    pub async fn commit(&self, ops: Vec<Op>) -> Result<Vec<OpOutcome>, CommitError> {
        let (prepared, bytes) = prepare(ops, false)?;
        let (sender, receiver) = oneshot::channel();
        self.enqueue(prepared, bytes, Reply::All(sender)).await?;
        receiver.await.unwrap_or(Err(CommitError::Closed))
    }

    /// As [`Log::commit`] for ops that do not depend on each other (Produce to many partitions): they share one durable
    /// group, but one op's failure does not touch the others.
    ///
    /// # Errors
    /// In each op's place.
    ///
    /// # Cancel safety
    /// As [`Log::commit`].
    pub async fn commit_each(&self, ops: Vec<Op>) -> Vec<Result<OpOutcome, CommitError>> {
        self.submit_each(ops).await.outcomes().await
    }

    /// The first half of [`Log::commit_each`]: returns as soon as the group is queued, so that a caller can queue its
    /// next group behind it before this one is durable. The order of these calls is the order in the log.
    ///
    /// # Cancel safety
    /// Dropped while it waits for room, nothing happens.
    pub async fn submit_each(&self, ops: Vec<Op>) -> Submitted {
        let count = ops.len();
        let failed = |error| Submitted {
            count,
            state: Err(error),
        };
        let (prepared, bytes) = match prepare(ops, true) {
            Ok(prepared) => prepared,
            Err(error) => return failed(error),
        };
        let (sender, receiver) = oneshot::channel();
        match self.enqueue(prepared, bytes, Reply::Each(sender)).await {
            Ok(()) => Submitted {
                count,
                state: Ok(receiver),
            },
            Err(error) => failed(error),
        }
    }

    /// [`Log::commit`] for std threads: blocks.
    ///
    /// # Errors
    /// As [`Log::commit`].
    pub fn commit_blocking(&self, ops: Vec<Op>) -> Result<Vec<OpOutcome>, CommitError> {
        block_on(self.commit(ops))
    }

    async fn enqueue(
        &self,
        ops: Vec<Prepared>,
        bytes: u64,
        reply: Reply,
    ) -> Result<(), CommitError> {
        let permit = Some(self.inner.queue.reserve(bytes).await?);
        self.inner.queue.push(Command::Commit(CommitRequest {
            ops,
            bytes,
            reply,
            permit,
        }))
    }

    /// Plans a read of whole batches from the one that holds `from`, at most `max_bytes` (with `min_one_batch` at least
    /// one batch, whatever its size: KIP-74), up to the high watermark. Blocks only when index or headers are not in the
    /// page cache.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(
        &self,
        stream: StreamId,
        from: Offset,
        max_bytes: usize,
        min_one_batch: bool,
    ) -> Result<ReadPlan, ReadError> {
        let state = self.state(stream)?;
        self.reader(&state).plan(from, max_bytes, min_one_batch)
    }

    /// The first record whose timestamp is at least `timestamp_ms`, with that timestamp (Kafka ListOffsets). Blocking.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn offset_for_timestamp(
        &self,
        stream: StreamId,
        timestamp_ms: i64,
    ) -> Result<Option<(Offset, i64)>, ReadError> {
        let state = self.state(stream)?;
        self.reader(&state).offset_for_timestamp(timestamp_ms)
    }

    /// The first record with the highest timestamp (ListOffsets -3, KIP-734). Blocking.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn offset_of_max_timestamp(
        &self,
        stream: StreamId,
    ) -> Result<Option<(Offset, i64)>, ReadError> {
        let state = self.state(stream)?;
        self.reader(&state).offset_of_max_timestamp()
    }

    /// Why the batch that holds `offset` cannot be read, when a read or a decoder has refused it: the bytes are copied
    /// aside, counted and logged once, and the answer says at which offset to go on. `None`: it can be read, try again
    /// (a segment that was being moved after a failed sync looks damaged for a moment). Nothing is changed in the log:
    /// whoever skips the offsets acks or trims them.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn set_aside(
        &self,
        stream: StreamId,
        offset: Offset,
    ) -> Result<Option<Damage>, ReadError> {
        let (reply, receiver) = oneshot::channel();
        let closed = |_| ReadError::Closed;
        let command = Command::SetAside(stream, offset, reply);
        self.inner.queue.push(command).map_err(closed)?;
        receiver.await.unwrap_or(Err(ReadError::Closed))
    }

    /// What went wrong since the start and was dealt with.
    pub fn counts(&self) -> LogCounts {
        self.inner.shared.counts.read()
    }

    /// The counts with the newest damaged places: for `/health`.
    pub fn troubles(&self) -> Troubles {
        self.inner.shared.counts.troubles()
    }

    fn reader<'a>(&'a self, stream: &'a StreamState) -> StreamReader<'a> {
        StreamReader {
            stream,
            fs: &*self.inner.shared.fs,
            open: &self.inner.shared.open_segments,
        }
    }

    /// Where a stream starts and ends.
    ///
    /// # Errors
    /// [`ReadError::UnknownStream`].
    pub fn bounds(&self, stream: StreamId) -> Result<StreamBounds, ReadError> {
        Ok(self.state(stream)?.view().bounds())
    }

    /// The stream's leader epochs with their first offsets, ascending (Kafka OffsetForLeaderEpoch).
    ///
    /// # Errors
    /// [`ReadError::UnknownStream`].
    pub fn epochs(&self, stream: StreamId) -> Result<Vec<(i32, Offset)>, ReadError> {
        Ok(self.state(stream)?.view().epochs.clone())
    }

    /// The high watermark as it moves.
    ///
    /// # Errors
    /// [`ReadError::UnknownStream`].
    pub fn watch(&self, stream: StreamId) -> Result<watch::Receiver<Offset>, ReadError> {
        Ok(self.state(stream)?.watch())
    }

    /// The acks of an `acked` stream, for the file channel's start.
    ///
    /// # Errors
    /// [`ReadError::UnknownStream`].
    pub fn unacked(&self, stream: StreamId) -> Result<AckState, ReadError> {
        Ok(self.state(stream)?.view().acks.clone())
    }

    /// A table's value.
    pub fn get(&self, table: Table, key: &[u8]) -> Option<Bytes> {
        self.tables().get(table, key)
    }

    /// A table's entries whose keys start with `prefix`, ascending by key.
    pub fn scan_prefix(&self, table: Table, prefix: &[u8]) -> Vec<(Bytes, Bytes)> {
        self.tables().scan_prefix(table, prefix)
    }

    /// All entries of a table, ascending by key.
    pub fn table(&self, table: Table) -> Vec<(Bytes, Bytes)> {
        self.tables().scan_prefix(table, b"")
    }

    fn tables(&self) -> RwLockReadGuard<'_, Tables> {
        let tables = &self.inner.shared.tables;
        tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// This start's leader epoch; one more than the last start's.
    pub fn epoch(&self) -> i32 {
        self.inner.shared.epoch
    }

    /// The cluster id, given when the log was created (22 characters, as Kafka's).
    pub fn cluster_id(&self) -> &str {
        &self.inner.shared.cluster_id
    }

    /// The node id of the node file.
    pub fn node_id(&self) -> i32 {
        self.inner.shared.node_id
    }

    /// What retention and compaction have done since the log was opened.
    pub fn housekeeping(&self) -> &Arc<Housekeeping> {
        &self.inner.shared.housekeeping
    }

    /// Why the log has stopped accepting, if it has: for `/health`.
    pub fn failure(&self) -> Option<IoFault> {
        let failure = &self.inner.shared.failure;
        failure
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Writes a checkpoint now and waits for it.
    ///
    /// # Errors
    /// [`CommitError`].
    pub async fn checkpoint(&self) -> Result<(), CommitError> {
        let (reply, receiver) = oneshot::channel();
        self.inner.queue.push(Command::Checkpoint(reply))?;
        receiver.await.unwrap_or(Err(CommitError::Closed))
    }

    /// Commits what is queued, writes a final checkpoint, gives the lock back. Other handles then answer "closed".
    ///
    /// # Errors
    /// If the checkpoint could not be written; nothing acknowledged is lost by that.
    pub async fn close(self) -> Result<(), CommitError> {
        let (reply, receiver) = oneshot::channel();
        self.inner.queue.push(Command::Close(reply))?;
        receiver.await.unwrap_or(Err(CommitError::Closed))
    }

    /// [`Log::close`] for std threads: blocks.
    ///
    /// # Errors
    /// As [`Log::close`].
    pub fn close_blocking(self) -> Result<(), CommitError> {
        block_on(self.close())
    }

    /// What the housekeeper does when time passes; a scheduler's time stands still.
    #[cfg(all(test, feature = "shuttle"))]
    pub(crate) fn tick(&self) {
        self.inner.queue.push_tick();
    }

    fn state(&self, stream: StreamId) -> Result<Arc<StreamState>, ReadError> {
        self.inner
            .shared
            .stream(stream)
            .ok_or(ReadError::UnknownStream(stream))
    }
}

/// A group that is queued; see [`Log::submit_each`]. Dropped, the group is committed all the same.
#[derive(Debug)]
pub struct Submitted {
    count: usize,
    state: Result<oneshot::Receiver<Vec<Result<OpOutcome, CommitError>>>, CommitError>,
}

impl Submitted {
    /// Waits until the group is as durable as its streams promise.
    ///
    /// # Errors
    /// In each op's place.
    pub async fn outcomes(self) -> Vec<Result<OpOutcome, CommitError>> {
        let error = match self.state {
            Ok(receiver) => match receiver.await {
                Ok(outcomes) => return outcomes,
                Err(_) => CommitError::Closed,
            },
            Err(error) => error,
        };
        vec![Err(error); self.count]
    }
}
