//! Lists of names: split on blanks, each name with its place (reference 1.2).

use flafka_flow::settings::{Entry, Problem, Severity, Span, nearest};

use super::checker::Checker;

/// A name in a list.
#[derive(Debug, Clone)]
pub(super) struct Name {
    pub(super) name: String,
    pub(super) span: Option<Span>,
}

/// Splits a list; names that cannot be are reported and left out.
pub(super) fn split(checker: &mut Checker<'_>, key: &str, entry: &Entry) -> Vec<Name> {
    let mut names: Vec<Name> = Vec::new();
    for token in entry.value.split_whitespace() {
        if token.starts_with('#') || token.starts_with("//") {
            let problem = "a comment cannot stand behind a value; it becomes part of the list";
            checker.report.push(
                Problem::new(Severity::Error, key, problem)
                    .at(entry.value_span)
                    .value(entry.value.clone())
                    .help("put the comment on a line of its own"),
            );
            break;
        }
        for part in token.split([',', ';']) {
            if part.is_empty() {
                continue;
            }
            let name = Name {
                name: part.to_owned(),
                span: place(checker, entry, part),
            };
            if part.contains('.') {
                checker.report.push(dotted(key, &name));
            } else if names.iter().any(|other| other.name == part) {
                let message = format!("`{part}` stands twice in the list");
                checker.report.push(
                    Problem::new(Severity::Error, key, message)
                        .at(entry.value_span)
                        .help("remove one, or mend it if another name was meant"),
                );
            } else {
                names.push(name);
            }
        }
        if token.contains([',', ';']) {
            checker.report.push(separator(key, entry));
        }
    }
    names
}

fn dotted(key: &str, name: &Name) -> Problem {
    Problem::new(Severity::Error, key, "a name cannot hold a dot")
        .at(name.span)
        .value(name.name.clone())
        .help(format!("write `{}`", name.name.replace('.', "_")))
}

fn separator(key: &str, entry: &Entry) -> Problem {
    let mended: Vec<_> = entry
        .value
        .split(|c: char| c.is_whitespace() || c == ',' || c == ';')
        .filter(|name| !name.is_empty())
        .collect();
    Problem::new(Severity::Error, key, "names are separated by blanks")
        .at(entry.value_span)
        .value(entry.value.clone())
        .help(format!("write `{key} = {}`", mended.join(" ")))
}

/// Where a name stands within its list; the whole list when it is not written out there.
fn place(checker: &Checker<'_>, entry: &Entry, name: &str) -> Option<Span> {
    let list = entry.value_span?;
    let file = checker.loaded.files.get(usize::from(list.file))?;
    let raw = file.text.get(list.range())?;
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_' || c == '-' || c == '.';
    for (at, _) in raw.match_indices(name) {
        let before = raw[..at].chars().next_back();
        let after = raw[at + name.len()..].chars().next();
        if before.is_some_and(part_of_name) || after.is_some_and(part_of_name) {
            continue;
        }
        let lines = raw[..at].matches('\n').count();
        let start = list.start + u32::try_from(at).ok()?;
        return Some(Span {
            file: list.file,
            line: list.line + u32::try_from(lines).ok()?,
            start,
            end: start + u32::try_from(name.len()).ok()?,
        });
    }
    Some(list)
}

/// A reference to a name that does not exist.
pub(super) fn unknown(key: &str, name: &Name, noun: &str, known: &[String]) -> Problem {
    let problem = Problem::new(
        Severity::Error,
        key,
        format!("there is no {noun} `{}`", name.name),
    )
    .at(name.span);
    if known.is_empty() {
        return problem.help(format!("no {noun} is declared"));
    }
    let problem = problem.allowed(known.join(", "));
    match nearest(&name.name, known.iter().map(String::as_str)) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None => problem,
    }
}
