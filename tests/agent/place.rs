//! What a test has: a folder and files in it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use flafka_tests::process::{self, Finished};
use flafka_tests::running_agent::RunningAgent;
use flafka_tests::{flafka, ports};
use tempfile::TempDir;

/// How long a command that ends by itself may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A folder that goes away with the test.
pub(crate) struct Place {
    folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        Ok(Self { folder })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file and returns its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, text).with_context(|| format!("write {name}"))?;
        Ok(path)
    }

    /// Makes a folder and returns its path.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir(&path).with_context(|| format!("make {name}"))?;
        Ok(path)
    }

    /// Starts `a1` of a configuration with this text and waits until it works.
    pub(crate) fn agent(&self, text: &str) -> Result<RunningAgent> {
        let conf = self.file("flume.conf", text)?;
        RunningAgent::ready("a1", &conf, &[], &self.path("output"))
    }

    /// The lines of all files in a folder, by file name.
    pub(crate) fn lines(&self, folder: &str) -> Result<Vec<String>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(self.path(folder)).context("list a folder")? {
            paths.push(entry.context("read a directory entry")?.path());
        }
        paths.sort();
        let mut lines = Vec::new();
        for path in paths {
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            lines.extend(text.lines().map(str::to_owned));
        }
        Ok(lines)
    }
}

/// Runs the binary under test to its end, without colours.
pub(crate) fn flafka(arguments: &[&str]) -> Result<Finished> {
    flafka_with_input(arguments, b"")
}

/// [`flafka`] with something on the standard input.
pub(crate) fn flafka_with_input(arguments: &[&str], input: &[u8]) -> Result<Finished> {
    let mut command = flafka::command(arguments)?;
    command.env("NO_COLOR", "1");
    process::run(
        &format!("flafka {}", arguments.join(" ")),
        command,
        input,
        LIMIT,
    )
}

/// netcat → memory → logger; the port and the names of the parts can be chosen.
pub(crate) fn netcat_logger(port: u16, source: &str) -> String {
    format!(
        "a1.sources = {source}\n\
         a1.channels = c1\n\
         a1.sinks = k1\n\
         a1.sources.{source}.type = netcat\n\
         a1.sources.{source}.bind = 127.0.0.1\n\
         a1.sources.{source}.port = {port}\n\
         a1.sources.{source}.channels = c1\n\
         a1.channels.c1.type = memory\n\
         a1.sinks.k1.type = logger\n\
         a1.sinks.k1.channel = c1\n"
    )
}

/// A free port, or the test's failure.
pub(crate) fn port() -> Result<u16> {
    ports::free_port()
}
