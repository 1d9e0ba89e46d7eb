//! Sink groups: members and processor (reference 2.7).
//!
//! Unlike Flume 1.11, a group without `processor.type` gets the `default` processor, as the guide
//! says; in Flume its sinks do not run.

use std::collections::BTreeMap;

use flafka_flow::settings::{Problem, Section, Severity, nearest};

use super::agent::Declared;
use super::checker::Checker;
use super::names::{self, Name};
use super::{SinkConfig, SinkGroupConfig};

/// The keys of a group itself.
const OWN_KEYS: [&str; 2] = ["sinks", "processor.type"];

/// Checks the groups; those that survive.
pub(super) fn check(
    checker: &mut Checker<'_>,
    declared: Vec<Declared>,
    valid: &[SinkConfig],
    sinks: &[String],
) -> Vec<SinkGroupConfig> {
    let mut groups = Vec::new();
    let mut owners: BTreeMap<String, String> = BTreeMap::new();
    for Declared { name, mut section } in declared {
        let members = members(checker, &name, &mut section, sinks, &mut owners);
        let mut processor = section.split_off("processor.");
        report_unknown(checker, &section);
        let members: Vec<String> = members
            .into_iter()
            .filter(|member| !checker.lenient || valid.iter().any(|sink| sink.name == *member))
            .collect();
        if !processor.entries.contains_key("type") {
            note_default(checker, &processor);
        }
        let processors = checker.registry.sink_processors;
        let Some(entry) = checker.resolve(processors, &mut processor, Some("default")) else {
            continue;
        };
        checker.prepare(&mut processor, &(entry.description.fields)());
        if members.is_empty() {
            continue;
        }
        let ((), fits) = checker.run(|report| (entry.check)(&processor, &members, report));
        if fits {
            groups.push(SinkGroupConfig {
                name: name.name,
                sinks: members,
                processor_type: entry.description.names.main().to_owned(),
                section: processor,
            });
        }
    }
    groups
}

/// The sinks of a group that exist and are in no other.
fn members(
    checker: &mut Checker<'_>,
    group: &Name,
    section: &mut Section,
    sinks: &[String],
    owners: &mut BTreeMap<String, String>,
) -> Vec<String> {
    let key = format!("{}.sinks", section.path);
    let Some(entry) = section.entries.remove("sinks") else {
        let problem = Problem::new(
            Severity::Error,
            key.clone(),
            "the sink group has no `sinks`",
        )
        .at(section.span)
        .allowed(sinks.join(", "))
        .help(format!("add `{key} = …`"));
        checker.report.push(problem);
        return Vec::new();
    };
    let mut members = Vec::new();
    for name in names::split(checker, &key, &entry) {
        if !sinks.contains(&name.name) {
            let problem = names::unknown(&key, &name, "sink", sinks);
            checker.report.push(problem);
            continue;
        }
        if let Some(owner) = owners.get(&name.name) {
            let message = format!("the sink `{}` is in the group `{owner}` already", name.name);
            checker.report.push(
                Problem::new(Severity::Error, key.clone(), message)
                    .at(name.span)
                    .help("a sink can be in one group only; remove it from one of them"),
            );
            continue;
        }
        owners.insert(name.name.clone(), group.name.clone());
        members.push(name.name);
    }
    members
}

fn note_default(checker: &mut Checker<'_>, processor: &Section) {
    let message = "no `processor.type`: `default` is taken (Flume 1.11 would not run these sinks)";
    checker.report.push(
        Problem::new(Severity::Note, format!("{}.type", processor.path), message)
            .at(processor.span)
            .allowed("default, failover, load_balance"),
    );
}

fn report_unknown(checker: &mut Checker<'_>, section: &Section) {
    for (key, entry) in &section.entries {
        let full = format!("{}.{key}", section.path);
        let help = match nearest(key, OWN_KEYS) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "a sink group has `sinks` and `processor.…`".to_owned(),
        };
        checker.report.push(
            Problem::new(Severity::Error, full, "unknown key")
                .at(entry.key_span)
                .ignorable()
                .help(help),
        );
    }
}
