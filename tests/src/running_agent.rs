//! An agent (or several, with `flafka up`) of the binary under test, as a test sees it: a process and its monitoring.
//!
//! One place knows how the monitoring endpoint is asked and what a clean stop is. Invariant: the command line is what a
//! user would type; only the monitoring port is ours, because two agents with the default one cannot run side by side.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::process::Process;
use crate::{flafka, http, poll, ports};

/// How long a start, a stop or one step may take on a machine that is busy with other tests.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Environment variables of a process under test.
pub type Environment<'a> = [(&'a str, String)];

/// A running agent and its monitoring port.
#[derive(Debug)]
pub struct RunningAgent {
    /// The process.
    pub process: Process,
    /// Port of `/metrics`, `/health` and `/ready`.
    pub monitoring: u16,
}

impl RunningAgent {
    /// Starts `flafka ARGUMENTS -f CONF` with monitoring on a free port.
    ///
    /// # Errors
    /// There is no binary or it cannot be started.
    pub fn start(
        arguments: &[&str],
        conf: &Path,
        environment: &Environment<'_>,
        log: &Path,
    ) -> Result<Self> {
        let monitoring = ports::free_port()?;
        let mut command = flafka::command(arguments)?;
        command.arg("-f").arg(conf);
        command.arg(format!("-Dflume.monitoring.port={monitoring}"));
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let name = format!("flafka {}", arguments.join(" "));
        let process = Process::start(&name, command, log)?;
        Ok(Self {
            process,
            monitoring,
        })
    }

    /// [`RunningAgent::start`] of `flafka agent -n NAME`, waiting until it is ready.
    ///
    /// # Errors
    /// It does not get ready in time.
    pub fn ready(
        name: &str,
        conf: &Path,
        environment: &Environment<'_>,
        log: &Path,
    ) -> Result<Self> {
        let mut agent = Self::start(&["agent", "-n", name], conf, environment, log)?;
        agent.until_ready()?;
        Ok(agent)
    }

    /// Waits until `/ready` answers 200.
    ///
    /// # Errors
    /// Not in time, or the process ended.
    pub fn until_ready(&mut self) -> Result<()> {
        let port = self.monitoring;
        self.process
            .until("every component works (/ready)", LIMIT, || {
                let answer = http::get(port, "/ready")?;
                ensure!(
                    answer.status == 200,
                    "/ready is {}: {}",
                    answer.status,
                    String::from_utf8_lossy(&http::get(port, "/health")?.body)
                );
                Ok(Some(()))
            })
    }

    /// GET of a path of the monitoring endpoint.
    ///
    /// # Errors
    /// No answer.
    pub fn get(&self, path: &str) -> Result<http::Answer> {
        http::get(self.monitoring, path)
    }

    /// GET of a path that answers JSON: status code and value.
    ///
    /// # Errors
    /// No answer, or one that is not JSON.
    pub fn json(&self, path: &str) -> Result<(u16, Value)> {
        let answer = self.get(path)?;
        let value = serde_json::from_slice(&answer.body)
            .with_context(|| format!("{path} is not JSON: {:?}", answer.body))?;
        Ok((answer.status, value))
    }

    /// One number of Flume's `/metrics`, such as `("CHANNEL.c1", "ChannelSize")`.
    ///
    /// # Errors
    /// It is not there.
    pub fn metric(&self, component: &str, name: &str) -> Result<i64> {
        let (_, all) = self.json("/metrics")?;
        all[component][name]
            .as_str()
            .and_then(|text| text.parse().ok())
            .with_context(|| format!("no number {component} {name} in {all}"))
    }

    /// The state of one component in `/health`, such as `running`.
    ///
    /// # Errors
    /// It is not there.
    pub fn state(&self, component: &str) -> Result<String> {
        let (_, health) = self.json("/health")?;
        health["components"][component]["state"]
            .as_str()
            .map(str::to_owned)
            .with_context(|| format!("no {component} in {health}"))
    }

    /// Everything the process has printed so far, invalid UTF-8 replaced.
    ///
    /// # Errors
    /// Its log cannot be read.
    pub fn output(&self) -> Result<String> {
        let path = self.process.log();
        let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Waits until the process has printed `text`.
    ///
    /// # Errors
    /// Not in time.
    pub fn until_output(&self, text: &str) -> Result<()> {
        poll::until_true(&format!("the output has {text:?}"), LIMIT, || {
            Ok(self.output()?.contains(text))
        })
        .with_context(|| self.process.evidence())
    }

    /// SIGTERM; the exit code has to be 0.
    ///
    /// # Errors
    /// It is not, or the end does not come in time.
    pub fn stop(mut self) -> Result<()> {
        let status = self.process.terminate(LIMIT)?;
        ensure!(
            status.success(),
            "the agent ended with {status}\n{}",
            self.process.evidence()
        );
        Ok(())
    }
}
