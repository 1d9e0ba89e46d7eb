//! Directories as an earlier release has left them (F19): what is in them, and how they are kept in the repository.
//!
//! A fixture is a tree of files without the zeroes at their ends, and the file `LENGTHS` that says how long each one
//! really is: journals are prefilled, and nobody wants 64 MiB of zeroes in a checkout. `flafka-old-formats` writes a
//! fixture, once for each change of a format; a fixture is never written again.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::process::Process;
use crate::running_agent::RunningAgent;
use crate::{flafka, ports};

/// Names the real length of each file.
const LENGTHS: &str = "LENGTHS";
/// Events that had been delivered when the channel was left.
pub const DELIVERED: usize = 40;
/// Events that were waiting in it.
pub const WAITING: usize = 120;
/// The topic of the embedded log.
pub const TOPIC: &str = "old";
/// Records in each of its two partitions.
pub const RECORDS: usize = 60;
/// A group with committed offsets.
pub const GROUP: &str = "readers";
/// Its offset in partition 1.
pub const COMMITTED: i64 = 17;

/// Folder of the fixtures below `tests/`.
#[must_use]
pub fn folder() -> PathBuf {
    crate::workspace::root().join("tests/fixtures/old_formats")
}

/// Body of an event.
#[must_use]
pub fn body(number: usize) -> String {
    format!("event {number} {}", "äöü\\\"".repeat(number % 7))
}

/// Value of its only header, `number`.
#[must_use]
pub fn header(number: usize) -> String {
    format!("n{number}")
}

/// Key and value of a record.
#[must_use]
pub fn record(partition: i32, number: usize) -> (String, String) {
    let key = format!("key-{}", number % 5);
    (key, format!("record {number} of {partition}"))
}

/// A channel in `channel` of the current folder, between an HTTP source and, if wanted, files in `out`.
#[must_use]
pub fn channel_conf(http: u16, encrypted: bool, keys: &Path, sink: bool) -> String {
    let mut text = format!(
        "a1.sources = web\n\
         a1.channels = c1\n\
         a1.sources.web.type = http\n\
         a1.sources.web.bind = 127.0.0.1\n\
         a1.sources.web.port = {http}\n\
         a1.sources.web.channels = c1\n\
         a1.channels.c1.type = file\n\
         a1.channels.c1.dataDirs = channel\n\
         a1.channels.c1.minimumRequiredSpace = 1048576\n"
    );
    if encrypted {
        let keys = keys.display();
        text.push_str(&format!(
            "a1.channels.c1.encryption.activeKey = key-1\n\
             a1.channels.c1.encryption.cipherProvider = AESCTRNOPADDING\n\
             a1.channels.c1.encryption.keyProvider = JCEKSFILE\n\
             a1.channels.c1.encryption.keyProvider.keyStoreFile = {keys}/keys.p12\n\
             a1.channels.c1.encryption.keyProvider.keyStorePasswordFile = {keys}/password\n\
             a1.channels.c1.encryption.keyProvider.keys = key-1\n"
        ));
    }
    if sink {
        text.push_str(
            "a1.sinks = k1\n\
             a1.sinks.k1.type = file_roll\n\
             a1.sinks.k1.channel = c1\n\
             a1.sinks.k1.sink.directory = out\n\
             a1.sinks.k1.sink.serializer = HEADER_AND_TEXT\n",
        );
    }
    text
}

/// The line that the sink writes for an event.
#[must_use]
pub fn line(number: usize) -> String {
    format!("{{number={}}} {}", header(number), body(number))
}

/// Puts the keystore of the encrypted channel into a folder.
///
/// # Errors
/// It cannot be copied.
pub fn put_keys(folder: &Path) -> Result<()> {
    let keys = "crates/channels/src/file/encryption/testdata/keys.p12";
    let from = crate::workspace::root().join(keys);
    fs::copy(from, folder.join("keys.p12")).context("copy the keystore")?;
    fs::write(folder.join("password"), "storeSecret").context("write the password")
}

/// Keeps a directory as a fixture. Locks are not part of it.
///
/// # Errors
/// A file cannot be read or written.
pub fn keep(from: &Path, to: &Path) -> Result<()> {
    let mut lengths = String::new();
    for name in files(from)? {
        if name.ends_with("LOCK") {
            continue;
        }
        let bytes = fs::read(from.join(&name)).with_context(|| name.clone())?;
        let used = bytes.iter().rposition(|byte| *byte != 0);
        let used = used.map_or(0, |last| last + 1);
        let target = to.join(&name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).context("make a folder")?;
        }
        fs::write(target, &bytes[..used]).context("write a file")?;
        lengths.push_str(&format!("{} {name}\n", bytes.len()));
    }
    fs::write(to.join(LENGTHS), lengths).context("write the lengths")
}

/// Makes a directory of a fixture.
///
/// # Errors
/// A file cannot be read or written.
pub fn restore(fixture: &Path, to: &Path) -> Result<()> {
    let lengths = fs::read_to_string(fixture.join(LENGTHS))
        .with_context(|| format!("read the lengths of {}", fixture.display()))?;
    for line in lengths.lines() {
        let (length, name) = line.split_once(' ').context("a line without a name")?;
        let bytes = fs::read(fixture.join(name)).with_context(|| name.to_owned())?;
        let target = to.join(name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).context("make a folder")?;
        }
        let mut file = File::create(target).context("create a file")?;
        file.write_all(&bytes).context("write a file")?;
        file.set_len(length.parse()?).context("extend a file")?;
    }
    ensure!(!lengths.is_empty(), "{} is empty", fixture.display());
    Ok(())
}

/// Paths of all files below a folder, relative to it and sorted.
///
/// # Errors
/// A folder cannot be listed.
pub fn files(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder)?;
                found.push(name.to_str().context("a name that is no text")?.to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Starts the agent of [`channel_conf`] in `folder`, where `channel`, `out` and the keys lie, and waits until it works.
///
/// # Errors
/// It does not.
pub fn agent(folder: &Path, http: u16, encrypted: bool, sink: bool) -> Result<RunningAgent> {
    let conf = folder.join("flume.conf");
    let text = channel_conf(http, encrypted, folder, sink);
    fs::write(&conf, text).context("write the configuration")?;
    let monitoring = ports::free_port()?;
    let mut command = flafka::command(&["agent", "-n", "a1", "-f"])?;
    command
        .arg(conf)
        .arg(format!("-Dflume.monitoring.port={monitoring}"))
        .current_dir(folder);
    let process = Process::start("flafka agent", command, &folder.join("output"))?;
    let mut agent = RunningAgent {
        process,
        monitoring,
    };
    agent.until_ready()?;
    Ok(agent)
}
