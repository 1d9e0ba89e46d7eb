//! `flafka log import` on directories that a real Flume has left: stopped, and killed with SIGKILL under load,
//! in the clear and encrypted.
//!
//! What must come out is what that Flume itself delivers from another copy of the same directories, in its order. Two
//! orders of Flume are those of a hash table and not ours: of takes that were under way at its last checkpoint, and of
//! the events of a put that was; there only the set must be the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flafka_tests::process::{Finished, Process, run};
use flafka_tests::runner::Case;
use flafka_tests::{flafka, http};
use serde_json::{Value, json};

use crate::drivers::connect;
use crate::scene::{Scene, Side};

const LOAD: &str = include_str!("cases/import_load.conf");
const DRAIN: &str = include_str!("cases/import_drain.conf");
const ENCRYPTION: &str = include_str!("cases/import_encryption.conf");
const LIMIT: Duration = Duration::from_secs(90);
/// Events of one post, so of one put transaction.
const BATCH: usize = 50;
/// Clients that post at the same time.
const CLIENTS: usize = 3;

pub(crate) fn cases() -> Vec<Case<()>> {
    let case = |name: &str, end: End, encryption: Encryption| {
        let run = move |(): &()| compare(end, encryption);
        Case::new(name, run).within(Duration::from_secs(300))
    };
    let (no, yes) = (Encryption::No, Encryption::Yes);
    vec![
        case("import::after_a_clean_stop", End::Stopped, no),
        case("import::after_kill_9_under_load", End::Killed, no),
        case("import::encrypted_after_a_clean_stop", End::Stopped, yes),
        case(
            "import::encrypted_after_kill_9_under_load",
            End::Killed,
            yes,
        ),
        Case::new("import::a_running_flume_is_left_alone", |(): &()| running()),
    ]
}

/// How the Flume that leaves the directories ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Stopped,
    Killed,
}

/// Whether its channel is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encryption {
    No,
    Yes,
}

impl Encryption {
    /// The configuration with the keys of the encryption, if there is one.
    fn conf(self, plain: &str) -> String {
        match self {
            Encryption::No => plain.to_owned(),
            Encryption::Yes => format!("{plain}{ENCRYPTION}"),
        }
    }
}

/// Lets a Flume fill its channel faster than its sink empties it, and ends it.
fn load(scene: &Scene, kill: bool, encryption: Encryption) -> Result<()> {
    let mut agent = scene.start(Side::Flume, &encryption.conf(LOAD))?;
    drop(connect(scene)?);
    let (ended, posted) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|threads| -> Result<()> {
        for client in 0..CLIENTS {
            let (ended, posted) = (&ended, &posted);
            threads.spawn(move || {
                for batch in 0.. {
                    if ended.load(Ordering::SeqCst) || post(scene, client, batch).is_err() {
                        return;
                    }
                    posted.fetch_add(BATCH, Ordering::SeqCst);
                }
            });
        }
        let waited = agent.until("a backlog behind a slow sink", LIMIT, || {
            let channel = &scene.metrics()?["CHANNEL.c"];
            let taken: u64 = number(channel, "EventTakeSuccessCount")?;
            let put: u64 = number(channel, "EventPutSuccessCount")?;
            Ok((taken > 1000 && put > taken + 5000).then_some(()))
        });
        // Under load, or after it.
        let killed = match kill {
            true => agent.kill(),
            false => Ok(()),
        };
        ended.store(true, Ordering::SeqCst);
        waited.and(killed)
    })?;
    if !kill {
        agent.terminate(LIMIT)?;
    }
    ensure!(posted.load(Ordering::SeqCst) > 0, "nothing was put");
    Ok(())
}

fn number(channel: &Value, key: &str) -> Result<u64> {
    let text = channel[key].as_str().context("no such counter")?;
    text.parse().context("a counter is no number")
}

fn post(scene: &Scene, client: usize, batch: usize) -> Result<()> {
    let events: Vec<Value> = (0..BATCH)
        .map(|index| {
            let filling = "x".repeat((batch * 7 + index * 13) % 90);
            json!({"headers": {"client": client.to_string()}, "body": format!("{client}-{batch}-{index}-{filling}")})
        })
        .collect();
    let body = Value::from(events).to_string();
    let headers = [("Content-Type", "application/json; charset=UTF-8")];
    let answer = http::post(scene.port, "/", &headers, body.as_bytes())?;
    ensure!(answer.status == 200, "the answer is {}", answer.status);
    Ok(())
}

fn compare(end: End, encryption: Encryption) -> Result<()> {
    let scene = Scene::new(None)?;
    for folder in ["channel/checkpoint", "channel/data1", "channel/data2"] {
        fs::create_dir_all(scene.path(folder)).context("make a folder")?;
    }
    if encryption == Encryption::Yes {
        keystore(&scene, "keys.jceks")?;
        fs::write(scene.path("store-password"), "storeSecret\n")?;
        fs::write(scene.path("key-password"), "keySecret\n")?;
    }
    load(&scene, end == End::Killed, encryption)?;
    let channel = scene.path("channel");
    copy(&channel, &scene.path("copy"))?;
    let before = listing(&channel)?;
    if encryption == Encryption::Yes {
        ensure!(!has_text(&channel)?, "Flume's files are in the clear");
        wrong_keys(&scene)?;
    }
    let report = import(&scene, encryption, &["--json"])?
        .success("flafka log import")?
        .stdout;
    let report: Value = serde_json::from_str(&report).with_context(|| report.clone())?;
    ensure!(listing(&channel)? == before, "the source has changed");
    let waiting = report["imported"].as_u64().context("no count")?;
    ensure!(waiting > 1000 && report["damaged"] == 0, "{report}");
    let again = import(&scene, encryption, &[])?
        .success("flafka log import again")?
        .stdout;
    ensure!(again.contains("imported already"), "{again}");
    let in_clear = has_text(&scene.path("target"))?;
    ensure!(
        in_clear == (encryption == Encryption::No),
        "in the clear: {in_clear}"
    );

    let data = "@DIR@/copy/data1,@DIR@/copy/data2";
    let drain_conf = encryption.conf(DRAIN);
    let flumes = drain(&scene, Side::Flume, &drain_conf, data, "out2", waiting)?;
    let ours = drain(
        &scene,
        Side::Flafka,
        &drain_conf,
        "@DIR@/target",
        "out3",
        waiting,
    )?;
    let returned = report["counts"]["returned"].as_u64().unwrap_or(0);
    same_but_for_hash_tables(&ours, &flumes, returned as usize)
        .with_context(|| format!("the import's report: {report}"))
}

/// Puts one of the keystores that `keytool` made where the configuration expects it.
fn keystore(scene: &Scene, name: &str) -> Result<()> {
    let made = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../crates/channels/src/file/encryption/testdata")
        .join(name);
    fs::copy(&made, scene.path("keys.jceks")).with_context(|| format!("copy {name}"))?;
    Ok(())
}

/// Without the right keys nothing is imported, and what is wrong is named.
fn wrong_keys(scene: &Scene) -> Result<()> {
    let refused = |encryption, words: &str| -> Result<()> {
        let refused = import(scene, encryption, &[])?;
        let named = !refused.status.success() && refused.stderr.contains(words);
        ensure!(named, "not {words:?}: {}{}", refused.stdout, refused.stderr);
        ensure!(!scene.path("target").is_dir(), "something was written");
        Ok(())
    };
    // By its directories alone.
    refused(
        Encryption::No,
        "is encrypted (AESCTRNOPADDING, key \"key-0\")",
    )?;
    fs::write(scene.path("store-password"), "wrong")?;
    refused(Encryption::Yes, "the password is wrong")?;
    fs::write(scene.path("store-password"), "storeSecret")?;
    fs::write(scene.path("key-password"), "wrong")?;
    refused(Encryption::Yes, "the password of the key `key-0` is wrong")?;
    fs::write(scene.path("key-password"), "keySecret")?;
    keystore(scene, "without-key-0.jceks")?;
    refused(Encryption::Yes, "the keystore holds no such key as `key-0`")?;
    keystore(scene, "other.jceks")?;
    refused(Encryption::Yes, "it is not the key that Flume wrote")?;
    keystore(scene, "keys.jceks")
}

/// Whether the filling of an event can be read in any file below a directory.
fn has_text(dir: &Path) -> Result<bool> {
    let text = "x".repeat(40).into_bytes();
    let all = listing(dir)?;
    let has = |bytes: &[u8]| bytes.windows(text.len()).any(|found| found == text);
    Ok(all.iter().any(|(_, bytes, _)| has(bytes)))
}

fn import(scene: &Scene, encryption: Encryption, more: &[&str]) -> Result<Finished> {
    let mut command = flafka::command(&["log", "import"])?;
    match encryption {
        Encryption::No => {
            command
                .arg("--checkpoint-dir")
                .arg(scene.path("channel/checkpoint"));
            for data in ["channel/data1", "channel/data2"] {
                command.arg("--data-dirs").arg(scene.path(data));
            }
        }
        Encryption::Yes => {
            command.arg("-f").arg(scene.path("flume.conf"));
            command.args(["-n", "a1", "--channel", "c"]);
        }
    }
    command.arg("--to").arg(scene.path("target")).args(more);
    run("flafka log import", command, b"", LIMIT)
}

/// Runs an agent that only delivers what waits in its channel; the lines of its file.
fn drain(
    scene: &Scene,
    side: Side,
    conf: &str,
    data: &str,
    out: &str,
    waiting: u64,
) -> Result<Vec<String>> {
    let conf = conf.replace("@DATA@", data).replace("@OUT@", out);
    let mut agent: Process = scene.start(side, &conf)?;
    scene.wait_taken(&mut agent, waiting)?;
    agent.terminate(LIMIT)?;
    let mut text = String::new();
    for path in files(&scene.path(out))? {
        text.push_str(&fs::read_to_string(path).context("read what was delivered")?);
    }
    Ok(text.lines().map(str::to_owned).collect())
}

/// The put transaction of a line, and its place in it.
fn place(line: &str) -> Result<(String, usize)> {
    let (_, body) = line
        .split_once("} ")
        .with_context(|| format!("no event: {line}"))?;
    let mut parts = body.splitn(4, '-');
    let mut part = || parts.next().with_context(|| format!("not ours: {line}"));
    let batch = format!("{}-{}", part()?, part()?);
    Ok((batch, part()?.parse().context("the place in a batch")?))
}

fn same_but_for_hash_tables(ours: &[String], flumes: &[String], returned: usize) -> Result<()> {
    ensure!(
        ours.len() == flumes.len(),
        "{} events, Flume delivers {}",
        ours.len(),
        flumes.len()
    );
    if ours == flumes {
        return Ok(());
    }
    let neutral = |lines: &[String]| -> Result<Vec<String>> {
        let mut lines = lines.to_vec();
        let head = returned.min(lines.len());
        lines[..head].sort();
        let mut start = head;
        while start < lines.len() {
            let batch = place(&lines[start])?.0;
            let mut end = start;
            while end < lines.len() && place(&lines[end])?.0 == batch {
                end += 1;
            }
            lines[start..end].sort();
            start = end;
        }
        Ok(lines)
    };
    let (left, right) = (neutral(ours)?, neutral(flumes)?);
    for (at, (left, right)) in left.iter().zip(&right).enumerate() {
        ensure!(left == right, "event {at} is {left}, Flume's is {right}");
    }
    // Within a put ours are in order whatever Flume's hash table says.
    for pair in ours[returned.min(ours.len())..].windows(2) {
        let (before, after) = (place(&pair[0])?, place(&pair[1])?);
        ensure!(
            before.0 != after.0 || before.1 < after.1,
            "{} comes before {}",
            pair[0],
            pair[1]
        );
    }
    Ok(())
}

/// While a Flume has the directories nothing is imported, and that Flume is not disturbed.
fn running() -> Result<()> {
    let scene = Scene::new(None)?;
    for folder in ["channel/checkpoint", "channel/data1", "channel/data2"] {
        fs::create_dir_all(scene.path(folder)).context("make a folder")?;
    }
    let mut agent = scene.start(Side::Flume, LOAD)?;
    drop(connect(&scene)?);
    post(&scene, 0, 0)?;
    let refused = import(&scene, Encryption::No, &[])?;
    let pid = agent.pid().to_string();
    let named = refused.stderr.contains("in_use.lock") && refused.stderr.contains(&pid);
    ensure!(!refused.status.success() && named, "{}", refused.stderr);
    ensure!(!scene.path("target").is_dir(), "something was written");
    post(&scene, 0, 1)?;
    agent.terminate(LIMIT)?;
    Ok(())
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        paths.push(entry?.path());
    }
    paths.sort();
    Ok(paths)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).context("make a folder")?;
    for path in files(from)? {
        let target = to.join(path.file_name().context("a path without a name")?);
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target).with_context(|| format!("copy {}", path.display()))?;
        }
    }
    Ok(())
}

/// Every file below `dir` with its content and its time.
fn listing(dir: &Path) -> Result<Vec<(PathBuf, Vec<u8>, std::time::SystemTime)>> {
    let mut all = Vec::new();
    for path in files(dir)? {
        if path.is_dir() {
            all.extend(listing(&path)?);
        } else {
            let changed = fs::metadata(&path)?.modified()?;
            all.push((path.clone(), fs::read(&path)?, changed));
        }
    }
    Ok(all)
}
