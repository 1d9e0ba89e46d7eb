//! Look-ups in values: `${name}`, `${env:VAR}`, `${sys:prop}`, `${date:format}` (reference 1.9).
//!
//! The syntax is that of commons-text's `StringSubstitutor`, with defaults (`${x:-y}`), nested
//! names (`${${sys:env}_BIND}`) and the escape `$${x}`. What cannot be resolved stays as written,
//! with a warning. One thing is better than in Flume: a property refers to the resolved value of
//! another wherever it stands, while Flume walks in hash order and sees only what it has met.
//!
//! Invariant: the work is bounded ([`MAX_DEPTH`], [`MAX_LENGTH`]); a cycle is an error that names
//! its members. Config filters (`${f1['key']}`) come later, see `filters`.

mod date;
mod parse;

use std::collections::BTreeMap;

use flafka_flow::settings::{Entry, Problem, Severity, Span, nearest};
use jiff::Zoned;

use crate::secrets::looks_secret;

pub(crate) use parse::filter_reference;
use parse::{Part, parts};

/// Look-ups inside of look-ups.
pub const MAX_DEPTH: usize = 64;

/// Bytes that a value may grow to.
pub const MAX_LENGTH: usize = 1 << 20;

/// Look-ups of commons-text that Flume has but leaves off.
const OFF: [&str; 15] = [
    "base64decoder",
    "base64encoder",
    "const",
    "dns",
    "file",
    "localhost",
    "properties",
    "resourcebundle",
    "script",
    "url",
    "urldecoder",
    "urlencoder",
    "xml",
    "xmldecoder",
    "xmlencoder",
];

/// Where values come from.
pub struct Sources<'a> {
    /// The environment, for `env:`.
    pub environment: &'a BTreeMap<String, String>,
    /// The `-D` definitions, for `sys:`.
    pub definitions: &'a BTreeMap<String, String>,
    /// The time of `date:`.
    pub now: &'a Zoned,
    /// Whether plain `${VAR}` falls back to the environment
    /// (`-DpropertiesImplementation=org.apache.flume.node.EnvVarResolverProperties`).
    pub plain_environment: bool,
}

/// Resolves all look-ups in the values of `keys`, in place.
pub fn resolve(keys: &mut BTreeMap<String, Entry>, sources: &Sources<'_>) -> Vec<Problem> {
    if !keys.values().any(|entry| entry.value.contains("${")) {
        return Vec::new();
    }
    let mut resolver = Resolver {
        raw: keys,
        sources,
        resolved: BTreeMap::new(),
        path: Vec::new(),
        problems: Vec::new(),
    };
    for key in keys.keys() {
        // A failure is in the problems already.
        drop(resolver.property(key));
    }
    let Resolver {
        resolved, problems, ..
    } = resolver;
    for (key, value) in resolved {
        if let (Some(entry), Some(value)) = (keys.get_mut(&key), value) {
            entry.value = value;
        }
    }
    problems
}

/// Why a value has none; reported where it was found.
struct Failed;

/// What a name stands for.
enum Found {
    Value(String),
    Nothing(Option<String>),
}

struct Resolver<'a> {
    raw: &'a BTreeMap<String, Entry>,
    sources: &'a Sources<'a>,
    /// Values done; none = failed.
    resolved: BTreeMap<String, Option<String>>,
    /// The properties being resolved, each referring to the next.
    path: Vec<String>,
    problems: Vec<Problem>,
}

impl Resolver<'_> {
    /// The resolved value of a property; none when there is no such property.
    fn property(&mut self, key: &str) -> Result<Option<String>, Failed> {
        if let Some(done) = self.resolved.get(key) {
            return done.clone().map(Some).ok_or(Failed);
        }
        let Some(entry) = self.raw.get(key) else {
            return Ok(None);
        };
        if let Some(start) = self.path.iter().position(|member| member == key) {
            return Err(self.cycle(start));
        }
        if self.path.len() >= MAX_DEPTH {
            return Err(self.fail(
                key,
                format!("look-ups go through more than {MAX_DEPTH} properties"),
            ));
        }
        self.path.push(key.to_owned());
        let value = self.expand(key, &entry.value, 0);
        self.path.pop();
        let value = value.ok();
        self.resolved.insert(key.to_owned(), value.clone());
        value.map(Some).ok_or(Failed)
    }

    /// Replaces the look-ups in `text`, which belongs to the property `key`.
    fn expand(&mut self, key: &str, text: &str, depth: usize) -> Result<String, Failed> {
        if depth > MAX_DEPTH {
            return Err(self.fail(
                key,
                format!("look-ups are nested more than {MAX_DEPTH} levels"),
            ));
        }
        let mut expanded = String::with_capacity(text.len());
        for part in parts(text) {
            match part {
                Part::Text(text) => expanded.push_str(text),
                Part::Lookup { inner, .. } if filter_reference(inner).is_some() => {
                    expanded.push_str(part.written());
                }
                Part::Lookup { inner, .. } => match self.lookup(key, inner, depth)? {
                    Some(value) => expanded.push_str(&value),
                    None => expanded.push_str(part.written()),
                },
            }
            if expanded.len() > MAX_LENGTH {
                return Err(self.fail(key, format!("the value grows over {MAX_LENGTH} bytes")));
            }
        }
        Ok(expanded)
    }

    /// The value of one look-up; none when it stays as written.
    fn lookup(&mut self, key: &str, inner: &str, depth: usize) -> Result<Option<String>, Failed> {
        let before = self.problems.len();
        let inner = self.expand(key, inner, depth + 1)?;
        let nested_failed = self.problems.len() > before;
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner.as_str(), None),
        };
        let value = match (self.find(key, name)?, default) {
            (Found::Value(value), _) => value,
            (Found::Nothing(_), Some(default)) => default.to_owned(),
            (Found::Nothing(help), None) => {
                if !nested_failed {
                    self.unresolved(key, name, help);
                }
                return Ok(None);
            }
        };
        self.expand(key, &value, depth + 1).map(Some)
    }

    /// Looks a name up as commons-text's interpolator does: by prefix, and when that gives
    /// nothing, the part behind the prefix as the name of a property.
    fn find(&mut self, key: &str, name: &str) -> Result<Found, Failed> {
        let (prefix, rest) = match name.split_once(':') {
            Some((prefix, rest)) => (prefix.to_ascii_lowercase(), rest),
            None => (String::new(), name),
        };
        let value = match prefix.as_str() {
            "env" => self.sources.environment.get(rest).cloned(),
            "sys" => self.system_property(rest),
            "date" => Some(date::format(rest, self.sources.now).map_err(|letter| {
                self.fail(
                    key,
                    format!("`{letter}` in the date format `{rest}` is not known here"),
                )
            })?),
            _ => None,
        };
        if let Some(value) = value {
            return Ok(Found::Value(value));
        }
        if let Some(value) = self.property(rest)? {
            return Ok(Found::Value(value));
        }
        if prefix.is_empty()
            && self.sources.plain_environment
            && let Some(value) = self.sources.environment.get(rest)
        {
            return Ok(Found::Value(value.clone()));
        }
        Ok(Found::Nothing(self.help(&prefix, rest)))
    }

    /// A `-D` definition, or one of the few of Java's own that make sense without Java.
    fn system_property(&self, name: &str) -> Option<String> {
        if let Some(value) = self.sources.definitions.get(name) {
            return Some(value.clone());
        }
        let environment = |name: &str| self.sources.environment.get(name).cloned();
        match name {
            "user.home" => environment("HOME"),
            "user.name" => environment("USER").or_else(|| environment("LOGNAME")),
            "user.dir" => environment("PWD"),
            "java.io.tmpdir" => Some("/tmp".to_owned()),
            "file.separator" => Some("/".to_owned()),
            "path.separator" => Some(":".to_owned()),
            "line.separator" => Some("\n".to_owned()),
            _ => None,
        }
    }

    fn help(&self, prefix: &str, name: &str) -> Option<String> {
        match prefix {
            "env" => Some(format!(
                "the environment variable `{name}` is not set; `${{env:{name}:-…}}` gives a default"
            )),
            "sys" => Some(format!(
                "give it with -D{name}=…, or a default: `${{sys:{name}:-…}}`"
            )),
            "java" => Some("there is no Java here to ask; write the text itself".to_owned()),
            _ if OFF.contains(&prefix) => Some(format!(
                "the look-up `{prefix}:` is not active (nor is it in Flume without a look-ups file)"
            )),
            _ if self.sources.environment.contains_key(name) => Some(format!(
                "for the environment variable write `${{env:{name}}}`"
            )),
            _ => nearest(name, self.raw.keys().map(String::as_str))
                .map(|near| format!("did you mean `${{{near}}}`?")),
        }
    }

    fn unresolved(&mut self, key: &str, name: &str, help: Option<String>) {
        let secret = looks_secret(key);
        let message = match secret {
            true => "a look-up in the value is not resolved and stays as written".to_owned(),
            false => format!("`${{{name}}}` is not resolved and stays as written"),
        };
        let mut problem = Problem::new(Severity::Warning, key, message).at(self.span(key));
        problem.help = help.filter(|_| !secret);
        self.push(problem);
    }

    fn cycle(&mut self, start: usize) -> Failed {
        let mut members: Vec<_> = self.path[start..].to_vec();
        let first = members.iter().min().cloned().unwrap_or_default();
        let turn = members.iter().position(|key| *key == first).unwrap_or(0);
        members.rotate_left(turn);
        members.push(first.clone());
        let message = format!("look-ups go in a circle: {}", members.join(" → "));
        self.fail(&first, message)
    }

    fn fail(&mut self, key: &str, message: String) -> Failed {
        let problem = Problem::new(Severity::Error, key, message).at(self.span(key));
        self.push(problem);
        Failed
    }

    fn push(&mut self, problem: Problem) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn span(&self, key: &str) -> Option<Span> {
        self.raw.get(key).and_then(|entry| entry.value_span)
    }
}

#[cfg(test)]
mod tests;
