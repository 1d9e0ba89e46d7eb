//! A real Apache Flume agent.
//!
//! Version and jars: `tests/real/flume/pom.xml`. It is started as [`crate::flafka::agent`] starts ours: same arguments,
//! same monitoring properties.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::java::java;
use super::maven;
use crate::process::Process;
use crate::workspace;

/// Fetches what [`flume_agent`] needs, so that the first start does not take the time of a download.
///
/// # Errors
/// Java or Maven is missing, or the jars cannot be fetched.
pub fn prepare_flume() -> Result<()> {
    java(
        &maven::jars("flume")?,
        &workspace::real("flume/log4j2.xml"),
        &[],
    )
    .map(drop)
}

/// Starts agent `name` of the file `conf` with its metrics on `monitoring_port`.
///
/// # Errors
/// Java or Maven is missing, the jars cannot be fetched, or the program cannot be started.
pub fn flume_agent(name: &str, conf: &Path, monitoring_port: u16, log: &Path) -> Result<Process> {
    let port = format!("-Dflume.monitoring.port={monitoring_port}");
    let options = [
        "-Xmx256m",
        "-XX:+UseSerialGC",
        "-Dflume.monitoring.type=http",
        &port,
    ];
    let mut command = java(
        &maven::jars("flume")?,
        &workspace::real("flume/log4j2.xml"),
        &options,
    )?;
    command
        .args(["org.apache.flume.node.Application", "-n", name, "-f"])
        .arg(conf)
        .arg("--no-reload-conf");
    Process::start(&format!("Apache Flume agent {name}"), command, log)
}

/// The command that runs the single-file Java program `source` of this workspace with Flume's jars, ready to be started.
///
/// # Errors
/// Java or Maven is missing, or the jars cannot be fetched.
pub fn flume_program(source: &Path, options: &[&str], arguments: &[&str]) -> Result<Command> {
    let log4j = workspace::real("flume/log4j2.xml");
    let mut command = java(&maven::jars("flume")?, &log4j, options)?;
    command.arg(workspace::root().join(source)).args(arguments);
    Ok(command)
}
