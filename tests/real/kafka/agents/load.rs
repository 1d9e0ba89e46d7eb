//! Posts that go on while something is killed.
//!
//! Invariant: an event counts as acknowledged only when its post was answered with 200; one whose post failed may be
//! there or not, and is never posted again, so every repeat was made behind the source.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use flafka_tests::kafka_client::{ReadRecord, assign_all, config};
use flafka_tests::log_server::LogServer;
use flafka_tests::poll;
use flafka_tests::running_agent::LIMIT;
use rdkafka::consumer::BaseConsumer;

use super::{event, post};

/// Events of a post.
const POST_EVENTS: usize = 10;
/// Pause between posts: a steady trickle, not a flood.
const PAUSE: Duration = Duration::from_millis(10);

/// A thread that posts events with the bodies `0`, `1`, `2`, … until it is told to stop.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    thread: JoinHandle<BTreeSet<usize>>,
}

impl Load {
    pub(super) fn start(port: u16) -> Self {
        let (stop, acknowledged) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let (asked, counted) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        let thread = thread::spawn(move || {
            let mut kept = BTreeSet::new();
            let mut next = 0;
            while !asked.load(Ordering::Relaxed) {
                let numbers = next..next + POST_EVENTS;
                next = numbers.end;
                let events: Vec<_> = numbers.clone().map(|n| event(&[], n)).collect();
                if matches!(post(port, &events), Ok(200)) {
                    kept.extend(numbers);
                    counted.store(kept.len(), Ordering::Relaxed);
                }
                thread::sleep(PAUSE);
            }
            kept
        });
        Self {
            stop,
            acknowledged,
            thread,
        }
    }

    /// Waits until `more` events have been acknowledged from now on.
    pub(super) fn until_more(&self, more: usize) -> Result<()> {
        let goal = self.acknowledged.load(Ordering::Relaxed) + more;
        poll::until_true("posts are acknowledged", LIMIT, || {
            Ok(self.acknowledged.load(Ordering::Relaxed) >= goal)
        })
    }

    /// Ends the thread and returns the numbers of all acknowledged events.
    pub(super) fn finish(self) -> Result<BTreeSet<usize>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .map_err(|_| anyhow!("the posting thread panicked"))
    }
}

/// Reads a topic of numbers until every expected one is there; how often each has come by then.
pub(super) fn until_numbers(
    log: &LogServer,
    topic: &str,
    expected: &BTreeSet<usize>,
) -> Result<BTreeMap<usize, usize>> {
    let consumer: BaseConsumer = config(log.bootstrap())
        .set("group.id", topic)
        .create()
        .context("create a consumer")?;
    assign_all(&consumer, topic)?;
    let (mut bodies, mut times) = (Vec::new(), BTreeMap::new());
    let mut missing = expected.len();
    poll::until_true("every expected event has come out", LIMIT, || {
        while let Some(message) = consumer.poll(Duration::from_millis(100)) {
            bodies.push(ReadRecord::from_message(&message.context("poll")?).text());
        }
        times = tally(bodies.iter().map(String::as_str))?;
        missing = expected
            .iter()
            .filter(|number| !times.contains_key(number))
            .count();
        Ok(missing == 0)
    })
    .with_context(|| format!("{missing} of {} are missing", expected.len()))?;
    Ok(times)
}

/// How often each number came.
pub(super) fn tally<'a>(
    bodies: impl IntoIterator<Item = &'a str>,
) -> Result<BTreeMap<usize, usize>> {
    let mut times = BTreeMap::new();
    for body in bodies {
        let number = body
            .parse()
            .map_err(|error| anyhow!("the body {body:?} was never sent: {error}"))?;
        *times.entry(number).or_insert(0) += 1;
    }
    Ok(times)
}

/// Everything acknowledged is there, and at most `bound` repeats.
pub(super) fn ensure_nothing_lost(
    times: &BTreeMap<usize, usize>,
    acknowledged: &BTreeSet<usize>,
    bound: usize,
) -> Result<()> {
    let missing: Vec<_> = acknowledged
        .iter()
        .filter(|number| !times.contains_key(number))
        .collect();
    ensure!(
        missing.is_empty(),
        "{} of {} acknowledged events are lost, the first: {:?}",
        missing.len(),
        acknowledged.len(),
        &missing[..missing.len().min(20)]
    );
    let repeats: usize = times.values().map(|count| count - 1).sum();
    ensure!(
        repeats <= bound,
        "{repeats} repeats, at most {bound} are allowed"
    );
    Ok(())
}
