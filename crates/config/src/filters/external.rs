//! Runs the command of an `external` config filter, with a deadline and a bound on its output.

use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use thiserror::Error;

use super::{Charset, ExternalFilterConfig};
use crate::properties::latin1;

/// How long a command may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of output that are read.
const OUTPUT_LIMIT: u64 = 64 << 10;

/// Why a command gave no value.
#[derive(Debug, Error)]
pub(super) enum ExternalError {
    /// It could not be started or watched.
    #[error("run `{program}`: {source}")]
    Run {
        /// The program.
        program: String,
        /// The cause.
        source: io::Error,
    },
    /// It said that it failed.
    #[error("`{program}` ended with {status}")]
    Status {
        /// The program.
        program: String,
        /// What it said.
        status: ExitStatus,
    },
    /// It did not end in time and was killed.
    #[error("`{program}` took longer than {} s", TIMEOUT.as_secs())]
    Timeout {
        /// The program.
        program: String,
    },
    /// It printed nothing.
    #[error("`{program}` printed nothing")]
    Empty {
        /// The program.
        program: String,
    },
    /// Its output is not in the charset.
    #[error("the output of `{program}` is not UTF-8")]
    Charset {
        /// The program.
        program: String,
    },
}

/// Runs the command with `key` behind its own arguments; the first line of its output.
pub(super) fn run(config: &ExternalFilterConfig, key: &str) -> Result<String, ExternalError> {
    let mut words = config.command.split_whitespace();
    let program = words.next().unwrap_or_default().to_owned();
    let failed = |source| ExternalError::Run {
        program: program.clone(),
        source,
    };
    let mut child = Command::new(&program)
        .args(words)
        .arg(key)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let output = read_output(&mut child);
    let deadline = Instant::now() + TIMEOUT;
    let status = match wait(&mut child, deadline).map_err(failed)? {
        Some(status) => status,
        None => return Err(ExternalError::Timeout { program }),
    };
    if !status.success() {
        return Err(ExternalError::Status { program, status });
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let Ok(bytes) = output.recv_timeout(left) else {
        return Err(ExternalError::Timeout { program });
    };
    let bytes = bytes.map_err(|source| ExternalError::Run {
        program: program.clone(),
        source,
    })?;
    let first = bytes.split(|byte| matches!(byte, b'\n' | b'\r')).next();
    let first = first.unwrap_or_default();
    let text = match config.charset {
        Charset::Latin1 => latin1(first),
        Charset::Utf8 => match std::str::from_utf8(first) {
            Ok(text) => text.to_owned(),
            Err(_) => return Err(ExternalError::Charset { program }),
        },
    };
    if text.is_empty() {
        return Err(ExternalError::Empty { program });
    }
    Ok(text)
}

/// Reads the output beside, so that a full pipe cannot stop the command.
fn read_output(child: &mut Child) -> Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = sync_channel(1);
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let read = stdout.take(OUTPUT_LIMIT).read_to_end(&mut bytes);
            // The receiver is gone when the command took too long.
            drop(sender.send(read.map(|_| bytes)));
        });
    }
    receiver
}

/// Waits for the end of the command; none when it was killed at the deadline.
fn wait(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
