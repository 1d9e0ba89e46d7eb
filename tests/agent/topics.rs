//! `flafka up`, and the commands that look after topics.

use std::thread;

use anyhow::{Context, Result, ensure};
use flafka_tests::running_agent::{LIMIT, RunningAgent};
use flafka_tests::{netcat, poll};

use crate::place::{Place, flafka, flafka_with_input, netcat_logger, port};

#[test]
fn up_runs_several_agents_with_the_log_and_topics_are_looked_after() -> Result<()> {
    let place = Place::new()?;
    let (first, second, third, kafka) = (port()?, port()?, port()?, port()?);
    let text = ["a1", "a2", "a3"]
        .iter()
        .zip([first, second, third])
        .map(|(name, port)| netcat_logger(port, "r1").replace("a1.", &format!("{name}.")));
    let conf = place.file("flume.conf", &text.collect::<String>())?;
    let listeners = format!("listeners=PLAINTEXT://127.0.0.1:{kafka}");
    let data = format!("log.dirs={}", place.path("data").display());
    let arguments = [
        "up",
        "-n",
        "a1",
        "-n",
        "a3",
        "--override",
        &listeners,
        "--override",
        &data,
    ];
    let mut up = RunningAgent::start(&arguments, &conf, &[], &place.path("output"))?;
    up.until_ready()?;
    for port in [first, third] {
        ensure!(netcat::send(port, &[format!("to {port}")])? == ["OK"]);
        up.until_output(&format!("to {port}"))?;
    }
    ensure!(
        netcat::send(second, &["x"]).is_err(),
        "an agent runs that was not asked for"
    );
    ensure!(up.state("broker")? == "running");

    let bootstrap = format!("127.0.0.1:{kafka}");
    let run = |arguments: &[&str]| -> Result<String> {
        let mut all = vec![arguments[0], "-b", &bootstrap];
        all.extend(&arguments[1..]);
        Ok(flafka(&all)?.success(&arguments.join(" "))?.stdout)
    };
    run(&[
        "topic",
        "create",
        "orders",
        "-p",
        "3",
        "-c",
        "retention.ms=3600000",
    ])?;
    ensure!(run(&["topic", "list"])?.contains("orders"));
    let described = run(&["topic", "describe", "orders"])?;
    ensure!(described.contains("3600000"), "{described}");
    let twice = flafka(&["topic", "-b", &bootstrap, "create", "orders"])?;
    ensure!(
        twice.status.code() == Some(1) && twice.stderr.contains("orders"),
        "{}",
        twice.stderr
    );
    let lines: String = (0..1000)
        .map(|number| format!("k{number}\tv{number}\n"))
        .collect();
    let produce = ["produce", "-b", &bootstrap, "-K", "\t", "orders"];
    flafka_with_input(&produce, lines.as_bytes())?.success("produce")?;
    let mut read: Vec<String> = run(&["consume", "-e", "orders"])?
        .lines()
        .map(str::to_owned)
        .collect();
    read.sort();
    let mut expected: Vec<String> = (0..1000).map(|number| format!("v{number}")).collect();
    expected.sort();
    ensure!(read == expected, "{} lines were read", read.len());
    let part = run(&["consume", "-g", "readers", "-n", "10", "orders"])?;
    let rest = run(&["consume", "-g", "readers", "-n", "990", "orders"])?;
    let mut together: Vec<&str> = part.lines().chain(rest.lines()).collect();
    together.sort_unstable();
    ensure!(
        together == expected,
        "the group did not go on where it stopped"
    );
    run(&["topic", "delete", "orders"])?;
    ensure!(!run(&["topic", "list"])?.contains("orders"));
    up.stop()
}

#[test]
fn a_consumer_that_waits_gets_what_comes_later() -> Result<()> {
    let place = Place::new()?;
    let kafka = port()?;
    let bootstrap = format!("127.0.0.1:{kafka}");
    let listeners = format!("listeners=PLAINTEXT://127.0.0.1:{kafka}");
    let data = format!("log.dirs={}", place.path("data").display());
    let conf = place.file("flume.conf", &netcat_logger(port()?, "r1"))?;
    let arguments = ["up", "--override", &listeners, "--override", &data];
    let mut up = RunningAgent::start(&arguments, &conf, &[], &place.path("output"))?;
    up.until_ready()?;
    flafka(&["topic", "-b", &bootstrap, "create", "news"])?.success("create")?;
    let waiting = {
        let bootstrap = bootstrap.clone();
        thread::spawn(move || flafka(&["consume", "-b", &bootstrap, "-n", "1", "-v", "news"]))
    };
    poll::until_true("the consumer has been answered", LIMIT, || {
        flafka_with_input(&["produce", "-b", &bootstrap, "news"], b"something new\n")?
            .success("produce")?;
        Ok(waiting.is_finished())
    })?;
    let said = waiting
        .join()
        .ok()
        .context("the consumer panicked")??
        .success("consume")?;
    ensure!(
        said.stdout.contains("something new") && said.stdout.contains("news"),
        "{}",
        said.stdout
    );
    up.stop()
}
