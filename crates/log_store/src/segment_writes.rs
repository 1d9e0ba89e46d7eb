//! The segment writes of one round. A round into many streams is many small writes into the page cache, each with the file
//! system's share of work: those a second thread halves. Nothing else changes by it: all of them are done, or the round
//! has failed, before the journal hears of them.

use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use crate::error::IoFault;
use crate::fs::File;
use crate::plan::Plan;
use crate::recycle::padding;
use crate::stream::StreamState;
use crate::sync::{AtomicUsize, Condvar, Mutex, thread};

/// From so many writes on, waking the second thread costs less than it saves. The scheduler's tests share every round.
const SHARED_FROM: usize = if cfg!(feature = "shuttle") { 1 } else { 16 };

/// Where one chunk of a plan goes.
#[derive(Debug)]
pub(crate) struct SegmentWrite {
    /// Places in the plan.
    pub(crate) stream: usize,
    pub(crate) chunk: usize,
    pub(crate) file: Arc<dyn File>,
    /// Bytes of the file that are not written for the first time.
    pub(crate) laid_out: u64,
    pub(crate) state: Arc<StreamState>,
}

impl SegmentWrite {
    fn run(&self, plan: &Plan) -> Result<(), IoFault> {
        let chunk = &plan.streams[self.stream].chunks[self.chunk];
        let mut slices = plan.io_slices(chunk);
        slices.extend(padding(chunk.position + chunk.length, self.laid_out));
        self.file
            .write_all_vectored_at(&mut slices, chunk.position)
            .map_err(IoFault::of("write segment", &self.state.dir))
    }
}

/// What two threads write, each the next one that is left.
#[derive(Debug)]
struct Load {
    plan: Plan,
    writes: Vec<SegmentWrite>,
    next: AtomicUsize,
}

impl Load {
    fn work(&self) -> Result<(), IoFault> {
        while let Some(write) = self.writes.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            write.run(&self.plan)?;
        }
        Ok(())
    }
}

/// Between both threads.
#[derive(Debug, Default)]
enum Desk {
    #[default]
    Empty,
    /// For the second thread to take.
    Asked(Arc<Load>),
    /// It works.
    Taken,
    /// For the first thread to take. The load was let go of before.
    Done(Result<(), IoFault>),
    /// The second thread is not there any more, or is to end.
    Closed,
}

#[derive(Debug, Default)]
struct Lane {
    desk: Mutex<Desk>,
    turned: Condvar,
}

impl Lane {
    /// Asks the second thread; false if that is gone.
    fn ask(&self, load: &Arc<Load>) -> bool {
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        let is_there = matches!(*desk, Desk::Empty);
        if is_there {
            *desk = Desk::Asked(Arc::clone(load));
            self.turned.notify_all();
        }
        is_there
    }

    /// How the second thread's work has ended. A load that it never came to is taken back.
    fn answer(&self) -> Result<(), IoFault> {
        self.take(|desk| match std::mem::take(desk) {
            Desk::Done(done) => Some(done),
            Desk::Asked(_) => Some(Ok(())),
            Desk::Closed => {
                *desk = Desk::Closed;
                let error = io::Error::other("the second thread has ended");
                Some(Err(IoFault::of("write segment", Path::new("log"))(error)))
            }
            other => {
                *desk = other;
                None
            }
        })
    }

    fn put(&self, desk: Desk) {
        *self.desk.lock().unwrap_or_else(PoisonError::into_inner) = desk;
        self.turned.notify_all();
    }

    /// Waits for what `wanted` takes off the desk.
    fn take<T>(&self, mut wanted: impl FnMut(&mut Desk) -> Option<T>) -> T {
        let mut desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(taken) = wanted(&mut desk) {
                return taken;
            }
            desk = self
                .turned
                .wait(desk)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Closes the desk whatever way the second thread ends.
struct Leaving(Arc<Lane>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.put(Desk::Closed);
    }
}

/// The second thread, which is started by the first load that needs it.
#[derive(Debug, Default)]
pub(crate) struct SecondHand {
    lane: Option<(Arc<Lane>, thread::JoinHandle<()>)>,
}

impl SecondHand {
    fn lane(&mut self) -> Option<Arc<Lane>> {
        if self.lane.is_none() {
            let lane = Arc::new(Lane::default());
            let leaving = Leaving(Arc::clone(&lane));
            let started = thread::Builder::new()
                .name("log-write".to_string())
                .spawn(move || help(&leaving.0));
            // Without it everything works, only slower.
            self.lane = Some((lane, started.ok()?));
        }
        self.lane.as_ref().map(|(lane, _)| Arc::clone(lane))
    }
}

impl Drop for SecondHand {
    fn drop(&mut self) {
        if let Some((lane, thread)) = self.lane.take() {
            lane.put(Desk::Closed);
            // It ended by a panic, which was reported where it happened.
            drop(thread.join());
        }
    }
}

fn help(lane: &Lane) {
    loop {
        let load = lane.take(|desk| match std::mem::take(desk) {
            Desk::Asked(load) => {
                *desk = Desk::Taken;
                Some(Some(load))
            }
            Desk::Closed => Some(None),
            other => {
                *desk = other;
                None
            }
        });
        let Some(load) = load else { return };
        let done = load.work();
        drop(load);
        lane.put(Desk::Done(done));
    }
}

/// Writes all of it; with a second hand, if it is much.
pub(crate) fn run(
    plan: &mut Plan,
    writes: Vec<SegmentWrite>,
    second: Option<&mut SecondHand>,
) -> Result<(), IoFault> {
    let lane = match second {
        Some(second) if writes.len() >= SHARED_FROM => second.lane(),
        _ => None,
    };
    let Some(lane) = lane else {
        return writes.iter().try_for_each(|write| write.run(plan));
    };
    let mut load = Arc::new(Load {
        plan: std::mem::take(plan),
        writes,
        next: AtomicUsize::new(0),
    });
    let asked = lane.ask(&load);
    let first = load.work();
    let second = match asked {
        true => lane.answer(),
        false => Ok(()),
    };
    let Some(load) = Arc::get_mut(&mut load) else {
        unreachable!("the second thread has let go of the load")
    };
    *plan = std::mem::take(&mut load.plan);
    first.and(second)
}

#[cfg(all(test, not(feature = "shuttle")))]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::log::Log;
    use crate::op::{AppendStamp, Offset, Op, StreamId};
    use crate::settings::{LogOptions, StreamSettings};
    use crate::sim_fs::{Failure, Plan as FailurePlan, SimFs};
    use crate::tests::batch;

    const EIO: i32 = 5;
    const STREAMS: usize = 3 * SHARED_FROM;

    #[test]
    fn a_round_into_many_streams_is_there_as_a_whole_or_not_at_all() {
        let fs = SimFs::new(1);
        let clock = Arc::new(ManualClock::new(1_000_000));
        let options = LogOptions::new("/log");
        let (log, _) = Log::open(options, Arc::new(fs.clone()), clock).unwrap();
        let streams: Vec<StreamId> = (0..STREAMS)
            .map(|at| {
                let name = format!("topic/t/{at}");
                log.create_stream(&name, StreamSettings::default())
                    .wait()
                    .unwrap()
            })
            .collect();
        let append = |stream: &StreamId| Op::Append {
            stream: *stream,
            batches: batch(3, 100, 1),
            stamp: AppendStamp::AsStream,
        };
        let round = || log.commit_blocking(streams.iter().map(append).collect());
        let ends = || {
            let end = |stream| log.bounds(stream).unwrap().high_watermark;
            streams.iter().copied().map(end).collect::<Vec<Offset>>()
        };
        round().unwrap();
        assert_eq!(ends(), vec![Offset(3); STREAMS]);
        // The n-th write fails, whoever does it; the files are there, so that all calls of a round are writes.
        for at in [1, STREAMS / 2, STREAMS] {
            fs.fail(Some(FailurePlan {
                call: fs.calls() + at as u64,
                failure: Failure::Errno(EIO),
                for_ever: false,
            }));
            assert!(round().is_err(), "write {at} fails");
            assert_eq!(ends(), vec![Offset(3); STREAMS], "write {at} fails");
        }
        round().unwrap();
        assert_eq!(ends(), vec![Offset(6); STREAMS]);
        for stream in &streams {
            let plan = log.read(*stream, Offset(0), 1 << 20, true).unwrap();
            let read = plan.read_to_bytes().unwrap();
            assert_eq!(read.len(), 2 * batch(3, 100, 1).len(), "{stream:?}");
        }
        log.close_blocking().unwrap();
    }
}
