//! Scenes of the examples that need no broker.

use std::fs;

use anyhow::{Result, ensure};
use flafka_tests::running_agent::LIMIT;
use flafka_tests::{http, netcat, poll};

use crate::scene::Scene;

pub(crate) fn netcat_logger(example: &str) -> Result<()> {
    let scene = Scene::with(&[])?;
    let agent = scene.agent(example, "a1")?;
    let answers = netcat::send(scene.netcat, &["hello", "world, with more than 16 bytes"])?;
    ensure!(answers == ["OK", "OK"], "{answers:?}");
    agent.until_output("hello")?;
    agent.until_output("world, with more")?;
    agent.stop()
}

pub(crate) fn netcat_spillable(example: &str) -> Result<()> {
    let scene = Scene::with(&["spilled"])?;
    let agent = scene.agent(example, "a1")?;
    let answers = netcat::send(scene.netcat, &["hello", "world"])?;
    ensure!(answers == ["OK", "OK"], "{answers:?}");
    let lines = scene.until_lines(&agent, "spilled", 2)?;
    ensure!(lines == ["hello", "world"], "{lines:?}");
    ensure!(agent.metric("CHANNEL.c1", "ChannelCapacity")? == 1_010_000);
    ensure!(
        scene.path("netcat-spillable/data/flafka").is_dir(),
        "the overflow has no folder"
    );
    agent.stop()
}

pub(crate) fn netcat_jdbc(example: &str) -> Result<()> {
    let scene = Scene::with(&["from-database"])?;
    let agent = scene.agent(example, "a1")?;
    let answers = netcat::send(scene.netcat, &["hello", "world"])?;
    ensure!(answers == ["OK", "OK"], "{answers:?}");
    let lines = scene.until_lines(&agent, "from-database", 2)?;
    ensure!(lines == ["hello", "world"], "{lines:?}");
    ensure!(
        scene.path("netcat-jdbc/flafka/c1.sqlite").is_file(),
        "the channel has no file"
    );
    agent.stop()
}

pub(crate) fn exec_memory_null(example: &str) -> Result<()> {
    let scene = Scene::with(&[])?;
    let agent = scene.agent(example, "a1")?;
    poll::until_true("lines of the command have gone through", LIMIT, || {
        let taken = agent.metric("CHANNEL.c1", "EventTakeSuccessCount")?;
        Ok(taken >= 5 && agent.metric("SOURCE.r1", "EventAcceptedCount")? >= taken)
    })?;
    agent.stop()
}

pub(crate) fn multiplexing(example: &str) -> Result<()> {
    let scene = Scene::with(&["urgent", "ordinary"])?;
    let agent = scene.agent(example, "a1")?;
    let body = br#"[{"headers":{"level":"error"},"body":"disk full"},
        {"headers":{"level":"info"},"body":"all is well"},
        {"headers":{"level":"debug"},"body":"never seen"},
        {"headers":{"level":"Error"},"body":"another value"},
        {"body":"no header"}]"#;
    let answer = http::post(scene.http, "/", &[], body)?;
    ensure!(answer.status == 200, "{answer:?}");
    let urgent = scene.until_lines(&agent, "urgent", 1)?;
    ensure!(urgent == ["{level=error} disk full"], "{urgent:?}");
    let ordinary = scene.until_lines(&agent, "ordinary", 4)?;
    let expected = ["disk full", "all is well", "another value", "no header"];
    ensure!(ordinary == expected, "{ordinary:?}");
    let trashed = agent.metric("CHANNEL.trash", "EventPutSuccessCount")?;
    ensure!(trashed == 1, "{trashed} events in the trash");
    agent.stop()
}

pub(crate) fn http_blob(example: &str) -> Result<()> {
    let scene = Scene::with(&["blobs"])?;
    let agent = scene.agent(example, "a1")?;
    let blob: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let answer = http::post(scene.http, "/?name=picture.jpg&of=a%20cat", &[], &blob)?;
    ensure!(answer.status == 200, "{answer:?}");
    agent.stop()?;
    let files = scene.files("blobs")?;
    ensure!(files.len() == 1, "{files:?}");
    ensure!(
        files[0].extension().is_some_and(|end| end == "avro"),
        "{files:?}"
    );
    let avro = fs::read(&files[0])?;
    ensure!(avro.starts_with(b"Obj\x01"), "not an Avro container");
    for part in [&blob[..], b"picture.jpg", b"a cat", b"timestamp"] {
        let found = avro.windows(part.len()).any(|window| window == part);
        ensure!(found, "{} bytes are not in the file", part.len());
    }
    Ok(())
}
