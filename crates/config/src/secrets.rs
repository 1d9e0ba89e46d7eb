//! Which values must not be shown.
//!
//! A value is secret when its config struct says so (the type `Secret`), when a config filter
//! delivered it, or when its key sounds like one. Reports show lines of the file, so the values
//! of such keys are blotted out there too, in comments as well.

use std::ops::Range;

/// What stands in the place of a secret.
pub(crate) const BLOT: &str = "******";

const SOUNDS: [&str; 10] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "jaas",
    "token",
    "credential",
    "private.key",
    "privatekey",
    "accesskey",
];

/// Whether the last parts of a key sound like a password or a key. Names of files do not.
pub(crate) fn looks_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let names_a_file = ["file", "path", "location", "provider"]
        .iter()
        .any(|end| key.ends_with(end));
    !names_a_file && SOUNDS.iter().any(|word| key.contains(word))
}

/// A text with some of its ranges blotted out.
#[derive(Debug)]
pub(crate) struct Blotted {
    pub(crate) text: String,
    /// The ranges in the original, in order and apart.
    ranges: Vec<Range<usize>>,
}

impl Blotted {
    /// Blots `ranges` out, and the rest of every line that begins with a key that looks secret.
    pub(crate) fn new(original: &str, ranges: impl IntoIterator<Item = Range<usize>>) -> Self {
        let mut all: Vec<Range<usize>> = ranges
            .into_iter()
            .filter(|range| !range.is_empty() && original.get(range.clone()).is_some())
            .collect();
        all.extend(suspicious_lines(original));
        all.sort_by_key(|range| (range.start, range.end));
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for range in all {
            match ranges.last_mut() {
                Some(last) if range.start < last.end => last.end = last.end.max(range.end),
                _ => ranges.push(range),
            }
        }
        let mut text = String::with_capacity(original.len());
        let mut from = 0;
        for range in &ranges {
            text.push_str(&original[from..range.start]);
            text.push_str(BLOT);
            from = range.end;
        }
        text.push_str(&original[from..]);
        Self { text, ranges }
    }

    /// Where a position of the original is now.
    pub(crate) fn position(&self, original: usize) -> usize {
        let mut position = original;
        for range in self
            .ranges
            .iter()
            .take_while(|range| range.start < original)
        {
            if original < range.end {
                return position - (original - range.start) + BLOT.len();
            }
            position = position + BLOT.len() - range.len();
        }
        position
    }
}

/// For each line `key = value` (or `# key: value`) whose key looks secret: where the value is.
fn suspicious_lines(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive(['\n', '\r']) {
        let content = line.trim_end();
        let body = content.trim_start_matches(|c: char| c.is_whitespace() || "#!-".contains(c));
        let body_start = start + content.len() - body.len();
        if let Some(separator) = body.find(|c: char| c.is_whitespace() || c == '=' || c == ':')
            && looks_secret(body[..separator].trim_matches(['"', '\'']))
        {
            let rest = &body[separator..];
            let value =
                rest.trim_start_matches(|c: char| c.is_whitespace() || c == '=' || c == ':');
            if !value.is_empty() {
                let value_start = body_start + body.len() - value.len();
                found.push(value_start..start + content.len());
            }
        }
        start += line.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_sound_secret() {
        for key in [
            "a1.sinks.k1.keystore-password",
            "x.sasl.jaas.config",
            "clientSecret",
        ] {
            assert!(looks_secret(key), "{key}");
        }
        for key in [
            "encryption.keyProvider.keyStorePasswordFile",
            "a.key",
            "port",
        ] {
            assert!(!looks_secret(key), "{key}");
        }
    }

    #[test]
    fn lines_are_blotted_and_positions_follow() {
        let text = "a.port = 1\n#a.password = hunter2\n  b.secret: x y \nend = z";
        let blotted = Blotted::new(text, [7..8, 9..10]);
        assert_eq!(
            blotted.text,
            "a.port ****** ******\n#a.password = ******\n  b.secret: ****** \nend = z"
        );
        let end = text.find("end").expect("there");
        assert_eq!(&blotted.text[blotted.position(end)..], "end = z");
        assert_eq!(blotted.position(7), 7);
        assert_eq!(blotted.position(text.len()), blotted.text.len());
    }
}
