//! Typed settings: from the keys of one component to its config struct.
//!
//! A config struct is declared once with [`settings!`](crate::settings!): field docs, keys,
//! types and defaults. From that one place come the reading, the errors with line and
//! suggestion, and the generated reference. Reading is pure; it reports every mistake it finds,
//! not only the first.

mod declare;
mod problem;
mod reader;
mod section;
mod value;

pub use declare::join_docs;
pub use problem::{Problem, Report, Severity};
pub use reader::{Reader, nearest};
pub use section::{Entry, Section, Span};
pub use value::{
    BadValue, ByteSize, Choice, CommaList, Count, LenientAmount, LenientCount, Millis, Names, Port,
    Prefixed, Seconds, Secret, Setting, choice_kind, parse_choice,
};

/// One key of a component, as the reference shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The key; `prefix.*` stands for all keys with that prefix.
    pub key: &'static str,
    /// Other accepted spellings, each reported as deprecated.
    pub aliases: &'static [&'static str],
    /// What it does.
    pub docs: String,
    /// What kind of value it takes, in words.
    pub kind: String,
    /// The default as it would be written in a file.
    pub default: Absent,
    /// Replacement key or reason when the key is deprecated or has nothing to do here.
    pub note: Option<&'static str>,
}

/// What happens when a key is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// The start is refused.
    Required,
    /// Nothing is set.
    None,
    /// This value, as text.
    Value(String),
}

/// A config struct made by [`settings!`](crate::settings!).
pub trait Settings: Sized {
    /// The struct's own documentation: what the component is.
    const DOCS: &'static [&'static str];

    /// Every key, in the order of declaration.
    fn fields() -> Vec<Field>;

    /// Reads all fields, reporting every problem to the reader; `None` when there was an error.
    fn read(reader: &mut Reader<'_>) -> Option<Self>;

    /// Reads and then reports the keys that nobody asked for.
    fn from_section(section: &Section, report: &mut Report) -> Option<Self> {
        let mut reader = Reader::new(section, report);
        let config = Self::read(&mut reader);
        let known = Self::fields();
        reader.finish(&known);
        config
    }
}

#[cfg(test)]
mod tests;
