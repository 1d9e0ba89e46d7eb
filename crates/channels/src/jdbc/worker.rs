//! The thread that has the connection: puts and deliveries that wait at the same time share one transaction and its sync.
//!
//! A take is answered after the writes that came with it, so it never hands out what is not yet committed. When a
//! transaction of several fails without harm to the connection (the disk is full), each is tried alone, so that deliveries
//! go on and only the puts that do not fit are refused.

use std::sync::Arc;

use flafka_flow::Batch;
use flafka_flow::batch::BatchBuilder;
use flafka_flow::channel::{ChannelError, Lease, TakeLimit};
use flafka_flow::counters::Metric;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::channel::{JdbcSettle, Room, Shared};
use super::store::{Change, Store, StoreError};
use super::waiting::Range;

/// Commands that wait at most; also what one transaction holds at most.
pub(super) const MOST_COMMANDS: usize = 64;

type Answer<T> = oneshot::Sender<Result<T, ChannelError>>;

/// What the thread is asked.
pub(super) enum Command {
    /// Store a batch that has room.
    Put {
        batch: Batch,
        room: Room,
        answer: Answer<()>,
    },
    /// Remove what was delivered.
    Deliver {
        ranges: Vec<Range>,
        events: usize,
        answer: Answer<()>,
    },
    /// Lease the oldest events.
    Take {
        limit: TakeLimit,
        answer: Answer<Option<Lease>>,
    },
    /// Close the file and end.
    Close { answer: Answer<()> },
}

/// A put or a delivery with the numbers of its events.
struct Write {
    command: Command,
    first: i64,
}

/// The thread's own.
pub(super) struct Worker {
    pub(super) store: Store,
    pub(super) shared: Arc<Shared>,
    pub(super) generation: u64,
    /// Number of the next event.
    pub(super) next: i64,
    pub(super) has_failed: bool,
}

impl Worker {
    /// Works until it is told to close, or nobody can tell it anything any more.
    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut group = Vec::with_capacity(MOST_COMMANDS);
        while let Some(first) = commands.blocking_recv() {
            group.push(first);
            while group.len() < MOST_COMMANDS
                && let Ok(more) = commands.try_recv()
            {
                group.push(more);
            }
            let (mut writes, mut takes, mut close) = (Vec::new(), Vec::new(), None);
            for command in group.drain(..) {
                match command {
                    Command::Take { limit, answer } => takes.push((limit, answer)),
                    Command::Close { answer } => close = Some(answer),
                    command => writes.push(self.numbered(command)),
                }
            }
            self.write(writes);
            for (limit, answer) in takes {
                // A lease that nobody receives any more rolls back.
                drop(answer.send(self.take(limit)));
            }
            if let Some(answer) = close {
                let (store, shared) = (self.store, self.shared);
                let closed = store.close();
                let closed = closed.map_err(|error| shared.failed("close the database", error));
                drop(answer.send(closed));
                return;
            }
        }
    }

    fn numbered(&mut self, command: Command) -> Write {
        let first = self.next;
        if let Command::Put { batch, .. } = &command {
            self.next += batch.len() as i64;
        }
        Write { command, first }
    }

    fn write(&mut self, writes: Vec<Write>) {
        if writes.is_empty() {
            return;
        }
        if self.has_failed {
            writes
                .into_iter()
                .for_each(|write| self.refuse(write, None));
            return;
        }
        let changes: Vec<_> = writes.iter().filter_map(Write::change).collect();
        match self.store.write(&changes) {
            Ok(()) => writes.into_iter().for_each(|write| self.done(write)),
            Err(error) if writes.len() == 1 || !error.leaves_a_sound_connection() => {
                if !error.leaves_a_sound_connection() {
                    self.note_failure(&error);
                }
                let mut error = Some(error);
                for write in writes {
                    self.refuse(write, error.take());
                }
            }
            Err(_) => {
                for write in writes {
                    self.write(vec![write]);
                }
            }
        }
    }

    /// A write is on the disk.
    fn done(&self, write: Write) {
        let shared = &self.shared;
        match write.command {
            Command::Put {
                batch,
                room,
                answer,
            } => {
                let last = write.first + batch.len() as i64 - 1;
                let counters = &shared.counters;
                room.keep();
                counters.shift(Metric::ChannelSize, batch.len() as i64);
                counters.add(Metric::EventPutSuccessCount, batch.len() as u64);
                shared.add_waiting(self.generation, &[(write.first, last)]);
                drop(answer.send(Ok(())));
            }
            Command::Deliver { events, answer, .. } => {
                shared.delivered(self.generation, events);
                drop(answer.send(Ok(())));
            }
            Command::Take { .. } | Command::Close { .. } => {}
        }
    }

    /// A write is not on the disk; delivered events come again.
    fn refuse(&self, write: Write, error: Option<StoreError>) {
        let shared = &self.shared;
        let answer_error = |action| match error {
            Some(error) => shared.failed(action, error),
            None => shared.closed(),
        };
        match write.command {
            Command::Put { answer, .. } => {
                drop(answer.send(Err(answer_error("store a batch"))));
            }
            Command::Deliver { ranges, answer, .. } => {
                shared.add_waiting(self.generation, &ranges);
                drop(answer.send(Err(answer_error("mark events as delivered"))));
            }
            Command::Take { .. } | Command::Close { .. } => {}
        }
    }

    /// Leases the oldest events.
    fn take(&mut self, limit: TakeLimit) -> Result<Option<Lease>, ChannelError> {
        let shared = Arc::clone(&self.shared);
        let mut settle = JdbcSettle::new(&shared, self.generation);
        let mut builder = BatchBuilder::new();
        let mut left = limit;
        while left.events > 0
            && let Some((first, last)) = shared.pop_waiting(self.generation)
        {
            let read = self
                .store
                .read((first, last), left, settle.events == 0, &mut builder);
            let part = match read {
                Ok(part) => part,
                Err(error) => {
                    settle.ranges.push((first, last));
                    self.note_failure(&error);
                    // The ranges go back with the settle.
                    return Err(shared.failed("read the oldest events", error));
                }
            };
            if part.next <= last {
                shared.add_waiting(self.generation, &[(part.next, last)]);
                left.events = 0;
            } else {
                left.events -= part.events;
                left.bytes = left.bytes.saturating_sub(part.bytes);
            }
            if part.events > 0 {
                settle.ranges.push((first, part.next - 1));
                settle.events += part.events;
            }
        }
        if settle.events == 0 {
            return Ok(None);
        }
        Ok(Some(Lease::new(
            builder.finish(),
            Vec::new(),
            Box::new(settle),
        )))
    }

    /// The connection cannot be trusted any more; whoever watches the channel opens it again.
    fn note_failure(&mut self, error: &StoreError) {
        if !self.has_failed {
            self.has_failed = true;
            self.shared.set_failed(true);
            let error = flafka_flow::channel::error_chain(error);
            warn!(
                channel = &*self.shared.name,
                error, "the database has failed"
            );
        }
    }
}

impl Write {
    fn change(&self) -> Option<Change<'_>> {
        match &self.command {
            Command::Put { batch, .. } => Some(Change::Insert {
                first: self.first,
                batch,
            }),
            Command::Deliver { ranges, .. } => Some(Change::Delete(ranges)),
            Command::Take { .. } | Command::Close { .. } => None,
        }
    }
}
