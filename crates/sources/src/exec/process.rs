//! The running command: its process group, its standard error, its end.
//!
//! The command leads a process group of its own, so that a stop reaches what a shell has
//! started (Flume ends the shell alone and leaves `tail` behind). Invariant: no process of the
//! group outlives a stop of the source.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use flafka_flow::source::SourceContext;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Standard error is logged in pieces of at most this many bytes.
const LONGEST_LOGGED: usize = 8 << 10;

/// How far the end of the command has come.
#[derive(Clone, Copy)]
enum Stage {
    Running,
    Asked(Instant),
    Killed(Instant),
}

/// A running command.
pub(super) struct Running {
    child: Child,
    errors: JoinHandle<()>,
    stage: Stage,
}

impl Running {
    /// Starts `arguments`; its standard input stays open and silent, as in Flume.
    pub(super) fn start(
        arguments: &[String],
        log_errors: bool,
        context: &SourceContext,
    ) -> io::Result<(Self, ChildStdout)> {
        let Some((program, rest)) = arguments.split_first() else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the command is empty",
            ));
        };
        let mut child = Command::new(program)
            .args(rest)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().expect("stdout is piped");
        let errors = child.stderr.take().expect("stderr is piped");
        let errors = context
            .lifecycle
            .spawn("exec stderr", drain_errors(errors, log_errors));
        let running = Self {
            child,
            errors,
            stage: Stage::Running,
        };
        Ok((running, output))
    }

    /// Whether the command was asked to end.
    pub(super) fn is_ending(&self) -> bool {
        !matches!(self.stage, Stage::Running)
    }

    /// Asks the whole group to end (SIGTERM).
    pub(super) fn ask_to_end(&mut self) {
        self.signal(Signal::TERM);
        self.stage = Stage::Asked(Instant::now());
    }

    /// Waits until the command has had `grace` since it was asked or killed; for ever before.
    pub(super) async fn overdue(&self, grace: Duration) {
        match self.stage {
            Stage::Running => std::future::pending().await,
            Stage::Asked(since) | Stage::Killed(since) => {
                tokio::time::sleep_until(since + grace).await
            }
        }
    }

    /// Kills the group; false when it was killed before, so that waiting has no use.
    pub(super) fn kill(&mut self) -> bool {
        let first = !matches!(self.stage, Stage::Killed(_));
        self.signal(Signal::KILL);
        self.stage = Stage::Killed(Instant::now());
        first
    }

    /// Waits for the command, whose output has ended: `grace`, then SIGTERM, then SIGKILL.
    /// Returns how it ended, for the log.
    pub(super) async fn ended(mut self, grace: Duration) -> String {
        for signal in [Signal::TERM, Signal::KILL] {
            match tokio::time::timeout(grace, self.child.wait()).await {
                Ok(Ok(status)) => return status.to_string(),
                Ok(Err(error)) => return error.to_string(),
                Err(_late) => self.signal(signal),
            }
        }
        match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Signals the group. The leader is not reaped yet, so the number is still its own.
    fn signal(&self, signal: Signal) {
        let leader = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(group) = leader.and_then(Pid::from_raw)
            && let Err(error) = kill_process_group(group, signal)
        {
            tracing::debug!(%error, "signal command");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        self.errors.abort();
    }
}

async fn drain_errors(errors: ChildStderr, log: bool) {
    let mut errors = BufReader::with_capacity(LONGEST_LOGGED, errors);
    let mut line = Vec::new();
    let mut piece = [0u8; 1024];
    while let Ok(count @ 1..) = errors.read(&mut piece).await {
        if !log {
            continue;
        }
        for part in piece[..count].split_inclusive(|byte| *byte == b'\n') {
            line.extend_from_slice(part);
            if part.ends_with(b"\n") || line.len() >= LONGEST_LOGGED {
                log_line(&line);
                line.clear();
            }
        }
    }
    if !line.is_empty() {
        log_line(&line);
    }
}

fn log_line(line: &[u8]) {
    let text = String::from_utf8_lossy(line);
    tracing::info!(line = text.trim_end(), "standard error of the command");
}
