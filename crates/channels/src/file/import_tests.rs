//! Imports of what a real Flume 1.11 has left into real logs in a temporary folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use flafka_flow::channel::{Channel, TakeLimit};
use flafka_flow::conformance::doubles::build_context;
use flafka_flow::settings::{Report, Section, Settings};

use super::import::{ImportError, ImportOptions, ImportReport, ImportStep, import, import_limited};
use super::{FileChannel, FileChannelConfig};

/// A fixture with its filling, as Flume left it, in `to/cp`, `to/d1`, `to/d2`.
fn fixture(name: &str, to: &Path) -> ImportOptions {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/flume_channel");
    for (folder, copy) in [("checkpoint", "cp"), ("data1", "d1"), ("data2", "d2")] {
        fs::create_dir_all(to.join(copy)).expect("create");
        for entry in fs::read_dir(fixtures.join(name).join(folder)).expect("list") {
            let path = entry.expect("list").path();
            let mut bytes = fs::read(&path).expect("read");
            let file = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            if file.starts_with("log-") && !file.ends_with(".meta") {
                bytes.resize(1 << 20, 0x80);
            }
            fs::write(to.join(copy).join(file), bytes).expect("write");
        }
    }
    ImportOptions {
        checkpoint_dir: Some(to.join("cp")),
        data_dirs: vec![to.join("d1"), to.join("d2")],
        to: to.join("target"),
        ..ImportOptions::default()
    }
}

fn expected(name: &str) -> String {
    let path = format!("../../tests/fixtures/flume_channel/{name}/expected.txt");
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("read")
}

/// Everything below the source's directories.
fn content(options: &ImportOptions) -> BTreeMap<PathBuf, Vec<u8>> {
    let dirs = options.data_dirs.iter().chain(&options.checkpoint_dir);
    let files = dirs.flat_map(|dir| fs::read_dir(dir).expect("list"));
    files
        .map(|entry| entry.expect("list").path())
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), fs::read(path).expect("read")))
        .collect()
}

fn channel(data_dirs: &[PathBuf]) -> FileChannel {
    let dirs: Vec<String> = data_dirs
        .iter()
        .map(|dir| dir.display().to_string())
        .collect();
    let dirs = dirs.join(",");
    let keys = [
        ("dataDirs", dirs.as_str()),
        ("minimumRequiredSpace", "1048576"),
        ("keep-alive", "0"),
    ];
    let section = Section::of("a1.channels.c1", keys);
    let mut report = Report::new();
    let config = FileChannelConfig::from_section(&section, &mut report)
        .unwrap_or_else(|| panic!("{report:?}"));
    FileChannel::new(config, &build_context("c1"))
}

/// Starts a channel on the target and takes all that waits, as Flume's serializer HEADER_AND_TEXT would write it.
async fn drain(data_dirs: &[PathBuf]) -> String {
    let channel = channel(data_dirs);
    channel.start().await.expect("start");
    let mut text = String::new();
    loop {
        let lease = channel.take(TakeLimit::events(7)).await.expect("take");
        if lease.is_empty() {
            break;
        }
        for event in lease.batch().iter() {
            let mut headers: Vec<String> = event
                .headers
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            headers.sort();
            let body = String::from_utf8_lossy(event.body);
            text.push_str(&format!("{{{}}} {body}\n", headers.join(", ")));
        }
        lease.commit().await.expect("commit");
    }
    channel.stop().await.expect("stop");
    text
}

fn run(options: &ImportOptions) -> Result<ImportReport, ImportError> {
    import(options, &mut |_| {})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_flume_would_deliver_is_in_the_channel_once_and_the_source_is_as_it_was() {
    for (name, waiting, taken) in [("stopped", 50, 0), ("killed", 69, 0)] {
        let root = tempfile::tempdir().expect("temporary folder");
        let options = fixture(name, root.path());
        let before = content(&options);
        let dry = ImportOptions {
            dry_run: true,
            ..options.clone()
        };
        let report = run(&dry).expect("dry run");
        assert_eq!((report.imported, options.to.is_dir()), (0, false));
        let report = run(&options).expect("import");
        let counts = report.counts.expect("counted");
        assert_eq!(
            (report.imported, counts.waiting, counts.taken),
            (waiting, waiting, taken)
        );
        let again = run(&options).expect("again");
        assert_eq!((again.imported, again.imported_before), (0, waiting));
        assert_eq!(
            drain(std::slice::from_ref(&options.to)).await,
            expected(name)
        );
        // What was delivered meanwhile does not come back either.
        run(&options).expect("again");
        assert_eq!(drain(std::slice::from_ref(&options.to)).await, "");
        assert_eq!(content(&options), before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_import_goes_on_where_it_was() {
    let root = tempfile::tempdir().expect("temporary folder");
    let options = fixture("killed", root.path());
    let mut imported = 0;
    for round in 0.. {
        // Killed after one group of nine events.
        match import_limited(&options, 9, Some(1), &mut |_| {}) {
            Ok(report) if report.counts.is_none() => break,
            Ok(report) => {
                assert_eq!(report.imported_before, imported);
                imported += report.imported;
            }
            Err(error) => panic!("{error}"),
        }
        assert!(round < 20, "it ends");
    }
    assert_eq!(imported, 69);
    assert_eq!(
        drain(std::slice::from_ref(&options.to)).await,
        expected("killed")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_directory_is_refused_until_it_was_imported() {
    let root = tempfile::tempdir().expect("temporary folder");
    let mut options = fixture("stopped", root.path());
    options.to = options.data_dirs[0].clone();
    let refused = channel(&options.data_dirs)
        .start()
        .await
        .expect_err("not imported");
    assert!(
        refused.chain().contains("flafka log import"),
        "{}",
        refused.chain()
    );
    assert!(!options.to.join("flafka").is_dir());
    import_limited(&options, 9, Some(1), &mut |_| {}).expect("a part");
    channel(&options.data_dirs)
        .start()
        .await
        .expect_err("half imported");
    run(&options).expect("import");
    assert_eq!(drain(&options.data_dirs).await, expected("stopped"));
    // A Flume has run there again: new files.
    let log = options.data_dirs[1].join("log-7");
    fs::write(log, [0x80; 100]).expect("write");
    channel(&options.data_dirs)
        .start()
        .await
        .expect_err("not imported as it is now");
}

#[test]
fn damage_is_named_and_left_out_only_when_asked() {
    let root = tempfile::tempdir().expect("temporary folder");
    let mut options = fixture("killed", root.path());
    let path = options.data_dirs[1].join("log-6");
    let mut bytes = fs::read(&path).expect("read");
    // The length of the record at byte 621.
    bytes[624] ^= 0x40;
    fs::write(&path, &bytes).expect("write");
    let mut found = Vec::new();
    let mut note = |step: ImportStep| {
        if let ImportStep::Found(finding) = step {
            found.push(finding);
        }
    };
    let refused = import(&options, &mut note).expect_err("damaged");
    assert!(
        matches!(refused, ImportError::Damaged { count: 1 }),
        "{refused}"
    );
    assert!(refused.to_string().starts_with("1 place of"), "{refused}");
    assert_eq!(
        (found[0].path.clone(), found[0].position),
        (path.clone(), 621)
    );
    assert!(!options.to.is_dir());
    options.leave_out_damaged = true;
    let report = run(&options).expect("import");
    assert_eq!((report.imported, report.damaged), (68, 1));

    // The body of a waiting event: found when it is read; what comes before it stays.
    let root = tempfile::tempdir().expect("temporary folder");
    let mut options = fixture("killed", root.path());
    let path = options.data_dirs[1].join("log-6");
    let mut bytes = fs::read(&path).expect("read");
    let at = bytes
        .windows(8)
        .position(|text| text == b"event 52")
        .expect("there");
    bytes[at] = b'E';
    fs::write(&path, &bytes).expect("write");
    let refused = run(&options).expect_err("damaged");
    let ImportError::DamagedEvent { finding, imported } = &refused else {
        panic!("{refused}");
    };
    assert_eq!(
        (finding.path.clone(), finding.position, *imported),
        (path, 150, 51)
    );
    options.leave_out_damaged = true;
    let report = run(&options).expect("goes on");
    assert_eq!(
        (report.imported_before, report.imported, report.left_out),
        (51, 17, 1)
    );
}

#[test]
fn a_target_with_events_and_a_source_that_changed_are_refused() {
    let root = tempfile::tempdir().expect("temporary folder");
    let options = fixture("stopped", root.path());
    run(&options).expect("import");
    let other = ImportOptions {
        to: options.to.clone(),
        ..fixture("killed", &root.path().join("other"))
    };
    assert!(matches!(run(&other), Err(ImportError::NotEmpty { .. })));
    let appended = ImportOptions {
        append: true,
        ..other
    };
    assert_eq!(run(&appended).expect("appended").imported, 69);

    let root = tempfile::tempdir().expect("temporary folder");
    let options = fixture("stopped", root.path());
    import_limited(&options, 9, Some(1), &mut |_| {}).expect("a part");
    fs::write(options.data_dirs[1].join("log-9"), [0x80; 100]).expect("write");
    assert!(matches!(
        run(&options),
        Err(ImportError::OtherUnfinished { .. })
    ));
}
