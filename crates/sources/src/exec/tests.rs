//! Tests of the exec source with real commands.

use flafka_flow::conformance::doubles::{RecordingProcessor, build_context};
use flafka_flow::conformance::source::{RunningSource, suite};
use flafka_flow::settings::{Report, Section, Settings, Severity};

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

fn source(keys: &[(&str, &str)]) -> ExecSource {
    let section = Section::of("a1.sources.r1", keys.iter().copied());
    let config = ExecSourceConfig::from_section(&section, &mut Report::new()).expect("valid");
    let counters = build_context("r1").counters(ComponentKind::Source, sets::SOURCE, true);
    ExecSource { config, counters }
}

fn start(
    keys: &[(&str, &str)],
    processor: &Arc<RecordingProcessor>,
) -> (RunningSource, Arc<Counters>) {
    let source = source(keys);
    let counters = Arc::clone(&source.counters);
    (
        RunningSource::start(BuiltSource::Driven(Box::new(source)), processor),
        counters,
    )
}

#[tokio::test]
async fn keeps_the_source_rules() {
    let numbers: Vec<String> = (1..=307).map(|number| number.to_string()).collect();
    let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
    for batch_size in ["1", "20", "1000"] {
        let keys = [("command", "seq 1 307"), ("batchSize", batch_size)];
        suite(&numbers, || BuiltSource::Driven(Box::new(source(&keys)))).await;
    }
}

#[tokio::test]
async fn batches_are_full_and_the_rest_waits_for_the_timeout() {
    let processor = RecordingProcessor::new();
    let keys = [
        ("shell", "/bin/sh -c"),
        ("command", "printf '1\\n2\\n3\\n4\\n5\\n'; sleep 600"),
        ("batchSize", "2"),
        ("batchTimeout", "200"),
    ];
    let (running, counters) = start(&keys, &processor);
    processor.wait_for(5, PATIENCE).await;
    let sizes: Vec<_> = processor
        .batches()
        .iter()
        .map(flafka_flow::Batch::len)
        .collect();
    assert_eq!(sizes.iter().sum::<usize>(), 5);
    assert!(sizes.iter().all(|size| *size <= 2), "{sizes:?}");
    running.stop().await;
    assert_eq!(counters.get(Metric::EventReceivedCount), 5);
    assert_eq!(counters.get(Metric::EventAcceptedCount), 5);
}

#[tokio::test]
async fn the_last_line_needs_no_end_and_the_command_is_split_at_blanks() {
    let processor = RecordingProcessor::new();
    let (running, _) = start(&[("command", "printf  a\\nb'")], &processor);
    processor.wait_for(2, PATIENCE).await;
    running.stop().await;
    assert_eq!(processor.bodies(), ["a", "b'"]);
}

#[tokio::test]
async fn a_stop_ends_the_whole_group_and_keeps_what_was_written() {
    let folder = tempfile::tempdir().expect("folder");
    let pid_file = folder.path().join("pid");
    let command = format!(
        "sleep 600 & printf partial; echo $! > {}; wait",
        pid_file.display()
    );
    let processor = RecordingProcessor::new();
    let (running, _) = start(
        &[("shell", "/bin/sh -c"), ("command", &command)],
        &processor,
    );
    let deadline = Instant::now() + PATIENCE;
    let pid = loop {
        let text = std::fs::read_to_string(&pid_file).unwrap_or_default();
        match text.trim().parse::<i32>() {
            Ok(pid) => break pid,
            Err(_) => assert!(Instant::now() < deadline, "the command starts"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    running.stop().await;
    assert_eq!(processor.bodies(), ["partial"]);
    let gone = || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    };
    while !gone() {
        assert!(Instant::now() < deadline, "the command's child ends too");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_command_is_run_again_when_asked() {
    let processor = RecordingProcessor::new();
    let keys = [
        ("command", "echo again"),
        ("restart", "true"),
        ("restartThrottle", "20"),
    ];
    let (running, _) = start(&keys, &processor);
    processor.wait_for(3, PATIENCE).await;
    running.stop().await;
}

#[tokio::test]
async fn a_missing_command_is_an_error_that_names_it() {
    let context = RecordingProcessor::new().context();
    let outcome = source(&[("command", "/no/such/command -x")])
        .run(&context)
        .await;
    let error = outcome.expect_err("cannot run");
    let text = flafka_flow::channel::error_chain(&error);
    assert!(
        text.contains("run command /no/such/command -x") && text.contains("No such file"),
        "{text}"
    );
}

#[tokio::test]
async fn a_refusing_channel_holds_the_command_back() {
    let processor = RecordingProcessor::new();
    processor.fail_next(usize::MAX);
    let folder = tempfile::tempdir().expect("folder");
    let progress = folder.path().join("progress");
    let command = format!(
        "for i in 1 2 3 4 5 6 7 8 9; do seq 1 10000; echo $i > {}; done",
        progress.display()
    );
    let (running, counters) = start(
        &[("shell", "/bin/sh -c"), ("command", &command)],
        &processor,
    );
    let deadline = Instant::now() + PATIENCE;
    while counters.get(Metric::ChannelWriteFail) < 3 {
        assert!(Instant::now() < deadline, "puts are tried again");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let written = std::fs::read_to_string(&progress).unwrap_or_default();
    assert_ne!(written.trim(), "9", "the pipe is full");
    processor.fail_next(0);
    let events = processor.wait_for(90_000, PATIENCE).await;
    assert_eq!(events.len(), 90_000);
    running.stop().await;
}

#[test]
fn a_command_that_needs_a_shell_is_noticed() {
    let section = Section::of("a1.sources.r1", [("command", "tail -F a | grep b")]);
    let mut report = Report::new();
    assert!(ExecSourceConfig::from_section(&section, &mut report).is_some());
    assert_eq!(report.problems()[0].severity, Severity::Warning);
}
