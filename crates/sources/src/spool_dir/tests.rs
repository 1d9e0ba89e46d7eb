//! The life cycle of reference 3.9 and what is mended, each rule by name.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flafka_flow::conformance::doubles::{RecordingProcessor, build_context};
use flafka_flow::conformance::source::{RunningSource, suite};
use flafka_flow::counters::Metric;
use flafka_flow::registry::{BuildContext, SourceFactory};
use flafka_flow::settings::{Problem, Report, Section, Settings};
use flafka_flow::source::BuiltSource;
use flafka_flow::{Event, Headers};

use super::tracker::{TRACKER_NAME, Tracker};
use super::*;

const DEADLINE: Duration = Duration::from_secs(100);

struct Scene {
    folder: tempfile::TempDir,
    processor: Arc<RecordingProcessor>,
    settings: Vec<(String, String)>,
    build: BuildContext,
    running: Option<RunningSource>,
}

impl Scene {
    fn new(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let spool = folder.path().join("in");
        fs::create_dir(&spool).expect("folder");
        let mut all = vec![("spoolDir".to_owned(), spool.display().to_string())];
        for (key, value) in settings {
            all.push(((*key).to_owned(), (*value).to_owned()));
        }
        Self {
            processor: RecordingProcessor::new(),
            settings: all,
            build: build_context("r1"),
            running: None,
            folder,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("in").join(name)
    }

    /// Puts a file into the folder, modified `age` seconds ago.
    fn put(&self, name: &str, bytes: impl AsRef<[u8]>, age: u64) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
        fs::write(&path, bytes).expect("writes");
        let modified = SystemTime::now() - Duration::from_secs(age);
        let file = OpenOptions::new().append(true).open(&path).expect("opens");
        file.set_modified(modified).expect("sets the time");
    }

    fn built(&self) -> BuiltSource {
        let pairs: Vec<_> = self
            .settings
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let mut report = Report::new();
        let section = Section::of("a1.sources.r1", pairs);
        let config = SpooldirConfig::from_section(&section, &mut report);
        let config = config.unwrap_or_else(|| panic!("valid settings: {report:?}"));
        SpooldirSourceFactory::build(config, &self.build).expect("builds")
    }

    fn start(&mut self) {
        self.running = Some(RunningSource::start(self.built(), &self.processor));
    }

    async fn stop(&mut self) {
        self.running.take().expect("started").stop().await;
    }

    async fn events(&self, count: usize) -> Vec<Event> {
        self.processor.wait_for(count, DEADLINE).await
    }

    async fn bodies(&self, count: usize) -> Vec<String> {
        self.events(count).await;
        self.processor.bodies()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.folder.path().join("in"))
            .expect("lists")
            .map(|entry| entry.expect("lists").file_name().display().to_string())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort_unstable();
        names
    }

    async fn wait_for_names(&self, expected: &[&str]) {
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while self.names() != expected {
            assert!(
                std::time::Instant::now() < deadline,
                "{expected:?} expected, there are {:?}",
                self.names()
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn counter(&self, metric: Metric) -> i64 {
        self.build.counters.all()[0].get(metric)
    }
}

#[tokio::test(start_paused = true)]
async fn keeps_the_source_contract() {
    let scene = Scene::new(&[("batchSize", "2")]);
    scene.put("a", "0\n1\n2\n", 10);
    scene.put("b", "3\n4", 5);
    suite(&["0", "1", "2", "3", "4"], || scene.built()).await;
}

#[tokio::test(start_paused = true)]
async fn files_are_read_oldest_first_renamed_and_named_in_headers() {
    let mut scene = Scene::new(&[
        ("fileHeader", "true"),
        ("basenameHeader", "true"),
        ("basenameHeaderKey", "name"),
        ("batchSize", "2"),
    ]);
    scene.put("b", "1\n2\n3\n", 30);
    scene.put("a", "4\n", 20);
    scene.put("c", "5\n", 20);
    scene.start();
    let events = scene.events(5).await;
    assert_eq!(scene.processor.bodies(), ["1", "2", "3", "4", "5"]);
    let path = scene.path("a").display().to_string();
    let expected: Headers = [("file", path.as_str()), ("name", "a")]
        .into_iter()
        .collect();
    assert_eq!(events[3].headers, expected);
    scene
        .wait_for_names(&["a.COMPLETED", "b.COMPLETED", "c.COMPLETED"])
        .await;
    let sizes: Vec<_> = scene
        .processor
        .batches()
        .iter()
        .map(|batch| batch.len())
        .collect();
    assert_eq!(sizes, [2, 1, 1, 1], "a batch is of one file");
    scene.put("d", "6\n", 0);
    scene.events(6).await;
    scene
        .wait_for_names(&["a.COMPLETED", "b.COMPLETED", "c.COMPLETED", "d.COMPLETED"])
        .await;
    scene.stop().await;
    assert!(
        !scene.path(".flumespool").join(TRACKER_NAME).is_file(),
        "nothing is begun"
    );
    for (metric, count) in [
        (Metric::EventReceivedCount, 6),
        (Metric::EventAcceptedCount, 6),
        (Metric::AppendBatchReceivedCount, 5),
        (Metric::AppendBatchAcceptedCount, 5),
        (Metric::EventReadFail, 0),
        (Metric::GenericProcessingFail, 0),
    ] {
        assert_eq!(scene.counter(metric), count, "{}", metric.name());
    }
}

#[tokio::test(start_paused = true)]
async fn patterns_dots_suffixes_and_sub_folders() {
    let files = [
        "keep.log",
        "skip.tmp",
        ".hidden.log",
        "done.log.COMPLETED",
        "other.txt",
        "bad.log.REJECTED",
        "sub/deep.log",
        "sub/more/deeper.log",
        ".dot/x.log",
        "tmp/x.log",
    ];
    for (recursive, expected) in [
        ("false", vec!["keep.log"]),
        (
            "true",
            vec!["keep.log", "sub/deep.log", "sub/more/deeper.log"],
        ),
    ] {
        let mut scene = Scene::new(&[
            ("includePattern", r".*\.(log|tmp)"),
            ("ignorePattern", r".*tmp"),
            ("recursiveDirectorySearch", recursive),
            ("consumeOrder", "youngest"),
        ]);
        for (age, name) in files.iter().enumerate() {
            scene.put(name, *name, 10 + age as u64);
        }
        scene.start();
        assert_eq!(scene.bodies(expected.len()).await, expected);
        scene.put("end.log", "end", 0);
        let bodies = scene.bodies(expected.len() + 1).await;
        assert_eq!(bodies.last().map(String::as_str), Some("end"));
        scene.stop().await;
        assert!(scene.path("sub/deep.log.COMPLETED").is_file() == (recursive == "true"));
    }
}

#[tokio::test(start_paused = true)]
async fn random_order_reads_everything_once() {
    let mut scene = Scene::new(&[("consumeOrder", "RANDOM"), ("deletePolicy", "IMMEDIATE")]);
    for number in 0..50 {
        scene.put(&number.to_string(), format!("{number}\n"), number);
    }
    scene.start();
    let mut bodies = scene.bodies(50).await;
    bodies.sort_by_key(|body| body.parse::<u64>().expect("a number"));
    let expected: Vec<_> = (0..50).map(|number| number.to_string()).collect();
    assert_eq!(bodies, expected);
    scene.wait_for_names(&[]).await;
    scene.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_empty_file_gives_one_empty_event() {
    let mut scene = Scene::new(&[]);
    scene.put("a", "", 9);
    scene.put("b", "", 8);
    scene.put("c", "x", 7);
    scene.start();
    assert_eq!(scene.bodies(3).await, ["", "", "x"]);
    scene.stop().await;
}

#[tokio::test(start_paused = true)]
async fn marks_in_the_tracker_folder_leave_the_spool_folder_alone() {
    let tracker = tempfile::tempdir().expect("folder");
    let tracker_dir = tracker.path().join("not/there/yet");
    let mut scene = Scene::new(&[
        ("trackingPolicy", "tracker_dir"),
        ("trackerDir", tracker_dir.to_str().expect("text")),
        ("recursiveDirectorySearch", "true"),
    ]);
    scene.put("a", "1\n", 9);
    scene.put("sub/b", "2\n", 8);
    scene.put("bad", b"\xff\n", 7);
    scene.put("c", "3\n", 6);
    scene.start();
    assert_eq!(scene.bodies(3).await, ["1", "2", "3"]);
    scene.stop().await;
    for mark in [
        "a.COMPLETED",
        "sub/b.COMPLETED",
        "c.COMPLETED",
        "bad.REJECTED",
    ] {
        assert!(tracker_dir.join(mark).is_file(), "{mark}");
    }
    assert_eq!(scene.names(), ["a", "bad", "c", "sub"]);
    scene.put("a", "new content under an old name\n", 0);
    let later = OpenOptions::new()
        .append(true)
        .open(scene.path("a"))
        .expect("opens");
    later
        .set_modified(SystemTime::now() + Duration::from_secs(60))
        .expect("sets the time");
    scene.put("d", "4\n", 0);
    scene.start();
    assert_eq!(scene.bodies(4).await, ["1", "2", "3", "4"]);
    scene.stop().await;
    assert_eq!(
        scene.counter(Metric::GenericProcessingFail),
        1,
        "the name used again is reported"
    );
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_not_text_is_set_aside_and_the_source_goes_on() {
    let mut scene = Scene::new(&[("batchSize", "10"), ("deletePolicy", "immediate")]);
    scene.put("bad", b"good 1\ngood 2\nb\xffad\nafter\n", 9);
    scene.put("next", "3\n", 8);
    scene.start();
    assert_eq!(scene.bodies(3).await, ["good 1", "good 2", "3"]);
    scene.wait_for_names(&["bad.REJECTED"]).await;
    assert_eq!(scene.counter(Metric::EventReadFail), 1);
    scene.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_name_that_was_used_before_keeps_both_files() {
    let mut scene = Scene::new(&[]);
    scene.put("a.COMPLETED", "old", 9);
    scene.put("a", "new\n", 8);
    scene.start();
    assert_eq!(scene.bodies(1).await, ["new"]);
    scene
        .wait_for_names(&["a.1.COMPLETED", "a.COMPLETED"])
        .await;
    scene.stop().await;
    assert_eq!(
        fs::read_to_string(scene.path("a.COMPLETED")).expect("reads"),
        "old"
    );
}

#[tokio::test(start_paused = true)]
async fn a_file_that_changes_while_it_is_read() {
    for (change, bodies, names) in [
        (
            "grow",
            vec!["1", "2", "3", "z"],
            ["a.COMPLETED", "z.COMPLETED"],
        ),
        ("touch", vec!["1", "2", "z"], ["a.REJECTED", "z.COMPLETED"]),
        (
            "replace",
            vec!["1", "2", "new", "z"],
            ["a.COMPLETED", "z.COMPLETED"],
        ),
    ] {
        let mut scene = Scene::new(&[("batchSize", "1")]);
        scene.put("a", "1\n2\n", 9);
        scene.put("z", "z\n", 0);
        scene.processor.fail_next(5);
        scene.start();
        while scene.processor.failures_left() == 5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let path = scene.path("a");
        match change {
            "grow" => {
                let mut file = OpenOptions::new().append(true).open(&path).expect("opens");
                file.write_all(b"3\n").expect("writes");
            }
            "touch" => {
                let file = OpenOptions::new().append(true).open(&path).expect("opens");
                file.set_modified(SystemTime::UNIX_EPOCH)
                    .expect("sets the time");
            }
            _ => {
                fs::write(scene.path(".new"), "new\n").expect("writes");
                fs::rename(scene.path(".new"), &path).expect("renames");
            }
        }
        let mut found = scene.bodies(bodies.len()).await;
        found.sort_unstable();
        assert_eq!(found, bodies, "{change}");
        scene.wait_for_names(&names).await;
        scene.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_begun_file_is_read_on_after_a_stop() {
    let mut scene = Scene::new(&[("batchSize", "1"), ("consumeOrder", "youngest")]);
    scene.put("a", "1\n2\n3\n", 50);
    scene.start();
    scene.events(1).await;
    scene.processor.fail_next(usize::MAX);
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.stop().await;
    let taken = scene.processor.bodies().len();
    scene.processor.fail_next(0);
    scene.put("younger", "4\n", 1);
    scene.start();
    assert_eq!(
        scene.bodies(4).await,
        ["1", "2", "3", "4"],
        "{taken} were taken before"
    );
    scene.stop().await;
}

/// Writes a tracker as if `name` had been left at `position`.
fn track(scene: &Scene, name: &str, identity: Option<(u64, u64)>, position: u64) {
    let folder = scene.path(".flumespool");
    fs::create_dir_all(&folder).expect("folder");
    let mut tracker = Tracker::new(&folder);
    let seen = candidates::Seen::of(&fs::metadata(scene.path(name)).expect("metadata"));
    let identity = identity.unwrap_or(seen.identity);
    tracker
        .begin(&scene.path(name), identity, position)
        .expect("begins");
}

#[tokio::test(start_paused = true)]
async fn the_tracker_says_where_to_go_on() {
    let mut scene = Scene::new(&[]);
    scene.put("a", "1\n2\n3\n", 9);
    track(&scene, "a", None, 2);
    scene.start();
    assert_eq!(scene.bodies(2).await, ["2", "3"]);
    scene.wait_for_names(&["a.COMPLETED"]).await;
    scene.stop().await;
    // Read to the end but not yet retired: no empty event, as Flume would give.
    scene.put("b", "4\n", 9);
    track(&scene, "b", None, 2);
    scene.start();
    scene.wait_for_names(&["a.COMPLETED", "b.COMPLETED"]).await;
    scene.stop().await;
    // Another file has the name, or the file is shorter.
    scene.put("c", "5\n6\n", 9);
    track(&scene, "c", Some((1, 1)), 2);
    scene.start();
    assert_eq!(scene.bodies(4).await, ["2", "3", "5", "6"]);
    scene.stop().await;
    scene.put("d", "7\n", 9);
    track(&scene, "d", None, 1000);
    scene.start();
    assert_eq!(scene.bodies(5).await[4..], ["7"]);
    scene.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_tracker_that_is_damaged_or_empty_or_about_nothing_is_no_obstacle() {
    for content in [&b"rubbish"[..], b""] {
        let mut scene = Scene::new(&[]);
        scene.put("a", "1\n2\n", 9);
        let folder = scene.path(".flumespool");
        fs::create_dir_all(&folder).expect("folder");
        fs::write(folder.join(TRACKER_NAME), content).expect("writes");
        scene.start();
        assert_eq!(scene.bodies(2).await, ["1", "2"]);
        scene.stop().await;
    }
    let mut scene = Scene::new(&[]);
    scene.put("gone", "x", 9);
    track(&scene, "gone", None, 1);
    fs::remove_file(scene.path("gone")).expect("removes");
    scene.put("a", "1\n", 9);
    scene.start();
    assert_eq!(scene.bodies(1).await, ["1"]);
    scene.stop().await;
    assert!(!scene.path(".flumespool").join(TRACKER_NAME).is_file());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_opened_is_left_alone_and_tried_again() {
    let mut scene = Scene::new(&[]);
    scene.put("locked", "1\n", 9);
    scene.put("next", "2\n", 8);
    fs::set_permissions(scene.path("locked"), fs::Permissions::from_mode(0o000)).expect("locks");
    let root = fs::read(scene.path("locked")).is_ok();
    scene.start();
    if root {
        // The administrator may read everything: nothing to see here but the order.
        assert_eq!(scene.bodies(2).await, ["1", "2"]);
    } else {
        assert_eq!(scene.bodies(1).await, ["2"]);
        fs::set_permissions(scene.path("locked"), fs::Permissions::from_mode(0o600))
            .expect("unlocks");
        assert_eq!(scene.bodies(2).await, ["2", "1"]);
    }
    scene.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pipe_or_a_folder_link_is_no_file() {
    let mut scene = Scene::new(&[("recursiveDirectorySearch", "true")]);
    let kind = rustix::fs::FileType::Fifo;
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, scene.path("pipe"), kind, mode, 0).expect("a pipe");
    std::os::unix::fs::symlink(scene.folder.path(), scene.path("loop")).expect("links");
    scene.put("a", "1\n", 9);
    scene.start();
    assert_eq!(scene.bodies(1).await, ["1"]);
    scene.stop().await;
}

#[tokio::test]
async fn the_start_is_refused_without_a_folder() {
    let scene = Scene::new(&[]);
    fs::remove_dir(scene.path("")).expect("removes");
    let BuiltSource::Driven(mut source) = scene.built() else {
        panic!("spooldir is driven")
    };
    let error = source
        .run(&scene.processor.context())
        .await
        .expect_err("refused");
    assert!(error.is_retriable(), "the folder may come");
    let text = flafka_flow::channel::error_chain(&error);
    assert!(text.contains("does not exist"), "{text}");
}

fn problems(settings: &[(&str, &str)]) -> Vec<Problem> {
    let mut report = Report::new();
    let all = settings.iter().copied().chain([("spoolDir", "/in")]);
    let _config = SpooldirConfig::from_section(&Section::of("a1.sources.r1", all), &mut report);
    report.take()
}

#[test]
fn settings_are_checked() {
    assert!(problems(&[]).is_empty());
    for (key, value, message) in [
        ("includePattern", "(", "regular expression"),
        ("fileSuffix", "", "could not be told"),
        ("deletePolicy", "later", "not one of"),
        ("deserializer", "LINES", "did you mean `LINE`"),
        ("deserializer", "com.example.Mine$Builder", "Java classes"),
        ("deserializer.maxLineLength", "0", "at least 1"),
        ("deserializer.maxLine", "5", "unknown key"),
        ("inputCharset", "klingon", "charset"),
        ("bufferMaxLineLength", "5", "deprecated"),
        ("bufferMaxLines", "5", "batchSize"),
    ] {
        let found = problems(&[(key, value)]);
        assert!(
            found.iter().any(|problem| problem.message.contains(message)
                && problem.key == format!("a1.sources.r1.{key}")),
            "{key}={value}: {found:?}"
        );
    }
    assert!(
        problems(&[
            ("deserializer", "avro"),
            ("deserializer.schemaType", "literal")
        ])
        .is_empty()
    );
}

#[tokio::test(start_paused = true)]
async fn the_deprecated_line_length_counts() {
    let mut scene = Scene::new(&[
        ("bufferMaxLineLength", "4"),
        ("deserializer.maxLineLength", "100"),
        (
            "deserializer",
            "org.apache.flume.serialization.LineDeserializer$Builder",
        ),
    ]);
    scene.put("a", "abcdef\n", 9);
    scene.start();
    assert_eq!(scene.bodies(2).await, ["abcd", "ef"]);
    scene.stop().await;
}

#[tokio::test(start_paused = true)]
async fn blobs_are_whole_files() {
    let mut scene = Scene::new(&[
        (
            "deserializer",
            "org.apache.flume.sink.solr.morphline.BlobDeserializer$Builder",
        ),
        ("deserializer.maxBlobLength", "5"),
        ("basenameHeader", "true"),
    ]);
    scene.put("a", "12345", 9);
    scene.put("b", "1234567", 8);
    scene.start();
    let events = scene.events(3).await;
    assert_eq!(scene.processor.bodies(), ["12345", "12345", "67"]);
    assert_eq!(events[2].headers.get("basename"), Some("b"));
    scene.stop().await;
}
