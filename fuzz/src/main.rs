//! `flafka-fuzz [--seconds N] [--seed S] [target …]`: runs the targets, for N seconds together, and sums up.
//!
//! `--list` names the targets, `--replay <target> <file>` repeats a finding, `--write-corpus` writes generated seeds.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use flafka_fuzz::corpus;
use flafka_fuzz::report::{Summary, line};
use flafka_fuzz::run::{EXIT_BROKEN, Options, child, replay, run_in_child};
use flafka_fuzz::targets::{TARGETS, Target};

const USAGE: &str =
    "usage: flafka-fuzz [--seconds N] [--seed S] [--corpus DIR] [--work DIR] [target ...]
       flafka-fuzz --list
       flafka-fuzz --replay TARGET FILE
       flafka-fuzz --write-corpus [target ...]";

/// What the command line asks for.
enum Task {
    Fuzz,
    Child(String),
    Replay(String, PathBuf),
    List,
    WriteCorpus,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(EXIT_BROKEN as u8)
        }
    }
}

fn run() -> Result<bool> {
    let (task, options, names) = parse(std::env::args().skip(1))?;
    match task {
        Task::Fuzz => fuzz(&chosen(&names)?, &options),
        Task::Child(name) => child(find(&name)?, &options).map(|()| true),
        Task::Replay(name, path) => replay(find(&name)?, &path).map(|()| true),
        Task::List => {
            for target in TARGETS {
                line(&format!("{:<24} {}", target.name, target.about))?;
            }
            Ok(true)
        }
        Task::WriteCorpus => {
            for target in chosen(&names)? {
                let count = corpus::write(&options.corpus, target)?;
                line(&format!("{}: {count} seeds", target.name))?;
            }
            Ok(true)
        }
    }
}

fn fuzz(targets: &[&Target], options: &Options) -> Result<bool> {
    let mut summary = Summary::default();
    let share = Options {
        time: options.time / u32::try_from(targets.len().max(1))?,
        ..options.clone()
    };
    for target in targets {
        if run_in_child(target, &share)? {
            summary.passed += 1;
        } else {
            summary.failed += 1;
        }
    }
    summary.print()?;
    Ok(summary.failed == 0)
}

fn parse(arguments: impl Iterator<Item = String>) -> Result<(Task, Options, Vec<String>)> {
    let mut arguments = arguments.peekable();
    let mut options = Options {
        seed: rand::random::<u32>().into(),
        time: Duration::from_secs(60),
        corpus: corpus::default_dir(),
        work: std::env::temp_dir().join("flafka-fuzz"),
    };
    let (mut task, mut names) = (Task::Fuzz, Vec::new());
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .with_context(|| format!("{argument} needs a value\n{USAGE}"))
        };
        match argument.as_str() {
            "--seconds" => {
                let seconds = value()?.parse().context("--seconds")?;
                options.time = Duration::try_from_secs_f64(seconds).context("--seconds")?;
            }
            "--seed" => options.seed = value()?.parse().context("--seed")?,
            "--corpus" => options.corpus = value()?.into(),
            "--work" => options.work = value()?.into(),
            "--child" => task = Task::Child(value()?),
            "--replay" => task = Task::Replay(value()?, value()?.into()),
            "--list" => task = Task::List,
            "--write-corpus" => task = Task::WriteCorpus,
            "--help" | "-h" => bail!("{USAGE}"),
            flag if flag.starts_with('-') => bail!("unknown argument {flag}\n{USAGE}"),
            _ => names.push(argument),
        }
    }
    Ok((task, options, names))
}

fn chosen(names: &[String]) -> Result<Vec<&'static Target>> {
    if names.is_empty() {
        return Ok(TARGETS.iter().collect());
    }
    names.iter().map(|name| find(name)).collect()
}

fn find(name: &str) -> Result<&'static Target> {
    TARGETS
        .iter()
        .find(|target| target.name == name)
        .with_context(|| {
            let known: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            format!("no target {name}; there are {}", known.join(", "))
        })
}
