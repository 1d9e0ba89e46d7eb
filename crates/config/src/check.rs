//! The one way in: load, look up, check everything, keep what a report needs.

use std::collections::BTreeSet;
use std::path::Path;

use flafka_flow::registry::Registry;
use flafka_flow::settings::{Problem, Severity, Span, nearest};

use crate::loader::{Input, LoadOptions, Loaded, SourceFile, load, load_inputs};
use crate::topology::{self, AgentConfig};
use crate::{comments, filters, secrets};

/// What loading and checking found.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// The agents, in file order; only the one that was asked for, if one was. Meant to be built
    /// only when there are no errors.
    pub agents: Vec<AgentConfig>,
    /// All problems of all agents, in the order of their places.
    pub problems: Vec<Problem>,
    /// The files; a span's `file` counts in them.
    pub files: Vec<SourceFile>,
    /// Keys whose values must not be shown.
    pub(crate) secret_keys: BTreeSet<String>,
    /// Where such values stand.
    pub(crate) secret_spans: Vec<Span>,
}

impl Outcome {
    /// Whether the start has to be refused.
    pub fn has_errors(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    /// How many problems there are of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        let problems = self.problems.iter();
        problems
            .filter(|problem| problem.severity == severity)
            .count()
    }

    /// An agent by its name.
    pub fn agent(&self, name: &str) -> Option<&AgentConfig> {
        self.agents.iter().find(|agent| agent.name == name)
    }

    /// Whether the value of a full key (`a1.sinks.k1.password`) must not be shown.
    pub fn is_secret(&self, key: &str) -> bool {
        self.secret_keys.contains(key) || secrets::looks_secret(key)
    }
}

/// Loads the files of `inputs` and checks them. With `agent`, that agent has to exist, and the
/// errors of others are warnings only: they do not keep it from starting.
///
/// Pure but for reading the files and running the commands of `external` config filters.
pub fn load_and_check(inputs: &LoadOptions, registry: &Registry, agent: Option<&str>) -> Outcome {
    check(load(inputs), inputs, registry, agent)
}

/// As [`load_and_check`] for files that were read already; the files of the options do not count.
pub fn check_inputs(
    files: Vec<Input>,
    options: &LoadOptions,
    registry: &Registry,
    agent: Option<&str>,
) -> Outcome {
    check(load_inputs(files, options), options, registry, agent)
}

fn check(
    mut loaded: Loaded,
    options: &LoadOptions,
    registry: &Registry,
    agent: Option<&str>,
) -> Outcome {
    let mut problems = std::mem::take(&mut loaded.problems);
    if loaded.unread {
        // Everything else that could be said would follow from what is missing.
        return unread(problems, loaded);
    }
    filters::apply(&mut loaded, &options.environment);
    let mut found = std::mem::take(&mut loaded.problems);
    let home = options.environment.get("HOME").map_or("/", String::as_str);
    let topology = topology::build(&loaded, registry, options.lenient, Path::new(home));
    found.extend(topology.problems);
    comments::annotate(&loaded, &mut found);
    let downgrade = |problem: &mut Problem| {
        problem.severity = problem.severity.min(Severity::Warning);
    };
    if options.lenient {
        found.iter_mut().for_each(downgrade);
    }
    problems.append(&mut found);
    if let Some(wanted) = agent {
        problems
            .iter_mut()
            .filter(|problem| is_of_another(problem, wanted, &loaded))
            .for_each(downgrade);
        problems.extend(missing_agent(wanted, &topology.agents, &problems, &loaded));
    }
    let mut agents = topology.agents;
    agents.retain(|built| agent.is_none_or(|wanted| built.name == wanted));
    let mut secret_keys = std::mem::take(&mut loaded.secret_keys);
    secret_keys.extend(topology.secret_keys);
    let is_secret = |key: &str| secret_keys.contains(key) || secrets::looks_secret(key);
    for problem in problems
        .iter_mut()
        .filter(|problem| is_secret(&problem.key))
    {
        problem.value = None;
    }
    problems.sort_by_key(|problem| {
        let place = problem.span.map(|span| (span.file, span.line, span.start));
        (
            place.is_none(),
            place,
            std::cmp::Reverse(problem.severity),
            problem.key.clone(),
        )
    });
    let secret_spans = loaded.written.iter().filter(|(key, _)| is_secret(key));
    Outcome {
        agents,
        problems,
        secret_spans: secret_spans.map(|(_, span)| *span).collect(),
        secret_keys,
        files: loaded.files,
    }
}

/// What is known when a file could not be read.
fn unread(mut problems: Vec<Problem>, loaded: Loaded) -> Outcome {
    let is_secret = |key: &str| secrets::looks_secret(key);
    let secret = |problem: &&mut Problem| is_secret(&problem.key);
    problems
        .iter_mut()
        .filter(secret)
        .for_each(|problem| problem.value = None);
    let secret_spans = loaded.written.iter().filter(|(key, _)| is_secret(key));
    Outcome {
        problems,
        secret_spans: secret_spans.map(|(_, span)| *span).collect(),
        files: loaded.files,
        ..Outcome::default()
    }
}

/// Whether a problem belongs to an agent of the file that is not the one wanted.
fn is_of_another(problem: &Problem, wanted: &str, loaded: &Loaded) -> bool {
    let name = problem.key.split('.').next().unwrap_or_default();
    let is_agent = |word: &str| {
        ["sources", "channels", "sinks"]
            .iter()
            .any(|kind| loaded.keys.contains_key(&format!("{word}.{kind}")))
    };
    name != wanted && problem.span.is_some() && is_agent(name) && is_agent(wanted)
}

fn missing_agent(
    wanted: &str,
    agents: &[AgentConfig],
    problems: &[Problem],
    loaded: &Loaded,
) -> Option<Problem> {
    if agents.iter().any(|agent| agent.name == wanted) {
        return None;
    }
    let prefix = format!("{wanted}.");
    let mut keys = loaded.keys.keys();
    let has_keys = keys.any(|key| key.starts_with(&prefix));
    let errors = problems
        .iter()
        .any(|problem| problem.severity == Severity::Error);
    if has_keys && errors {
        return None;
    }
    if has_keys {
        let message = format!("nothing of the agent `{wanted}` is left to run");
        let help = "mend what the warnings name";
        return Some(Problem::new(Severity::Error, wanted, message).help(help));
    }
    let names: Vec<&str> = agents.iter().map(|agent| agent.name.as_str()).collect();
    let message = format!("there is no agent `{wanted}` in the configuration");
    let mut problem = Problem::new(Severity::Error, wanted, message);
    if !names.is_empty() {
        problem = problem.allowed(names.join(", "));
    }
    problem.help = nearest(wanted, names.iter().copied())
        .or(names.first().copied().filter(|_| names.len() == 1))
        .map(|near| format!("did you mean `-n {near}`?"));
    Some(problem)
}
