//! The demo's child processes: this same binary with other arguments.

use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::inputs::Layout;
use super::metrics;

/// Asks a child to end when the demo does.
pub(crate) const END_WITH_PARENT: &str = "FLAFKA_END_WITH_PARENT";

/// A running child. Dropping it kills it.
pub(super) struct Process {
    name: String,
    log: String,
    child: Child,
}

impl Process {
    /// Starts `flafka` with these arguments; its output goes to a log file of its name.
    pub(super) fn start(layout: &Layout, name: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let path = layout.logs.join(format!("{name}.log"));
        let log = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        let program = std::env::current_exe().context("find this program")?;
        let child = Command::new(program)
            .args(arguments)
            .env(END_WITH_PARENT, "1")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start the {name}"))?;
        Ok(Self {
            name: name.to_owned(),
            log: path.display().to_string(),
            child,
        })
    }

    /// Waits until something accepts connections on a loopback port.
    pub(super) fn wait_for_port(&self, port: u16, deadline: Duration) -> anyhow::Result<()> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        self.wait(deadline, || {
            TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok()
        })
    }

    /// Waits until `/ready` says yes.
    pub(super) fn wait_until_ready(&self, port: u16, deadline: Duration) -> anyhow::Result<()> {
        self.wait(deadline, || metrics::is_ready(port))
    }

    fn wait(&self, deadline: Duration, mut done: impl FnMut() -> bool) -> anyhow::Result<()> {
        let end = Instant::now() + deadline;
        while !done() {
            if Instant::now() > end {
                bail!(
                    "the {} was not ready within {deadline:?}; see {}",
                    self.name,
                    self.log
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// SIGKILL.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.child
            .kill()
            .with_context(|| format!("kill the {}", self.name))?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGTERM, and waits for the orderly end.
    pub(super) fn stop(&mut self, deadline: Duration) -> anyhow::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM).with_context(|| format!("stop the {}", self.name))?;
        }
        let end = Instant::now() + deadline;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!(
                    "the {} ended with {}; see {}",
                    self.name,
                    text(status),
                    self.log
                ),
                None if Instant::now() > end => bail!(
                    "the {} did not stop within {deadline:?}; see {}",
                    self.name,
                    self.log
                ),
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

fn text(status: ExitStatus) -> String {
    status.to_string()
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) && self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}
