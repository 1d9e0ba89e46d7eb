//! Debian's kcat (1.7.1 on librdkafka 2.0.2 in Debian 12): an old, widely used client.

use std::time::Duration;

use anyhow::{Result, bail};

use super::INSTALL;
use crate::process;

/// Runs kcat with `input` and returns its standard output.
///
/// # Errors
/// kcat is missing, does not end within 60 s, or fails.
pub fn kcat(arguments: &[&str], input: &[u8]) -> Result<String> {
    let mut command = process::command("kcat");
    command.args(arguments);
    let finished = process::run("kcat", command, input, Duration::from_secs(60))?;
    if finished.status.code() == Some(127) {
        bail!("kcat is not installed: {INSTALL}");
    }
    Ok(finished
        .success(&format!("kcat {}", arguments.join(" ")))?
        .stdout)
}
