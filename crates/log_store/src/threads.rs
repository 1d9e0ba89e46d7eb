//! The log's std threads: the commit thread, which owns the engine, and the housekeeper, which runs its jobs and
//! gives it the time. Both end by themselves when the queue is closed. A step of compaction takes long and gets a thread
//! for as long as it lasts; there is at most one. Rounds of many segments get a thread of their own beside the commit
//! thread's ([`crate::segment_writes`]).

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::engine::Engine;
use crate::error::{CommitError, OpenError};
use crate::fs::Fs;
use crate::jobs::{Job, JobDone};
use crate::queue::{Command, CommitRequest, Control, Queue, tell};
use crate::segment_writes::SecondHand;
use crate::sync::{AtomicBool, Condvar, Mutex, thread};

/// How often the housekeeper looks whether time-driven work is due.
const TICK: Duration = Duration::from_millis(100);
/// An idle log gets a tick at least this often too, for retention.
const IDLE_TICK: Duration = Duration::from_secs(5);
/// Longest time that acks wait for an append to share its sync.
const MOST_COMPANY: Duration = Duration::from_millis(1);

/// Jobs on their way to the housekeeper. Bounded by the engine, which has at most one of each periodic kind in flight.
#[derive(Debug, Default)]
struct JobQueue {
    state: Mutex<(VecDeque<Job>, bool)>,
    filled: Condvar,
    /// The engine has something that time will act on.
    busy: AtomicBool,
}

impl JobQueue {
    fn push(&self, jobs: impl IntoIterator<Item = Job>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0.extend(jobs);
        drop(state);
        self.filled.notify_one();
    }

    fn end(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.filled.notify_one();
    }

    /// The next job, `None` after a tick's time without any; `Err` at the end.
    fn next(&self) -> Result<Option<Job>, ()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0.is_empty() && !state.1 {
            (state, _) = self
                .filled
                .wait_timeout(state, TICK)
                .unwrap_or_else(PoisonError::into_inner);
        }
        match state.0.pop_front() {
            Some(job) => Ok(Some(job)),
            None if state.1 => Err(()),
            None => Ok(None),
        }
    }
}

/// Starts both threads.
pub(crate) fn start(mut engine: Engine, queue: &Arc<Queue>) -> Result<(), OpenError> {
    let jobs = Arc::new(JobQueue::default());
    let fs = Arc::clone(&engine.shared().fs);
    let idle_tick = engine.options.retention_check_interval.min(IDLE_TICK);
    spawn("log-keeper", {
        let (jobs, queue) = (Arc::clone(&jobs), Arc::clone(queue));
        move || keep_house(&*fs, &jobs, &queue, idle_tick)
    })
    .inspect_err(|_| jobs.end())?;
    engine.second_hand = Some(SecondHand::default());
    let queue = Arc::clone(queue);
    let for_end = Arc::clone(&jobs);
    spawn("log-commit", move || {
        // Whatever way the loop ends, nobody may wait for it for ever.
        let _end = EndGuard {
            jobs: Arc::clone(&jobs),
            queue: Arc::clone(&queue),
        };
        CommitThread {
            engine,
            queue: &queue,
            jobs: &jobs,
            closing: None,
            company: Duration::ZERO,
        }
        .run();
    })
    .inspect_err(|_| for_end.end())
}

struct EndGuard {
    jobs: Arc<JobQueue>,
    queue: Arc<Queue>,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.queue.close_and_clear();
        self.jobs.end();
    }
}

fn spawn(name: &'static str, body: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
    thread::Builder::new()
        .name(name.to_string())
        .spawn(body)
        .map(drop)
        .map_err(|source| OpenError::Thread { name, source })
}

fn keep_house(fs: &dyn Fs, jobs: &JobQueue, queue: &Queue, idle_tick: Duration) {
    let mut idle = Duration::ZERO;
    while let Ok(job) = jobs.next() {
        match job {
            Some(job) => queue.push_internal(Command::Done(job.run(fs))),
            None if jobs.busy.load(Ordering::Relaxed) || idle >= idle_tick => {
                idle = Duration::ZERO;
                queue.push_tick();
            }
            None => idle += TICK,
        }
    }
}

/// Answers for a step of compaction, whatever becomes of its thread.
struct StepAnswer(Arc<Queue>, Option<JobDone>);

impl Drop for StepAnswer {
    fn drop(&mut self) {
        let done = self.1.take().unwrap_or(JobDone::CompactionLost);
        self.0.push_internal(Command::Done(done));
    }
}

impl StepAnswer {
    fn give(&mut self, done: JobDone) {
        self.1 = Some(done);
    }
}

fn compact_aside(job: Job, fs: &Arc<dyn Fs>, queue: &Arc<Queue>) {
    let fs = Arc::clone(fs);
    let mut answer = StepAnswer(Arc::clone(queue), None);
    let body = move || answer.give(job.run(&*fs));
    // Not started, the closure is dropped, and the answer says so.
    if let Err(error) = spawn("log-compact", body) {
        tracing::warn!(%error, "no compaction now");
    }
}

type CloseReply = Option<oneshot::Sender<Result<(), CommitError>>>;

struct CommitThread<'a> {
    engine: Engine,
    queue: &'a Arc<Queue>,
    jobs: &'a JobQueue,
    /// Set once somebody wants the end.
    closing: Option<CloseReply>,
    /// How long a round of acks waits for an append: as long as the round before took if it had one, else not at all.
    /// Where events flow in and out, most deliveries then cost no sync of their own, and where nothing comes in, none
    /// of them waits.
    company: Duration,
}

impl CommitThread<'_> {
    fn run(mut self) {
        let mut waiting = VecDeque::new();
        self.hand_over();
        loop {
            let open = self
                .queue
                .take_all(&mut waiting, self.engine.jobs_in_flight() > 0);
            if !open && waiting.is_empty() && self.closing.is_none() {
                self.engine.stop_compaction.store(true, Ordering::Relaxed);
                self.closing = Some(None);
            }
            while let Some(command) = waiting.pop_front() {
                self.step(command, &mut waiting);
                // What came meanwhile joins the next round.
                self.queue.try_take(&mut waiting);
            }
            self.hand_over();
            if let Some(reply) = &mut self.closing
                && self.engine.jobs_in_flight() == 0
            {
                let reply = reply.take();
                return self.finish(reply);
            }
        }
    }

    fn step(&mut self, command: Command, waiting: &mut VecDeque<Command>) {
        match command {
            Command::Commit(first) => {
                let requests = self.gather(first, waiting);
                let appends = !requests.iter().all(CommitRequest::is_ack);
                let begun = Instant::now();
                self.engine.round(requests);
                self.company = match appends {
                    true => begun.elapsed().min(MOST_COMPANY),
                    false => Duration::ZERO,
                };
            }
            Command::Control(first) => {
                let mut controls: Vec<Control> = vec![first];
                while let Some(Command::Control(_)) = waiting.front() {
                    if let Some(Command::Control(next)) = waiting.pop_front() {
                        controls.push(next);
                    }
                }
                self.engine.control(controls);
            }
            Command::Tick => self.engine.tick(),
            Command::Done(done) => self.engine.job_done(done),
            Command::SetAside(stream, offset, reply) => {
                tell(reply, self.engine.set_aside(stream, offset));
            }
            Command::Checkpoint(reply) => self.engine.checkpoint_for(reply),
            Command::Close(reply) => {
                self.engine.stop_compaction.store(true, Ordering::Relaxed);
                self.queue.close();
                self.closing = Some(Some(reply));
            }
        }
        self.hand_over();
    }

    /// The commits at the head of the line, as many as one round takes.
    fn gather(&self, first: CommitRequest, waiting: &mut VecDeque<Command>) -> Vec<CommitRequest> {
        let mut load = self.engine.round_load();
        load.add(&first);
        let mut requests = vec![first];
        let until = Instant::now() + self.company;
        while requests.iter().all(CommitRequest::is_ack)
            && waiting.iter().all(Command::is_ack)
            && self.queue.wait_until(until, waiting)
        {}
        while let Some(Command::Commit(next)) = waiting.front() {
            if !load.has_room_for(next) {
                break;
            }
            load.add(next);
            if let Some(Command::Commit(next)) = waiting.pop_front() {
                requests.push(next);
            }
        }
        requests
    }

    fn hand_over(&mut self) {
        let (long, jobs): (Vec<Job>, Vec<Job>) = self
            .engine
            .take_jobs()
            .into_iter()
            .partition(|job| matches!(job, Job::Compact(_)));
        for job in long {
            compact_aside(job, &self.engine.shared().fs, self.queue);
        }
        if !jobs.is_empty() {
            self.jobs.push(jobs);
        }
        self.jobs
            .busy
            .store(self.engine.is_busy(), Ordering::Relaxed);
    }

    fn finish(self, reply: CloseReply) {
        let CommitThread { mut engine, .. } = self;
        let result = engine.close();
        // The lock is given back before anybody hears of the end.
        drop(engine);
        if let Some(reply) = reply {
            // Nobody has to wait for the answer.
            tell(reply, result);
        } else if let Err(error) = result {
            tracing::warn!(%error, "no final checkpoint; the next start recovers from the journal");
        }
    }
}
