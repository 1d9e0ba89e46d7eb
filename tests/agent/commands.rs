//! The commands around the agent: version, manual pages, completions, exit codes, Flume's ways to name a configuration.

use std::fs;

use anyhow::{Context, Result, ensure};
use flafka_tests::netcat;
use flafka_tests::running_agent::RunningAgent;

use crate::place::{Place, flafka, netcat_logger, port};

#[test]
fn version_pages_and_completions_are_printed() -> Result<()> {
    let number = env!("CARGO_PKG_VERSION");
    for arguments in [["version"], ["--version"]] {
        let said = flafka(&arguments)?.success("version")?;
        ensure!(said.stdout.contains(number), "{}", said.stdout);
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = flafka(&["completions", shell])?.success("completions")?;
        ensure!(
            script.stdout.contains("flafka") && script.stdout.contains("broker"),
            "{shell}"
        );
    }
    let place = Place::new()?;
    let out = place.path("man");
    flafka(&[
        "man",
        "--out",
        out.to_str().context("a path that is not text")?,
    ])?
    .success("man")?;
    let help = flafka(&["--help"])?.success("help")?;
    for command in [
        "agent", "broker", "up", "demo", "check", "topic", "produce", "consume", "log", "version",
    ] {
        ensure!(
            help.stdout.contains(&format!("\n  {command} ")),
            "help has no {command}"
        );
        let own = flafka(&[command, "--help"])?.success(command)?;
        ensure!(own.stdout.contains("Usage: flafka "), "{}", own.stdout);
        let page = fs::read_to_string(out.join(format!("flafka-{command}.1")))?;
        let shown = flafka(&["man", command])?.success("man")?;
        ensure!(
            page.contains(".TH") && shown.stdout.contains(".TH"),
            "no page for {command}"
        );
    }
    Ok(())
}

#[test]
fn exit_codes_tell_a_wrong_configuration_from_a_failure() -> Result<()> {
    let place = Place::new()?;
    let conf = place.file("flume.conf", &netcat_logger(port()?, "r1"))?;
    let conf = conf.to_str().context("a path that is not text")?;
    let cases: &[(&[&str], i32, &str)] = &[
        (&["agent", "-n", "a1"], 1, "-f FILE"),
        (
            &["agent", "-n", "a1", "-f", "/nowhere/at.conf"],
            2,
            "/nowhere/at.conf",
        ),
        (&["agent", "-n", "a2", "-f", conf], 2, "`-n a1`"),
        (&["up", "-n", "a1", "-n", "a2", "-f", conf], 2, "`-n a1`"),
        (
            &["broker", "--override", "num.partition=2"],
            2,
            "--override num.partition=2: unknown key `num.partition`; did you mean `num.partitions`?\n\
             1 problem; the broker",
        ),
        (
            &["agent", "-n", "a1", "-f", conf, "-z", "zk:2181"],
            1,
            "ZooKeeper",
        ),
        (
            &["agent", "-n", "a1", "-f", conf, "--nonsense"],
            2,
            "--nonsense",
        ),
        (
            &["consume", "-b", "127.0.0.1:1", "-e", "t"],
            1,
            "127.0.0.1:1",
        ),
    ];
    for (arguments, code, says) in cases {
        let ended = flafka(arguments)?;
        ensure!(
            ended.status.code() == Some(*code) && ended.stderr.contains(says),
            "{arguments:?}: {}, expected {code} and {says:?}\n{}",
            ended.status,
            ended.stderr
        );
    }
    Ok(())
}

#[test]
fn a_dry_run_describes_the_agent() -> Result<()> {
    let place = Place::new()?;
    let conf = place.file("flume.conf", &netcat_logger(port()?, "r1"))?;
    let conf = conf.to_str().context("a path that is not text")?;
    let said = flafka(&["agent", "-n", "a1", "-f", conf, "--dryrun"])?.success("dry run")?;
    for part in [
        "source r1 (netcat) -> c1",
        "channel c1 (memory)",
        "sink k1 (logger) <- c1",
    ] {
        ensure!(said.stdout.contains(part), "{}", said.stdout);
    }
    Ok(())
}

#[test]
fn flumes_ways_to_give_a_configuration_work() -> Result<()> {
    let place = Place::new()?;
    let port = port()?;
    let text = netcat_logger(port, "r1");
    let (sources, rest): (Vec<_>, Vec<_>) = text
        .lines()
        .partition(|line| line.starts_with("a1.sources"));
    // Two files that are merged; -D for a value; flume-ng's own words that mean nothing here.
    let first = place.file("first.conf", &rest.join("\n"))?;
    let sources = sources
        .join("\n")
        .replace(&port.to_string(), "${sys:netcat.port}");
    let second = place.file("second.conf", &sources)?;
    let second = second.to_str().context("a path that is not text")?;
    let defined = format!("-Dnetcat.port={port}");
    let arguments = [
        "agent",
        "--name",
        "a1",
        "--conf",
        "conf",
        "--conf-file",
        second,
        "-Xmx20m",
        &defined,
        "-Dflume.root.logger=INFO,console",
    ];
    let mut agent = RunningAgent::start(&arguments, &first, &[], &place.path("output"))?;
    agent.until_ready()?;
    ensure!(netcat::send(port, &["merged"])? == ["OK"]);
    agent.until_output("merged")?;
    agent.stop()
}

#[test]
fn the_backup_stands_in_for_a_lost_file() -> Result<()> {
    let place = Place::new()?;
    let port = port()?;
    let conf = place.file("flume.conf", &netcat_logger(port, "r1"))?;
    let backup = place.path("backup");
    let backup = backup.to_str().context("a path that is not text")?;
    let arguments = ["agent", "-n", "a1", "-b", backup];
    let mut agent = RunningAgent::start(&arguments, &conf, &[], &place.path("output"))?;
    agent.until_ready()?;
    agent.stop()?;
    fs::remove_file(&conf)?;
    let mut agent = RunningAgent::start(&arguments, &conf, &[], &place.path("output"))?;
    agent.until_ready()?;
    ensure!(netcat::send(port, &["from the backup"])? == ["OK"]);
    agent.until_output("its backup is used")?;
    agent.stop()
}

#[test]
fn a_file_that_cannot_be_read_is_one_error() -> Result<()> {
    for command in ["check", "agent"] {
        let done = flafka(&[command, "-n", "a1", "-f", "/nowhere/at.conf"])?;
        let said = format!("{}{}", done.stdout, done.stderr);
        ensure!(done.status.code() == Some(2), "{said}");
        ensure!(said.contains("1 problem (1 error)"), "{said}");
        ensure!(!said.contains("no agent"), "{said}");
    }
    Ok(())
}
