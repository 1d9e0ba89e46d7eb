//! The rules of reference 3.10 and what is mended, each by name; then random schedules against a
//! model (F18).

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flafka_flow::conformance::doubles::{RecordingProcessor, build_context, build_context_with};
use flafka_flow::conformance::source::{RunningSource, suite};
use flafka_flow::counters::Metric;
use flafka_flow::registry::{BuildContext, SourceFactory};
use flafka_flow::settings::{Problem, Report, Section, Settings};
use flafka_flow::source::{BuiltSource, PollableSource, SourceContext};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::*;

/// A folder with logs and a place for the positions.
struct Scene {
    folder: tempfile::TempDir,
    processor: Arc<RecordingProcessor>,
    context: SourceContext,
    settings: Vec<(String, String)>,
    build: BuildContext,
    source: Option<Box<dyn PollableSource>>,
}

impl Scene {
    fn new(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        fs::create_dir(folder.path().join("logs")).expect("folder");
        let processor = RecordingProcessor::new();
        let mut all = vec![
            ("filegroups".to_owned(), "g".to_owned()),
            (
                "filegroups.g".to_owned(),
                format!("{}/logs/.*[.]log.*", folder.path().display()),
            ),
            (
                "positionFile".to_owned(),
                folder.path().join("positions.json").display().to_string(),
            ),
        ];
        for (key, value) in settings {
            all.retain(|(known, _)| known != key);
            all.push(((*key).to_owned(), (*value).to_owned()));
        }
        Self {
            context: processor.context(),
            processor,
            settings: all,
            build: build_context("r1"),
            source: None,
            folder,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("logs").join(name)
    }

    fn append(&self, name: &str, bytes: impl AsRef<[u8]>) {
        append(&self.path(name), bytes.as_ref());
    }

    fn built(&self) -> BuiltSource {
        let pairs: Vec<_> = self
            .settings
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let mut report = Report::new();
        let config = TaildirConfig::from_section(&Section::of("a1.sources.r1", pairs), &mut report);
        let config = config.unwrap_or_else(|| panic!("valid settings: {report:?}"));
        TaildirSourceFactory::build(config, &self.build).expect("builds")
    }

    async fn start(&mut self) {
        let BuiltSource::Polled(mut source) = self.built() else {
            panic!("taildir is polled")
        };
        // A killed source's last write may still be under way and hold the lock.
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while let Err(error) = source.start(&self.context).await {
            let error = flafka_flow::channel::error_chain(&error);
            assert!(error.contains("another source"), "{error}");
            assert!(std::time::Instant::now() < deadline, "{error}");
            tokio::task::yield_now().await;
        }
        self.source = Some(source);
    }

    async fn poll(&mut self) {
        let source = self.source.as_mut().expect("started");
        source.process(&self.context).await.expect("polls");
    }

    async fn stop(&mut self) {
        self.source.take().expect("started").stop().await;
    }

    /// As a kill of the process: nothing is written any more.
    fn kill(&mut self) {
        self.source = None;
    }

    async fn bodies(&mut self) -> Vec<String> {
        self.poll().await;
        self.processor.bodies()
    }

    fn positions(&self) -> Vec<Position> {
        let bytes = fs::read(self.folder.path().join("positions.json")).expect("position file");
        let parsed = parse_positions(&bytes);
        assert!(parsed.fault.is_none());
        parsed.positions
    }

    fn counter(&self, metric: Metric) -> i64 {
        self.build.counters.all()[0].get(metric)
    }
}

fn append(path: &Path, bytes: &[u8]) {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.expect("opens").write_all(bytes).expect("writes");
}

#[tokio::test(start_paused = true)]
async fn keeps_the_source_contract() {
    let scene = Scene::new(&[("batchSize", "3")]);
    scene.append("a.log", "0\n1\n2\n3\n4\n5\n6\n");
    suite(&["0", "1", "2", "3", "4", "5", "6"], || scene.built()).await;
}

#[tokio::test(start_paused = true)]
async fn lines_batches_headers_and_counters() {
    let mut scene = Scene::new(&[
        ("batchSize", "2"),
        ("fileHeader", "true"),
        ("fileHeaderKey", "path"),
        ("byteOffsetHeader", "true"),
        ("headers.g.team.a", "x=1"),
    ]);
    scene.append("a.log", b"one\r\n\ntwo\xff\nthree\nopen");
    scene.start().await;
    scene.poll().await;
    let batches = scene.processor.batches();
    assert_eq!(
        batches.iter().map(|batch| batch.len()).collect::<Vec<_>>(),
        [2, 2]
    );
    let events = scene.processor.events();
    let bodies: Vec<_> = events.iter().map(|event| &event.body[..]).collect();
    assert_eq!(bodies, [&b"one"[..], b"", b"two\xff", b"three"]);
    let offsets: Vec<_> = events
        .iter()
        .map(|event| event.headers.get("byteoffset"))
        .collect();
    assert_eq!(offsets, [Some("0"), Some("5"), Some("6"), Some("11")]);
    assert_eq!(events[0].headers.get("team.a"), Some("x=1"));
    let path = scene.path("a.log").display().to_string();
    assert_eq!(events[3].headers.get("path"), Some(path.as_str()));
    for (metric, count) in [
        (Metric::EventReceivedCount, 4),
        (Metric::EventAcceptedCount, 4),
        (Metric::AppendBatchReceivedCount, 2),
        (Metric::AppendBatchAcceptedCount, 2),
        (Metric::ChannelWriteFail, 0),
        (Metric::EventReadFail, 0),
    ] {
        assert_eq!(scene.counter(metric), count, "{}", metric.name());
    }
}

#[tokio::test(start_paused = true)]
async fn a_partial_line_waits_and_is_given_out_when_idle() {
    let mut scene = Scene::new(&[("idleTimeout", "60000")]);
    scene.append("a.log", "one\nhal");
    scene.start().await;
    assert_eq!(scene.bodies().await, ["one"]);
    scene.append("a.log", "f\nopen");
    assert_eq!(scene.bodies().await, ["one", "half"]);
    tokio::time::advance(Duration::from_secs(59)).await;
    assert_eq!(scene.bodies().await.len(), 2);
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(scene.bodies().await, ["one", "half", "open"]);
    scene.poll().await;
    scene.append("a.log", "ed\n");
    assert_eq!(scene.bodies().await[3..], ["ed"]);
}

#[tokio::test(start_paused = true)]
async fn a_long_partial_line_is_searched_on_and_read_once() {
    let mut scene = Scene::new(&[]);
    let part = vec![b'x'; 200 << 10];
    scene.append("a.log", &part);
    scene.start().await;
    for _ in 0..4 {
        scene.poll().await;
        scene.append("a.log", &part);
    }
    assert!(scene.bodies().await.is_empty());
    scene.append("a.log", "\nnext\n");
    let bodies = scene.bodies().await;
    assert_eq!((bodies[0].len(), bodies[1].as_str()), (1000 << 10, "next"));
}

#[tokio::test(start_paused = true)]
async fn a_line_of_64_mib_passes_whole_and_a_longer_one_in_pieces() {
    let mut scene = Scene::new(&[]);
    let mut bytes = vec![b'x'; MAX_LINE_BYTES];
    bytes.extend_from_slice(b"\r\nshort\n");
    bytes.extend_from_slice(&vec![b'y'; MAX_LINE_BYTES + 3]);
    bytes.extend_from_slice(b"\nend\n");
    scene.append("a.log", &bytes);
    scene.start().await;
    scene.poll().await;
    let lengths: Vec<_> = scene
        .processor
        .events()
        .iter()
        .map(|event| event.body.len())
        .collect();
    assert_eq!(lengths, [MAX_LINE_BYTES, 5, MAX_LINE_BYTES, 3, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_rename_inside_the_pattern_is_read_on() {
    let mut scene = Scene::new(&[("fileHeader", "true")]);
    scene.append("a.log", "1\n2\n");
    scene.start().await;
    scene.poll().await;
    fs::rename(scene.path("a.log"), scene.path("a.log.1")).expect("renames");
    scene.append("a.log.1", "3\n");
    scene.append("a.log", "4\n");
    scene.poll().await;
    scene.poll().await;
    assert_eq!(scene.processor.bodies(), ["1", "2", "3", "4"]);
    scene.stop().await;
    fs::rename(scene.path("a.log.1"), scene.path("a.log.2")).expect("renames");
    fs::rename(scene.path("a.log"), scene.path("a.log.1")).expect("renames");
    scene.append("a.log.1", "5\n");
    scene.start().await;
    assert_eq!(scene.bodies().await[4..], ["5"]);
    let events = scene.processor.events();
    let path = scene.path("a.log.1").display().to_string();
    assert_eq!(events[4].headers.get("file"), Some(path.as_str()));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_leaves_the_pattern_or_is_deleted_is_read_to_its_end() {
    let mut scene = Scene::new(&[]);
    scene.append("a.log", "1\n");
    scene.append("b.log", "2\n");
    scene.start().await;
    scene.poll().await;
    let mut deleted = OpenOptions::new()
        .append(true)
        .open(scene.path("b.log"))
        .expect("opens");
    fs::rename(scene.path("a.log"), scene.path("away")).expect("renames");
    fs::remove_file(scene.path("b.log")).expect("removes");
    scene.append("away", "3\n");
    scene.poll().await;
    deleted.write_all(b"4\nopen").expect("writes");
    assert_eq!(scene.bodies().await, ["1", "2", "3", "4"]);
    tokio::time::advance(Duration::from_secs(200)).await;
    assert_eq!(scene.bodies().await[4..], ["open"]);
    scene.poll().await;
    scene.stop().await;
    let paths: Vec<_> = scene
        .positions()
        .into_iter()
        .map(|entry| entry.path)
        .collect();
    assert_eq!(
        paths,
        [scene.path("a.log").display().to_string()],
        "the deleted one is forgotten"
    );
}

#[tokio::test(start_paused = true)]
async fn truncation_and_writing_anew_begin_at_the_start() {
    let mut scene = Scene::new(&[]);
    scene.append("a.log", "first line\nsecond line\n");
    scene.start().await;
    scene.poll().await;
    fs::write(scene.path("a.log"), "short\n").expect("writes");
    assert_eq!(scene.bodies().await[2..], ["short"]);
    fs::write(scene.path("a.log"), "longer than before\nand more\n").expect("writes");
    assert_eq!(
        scene.bodies().await[3..],
        ["longer than before", "and more"]
    );
    scene.stop().await;
    fs::write(
        scene.path("a.log"),
        "while it was stopped, even longer\nx\ny\n",
    )
    .expect("writes");
    scene.start().await;
    assert_eq!(
        scene.bodies().await[5..],
        ["while it was stopped, even longer", "x", "y"]
    );
}

#[tokio::test(start_paused = true)]
async fn an_inode_taken_over_by_a_new_file_is_told_apart() {
    let mut scene = Scene::new(&[]);
    let inode = |path: &Path| identity(path).inode;
    scene.append("a.log", "old content\n");
    scene.start().await;
    scene.poll().await;
    scene.stop().await;
    let before = inode(&scene.path("a.log"));
    fs::remove_file(scene.path("a.log")).expect("removes");
    scene.append("a.log", "new content, longer\n");
    let reused = inode(&scene.path("a.log")) == before;
    scene.start().await;
    assert_eq!(
        scene.bodies().await,
        ["old content", "new content, longer"],
        "inode reused: {reused}"
    );
}

fn identity(path: &Path) -> Identity {
    super::file::identity_of(&fs::metadata(path).expect("metadata"))
}

#[tokio::test(start_paused = true)]
async fn a_symbolic_link_that_is_swapped_gives_both_files() {
    let mut scene = Scene::new(&[]);
    scene.append("one", "1\n");
    scene.append("two", "2\n");
    std::os::unix::fs::symlink(scene.path("one"), scene.path("now.log")).expect("links");
    scene.start().await;
    scene.poll().await;
    fs::remove_file(scene.path("now.log")).expect("removes");
    std::os::unix::fs::symlink(scene.path("two"), scene.path("now.log")).expect("links");
    scene.append("one", "late\n");
    scene.poll().await;
    let mut bodies = scene.processor.bodies();
    bodies.sort_unstable();
    assert_eq!(bodies, ["1", "2", "late"]);
}

#[tokio::test(start_paused = true)]
async fn a_hard_link_is_no_second_file() {
    let mut scene = Scene::new(&[]);
    scene.append("a.log", "1\n");
    fs::hard_link(scene.path("a.log"), scene.path("b.log")).expect("links");
    scene.start().await;
    scene.poll().await;
    scene.append("b.log", "2\n");
    scene.poll().await;
    scene.poll().await;
    assert_eq!(scene.processor.bodies(), ["1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn skip_to_end_is_for_files_of_the_start_and_tears_no_line() {
    let mut scene = Scene::new(&[("skipToEnd", "true")]);
    scene.append("a.log", "old\nunfin");
    scene.start().await;
    scene.poll().await;
    scene.append("a.log", "ished\n");
    scene.append("b.log", "late file\n");
    scene.poll().await;
    let mut bodies = scene.processor.bodies();
    bodies.sort_unstable();
    assert_eq!(bodies, ["late file", "unfinished"]);
}

#[tokio::test(start_paused = true)]
async fn a_kill_repeats_nothing_once_the_journal_is_written() {
    let mut scene = Scene::new(&[]);
    scene.append("a.log", "1\n");
    scene.start().await;
    for number in 2..20 {
        scene.poll().await;
        scene.append("a.log", format!("{number}\n"));
    }
    scene.poll().await;
    scene.poll().await;
    let journal = scene.folder.path().join("positions.json.journal");
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    let end = fs::metadata(scene.path("a.log")).expect("metadata").len();
    loop {
        let bytes = fs::read(&journal).expect("journal");
        let entries = decode_journal(&bytes).expect("journal").entries;
        if entries.values().any(|entry| entry.position == end) {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{entries:?}");
        std::thread::yield_now();
    }
    scene.kill();
    scene.append("a.log", "20\n");
    scene.start().await;
    let expected: Vec<_> = (1..=20).map(|number| number.to_string()).collect();
    assert_eq!(scene.bodies().await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_got_another_number_is_no_other_file() {
    let mut scene = Scene::new(&[]);
    scene.append("a.log", "1\n2\n");
    scene.append("b.log", "3\n");
    scene.start().await;
    scene.poll().await;
    scene.stop().await;
    let path = scene.folder.path().join("positions.json.journal");
    let journal = decode_journal(&fs::read(&path).expect("reads")).expect("a journal");
    let mut bytes = super::journal::encode_header(journal.position_file, journal.position_file);
    for (id, mut entry) in journal.entries {
        entry.identity.device += 1;
        super::journal::encode_file(&mut bytes, id, &entry);
    }
    fs::write(&path, bytes).expect("writes");
    fs::rename(scene.path("a.log"), scene.path("a.log.1")).expect("renames");
    scene.append("a.log.1", "4\n");
    fs::write(scene.path("b.log"), "other content\n").expect("writes");
    scene.start().await;
    let mut bodies = scene.bodies().await;
    bodies.sort_unstable();
    assert_eq!(bodies, ["1", "2", "3", "4", "other content"]);
}

#[tokio::test(start_paused = true)]
async fn a_position_file_of_flume_is_taken_over_and_written_for_it() {
    let mut scene = Scene::new(&[]);
    scene.append("a.log", "1\n2\n");
    scene.append("b.log", "3\n4\n");
    let (a, b) = (scene.path("a.log"), scene.path("b.log"));
    let text = format!(
        r#"[{{"inode":{},"pos":2,"file":"{}"}},{{"inode":{},"pos":2,"file":"/elsewhere"}}]"#,
        identity(&a).inode,
        a.display(),
        identity(&b).inode,
    );
    fs::write(scene.folder.path().join("positions.json"), text).expect("writes");
    scene.start().await;
    scene.poll().await;
    let mut bodies = scene.processor.bodies();
    bodies.sort_unstable();
    assert_eq!(
        bodies,
        ["2", "3", "4"],
        "an entry counts with inode and path only"
    );
    scene.stop().await;
    let mut written = scene.positions();
    written.sort_by(|left, right| left.path.cmp(&right.path));
    let expected = |path: &Path| Position {
        inode: identity(path).inode,
        position: 4,
        path: path.display().to_string(),
    };
    assert_eq!(written, [expected(&a), expected(&b)]);
}

#[tokio::test(start_paused = true)]
async fn the_start_refuses_what_it_cannot_work_with() {
    let scene = Scene::new(&[("filegroups.g", "/nonexistent-folder/x.*")]);
    let failed = |scene: &Scene| {
        let BuiltSource::Polled(mut source) = scene.built() else {
            panic!("polled")
        };
        let context = scene.context.clone();
        async move {
            let error = source.start(&context).await.expect_err("refused");
            flafka_flow::channel::error_chain(&error)
        }
    };
    let error = failed(&scene).await;
    assert!(error.contains("/nonexistent-folder"), "{error}");
    let scene = Scene::new(&[]);
    let path = scene.folder.path().join("positions.json");
    fs::write(&path, r#"[{"inode":1,"file":"/a"}]"#).expect("writes");
    let error = failed(&scene).await;
    assert!(error.contains("entry 1 has no valid `pos`"), "{error}");
    fs::write(&path, r#"[{"inode":1,"fi"#).expect("writes");
    let mut scene = scene;
    scene.append("a.log", "1\n");
    scene.start().await;
    assert_eq!(
        scene.bodies().await,
        ["1"],
        "damage is no reason to stand still, as in Flume"
    );
    assert_eq!(scene.counter(Metric::GenericProcessingFail), 1);
}

#[tokio::test(start_paused = true)]
async fn max_batch_count_gives_the_others_a_turn() {
    let mut scene = Scene::new(&[("batchSize", "2"), ("maxBatchCount", "2")]);
    scene.append("a.log", "1\n2\n3\n4\n5\n6\n7\n8\n9\n");
    append(&scene.path("b.log"), b"b\n");
    let later = std::time::SystemTime::now() + Duration::from_secs(5);
    let file = OpenOptions::new()
        .append(true)
        .open(scene.path("b.log"))
        .expect("opens");
    file.set_modified(later).expect("sets the time");
    scene.start().await;
    assert_eq!(scene.bodies().await, ["1", "2", "3", "4", "b"]);
    assert_eq!(scene.bodies().await[5..], ["5", "6", "7", "8"]);
    assert_eq!(scene.bodies().await[9..], ["9"]);
}

#[tokio::test(start_paused = true)]
async fn where_a_read_ends_makes_no_small_batches() {
    let mut scene = Scene::new(&[("batchSize", "1000")]);
    let lines = 5300;
    let text: String = (0..lines)
        .map(|n| format!("{n:0width$}\n", width = 150 + n % 100))
        .collect();
    scene.append("a.log", &text);
    scene.start().await;
    let bodies = scene.bodies().await;
    assert_eq!(bodies.concat(), text.replace('\n', ""));
    let sizes: Vec<_> = scene
        .processor
        .batches()
        .iter()
        .map(|batch| batch.len())
        .collect();
    assert_eq!(sizes, [1000, 1000, 1000, 1000, 1000, 300]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_put_comes_again_also_over_a_stop() {
    let mut scene = Scene::new(&[("batchSize", "2")]);
    scene.append("a.log", "1\n2\n3\n4\n5\n");
    scene.start().await;
    scene.processor.fail_next(3);
    scene.poll().await;
    assert_eq!(scene.processor.bodies(), ["1", "2", "3", "4", "5"]);
    assert_eq!(scene.counter(Metric::ChannelWriteFail), 3);
    scene.append("a.log", "6\n");
    scene.processor.fail_next(1000);
    scene.context.lifecycle.stop();
    scene.poll().await;
    scene.stop().await;
    scene.processor.fail_next(0);
    scene.context = scene.processor.context();
    scene.start().await;
    assert_eq!(scene.bodies().await, ["1", "2", "3", "4", "5", "6"]);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_files_are_read_with_few_open() {
    let mut scene = Scene::new(&[("batchSize", "1000")]);
    for number in 0..10_000 {
        fs::write(scene.path(&format!("{number}.log")), format!("{number}\n")).expect("writes");
    }
    scene.start().await;
    while scene.processor.bodies().len() < 10_000 {
        scene.poll().await;
    }
    scene.append("77.log", "more\n");
    scene.poll().await;
    scene.poll().await;
    let bodies = scene.processor.bodies();
    assert_eq!((bodies.len(), bodies[10_000].as_str()), (10_001, "more"));
}

#[tokio::test(start_paused = true)]
async fn default_positions_are_below_the_home_folder() {
    let home = tempfile::tempdir().expect("folder");
    let mut scene = Scene::new(&[]);
    scene.settings.retain(|(key, _)| key != "positionFile");
    scene.build = build_context_with(
        "r1",
        Arc::new(flafka_flow::clock::SystemClock),
        home.path().to_owned(),
    );
    scene.start().await;
    scene.stop().await;
    assert!(home.path().join(".flume/taildir_position.json").is_file());
}

#[tokio::test]
async fn follows_a_growing_file_until_it_is_stopped() {
    let scene = Scene::new(&[]);
    let running = RunningSource::start(scene.built(), &scene.processor);
    for number in 0..50 {
        scene.append("a.log", format!("{number}\n"));
        scene
            .processor
            .wait_for(number + 1, Duration::from_secs(20))
            .await;
    }
    running.stop().await;
    assert_eq!(scene.positions()[0].position, 140);
}

fn problems(settings: &[(&str, &str)]) -> Vec<Problem> {
    let mut report = Report::new();
    let _config = TaildirConfig::from_section(
        &Section::of("a1.sources.r1", settings.iter().copied()),
        &mut report,
    );
    report.take()
}

#[test]
fn settings_are_checked() {
    let good = [("filegroups", "a"), ("filegroups.a", "/var/log/.*[.]log")];
    assert!(problems(&good).is_empty());
    for (key, value, message) in [
        ("filegroups.a", "/var/log/(", "regular expression"),
        ("filegroups.a", "/var/log/", "slash"),
        ("headers.a", "x", "no header name"),
        ("headers.b.x", "x", "not in `filegroups`"),
        ("filegroups.b", "/x/y", "not in `filegroups`"),
        ("batchSize", "0", "at least 1"),
        ("maxBatchCount", "-5", "default"),
        ("writePosInterval", "0", "more than 0"),
    ] {
        let found = problems(&[good[0], good[1], (key, value)]);
        assert!(
            found.iter().any(|problem| problem.message.contains(message)
                && problem.key == format!("a1.sources.r1.{key}")),
            "{key}={value}: {found:?}"
        );
    }
    assert!(!problems(&[("filegroups", "a b"), good[1]]).is_empty());
    assert!(!problems(&[good[1]]).is_empty());
}

/// F18: random appends, rotations, truncations, deletions, kills and refusals, against a model
/// that knows every line written and to which incarnation of a file it went.
#[tokio::test(start_paused = true)]
async fn random_schedules_lose_and_tear_nothing() {
    let rounds = if cfg!(debug_assertions) { 60 } else { 1000 };
    let first: u64 = std::env::var("TAILDIR_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    for seed in first..first + rounds {
        random_schedule(seed).await;
    }
}

struct Model {
    random: SmallRng,
    next_line: u64,
    /// Lines in the order of writing, each once.
    written: Vec<String>,
    /// Lines that may be lost: truncated or deleted before the source could see them.
    at_risk: Vec<String>,
    /// Lines of each living file that were written after the last poll.
    unseen: std::collections::BTreeMap<PathBuf, Vec<String>>,
    kills: usize,
}

impl Model {
    fn line(&mut self) -> String {
        self.next_line += 1;
        let filler = "x".repeat(self.random.random_range(0..40));
        let line = format!("line {} {filler}\0.", self.next_line);
        self.written.push(line.clone());
        line
    }

    fn write(&mut self, path: &Path) {
        for _ in 0..self.random.random_range(1..30) {
            let line = self.line();
            let (left, right) = line.split_at(self.random.random_range(0..line.len()));
            append(path, left.as_bytes());
            append(path, right.as_bytes());
            append(path, b"\n");
            self.unseen.entry(path.to_owned()).or_default().push(line);
        }
    }

    fn lose(&mut self, path: &Path) {
        self.at_risk
            .extend(self.unseen.remove(path).unwrap_or_default());
    }
}

async fn random_schedule(seed: u64) {
    let mut scene = Scene::new(&[("batchSize", "7"), ("maxBatchCount", "20")]);
    let mut model = Model {
        random: SmallRng::seed_from_u64(seed),
        next_line: 0,
        written: Vec::new(),
        at_risk: Vec::new(),
        unseen: Default::default(),
        kills: 0,
    };
    scene.start().await;
    for _ in 0..60 {
        let name = ["a.log", "b.log"][model.random.random_range(0..2)];
        let path = scene.path(name);
        match model.random.random_range(0..20) {
            0..8 => model.write(&path),
            8 => rotate(&mut model, &scene, name),
            9 if path.is_file() => {
                fs::write(&path, "").expect("truncates");
                model.lose(&path);
                if model.random.random() {
                    model.write(&path);
                }
            }
            10 if path.is_file() => {
                fs::remove_file(&path).expect("removes");
                model.lose(&path);
                model.write(&path);
            }
            11 => scene.processor.fail_next(2),
            12 => {
                scene.stop().await;
                scene.start().await;
            }
            13 => {
                model.kills += 1;
                scene.kill();
                scene.start().await;
            }
            _ => {
                for _ in 0..4 {
                    scene.poll().await;
                }
                model.unseen.clear();
            }
        }
    }
    for _ in 0..8 {
        scene.poll().await;
    }
    scene.stop().await;
    verify(seed, &scene, &model);
}

fn rotate(model: &mut Model, scene: &Scene, name: &str) {
    for number in (1..4).rev() {
        let from = scene.path(&format!("{name}.{number}"));
        if from.is_file() {
            let to = scene.path(&format!("{name}.{}", number + 1));
            model.lose(&to);
            fs::rename(&from, &to).expect("renames");
            let unseen = model.unseen.remove(&from).unwrap_or_default();
            model.unseen.insert(to, unseen);
        }
    }
    let path = scene.path(name);
    if path.is_file() {
        let to = scene.path(&format!("{name}.1"));
        fs::rename(&path, &to).expect("renames");
        let unseen = model.unseen.remove(&path).unwrap_or_default();
        model.unseen.insert(to, unseen);
    }
}

fn verify(seed: u64, scene: &Scene, model: &Model) {
    let mut counts: std::collections::HashMap<&str, usize> = Default::default();
    let bodies = scene.processor.bodies();
    for body in &bodies {
        *counts.entry(body.as_str()).or_default() += 1;
    }
    let written: std::collections::HashSet<&str> =
        model.written.iter().map(String::as_str).collect();
    for body in counts.keys() {
        assert!(written.contains(body), "seed {seed}: torn line {body:?}");
    }
    let at_risk: std::collections::HashSet<&str> =
        model.at_risk.iter().map(String::as_str).collect();
    for line in &model.written {
        let line = line.as_str();
        assert!(
            counts.contains_key(line) || at_risk.contains(line),
            "seed {seed}: lost {line:?}"
        );
    }
    if model.kills == 0 {
        for (line, count) in counts {
            assert_eq!(count, 1, "seed {seed}: {line:?} came {count} times");
        }
    }
}
