//! The bounded queue in front of the commit thread, and the tickets that come back from it.
//!
//! Commits wait for room, counted in bytes, before they are queued; that wait is the log's back-pressure. Stream changes
//! are rare and small: a fixed number may wait, more are refused. The commit thread takes everything at once, so the
//! longer a sync takes, the larger the next group is (natural group commit, no timer).

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;

use bytes::Bytes;
use flafka_kafka_wire::records::BatchHeader;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::damage::Damage;
use crate::error::{CommitError, ReadError};
use crate::jobs::JobDone;
use crate::op::{AppendStamp, Offset, Op, OpOutcome, StreamId};
use crate::settings::StreamSettings;
use crate::sync::thread::{self, Thread};
use crate::sync::{Condvar, Mutex, MutexGuard};

/// Unit of the byte semaphore.
const PERMIT_BYTES: u64 = 1024;
/// What a group costs besides its bytes.
const GROUP_OVERHEAD_BYTES: u64 = 512;
/// Most stream changes that may wait.
const MAX_CONTROLS: usize = 16_384;

/// An op whose batches were checked.
#[derive(Debug)]
pub(crate) enum Prepared {
    /// Valid batches with their headers.
    Append {
        stream: StreamId,
        batches: Bytes,
        headers: Vec<BatchHeader>,
        stamp: AppendStamp,
    },
    /// Everything else.
    Plain(Op),
    /// Retention: a trim that may free the last segment too.
    Expire { stream: StreamId, log_start: Offset },
    /// Refused before it was queued (only with individual results).
    Refused(CommitError),
}

/// How a group answers.
#[derive(Debug)]
pub(crate) enum Reply {
    /// All or nothing.
    All(oneshot::Sender<Result<Vec<OpOutcome>, CommitError>>),
    /// Each op for itself.
    Each(oneshot::Sender<Vec<Result<OpOutcome, CommitError>>>),
}

/// A group in the queue.
#[derive(Debug)]
pub(crate) struct CommitRequest {
    pub(crate) ops: Vec<Prepared>,
    pub(crate) bytes: u64,
    pub(crate) reply: Reply,
    /// Given back when the group is answered.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
}

impl CommitRequest {
    /// Whether it says only what was delivered.
    pub(crate) fn is_ack(&self) -> bool {
        let is_ack = |op: &Prepared| matches!(op, Prepared::Plain(Op::Ack { .. }));
        self.ops.iter().all(is_ack)
    }
}

/// A change of the set of streams.
#[derive(Debug)]
pub(crate) enum Control {
    Create {
        name: String,
        settings: StreamSettings,
        reply: oneshot::Sender<Result<StreamId, CommitError>>,
    },
    Update {
        id: StreamId,
        settings: StreamSettings,
        reply: oneshot::Sender<Result<(), CommitError>>,
    },
    Delete {
        id: StreamId,
        reply: oneshot::Sender<Result<(), CommitError>>,
    },
}

/// What the commit thread is asked to do.
#[derive(Debug)]
pub(crate) enum Command {
    Commit(CommitRequest),
    Control(Control),
    /// Time has passed: checkpoints, interval syncs, retention.
    Tick,
    /// The housekeeper has finished something.
    Done(JobDone),
    /// Look at what cannot be read at an offset, and keep a copy of it.
    SetAside(
        StreamId,
        Offset,
        oneshot::Sender<Result<Option<Damage>, ReadError>>,
    ),
    /// Checkpoint now; answered when it is complete.
    Checkpoint(oneshot::Sender<Result<(), CommitError>>),
    /// Final checkpoint and end.
    Close(oneshot::Sender<Result<(), CommitError>>),
}

impl Command {
    /// Whether it is a commit that says only what was delivered.
    pub(crate) fn is_ack(&self) -> bool {
        matches!(self, Command::Commit(request) if request.is_ack())
    }
}

#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    room: Arc<Semaphore>,
    permits: u32,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Command>,
    controls: usize,
    tick: bool,
    closed: bool,
}

impl State {
    fn take(&mut self, into: &mut VecDeque<Command>) {
        self.controls = 0;
        self.tick = false;
        into.append(&mut self.waiting);
    }
}

impl Queue {
    pub(crate) fn new(bytes: u64) -> Self {
        let permits = u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX >> 4);
        let permits = permits.min(u32::MAX >> 4);
        Queue {
            state: Mutex::default(),
            filled: Condvar::new(),
            room: Arc::new(Semaphore::new(permits as usize)),
            permits,
        }
    }

    /// Waits until a group of `bytes` has room. A group larger than the queue takes all of it.
    ///
    /// # Cancel safety
    /// Safe: nothing is queued yet.
    pub(crate) async fn reserve(&self, bytes: u64) -> Result<OwnedSemaphorePermit, CommitError> {
        let wanted = (bytes + GROUP_OVERHEAD_BYTES).div_ceil(PERMIT_BYTES);
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX).min(self.permits);
        Arc::clone(&self.room)
            .acquire_many_owned(wanted)
            .await
            .map_err(|_| CommitError::Closed)
    }

    /// Queues a command.
    pub(crate) fn push(&self, command: Command) -> Result<(), CommitError> {
        let mut state = self.lock();
        if state.closed {
            return Err(CommitError::Closed);
        }
        if matches!(command, Command::Control(_)) {
            if state.controls >= MAX_CONTROLS {
                return Err(CommitError::Busy);
            }
            state.controls += 1;
        }
        state.waiting.push_back(command);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Queues what the log's own threads have to say, closed or not.
    pub(crate) fn push_internal(&self, command: Command) {
        self.lock().waiting.push_back(command);
        self.filled.notify_one();
    }

    /// Queues a tick unless one is waiting.
    pub(crate) fn push_tick(&self) {
        let mut state = self.lock();
        if !state.tick {
            state.tick = true;
            state.waiting.push_back(Command::Tick);
            drop(state);
            self.filled.notify_one();
        }
    }

    /// Waits for commands and takes all of them. Once the queue is closed it returns what there is, unless
    /// `expecting` says that an internal command is still to come. Returns whether the queue is open.
    pub(crate) fn take_all(&self, into: &mut VecDeque<Command>, expecting: bool) -> bool {
        let mut state = self.lock();
        while state.waiting.is_empty() && (!state.closed || expecting) {
            state = self
                .filled
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.take(into);
        !state.closed
    }

    /// Takes what comes until then, if anything does. Returns false when the time is over or the queue is closed.
    pub(crate) fn wait_until(&self, until: Instant, into: &mut VecDeque<Command>) -> bool {
        let mut state = self.lock();
        while state.waiting.is_empty() && !state.closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            (state, _) = self
                .filled
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.take(into);
        !state.closed
    }

    /// Takes what is there without waiting.
    pub(crate) fn try_take(&self, into: &mut VecDeque<Command>) {
        self.lock().take(into);
    }

    /// Refuses everything and drops what waits: its tickets answer "closed".
    pub(crate) fn close_and_clear(&self) {
        self.close();
        let dropped = std::mem::take(&mut self.lock().waiting);
        drop(dropped);
    }

    /// Refuses everything from now on and wakes whoever waits.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.room.close();
        self.filled.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An answer that will come. Await it, or block with [`Ticket::wait`].
#[derive(Debug)]
#[must_use = "the change may still fail"]
pub struct Ticket<T>(Waiting<T>);

#[derive(Debug)]
enum Waiting<T> {
    Answered(Option<CommitError>),
    Open(oneshot::Receiver<Result<T, CommitError>>),
}

impl<T> Ticket<T> {
    pub(crate) fn failed(error: CommitError) -> Self {
        Ticket(Waiting::Answered(Some(error)))
    }

    pub(crate) fn open(receiver: oneshot::Receiver<Result<T, CommitError>>) -> Self {
        Ticket(Waiting::Open(receiver))
    }

    /// Blocks this thread until the answer is there.
    ///
    /// # Errors
    /// As the operation's.
    pub fn wait(self) -> Result<T, CommitError> {
        block_on(self)
    }
}

impl<T> Unpin for Ticket<T> {}

impl<T> Future for Ticket<T> {
    type Output = Result<T, CommitError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Waiting::Answered(error) => {
                Poll::Ready(Err(error.take().unwrap_or(CommitError::Closed)))
            }
            Waiting::Open(receiver) => Pin::new(receiver)
                .poll(context)
                .map(|answer| answer.unwrap_or(Err(CommitError::Closed))),
        }
    }
}

/// Answers a ticket whose holder may have gone.
pub(crate) fn tell<T>(reply: oneshot::Sender<T>, answer: T) {
    drop(reply.send(answer));
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Drives a future on this thread, which sleeps meanwhile. For std threads only.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ack() -> Command {
        let op = Op::Ack {
            stream: StreamId(1),
            first: Offset(0),
            last: Offset(9),
        };
        Command::Commit(CommitRequest {
            ops: vec![Prepared::Plain(op)],
            bytes: 0,
            reply: Reply::All(oneshot::channel().0),
            permit: None,
        })
    }

    #[test]
    fn a_wait_ends_with_what_comes_with_its_time_or_with_the_queue() {
        let queue = Arc::new(Queue::new(1024));
        let mut taken = VecDeque::new();
        let late = Instant::now() + Duration::from_secs(600);
        let pusher = thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.push(ack())
        });
        assert!(queue.wait_until(late, &mut taken), "an ack comes");
        assert!(taken.len() == 1 && taken.iter().all(Command::is_ack));
        assert!(
            !queue.wait_until(Instant::now(), &mut taken),
            "nothing comes"
        );
        assert!(pusher.join().is_ok_and(|pushed| pushed.is_ok()));
        queue.push_internal(Command::Tick);
        queue.close();
        assert!(!queue.wait_until(late, &mut taken), "the end is told");
        assert!(
            !taken.iter().all(Command::is_ack),
            "and what came before it"
        );
    }
}
