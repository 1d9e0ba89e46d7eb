//! The one form of log lines: fields first, then a lower-case sentence without full stop.
//!
//! Lines with a `target:` of their own are data rather than prose (the logger sink) and are left
//! alone. The reading of Rust is a rough one: strings and brackets, no more.

/// The macros of `tracing`. Cut from their brackets, so that this file does not call them.
const MACROS: [&str; 5] = ["trace", "debug", "info", "warn", "error"];

/// The complaints about the log lines of a file, with their lines from 1.
pub(crate) fn check(text: &str) -> Vec<(usize, String)> {
    let mut complaints = Vec::new();
    for (start, arguments) in calls(text) {
        if arguments.trim_start().starts_with("target:") {
            continue;
        }
        if let Some(complaint) = message(arguments).and_then(complaint) {
            let line = text[..start].matches('\n').count() + 1;
            complaints.push((line, complaint));
        }
    }
    complaints.sort();
    complaints
}

/// Where log macros are called, and what stands between their brackets.
fn calls(text: &str) -> Vec<(usize, &str)> {
    let mut calls = Vec::new();
    for name in MACROS {
        let open = format!("{name}!(");
        for (start, _) in text.match_indices(&open) {
            let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
            let before = &text[line_start..start];
            let part_of_word =
                before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '`');
            if part_of_word || before.trim_start().starts_with("//") {
                continue;
            }
            let rest = &text[start + open.len()..];
            if let Some(end) = closing(rest) {
                calls.push((start, &rest[..end]));
            }
        }
    }
    calls
}

/// The position of the bracket that closes the one before `rest`.
fn closing(rest: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut bytes = rest.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => skip_string(&mut bytes),
            b'(' | b'[' | b'{' => depth += 1,
            b')' if depth == 0 => return Some(at),
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// Goes behind the end of a string.
fn skip_string(bytes: &mut impl Iterator<Item = (usize, u8)>) {
    while let Some((_, byte)) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'"' => return,
            _ => {}
        }
    }
}

/// The first string that is an argument of its own: the message.
fn message(arguments: &str) -> Option<&str> {
    let mut depth = 0_usize;
    let mut argument_start = true;
    let mut bytes = arguments.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => {
                let start = at + 1;
                let mut end = start;
                let rest = arguments.as_bytes();
                while end < rest.len() && rest[end] != b'"' {
                    end += if rest[end] == b'\\' { 2 } else { 1 };
                }
                if depth == 0 && argument_start {
                    return arguments.get(start..end);
                }
                skip_string(&mut bytes);
                argument_start = false;
            }
            b'(' | b'[' | b'{' => {
                depth += 1;
                argument_start = false;
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => argument_start = true,
            b' ' | b'\n' | b'\t' => {}
            _ => argument_start = false,
        }
    }
    None
}

/// What is wrong with a message.
fn complaint(message: &str) -> Option<String> {
    let first = message.split([' ', ':']).next().unwrap_or_default();
    let mut letters = first.chars();
    let upper = letters.next().is_some_and(char::is_uppercase);
    // Names and abbreviations (`HTTP`, `OpenSSL`) keep their capitals.
    let is_name = letters.any(|c| c.is_uppercase() || c.is_numeric());
    if message.is_empty() {
        return Some("a log line without a sentence".to_owned());
    }
    if upper && !is_name && first.chars().count() > 1 {
        return Some(format!("a log line begins in lower case: `{message}`"));
    }
    let ends = message.ends_with('.') && !message.ends_with("..");
    ends.then(|| format!("a log line ends without full stop: `{message}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(call: &str) -> Vec<(usize, String)> {
        // The calls are made here, so that this file itself has none.
        check(&call.replace("LOG(", &format!("{}!(", MACROS[2])))
    }

    #[test]
    fn good_lines() {
        for call in [
            r#"LOG("listening");"#,
            r#"LOG(port, %address, "listening on {port}");"#,
            r#"LOG(error = f("A. B."), "open segment");"#,
            r#"LOG(target: "x", "Event: {}.", 1);"#,
            r#"LOG("HTTP listener is up");"#,
            r#"// LOG("Bad.");"#,
            "LOG(\n    path = %path.display(),\n    \"position file is new\"\n);",
        ] {
            assert_eq!(found(call), [], "{call}");
        }
    }

    #[test]
    fn bad_lines() {
        assert_eq!(found("\n  LOG(\"Listening\");")[0].0, 2);
        assert_eq!(found(r#"LOG(port, "it ends.");"#).len(), 1);
        assert_eq!(found("a();\nLOG(\n  x = \"Y\",\n  \"Bad\");")[0].0, 2);
    }
}
