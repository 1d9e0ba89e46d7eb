//! A log that speaks the Kafka protocol, as the suites see it: an address and a data directory.
//!
//! It is either a real Apache Kafka or the embedded log in the binary under test, and no case can tell which: that is
//! the point. Invariant: the server runs as long as this value lives.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::kafka_client;
use crate::process::Process;
use crate::runner::Subject;
use crate::{flafka, ports};

/// How long a server may take until it answers.
pub(crate) const START_LIMIT: Duration = Duration::from_secs(90);

/// How a server is made, so that it can be made once more.
pub(crate) struct Recipe {
    /// Starts the process, on the same port and the same data each time.
    pub(crate) process: Box<dyn Fn() -> Result<Process> + Send + Sync>,
    /// Makes another server of the same kind.
    pub(crate) server: fn() -> Result<LogServer>,
}

impl fmt::Debug for Recipe {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Recipe")
    }
}

/// A running log.
#[derive(Debug)]
pub struct LogServer {
    process: Mutex<Process>,
    recipe: Recipe,
    bootstrap: String,
    data: PathBuf,
    // Last, so that it is removed after the process has ended.
    directory: TempDir,
}

impl LogServer {
    /// Starts the embedded log of the binary under test: `flafka broker -f server.properties`.
    ///
    /// # Errors
    /// There is no binary, or the log does not answer in time.
    pub fn embedded() -> Result<Self> {
        let directory = tempfile::tempdir().context("make a directory for the embedded log")?;
        let port = ports::free_port()?;
        let data = directory.path().join("data");
        let properties = directory.path().join("server.properties");
        let text = format!(
            "listeners=PLAINTEXT://127.0.0.1:{port}\nlog.dirs={}\nlog.retention.ms=-1\n",
            data.display()
        );
        fs::write(&properties, text).context("write server.properties")?;
        let log = directory.path().join("broker.log");
        let recipe = Recipe {
            process: Box::new(move || flafka::broker(&properties, &log)),
            server: Self::embedded,
        };
        Self::when_ready(recipe, port, data, directory)
    }

    /// Starts the process and waits until the server answers a metadata request.
    pub(crate) fn when_ready(
        recipe: Recipe,
        port: u16,
        data: PathBuf,
        directory: TempDir,
    ) -> Result<Self> {
        let bootstrap = format!("127.0.0.1:{port}");
        let mut process = (recipe.process)()?;
        until_it_answers(&mut process, &bootstrap)?;
        Ok(Self {
            process: Mutex::new(process),
            recipe,
            bootstrap,
            data,
            directory,
        })
    }

    /// Another server of the same kind, for a case that stops or kills it.
    ///
    /// # Errors
    /// It does not answer in time.
    pub fn another(&self) -> Result<Self> {
        (self.recipe.server)()
    }

    /// Kills the server (SIGKILL); it is no more shared by other cases, hence `&mut`.
    ///
    /// # Errors
    /// The end cannot be seen.
    pub fn kill(&mut self) -> Result<()> {
        self.process
            .get_mut()
            .expect("nothing panics with the process locked")
            .kill()
    }

    /// Starts a server that has ended again, on the same port and the same data.
    ///
    /// # Errors
    /// It does not answer in time.
    pub fn start_again(&mut self) -> Result<()> {
        let process = self
            .process
            .get_mut()
            .expect("nothing panics with the process locked");
        *process = (self.recipe.process)()?;
        until_it_answers(process, &self.bootstrap)
    }

    /// Host and port for clients.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// A directory of this server for a case's own files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The segment files of one partition, oldest first.
    ///
    /// # Errors
    /// There are none.
    pub fn segments(&self, topic: &str, partition: i32) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut folders = vec![self.data.clone()];
        while let Some(folder) = folders.pop() {
            for entry in
                fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?
            {
                let path = entry.context("read a directory entry")?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|end| end == "log")
                    && is_partition_folder(&folder, topic, partition)
                {
                    found.push(path);
                }
            }
        }
        ensure!(
            !found.is_empty(),
            "no segment of {topic} partition {partition} under {}",
            self.data.display()
        );
        found.sort();
        Ok(found)
    }

    /// Stops the server (SIGTERM).
    ///
    /// # Errors
    /// It does not end within 30 s.
    pub fn stop(&self) -> Result<()> {
        let mut process = self
            .process
            .lock()
            .expect("nothing panics with the process locked");
        process.terminate(Duration::from_secs(30)).map(drop)
    }
}

fn until_it_answers(process: &mut Process, bootstrap: &str) -> Result<()> {
    process.until("the log answers a metadata request", START_LIMIT, || {
        Ok(kafka_client::is_ready(bootstrap)?.then_some(()))
    })
}

/// Whether segments of the partition lie in `folder`: Kafka's `topic-0`, the embedded log's `topic_topic_0.<stream id>`.
fn is_partition_folder(folder: &Path, topic: &str, partition: i32) -> bool {
    let name = folder
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || c == '-' {
            c
        } else {
            '_'
        }
    };
    let ours: String = format!("topic/{topic}/{partition}")
        .chars()
        .map(plain)
        .collect();
    let stream = name
        .rsplit_once('.')
        .filter(|(_, id)| id.parse::<u32>().is_ok());
    name == format!("{topic}-{partition}") || stream.is_some_and(|(stream, _)| stream == ours)
}

impl Subject for LogServer {
    fn evidence(&self) -> String {
        self.process
            .lock()
            .expect("nothing panics with the process locked")
            .evidence()
    }
}
