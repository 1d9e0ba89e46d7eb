//! Logs that earlier revisions wrote still open, with everything in them; see `fixtures/README.md`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flafka_kafka_wire::records::{self, BatchBuilder, Compression};
use flafka_log_store::inspect::{Inspection, Severity, VerifyStep, checkpoint_summary, verify};
use flafka_log_store::{
    AppendStamp, Durability, Log, LogOptions, Offset, Op, RealFs, StreamSettings, SystemClock,
    Table,
};

/// Offset, key and value.
type Found = (i64, String, String);

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("create");
    for entry in fs::read_dir(from).expect("list") {
        let path = entry.expect("list").path();
        let target = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(fs::copy(&path, &target).expect("copy")),
        }
    }
}

/// Version 1: see its generator's steps in the commit that added it.
fn fixture() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary folder");
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    copy(&from, dir.path());
    dir
}

fn open(dir: &Path) -> Log {
    let options = LogOptions {
        journal_file_bytes: 16 << 10,
        min_free_bytes: 0,
        ..LogOptions::new(dir)
    };
    let (log, report) =
        Log::open(options, Arc::new(RealFs), Arc::new(SystemClock::new())).expect("open");
    assert_eq!(
        (&report.damages[..], &report.set_aside[..]),
        (&[][..], &[][..])
    );
    log
}

fn all(log: &Log, name: &str) -> Vec<Found> {
    let stream = log.stream(name).expect("there");
    let bounds = log.bounds(stream).expect("there");
    let (mut found, mut from) = (Vec::new(), bounds.log_start);
    while from < bounds.log_end {
        let plan = log.read(stream, from, 1 << 20, true).expect("readable");
        let bytes = plan.read_to_bytes().expect("readable");
        for batch in records::batches(&bytes) {
            let (header, batch) = batch.expect("sound");
            let mut scratch = Vec::new();
            for record in records::records(&header, batch, &mut scratch, 1 << 20).expect("sound") {
                let record = record.expect("sound");
                let text = |bytes: Option<&[u8]>| {
                    String::from_utf8(bytes.expect("there").to_vec()).expect("text")
                };
                found.push((record.offset, text(record.key), text(record.value)));
            }
            from = Offset(header.last_offset() + 1);
        }
    }
    found.retain(|record| record.0 >= bounds.log_start.0);
    found
}

fn written(offsets: std::ops::Range<i64>) -> Vec<Found> {
    let record = |n: i64| (n, format!("key {}", n % 4), format!("value {n}"));
    offsets.map(record).collect()
}

fn errors(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    verify(dir, &mut |step| {
        if let VerifyStep::Found(finding) = step
            && finding.severity == Severity::Error
        {
            found.push(format!("{finding:?}"));
        }
    })
    .expect("readable");
    found
}

fn checkpoint_versions(dir: &Path) -> Vec<u32> {
    let files = fs::read_dir(dir.join("checkpoint")).expect("list");
    let paths: Vec<PathBuf> = files.map(|entry| entry.expect("list").path()).collect();
    let mut versions: Vec<u32> = paths
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "ckp"))
        .map(|path| {
            checkpoint_summary(path).expect("sound");
            let bytes = fs::read(path).expect("read");
            u32::from_le_bytes(*bytes[8..].first_chunk().expect("a version"))
        })
        .collect();
    versions.sort_unstable();
    versions
}

fn check(log: &Log) {
    let channel = log.stream("channel").expect("there");
    assert_eq!(all(log, "channel"), written(14..70));
    let acks = log.unacked(channel).expect("there");
    assert_eq!(acks.low, Offset(14));
    let ranges: Vec<_> = acks
        .acked_ranges
        .iter()
        .map(|(first, last)| (first.0, last.0))
        .collect();
    assert_eq!(ranges, [(20, 24)]);
    assert!(log.settings(channel).expect("there").acked);

    let orders = log.stream("topic/orders/0").expect("there");
    assert_eq!(all(log, "topic/orders/0"), written(33..70));
    let expected = StreamSettings {
        segment_bytes: 1024,
        retention_bytes: Some(1 << 20),
        retention: Some(Duration::from_millis(604_800_000_000)),
        durability: Durability::Interval(Duration::from_millis(50)),
        max_batch_bytes: 65536,
        ..StreamSettings::default()
    };
    assert_eq!(log.settings(orders).expect("there"), expected);

    let later = log.stream("topic/later/0").expect("there");
    assert_eq!(all(log, "topic/later/0"), written(0..3));
    assert_eq!(log.settings(later).expect("there").segment_bytes, 2048);
    assert_eq!(log.stream("topic/gone/0"), None);
    let topics = log.table(Table::Topics);
    assert_eq!(topics, [(Bytes::from("later"), Bytes::from("two"))]);
}

#[test]
fn version_1_opens_with_all_that_is_in_it() {
    let dir = fixture();
    assert_eq!(errors(dir.path()), [] as [String; 0]);
    let seen = Inspection::of(dir.path()).expect("readable");
    assert_eq!(seen.streams.len(), 3);
    assert!(seen.frames > 10 && !seen.clean);
    let before = checkpoint_versions(dir.path());
    assert!(
        !before.is_empty() && before.iter().all(|version| *version == 1),
        "{before:?}"
    );
    let log = open(dir.path());
    check(&log);
    log.close_blocking().expect("close");
    assert_eq!(checkpoint_versions(dir.path()).last(), Some(&2));
    assert_eq!(errors(dir.path()), [] as [String; 0]);
    let log = open(dir.path());
    check(&log);

    // It grows on behind the old records.
    let stream = log.stream("topic/later/0").expect("there");
    let mut builder = BatchBuilder::new(Compression::None);
    builder
        .push(
            1_700_000_000_003,
            Some(b"key 3"),
            Some(b"value 3"),
            std::iter::empty(),
        )
        .expect("fits");
    let append = Op::Append {
        stream,
        batches: builder.finish().expect("not empty"),
        stamp: AppendStamp::AsStream,
    };
    log.commit_blocking(vec![append]).expect("append");
    assert_eq!(all(&log, "topic/later/0"), written(0..4));
    log.close_blocking().expect("close");
}
