//! `flafka log stats`: what is stored, from the headers of the batches.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::bail;
use flafka_log_store::inspect::{SegmentStep, StreamInfo, walk_segment};
use serde_json::{Value, json};

use super::arguments::StatsArguments;
use super::{look, text};
use crate::exit::{Ending, Outcome, say};

/// Sums over the batches of one stream.
#[derive(Debug, Default)]
struct Sums {
    batches: u64,
    records: u64,
    bytes: u64,
    smallest: u64,
    largest: u64,
    oldest: Option<i64>,
    newest: Option<i64>,
    codecs: BTreeMap<&'static str, (u64, u64)>,
    bad_bytes: u64,
}

pub(super) fn run(arguments: &StatsArguments) -> Outcome {
    let found = look(&arguments.dir)?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    let wanted = |stream: &&StreamInfo| {
        let name = arguments.stream.as_deref();
        name.is_none_or(|name| name == stream.name)
    };
    let streams: Vec<&StreamInfo> = found.streams.iter().filter(wanted).collect();
    if let (true, Some(name)) = (streams.is_empty(), &arguments.stream) {
        bail!("there is no stream {name}; `flafka log ls` shows those there are");
    }
    let mut json = Vec::new();
    let mut rows = Vec::new();
    for stream in streams {
        let sums = sums(stream)?;
        if arguments.json {
            json.push(as_json(stream, &sums));
        } else {
            rows.push(row(stream, &sums, now));
        }
    }
    if arguments.json {
        say(&Value::from(json).to_string())?;
        return Ok(Ending::Done);
    }
    let header = [
        "STREAM",
        "BATCHES",
        "RECORDS",
        "BYTES",
        "RECORDS/BATCH",
        "BATCH MIN/AVG/MAX",
        "BYTES/RECORD",
        "RATE",
        "CODECS",
        "OLDEST",
        "NEWEST",
    ];
    for line in text::table(&header, &rows, &[1, 2, 3, 4, 5, 6, 7]) {
        say(&line)?;
    }
    Ok(Ending::Done)
}

fn sums(stream: &StreamInfo) -> anyhow::Result<Sums> {
    let mut sums = Sums::default();
    for segment in &stream.segments {
        walk_segment(&segment.path, Some(segment.length), &mut |step| {
            match step {
                SegmentStep::Batch { header, .. } => {
                    let bytes = header.total_len() as u64;
                    sums.batches += 1;
                    sums.records += u64::try_from(header.record_count).unwrap_or(0);
                    sums.bytes += bytes;
                    sums.smallest = match sums.batches {
                        1 => bytes,
                        _ => sums.smallest.min(bytes),
                    };
                    sums.largest = sums.largest.max(bytes);
                    // With a delete horizon the base is no record's time.
                    let first = match header.attributes.has_delete_horizon() {
                        true => header.max_timestamp,
                        false => header.base_timestamp,
                    };
                    let older = sums.oldest.unwrap_or(i64::MAX).min(first);
                    let newer = sums.newest.unwrap_or(i64::MIN).max(header.max_timestamp);
                    (sums.oldest, sums.newest) = (Some(older), Some(newer));
                    let codec = header.attributes.compression();
                    let codec = codec.map_or("unknown", |codec| codec.name());
                    let of_codec = sums.codecs.entry(codec).or_default();
                    of_codec.0 += 1;
                    of_codec.1 += bytes;
                }
                SegmentStep::Bad { bytes, .. } | SegmentStep::Unwritten { bytes, .. } => {
                    sums.bad_bytes += bytes;
                }
            }
            true
        })?;
    }
    Ok(sums)
}

impl Sums {
    /// Records a second between the oldest and the newest one.
    fn rate(&self) -> Option<f64> {
        let span = self.newest?.checked_sub(self.oldest?)?;
        (span > 0).then(|| self.records as f64 * 1000.0 / span as f64)
    }

    fn mean(total: u64, count: u64) -> u64 {
        total.checked_div(count).unwrap_or(0)
    }
}

fn row(stream: &StreamInfo, sums: &Sums, now: i64) -> Vec<String> {
    let codecs: Vec<String> = match sums.codecs.len() {
        1 => sums
            .codecs
            .keys()
            .map(|codec| (*codec).to_owned())
            .collect(),
        _ => {
            let parts = sums.codecs.iter();
            parts
                .map(|(codec, (batches, _))| format!("{codec} {batches}"))
                .collect()
        }
    };
    let age = |time: Option<i64>| time.map_or("-".to_owned(), |time| ago(now - time));
    vec![
        stream.name.clone(),
        sums.batches.to_string(),
        sums.records.to_string(),
        text::bytes(sums.bytes),
        Sums::mean(sums.records, sums.batches).to_string(),
        format!(
            "{} / {} / {}",
            text::bytes(sums.smallest),
            text::bytes(Sums::mean(sums.bytes, sums.batches)),
            text::bytes(sums.largest)
        ),
        text::bytes(Sums::mean(sums.bytes, sums.records)),
        sums.rate()
            .map_or("-".to_owned(), |rate| format!("{rate:.1}/s")),
        if codecs.is_empty() {
            "-".to_owned()
        } else {
            codecs.join(", ")
        },
        age(sums.oldest),
        age(sums.newest),
    ]
}

/// `3.2 h ago`.
fn ago(ms: i64) -> String {
    let seconds = ms.max(0) as f64 / 1000.0;
    let (value, unit) = match seconds {
        s if s < 120.0 => (s, "s"),
        s if s < 7200.0 => (s / 60.0, "min"),
        s if s < 172_800.0 => (s / 3600.0, "h"),
        s => (s / 86_400.0, "d"),
    };
    format!("{value:.1} {unit} ago")
}

fn as_json(stream: &StreamInfo, sums: &Sums) -> Value {
    let codecs: serde_json::Map<String, Value> = sums
        .codecs
        .iter()
        .map(|(codec, (batches, bytes))| {
            (
                (*codec).to_owned(),
                json!({"batches": batches, "bytes": bytes}),
            )
        })
        .collect();
    json!({
        "stream": stream.name,
        "batches": sums.batches,
        "records": sums.records,
        "bytes": sums.bytes,
        "smallest_batch_bytes": sums.smallest,
        "largest_batch_bytes": sums.largest,
        "oldest_ms": sums.oldest,
        "newest_ms": sums.newest,
        "records_per_second": sums.rate(),
        "codecs": codecs,
        "unreadable_bytes": sums.bad_bytes,
    })
}
