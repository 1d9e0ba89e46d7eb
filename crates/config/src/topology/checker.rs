//! What all checks share: the registry, the report, the mode.

use std::collections::BTreeSet;
use std::path::Path;

use flafka_flow::registry::Registry;
use flafka_flow::settings::{
    CommaList, Entry, Field, Problem, Report, Secret, Section, Setting, Severity, nearest,
};

use super::resolve::{self, Described};
use crate::loader::Loaded;

/// Collects the problems of all agents.
pub(super) struct Checker<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) registry: &'a Registry,
    pub(super) lenient: bool,
    /// Where Flume's default paths begin.
    pub(super) home: &'a Path,
    pub(super) report: Report,
    pub(super) secret_keys: BTreeSet<String>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(
        loaded: &'a Loaded,
        registry: &'a Registry,
        lenient: bool,
        home: &'a Path,
    ) -> Self {
        Self {
            loaded,
            registry,
            lenient,
            home,
            report: Report::new(),
            secret_keys: BTreeSet::new(),
        }
    }

    /// Takes `type` out of a section and finds what it means; a problem is reported.
    pub(super) fn resolve<E: Described>(
        &mut self,
        entries: &'static [E],
        section: &mut Section,
        default: Option<&str>,
    ) -> Option<&'static E> {
        let key = format!("{}.type", section.path);
        let entry = section.entries.remove("type");
        if let Some(entry) = &entry {
            section.span = entry.value_span;
        }
        let Some(word) = entry.as_ref().map(|entry| entry.value.as_str()).or(default) else {
            let problem = self.missing_type::<E>(section, key);
            self.report.push(problem);
            return None;
        };
        let found = resolve::find(entries, word);
        if found.is_none() {
            let problem = resolve::unknown_type(self.registry, E::KIND, key, word);
            self.report
                .push(problem.at(entry.and_then(|entry| entry.value_span)));
        }
        found
    }

    fn missing_type<E: Described>(&self, section: &Section, key: String) -> Problem {
        let near = section
            .entries
            .keys()
            .find(|key| nearest(key, ["type"]).is_some());
        let help = match near {
            Some(near) => format!("`{near}` is set; did you mean `type`?"),
            None => format!("add `{key} = …`"),
        };
        let message = format!("the {} has no `type`", E::KIND.noun());
        Problem::new(Severity::Error, key, message)
            .at(section.span)
            .allowed(resolve::available(self.registry, E::KIND))
            .help(help)
    }

    /// Makes a section fit its fields: lists of YAML where commas are wanted, and in lenient mode
    /// Flume's reading of booleans. Notes which keys are secret.
    pub(super) fn prepare(&mut self, section: &mut Section, fields: &[Field]) {
        for field in fields {
            for key in std::iter::once(&field.key).chain(field.aliases) {
                let full = format!("{}.{key}", section.path);
                if field.kind == <Secret as Setting>::kind() {
                    self.secret_keys.insert(full.clone());
                }
                let Some(entry) = section.entries.get_mut(*key) else {
                    continue;
                };
                if field.kind == <CommaList as Setting>::kind()
                    && let Some(list) = self.loaded.lists.get(&full)
                {
                    entry.value = list.join(",");
                }
                let boolean = field.kind == <bool as Setting>::kind();
                if self.lenient && boolean && bool::parse(&entry.value).is_err() {
                    let problem =
                        Problem::new(Severity::Error, full, "not a boolean; taken as false");
                    self.report
                        .push(problem.at(entry.value_span).value(entry.value.clone()));
                    "false".clone_into(&mut entry.value);
                }
            }
        }
    }

    /// Runs a check and says whether the component survives it: no error but those that Flume
    /// would not have seen.
    pub(super) fn run<R>(&mut self, check: impl FnOnce(&mut Report) -> R) -> (R, bool) {
        let mut own = Report::new();
        let result = check(&mut own);
        let survives = own
            .problems()
            .iter()
            .all(|problem| problem.severity < Severity::Error || problem.ignorable);
        for problem in own.take() {
            self.report.push(problem);
        }
        (result, survives)
    }

    /// Reports a batch that does not fit into the transactions of a channel (reference 1.6).
    /// True when it fits or one of the two is not known.
    pub(super) fn batch_fits(
        &mut self,
        section: &Section,
        batch: Option<usize>,
        channel: &str,
        capacity: Option<usize>,
    ) -> bool {
        let (Some(batch), Some(capacity)) = (batch, capacity) else {
            return true;
        };
        if batch <= capacity {
            return true;
        }
        let written: Option<(&String, &Entry)> = section
            .entries
            .iter()
            .find(|(key, _)| key.to_ascii_lowercase().contains("batch"));
        let default = if written.is_some() { "" } else { "default " };
        let message = format!(
            "the {default}batch size of {batch} is more than the transactionCapacity of {capacity} of channel `{channel}`"
        );
        let key = written.map_or("batchSize", |(key, _)| key);
        let agent = section.path.split('.').next().unwrap_or_default();
        let problem = Problem::new(Severity::Error, format!("{}.{key}", section.path), message)
            .at(written.map_or(section.span, |(_, entry)| entry.value_span))
            .allowed(format!("at most {capacity}"))
            .help(format!(
                "set `{agent}.channels.{channel}.transactionCapacity = {batch}`, or a smaller batch"
            ));
        self.report.push(problem);
        false
    }
}
