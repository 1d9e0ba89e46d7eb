//! Config filters: secrets that stand outside of the file (reference 1.9, 2.8).
//!
//! `a.configfilters = f1` declares one, `${f1['key']}` asks it. Filters run one after the other
//! over the source, channel, sink and sink group properties of their agent. In Flume a filter
//! that fails leaves the text as it is, so that a password becomes `${f1['key']}`; here that is
//! an error. What a filter delivers is never shown.

mod external;

use std::collections::BTreeMap;

use flafka_flow::choice;
use flafka_flow::registry::{Description, TypeNames};
use flafka_flow::settings::{Problem, Report, Section, Settings, Severity, nearest};

use crate::loader::Loaded;
use crate::substitute::filter_reference;

choice! {
    /// How the output of a command is encoded.
    pub enum Charset {
        /// UTF-8; anything else in the output fails.
        Utf8 = "UTF-8" | "UTF8" | "US-ASCII" | "ASCII",
        /// One byte a character.
        Latin1 = "ISO-8859-1" | "latin1",
    }
}

flafka_flow::settings! {
    /// Reads environment variables: `${f1['VARIABLE']}`.
    pub struct EnvironmentFilterConfig {}
}

flafka_flow::settings! {
    /// Runs a command with the key as its last argument; the first line that it prints is the
    /// value. An exit code other than 0, or more than 30 seconds, is an error.
    pub struct ExternalFilterConfig {
        /// The command and its arguments, separated by blanks; there is no shell and no quoting.
        "command" => command: String,
        /// Encoding of the output.
        "charset" => charset: Charset = Charset::Utf8,
    }
}

const ENVIRONMENT: TypeNames = TypeNames {
    alias: Some("env"),
    also: &[],
    classes: &["org.apache.flume.configfilter.EnvironmentVariableConfigFilter"],
};
const EXTERNAL: TypeNames = TypeNames {
    alias: Some("external"),
    also: &[],
    classes: &["org.apache.flume.configfilter.ExternalProcessConfigFilter"],
};
const HADOOP: TypeNames = TypeNames {
    alias: Some("hadoop"),
    also: &[],
    classes: &["org.apache.flume.configfilter.HadoopCredentialStoreConfigFilter"],
};

/// The config filters, for the reference.
pub const DESCRIPTIONS: &[Description] = &[
    Description::of::<EnvironmentFilterConfig>(ENVIRONMENT),
    Description::of::<ExternalFilterConfig>(EXTERNAL),
];

/// The words below an agent whose keys filters see.
const FILTERED: [&str; 4] = ["sources", "channels", "sinks", "sinkgroups"];

/// A filter that can be asked.
enum Filter {
    Environment,
    External(ExternalFilterConfig),
}

/// Replaces the references to config filters in all agents.
pub(crate) fn apply(loaded: &mut Loaded, environment: &BTreeMap<String, String>) {
    let declared: Vec<(String, Vec<String>)> = loaded
        .keys
        .iter()
        .filter_map(|(key, entry)| {
            let agent = key.strip_suffix(".configfilters")?;
            let names = entry.value.split_whitespace().map(str::to_owned).collect();
            (!agent.contains('.')).then(|| (agent.to_owned(), names))
        })
        .collect();
    for (agent, names) in &declared {
        for name in names {
            if let Some(filter) = open(loaded, agent, name) {
                replace(loaded, agent, name, &filter, environment);
            }
        }
    }
    report_undeclared(loaded, &declared);
}

/// Reads the settings of a filter; problems are reported.
fn open(loaded: &mut Loaded, agent: &str, name: &str) -> Option<Filter> {
    let mut section = Section::new(format!("{agent}.configfilters.{name}"));
    let prefix = format!("{}.", section.path);
    for (key, entry) in loaded.keys.range(prefix.clone()..) {
        let Some(key) = key.strip_prefix(&prefix) else {
            break;
        };
        section.entries.insert(key.to_owned(), entry.clone());
    }
    let type_entry = section.entries.remove("type")?;
    section.span = type_entry.value_span;
    let mut report = Report::new();
    let word = type_entry.value.as_str();
    let filter = if ENVIRONMENT.matches(word) {
        EnvironmentFilterConfig::from_section(&section, &mut report).map(|_| Filter::Environment)
    } else if EXTERNAL.matches(word) {
        ExternalFilterConfig::from_section(&section, &mut report).map(Filter::External)
    } else {
        let key = format!("{prefix}type");
        report.push(unknown_type(key, word).at(type_entry.value_span));
        None
    };
    loaded.problems.append(&mut report.take());
    filter
}

fn unknown_type(key: String, word: &str) -> Problem {
    let problem = |message: String| Problem::new(Severity::Error, key, message).value(word);
    if HADOOP.matches(word) {
        return problem(
            "Hadoop's credential stores need Java and are not available here".to_owned(),
        )
        .help("use the filter `external` with a command that prints the secret");
    }
    let allowed = "env, external";
    if word.contains('.') {
        return problem("a Java class, which cannot be loaded here".to_owned())
            .allowed(allowed)
            .help("use the filter `external` with a command that prints the secret");
    }
    let unknown = problem("no such config filter".to_owned()).allowed(allowed);
    match nearest(word, ["env", "external"]) {
        Some(near) => unknown.help(format!("did you mean `{near}`?")),
        None => unknown,
    }
}

/// Replaces every `${name['key']}` in the agent's properties.
fn replace(
    loaded: &mut Loaded,
    agent: &str,
    name: &str,
    filter: &Filter,
    environment: &BTreeMap<String, String>,
) {
    let mut answers: BTreeMap<String, Result<String, String>> = BTreeMap::new();
    for (key, entry) in &mut loaded.keys {
        if !entry.value.contains("${") || !is_filtered(agent, key) {
            continue;
        }
        let mut value = String::with_capacity(entry.value.len());
        let mut from = 0;
        for reference in references(&entry.value) {
            if reference.filter != name {
                continue;
            }
            let answer = answers
                .entry(reference.key.to_owned())
                .or_insert_with(|| ask(filter, reference.key, environment));
            match answer {
                Ok(answer) => {
                    value.push_str(&entry.value[from..reference.start]);
                    value.push_str(answer);
                    from = reference.end;
                    loaded.secret_keys.insert(key.clone());
                }
                Err(reason) => {
                    let message = format!(
                        "the config filter `{name}` gives no value for `{}`: {reason}",
                        reference.key
                    );
                    loaded.problems.push(
                        Problem::new(Severity::Error, key.clone(), message).at(entry.value_span),
                    );
                }
            }
        }
        value.push_str(&entry.value[from..]);
        entry.value = value;
    }
}

fn ask(
    filter: &Filter,
    key: &str,
    environment: &BTreeMap<String, String>,
) -> Result<String, String> {
    match filter {
        Filter::Environment => environment
            .get(key)
            .cloned()
            .ok_or_else(|| "the environment variable is not set".to_owned()),
        Filter::External(config) => external::run(config, key).map_err(|error| error.to_string()),
    }
}

fn is_filtered(agent: &str, key: &str) -> bool {
    let below = key
        .strip_prefix(agent)
        .and_then(|rest| rest.strip_prefix('.'));
    let kind = below.and_then(|rest| rest.split_once('.'));
    kind.is_some_and(|(kind, _)| FILTERED.contains(&kind))
}

/// A `${filter['key']}` in a value.
struct Reference<'v> {
    start: usize,
    end: usize,
    filter: &'v str,
    key: &'v str,
}

fn references(value: &str) -> Vec<Reference<'_>> {
    let mut found = Vec::new();
    for (start, _) in value.match_indices("${") {
        let Some(length) = value[start..].find('}') else {
            break;
        };
        let end = start + length + 1;
        if let Some((filter, key)) = filter_reference(&value[start + 2..end - 1]) {
            found.push(Reference {
                start,
                end,
                filter,
                key,
            });
        }
    }
    found
}

/// Warns of references to filters that the agent does not have.
fn report_undeclared(loaded: &mut Loaded, declared: &[(String, Vec<String>)]) {
    for (key, entry) in &loaded.keys {
        if loaded.secret_keys.contains(key) {
            continue;
        }
        let agent = key.split('.').next().unwrap_or_default();
        let names = declared.iter().find(|(name, _)| name == agent);
        let names = names.map(|(_, names)| names.as_slice()).unwrap_or_default();
        for reference in references(&entry.value) {
            if names.iter().any(|name| name == reference.filter) {
                continue;
            }
            let name = reference.filter;
            let message = format!("there is no config filter `{name}`; the text stays as written");
            let near = nearest(name, names.iter().map(String::as_str));
            let help = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("declare it: `{agent}.configfilters = {name}`"),
            };
            loaded.problems.push(
                Problem::new(Severity::Warning, key.clone(), message)
                    .at(entry.value_span)
                    .help(help),
            );
        }
    }
}

#[cfg(test)]
mod tests;
