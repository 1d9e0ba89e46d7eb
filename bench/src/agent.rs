//! An agent under measurement: its configuration, its counters.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::Process;
use crate::sample::{Cost, Durability};
use crate::workplace::{Workplace, free_port, wait};

/// How long an answer of `/metrics` may take.
const ANSWER: Duration = Duration::from_secs(5);

/// A channel of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    Memory,
    File(Durability),
}

impl Channel {
    /// Its durability, where it has one.
    pub(crate) fn durability(self) -> Option<Durability> {
        match self {
            Self::Memory => None,
            Self::File(durability) => Some(durability),
        }
    }

    /// Its lines in a flume.conf.
    pub(crate) fn lines(self, folder: &Path) -> String {
        let data = folder.join("channel");
        match self {
            Self::Memory => "a1.channels.c1.type = memory\n\
                 a1.channels.c1.capacity = 100000\n\
                 a1.channels.c1.transactionCapacity = 10000\n"
                .to_owned(),
            Self::File(durability) => format!(
                "a1.channels.c1.type = file\n\
                 a1.channels.c1.dataDirs = {}\n\
                 a1.channels.c1.flafka.durability = {}\n",
                data.display(),
                durability.word()
            ),
        }
    }
}

/// A sink of the configuration, with batches of 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sink {
    Null,
    FileRoll,
}

impl Sink {
    /// Its lines in a flume.conf. What a channel does not force to the disk, file_roll does not either.
    pub(crate) fn lines(self, folder: &Path, channel: Channel) -> String {
        match self {
            Self::Null => "a1.sinks.k1.type = null\na1.sinks.k1.batchSize = 1000\n".to_owned(),
            Self::FileRoll => format!(
                "a1.sinks.k1.type = file_roll\n\
                 a1.sinks.k1.sink.directory = {}\n\
                 a1.sinks.k1.sink.rollInterval = 0\n\
                 a1.sinks.k1.sink.batchSize = 1000\n\
                 a1.sinks.k1.flafka.fsync = {}\n",
                folder.join("out").display(),
                channel.durability() == Some(Durability::Fsync)
            ),
        }
    }
}

/// A running agent.
pub(crate) struct Agent {
    process: Process,
    monitoring: SocketAddr,
    /// When its process was started.
    pub(crate) started: Instant,
}

impl Agent {
    /// Starts an agent of one source, one channel and one sink in `folder`.
    pub(crate) fn start(
        workplace: &Workplace,
        folder: &Path,
        source: &str,
        channel: Channel,
        sink: Sink,
    ) -> Result<Self> {
        let configuration = format!(
            "a1.sources = r1\na1.channels = c1\na1.sinks = k1\n{source}{}{}\
             a1.sources.r1.channels = c1\na1.sinks.k1.channel = c1\n",
            channel.lines(folder),
            sink.lines(folder, channel)
        );
        let file = folder.join("flume.conf");
        std::fs::write(&file, configuration).context("write flume.conf")?;
        let monitoring = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let arguments = [
            "agent".to_owned(),
            "--name=a1".to_owned(),
            format!("--conf-file={}", file.display()),
            "--no-reload-conf".to_owned(),
            format!("-Dflume.monitoring.port={}", monitoring.port()),
            "-Dflume.root.logger=WARN".to_owned(),
        ];
        let started = Instant::now();
        let process = Process::start(&workplace.binary, &arguments, &folder.join("agent.out"))?;
        Ok(Self {
            process,
            monitoring,
            started,
        })
    }

    /// Asks `attempt` until it gives something, as long as the agent runs.
    pub(crate) fn until<T>(
        &mut self,
        deadline: Instant,
        what: &str,
        mut attempt: impl FnMut(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let outcome = wait(deadline, what, || {
            self.process.check()?;
            attempt(self)
        });
        outcome.with_context(|| format!("the agent said:\n{}", self.process.last_lines()))
    }

    /// Events that have left the channel; none while the agent does not answer yet.
    pub(crate) fn taken(&self) -> Result<Option<u64>> {
        let Ok(answer) = get(self.monitoring, "/metrics") else {
            return Ok(None);
        };
        let metrics: serde_json::Value = serde_json::from_str(&answer).context("read /metrics")?;
        let count = metrics["CHANNEL.c1"]["EventTakeSuccessCount"].as_str();
        Ok(count.and_then(|count| count.parse().ok()))
    }

    /// What it has used so far.
    pub(crate) fn cost(&self) -> Result<Cost> {
        self.process.cost()
    }

    /// Stops it in order.
    pub(crate) fn stop(self) -> Result<()> {
        self.process.stop()
    }
}

/// The body of the answer to a GET.
fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => bail!("{path} is not there"),
    }
}
