//! Drives an engine through a random history, step by step and on one thread, with a model beside it.
//!
//! It is longer than 500 lines because the model and the steps it judges are test code that is read side by side.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use flafka_kafka_wire::records::{self, BatchBuilder, BatchHeader, Compression};
use tokio::sync::oneshot;

use super::model::{LastProduced, Model, ModelStream};
use super::observe::observe;
use crate::clock::ManualClock;
use crate::engine::Engine;
use crate::error::{CommitError, OpenError};
use crate::jobs::{Job, JobDone};
use crate::journal::frame::{FRAME_HEADER_BYTES, FrameHeader};
use crate::op::{AppendStamp, Offset, Op, OpOutcome, StreamId, Table};
use crate::prepare::prepare;
use crate::queue::{CommitRequest, Control, Reply};
use crate::recovery::RecoveryReport;
use crate::settings::{Compaction, Durability, LogOptions, StreamSettings};
use crate::sim_fs::{Dice, SimFs};

const DIR: &str = "/log";
/// The stream that is compacted.
const COMPACTED: &str = "compacted";

pub(super) fn options() -> LogOptions {
    let mut options = LogOptions::new(DIR);
    options.journal_file_bytes = 16 * 1024;
    options.checkpoint_journal_bytes = 20 * 1024;
    options.checkpoint_data_bytes = 64 * 1024;
    options.bulk_bytes = 4 * 1024;
    options.acked_bulk_bytes = 4 * 1024;
    options.min_free_bytes = 0;
    options.compaction_pause = Duration::from_secs(5);
    options
}

/// Opens the log on a disk.
pub(super) fn recover(fs: &SimFs) -> Result<Engine, OpenError> {
    let clock = Arc::new(ManualClock::new(1_000_000));
    Engine::open(options(), Arc::new(fs.clone()), clock).map(|(engine, _)| engine)
}

/// The same, with what the start has found.
pub(super) fn recover_and_tell(fs: &SimFs) -> Result<(Engine, RecoveryReport), OpenError> {
    let clock = Arc::new(ManualClock::new(1_000_000));
    Engine::open(options(), Arc::new(fs.clone()), clock)
}

pub(super) type Answer = Result<Vec<OpOutcome>, CommitError>;

pub(super) struct Driver {
    pub(super) fs: SimFs,
    pub(super) model: Model,
    pub(super) steps: u64,
    /// Groups that were refused.
    refused: u64,
    /// Why the newest of them was.
    refusal: Option<CommitError>,
    /// How often compaction put a segment in the place of others.
    pub(super) switches: u64,
    /// How many segments began in the file of another one, before the last start.
    recycled_before: u64,
    /// States that a power cut may bring back, oldest first; the last one is `model`.
    pub(super) history: Vec<Model>,
    pub(super) engine: Option<Engine>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) jobs: VecDeque<Job>,
    pub(super) dice: Dice,
    tag: u64,
    /// Weak ends when the running checkpoint was made.
    floors: Option<Vec<(String, i64)>>,
}

impl Driver {
    pub(super) fn new(seed: u64, fs: SimFs) -> Driver {
        Driver::try_new(seed, fs).unwrap()
    }

    /// `None` if the first start fails, as planned.
    pub(super) fn try_new(seed: u64, fs: SimFs) -> Option<Driver> {
        let clock = Arc::new(ManualClock::new(1_000_000));
        let (engine, _) = Engine::open(options(), Arc::new(fs.clone()), clock.clone()).ok()?;
        let mut driver = Driver {
            fs,
            model: Model::default(),
            steps: 0,
            refused: 0,
            refusal: None,
            switches: 0,
            recycled_before: 0,
            history: vec![Model::default()],
            engine: Some(engine),
            clock,
            jobs: VecDeque::new(),
            dice: Dice::new(seed ^ 0xD1CE),
            tag: 0,
            floors: None,
        };
        for name in ["strong", "channel", "weak", COMPACTED] {
            driver.create(name);
        }
        Some(driver)
    }

    pub(super) fn allowed(&self) -> Vec<Model> {
        self.history.clone()
    }

    pub(super) fn run(&mut self, steps: u64) {
        for _ in 0..steps {
            self.step();
        }
    }

    pub(super) fn step(&mut self) {
        self.steps += 1;
        if self.engine.as_ref().is_none_or(|e| e.failure.is_some()) {
            return;
        }
        match self.dice.below(100) {
            0..=60 => self.round(),
            61..=81 => drop(self.run_job()),
            82..=88 => self.checkpoint(),
            89..=95 => {
                self.clock.advance(Duration::from_secs(6));
                self.note_checkpoint(|engine| engine.tick());
            }
            96..=97 => {
                let name = format!("extra{}", self.dice.below(2));
                if self.model.streams.contains_key(&name) {
                    self.delete(&name);
                } else {
                    self.create(&name);
                }
            }
            _ => self.run_all_jobs(),
        }
        self.collect_jobs();
    }

    /// After a fault that was a single one: the log accepts whatever comes. One more round may be sent back to be tried
    /// again: the one that hears of a journal file that could not be prepared in the background.
    pub(super) fn expect_accepting(&mut self, context: &str) {
        let failure = self.engine().failure.clone();
        assert!(failure.is_none(), "{context}: {failure:?}");
        let mut refused_rounds = 0;
        for _ in 0..5 {
            let before = self.refused;
            self.round();
            if self.refused > before {
                let refusal = self.refusal.as_ref().expect("there was one");
                refused_rounds += 1;
                assert!(
                    refused_rounds == 1 && refusal.is_retriable(),
                    "{context}: a round was refused: {refusal}"
                );
            }
            self.collect_jobs();
            self.run_all_jobs();
        }
        let observed = observe(self.engine()).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert!(
            self.model.matches(&observed, true),
            "{context}: found {observed:#?}\nexpected {:#?}",
            self.model
        );
    }

    /// How often the log went on in a fresh file.
    pub(super) fn mended(&mut self) -> u64 {
        self.engine().shared.counts.read().mended
    }

    /// How many segments began in the file of another one.
    pub(super) fn recycled(&self) -> u64 {
        let now = self.engine.as_ref().map_or(0, |engine| {
            let counters = &engine.shared.housekeeping;
            counters.recycled_segments.load(Ordering::Relaxed)
        });
        self.recycled_before + now
    }

    pub(super) fn engine(&mut self) -> &mut Engine {
        self.engine.as_mut().expect("steps end with the engine")
    }

    fn collect_jobs(&mut self) {
        let jobs = self.engine().take_jobs();
        self.jobs.extend(jobs);
    }

    fn create(&mut self, name: &str) {
        let settings = StreamSettings {
            segment_bytes: 1024 * (1 + 3 * self.dice.below(3) as u32),
            durability: if name == "weak" {
                Durability::Os
            } else {
                Durability::Fsync
            },
            acked: name == "channel",
            compaction: (name == COMPACTED).then(|| Compaction {
                min_dirty_ppm: 0,
                tombstone_retention: Duration::from_secs(20),
                ..Compaction::default()
            }),
            ..StreamSettings::default()
        };
        let (reply, mut receiver) = oneshot::channel();
        let mut after = self.model.clone();
        let stream = ModelStream {
            id: self.engine().next_stream_id,
            weak: !settings.durability.is_fsync(),
            ..ModelStream::default()
        };
        after.streams.insert(name.to_string(), stream);
        self.engine().control(vec![Control::Create {
            name: name.to_string(),
            settings,
            reply,
        }]);
        self.settle_control(receiver.try_recv().unwrap().is_ok(), after);
    }

    fn delete(&mut self, name: &str) {
        let (reply, mut receiver) = oneshot::channel();
        let mut after = self.model.clone();
        let id = StreamId(after.streams.remove(name).unwrap().id);
        self.engine().control(vec![Control::Delete { id, reply }]);
        self.settle_control(receiver.try_recv().unwrap().is_ok(), after);
    }

    fn settle_control(&mut self, done: bool, after: Model) {
        if done {
            self.model = after;
            self.history = vec![self.model.clone()];
        } else {
            // Failed, but it may be in the journal all the same.
            self.history.push(after);
        }
        self.collect_jobs();
    }

    /// Runs the oldest job. Says whether compaction switched: a state of its own.
    fn run_job(&mut self) -> bool {
        let Some(job) = self.jobs.pop_front() else {
            return false;
        };
        let done = job.run(&self.fs);
        if let JobDone::Checkpoint { result, .. } = &done {
            let floors = self.floors.take();
            if result.is_ok() {
                for (name, end) in floors.unwrap_or_default() {
                    for model in self.history.iter_mut().chain([&mut self.model]) {
                        if let Some(stream) = model.streams.get_mut(&name) {
                            stream.floor = end.min(stream.end);
                        }
                    }
                }
            }
        }
        let foreseen = match &done {
            JobDone::Compacted(step) => self.foresee_switch(step),
            _ => None,
        };
        self.note_checkpoint(|engine| engine.job_done(done));
        let switched = foreseen.is_some_and(|foreseen| self.settle_switch(foreseen));
        self.collect_jobs();
        switched
    }

    fn run_all_jobs(&mut self) {
        while !self.jobs.is_empty() && !self.run_job() {}
    }

    fn checkpoint(&mut self) {
        self.note_checkpoint(Engine::start_checkpoint);
    }

    /// Does something that may start a checkpoint, and notes the weak ends if it does.
    fn note_checkpoint(&mut self, body: impl FnOnce(&mut Engine)) {
        let before = self.engine().in_flight.checkpoint;
        body(self.engine());
        if !before && self.engine().in_flight.checkpoint {
            let weak = self.model.streams.iter().filter(|(_, stream)| stream.weak);
            self.floors = Some(weak.map(|(name, s)| (name.clone(), s.end)).collect());
        }
    }

    pub(super) fn round(&mut self) {
        let before = self.model.clone();
        let mut planned = before.clone();
        let mut requests = Vec::new();
        for _ in 0..1 + self.dice.below(3) {
            let mut ops = Vec::new();
            for _ in 0..1 + self.dice.below(3) {
                ops.extend(self.op(&mut planned));
            }
            if !ops.is_empty() {
                requests.push((ops, planned.clone()));
            }
        }
        let (answers, strong) = self.commit(requests.iter().map(|(ops, _)| ops.clone()));
        let all_ok = answers.iter().all(Result::is_ok);
        if all_ok {
            self.check_offsets(&before, &requests, &answers);
            self.model = planned;
            if strong {
                self.history.clear();
            }
            self.history.push(self.model.clone());
            return;
        }
        self.settle_failures(before, requests, answers);
    }

    /// Some groups failed: those may or may not survive if the log is poisoned; otherwise they must not be there, and
    /// the others went one by one.
    fn settle_failures(
        &mut self,
        before: Model,
        requests: Vec<(Vec<Op>, Model)>,
        answers: Vec<Answer>,
    ) {
        let poisoned = self.engine().failure.is_some();
        let mut refusals = answers.iter().filter_map(|answer| answer.as_ref().err());
        self.refused += refusals.clone().count() as u64;
        self.refusal = refusals.next_back().cloned().or(self.refusal.take());
        self.history.push(before);
        if poisoned {
            // Whatever was in the journal before the failure may survive: any of the groups, in order.
            for subset in 1u32..1 << requests.len() {
                let mut model = self.model.clone();
                for (at, (ops, _)) in requests.iter().enumerate() {
                    if subset & (1 << at) != 0 {
                        ops.iter().for_each(|op| foresee(&mut model, op));
                    }
                }
                self.history.push(model);
            }
            return;
        }
        let mut model = self.model.clone();
        for ((ops, _), answer) in requests.iter().zip(&answers) {
            let Ok(outcomes) = answer else { continue };
            for (op, outcome) in ops.iter().zip(outcomes) {
                apply(&mut model, op, outcome);
            }
            self.history.push(model.clone());
        }
        self.model = model;
    }

    fn check_offsets(&self, before: &Model, requests: &[(Vec<Op>, Model)], answers: &[Answer]) {
        let mut model = before.clone();
        for ((ops, after), answer) in requests.iter().zip(answers) {
            for (op, outcome) in ops.iter().zip(answer.as_ref().unwrap()) {
                apply(&mut model, op, outcome);
            }
            assert!(model.matches(after, true), "outcomes differ from the model");
        }
    }

    fn commit(&mut self, groups: impl Iterator<Item = Vec<Op>>) -> (Vec<Answer>, bool) {
        let mut receivers = Vec::new();
        let mut requests = Vec::new();
        let mut strong = false;
        for ops in groups {
            strong |= ops.iter().any(|op| self.is_strong(op));
            let (ops, bytes) = prepare(ops, false).unwrap();
            let (sender, receiver) = oneshot::channel();
            receivers.push(receiver);
            requests.push(CommitRequest {
                ops,
                bytes,
                reply: Reply::All(sender),
                permit: None,
            });
        }
        self.note_checkpoint(|engine| engine.round(requests));
        let answers = receivers
            .iter_mut()
            .map(|receiver| receiver.try_recv().expect("every group is answered"))
            .collect();
        (answers, strong)
    }

    fn is_strong(&self, op: &Op) -> bool {
        let known = |id: &StreamId| self.model.streams.values().find(|s| s.id == id.0);
        let weak = |id: &StreamId| known(id).is_some_and(|stream| stream.weak);
        match op {
            Op::Append { stream, .. } | Op::Ack { stream, .. } => !weak(stream),
            // What is trimmed already is not written again.
            Op::TrimTo { stream, log_start } => {
                !weak(stream) && known(stream).is_none_or(|known| known.log_start < log_start.0)
            }
            Op::Put { .. } | Op::Delete { .. } => true,
        }
    }

    /// A random op that is valid after `planned`, which it joins.
    fn op(&mut self, planned: &mut Model) -> Option<Op> {
        let names: Vec<String> = planned.streams.keys().cloned().collect();
        match self.dice.below(100) {
            0..=59 => {
                let name = names.get(self.dice.below(names.len() as u64) as usize)?;
                Some(self.append(planned.streams.get_mut(name)?))
            }
            60..=74 => {
                let stream = planned.streams.get_mut("channel")?;
                if stream.end == stream.low {
                    return None;
                }
                let open = (stream.end - stream.low) as u64;
                let first = stream.low + self.dice.below(open) as i64;
                let last = first + self.dice.below((stream.end - first) as u64) as i64;
                stream.ack(first, last);
                Some(Op::Ack {
                    stream: StreamId(stream.id),
                    first: Offset(first),
                    last: Offset(last),
                })
            }
            75..=81 => {
                let name = names.get(self.dice.below(names.len() as u64) as usize)?;
                let stream = planned.streams.get_mut(name)?;
                let open = (stream.end - stream.log_start) as u64;
                let log_start = stream.log_start + self.dice.below(open + 1) as i64;
                stream.trim(log_start);
                Some(Op::TrimTo {
                    stream: StreamId(stream.id),
                    log_start: Offset(log_start),
                })
            }
            number => {
                let key = vec![b'k', self.dice.below(6) as u8];
                let table = Table::GroupOffsets;
                if number < 86 {
                    planned.tables.remove(&(table, key.clone()));
                    return Some(Op::Delete {
                        table,
                        key: key.into(),
                    });
                }
                let value = vec![self.dice.below(256) as u8; self.dice.below(900) as usize];
                planned.tables.insert((table, key.clone()), value.clone());
                Some(Op::Put {
                    table,
                    key: key.into(),
                    value: value.into(),
                })
            }
        }
    }

    fn append(&mut self, stream: &mut ModelStream) -> Op {
        let compacted = self.model.streams.get(COMPACTED).map(|one| one.id);
        let mut bytes = Vec::new();
        for _ in 0..1 + self.dice.below(2) {
            let large = self.dice.chance(15);
            let size = if large {
                3000 + self.dice.below(9000)
            } else {
                self.dice.below(500)
            };
            let count = 1 + self.dice.below(4);
            let compacted = compacted == Some(stream.id);
            let batch = self.batch(stream, count, (size / count) as usize, compacted);
            bytes.extend_from_slice(&batch);
        }
        Op::Append {
            stream: StreamId(stream.id),
            batches: bytes.into(),
            stamp: AppendStamp::AsStream,
        }
    }

    /// A batch that joins the stream; half of them from an idempotent producer.
    fn batch(
        &mut self,
        stream: &mut ModelStream,
        count: u64,
        size: usize,
        compacted: bool,
    ) -> Bytes {
        self.tag += 1;
        let mut builder = BatchBuilder::new(Compression::None);
        let sequence = stream
            .produced
            .as_ref()
            .map_or(0, |last| last.next_sequence);
        let idempotent = self.dice.chance(50);
        if idempotent {
            builder.set_producer(stream.producer_id, 0, sequence);
        }
        let tag = self.tag.to_be_bytes();
        let value = vec![self.tag as u8; size];
        for _ in 0..count {
            let few = [b'k', self.dice.below(5) as u8];
            let key: &[u8] = if compacted { &few } else { &tag };
            let tombstone = compacted && self.dice.chance(25);
            builder
                .push(
                    self.tag as i64,
                    Some(key),
                    (!tombstone).then_some(&value),
                    std::iter::empty(),
                )
                .unwrap();
        }
        let bytes = builder.finish().unwrap();
        let header = BatchHeader::parse(&bytes).unwrap();
        let base = stream.append(header.record_count, header.crc);
        if idempotent {
            stream.produced = Some(LastProduced {
                bytes: bytes.clone(),
                base,
                next_sequence: sequence + count as i32,
            });
        }
        bytes
    }

    /// The machine dies (power cut with a seed, or SIGKILL) and life goes on with what is left; `exact` if weak data too
    /// must be there.
    pub(super) fn crash_and_go_on(&mut self, cut: Option<u64>, exact: bool) {
        self.recycled_before = self.recycled();
        self.engine = None;
        self.jobs.clear();
        self.floors = None;
        self.fs = match cut {
            Some(seed) => self.fs.power_cut(seed),
            None => self.fs.killed(),
        };
        let mut engine = recover(&self.fs).unwrap();
        let found = observe(&mut engine).unwrap();
        let mut model = self
            .history
            .iter()
            .rev()
            .find(|model| model.matches(&found, exact))
            .unwrap_or_else(|| panic!("found {found:#?}\nallowed {:#?}", self.history))
            .clone();
        for (name, stream) in &mut model.streams {
            let found = &found.streams[name];
            if found.end < stream.end {
                // Weak data is gone, and with it what the log knew of its producer.
                stream.produced = None;
                stream.producer_id += 1000;
                stream.acks.retain(|offset| *offset < found.end);
                stream.low = stream.low.min(found.end);
            }
            stream.batches = found.batches.clone();
            stream.end = found.end;
            stream.log_start = found.log_start;
        }
        let clock = Arc::clone(&self.clock);
        engine.clock = clock;
        self.model = model;
        self.history = vec![self.model.clone()];
        self.engine = Some(engine);
    }
}

/// Joins an op that may have happened.
fn foresee(model: &mut Model, op: &Op) {
    let stream = match op {
        Op::Append { stream, .. } | Op::Ack { stream, .. } | Op::TrimTo { stream, .. } => stream.0,
        Op::Put { .. } | Op::Delete { .. } => 0,
    };
    let end = model.streams.values().find(|known| known.id == stream);
    let end = end.map_or(0, |stream| stream.end);
    let outcome = match op {
        Op::Append { .. } => OpOutcome::Appended {
            base_offset: Offset(end),
            last_offset: Offset(end),
            log_append_time_ms: None,
            log_start: Offset(0),
        },
        Op::Ack { last, .. } if last.0 >= end => return,
        Op::TrimTo { log_start, .. } if log_start.0 > end => return,
        _ => OpOutcome::Done,
    };
    apply(model, op, &outcome);
}

/// Joins an acknowledged op to the model, with the offsets that the log gave.
fn apply(model: &mut Model, op: &Op, outcome: &OpOutcome) {
    let stream_of = |model: &mut Model, id: &StreamId| -> String {
        let mut found = model.streams.iter().filter(|(_, stream)| stream.id == id.0);
        found.next().unwrap().0.clone()
    };
    match op {
        Op::Append {
            stream, batches, ..
        } => {
            let name = stream_of(model, stream);
            let stream = model.streams.get_mut(&name).unwrap();
            let OpOutcome::Appended { base_offset, .. } = outcome else {
                panic!("{outcome:?} for an append");
            };
            assert_eq!(base_offset.0, stream.end);
            for batch in records::batches(batches) {
                let (header, bytes) = batch.unwrap();
                let base = stream.append(header.record_count, header.crc);
                if header.has_producer() {
                    stream.produced = Some(LastProduced {
                        bytes: Bytes::copy_from_slice(bytes),
                        base,
                        next_sequence: header.base_sequence + header.record_count,
                    });
                }
            }
        }
        Op::Ack {
            stream,
            first,
            last,
        } => {
            let name = stream_of(model, stream);
            model.streams.get_mut(&name).unwrap().ack(first.0, last.0);
        }
        Op::TrimTo { stream, log_start } => {
            let name = stream_of(model, stream);
            model.streams.get_mut(&name).unwrap().trim(log_start.0);
        }
        Op::Put { table, key, value } => {
            model.tables.insert((*table, key.to_vec()), value.to_vec());
        }
        Op::Delete { table, key } => {
            model.tables.remove(&(*table, key.to_vec()));
        }
    }
}

/// Opens a crashed disk and compares; `deep` also appends, repeats a producer's batch, and kills it once more.
pub(super) fn check(fs: &SimFs, allowed: &[Model], context: &str, deep: bool) {
    let mut engine = match recover(fs) {
        Ok(engine) => engine,
        Err(error) => panic!("{context}: {error}"),
    };
    let found = observe(&mut engine).unwrap_or_else(|error| panic!("{context}: {error}"));
    let Some(model) = allowed
        .iter()
        .rev()
        .find(|model| model.matches(&found, false))
    else {
        panic!("{context}: found {found:#?}\nallowed {allowed:#?}");
    };
    if !deep {
        return;
    }
    for (name, stream) in &model.streams {
        if let Some(produced) = &stream.produced
            && !stream.weak
        {
            expect_duplicate(&mut engine, stream, produced, &format!("{context}, {name}"));
        }
        let (receiver, request) = request(append_op(stream.id, plain_batch()));
        engine.round(vec![request]);
        let answer = blocking(receiver);
        assert!(answer.is_ok(), "{context}, {name}: {answer:?}");
    }
    let appended = observe(&mut engine).unwrap();
    drop(engine);
    let killed = fs.killed();
    let mut engine = recover(&killed)
        .unwrap_or_else(|error| panic!("{context}: {error}\n{}", journal_frames(&killed)));
    let again = observe(&mut engine).unwrap();
    assert!(
        appended.matches(&again, true),
        "{context}: a second start differs"
    );
}

/// The frames of all journal files, for the message of a failure.
fn journal_frames(fs: &SimFs) -> String {
    let mut text = String::new();
    for path in fs.files() {
        let journal = path.extension().is_some_and(|end| end == "jnl");
        let Some(bytes) = fs.content(&path).filter(|_| journal) else {
            continue;
        };
        for at in (4096..bytes.len().saturating_sub(FRAME_HEADER_BYTES)).step_by(8) {
            let header = bytes[at..].first_chunk().and_then(FrameHeader::decode);
            if let Some(header) = header {
                text += &format!("{} {at}: {header:?}\n", path.display());
            }
        }
    }
    text
}

fn expect_duplicate(
    engine: &mut Engine,
    stream: &ModelStream,
    produced: &LastProduced,
    context: &str,
) {
    let (receiver, request) = request(append_op(stream.id, produced.bytes.clone()));
    engine.round(vec![request]);
    match blocking(receiver) {
        Ok(outcomes) => assert!(
            matches!(outcomes[0], OpOutcome::Duplicate { base_offset, .. } if base_offset.0 == produced.base),
            "{context}: {outcomes:?} instead of a duplicate at {}",
            produced.base
        ),
        Err(error) => panic!(
            "{context}: {error}, {produced:?}\n{:#?}",
            engine.streams[&StreamId(stream.id)].producers
        ),
    }
}

fn append_op(stream: u32, batches: Bytes) -> Op {
    Op::Append {
        stream: StreamId(stream),
        batches,
        stamp: AppendStamp::AsStream,
    }
}

fn plain_batch() -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    builder
        .push(1, None, Some(b"after"), std::iter::empty())
        .unwrap();
    builder.finish().unwrap()
}

pub(super) fn request(op: Op) -> (oneshot::Receiver<Answer>, CommitRequest) {
    let (ops, bytes) = prepare(vec![op], false).unwrap();
    let (sender, receiver) = oneshot::channel();
    let request = CommitRequest {
        ops,
        bytes,
        reply: Reply::All(sender),
        permit: None,
    };
    (receiver, request)
}

pub(super) fn blocking(mut receiver: oneshot::Receiver<Answer>) -> Answer {
    receiver.try_recv().expect("every group is answered")
}
