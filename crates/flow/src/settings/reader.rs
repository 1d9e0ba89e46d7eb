//! Reads one section field by field, collecting problems.

use std::collections::BTreeSet;

use super::problem::{Problem, Report, Severity};
use super::section::{Entry, Section};
use super::value::Setting;
use super::{Absent, Field, Settings};

/// Reads the keys of one section; remembers which were asked for.
pub struct Reader<'a> {
    section: &'a Section,
    report: &'a mut Report,
    asked: BTreeSet<String>,
    failed: bool,
}

impl<'a> Reader<'a> {
    /// A reader over `section` that reports to `report`.
    pub fn new(section: &'a Section, report: &'a mut Report) -> Self {
        Self {
            section,
            report,
            asked: BTreeSet::new(),
            failed: false,
        }
    }

    /// The section.
    pub fn section(&self) -> &'a Section {
        self.section
    }

    /// Reads one field. `None` after reporting an error.
    pub fn field<T: Setting>(&mut self, field: &Field, default: Option<T>) -> Option<T> {
        let value = T::read(self, field, default);
        self.failed |= value.is_none();
        value
    }

    /// The entry of a key or of one of its other spellings, which are noted as deprecated.
    pub fn entry(&mut self, field: &Field) -> Option<&'a Entry> {
        self.asked.insert(field.key.to_owned());
        let mut found = self.section.entries.get(field.key);
        for alias in field.aliases {
            self.asked.insert((*alias).to_owned());
            let Some(entry) = self.section.entries.get(*alias) else {
                continue;
            };
            let message = match found {
                None => format!("`{alias}` is the old name of `{}`", field.key),
                Some(_) => format!(
                    "`{alias}` is the old name of `{}`, which is set too and counts",
                    field.key
                ),
            };
            self.report.push(
                Problem::new(Severity::Note, self.full_key(alias), message)
                    .at(entry.key_span)
                    .help(format!("write `{}`", field.key)),
            );
            found = found.or(Some(entry));
        }
        if let (Some(entry), Some(note)) = (found, field.note) {
            self.report.push(
                Problem::new(Severity::Note, self.full_key(field.key), note).at(entry.key_span),
            );
        }
        found
    }

    /// All entries below a prefix that ends in a dot, without it.
    pub fn prefixed(&mut self, prefix: &str) -> Vec<(String, &'a Entry)> {
        let mut below = Vec::new();
        for (key, entry) in &self.section.entries {
            if let Some(rest) = key.strip_prefix(prefix)
                && !rest.is_empty()
            {
                self.asked.insert(key.clone());
                below.push((rest.to_owned(), entry));
            }
        }
        below
    }

    /// Reads the settings of a part (serializer, handler, …) from the keys below `prefix`, which
    /// ends in a dot. Every mistake there is reported, unknown keys too. `None` after an error.
    pub fn below<S: Settings>(&mut self, prefix: &str) -> Option<S> {
        let mut section = Section::new(self.full_key(prefix.trim_end_matches('.')));
        section.span = self.section.span;
        section.entries = self
            .prefixed(prefix)
            .into_iter()
            .map(|(key, entry)| (key, entry.clone()))
            .collect();
        let config = S::from_section(&section, self.report);
        self.failed |= config.is_none();
        config
    }

    /// Reads the settings of a part whose keys stand among the component's own, as if those in `instead` had these
    /// values. `None` after an error.
    pub fn among<S: Settings>(&mut self, instead: &[(&str, &str)]) -> Option<S> {
        let mut section = self.section.clone();
        for (key, value) in instead {
            section
                .entries
                .insert((*key).to_owned(), Entry::new(*value));
        }
        let mut reader = Reader::new(&section, self.report);
        let config = S::read(&mut reader);
        let (asked, failed) = (reader.asked, reader.failed);
        self.asked.extend(asked);
        self.failed |= failed || config.is_none();
        config
    }

    /// Reports an error at a key; the read fails.
    pub fn error(&mut self, key: &str, message: impl Into<String>, allowed: Option<String>) {
        self.failed = true;
        self.problem(Severity::Error, key, message.into(), allowed, true);
    }

    /// As [`Reader::error`] for a value that must not be shown.
    pub fn secret_error(&mut self, key: &str, message: impl Into<String>) {
        self.failed = true;
        self.problem(Severity::Error, key, message.into(), None, false);
    }

    /// Reports something that is probably not meant.
    pub fn warning(&mut self, key: &str, message: impl Into<String>) {
        self.problem(Severity::Warning, key, message.into(), None, true);
    }

    /// Reports something worth knowing.
    pub fn note(&mut self, key: &str, message: impl Into<String>) {
        self.problem(Severity::Note, key, message.into(), None, true);
    }

    /// Notes a key that is accepted and has nothing to do.
    pub fn moot(&mut self, field: &Field) {
        self.entry(field);
    }

    /// Whether an error was reported through this reader.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Reports the keys that nobody asked for, with the nearest known key.
    pub fn finish(self, known: &[Field]) {
        for (key, entry) in &self.section.entries {
            if self.asked.contains(key) {
                continue;
            }
            let mut problem = Problem::new(Severity::Error, self.full_key(key), "unknown key")
                .at(entry.key_span)
                .ignorable();
            let names = known
                .iter()
                .flat_map(|field| std::iter::once(field.key).chain(field.aliases.iter().copied()));
            problem.help = Some(match nearest(key, names) {
                Some(name) => format!("did you mean `{name}`?"),
                None if known.is_empty() => "this component has no keys of its own".to_owned(),
                None => format!(
                    "known keys: {}",
                    known
                        .iter()
                        .map(|field| field.key)
                        .collect::<Vec<_>>()
                        .join(", ")
                ),
            });
            self.report.push(problem);
        }
    }

    /// `key` with the section's path in front.
    pub fn full_key(&self, key: &str) -> String {
        if self.section.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.section.path)
        }
    }

    /// Reports that a required key is missing.
    pub(super) fn missing(&mut self, field: &Field) {
        self.failed = true;
        let near =
            self.section.entries.keys().find(|key| {
                key.eq_ignore_ascii_case(field.key) || nearest(key, [field.key]).is_some()
            });
        let help = match near {
            Some(key) => format!("`{key}` is set; did you mean `{}`?", field.key),
            None => format!("add `{} = …` ({})", self.full_key(field.key), field.kind),
        };
        let problem = Problem::new(
            Severity::Error,
            self.full_key(field.key),
            "required key is missing",
        )
        .at(self.section.span)
        .help(help);
        self.report.push(problem);
        debug_assert_eq!(field.default, Absent::Required);
    }

    fn problem(
        &mut self,
        severity: Severity,
        key: &str,
        message: String,
        allowed: Option<String>,
        show: bool,
    ) {
        let entry = self.section.entries.get(key);
        let mut problem = Problem::new(severity, self.full_key(key), message)
            .at(entry.map_or(self.section.span, |entry| {
                entry.value_span.or(entry.key_span)
            }));
        problem.value = entry.filter(|_| show).map(|entry| entry.value.clone());
        problem.allowed = allowed;
        self.report.push(problem);
    }
}

/// The name nearest to `word`: equal but for case, or within a third of its length in edits.
pub fn nearest<'n>(word: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let limit = (word.chars().count() / 3).max(1);
    names
        .into_iter()
        .map(|name| (distance(&word.to_lowercase(), &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Edits between two words: insertions, deletions, replacements, swaps of neighbours.
fn distance(left: &str, right: &str) -> usize {
    let (left, right): (Vec<char>, Vec<char>) = (left.chars().collect(), right.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=right.len()).collect();
    for i in 1..=left.len() {
        let mut row = vec![i; right.len() + 1];
        for j in 1..=right.len() {
            let same = usize::from(left[i - 1] != right[j - 1]);
            row[j] = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + same);
            if i > 1 && j > 1 && left[i - 1] == right[j - 2] && left[i - 2] == right[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[right.len()]
}
