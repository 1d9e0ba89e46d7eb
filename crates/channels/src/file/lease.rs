//! What a take has in its hands: a run that is being read, and the lease that ends it.

use std::sync::Arc;

use async_trait::async_trait;
use flafka_flow::Batch;
use flafka_flow::channel::{ChannelError, Lease, OriginRun, Settle, error_chain};
use flafka_flow::counters::Metric;
use flafka_log_store::{Offset, Op};
use tracing::warn;

use super::channel::{Open, Shared};
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
        let (first, last) = (run.first, run.last);
        let reading = tokio::task::spawn_blocking(
            move || -> Result<_, Box<dyn std::error::Error + Send + Sync>> {
                let plan = log.read(stream, Offset(first), READ_BYTES, true)?;
                Ok(decode(plan.read_to_bytes()?, first, last)?)
            },
        );
        let read = match reading.await {
            Ok(read) => read,
            Err(error) => Err(error.into()),
        };
        let shared = self.shared;
        let (batch, next) = read.map_err(|error| {
            shared.counters.add(Metric::EventTakeErrorCount, 1);
            shared.failed("read the log", true, error)
        })?;
        if batch.is_empty() {
            let what = format!("offsets {first} to {last} are missing in the log");
            return Err(shared.failed("read the log", false, what));
        }
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
