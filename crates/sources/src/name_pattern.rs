//! Java regular expressions over file names, as taildir's file groups and spooldir's include and
//! ignore patterns use them: the whole name has to match.
//!
//! The linear-time engine of the `regex` crate is used whenever it can; look-around,
//! back-references, possessive quantifiers and atomic groups go to `fancy-regex`. Two differences
//! from Java remain: `\d`, `\w` and `\s` also match digits, letters and blanks outside ASCII, and
//! a pattern that would backtrack for very long does not match instead of blocking the source.

use thiserror::Error;

/// Why a pattern was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("not a regular expression: {reason}")]
pub(crate) struct PatternError {
    /// What the regex engine says, on one line.
    pub(crate) reason: String,
}

enum Engine {
    Linear(regex::Regex),
    Backtracking(fancy_regex::Regex),
}

/// A compiled pattern.
pub(crate) struct NamePattern {
    engine: Engine,
}

impl NamePattern {
    /// Compiles a Java regular expression.
    ///
    /// # Errors
    /// When no engine understands it.
    pub(crate) fn new(pattern: &str) -> Result<Self, PatternError> {
        let whole = format!(r"\A(?:{})\z", without_quoting(pattern));
        if let Ok(regex) = regex::Regex::new(&whole) {
            return Ok(Self {
                engine: Engine::Linear(regex),
            });
        }
        match fancy_regex::Regex::new(&whole) {
            Ok(regex) => Ok(Self {
                engine: Engine::Backtracking(regex),
            }),
            Err(error) => Err(PatternError {
                reason: error.to_string().replace('\n', " "),
            }),
        }
    }

    /// Whether the pattern matches all of `name`.
    pub(crate) fn matches(&self, name: &str) -> bool {
        match &self.engine {
            Engine::Linear(regex) => regex.is_match(name),
            Engine::Backtracking(regex) => regex.is_match(name).unwrap_or(false),
        }
    }
}

/// Replaces Java's `\Q…\E` by escapes.
fn without_quoting(pattern: &str) -> String {
    let mut plain = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(at) = find_quote(rest) {
        plain.push_str(&rest[..at]);
        let quoted = &rest[at + 2..];
        let (inside, behind) = quoted.split_once(r"\E").unwrap_or((quoted, ""));
        plain.push_str(&regex::escape(inside));
        rest = behind;
    }
    plain.push_str(rest);
    plain
}

/// The place of the first `\Q` whose backslash is not itself escaped.
fn find_quote(pattern: &str) -> Option<usize> {
    let bytes = pattern.as_bytes();
    let mut at = 0;
    while at + 1 < bytes.len() {
        match (bytes[at], bytes[at + 1]) {
            (b'\\', b'Q') => return Some(at),
            (b'\\', _) => at += 2,
            _ => at += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, name: &str) -> bool {
        NamePattern::new(pattern).expect("a pattern").matches(name)
    }

    #[test]
    fn the_whole_name_has_to_match() {
        assert!(matches(r".*\.log", "a.log"));
        assert!(!matches(r".*\.log", "a.log.1"));
        assert!(matches("a|b.*", "bcd"), "alternatives stay inside");
        assert!(!matches("a|b.*", "ab"));
        assert!(matches("^.*$", ""));
        assert!(matches("^$", "") && !matches("^$", "x"));
        assert!(!matches("a", "a\n"), "no match before a final newline");
    }

    #[test]
    fn java_syntax_beyond_the_linear_engine() {
        assert!(matches(r"(?!tmp).*\.log", "a.log"));
        assert!(!matches(r"(?!tmp).*\.log", "tmp.log"));
        assert!(matches(r"(a+)b\1", "aabaa"));
        assert!(matches(r"a++b", "aab"));
        assert!(matches(r"\Qa.b\E.*", "a.bc") && !matches(r"\Qa.b\E.*", "axbc"));
        assert!(matches(r"\\Q", r"\Q"));
        assert!(NamePattern::new("(").is_err());
    }
}
