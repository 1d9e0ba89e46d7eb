//! kafka source, sink and channel as agents run them: `flafka agent` on a `flume.conf` that the case writes.
//!
//! The bootstrap servers are all that a case knows of the log. Agents end in files with headers and text, or in topics,
//! and are fed over HTTP or from a topic. Invariant: a case waits for what it can count, never for a time to pass.

mod channel;
mod load;
mod sink;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use flafka_tests::kafka_client::{CALL_LIMIT, config};
use flafka_tests::log_server::LogServer;
use flafka_tests::runner::Case;
use flafka_tests::running_agent::{LIMIT, RunningAgent};
use flafka_tests::{http, poll, ports};
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) fn cases() -> Vec<Case<LogServer>> {
    [sink::cases(), source::cases(), channel::cases()]
        .into_iter()
        .flatten()
        .collect()
}

/// An event as the serializer `header_and_text` wrote it.
#[derive(Debug, Clone)]
struct Event {
    headers: BTreeMap<String, String>,
    body: String,
}

impl Event {
    fn parse(line: &str) -> Result<Self> {
        let inner = line
            .strip_prefix('{')
            .with_context(|| format!("no headers in {line:?}"))?;
        let (headers, body) = inner
            .split_once("} ")
            .with_context(|| format!("no end of the headers in {line:?}"))?;
        let pairs = headers.split(", ").filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (name, value) = pair
                .split_once('=')
                .with_context(|| format!("no header: {pair:?}"))?;
            Ok((name.to_owned(), value.to_owned()))
        };
        Ok(Self {
            headers: pairs.map(pair).collect::<Result<_>>()?,
            body: body.to_owned(),
        })
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// Lines of a `flume.conf` for agent `a1`; `@DIR@` and `@HTTP@` are filled in by the place where it runs.
#[derive(Debug, Clone, Default)]
struct Conf(String);

impl Conf {
    /// Names the components, such as `Conf::of("s1", "c1", "k1")`.
    fn of(sources: &str, channels: &str, sinks: &str) -> Self {
        let mut text = String::new();
        for (kind, names) in [
            ("sources", sources),
            ("channels", channels),
            ("sinks", sinks),
        ] {
            if !names.is_empty() {
                text.push_str(&format!("a1.{kind} = {names}\n"));
            }
        }
        Self(text)
    }

    /// Keys of one component, such as `("sinks.k1", &[("type", "null")])`.
    fn with(mut self, component: &str, pairs: &[(&str, &str)]) -> Self {
        for (key, value) in pairs {
            writeln!(self.0, "a1.{component}.{key} = {value}").expect("a string takes all");
        }
        self
    }

    /// Source `s1`: HTTP into these channels.
    fn http(self, channels: &str) -> Self {
        self.with(
            "sources.s1",
            &[
                ("type", "http"),
                ("bind", "127.0.0.1"),
                ("port", "@HTTP@"),
                ("channels", channels),
            ],
        )
    }

    fn memory(self, name: &str) -> Self {
        self.with(
            &format!("channels.{name}"),
            &[
                ("type", "memory"),
                ("capacity", "10000"),
                ("transactionCapacity", "10000"),
            ],
        )
    }

    fn file(self, name: &str) -> Self {
        let component = format!("channels.{name}");
        self.with(
            &component,
            &[
                ("type", "file"),
                ("checkpointDir", "@DIR@/checkpoint"),
                ("dataDirs", "@DIR@/data"),
            ],
        )
    }

    /// A sink that writes headers and text into files of `folder`.
    fn files(self, name: &str, channel: &str, folder: &str) -> Self {
        let component = format!("sinks.{name}");
        self.with(
            &component,
            &[
                ("type", "file_roll"),
                ("sink.directory", &format!("@DIR@/{folder}")),
                ("sink.rollInterval", "0"),
                ("sink.serializer", "HEADER_AND_TEXT"),
                ("channel", channel),
            ],
        )
    }

    fn kafka_sink(self, name: &str, channel: &str, bootstrap: &str, topic: &str) -> Self {
        let component = format!("sinks.{name}");
        self.with(
            &component,
            &[
                ("type", "org.apache.flume.sink.kafka.KafkaSink"),
                ("kafka.bootstrap.servers", bootstrap),
                ("kafka.topic", topic),
                ("channel", channel),
            ],
        )
    }

    /// A kafka source that reads from the start and whose group notices a killed member after six seconds.
    fn kafka_source(self, name: &str, channel: &str, bootstrap: &str, group: &str) -> Self {
        let component = format!("sources.{name}");
        self.with(
            &component,
            &[
                ("type", "org.apache.flume.source.kafka.KafkaSource"),
                ("kafka.bootstrap.servers", bootstrap),
                ("kafka.consumer.group.id", group),
                ("kafka.consumer.auto.offset.reset", "earliest"),
                ("kafka.consumer.session.timeout.ms", "6000"),
                ("channels", channel),
            ],
        )
    }

    /// Channel `c1`: the topic, read by the group that is called like it.
    fn kafka_channel(self, bootstrap: &str, topic: &str) -> Self {
        self.with(
            "channels.c1",
            &[
                ("type", "org.apache.flume.channel.kafka.KafkaChannel"),
                ("kafka.bootstrap.servers", bootstrap),
                ("kafka.topic", topic),
                ("kafka.consumer.group.id", topic),
                ("kafka.consumer.session.timeout.ms", "6000"),
            ],
        )
    }
}

/// A directory and a port of an agent, which may run there several times.
#[derive(Debug)]
struct Place {
    directory: TempDir,
    http: u16,
}

impl Place {
    fn new() -> Result<Self> {
        let directory = tempfile::tempdir().context("make a directory for an agent")?;
        for folder in ["out", "out2", "out3", "checkpoint", "data"] {
            fs::create_dir(directory.path().join(folder)).context("make a folder for an agent")?;
        }
        Ok(Self {
            directory,
            http: ports::free_port()?,
        })
    }

    /// Starts agent `a1` of `conf` and waits until it is ready.
    fn run(&self, conf: &Conf) -> Result<RunningAgent> {
        let directory = self.directory.path().display().to_string();
        let text = conf
            .0
            .replace("@DIR@", &directory)
            .replace("@HTTP@", &self.http.to_string());
        let file = self.directory.path().join("flume.conf");
        fs::write(&file, &text).context("write flume.conf")?;
        let log = self.directory.path().join("agent.log");
        RunningAgent::ready("a1", &file, &[], &log).with_context(|| text)
    }

    /// Posts events; the answer has to be 200.
    fn post(&self, events: &[Value]) -> Result<()> {
        poll::until("the http source listens", LIMIT, || {
            Ok(Some(TcpStream::connect((Ipv4Addr::LOCALHOST, self.http))?))
        })?;
        let status = post(self.http, events)?;
        ensure!(status == 200, "the events were answered with {status}");
        Ok(())
    }

    /// All whole events in the files of a folder, in the order of the files' names.
    fn events(&self, folder: &str) -> Result<Vec<Event>> {
        let mut paths: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(self.directory.path().join(folder)).context("list a folder")? {
            paths.push(entry.context("read a directory entry")?.path());
        }
        paths.sort();
        let mut events = Vec::new();
        for path in paths {
            let text =
                fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            // A killed agent may leave half a line; its event was not committed and comes again.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            for line in whole.lines() {
                events.push(Event::parse(line)?);
            }
        }
        Ok(events)
    }

    /// Waits until there are `count` different bodies in a folder; returns all events.
    fn until_bodies(
        &self,
        agent: &mut RunningAgent,
        folder: &str,
        count: usize,
    ) -> Result<Vec<Event>> {
        let mut seen = 0;
        let waited = agent.process.until("all events are in files", LIMIT, || {
            let events = self.events(folder)?;
            seen = bodies(&events).len();
            Ok((seen >= count).then_some(events))
        });
        waited.with_context(|| format!("{seen} of {count} different events came"))
    }
}

/// Posts events to a port of this machine and returns the status.
fn post(port: u16, events: &[Value]) -> Result<u16> {
    let body = serde_json::to_vec(events).context("write JSON")?;
    let json = [("Content-Type", "application/json")];
    Ok(http::post(port, "/", &json, &body)?.status)
}

/// One event as the http source takes it.
fn event(headers: &[(&str, &str)], body: impl ToString) -> Value {
    let headers: serde_json::Map<String, Value> = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    json!({ "headers": headers, "body": body.to_string() })
}

/// Waits until the group has so many members and each has its share; with 0 until all have left.
fn until_members(log: &LogServer, group: &str, members: usize) -> Result<()> {
    let client: BaseConsumer = config(log.bootstrap())
        .create()
        .context("create a client")?;
    let mut seen = String::new();
    let waited = poll::until_true(
        &format!("group {group} has {members} members"),
        LIMIT,
        || {
            let list = client
                .fetch_group_list(Some(group), CALL_LIMIT)
                .context("list the group")?;
            let found = list.groups().iter().find(|found| found.name() == group);
            let (state, count) = found.map_or(("not listed", 0), |found| {
                (found.state(), found.members().len())
            });
            seen = format!("it has {count} members and is {state}");
            Ok(count == members && (members == 0 || state == "Stable"))
        },
    );
    waited.with_context(|| seen)
}

fn bodies(events: &[Event]) -> BTreeSet<&str> {
    events.iter().map(|event| event.body.as_str()).collect()
}

/// `0..count` as the bodies that have to be there.
fn ensure_exactly_once(events: &[Event], count: u32) -> Result<()> {
    let expected: Vec<String> = (0..count).map(|n| n.to_string()).collect();
    let found = bodies(events);
    let missing = expected
        .iter()
        .filter(|body| !found.contains(body.as_str()))
        .count();
    ensure!(missing == 0, "{missing} of {count} events are missing");
    ensure!(
        events.len() == expected.len(),
        "{} events came instead of {count}",
        events.len()
    );
    Ok(())
}
