//! An ordered stop: what a memory channel holds comes out first; a second signal ends at once.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flafka_tests::process::Process;
use flafka_tests::running_agent::LIMIT;
use flafka_tests::{flafka, http, kafka_client, poll};
use rustix::process::Signal;

use crate::place::{Place, port};

fn http_memory_kafka(http: u16, kafka: u16) -> String {
    format!(
        "a1.sources = r1\na1.channels = c1\na1.sinks = k1\n\
         a1.sources.r1.type = http\na1.sources.r1.bind = 127.0.0.1\na1.sources.r1.port = {http}\n\
         a1.sources.r1.channels = c1\n\
         a1.channels.c1.type = memory\na1.channels.c1.capacity = 10000\n\
         a1.sinks.k1.type = org.apache.flume.sink.kafka.KafkaSink\na1.sinks.k1.channel = c1\n\
         a1.sinks.k1.kafka.bootstrap.servers = 127.0.0.1:{kafka}\na1.sinks.k1.kafka.topic = drained\n"
    )
}

fn posts(port: u16, posts: usize) -> Result<Vec<String>> {
    let mut sent = Vec::new();
    for post in 0..posts {
        let bodies: Vec<String> = (0..50)
            .map(|event| format!("event {post} {event}"))
            .collect();
        let events: Vec<_> = bodies
            .iter()
            .map(|body| serde_json::json!({ "body": body }))
            .collect();
        let answer = http::post(
            port,
            "/",
            &[],
            serde_json::json!(events).to_string().as_bytes(),
        )?;
        ensure!(answer.status == 200, "{answer:?}");
        sent.extend(bodies);
    }
    sent.sort();
    Ok(sent)
}

fn broker(place: &Place, port: u16) -> Result<Process> {
    let mut command = flafka::command(&["broker", "--override"])?;
    command.arg(format!("listeners=PLAINTEXT://127.0.0.1:{port}"));
    command.arg("--override");
    command.arg(format!("log.dirs={}", place.path("log").display()));
    let mut broker = Process::start("flafka broker", command, &place.path("log.output"))?;
    broker.until("the embedded log answers", LIMIT, || {
        Ok(kafka_client::is_ready(&format!("127.0.0.1:{port}"))?.then_some(()))
    })?;
    Ok(broker)
}

#[test]
fn sigterm_empties_a_memory_channel_without_loss() -> Result<()> {
    let place = Place::new()?;
    let (web, kafka) = (port()?, port()?);
    let mut broker = broker(&place, kafka)?;
    let agent = place.agent(&http_memory_kafka(web, kafka))?;
    let bootstrap = format!("127.0.0.1:{kafka}");
    posts(web, 1)?;
    let first = kafka_until(&bootstrap, 50)?;
    ensure!(first == 50, "{first}");
    // While the log stands still everything stays in memory, and it does so beyond the signal.
    broker.signal(Signal::STOP)?;
    let sent = posts(web, 40)?;
    let waiting = agent.metric("CHANNEL.c1", "ChannelSize")?;
    ensure!(waiting >= 1900, "only {waiting} events wait in memory");
    let mut process = agent.process;
    process.signal(Signal::TERM)?;
    poll::until_true("the agent has begun to stop", LIMIT, || {
        Ok(fs::read_to_string(process.log())?.contains("agent stops"))
    })?;
    ensure!(http::post(web, "/", &[], b"[{\"body\":\"late\"}]").map_or(true, |a| a.status != 200));
    broker.signal(Signal::CONT)?;
    let status = process.wait(LIMIT)?;
    ensure!(status.success(), "{status}\n{}", process.evidence());
    let records = kafka_client::read_topic(&bootstrap, "drained", 50 + sent.len(), LIMIT)?;
    let mut texts: Vec<String> = records[50..]
        .iter()
        .map(kafka_client::ReadRecord::text)
        .collect();
    texts.sort();
    ensure!(
        texts == sent,
        "{} records, not each acknowledged event once",
        texts.len()
    );
    ensure!(
        broker.terminate(LIMIT)?.success(),
        "the log did not stop in order"
    );
    Ok(())
}

/// Waits until the topic has that many records.
fn kafka_until(bootstrap: &str, expected: usize) -> Result<usize> {
    poll::until_true("the topic is there", LIMIT, || {
        Ok(kafka_client::topics(bootstrap)?.contains_key("drained"))
    })?;
    Ok(kafka_client::read_topic(bootstrap, "drained", expected, LIMIT)?.len())
}

#[test]
fn sigint_stops_in_order_too_and_a_second_signal_ends_at_once() -> Result<()> {
    let place = Place::new()?;
    let out = place.folder("out")?;
    let text = format!(
        "a1.sources = r1\na1.channels = c1\na1.sinks = k1\n\
         a1.sources.r1.type = seq\na1.sources.r1.batchSize = 100\na1.sources.r1.channels = c1\n\
         a1.channels.c1.type = memory\na1.channels.c1.capacity = 1000\n\
         a1.sinks.k1.type = file_roll\na1.sinks.k1.sink.directory = {}\na1.sinks.k1.channel = c1\n",
        out.display()
    );
    let mut agent = place.agent(&text)?;
    poll::until_true(
        "events flow",
        LIMIT,
        || Ok(place.lines("out")?.len() > 1000),
    )?;
    agent.process.signal(Signal::INT)?;
    let status = agent.process.wait(LIMIT)?;
    ensure!(status.success(), "{status}\n{}", agent.process.evidence());
    let lines = place.lines("out")?;
    for (number, line) in lines.iter().enumerate() {
        ensure!(*line == number.to_string(), "line {number} is {line}");
    }

    // A sink that cannot get rid of its events keeps an ordered stop waiting, up to its deadlines.
    let place = Place::new()?;
    let (web, nobody) = (port()?, port()?);
    let mut agent = place.agent(&http_memory_kafka(web, nobody))?;
    posts(web, 1)?;
    agent.process.signal(Signal::TERM)?;
    agent.until_output("agent stops")?;
    ensure!(
        agent.process.ended()?.is_none(),
        "it did not wait for the events"
    );
    agent.process.signal(Signal::INT)?;
    let status = agent
        .process
        .wait(Duration::from_secs(15))
        .context("the second signal")?;
    ensure!(status.code() == Some(130), "{status}");
    Ok(())
}
