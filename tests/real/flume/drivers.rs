//! What is done to a running agent: lines over TCP, requests over HTTP, files that grow.
//!
//! Every answer is noted in the scene, so the answers are compared like the rest.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use flafka_tests::{http, poll};
use serde_json::{Value, json};

use crate::outcome::text;
use crate::scene::Scene;

const LIMIT: Duration = Duration::from_secs(30);

/// A connection to the scene's source, as soon as it listens.
pub(crate) fn connect(scene: &Scene) -> Result<TcpStream> {
    let stream = poll::until("the source accepts connections", LIMIT, || {
        Ok(Some(TcpStream::connect((Ipv4Addr::LOCALHOST, scene.port))?))
    })?;
    stream
        .set_read_timeout(Some(LIMIT))
        .context("set the read deadline")?;
    Ok(stream)
}

/// Sends lines and reads one answer to each.
pub(crate) fn lines_with_answers(scene: &Scene, lines: &[String]) -> Result<()> {
    let mut stream = connect(scene)?;
    let mut answers = BufReader::new(stream.try_clone().context("clone a connection")?).lines();
    for chunk in lines.chunks(50) {
        let sent: String = chunk.iter().map(|line| format!("{line}\n")).collect();
        stream.write_all(sent.as_bytes()).context("send lines")?;
        for line in chunk {
            let answer = answers
                .next()
                .with_context(|| format!("no answer to {line:?}"))?
                .context("read an answer")?;
            ensure!(answer == "OK", "the answer to {line:?} is {answer:?}");
        }
    }
    Ok(())
}

/// Sends bytes, says that no more will come, and notes everything that is answered until the other side closes.
pub(crate) fn send_and_note_all(scene: &Scene, bytes: &[u8]) -> Result<()> {
    let mut stream = connect(scene)?;
    stream.write_all(bytes).context("send bytes")?;
    stream
        .shutdown(Shutdown::Write)
        .context("end the sending side")?;
    let mut answer = Vec::new();
    // A connection that is reset after its answer has still given the answer.
    match stream.read_to_end(&mut answer) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => return Err(error).context("read the answers"),
    }
    scene.note(text(&answer));
    Ok(())
}

/// One event as the JSON handler takes it.
pub(crate) fn event(headers: &[(&str, &str)], body: &str) -> Value {
    let headers: serde_json::Map<String, Value> = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    json!({ "headers": headers, "body": body })
}

/// Posts events and notes the status.
pub(crate) fn post_events(scene: &Scene, events: &[Value]) -> Result<()> {
    connect(scene)?;
    let body = serde_json::to_vec(events).context("write JSON")?;
    let answer = http::post(
        scene.port,
        "/",
        &[("Content-Type", "application/json")],
        &body,
    )?;
    scene.note(format!("{} events: {}", events.len(), answer.status));
    ensure!(
        answer.status == 200,
        "the events were answered with {}",
        answer.status
    );
    Ok(())
}

/// Sends any request and notes the status under `name`.
pub(crate) fn request(
    scene: &Scene,
    name: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<()> {
    connect(scene)?;
    let answer =
        http::request(scene.port, method, path, headers, body).with_context(|| name.to_owned())?;
    scene.note(format!("{name}: {}", answer.status));
    Ok(())
}

/// Writes an input file that was last changed `age` ago.
pub(crate) fn write_file(scene: &Scene, name: &str, bytes: &[u8], age: Duration) -> Result<()> {
    let path = scene.path(name);
    fs::write(&path, bytes).with_context(|| format!("write {name}"))?;
    let file = File::options()
        .write(true)
        .open(&path)
        .with_context(|| format!("open {name}"))?;
    file.set_modified(SystemTime::now() - age)
        .with_context(|| format!("set the time of {name}"))
}

/// Appends to an input file.
pub(crate) fn append(scene: &Scene, name: &str, bytes: &[u8]) -> Result<()> {
    let mut file = File::options()
        .append(true)
        .open(scene.path(name))
        .with_context(|| format!("open {name}"))?;
    file.write_all(bytes)
        .with_context(|| format!("append to {name}"))
}
