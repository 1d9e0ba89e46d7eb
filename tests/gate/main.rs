//! The release gate: every fault test with the gate's numbers, bounded in time, and a dated report.
//!
//! `flafka-gate [--minutes N] [--report FILE] [NAME...]`. It shares N minutes (default 60) between the tests by their
//! weights, runs one test at a time in a process of its own with `FLAFKA_CRASH_SECONDS`, and collects the JSON line that
//! each writes into `FLAFKA_FAULT_REPORT`. Invariants: a test that wrote no line, or ended badly, or lost what it may
//! not, is in the report with a verdict of its own; nothing is left out quietly. Whatever way the gate ends, its tests
//! end with it and their files go, but for those of a test that failed. The numbers of CI are those the tests have by
//! themselves.

mod plan;
mod report;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use flafka_tests::runner::say;
use flafka_tests::workspace;
use serde_json::Value;

use crate::plan::{Part, parts};
use crate::report::{Done, Verdict};

/// Seconds that a test may take beyond its share, for a last cycle and for reading back.
const GRACE: u64 = 600;
/// Lines that a report has of the output of a test that failed, and characters of each.
const MOST_LINES: usize = 60;
const MOST_CHARACTERS: usize = 400;

struct Options {
    minutes: u64,
    report: PathBuf,
    names: Vec<String>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            minutes: 60,
            report: PathBuf::new(),
            names: Vec::new(),
        };
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .with_context(|| format!("{argument} wants a value"))
            };
            match argument.as_str() {
                "--minutes" => {
                    options.minutes = value()?.parse().context("--minutes wants a number")?;
                }
                "--report" => options.report = PathBuf::from(value()?),
                _ if argument.starts_with("--") => {
                    bail!("usage: ./dev gate [--minutes N] [--report FILE] [NAME...]")
                }
                _ => options.names.push(argument),
            }
        }
        ensure!(options.minutes > 0, "--minutes has to be at least 1");
        Ok(options)
    }
}

fn main() -> Result<ExitCode> {
    let mut options = Options::parse(std::env::args().skip(1))?;
    let machine = report::Machine::look();
    if options.report.as_os_str().is_empty() {
        let name = format!("{}-{}.md", machine.date, machine.revision);
        options.report = workspace::root().join("docs/torture").join(name);
    }
    let selected: Vec<Part> = parts()
        .into_iter()
        .filter(|part| {
            options.names.is_empty() || options.names.iter().any(|name| part.name.contains(name))
        })
        .collect();
    ensure!(!selected.is_empty(), "no fault test has such a name");
    let weights: u64 = selected.iter().map(|part| part.weight).sum();
    let seed = rand::random::<u32>();
    say(&format!(
        "gate: {} tests in {} minutes, first seed {seed}",
        selected.len(),
        options.minutes
    ));
    let began = Instant::now();
    let mut done = Vec::new();
    for (number, part) in selected.iter().enumerate() {
        let seconds = (options.minutes * 60 * part.weight / weights).max(1);
        say(&format!(
            "gate: [{}/{}, {:.0} s so far] {} for {seconds} s",
            number + 1,
            selected.len(),
            began.elapsed().as_secs_f64(),
            part.name
        ));
        let one = run(part, seconds, u64::from(seed))?;
        say(&format!("gate: {}", one.summary()));
        done.push(one);
        // Written after each test: a run that is broken off leaves what it has.
        write(&options.report, &machine, &options, began.elapsed(), &done)?;
    }
    let failed = count(&done, |verdict| matches!(verdict, Verdict::Failed(_)));
    let not_run = count(&done, |verdict| matches!(verdict, Verdict::NotRun(_)));
    say(&format!("gate: report in {}", options.report.display()));
    say(&format!("gate: {not_run} not run"));
    say(&format!(
        "gate: {} passed, {failed} failed",
        done.len() - failed - not_run
    ));
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn count(done: &[Done], wanted: fn(&Verdict) -> bool) -> usize {
    done.iter().filter(|one| wanted(&one.verdict)).count()
}

fn write(
    path: &Path,
    machine: &report::Machine,
    options: &Options,
    took: Duration,
    done: &[Done],
) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).context("make the folder of the report")?;
    }
    let text = report::text(machine, options.minutes, took, done);
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// The end of what a test printed, fit for a report: bounded, and without the places of this machine.
fn tail(printed: &str, folder: &Path) -> String {
    let lines: Vec<&str> = printed.lines().collect();
    let last = &lines[lines.len().saturating_sub(MOST_LINES)..];
    let root = workspace::root().display().to_string();
    let folder = folder.display().to_string();
    let bounded = last.iter().map(|line| {
        let line = line.replace(&folder, "$TMPDIR").replace(&root, ".");
        match line.char_indices().nth(MOST_CHARACTERS) {
            Some((end, _)) => format!("{} …", &line[..end]),
            None => line,
        }
    });
    bounded.collect::<Vec<_>>().join("\n")
}

/// Runs a command (`$@`) and hands SIGTERM on to it: then its files go too, since nobody is left to look at them.
const GUARD: &str = r#"
"$@" &
child=$!
trap 'kill -TERM "$child"; wait "$child"; rm -rf "${TMPDIR%/files}"; exit 143' TERM INT
wait "$child"
"#;

/// Runs one test in a process of its own.
fn run(part: &Part, seconds: u64, seed: u64) -> Result<Done> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let (lines, output) = (folder.path().join("lines"), folder.path().join("output"));
    let file = fs::File::create(&output).context("create the output of a test")?;
    let files = folder.path().join("files");
    fs::create_dir(&files).context("make a folder")?;
    // `timeout` hands a signal on to all that it started: a gate that is killed leaves no test behind.
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--", "bash", "-c", GUARD, "guard"]);
    command
        .arg("timeout")
        .arg("--kill-after=20")
        .arg((seconds + GRACE).to_string());
    command
        .args(part.command())
        .current_dir(workspace::root())
        .env("TMPDIR", &files)
        .env("FLAFKA_FAULT_REPORT", &lines)
        .env("FLAFKA_CRASH_SECONDS", seconds.to_string())
        .env("FLAFKA_CRASH_FIRST_SEED", seed.to_string())
        .env("FLAFKA_SEED", seed.to_string())
        .stdin(Stdio::null())
        .stdout(file.try_clone().context("open the output twice")?)
        .stderr(file);
    for variable in [
        "FLAFKA_CRASH_SEED",
        "FLAFKA_CRASH_SEEDS",
        "FLAFKA_CRASH_CYCLES",
    ] {
        command.env_remove(variable);
    }
    let status = command
        .status()
        .with_context(|| format!("start {command:?}"))?;
    let printed = fs::read(&output).context("read the output of a test")?;
    let printed = String::from_utf8_lossy(&printed).into_owned();
    let told = fs::read_to_string(&lines).unwrap_or_default();
    let line = told
        .lines()
        .last()
        .map(serde_json::from_str::<Value>)
        .transpose()
        .context("read the line of a test")?;
    let reason = printed.lines().find_map(|line| {
        let (_, reason) = line.strip_prefix("test ")?.split_once(" ... not run: ")?;
        Some(reason.to_owned())
    });
    let tail = || tail(&printed, folder.path());
    let verdict = match (reason, &line) {
        (Some(reason), _) => Verdict::NotRun(reason),
        (None, Some(line)) if status.success() && line["verdict"] == "passed" => Verdict::Passed,
        (None, None) if status.success() && part.silent => Verdict::Passed,
        (None, None) if status.success() => {
            Verdict::Failed(format!("it has said nothing\n{}", tail()))
        }
        _ => Verdict::Failed(format!("{status}\n{}", tail())),
    };
    let mut one = Done {
        part: part.clone(),
        seconds,
        line,
        verdict,
        said: said(&printed),
    };
    if one.broken_promise() > 0 && matches!(one.verdict, Verdict::Passed) {
        one.verdict = Verdict::Failed(format!("{} events are lost", one.broken_promise()));
    }
    if matches!(one.verdict, Verdict::Failed(_)) {
        let kept = folder.keep();
        say(&format!("gate: its files are kept in {}", kept.display()));
    }
    Ok(one)
}

/// What a test that writes no line has measured.
fn said(printed: &str) -> String {
    let lines = printed
        .lines()
        .filter_map(|line| line.strip_prefix("crash: "))
        .filter(|line| !line.starts_with("ready after"));
    lines.collect::<Vec<_>>().join("; ")
}
