//! Channels: types, settings, and whether anybody uses them.

use std::collections::BTreeMap;

use flafka_flow::settings::{Problem, Severity};

use super::agent::Declared;
use super::checker::Checker;
use super::{ChannelConfig, SinkConfig, SourceConfig};

/// The channels that sources and sinks may name.
pub(super) struct Usable<'a> {
    /// In the list, valid or not.
    pub(super) declared: &'a [String],
    /// Survived their check.
    pub(super) valid: Vec<String>,
    /// `transactionCapacity` of those that have one.
    pub(super) capacities: BTreeMap<String, Option<usize>>,
}

impl Usable<'_> {
    pub(super) fn capacity(&self, channel: &str) -> Option<usize> {
        self.capacities.get(channel).copied().flatten()
    }
}

/// Checks the channels; those that survive, and their transaction capacities.
pub(super) fn check(
    checker: &mut Checker<'_>,
    declared: Vec<Declared>,
) -> (Vec<ChannelConfig>, BTreeMap<String, Option<usize>>) {
    let mut channels = Vec::new();
    let mut capacities = BTreeMap::new();
    for Declared { name, mut section } in declared {
        let Some(entry) = checker.resolve(checker.registry.channels, &mut section, None) else {
            continue;
        };
        checker.prepare(&mut section, &(entry.description.fields)());
        let (capacity, valid) = checker.run(|report| (entry.check)(&section, report));
        if valid {
            capacities.insert(name.name.clone(), capacity);
            channels.push(ChannelConfig {
                name: name.name,
                type_name: entry.description.names.main().to_owned(),
                section,
            });
        }
    }
    (channels, capacities)
}

/// Reports the channels that nothing puts into or takes from, and drops those without either.
pub(super) fn drop_unused(
    checker: &mut Checker<'_>,
    agent: &str,
    channels: &mut Vec<ChannelConfig>,
    sources: &[SourceConfig],
    sinks: &[SinkConfig],
) {
    let keys = &checker.loaded.keys;
    let named = |kind: &str, ends: [&str; 2], channel: &str| {
        let prefix = format!("{agent}.{kind}.");
        keys.range(prefix.clone()..)
            .take_while(|(key, _)| key.starts_with(&prefix))
            .filter(|(key, _)| ends.iter().any(|end| key.ends_with(end)))
            .any(|(_, entry)| {
                let mut names = entry.value.split([' ', '\t', ',']);
                names.any(|name| name == channel)
            })
    };
    channels.retain(|channel| {
        let name = channel.name.as_str();
        let fed = sources
            .iter()
            .any(|source| source.channels.iter().any(|(other, _)| other == name));
        let drained = sinks.iter().any(|sink| sink.channel == name);
        // What a broken source or sink names counts as used: it has its own problem already.
        let fed_by_name = fed || named("sources", [".channels", ".channel"], name);
        let drained_by_name = drained || named("sinks", [".channel", ".channels"], name);
        let problem = |severity, message: &str| {
            Problem::new(severity, channel.section.path.clone(), message.to_owned())
                .at(channel.section.span)
        };
        // A Kafka channel is a topic: the other end may be elsewhere.
        let elsewhere = channel.type_name.to_ascii_lowercase().contains("kafka");
        match (fed_by_name, drained_by_name) {
            (false, false) => checker.report.push(
                problem(
                    Severity::Error,
                    &format!("no source and no sink uses the channel `{name}`"),
                )
                .help("name it at a source or a sink, or remove it"),
            ),
            (true, false) if !elsewhere => checker.report.push(
                problem(
                    Severity::Warning,
                    &format!("no sink takes from the channel `{name}`"),
                )
                .help("it fills up and then refuses events; give it a sink"),
            ),
            (false, true) if !elsewhere => checker.report.push(
                problem(
                    Severity::Warning,
                    &format!("no source puts into the channel `{name}`"),
                )
                .help("its sinks get nothing but what it still holds"),
            ),
            _ => {}
        }
        fed || drained
    });
}
