//! What agent, up and broker share: signals, the monitoring endpoint, one run of agents with
//! reload.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};
use flafka_agent::{
    Agent, AgentOptions, ComponentState, Deadlines, HealthBoard, KeptChannels, Stopped,
};
use flafka_broker::log_dirs::LogDirs;
use flafka_broker::metrics::Housekeeping;
use flafka_broker::{Broker, BrokerMetrics};
use flafka_channels::count_troubles;
use flafka_config::topology::AgentConfig;
use flafka_console::{ComponentHealth, Console, Extra, View};
use flafka_flow::channel::Channel;
use flafka_flow::clock::SystemClock;
use flafka_flow::counters::{ComponentKind, Counters, CountersRegistry, sets};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::kafka::pairs;
use crate::exit::Ending;

/// Flume's default monitoring port.
const MONITORING_PORT: u16 = 41414;

/// Java system properties of the command line.
pub(crate) struct Definitions(pub(crate) BTreeMap<String, String>);

impl Definitions {
    /// Reads `NAME=VALUE` words; a word without `=` is an empty value, as in Java.
    pub(crate) fn parse(words: &[String]) -> anyhow::Result<Self> {
        let completed: Vec<String> = words
            .iter()
            .map(|word| {
                if word.contains('=') {
                    word.clone()
                } else {
                    format!("{word}=")
                }
            })
            .collect();
        Ok(Self(pairs(&completed)?))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// Flume's `flume.root.logger`.
    pub(crate) fn root_logger(&self) -> Option<&str> {
        self.get("flume.root.logger")
    }

    /// Where `/metrics` is served, and whether the user asked for it. Unasked it is loopback
    /// and Flume's port; asked (`flume.monitoring.type=http`) it is every address, as in Flume.
    fn monitoring(&self) -> anyhow::Result<(SocketAddr, bool)> {
        let asked = match self.get("flume.monitoring.type") {
            None => false,
            Some(kind) if kind.eq_ignore_ascii_case("http") => true,
            Some(kind) if kind.eq_ignore_ascii_case("prometheus") => true,
            Some(other) => bail!(
                "flume.monitoring.type={other} is not available in this version; `http` serves Flume's JSON at /metrics and Prometheus' text at /metrics/prometheus"
            ),
        };
        let port = match self.get("flume.monitoring.port") {
            None => MONITORING_PORT,
            Some(text) => text
                .parse()
                .with_context(|| format!("flume.monitoring.port={text} is not a port"))?,
        };
        let host = match self.get("flume.monitoring.bind") {
            Some(text) => text
                .parse()
                .with_context(|| format!("flume.monitoring.bind={text} is not an IP address"))?,
            None if asked => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            None => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        Ok((
            SocketAddr::new(host, port),
            asked || self.get("flume.monitoring.port").is_some(),
        ))
    }
}

/// What the process shows of itself.
#[derive(Clone, Default)]
pub(crate) struct Shown {
    pub(crate) counters: CountersRegistry,
    pub(crate) board: HealthBoard,
    /// What channels hold over a reload.
    pub(crate) kept: KeptChannels,
    channels: Arc<Mutex<NamedChannels>>,
    broker: Arc<Mutex<Option<ShownBroker>>>,
}

type NamedChannels = Vec<(String, Arc<dyn Channel>)>;

/// The name of the broker on the health board.
const BROKER: &str = "broker";

/// What is shown of a broker.
#[derive(Clone)]
struct ShownBroker {
    metrics: Arc<BrokerMetrics>,
    log_dirs: LogDirs,
    counters: Arc<Counters>,
}

impl Shown {
    /// Shows a broker and its log too.
    pub(crate) fn broker(&self, broker: &Broker) {
        let counters = Counters::new(ComponentKind::Broker, "log", sets::LOG, true);
        counters.started(&SystemClock);
        let shown = ShownBroker {
            metrics: Arc::clone(broker.metrics()),
            log_dirs: broker.log_dirs().clone(),
            counters: Arc::new(counters),
        };
        *self.broker.lock().unwrap_or_else(PoisonError::into_inner) = Some(shown);
        self.board.set(BROKER, ComponentState::Running);
    }

    fn shown_broker(&self) -> Option<ShownBroker> {
        let broker = self.broker.lock().unwrap_or_else(PoisonError::into_inner);
        broker.clone()
    }

    fn channels(&self) -> NamedChannels {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.clone()
    }

    fn set_channels(&self, channels: NamedChannels) {
        *self.channels.lock().unwrap_or_else(PoisonError::into_inner) = channels;
    }
}

impl View for Shown {
    fn counters(&self) -> Vec<Arc<Counters>> {
        for (_, channel) in self.channels() {
            channel.refresh();
        }
        let mut counters = self.counters.all();
        if let Some(broker) = self.shown_broker() {
            count_troubles(&broker.counters, broker.log_dirs.counts());
            counters.push(broker.counters);
        }
        counters
    }

    fn health(&self) -> Vec<ComponentHealth> {
        let channels: BTreeMap<_, _> = self.channels().into_iter().collect();
        let broker = self.shown_broker();
        let warnings = |name: &str| match (&broker, channels.get(name)) {
            (_, Some(channel)) => channel.warnings(),
            (Some(broker), None) if name == BROKER => broker.log_dirs.warnings(),
            _ => Vec::new(),
        };
        let shown = |(name, state): (String, ComponentState)| ComponentHealth {
            state: state.word(),
            error: match state {
                ComponentState::Failed { error, attempts } => {
                    Some(format!("{error} (attempt {attempts})"))
                }
                _ => None,
            },
            warnings: warnings(&name),
            name,
        };
        self.board.all().into_iter().map(shown).collect()
    }

    fn ready(&self) -> bool {
        self.board.ready()
    }

    fn extras(&self) -> Vec<Extra> {
        let mut extras = process_metrics();
        if let Some(broker) = self.shown_broker() {
            extras.extend(broker_metrics(&broker.metrics));
            extras.push(single(
                "flafka_log_offline_directories",
                "Data directories that do not work.",
                "gauge",
                broker.log_dirs.offline() as f64,
            ));
        }
        extras
    }
}

fn single(name: &'static str, help: &'static str, kind: &'static str, value: f64) -> Extra {
    Extra {
        name,
        help,
        kind,
        series: vec![(Vec::new(), value)],
    }
}

fn broker_metrics(broker: &BrokerMetrics) -> Vec<Extra> {
    let requests = broker.requests().into_iter().map(|(key, count)| {
        let api = kafka_protocol::messages::ApiKey::try_from(key)
            .map_or_else(|_| key.to_string(), |api| format!("{api:?}"));
        (vec![("api", api)], count as f64)
    });
    let count = |name, help, counter: &flafka_broker::metrics::Counter| {
        single(name, help, "counter", counter.get() as f64)
    };
    vec![
        Extra {
            name: "flafka_broker_requests_total",
            help: "Requests by Kafka API.",
            kind: "counter",
            series: requests.collect(),
        },
        count(
            "flafka_broker_connections_accepted_total",
            "Connections accepted.",
            &broker.connections_accepted,
        ),
        count(
            "flafka_broker_connections_refused_total",
            "Connections refused over a limit.",
            &broker.connections_refused,
        ),
        count(
            "flafka_broker_connections_stalled_total",
            "Connections closed because the client stopped sending or reading.",
            &broker.connections_stalled,
        ),
        single(
            "flafka_broker_connections",
            "Connections open now.",
            "gauge",
            broker.connections_open.get() as f64,
        ),
        count(
            "flafka_broker_protocol_violations_total",
            "Frames that were no valid request.",
            &broker.protocol_violations,
        ),
        count(
            "flafka_broker_received_bytes_total",
            "Bytes received.",
            &broker.bytes_in,
        ),
        count(
            "flafka_broker_sent_bytes_total",
            "Bytes sent.",
            &broker.bytes_out,
        ),
        count(
            "flafka_broker_produced_bytes_total",
            "Bytes of record batches appended.",
            &broker.produced_bytes,
        ),
        count(
            "flafka_broker_produced_records_total",
            "Records appended.",
            &broker.produced_records,
        ),
        count(
            "flafka_broker_fetched_bytes_total",
            "Bytes of record batches fetched.",
            &broker.fetched_bytes,
        ),
        count(
            "flafka_broker_produce_errors_total",
            "Partitions of produce requests that failed.",
            &broker.produce_errors,
        ),
        count(
            "flafka_broker_fetch_errors_total",
            "Partitions of fetch requests that failed.",
            &broker.fetch_errors,
        ),
    ]
    .into_iter()
    .chain(housekeeping_metrics(&broker.housekeeping))
    .collect()
}

type Read = fn(&Housekeeping) -> &AtomicU64;

/// What retention, recycling and compaction of the embedded log have done, in all data directories together.
fn housekeeping_metrics(dirs: &[Arc<Housekeeping>]) -> Vec<Extra> {
    let counters: [(_, _, Read); 8] = [
        (
            "flafka_log_retention_segments_total",
            "Segments freed by retention.",
            |done| &done.retention_segments,
        ),
        (
            "flafka_log_retention_bytes_total",
            "Bytes freed by retention.",
            |done| &done.retention_bytes,
        ),
        (
            "flafka_log_recycled_segments_total",
            "Segments that began in the file of a freed one.",
            |done| &done.recycled_segments,
        ),
        (
            "flafka_log_compaction_passes_total",
            "Compaction passes over a partition that were finished.",
            |done| &done.compaction_passes,
        ),
        (
            "flafka_log_compaction_failures_total",
            "Compaction passes that failed.",
            |done| &done.compaction_failures,
        ),
        (
            "flafka_log_compaction_read_bytes_total",
            "Segment bytes that compaction replaced.",
            |done| &done.compaction_read_bytes,
        ),
        (
            "flafka_log_compaction_written_bytes_total",
            "Segment bytes that compaction put in their place.",
            |done| &done.compaction_written_bytes,
        ),
        (
            "flafka_log_compaction_removed_records_total",
            "Records removed by compaction.",
            |done| &done.compaction_removed_records,
        ),
    ];
    let sum = |(name, help, read): (_, _, Read)| {
        let values = dirs.iter().map(|done| read(done).load(Ordering::Relaxed));
        single(name, help, "counter", values.sum::<u64>() as f64)
    };
    counters.map(sum).into()
}

/// Memory and processor time of this process, under Prometheus' usual names.
fn process_metrics() -> Vec<Extra> {
    let mut extras = Vec::new();
    if let Some(pages) = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split(' ').nth(1)?.parse::<f64>().ok())
    {
        let bytes = pages * rustix::param::page_size() as f64;
        extras.push(single(
            "process_resident_memory_bytes",
            "Memory in use.",
            "gauge",
            bytes,
        ));
    }
    if let Some(seconds) = std::fs::read_to_string("/proc/self/stat")
        .ok()
        .and_then(|text| cpu_seconds(&text))
    {
        extras.push(single(
            "process_cpu_seconds_total",
            "Processor time used.",
            "counter",
            seconds,
        ));
    }
    extras
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / rustix::param::clock_ticks_per_second() as f64)
}

/// A token that SIGTERM and SIGINT cancel; a second signal ends the process at once.
pub(crate) fn stop_on_signals() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("watch for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("watch for SIGINT")?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        for round in 0.. {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if round > 0 {
                warn!("second signal: the process ends at once");
                std::process::exit(130);
            }
            info!("asked to stop; a second signal ends at once");
            token.cancel();
        }
    });
    Ok(stop)
}

/// Serves the monitoring endpoint until `stop`. A port that is taken is an error only when the
/// user chose it.
pub(crate) async fn serve_monitoring(
    definitions: &Definitions,
    shown: &Shown,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let (address, asked) = definitions.monitoring()?;
    match Console::bind(address).await {
        Ok(console) => serve(console, shown, stop),
        Err(error) if asked => return Err(error).context("serve /metrics"),
        Err(error) => warn!(
            error = flafka_flow::channel::error_chain(&error),
            "monitoring is off; -Dflume.monitoring.port=0 takes a free port"
        ),
    }
    Ok(())
}

/// Serves a bound console until `stop`.
pub(crate) fn serve(console: Console, shown: &Shown, stop: &CancellationToken) {
    info!(address = %console.address(), "monitoring serves /metrics, /metrics/prometheus, /health and /ready");
    let (view, stop) = (Arc::new(shown.clone()), stop.clone());
    tokio::spawn(async move {
        if let Err(error) = console.serve(view, stop.cancelled_owned()).await {
            warn!(%error, "monitoring ended");
        }
    });
}

/// Where Flume's default paths begin.
pub(crate) fn home() -> PathBuf {
    std::env::var_os("HOME").map_or_else(|| "/".into(), Into::into)
}

/// Builds and runs agents until `stop`; returns when all have stopped in order, with the worst of their ends.
pub(crate) async fn run_agents(
    agents: &[AgentConfig],
    shown: &Shown,
    stop: &CancellationToken,
) -> anyhow::Result<Stopped> {
    let registry = flafka_agent::registry();
    shown.counters.clear();
    let options = AgentOptions {
        clock: Arc::new(SystemClock),
        counters: shown.counters.clone(),
        board: shown.board.clone(),
        home: home(),
        deadlines: Deadlines::default(),
        kept: shown.kept.clone(),
    };
    let mut built = Vec::new();
    for agent in agents {
        shown.board.forget_agent(&agent.name);
        built.push(Agent::build(agent, &registry, options.clone())?);
    }
    shown.set_channels(built.iter().flat_map(Agent::channels).collect());
    let mut running = tokio::task::JoinSet::new();
    for agent in built {
        running.spawn(agent.run(stop.clone()));
    }
    let mut worst = Stopped::Whole;
    while let Some(ended) = running.join_next().await {
        worst = worst.max(ended.context("an agent ended with a defect")?);
    }
    shown.set_channels(Vec::new());
    Ok(worst)
}

/// What the shell sees of agents that have stopped: a loss was logged, and is a failure.
pub(crate) fn ending(stopped: Stopped) -> Ending {
    match stopped {
        Stopped::Whole => Ending::Done,
        Stopped::WithLoss => Ending::Failed,
    }
}

/// How long a stop of the broker may take.
pub(crate) const BROKER_DEADLINE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monitoring_is_loopback_unless_asked_for() {
        let of = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            Definitions::parse(&words).and_then(|definitions| definitions.monitoring())
        };
        assert_eq!(
            of(&[]).expect("default"),
            ("127.0.0.1:41414".parse().expect("address"), false)
        );
        let asked = of(&["flume.monitoring.type=http", "flume.monitoring.port=5"]).expect("asked");
        assert_eq!(asked, ("0.0.0.0:5".parse().expect("address"), true));
        let bound = of(&[
            "flume.monitoring.type=HTTP",
            "flume.monitoring.bind=127.0.0.1",
            "x",
        ])
        .expect("bound");
        assert_eq!(bound.0.ip().to_string(), "127.0.0.1");
        assert!(of(&["flume.monitoring.type=ganglia"]).is_err());
    }

    #[test]
    fn processor_time_is_read_behind_the_name() {
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0";
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        assert_eq!(cpu_seconds(stat), Some(300.0 / ticks));
        assert!(!process_metrics().is_empty());
    }
}
