//! What a take has in its hands: a run that is being read, and the lease that ends it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use flafka_flow::Batch;
use flafka_flow::channel::{ChannelError, Lease, OriginRun, Settle, error_chain};
use flafka_flow::counters::Metric;
use flafka_kafka_wire::records;
use flafka_log_store::{Offset, Op};
use tracing::warn;

use super::channel::Shared;
use super::open::Open;
use super::records::decode;
use super::runs::Run;

/// Bytes read from the disk at once, unless one record batch is larger.
const READ_BYTES: usize = 2 << 20;

/// A run on the disk that one take is reading; back in the queue when that take is dropped.
pub(super) struct Claim<'s> {
    shared: &'s Arc<Shared>,
    open: &'s Open,
    run: Option<Run>,
}

impl<'s> Claim<'s> {
    /// Takes a run that [`super::runs::Runs::next`] gave out.
    pub(super) fn new(shared: &'s Arc<Shared>, open: &'s Open, run: Run) -> Self {
        let run = Some(run);
        Self { shared, open, run }
    }

    /// Reads the front of the run; its events and the rest of it are back in the queue afterwards.
    pub(super) async fn read(mut self) -> Result<(), ChannelError> {
        let Some(run) = self.run.clone() else {
            return Ok(());
        };
        let (log, stream) = (self.open.log.clone(), self.open.stream);
        let keys = Arc::clone(&self.open.keys);
        let (first, last) = (run.first, run.last);
        let reading = tokio::task::spawn_blocking(
            move || -> Result<_, Box<dyn std::error::Error + Send + Sync>> {
                let plan = log.read(stream, Offset(first), READ_BYTES, true)?;
                let bytes = plan.read_to_bytes()?;
                match decode(bytes.clone(), first, last, &keys) {
                    Ok((batch, next)) if batch.len() as i64 == next - first => Ok((batch, next)),
                    // Damage, or offsets that are missing: what lies before it is delivered first.
                    _ => Ok(decode(sound_front(bytes, first), first, last, &keys)?),
                }
            },
        );
        let read = match reading.await {
            Ok(read) => read,
            Err(error) => Err(error.into()),
        };
        let shared = self.shared;
        let (batch, next) = match read {
            Ok((batch, next)) if !batch.is_empty() => (batch, next),
            nothing => return self.skip_damage(first, last, nothing.err()).await,
        };
        let mut runs = shared.runs_of(self.open)?;
        self.run = None;
        if next <= last {
            let rest = Run {
                first: next,
                last,
                batch: None,
            };
            runs.put_back(rest);
        }
        runs.put_back(Run {
            first,
            last: next - 1,
            batch: Some(batch),
        });
        Ok(())
    }

    /// The front of the run cannot be read: if the log confirms that, the offsets are marked as done, so that what lies
    /// behind them is not held up. The log keeps a copy of the bytes, and counts and logs it.
    async fn skip_damage(
        mut self,
        first: i64,
        last: i64,
        error: Option<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Result<(), ChannelError> {
        let (shared, open) = (self.shared, self.open);
        shared.counters.add(Metric::EventTakeErrorCount, 1);
        let failed = |error| shared.failed("read the log", true, error);
        let damage = open.log.set_aside(open.stream, Offset(first)).await;
        let Some(damage) = damage.map_err(|error| failed(error.into()))? else {
            let missing = || format!("offset {first} was not there for a moment").into();
            return Err(failed(error.unwrap_or_else(missing)));
        };
        let skipped_to = last.min(damage.next.0 - 1);
        let ack = Op::Ack {
            stream: open.stream,
            first: Offset(first),
            last: Offset(skipped_to),
        };
        let marked = open.log.commit(vec![ack]).await;
        marked.map_err(|error| shared.failed("mark damaged events", true, error))?;
        let mut runs = shared.runs_of(open)?;
        self.run = None;
        if skipped_to < last {
            runs.put_back(Run {
                first: skipped_to + 1,
                last,
                batch: None,
            });
        }
        let events = usize::try_from(skipped_to - first + 1).unwrap_or(0);
        shared.give_up(events);
        drop(runs);
        warn!(
            channel = &*shared.name,
            events,
            first,
            last = skipped_to,
            path = %damage.path.display(),
            "damaged events were skipped"
        );
        Ok(())
    }
}

/// The whole, good batches at the front, as far as their offsets carry on from `first`.
fn sound_front(bytes: Bytes, first: i64) -> Bytes {
    let (mut end, mut next) = (0, first);
    for batch in records::batches(&bytes) {
        let Ok((header, batch)) = batch else { break };
        if header.base_offset > next || records::verify(batch).is_err() {
            break;
        }
        next = next.max(header.last_offset() + 1);
        end += batch.len();
    }
    bytes.slice(..end)
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if let Some(run) = self.run.take()
            && let Ok(mut runs) = self.shared.runs_of(self.open)
        {
            runs.put_back(run);
            drop(runs);
            self.shared.filled.notify_one();
        }
    }
}

/// A lease over runs that are in memory.
pub(super) fn lease(shared: &Arc<Shared>, open: &Open, runs: Vec<Run>) -> Lease {
    let mut first_event = 0;
    let mut origin: Vec<OriginRun> = Vec::with_capacity(runs.len());
    for run in &runs {
        match origin.last_mut() {
            Some(last) if last.last_offset + 1 == run.first => last.last_offset = run.last,
            _ => origin.push(OriginRun {
                first_event,
                log: Arc::clone(&shared.name),
                partition: 0,
                first_offset: run.first,
                last_offset: run.last,
            }),
        }
        first_event += run.len();
    }
    let batch = Batch::concat(runs.iter().filter_map(|run| run.batch.clone()).collect());
    let settle = FileSettle {
        shared: Arc::clone(shared),
        open: open.clone(),
        runs,
        origin: origin.clone(),
    };
    Lease::new(batch, origin, Box::new(settle))
}

struct FileSettle {
    shared: Arc<Shared>,
    open: Open,
    runs: Vec<Run>,
    origin: Vec<OriginRun>,
}

#[async_trait]
impl Settle for FileSettle {
    async fn commit(self: Box<Self>) -> Result<(), ChannelError> {
        let shared = Arc::clone(&self.shared);
        // Closed meanwhile: the events are among those that the next start finds, and come again.
        drop(shared.runs_of(&self.open)?);
        let open = self.open.clone();
        let ack = |run: &OriginRun| Op::Ack {
            stream: open.stream,
            first: Offset(run.first_offset),
            last: Offset(run.last_offset),
        };
        let submitted = open
            .log
            .submit_each(self.origin.iter().map(ack).collect())
            .await;
        if let Ok(runs) = shared.runs_of(&open) {
            shared.free(self.runs.iter().map(Run::len).sum());
            drop(runs);
        }
        // The order of submissions is the order in the journal; a lost ack costs a re-read only.
        tokio::spawn(async move {
            for outcome in submitted.outcomes().await {
                if let Err(error) = outcome {
                    shared.note_failure(&open);
                    let error = error_chain(&error);
                    warn!(
                        channel = &*shared.name,
                        error, "delivered events were not marked; they come again after a restart"
                    );
                }
            }
        });
        Ok(())
    }

    fn rollback(self: Box<Self>) {
        let Ok(mut runs) = self.shared.runs_of(&self.open) else {
            return;
        };
        for run in self.runs {
            runs.put_back(run);
        }
        drop(runs);
        self.shared.filled.notify_one();
    }
}
