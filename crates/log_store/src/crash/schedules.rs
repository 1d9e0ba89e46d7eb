//! Concurrency: many orders of the log's threads and those of its users, on the simulated disk (faults.md, F27).
//!
//! The real commit thread, housekeeper, queue and published views run under a scheduler that lets one thread go on at a
//! time and switches at every lock, every wake-up and every call of the disk; half of the seeds choose at random, half
//! by priorities that change a few times (probabilistic concurrency testing), which finds rare orders. A wait that
//! nobody ends is a failure by itself. Time stands still: what waits for a time limit waits for ever.
//!
//! Each case takes copies of the disk while all this goes on, and starts the log on them: what had been answered when
//! the copy was taken must be there, and nothing else but what had been asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use flafka_kafka_wire::records::{self, BatchBuilder, BatchHeader, Compression};
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::Mutex;
use shuttle::thread::{self, JoinHandle};
use shuttle::{Config, Runner};

use super::driver::{options, recover};
use super::effort::Effort;
use super::model::Model;
use super::observe::observe;
use crate::clock::ManualClock;
use crate::error::{CommitError, ReadError};
use crate::log::Log;
use crate::op::{AppendStamp, Offset, Op, OpOutcome, StreamId};
use crate::queue::block_on;
use crate::settings::{Durability, StreamSettings};
use crate::sim_fs::SimFs;

/// Schedules tried for each seed.
const SCHEDULES: usize = 25;
/// How often the priorities of a schedule change.
const CHANGES: usize = 4;

/// Runs a case under the schedules of its seeds.
fn explore(id: &'static str, test: &'static str, case: fn()) {
    let mut effort = Effort::new(id, test, "schedules", 8).with_feature("shuttle");
    while let Some(seed) = effort.next_seed() {
        let mut config = Config::new();
        config.stack_size = 1 << 20;
        let tried = if seed % 2 == 0 {
            Runner::new(RandomScheduler::new_from_seed(seed, SCHEDULES), config).run(case)
        } else {
            let scheduler = PctScheduler::new_from_seed(seed, CHANGES, SCHEDULES);
            Runner::new(scheduler, config).run(case)
        };
        effort.count(tried as u64);
    }
}

/// An open log on a disk that lets others go on before each call.
struct Scene {
    fs: SimFs,
    log: Log,
}

impl Scene {
    fn open(queue_bytes: u64) -> Scene {
        let fs = SimFs::new(1);
        fs.before_each_call(thread::yield_now);
        let mut options = options();
        options.queue_bytes = queue_bytes;
        // Every few rounds the housekeeper writes a checkpoint meanwhile.
        options.checkpoint_journal_bytes = 2 * 1024;
        let clock = Arc::new(ManualClock::new(1_000_000));
        let (log, _) = Log::open(options, Arc::new(fs.clone()), clock).unwrap();
        Scene { fs, log }
    }

    fn create(&self, name: &str, durability: Durability, acked: bool) -> StreamId {
        let settings = StreamSettings {
            segment_bytes: 1024,
            durability,
            acked,
            ..StreamSettings::default()
        };
        block_on(self.log.create_stream(name, settings)).unwrap()
    }
}

fn batch(tag: u32, records: u32, size: usize) -> (Bytes, u32) {
    let mut builder = BatchBuilder::new(Compression::None);
    let key = tag.to_be_bytes();
    let value = vec![tag as u8; size];
    for _ in 0..records {
        builder
            .push(1, Some(&key), Some(&value), std::iter::empty())
            .unwrap();
    }
    let bytes = builder.finish().unwrap();
    let crc = BatchHeader::parse(&bytes).unwrap().crc;
    (bytes, crc)
}

fn append(stream: StreamId, batches: Bytes) -> Op {
    Op::Append {
        stream,
        batches,
        stamp: AppendStamp::AsStream,
    }
}

fn base_of(outcomes: &[OpOutcome]) -> i64 {
    match outcomes {
        [OpOutcome::Appended { base_offset, .. }] => base_offset.0,
        other => panic!("{other:?} for an append"),
    }
}

/// Lets the others go on, so often that no moment of a run is out of reach.
fn linger() {
    for _ in 0..thread_rng().gen_range(0..200) {
        thread::yield_now();
    }
}

fn join<T>(threads: Vec<JoinHandle<T>>) -> Vec<T> {
    threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect()
}

/// What a start on a copy of the disk shows.
fn start_on(copy: &SimFs) -> Model {
    let mut engine = recover(copy).unwrap_or_else(|error| panic!("{error}"));
    observe(&mut engine).unwrap_or_else(|error| panic!("{error}"))
}

/// Answered appends by stream and base offset, with the batch's checksum.
type Answered = BTreeMap<(&'static str, i64), u32>;

/// Everything answered is there at its offset, and everything there was sent, without a gap.
fn expect(found: &Model, answered: &Answered, sent: &BTreeSet<u32>) {
    for ((stream, base), crc) in answered {
        let batches = &found.streams[*stream].batches;
        let there = batches.iter().any(|one| (one.0, one.2) == (*base, *crc));
        assert!(
            there,
            "{stream} has no batch {crc:08x} at {base}: {found:#?}"
        );
    }
    for (name, stream) in &found.streams {
        let mut next = 0;
        for (base, count, crc) in &stream.batches {
            assert_eq!(*base, next, "{name}: {found:#?}");
            assert!(sent.contains(crc), "{name}: {crc:08x} was never sent");
            next += i64::from(*count);
        }
    }
}

const PUTTERS: u32 = 3;
const PUTS: u32 = 3;

fn puts_of(putter: u32) -> impl Iterator<Item = (Bytes, u32)> {
    (0..PUTS).map(move |put| {
        let tag = putter * 100 + put;
        batch(tag, 1 + tag % 3, 150 * (1 + tag as usize % 4))
    })
}

fn all_sent() -> BTreeSet<u32> {
    (0..PUTTERS).flat_map(puts_of).map(|(_, crc)| crc).collect()
}

/// Putters, a checkpoint and crashes at any moment: what was answered before a crash survives it.
fn answers_are_durable() {
    let Scene { fs, log } = Scene::open(2048);
    let scene = Scene {
        fs: fs.clone(),
        log: log.clone(),
    };
    let strong = scene.create("strong", Durability::Fsync, false);
    let weak = scene.create("weak", Durability::Os, false);
    drop(scene);
    let answered = Arc::new(Mutex::new(Answered::new()));
    let putters = (0..PUTTERS).map(|putter| {
        let (log, answered) = (log.clone(), Arc::clone(&answered));
        thread::spawn(move || {
            let (name, stream) =
                [("strong", strong), ("strong", strong), ("weak", weak)][putter as usize];
            for (batch, crc) in puts_of(putter) {
                let outcomes = log.commit_blocking(vec![append(stream, batch)]).unwrap();
                let base = base_of(&outcomes);
                let old = answered.lock().unwrap().insert((name, base), crc);
                assert_eq!(old, None, "{name} {base} was given twice");
                // Whoever has the answer can read it.
                assert!(log.bounds(stream).unwrap().high_watermark.0 > base);
            }
        })
    });
    let putters: Vec<_> = putters.collect();
    let checkpoint = {
        let log = log.clone();
        thread::spawn(move || {
            linger();
            block_on(log.checkpoint()).unwrap();
        })
    };
    let crashes = {
        let (fs, answered) = (fs.clone(), Arc::clone(&answered));
        thread::spawn(move || {
            linger();
            let known = answered.lock().unwrap().clone();
            let killed = fs.killed();
            let seed = thread_rng().r#gen();
            (known, killed, fs.power_cut(seed))
        })
    };
    join(putters);
    checkpoint.join().unwrap();
    let (known, killed, cut) = crashes.join().unwrap();
    let sent = all_sent();
    expect(&start_on(&killed), &known, &sent);
    let mut strong_alone = known;
    strong_alone.retain(|(stream, _), _| *stream == "strong");
    expect(&start_on(&cut), &strong_alone, &sent);
    log.close_blocking().unwrap();
    let answered = answered.lock().unwrap().clone();
    assert_eq!(answered.len() as u32, PUTTERS * PUTS);
    expect(&start_on(&fs.killed()), &answered, &sent);
}

/// Leases that commit out of order while checkpoints are written: an answered commit survives, and no offset counts as
/// delivered that nobody has committed.
fn commits_of_leases_meet_checkpoints() {
    const LEASES: i64 = 6;
    let scene = Scene::open(1 << 20);
    let channel = scene.create("channel", Durability::Fsync, true);
    for lease in 0..LEASES {
        let (batch, _) = batch(lease as u32, 2, 200);
        let outcomes = scene.log.commit_blocking(vec![append(channel, batch)]);
        outcomes.unwrap();
    }
    let begun = Arc::new(Mutex::new(BTreeSet::new()));
    let answered = Arc::new(Mutex::new(BTreeSet::new()));
    let takers = (0..3).map(|taker| {
        let (begun, answered) = (Arc::clone(&begun), Arc::clone(&answered));
        let log = scene.log.clone();
        thread::spawn(move || {
            // The later lease of a taker is committed first; the middle taker never commits its earlier one.
            for lease in [taker + 3, taker].into_iter().filter(|lease| *lease != 1) {
                begun.lock().unwrap().insert(lease);
                let ack = Op::Ack {
                    stream: channel,
                    first: Offset(lease * 2),
                    last: Offset(lease * 2 + 1),
                };
                log.commit_blocking(vec![ack]).unwrap();
                answered.lock().unwrap().insert(lease);
            }
        })
    });
    let takers: Vec<_> = takers.collect();
    let checkpoints = {
        let log = scene.log.clone();
        thread::spawn(move || {
            for _ in 0..2 {
                block_on(log.checkpoint()).unwrap();
            }
        })
    };
    linger();
    let known = answered.lock().unwrap().clone();
    let copies = [scene.fs.killed(), scene.fs.power_cut(thread_rng().r#gen())];
    let asked = begun.lock().unwrap().clone();
    join(takers);
    checkpoints.join().unwrap();
    for copy in &copies {
        expect_leases(&start_on(copy), &known, &asked);
    }
    scene.log.close_blocking().unwrap();
    let all = answered.lock().unwrap().clone();
    expect_leases(&start_on(&scene.fs.killed()), &all, &all);
}

/// `known` are delivered, and nothing but `asked`.
fn expect_leases(found: &Model, known: &BTreeSet<i64>, asked: &BTreeSet<i64>) {
    let stream = &found.streams["channel"];
    assert_eq!(stream.end, 12);
    for offset in 0..stream.end {
        let delivered = offset < stream.low || stream.acks.contains(&offset);
        let lease = offset / 2;
        if delivered {
            assert!(asked.contains(&lease), "{offset} is gone: {found:#?}");
        } else {
            assert!(!known.contains(&lease), "{offset} is back: {found:#?}");
            let there = |(base, count, _): &(i64, i32, u32)| {
                (*base..base + i64::from(*count)).contains(&offset)
            };
            assert!(stream.batches.iter().any(there), "{offset} is lost");
        }
    }
}

/// Putters that meet the end of the log: each is answered, and whoever hears "committed" finds it after the next start.
fn a_close_answers_everybody() {
    let Scene { fs, log } = Scene::open(2048);
    let scene = Scene {
        fs: fs.clone(),
        log: log.clone(),
    };
    let strong = scene.create("strong", Durability::Fsync, false);
    drop(scene);
    let putters = (0..PUTTERS).map(|putter| {
        let log = log.clone();
        thread::spawn(move || {
            let mut answered = Answered::new();
            for (batch, crc) in puts_of(putter) {
                match log.commit_blocking(vec![append(strong, batch)]) {
                    Ok(outcomes) => {
                        answered.insert(("strong", base_of(&outcomes)), crc);
                    }
                    Err(CommitError::Closed) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            answered
        })
    });
    let putters: Vec<_> = putters.collect();
    linger();
    log.close_blocking().unwrap();
    let mut answered = Answered::new();
    for mut of_one in join(putters) {
        answered.append(&mut of_one);
    }
    expect(&start_on(&fs.killed()), &answered, &all_sent());
}

/// A queue with room for one group, a commit that is given up while it waits, and ticks: nobody waits for ever, and
/// the room comes back whole.
fn room_comes_back() {
    let Scene { fs, log } = Scene::open(1024);
    let scene = Scene {
        fs: fs.clone(),
        log: log.clone(),
    };
    let strong = scene.create("strong", Durability::Fsync, false);
    drop(scene);
    let putters = (0..PUTTERS).map(|putter| {
        let log = log.clone();
        thread::spawn(move || {
            let mut answered = Answered::new();
            for (batch, crc) in puts_of(putter) {
                if putter == 2 {
                    give_up(&log, append(strong, batch));
                    continue;
                }
                let outcomes = log.commit_blocking(vec![append(strong, batch)]).unwrap();
                answered.insert(("strong", base_of(&outcomes)), crc);
            }
            answered
        })
    });
    let putters: Vec<_> = putters.collect();
    let ticks = {
        let log = log.clone();
        thread::spawn(move || {
            for _ in 0..3 {
                linger();
                log.tick();
            }
        })
    };
    let mut answered = Answered::new();
    for mut of_one in join(putters) {
        answered.append(&mut of_one);
    }
    ticks.join().unwrap();
    // A group as large as the queue gets in only when all room is back.
    let (last, crc) = batch(999, 1, 3000);
    let outcomes = log.commit_blocking(vec![append(strong, last)]).unwrap();
    answered.insert(("strong", base_of(&outcomes)), crc);
    log.close_blocking().unwrap();
    let mut sent = all_sent();
    sent.insert(crc);
    expect(&start_on(&fs.killed()), &answered, &sent);
}

/// Polls a commit once and drops it: before it is queued nothing happens, later it is committed all the same.
fn give_up(log: &Log, op: Op) {
    let mut commit = Box::pin(log.commit(vec![op]));
    let waker = std::task::Waker::noop();
    let polled = commit
        .as_mut()
        .poll(&mut std::task::Context::from_waker(waker));
    drop(polled);
    linger();
}

/// A reader beside appends, trims and the checkpoints that remove freed segments: it sees whole batches from the offset
/// it asked for, or that this is out of range.
fn a_reader_meets_trims() {
    let scene = Scene::open(1 << 20);
    let strong = scene.create("strong", Durability::Fsync, false);
    let put = |tag: u32| append(strong, batch(tag, 2, 400).0);
    for tag in 0..4 {
        scene.log.commit_blocking(vec![put(tag)]).unwrap();
    }
    let trimmer = {
        let log = scene.log.clone();
        thread::spawn(move || {
            for (tag, log_start) in [(4, 3), (5, 8)] {
                let append = append(strong, batch(tag, 2, 400).0);
                log.commit_blocking(vec![append]).unwrap();
                let trim = Op::TrimTo {
                    stream: strong,
                    log_start: Offset(log_start),
                };
                log.commit_blocking(vec![trim]).unwrap();
                block_on(log.checkpoint()).unwrap();
            }
        })
    };
    let mut from = 0;
    while from < 12 {
        match read(&scene.log, strong, from) {
            Ok(next) => from = next,
            Err(ReadError::OutOfRange { log_start, .. }) => {
                assert!(log_start.0 > from, "{from} is not out of range");
                from = log_start.0;
            }
            Err(error) => panic!("at {from}: {error}"),
        }
        thread::yield_now();
    }
    trimmer.join().unwrap();
    scene.log.close_blocking().unwrap();
}

/// Reads what is there from an offset and says where to go on.
fn read(log: &Log, stream: StreamId, from: i64) -> Result<i64, ReadError> {
    let plan = log.read(stream, Offset(from), 1500, true)?;
    let watermark = plan.high_watermark.0;
    let bytes = plan.read_to_bytes().unwrap();
    let mut next = from;
    for batch in records::batches(&bytes) {
        let (header, batch) = batch.unwrap();
        records::verify(batch).unwrap();
        assert!(header.base_offset <= next && header.last_offset() >= next);
        next = header.last_offset() + 1;
        assert!(next <= watermark, "a reader saw what is not published");
    }
    Ok(next)
}

#[test]
fn answers_are_durable_in_any_order() {
    let test = "schedules::answers_are_durable_in_any_order";
    explore("F27", test, answers_are_durable);
}

#[test]
fn commits_of_leases_meet_checkpoints_in_any_order() {
    let test = "schedules::commits_of_leases_meet_checkpoints_in_any_order";
    explore("F27", test, commits_of_leases_meet_checkpoints);
}

#[test]
fn a_close_answers_everybody_in_any_order() {
    let test = "schedules::a_close_answers_everybody_in_any_order";
    explore("F27", test, a_close_answers_everybody);
}

#[test]
fn room_comes_back_in_any_order() {
    let test = "schedules::room_comes_back_in_any_order";
    explore("F27", test, room_comes_back);
}

#[test]
fn a_reader_meets_trims_in_any_order() {
    let test = "schedules::a_reader_meets_trims_in_any_order";
    explore("F27", test, a_reader_meets_trims);
}
