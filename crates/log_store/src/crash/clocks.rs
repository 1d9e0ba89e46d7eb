//! F14: the wall clock jumps to and fro, stops and returns, while segments grow old, and the log is restarted in between.
//! Order never depends on it; retention and the closing of segments do exactly what the records' times and the clock of
//! the moment say, neither more nor less.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use flafka_kafka_wire::records::{BatchBuilder, Compression};
use tokio::sync::oneshot;

use super::effort::Effort;
use crate::clock::{Clock, ManualClock};
use crate::engine::Engine;
use crate::op::{AppendStamp, Op, OpOutcome, StreamId};
use crate::prepare::prepare;
use crate::queue::{CommitRequest, Control, Reply};
use crate::settings::{LogOptions, StreamSettings, TimestampType};
use crate::sim_fs::{Dice, SimFs};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// What a stream keeps, and how old a segment gets.
const KEEP_MS: i64 = HOUR_MS;
const AGE_MS: i64 = HOUR_MS / 6;
const SEGMENT_BYTES: u32 = 4096;
const STEPS: usize = 120;

/// A time to begin with: 2026.
const NOW_MS: i64 = 1_780_000_000_000;

/// What is known of a segment; each record has one offset.
#[derive(Debug, Clone)]
struct Known {
    base: i64,
    times: Vec<i64>,
    bytes: u64,
}

struct Stream {
    id: StreamId,
    stamped: bool,
    log_start: i64,
    end: i64,
    segments: Vec<Known>,
    /// Something came since the last pass.
    touched: bool,
    /// The newest segment is closed by its age.
    quiet: bool,
}

struct World {
    fs: SimFs,
    clock: Arc<ManualClock>,
    engine: Engine,
    streams: Vec<Stream>,
}

fn batch(now_ms: i64) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    let value = [b'v'; 300];
    builder
        .push(now_ms, None, Some(&value), std::iter::empty())
        .unwrap();
    builder.finish().unwrap()
}

fn open(fs: &SimFs, clock: &Arc<ManualClock>) -> Engine {
    let mut options = LogOptions::new("/log");
    options.journal_file_bytes = 64 * 1024;
    options.min_free_bytes = 0;
    options.retention_check_interval = Duration::from_secs(1);
    let clock = Arc::clone(clock);
    Engine::open(options, Arc::new(fs.clone()), clock)
        .unwrap()
        .0
}

impl World {
    fn new(seed: u64) -> World {
        let fs = SimFs::new(seed);
        let clock = Arc::new(ManualClock::new(NOW_MS));
        let mut engine = open(&fs, &clock);
        let mut create = |name: &str, timestamp_type| {
            let settings = StreamSettings {
                segment_bytes: SEGMENT_BYTES,
                segment_age: Some(Duration::from_millis(AGE_MS as u64)),
                retention: Some(Duration::from_millis(KEEP_MS as u64)),
                timestamp_type,
                ..StreamSettings::default()
            };
            let (reply, mut answer) = oneshot::channel();
            engine.control(vec![Control::Create {
                name: name.to_owned(),
                settings,
                reply,
            }]);
            Stream {
                id: answer.try_recv().unwrap().unwrap(),
                stamped: timestamp_type == TimestampType::LogAppendTime,
                log_start: 0,
                end: 0,
                segments: Vec::new(),
                touched: false,
                quiet: false,
            }
        };
        let streams = vec![
            create("created", TimestampType::CreateTime),
            create("stamped", TimestampType::LogAppendTime),
        ];
        World {
            fs,
            clock,
            engine,
            streams,
        }
    }

    fn append(&mut self, at: usize, context: &str) {
        let now = self.clock.now_ms();
        let stream = &mut self.streams[at];
        // The log's own stamp wins over a wrong clock of the client.
        let batch = batch(if stream.stamped { 7 } else { now });
        let bytes = batch.len() as u64;
        let op = Op::Append {
            stream: stream.id,
            batches: batch,
            stamp: AppendStamp::AsStream,
        };
        let (ops, group_bytes) = prepare(vec![op], false).unwrap();
        let (reply, mut answer) = oneshot::channel();
        self.engine.round(vec![CommitRequest {
            ops,
            bytes: group_bytes,
            reply: Reply::All(reply),
            permit: None,
        }]);
        let outcome = answer.try_recv().unwrap().unwrap()[0];
        let OpOutcome::Appended { base_offset, .. } = outcome else {
            panic!("{context}: {outcome:?}")
        };
        assert_eq!(base_offset.0, stream.end, "{context}: offsets go on");
        stream.end += 1;
        stream.touched = true;
        let joins = stream.segments.last().is_some_and(|last| {
            let full = last.bytes + bytes > u64::from(SEGMENT_BYTES);
            let old = now.saturating_sub(last.times[0]) > AGE_MS;
            !full && !old && !stream.quiet
        });
        stream.quiet = false;
        if joins && let Some(last) = stream.segments.last_mut() {
            last.times.push(now);
            last.bytes += bytes;
        } else {
            stream.segments.push(Known {
                base: base_offset.0,
                times: vec![now],
                bytes,
            });
        }
    }

    /// Lets the log's own clock go on and does what is due.
    fn tick(&mut self) {
        self.clock.advance(Duration::from_secs(2));
        self.engine.tick();
        self.work();
        let now = self.clock.now_ms();
        for stream in &mut self.streams {
            let touched = std::mem::take(&mut stream.touched);
            let newest = |known: &Known| known.times.iter().copied().max().unwrap_or(i64::MIN);
            if let Some(last) = stream.segments.last() {
                let old = now.saturating_sub(newest(last)) > AGE_MS;
                stream.quiet |= !touched && old;
            }
            let young = |known: &Known| now.saturating_sub(newest(known)) <= KEEP_MS;
            let kept = stream.segments.iter().position(young);
            let freed = kept.unwrap_or(stream.segments.len());
            let gone: Vec<Known> = stream.segments.drain(..freed).collect();
            if let Some(last) = gone.last() {
                stream.log_start = last.base + last.times.len() as i64;
            }
            if stream.segments.is_empty() {
                stream.quiet = false;
            }
        }
    }

    fn work(&mut self) {
        loop {
            let jobs = self.engine.take_jobs();
            if jobs.is_empty() {
                return;
            }
            for job in jobs {
                let done = job.run(&self.fs);
                self.engine.job_done(done);
            }
        }
    }

    fn restart(&mut self) {
        let killed = self.fs.killed();
        self.engine = open(&killed, &self.clock);
        self.fs = killed;
        for stream in &mut self.streams {
            // A start does not know what was quiet: it looks again.
            stream.touched = true;
            stream.quiet = false;
        }
    }

    fn check(&self, context: &str) {
        for stream in &self.streams {
            let state = self.engine.shared().stream(stream.id).unwrap();
            let view = state.view();
            let found: Vec<(i64, i64)> = view
                .segments
                .iter()
                .map(|segment| (segment.base_offset, segment.end_offset()))
                .collect();
            let expected: Vec<(i64, i64)> = stream
                .segments
                .iter()
                .map(|known| (known.base, known.base + known.times.len() as i64))
                .collect();
            assert_eq!(found, expected, "{context}: segments of {:?}", state.name);
            assert_eq!(view.log_start.0, stream.log_start, "{context}: log start");
            assert_eq!(view.high_watermark.0, stream.end, "{context}: end");
        }
    }
}

/// F14: histories with jumps, judged segment by segment.
#[test]
fn a_clock_that_jumps_moves_nothing_but_what_time_decides() {
    let test = "clocks::a_clock_that_jumps_moves_nothing_but_what_time_decides";
    let mut effort = Effort::new("F14", test, "jumps", 20);
    let (mut freed, mut closed) = (0, 0);
    while let Some(seed) = effort.next_seed() {
        let mut dice = Dice::new(seed);
        let mut world = World::new(seed);
        for step in 0..STEPS {
            let context = format!("seed {seed}, step {step}");
            match dice.below(10) {
                0..=4 => {
                    let at = dice.below(2) as usize;
                    world.append(at, &context);
                }
                5 => world.restart(),
                6 => {
                    let to = match dice.below(9) {
                        0 => world.clock.now_ms() + HOUR_MS,
                        1 => world.clock.now_ms() - HOUR_MS,
                        2 => world.clock.now_ms() + DAY_MS,
                        3 => world.clock.now_ms() - DAY_MS,
                        // 1970, 2038 and a leap second's neighbourhood.
                        4 => DAY_MS,
                        5 => 2_147_483_647_000,
                        6 => 1_483_228_799_999,
                        _ => NOW_MS,
                    };
                    // The system's clock never shows a time before 1970.
                    world.clock.set_wall(to.max(0));
                    effort.count(1);
                }
                7 => {
                    // Time passes as it should.
                    let by = dice.below(AGE_MS as u64 * 2);
                    world.clock.advance(Duration::from_millis(by));
                }
                _ => world.tick(),
            }
            world.check(&context);
        }
        let counters = &world.engine.shared().housekeeping;
        freed += counters.retention_segments.load(Ordering::Relaxed);
        closed += world.streams.iter().filter(|stream| stream.quiet).count();
    }
    effort.note(&format!(
        "{freed} segments freed, {closed} closed by age at the end"
    ));
    assert!(freed > 0, "nothing ever grew old");
}

/// A checkpoint forgets idempotent producers that were silent for a day; somebody who sets the clock makes no day.
#[test]
fn a_jump_makes_nobody_forget_a_producer() {
    let mut world = World::new(1);
    let stream = world.streams[0].id;
    let sent = |sequence: i32| {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.set_producer(7, 0, sequence);
        builder
            .push(NOW_MS, None, Some(b"v"), std::iter::empty())
            .unwrap();
        Op::Append {
            stream,
            batches: builder.finish().unwrap(),
            stamp: AppendStamp::CreateTime,
        }
    };
    let commit = |world: &mut World, op: Op| {
        let (ops, bytes) = prepare(vec![op], false).unwrap();
        let (reply, mut answer) = oneshot::channel();
        world.engine.round(vec![CommitRequest {
            ops,
            bytes,
            reply: Reply::All(reply),
            permit: None,
        }]);
        answer.try_recv().unwrap().unwrap()[0]
    };
    let checkpoint = |world: &mut World| {
        world.engine.start_checkpoint();
        world.work();
    };
    for sequence in 0..3 {
        commit(&mut world, sent(sequence));
    }
    for to in [NOW_MS + 3 * DAY_MS, DAY_MS, 2_147_483_647_000, NOW_MS] {
        world.clock.set_wall(to);
        checkpoint(&mut world);
        let again = commit(&mut world, sent(2));
        assert!(
            matches!(again, OpOutcome::Duplicate { .. }),
            "at {to}: {again:?}"
        );
    }
    world.clock.advance(Duration::from_secs(25 * 3600));
    checkpoint(&mut world);
    let later = commit(&mut world, sent(9));
    assert!(
        matches!(later, OpOutcome::Appended { .. }),
        "after a day of silence any sequence may come: {later:?}"
    );
}
