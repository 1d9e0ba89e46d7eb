//! The log on the real file system: what users of the crate rely on, one behaviour a test.

use std::sync::Arc;

use bytes::Bytes;
use flafka_kafka_wire::records::{self, BatchBuilder, Compression};

use super::*;

/// A batch of `count` records with values of `size` bytes at `timestamp`.
pub(crate) fn batch(count: usize, size: usize, timestamp: i64) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    let value = vec![b'v'; size];
    for _ in 0..count {
        builder
            .push(timestamp, None, Some(&value), std::iter::empty())
            .unwrap();
    }
    builder.finish().unwrap()
}

pub(crate) fn append(stream: StreamId, batches: Bytes) -> Op {
    Op::Append {
        stream,
        batches,
        stamp: AppendStamp::AsStream,
    }
}

pub(crate) fn open(dir: &tempfile::TempDir) -> (Log, RecoveryReport) {
    let mut options = LogOptions::new(dir.path());
    options.journal_file_bytes = 1 << 20;
    options.min_free_bytes = 0;
    Log::open(options, Arc::new(RealFs), Arc::new(SystemClock::new())).unwrap()
}

pub(crate) fn close(log: Log) {
    crate::queue::block_on(log.close()).unwrap();
}

fn offsets(log: &Log, stream: StreamId, from: i64) -> Vec<(i64, i32)> {
    let plan = log.read(stream, Offset(from), 1 << 20, true).unwrap();
    let bytes = plan.read_to_bytes().unwrap();
    records::batches(&bytes)
        .map(|batch| {
            let (header, bytes) = batch.unwrap();
            records::verify(bytes).unwrap();
            (header.base_offset, header.partition_leader_epoch)
        })
        .collect()
}

#[test]
fn only_a_stream_with_acks_takes_a_batch_with_fewer_records_than_offsets() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(&dir);
    let mut builder = BatchBuilder::new(Compression::None);
    builder.set_offset_span(5);
    builder
        .push(1, None, Some(b"sealed"), std::iter::empty())
        .unwrap();
    let sparse = builder.finish().unwrap();
    let plain = StreamSettings::default();
    let topic = log
        .create_stream("topic/t/0", plain.clone())
        .wait()
        .unwrap();
    let refused = log.commit_blocking(vec![append(topic, sparse.clone())]);
    assert!(matches!(refused, Err(CommitError::InvalidBatch(_))));
    let acked = StreamSettings {
        acked: true,
        ..plain
    };
    let channel = log.create_stream("channel", acked).wait().unwrap();
    for _ in 0..2 {
        log.commit_blocking(vec![append(channel, sparse.clone())])
            .unwrap();
    }
    let ack = |first: i64, last: i64| Op::Ack {
        stream: channel,
        first: Offset(first),
        last: Offset(last),
    };
    log.commit_blocking(vec![ack(0, 6)]).unwrap();
    assert!(log.commit_blocking(vec![ack(7, 10)]).is_err());
    close(log);
    let (log, _) = open(&dir);
    assert_eq!(log.bounds(channel).unwrap().high_watermark, Offset(10));
    assert_eq!(offsets(&log, channel, 7), [(5, 1)]);
    assert_eq!(log.unacked(channel).unwrap().low, Offset(7));
    close(log);
}

#[test]
fn what_was_committed_is_read_back_now_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (log, report) = open(&dir);
    assert!(report.created);
    let stream = log
        .create_stream("topic/t/0", StreamSettings::default())
        .wait()
        .unwrap();
    for _ in 0..3 {
        log.commit_blocking(vec![append(stream, batch(2, 10, 5))])
            .unwrap();
    }
    let outcome = log
        .commit_blocking(vec![
            append(stream, batch(3, 100_000, 6)),
            Op::Put {
                table: Table::Topics,
                key: Bytes::from_static(b"t"),
                value: Bytes::from_static(b"v"),
            },
        ])
        .unwrap();
    assert_eq!(
        outcome[0],
        OpOutcome::Appended {
            base_offset: Offset(6),
            last_offset: Offset(8),
            log_append_time_ms: None,
            log_start: Offset(0)
        }
    );
    assert_eq!(
        offsets(&log, stream, 0),
        vec![(0, 1), (2, 1), (4, 1), (6, 1)]
    );
    assert_eq!(offsets(&log, stream, 5), vec![(4, 1), (6, 1)]);
    close(log);

    let (log, report) = open(&dir);
    assert!(report.clean, "{report:?}");
    assert_eq!(log.epoch(), 2);
    assert_eq!(log.stream("topic/t/0"), Some(stream));
    log.commit_blocking(vec![append(stream, batch(1, 10, 7))])
        .unwrap();
    assert_eq!(
        offsets(&log, stream, 0),
        vec![(0, 1), (2, 1), (4, 1), (6, 1), (9, 2)]
    );
    assert_eq!(log.get(Table::Topics, b"t").unwrap(), "v");
    assert_eq!(
        log.epochs(stream).unwrap(),
        vec![(1, Offset(0)), (2, Offset(9))]
    );
    let found = log.offset_for_timestamp(stream, 6).unwrap();
    assert_eq!(found, Some((Offset(6), 6)));
    close(log);
}

#[test]
fn a_second_opener_is_refused_with_the_holders_pid() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(&dir);
    let second = Log::open(
        LogOptions::new(dir.path()),
        Arc::new(RealFs),
        Arc::new(SystemClock::new()),
    );
    let Err(OpenError::Locked { holder, .. }) = second else {
        panic!("{second:?}");
    };
    // Of another process the command line is told; this one is told apart.
    let (process, which) = holder.split_once(", ").unwrap();
    assert_eq!(process, std::process::id().to_string());
    assert!(which.contains("this one"), "{which}");
    close(log);
}

#[test]
fn a_group_is_all_or_nothing_and_each_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(&dir);
    let stream = log
        .create_stream("a", StreamSettings::default())
        .wait()
        .unwrap();
    let bad = Op::TrimTo {
        stream,
        log_start: Offset(99),
    };
    let ops = || vec![append(stream, batch(1, 10, 0)), bad.clone()];
    let error = log.commit_blocking(ops()).unwrap_err();
    assert!(matches!(error, CommitError::OutOfRange { .. }));
    assert_eq!(log.bounds(stream).unwrap().high_watermark, Offset(0));
    let each = crate::queue::block_on(log.commit_each(ops()));
    assert!(each[0].is_ok() && each[1].is_err());
    assert_eq!(log.bounds(stream).unwrap().high_watermark, Offset(1));
    close(log);
}

/// Flips a bit in the middle of the file's `number`-th batch of two; says where it starts.
fn damage_batch(path: &std::path::Path, number: usize, at: usize) -> u64 {
    let mut bytes = std::fs::read(path).unwrap();
    let mut position = 0;
    for _ in 0..number {
        position += records::BatchHeader::parse(&bytes[position..])
            .unwrap()
            .total_len();
    }
    bytes[position + at] ^= 4;
    std::fs::write(path, bytes).unwrap();
    position as u64
}

/// faults.md §3.2 rule 3: damage in the middle of what was acknowledged costs the damaged batches and nothing else.
#[test]
fn a_damaged_batch_is_named_kept_aside_and_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(&dir);
    let stream = log
        .create_stream("a", StreamSettings::default())
        .wait()
        .unwrap();
    for timestamp in 0..5 {
        log.commit_blocking(vec![append(stream, batch(2, 50, timestamp))])
            .unwrap();
    }
    let segment = dir.path().join("log/a.1/00000000000000000000.log");
    // In the records of one batch, and in the length of another: the second is not even a batch any more.
    let in_records = damage_batch(&segment, 1, 100);
    let aside = |offset| crate::queue::block_on(log.set_aside(stream, Offset(offset))).unwrap();
    assert_eq!(aside(0), None, "a good batch");
    let damage = aside(3).expect("damaged");
    assert_eq!((damage.first, damage.next), (Offset(2), Offset(4)));
    assert_eq!(damage.position, Position(in_records));
    let kept = std::fs::read(damage.kept.as_ref().unwrap()).unwrap();
    assert_eq!(kept.len() as u64, damage.bytes);
    let whole = std::fs::read(&segment).unwrap();
    assert_eq!(whole[in_records as usize..][..kept.len()], kept[..]);
    assert_eq!(aside(2).unwrap().first, Offset(2), "and once more");
    damage_batch(&segment, 1, 100);
    let in_header = damage_batch(&segment, 3, 16);
    let error = log.read(stream, Offset(6), 1 << 20, true).unwrap_err();
    assert!(
        matches!(error, ReadError::Corrupt { position, .. } if position == in_header),
        "{error}"
    );
    let damage = aside(6).expect("damaged");
    assert_eq!((damage.first, damage.next), (Offset(6), Offset(8)));
    assert_eq!(offsets(&log, stream, 8), vec![(8, 1)]);
    let found = log.offset_for_timestamp(stream, 3).unwrap();
    assert_eq!(found, Some((Offset(6), 3)), "where damage may hide it");
    let counts = log.counts();
    assert_eq!((counts.damages, counts.skipped_offsets), (2, 2 + 2));
    close(log);
}

/// The copies of damaged bytes in a stream's directory, with their lengths.
fn copies(dir: &std::path::Path) -> Vec<(String, u64)> {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    let named = entries.map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (name, entry.metadata().unwrap().len())
    });
    named.filter(|(name, _)| name.contains("damaged")).collect()
}

/// What a start tells as lost is lost, no more; who reads there later is told of the same place.
#[test]
fn a_cut_segment_is_told_once_from_the_first_offset_that_is_lost() {
    for inside in [0, 30] {
        let dir = tempfile::tempdir().unwrap();
        let (log, _) = open(&dir);
        let stream = log
            .create_stream("a", StreamSettings::default())
            .wait()
            .unwrap();
        for timestamp in 0..5 {
            log.commit_blocking(vec![append(stream, batch(2, 50, timestamp))])
                .unwrap();
        }
        close(log);
        let streams = dir.path().join("log/a.1");
        let segment = streams.join("00000000000000000000.log");
        let bytes = std::fs::read(&segment).unwrap();
        let batch_bytes = records::BatchHeader::parse(&bytes).unwrap().total_len();
        let at = 3 * batch_bytes;
        std::fs::write(&segment, &bytes[..at + inside]).unwrap();
        let (log, report) = open(&dir);
        let [told] = &report.damages[..] else {
            panic!("{report:?}");
        };
        assert_eq!((told.first, told.next), (Offset(6), Offset(10)));
        assert_eq!(told.position, Position(at as u64));
        let lost = crate::queue::block_on(log.set_aside(stream, Offset(6)));
        let lost = lost.unwrap().expect("lost");
        assert_eq!((lost.first, lost.next), (Offset(6), Offset(10)));
        let counts = log.counts();
        assert_eq!((counts.damages, counts.skipped_offsets), (1, 4));
        // Only what was there is worth a copy.
        let kept: Vec<u64> = copies(&streams)
            .into_iter()
            .map(|(_, length)| length)
            .collect();
        let expected = (inside > 0).then_some(inside as u64);
        assert_eq!(kept, Vec::from_iter(expected));
        let plan = log.read(stream, Offset(5), 1, true).unwrap();
        let bytes = plan.read_to_bytes().unwrap();
        let header = records::verify(&bytes).unwrap();
        assert_eq!(header.last_offset(), 5, "what is left is readable");
        close(log);
    }
}

#[test]
fn a_missing_segment_is_told_once_and_nothing_is_copied() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(&dir);
    let settings = StreamSettings {
        segment_bytes: 1024,
        ..StreamSettings::default()
    };
    let stream = log.create_stream("a", settings).wait().unwrap();
    for _ in 0..4 {
        log.commit_blocking(vec![append(stream, batch(1, 700, 0))])
            .unwrap();
    }
    close(log);
    let streams = dir.path().join("log/a.1");
    std::fs::remove_file(streams.join("00000000000000000002.log")).unwrap();
    let (log, report) = open(&dir);
    assert_eq!(report.damages.len(), 1, "{report:?}");
    for _ in 0..2 {
        let lost = crate::queue::block_on(log.set_aside(stream, Offset(2)));
        let lost = lost.unwrap().expect("lost");
        assert_eq!((lost.first, lost.next), (Offset(2), Offset(3)));
        assert!(!lost.what.contains("checksum"), "{lost}");
        assert_eq!(lost.kept, None);
    }
    let counts = log.counts();
    assert_eq!((counts.damages, counts.skipped_offsets), (1, 1));
    assert_eq!(copies(&streams), []);
    assert_eq!(offsets(&log, stream, 3).len(), 1);
    close(log);
}

#[test]
fn acks_free_whole_segments_and_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(&dir);
    let settings = StreamSettings {
        segment_bytes: 1024,
        acked: true,
        ..StreamSettings::default()
    };
    let stream = log.create_stream("channel/c", settings).wait().unwrap();
    for _ in 0..10 {
        log.commit_blocking(vec![append(stream, batch(1, 700, 0))])
            .unwrap();
    }
    let ack = |first, last| Op::Ack {
        stream,
        first: Offset(first),
        last: Offset(last),
    };
    log.commit_blocking(vec![ack(5, 6), ack(0, 2)]).unwrap();
    assert_eq!(log.bounds(stream).unwrap().log_start, Offset(3));
    close(log);
    let (log, _) = open(&dir);
    let acks = log.unacked(stream).unwrap();
    assert_eq!(acks.low, Offset(3));
    assert_eq!(acks.acked_ranges, vec![(Offset(5), Offset(6))]);
    let segments = std::fs::read_dir(dir.path().join("log/channel_c.1"))
        .unwrap()
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().ends_with(".log")
        })
        .count();
    assert_eq!(segments, 7);
    close(log);
}

fn small_segments(log: &Log, name: &str) -> StreamId {
    let settings = StreamSettings {
        segment_bytes: 16 * 1024,
        ..StreamSettings::default()
    };
    log.create_stream(name, settings).wait().unwrap()
}

/// Every offset and every tenth timestamp is found, whatever became of the index files.
#[test]
fn missing_wrong_and_cut_indexes_are_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(&dir);
    let stream = small_segments(&log, "a");
    let count = 120;
    for at in 0..count {
        log.commit_blocking(vec![append(stream, batch(1, 900, at * 10))])
            .unwrap();
    }
    close(log);
    let mut indexes: Vec<_> = std::fs::read_dir(dir.path().join("log/a.1"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|end| end == "oix" || end == "tix")
        })
        .collect();
    indexes.sort();
    assert!(indexes.len() >= 12, "{indexes:?}");
    let damage: [fn(&std::path::Path, Vec<u8>); 5] = [
        |path, _| std::fs::remove_file(path).unwrap(),
        |path, bytes| std::fs::write(path, &bytes[..bytes.len() - 3]).unwrap(),
        |path, bytes| std::fs::write(path, &bytes[..9.min(bytes.len())]).unwrap(),
        |path, mut bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 8;
            std::fs::write(path, bytes).unwrap();
        },
        |path, _| std::fs::write(path, vec![0xA5; 5000]).unwrap(),
    ];
    for (number, path) in indexes.iter().enumerate() {
        damage[number % damage.len()](path, std::fs::read(path).unwrap());
    }
    let (log, report) = open(&dir);
    assert!(report.damages.is_empty(), "an index is derived: {report:?}");
    for at in 0..count {
        let plan = log.read(stream, Offset(at), 1, true).unwrap();
        let bytes = plan.read_to_bytes().unwrap();
        let header = records::BatchHeader::parse(&bytes).unwrap();
        assert_eq!(header.base_offset, at);
        let found = log.offset_for_timestamp(stream, at * 10 - 9).unwrap();
        assert_eq!(found, Some((Offset(at), at * 10)));
    }
    close(log);
}

/// Timestamps are the producers': they need not rise, and the first record at or after a time is the answer.
#[test]
fn a_lookup_by_time_goes_across_segments_and_unordered_times() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(&dir);
    let stream = small_segments(&log, "a");
    let mut dice = sim_fs::Dice::new(9);
    let mut times = Vec::new();
    for at in 0..150_i64 {
        let time = at * 100 + dice.below(1500) as i64 - 700;
        times.push(time);
        log.commit_blocking(vec![append(stream, batch(1, 700, time))])
            .unwrap();
    }
    let check = |log: &Log, start: i64| {
        for asked in (-800..16_000).step_by(37) {
            let wanted = times.iter().enumerate().skip(start as usize);
            let mut wanted = wanted.filter(|(_, time)| **time >= asked);
            let wanted = wanted.next().map(|(at, time)| (Offset(at as i64), *time));
            let found = log.offset_for_timestamp(stream, asked).unwrap();
            assert_eq!(found, wanted, "at or after {asked}");
        }
        let newest = times[start as usize..].iter().max().unwrap();
        let (_, time) = log.offset_of_max_timestamp(stream).unwrap().unwrap();
        assert_eq!(time, *newest);
    };
    check(&log, 0);
    close(log);
    let (log, _) = open(&dir);
    check(&log, 0);
    let log_start = Offset(61);
    log.commit_blocking(vec![Op::TrimTo { stream, log_start }])
        .unwrap();
    check(&log, 61);
    close(log);
}

/// Nothing of a backlog is read at start: only what lies behind the last checkpoint.
#[test]
fn a_start_reads_only_the_tail_of_a_large_backlog() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(&dir);
    let stream = log
        .create_stream("a", StreamSettings::default())
        .wait()
        .unwrap();
    let large = batch(1000, 1000, 1);
    let count = (1 << 30) / large.len() + 1;
    let settings = StreamSettings {
        durability: Durability::Os,
        max_batch_bytes: i32::MAX as u32,
        segment_bytes: 256 << 20,
        ..StreamSettings::default()
    };
    log.update_stream(stream, settings).wait().unwrap();
    for _ in 0..count {
        log.commit_blocking(vec![append(stream, large.clone())])
            .unwrap();
    }
    crate::queue::block_on(log.checkpoint()).unwrap();
    log.commit_blocking(vec![append(stream, batch(1, 10, 2))])
        .unwrap();
    let image = tempfile::tempdir().unwrap();
    // As a kill would leave it, without the lock: the log is still open.
    move_or_copy(dir.path(), image.path());
    let (again, report) = open(&image);
    assert!(
        !report.clean && report.checked_bytes < 1 << 20,
        "{report:?}"
    );
    assert!(
        report.damages.is_empty() && report.cuts.is_empty(),
        "{report:?}"
    );
    let bounds = again.bounds(stream).unwrap();
    assert_eq!(bounds.high_watermark, Offset(count as i64 * 1000 + 1));
    assert!(bounds.bytes > 1 << 30);
    assert_eq!(
        offsets(&again, stream, count as i64 * 1000),
        vec![(count as i64 * 1000, 1)]
    );
    close(again);
    close(log);
}

/// A copy of a log's directory that shares the content of segments: nobody writes to them any more.
fn move_or_copy(from: &std::path::Path, to: &std::path::Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            std::fs::create_dir(&target).unwrap();
            move_or_copy(&path, &target);
        } else if path.extension().is_some_and(|end| end == "log") {
            std::fs::hard_link(&path, &target).unwrap();
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn a_damaged_length_does_not_hide_the_batches_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = open(&dir);
    let stream = log
        .create_stream("a", StreamSettings::default())
        .wait()
        .unwrap();
    let one = batch(1, 300, 1);
    for _ in 0..3 {
        log.commit_blocking(vec![append(stream, one.clone())])
            .unwrap();
    }
    close(log);
    let path = dir.path().join("log/a.1/00000000000000000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    // The first batch seems to reach into the third.
    let length = u32::from_be_bytes(bytes[8..12].try_into().unwrap()) + one.len() as u32 + 50;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    std::fs::write(&path, bytes).unwrap();
    let (log, _) = open(&dir);
    assert_eq!(offsets(&log, stream, 1), [(1, 1), (2, 1)]);
    close(log);
}
