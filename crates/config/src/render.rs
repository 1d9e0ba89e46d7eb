//! The report of all problems: for people with the lines of the file, for programs as JSON.
//!
//! Invariant: no secret and no control character reaches the output. Excerpts are shown from a
//! copy of the text in which secrets are blotted out.

use std::ops::Range;

use ariadne::{CharSet, Color, Config, IndexType, Label, Report, ReportKind, sources};
use flafka_flow::settings::{Problem, Severity, Span};
use serde_json::json;

use crate::check::Outcome;
use crate::secrets::Blotted;

/// How a report for people looks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// With colours; for terminals only.
    pub color: bool,
    /// With plain characters instead of box drawing.
    pub ascii: bool,
}

/// Above this length the allowed values stand below the excerpt.
const LABEL_LENGTH: usize = 60;

/// The files of an outcome, fit to be shown.
struct Shown<'a> {
    outcome: &'a Outcome,
    texts: Vec<Blotted>,
}

impl<'a> Shown<'a> {
    fn new(outcome: &'a Outcome) -> Self {
        let blot = |(index, file): (usize, &crate::SourceFile)| {
            let spans = outcome.secret_spans.iter();
            let ranges = spans
                .filter(|span| usize::from(span.file) == index)
                .map(Span::range);
            Blotted::new(&clean_text(&file.text), ranges)
        };
        Self {
            outcome,
            texts: outcome.files.iter().enumerate().map(blot).collect(),
        }
    }

    /// The place of a problem in the shown text: its file and its range on the first line.
    fn place(&self, problem: &Problem) -> Option<(usize, Range<usize>)> {
        let span = problem.span?;
        let file = usize::from(span.file);
        let blotted = self.texts.get(file)?;
        let start = blotted.position(span.range().start);
        let end = blotted.position(span.range().end).max(start);
        let part = blotted.text.get(start..end)?;
        let first = part.split(['\r', '\n']).next().unwrap_or_default();
        let first = first.trim_end_matches(['\\', ' ', '\t']);
        Some((file, start..start + first.len()))
    }
}

/// The report for people: each problem with its line, then the closing line.
pub fn text(outcome: &Outcome, style: Style) -> String {
    let shown = Shown::new(outcome);
    let mut text = String::new();
    for problem in &outcome.problems {
        match shown.place(problem) {
            Some((file, range)) => text.push_str(&excerpt(&shown, problem, file, range, style)),
            None => text.push_str(&plain(problem)),
        }
        text.push('\n');
    }
    text.push_str(&summary(outcome));
    text.push('\n');
    if style.ascii {
        text = text.replace('…', "...").replace('→', "->");
    }
    text
}

/// The closing line, such as `12 problems (10 errors, 2 warnings) in flume.conf`.
pub fn summary(outcome: &Outcome) -> String {
    let count = |severity, one: &str| match outcome.count(severity) {
        0 => None,
        1 => Some(format!("1 {one}")),
        many => Some(format!("{many} {one}s")),
    };
    let counts: Vec<_> = [
        count(Severity::Error, "error"),
        count(Severity::Warning, "warning"),
        count(Severity::Note, "note"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let files: Vec<_> = outcome.files.iter().map(|file| clean(&file.name)).collect();
    let place = if files.is_empty() {
        String::new()
    } else {
        format!(" in {}", files.join(", "))
    };
    match outcome.problems.len() {
        0 => format!("no problems{place}"),
        1 => format!("1 problem ({}){place}", counts.join(", ")),
        many => format!("{many} problems ({}){place}", counts.join(", ")),
    }
}

/// The report for programs: one JSON object with `problems`, `errors`, `warnings`, `notes`.
pub fn json(outcome: &Outcome) -> String {
    let problems: Vec<_> = outcome
        .problems
        .iter()
        .map(|problem| {
            let file = |span: Span| outcome.files.get(usize::from(span.file));
            json!({
                "severity": word(problem.severity),
                "file": problem.span.and_then(file).map(|file| &file.name),
                "line": problem.span.map(|span| span.line),
                "column": problem.span.and_then(|span| column(outcome, span)),
                "key": problem.key,
                "value": problem.value,
                "message": problem.message,
                "allowed": problem.allowed,
                "help": problem.help,
            })
        })
        .collect();
    let report = json!({
        "problems": problems,
        "errors": outcome.count(Severity::Error),
        "warnings": outcome.count(Severity::Warning),
        "notes": outcome.count(Severity::Note),
    });
    format!("{report:#}\n")
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}

/// The column of a place in characters, from 1.
fn column(outcome: &Outcome, span: Span) -> Option<usize> {
    let before = outcome
        .files
        .get(usize::from(span.file))?
        .text
        .get(..span.range().start)?;
    let line = before.rsplit(['\n', '\r']).next().unwrap_or_default();
    Some(line.chars().count() + 1)
}

fn title(problem: &Problem) -> String {
    format!("{}: {}", clean(&problem.key), clean(&problem.message))
}

/// A problem that stands on no line.
fn plain(problem: &Problem) -> String {
    let kind = match problem.severity {
        Severity::Error => "Error",
        Severity::Warning => "Warning",
        Severity::Note => "Note",
    };
    let mut text = format!("{kind}: {}\n", title(problem));
    let parts = [("Allowed", &problem.allowed), ("Help", &problem.help)];
    for (name, part) in parts {
        if let Some(part) = part {
            text.push_str(&format!("   {name}: {}\n", clean(part)));
        }
    }
    text
}

fn excerpt(
    shown: &Shown<'_>,
    problem: &Problem,
    file: usize,
    range: Range<usize>,
    style: Style,
) -> String {
    let name = |index: usize| clean(&shown.outcome.files[index].name);
    let (kind, color) = match problem.severity {
        Severity::Error => (ReportKind::Error, Color::Red),
        Severity::Warning => (ReportKind::Warning, Color::Yellow),
        Severity::Note => (ReportKind::Custom("Note", Color::Cyan), Color::Cyan),
    };
    let config = Config::new()
        .with_color(style.color)
        .with_index_type(IndexType::Byte)
        .with_char_set(if style.ascii {
            CharSet::Ascii
        } else {
            CharSet::Unicode
        });
    let place = (name(file), range.clone());
    let mut label = Label::new(place.clone()).with_color(color);
    let mut report = Report::build(kind, place)
        .with_config(config)
        .with_message(title(problem));
    let allowed = problem
        .allowed
        .as_deref()
        .map(|allowed| format!("allowed: {}", clean(allowed)));
    match allowed {
        Some(allowed) if allowed.len() <= LABEL_LENGTH => label = label.with_message(allowed),
        Some(allowed) => {
            label = label.with_message("here");
            report = report.with_note(allowed);
        }
        None => label = label.with_message("here"),
    }
    if let Some(note) = looked_up(shown, problem, file, &range) {
        report = report.with_note(note);
    }
    if let Some(help) = &problem.help {
        report = report.with_help(clean(help));
    }
    let texts = shown.texts.iter().enumerate();
    let cache = sources(texts.map(|(index, blotted)| (name(index), blotted.text.as_str())));
    let mut bytes = Vec::new();
    if report
        .with_label(label)
        .finish()
        .write(cache, &mut bytes)
        .is_err()
    {
        return plain(problem);
    }
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    if !style.color {
        // Without colours ariadne still colours the word of a kind of our own.
        text = without_escapes(&text);
    }
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    format!("{}\n", lines.join("\n"))
}

/// A text without its colour sequences (`ESC [ … m`).
fn without_escapes(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    plain
}

/// What a value is when it is not what stands in the file.
fn looked_up(
    shown: &Shown<'_>,
    problem: &Problem,
    file: usize,
    range: &Range<usize>,
) -> Option<String> {
    let value = problem.value.as_deref()?;
    let raw = shown.texts[file].text.get(range.clone())?;
    raw.contains("${")
        .then(|| format!("the value is `{}`", clean(value)))
}

/// A text for the terminal: control characters are replaced.
fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// A file's text for the terminal: every character that would act or break the line, but for
/// line ends and tabs, becomes as many blanks as it has bytes, so that places stay.
fn clean_text(text: &str) -> String {
    let mut cleaned = String::with_capacity(text.len());
    for c in text.chars() {
        let acts = c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
        if acts && !matches!(c, '\n' | '\r' | '\t') {
            cleaned.extend(std::iter::repeat_n(' ', c.len_utf8()));
        } else {
            cleaned.push(c);
        }
    }
    cleaned
}
