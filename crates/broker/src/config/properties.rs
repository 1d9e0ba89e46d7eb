//! The lines of a Java properties file, with their numbers.
//!
//! `server.properties` uses a small part of the format (comments, `=`, `:` or blank as separator, continuation lines,
//! backslash escapes); all of that part is read as Java does (`java.util.Properties.load`).

use super::ConfigProblem;

/// One `key = value` of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Line of the key, from 1.
    pub line: usize,
    /// The key, escapes resolved.
    pub key: String,
    /// The value, escapes resolved, trailing blanks cut (Kafka trims every value).
    pub value: String,
}

pub(super) fn read(text: &str) -> (Vec<Entry>, Vec<ConfigProblem>) {
    let mut entries = Vec::new();
    let mut problems = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, first)) = lines.next() {
        let line = index + 1;
        let start = first.trim_start();
        if start.is_empty() || start.starts_with(['#', '!']) {
            continue;
        }
        let mut logical = start.to_owned();
        while ends_with_odd_backslashes(&logical) {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(next.trim_start()),
                None => break,
            }
        }
        match split(&logical) {
            Ok((key, value)) if !key.is_empty() => entries.push(Entry { line, key, value }),
            Ok(_) => problems.push(ConfigProblem::Syntax {
                line,
                reason: "a line needs a key before the `=`",
            }),
            Err(reason) => problems.push(ConfigProblem::Syntax { line, reason }),
        }
    }
    (entries, problems)
}

fn ends_with_odd_backslashes(text: &str) -> bool {
    text.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

fn split(logical: &str) -> Result<(String, String), &'static str> {
    let mut escaped = false;
    let end = logical
        .char_indices()
        .find(|(_, character)| {
            let separator = !escaped && matches!(character, '=' | ':' | ' ' | '\t');
            escaped = !escaped && *character == '\\';
            separator
        })
        .map_or(logical.len(), |(position, _)| position);
    let rest = logical[end..].trim_start();
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    Ok((
        unescape(&logical[..end])?,
        unescape(value.trim_start())?.trim_end().to_owned(),
    ))
}

fn unescape(text: &str) -> Result<String, &'static str> {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            out.push(character);
            continue;
        }
        match characters.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\u{c}'),
            Some('u') => {
                let digits: String = characters.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16)
                    .ok()
                    .filter(|_| digits.len() == 4);
                let decoded = code.and_then(char::from_u32);
                out.push(decoded.ok_or("`\\u` needs four hexadecimal digits of one character")?);
            }
            Some(other) => out.push(other),
            None => break,
        }
    }
    Ok(out)
}
