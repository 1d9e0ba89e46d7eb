//! A real Apache Kafka of one node: KRaft, broker and controller in one process.
//!
//! Version and jars: `tests/real/kafka/pom.xml`; settings: `tests/real/kafka/server.properties`.

use std::fs;

use anyhow::{Context, Result};

use super::java::{JavaTool, java};
use super::maven;
use crate::log_server::{LogServer, Recipe};
use crate::ports;
use crate::process::Process;
use crate::workspace;

/// Any 16 bytes in base64 do as the name of a cluster.
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qk";

/// Starts a real Apache Kafka on free ports.
///
/// # Errors
/// Java or Maven is missing, the jars cannot be fetched, or the server does not answer in time.
pub fn apache_kafka() -> Result<LogServer> {
    let jars = maven::jars("kafka")?;
    let directory = tempfile::tempdir().context("make a directory for Apache Kafka")?;
    let (port, controller_port) = (ports::free_port()?, ports::free_port()?);
    let data = directory.path().join("data");
    let template = workspace::real("kafka/server.properties");
    let template =
        fs::read_to_string(&template).with_context(|| format!("read {}", template.display()))?;
    let text = template
        .replace("@PORT@", &port.to_string())
        .replace("@CONTROLLER_PORT@", &controller_port.to_string())
        .replace("@DATA@", &data.display().to_string());
    let properties = directory.path().join("server.properties");
    fs::write(&properties, text).context("write server.properties")?;
    let properties = properties.display().to_string();
    JavaTool::STORAGE.run(&["format", "-t", CLUSTER_ID, "-c", &properties], b"")?;

    let log = directory.path().join("kafka.log");
    let recipe = Recipe {
        process: Box::new(move || {
            let mut command = java(
                &jars,
                &workspace::real("kafka/log4j2.xml"),
                &["-Xmx512m", "-Xms256m", "-XX:+UseG1GC"],
            )?;
            command.arg("kafka.Kafka").arg(&properties);
            Process::start("Apache Kafka", command, &log)
        }),
        server: apache_kafka,
    };
    LogServer::when_ready(recipe, port, data, directory)
}
