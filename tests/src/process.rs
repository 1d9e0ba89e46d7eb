//! A child process with its output in a file, waited for by asking and ended by its own process id.
//!
//! Why not `std::process::Child` alone: a test needs the log of a server that failed, wants to wait for "ready or
//! dead", and must not leave anything running. Invariant: the process is gone when its [`Process`] is dropped, and also
//! when the thread that started it ends without dropping (`setpriv --pdeathsig`, of util-linux, sets that up; the
//! process id stays the one we started).

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal};

use crate::poll;

/// How much of a process's output a failure shows.
const SHOWN_LINES: usize = 60;

/// A command that is killed when the starting thread ends.
#[must_use]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// A running child process; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` (made by [`command`]) with both outputs appended to the file `log` and no input.
    ///
    /// # Errors
    /// The log cannot be opened or the program cannot be started.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("open the log of {name}, {}", log.display()))?;
        let errors = output
            .try_clone()
            .with_context(|| format!("open the log of {name} twice"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("start {name}: {command:?}"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file with everything the process has printed.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The exit status, if the process has ended.
    ///
    /// # Errors
    /// The system cannot say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .with_context(|| format!("ask whether {} runs", self.name))
    }

    /// Asks `attempt` as [`poll::until`] does, and gives up at once when the process ends meanwhile.
    ///
    /// # Errors
    /// `what` did not happen in time, or the process ended; the end of its output is part of the error.
    pub fn until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut attempt: impl FnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        let mut gone = None;
        let result = poll::until(what, limit, || {
            let answer = attempt();
            if let Ok(Some(value)) = answer {
                return Ok(Some(Some(value)));
            }
            gone = self.ended()?;
            if gone.is_some() {
                return Ok(Some(None));
            }
            answer.map(|_| None)
        });
        match result {
            Ok(Some(value)) => Ok(value),
            Ok(None) => {
                let status = gone.map_or_else(String::new, |status| status.to_string());
                bail!(
                    "{what}: {} ended first, {status}\n{}",
                    self.name,
                    self.evidence()
                )
            }
            Err(error) => Err(error.context(self.evidence())),
        }
    }

    /// Kills the process (SIGKILL) and waits for its end.
    ///
    /// # Errors
    /// The signal cannot be sent or the end not be seen.
    pub fn kill(&mut self) -> Result<()> {
        self.child
            .kill()
            .with_context(|| format!("kill {}", self.name))?;
        self.child
            .wait()
            .with_context(|| format!("wait for the end of {}", self.name))?;
        Ok(())
    }

    /// Asks the process to stop (SIGTERM) and waits for its end.
    ///
    /// # Errors
    /// It does not end within `limit`: then it is killed and the end of its output is part of the error.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(limit)
    }

    /// Sends `signal`.
    ///
    /// # Errors
    /// The process has ended, or the system refuses.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if let Some(status) = self.ended()? {
            bail!(
                "{} has already ended, {status}\n{}",
                self.name,
                self.evidence()
            );
        }
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal)
            .with_context(|| format!("send {signal:?} to {}", self.name))
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// It does not come within `limit`: then the process is killed.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        match poll::until(&what, limit, || self.ended()) {
            Ok(status) => Ok(status),
            Err(error) => {
                self.kill()?;
                Err(error.context(self.evidence()))
            }
        }
    }

    /// The end of what the process printed, under a heading.
    #[must_use]
    pub fn evidence(&self) -> String {
        match fs::read(&self.log) {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                let lines: Vec<&str> = text.lines().collect();
                let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
                format!(
                    "--- last {} of {} lines of {} ---\n{}",
                    shown.len(),
                    lines.len(),
                    self.name,
                    shown.join("\n")
                )
            }
            Err(error) => format!("--- the log of {} cannot be read: {error} ---", self.name),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Nothing can be done about a failure here, and the usual one is that the process has already ended.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

/// What a short command printed.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Exit status.
    pub status: ExitStatus,
    /// Standard output, invalid UTF-8 replaced.
    pub stdout: String,
    /// Standard error, invalid UTF-8 replaced.
    pub stderr: String,
}

impl Finished {
    /// This result, if the exit code is 0.
    ///
    /// # Errors
    /// It is not; both outputs are part of the error.
    pub fn success(self, what: &str) -> Result<Self> {
        if self.status.success() {
            return Ok(self);
        }
        bail!(
            "{what}: {}\n--- stdout ---\n{}\n--- stderr ---\n{}",
            self.status,
            self.stdout,
            self.stderr
        )
    }
}

/// Runs `command` (made by [`command`]) to its end with `input` on its standard input.
///
/// # Errors
/// It cannot be started, or has not ended within `limit` (then it is killed).
pub fn run(name: &str, mut command: Command, input: &[u8], limit: Duration) -> Result<Finished> {
    let folder = tempfile::tempdir().context("make a folder for the output of a command")?;
    let (stdin, stdout, stderr) = (
        folder.path().join("in"),
        folder.path().join("out"),
        folder.path().join("err"),
    );
    fs::write(&stdin, input).context("write the input of a command")?;
    let child = command
        .stdin(File::open(&stdin).context("open the input of a command")?)
        .stdout(File::create(&stdout).context("create the output of a command")?)
        .stderr(File::create(&stderr).context("create the error output of a command")?)
        .spawn()
        .with_context(|| format!("start {name}: {command:?}"))?;
    let mut process = Process {
        name: name.to_owned(),
        child,
        log: stderr.clone(),
    };
    let status = process.wait(limit)?;
    let text =
        |path: &Path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Finished {
        status,
        stdout: text(&stdout).with_context(|| format!("read what {name} printed"))?,
        stderr: text(&stderr).with_context(|| format!("read the errors {name} printed"))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_gets_its_input_and_gives_both_outputs() {
        let mut shell = command("/bin/sh");
        shell.args(["-c", "cat; echo oops >&2; exit 3"]);
        let finished = run("a shell", shell, b"hello", Duration::from_secs(20)).expect("it runs");
        assert_eq!(
            (finished.stdout.as_str(), finished.stderr.as_str()),
            ("hello", "oops\n")
        );
        assert_eq!(finished.status.code(), Some(3));
        assert!(finished.success("a shell").is_err());
    }

    #[test]
    fn a_wait_on_a_dead_process_ends_at_once_and_shows_its_output() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut shell = command("/bin/sh");
        shell.args(["-c", "echo last words; exit 1"]);
        let mut process =
            Process::start("a shell", shell, &folder.path().join("log")).expect("it starts");
        let error = process
            .until(
                "never",
                Duration::from_secs(60),
                || -> Result<Option<()>> { bail!("nobody answers") },
            )
            .expect_err("the process ends before");
        assert!(format!("{error:#}").contains("last words"), "{error:#}");
    }

    #[test]
    fn terminate_ends_a_process_and_a_deaf_one_is_killed() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut sleeper = command("/bin/sh");
        sleeper.args(["-c", "exec sleep 600"]);
        let mut process =
            Process::start("a sleeper", sleeper, &folder.path().join("log")).expect("it starts");
        let status = process.terminate(Duration::from_secs(20)).expect("it ends");
        assert!(!status.success());

        let mut deaf = command("/bin/sh");
        deaf.args([
            "-c",
            "trap '' TERM; echo ready; while :; do sleep 0.1; done",
        ]);
        let log = folder.path().join("deaf");
        let mut process = Process::start("a deaf one", deaf, &log).expect("it starts");
        process
            .until("the trap", Duration::from_secs(20), || {
                Ok((fs::read(&log)? == b"ready\n").then_some(()))
            })
            .expect("the trap is set");
        assert!(process.terminate(Duration::from_millis(300)).is_err());
        assert!(process.ended().expect("known").is_some());
    }
}
