//! Reads over damage, on the real file system: what is good is handed out and nothing else, and a read at the damage says so.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use flafka_kafka_wire::records::{self, BatchHeader};

use super::*;
use crate::tests::{append, batch, close, open};

/// Forty batches of about a kibibyte with one record each, in small segments; the segments' files.
fn filled(dir: &tempfile::TempDir, segment_bytes: u32) -> (StreamId, Vec<PathBuf>) {
    filled_with(dir, segment_bytes, 1)
}

fn filled_with(
    dir: &tempfile::TempDir,
    segment_bytes: u32,
    records: usize,
) -> (StreamId, Vec<PathBuf>) {
    let (log, _) = open(dir);
    let settings = StreamSettings {
        segment_bytes,
        ..StreamSettings::default()
    };
    let stream = log.create_stream("a", settings).wait().unwrap();
    for timestamp in 0..40 {
        let batch = batch(records, 1000, timestamp);
        log.commit_blocking(vec![append(stream, batch)]).unwrap();
    }
    close(log);
    let names = std::fs::read_dir(dir.path().join("log/a.1")).unwrap();
    let mut files: Vec<_> = names.map(|name| name.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "log"));
    files.sort();
    (stream, files)
}

fn cut(path: &Path, length: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    assert!(file.metadata().unwrap().len() > length);
    file.set_len(length).unwrap();
}

/// Where each batch of a file starts, and its header.
fn batches_of(path: &Path) -> Vec<(u64, BatchHeader)> {
    let bytes = std::fs::read(path).unwrap();
    let mut position = 0;
    records::batches(&bytes)
        .map(|batch| {
            let (header, batch) = batch.unwrap();
            position += batch.len() as u64;
            (position - batch.len() as u64, header)
        })
        .collect()
}

/// Reads on from an offset until damage or the end; every byte handed out must be of good batches in order. The next
/// offset, and where the damage is.
fn read_on(log: &Log, stream: StreamId, mut from: i64) -> (i64, Option<u64>) {
    loop {
        let plan = match log.read(stream, Offset(from), 1 << 20, true) {
            Ok(plan) => plan,
            Err(ReadError::Corrupt { position, .. }) => return (from, Some(position)),
            Err(other) => panic!("at {from}: {other}"),
        };
        let bytes = plan.read_to_bytes().unwrap();
        for batch in records::batches(&bytes) {
            let (header, bytes) = batch.unwrap();
            records::verify(bytes).unwrap();
            assert_eq!(header.base_offset, from);
            from = header.last_offset() + 1;
        }
        if plan.reaches_end {
            return (from, None);
        }
        assert!(!bytes.is_empty(), "a read at {from} brings nothing");
    }
}

fn set_aside(log: &Log, stream: StreamId, offset: i64) -> Damage {
    let damage = crate::queue::block_on(log.set_aside(stream, Offset(offset)));
    damage.unwrap().expect("damaged")
}

#[test]
fn of_a_segment_that_became_shorter_the_rest_is_read_and_the_end_is_damage() {
    for in_batch in [0, 20, 700] {
        let dir = tempfile::tempdir().unwrap();
        let (stream, files) = filled(&dir, 16 * 1024);
        let behind = batches_of(&files[1])[0].1.base_offset;
        let (good_end, first_lost) = batches_of(&files[0])[5];
        let first_lost = first_lost.base_offset;
        cut(&files[0], good_end + in_batch);
        let (log, report) = open(&dir);
        assert!(report.damages.is_empty(), "a start does not look there");
        assert_eq!(read_on(&log, stream, 0), (first_lost, Some(good_end)));
        let damage = set_aside(&log, stream, first_lost);
        assert_eq!(
            (&damage.path, damage.position, damage.first, damage.next),
            (
                &files[0],
                Position(good_end),
                Offset(first_lost),
                Offset(behind)
            )
        );
        assert!(damage.what.contains("ends at byte"), "{}", damage.what);
        assert_eq!(damage.kept.is_some(), in_batch > 0);
        assert_eq!(log.counts().damages, 1);
        let lost = behind - 1;
        let error = log.read(stream, Offset(lost), 1 << 20, true).unwrap_err();
        assert!(matches!(error, ReadError::Corrupt { .. }), "{error}");
        assert_eq!(read_on(&log, stream, behind), (40, None));
        close(log);
    }
}

#[test]
fn a_file_that_is_cut_while_it_is_open_fails_one_read_and_is_damage_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, files) = filled(&dir, 16 * 1024);
    let (log, _) = open(&dir);
    assert_eq!(read_on(&log, stream, 0), (40, None));
    // A sealed one, and the one that is appended to.
    for path in [&files[0], &files[files.len() - 1]] {
        let batches = batches_of(path);
        let (good_end, first_lost) = batches[2];
        let first = batches[0].1.base_offset;
        cut(path, good_end + 100);
        let plan = log.read(stream, Offset(first), 1 << 20, true).unwrap();
        let error = plan.read_to_bytes().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        assert!(error.to_string().contains(path.to_str().unwrap()));
        let found = read_on(&log, stream, first);
        assert_eq!(found, (first_lost.base_offset, Some(good_end)));
    }
    close(log);
}

#[test]
fn what_a_start_fills_up_is_never_handed_out_by_this_process_nor_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, files) = filled(&dir, 16 << 20);
    let (good_end, first_lost) = batches_of(&files[0])[20];
    let first_lost = first_lost.base_offset;
    cut(&files[0], good_end + 300);
    for start in 0..3 {
        let (log, report) = open(&dir);
        assert_eq!(report.damages.is_empty(), start > 0, "{report:?}");
        assert_eq!(read_on(&log, stream, 0), (first_lost, Some(good_end)));
        let damage = set_aside(&log, stream, first_lost);
        assert_eq!(damage.next, Offset(40));
        log.commit_blocking(vec![append(stream, batch(1, 10, 0))])
            .unwrap();
        assert_eq!(read_on(&log, stream, 40), (41 + start, None));
        close(log);
    }
}

#[test]
fn where_damage_is_known_a_base_offset_or_content_that_is_wrong_ends_a_read() {
    for flipped in [6, 30, 500] {
        let dir = tempfile::tempdir().unwrap();
        let (stream, files) = filled(&dir, 16 << 20);
        let batches = batches_of(&files[0]);
        let mut bytes = std::fs::read(&files[0]).unwrap();
        for number in [10, 20] {
            bytes[batches[number].0 as usize + flipped] ^= 1;
        }
        std::fs::write(&files[0], bytes).unwrap();
        let (log, _) = open(&dir);
        let next = set_aside(&log, stream, 10).next;
        assert_eq!(next, Offset(11));
        assert_eq!(read_on(&log, stream, 0), (10, Some(batches[10].0)));
        assert_eq!(read_on(&log, stream, 11), (20, Some(batches[20].0)));
        assert_eq!(read_on(&log, stream, 21), (40, None));
        close(log);
    }
}

#[test]
fn checked_reads_keep_to_the_room_they_are_given() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, files) = filled(&dir, 16 << 20);
    let one = batches_of(&files[0])[1].0 as usize;
    let (log, _) = open(&dir);
    cut(&files[0], 30 * one as u64);
    let length = |room, need_one| {
        let plan = log.read(stream, Offset(3), room, need_one).unwrap();
        plan.read_to_bytes().map_or(0, |bytes| bytes.len())
    };
    assert_eq!(length(1 << 20, true), 0, "now it is known");
    assert_eq!(length(1 << 20, true), 27 * one);
    assert_eq!(length(5 * one + 1, true), 5 * one);
    assert_eq!(length(one - 1, true), one);
    assert_eq!(length(one - 1, false), 0);
    close(log);
}

/// What a broker would send of a read of up to `room` bytes, in steps of `step` bytes.
fn pass_on(
    log: &Log,
    stream: StreamId,
    from: i64,
    (room, step): (usize, usize),
) -> Result<Vec<u8>, ReadError> {
    let plan = log.read(stream, Offset(from), room, true)?;
    let mut passed = Vec::new();
    for range in &plan.slices {
        let mut reader = range.reader();
        while reader.left() > 0 {
            let mut bytes = vec![0; step.min(reader.left())];
            if let Err(error) = reader.fill(&mut bytes) {
                assert_eq!(error.kind(), ErrorKind::InvalidData);
                assert!(error.to_string().contains("00000000.log"), "{error}");
                // The connection ends, and the client asks again.
                return pass_on(log, stream, from, (room, step));
            }
            passed.extend_from_slice(&bytes);
        }
    }
    Ok(passed)
}

#[test]
fn one_wrong_base_offset_is_never_passed_on_whatever_offset_is_asked_for() {
    const WRONG: i64 = 10;
    let all = 1 << 20;
    let cases = [(1, all), (1, 1), (5, all), (5, 1)];
    for ((records, room), (byte, bit)) in cases.into_iter().flat_map(|case| {
        let bits = [(7, 0), (7, 1), (7, 3), (7, 5), (6, 0), (4, 2), (0, 7)];
        bits.map(|bit| (case, bit))
    }) {
        let dir = tempfile::tempdir().unwrap();
        let (stream, files) = filled_with(&dir, 16 << 20, records as usize);
        let mut bytes = std::fs::read(&files[0]).unwrap();
        let place = batches_of(&files[0])[WRONG as usize].0;
        bytes[place as usize + byte] ^= 1 << bit;
        std::fs::write(&files[0], bytes).unwrap();
        for asked in (0..40 * records)
            .filter(|asked| (6..16).contains(&(asked / records)) || asked % 39 == 0)
        {
            let case = format!("{records} records, room {room}, {byte}.{bit}, offset {asked}");
            let (log, report) = open(&dir);
            assert!(report.damages.is_empty(), "a start does not look there");
            let read = pass_on(&log, stream, asked, (room, 97));
            let first = asked / records;
            if first == WRONG {
                let error = read.expect_err(&case);
                assert!(
                    matches!(error, ReadError::Corrupt { position, .. } if position == place),
                    "{case}: {error}"
                );
                let behind = Offset((WRONG + 1) * records);
                assert_eq!(set_aside(&log, stream, asked).next, behind);
            } else {
                let read = read.expect(&case);
                let found = records::batches(&read).map(|batch| batch.unwrap().0.base_offset);
                let end = match first {
                    _ if room == 1 => first + 1,
                    before if before < WRONG => WRONG,
                    _ => 40,
                };
                assert!(found.eq((first..end).map(|one| one * records)), "{case}");
            }
            close(log);
        }
    }
}

#[test]
fn a_batch_that_became_zeroes_is_not_passed_on() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, files) = filled(&dir, 16 << 20);
    let batches = batches_of(&files[0]);
    let mut bytes = std::fs::read(&files[0]).unwrap();
    bytes[batches[20].0 as usize..batches[21].0 as usize].fill(0);
    std::fs::write(&files[0], bytes).unwrap();
    for step in [1, 61, 1000, 1 << 20] {
        let (log, _) = open(&dir);
        let read = pass_on(&log, stream, 5, (1 << 20, step)).unwrap();
        let offsets = records::batches(&read).map(|batch| batch.unwrap().0.base_offset);
        assert!(offsets.eq(5..20), "steps of {step} bytes");
        close(log);
    }
}

#[test]
fn a_gap_that_a_repair_left_is_passed_on_without_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, files) = filled(&dir, 16 << 20);
    let mut bytes = std::fs::read(&files[0]).unwrap();
    bytes[batches_of(&files[0])[10].0 as usize + 7] ^= 0x40;
    std::fs::write(&files[0], bytes).unwrap();
    crate::repair(dir.path(), true).unwrap();
    for asked in 0..40 {
        let (log, _) = open(&dir);
        let plan = log.read(stream, Offset(asked), 1 << 20, true).unwrap();
        let mut offsets = Vec::new();
        for range in &plan.slices {
            let mut reader = range.reader();
            let mut bytes = vec![0; reader.left()];
            reader.fill(&mut bytes).unwrap();
            let batches = records::batches(&bytes);
            offsets.extend(batches.map(|batch| batch.unwrap().0.base_offset));
        }
        let wanted: Vec<i64> = (asked..40).filter(|offset| *offset != 10).collect();
        assert_eq!(offsets, wanted, "from {asked}");
        close(log);
    }
}

#[test]
fn a_lookup_by_time_passes_nothing_good_and_says_where_damage_may_hide_the_answer() {
    const WRONG: i64 = 10;
    // Of the base offset, the length, the highest timestamp, and the records.
    let bits = [(7, 1), (7, 5), (6, 1), (11, 1), (10, 2), (40, 3), (500, 0)];
    for (byte, bit) in bits {
        let dir = tempfile::tempdir().unwrap();
        let (stream, files) = filled(&dir, 16 << 20);
        let mut bytes = std::fs::read(&files[0]).unwrap();
        let place = batches_of(&files[0])[WRONG as usize].0 as usize;
        bytes[place + byte] ^= 1 << bit;
        std::fs::write(&files[0], bytes).unwrap();
        for time in 0..40 {
            let (log, _) = open(&dir);
            let found = log.offset_for_timestamp(stream, time).unwrap();
            let offset = found.expect("there is one").0.0;
            // The time of each record is its offset.
            let may_be_hidden = time > WRONG && offset == WRONG;
            let case = format!("{byte}.{bit}, time {time}, found {found:?}");
            assert!(offset == time || may_be_hidden, "{case}");
            assert!(!may_be_hidden || time <= WRONG + 1, "{case}");
            close(log);
        }
        let (log, _) = open(&dir);
        assert_eq!(log.offset_for_timestamp(stream, 40).unwrap(), None);
        close(log);
    }
}

#[test]
fn damage_is_one_place_wherever_it_is_met() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, files) = filled(&dir, 16 << 20);
    let batches = batches_of(&files[0]);
    let mut bytes = std::fs::read(&files[0]).unwrap();
    let (from, to) = (batches[5].0 as usize, batches[35].0 as usize);
    bytes[from..to].fill(0xA5);
    std::fs::write(&files[0], bytes).unwrap();
    let (log, _) = open(&dir);
    for met in [20, 34, 5, 11] {
        let damage = set_aside(&log, stream, met);
        assert_eq!((damage.first, damage.next), (Offset(5), Offset(35)));
        assert_eq!(damage.position, Position(from as u64));
        assert_eq!(damage.bytes, (to - from) as u64);
    }
    let counts = log.counts();
    assert_eq!((counts.damages, counts.skipped_offsets), (1, 30));
    assert_eq!(counts.damaged_bytes, (to - from) as u64);
    close(log);
}

#[test]
fn a_repair_that_loses_the_last_records_leaves_a_batch_that_reaches_the_end() {
    // The last record, and all of the last segment.
    for all_of_it in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (stream, files) = filled(&dir, 16 * 1024);
        let last = files.last().unwrap();
        let batches = batches_of(last);
        let first_lost = match all_of_it {
            true => batches[0],
            false => batches[batches.len() - 1],
        };
        let mut bytes = std::fs::read(last).unwrap();
        let tail = &mut bytes[first_lost.0 as usize..];
        tail.fill(0xA5);
        std::fs::write(last, bytes).unwrap();
        let report = crate::repair(dir.path(), true).unwrap();
        let first_lost = first_lost.1.base_offset;
        assert_eq!(report.lost.len(), 1);
        assert_eq!(
            (report.lost[0].first, report.lost[0].last),
            (Offset(first_lost), Offset(39))
        );
        let again = crate::repair(dir.path(), true).unwrap();
        assert!(again.actions.is_empty(), "{:?}", again.actions);
        let verified = crate::inspect::verify(dir.path(), &mut |_| {}).unwrap();
        assert_eq!(verified.errors, 0);
        for start in 0..2 {
            let (log, report) = open(&dir);
            assert!(report.damages.is_empty(), "{report:?}");
            assert_eq!(read_on(&log, stream, 0), (40 + start, None));
            log.commit_blocking(vec![append(stream, batch(1, 10, 50))])
                .unwrap();
            close(log);
        }
    }
}
