//! Compaction against a model: of each key the newest record, tombstones until their time, and what a restart finds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flafka_kafka_wire::records::{self, BatchBuilder, BatchHeader, Compression};
use tempfile::TempDir;

use crate::clock::ManualClock;
use crate::engine::Engine;
use crate::error::IoFault;
use crate::fs::RealFs;
use crate::jobs::{Job, JobDone};
use crate::op::{AppendStamp, Offset, Op, OpOutcome, StreamId};
use crate::prepare::prepare;
use crate::queue::{CommitRequest, Control, Reply, block_on};
use crate::read::StreamReader;
use crate::settings::{Compaction, LogOptions, StreamSettings};
use crate::{Log, ReadPlan};

const PATIENCE: Duration = Duration::from_secs(60);

/// An engine that is driven by hand, on a real directory.
struct Bench {
    dir: TempDir,
    clock: Arc<ManualClock>,
    engine: Option<Engine>,
    buffer_bytes: u64,
}

type Found = (i64, String, Option<String>);

fn settings(change: impl FnOnce(&mut Compaction)) -> StreamSettings {
    let mut compaction = Compaction {
        min_dirty_ppm: 0,
        ..Compaction::default()
    };
    change(&mut compaction);
    StreamSettings {
        segment_bytes: 1024,
        compaction: Some(compaction),
        ..StreamSettings::default()
    }
}

impl Bench {
    fn new(buffer_bytes: u64) -> Bench {
        let mut bench = Bench {
            dir: tempfile::tempdir().unwrap(),
            clock: Arc::new(ManualClock::new(1_700_000_000_000)),
            engine: None,
            buffer_bytes,
        };
        bench.restart();
        bench
    }

    fn options(&self) -> LogOptions {
        LogOptions {
            journal_file_bytes: 256 << 10,
            compaction_buffer_bytes: self.buffer_bytes,
            min_free_bytes: 0,
            ..LogOptions::new(self.dir.path())
        }
    }

    /// As after a crash of the process.
    fn restart(&mut self) {
        self.engine = None;
        let (engine, report) =
            Engine::open(self.options(), Arc::new(RealFs), self.clock.clone()).unwrap();
        assert!(report.set_aside.is_empty(), "{report:?}");
        self.engine = Some(engine);
    }

    fn engine(&mut self) -> &mut Engine {
        self.engine.as_mut().unwrap()
    }

    fn create(&mut self, settings: StreamSettings) -> StreamId {
        let (reply, mut answer) = tokio::sync::oneshot::channel();
        self.engine().control(vec![Control::Create {
            name: "topic/t/0".to_owned(),
            settings,
            reply,
        }]);
        answer.try_recv().unwrap().unwrap()
    }

    fn commit(&mut self, op: Op) -> OpOutcome {
        let (ops, bytes) = prepare(vec![op], false).unwrap();
        let (reply, mut answer) = tokio::sync::oneshot::channel();
        self.engine().round(vec![CommitRequest {
            ops,
            bytes,
            reply: Reply::All(reply),
            permit: None,
        }]);
        answer.try_recv().unwrap().unwrap()[0]
    }

    fn append(&mut self, stream: StreamId, batch: Bytes) -> OpOutcome {
        self.commit(Op::Append {
            stream,
            batches: batch,
            stamp: AppendStamp::CreateTime,
        })
    }

    fn put(&mut self, stream: StreamId, pairs: &[(&str, Option<&str>)]) {
        let now = self.now_ms();
        self.append(stream, batch(Compression::None, now, pairs));
    }

    fn now_ms(&self) -> i64 {
        crate::clock::Clock::now_ms(&*self.clock)
    }

    /// Lets time pass and runs all that follows; says how many passes were finished.
    fn compact(&mut self) -> u64 {
        let before = self.passes();
        self.clock.advance(Duration::from_secs(20));
        self.engine().tick();
        self.work();
        self.passes() - before
    }

    fn work(&mut self) {
        loop {
            let jobs = self.engine().take_jobs();
            if jobs.is_empty() {
                return;
            }
            for job in jobs {
                let again = matches!(job, Job::Compact(_));
                let done = job.run(&RealFs);
                self.engine().job_done(done);
                if again {
                    self.engine().tick();
                }
            }
        }
    }

    fn passes(&mut self) -> u64 {
        let shared = self.engine().shared();
        shared
            .housekeeping
            .compaction_passes
            .load(Ordering::Relaxed)
    }

    fn read(&mut self, stream: StreamId, from: i64) -> ReadPlan {
        let shared = self.engine().shared();
        let state = shared.stream(stream).unwrap();
        let reader = StreamReader {
            stream: &state,
            fs: &*shared.fs,
            open: &shared.open_segments,
        };
        reader.plan(Offset(from), 3000, true).unwrap()
    }

    fn headers(&mut self, stream: StreamId) -> Vec<BatchHeader> {
        self.walk(stream)
            .into_iter()
            .map(|(header, _)| header)
            .collect()
    }

    /// Every record there is.
    fn all(&mut self, stream: StreamId) -> Vec<Found> {
        self.walk(stream)
            .into_iter()
            .flat_map(|(_, found)| found)
            .collect()
    }

    /// Reads batch by batch as a consumer would, over all gaps.
    fn walk(&mut self, stream: StreamId) -> Vec<(BatchHeader, Vec<Found>)> {
        let mut all = Vec::new();
        let mut from = self.read_start(stream);
        loop {
            let plan = self.read(stream, from);
            let bytes = plan.read_to_bytes().unwrap();
            if bytes.is_empty() {
                assert!(
                    plan.reaches_end,
                    "an empty read at {from} that does not reach the end"
                );
                return all;
            }
            for batch in records::batches(&bytes) {
                let (header, batch) = batch.unwrap();
                records::verify(batch).unwrap();
                assert!(header.last_offset() >= from);
                from = header.last_offset() + 1;
                all.push((header, found(&header, batch)));
            }
        }
    }

    fn read_start(&mut self, stream: StreamId) -> i64 {
        let shared = self.engine().shared();
        let state = shared.stream(stream).unwrap();
        state.view().log_start.0
    }

    fn logs(&self) -> usize {
        let files = self.files();
        files.iter().filter(|name| name.ends_with(".log")).count()
    }

    fn files(&self) -> Vec<String> {
        names(&self.dir.path().join("log"))
    }
}

fn names(dir: &Path) -> Vec<String> {
    let mut all = Vec::new();
    let mut folders: Vec<PathBuf> = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                all.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
    }
    all.sort();
    all
}

fn found(header: &BatchHeader, batch: &[u8]) -> Vec<Found> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut scratch = Vec::new();
    records::records(header, batch, &mut scratch, 1 << 20)
        .unwrap()
        .map(|record| {
            let record = record.unwrap();
            (
                record.offset,
                record.key.map(text).unwrap_or_default(),
                record.value.map(text),
            )
        })
        .collect()
}

fn batch(codec: Compression, now_ms: i64, pairs: &[(&str, Option<&str>)]) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    fill(&mut builder, now_ms, pairs);
    builder.finish().unwrap()
}

fn fill(builder: &mut BatchBuilder, now_ms: i64, pairs: &[(&str, Option<&str>)]) {
    for (key, value) in pairs {
        let key = (!key.is_empty()).then_some(key.as_bytes());
        let value = value.map(str::as_bytes);
        builder
            .push(now_ms, key, value, std::iter::empty())
            .unwrap();
    }
}

/// Of each key the newest of `records`.
fn newest(records: &[Found]) -> BTreeMap<String, (i64, Option<String>)> {
    let pairs = records.iter().cloned();
    pairs
        .map(|(offset, key, value)| (key, (offset, value)))
        .collect()
}

#[test]
fn of_each_key_the_newest_stays_in_every_codec_and_after_a_restart() {
    let mut bench = Bench::new(1 << 20);
    let stream = bench.create(settings(|_| {}));
    let mut written = Vec::new();
    for round in 0..40 {
        let codec = Compression::ALL[round % 5];
        let pairs: Vec<(String, String)> = (0..4)
            .map(|n| {
                (
                    format!("k{}", (round * 3 + n * 7) % 13),
                    format!("v{round}.{n} {}", "x".repeat(40)),
                )
            })
            .collect();
        let pairs: Vec<(&str, Option<&str>)> =
            pairs.iter().map(|(k, v)| (&**k, Some(&**v))).collect();
        let now = bench.now_ms();
        bench.append(stream, batch(codec, now, &pairs));
        for (n, (key, value)) in pairs.iter().enumerate() {
            let offset = (round * 4 + n) as i64;
            written.push((offset, (*key).to_owned(), value.map(str::to_owned)));
        }
    }
    assert_eq!(bench.all(stream), written);
    let before = bench.logs();
    assert_eq!(bench.compact(), 1);
    let after = bench.all(stream);
    assert_eq!(newest(&after), newest(&written));
    assert!(after.len() < 40, "{} of 160 records are left", after.len());
    assert!(
        after.iter().all(|record| written.contains(record)),
        "nothing is made up"
    );
    bench.restart();
    assert_eq!(bench.all(stream), after);
    assert_eq!(bench.engine().streams[&stream].end, 160);
    bench.engine().start_checkpoint();
    bench.work();
    bench.restart();
    assert_eq!(bench.all(stream), after);
    assert!(bench.logs() < before, "{:?}", bench.files());
    // What was compacted is not dirty; more of the same is.
    assert_eq!(bench.compact(), 0);
    for _ in 0..20 {
        bench.put(
            stream,
            &[("k1", Some("again")), ("k2", Some(&"y".repeat(200)))],
        );
    }
    assert_eq!(bench.compact(), 1);
    let last = bench.all(stream);
    assert!(last.len() < after.len() + 20, "{}", last.len());
    assert_eq!(newest(&last)["k1"].0, 198);
}

#[test]
fn tombstones_stay_for_their_time_and_then_go() {
    let mut bench = Bench::new(1 << 20);
    let stream = bench.create(settings(|one| {
        one.tombstone_retention = Duration::from_secs(100)
    }));
    bench.put(stream, &[("a", Some("1")), ("b", Some("1"))]);
    bench.put(stream, &[("a", None)]);
    let fill = |bench: &mut Bench| {
        let large = "z".repeat(600);
        for _ in 0..3 {
            bench.put(stream, &[("fill", Some(&large))]);
        }
    };
    fill(&mut bench);
    assert_eq!(bench.compact(), 1);
    let horizon = bench.now_ms() + 100_000;
    let all = bench.all(stream);
    assert_eq!(
        all[..2],
        [
            (1, "b".to_owned(), Some("1".to_owned())),
            (2, "a".to_owned(), None)
        ]
    );
    let with_horizon: Vec<BatchHeader> = bench
        .headers(stream)
        .into_iter()
        .filter(|header| header.attributes.has_delete_horizon())
        .collect();
    assert_eq!(with_horizon.len(), 1);
    assert_eq!(
        (with_horizon[0].base_offset, with_horizon[0].base_timestamp),
        (2, horizon)
    );
    assert_eq!(
        with_horizon[0].max_timestamp, 1_700_000_000_000,
        "the record's own time stays"
    );
    // Before the horizon a pass keeps it, and the horizon.
    fill(&mut bench);
    assert_eq!(bench.compact(), 1);
    assert!(bench.all(stream).contains(&(2, "a".to_owned(), None)));
    bench.clock.advance(Duration::from_secs(100));
    fill(&mut bench);
    assert_eq!(bench.compact(), 1);
    assert!(!bench.all(stream).iter().any(|record| record.1 == "a"));
    assert!(bench.all(stream).iter().any(|record| record.1 == "b"));
}

#[test]
fn more_keys_than_memory_take_more_passes() {
    // Room for 57 keys.
    let mut bench = Bench::new(0);
    let stream = bench.create(settings(|_| {}));
    let mut written = Vec::new();
    for round in 0..3 {
        for key in 0..200 {
            let (key, value) = (format!("key{key}"), format!("{round}"));
            bench.put(stream, &[(&key, Some(&value))]);
            written.push((written.len() as i64, key, Some(value)));
        }
    }
    let mut passes = 0;
    loop {
        match bench.compact() {
            0 => break,
            more => passes += more,
        }
    }
    assert!(passes > 5, "{passes} passes");
    let all = bench.all(stream);
    assert_eq!(newest(&all), newest(&written));
    assert!(all.len() < 230, "{} records for 200 keys", all.len());
    bench.restart();
    assert_eq!(bench.all(stream), all);
    assert_eq!(bench.compact(), 0);
}

#[test]
fn the_last_batch_of_a_producer_and_control_batches_stay() {
    let mut bench = Bench::new(1 << 20);
    let stream = bench.create(settings(|_| {}));
    let idempotent = |sequence, key: &str, now| {
        let mut builder = BatchBuilder::new(Compression::Lz4);
        builder.set_producer(77, 3, sequence);
        fill(&mut builder, now, &[(key, Some("p"))]);
        builder.finish().unwrap()
    };
    let now = bench.now_ms();
    for sequence in 0..3 {
        bench.append(stream, idempotent(sequence, "k", now));
    }
    let mut marker = BatchBuilder::new(Compression::None);
    marker.set_transactional(true, true);
    marker
        .push(now, Some(&[0, 0, 0, 1]), Some(&[0; 6]), std::iter::empty())
        .unwrap();
    bench.append(stream, marker.finish().unwrap());
    for n in 0..30 {
        bench.put(
            stream,
            &[("k", Some(&n.to_string())), ("", Some("without a key"))],
        );
    }
    assert_eq!(bench.compact(), 1);
    let headers = bench.headers(stream);
    let empty = headers
        .iter()
        .find(|header| header.record_count == 0)
        .unwrap();
    assert_eq!(
        (empty.base_offset, empty.producer_id, empty.base_sequence),
        (2, 77, 2)
    );
    assert!(headers.iter().any(|header| header.attributes.is_control()));
    let sealed_end = {
        let view = bench.engine().streams[&stream].state.view();
        view.segments.last().unwrap().base_offset
    };
    assert!(
        bench
            .walk(stream)
            .iter()
            .all(|(header, found)| header.base_offset >= sealed_end
                || found.iter().all(|record| !record.1.is_empty())),
        "records without a key go"
    );
    for restart in [false, true] {
        if restart {
            bench.restart();
        }
        let again = bench.append(stream, idempotent(2, "k", now));
        assert!(
            matches!(
                again,
                OpOutcome::Duplicate {
                    base_offset: Offset(2),
                    ..
                }
            ),
            "{again:?}"
        );
    }
    let next = bench.append(stream, idempotent(3, "k", now));
    assert!(matches!(next, OpOutcome::Appended { .. }), "{next:?}");
}

#[test]
fn young_records_wait_and_old_ones_do_not() {
    let mut bench = Bench::new(1 << 20);
    let lags = |one: &mut Compaction| {
        one.min_dirty_ppm = 1_000_000;
        one.min_lag = Duration::from_secs(60);
        one.max_lag = Some(Duration::from_secs(600));
    };
    let stream = bench.create(settings(lags));
    let large = "z".repeat(300);
    for _ in 0..20 {
        bench.put(stream, &[("k", Some(&large))]);
    }
    assert_eq!(bench.compact(), 0, "younger than the least lag");
    bench.clock.advance(Duration::from_secs(60));
    assert_eq!(bench.compact(), 0, "not dirty enough");
    bench.clock.advance(Duration::from_secs(600));
    // The first look closes the segment that nothing was added to, the next one takes it too.
    bench.compact();
    bench.clock.advance(Duration::from_secs(60));
    bench.compact();
    assert_eq!(bench.all(stream).len(), 1, "the newest of the one key");
    // And offsets go on behind the gap.
    bench.put(stream, &[("k", Some("next"))]);
    assert_eq!(bench.all(stream).last().unwrap().0, 20);
}

#[test]
fn freed_or_deleted_meanwhile_a_pass_is_given_up() {
    let mut bench = Bench::new(1 << 20);
    let stream = bench.create(settings(|_| {}));
    let large = "z".repeat(300);
    let fill = |bench: &mut Bench| {
        for _ in 0..20 {
            bench.put(stream, &[("k", Some(&large))]);
        }
    };
    fill(&mut bench);
    let step = |bench: &mut Bench| -> JobDone {
        bench.clock.advance(Duration::from_secs(20));
        bench.engine().tick();
        let mut jobs = bench.engine().take_jobs();
        let at = jobs
            .iter()
            .position(|job| matches!(job, Job::Compact(_)))
            .unwrap();
        let job = jobs.remove(at);
        for other in jobs {
            let done = other.run(&RealFs);
            bench.engine().job_done(done);
        }
        job.run(&RealFs)
    };
    let done = step(&mut bench);
    bench.commit(Op::TrimTo {
        stream,
        log_start: Offset(18),
    });
    bench.engine().job_done(done);
    bench.work();
    assert_eq!(bench.all(stream).first().unwrap().0, 18);
    fill(&mut bench);
    let done = step(&mut bench);
    let (reply, _answer) = tokio::sync::oneshot::channel();
    bench
        .engine()
        .control(vec![Control::Delete { id: stream, reply }]);
    bench.work();
    bench.engine().job_done(done);
    bench.work();
    assert_eq!(bench.files(), [] as [String; 0]);
    bench.restart();
}

#[test]
fn a_reader_with_an_open_plan_reads_on() {
    let mut bench = Bench::new(1 << 20);
    let stream = bench.create(settings(|_| {}));
    for n in 0..40 {
        bench.put(stream, &[("k", Some(&format!("{n} {}", "q".repeat(100))))]);
    }
    let plan = bench.read(stream, 0);
    let before = plan.read_to_bytes().unwrap();
    assert_eq!(bench.compact(), 1);
    bench.engine().start_checkpoint();
    bench.work();
    assert_eq!(plan.read_to_bytes().unwrap(), before);
    assert!(bench.all(stream).len() < 20);
}

/// The same through the log's own threads, while it is written to and read.
#[test]
fn the_threads_compact_beside_writes_and_reads() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions {
        compaction_pause: Duration::from_millis(1),
        min_free_bytes: 0,
        ..LogOptions::new(dir.path())
    };
    let clock = Arc::new(crate::SystemClock::new());
    let (log, _) = Log::open(options, Arc::new(RealFs), clock).unwrap();
    let stream = log
        .create_stream("topic/t/0", settings(|_| {}))
        .wait()
        .unwrap();
    let done = || log.housekeeping().compaction_passes.load(Ordering::Relaxed);
    let started = Instant::now();
    let mut written = 0;
    while done() < 3 {
        assert!(started.elapsed() < PATIENCE, "{} passes", done());
        let key = format!("k{}", written % 10);
        let value = format!("{written} {}", "w".repeat(100));
        let batches = batch(Compression::None, written, &[(&key, Some(&value))]);
        log.commit_blocking(vec![Op::Append {
            stream,
            batches,
            stamp: AppendStamp::CreateTime,
        }])
        .unwrap();
        written += 1;
        let mut from = Offset(0);
        let mut keys = BTreeMap::new();
        while from.0 < written {
            let plan = log.read(stream, from, 1 << 20, true).unwrap();
            let bytes = plan.read_to_bytes().unwrap();
            for batch in records::batches(&bytes) {
                let (header, batch) = batch.unwrap();
                for (offset, key, _) in found(&header, batch) {
                    keys.insert(key, offset);
                }
                from = Offset(header.last_offset() + 1);
            }
            assert!(!bytes.is_empty(), "the segment that grows is not empty");
        }
        for back in 0..written.min(10) {
            let offset = written - 1 - back;
            assert_eq!(keys[&format!("k{}", offset % 10)], offset);
        }
    }
    block_on(log.close()).unwrap();
}

/// What compaction wrote was synced before the journal named it: mending after a failed sync has nothing to save there.
#[test]
fn mending_leaves_compacted_segments_alone() {
    let mut bench = Bench::new(1 << 20);
    let stream = bench.create(settings(|_| {}));
    for n in 0..40 {
        bench.put(stream, &[("k", Some(&format!("{n} {}", "q".repeat(100))))]);
    }
    assert_eq!(bench.compact(), 1);
    for round in 0..3 {
        match round {
            0 => {}
            // From the switch in the journal, then from a checkpoint.
            1 => bench.restart(),
            _ => {
                bench.engine().start_checkpoint();
                bench.work();
                bench.restart();
            }
        }
        // The segment that grows has what only the journal has synced.
        bench.put(stream, &[("other", Some("r"))]);
        let before = bench.all(stream);
        let segments = bench.engine().streams[&stream]
            .state
            .view()
            .segments
            .clone();
        let compacted: Vec<_> = segments.iter().filter(|one| one.generation > 0).collect();
        assert!(!compacted.is_empty());
        for segment in &compacted {
            assert_eq!(segment.synced(), (segment.length(), segment.end_offset()));
        }
        let error = std::io::Error::from_raw_os_error(5);
        let fault = IoFault::of("sync segment", &segments[0].path)(error);
        bench
            .engine()
            .mend(&fault, segments.clone(), false)
            .unwrap();
        let after = bench.engine().streams[&stream]
            .state
            .view()
            .segments
            .clone();
        for segment in &compacted {
            assert!(
                after.iter().any(|one| Arc::ptr_eq(one, segment)),
                "round {round}"
            );
        }
        let last = (segments.last().unwrap(), after.last().unwrap());
        assert!(!Arc::ptr_eq(last.0, last.1), "round {round}");
        assert_eq!(bench.all(stream), before, "round {round}");
    }
    let before = bench.all(stream);
    bench.restart();
    assert_eq!(bench.all(stream), before);
}

/// The base offset lies outside the checksum: a newest record that seems to be an old one must not go for one that is old.
#[test]
fn a_wrong_base_offset_ends_a_pass_before_anything_is_removed() {
    for bit in [0, 2, 5] {
        for number in [0, 4, 8] {
            let mut bench = Bench::new(1 << 20);
            let stream = bench.create(settings(|_| {}));
            for n in 0..40 {
                let (key, value) = (format!("k{}", n % 9), format!("v{n}"));
                bench.put(stream, &[(key.as_str(), Some(value.as_str()))]);
            }
            let files = bench.files();
            let first = files.iter().find(|name| name.ends_with(".log")).unwrap();
            let path = bench.dir.path().join("log/topic_t_0.1").join(first);
            let place = {
                let bytes = std::fs::read(&path).unwrap();
                let lengths = records::batches(&bytes).map(|batch| batch.unwrap().1.len());
                lengths.take(number).sum::<usize>()
            };
            let flip = || {
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[place + 7] ^= 1 << bit;
                std::fs::write(&path, bytes).unwrap();
            };
            flip();
            assert_eq!(bench.compact(), 0, "bit {bit} of batch {number}");
            flip();
            bench.restart();
            assert_eq!(bench.all(stream).len(), 40, "bit {bit} of batch {number}");
            assert_eq!(bench.compact(), 1);
            let newest = newest(&bench.all(stream));
            for n in 31..40 {
                let found = &newest[&format!("k{}", n % 9)];
                assert_eq!(*found, (n, Some(format!("v{n}"))));
            }
        }
    }
}
