//! A log on real files: looked at while it is open and when it is not, damaged at every kind of place, repaired.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use flafka_kafka_wire::records::{self, BatchBuilder, Compression};

use super::*;
use crate::{AppendStamp, Log, LogOptions, Op, RealFs, StreamSettings, SystemClock, repair};

pub(super) fn batch(first: i64, count: i64, padding: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for n in first..first + count {
        let value = format!("{n}-{}", "x".repeat(padding));
        builder
            .push(1000 + n, None, Some(value.as_bytes()), std::iter::empty())
            .expect("fits");
    }
    builder.finish().expect("not empty")
}

fn options(dir: &Path) -> LogOptions {
    LogOptions {
        journal_file_bytes: 1 << 20,
        ..LogOptions::new(dir)
    }
}

fn open(dir: &Path) -> Log {
    Log::open(options(dir), Arc::new(RealFs), Arc::new(SystemClock::new()))
        .expect("open")
        .0
}

/// A channel of 40 batches of 5 records in several segments, the first 12 records taken.
fn filled(dir: &Path) -> Log {
    let log = open(dir);
    let settings = StreamSettings {
        segment_bytes: 4096,
        acked: true,
        ..StreamSettings::default()
    };
    let stream = log
        .create_stream("channel", settings)
        .wait()
        .expect("create");
    for n in 0..40 {
        let append = Op::Append {
            stream,
            batches: batch(n * 5, 5, 40),
            stamp: AppendStamp::AsStream,
        };
        log.commit_blocking(vec![append]).expect("append");
    }
    let ack = Op::Ack {
        stream,
        first: Offset(0),
        last: Offset(11),
    };
    log.commit_blocking(vec![ack]).expect("ack");
    log
}

pub(super) fn copy(from: &Path, to: &Path) {
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

pub(super) fn errors(dir: &Path) -> Vec<Finding> {
    let mut found = Vec::new();
    let verified = verify(dir, &mut |step| {
        if let VerifyStep::Found(finding) = step
            && finding.severity == Severity::Error
        {
            found.push(finding);
        }
    })
    .expect("readable");
    assert_eq!(verified.errors, found.len() as u64);
    found
}

pub(super) fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("read");
    bytes[at] ^= 0x40;
    fs::write(path, bytes).expect("write");
}

/// The offsets that are in the log and not taken.
fn waiting(log: &Log) -> Vec<i64> {
    let stream = log.stream("channel").expect("there");
    let bounds = log.bounds(stream).expect("there");
    let acks = log.unacked(stream).expect("there");
    let acked = |offset: i64| {
        offset < acks.low.0
            || acks
                .acked_ranges
                .iter()
                .any(|(first, last)| (first.0..=last.0).contains(&offset))
    };
    (bounds.log_start.0..bounds.log_end.0)
        .filter(|offset| !acked(*offset))
        .collect()
}

fn segment_of(dir: &Path, index: usize) -> PathBuf {
    let found = Inspection::of(dir).expect("readable");
    found.streams[0].segments[index].path.clone()
}

#[test]
fn a_log_is_the_same_from_outside_open_or_closed() {
    let root = tempfile::tempdir().expect("temporary folder");
    let log = filled(root.path());
    let open_one = Inspection::of(root.path()).expect("readable");
    assert_eq!(open_one.owner, Some(std::process::id()));
    assert_eq!(errors(root.path()), []);
    // As a kill leaves it.
    let crashed = tempfile::tempdir().expect("temporary folder");
    copy(root.path(), crashed.path());
    assert_eq!(errors(crashed.path()), []);
    log.close_blocking().expect("close");
    let closed = Inspection::of(root.path()).expect("readable");
    assert_eq!((closed.owner, closed.clean), (None, true));
    assert_eq!(errors(root.path()), []);
    for found in [
        open_one,
        closed,
        Inspection::of(crashed.path()).expect("readable"),
    ] {
        let stream = &found.streams[0];
        assert_eq!((stream.name.as_str(), stream.end), ("channel", Offset(200)));
        assert_eq!(
            (stream.unacked(), stream.segments.len() > 3),
            (Some(188), true)
        );
        assert_eq!(found.node.as_ref().map(|node| node.epoch), Some(1));
    }
}

#[test]
fn frames_and_checkpoints_are_told() {
    let root = tempfile::tempdir().expect("temporary folder");
    filled(root.path());
    let journal = root.path().join(JOURNAL_DIR);
    let path = fs::read_dir(&journal)
        .expect("list")
        .map(|entry| entry.expect("list").path());
    let mut kinds = Vec::new();
    for path in path.filter(|path| path.extension().is_some_and(|extension| extension == "jnl")) {
        frames(&path, &mut |frame| {
            kinds.push(frame.kind);
            true
        })
        .expect("readable");
    }
    for kind in ["CreateStream", "Append", "Ack"] {
        assert!(kinds.contains(&kind), "{kind} in {kinds:?}");
    }
    let checkpoints = fs::read_dir(root.path().join(CHECKPOINT_DIR)).expect("list");
    let paths = checkpoints.map(|entry| entry.expect("list").path());
    for path in paths.filter(|path| path.extension().is_some_and(|found| found == "ckp")) {
        checkpoint_summary(&path).expect("readable");
        flip(&path, 30);
        checkpoint_summary(&path).expect_err("damaged");
    }
}

#[test]
fn a_bad_batch_is_found_left_out_and_kept_aside() {
    let root = tempfile::tempdir().expect("temporary folder");
    filled(root.path()).close_blocking().expect("close");
    let all = waiting_after(root.path());
    let path = segment_of(root.path(), 1);
    let before = fs::read(&path).expect("read");
    let mut starts = Vec::new();
    walk_segment(&path, None, &mut |step| {
        if let SegmentStep::Batch {
            position, header, ..
        } = step
        {
            starts.push((position.0, header.base_offset));
        }
        true
    })
    .expect("readable");
    flip(&path, starts[1].0 as usize + 80);
    let found = errors(root.path());
    assert!(
        found
            .iter()
            .any(|finding| finding.path == path && finding.position.0 == starts[1].0),
        "{found:?}"
    );

    let damaged = fs::read(&path).expect("read");
    let planned = repair(root.path(), false).expect("plan");
    assert!(!planned.actions.is_empty() && planned.kept_in.is_none());
    assert_eq!(fs::read(&path).expect("read"), damaged);
    let done = repair(root.path(), true).expect("repair");
    assert_eq!(
        (&done.actions, &done.lost),
        (&planned.actions, &planned.lost)
    );
    let kept = done.kept_in.expect("kept");
    let kept: Vec<Vec<u8>> = fs::read_dir(kept)
        .expect("list")
        .map(|entry| fs::read(entry.expect("list").path()).expect("read"))
        .collect();
    assert!(kept.contains(&damaged) && !kept.contains(&before));
    assert_eq!(errors(root.path()), []);
    assert_eq!(repair(root.path(), true).expect("repair").actions, []);
    let lost = starts[1].1..starts[1].1 + 5;
    assert_eq!(
        (done.lost[0].first.0, done.lost[0].last.0),
        (lost.start, lost.end - 1)
    );
    let left: Vec<i64> = all
        .into_iter()
        .filter(|offset| !lost.contains(offset))
        .collect();
    assert_eq!(waiting_after(root.path()), left);
}

fn waiting_after(dir: &Path) -> Vec<i64> {
    let log = open(dir);
    let found = waiting(&log);
    log.close_blocking().expect("close");
    found
}

#[test]
fn a_journal_that_is_damaged_in_the_middle_is_cut_and_nothing_in_the_segments_is_lost() {
    let root = tempfile::tempdir().expect("temporary folder");
    let log = filled(root.path());
    // As a kill leaves it: all of it is still in the journal.
    let crashed = tempfile::tempdir().expect("temporary folder");
    copy(root.path(), crashed.path());
    log.close_blocking().expect("close");
    let journal = crashed.path().join(JOURNAL_DIR);
    let newest = fs::read_dir(&journal)
        .expect("list")
        .map(|entry| entry.expect("list").path());
    let newest = newest
        .filter(|path| path.extension().is_some_and(|found| found == "jnl"))
        .max();
    let newest = newest.expect("a journal");
    let mut positions = Vec::new();
    frames(&newest, &mut |frame| {
        positions.push(frame.position.0 as usize);
        true
    })
    .expect("readable");
    flip(&newest, positions[20] + 40);
    let found = errors(crashed.path());
    assert!(
        found.iter().any(|finding| finding.path == newest),
        "{found:?}"
    );
    let done = repair(crashed.path(), true).expect("repair");
    assert_eq!(done.lost, []);
    assert_eq!(errors(crashed.path()), []);
    let log = open(crashed.path());
    let end = log
        .bounds(log.stream("channel").expect("there"))
        .expect("there")
        .log_end;
    assert!(
        end.0 >= 90,
        "the frames before the cut and the segment they end in: {end}"
    );
    // It takes new records behind the old ones.
    let stream = log.stream("channel").expect("there");
    let append = Op::Append {
        stream,
        batches: batch(0, 5, 10),
        stamp: AppendStamp::AsStream,
    };
    log.commit_blocking(vec![append]).expect("append");
    log.close_blocking().expect("close");
    assert_eq!(errors(crashed.path()), []);
    assert_eq!(waiting_after(crashed.path()).last(), Some(&(end.0 + 4)));
}

#[test]
fn a_log_in_use_is_not_repaired() {
    let root = tempfile::tempdir().expect("temporary folder");
    let _log = filled(root.path());
    for apply in [false, true] {
        let refused = repair(root.path(), apply).expect_err("in use");
        assert!(matches!(refused, OpenError::Locked { .. }), "{refused}");
    }
}

#[test]
fn any_flipped_bit_of_a_segment_is_found() {
    let root = tempfile::tempdir().expect("temporary folder");
    filled(root.path()).close_blocking().expect("close");
    let path = segment_of(root.path(), 2);
    let good = fs::read(&path).expect("read");
    let mut starts = Vec::new();
    walk_segment(&path, None, &mut |step| {
        if let SegmentStep::Batch { position, .. } = step {
            starts.push(position.0 as usize);
        }
        true
    })
    .expect("readable");
    for at in 0..starts[2] {
        // The leader epoch stands before the checksum's range; any value is a valid one.
        if starts
            .iter()
            .any(|start| (start + 12..start + 16).contains(&at))
        {
            continue;
        }
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, bad).expect("write");
        assert!(!errors(root.path()).is_empty(), "byte {at}");
    }
    fs::write(&path, good).expect("write");
    assert_eq!(errors(root.path()), []);
}

/// Position, first offset and the one behind the last of each batch of a segment.
fn batches_of(path: &Path) -> Vec<(usize, i64, i64)> {
    let mut found = Vec::new();
    walk_segment(path, None, &mut |step| {
        if let SegmentStep::Batch {
            position, header, ..
        } = step
        {
            let place = position.0 as usize;
            found.push((place, header.base_offset, header.last_offset() + 1));
        }
        true
    })
    .expect("readable");
    found
}

/// The base offset lies outside a batch's checksum: any wrong bit of it costs that batch, and no other.
#[test]
fn a_wrong_base_offset_costs_its_own_batch_alone() {
    let root = tempfile::tempdir().expect("temporary folder");
    filled(root.path()).close_blocking().expect("close");
    let all = waiting_after(root.path());
    let found = Inspection::of(root.path()).expect("readable");
    let paths = found.streams[0]
        .segments
        .iter()
        .map(|segment| &segment.path);
    let mut tried = 0;
    for path in paths {
        for (position, first, behind) in batches_of(path) {
            for bit in [0, 3, 24, 63] {
                let context = format!("batch of offset {first}, bit {bit}");
                let dir = tempfile::tempdir().expect("temporary folder");
                copy(root.path(), dir.path());
                let below = path.strip_prefix(root.path()).expect("below it");
                let mut bytes = fs::read(path).expect("read");
                bytes[position + 7 - bit / 8] ^= 1 << (bit % 8);
                fs::write(dir.path().join(below), bytes).expect("write");
                assert!(!errors(dir.path()).is_empty(), "{context}");
                let done = repair(dir.path(), true).expect("repair");
                let lost = |offset: &i64| (first..behind).contains(offset);
                let told = done.lost.iter().flat_map(|lost| lost.first.0..=lost.last.0);
                let waited: Vec<i64> = all.iter().copied().filter(lost).collect();
                assert_eq!(told.collect::<Vec<_>>(), waited, "{context}: {done:?}");
                assert_eq!(errors(dir.path()), [], "{context}");
                assert_eq!(repair(dir.path(), false).expect("plan").actions, []);
                let left: Vec<i64> = all.iter().copied().filter(|at| !lost(at)).collect();
                assert_eq!(delivered(dir.path()), left, "{context}");
                assert_eq!(errors(dir.path()), [], "{context}");
                tried += 1;
            }
        }
    }
    assert!(tried > 140, "{tried}");
}

/// The offsets that wait, after a look that each can be read and has the value that was written at it.
fn delivered(dir: &Path) -> Vec<i64> {
    let log = open(dir);
    let stream = log.stream("channel").expect("there");
    let found = waiting(&log);
    for offset in &found {
        let plan = log.read(stream, Offset(*offset), 1, true).expect("sound");
        let bytes = plan.read_to_bytes().expect("readable");
        let header = records::verify(&bytes).expect("sound");
        let mut scratch = Vec::new();
        let mut batch = records::records(&header, &bytes, &mut scratch, 1 << 20).expect("sound");
        let record = batch
            .find_map(|record| record.ok().filter(|record| record.offset == *offset))
            .unwrap_or_else(|| panic!("offset {offset} is not at {}", header.base_offset));
        let value = record.value.expect("a value");
        assert!(value.starts_with(format!("{offset}-").as_bytes()));
    }
    log.close_blocking().expect("close");
    found
}

fn files_with(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).expect("list");
    let paths = entries.map(|entry| entry.expect("list").path());
    paths
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect()
}

/// With whole segments a repair always leads to a log that starts: what was taken is forgotten at worst.
#[test]
fn a_log_without_its_journal_checkpoints_or_node_file_is_repaired_from_its_segments() {
    type Lose = fn(&Path);
    let losses: [(&str, Lose); 7] = [
        ("the node file is overwritten", |dir| {
            fs::write(dir.join(NODE_FILE), "not a node file").expect("write");
        }),
        ("the journal is gone", |dir| {
            fs::remove_dir_all(dir.join(JOURNAL_DIR)).expect("remove");
        }),
        ("the journal directory is empty", |dir| {
            fs::remove_dir_all(dir.join(JOURNAL_DIR)).expect("remove");
            fs::create_dir(dir.join(JOURNAL_DIR)).expect("create");
        }),
        ("the journal files are empty", |dir| {
            for path in files_with(&dir.join(JOURNAL_DIR), "jnl") {
                fs::write(path, "").expect("write");
            }
        }),
        ("the checkpoints are damaged", |dir| {
            for path in files_with(&dir.join(CHECKPOINT_DIR), "ckp") {
                flip(&path, 30);
            }
        }),
        ("the checkpoints are gone", |dir| {
            fs::remove_dir_all(dir.join(CHECKPOINT_DIR)).expect("remove");
        }),
        ("all of them are damaged", |dir| {
            fs::write(dir.join(NODE_FILE), "").expect("write");
            for path in files_with(&dir.join(CHECKPOINT_DIR), "ckp") {
                flip(&path, 30);
            }
            fs::remove_dir_all(dir.join(JOURNAL_DIR)).expect("remove");
            fs::create_dir(dir.join(JOURNAL_DIR)).expect("create");
        }),
    ];
    let closed = tempfile::tempdir().expect("temporary folder");
    let killed = tempfile::tempdir().expect("temporary folder");
    let log = filled(closed.path());
    copy(closed.path(), killed.path());
    log.close_blocking().expect("close");
    let all = waiting_after(closed.path());
    for (how, root) in [("closed", &closed), ("killed", &killed)] {
        for (what, lose) in &losses {
            let context = format!("{how}, {what}");
            let dir = tempfile::tempdir().expect("temporary folder");
            copy(root.path(), dir.path());
            lose(dir.path());
            assert!(!errors(dir.path()).is_empty(), "{context}");
            let planned = repair(dir.path(), false).unwrap_or_else(|e| panic!("{context}: {e}"));
            assert!(!planned.actions.is_empty(), "{context}");
            let done = repair(dir.path(), true).unwrap_or_else(|e| panic!("{context}: {e}"));
            assert_eq!(done.lost, [], "{context}");
            assert_eq!(errors(dir.path()), [], "{context}");
            let again = repair(dir.path(), false).expect("plan");
            assert_eq!(again.actions, [], "{context}");
            let found = delivered(dir.path());
            assert!(found.ends_with(&all), "{context}: {found:?} of {all:?}");
            assert_eq!(errors(dir.path()), [], "{context}");
        }
    }
}

/// The directory of the streams is made again, and what was in it is told as lost.
#[test]
fn a_log_without_the_directory_of_its_streams_starts_repaired_or_not() {
    for repaired in [false, true] {
        let dir = tempfile::tempdir().expect("temporary folder");
        filled(dir.path()).close_blocking().expect("close");
        fs::remove_dir_all(dir.path().join(LOG_DIR)).expect("remove");
        if repaired {
            let done = repair(dir.path(), true).expect("repair");
            assert!(!done.lost.is_empty());
            assert_eq!(errors(dir.path()), []);
        }
        let (log, report) = Log::open(
            options(dir.path()),
            Arc::new(RealFs),
            Arc::new(SystemClock::new()),
        )
        .expect("open");
        assert_eq!(report.damages.is_empty(), repaired);
        let stream = log.stream("channel").expect("there");
        let append = Op::Append {
            stream,
            batches: batch(200, 5, 10),
            stamp: AppendStamp::AsStream,
        };
        log.commit_blocking(vec![append]).expect("append");
        log.close_blocking().expect("close");
    }
}

/// A directory that does not tell its stream's name is left alone.
#[test]
fn a_stream_that_nobody_knows_any_more_is_not_guessed() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let log = open(dir.path());
    let stream = log
        .create_stream("topic/t/0", StreamSettings::default())
        .wait()
        .expect("create");
    let append = Op::Append {
        stream,
        batches: batch(0, 5, 10),
        stamp: AppendStamp::AsStream,
    };
    log.commit_blocking(vec![append]).expect("append");
    log.close_blocking().expect("close");
    fs::remove_dir_all(dir.path().join(CHECKPOINT_DIR)).expect("remove");
    let refused = repair(dir.path(), true).expect_err("nobody knows");
    assert!(refused.to_string().contains("topic_t_0.1"), "{refused}");
}
