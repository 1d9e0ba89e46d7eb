//! Java programs: the virtual machine, and Kafka's own command-line tools.
//!
//! The tools are the classes behind Kafka's shell scripts, run with the flags that make them start fast. `JAVA_HOME`
//! names the JDK, else `java` on the path; Kafka 4.3.1 wants 17 or newer. Invariant: a tool's exit code is checked and
//! both its outputs are shown when it fails.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{INSTALL, maven};
use crate::process::{self, Finished};
use crate::workspace;

/// A Java virtual machine with the class path of all jars in a folder; `options` come before the class name.
///
/// # Errors
/// There is no Java of version 17 or newer.
pub(crate) fn java(jars: &Path, log4j: &Path, options: &[&str]) -> Result<Command> {
    let program = program()?;
    let mut command = process::command(program);
    command.args(options);
    command.arg(format!("-Dlog4j2.configurationFile={}", log4j.display()));
    command.arg("-cp").arg(jars.join("*"));
    Ok(command)
}

fn program() -> Result<OsString> {
    let program = match env::var_os("JAVA_HOME") {
        Some(home) => PathBuf::from(home).join("bin/java").into_os_string(),
        None => "java".into(),
    };
    let mut question = process::command(&program);
    question.arg("-version");
    let answer = process::run("java -version", question, b"", Duration::from_secs(30))?;
    let version = answer
        .stderr
        .split('"')
        .nth(1)
        .and_then(|text| text.split(['.', '-']).next()?.parse::<u32>().ok());
    match version {
        Some(version) if version >= 17 => Ok(program),
        Some(version) => bail!("java is version {version}, 17 or newer is needed: {INSTALL}"),
        None => bail!(
            "java is not installed ({}): {INSTALL}",
            answer.stderr.trim()
        ),
    }
}

/// One of Kafka's command-line tools.
#[derive(Debug, Clone, Copy)]
pub struct JavaTool {
    class: &'static str,
}

impl JavaTool {
    /// `kafka-topics.sh`.
    pub const TOPICS: Self = Self {
        class: "org.apache.kafka.tools.TopicCommand",
    };
    /// `kafka-configs.sh`.
    pub const CONFIGS: Self = Self {
        class: "kafka.admin.ConfigCommand",
    };
    /// `kafka-console-producer.sh`.
    pub const CONSOLE_PRODUCER: Self = Self {
        class: "org.apache.kafka.tools.ConsoleProducer",
    };
    /// `kafka-console-consumer.sh`.
    pub const CONSOLE_CONSUMER: Self = Self {
        class: "org.apache.kafka.tools.consumer.ConsoleConsumer",
    };
    /// `kafka-consumer-groups.sh`.
    pub const CONSUMER_GROUPS: Self = Self {
        class: "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    };
    /// `kafka-get-offsets.sh`.
    pub const GET_OFFSETS: Self = Self {
        class: "org.apache.kafka.tools.GetOffsetShell",
    };
    /// `kafka-delete-records.sh`.
    pub const DELETE_RECORDS: Self = Self {
        class: "org.apache.kafka.tools.DeleteRecordsCommand",
    };
    /// `kafka-dump-log.sh`.
    pub const DUMP_LOG: Self = Self {
        class: "org.apache.kafka.tools.DumpLogSegments",
    };
    /// `kafka-producer-perf-test.sh`.
    pub const PRODUCER_PERFORMANCE: Self = Self {
        class: "org.apache.kafka.tools.ProducerPerformance",
    };
    /// `kafka-broker-api-versions.sh`.
    pub const BROKER_API_VERSIONS: Self = Self {
        class: "org.apache.kafka.tools.BrokerApiVersionsCommand",
    };
    /// `kafka-storage.sh`.
    pub(crate) const STORAGE: Self = Self {
        class: "kafka.tools.StorageTool",
    };

    /// Runs the tool to its end, whatever its exit code.
    ///
    /// # Errors
    /// It cannot be started or does not end within 90 s.
    pub fn try_run(self, arguments: &[&str], input: &[u8]) -> Result<Finished> {
        let options = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"];
        let jars = maven::jars("kafka")?;
        let mut command = java(&jars, &workspace::real("kafka/log4j2.xml"), &options)?;
        command.arg(self.class).args(arguments);
        process::run(self.class, command, input, Duration::from_secs(90))
    }

    /// Runs the tool and returns its standard output.
    ///
    /// # Errors
    /// It cannot be started, does not end within 90 s, or fails.
    pub fn run(self, arguments: &[&str], input: &[u8]) -> Result<String> {
        let finished = self.try_run(arguments, input)?;
        let finished = finished
            .success(self.class)
            .with_context(|| format!("arguments: {}", arguments.join(" ")))?;
        Ok(finished.stdout)
    }
}
