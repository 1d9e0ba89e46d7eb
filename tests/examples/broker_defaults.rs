//! `server.properties`: the file as shipped says what the code does without it.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, anyhow, ensure};
use flafka_tests::kafka_client::{admin, block_on};
use flafka_tests::workspace;
use rdkafka::admin::{AdminOptions, ResourceSpecifier};

use crate::scene::Scene;

/// Keys that the scene itself sets.
const MOVED: &[&str] = &["listeners", "log.dirs"];
/// Older or finer spellings of keys that the file has.
const SPELLINGS: &[&str] = &["broker.id", "log.dir", "advertised.listeners"];

/// What the file sets equals what a broker without a file says of itself, and no setting is missing from the file.
pub(crate) fn equal_the_code(example: &str) -> Result<()> {
    let path = workspace::root().join("examples").join(example);
    let path = path.to_str().context("the checkout's path is not text")?;
    let file = keys(&fs::read_to_string(path)?)?;
    let with_file = Scene::with(&[])?;
    let broker = with_file.broker(&["-f", path])?;
    let output = fs::read_to_string(broker.log())?;
    ensure!(
        !output.contains("server.properties:"),
        "the broker has remarks:\n{output}"
    );
    let without = Scene::with(&[])?;
    let _broker = without.broker(&[])?;
    let (set, unset) = (described(&with_file)?, described(&without)?);
    for (key, value) in file
        .iter()
        .filter(|(key, _)| !MOVED.contains(&key.as_str()))
    {
        let default = unset.get(key).and_then(Option::as_deref);
        ensure!(
            default == Some(value),
            "{key}={value} in the file, {default:?} in the code"
        );
    }
    for (key, value) in &unset {
        let known = file.contains_key(key) || SPELLINGS.contains(&key.as_str());
        let unset_by_default = value.as_deref().is_none_or(str::is_empty);
        ensure!(
            known || unset_by_default,
            "{key} ({value:?}) is not in the file"
        );
        if !MOVED.contains(&key.as_str()) && !SPELLINGS.contains(&key.as_str()) {
            ensure!(
                set.get(key) == Some(value),
                "{key} differs: {:?}",
                set.get(key)
            );
        }
    }
    ensure!(
        file["listeners"] == "PLAINTEXT://127.0.0.1:9092",
        "listeners"
    );
    ensure!(file["log.dirs"] == "./flafka-data", "log.dirs");
    Ok(())
}

fn keys(text: &str) -> Result<BTreeMap<String, String>> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (key, value) = line.split_once('=').with_context(|| line.to_owned())?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}

/// What the broker says of its own settings (DescribeConfigs).
fn described(scene: &Scene) -> Result<BTreeMap<String, Option<String>>> {
    let admin = admin(&scene.bootstrap())?;
    let options = AdminOptions::new();
    let answers = block_on(admin.describe_configs([&ResourceSpecifier::Broker(1)], &options))?
        .context("describe the broker's settings")?;
    let answer = answers.into_iter().next().context("no answer")?;
    let resource = answer.map_err(|code| anyhow!("describe the broker's settings: {code}"))?;
    Ok(resource
        .entries
        .into_iter()
        .map(|entry| (entry.name, entry.value))
        .collect())
}
