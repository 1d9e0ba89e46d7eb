//! What a `type` stands for (reference 1.4).

use flafka_flow::registry::{
    ChannelEntry, Description, InterceptorEntry, Registry, SelectorEntry, SinkEntry,
    SinkProcessorEntry, SourceEntry,
};
use flafka_flow::settings::{Problem, Severity, nearest};

use super::known;

/// What a type is a type of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TypeKind {
    Source,
    Channel,
    Sink,
    Interceptor,
    Selector,
    SinkProcessor,
}

impl TypeKind {
    const ALL: [TypeKind; 6] = [
        TypeKind::Source,
        TypeKind::Channel,
        TypeKind::Sink,
        TypeKind::Interceptor,
        TypeKind::Selector,
        TypeKind::SinkProcessor,
    ];

    pub(super) fn noun(self) -> &'static str {
        match self {
            TypeKind::Source => "source",
            TypeKind::Channel => "channel",
            TypeKind::Sink => "sink",
            TypeKind::Interceptor => "interceptor",
            TypeKind::Selector => "channel selector",
            TypeKind::SinkProcessor => "sink processor",
        }
    }
}

/// An entry of the registry.
pub(super) trait Described: 'static {
    const KIND: TypeKind;
    fn description(&self) -> &Description;
}

macro_rules! described {
    ($($entry:ident is $kind:ident),*) => {$(
        impl Described for $entry {
            const KIND: TypeKind = TypeKind::$kind;

            fn description(&self) -> &Description {
                &self.description
            }
        }
    )*};
}
described!(
    SourceEntry is Source, ChannelEntry is Channel, SinkEntry is Sink,
    InterceptorEntry is Interceptor, SelectorEntry is Selector, SinkProcessorEntry is SinkProcessor
);

/// The entry that `word` names.
pub(super) fn find<E: Described>(entries: &'static [E], word: &str) -> Option<&'static E> {
    entries
        .iter()
        .find(|entry| entry.description().names.matches(word))
}

/// All descriptions of a kind.
fn descriptions(registry: &Registry, kind: TypeKind) -> Vec<&'static Description> {
    fn all<E: Described>(entries: &'static [E]) -> Vec<&'static Description> {
        entries.iter().map(Described::description).collect()
    }
    match kind {
        TypeKind::Source => all(registry.sources),
        TypeKind::Channel => all(registry.channels),
        TypeKind::Sink => all(registry.sinks),
        TypeKind::Interceptor => all(registry.interceptors),
        TypeKind::Selector => all(registry.selectors),
        TypeKind::SinkProcessor => all(registry.sink_processors),
    }
}

/// The names to offer.
pub(super) fn available(registry: &Registry, kind: TypeKind) -> String {
    let mut names: Vec<_> = descriptions(registry, kind)
        .into_iter()
        .map(|description| description.names.main())
        .collect();
    names.sort_unstable();
    names.join(", ")
}

/// Why there is no such type, as helpfully as possible.
pub(super) fn unknown_type(
    registry: &Registry,
    kind: TypeKind,
    key: String,
    word: &str,
) -> Problem {
    let noun = kind.noun();
    let offer = available(registry, kind);
    let problem = |message: String| {
        Problem::new(Severity::Error, key, message)
            .value(word)
            .allowed(offer)
    };
    if known::find(kind, word).is_some() {
        return problem(format!(
            "Flume's {noun} `{word}` is not available in this version"
        ));
    }
    let other = TypeKind::ALL.into_iter().find(|other| {
        let ours = descriptions(registry, *other);
        known::find(*other, word).is_some()
            || ours
                .iter()
                .any(|description| description.names.matches(word))
    });
    if let Some(other) = other {
        return problem(format!("`{word}` is a {}, not a {noun}", other.noun()));
    }
    let equivalent = same_class_name(registry, kind, word);
    if word.contains('.') {
        let problem = problem("a Java class of your own, which cannot be loaded here".to_owned());
        return match equivalent {
            Some(near) => problem.help(format!("ours of that name is `{near}`")),
            None => problem.help(format!(
                "there is no {noun} of ours by that name; use one of those"
            )),
        };
    }
    let problem = problem(format!("no such type of {noun}"));
    let names = descriptions(registry, kind);
    let names = names.iter().flat_map(|description| description.names.all());
    let missing = known::KNOWN.iter().filter(|known| known.kind == kind);
    let near = nearest(word, names.filter(|name| !name.contains('.')));
    match near.or(equivalent) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None => match nearest(word, missing.map(|known| known.alias)) {
            Some(near) => problem.help(format!(
                "did you mean `{near}`? Flume has it, this version does not"
            )),
            None => problem,
        },
    }
}

/// The main name of a type of ours whose class has the same last name as `word`.
fn same_class_name(registry: &Registry, kind: TypeKind, word: &str) -> Option<&'static str> {
    let last = |class: &str| {
        let class = class.split('$').next().unwrap_or(class);
        class
            .rsplit('.')
            .next()
            .unwrap_or(class)
            .to_ascii_lowercase()
    };
    let wanted = last(word);
    let found = descriptions(registry, kind)
        .into_iter()
        .find(|description| {
            let mut classes = description.names.classes.iter();
            classes.any(|class| last(class) == wanted)
        });
    found.map(|description| description.names.main())
}
