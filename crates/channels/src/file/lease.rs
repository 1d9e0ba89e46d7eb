//! What a take has in its hands: a run that is being read, and the lease that ends it.

use std::io::ErrorKind;
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
use super::records::{DecodeError, Decoded, decode};
use super::runs::Run;
use super::take::{Part, Source};

/// Bytes read from the disk at once, unless one record batch is larger.
const READ_BYTES: usize = 2 << 20;

/// A run on the disk that one take is reading; back in the queue when that take is dropped.
pub(super) struct Claim<'s> {
    shared: &'s Arc<Shared>,
    source: Source,
    run: Option<Run>,
}

impl<'s> Claim<'s> {
    /// Takes a run that [`Shared::gather`] gave out.
    pub(super) fn new(shared: &'s Arc<Shared>, part: Part) -> Self {
        Self {
            shared,
            source: part.source,
            run: Some(part.run),
        }
    }

    /// Reads the front of the run; its events and the rest of it are back in the queue afterwards.
    pub(super) async fn read(mut self) -> Result<(), ChannelError> {
        let Some(run) = self.run.clone() else {
            return Ok(());
        };
        let (volume, open) = self.source.clone();
        let (log, stream) = (open.log.clone(), open.stream);
        let keys = Arc::clone(&open.keys);
        let (first, last) = (run.first, run.last);
        let reading = tokio::task::spawn_blocking(
            move || -> Result<_, Box<dyn std::error::Error + Send + Sync>> {
                let read = || log.read(stream, Offset(first), READ_BYTES, true);
                let bytes = match read()?.read_to_bytes() {
                    // The file has become shorter; the next plan ends before that.
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                        read()?.read_to_bytes()?
                    }
                    bytes => bytes?,
                };
                match decode(bytes.clone(), first, last, &keys) {
                    Ok(decoded) if decoded.events.len() as i64 == decoded.next - first => {
                        Ok(decoded)
                    }
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
        let decoded = match read {
            Ok(decoded) if !decoded.events.is_empty() => decoded,
            nothing => return self.skip_damage(first, last, nothing.err()).await,
        };
        let Some(mut runs) = volume.runs_of(&open) else {
            return Err(shared.is_closed());
        };
        self.run = None;
        if decoded.next <= last {
            runs.put_back(Run {
                first: decoded.next,
                last,
                batch: None,
                order: None,
            });
        }
        let has_order = shared.volumes().len() > 1;
        for run in runs_of(decoded, first, has_order) {
            runs.put_back(run);
        }
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
        let shared = self.shared;
        let source = self.source.clone();
        let (volume, open) = &source;
        shared.counters.add(Metric::EventTakeErrorCount, 1);
        let failed = |error| shared.failed("read the log", true, error);
        let damage = open.log.set_aside(open.stream, Offset(first)).await;
        let damage = damage.map_err(|error| {
            let error = failed(error.into());
            shared.note_unreadable(&source, &error);
            error
        });
        let Some(damage) = damage? else {
            let missing = || format!("offset {first} was not there for a moment").into();
            let error = error.unwrap_or_else(missing);
            let stays = matches!(error.downcast_ref(), Some(DecodeError::Encryption(_)));
            let error = failed(error);
            if stays {
                shared.note_unreadable(&source, &error);
            }
            return Err(error);
        };
        let skipped_to = last.min(damage.next.0 - 1);
        let ack = Op::Ack {
            stream: open.stream,
            first: Offset(first),
            last: Offset(skipped_to),
        };
        let marked = open.log.commit(vec![ack]).await;
        marked.map_err(|error| shared.failed("mark damaged events", true, error))?;
        let Some(mut runs) = volume.runs_of(open) else {
            return Err(shared.is_closed());
        };
        self.run = None;
        if skipped_to < last {
            runs.put_back(Run {
                first: skipped_to + 1,
                last,
                batch: None,
                order: None,
            });
        }
        let events = usize::try_from(skipped_to - first + 1).unwrap_or(0);
        shared.give_up(volume, events);
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

/// The runs of what was read from offset `first` on: one, or one for each put where their order matters.
fn runs_of(decoded: Decoded, first: i64, has_order: bool) -> Vec<Run> {
    let Decoded {
        events,
        next,
        mut starts,
    } = decoded;
    if !has_order {
        starts.truncate(1);
    }
    let mut runs = Vec::with_capacity(starts.len());
    for (index, (start, order)) in starts.iter().enumerate() {
        let start = (*start).max(first);
        let end = starts.get(index + 1).map_or(next, |(start, _)| *start);
        let range = (start - first) as usize..(end - first) as usize;
        runs.push(Run {
            first: start,
            last: end - 1,
            batch: Some(events.slice(range)),
            order: Some(*order),
        });
    }
    runs
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let (volume, open) = &self.source;
        if let Some(run) = self.run.take()
            && let Some(mut runs) = volume.runs_of(open)
        {
            runs.put_back(run);
            drop(runs);
            self.shared.filled.notify_one();
        }
    }
}

/// A lease over runs that are in memory.
pub(super) fn lease(shared: &Arc<Shared>, parts: Vec<Part>) -> Lease {
    let mut first_event = 0;
    let mut origin: Vec<OriginRun> = Vec::with_capacity(parts.len());
    for Part { source, run } in &parts {
        let partition = source.0.index as i32;
        match origin.last_mut() {
            Some(last) if last.partition == partition && last.last_offset + 1 == run.first => {
                last.last_offset = run.last;
            }
            _ => origin.push(OriginRun {
                first_event,
                log: Arc::clone(&shared.name),
                partition,
                first_offset: run.first,
                last_offset: run.last,
            }),
        }
        first_event += run.len();
    }
    let batch = Batch::concat(
        parts
            .iter()
            .filter_map(|part| part.run.batch.clone())
            .collect(),
    );
    let settle = FileSettle {
        shared: Arc::clone(shared),
        parts,
    };
    Lease::new(batch, origin, Box::new(settle))
}

struct FileSettle {
    shared: Arc<Shared>,
    parts: Vec<Part>,
}

/// What one volume has in a lease.
struct Share {
    source: Source,
    /// First and last offsets.
    acks: Vec<(i64, i64)>,
    events: usize,
}

/// The shares of the volumes; in each, neighbouring runs are one.
fn shares(parts: Vec<Part>) -> Vec<Share> {
    let mut shares: Vec<Share> = Vec::new();
    for Part { source, run } in parts {
        let (volume, open) = &source;
        let known = shares.iter().position(|share| {
            share.source.0.index == volume.index && share.source.1.closed == open.closed
        });
        let at = known.unwrap_or_else(|| {
            shares.push(Share {
                source,
                acks: Vec::new(),
                events: 0,
            });
            shares.len() - 1
        });
        let share = &mut shares[at];
        share.events += run.len();
        match share.acks.last_mut() {
            Some((_, last)) if *last + 1 == run.first => *last = run.last,
            _ => share.acks.push((run.first, run.last)),
        }
    }
    shares
}

#[async_trait]
impl Settle for FileSettle {
    async fn commit(self: Box<Self>) -> Result<(), ChannelError> {
        let shared = self.shared;
        let mut closed = None;
        for share in shares(self.parts) {
            closed = commit_share(&shared, share).await.err().or(closed);
        }
        closed.map_or(Ok(()), Err)
    }

    fn rollback(self: Box<Self>) {
        for Part { source, run } in self.parts {
            if let Some(mut runs) = source.0.runs_of(&source.1) {
                runs.put_back(run);
            }
        }
        self.shared.filled.notify_one();
    }
}

async fn commit_share(shared: &Arc<Shared>, share: Share) -> Result<(), ChannelError> {
    let (volume, open) = share.source;
    // Closed meanwhile: the events are among those that the next opening finds, and come again.
    if volume.runs_of(&open).is_none() {
        return Err(shared.is_closed());
    }
    let ack = |(first, last): &(i64, i64)| Op::Ack {
        stream: open.stream,
        first: Offset(*first),
        last: Offset(*last),
    };
    let submitted = open
        .log
        .submit_each(share.acks.iter().map(ack).collect())
        .await;
    if let Some(runs) = volume.runs_of(&open) {
        shared.free(&volume, share.events);
        drop(runs);
    }
    let shared = Arc::clone(shared);
    // The order of submissions is the order in the journal; a lost ack costs a re-read only.
    tokio::spawn(async move {
        for outcome in submitted.outcomes().await {
            if let Err(error) = outcome {
                shared.note_failure(&volume, &open);
                let error = error_chain(&error);
                warn!(
                    channel = &*shared.name,
                    error, "delivered events were not marked; they come again after a restart"
                );
            }
        }
        shared.freed.notify_waiters();
    });
    Ok(())
}
