//! The lines of a Java properties file. The grammar is crate `config`'s; here its pairs become entries with lines.

use std::fmt;

use flafka_config::properties::{Fault, parse};

use super::ConfigProblem;

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In the file: the line of the key, from 1.
    Line(usize),
    /// In an override of the command line, which is this.
    Override(String),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(line) => write!(formatter, "line {line}"),
            Place::Override(word) => write!(formatter, "--override {word}"),
        }
    }
}

/// One `key = value` of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where the key stands.
    pub place: Place,
    /// The key, escapes resolved.
    pub key: String,
    /// The value, escapes resolved, blanks at both ends cut (Kafka trims every value).
    pub value: String,
}

pub(super) fn read(bytes: &[u8]) -> (Vec<Entry>, Vec<ConfigProblem>) {
    read_as(bytes, |line, _| Place::Line(line))
}

/// Reads words such as `num.partitions=3`.
pub(super) fn read_overrides(words: &[String]) -> (Vec<Entry>, Vec<ConfigProblem>) {
    let (mut entries, mut problems) = (Vec::new(), Vec::new());
    for word in words {
        let place = |_, key: &str| {
            // What could be a secret is not repeated in a message.
            let hidden = ["password", "secret", "jaas", ".key"];
            let is_secret = hidden.iter().any(|part| key.contains(part));
            Place::Override(if is_secret { key } else { word }.to_owned())
        };
        let (more, mistakes) = read_as(word.as_bytes(), place);
        entries.extend(more);
        problems.extend(mistakes);
    }
    (entries, problems)
}

fn read_as(bytes: &[u8], place: impl Fn(usize, &str) -> Place) -> (Vec<Entry>, Vec<ConfigProblem>) {
    let parsed = parse(bytes);
    let (named, nameless): (Vec<_>, Vec<_>) = parsed
        .pairs
        .into_iter()
        .partition(|pair| !pair.key.is_empty());
    let entries = named
        .into_iter()
        .map(|pair| Entry {
            place: place(pair.line as usize, &pair.key),
            key: pair.key,
            value: pair.value,
        })
        .collect();
    let nameless = nameless.iter().map(|pair| ConfigProblem::Syntax {
        place: place(pair.line as usize, ""),
        reason: "a line needs a key before the `=`",
    });
    let mistakes = parsed.mistakes.iter().map(|mistake| ConfigProblem::Syntax {
        place: place(mistake.line as usize, ""),
        reason: match mistake.fault {
            Fault::MalformedEscape => "`\\u` needs four hexadecimal digits",
            Fault::LoneSurrogate => "half of a surrogate pair stands for no character",
        },
    });
    let problems = nameless.chain(mistakes).collect();
    (entries, problems)
}
