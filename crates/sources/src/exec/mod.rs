//! The `exec` source: each line that a command writes to its standard output is an event
//! (reference 2.2, exec).
//!
//! A pipe cannot be read twice, so this source can never promise what taildir promises: a crash
//! loses what the command had written and the channel had not accepted. Within that, nothing is
//! lost: when a channel refuses, the lines stay here, the pipe fills, and the command waits
//! (Flume kills the command and drops the lines it had buffered).
//!
//! Invariant: at most one batch and one read are held in memory, apart from one long line.

mod lines;
mod process;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use flafka_flow::counters::{ComponentKind, Counters, Metric, sets};
use flafka_flow::registry::{BuildContext, BuildError, SourceFactory, TypeNames};
use flafka_flow::settings;
use flafka_flow::settings::{Count, Millis};
use flafka_flow::source::{BuiltSource, Source, SourceContext, SourceError};
use tokio::time::Instant;

use crate::charset::Charset;
use crate::retry::{Put, put_until_accepted};
use lines::Lines;
use process::Running;

/// How long a command that was asked to end may take before it is killed.
const END_GRACE: Duration = Duration::from_secs(3);

settings! {
    /// Runs a command and makes an event of each line of its standard output. Lines end with
    /// `\n`, `\r` or `\r\n`; a last line without end is an event too. Events have no headers.
    /// There is no delivery guarantee across a crash: prefer `taildir` to `tail -F`.
    pub struct ExecSourceConfig {
        /// The command. Without `shell` it is split at blanks, without any quoting, and run
        /// directly; with `shell` it is handed to it as one argument.
        "command" => command: String,
        /// A shell with its option, such as `/bin/sh -c`; needed for pipes, quotes and globs.
        "shell" => shell: Option<String>,
        /// Run the command again when it has ended.
        "restart" => restart: bool = false,
        /// Pause before the command is run again, in milliseconds.
        "restartThrottle" => restart_throttle: Millis = Millis(Duration::from_millis(10_000)),
        /// Log the lines of standard error at level info. They are read in any case.
        "logStdErr" => log_std_err: bool = false,
        /// Lines in one transaction at most.
        "batchSize" => batch_size: Count = Count(20),
        /// Longest time that a line waits for its batch to fill, in milliseconds.
        "batchTimeout" => batch_timeout: Millis = Millis(Duration::from_millis(3_000)),
        /// Charset of the output; bodies are in this charset too.
        "charset" => charset: Charset = Charset::UTF_8,
    }
    check(|config: &ExecSourceConfig, reader: &mut settings::Reader<'_>| {
        if config.shell.is_none() && config.command.contains(['|', '>', '<', '\'', '"', '*', '$', ';', '`']) {
            reader.warning("command", "is run without a shell, so its special characters are plain arguments; set `shell = /bin/sh -c` if they are meant for one");
        }
        if config.restart && config.restart_throttle.0.is_zero() {
            reader.warning("restartThrottle", "without a pause a failing command is started as fast as the machine can");
        }
    })
}

/// Makes [`ExecSource`]s.
pub struct ExecSourceFactory;

impl SourceFactory for ExecSourceFactory {
    type Config = ExecSourceConfig;
    const NAMES: TypeNames = TypeNames {
        alias: Some("exec"),
        also: &[],
        classes: &["org.apache.flume.source.ExecSource"],
    };

    fn build(config: ExecSourceConfig, context: &BuildContext) -> Result<BuiltSource, BuildError> {
        let counters = context.counters(ComponentKind::Source, sets::SOURCE, true);
        Ok(BuiltSource::Driven(Box::new(ExecSource {
            config,
            counters,
        })))
    }

    fn batch_size(config: &ExecSourceConfig) -> Option<usize> {
        Some(config.batch_size.0)
    }
}

/// The source.
pub struct ExecSource {
    config: ExecSourceConfig,
    counters: Arc<Counters>,
}

impl ExecSource {
    /// The program and its arguments.
    fn arguments(&self) -> Vec<String> {
        let command = self.config.command.as_str();
        match &self.config.shell {
            None => command.split_whitespace().map(str::to_owned).collect(),
            Some(shell) => shell
                .split_whitespace()
                .chain(std::iter::once(command))
                .map(str::to_owned)
                .collect(),
        }
    }

    /// Runs the command once, until its output ends or the source has to stop.
    async fn run_once(&self, context: &SourceContext) -> Result<(), SourceError> {
        let command = &self.config.command;
        let (mut running, mut output) =
            Running::start(&self.arguments(), self.config.log_std_err, context)
                .map_err(|error| SourceError::retriable("run command", command.as_str(), error))?;
        let mut lines = Lines::new(self.config.charset);
        let mut flush_at = Instant::now() + self.config.batch_timeout.0;
        let outcome = loop {
            let read = tokio::select! {
                read = lines.read(&mut output) => read,
                () = tokio::time::sleep_until(flush_at), if lines.has_pending() => Ok(1),
                () = context.lifecycle.stopping(), if !running.is_ending() => {
                    running.ask_to_end();
                    continue;
                }
                () = running.overdue(END_GRACE) => match running.kill() {
                    true => continue,
                    false => break Ok(()),
                },
            };
            match read {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(error) => {
                    break Err(SourceError::retriable(
                        "read output of",
                        command.as_str(),
                        error,
                    ));
                }
            }
            if self.put_lines(context, &mut lines, flush_at).await {
                flush_at = Instant::now() + self.config.batch_timeout.0;
            }
        };
        self.put_lines(context, &mut lines, flush_at).await;
        let rest = lines.finish();
        self.put(context, rest).await;
        let status = running.ended(END_GRACE).await;
        tracing::info!(command, status, "command ended");
        outcome
    }

    /// Puts the full batches, and a partial one when its time has come; whether it put any.
    async fn put_lines(
        &self,
        context: &SourceContext,
        lines: &mut Lines,
        flush_at: Instant,
    ) -> bool {
        let mut put = false;
        while let Some(batch) = lines.next_batch(self.config.batch_size.0) {
            self.put(context, batch).await;
            put = true;
        }
        if lines.has_pending() && Instant::now() >= flush_at {
            let batch = lines.take_pending();
            self.put(context, batch).await;
            put = true;
        }
        put
    }

    async fn put(&self, context: &SourceContext, batch: flafka_flow::Batch) {
        let count = batch.len() as u64;
        if count == 0 {
            return;
        }
        self.counters.add(Metric::EventReceivedCount, count);
        if put_until_accepted(context, &self.counters, batch).await == Put::Done {
            self.counters.add(Metric::EventAcceptedCount, count);
        }
    }
}

#[async_trait]
impl Source for ExecSource {
    /// Runs the command; again after each end when `restart` is set. A command that could not be
    /// run at all is an error without `restart`, so that the supervisor shows it and tries again
    /// (Flume logs it and goes on as if all were well).
    async fn run(&mut self, context: &SourceContext) -> Result<(), SourceError> {
        while !context.lifecycle.is_stopping() {
            let outcome = self.run_once(context).await;
            if !self.config.restart {
                return outcome;
            }
            let pause = self.config.restart_throttle.0;
            if let Err(error) = &outcome {
                let error = flafka_flow::channel::error_chain(error);
                tracing::error!(
                    error,
                    pause_ms = pause.as_millis(),
                    "command failed; it is run again after a pause"
                );
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = context.lifecycle.stopping() => {}
            }
        }
        Ok(())
    }
}
