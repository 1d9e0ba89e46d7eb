//! The channel selectors: which channels get which events (Flume reference 2.6).
//!
//! A selector works on the distinct header sets of a batch; only when a batch really parts are
//! its events touched, sixteen bytes each.

mod multiplexing;
mod replicating;
#[cfg(test)]
mod tests;

use flafka_flow::registry::SelectorEntry;
use flafka_flow::settings::{Problem, Report, Section, Severity, nearest};
pub use multiplexing::{MultiplexingSelectorConfig, MultiplexingSelectorFactory};
pub use replicating::{ReplicatingSelectorConfig, ReplicatingSelectorFactory};

/// Every channel selector; the first one is the default.
pub const SELECTORS: &[SelectorEntry] = &[
    SelectorEntry::of::<ReplicatingSelectorFactory>(),
    SelectorEntry::of::<MultiplexingSelectorFactory>(),
];

/// Reports those of `names` that are none of the source's channels.
fn check_names(
    key: &str,
    names: &[String],
    channels: &[String],
    section: &Section,
    report: &mut Report,
) {
    for name in names {
        if channels.contains(name) {
            continue;
        }
        let message = format!("the source has no channel `{name}`");
        let entry = section.entries.get(key);
        let mut problem = Problem::new(Severity::Error, format!("{}.{key}", section.path), message)
            .at(entry.map_or(section.span, |entry| entry.value_span.or(entry.key_span)))
            .allowed(format!("channels of the source: {}", channels.join(", ")));
        problem.value = entry.map(|entry| entry.value.clone());
        problem.help = nearest(name, channels.iter().map(String::as_str))
            .map(|near| format!("did you mean `{near}`?"));
        report.push(problem);
    }
}

/// The indices of `names` in the source's list, in the order of that list, each once.
fn indices(names: &[String], channels: &[String]) -> Vec<usize> {
    (0..channels.len())
        .filter(|index| names.contains(&channels[*index]))
        .collect()
}
