//! The comparison: everything acknowledged against what each group got.

use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use super::inputs::{Layout, TOPIC};
use super::ledger::Ledger;
use crate::exit::counted;

/// What was acknowledged.
pub(super) struct Expected {
    pub(super) all: Ledger,
    files: u64,
    posts: u64,
}

/// The log lines up to the saved positions, and the acknowledged posts.
///
/// # Errors
/// When a file or the position file cannot be read.
pub(super) fn expected(layout: &Layout, posted: Ledger) -> anyhow::Result<Expected> {
    let mut all = Ledger::default();
    let path = layout.dir.join("position.json");
    let positions = match std::fs::read(&path) {
        Ok(bytes) => {
            serde_json::from_slice(&bytes).with_context(|| format!("read {}", path.display()))?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Value::Null,
        Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
    };
    for entry in positions.as_array().into_iter().flatten() {
        let (Some(file), Some(position)) = (entry["file"].as_str(), entry["pos"].as_u64()) else {
            continue;
        };
        let bytes = std::fs::read(file).with_context(|| format!("read {file}"))?;
        let read = usize::try_from(position)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        for line in bytes[..read].split_inclusive(|byte| *byte == b'\n') {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            all.add(line.strip_suffix(b"\r").unwrap_or(line));
        }
    }
    let files = all.total();
    all.extend(&posted);
    Ok(Expected {
        all,
        files,
        posts: posted.total(),
    })
}

/// What a group got.
struct Group {
    name: &'static str,
    total: u64,
    missing: u64,
    checksum: u64,
}

/// The result.
pub(super) struct Proof {
    expected: Expected,
    groups: [Group; 2],
    restart: Duration,
    elapsed: Duration,
}

/// Reads the rolled files and compares both groups with what was acknowledged.
///
/// # Errors
/// When the rolled files cannot be read.
pub(super) fn compare(
    layout: &Layout,
    expected: Expected,
    counted: Ledger,
    restart: Duration,
    elapsed: Duration,
) -> anyhow::Result<Proof> {
    let written = Ledger::of_files(&layout.out)?;
    let group = |name, got: &Ledger| Group {
        name,
        total: got.total(),
        missing: expected.all.missing_in(got),
        checksum: expected.all.checksum_found_in(got),
    };
    let groups = [
        group("files (agent, rolled files)", &written),
        group("counter (plain Kafka client)", &counted),
    ];
    Ok(Proof {
        expected,
        groups,
        restart,
        elapsed,
    })
}

impl Proof {
    /// Whether nothing is missing.
    pub(super) fn holds(&self) -> bool {
        let checksum = self.expected.all.checksum();
        self.groups
            .iter()
            .all(|group| group.missing == 0 && group.checksum == checksum)
    }

    /// The comparison as a table.
    pub(super) fn table(&self) -> String {
        let total = self.expected.all.total();
        let mut lines = vec![
            String::new(),
            format!(
                "{:<34} {:>10} {:>8} {:>11}  checksum",
                "", "events", "missing", "duplicates"
            ),
            format!(
                "{:<34} {:>10} {:>8} {:>11}  {:016x}",
                "acknowledged",
                total,
                "",
                "",
                self.expected.all.checksum()
            ),
        ];
        for group in &self.groups {
            let duplicates = (group.total + group.missing).saturating_sub(total);
            lines.push(format!(
                "group {:<28} {:>10} {:>8} {:>11}  {:016x}",
                group.name, group.total, group.missing, duplicates, group.checksum
            ));
        }
        lines.push(String::new());
        lines.push(format!(
            "{} and {} were acknowledged; the shipping agent was killed once with SIGKILL and ready again {:.2} s after its restart; {:.0} s in all.",
            counted(self.expected.files, "log line"),
            counted(self.expected.posts, "post"),
            self.restart.as_secs_f64(),
            self.elapsed.as_secs_f64()
        ));
        lines.push(if self.holds() {
            "PROVED: every acknowledged event came out in both groups.".to_owned()
        } else {
            "FAILED: acknowledged events are missing.".to_owned()
        });
        lines.join("\n")
    }

    /// Where the files lie and what to try next.
    pub(super) fn next_commands(&self, layout: &Layout) -> String {
        let (dir, bootstrap) = (layout.dir.display(), layout.bootstrap());
        let program =
            std::env::current_exe().map_or("flafka".to_owned(), |path| path.display().to_string());
        format!(
            "\nFiles: {dir}\n  server.properties  ship.conf  write.conf  rolled-files/  log-data/  logs/\n\nTry next:\n  {program} broker -f {dir}/server.properties &\n  kcat -b {bootstrap} -t {TOPIC} -C -e -o beginning | head\n  {program} check {dir}/ship.conf\n"
        )
    }
}
