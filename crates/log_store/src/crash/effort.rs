//! How much a fault test does, and what it tells about it: numbers from the environment, a report line, a replay.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `FLAFKA_CRASH_SEED` | this seed alone: what a failure prints |
//! | `FLAFKA_CRASH_SEEDS` | so many seeds instead of the quick run's number |
//! | `FLAFKA_CRASH_FIRST_SEED` | where they begin, default 0 |
//! | `FLAFKA_CRASH_SECONDS` | as many seeds as fit into so many seconds (the release gate) |
//! | `FLAFKA_FAULT_REPORT` | a file that gets one JSON line for each test |
//!
//! Invariant: whatever way a test fails, its seed and the one command that replays it are printed.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::time::{Duration, Instant};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
    )
}

/// One test's account.
pub(super) struct Effort {
    id: &'static str,
    test: &'static str,
    unit: &'static str,
    started: Instant,
    limit: Option<Duration>,
    first: u64,
    next: u64,
    end: u64,
    running: Option<u64>,
    /// The feature that the test needs.
    feature: Option<&'static str>,
    units: u64,
    trace: u64,
    notes: String,
}

impl Effort {
    /// `id` is the test's number in the list of fault tests, `unit` what [`Effort::count`] counts; `seeds` are run
    /// unless the environment says otherwise.
    pub(super) fn new(
        id: &'static str,
        test: &'static str,
        unit: &'static str,
        seeds: u64,
    ) -> Effort {
        let seconds = number("FLAFKA_CRASH_SECONDS");
        let (first, end) = match number("FLAFKA_CRASH_SEED") {
            Some(seed) => (seed, seed.saturating_add(1)),
            None => {
                let first = number("FLAFKA_CRASH_FIRST_SEED").unwrap_or(0);
                let count = number("FLAFKA_CRASH_SEEDS");
                let count = count.unwrap_or(seconds.map_or(seeds, |_| u64::MAX));
                (first, first.saturating_add(count))
            }
        };
        Effort {
            id,
            test,
            unit,
            started: Instant::now(),
            limit: seconds.map(Duration::from_secs),
            first,
            next: first,
            end,
            running: None,
            feature: None,
            units: 0,
            trace: 0,
            notes: String::new(),
        }
    }

    /// The same for a test that exists with a feature only.
    #[cfg(feature = "shuttle")]
    pub(super) fn with_feature(mut self, feature: &'static str) -> Effort {
        self.feature = Some(feature);
        self
    }

    /// Whether more than a quick run is asked for.
    pub(super) fn thorough(&self) -> bool {
        self.limit.is_some() || self.end - self.first > 1000
    }

    /// Whether one seed alone is run again.
    pub(super) fn replaying(&self) -> bool {
        self.end - self.first == 1 && self.limit.is_none() && number("FLAFKA_CRASH_SEED").is_some()
    }

    /// The next seed, while there are any and time is left; the first one always runs.
    pub(super) fn next_seed(&mut self) -> Option<u64> {
        self.running = None;
        if self.next >= self.end || (self.is_late() && self.next > self.first) {
            return None;
        }
        let seed = self.next;
        self.next += 1;
        self.running = Some(seed);
        Some(seed)
    }

    /// Whether the time is over.
    pub(super) fn is_late(&self) -> bool {
        self.limit
            .is_some_and(|limit| self.started.elapsed() >= limit)
    }

    /// Counts judged states.
    pub(super) fn count(&mut self, units: u64) {
        self.units += units;
    }

    /// Folds what a seed did into the hash of the run.
    pub(super) fn trace(&mut self, trace: u64) {
        self.trace = self.trace.rotate_left(1) ^ trace;
    }

    /// What the report should say besides; no quotes.
    pub(super) fn note(&mut self, text: &str) {
        if !self.notes.is_empty() {
            self.notes.push_str("; ");
        }
        self.notes.push_str(text);
    }

    fn replay(&self, seed: u64) -> String {
        let feature = self.feature.map(|name| format!(" --features {name}"));
        format!(
            "FLAFKA_CRASH_SEED={seed} cargo test -p flafka-log-store --lib{} crash::{} -- --exact",
            feature.unwrap_or_default(),
            self.test
        )
    }

    fn line(&self, failed: bool) -> String {
        let mut line = format!(
            "{{\"id\":\"{}\",\"test\":\"crash::{}\",\"unit\":\"{}\",\"count\":{},\"seeds\":{},\"first_seed\":{}",
            self.id,
            self.test,
            self.unit,
            self.units,
            self.next - self.first,
            self.first,
        );
        let seconds = self.started.elapsed().as_secs_f64();
        let verdict = if failed { "failed" } else { "passed" };
        write!(
            line,
            ",\"seconds\":{seconds:.1},\"trace\":\"{:016x}\",\"notes\":\"{}\",\"verdict\":\"{verdict}\"",
            self.trace, self.notes
        )
        .expect("a string takes everything");
        if let Some(seed) = self.running.filter(|_| failed) {
            write!(line, ",\"replay\":\"{}\"", self.replay(seed))
                .expect("a string takes everything");
        }
        line.push('}');
        line
    }
}

impl Drop for Effort {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        let line = self.line(failed);
        if let Some(seed) = self.running.filter(|_| failed) {
            eprintln!(
                "seed {seed} failed; replay it with\n  {}",
                self.replay(seed)
            );
        }
        println!("fault: {line}");
        let Some(path) = std::env::var_os("FLAFKA_FAULT_REPORT") else {
            return;
        };
        let file = File::options().create(true).append(true).open(&path);
        let written = file.and_then(|mut file| writeln!(file, "{line}"));
        if let Err(error) = written {
            eprintln!("cannot write the report {}: {error}", path.display());
        }
    }
}
