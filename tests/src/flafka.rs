//! Starts the binary under test.
//!
//! Agents get a monitoring port of their own, because two with the default one cannot run side by side. Invariant: the
//! command lines are those a user would type.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::process::{self, Process};
use crate::workspace;

/// The binary under test with `arguments`, ready for [`Process::start`] or [`process::run`].
///
/// # Errors
/// There is no binary; the error says how to build it.
pub fn command(arguments: &[&str]) -> Result<Command> {
    let mut command = process::command(workspace::flafka_binary()?);
    command.args(arguments);
    Ok(command)
}

/// Starts `flafka broker -f PROPERTIES`.
///
/// # Errors
/// There is no binary or it cannot be started.
pub fn broker(properties: &Path, log: &Path) -> Result<Process> {
    let mut command = command(&["broker", "-f"])?;
    command.arg(properties);
    Process::start("flafka broker", command, log)
}

/// Starts `flafka agent -n NAME -f CONF --no-reload-conf` with its metrics on `monitoring_port`.
///
/// # Errors
/// There is no binary or it cannot be started.
pub fn agent(name: &str, conf: &Path, monitoring_port: u16, log: &Path) -> Result<Process> {
    let mut command = command(&["agent", "-n", name, "-f"])?;
    command
        .arg(conf)
        .args(["--no-reload-conf", "-Dflume.monitoring.type=http"]);
    command.arg(format!("-Dflume.monitoring.port={monitoring_port}"));
    Process::start(&format!("flafka agent {name}"), command, log)
}
