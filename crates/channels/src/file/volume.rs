//! One data directory of a channel: its log, what waits in it, and whether it works.
//!
//! Invariants: `accounted` is what the volume takes of the channel's capacity: its waiting, leased and just being put
//! events; it is set right from the log whenever that is opened. The generation `closed` changes under the lock of
//! `runs`: what belongs to a log that is closed must not come back into the runs of the next one.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use flafka_flow::Batch;
use flafka_flow::channel::ChannelError;
use flafka_flow::counters::Metric;
use flafka_log_store::{AppendStamp, CommitError, IoFault, Log, Op, OpOutcome, StreamId, Troubles};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::warn;

use super::channel::Shared;
use super::encryption::{DataKeys, EncryptionError, seal};
use super::records::{encode, join};
use super::runs::{Run, Runs};

/// A directory that is full or gives errors is asked again after so long.
const PAUSE: Duration = Duration::from_secs(1);

/// The open log of a volume.
#[derive(Clone)]
pub(super) struct Open {
    pub(super) log: Log,
    pub(super) stream: StreamId,
    pub(super) keys: Arc<DataKeys>,
    /// How often the volume had been closed when it was opened.
    pub(super) closed: u64,
}

/// One data directory.
pub(super) struct Volume {
    /// Its place in the list of volumes, the partition in an origin.
    pub(super) index: usize,
    pub(super) dir: PathBuf,
    /// False for a directory that is no longer among `dataDirs` and still holds events.
    pub(super) accepts: bool,
    open: RwLock<Option<Open>>,
    closed: AtomicU64,
    /// Its log accepts nothing, or its data cannot be read, or it could not be opened.
    failed: AtomicBool,
    paused_until: Mutex<Option<Instant>>,
    runs: Mutex<Runs>,
    /// Of the logs that were open before this one.
    before: Mutex<Troubles>,
    cache_bytes: u64,
    /// Room for encoded puts.
    encoding: Semaphore,
    pub(super) accounted: AtomicUsize,
    /// Its part of `ChannelSize`.
    pub(super) stored: AtomicUsize,
}

/// Bytes of puts that are encoded at once, in each volume: while the log makes one half durable, the other is encoded.
/// More would not be faster and is memory for every connection of a source.
const ENCODED_BYTES: u32 = 4 << 20;

/// Why a volume did not take a put.
pub(super) struct NotStored {
    pub(super) error: ChannelError,
    /// The batch is certainly not in the volume's log, so another one may take it.
    pub(super) elsewhere: bool,
    /// The volume still accounts for the events: it was closed meanwhile and counts anew when it is opened.
    pub(super) accounted: bool,
}

impl Volume {
    pub(super) fn new(index: usize, dir: PathBuf, accepts: bool, cache_bytes: u64) -> Self {
        Self {
            index,
            dir,
            accepts,
            open: RwLock::default(),
            closed: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            paused_until: Mutex::default(),
            runs: Mutex::new(Runs::new(cache_bytes)),
            before: Mutex::default(),
            cache_bytes,
            encoding: Semaphore::new(ENCODED_BYTES as usize),
            accounted: AtomicUsize::new(0),
            stored: AtomicUsize::new(0),
        }
    }

    fn runs(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The runs of this log; `None` when it is not the volume's log any more.
    pub(super) fn runs_of(&self, open: &Open) -> Option<MutexGuard<'_, Runs>> {
        let runs = self.runs();
        (self.generation() == open.closed).then_some(runs)
    }

    pub(super) fn generation(&self) -> u64 {
        self.closed.load(Ordering::SeqCst)
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.has_failed() && !self.runs().is_empty()
    }

    /// How many events that is; counted anew with each call.
    pub(super) fn waiting(&self) -> usize {
        match self.has_failed() {
            true => 0,
            false => self.runs().events(),
        }
    }

    pub(super) fn open(&self) -> Option<Open> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.clone()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::SeqCst)
    }

    pub(super) fn set_failed(&self) {
        self.failed.store(true, Ordering::SeqCst);
    }

    /// How willing it is to take a put: 0 at once, 1 it was full or gave an error a moment ago, 2 it has failed.
    pub(super) fn reluctance(&self, now: Instant) -> u8 {
        let paused_until = self.paused_until.lock();
        let paused_until = *paused_until.unwrap_or_else(PoisonError::into_inner);
        match (self.has_failed(), paused_until) {
            (true, _) => 2,
            (false, Some(until)) if now < until => 1,
            (false, _) => 0,
        }
    }

    /// Takes over an opened log with what waits in it. Returns its events.
    pub(super) fn install(&self, open: Open) -> Result<usize, flafka_log_store::ReadError> {
        let bounds = open.log.bounds(open.stream)?;
        let acks = open.log.unacked(open.stream)?;
        let mut runs = self.runs();
        *runs = Runs::new(self.cache_bytes);
        let mut size = 0;
        let mut first = acks.low.0.max(bounds.log_start.0);
        let end = (bounds.high_watermark, bounds.high_watermark);
        for (acked_first, acked_last) in acks.acked_ranges.iter().copied().chain([end]) {
            if first < acked_first.0 {
                let run = Run {
                    first,
                    last: acked_first.0 - 1,
                    batch: None,
                    order: None,
                };
                size += run.len();
                runs.put_back(run);
            }
            first = first.max(acked_last.0 + 1);
        }
        self.failed.store(false, Ordering::SeqCst);
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = Some(open);
        Ok(size)
    }

    /// Closes the log; leases of before are void from now on.
    pub(super) async fn close(&self) -> Result<(), CommitError> {
        let open = {
            let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
            let mut runs = self.runs();
            self.closed.fetch_add(1, Ordering::SeqCst);
            *runs = Runs::new(self.cache_bytes);
            let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
            open.take().inspect(|open| *before += open.log.troubles())
        };
        match open {
            Some(open) => open.log.close().await,
            None => Ok(()),
        }
    }

    /// What went wrong in its logs since the channel was made.
    pub(super) fn troubles(&self) -> Troubles {
        // The lock order of `close`.
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let mut troubles = before.clone();
        if let Some(open) = &*open {
            troubles += open.log.troubles();
        }
        troubles
    }

    /// Puts a batch into this directory. Its room is taken already.
    pub(super) async fn put(
        &self,
        shared: &Shared,
        batch: &Batch,
        order: impl FnOnce() -> u64,
    ) -> Result<(), NotStored> {
        let closed = || NotStored {
            error: shared.is_closed(),
            elsewhere: true,
            accounted: false,
        };
        let open = self.open().ok_or_else(closed)?;
        let count = batch.len();
        match self.runs_of(&open) {
            Some(_current) => self.accounted.fetch_add(count, Ordering::SeqCst),
            None => return Err(closed()),
        };
        let stored = self.store(shared, &open, batch).await;
        // When the volume was closed meanwhile, the next opening counts what the log holds.
        let runs = self.runs_of(&open);
        let first = match stored {
            Ok(first) => first,
            Err(mut not_stored) => {
                not_stored.accounted = runs.is_none();
                if runs.is_some() {
                    self.accounted.fetch_sub(count, Ordering::SeqCst);
                }
                return Err(not_stored);
            }
        };
        if let Some(mut runs) = runs {
            self.stored.fetch_add(count, Ordering::SeqCst);
            shared.counters.shift(Metric::ChannelSize, count as i64);
            runs.add(Run {
                first,
                last: first + count as i64 - 1,
                batch: Some(batch.clone()),
                order: Some(order()),
            });
        }
        Ok(())
    }

    /// Appends a batch; returns its first offset.
    async fn store(&self, shared: &Shared, open: &Open, batch: &Batch) -> Result<i64, NotStored> {
        let not_stored = |elsewhere, error| NotStored {
            error,
            elsewhere,
            accounted: false,
        };
        let bytes = u32::try_from(batch.total_bytes()).unwrap_or(u32::MAX);
        // Nobody closes the semaphore.
        let _room = self
            .encoding
            .acquire_many(bytes.min(ENCODED_BYTES))
            .await
            .ok();
        let mut batches = encode(batch, shared.context.clock.now_ms())
            .map_err(|error| not_stored(false, shared.failed("encode events", false, error)))?;
        let failed = |error: EncryptionError| {
            shared.note_failure(self, open);
            let retriable = error.is_retriable();
            not_stored(true, shared.failed("encrypt events", retriable, error))
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
            shared.note_failure(self, open);
            // After a failed sync nobody knows what the disk has.
            let elsewhere = matches!(
                error,
                CommitError::NoSpace(_) | CommitError::Io(_) | CommitError::Closed
            );
            if let CommitError::NoSpace(fault) | CommitError::Io(fault) = &error {
                self.pause(fault);
            }
            not_stored(elsewhere, shared.failed("append to the log", true, error))
        })?;
        match outcomes.first() {
            Some(
                OpOutcome::Appended { base_offset, .. } | OpOutcome::Duplicate { base_offset, .. },
            ) => Ok(base_offset.0),
            _ => {
                let what = "the log answered without an offset";
                Err(not_stored(
                    false,
                    shared.failed("append to the log", false, what),
                ))
            }
        }
    }

    /// Puts go elsewhere for a while, if they can.
    fn pause(&self, fault: &IoFault) {
        let mut paused = self
            .paused_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        // Said once, not with every attempt of a disk that stays full.
        if paused.is_none_or(|until| until + PAUSE < now) {
            warn!(dir = %self.dir.display(), %fault, "the directory takes nothing new: puts go to the channel's other directories, if there are any");
        }
        *paused = Some(now + PAUSE);
    }
}
