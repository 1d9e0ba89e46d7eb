//! One agent: its lists against its components, then kind by kind (reference 1.2, 1.5).

use std::collections::BTreeMap;

use flafka_flow::settings::{Entry, Problem, Section, Severity, nearest};

use super::checker::Checker;
use super::keys::{Kind, RawAgent};
use super::names::{self, Name};
use super::{AgentConfig, channels, groups, places, sinks, sources};

/// A component that is in its list and has properties.
pub(super) struct Declared {
    pub(super) name: Name,
    pub(super) section: Section,
}

/// Checks an agent; none when nothing of it can run.
pub(super) fn build(checker: &mut Checker<'_>, mut raw: RawAgent) -> Option<AgentConfig> {
    let mut declared: BTreeMap<Kind, Vec<Declared>> = BTreeMap::new();
    let mut names: BTreeMap<Kind, Vec<String>> = BTreeMap::new();
    for kind in Kind::ALL {
        let list = raw.lists.remove(&kind);
        let sections = raw.components.remove(&kind).unwrap_or_default();
        let (list, found) = declare(checker, &raw.name, kind, list, sections);
        names.insert(kind, list.into_iter().map(|name| name.name).collect());
        declared.insert(kind, found);
    }
    let mut take = |kind| declared.remove(&kind).unwrap_or_default();
    check_filters(checker, take(Kind::ConfigFilters));
    if names[&Kind::Channels].is_empty() {
        let help = format!(
            "add `{}.channels = c1` and `{0}.channels.c1.type = memory`",
            raw.name
        );
        report_empty(checker, &raw, "has no channels", help);
    }
    if names[&Kind::Sources].is_empty() && names[&Kind::Sinks].is_empty() {
        let help = format!("add `{}.sources = …` or `{0}.sinks = …`", raw.name);
        report_empty(checker, &raw, "has neither sources nor sinks", help);
    }
    let (mut channels, capacities) = channels::check(checker, take(Kind::Channels));
    let usable = channels::Usable {
        declared: &names[&Kind::Channels],
        valid: channels
            .iter()
            .map(|channel| channel.name.clone())
            .collect(),
        capacities,
    };
    let sources = sources::check(checker, take(Kind::Sources), &usable);
    let sinks = sinks::check(checker, take(Kind::Sinks), &usable);
    let sink_groups = groups::check(
        checker,
        take(Kind::SinkGroups),
        &sinks,
        &names[&Kind::Sinks],
    );
    channels::drop_unused(checker, &raw.name, &mut channels, &sources, &sinks);
    places::check(checker, &channels);
    let nothing = channels.is_empty() || (sources.is_empty() && sinks.is_empty());
    (!nothing).then_some(AgentConfig {
        name: raw.name,
        sources,
        channels,
        sinks,
        sink_groups,
    })
}

fn report_empty(checker: &mut Checker<'_>, raw: &RawAgent, what: &str, help: String) {
    let message = format!("the agent `{}` {what}", raw.name);
    checker.report.push(
        Problem::new(Severity::Error, raw.name.clone(), message)
            .at(raw.span)
            .help(help),
    );
}

/// Brings a list and the components of its kind together, in the order of the list.
fn declare(
    checker: &mut Checker<'_>,
    agent: &str,
    kind: Kind,
    list: Option<(String, Entry)>,
    mut sections: BTreeMap<String, Section>,
) -> (Vec<Name>, Vec<Declared>) {
    let key = format!("{agent}.{}", kind.word());
    let names = match &list {
        Some((key, entry)) => names::split(checker, key, entry),
        None => Vec::new(),
    };
    let mut declared = Vec::new();
    let mut bare: Vec<&Name> = Vec::new();
    for name in &names {
        match sections.remove(&name.name) {
            Some(section) => declared.push(Declared {
                name: name.clone(),
                section,
            }),
            None => bare.push(name),
        }
    }
    for (name, section) in &sections {
        let problem = undeclared(&key, kind, name, section, &names, &mut bare);
        checker.report.push(problem);
    }
    for name in bare {
        let message = format!("the {} `{}` has no properties", kind.noun(), name.name);
        let first = if kind == Kind::SinkGroups {
            "sinks"
        } else {
            "type"
        };
        let help = format!(
            "add `{key}.{}.{first} = …`, or take it out of the list",
            name.name
        );
        checker.report.push(
            Problem::new(Severity::Error, key.clone(), message)
                .at(name.span)
                .help(help),
        );
    }
    (names, declared)
}

/// A component that is not in its list. When a listed name without properties is near, it is
/// what was meant, and it is not reported a second time.
fn undeclared(
    key: &str,
    kind: Kind,
    name: &str,
    section: &Section,
    names: &[Name],
    bare: &mut Vec<&Name>,
) -> Problem {
    let noun = kind.noun();
    let count = match section.entries.len() {
        1 => "1 key".to_owned(),
        count => format!("{count} keys"),
    };
    let message = format!("the {noun} `{name}` has {count} but is not in `{key}`");
    let problem = Problem::new(Severity::Error, section.path.clone(), message).at(section.span);
    let listed: Vec<&str> = names.iter().map(|name| name.name.as_str()).collect();
    let problem = match listed.as_slice() {
        [] => problem,
        listed => problem.allowed(listed.join(", ")),
    };
    let near_bare = nearest(name, bare.iter().map(|name| name.name.as_str()));
    if let Some(near) = near_bare {
        bare.retain(|name| name.name != near);
        return problem.help(format!("did you mean `{near}`, which has no properties?"));
    }
    let longer = if listed.is_empty() {
        name.to_owned()
    } else {
        format!("{} {name}", listed.join(" "))
    };
    match nearest(name, listed.iter().copied()) {
        Some(near) => problem.help(format!(
            "did you mean `{near}`? Else write `{key} = {longer}`"
        )),
        None => problem.help(format!("write `{key} = {longer}`, or remove its keys")),
    }
}

/// The config filters are read while loading; what is left is a missing type.
fn check_filters(checker: &mut Checker<'_>, filters: Vec<Declared>) {
    for filter in filters {
        if filter.section.entries.contains_key("type") {
            continue;
        }
        let key = format!("{}.type", filter.section.path);
        checker.report.push(
            Problem::new(
                Severity::Error,
                key.clone(),
                "the config filter has no `type`",
            )
            .at(filter.section.span)
            .allowed("env, external")
            .help(format!("add `{key} = …`")),
        );
    }
}
