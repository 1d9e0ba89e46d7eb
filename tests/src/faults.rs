//! The account of a fault test: how many cycles it does, what it counted, and one line of JSON for the release gate.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `FLAFKA_CRASH_CYCLES` | so many cycles instead of the quick run's number |
//! | `FLAFKA_CRASH_SECONDS` | as many cycles as fit into so many seconds (the release gate); at least one |
//! | `FLAFKA_SEED` | the seed of the schedule: what a failure prints |
//! | `FLAFKA_FAULT_REPORT` | a file that gets one JSON line for each test |
//!
//! The same form as the simulated faults of `log_store` have (`crash/effort.rs` there). Invariant: a test that ends in
//! any way but by [`Account::passed`] is reported as failed, with the command that repeats it.

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::runner::say;

/// The number in an environment variable.
///
/// # Errors
/// It is no number.
pub fn number(name: &str) -> Result<Option<u64>> {
    let Ok(text) = std::env::var(name) else {
        return Ok(None);
    };
    let number = text.parse();
    Ok(Some(number.with_context(|| {
        format!("{name}={text} is not a number")
    })?))
}

/// What one fault test did.
#[derive(Debug)]
pub struct Account {
    id: &'static str,
    test: String,
    unit: &'static str,
    seed: u64,
    started: Instant,
    most: u64,
    limit: Option<Duration>,
    cycles: u64,
    numbers: Map<String, Value>,
    restarts: Vec<Duration>,
    notes: Vec<String>,
    passed: bool,
}

impl Account {
    /// Opens an account; `id` is the number in the list of fault tests, `test` the case's whole name, `unit` what a cycle
    /// is called, `quick` how many there are unless the environment says otherwise.
    ///
    /// # Errors
    /// A variable of the environment is no number.
    pub fn open(
        id: &'static str,
        test: &str,
        unit: &'static str,
        quick: u64,
        seed: u64,
    ) -> Result<Self> {
        let seconds = number("FLAFKA_CRASH_SECONDS")?;
        let most = number("FLAFKA_CRASH_CYCLES")?;
        let most = most.unwrap_or(seconds.map_or(quick, |_| u64::MAX));
        say(&format!("{id} {test}: seed {seed}"));
        Ok(Self {
            id,
            test: test.to_owned(),
            unit,
            seed,
            started: Instant::now(),
            most,
            limit: seconds.map(Duration::from_secs),
            cycles: 0,
            numbers: Map::new(),
            restarts: Vec::new(),
            notes: Vec::new(),
            passed: false,
        })
    }

    /// Whether another cycle is wanted; the first one always is.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        let late = self
            .limit
            .is_some_and(|limit| self.started.elapsed() >= limit);
        self.cycles < self.most && (!late || self.cycles == 0)
    }

    /// Whether still another one is wanted when so many are under way.
    #[must_use]
    pub fn goes_on_after(&self, under_way: u64) -> bool {
        self.goes_on() && self.cycles + under_way < self.most
    }

    /// Counts a cycle.
    pub fn cycle(&mut self) {
        self.cycles += 1;
    }

    /// Cycles so far.
    #[must_use]
    pub fn cycles(&self) -> u64 {
        self.cycles
    }

    /// Adds to a number of the report, such as `acknowledged`, `lost`, `duplicates`, `duplicates_bound`.
    pub fn add(&mut self, name: &str, more: u64) {
        let old = self.numbers.get(name).and_then(Value::as_u64).unwrap_or(0);
        self.numbers.insert(name.to_owned(), json!(old + more));
    }

    /// Notes how long a restart took.
    pub fn restart(&mut self, took: Duration) {
        self.restarts.push(took);
    }

    /// Says something besides.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Closes the account of a test that has passed.
    pub fn passed(mut self) {
        self.passed = true;
    }

    fn replay(&self) -> String {
        format!(
            "FLAFKA_SEED={} FLAFKA_CRASH_CYCLES={} cargo test -p flafka-tests --test crash -- --exact {}",
            self.seed,
            self.cycles + 1,
            self.test
        )
    }

    fn line(&mut self) -> String {
        let mut line = json!({
            "id": self.id,
            "test": self.test,
            "unit": self.unit,
            "count": self.cycles,
            "seeds": 1,
            "first_seed": self.seed,
            "seconds": self.started.elapsed().as_secs_f64().round(),
            "notes": self.notes.join("; "),
            "verdict": if self.passed { "passed" } else { "failed" },
        });
        self.restarts.sort();
        if let (Some(middle), Some(longest)) = (
            self.restarts.get(self.restarts.len() / 2),
            self.restarts.last(),
        ) {
            line["restart_median_s"] = json!(rounded(*middle));
            line["restart_longest_s"] = json!(rounded(*longest));
        }
        if !self.passed {
            line["replay"] = json!(self.replay());
        }
        for (name, value) in &self.numbers {
            line[name] = value.clone();
        }
        line.to_string()
    }
}

fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

impl Drop for Account {
    fn drop(&mut self) {
        let line = self.line();
        say(&format!("fault: {line}"));
        if !self.passed {
            say(&format!(
                "seed {} failed; repeat it with\n  {}",
                self.seed,
                self.replay()
            ));
        }
        let Some(path) = std::env::var_os("FLAFKA_FAULT_REPORT") else {
            return;
        };
        let file = File::options().create(true).append(true).open(&path);
        if let Err(error) = file.and_then(|mut file| writeln!(file, "{line}")) {
            say(&format!(
                "cannot write the report {}: {error}",
                path.to_string_lossy()
            ));
        }
    }
}
