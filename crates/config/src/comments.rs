//! The habit of writing a comment behind a value, where it becomes part of the value.

use flafka_flow::settings::{Problem, Severity};

use crate::loader::Loaded;
use crate::secrets::looks_secret;

/// Keys whose values are patterns or free text, in which a blank and `#` are no surprise.
const MAY_HOLD: [&str; 7] = [
    "regex",
    "searchPattern",
    "replaceString",
    "matching",
    "pattern",
    "value",
    "fromListSeparator",
];

/// Gives errors at values that end in a comment the right help, and warns of the other such
/// values.
pub(crate) fn annotate(loaded: &Loaded, problems: &mut Vec<Problem>) {
    for (key, entry) in &loaded.keys {
        let Some(at) = comment(&entry.value) else {
            continue;
        };
        let help = match looks_secret(key) || loaded.secret_keys.contains(key) {
            true => "a comment cannot stand behind a value; put it on a line of its own".to_owned(),
            false => format!(
                "a comment cannot stand behind a value; put `{}` on a line of its own",
                &entry.value[at..]
            ),
        };
        let mut found = false;
        for problem in problems.iter_mut() {
            if problem.key == *key && problem.severity == Severity::Error {
                found = true;
                problem.help = Some(help.clone());
            }
        }
        let last = key.rsplit('.').next().unwrap_or(key);
        let hash = entry.value[at..].starts_with('#');
        if !found && hash && !MAY_HOLD.contains(&last) {
            let message = "the text behind `#` is part of the value";
            problems.push(
                Problem::new(Severity::Warning, key.clone(), message)
                    .at(entry.value_span)
                    .value(entry.value.clone())
                    .help(help),
            );
        }
    }
}

/// Where a comment seems to begin: `#` or `//` behind a blank.
fn comment(value: &str) -> Option<usize> {
    let marks = value.match_indices(['#', '/']);
    let behind_blank = |at: usize| value[..at].ends_with([' ', '\t']);
    marks
        .filter(|(at, mark)| *mark == "#" || value[*at..].starts_with("// "))
        .map(|(at, _)| at)
        .find(|at| behind_blank(*at))
}
