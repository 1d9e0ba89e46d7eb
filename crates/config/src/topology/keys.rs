//! Sorts the keys by agent, kind and component (reference 1.2).

use std::collections::BTreeMap;

use flafka_flow::settings::{Entry, Problem, Section, Severity, Span, nearest};

use super::checker::Checker;

/// The second word of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Sources,
    Channels,
    Sinks,
    SinkGroups,
    ConfigFilters,
}

impl Kind {
    pub(super) const ALL: [Kind; 5] = [
        Kind::Sources,
        Kind::Channels,
        Kind::Sinks,
        Kind::SinkGroups,
        Kind::ConfigFilters,
    ];

    pub(super) fn word(self) -> &'static str {
        match self {
            Kind::Sources => "sources",
            Kind::Channels => "channels",
            Kind::Sinks => "sinks",
            Kind::SinkGroups => "sinkgroups",
            Kind::ConfigFilters => "configfilters",
        }
    }

    /// One of them, in prose.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Kind::Sources => "source",
            Kind::Channels => "channel",
            Kind::Sinks => "sink",
            Kind::SinkGroups => "sink group",
            Kind::ConfigFilters => "config filter",
        }
    }

    fn of(word: &str) -> Option<Kind> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }

    fn near(word: &str) -> Option<Kind> {
        nearest(word, Self::ALL.map(Kind::word)).and_then(Kind::of)
    }
}

/// The keys of one agent, sorted but not checked.
#[derive(Debug, Default)]
pub(super) struct RawAgent {
    pub(super) name: String,
    /// Where its first key stands.
    pub(super) span: Option<Span>,
    /// The lists of names, with the full key as written.
    pub(super) lists: BTreeMap<Kind, (String, Entry)>,
    /// The components with their keys.
    pub(super) components: BTreeMap<Kind, BTreeMap<String, Section>>,
    /// How many keys it has.
    keys: usize,
}

/// Keys whose second word is none of the five.
struct Stray {
    span: Option<Span>,
    count: usize,
    first: String,
}

/// Sorts all keys, in the order in which the agents appear.
pub(super) fn agents(checker: &mut Checker<'_>) -> Vec<RawAgent> {
    let mut agents: BTreeMap<&str, RawAgent> = BTreeMap::new();
    let mut strays: BTreeMap<(&str, &str), Stray> = BTreeMap::new();
    let keys = &checker.loaded.keys;
    for (key, entry) in keys {
        let (name, rest) = key.split_once('.').unwrap_or(("", key));
        if name.is_empty() || rest.is_empty() {
            checker.report.push(no_agent(key, entry));
            continue;
        }
        let agent = agents.entry(name).or_default();
        agent.name = name.to_owned();
        agent.keys += 1;
        agent.span = earlier(agent.span, entry.key_span);
        let (word, below) = match rest.split_once('.') {
            Some((word, below)) => (word, Some(below)),
            None => (rest, None),
        };
        let kind = Kind::of(word);
        if kind.is_none() {
            let stray = strays.entry((name, word)).or_insert(Stray {
                span: entry.key_span,
                count: 0,
                first: key.clone(),
            });
            stray.count += 1;
            if earlier(stray.span, entry.key_span) == entry.key_span {
                (stray.span, stray.first) = (entry.key_span, key.clone());
            }
        }
        // A near miss is read as what was meant, so that one mistake gives one error. Lenient
        // mode skips the line, as Flume does.
        let meant = || Kind::near(word).filter(|_| !checker.lenient);
        match (kind.or_else(meant), below) {
            (None, _) => {}
            (Some(kind), None) => {
                if kind.word() == word || !keys.contains_key(&format!("{name}.{}", kind.word())) {
                    agent.lists.insert(kind, (key.clone(), entry.clone()));
                }
            }
            (Some(kind), Some(below)) => {
                if !add(agent, kind, below, entry) {
                    checker.report.push(no_key(key, entry, kind));
                }
            }
        }
    }
    for ((name, word), stray) in &strays {
        let problem = stray_problem(name, word, stray, agents.get(name));
        checker.report.push(problem);
    }
    let agents = with_lists(checker, agents);
    if agents.is_empty() && checker.loaded.keys.is_empty() {
        let problem = Problem::new(Severity::Error, "configuration", "there is nothing in it");
        checker
            .report
            .push(problem.help("begin with `a1.sources = …`, `a1.channels = …`, `a1.sinks = …`"));
    }
    agents
}

/// Adds a component's key; false when there is no name or no key.
fn add(agent: &mut RawAgent, kind: Kind, below: &str, entry: &Entry) -> bool {
    let Some((component, key)) = below.split_once('.') else {
        return false;
    };
    if component.is_empty() || key.is_empty() {
        return false;
    }
    let path = format!("{}.{}.{component}", agent.name, kind.word());
    let components = agent.components.entry(kind).or_default();
    let section = components
        .entry(component.to_owned())
        .or_insert_with(|| Section::new(path));
    section.entries.insert(key.to_owned(), entry.clone());
    section.span = earlier(section.span, entry.key_span);
    true
}

/// The agents that declare something, in order; the others are reported.
fn with_lists(checker: &mut Checker<'_>, agents: BTreeMap<&str, RawAgent>) -> Vec<RawAgent> {
    let declared: Vec<String> = agents
        .values()
        .filter(|agent| !agent.lists.is_empty())
        .map(|agent| agent.name.clone())
        .collect();
    let mut kept = Vec::new();
    for agent in agents.into_values() {
        if !agent.lists.is_empty() {
            kept.push(agent);
            continue;
        }
        if agent.components.is_empty() {
            continue;
        }
        let name = &agent.name;
        let keys = if agent.keys == 1 { "1 key" } else { "keys" };
        let message = match agent.keys {
            1 => {
                format!("the agent `{name}` has {keys} but declares no sources, channels or sinks")
            }
            count => {
                format!(
                    "the agent `{name}` has {count} {keys} but declares no sources, channels or sinks"
                )
            }
        };
        let help = match nearest(name, declared.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("add `{name}.sources = …`, `{name}.channels = …`, `{name}.sinks = …`"),
        };
        let mut problem = Problem::new(Severity::Error, name.clone(), message)
            .at(agent.span)
            .help(help);
        if !declared.is_empty() {
            problem = problem.allowed(declared.join(", "));
        }
        checker.report.push(problem);
    }
    kept.sort_by_key(|agent| {
        agent
            .span
            .map_or((u16::MAX, 0), |span| (span.file, span.start))
    });
    kept
}

fn no_agent(key: &str, entry: &Entry) -> Problem {
    Problem::new(Severity::Error, key, "no agent name in front of the key")
        .at(entry.key_span)
        .help("keys look like `a1.sources.r1.type`; a line that continues needs `\\` at the end of the one before")
}

fn no_key(key: &str, entry: &Entry, kind: Kind) -> Problem {
    let name = key.trim_end_matches('.');
    Problem::new(
        Severity::Error,
        key,
        format!("no key behind the name of the {}", kind.noun()),
    )
    .at(entry.key_span)
    .help(format!("write `{name}.type = …` or another key of it"))
}

fn stray_problem(agent: &str, word: &str, stray: &Stray, raw: Option<&RawAgent>) -> Problem {
    let count = match stray.count {
        1 => String::new(),
        count => format!(" ({count} keys)"),
    };
    let message = format!("`{word}` is none of the words that may follow an agent's name{count}");
    let words: Vec<_> = Kind::ALL.map(Kind::word).to_vec();
    let problem = Problem::new(Severity::Error, stray.first.clone(), message)
        .at(stray.span)
        .allowed(words.join(", "));
    let holds = |(kind, (_, entry)): (&Kind, &(String, Entry))| {
        let mut names = entry.value.split_whitespace();
        names.any(|name| name == word).then_some(*kind)
    };
    let owner = raw.and_then(|raw| raw.lists.iter().find_map(holds));
    match (owner, Kind::near(word)) {
        (Some(kind), _) => problem.help(format!("did you mean `{agent}.{}.{word}…`?", kind.word())),
        (None, Some(near)) => problem.help(format!("did you mean `{agent}.{}`?", near.word())),
        (None, None) => problem,
    }
}

/// The place that comes first.
fn earlier(left: Option<Span>, right: Option<Span>) -> Option<Span> {
    match (left, right) {
        (Some(left), Some(right)) => {
            let first = (right.file, right.start) < (left.file, left.start);
            Some(if first { right } else { left })
        }
        _ => left.or(right),
    }
}
