//! What an agent left behind, in a form in which two sides can be compared.
//!
//! Invariant: a difference is shown with its place and both texts; bytes that are no text are shown escaped, so nothing
//! is equal by accident.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use flafka_tests::kafka_client::{self, ReadRecord};
use serde_json::Value;

use crate::scene::Scene;

/// The counters whose values do not depend on how events fell into batches.
const COMPARED_COUNTERS: [&str; 6] = [
    "EventReceivedCount",
    "EventAcceptedCount",
    "EventPutSuccessCount",
    "EventTakeSuccessCount",
    "EventDrainSuccessCount",
    "ChannelSize",
];

/// How many differences are shown.
const SHOWN: usize = 20;

/// Texts by place, such as the lines of the files in a folder.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    places: BTreeMap<String, Vec<String>>,
    /// The agent's metrics at the end.
    pub(crate) metrics: Value,
}

impl Outcome {
    pub(crate) fn add(
        &mut self,
        place: impl Into<String>,
        texts: impl IntoIterator<Item = String>,
    ) {
        self.places.entry(place.into()).or_default().extend(texts);
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, texts) in &self.places {
            write!(formatter, "\n{place}:")?;
            texts
                .iter()
                .try_for_each(|text| write!(formatter, "\n    {text}"))?;
        }
        Ok(())
    }
}

/// Every compared counter as `component attribute = value`.
pub(crate) fn counters(metrics: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for (component, attributes) in metrics.as_object().into_iter().flatten() {
        for (name, value) in attributes.as_object().into_iter().flatten() {
            if COMPARED_COUNTERS.contains(&name.as_str()) {
                lines.push(format!(
                    "{component} {name} = {}",
                    value.as_str().unwrap_or("no text")
                ));
            }
        }
    }
    lines
}

/// Compares what two sides left.
///
/// # Errors
/// They differ; every difference is listed, up to a screenful.
pub(crate) fn compare(expected: &Outcome, found: &Outcome) -> Result<()> {
    let mut differences = Vec::new();
    let nothing = Vec::new();
    let places: std::collections::BTreeSet<_> =
        expected.places.keys().chain(found.places.keys()).collect();
    for place in places {
        let theirs = expected.places.get(place).unwrap_or(&nothing);
        let ours = found.places.get(place).unwrap_or(&nothing);
        if theirs.len() != ours.len() {
            differences.push(format!(
                "{place}: Flume left {} and flafka {}",
                theirs.len(),
                ours.len()
            ));
        }
        for number in 0..theirs.len().max(ours.len()) {
            let (their, our) = (theirs.get(number), ours.get(number));
            if their != our {
                differences.push(format!(
                    "{place}, number {number}:\n    Flume  {their:?}\n    flafka {our:?}"
                ));
            }
        }
    }
    compare_metrics(&expected.metrics, &found.metrics, &mut differences);
    if differences.is_empty() {
        return Ok(());
    }
    let total = differences.len();
    differences.truncate(SHOWN);
    bail!(
        "{total} differences, the first {}:\n{}",
        differences.len(),
        differences.join("\n")
    )
}

/// Every attribute that Flume has must be there; the compared counters must be equal.
fn compare_metrics(theirs: &Value, ours: &Value, differences: &mut Vec<String>) {
    for (component, attributes) in theirs.as_object().into_iter().flatten() {
        for (name, their) in attributes.as_object().into_iter().flatten() {
            let our = &ours[component][name];
            let counted = COMPARED_COUNTERS.contains(&name.as_str());
            if our.is_null() || (counted && our != their) {
                differences.push(format!(
                    "metrics {component} {name}: Flume {their}, flafka {our}"
                ));
            }
        }
    }
}

/// The contents of all files of a folder, in the order of their names, as lines; bytes that are no text escaped.
pub(crate) fn lines_of(scene: &Scene, folder: &str) -> Result<Vec<String>> {
    let mut bytes = Vec::new();
    for path in files_of(scene, folder)? {
        bytes.extend(fs::read(&path).with_context(|| format!("read {}", path.display()))?);
    }
    let mut lines: Vec<String> = bytes
        .split(|byte| *byte == b'\n')
        .map(|line| scene.neutral(&text(line)))
        .collect();
    // What follows the last line end is a line only if it is not empty.
    if lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    Ok(lines)
}

/// The files of a folder, sorted by name.
pub(crate) fn files_of(scene: &Scene, folder: &str) -> Result<Vec<std::path::PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(scene.path(folder)).with_context(|| format!("list {folder}"))? {
        let path = entry.context("read a directory entry")?.path();
        if path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The names of the files of a folder, with long numbers (times) made neutral.
pub(crate) fn names_of(scene: &Scene, folder: &str) -> Result<Vec<String>> {
    let names = files_of(scene, folder)?.into_iter().filter_map(|path| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        Some(
            name.split('-')
                .map(|part| if is_recent(part) { "<now>" } else { part })
                .collect::<Vec<_>>()
                .join("-"),
        )
    });
    Ok(names.collect())
}

/// Lines of the serializer `header_and_text`, with the headers sorted, since a map has no order.
pub(crate) fn header_lines_of(scene: &Scene, folder: &str) -> Result<Vec<String>> {
    lines_of(scene, folder)?
        .into_iter()
        .map(|line| sort_headers(&line))
        .collect()
}

/// The headers of a line of `header_and_text`.
pub(crate) fn headers_of(line: &str) -> Result<BTreeMap<String, String>> {
    let (headers, _) = split(line)?;
    let pairs = headers.split(", ").filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair
                .split_once('=')
                .with_context(|| format!("no header: {pair:?} in {line:?}"))?;
            Ok((
                name.to_owned(),
                if is_recent(value) {
                    "<now>".to_owned()
                } else {
                    value.to_owned()
                },
            ))
        })
        .collect()
}

fn sort_headers(line: &str) -> Result<String> {
    let (_, body) = split(line)?;
    Ok(format!("{:?} {body}", headers_of(line)?))
}

fn split(line: &str) -> Result<(&str, &str)> {
    let inner = line
        .strip_prefix('{')
        .with_context(|| format!("no headers at the start of {line:?}"))?;
    inner
        .split_once("} ")
        .with_context(|| format!("no end of the headers in {line:?}"))
}

/// Whether a text is a time in milliseconds of the last ten minutes.
fn is_recent(text: &str) -> bool {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let span = Duration::from_secs(600);
    let time = text.parse::<u64>().map(Duration::from_millis);
    time.is_ok_and(|time| time <= now + span && time + span >= now)
}

/// Bytes as text, with everything that is not printable escaped.
pub(crate) fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

/// All records of a topic, one text each: key, value, headers; partition and offset only where a key decides them.
pub(crate) fn records_of(scene: &Scene, topic: &str, expected: usize) -> Result<Vec<String>> {
    let records =
        kafka_client::read_topic(scene.bootstrap(), topic, expected, Duration::from_secs(30))?;
    let mut texts: Vec<String> = records
        .iter()
        .map(|record| scene.neutral(&record_text(record)))
        .collect();
    texts.sort();
    Ok(texts)
}

fn record_text(record: &ReadRecord) -> String {
    let some_text = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(text);
    let partition = record.key.as_ref().map(|_| record.partition);
    let time = record.timestamp_ms.map(|time| time.to_string());
    let time = time.map(|time| {
        if is_recent(&time) {
            "<now>".to_owned()
        } else {
            time
        }
    });
    let headers: Vec<_> = record
        .headers
        .iter()
        .map(|(name, value)| (name, some_text(value)))
        .collect();
    let (key, value) = (some_text(&record.key), some_text(&record.value));
    format!("partition {partition:?} key {key:?} value {value:?} headers {headers:?} time {time:?}")
}
