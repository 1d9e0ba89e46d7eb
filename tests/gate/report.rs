//! The report: Markdown, for `docs/torture/`.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::plan::{Fault, Home, NOTHING, Part, never_run, root};

/// How a test ended.
#[derive(Debug, Clone)]
pub(crate) enum Verdict {
    Passed,
    /// With what it printed last.
    Failed(String),
    /// With the reason.
    NotRun(String),
}

/// A test that has been run, or not.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) part: Part,
    pub(crate) seconds: u64,
    /// What it wrote.
    pub(crate) line: Option<Value>,
    pub(crate) verdict: Verdict,
    /// What it printed of its own.
    pub(crate) said: String,
}

impl Done {
    fn text(&self, name: &str) -> String {
        match self.line.as_ref().map(|line| &line[name]) {
            None | Some(Value::Null) => "–".to_owned(),
            Some(Value::String(text)) if name == "trace" && text.trim_matches('0').is_empty() => {
                "–".to_owned()
            }
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        }
    }

    fn word(&self) -> &'static str {
        match self.verdict {
            Verdict::Passed => "passed",
            Verdict::Failed(_) => "**FAILED**",
            Verdict::NotRun(_) => "not run",
        }
    }

    fn number(&self, name: &str) -> u64 {
        let line = self.line.as_ref();
        line.and_then(|line| line[name].as_u64()).unwrap_or(0)
    }

    /// Acknowledged events that are gone although the case promises that none are.
    pub(crate) fn broken_promise(&self) -> u64 {
        if self.part.fault.may_lose == NOTHING {
            self.number("lost")
        } else {
            0
        }
    }

    /// One line.
    pub(crate) fn summary(&self) -> String {
        let (count, unit) = (self.text("count"), self.text("unit"));
        let rest = match &self.verdict {
            Verdict::NotRun(reason) => reason.clone(),
            Verdict::Failed(text) => text.clone(),
            Verdict::Passed => format!("{count} {unit}, lost {}", self.text("lost")),
        };
        format!("{} {}: {rest}", self.part.name, self.word())
    }
}

/// Where and what.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) revision: String,
    lines: Vec<String>,
}

impl Machine {
    /// Asks the system.
    pub(crate) fn look() -> Self {
        let ask = |program: &str, arguments: &[&str]| {
            let output = Command::new(program)
                .args(arguments)
                .current_dir(root())
                .output();
            output.map_or_else(
                |_| "unknown".to_owned(),
                |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            )
        };
        let read = |path: &str, start: &str| {
            let text = fs::read_to_string(path).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(start));
            let value = line.and_then(|line| line.split_once(':'));
            value.map_or_else(
                || "unknown".to_owned(),
                |(_, value)| value.trim().to_owned(),
            )
        };
        let processors = std::thread::available_parallelism().map_or(0, usize::from);
        let changed = if ask("git", &["status", "--porcelain", "--untracked-files=no"]).is_empty() {
            ""
        } else {
            ", with changes that are not committed"
        };
        let revision = ask("git", &["rev-parse", "--short", "HEAD"]);
        Self {
            date: ask("date", &["-u", "+%Y-%m-%d"]),
            lines: vec![
                format!("Revision {revision}{changed}; {}.", ask("rustc", &["--version"])),
                format!(
                    "Machine: {processors} processors ({}), {} of memory, Linux {}.",
                    read("/proc/cpuinfo", "model name"),
                    read("/proc/meminfo", "MemTotal"),
                    ask("uname", &["-r"]),
                ),
                "Simulated faults: profile `gate` (optimised, debug assertions and overflow checks on). Real faults: the \
                 binary named by FLAFKA_BIN, `./dev gate` builds it with `--release`."
                    .to_owned(),
            ],
            revision,
        }
    }
}

/// The whole report.
pub(crate) fn text(machine: &Machine, minutes: u64, took: Duration, done: &[Done]) -> String {
    let mut out = format!(
        "# Release gate of {}, {}\n\n",
        machine.date, machine.revision
    );
    for line in &machine.lines {
        put(&mut out, &format!("- {line}"));
    }
    put(
        &mut out,
        &format!(
            "- Asked for {minutes} minutes, took {:.0}: `./dev gate --minutes {minutes}`.",
            took.as_secs_f64() / 60.0
        ),
    );
    let of = |wanted: fn(&Verdict) -> bool| done.iter().filter(|one| wanted(&one.verdict)).count();
    put(
        &mut out,
        &format!(
            "\n**{} passed, {} failed, {} not run.** Lost is an acknowledged event that is neither in the channel nor at the sink.\n",
            of(|verdict| matches!(verdict, Verdict::Passed)),
            of(|verdict| matches!(verdict, Verdict::Failed(_))),
            of(|verdict| matches!(verdict, Verdict::NotRun(_))),
        ),
    );
    totals(&mut out, done);
    simulated(&mut out, done);
    real(&mut out, done);
    put(&mut out, "\n## Not run\n");
    for one in done {
        if let Verdict::NotRun(reason) = &one.verdict {
            put(
                &mut out,
                &format!("- {} `{}`: {reason}", one.part.id, one.part.name),
            );
        }
    }
    for (what, reason) in never_run() {
        put(&mut out, &format!("- {what}: {reason}"));
    }
    failures(&mut out, done);
    out
}

/// What all tests of a fault have in common: what the reader came for.
fn totals(out: &mut String, done: &[Done]) {
    let of_model = |one: &&Done| one.part.home != Home::Real;
    let model = || done.iter().filter(of_model);
    let (seeds, judged) = (
        model().map(|one| one.number("seeds")).sum::<u64>(),
        model().map(|one| one.number("count")).sum::<u64>(),
    );
    let wrong = model()
        .filter(|one| matches!(one.verdict, Verdict::Failed(_)))
        .count();
    put(out, "## Totals\n");
    put(
        out,
        &format!(
            "On the simulated disk: {judged} crashes, failed calls, damaged logs and schedules from {seeds} seeds; {wrong} tests \
             found a state that the model does not allow. On real disks, by the mode of durability of the channel:\n"
        ),
    );
    put(
        out,
        "| fault | durability | cycles | acknowledged events | lost | may lose |",
    );
    put(out, "| --- | --- | --- | --- | --- | --- |");
    let lost_where = |wanted: fn(&Fault) -> bool| -> u64 {
        let real = done.iter().filter(|one| one.part.home == Home::Real);
        real.filter(|one| wanted(&one.part.fault))
            .map(|one| one.number("lost"))
            .sum()
    };
    let told = format!(
        "**{} acknowledged events lost to SIGKILL, in any mode; {} in mode fsync, to any fault.**\n",
        lost_where(|fault| fault.what == "SIGKILL"),
        lost_where(|fault| fault.durability == "fsync"),
    );
    let mut sums: BTreeMap<Fault, (u64, u64, u64)> = BTreeMap::new();
    for one in done {
        if one.part.home != Home::Real || one.line.is_none() {
            continue;
        }
        let sum = sums.entry(one.part.fault).or_default();
        sum.0 += one.number("count");
        sum.1 += one.number("acknowledged");
        sum.2 += one.number("lost");
    }
    for (fault, (cycles, acknowledged, lost)) in sums {
        put(
            out,
            &format!(
                "| {} | {} | {cycles} | {acknowledged} | {lost} | {} |",
                fault.what, fault.durability, fault.may_lose
            ),
        );
    }
    put(out, "");
    put(out, &told);
}

fn simulated(out: &mut String, done: &[Done]) {
    put(out, "## Simulated disk\n");
    put(
        out,
        "Every one of these is a comparison with a model of the log: a lost, torn or made-up record fails the test. A seed \
         does the same calls again wherever it runs (F26); `FLAFKA_CRASH_SEED=<seed>` replays one.\n",
    );
    put(
        out,
        "| id | test | seeds from | seeds | judged | seconds | hash of all calls | verdict |",
    );
    put(out, "| --- | --- | --- | --- | --- | --- | --- | --- |");
    for one in done.iter().filter(|one| one.part.home != Home::Real) {
        put(
            out,
            &format!(
                "| {} | `{}` | {} | {} | {} {} | {} | {} | {} |",
                one.part.id,
                one.part.name,
                one.text("first_seed"),
                one.text("seeds"),
                one.text("count"),
                one.text("unit"),
                one.text("seconds"),
                one.text("trace"),
                one.word()
            ),
        );
    }
}

fn real(out: &mut String, done: &[Done]) {
    put(out, "\n## The binary\n");
    put(
        out,
        "| id | test | cycles | acknowledged events | lost | there again (at most) | restart to ready, median / longest s | verdict |",
    );
    put(out, "| --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut notes = String::new();
    for one in done.iter().filter(|one| one.part.home == Home::Real) {
        put(
            out,
            &format!(
                "| {} | `{}` | {} {} | {} | {} | {} ({}) | {} / {} | {} |",
                one.part.id,
                one.part.name,
                one.text("count"),
                one.text("unit"),
                one.text("acknowledged"),
                one.text("lost"),
                one.text("duplicates"),
                one.text("duplicates_bound"),
                one.text("restart_median_s"),
                one.text("restart_longest_s"),
                one.word()
            ),
        );
        let mut said: Vec<String> = Vec::new();
        for name in [
            "refused_posts",
            "refused_records",
            "longer_than_5_s",
            "health_asked",
            "health_over_100_ms",
        ] {
            if one.text(name) != "–" {
                said.push(format!("{name} {}", one.text(name)));
            }
        }
        said.extend(
            [one.text("notes"), one.said.clone()]
                .into_iter()
                .filter(|text| text.len() > 3),
        );
        if !said.is_empty() {
            let told: String = said.join("; ").chars().take(1500).collect();
            put(
                &mut notes,
                &format!(
                    "- `{}` (seed {}, {} s): {told}",
                    one.part.name,
                    one.text("first_seed"),
                    one.seconds
                ),
            );
        }
    }
    put(out, "");
    out.push_str(&notes);
}

fn failures(out: &mut String, done: &[Done]) {
    let mut heading = "\n## Failures\n";
    for one in done {
        if let Verdict::Failed(text) = &one.verdict {
            put(out, heading);
            heading = "";
            put(
                out,
                &format!(
                    "`{}`, replay with:\n\n    {}\n\n```text\n{text}\n```",
                    one.part.name,
                    one.text("replay")
                ),
            );
        }
    }
}

fn put(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}
