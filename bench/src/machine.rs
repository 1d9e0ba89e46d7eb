//! What the numbers were measured on.

use std::process::Command;

use anyhow::{Context, Result};

use crate::workplace::Workplace;

/// Machine, system, disk, and the revision under measurement.
pub(crate) struct Machine {
    processor: String,
    processors: usize,
    memory_bytes: u64,
    system: String,
    disk: String,
    /// What else runs: processes that want a processor, over the last minute.
    load: String,
    /// Short hash; `-changed` behind it when the checkout has changes.
    pub(crate) revision: String,
}

impl Machine {
    /// Looks at the machine and the checkout.
    pub(crate) fn look(workplace: &Workplace) -> Result<Self> {
        let information = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let named = |name: &str| {
            let line = information.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let memory = rustix::system::sysinfo();
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let system = rustix::system::uname();
        let disk = printed(
            "findmnt",
            &["--noheadings", "--output=SOURCE,FSTYPE", "--target"],
        )
        .arg(workplace.path())
        .output();
        let disk = disk.ok().map(|output| output.stdout).unwrap_or_default();
        let disk = String::from_utf8_lossy(&disk);
        Ok(Self {
            processor: named("model name").unwrap_or_else(|| "unknown processor".to_owned()),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: (memory.totalram as u64).saturating_mul(memory.mem_unit.into()),
            system: format!(
                "{} {}",
                system.sysname().to_string_lossy(),
                system.release().to_string_lossy()
            ),
            disk: disk.split_whitespace().collect::<Vec<_>>().join(" "),
            load: load.split(' ').next().unwrap_or_default().to_owned(),
            revision: revision()?,
        })
    }

    /// All of it in one line.
    pub(crate) fn sentence(&self) -> String {
        format!(
            "{} × {}, {:.0} GiB, {}, {}, load of other work {}, revision {}",
            self.processors,
            self.processor,
            self.memory_bytes as f64 / f64::from(1 << 30),
            self.system,
            self.disk,
            self.load,
            self.revision
        )
    }
}

fn printed(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// Whether what was built is what is committed; the crates count, recorded results do not.
fn revision() -> Result<String> {
    let output = printed("git", &["rev-parse", "--short", "HEAD"]).output();
    let output = output.context("ask git for the revision")?;
    let short = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let watched = ["status", "--porcelain", "--", "crates", "Cargo.toml"];
    let changes = printed("git", &watched).output();
    let changed = !changes.context("ask git for changes")?.stdout.is_empty();
    Ok(match (short.is_empty(), changed) {
        (true, _) => "unknown".to_owned(),
        (false, true) => short + "-changed",
        (false, false) => short,
    })
}
