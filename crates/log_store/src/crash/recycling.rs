//! Recycled segment files: whatever moment the machine dies at, what a file held before never comes back, is no damage,
//! and is gone from the file after the start.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use flafka_kafka_wire::records::{self, BatchBuilder, BatchHeader, Compression};
use tokio::sync::oneshot;

use super::driver::{blocking, options, recover, recover_and_tell, request};
use super::effort::Effort;
use super::full::keep_house;
use super::observe::{model_batch, observe};
use crate::engine::Engine;
use crate::error::CommitError;
use crate::op::{AppendStamp, Offset, Op, StreamId};
use crate::queue::Control;
use crate::settings::{Durability, StreamSettings};
use crate::sim_fs::{Dice, Failure, Plan, SimFs};
use crate::{inspect, repair, segment};

const SEGMENT_BYTES: u32 = 16 * 1024;
/// More than `bulk_bytes` of the options: synced in the segment itself.
const BULK: usize = 5000;

/// A batch of about `size` bytes; `tag` makes it differ from all others.
fn batch(tag: u64, size: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    let value = vec![tag as u8; size / 2];
    for _ in 0..2 {
        builder
            .push(
                1,
                Some(&tag.to_be_bytes()),
                Some(&value),
                std::iter::empty(),
            )
            .unwrap();
    }
    builder.finish().unwrap()
}

fn stream(engine: &mut Engine, name: &str, durability: Durability) -> StreamId {
    let settings = StreamSettings {
        segment_bytes: SEGMENT_BYTES,
        durability,
        ..StreamSettings::default()
    };
    let (reply, mut receiver) = oneshot::channel();
    let name = name.to_string();
    engine.control(vec![Control::Create {
        name,
        settings,
        reply,
    }]);
    receiver.try_recv().unwrap().unwrap()
}

fn commit(engine: &mut Engine, op: Op) -> Result<(), CommitError> {
    let (receiver, request) = request(op);
    engine.round(vec![request]);
    blocking(receiver).map(|_| ())
}

fn append(engine: &mut Engine, stream: StreamId, batches: Bytes) -> Result<(), CommitError> {
    let stamp = AppendStamp::AsStream;
    commit(
        engine,
        Op::Append {
            stream,
            batches,
            stamp,
        },
    )
}

fn trim(engine: &mut Engine, stream: StreamId, log_start: i64) {
    let log_start = Offset(log_start);
    commit(engine, Op::TrimTo { stream, log_start }).unwrap();
}

fn checkpoint(engine: &mut Engine, fs: &SimFs) {
    keep_house(engine, fs);
    engine.start_checkpoint();
    keep_house(engine, fs);
}

fn recycled(engine: &Engine) -> u64 {
    let counters = &engine.shared.housekeeping;
    counters.recycled_segments.load(Ordering::Relaxed)
}

/// An engine whose stream has a spare and whose newest segment is full: the next append goes into the spare.
fn about_to_recycle(fs: &SimFs) -> (Engine, StreamId, u64) {
    let mut engine = recover(fs).unwrap();
    let stream = stream(&mut engine, "bulk", Durability::Fsync);
    let mut tag = 0;
    while engine.streams[&stream].state.view().segments.len() < 3 {
        append(&mut engine, stream, batch(tag, BULK)).unwrap();
        tag += 1;
    }
    let first_end = engine.streams[&stream].state.view().segments[0].end_offset();
    trim(&mut engine, stream, first_end);
    checkpoint(&mut engine, fs);
    while engine.streams[&stream].position + BULK as u64 <= u64::from(SEGMENT_BYTES) {
        append(&mut engine, stream, batch(tag, BULK)).unwrap();
        tag += 1;
    }
    assert_eq!(recycled(&engine), 0);
    (engine, stream, tag)
}

/// Log files that hold something else than their segment, and spares.
fn not_plain(engine: &Engine, fs: &SimFs) -> Vec<String> {
    let mut odd = Vec::new();
    for path in fs.files() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.extension().is_some_and(|end| end == segment::SPARE) {
            odd.push(name);
            continue;
        }
        let Some((base, _)) = segment::parse_file_name(&name) else {
            continue;
        };
        let of_path = |state: &crate::stream::StreamState| path.starts_with(&state.dir);
        let writer = engine.streams.values().find(|one| of_path(&one.state));
        let view = writer.map(|writer| writer.state.view());
        let known = view.as_ref().and_then(|view| {
            let mut segments = view.segments.iter();
            segments.find(|one| one.base_offset == base)
        });
        let length = fs.content(&path).unwrap().len() as u64;
        if known.is_none_or(|known| known.length() != length) {
            odd.push(format!("{name} has {length} bytes"));
        }
    }
    odd
}

/// What must be there at a moment: log start, and the batches ever appended.
#[derive(Clone, Default)]
struct Truth {
    log_start: i64,
    batches: Vec<(i64, i32, u32)>,
}

impl Truth {
    fn end(&self) -> i64 {
        self.batches
            .last()
            .map_or(0, |last| last.0 + i64::from(last.1))
    }

    fn joined(&self, batches: &Bytes) -> Truth {
        let mut joined = self.clone();
        for batch in records::batches(batches) {
            let mut header: BatchHeader = batch.unwrap().0;
            header.base_offset = joined.end();
            joined.batches.push(model_batch(&header));
        }
        joined
    }

    /// The batches that a read from the log start on brings.
    fn readable(&self) -> Vec<(i64, i32, u32)> {
        let ends = |batch: &&(i64, i32, u32)| batch.0 + i64::from(batch.1) > self.log_start;
        self.batches.iter().filter(ends).copied().collect()
    }
}

/// Opens what a crash has left: one of the two states around it, no damage, and nothing left of what files held before.
/// With `weak` appends may be missing, and trims. `most` bytes may be told as cut.
fn judge(crashed: &SimFs, around: &[Truth; 2], (most, weak): (u64, bool), context: &str) {
    let (mut engine, report) =
        recover_and_tell(crashed).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert!(report.damages.is_empty(), "{context}: {report:?}");
    let cut: u64 = report.cuts.iter().map(|cut| cut.bytes).sum();
    assert!(cut <= most, "{context}: much is cut: {report:?}");
    keep_house(&mut engine, crashed);
    let found = observe(&mut engine).unwrap_or_else(|error| panic!("{context}: {error}"));
    let found = &found.streams["bulk"];
    let fits = around.iter().any(|truth| {
        let all = found.end == truth.end() && found.batches == truth.readable();
        let some = weak && truth.batches.iter().any(|one| one.0 == found.end);
        let real = |one: &(i64, i32, u32)| truth.batches.contains(one);
        all || (some || weak && found.end == truth.end()) && found.batches.iter().all(real)
    });
    assert!(
        fits,
        "{context}: {found:#?}\nallowed {:?}",
        around.each_ref().map(Truth::readable)
    );
    let odd = not_plain(&engine, crashed);
    assert!(odd.is_empty(), "{context}: {odd:?}");
}

fn crash_all_the_time(test: &'static str, durability: Durability) {
    let weak = !durability.is_fsync();
    let (mut count, mut histories) = (0, 0);
    let mut effort = Effort::new("F4", test, "crashes", 6);
    while let Some(seed) = effort.next_seed() {
        let fs = SimFs::new(seed);
        let mut dice = Dice::new(seed ^ 0x0EC7);
        let mut engine = recover(&fs).unwrap();
        let id = stream(&mut engine, "bulk", Durability::Fsync);
        let mut truth = Truth::default();
        fs.probe(1 + seed % 3);
        for step in 0..70 {
            let before = truth.clone();
            if weak && step == 30 {
                // From now on appends go unsynced into files that are laid out already.
                let mut settings = engine.streams[&id].settings.clone();
                settings.durability = durability;
                let (reply, mut receiver) = oneshot::channel();
                engine.control(vec![Control::Update {
                    id,
                    settings,
                    reply,
                }]);
                receiver.try_recv().unwrap().unwrap();
            }
            match dice.below(10) {
                0..=5 => {
                    let sizes = [BULK, BULK + 1700, 2 * BULK, 400];
                    let batches = batch(seed * 1000 + step, sizes[dice.below(4) as usize]);
                    truth = truth.joined(&batches);
                    append(&mut engine, id, batches).unwrap();
                }
                6 | 7 => {
                    let open = (truth.end() - truth.log_start) as u64;
                    truth.log_start += dice.below(open + 1) as i64;
                    trim(&mut engine, id, truth.log_start);
                }
                _ => checkpoint(&mut engine, &fs),
            }
            if dice.chance(40) {
                keep_house(&mut engine, &fs);
            }
            let around = [before, truth.clone()];
            for probe in fs.take_probes() {
                let cut = dice.roll();
                let context = format!("seed {seed}, step {step}, cut {cut}");
                let weak = weak && step >= 30;
                // Nothing whole may be left of what a file held before: then it looks like a torn write.
                let many = 2 * u64::from(SEGMENT_BYTES) * if weak { 9 } else { 1 };
                judge(&probe.power_cut(cut), &around, (many, weak), &context);
                let two = 2 * u64::from(SEGMENT_BYTES);
                judge(&probe.killed(), &around, (two, false), &context);
                effort.count(2);
            }
            // Without anything under way at most what is left in one file from the middle of a former batch on looks torn.
            let context = format!("seed {seed}, after step {step}");
            let now = [truth.clone(), truth.clone()];
            let one = u64::from(SEGMENT_BYTES);
            judge(&fs.killed(), &now, (one, false), &context);
        }
        count += recycled(&engine);
        histories += 1;
        effort.trace(fs.trace());
        keep_house(&mut engine, &fs);
        engine.close().unwrap();
        let odd = not_plain(&engine, &fs);
        assert!(odd.is_empty(), "seed {seed}, after a clean stop: {odd:?}");
    }
    effort.note(&format!("{count} recycled segments"));
    assert!(
        count > histories || histories < 6,
        "only {count} were recycled"
    );
}

#[test]
fn a_crash_never_brings_back_what_a_file_held_before() {
    let test = "recycling::a_crash_never_brings_back_what_a_file_held_before";
    crash_all_the_time(test, Durability::Fsync);
}

#[test]
fn nor_where_appends_are_acknowledged_unsynced() {
    let test = "recycling::nor_where_appends_are_acknowledged_unsynced";
    crash_all_the_time(test, Durability::Os);
}

#[test]
fn what_cannot_be_recycled_is_made_new() {
    let calls = {
        let fs = SimFs::new(1);
        let (mut engine, stream, tag) = about_to_recycle(&fs);
        let before = fs.calls();
        append(&mut engine, stream, batch(tag, BULK)).unwrap();
        assert_eq!(recycled(&engine), 1);
        before
    };
    // Opening the spare, renaming it, syncing the directory.
    for call in 1..=3 {
        let fs = SimFs::new(1);
        let (mut engine, stream, tag) = about_to_recycle(&fs);
        assert_eq!(fs.calls(), calls);
        fs.fail(Some(Plan {
            call: calls + call,
            failure: Failure::Errno(5),
            for_ever: false,
        }));
        append(&mut engine, stream, batch(tag, BULK)).unwrap();
        assert_eq!(recycled(&engine), 0, "call {call}");
        keep_house(&mut engine, &fs);
        let end = engine.streams[&stream].end;
        drop(engine);
        let engine = recover(&fs.power_cut(call)).unwrap();
        assert_eq!(engine.streams[&stream].end, end, "call {call}");
    }
}

#[test]
fn a_full_disk_takes_the_spare() {
    let fs = SimFs::new(2);
    let (mut engine, stream, _) = about_to_recycle(&fs);
    let other = self::stream(&mut engine, "other", Durability::Fsync);
    checkpoint(&mut engine, &fs);
    fs.set_space(fs.used() + 4096);
    let refused = append(&mut engine, other, batch(1, BULK)).unwrap_err();
    assert!(matches!(refused, CommitError::NoSpace(_)), "{refused}");
    keep_house(&mut engine, &fs);
    append(&mut engine, other, batch(1, BULK)).unwrap();
    // None is kept while it is short.
    engine.options.min_free_bytes = 1 << 20;
    engine.look_for_space();
    let view = engine.streams[&stream].state.view().segments.clone();
    trim(&mut engine, stream, view[0].end_offset());
    drop(view);
    checkpoint(&mut engine, &fs);
    let spare = |path: &std::path::PathBuf| path.extension().is_some_and(|end| end == "spare");
    assert!(!fs.files().iter().any(spare), "{:?}", fs.files());
}

#[test]
fn a_file_that_is_being_read_is_not_written_over() {
    let fs = SimFs::new(3);
    let mut engine = recover(&fs).unwrap();
    let stream = stream(&mut engine, "bulk", Durability::Fsync);
    for tag in 0..8 {
        append(&mut engine, stream, batch(tag, BULK)).unwrap();
    }
    let shared = engine.shared();
    let state = shared.stream(stream).unwrap();
    let reader = crate::read::StreamReader {
        stream: &state,
        fs: &fs,
        open: &shared.open_segments,
    };
    let plan = reader.plan(Offset(0), 1 << 20, true).unwrap();
    let bytes = plan.read_to_bytes().unwrap();
    trim(&mut engine, stream, 16);
    checkpoint(&mut engine, &fs);
    for tag in 8..16 {
        append(&mut engine, stream, batch(tag, BULK)).unwrap();
    }
    assert_eq!(recycled(&engine), 0);
    assert_eq!(plan.read_to_bytes().unwrap(), bytes);
    // The reader has gone: the next ones may.
    drop(plan);
    trim(&mut engine, stream, 32);
    checkpoint(&mut engine, &fs);
    for tag in 16..24 {
        append(&mut engine, stream, batch(tag, BULK)).unwrap();
    }
    assert_eq!(recycled(&engine), 1);
}

/// On real files: what looks at a killed log from outside, and what a clean stop leaves.
#[test]
fn tools_see_no_damage_in_a_recycled_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut its = options();
    its.dir = dir.path().join("log");
    let clock = Arc::new(crate::ManualClock::new(1_000_000));
    let (log, _) = crate::Log::open(its.clone(), Arc::new(crate::RealFs), clock).unwrap();
    let settings = StreamSettings {
        segment_bytes: SEGMENT_BYTES,
        ..StreamSettings::default()
    };
    let stream = log.create_stream("bulk", settings).wait().unwrap();
    let mut tag = 0;
    while log.housekeeping().recycled_segments.load(Ordering::Relaxed) == 0 {
        assert!(tag < 200, "nothing is recycled");
        let (stamp, batches) = (AppendStamp::AsStream, batch(tag, BULK));
        let append = Op::Append {
            stream,
            batches,
            stamp,
        };
        let log_start = Offset(2 * i64::try_from(tag).unwrap());
        log.commit_blocking(vec![append, Op::TrimTo { stream, log_start }])
            .unwrap();
        crate::queue::block_on(log.checkpoint()).unwrap();
        tag += 1;
    }
    // What the last checkpoint freed may go meanwhile.
    let mut copies = (0..100).map(|at| dir.path().join(format!("killed{at}")));
    let killed = copies.find(|to| copy(&its.dir, to).is_ok()).unwrap();
    log.close_blocking().unwrap();
    let notes = |dir: &std::path::Path| {
        let mut found = Vec::new();
        let verified = inspect::verify(dir, &mut |step| {
            if let inspect::VerifyStep::Found(finding) = step {
                found.push(finding);
            }
        });
        assert_eq!(verified.unwrap().errors, 0, "{found:?}");
        found
    };
    assert_eq!(notes(&its.dir), []);
    assert!(
        !notes(&killed).is_empty(),
        "the copy has nothing behind its end"
    );
    let (mut written, mut unwritten) = (0, 0);
    for path in files(&killed) {
        if path.extension().is_none_or(|end| end != "log") {
            continue;
        }
        inspect::walk_segment(&path, None, &mut |step| {
            match step {
                inspect::SegmentStep::Batch { bytes, .. } => written += bytes.len(),
                inspect::SegmentStep::Unwritten { bytes, .. } => unwritten += bytes,
                inspect::SegmentStep::Bad { what, .. } => panic!("{what}"),
            }
            true
        })
        .unwrap();
    }
    assert!(written > 0 && unwritten > 0, "{written}, {unwritten}");
    let report = repair(&killed, false).unwrap();
    assert_eq!(report.actions, [], "nothing is to be repaired");
}

fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => all.extend(files(&path)),
            false => all.push(path),
        }
    }
    all
}

fn copy(from: &std::path::Path, to: &std::path::Path) -> std::io::Result<()> {
    for path in files(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap())?;
        std::fs::copy(&path, &target)?;
    }
    Ok(())
}
