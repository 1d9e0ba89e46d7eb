//! The raw keys and values of one component, with the places where they stand.

use std::collections::BTreeMap;
use std::ops::Range;

/// A place in one of the configuration files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Which file, an index that the `config` crate gave.
    pub file: u16,
    /// Line, from 1.
    pub line: u32,
    /// First byte in the file's text.
    pub start: u32,
    /// Byte behind the last.
    pub end: u32,
}

impl Span {
    /// The bytes of the file's text.
    pub fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// One value as it stands in the file, after substitution and trimming.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value.
    pub value: String,
    /// Where the key stands.
    pub key_span: Option<Span>,
    /// Where the value stands.
    pub value_span: Option<Span>,
}

impl Entry {
    /// A value that stands in no file.
    pub fn new(value: impl Into<String>) -> Self {
        Self {
            value: value.into(),
            key_span: None,
            value_span: None,
        }
    }
}

/// The keys of one component, without the component's own prefix.
#[derive(Debug, Clone, Default)]
pub struct Section {
    /// The component's prefix without trailing dot, such as `a1.sources.r1`.
    pub path: String,
    /// Where the component is declared.
    pub span: Option<Span>,
    /// Key to value.
    pub entries: BTreeMap<String, Entry>,
}

impl Section {
    /// An empty section.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            ..Self::default()
        }
    }

    /// A section from literal pairs, for tests and built-in configurations.
    pub fn of<'a>(path: &str, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let entries = pairs
            .into_iter()
            .map(|(key, value)| (key.to_owned(), Entry::new(value)));
        Self {
            path: path.to_owned(),
            span: None,
            entries: entries.collect(),
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.entries.get(key).map(|entry| entry.value.as_str())
    }

    /// The keys below `prefix` (which ends in a dot) as a section of their own; they leave this
    /// one.
    pub fn split_off(&mut self, prefix: &str) -> Section {
        let mut below = Section::new(format!("{}.{}", self.path, prefix.trim_end_matches('.')));
        below.span = self.span;
        let (inside, outside) = std::mem::take(&mut self.entries)
            .into_iter()
            .partition(|(key, _)| key.len() > prefix.len() && key.starts_with(prefix));
        let inside: BTreeMap<String, Entry> = inside;
        self.entries = outside;
        below.entries = inside
            .into_iter()
            .map(|(key, entry)| (key[prefix.len()..].to_owned(), entry))
            .collect();
        below
    }

    /// The component's name: the last part of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit('.').next().unwrap_or(&self.path)
    }
}
