//! A compacted log looked at from outside: while it is open, as a kill leaves it between the switch and the removal of the
//! old files, damaged, repaired.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flafka_kafka_wire::records::{self, BatchBuilder, Compression};

use super::tests::{copy, errors, flip};
use super::*;
use crate::{
    AppendStamp, Compaction, Log, LogOptions, Op, RealFs, StreamSettings, SystemClock, repair,
};

const PATIENCE: Duration = Duration::from_secs(60);
const NAME: &str = "topic/t/0";
const ROUNDS: usize = 60;
const KEYS: usize = 8;

/// Of each key the newest offset and value.
type Newest = BTreeMap<String, (i64, String)>;

/// Without checkpoints of its own: what a switch has freed stays until one is asked for.
fn open(dir: &Path) -> Log {
    let options = LogOptions {
        journal_file_bytes: 1 << 20,
        checkpoint_interval: Duration::from_secs(3600),
        compaction_pause: Duration::from_millis(1),
        min_free_bytes: 0,
        ..LogOptions::new(dir)
    };
    Log::open(options, Arc::new(RealFs), Arc::new(SystemClock::new()))
        .expect("open")
        .0
}

fn keyed(key: &str, value: &str) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder
        .push(
            1000,
            Some(key.as_bytes()),
            Some(value.as_bytes()),
            std::iter::empty(),
        )
        .expect("fits");
    builder.finish().expect("not empty")
}

fn put(log: &Log, rounds: std::ops::Range<usize>) {
    let stream = log.stream(NAME).expect("there");
    for n in rounds {
        let (key, value) = (
            format!("key {}", n % KEYS),
            format!("{n} {}", "x".repeat(60)),
        );
        let append = Op::Append {
            stream,
            batches: keyed(&key, &value),
            stamp: AppendStamp::AsStream,
        };
        log.commit_blocking(vec![append]).expect("append");
    }
}

/// Waits until nothing is left to compact.
fn compacted(log: &Log, dir: &Path) {
    let started = Instant::now();
    loop {
        let found = Inspection::of(dir).expect("readable");
        let segments = &found.streams[0].segments;
        let (sealed, _) = segments.split_at(segments.len() - 1);
        let clean = |segment: &SegmentInfo| segment.clean_to == segment.end;
        if !sealed.is_empty() && sealed.iter().all(clean) {
            let passes = || log.housekeeping().compaction_passes.load(Ordering::Relaxed);
            if passes() > 0 {
                return;
            }
        }
        assert!(started.elapsed() < PATIENCE, "not compacted: {found:#?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A topic whose sealed segments are compacted; the old files are still there.
fn filled(dir: &Path) -> Log {
    let log = open(dir);
    let settings = StreamSettings {
        segment_bytes: 1024,
        compaction: Some(Compaction {
            min_dirty_ppm: 0,
            ..Compaction::default()
        }),
        ..StreamSettings::default()
    };
    log.create_stream(NAME, settings).wait().expect("create");
    put(&log, 0..ROUNDS);
    compacted(&log, dir);
    log
}

/// What a reader finds, over all gaps.
fn newest(log: &Log) -> (Newest, usize) {
    let stream = log.stream(NAME).expect("there");
    let bounds = log.bounds(stream).expect("there");
    let (mut newest, mut count) = (Newest::new(), 0);
    let mut from = bounds.log_start;
    while from < bounds.log_end {
        let bytes = match log.read(stream, from, 1 << 20, true) {
            Ok(plan) => plan.read_to_bytes().expect("readable"),
            Err(error) => panic!("read at {from}: {error}"),
        };
        if bytes.is_empty() {
            break;
        }
        for batch in records::batches(&bytes) {
            let (header, batch) = batch.expect("sound");
            from = Offset(header.last_offset() + 1);
            let mut scratch = Vec::new();
            for record in records::records(&header, batch, &mut scratch, 1 << 20).expect("sound") {
                let record = record.expect("sound");
                let text = |bytes: Option<&[u8]>| {
                    String::from_utf8_lossy(bytes.expect("there")).into_owned()
                };
                newest.insert(text(record.key), (record.offset, text(record.value)));
                count += 1;
            }
        }
    }
    (newest, count)
}

fn reopened(dir: &Path) -> (Newest, usize) {
    let log = open(dir);
    let found = newest(&log);
    log.close_blocking().expect("close");
    found
}

fn expected() -> Newest {
    let last = |key: usize| (0..ROUNDS).rfind(|n| n % KEYS == key).expect("one");
    (0..KEYS)
        .map(last)
        .map(|n| {
            (
                format!("key {}", n % KEYS),
                (n as i64, format!("{n} {}", "x".repeat(60))),
            )
        })
        .collect()
}

fn kinds(dir: &Path) -> Vec<LeftoverKind> {
    let found = Inspection::of(dir).expect("readable");
    let leftovers = found.streams[0].leftovers().expect("readable");
    leftovers.iter().map(|leftover| leftover.kind).collect()
}

fn notes(dir: &Path) -> Vec<Finding> {
    let mut found = Vec::new();
    verify(dir, &mut |step| {
        if let VerifyStep::Found(finding) = step {
            found.push(finding);
        }
    })
    .expect("readable");
    found
}

/// The largest one that compaction wrote.
fn compacted_segment(dir: &Path) -> SegmentInfo {
    let found = Inspection::of(dir).expect("readable");
    let segments = found.streams[0].segments.iter();
    let compacted = segments.filter(|segment| segment.generation > 0);
    compacted
        .max_by_key(|segment| segment.length)
        .expect("one that compaction wrote")
        .clone()
}

/// The journal frames of a kind: file and position.
fn frames_of(dir: &Path, kind: &str) -> Vec<(PathBuf, usize)> {
    let mut found = Vec::new();
    for path in list(&dir.join(JOURNAL_DIR)).expect("readable") {
        if path.extension().is_none_or(|extension| extension != "jnl") {
            continue;
        }
        frames(&path, &mut |frame| {
            if frame.kind == kind {
                found.push((path.clone(), frame.position.0 as usize));
            }
            true
        })
        .expect("readable");
    }
    found
}

#[test]
fn a_compacted_log_is_sound_open_killed_and_closed() {
    let root = tempfile::tempdir().expect("temporary folder");
    let log = filled(root.path());
    assert_eq!(errors(root.path()), []);
    let crashed = tempfile::tempdir().expect("temporary folder");
    copy(root.path(), crashed.path());
    log.close_blocking().expect("close");
    assert_eq!(notes(root.path()), [], "a clean stop leaves nothing behind");

    // Between the switch and the removal of the old files.
    let dir = crashed.path();
    let stream = &Inspection::of(dir).expect("readable").streams[0];
    assert!(stream.is_compacted());
    assert_eq!(
        (stream.log_start, stream.end),
        (Offset(0), Offset(ROUNDS as i64))
    );
    let gaps = stream
        .segments
        .windows(2)
        .any(|pair| pair[0].end != pair[1].base);
    let shorter = stream
        .segments
        .iter()
        .filter(|segment| segment.generation > 0);
    assert!(gaps || shorter.clone().count() > 0);
    assert!(!frames_of(dir, "Switch").is_empty());
    let left = kinds(dir);
    assert!(left.len() > 3, "{left:?}");
    assert!(
        left.iter().all(|kind| *kind == LeftoverKind::Replaced),
        "{left:?}"
    );
    assert_eq!(errors(dir), []);
    let told = notes(dir);
    assert_eq!(told.len(), left.len(), "{told:#?}");
    assert!(
        told.iter()
            .all(|note| note.what.contains("replaced by compaction")),
        "{told:#?}"
    );
    assert_eq!(repair(dir, true).expect("repair").actions, []);

    let (found, count) = reopened(dir);
    assert_eq!(found, expected());
    assert!(count < ROUNDS / 2, "{count} records");
    assert_eq!(notes(dir), []);
    assert_eq!(reopened(root.path()), (found, count));
}

#[test]
fn what_compaction_has_not_finished_is_named_and_goes() {
    let root = tempfile::tempdir().expect("temporary folder");
    filled(root.path()).close_blocking().expect("close");
    let segment = compacted_segment(root.path());
    let (base, next) = (segment.base.0, segment.generation + 1);
    let beside = |name: String| segment.path.with_file_name(name);
    fs::copy(&segment.path, beside(crate::segment::file_name(base, next))).expect("copy");
    let unfinished = beside(crate::segment::file_name(base, next + 1)).with_extension("cleaned");
    fs::copy(&segment.path, &unfinished).expect("copy");
    assert_eq!(errors(root.path()), []);
    assert_eq!(
        kinds(root.path()),
        [LeftoverKind::NotSwitched, LeftoverKind::Unfinished]
    );
    assert_eq!(notes(root.path()).len(), 2);
    assert_eq!(reopened(root.path()).0, expected());
    assert_eq!(kinds(root.path()), []);
}

#[test]
fn any_flipped_bit_of_a_compacted_segment_is_found() {
    let root = tempfile::tempdir().expect("temporary folder");
    filled(root.path()).close_blocking().expect("close");
    let path = compacted_segment(root.path()).path;
    let good = fs::read(&path).expect("read");
    let mut starts = Vec::new();
    walk_segment(&path, None, &mut |step| {
        if let SegmentStep::Batch { position, .. } = step {
            starts.push(position.0 as usize);
        }
        true
    })
    .expect("readable");
    let untold = |at: usize| {
        let of_batch = starts
            .iter()
            .rfind(|start| **start <= at)
            .map(|start| at - start);
        // The leader epoch, and the base offset where a gap may be: both stand before the checksum's range.
        of_batch.is_some_and(|at| at < 8 || (12..16).contains(&at))
    };
    for at in (0..good.len()).filter(|at| !untold(*at)) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, bad).expect("write");
        assert!(!errors(root.path()).is_empty(), "byte {at}");
    }
    fs::write(&path, good).expect("write");
    assert_eq!(errors(root.path()), []);
}

#[test]
fn a_bad_batch_of_a_compacted_segment_is_left_out_and_compaction_goes_on() {
    let root = tempfile::tempdir().expect("temporary folder");
    filled(root.path()).close_blocking().expect("close");
    let segment = compacted_segment(root.path());
    let mut first = None;
    walk_segment(&segment.path, None, &mut |step| {
        if let SegmentStep::Batch { header, .. } = step {
            first.get_or_insert(header);
        }
        true
    })
    .expect("readable");
    let lost = first.expect("a batch");
    flip(&segment.path, 80);
    assert!(!errors(root.path()).is_empty());
    let done = repair(root.path(), true).expect("repair");
    assert!(done.lost.iter().all(|lost| lost.compacted), "{done:#?}");
    let is_lost = |offset: i64| {
        let mut all = done.lost.iter();
        all.any(|lost| (lost.first.0..=lost.last.0).contains(&offset))
    };
    assert!(is_lost(lost.base_offset), "{done:#?}");
    assert_eq!(errors(root.path()), []);
    assert_eq!(repair(root.path(), true).expect("repair").actions, []);
    let after = compacted_segment(root.path());
    assert_eq!(
        (after.base, after.end, after.generation),
        (segment.base, segment.end, segment.generation)
    );
    let (found, _) = reopened(root.path());
    for (key, value) in expected() {
        match is_lost(value.0) {
            true => assert_eq!(found.get(&key), None),
            false => assert_eq!(found[&key], value),
        }
    }
    let log = open(root.path());
    put(&log, ROUNDS..2 * ROUNDS);
    compacted(&log, root.path());
    log.close_blocking().expect("close");
    assert_eq!(errors(root.path()), []);
    let (found, count) = reopened(root.path());
    assert_eq!(found.len(), KEYS);
    assert!(
        found
            .values()
            .all(|(offset, _)| *offset >= (2 * ROUNDS - KEYS) as i64)
    );
    assert!(count < ROUNDS, "{count} records");
}

/// Behind a damaged switch the segments that it replaced are still there; what only an append frame said is in its segment.
#[test]
fn a_damaged_frame_around_a_switch_costs_nothing() {
    let root = tempfile::tempdir().expect("temporary folder");
    let log = filled(root.path());
    put(&log, ROUNDS..ROUNDS + 1);
    let crashed = tempfile::tempdir().expect("temporary folder");
    copy(root.path(), crashed.path());
    log.close_blocking().expect("close");
    let want = reopened(root.path()).0;
    for kind in ["Switch", "Append"] {
        let all = frames_of(crashed.path(), kind);
        for (path, position) in [&all[0], &all[all.len() / 2]] {
            for repaired in [true, false] {
                let dir = tempfile::tempdir().expect("temporary folder");
                copy(crashed.path(), dir.path());
                let name = path.file_name().expect("a name");
                flip(&dir.path().join(JOURNAL_DIR).join(name), position + 40);
                let context = format!("{kind} at {position}, repaired: {repaired}");
                if repaired {
                    let done = repair(dir.path(), true).expect("repair");
                    assert_eq!(done.lost, [], "{context}");
                    assert_eq!(errors(dir.path()), [], "{context}");
                }
                assert_eq!(reopened(dir.path()).0, want, "{context}");
                assert_eq!(errors(dir.path()), [], "{context}");
            }
        }
    }
}

/// As an encrypted file channel writes it.
#[test]
fn one_record_for_many_offsets_is_no_damage_in_a_channel() {
    let root = tempfile::tempdir().expect("temporary folder");
    let log = open(root.path());
    let settings = StreamSettings {
        acked: true,
        ..StreamSettings::default()
    };
    let stream = log
        .create_stream("channel", settings)
        .wait()
        .expect("create");
    let mut builder = BatchBuilder::new(Compression::None);
    builder
        .push(1000, None, Some(b"sealed"), std::iter::empty())
        .expect("fits");
    builder.set_offset_span(5);
    let append = Op::Append {
        stream,
        batches: builder.finish().expect("not empty"),
        stamp: AppendStamp::AsStream,
    };
    log.commit_blocking(vec![append]).expect("append");
    log.close_blocking().expect("close");
    assert_eq!(errors(root.path()), []);
    assert_eq!(
        Inspection::of(root.path()).expect("readable").streams[0].end,
        Offset(5)
    );
}
