//! Every file of `/examples` is started by the binary under test, gets real input, and is looked at from the other end.
//!
//! The list of cases is the folder itself: a file without a scene fails, so no example can be added and forgotten. A
//! scene changes nothing in the file; only the environment variables that the file itself offers are set.

mod agents;
mod broker_defaults;
mod kafka;
mod scene;

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use flafka_tests::runner::{Case, Run};
use flafka_tests::workspace;

type Scene = fn(&str) -> Result<()>;

/// Example and what is done with it.
const SCENES: &[(&str, Scene)] = &[
    ("exec-memory-null.conf", agents::exec_memory_null),
    ("failover.conf", kafka::failover),
    ("fan-out.conf", kafka::fan_out),
    ("http-blob.yaml", agents::http_blob),
    ("http-kafka.conf", kafka::http_kafka),
    ("kafka-file-roll.conf", kafka::kafka_file_roll),
    ("multiplexing.conf", agents::multiplexing),
    ("netcat-jdbc.conf", agents::netcat_jdbc),
    ("netcat-logger.conf", agents::netcat_logger),
    ("netcat-spillable.conf", agents::netcat_spillable),
    ("server.properties", broker_defaults::equal_the_code),
    ("spooldir-kafka-channel.conf", kafka::spooldir_kafka_channel),
    ("taildir-file-kafka.conf", kafka::taildir_file_kafka),
    ("two-tier.conf", kafka::two_tier),
];

fn cases() -> Result<Vec<Case<()>>> {
    let folder = workspace::root().join("examples");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        let name = entry.context("read a directory entry")?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.retain(|name| name != "README.md");
    names.sort();
    let readme = fs::read_to_string(folder.join("README.md")).context("read the index")?;
    let mut cases: Vec<Case<()>> = names
        .iter()
        .cloned()
        .map(|name| {
            let scene = SCENES.iter().find(|(known, _)| *known == name);
            let indexed = readme.contains(&format!("({name})"));
            Case::new(name.clone(), move |()| match scene {
                _ if !indexed => bail!("{name} is not in examples/README.md"),
                Some((name, scene)) => scene(name),
                None => bail!("no scene starts {name}: add one to tests/examples"),
            })
        })
        .collect();
    for (name, _) in SCENES
        .iter()
        .filter(|(name, _)| !names.iter().any(|n| n == name))
    {
        cases.push(Case::new(*name, move |()| {
            bail!("examples/{name} is not there")
        }));
    }
    Ok(cases)
}

fn main() -> Result<ExitCode> {
    let cases = cases()?;
    let mut run = Run::from_arguments()?;
    run.suite("examples", || Ok(()), cases);
    Ok(run.finish())
}
