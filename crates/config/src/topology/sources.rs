//! Sources: types, settings, channels, selector, interceptors (reference 2.1).

use flafka_flow::settings::{Entry, Millis, Problem, Section, Settings, Severity, Span, nearest};
use std::time::Duration;

use super::agent::Declared;
use super::channels::Usable;
use super::checker::Checker;
use super::names::{self, Name};
use super::{InterceptorConfig, SelectorConfig, SourceConfig};

flafka_flow::settings! {
    /// What every source has.
    pub struct SourceKeysConfig {
        /// How much longer the pause after each further poll that found nothing gets; for sources
        /// that are polled.
        "backoffSleepIncrement" => backoff_sleep_increment: Millis = Millis(Duration::from_millis(1000)),
        /// The longest pause between polls; for sources that are polled.
        "maxBackoffSleep" => max_backoff_sleep: Millis = Millis(Duration::from_millis(5000)),
    }
}

/// Checks the sources; those that survive.
pub(super) fn check(
    checker: &mut Checker<'_>,
    declared: Vec<Declared>,
    usable: &Usable<'_>,
) -> Vec<SourceConfig> {
    let mut sources = Vec::new();
    for source in declared {
        sources.extend(check_one(checker, source, usable));
    }
    sources
}

fn check_one(
    checker: &mut Checker<'_>,
    declared: Declared,
    usable: &Usable<'_>,
) -> Option<SourceConfig> {
    let Declared { name, mut section } = declared;
    let entry = checker.resolve(checker.registry.sources, &mut section, None);
    let channels = channels(checker, &mut section, usable);
    let (interceptors, interceptors_fit) = interceptors(checker, &mut section);
    let selector_section = section.split_off("selector.");
    let common = common_keys(checker, &mut section);
    let selector = selector(checker, selector_section, &channels);
    let entry = entry?;
    checker.prepare(&mut section, &(entry.description.fields)());
    let (batch, valid) = checker.run(|report| (entry.check)(&section, report));
    let mut fits = true;
    for (channel, _) in &channels {
        fits &= checker.batch_fits(&section, batch, channel, usable.capacity(channel));
    }
    if !valid || !fits || !interceptors_fit || channels.is_empty() {
        return None;
    }
    let (selector, common) = (selector?, common?);
    Some(SourceConfig {
        name: name.name,
        type_name: entry.description.names.main().to_owned(),
        section,
        channels,
        selector,
        interceptors,
        backoff_sleep_increment: common.backoff_sleep_increment.0,
        max_backoff_sleep: common.max_backoff_sleep.0,
    })
}

/// The source's channels. In lenient mode those that cannot be used are left out, as in Flume.
fn channels(
    checker: &mut Checker<'_>,
    section: &mut Section,
    usable: &Usable<'_>,
) -> Vec<(String, Option<Span>)> {
    let key = format!("{}.channels", section.path);
    let singular = section.entries.remove("channel");
    let mut list = section.entries.remove("channels");
    if let Some(entry) = singular {
        let problem = Problem::new(
            Severity::Error,
            format!("{}.channel", section.path),
            "a source has `channels` (plural); `channel` is for sinks",
        )
        .at(entry.key_span)
        .ignorable();
        checker.report.push(match &list {
            None => problem.help(format!("write `{key} = {}`", entry.value)),
            Some(_) => problem.help("remove the line"),
        });
        if list.is_none() && !checker.lenient {
            list = Some(entry);
        } else if list.is_none() {
            return Vec::new();
        }
    }
    let Some(list) = list else {
        let near = section.entries.keys();
        let near = near
            .into_iter()
            .find(|key| nearest(key, ["channels"]).is_some());
        let help = match near {
            Some(near) => format!("`{near}` is set; did you mean `channels`?"),
            None => format!("add `{key} = …`"),
        };
        let problem = Problem::new(Severity::Error, key, "the source has no channels")
            .at(section.span)
            .allowed(usable.declared.join(", "));
        checker.report.push(problem.help(help));
        return Vec::new();
    };
    let mut channels = Vec::new();
    for name in names::split(checker, &key, &list) {
        if !usable.declared.contains(&name.name) {
            let problem = names::unknown(&key, &name, "channel", usable.declared);
            checker.report.push(problem);
        } else if !checker.lenient || usable.valid.contains(&name.name) {
            channels.push((name.name, name.span));
        }
    }
    channels
}

fn common_keys(checker: &mut Checker<'_>, section: &mut Section) -> Option<SourceKeysConfig> {
    let mut common = Section::new(section.path.clone());
    common.span = section.span;
    for field in SourceKeysConfig::fields() {
        common
            .entries
            .extend(section.entries.remove_entry(field.key));
    }
    let (config, _) = checker.run(|report| SourceKeysConfig::from_section(&common, report));
    config
}

fn selector(
    checker: &mut Checker<'_>,
    mut section: Section,
    channels: &[(String, Option<Span>)],
) -> Option<SelectorConfig> {
    let entry = checker.resolve(
        checker.registry.selectors,
        &mut section,
        Some("replicating"),
    )?;
    checker.prepare(&mut section, &(entry.description.fields)());
    let names: Vec<String> = channels.iter().map(|(name, _)| name.clone()).collect();
    let ((), valid) = checker.run(|report| (entry.check)(&section, &names, report));
    valid.then(|| SelectorConfig {
        type_name: entry.description.names.main().to_owned(),
        section,
    })
}

/// The interceptors, and whether all of them are valid: one bad one drops the source.
fn interceptors(
    checker: &mut Checker<'_>,
    section: &mut Section,
) -> (Vec<InterceptorConfig>, bool) {
    let key = format!("{}.interceptors", section.path);
    let list: Option<Entry> = section.entries.remove("interceptors");
    let mut all = section.split_off("interceptors.");
    let names = match &list {
        Some(entry) => names::split(checker, &key, entry),
        None => Vec::new(),
    };
    let mut interceptors = Vec::new();
    let mut fit = true;
    for name in &names {
        let mut own = all.split_off(&format!("{}.", name.name));
        own.span = name.span;
        let Some(entry) = checker.resolve(checker.registry.interceptors, &mut own, None) else {
            fit = false;
            continue;
        };
        checker.prepare(&mut own, &(entry.description.fields)());
        let ((), valid) = checker.run(|report| (entry.check)(&own, report));
        fit &= valid;
        interceptors.push(InterceptorConfig {
            name: name.name.clone(),
            type_name: entry.description.names.main().to_owned(),
            section: own,
        });
    }
    report_undeclared(checker, &key, &all, &names);
    (interceptors, fit)
}

/// Keys of interceptors that are not in the list.
fn report_undeclared(checker: &mut Checker<'_>, key: &str, all: &Section, names: &[Name]) {
    let mut reported: Vec<&str> = Vec::new();
    for (below, entry) in &all.entries {
        let name = below.split('.').next().unwrap_or_default();
        if reported.contains(&name) {
            continue;
        }
        reported.push(name);
        let listed: Vec<&str> = names.iter().map(|name| name.name.as_str()).collect();
        let message = format!("the interceptor `{name}` has keys but is not in `{key}`");
        let problem = Problem::new(Severity::Error, format!("{key}.{name}"), message)
            .at(entry.key_span)
            .ignorable();
        let problem = match nearest(name, listed.iter().copied()) {
            Some(near) => problem.help(format!("did you mean `{near}`?")),
            None => {
                let mut longer = listed.clone();
                longer.push(name);
                problem.help(format!(
                    "write `{key} = {}`, or remove its keys",
                    longer.join(" ")
                ))
            }
        };
        checker.report.push(problem);
    }
}
