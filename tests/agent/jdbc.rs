//! The JDBC channel in a whole agent: SIGKILL under load, and two owners of one file.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use flafka_tests::running_agent::{LIMIT, RunningAgent};
use flafka_tests::{http, poll};

use crate::place::{Place, port};

/// Threads that post, one request after the other.
const POSTERS: usize = 4;
/// Events of one post.
const BATCH: usize = 5;
/// How often the agent is killed.
const KILLS: usize = 4;

/// http → jdbc; with `out` also → file_roll.
fn conf(place: &Place, http: u16, out: Option<&Path>) -> String {
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
         a1.channels.c1.type = jdbc\n\
         a1.channels.c1.driver.class = org.apache.derby.jdbc.EmbeddedDriver\n\
         a1.channels.c1.driver.url = jdbc:derby:{};create=true\n{sink}",
        place.path("db").display()
    )
}

/// What one poster did: bodies that were acknowledged, and those whose answer never came.
#[derive(Default)]
struct Posted {
    acknowledged: Vec<String>,
    unanswered: Vec<String>,
}

/// Posts until told to stop, through kills and restarts.
fn post(port: u16, poster: usize, stop: &AtomicBool) -> Posted {
    let mut posted = Posted::default();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let bodies: Vec<_> = (number..number + BATCH)
            .map(|event| format!("{poster} {event}"))
            .collect();
        number += BATCH;
        let events: Vec<_> = bodies
            .iter()
            .map(|body| serde_json::json!({ "body": body }))
            .collect();
        let text = serde_json::json!(events).to_string();
        match http::post(port, "/", &[], text.as_bytes()) {
            Ok(answer) if answer.status == 200 => posted.acknowledged.extend(bodies),
            _ => posted.unanswered.extend(bodies),
        }
    }
    posted
}

/// Events in the channel, which Flume's JSON does not show.
fn waiting(agent: &RunningAgent) -> Result<u64> {
    const SAMPLE: &str = "flafka_channel_size{component=\"channel\",name=\"c1\"} ";
    let text = String::from_utf8(agent.get("/metrics/prometheus")?.body).context("not text")?;
    let mut lines = text.lines();
    let size = lines.find_map(|line| line.strip_prefix(SAMPLE)?.parse().ok());
    size.with_context(|| format!("no size of c1 in {text}"))
}

#[test]
fn nothing_acknowledged_is_lost_by_sigkill() -> Result<()> {
    let place = Place::new()?;
    let out = place.folder("out")?;
    let (web, last) = (port()?, port()?);
    let stop = Arc::new(AtomicBool::new(false));
    let posters: Vec<_> = (0..POSTERS)
        .map(|poster| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || post(web, poster, &stop))
        })
        .collect();
    let text = conf(&place, web, None);
    let killed = (0..KILLS).try_for_each(|_| {
        let mut agent = place.agent(&text)?;
        // It has to be killed while it stores.
        let before = waiting(&agent)?;
        poll::until_true("events are stored", LIMIT, || {
            Ok(waiting(&agent)? > before + 100)
        })
        .with_context(|| agent.process.evidence())?;
        agent.process.kill()
    });
    stop.store(true, Ordering::Relaxed);
    let mut posted = Vec::new();
    for poster in posters {
        posted.push(poster.join().map_err(|_| anyhow!("a poster panicked"))?);
    }
    killed?;

    let agent = place.agent(&conf(&place, last, Some(&out)))?;
    let acknowledged: usize = posted.iter().map(|of| of.acknowledged.len()).sum();
    ensure!(acknowledged > KILLS * 100, "only {acknowledged} events");
    poll::until_true("the channel is empty", LIMIT, || {
        Ok(place.lines("out")?.len() >= acknowledged && waiting(&agent)? == 0)
    })
    .with_context(|| agent.process.evidence())?;
    let (_, json) = agent.json("/metrics")?;
    ensure!(json.get("CHANNEL.c1").is_none(), "as in Flume: {json}");
    agent.stop()?;
    let lines = place.lines("out")?;
    let once: BTreeSet<&String> = lines.iter().collect();
    ensure!(once.len() == lines.len(), "an event came twice");
    for of in &posted {
        for body in &of.acknowledged {
            ensure!(once.contains(body), "{body} was acknowledged and is gone");
        }
    }
    let known: BTreeSet<&String> = posted
        .iter()
        .flat_map(|of| of.acknowledged.iter().chain(&of.unanswered))
        .collect();
    ensure!(once.is_subset(&known), "something that nobody sent");
    for poster in 0..POSTERS {
        let prefix = format!("{poster} ");
        let numbers = lines.iter().filter_map(|line| line.strip_prefix(&prefix));
        let numbers: Vec<usize> = numbers.filter_map(|number| number.parse().ok()).collect();
        ensure!(numbers.is_sorted(), "poster {poster} is out of order");
    }
    Ok(())
}

#[test]
fn a_second_process_is_told_who_has_the_file() -> Result<()> {
    let place = Place::new()?;
    let first = RunningAgent::ready(
        "a1",
        &place.file("first.conf", &conf(&place, port()?, None))?,
        &[],
        &place.path("first"),
    )?;
    let second_conf = place.file("second.conf", &conf(&place, port()?, None))?;
    let arguments = ["agent", "-n", "a1", "--no-reload-conf"];
    let mut second = RunningAgent::start(&arguments, &second_conf, &[], &place.path("second"))?;
    second.until_output(&format!("is in use by process {}", first.process.pid()))?;
    second.until_output("first.conf")?;
    first.stop()?;
    second.until_ready()?;
    second.stop()
}
