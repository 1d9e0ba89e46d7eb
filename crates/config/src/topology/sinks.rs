//! Sinks: types, settings, the one channel (reference 2.4).

use flafka_flow::settings::{Problem, Section, Severity, nearest};

use super::SinkConfig;
use super::agent::Declared;
use super::channels::Usable;
use super::checker::Checker;
use super::names;

/// Checks the sinks; those that survive.
pub(super) fn check(
    checker: &mut Checker<'_>,
    declared: Vec<Declared>,
    usable: &Usable<'_>,
) -> Vec<SinkConfig> {
    let mut sinks = Vec::new();
    for Declared { name, mut section } in declared {
        let entry = checker.resolve(checker.registry.sinks, &mut section, None);
        let channel = channel(checker, &mut section, usable);
        let Some(entry) = entry else {
            continue;
        };
        checker.prepare(&mut section, &(entry.description.fields)());
        let (batch, valid) = checker.run(|report| (entry.check)(&section, report));
        let Some(channel) = channel else {
            continue;
        };
        let fits = checker.batch_fits(&section, batch, &channel, usable.capacity(&channel));
        if valid && fits {
            sinks.push(SinkConfig {
                name: name.name,
                type_name: entry.description.names.main().to_owned(),
                section,
                channel,
            });
        }
    }
    sinks
}

fn channel(
    checker: &mut Checker<'_>,
    section: &mut Section,
    usable: &Usable<'_>,
) -> Option<String> {
    let key = format!("{}.channel", section.path);
    let plural = section.entries.remove("channels");
    let mut entry = section.entries.remove("channel");
    if let Some(list) = plural {
        let problem = Problem::new(
            Severity::Error,
            format!("{}.channels", section.path),
            "a sink has one `channel` (singular); `channels` is for sources",
        )
        .at(list.key_span);
        checker.report.push(match &entry {
            None => problem.help(format!("write `{key} = {}`", list.value)),
            Some(_) => problem.help("remove the line"),
        });
        if entry.is_none() && !checker.lenient {
            entry = Some(list);
        } else if entry.is_none() {
            return None;
        }
    }
    let Some(entry) = entry else {
        let near = section
            .entries
            .keys()
            .find(|key| nearest(key, ["channel"]).is_some());
        let help = match near {
            Some(near) => format!("`{near}` is set; did you mean `channel`?"),
            None => format!("add `{key} = …`"),
        };
        let problem = Problem::new(Severity::Error, key, "the sink has no channel")
            .at(section.span)
            .allowed(usable.declared.join(", "));
        checker.report.push(problem.help(help));
        return None;
    };
    let names = names::split(checker, &key, &entry);
    let [name] = names.as_slice() else {
        let message = "a sink takes from exactly one channel";
        checker.report.push(
            Problem::new(Severity::Error, key, message)
                .at(entry.value_span)
                .value(entry.value)
                .help("make a sink for each channel"),
        );
        return None;
    };
    if !usable.declared.contains(&name.name) {
        let problem = names::unknown(&key, name, "channel", usable.declared);
        checker.report.push(problem);
        return None;
    }
    let usable = !checker.lenient || usable.valid.contains(&name.name);
    usable.then(|| name.name.clone())
}
