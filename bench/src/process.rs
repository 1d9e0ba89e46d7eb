//! The process that is measured: started, looked at through `/proc`, stopped.
//!
//! Invariant: it dies with the thread that started it, however the tool ends (`setpriv --pdeathsig`, of util-linux,
//! sets that up and then becomes the binary).

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

use crate::sample::Cost;
use crate::workplace::wait;

/// Lines of its log that a failure shows.
const SHOWN_LINES: usize = 20;
/// How long a stop may take.
const STOP: Duration = Duration::from_secs(30);

/// A running child; killed when dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `binary` with `arguments`; its output goes to the file `log`.
    pub(crate) fn start(binary: &Path, arguments: &[String], log: &Path) -> Result<Self> {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(binary)
            .args(arguments);
        Self::command(command, log).with_context(|| format!("start {}", binary.display()))
    }

    /// Starts a command that dies with this thread; its output goes to the file `log`.
    pub(crate) fn command(mut command: Command, log: &Path) -> Result<Self> {
        let output = File::create(log).context("make the log of the process")?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("start the process")?;
        Ok(Self {
            child,
            log: log.to_owned(),
        })
    }

    /// Fails when the process has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait().context("look at the process")? {
            None => Ok(()),
            Some(status) => bail!("the process ended, {status}:\n{}", self.last_lines()),
        }
    }

    /// Waits until it has ended by itself, without an error.
    pub(crate) fn finish(mut self, deadline: Instant) -> Result<()> {
        let status = wait(deadline, "the process does not end", || {
            Ok(self.child.try_wait()?)
        })?;
        if !status.success() {
            bail!("the process ended, {status}:\n{}", self.last_lines());
        }
        Ok(())
    }

    /// What it has used so far.
    pub(crate) fn cost(&self) -> Result<Cost> {
        cost_of(&self.child.id().to_string())
    }

    /// Asks it to stop and waits for the end.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.check()?;
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, Signal::TERM).context("ask the process to stop")?;
        let deadline = Instant::now() + STOP;
        let status = wait(deadline, "the process does not stop", || {
            Ok(self.child.try_wait()?)
        })?;
        if !status.success() {
            bail!("the process ended, {status}:\n{}", self.last_lines());
        }
        Ok(())
    }

    /// The end of its log.
    pub(crate) fn last_lines(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }
}

/// What this process has used so far.
pub(crate) fn own_cost() -> Result<Cost> {
    cost_of("self")
}

fn cost_of(process: &str) -> Result<Cost> {
    let folder = format!("/proc/{process}");
    let stat = std::fs::read_to_string(format!("{folder}/stat")).context("read its times")?;
    let status = std::fs::read_to_string(format!("{folder}/status")).context("read its memory")?;
    let ticks = cpu_ticks(&stat).context("its times are not as expected")?;
    Ok(Cost {
        cpu_seconds: ticks_to_seconds(ticks),
        peak_bytes: peak_bytes(&status).context("its memory is not as expected")?,
    })
}

/// The kernel counts processor time in ticks.
pub(crate) fn ticks_to_seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

impl Drop for Process {
    fn drop(&mut self) {
        // The usual failure is that it has ended already.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

/// User and system time, in ticks.
fn cpu_ticks(stat: &str) -> Option<u64> {
    // The name in parentheses may hold blanks.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn peak_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_memory_are_read_from_proc() {
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0";
        assert_eq!(cpu_ticks(stat), Some(300));
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n";
        assert_eq!(peak_bytes(status), Some(2 << 20));
    }
}
