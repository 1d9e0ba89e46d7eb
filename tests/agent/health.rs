//! `/health` and `/ready`: a part that cannot work is named with its reason, and it recovers.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result, ensure};
use flafka_tests::running_agent::{LIMIT, RunningAgent};
use flafka_tests::{netcat, poll};

use crate::place::{Place, netcat_logger};

#[test]
fn a_source_whose_port_is_taken_fails_with_the_reason_and_recovers() -> Result<()> {
    let place = Place::new()?;
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("take a port")?;
    let port = taken.local_addr()?.port();
    let conf = place.file("flume.conf", &netcat_logger(port, "r1"))?;
    let arguments = ["agent", "-n", "a1", "--no-reload-conf"];
    let agent = RunningAgent::start(&arguments, &conf, &[], &place.path("output"))?;
    let error = poll::until("the source is failed", LIMIT, || {
        let (code, health) = agent.json("/health")?;
        let source = &health["components"]["a1.sources.r1"];
        let failed = code == 503 && health["status"] == "failing" && source["state"] == "failed";
        Ok(failed.then(|| source["error"].to_string()))
    })
    .with_context(|| agent.process.evidence())?;
    ensure!(
        error.contains("ddress already in use") && error.contains(&port.to_string()),
        "{error}"
    );
    poll::until_true("/ready says no", LIMIT, || {
        Ok(agent.get("/ready")?.status == 503)
    })?;
    for working in ["a1.channels.c1", "a1.sinks.k1"] {
        ensure!(agent.state(working)? == "running", "{working} does not run");
    }
    drop(taken);
    poll::until_true("the source listens", LIMIT, || {
        Ok(netcat::send(port, &["hello"])? == ["OK"])
    })?;
    poll::until_true("everything is well again", LIMIT, || {
        let (code, health) = agent.json("/health")?;
        Ok(code == 200 && health["status"] == "ok" && agent.get("/ready")?.status == 200)
    })?;
    agent.stop()
}

#[test]
fn a_sink_whose_folder_is_missing_fails_and_keeps_its_events_until_it_is_there() -> Result<()> {
    let place = Place::new()?;
    let port = crate::place::port()?;
    let folder = place.path("late");
    let text = netcat_logger(port, "r1").replace(
        "k1.type = logger",
        &format!(
            "k1.type = file_roll\na1.sinks.k1.sink.directory = {}",
            folder.display()
        ),
    );
    let conf = place.file("flume.conf", &text)?;
    let arguments = ["agent", "-n", "a1", "--no-reload-conf"];
    let agent = RunningAgent::start(&arguments, &conf, &[], &place.path("output"))?;
    poll::until_true("the sink is failed", LIMIT, || {
        Ok(agent.state("a1.sinks.k1")? == "failed")
    })?;
    ensure!(netcat::send(port, &["kept", "too"])? == ["OK", "OK"]);
    place.folder("late")?;
    poll::until_true("the events come out", LIMIT, || {
        Ok(place.lines("late")? == ["kept", "too"])
    })
    .with_context(|| agent.process.evidence())?;
    poll::until_true("everything is well again", LIMIT, || {
        Ok(agent.get("/health")?.status == 200)
    })?;
    agent.stop()
}
