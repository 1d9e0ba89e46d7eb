//! From keys to agents: which components there are, of which type, wired how.
//!
//! The rules are those of reference 1.2 and 1.4 to 1.6. Where Flume drops a bad component and
//! goes on, each such case is an error here, with its place and what to do; in lenient mode the
//! errors become warnings and what Flume would drop is dropped. All agents are looked at, and
//! all their problems are collected.
//!
//! Invariant: without an error, every name in an [`AgentConfig`] refers to a component in it, and
//! every section has passed the check of its factory.

mod agent;
mod channels;
mod checker;
mod groups;
mod keys;
mod known;
mod names;
mod places;
mod resolve;
mod sinks;
mod sources;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use flafka_flow::registry::Registry;
use flafka_flow::settings::{Field, Problem, Section, Settings, Span};

use crate::loader::Loaded;

/// An agent: everything to build it from.
#[derive(Debug, Clone, Default)]
pub struct AgentConfig {
    /// The name, as given with `-n`.
    pub name: String,
    /// The sources, in the order of their list.
    pub sources: Vec<SourceConfig>,
    /// The channels, in the order of their list.
    pub channels: Vec<ChannelConfig>,
    /// The sinks, in the order of their list, also those in groups.
    pub sinks: Vec<SinkConfig>,
    /// The sink groups, in the order of their list. A sink in no group runs on its own.
    pub sink_groups: Vec<SinkGroupConfig>,
}

/// A source.
#[derive(Debug, Clone)]
pub struct SourceConfig {
    /// The name.
    pub name: String,
    /// The main name of its type in the registry.
    pub type_name: String,
    /// Its own keys.
    pub section: Section,
    /// Its channels in file order, each with the place where it is named.
    pub channels: Vec<(String, Option<Span>)>,
    /// The selector.
    pub selector: SelectorConfig,
    /// The interceptors, in the order in which they run.
    pub interceptors: Vec<InterceptorConfig>,
    /// By how much the pause grows with each poll that found nothing.
    pub backoff_sleep_increment: Duration,
    /// The longest pause between polls.
    pub max_backoff_sleep: Duration,
}

/// A channel selector.
#[derive(Debug, Clone)]
pub struct SelectorConfig {
    /// The main name of its type in the registry.
    pub type_name: String,
    /// The keys below `selector.`, without `type`.
    pub section: Section,
}

/// An interceptor.
#[derive(Debug, Clone)]
pub struct InterceptorConfig {
    /// The name.
    pub name: String,
    /// The main name of its type in the registry.
    pub type_name: String,
    /// Its keys, without `type`.
    pub section: Section,
}

/// A channel.
#[derive(Debug, Clone)]
pub struct ChannelConfig {
    /// The name.
    pub name: String,
    /// The main name of its type in the registry.
    pub type_name: String,
    /// Its keys, without `type`.
    pub section: Section,
}

/// A sink.
#[derive(Debug, Clone)]
pub struct SinkConfig {
    /// The name.
    pub name: String,
    /// The main name of its type in the registry.
    pub type_name: String,
    /// Its own keys.
    pub section: Section,
    /// Its channel.
    pub channel: String,
}

/// A sink group.
#[derive(Debug, Clone)]
pub struct SinkGroupConfig {
    /// The name.
    pub name: String,
    /// Its sinks, in file order.
    pub sinks: Vec<String>,
    /// The main name of its processor's type in the registry.
    pub processor_type: String,
    /// The keys below `processor.`, without `type`.
    pub section: Section,
}

/// The keys that every source has beside its own.
pub(crate) fn source_keys() -> Vec<Field> {
    sources::SourceKeysConfig::fields()
}

/// What [`build`] found.
pub(crate) struct Topology {
    pub(crate) agents: Vec<AgentConfig>,
    pub(crate) problems: Vec<Problem>,
    /// Full keys whose config struct calls them secret.
    pub(crate) secret_keys: BTreeSet<String>,
}

/// Builds all agents. In lenient mode the errors are still errors here; the caller turns them
/// into warnings, and the agents hold what survives. `home` is where Flume's default paths begin.
pub(crate) fn build(loaded: &Loaded, registry: &Registry, lenient: bool, home: &Path) -> Topology {
    let mut checker = checker::Checker::new(loaded, registry, lenient, home);
    let raw = keys::agents(&mut checker);
    let agents = raw
        .into_iter()
        .filter_map(|raw| agent::build(&mut checker, raw))
        .collect();
    Topology {
        agents,
        problems: checker.report.take(),
        secret_keys: checker.secret_keys,
    }
}
