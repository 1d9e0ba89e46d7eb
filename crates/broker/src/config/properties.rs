//! The lines of a Java properties file. The grammar is crate `config`'s; here its pairs become entries with lines.

use flafka_config::properties::{Fault, parse};

use super::ConfigProblem;

/// One `key = value` of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Line of the key, from 1.
    pub line: usize,
    /// The key, escapes resolved.
    pub key: String,
    /// The value, escapes resolved, blanks at both ends cut (Kafka trims every value).
    pub value: String,
}

pub(super) fn read(bytes: &[u8]) -> (Vec<Entry>, Vec<ConfigProblem>) {
    let parsed = parse(bytes);
    let (named, nameless): (Vec<_>, Vec<_>) = parsed
        .pairs
        .into_iter()
        .partition(|pair| !pair.key.is_empty());
    let entries = named
        .into_iter()
        .map(|pair| Entry {
            line: pair.line as usize,
            key: pair.key,
            value: pair.value,
        })
        .collect();
    let nameless = nameless.iter().map(|pair| ConfigProblem::Syntax {
        line: pair.line as usize,
        reason: "a line needs a key before the `=`",
    });
    let mistakes = parsed.mistakes.iter().map(|mistake| ConfigProblem::Syntax {
        line: mistake.line as usize,
        reason: match mistake.fault {
            Fault::MalformedEscape => "`\\u` needs four hexadecimal digits",
            Fault::LoneSurrogate => "half of a surrogate pair stands for no character",
        },
    });
    let problems = nameless.chain(mistakes).collect();
    (entries, problems)
}
