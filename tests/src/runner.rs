//! Runs named cases against a server that is started once and stopped at the end.
//!
//! Why not libtest: it has no place to stop a server that many cases share, so each test would start its own or leave
//! one behind. The closing line has libtest's form, so that whoever counts tests needs to know one form only.
//! Arguments, as libtest's: name parts to select cases, `--exact`, `--list`, `--test-threads N`; `--case-limit SECONDS`
//! (default 180) is the time one case may take. Invariant: a server that cannot start fails all its selected cases; no
//! case is skipped quietly. A case that this machine cannot run says so with [`not_run`]: it is counted as ignored, named
//! again at the end with its reason, and fails nothing.

use std::fmt;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

/// Cases at a time.
const DEFAULT_THREADS: usize = 2;

/// What cases run against; shared by all of them.
pub trait Subject: Send + Sync + 'static {
    /// What helps to understand a failure, such as the end of a server's log.
    fn evidence(&self) -> String;
}

/// A subject for cases that bring all they need.
impl Subject for () {
    fn evidence(&self) -> String {
        String::new()
    }
}

/// Why a case was not run.
#[derive(Debug)]
struct NotRun(String);

impl fmt::Display for NotRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotRun {}

/// The error of a case that this machine cannot run.
#[must_use]
pub fn not_run(reason: &str) -> anyhow::Error {
    anyhow!(NotRun(reason.to_owned()))
}

type Body<S> = Arc<dyn Fn(&S) -> Result<()> + Send + Sync>;

/// One named case.
pub struct Case<S> {
    name: String,
    body: Body<S>,
    limit: Option<Duration>,
}

impl<S> Case<S> {
    /// A case; `name` is unique within its suite.
    pub fn new(
        name: impl Into<String>,
        body: impl Fn(&S) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            body: Arc::new(body),
            limit: None,
        }
    }

    /// The same case with a time limit of its own, for one that is known to take longer; a larger `--case-limit` wins.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }
}

struct Options {
    filters: Vec<String>,
    exact: bool,
    list: bool,
    threads: Option<usize>,
    case_limit: Duration,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            filters: Vec::new(),
            exact: false,
            list: false,
            threads: None,
            case_limit: Duration::from_secs(180),
        };
        while let Some(argument) = arguments.next() {
            let (name, inline) = match argument.split_once('=') {
                Some((name, value)) if name.starts_with("--") => {
                    (name.to_owned(), Some(value.to_owned()))
                }
                _ => (argument, None),
            };
            let mut number = || {
                let text = inline
                    .clone()
                    .or_else(|| arguments.next())
                    .with_context(|| format!("{name} wants a number"))?;
                text.parse::<u32>()
                    .ok()
                    .filter(|n| *n > 0)
                    .with_context(|| format!("{name}: not a number: {text}"))
            };
            match name.as_str() {
                "--exact" => options.exact = true,
                "--list" => options.list = true,
                "--nocapture" | "--show-output" => {}
                "--test-threads" => options.threads = Some(number()? as usize),
                "--case-limit" => options.case_limit = Duration::from_secs(u64::from(number()?)),
                _ if name.starts_with("--") => {
                    bail!(
                        "unknown option {name}: known are --exact --list --test-threads N --case-limit SECONDS"
                    )
                }
                _ => options.filters.push(name),
            }
        }
        Ok(options)
    }

    fn selects(&self, name: &str) -> bool {
        let matches = |filter: &String| {
            if self.exact {
                name == filter
            } else {
                name.contains(filter.as_str())
            }
        };
        self.filters.is_empty() || self.filters.iter().any(matches)
    }
}

/// One run of a test target: its options, and what has happened so far.
pub struct Run {
    options: Options,
    started: Instant,
    passed: usize,
    failed: Vec<String>,
    not_run: Vec<String>,
    filtered_out: usize,
}

impl Run {
    /// Reads the command line.
    ///
    /// # Errors
    /// An unknown option, or a value that is no number.
    pub fn from_arguments() -> Result<Self> {
        let options = Options::parse(std::env::args().skip(1))?;
        Ok(Self {
            options,
            started: Instant::now(),
            passed: 0,
            failed: Vec::new(),
            not_run: Vec::new(),
            filtered_out: 0,
        })
    }

    /// The same run with one case at a time, unless the command line says otherwise: for cases that load the machine.
    #[must_use]
    pub fn one_after_the_other(mut self) -> Self {
        self.options.threads.get_or_insert(1);
        self
    }

    /// Runs the selected `cases` against the subject that `start` makes; it is not made when no case is selected.
    pub fn suite<S: Subject>(
        &mut self,
        suite: &str,
        start: impl FnOnce() -> Result<S>,
        cases: Vec<Case<S>>,
    ) {
        let total = cases.len();
        let selected: Vec<Case<S>> = cases
            .into_iter()
            .map(|case| Case {
                name: format!("{suite}::{}", case.name),
                ..case
            })
            .filter(|case| self.options.selects(&case.name))
            .collect();
        self.filtered_out += total - selected.len();
        if self.options.list {
            selected
                .iter()
                .for_each(|case| say(&format!("{}: test", case.name)));
            return;
        }
        if selected.is_empty() {
            return;
        }
        let starting = Instant::now();
        match start() {
            Ok(subject) => {
                say(&format!(
                    "{suite}: ready after {:.1} s",
                    starting.elapsed().as_secs_f64()
                ));
                self.run_all(Arc::new(subject), &selected);
            }
            Err(error) => {
                say(&format!("{suite}: cannot start: {error:#}"));
                self.failed
                    .extend(selected.into_iter().map(|case| case.name));
            }
        }
    }

    fn run_all<S: Subject>(&mut self, subject: Arc<S>, cases: &[Case<S>]) {
        let next = AtomicUsize::new(0);
        let outcomes = Mutex::new(Vec::new());
        let limit = self.options.case_limit;
        let threads = self.options.threads.unwrap_or(DEFAULT_THREADS);
        thread::scope(|scope| {
            for _ in 0..threads.min(cases.len()) {
                scope.spawn(|| {
                    while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let limit = limit.max(case.limit.unwrap_or(limit));
                        let result = run_one(&subject, case, limit);
                        outcomes
                            .lock()
                            .expect("reporting does not panic")
                            .push((case.name.clone(), result));
                    }
                });
            }
        });
        for (name, result) in outcomes.into_inner().expect("reporting does not panic") {
            match result {
                Ok(()) => self.passed += 1,
                Err(error) => match error.downcast_ref::<NotRun>() {
                    Some(reason) => self.not_run.push(format!("{name}: {reason}")),
                    None => self.failed.push(name),
                },
            }
        }
    }

    /// Prints the closing lines.
    #[must_use]
    pub fn finish(self) -> ExitCode {
        if self.options.list {
            return ExitCode::SUCCESS;
        }
        if !self.failed.is_empty() {
            say(&format!("\nfailures:\n    {}", self.failed.join("\n    ")));
        }
        for case in &self.not_run {
            say(&format!("not run: {case}"));
        }
        let word = if self.failed.is_empty() {
            "ok"
        } else {
            "FAILED"
        };
        say(&format!(
            "\ntest result: {word}. {} passed; {} failed; {} ignored; 0 measured; {} filtered out; finished in {:.2}s\n",
            self.passed,
            self.failed.len(),
            self.not_run.len(),
            self.filtered_out,
            self.started.elapsed().as_secs_f64()
        ));
        if self.failed.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

/// Runs one case in a thread of its own, so that one that hangs can be given up.
fn run_one<S: Subject>(subject: &Arc<S>, case: &Case<S>, limit: Duration) -> Result<()> {
    let started = Instant::now();
    let (send, receive) = sync_channel(1);
    let (body, own) = (Arc::clone(&case.body), Arc::clone(subject));
    let spawned = thread::Builder::new()
        .name(case.name.clone())
        .spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| body(&own)));
            drop(own);
            drop(send.send(result));
        });
    let result = match spawned {
        Ok(_) => match receive.recv_timeout(limit) {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => Err(anyhow!("panicked: {}", panic_text(&*panic))),
            Err(_) => Err(anyhow!("has not ended after {} s", limit.as_secs())),
        },
        Err(error) => Err(anyhow!(error).context("start a thread for the case")),
    };
    let seconds = started.elapsed().as_secs_f64();
    match &result {
        Ok(()) => say(&format!("test {} ... ok ({seconds:.1} s)", case.name)),
        Err(error) if error.is::<NotRun>() => {
            say(&format!("test {} ... not run: {error:#}", case.name));
        }
        Err(error) => {
            say(&format!(
                "test {} ... FAILED ({seconds:.1} s)\n{error:#}\n{}",
                case.name,
                subject.evidence()
            ));
        }
    }
    result
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no text".to_owned())
}

/// Prints one line, also from within a case: what a case measured. Whole lines stay whole when several threads print.
pub fn say(line: &str) {
    let mut out = io::stdout().lock();
    // A closed standard output has nobody left to tell.
    drop(writeln!(out, "{line}"));
    drop(out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &[&str]) -> Run {
        let options = Options::parse(arguments.iter().map(|text| (*text).to_owned()))
            .expect("good arguments");
        Run {
            options,
            started: Instant::now(),
            passed: 0,
            failed: Vec::new(),
            not_run: Vec::new(),
            filtered_out: 0,
        }
    }

    fn three() -> Vec<Case<()>> {
        vec![
            Case::new("good", |_| Ok(())),
            Case::new("bad", |_| bail!("as told")),
            Case::new("worse", |_| panic!("as told")),
        ]
    }

    #[test]
    fn cases_are_counted_and_filtered() {
        let mut all = run(&[]);
        all.suite("s", || Ok(()), three());
        assert_eq!((all.passed, all.failed.len(), all.filtered_out), (1, 2, 0));
        let mut some = run(&["s::good", "--exact"]);
        some.suite("s", || Ok(()), three());
        assert_eq!(
            (some.passed, some.failed.len(), some.filtered_out),
            (1, 0, 2)
        );
    }

    #[test]
    fn a_server_that_cannot_start_fails_every_selected_case_and_is_not_started_for_none() {
        let mut all = run(&[]);
        all.suite::<()>("s", || bail!("no server"), three());
        assert_eq!((all.passed, all.failed.len()), (0, 3));
        let mut none = run(&["elsewhere"]);
        none.suite::<()>("s", || panic!("must not start"), three());
        assert_eq!(
            (none.passed, none.failed.len(), none.filtered_out),
            (0, 0, 3)
        );
    }

    #[test]
    fn a_case_that_cannot_run_here_is_counted_and_fails_nothing() {
        let mut all = run(&[]);
        let cases = vec![Case::new("root", |_| {
            Err(not_run("needs root").context("mount"))
        })];
        all.suite("s", || Ok(()), cases);
        assert_eq!((all.passed, all.failed.len()), (0, 0));
        assert_eq!(all.not_run, ["s::root: needs root"]);
    }

    #[test]
    fn a_case_that_hangs_is_given_up() {
        let mut hanging = run(&["--case-limit", "1"]);
        hanging.suite(
            "s",
            || Ok(()),
            vec![Case::new("hangs", |_| {
                loop {
                    thread::park();
                }
            })],
        );
        assert_eq!(hanging.failed, ["s::hangs"]);
    }

    #[test]
    fn unknown_options_are_refused() {
        assert!(Options::parse(["--what".to_owned()].into_iter()).is_err());
        assert!(Options::parse(["--test-threads=0".to_owned()].into_iter()).is_err());
    }
}
