//! `flafka log import`.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use flafka_channels::file::FileChannelConfig;
use flafka_channels::file::import::{ImportKeys, ImportOptions, ImportReport, ImportStep, import};
use flafka_config::topology::ChannelConfig;
use flafka_flow::settings::{Report, Settings};
use serde_json::json;

use super::arguments::ImportArguments;
use super::text;
use crate::commands::check;
use crate::exit::{Ending, Outcome, complain, say};

/// Damaged places that are printed; more are only counted.
const SHOWN_FINDINGS: usize = 50;

pub(super) fn run(arguments: ImportArguments) -> Outcome {
    let options = options(&arguments)?;
    let mut progress = ProgressLine::new();
    let mut shown = 0;
    let imported = import(&options, &mut |step| match step {
        ImportStep::Found(finding) => {
            progress.clear();
            shown += 1;
            if shown <= SHOWN_FINDINGS {
                complain(&format!("flafka: {finding}"));
            } else if shown == SHOWN_FINDINGS + 1 {
                complain("flafka: more places follow; the result counts them");
            }
        }
        ImportStep::Reading(read) => progress.show(|| {
            let (done, all) = (text::bytes(read.read_bytes), text::bytes(read.all_bytes));
            format!("reading the logs: {done} of {all}")
        }),
        ImportStep::Importing { done, all } => {
            progress.show(|| format!("importing: {done} of {}", text::count(all, "event")));
        }
    });
    progress.clear();
    let report = imported?;
    if arguments.json {
        say(&as_json(&report, options.dry_run))?;
    } else {
        print(&report, &options)?;
    }
    // What cannot be read was named; it is a failure unless it was expected.
    Ok(match report.damaged > 0 && !options.leave_out_damaged {
        true => Ending::Failed,
        false => Ending::Done,
    })
}

/// Where from and where to, from the options or from the conf file.
fn options(arguments: &ImportArguments) -> anyhow::Result<ImportOptions> {
    let mut options = ImportOptions {
        checkpoint_dir: arguments.checkpoint_dir.clone(),
        data_dirs: arguments.data_dirs.clone(),
        to: PathBuf::new(),
        leave_out_damaged: arguments.leave_out_damaged,
        append: arguments.append,
        dry_run: arguments.dry_run,
        keys: None,
    };
    if let Some(channel) = &arguments.channel {
        let found = find_channel(arguments, channel)?;
        let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
        let below = |key: &str, default: &str| {
            let value = found.section.get(key).map_or(default, str::trim).to_owned();
            let dirs = value
                .split(',')
                .map(str::trim)
                .filter(|dir| !dir.is_empty());
            dirs.map(|dir| below_home(dir, &home))
                .collect::<Vec<PathBuf>>()
        };
        options.data_dirs = below("dataDirs", "~/.flume/file-channel/data");
        let config = FileChannelConfig::from_section(&found.section, &mut Report::new());
        options.keys = config.and_then(|config| ImportKeys::of(&config, &home));
        let checkpoints = below("checkpointDir", "~/.flume/file-channel/checkpoint");
        options.checkpoint_dir = checkpoints.into_iter().next();
    }
    let first = options.data_dirs.first();
    let to = arguments.to.as_ref().or(first);
    options.to = to
        .context("name the data directories with --data-dirs")?
        .clone();
    Ok(options)
}

fn find_channel(arguments: &ImportArguments, channel: &str) -> anyhow::Result<ChannelConfig> {
    crate::commands::agent::require_files(&arguments.configuration)?;
    let outcome = check::load(&arguments.configuration, arguments.name.as_deref())?;
    let mut found = Vec::new();
    for agent in outcome.agents {
        let of_name = agent
            .channels
            .into_iter()
            .filter(|found| found.name == channel);
        found.extend(of_name.map(|channel| (agent.name.clone(), channel)));
    }
    let agents: Vec<&str> = found.iter().map(|(agent, _)| agent.as_str()).collect();
    if agents.len() > 1 {
        bail!(
            "several agents have a channel {channel}: {}; choose one with -n",
            agents.join(", ")
        );
    }
    let Some((agent, found)) = found.pop() else {
        bail!(
            "the configuration has no channel {channel} that can be read; `flafka check` shows what it has"
        );
    };
    let is_file = found.type_name.eq_ignore_ascii_case("file")
        || found.type_name == "org.apache.flume.channel.file.FileChannel";
    if !is_file {
        bail!(
            "{agent}.channels.{channel} is of type {}, only file channels can be imported",
            found.type_name
        );
    }
    Ok(found)
}

fn below_home(dir: &str, home: &Path) -> PathBuf {
    match dir.strip_prefix("~/") {
        Some(below) => home.join(below),
        None => PathBuf::from(dir),
    }
}

fn print(report: &ImportReport, options: &ImportOptions) -> anyhow::Result<()> {
    let (files, size) = report.source;
    let files = text::count(files as u64, "log file");
    let Some(counts) = report.counts else {
        say(&format!(
            "imported already: {} are in {}",
            text::count(report.imported_before, "event"),
            report.log_dir.display()
        ))?;
        return Ok(());
    };
    let line = |name: &str, what: String| say(&format!("{name:<12} {what}"));
    line("source", format!("{files}, {}", text::bytes(size)))?;
    line("read from", report.start.clone())?;
    line(
        "found",
        format!(
            "{} that were put and committed",
            text::count(counts.found, "event")
        ),
    )?;
    line("  taken", format!("{} delivered already", counts.taken))?;
    line(
        "  waiting",
        format!(
            "{}, {} of them in a take that was not committed",
            counts.waiting, counts.returned
        ),
    )?;
    line(
        "uncommitted",
        format!(
            "{} of puts that were not committed, left out as by Flume",
            counts.uncommitted
        ),
    )?;
    line("damaged", damaged(report))?;
    if options.dry_run {
        return line("imported", "nothing: this was a dry run".to_owned());
    }
    let mut what = format!(
        "{} into {}",
        text::count(report.imported, "event"),
        report.log_dir.display()
    );
    if report.imported_before > 0 {
        what.push_str(&format!(", {} before", report.imported_before));
    }
    line("imported", what)
}

/// A damaged event is known by number; how many lay in damaged bytes of a log file nobody can say.
fn damaged(report: &ImportReport) -> String {
    let places = text::count(report.damaged, "place");
    let events = text::count(report.left_out, "event");
    match left_out_is_exact(report) {
        true => format!("{places}, {events} left out"),
        false => format!(
            "{places}, at least {events} left out: how many lay in damaged bytes is not known"
        ),
    }
}

fn left_out_is_exact(report: &ImportReport) -> bool {
    report.damaged <= report.left_out
}

fn as_json(report: &ImportReport, dry_run: bool) -> String {
    let counts = report.counts.map(|counts| {
        json!({
            "records": counts.records,
            "found": counts.found,
            "taken": counts.taken,
            "waiting": counts.waiting,
            "returned": counts.returned,
            "uncommitted": counts.uncommitted,
        })
    });
    json!({
        "log": report.log_dir,
        "read_from": report.start,
        "log_files": report.source.0,
        "log_bytes": report.source.1,
        "counts": counts,
        "imported": report.imported,
        "imported_before": report.imported_before,
        "left_out": report.left_out,
        "left_out_is_exact": left_out_is_exact(report),
        "damaged": report.damaged,
        "dry_run": dry_run,
        "already_done": report.counts.is_none(),
    })
    .to_string()
}

/// One line that changes on a terminal; elsewhere a line now and then.
struct ProgressLine {
    terminal: bool,
    last: Instant,
    visible: bool,
}

impl ProgressLine {
    fn new() -> Self {
        Self {
            terminal: std::io::stderr().is_terminal(),
            last: Instant::now(),
            visible: false,
        }
    }

    fn show(&mut self, text: impl FnOnce() -> String) {
        let pause = match self.terminal {
            true => Duration::from_millis(200),
            false => Duration::from_secs(10),
        };
        if self.last.elapsed() < pause {
            return;
        }
        self.last = Instant::now();
        if !self.terminal {
            return complain(&text());
        }
        self.visible = true;
        // A terminal that is gone needs no progress.
        drop(write!(std::io::stderr().lock(), "\r\x1b[2K{}", text()));
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.visible) {
            drop(write!(std::io::stderr().lock(), "\r\x1b[2K"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_in_damaged_bytes_is_not_said_to_be_nothing() {
        let report = |damaged, left_out| ImportReport {
            damaged,
            left_out,
            ..ImportReport::default()
        };
        assert_eq!(damaged(&report(0, 0)), "0 places, 0 events left out");
        assert_eq!(damaged(&report(1, 1)), "1 place, 1 event left out");
        assert_eq!(
            damaged(&report(1, 0)),
            "1 place, at least 0 events left out: how many lay in damaged bytes is not known"
        );
    }
}
