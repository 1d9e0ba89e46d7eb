//! What a scene has: a folder, free ports, and processes started on an unchanged example.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use flafka_tests::process::Process;
use flafka_tests::running_agent::{LIMIT, RunningAgent};
use flafka_tests::{flafka, kafka_client, poll, ports, workspace};
use tempfile::TempDir;

/// Folder and ports of one scene.
pub(crate) struct Scene {
    pub(crate) http: u16,
    pub(crate) netcat: u16,
    pub(crate) kafka: u16,
    folder: TempDir,
}

impl Scene {
    /// A scene whose folder has these folders.
    pub(crate) fn with(folders: &[&str]) -> Result<Self> {
        let scene = Self {
            http: ports::free_port()?,
            netcat: ports::free_port()?,
            kafka: ports::free_port()?,
            folder: tempfile::tempdir().context("make a folder for an example")?,
        };
        for folder in folders {
            fs::create_dir(scene.path(folder)).context("make a folder of an example")?;
        }
        Ok(scene)
    }

    /// A path in the scene's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Host and port of the broker.
    pub(crate) fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.kafka)
    }

    /// Starts an agent of the example and waits until it works.
    pub(crate) fn agent(&self, example: &str, name: &str) -> Result<RunningAgent> {
        let mut agent = self.start(example, &["agent", "-n", name, "--no-reload-conf"])?;
        agent.until_ready()?;
        Ok(agent)
    }

    /// Starts `flafka ARGUMENTS -f EXAMPLE`.
    pub(crate) fn start(&self, example: &str, arguments: &[&str]) -> Result<RunningAgent> {
        let environment = [
            ("FLAFKA_EXAMPLES", self.folder.path().display().to_string()),
            ("FLAFKA_BOOTSTRAP", self.bootstrap()),
            ("FLAFKA_HTTP_PORT", self.http.to_string()),
            ("FLAFKA_NETCAT_PORT", self.netcat.to_string()),
        ];
        let conf = workspace::root().join("examples").join(example);
        RunningAgent::start(arguments, &conf, &environment, &self.path("agent.output"))
    }

    /// The two settings that bring the embedded log to this scene.
    pub(crate) fn broker_overrides(&self) -> [String; 4] {
        let folder = self.path("broker-data");
        [
            "--override".to_owned(),
            format!("listeners=PLAINTEXT://127.0.0.1:{}", self.kafka),
            "--override".to_owned(),
            format!("log.dirs={}", folder.display()),
        ]
    }

    /// Starts the embedded log with further arguments and waits until it answers.
    pub(crate) fn broker(&self, arguments: &[&str]) -> Result<Process> {
        let mut command = flafka::command(&["broker"])?;
        command.args(arguments).args(self.broker_overrides());
        let log = self.path("broker.output");
        let mut broker = Process::start("flafka broker", command, &log)?;
        let bootstrap = self.bootstrap();
        broker.until("the embedded log answers", LIMIT, || {
            Ok(kafka_client::is_ready(&bootstrap)?.then_some(()))
        })?;
        Ok(broker)
    }

    /// Reads a topic that may not be there yet; exactly `expected` records or more come back.
    pub(crate) fn records(
        &self,
        topic: &str,
        expected: usize,
    ) -> Result<Vec<kafka_client::ReadRecord>> {
        let bootstrap = self.bootstrap();
        poll::until_true(&format!("topic {topic} is there"), LIMIT, || {
            Ok(kafka_client::topics(&bootstrap)?.contains_key(topic))
        })?;
        kafka_client::read_topic(&bootstrap, topic, expected, LIMIT)
    }

    /// The lines of all files in a folder, file after file by name.
    pub(crate) fn lines(&self, folder: &str) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        for path in self.files(folder)? {
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            lines.extend(text.lines().map(str::to_owned));
        }
        Ok(lines)
    }

    /// The files in a folder, by name.
    pub(crate) fn files(&self, folder: &str) -> Result<Vec<PathBuf>> {
        let folder = self.path(folder);
        let mut files = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            files.push(entry.context("read a directory entry")?.path());
        }
        files.sort();
        Ok(files)
    }

    /// Waits until a folder holds `expected` lines, and returns them.
    pub(crate) fn until_lines(
        &self,
        agent: &RunningAgent,
        folder: &str,
        expected: usize,
    ) -> Result<Vec<String>> {
        poll::until(&format!("{expected} lines in {folder}"), LIMIT, || {
            let lines = self.lines(folder)?;
            Ok((lines.len() >= expected).then_some(lines))
        })
        .with_context(|| agent.process.evidence())
    }
}
