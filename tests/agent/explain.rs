//! `flafka explain`: each durability mode of channels and of the embedded log is stated with what it loses.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::place::{Place, flafka};

const CHANNELS: &str = "a1.sources = s\na1.channels = safe timed old free mem topic\n\
    a1.sources.s.type = seq\na1.sources.s.channels = safe timed old free mem topic\n\
    a1.channels.safe.type = file\na1.channels.safe.dataDirs = /data/one,/data/two\na1.channels.safe.capacity = 5000\n\
    a1.channels.safe.transactionCapacity = 1000\n\
    a1.channels.timed.type = file\na1.channels.timed.dataDirs = /data/three\n\
    a1.channels.timed.flafka.durability = interval:250\na1.channels.timed.flafka.byteCapacity = 67108864\n\
    a1.channels.old.type = file\na1.channels.old.dataDirs = /data/four\na1.channels.old.fsyncPerTransaction = false\n\
    a1.channels.free.type = file\na1.channels.free.dataDirs = /data/five\na1.channels.free.flafka.durability = os\n\
    a1.channels.mem.type = memory\na1.channels.mem.capacity = 300\n\
    a1.channels.topic.type = org.apache.flume.channel.kafka.KafkaChannel\n\
    a1.channels.topic.kafka.bootstrap.servers = 127.0.0.1:9092\n\
    b1.channels = other\nb1.sources = s\nb1.sources.s.type = seq\nb1.sources.s.channels = other\n\
    b1.channels.other.type = memory\n";

fn explain(arguments: &[&str]) -> Result<Vec<Value>> {
    let arguments = [&["explain", "--json"], arguments].concat();
    let printed = flafka(&arguments)?.success("explain")?.stdout;
    serde_json::from_str(&printed).with_context(|| printed.clone())
}

fn says(part: &Value, key: &str, words: &str) -> Result<()> {
    let said = part[key].as_str().context("no text")?;
    ensure!(said.contains(words), "{key} without {words:?}: {part}");
    Ok(())
}

#[test]
fn every_mode_says_what_it_loses() -> Result<()> {
    let place = Place::new()?;
    let conf = place.file("flume.conf", CHANNELS)?;
    let conf = conf.to_str().context("a path that is not text")?;
    let parts = explain(&["-f", conf, "-n", "a1"])?;
    let [safe, timed, old, free, memory, topic] = parts.as_slice() else {
        anyhow::bail!("not six: {parts:?}");
    };
    says(safe, "durability", "fsync")?;
    says(safe, "acknowledged", "fdatasync")?;
    ensure!(safe["capacity_events"] == 5000 && safe["capacity_bytes"].is_null());
    ensure!(safe["directories"] == serde_json::json!(["/data/one", "/data/two"]));
    says(timed, "durability", "interval:250")?;
    says(timed, "power_cut_loses", "last 250 ms")?;
    ensure!(timed["capacity_bytes"] == 67_108_864);
    says(old, "durability", "fsyncPerTransaction = false")?;
    says(old, "power_cut_loses", "last 5000 ms")?;
    says(free, "power_cut_loses", "without any bound")?;
    for file in [safe, timed, old, free] {
        ensure!(file["kill_loses"] == "nothing", "{file}");
    }
    ensure!(safe["power_cut_loses"] == "nothing", "{safe}");
    says(
        memory,
        "kill_loses",
        "every event that no sink has delivered",
    )?;
    ensure!(memory["capacity_events"] == 300);
    says(topic, "durability", "acks = all")?;

    let all = flafka(&["explain", "-f", conf])?.success("explain")?.stdout;
    for words in [
        "a1.channels.safe (file)",
        "b1.channels.other (memory)",
        "power cut loses",
    ] {
        ensure!(all.contains(words), "no {words:?} in {all}");
    }
    Ok(())
}

#[test]
fn the_embedded_log_says_what_it_loses() -> Result<()> {
    for (mode, words) in [
        ("fsync", "nothing"),
        ("interval:40", "last 40 ms"),
        ("os", "without any bound"),
    ] {
        let mode = format!("flafka.durability={mode}");
        let parts = explain(&["--override", &mode, "--override", "log.dirs=/data/log"])?;
        ensure!(parts.len() == 1, "{parts:?}");
        says(&parts[0], "power_cut_loses", words)?;
        ensure!(parts[0]["kill_loses"] == "nothing", "{parts:?}");
        ensure!(parts[0]["directories"][0] == "/data/log", "{parts:?}");
    }
    let bad = flafka(&["explain", "--override", "flafka.durability=never"])?;
    ensure!(bad.status.code() == Some(2), "{}", bad.stderr);
    Ok(())
}
