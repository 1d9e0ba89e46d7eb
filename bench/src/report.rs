//! The table, for the terminal and as Markdown.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::arguments::{Arguments, Durabilities};
use crate::machine::Machine;
use crate::sample::{Row, Sample};

const HEADINGS: [&str; 9] = [
    "what",
    "durability",
    "events/s",
    "MB/s",
    "MB/s min–max",
    "CPU-s/GB",
    "peak MiB",
    "p50 ms",
    "p99 ms",
];

/// One run in a line.
pub(crate) fn sentence(sample: &Sample) -> String {
    let mut text = format!(
        "{}: {} events/s, {:.1} MB/s, {:.2} s",
        sample.name,
        grouped(sample.events_per_second()),
        sample.megabytes_per_second(),
        sample.wall.as_secs_f64()
    );
    if let (Some(cpu), Some(cost)) = (sample.cpu_per_gigabyte(), sample.cost) {
        let peak = cost.peak_bytes >> 20;
        text.push_str(&format!(", {cpu:.2} CPU-s/GB, {peak} MiB"));
    }
    text
}

/// Prints the table on the standard output.
pub(crate) fn print(rows: &[Row]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{}", table(rows)).context("print the table")
}

/// Writes the table with all that belongs to it; returns the file.
pub(crate) fn write(
    folder: &Path,
    machine: &Machine,
    arguments: &Arguments,
    rows: &[Row],
) -> Result<PathBuf> {
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let date = now.strftime("%Y-%m-%d");
    let path = folder.join(format!("{date}-{}.md", machine.revision));
    let durability = match arguments.durability {
        Durabilities::Fsync => "fsync only",
        Durabilities::Os => "os only",
        Durabilities::Both => "fsync and os, as the table says",
    };
    let command: Vec<String> = std::env::args().skip(1).collect();
    let text = format!(
        "# {date}, revision {}\n\n\
         - Machine: {}\n\
         - Command: `./dev bench {}`\n\
         - Input: {} MiB each, events of {} bytes; median of {} runs, peak of all runs\n\
         - Durability: {durability}\n\
         - Time: {}\n\n\
         How to read it: [README](../README.md).\n\n{}",
        machine.revision,
        machine.sentence(),
        command.join(" "),
        arguments.input_bytes() >> 20,
        arguments.event_bytes,
        arguments.rounds(),
        now.strftime("%H:%M UTC"),
        table(rows)
    );
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

/// An aligned table that is Markdown too.
fn table(rows: &[Row]) -> String {
    let mut lines: Vec<[String; 9]> = vec![HEADINGS.map(str::to_owned)];
    lines.extend(rows.iter().filter_map(cells));
    let width = |column: usize| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: [usize; 9] = std::array::from_fn(width);
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        for (column, cell) in line.iter().enumerate() {
            let fill = " ".repeat(widths[column] - cell.chars().count());
            let (before, after) = if column < 2 {
                ("", fill)
            } else {
                (&*fill, String::new())
            };
            text.push_str(&format!("| {before}{cell}{after} "));
        }
        text.push_str("|\n");
        if index == 0 {
            for (column, width) in widths.iter().enumerate() {
                let end = if column < 2 { "-" } else { ":" };
                text.push_str(&format!("|{}{end}", "-".repeat(width + 1)));
            }
            text.push_str("|\n");
        }
    }
    text
}

fn cells(row: &Row) -> Option<[String; 9]> {
    let sample = row.median()?;
    let millis = |wait: Duration| format!("{:.2}", wait.as_secs_f64() * 1e3);
    let or_empty = |cell: Option<String>| cell.unwrap_or_default();
    Some([
        sample.name.clone(),
        sample
            .durability
            .map_or("", |durability| durability.word())
            .to_owned(),
        grouped(sample.events_per_second()),
        format!("{:.1}", sample.megabytes_per_second()),
        or_empty(
            row.spread()
                .map(|(low, high)| format!("{low:.1}–{high:.1}")),
        ),
        or_empty(sample.cpu_per_gigabyte().map(|cpu| format!("{cpu:.2}"))),
        or_empty(row.peak_bytes().map(|peak| format!("{}", peak >> 20))),
        or_empty(sample.waits.map(|waits| millis(waits.p50))),
        or_empty(sample.waits.map(|waits| millis(waits.p99))),
    ])
}

/// A whole number with a blank between each three digits.
fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Durability;

    #[test]
    fn the_table_is_aligned_and_numbers_are_grouped() {
        let mut rows = Vec::new();
        let sample = Sample {
            name: "tail → null".to_owned(),
            durability: Some(Durability::Fsync),
            events: 1_234_567,
            bytes: 246_913_400,
            wall: Duration::from_secs(1),
            cost: None,
            waits: None,
        };
        Row::add_to(&mut rows, sample);
        let table = table(&rows);
        assert!(table.contains("| 1 234 567 | 246.9 |"), "{table}");
        let widths: Vec<usize> = table.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{table}");
    }
}
