//! `kafka.topics.regex` (Java's syntax, over whole names) as librdkafka's subscription: a POSIX extended expression.
//!
//! POSIX knows neither `\d` nor `(?:…)` nor lazy repetition, so the pattern is parsed and written anew. Topic names have
//! 65 characters (letters, digits, `.`, `_`, `-`), so every class becomes the list of those that are in it. Invariant:
//! the written expression matches the same topic names as the pattern; what POSIX cannot say is an error.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};
use thiserror::Error;

/// Every character that a topic name can have; `-` last, where a bracket takes it literally.
const NAME_CHARACTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
/// What no topic name has: a pattern that cannot match.
const NOTHING: &str = "[^A-Za-z0-9._-]";
/// The highest count that POSIX promises for `{n,m}`.
const HIGHEST_COUNT: u32 = 255;

/// Why a pattern cannot be subscribed to.
#[derive(Debug, Error)]
pub enum TopicPatternError {
    /// It is no regular expression, or one with look-around or back references.
    #[error("not a regular expression that can be used for topics")]
    Syntax(#[source] Box<regex_syntax::Error>),
    /// A word boundary, which POSIX does not have.
    #[error("word boundaries are not possible here")]
    WordBoundary,
    /// A count over what POSIX promises.
    #[error("a repetition of more than {HIGHEST_COUNT} times is not possible here")]
    Repetition,
}

/// The subscription for all topics whose whole name matches `pattern`.
///
/// # Errors
/// When the pattern cannot be parsed or POSIX cannot say it.
pub fn topic_pattern(pattern: &str) -> Result<String, TopicPatternError> {
    let mut parser = ParserBuilder::new().unicode(false).utf8(false).build();
    let parsed = parser
        .parse(pattern)
        .map_err(|error| TopicPatternError::Syntax(Box::new(error)))?;
    let mut posix = String::from("^(");
    write(&parsed, &mut posix)?;
    posix.push_str(")$");
    Ok(posix)
}

fn write(part: &Hir, posix: &mut String) -> Result<(), TopicPatternError> {
    match part.kind() {
        HirKind::Empty => posix.push_str("()"),
        HirKind::Literal(literal) => literal
            .0
            .iter()
            .for_each(|byte| push_one_of(|name| name == *byte, posix)),
        HirKind::Class(Class::Bytes(class)) => {
            let holds = |byte| {
                let mut ranges = class.ranges().iter();
                ranges.any(|range| (range.start()..=range.end()).contains(&byte))
            };
            push_one_of(holds, posix);
        }
        HirKind::Class(Class::Unicode(class)) => {
            let holds = |byte| {
                let mut ranges = class.ranges().iter();
                ranges.any(|range| (range.start()..=range.end()).contains(&char::from(byte)))
            };
            push_one_of(holds, posix);
        }
        HirKind::Look(Look::Start | Look::StartLF | Look::StartCRLF) => posix.push('^'),
        HirKind::Look(Look::End | Look::EndLF | Look::EndCRLF) => posix.push('$'),
        HirKind::Look(_) => return Err(TopicPatternError::WordBoundary),
        HirKind::Repetition(repetition) => write_repetition(repetition, posix)?,
        HirKind::Capture(capture) => write_group(&capture.sub, posix)?,
        HirKind::Concat(parts) => {
            for part in parts {
                match part.kind() {
                    HirKind::Alternation(_) => write_group(part, posix)?,
                    _ => write(part, posix)?,
                }
            }
        }
        HirKind::Alternation(choices) => {
            for (index, choice) in choices.iter().enumerate() {
                if index > 0 {
                    posix.push('|');
                }
                write(choice, posix)?;
            }
        }
    }
    Ok(())
}

fn write_group(part: &Hir, posix: &mut String) -> Result<(), TopicPatternError> {
    posix.push('(');
    write(part, posix)?;
    posix.push(')');
    Ok(())
}

/// Whether a repetition is lazy decides nothing where the whole name has to match.
fn write_repetition(repetition: &Repetition, posix: &mut String) -> Result<(), TopicPatternError> {
    write_group(&repetition.sub, posix)?;
    let count = match (repetition.min, repetition.max) {
        (0, None) => "*".to_owned(),
        (1, None) => "+".to_owned(),
        (0, Some(1)) => "?".to_owned(),
        (min, None) if min <= HIGHEST_COUNT => format!("{{{min},}}"),
        (min, Some(max)) if max <= HIGHEST_COUNT => format!("{{{min},{max}}}"),
        _ => return Err(TopicPatternError::Repetition),
    };
    posix.push_str(&count);
    Ok(())
}

/// One character of a topic name for which `holds` is true.
fn push_one_of(holds: impl Fn(u8) -> bool, posix: &mut String) {
    let members: String = NAME_CHARACTERS
        .chars()
        .filter(|character| u8::try_from(*character).is_ok_and(&holds))
        .collect();
    match members.as_str() {
        "" => posix.push_str(NOTHING),
        "." => posix.push_str("\\."),
        one if one.len() == 1 => posix.push_str(one),
        NAME_CHARACTERS => posix.push('.'),
        several => {
            posix.push('[');
            posix.push_str(several);
            posix.push(']');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Patterns, names that match, names that do not.
    const CASES: [(&str, &[&str], &[&str]); 9] = [
        (
            r"web-\d+",
            &["web-1", "web-20"],
            &["web-", "web-d", "web-1x"],
        ),
        (
            "(?:web|db)[0-9]?",
            &["web", "db7"],
            &["web77", "weborder", "x"],
        ),
        ("^logs$", &["logs"], &["log", "mylogs"]),
        ("a|b", &["a", "b"], &["ab", "xa"]),
        (r"a\.b.*?", &["a.b", "a.bcd"], &["axb"]),
        ("(?i)Web", &["web", "WEB"], &["we"]),
        ("x{2,3}(|-old)", &["xx", "xxx-old"], &["x", "xxxx", "xx-ol"]),
        (r"[^.]+", &["a_b-c"], &["a.b"]),
        (r"\w+", &["Ab_9"], &["a-b", "a.b"]),
    ];

    /// The regex crate reads what was written: for these expressions its syntax and POSIX's agree.
    #[test]
    fn the_same_names_match() {
        for (pattern, good, bad) in CASES {
            let posix = topic_pattern(pattern).expect("it can be said");
            let matcher = regex::Regex::new(&posix).expect("an expression");
            for name in good {
                assert!(matcher.is_match(name), "{pattern} as {posix}: {name}");
            }
            for name in bad {
                assert!(!matcher.is_match(name), "{pattern} as {posix}: {name}");
            }
            assert!(
                !posix.contains('\\') || posix.contains("\\."),
                "POSIX has no classes of letters: {posix}"
            );
        }
    }

    #[test]
    fn what_cannot_be_said_is_refused() {
        for pattern in ["(", "a(?!b)", r"(a)\1", r"\bweb", "a{1000}"] {
            assert!(topic_pattern(pattern).is_err(), "{pattern}");
        }
        let never = topic_pattern("a b").expect("a pattern");
        assert_eq!(never, format!("^(a{NOTHING}b)$"));
    }
}
