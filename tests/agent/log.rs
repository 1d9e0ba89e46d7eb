//! `flafka log` as a user meets it: on the directory of an agent's file channel, while it runs and afterwards, damaged and
//! repaired; and an import of what a real Flume has left.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use flafka_tests::process::Finished;
use flafka_tests::running_agent::RunningAgent;
use flafka_tests::{netcat, poll};
use serde_json::Value;

use crate::place::{Place, flafka, flafka_with_input, netcat_logger, port};

const LIMIT: Duration = Duration::from_secs(30);

fn log(action: &str, path: &Path, more: &[&str]) -> Result<Finished> {
    let path = path.to_str().context("a path that is not text")?;
    flafka(&[&["log", action, path][..], more].concat())
}

fn json(action: &str, path: &Path, more: &[&str]) -> Result<Value> {
    let printed = log(action, path, &[&["--json"][..], more].concat())?
        .success(action)?
        .stdout;
    serde_json::from_str(&printed).with_context(|| printed.clone())
}

/// An agent that only fills a file channel.
fn conf(port: u16, data: &Path) -> String {
    format!(
        "a1.sources = s\na1.channels = c\na1.sources.s.type = netcat\na1.sources.s.bind = 127.0.0.1\n\
         a1.sources.s.port = {port}\na1.sources.s.channels = c\na1.channels.c.type = file\n\
         a1.channels.c.minimumRequiredSpace = 1048576\na1.channels.c.dataDirs = {}\n",
        data.display()
    )
}

#[test]
fn the_files_of_a_channel_are_listed_dumped_verified_and_repaired() -> Result<()> {
    let place = Place::new()?;
    let data = place.path("data");
    let source = port()?;
    let agent = place.agent(&conf(source, &data))?;
    let lines: Vec<String> = (0..300).map(|n| format!("line {n}")).collect();
    netcat::send(source, &lines)?;
    // While it runs.
    let listed = poll::until("300 records in the list", LIMIT, || {
        let listed = json("ls", &data, &[])?;
        Ok((listed["streams"][0]["unacked"] == 300).then_some(listed))
    })?;
    ensure!(listed["owner"].is_u64(), "{listed}");
    log("verify", &data, &[])?.success("verify while it runs")?;
    let refused = log("repair", &data, &["--yes"])?;
    ensure!(
        !refused.status.success() && refused.stderr.contains("in use"),
        "{}",
        refused.stderr
    );
    agent.stop()?;

    let listed = log("ls", &data, &["--segments"])?.success("ls")?.stdout;
    ensure!(
        listed.contains("stopped cleanly") && listed.contains("0..300"),
        "{listed}"
    );
    let verified = log("verify", &data, &[])?.success("verify")?.stdout;
    ensure!(verified.contains("300 records: sound"), "{verified}");
    let stats = json("stats", &data, &[])?;
    ensure!(
        stats[0]["records"] == 300 && stats[0]["codecs"]["none"].is_object(),
        "{stats}"
    );
    let dumped = log("dump", &data, &["--records", "--stream", "channel"])?
        .success("dump")?
        .stdout;
    ensure!(lines.iter().all(|line| dumped.contains(line)), "{dumped}");
    let journal = log("dump", &data, &["--journal", "-n", "1"])?
        .success("dump")?
        .stdout;
    ensure!(journal.contains("lsn"), "{journal}");

    damage_and_repair(&data)
}

fn damage_and_repair(data: &Path) -> Result<()> {
    let listed = json("ls", data, &[])?;
    let segment = listed["streams"][0]["segments"][0]["path"].as_str();
    let segment = PathBuf::from(segment.context("no segment")?);
    let dumped = log("dump", &segment, &["--json"])?.success("dump")?.stdout;
    let second: Value = serde_json::from_str(dumped.lines().nth(1).context("one batch only")?)?;
    let at = second["position"].as_u64().context("no position")?;
    let mut bytes = fs::read(&segment)?;
    bytes[at as usize + 70] ^= 1;
    fs::write(&segment, &bytes)?;

    let found = log("verify", data, &[])?;
    ensure!(found.status.code() == Some(1), "{}", found.stdout);
    let named = format!("{} at byte {at}", segment.display());
    ensure!(found.stdout.contains(&named), "{}", found.stdout);
    ensure!(
        log("dump", &segment, &[])?.status.code() == Some(1),
        "a dump that saw nothing"
    );
    let planned = log("repair", data, &[])?.success("repair")?.stdout;
    ensure!(
        planned.contains("--yes") && planned.contains(&named),
        "{planned}"
    );
    ensure!(fs::read(&segment)? == bytes, "a plan has changed something");
    let done = log("repair", data, &["--yes"])?.success("repair")?.stdout;
    let kept = done
        .lines()
        .last()
        .and_then(|line| line.rsplit_once(" in "));
    let kept = kept.with_context(|| done.clone())?.1;
    ensure!(fs::read_dir(kept)?.count() > 1, "{done}");
    log("verify", data, &[])?.success("verify the repaired one")?;
    let lost = u64::try_from(done.matches("lost: ").count())?;
    ensure!(lost == 1, "{done}");
    Ok(())
}

#[test]
fn a_compacted_topic_is_shown_as_what_it_is() -> Result<()> {
    let place = Place::new()?;
    let (data, kafka) = (place.path("data"), port()?);
    let overrides = [
        format!("listeners=PLAINTEXT://127.0.0.1:{kafka}"),
        format!("log.dirs={}", data.display()),
        "log.cleaner.backoff.ms=20".to_owned(),
    ];
    let mut arguments = vec!["up"];
    arguments.extend(overrides.iter().flat_map(|text| ["--override", text]));
    let conf = place.file("flume.conf", &netcat_logger(port()?, "r1"))?;
    let mut up = RunningAgent::start(&arguments, &conf, &[], &place.path("output"))?;
    up.until_ready()?;
    let bootstrap = format!("127.0.0.1:{kafka}");
    let mut create = vec!["topic", "-b", &bootstrap, "create", "states"];
    for setting in [
        "cleanup.policy=compact",
        "segment.ms=1",
        "min.cleanable.dirty.ratio=0.01",
    ] {
        create.extend(["-c", setting]);
    }
    flafka(&create)?.success("create")?;
    let lines: String = (0..20).map(|n| format!("key {n}\tvalue {n}\n")).collect();
    let produce = ["produce", "-b", &bootstrap, "-K", "\t", "states"];
    // Each run is later than the one before, so each begins a segment.
    for _ in 0..4 {
        flafka_with_input(&produce, lines.as_bytes())?.success("produce")?;
    }
    let topic = |listed: &Value| {
        let streams = listed["streams"].as_array().cloned().unwrap_or_default();
        let states = |stream: &Value| stream["name"] == "topic/states/0";
        streams.into_iter().find(states).unwrap_or(Value::Null)
    };
    let compacted = |listed: &Value| {
        let segments = topic(listed)["segments"].as_array().cloned();
        let mut segments = segments.unwrap_or_default().into_iter();
        segments.find(|segment| segment["generation"] != 0)
    };
    // All but the segment that grows.
    poll::until_true("the topic is compacted", LIMIT, || {
        let stats = log("stats", &data, &["--json", "--stream", "topic/states/0"])?;
        Ok(stats.status.success() && stats.stdout.contains("\"records\":40,"))
    })?;
    log("verify", &data, &[])?.success("verify while it runs")?;
    up.stop()?;

    let listed = json("ls", &data, &[])?;
    let states = topic(&listed);
    ensure!(
        states["compacted"] == true && states["log_end_offset"] == 80,
        "{states}"
    );
    // file.delete.delay.ms keeps what was replaced for a minute.
    let leftovers = states["leftovers"].as_array().context("no leftovers")?;
    ensure!(
        leftovers.len() >= 3
            && leftovers
                .iter()
                .all(|file| file["why"] == "replaced by compaction"),
        "{states}"
    );
    let segment = compacted(&listed).with_context(|| states.to_string())?;
    let path = PathBuf::from(segment["path"].as_str().context("no path")?);
    let verified = log("verify", &data, &[])?.success("verify")?.stdout;
    ensure!(verified.contains(": sound"), "{verified}");
    let dumped = log("dump", &path, &["--records"])?.success("dump")?.stdout;
    ensure!(dumped.contains("key key 0"), "{dumped}");

    // As a crash before the switch leaves it.
    let name = path
        .file_name()
        .context("no name")?
        .to_string_lossy()
        .into_owned();
    let newer = format!("{}.999.log", name.split('.').next().unwrap_or_default());
    fs::copy(&path, path.with_file_name(&newer))?;
    let shown = log("ls", &data, &["--segments"])?.success("ls")?.stdout;
    let line = |name: &str| {
        shown
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_default()
    };
    ensure!(line(&name).contains("compacted"), "{shown}");
    ensure!(
        line(&newer).contains("written by compaction, not in use"),
        "{shown}"
    );
    let verified = log("verify", &data, &[])?.success("verify")?.stdout;
    ensure!(
        verified.contains("note: ") && verified.contains(&newer) && verified.contains(": sound"),
        "{verified}"
    );
    Ok(())
}

#[test]
fn a_directory_that_is_no_log_is_refused() -> Result<()> {
    let place = Place::new()?;
    for action in ["ls", "verify", "repair", "stats", "dump"] {
        let refused = log(action, &place.path("."), &[])?;
        ensure!(
            refused.status.code() == Some(1) && refused.stderr.contains("dataDirs"),
            "{action}: {}",
            refused.stderr
        );
    }
    Ok(())
}

#[test]
fn a_flumes_channel_is_imported_by_the_names_in_its_conf() -> Result<()> {
    let place = Place::new()?;
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/flume_channel/killed");
    for folder in ["checkpoint", "data1", "data2"] {
        fs::create_dir(place.path(folder))?;
        for entry in fs::read_dir(fixture.join(folder))? {
            let path = entry?.path();
            let name = path.file_name().context("a path without a name")?;
            fs::copy(&path, place.path(folder).join(name))?;
        }
    }
    let data = place.path("data1");
    let both = format!("{},{}", data.display(), place.path("data2").display());
    let source = port()?;
    let text = conf(source, Path::new(&both));
    let text = format!(
        "{text}a1.channels.c.checkpointDir = {}\n",
        place.path("checkpoint").display()
    );
    let file = place.file("flume.conf", &text)?;
    let file = file.to_str().context("a path that is not text")?;
    let import = ["log", "import", "-f", file, "-n", "a1", "--channel", "c"];
    let dry = flafka(&[&import[..], &["--dry-run"]].concat())?
        .success("dry run")?
        .stdout;
    ensure!(dry.contains("69") && dry.contains("dry run"), "{dry}");
    let done = flafka(&import)?.success("import")?.stdout;
    ensure!(done.contains("69 events into"), "{done}");
    let again = flafka(&import)?.success("import again")?.stdout;
    ensure!(again.contains("imported already"), "{again}");
    let listed = json("ls", &data, &[])?;
    ensure!(listed["streams"][0]["unacked"] == 69, "{listed}");
    // The same conf file starts on it.
    let agent = RunningAgent::ready("a1", Path::new(file), &[], &place.path("output"))?;
    ensure!(
        agent.metric("CHANNEL.c", "ChannelSize")? == 69,
        "another size"
    );
    agent.stop()?;
    let mut sealed = text.clone();
    for (key, value) in [
        ("keyProvider", "JCEKSFILE"),
        ("cipherProvider", "AESCTRNOPADDING"),
        ("activeKey", "key-0"),
        ("keyProvider.keyStoreFile", "/nowhere/keys.jceks"),
        ("keyProvider.keyStorePasswordFile", "/nowhere/password"),
        ("keyProvider.keys", "key-0"),
    ] {
        sealed.push_str(&format!("a1.channels.c.encryption.{key} = {value}\n"));
    }
    let sealed = place.file("sealed.conf", &sealed)?;
    let sealed = sealed.to_str().context("a path that is not text")?;
    let refused = flafka(&["log", "import", "-f", sealed, "--channel", "c"])?;
    ensure!(
        refused.stderr.contains("encryption keys")
            && refused.stderr.contains("/nowhere/keys.jceks"),
        "{}",
        refused.stderr
    );
    let wrong = flafka(&["log", "import", "-f", file, "--channel", "d"])?;
    ensure!(wrong.stderr.contains("no channel d"), "{}", wrong.stderr);
    Ok(())
}
