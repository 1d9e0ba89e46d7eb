//! How a command ends, and what the shell sees of it.

use std::io::Write;
use std::process::ExitCode;

use flafka_flow::channel::error_chain;

/// What a command returns.
pub(crate) type Outcome = anyhow::Result<Ending>;

/// How a command that ran ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It did what was asked.
    Done,
    /// It ran and found that something is not as it should be; it has said so.
    Failed,
    /// The configuration is wrong; it has said where.
    BadConfiguration,
}

/// The exit code; prints the error of a command that could not run.
pub(crate) fn code(outcome: Outcome) -> ExitCode {
    match outcome {
        Ok(Ending::Done) => ExitCode::SUCCESS,
        Ok(Ending::Failed) => ExitCode::from(1),
        Ok(Ending::BadConfiguration) => ExitCode::from(2),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("flafka: {}", chain(&error)));
            ExitCode::from(1)
        }
    }
}

/// An error with its causes, each once: some messages contain that of their cause already.
pub(crate) fn chain(error: &anyhow::Error) -> String {
    error_chain(error.as_ref())
}

/// Prints a line to the standard output; an error when nobody reads it.
pub(crate) fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.write_all(b"\n")?;
    Ok(())
}

/// Prints a line to the standard error. There is nowhere to report a failure of that.
pub(crate) fn complain(line: &str) {
    let mut err = std::io::stderr().lock();
    drop(writeln!(err, "{line}"));
}

/// `flafka … | head` is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// A number of things: `1 record`, `2 records`.
pub(crate) fn counted(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::Context;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("lock /x/LOCK: {source}")]
    struct Locking {
        source: io::Error,
    }

    #[test]
    fn each_cause_is_said_once() {
        let source = io::Error::other("denied");
        let error: anyhow::Result<()> = Err(Locking { source }).context("open the log");
        let text = chain(&error.expect_err("it is one"));
        assert_eq!(text, "open the log: lock /x/LOCK: denied");
    }
}
