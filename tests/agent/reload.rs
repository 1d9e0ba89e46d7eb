//! A changed configuration file is loaded again; a bad one is not.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use flafka_tests::netcat;
use flafka_tests::poll;
use flafka_tests::running_agent::{LIMIT, RunningAgent};

use crate::place::{Place, netcat_logger, port};

/// Replaces the file as an editor does, with a modification time that is surely newer.
fn replace(conf: &Path, text: &str, version: u64) -> Result<()> {
    let fresh = conf.with_extension("new");
    fs::write(&fresh, text).context("write the new configuration")?;
    let file = fs::File::options().append(true).open(&fresh)?;
    file.set_modified(SystemTime::now() + Duration::from_secs(version))?;
    fs::rename(&fresh, conf).context("replace the configuration")
}

#[test]
fn a_changed_file_is_loaded_and_a_bad_one_changes_nothing() -> Result<()> {
    let place = Place::new()?;
    let (first, second, third) = (port()?, port()?, port()?);
    let conf = place.file("flume.conf", &netcat_logger(first, "r1"))?;
    let arguments = ["agent", "-n", "a1", "-i", "1"];
    let mut agent = RunningAgent::start(&arguments, &conf, &[], &place.path("output"))?;
    agent.until_ready()?;
    ensure!(netcat::send(first, &["one"])? == ["OK"]);

    replace(&conf, &netcat_logger(second, "r1"), 1)?;
    poll::until_true("the new port listens", LIMIT, || {
        Ok(netcat::send(second, &["two"])? == ["OK"])
    })
    .with_context(|| agent.process.evidence())?;
    ensure!(
        netcat::send(first, &["x"]).is_err(),
        "the old port still listens"
    );

    replace(
        &conf,
        &netcat_logger(third, "r1").replace("netcat", "netcta"),
        2,
    )?;
    agent.until_output("the old one keeps running")?;
    agent.until_output("did you mean `netcat`")?;
    ensure!(netcat::send(second, &["three"])? == ["OK"]);

    // Parts with other names: those that are gone must not be shown any more.
    replace(&conf, &netcat_logger(third, "other"), 3)?;
    poll::until_true("the renamed source listens", LIMIT, || {
        Ok(netcat::send(third, &["four"])? == ["OK"])
    })
    .with_context(|| agent.process.evidence())?;
    agent.until_ready()?;
    let (_, health) = agent.json("/health")?;
    ensure!(
        health["components"].get("a1.sources.r1").is_none(),
        "{health}"
    );
    for line in ["one", "two", "three", "four"] {
        agent.until_output(line)?;
    }
    agent.stop()
}
