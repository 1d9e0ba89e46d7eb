//! One comparison: prepare, start the agent, drive it, wait for the last event, stop it, look at what it left.
//!
//! First a real Flume does it, then `flafka agent`, each in a scene of its own. Invariant: everything that Flume left
//! must be there and equal, and nothing more, but for what the case's own `outcome` makes neutral (times, paths, the
//! order of a map).

use std::env;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::outcome::{self, Outcome};
use crate::scene::{Scene, Side, taken_events};

/// An agent gets this long to stop; Flume needs up to six seconds.
const STOP_LIMIT: Duration = Duration::from_secs(40);

type Step = fn(&Scene) -> Result<()>;

/// A case: one configuration and what is done with it.
#[derive(Clone, Copy)]
pub(crate) struct Comparison {
    pub(crate) name: &'static str,
    /// The text of the `flume.conf`, with place holders.
    pub(crate) conf: &'static str,
    /// Before the agent starts: input files, topics.
    pub(crate) prepare: Step,
    /// While it runs.
    pub(crate) drive: Step,
    /// How many events the sinks take in all.
    pub(crate) taken: u64,
    /// After it has stopped.
    pub(crate) outcome: fn(&Scene) -> Result<Outcome>,
}

impl Comparison {
    /// Runs both sides and compares.
    ///
    /// # Errors
    /// A side fails, or the results differ; the error lists every difference.
    pub(crate) fn run(&self, bootstrap: Option<&str>) -> Result<()> {
        let expected = self
            .play(Side::Flume, bootstrap)
            .context("the side of Apache Flume")?;
        let other = if env::var_os("FLAFKA_DIFFERENTIAL_SELF_CHECK").is_some() {
            eprintln!("{}: {expected}", self.name);
            Side::Flume
        } else {
            Side::Flafka
        };
        let found = self.play(other, bootstrap).context("the side of flafka")?;
        outcome::compare(&expected, &found)
    }

    fn play(&self, side: Side, bootstrap: Option<&str>) -> Result<Outcome> {
        let scene = Scene::new(bootstrap)?;
        (self.prepare)(&scene).context("prepare")?;
        let mut agent = scene.start(side, self.conf)?;
        let driven = (self.drive)(&scene).context("drive");
        let waited = driven.and_then(|()| scene.wait_taken(&mut agent, self.taken));
        if let Err(error) = waited {
            return Err(error.context(agent.evidence()));
        }
        let metrics = scene.settled_metrics(outcome::counters)?;
        let taken = taken_events(&metrics);
        ensure!(
            taken == self.taken,
            "{taken} events were taken and not {}",
            self.taken
        );
        agent.terminate(STOP_LIMIT)?;
        let mut left = (self.outcome)(&scene).with_context(|| agent.evidence())?;
        left.add(
            "answers",
            scene.answers().iter().map(|answer| scene.neutral(answer)),
        );
        left.metrics = metrics;
        Ok(left)
    }
}
