//! Runs a built agent: starts channels, sinks, sources; stops them in the order that loses
//! nothing (Flume reference 1.7, with deadlines).

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use flafka_flow::channel::{Channel, ChannelError, duration_text, error_chain};
use flafka_flow::counters::Metric;
use flafka_flow::lifecycle::Lifecycle;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::build::{Agent, AgentOptions, ChannelPart};
use crate::health::{ComponentState, HealthBoard};
use crate::kept::KeptChannels;
use crate::supervise::Supervised;
use crate::{sink_runner, source_runner, tend};

/// How long each step of a stop may take before it is forced.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// For sources to finish what they have accepted.
    pub sources: Duration,
    /// For sinks to drain channels that forget their events when the process ends.
    pub drain: Duration,
    /// For sinks to finish their batch and close their files.
    pub sinks: Duration,
    /// For channels to close.
    pub channels: Duration,
}

/// How an agent has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[must_use]
pub enum Stopped {
    /// Its channels kept what they promise to keep.
    Whole,
    /// A channel could not store events that it had acknowledged; the log says which.
    WithLoss,
}

/// How long tasks that were cut off may take to end.
const CUT_OFF: Duration = Duration::from_secs(1);

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            sources: Duration::from_secs(10),
            drain: Duration::from_secs(20),
            sinks: Duration::from_secs(20),
            channels: Duration::from_secs(10),
        }
    }
}

impl Agent {
    /// Runs until `stop` is cancelled, and then stops in order. Components that fail are tried
    /// again; their state is on the health board.
    pub async fn run(self, stop: CancellationToken) -> Stopped {
        let Self {
            name,
            channels,
            sources,
            sinks,
            source_lifecycle,
            sink_lifecycle,
            options,
        } = self;
        info!(agent = name, "agent starts");
        start_channels(&channels, &options.board, &stop).await;
        let channel_lifecycle = Lifecycle::new();
        let mut tending = tend_channels(&channels, &options.board, &channel_lifecycle);
        let mut running = JoinSet::new();
        for part in sinks.into_iter().filter(|_| !stop.is_cancelled()) {
            let supervised = supervised(part.name, &options.board, &sink_lifecycle);
            running.spawn(sink_runner::run(supervised, part.first, part.rebuild));
        }
        let mut feeding = JoinSet::new();
        for part in sources.into_iter().filter(|_| !stop.is_cancelled()) {
            let supervised = supervised(part.name, &options.board, &source_lifecycle);
            feeding.spawn(source_runner::run(
                supervised,
                part.first,
                part.rebuild,
                part.context,
                part.pauses,
            ));
        }
        stop.cancelled().await;
        info!(agent = name, "agent stops");
        let deadlines = options.deadlines;
        source_lifecycle.stop();
        end(
            &name,
            "sources",
            deadlines.sources,
            &mut feeding,
            &source_lifecycle,
        )
        .await;
        drain(&name, &channels, &options.kept, deadlines.drain).await;
        sink_lifecycle.stop();
        end(
            &name,
            "sinks",
            deadlines.sinks,
            &mut running,
            &sink_lifecycle,
        )
        .await;
        channel_lifecycle.stop();
        end(
            &name,
            "channels",
            deadlines.channels,
            &mut tending,
            &channel_lifecycle,
        )
        .await;
        let stopped = stop_channels(&channels, &options, deadlines.channels).await;
        hand_over(&channels, &options.kept);
        info!(agent = name, "agent stopped");
        stopped
    }
}

fn supervised(name: String, board: &HealthBoard, lifecycle: &Lifecycle) -> Supervised {
    Supervised {
        name,
        board: board.clone(),
        lifecycle: lifecycle.clone(),
    }
}

/// Opens all channels, each tried again until it opens or the agent is asked to stop.
async fn start_channels(channels: &[ChannelPart], board: &HealthBoard, stop: &CancellationToken) {
    let mut starting = JoinSet::new();
    for part in channels {
        let lifecycle = Lifecycle::new();
        let supervised = supervised(part.name.clone(), board, &lifecycle);
        let (channel, stop) = (Arc::clone(&part.channel), stop.clone());
        starting.spawn(async move {
            let opened = supervised.keep_alive(|| open(Arc::clone(&channel)));
            tokio::select! {
                () = opened => supervised.running(),
                () = stop.cancelled() => lifecycle.stop(),
            }
        });
    }
    while starting.join_next().await.is_some() {}
}

/// Watches open channels, one task each.
fn tend_channels(
    channels: &[ChannelPart],
    board: &HealthBoard,
    lifecycle: &Lifecycle,
) -> JoinSet<()> {
    let mut tending = JoinSet::new();
    for part in channels {
        let supervised = supervised(part.name.clone(), board, lifecycle);
        tending.spawn(tend::tend(supervised, Arc::clone(&part.channel)));
    }
    tending
}

async fn open(channel: Arc<dyn Channel>) -> Result<(), ChannelError> {
    channel.start().await
}

/// Waits for the tasks of one step; forces them after the deadline.
async fn end(
    agent: &str,
    what: &str,
    deadline: Duration,
    tasks: &mut JoinSet<()>,
    lifecycle: &Lifecycle,
) {
    let ended = within(deadline, async {
        while tasks.join_next().await.is_some() {}
        lifecycle.drained().await;
    });
    if !ended.await {
        warn!(
            agent,
            what,
            deadline = duration_text(deadline),
            "did not end in time and is cut off; leases go back to their channels"
        );
        tasks.shutdown().await;
        // The tasks' own tasks are cut off with them; what they held goes back before the next step.
        within(CUT_OFF, lifecycle.drained()).await;
    }
}

async fn within(deadline: Duration, work: impl Future<Output = ()>) -> bool {
    tokio::time::timeout(deadline, work).await.is_ok()
}

/// Whether the next configuration's channel of the same name and type goes on with what this one holds.
fn is_kept(part: &ChannelPart, kept: &KeptChannels) -> bool {
    part.channel.contents().is_some() && kept.is_next(&part.name, part.kind)
}

fn hand_over(channels: &[ChannelPart], kept: &KeptChannels) {
    for part in channels.iter().filter(|part| is_kept(part, kept)) {
        if let Some(contents) = part.channel.contents() {
            kept.hold(&part.name, part.kind, contents);
        }
    }
}

/// Lets the sinks empty the channels that forget their events, until the deadline.
async fn drain(agent: &str, channels: &[ChannelPart], kept: &KeptChannels, deadline: Duration) {
    const LOOK: Duration = Duration::from_millis(20);
    let left = || -> i64 {
        let forgetful = channels
            .iter()
            .filter(|part| !part.channel.is_durable() && !is_kept(part, kept));
        forgetful
            .map(|part| {
                part.channel.refresh();
                part.channel.counters().get(Metric::ChannelSize)
            })
            .sum()
    };
    let emptied = within(deadline, async {
        while left() > 0 {
            tokio::time::sleep(LOOK).await;
        }
    });
    if !emptied.await {
        warn!(
            agent,
            events = left(),
            deadline = duration_text(deadline),
            "memory channels were not emptied in time; their events are lost"
        );
    }
}

async fn stop_channels(
    channels: &[ChannelPart],
    options: &AgentOptions,
    deadline: Duration,
) -> Stopped {
    let mut stopped = Stopped::Whole;
    for part in channels {
        let channel = &part.name;
        // The next channel goes on with what is in memory.
        let is_kept = is_kept(part, &options.kept);
        let waiting = part.channel.counters().get(Metric::ChannelSize);
        if waiting > 0 && options.kept.leaves_all(&part.directories) {
            let directories = part.directories.iter().map(|dir| dir.display().to_string());
            let directories = directories.collect::<Vec<_>>().join(", ");
            warn!(
                channel,
                waiting,
                directories,
                "the new configuration uses none of this channel's directories: what waits there is delivered only when one does again"
            );
        }
        match tokio::time::timeout(deadline, part.channel.stop()).await {
            Ok(Ok(())) => {}
            Ok(Err(stranded @ ChannelError::Stranded { .. })) if !is_kept => {
                let error = error_chain(&stranded);
                error!(channel, error, "acknowledged events are lost");
                stopped = Stopped::WithLoss;
            }
            Ok(Err(error)) => warn!(
                channel,
                error = error_chain(&error),
                "channel did not close cleanly"
            ),
            Err(_) if part.channel.contents().is_some() && !is_kept => {
                error!(
                    channel,
                    deadline = duration_text(deadline),
                    "channel did not close in time; what was still in memory is lost"
                );
                stopped = Stopped::WithLoss;
            }
            Err(_) => warn!(
                channel,
                deadline = duration_text(deadline),
                "channel did not close in time; it recovers at the next start"
            ),
        }
        options.board.set(channel, ComponentState::Stopped);
    }
    stopped
}
