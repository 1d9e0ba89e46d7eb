//! `flafka demo`: the main job on this machine's own logs, with a kill on the way and proof at
//! the end.
//!
//! Four processes, as in real life: the embedded log; an agent that ships log files and HTTP
//! posts through a file channel into a topic; an agent of another consumer group that writes
//! rolled files; and this one, which posts, counts as a plain Kafka client, kills the shipping
//! agent once with SIGKILL, and compares everything that was acknowledged with what came out.

mod counter;
mod inputs;
mod ledger;
mod metrics;
mod poster;
mod process;
mod proof;
mod view;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use self::counter::Counter;
use self::inputs::Layout;
use self::poster::Poster;
use self::process::Process;
use self::view::{Figures, View};
use crate::arguments::DemoOptions;
use crate::exit::{Ending, Outcome, say};

/// How long a process may take to be ready.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// How long the groups may take to catch up at the end.
const DRAIN_DEADLINE: Duration = Duration::from_secs(40);
/// How long the shipping agent stays dead.
const DEAD_TIME: Duration = Duration::from_millis(1500);

pub(crate) fn run(options: DemoOptions) -> Outcome {
    let dir = options.dir.unwrap_or_else(default_dir);
    let layout = Layout::create(&dir)?;
    say(&format!("Flafka demo in {}", dir.display()))?;
    say(&layout.describe())?;
    let mut view = View::new(options.plain, Duration::from_secs(options.seconds))?;
    let outcome = Demo::start(&layout, &mut view)
        .and_then(|demo| demo.play(Duration::from_secs(options.seconds), &mut view));
    view.close();
    match outcome {
        Ok(proof) => {
            say(&proof.table())?;
            say(&proof.next_commands(&layout))?;
            Ok(if proof.holds() {
                Ending::Done
            } else {
                Ending::Failed
            })
        }
        Err(error) => Err(error.context(format!(
            "the logs of all processes are in {}",
            layout.logs.display()
        ))),
    }
}

/// In a child of a demo: asks the system for SIGTERM when the demo ends in whatever way.
pub(crate) fn end_with_parent() {
    if std::env::var_os(process::END_WITH_PARENT).is_some() {
        let asked =
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
        if let Err(error) = asked {
            crate::exit::complain(&format!(
                "flafka: this process may outlive its demo: {error}"
            ));
        }
    }
}

fn default_dir() -> PathBuf {
    std::env::temp_dir().join(format!("flafka-demo-{}", std::process::id()))
}

/// The running demo.
struct Demo<'l> {
    layout: &'l Layout,
    broker: Process,
    shipper: Process,
    writer: Process,
    poster: Poster,
    counter: Counter,
    started: Instant,
    before_kill: (u64, u64),
}

impl<'l> Demo<'l> {
    fn start(layout: &'l Layout, view: &mut View) -> anyhow::Result<Self> {
        view.step("starting the embedded log")?;
        let broker = Process::start(
            layout,
            "broker",
            &["broker", "-f", &layout.path_text("server.properties")],
        )?;
        broker.wait_for_port(layout.broker_port, START_DEADLINE)?;
        inputs::create_topic(layout)?;
        view.step("starting the agents")?;
        let counter = Counter::start(&layout.bootstrap(), inputs::TOPIC)?;
        let writer = agent(layout, "writer", "write", layout.writer_port)?;
        let shipper = agent(layout, "shipper", "ship", layout.shipper_port)?;
        writer.wait_until_ready(layout.writer_port, START_DEADLINE)?;
        shipper.wait_until_ready(layout.shipper_port, START_DEADLINE)?;
        Ok(Self {
            layout,
            broker,
            shipper,
            writer,
            poster: Poster::start(layout.http_port),
            counter,
            started: Instant::now(),
            before_kill: (0, 0),
        })
    }

    fn play(mut self, length: Duration, view: &mut View) -> anyhow::Result<proof::Proof> {
        view.step("log files and HTTP posts flow into the topic; two groups read it")?;
        self.watch_until(length.mul_f64(0.45), view)?;
        view.step("SIGKILL to the shipping agent")?;
        // Counters begin again with the process, as Flume's do; the view goes on.
        let last = self.look(view)?;
        self.before_kill = (last.tailed.unwrap_or(0), last.shipped.unwrap_or(0));
        self.shipper.kill()?;
        self.watch_until(length.mul_f64(0.45) + DEAD_TIME, view)?;
        view.step("the shipping agent comes back and goes on where it was")?;
        let back = Instant::now();
        self.shipper = agent(self.layout, "shipper", "ship", self.layout.shipper_port)?;
        self.shipper
            .wait_until_ready(self.layout.shipper_port, START_DEADLINE)?;
        let restart = back.elapsed();
        self.watch_until(length, view)?;
        view.step("posting ends; the channel drains")?;
        let posted = self.poster.stop()?;
        self.drain(view)?;
        view.step("stopping the shipping agent in order")?;
        self.shipper.stop(DRAIN_DEADLINE)?;
        let expected = proof::expected(self.layout, posted)?;
        view.step("waiting until both groups have everything")?;
        self.catch_up(&expected, view)?;
        view.step("stopping the rest")?;
        self.writer.stop(DRAIN_DEADLINE)?;
        let counted = self.counter.stop()?;
        self.broker.stop(DRAIN_DEADLINE)?;
        proof::compare(
            self.layout,
            expected,
            counted,
            restart,
            self.started.elapsed(),
        )
    }

    fn watch_until(&mut self, moment: Duration, view: &mut View) -> anyhow::Result<()> {
        while self.started.elapsed() < moment {
            self.look(view)?;
        }
        Ok(())
    }

    /// Waits until the shipping agent's channel is empty and its files are read.
    fn drain(&mut self, view: &mut View) -> anyhow::Result<()> {
        let deadline = Instant::now() + DRAIN_DEADLINE;
        let mut quiet = 0;
        while quiet < 5 {
            let figures = self.look(view)?;
            quiet = if figures.waiting == Some(0) {
                quiet + 1
            } else {
                0
            };
            if Instant::now() > deadline {
                bail!("the shipping agent's channel did not drain within {DRAIN_DEADLINE:?}");
            }
        }
        Ok(())
    }

    fn catch_up(&mut self, expected: &proof::Expected, view: &mut View) -> anyhow::Result<()> {
        let deadline = Instant::now() + DRAIN_DEADLINE;
        loop {
            self.look(view)?;
            let written = ledger::Ledger::of_files(&self.layout.out)?;
            if expected.all.missing_in(&written) == 0
                && expected.all.missing_in(&self.counter.ledger()) == 0
            {
                return Ok(());
            }
            if Instant::now() > deadline {
                // The comparison says what is missing.
                return Ok(());
            }
        }
    }

    /// One look at everything, a fifth of a second long.
    fn look(&mut self, view: &mut View) -> anyhow::Result<Figures> {
        std::thread::sleep(Duration::from_millis(200));
        let shipper = metrics::read(self.layout.shipper_port);
        let writer = metrics::read(self.layout.writer_port);
        let number = |all: &Option<metrics::Metrics>, component: &str, name: &str| {
            all.as_ref().and_then(|all| all.get(component, name))
        };
        let figures = Figures {
            elapsed: self.started.elapsed(),
            posted: self.poster.acknowledged(),
            refused: self.poster.failures(),
            tailed: number(&shipper, "SOURCE.logs", "EventAcceptedCount")
                .map(|count| count + self.before_kill.0),
            shipped: number(&shipper, "SINK.topic", "EventDrainSuccessCount")
                .map(|count| count + self.before_kill.1),
            waiting: number(&shipper, "CHANNEL.disk", "ChannelSize"),
            written: number(&writer, "SINK.files", "EventDrainSuccessCount"),
            counted: self.counter.count(),
            in_topic: self.counter.end_offsets(),
        };
        view.show(&figures).context("show the live view")?;
        Ok(figures)
    }
}

fn agent(layout: &Layout, log: &str, name: &str, port: u16) -> anyhow::Result<Process> {
    let file = layout.path_text(&format!("{name}.conf"));
    let monitoring = format!("-Dflume.monitoring.port={port}");
    Process::start(
        layout,
        log,
        &[
            "agent",
            "-n",
            name,
            "-f",
            &file,
            &monitoring,
            "--no-reload-conf",
        ],
    )
}
