//! Checks every Rust file against the house rules that no compiler knows: it opens with `//!`, it
//! is not too long, nothing is left undone, exceptions to lints are expectations, and log lines
//! have the one form (see [`crate::log_form`]).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::log_form;

/// Lines above which the module doc has to say why.
const LONG: usize = 500;
/// The words with which it does.
const BECAUSE: &str = "longer than 500 lines because";
/// Lines above which a file fails in any case.
const TOO_LONG: usize = 800;

/// Folders that hold no code of ours.
const SKIPPED: [&str; 5] = ["target", ".git", "testdata", "fixtures", "node_modules"];

/// Text that must not stand in code, with what to do instead. Cut in two, so that this file does
/// not hold it.
const FORBIDDEN: [(&str, &str, &str); 5] = [
    ("todo", "!(", "finish it"),
    ("unimplemented", "!(", "finish it"),
    ("#[allow", "(", "write `#[expect(…, reason = …)]`"),
    ("#![allow", "(", "write `#![expect(…, reason = …)]`"),
    ("dbg", "!(", "remove it"),
];

/// All complaints about the files below `root`, as `path:line: what`.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    visit(root, root, &mut complaints)?;
    complaints.sort();
    Ok(complaints)
}

fn visit(root: &Path, folder: &Path, complaints: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry.with_context(|| format!("list {}", folder.display()))?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry
            .file_type()
            .with_context(|| format!("look at {}", path.display()))?;
        if kind.is_dir() {
            if !SKIPPED.contains(&name.as_str()) {
                visit(root, &path, complaints)?;
            }
        } else if name.ends_with(".rs") {
            let text =
                fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            let shown = path
                .strip_prefix(root)
                .unwrap_or(&path)
                .display()
                .to_string();
            complaints.extend(check_file(&shown, &text));
        }
    }
    Ok(())
}

/// The complaints about one file.
fn check_file(path: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    if !text.starts_with("//!") {
        complaints.push(format!(
            "{path}:1: does not open with `//!`: say what it is and why"
        ));
    }
    let lines = code_lines(text);
    let explained = text
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .map(|line| line.trim_start_matches("//!").trim())
        .collect::<Vec<_>>()
        .join(" ")
        .contains(BECAUSE);
    if !is_test(path) && lines > TOO_LONG {
        complaints.push(format!(
            "{path}:{lines}: {lines} lines; more than {TOO_LONG} are not allowed"
        ));
    } else if !is_test(path) && lines > LONG && !explained {
        complaints.push(format!(
            "{path}:{lines}: {lines} lines; split it, or say in the module doc: {BECAUSE} …"
        ));
    }
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("//") {
            continue;
        }
        for (first, second, instead) in FORBIDDEN {
            if line.contains(&format!("{first}{second}")) {
                complaints.push(format!(
                    "{path}:{}: `{first}` is not allowed: {instead}",
                    index + 1
                ));
            }
        }
    }
    for (line, complaint) in log_form::check(text) {
        complaints.push(format!("{path}:{line}: {complaint}"));
    }
    complaints
}

/// Whether a file holds tests only, which may be long.
fn is_test(path: &str) -> bool {
    let mut parts = path.split('/');
    path.ends_with("tests.rs") || parts.any(|part| part == "tests" || part == "benches")
}

/// Lines without the inline tests at the end.
fn code_lines(text: &str) -> usize {
    let tests = text.find("\n#[cfg(test)]\nmod tests {");
    text[..tests.unwrap_or(text.len())].lines().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(doc: &str, lines: usize) -> String {
        format!("//! {doc}\n{}", "fn f() {}\n".repeat(lines))
    }

    #[test]
    fn lengths() {
        assert_eq!(check_file("a.rs", &long("Doc.", 400)), [""; 0]);
        assert_eq!(check_file("a.rs", &long("Doc.", 600)).len(), 1);
        let reason = "It is longer than 500\n//! lines because it is a table.";
        assert_eq!(check_file("a.rs", &long(reason, 600)), [""; 0]);
        assert_eq!(check_file("a.rs", &long(reason, 900)).len(), 1);
        assert_eq!(
            check_file("crates/a/src/tests.rs", &long("Doc.", 900)),
            [""; 0]
        );
        let tests = "\n#[cfg(test)]\nmod tests {\n".to_owned() + &"x\n".repeat(700) + "}\n";
        assert_eq!(check_file("a.rs", &(long("Doc.", 300) + &tests)), [""; 0]);
    }

    #[test]
    fn docs_and_forbidden_text() {
        assert_eq!(
            check_file("a.rs", "fn f() {}\n"),
            ["a.rs:1: does not open with `//!`: say what it is and why"]
        );
        let text = format!(
            "//! Doc.\n// {0}!()\nfn f() {{ {0}!() }}\n{1}(x)]\n",
            FORBIDDEN[0].0, FORBIDDEN[2].0
        );
        let found = check_file("a.rs", &text);
        assert!(
            found.len() == 2 && found[0].starts_with("a.rs:3:") && found[1].starts_with("a.rs:4:"),
            "{found:?}"
        );
    }
}
