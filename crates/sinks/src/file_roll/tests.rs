//! Tests of the file_roll sink.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use flafka_flow::Event;
use flafka_flow::channel::{Channel, ChannelError, Lease, TakeLimit};
use flafka_flow::clock::ManualClock;
use flafka_flow::conformance::doubles::{TestChannel, build_context_with};
use flafka_flow::conformance::sink::{Target, suite};
use flafka_flow::counters::Metric;
use flafka_flow::settings::{Report, Section, Settings};
use flafka_flow::sink::{Sink, Status};
use tempfile::TempDir;

use super::output::{Medium, create_file};
use super::sink::FileRollSink;
use super::*;

/// What the disk does wrong.
#[derive(Clone, Default)]
struct Faults(Arc<AtomicU8>);

const FINE: u8 = 0;
const WRITES_STOP_HALFWAY: u8 = 1;
const SYNCS_FAIL: u8 = 2;
const NOTHING_WORKS: u8 = 3;

impl Faults {
    fn set(&self, fault: u8) {
        self.0.store(fault, Ordering::SeqCst);
    }

    fn now(&self) -> u8 {
        self.0.load(Ordering::SeqCst)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Medium>> {
        if self.now() == NOTHING_WORKS {
            return Err(io::ErrorKind::StorageFull.into());
        }
        create_file(path)?;
        Ok(Box::new(FaultyFile {
            file: File::options().append(true).open(path)?,
            faults: self.clone(),
        }))
    }
}

struct FaultyFile {
    file: File,
    faults: Faults,
}

impl Write for FaultyFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.faults.now() == WRITES_STOP_HALFWAY {
            self.file.write_all(&bytes[..bytes.len() / 2])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Medium for FaultyFile {
    fn sync(&mut self) -> io::Result<()> {
        match self.faults.now() {
            SYNCS_FAIL => Err(io::Error::other("sync failed")),
            _ => Ok(()),
        }
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        match self.faults.now() {
            NOTHING_WORKS => Err(io::Error::other("cut failed")),
            _ => self.file.set_len(length),
        }
    }
}

struct Setup {
    directory: TempDir,
    faults: Faults,
    clock: Arc<ManualClock>,
    context: BuildContext,
}

impl Setup {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(1_700_000_000_123));
        let context = build_context_with("k1", clock.clone(), std::env::temp_dir());
        Self {
            directory: tempfile::tempdir().expect("a directory"),
            faults: Faults::default(),
            clock,
            context,
        }
    }

    fn config(&self, pairs: &[(&str, &str)]) -> FileRollSinkConfig {
        let directory = self.directory.path().display().to_string();
        let mut section = Section::of("a1.sinks.k1", pairs.iter().copied());
        let given = Section::of("", [("sink.directory", directory.as_str())]);
        section.entries.extend(given.entries);
        let mut report = Report::new();
        let config = FileRollSinkConfig::from_section(&section, &mut report);
        assert!(!report.has_errors(), "{report:?}");
        config.expect("valid")
    }

    fn sink(&self, channel: Arc<dyn Channel>, pairs: &[(&str, &str)]) -> FileRollSink {
        let faults = self.faults.clone();
        let open = Box::new(move |path: &Path| faults.create(path));
        FileRollSink::new(self.config(pairs), channel, &self.context, open)
    }

    fn counter(&self, metric: Metric) -> i64 {
        self.context.counters.all()[0].get(metric)
    }

    /// Names and contents of the files, sorted by name.
    fn files(&self) -> Vec<(String, String)> {
        let mut files: Vec<_> = std::fs::read_dir(self.directory.path())
            .expect("the directory is there")
            .map(|entry| {
                let path = entry.expect("readable").path();
                let name = path
                    .file_name()
                    .expect("a name")
                    .to_string_lossy()
                    .into_owned();
                (name, std::fs::read_to_string(&path).expect("text"))
            })
            .collect();
        files.sort();
        files
    }
}

fn filled(range: std::ops::Range<usize>) -> Arc<TestChannel> {
    let channel = TestChannel::new();
    channel.fill(range.map(|number| Event::new(number.to_string())));
    channel
}

fn lines(range: std::ops::Range<usize>) -> String {
    range.map(|number| format!("{number}\n")).collect()
}

struct Directory {
    setup: Arc<Setup>,
    fault: u8,
}

impl Target for Directory {
    fn refuse(&mut self, refuse: bool) -> bool {
        self.setup
            .faults
            .set(if refuse { self.fault } else { FINE });
        true
    }

    fn bodies(&mut self) -> Option<Vec<Vec<u8>>> {
        let files = self.setup.files();
        let text: String = files.into_iter().map(|(_, text)| text).collect();
        Some(text.lines().map(|line| line.as_bytes().to_vec()).collect())
    }
}

#[tokio::test]
async fn conforms_whatever_fails() {
    for fault in [WRITES_STOP_HALFWAY, SYNCS_FAIL] {
        let setup = Arc::new(Setup::new());
        suite(async |channel| {
            let sink: Box<dyn Sink> = Box::new(setup.sink(channel, &[]));
            let setup = Arc::clone(&setup);
            (sink, Directory { setup, fault })
        })
        .await;
        let text: String = setup.files().into_iter().map(|(_, text)| text).collect();
        let expected: String = (0..250).map(|n| format!("event {n}\n")).collect();
        assert_eq!(text, expected, "no line twice and none torn, fault {fault}");
    }
}

#[tokio::test]
async fn a_failed_write_is_cut_off_and_the_file_goes_on() {
    let setup = Setup::new();
    let channel = filled(0..10);
    let mut sink = setup.sink(channel.clone(), &[("sink.batchSize", "5")]);
    sink.start().await.expect("starts");
    sink.process().await.expect("works");
    channel.fill((10..15).map(|number| Event::new(number.to_string())));
    setup.faults.set(WRITES_STOP_HALFWAY);
    let error = sink.process().await.expect_err("fails");
    assert!(error.is_retriable(), "{error}");
    assert_eq!(setup.files()[0].1, lines(0..10));
    assert_eq!(channel.remaining(), 5);
    setup.faults.set(FINE);
    sink.process().await.expect("works");
    sink.stop().await.expect("stops");
    assert_eq!(
        setup.files(),
        [("1700000000123-1".to_owned(), lines(0..15))]
    );
    assert_eq!(setup.counter(Metric::EventDrainSuccessCount), 15);
    assert_eq!(setup.counter(Metric::EventDrainAttemptCount), 20);
    assert_eq!(setup.counter(Metric::EventWriteFail), 1);
}

#[tokio::test]
async fn after_a_failed_sync_a_new_file_is_used() {
    let setup = Setup::new();
    let channel = filled(0..5);
    let mut sink = setup.sink(channel.clone(), &[("flafka.fsync", "true")]);
    sink.start().await.expect("starts");
    sink.process().await.expect("works");
    channel.fill([Event::new("5")]);
    setup.faults.set(SYNCS_FAIL);
    sink.process().await.expect_err("fails");
    setup.faults.set(FINE);
    sink.process().await.expect("works");
    let files = setup.files();
    assert_eq!(files.len(), 2, "{files:?}");
    assert_eq!(
        (files[0].1.as_str(), files[1].1.as_str()),
        ("0\n1\n2\n3\n4\n", "5\n")
    );
}

#[tokio::test]
async fn without_a_key_files_are_as_safe_as_the_channel() {
    let setup = Setup::new();
    for (pairs, syncs) in [
        (&[] as &[_], true),
        (&[("flafka.fsync", "true")], true),
        (&[("flafka.fsync", "false")], false),
    ] {
        let mut sink = setup.sink(filled(0..1), pairs);
        sink.start().await.expect("starts");
        setup.faults.set(SYNCS_FAIL);
        assert_eq!(sink.process().await.is_err(), syncs, "{pairs:?}");
        setup.faults.set(FINE);
    }
    let volatile = Arc::new(Volatile(filled(0..1)));
    let mut sink = setup.sink(volatile, &[]);
    sink.start().await.expect("starts");
    setup.faults.set(SYNCS_FAIL);
    sink.process().await.expect("nothing is synced");
}

/// A channel that forgets its events.
struct Volatile(Arc<TestChannel>);

#[async_trait::async_trait]
impl Channel for Volatile {
    async fn start(&self) -> Result<(), ChannelError> {
        self.0.start().await
    }

    async fn put(&self, batch: flafka_flow::Batch) -> Result<(), ChannelError> {
        self.0.put(batch).await
    }

    async fn take(&self, limit: TakeLimit) -> Result<Lease, ChannelError> {
        self.0.take(limit).await
    }

    async fn stop(&self) -> Result<(), ChannelError> {
        self.0.stop().await
    }

    fn counters(&self) -> &Arc<flafka_flow::counters::Counters> {
        self.0.counters()
    }

    fn is_durable(&self) -> bool {
        false
    }
}

#[tokio::test(start_paused = true)]
async fn rolls_at_fixed_marks_with_an_empty_file_for_an_empty_interval() {
    let setup = Setup::new();
    let channel = filled(0..2);
    let settings = [
        ("sink.rollInterval", "10"),
        ("sink.pathManager.extension", "log"),
    ];
    let mut sink = setup.sink(channel.clone(), &settings);
    sink.start().await.expect("starts");
    sink.process().await.expect("works");
    tokio::time::advance(Duration::from_secs(9)).await;
    sink.process().await.expect("works");
    assert_eq!(setup.files().len(), 1);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(sink.process().await.expect("works"), Status::Backoff);
    tokio::time::advance(Duration::from_secs(33)).await;
    channel.fill([Event::new("2")]);
    assert_eq!(sink.process().await.expect("works"), Status::Ready);
    tokio::time::advance(Duration::from_secs(5)).await;
    sink.process().await.expect("works");
    sink.stop().await.expect("stops");
    let named =
        |number: usize, text: &str| (format!("1700000000123-{number}.log"), text.to_owned());
    assert_eq!(
        setup.files(),
        [named(1, "0\n1\n"), named(2, ""), named(3, "2\n")]
    );
    assert_eq!(setup.counter(Metric::ConnectionCreatedCount), 3);
    assert_eq!(setup.counter(Metric::ConnectionClosedCount), 3);
}

#[tokio::test(start_paused = true)]
async fn empty_files_can_be_switched_off_and_rolling_too() {
    let setup = Setup::new();
    let channel = TestChannel::new();
    let settings = [("sink.rollInterval", "1"), ("flafka.emptyFiles", "false")];
    let mut sink = setup.sink(channel.clone(), &settings);
    sink.start().await.expect("starts");
    for _ in 0..3 {
        tokio::time::advance(Duration::from_secs(2)).await;
        sink.process().await.expect("works");
    }
    assert!(setup.files().is_empty());
    channel.fill([Event::new("x")]);
    sink.process().await.expect("works");
    assert_eq!(setup.files().len(), 1);

    let setup = Setup::new();
    let mut sink = setup.sink(filled(0..1), &[("sink.rollInterval", "0")]);
    sink.start().await.expect("starts");
    for _ in 0..3 {
        sink.process().await.expect("works");
        tokio::time::advance(Duration::from_secs(100_000)).await;
    }
    assert_eq!(setup.files().len(), 1);
}

#[tokio::test]
async fn names_of_files_that_are_there_are_skipped() {
    let setup = Setup::new();
    let taken = setup.directory.path().join("p1700000000123-1.txt");
    std::fs::write(&taken, "not ours").expect("writable");
    let settings = [
        ("sink.pathManager.prefix", "p"),
        ("sink.pathManager.extension", ".txt"),
    ];
    let mut sink = setup.sink(filled(0..1), &settings);
    sink.start().await.expect("starts");
    sink.process().await.expect("works");
    sink.stop().await.expect("stops");
    let expected = [
        ("p1700000000123-1.txt".to_owned(), "not ours".to_owned()),
        ("p1700000000123-2.txt".to_owned(), "0\n".to_owned()),
    ];
    assert_eq!(setup.files(), expected);
}

#[tokio::test(start_paused = true)]
async fn roll_time_names_carry_the_second_of_the_roll() {
    let setup = Setup::new();
    let settings = [("sink.pathManager", "rolltime"), ("sink.rollInterval", "5")];
    let mut sink = setup.sink(TestChannel::new(), &settings);
    sink.start().await.expect("starts");
    for ms in [1_700_000_000_123, 1_700_000_000_900, 1_700_000_005_000] {
        setup.clock.set(ms);
        sink.process().await.expect("works");
        tokio::time::advance(Duration::from_secs(5)).await;
    }
    let names: Vec<_> = setup.files().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 3);
    let (second, number) = names[0].split_once('-').expect("a number");
    assert!(
        second.len() == 14 && second.starts_with("202311"),
        "{names:?}"
    );
    assert_eq!(number, "1");
    assert_eq!(names[1], format!("{second}-2"));
    assert!(names[2].ends_with("-1") && names[2] > names[1], "{names:?}");
}

#[tokio::test]
async fn waiting_transactions_are_written_together_and_committed_each() {
    let setup = Setup::new();
    let channel = filled(0..1000);
    let mut sink = setup.sink(channel.clone(), &[("sink.batchSize", "100")]);
    sink.start().await.expect("starts");
    assert_eq!(sink.process().await.expect("works"), Status::Ready);
    assert_eq!(channel.remaining(), 0);
    assert_eq!(channel.committed().len(), 1000);
    assert_eq!(setup.files()[0].1, lines(0..1000));
}

#[tokio::test]
async fn a_dropped_call_leaves_nothing_behind() {
    let setup = Setup::new();
    let channel = filled(0..300);
    let mut sink = setup.sink(channel.clone(), &[]);
    sink.start().await.expect("starts");
    for polls in 0..40 {
        let mut call = sink.process();
        for _ in 0..polls {
            let polled = std::future::poll_fn(|context| {
                std::task::Poll::Ready(call.as_mut().poll(context).is_ready())
            });
            if polled.await {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    while channel.remaining() > 0 {
        sink.process().await.expect("works");
    }
    sink.stop().await.expect("stops");
    let text: String = setup.files().into_iter().map(|(_, text)| text).collect();
    assert_eq!(text, lines(0..300));
}

#[tokio::test]
async fn a_missing_directory_is_said_at_the_start() {
    let setup = Setup::new();
    let mut sink = setup.sink(TestChannel::new(), &[]);
    std::fs::remove_dir(setup.directory.path()).expect("empty");
    let error = sink.start().await.expect_err("no directory");
    assert!(
        error.to_string().contains("create the directory"),
        "{error}"
    );
    std::fs::create_dir(setup.directory.path()).expect("created");
    sink.start().await.expect("starts now");
    setup.faults.set(NOTHING_WORKS);
    assert!(sink.process().await.is_err());
    assert_eq!(setup.counter(Metric::ConnectionFailedCount), 1);
    setup.faults.set(FINE);
    sink.process().await.expect("works");
}

#[test]
fn the_serializer_has_keys_of_its_own() {
    let read = |pairs: &[(&str, &str)]| {
        let mut section = Section::of("a1.sinks.k1", pairs.iter().copied());
        let given = Section::of("", [("sink.directory", "/tmp")]);
        section.entries.extend(given.entries);
        let mut report = Report::new();
        let config = FileRollSinkConfig::from_section(&section, &mut report);
        let problems: Vec<_> = report
            .problems()
            .iter()
            .map(|problem| format!("{} {} {:?}", problem.key, problem.message, problem.help))
            .collect();
        (config, problems)
    };
    let (config, problems) = read(&[
        ("sink.serializer", "header_and_text"),
        ("sink.serializer.appendNewline", "false"),
    ]);
    assert!(problems.is_empty(), "{problems:?}");
    let chosen = config.expect("valid").serializer;
    assert_eq!(chosen.names().main(), "HEADER_AND_TEXT");
    let (_, problems) = read(&[("sink.serializer.appendNewLine", "true")]);
    assert!(
        problems.len() == 1 && problems[0].contains("did you mean `appendNewline`"),
        "{problems:?}"
    );
    let (config, problems) = read(&[("sink.serializer", "com.example.Mine$Builder")]);
    assert!(config.is_none() && problems.len() == 1, "{problems:?}");
}

#[tokio::test]
async fn another_schema_begins_another_file_and_a_bad_body_blocks_alone() {
    let setup = Setup::new();
    let channel = TestChannel::new();
    let event = |schema: &str, body: &[u8]| Event {
        headers: flafka_flow::Headers::single("flume.avro.schema.literal", schema),
        body: body.to_vec().into(),
    };
    let (int, text) = (r#""int""#, r#""string""#);
    channel.fill([event(int, &[2]), event(int, &[4]), event(text, &[2, b'a'])]);
    channel.fill([event(text, &[2, b'b']), event(int, &[6]), event(int, &[])]);
    let settings = [
        (
            "sink.serializer",
            "org.apache.flume.sink.hdfs.AvroEventSerializer$Builder",
        ),
        ("sink.batchSize", "5"),
    ];
    let mut sink = setup.sink(channel.clone(), &settings);
    sink.start().await.expect("starts");
    sink.process().await.expect("five are fine");
    assert_eq!(channel.committed().len(), 5);
    let error = sink.process().await.expect_err("no datum");
    assert!(!error.is_retriable(), "{error}");
    assert_eq!(channel.remaining(), 1);
    sink.stop().await.expect("stops");
    let mut blocks = Vec::new();
    let mut paths: Vec<_> = std::fs::read_dir(setup.directory.path())
        .expect("there")
        .map(|entry| entry.expect("readable").path())
        .collect();
    paths.sort();
    for path in paths {
        let file = File::open(path).expect("there");
        let mut reader =
            flafka_avro_wire::container::ContainerReader::open(file, 1 << 20).expect("Avro");
        let block = reader.next_block().expect("sound").expect("a block");
        blocks.push((reader.header().schema.clone(), block.data));
    }
    let expected = [
        (int.to_owned(), vec![2, 4]),
        (text.to_owned(), vec![2, b'a', 2, b'b']),
        (int.to_owned(), vec![6]),
    ];
    assert_eq!(blocks, expected);
}

#[tokio::test]
async fn a_first_write_that_fails_does_not_cost_the_head_of_the_file() {
    for serializer in [
        "AVRO_EVENT",
        "org.apache.flume.sink.hdfs.AvroEventSerializer$Builder",
    ] {
        let setup = Setup::new();
        let channel = TestChannel::new();
        channel.fill([Event {
            headers: flafka_flow::Headers::single("flume.avro.schema.literal", r#""int""#),
            body: vec![2].into(),
        }]);
        let mut sink = setup.sink(channel.clone(), &[("sink.serializer", serializer)]);
        sink.start().await.expect("starts");
        setup.faults.set(WRITES_STOP_HALFWAY);
        sink.process().await.expect_err("fails");
        setup.faults.set(FINE);
        sink.process().await.expect("works");
        sink.stop().await.expect("stops");
        let mut datums = 0;
        for entry in std::fs::read_dir(setup.directory.path()).expect("there") {
            let bytes = std::fs::read(entry.expect("readable").path()).expect("readable");
            if bytes.is_empty() {
                continue;
            }
            let mut reader =
                flafka_avro_wire::container::ContainerReader::open(&bytes[..], 1 << 20)
                    .expect("Avro");
            while let Some(block) = reader.next_block().expect("sound") {
                datums += block.datums;
            }
        }
        assert_eq!(datums, 1, "{serializer}");
    }
}
