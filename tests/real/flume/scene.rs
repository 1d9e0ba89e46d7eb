//! One side of a comparison: a directory, ports and topics of its own, and the agent that runs there.
//!
//! A scene's paths, ports and topic names differ between the two sides; [`Scene::fill`] puts them into the
//! configuration in place of `@DIR@ @PORT@ @BOOTSTRAP@ @TOPIC@`, and [`Scene::neutral`] takes them out of the results.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result};
use flafka_tests::kafka_client::unique_name;
use flafka_tests::process::Process;
use flafka_tests::real::flume_agent;
use flafka_tests::{flafka, http, poll, ports};
use serde_json::Value;
use tempfile::TempDir;

/// How long an agent may take to do its work.
const WORK_LIMIT: Duration = Duration::from_secs(60);

/// Folders that every scene has.
const FOLDERS: [&str; 7] = ["in", "out", "out2", "out3", "state", "checkpoint", "data"];

/// Who runs the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Flume,
    Flafka,
}

/// One side of a comparison.
#[derive(Debug)]
pub(crate) struct Scene {
    directory: TempDir,
    pub(crate) port: u16,
    monitoring_port: u16,
    bootstrap: String,
    pub(crate) topic: String,
    /// What the drivers were answered.
    answers: Mutex<Vec<String>>,
}

impl Scene {
    pub(crate) fn new(bootstrap: Option<&str>) -> Result<Self> {
        let directory = tempfile::tempdir().context("make a directory for a scene")?;
        for folder in FOLDERS {
            fs::create_dir(directory.path().join(folder))
                .with_context(|| format!("make the folder {folder}"))?;
        }
        Ok(Self {
            directory,
            port: ports::free_port()?,
            monitoring_port: ports::free_port()?,
            bootstrap: bootstrap.unwrap_or("no-log-in-this-case").to_owned(),
            topic: unique_name("differential"),
            answers: Mutex::new(Vec::new()),
        })
    }

    /// A path in the scene's directory.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.directory.path().join(relative)
    }

    pub(crate) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Notes what a server answered to a driver; compared as part of the outcome.
    pub(crate) fn note(&self, answer: impl Into<String>) {
        self.answers
            .lock()
            .expect("a note does not panic")
            .push(answer.into());
    }

    pub(crate) fn answers(&self) -> Vec<String> {
        self.answers.lock().expect("a note does not panic").clone()
    }

    pub(crate) fn fill(&self, conf: &str) -> String {
        conf.replace("@DIR@", &self.directory.path().display().to_string())
            .replace("@PORT@", &self.port.to_string())
            .replace("@BOOTSTRAP@", &self.bootstrap)
            .replace("@TOPIC@", &self.topic)
    }

    pub(crate) fn neutral(&self, text: &str) -> String {
        text.replace(&self.directory.path().display().to_string(), "@DIR@")
            .replace(&self.topic, "@TOPIC@")
    }

    /// Starts agent `a1` of `conf` and waits until its metrics answer.
    pub(crate) fn start(&self, side: Side, conf: &str) -> Result<Process> {
        let file = self.path("flume.conf");
        fs::write(&file, self.fill(conf)).context("write flume.conf")?;
        let log = self.path("agent.log");
        let mut agent = match side {
            Side::Flume => flume_agent("a1", &file, self.monitoring_port, &log)?,
            Side::Flafka => flafka::agent("a1", &file, self.monitoring_port, &log)?,
        };
        agent.until("the agent's metrics answer", WORK_LIMIT, || {
            Ok(self
                .metrics()?
                .as_object()
                .is_some_and(|components| !components.is_empty())
                .then_some(()))
        })?;
        Ok(agent)
    }

    /// `GET /metrics`: a JSON object of components.
    pub(crate) fn metrics(&self) -> Result<Value> {
        let answer = http::get(self.monitoring_port, "/metrics")?;
        serde_json::from_slice(&answer.body)
            .with_context(|| format!("the metrics are no JSON: {answer:?}"))
    }

    /// Waits until the sinks have taken `taken` events in all.
    pub(crate) fn wait_taken(&self, agent: &mut Process, taken: u64) -> Result<()> {
        let mut seen = 0;
        let waited = agent.until("all events are taken", WORK_LIMIT, || {
            seen = taken_events(&self.metrics()?);
            Ok((seen >= taken).then_some(()))
        });
        waited.with_context(|| format!("{seen} of {taken} events were taken"))
    }

    /// Two looks at the metrics that agree in the counts that [`super::outcome`] compares, so that they have settled.
    pub(crate) fn settled_metrics(&self, counted: impl Fn(&Value) -> Vec<String>) -> Result<Value> {
        let mut before = Vec::new();
        poll::until("the counters have settled", WORK_LIMIT, || {
            let metrics = self.metrics()?;
            let now = counted(&metrics);
            let settled = now == before;
            before = now;
            std::thread::sleep(Duration::from_millis(150));
            Ok(settled.then_some(metrics))
        })
    }
}

/// How many events the sinks have taken from all channels.
pub(crate) fn taken_events(metrics: &Value) -> u64 {
    let components = metrics.as_object().into_iter().flatten();
    let channels = components.filter(|(name, _)| name.starts_with("CHANNEL."));
    channels
        .filter_map(|(_, channel)| {
            channel["EventTakeSuccessCount"]
                .as_str()?
                .parse::<u64>()
                .ok()
        })
        .sum()
}
