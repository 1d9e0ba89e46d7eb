//! How long a killed agent with 1 GiB in its file channel takes from its start to the first event at the sink.
//!
//! The bound of the issue is one second. The figure is printed and judged in words; the verdict of the test is about the
//! cause instead: until the first event is out, a restart has read a small part of the backlog. Timings never decide a
//! test, because an unoptimised binary on a shared machine says nothing about the product.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flafka_tests::runner::say;
use flafka_tests::running_agent::{LIMIT, RunningAgent};
use flafka_tests::{kafka_client, poll, ports};
use rdkafka::Message;
use rdkafka::consumer::BaseConsumer;

use crate::conf;
use crate::cycles::start_log;

/// Bytes of a line without its newline, and how many of them fill 1 GiB.
const LINE_BYTES: usize = 1023;
const LINES: u64 = 1 << 20;
/// What a restart may read before the first event is out. A start checks what lies behind the last checkpoint, and that
/// is bounded whatever waits in the channel: about 64 MiB of journal and 256 MiB of data. Half of the backlog is above
/// that, and far below a replay.
const MAY_READ_BYTES: u64 = 512 << 20;
/// The bound of the issue.
const BOUND: Duration = Duration::from_secs(1);

/// Fills the channel, kills the agent, and measures its next start.
pub(crate) fn run(seed: u64) -> Result<()> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let (http, kafka) = (ports::free_port()?, ports::free_port()?);
    let bootstrap = format!("127.0.0.1:{kafka}");
    for (name, sink) in [("fill.conf", false), ("flume.conf", true)] {
        let text = conf::text(folder.path(), http, &bootstrap, sink);
        fs::write(folder.path().join(name), text).context("write a configuration")?;
    }
    fs::create_dir(folder.path().join("logs")).context("make the folder of the logs")?;
    write_backlog(&folder.path().join("logs/backlog.log"), seed)?;
    fill(folder.path())?;

    let mut log = start_log(folder.path(), kafka)?;
    log.until("the embedded log answers", LIMIT, || {
        Ok(kafka_client::is_ready(&bootstrap)?.then_some(()))
    })?;
    kafka_client::create_topic(&bootstrap, conf::TOPIC, 1)?;
    let mut config = kafka_client::config(&bootstrap);
    config
        .set("group.id", "reader")
        .set("enable.auto.commit", "false");
    config.set("fetch.wait.max.ms", "10");
    let consumer: BaseConsumer = config.create().context("create a consumer")?;
    kafka_client::assign_all(&consumer, conf::TOPIC)?;

    let started = Instant::now();
    let mut agent = start(folder.path(), "flume.conf")?;
    let first = agent.process.until("the first event", LIMIT, || {
        Ok(consumer.poll(Duration::from_millis(20)))
    })?;
    let took = started.elapsed();
    let read = bytes_read(agent.process.pid())?;
    let value = first
        .context("read the topic")?
        .payload()
        .map(<[u8]>::to_vec);
    agent.process.kill()?;
    let judged = if took < BOUND { "kept" } else { "missed" };
    say(&format!(
        "crash: 1 GiB in {LINES} events waiting, killed: {:.3} s from start to the first event in the topic (1 s: \
         {judged}); {:.1} MiB read until then",
        took.as_secs_f64(),
        read as f64 / 1_048_576.0
    ));
    ensure!(
        value == Some(line(seed, 0)),
        "the first event is not the oldest one: {value:?}"
    );
    ensure!(
        read < MAY_READ_BYTES,
        "{read} bytes were read before the first event was out: a start must not read the backlog"
    );
    Ok(())
}

fn start(folder: &Path, conf: &str) -> Result<RunningAgent> {
    let arguments = ["agent", "-n", "a1", "--no-reload-conf"];
    RunningAgent::start(
        &arguments,
        &folder.join(conf),
        &[],
        &folder.join("agent.output"),
    )
}

/// Puts the whole backlog into the channel and kills the agent.
fn fill(folder: &Path) -> Result<()> {
    let started = Instant::now();
    let mut agent = start(folder, "fill.conf")?;
    agent.until_ready()?;
    let lines = i64::try_from(LINES).context("a small number")?;
    poll::until_true("the channel holds 1 GiB", Duration::from_secs(400), || {
        Ok(agent.metric("CHANNEL.c1", "ChannelSize")? >= lines)
    })
    .with_context(|| agent.process.evidence())?;
    agent.process.kill()?;
    say(&format!(
        "crash: 1 GiB put into the channel in {:.0} s",
        started.elapsed().as_secs_f64()
    ));
    Ok(())
}

fn line(seed: u64, number: u64) -> Vec<u8> {
    let mut line = format!("{number} {seed} ").into_bytes();
    line.resize(LINE_BYTES, b'a' + (number % 26) as u8);
    line
}

fn write_backlog(path: &Path, seed: u64) -> Result<()> {
    let mut file = BufWriter::new(File::create(path).context("create the backlog")?);
    for number in 0..LINES {
        let mut line = line(seed, number);
        line.push(b'\n');
        file.write_all(&line).context("write the backlog")?;
    }
    file.flush().context("write the backlog")
}

/// Bytes that a process has read with system calls, also those that came from memory.
fn bytes_read(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).context("read /proc")?;
    let line = text.lines().find_map(|line| line.strip_prefix("rchar: "));
    line.and_then(|number| number.trim().parse().ok())
        .with_context(|| format!("no rchar in {text}"))
}
