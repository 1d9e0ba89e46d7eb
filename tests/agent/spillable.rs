//! The spillable channel in a whole agent: what a SIGKILL costs, what an ordered stop and a reload keep.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use flafka_tests::running_agent::{LIMIT, RunningAgent};
use flafka_tests::{http, poll};
use rustix::process::Signal;

use crate::place::{Place, port};

/// Events of one post; the memory part takes two of them.
const BATCH: usize = 50;
const IN_MEMORY: usize = 100;

/// http → spillable; with `out` also → file_roll.
fn conf(place: &Place, http: u16, out: Option<&Path>, overflow: usize) -> String {
    let sink = out.map_or(String::new(), |out| {
        format!(
            "a1.sinks = k1\na1.sinks.k1.type = file_roll\na1.sinks.k1.channel = c1\n\
             a1.sinks.k1.sink.directory = {}\na1.sinks.k1.sink.rollInterval = 0\n",
            out.display()
        )
    });
    format!(
        "a1.sources = r1\na1.channels = c1\n\
         a1.sources.r1.type = http\na1.sources.r1.bind = 127.0.0.1\na1.sources.r1.port = {http}\n\
         a1.sources.r1.channels = c1\n\
         a1.channels.c1.type = SPILLABLEMEMORY\n\
         a1.channels.c1.memoryCapacity = {IN_MEMORY}\n\
         a1.channels.c1.overflowCapacity = {overflow}\n\
         a1.channels.c1.transactionCapacity = 100\n\
         a1.channels.c1.overflowTimeout = 0\n\
         a1.channels.c1.minimumRequiredSpace = 1048576\n\
         a1.channels.c1.checkpointDir = {dir}/checkpoint\n\
         a1.channels.c1.dataDirs = {dir}/data\n{sink}",
        dir = place.path("channel").display()
    )
}

/// Posts so many batches; returns the bodies, in order.
fn post(port: u16, batches: usize) -> Result<Vec<String>> {
    let bodies: Vec<String> = (0..batches * BATCH)
        .map(|number| format!("event {number}"))
        .collect();
    for batch in bodies.chunks(BATCH) {
        let events: Vec<_> = batch
            .iter()
            .map(|body| serde_json::json!({ "body": body }))
            .collect();
        let text = serde_json::json!(events).to_string();
        let answer = http::post(port, "/", &[], text.as_bytes())?;
        ensure!(answer.status == 200, "{answer:?}");
    }
    Ok(bodies)
}

fn until_lines(place: &Place, agent: &RunningAgent, count: usize) -> Result<Vec<String>> {
    poll::until_true("the waiting events come out", LIMIT, || {
        Ok(place.lines("out")?.len() >= count)
    })
    .with_context(|| agent.process.evidence())?;
    place.lines("out")
}

#[test]
fn a_sigkill_costs_what_memory_held_and_nothing_of_the_overflow() -> Result<()> {
    let place = Place::new()?;
    let out = place.folder("out")?;
    let (first, second) = (port()?, port()?);
    let mut agent = place.agent(&conf(&place, first, None, 100_000))?;
    agent.until_output("a crash loses what its memory holds")?;
    let sent = post(first, 12)?;
    ensure!(agent.metric("CHANNEL.c1", "ChannelSize")? == sent.len() as i64);
    ensure!(agent.metric("CHANNEL.c1", "ChannelCapacity")? == 100_100);
    agent.process.kill()?;

    let mut agent = place.agent(&conf(&place, second, Some(&out), 100_000))?;
    let survived = until_lines(&place, &agent, sent.len() - IN_MEMORY)?;
    ensure!(
        survived == sent[IN_MEMORY..],
        "not the overflow, once and in order: {survived:?}"
    );
    // A line is in the file before its delivery is noted; then the sink sees an empty channel: nothing more comes.
    poll::until_true("every delivery is noted", LIMIT, || {
        Ok(agent.metric("CHANNEL.c1", "ChannelSize")? == 0)
    })?;
    ensure!(place.lines("out")? == survived, "more than the overflow");
    agent.process.kill()?;
    Ok(())
}

#[test]
fn an_ordered_stop_moves_memory_into_the_overflow() -> Result<()> {
    let place = Place::new()?;
    let out = place.folder("out")?;
    let (first, second) = (port()?, port()?);
    let agent = place.agent(&conf(&place, first, None, 100_000))?;
    let sent = post(first, 5)?;
    agent.stop()?;
    let agent = place.agent(&conf(&place, second, Some(&out), 100_000))?;
    let lines = until_lines(&place, &agent, sent.len())?;
    // The memory part comes behind what was on the disk.
    let expected = [&sent[IN_MEMORY..], &sent[..IN_MEMORY]].concat();
    ensure!(lines == expected, "{lines:?}");
    agent.stop()
}

/// The overflow is full, and takes what memory holds all the same.
#[test]
fn an_ordered_stop_moves_memory_into_a_full_overflow() -> Result<()> {
    let place = Place::new()?;
    let out = place.folder("out")?;
    let (first, second) = (port()?, port()?);
    let agent = place.agent(&conf(&place, first, None, IN_MEMORY))?;
    let sent = post(first, 2 * IN_MEMORY / BATCH)?;
    agent.stop()?;
    let agent = place.agent(&conf(&place, second, Some(&out), IN_MEMORY))?;
    let lines = until_lines(&place, &agent, sent.len())?;
    let expected = [&sent[IN_MEMORY..], &sent[..IN_MEMORY]].concat();
    ensure!(lines == expected, "{lines:?}");
    agent.stop()
}

#[test]
fn a_stop_that_loses_acknowledged_events_says_so_and_fails() -> Result<()> {
    let place = Place::new()?;
    let (first, second) = (port()?, port()?);
    place
        .agent(&conf(&place, first, None, 100_000))?
        .stop()
        .context("an empty channel")?;
    // Takes go on on a full disk; what is new has room in memory only.
    let full = conf(&place, second, None, 100_000).replace("1048576", "9000000000000000000");
    let mut agent = place.agent(&full)?;
    post(second, 1)?;
    agent.process.signal(Signal::TERM)?;
    let status = agent.process.wait(LIMIT)?;
    ensure!(status.code() == Some(1), "{status}");
    agent.until_output("acknowledged events are lost")?;
    agent.until_output("cannot store 50 acknowledged events")
}

/// With an overflow and without.
#[test]
fn a_reload_loses_nothing() -> Result<()> {
    for overflow in [100_000, 0] {
        let place = Place::new()?;
        let out = place.folder("out")?;
        let (first, second) = (port()?, port()?);
        let text = conf(&place, first, None, overflow);
        let path = place.file("flume.conf", &text)?;
        let arguments = ["agent", "-n", "a1", "-i", "1"];
        let mut agent = RunningAgent::start(&arguments, &path, &[], &place.path("output"))?;
        agent.until_ready()?;
        let sent = post(first, 2)?;
        let fresh = place.file("fresh", &conf(&place, second, Some(&out), overflow))?;
        let file = fs::File::options().append(true).open(&fresh)?;
        file.set_modified(SystemTime::now() + Duration::from_secs(1))?;
        fs::rename(&fresh, &path).context("replace the configuration")?;
        let lines = until_lines(&place, &agent, sent.len())?;
        ensure!(lines == sent, "{lines:?}");
        agent.until_ready()?;
        agent.stop()?;
    }
    Ok(())
}
