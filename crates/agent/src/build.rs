//! Builds the parts of one agent from its checked configuration and wires them.
//!
//! Nothing is started here. Every part can be built again from the same configuration, which is
//! what the runners do after a panic.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use flafka_config::topology::{AgentConfig, SinkConfig, SinkGroupConfig, SourceConfig};
use flafka_flow::channel::Channel;
use flafka_flow::clock::Clock;
use flafka_flow::counters::CountersRegistry;
use flafka_flow::lifecycle::Lifecycle;
use flafka_flow::registry::{BuildContext, BuildError, Registry};
use flafka_flow::settings::Section;
use flafka_flow::sink_processor::{NamedSink, SinkProcessor};
use flafka_flow::source::{BuiltSource, ChannelProcessor, SourceContext};

use crate::channel_processor::SelectingProcessor;
use crate::health::{ComponentState, HealthBoard};
use crate::kept::{self, KeptChannels};
use crate::run::Deadlines;
use crate::sink_runner::{self, SinkChannel};
use crate::source_runner::{self, PollPauses};

/// What an agent shares with its process.
#[derive(Clone)]
pub struct AgentOptions {
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Where counters are listed.
    pub counters: CountersRegistry,
    /// Where states are shown.
    pub board: HealthBoard,
    /// The user's home directory, where Flume's default paths begin.
    pub home: PathBuf,
    /// How long each step of a stop may take.
    pub deadlines: Deadlines,
    /// What channels hold over a reload of the configuration.
    pub kept: KeptChannels,
}

/// A source with what its runner needs.
pub(crate) struct SourcePart {
    pub(crate) name: String,
    pub(crate) first: BuiltSource,
    pub(crate) rebuild: source_runner::Rebuild,
    pub(crate) context: SourceContext,
    pub(crate) pauses: PollPauses,
}

/// A sink processor with what its runner needs.
pub(crate) struct SinkPart {
    pub(crate) name: String,
    pub(crate) first: Box<dyn SinkProcessor>,
    pub(crate) rebuild: sink_runner::Rebuild,
}

/// A channel with its name.
pub(crate) struct ChannelPart {
    pub(crate) name: String,
    /// Its type, however it is spelt.
    pub(crate) kind: &'static str,
    /// Where it stores events.
    pub(crate) directories: Vec<PathBuf>,
    pub(crate) channel: Arc<dyn Channel>,
}

/// A built agent that does not run yet.
pub struct Agent {
    pub(crate) name: String,
    pub(crate) channels: Vec<ChannelPart>,
    pub(crate) sources: Vec<SourcePart>,
    pub(crate) sinks: Vec<SinkPart>,
    pub(crate) source_lifecycle: Lifecycle,
    pub(crate) sink_lifecycle: Lifecycle,
    pub(crate) options: AgentOptions,
}

impl Agent {
    /// Builds every component of `config` from `registry`.
    ///
    /// # Errors
    /// With the first component that cannot be built although its settings are valid.
    pub fn build(
        config: &AgentConfig,
        registry: &Registry,
        options: AgentOptions,
    ) -> Result<Self, BuildError> {
        let builder = Builder {
            agent: config,
            registry: *registry,
            options: options.clone(),
            source_lifecycle: Lifecycle::new(),
            sink_lifecycle: Lifecycle::new(),
        };
        let channels = builder.channels()?;
        let by_name: HashMap<String, Arc<dyn Channel>> = config
            .channels
            .iter()
            .zip(&channels)
            .map(|(config, part)| (config.name.clone(), Arc::clone(&part.channel)))
            .collect();
        let sinks = builder.sinks(&by_name)?;
        let sources = builder.sources(&by_name)?;
        let names = channels.iter().map(|part| &part.name);
        let names = names.chain(sinks.iter().map(|part| &part.name));
        for name in names.chain(sources.iter().map(|part| &part.name)) {
            options.board.set(name, ComponentState::Starting);
        }
        Ok(Self {
            name: config.name.clone(),
            channels,
            sources,
            sinks,
            source_lifecycle: builder.source_lifecycle,
            sink_lifecycle: builder.sink_lifecycle,
            options,
        })
    }

    /// The agent's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The channels by full name, for whoever shows their gauges and warnings.
    pub fn channels(&self) -> Vec<(String, Arc<dyn Channel>)> {
        self.channels
            .iter()
            .map(|part| (part.name.clone(), Arc::clone(&part.channel)))
            .collect()
    }
}

struct Builder<'c> {
    agent: &'c AgentConfig,
    registry: Registry,
    options: AgentOptions,
    source_lifecycle: Lifecycle,
    sink_lifecycle: Lifecycle,
}

impl Builder<'_> {
    fn context(&self, kind: &str, name: &str, lifecycle: &Lifecycle) -> BuildContext {
        BuildContext {
            component: format!("{}.{kind}.{name}", self.agent.name),
            clock: Arc::clone(&self.options.clock),
            counters: self.options.counters.clone(),
            lifecycle: lifecycle.clone(),
            home: self.options.home.clone(),
            contents: None,
        }
    }

    fn channels(&self) -> Result<Vec<ChannelPart>, BuildError> {
        let build = |config: &flafka_config::topology::ChannelConfig| {
            let mut context = self.context("channels", &config.name, &self.sink_lifecycle);
            let entries = self.registry.channels.iter();
            let entry = entries.map(|entry| (entry.description.names, entry));
            let entry = find(entry, &config.type_name, &context)?;
            let kind = kept::kind(&entry.description.names);
            context.contents = self.options.kept.take(&context.component, kind);
            let channel = (entry.build)(&config.section, &context)?;
            let promise = (entry.promise)(&config.section, &context.home);
            let name = context.component;
            Ok(ChannelPart {
                name,
                kind,
                directories: promise.map_or_else(Vec::new, |promise| promise.directories),
                channel,
            })
        };
        self.agent.channels.iter().map(build).collect()
    }

    fn sources(
        &self,
        channels: &HashMap<String, Arc<dyn Channel>>,
    ) -> Result<Vec<SourcePart>, BuildError> {
        let build = |config: &SourceConfig| self.source(config, channels);
        self.agent.sources.iter().map(build).collect()
    }

    fn source(
        &self,
        config: &SourceConfig,
        channels: &HashMap<String, Arc<dyn Channel>>,
    ) -> Result<SourcePart, BuildError> {
        let lifecycle = self.source_lifecycle.clone();
        let context = self.context("sources", &config.name, &lifecycle);
        let processor = self.processor(config, channels, &context)?;
        let entries = self.registry.sources.iter();
        let entry = *find(
            entries.map(|entry| (entry.description.names, entry)),
            &config.type_name,
            &context,
        )?;
        let first = (entry.build)(&config.section, &context)?;
        let (section, again) = (config.section.clone(), context.clone());
        Ok(SourcePart {
            name: context.component.clone(),
            first,
            rebuild: Box::new(move || (entry.build)(&section, &again)),
            context: SourceContext {
                channels: processor,
                lifecycle,
                clock: Arc::clone(&context.clock),
            },
            pauses: PollPauses {
                increment: config.backoff_sleep_increment,
                longest: config.max_backoff_sleep,
            },
        })
    }

    fn processor(
        &self,
        config: &SourceConfig,
        channels: &HashMap<String, Arc<dyn Channel>>,
        context: &BuildContext,
    ) -> Result<Arc<dyn ChannelProcessor>, BuildError> {
        let mut interceptors = Vec::new();
        for interceptor in &config.interceptors {
            let kind = format!("sources.{}.interceptors", config.name);
            let context = self.context(&kind, &interceptor.name, &self.source_lifecycle);
            let entries = self.registry.interceptors.iter();
            let entry = find(
                entries.map(|entry| (entry.description.names, entry)),
                &interceptor.type_name,
                &context,
            )?;
            interceptors.push((entry.build)(&interceptor.section, &context)?);
        }
        let names: Vec<String> = config
            .channels
            .iter()
            .map(|(name, _)| name.clone())
            .collect();
        let entries = self.registry.selectors.iter();
        let entry = find(
            entries.map(|entry| (entry.description.names, entry)),
            &config.selector.type_name,
            context,
        )?;
        let selector = (entry.build)(&config.selector.section, &names, context)?;
        let own = names
            .iter()
            .map(|name| channel(channels, name, context))
            .collect::<Result<_, _>>()?;
        let source = context.component.clone();
        Ok(Arc::new(SelectingProcessor::new(
            source,
            interceptors,
            selector,
            own,
        )))
    }

    fn sinks(
        &self,
        channels: &HashMap<String, Arc<dyn Channel>>,
    ) -> Result<Vec<SinkPart>, BuildError> {
        let mut parts = Vec::new();
        for group in &self.agent.sink_groups {
            // In the group's order: processors without priorities go by it.
            let named = |name: &String| self.agent.sinks.iter().find(|sink| sink.name == *name);
            let members = group.sinks.iter().filter_map(named).cloned().collect();
            parts.push(self.group(group, members, "sinkgroups", channels)?);
        }
        let grouped = |sink: &SinkConfig| {
            self.agent
                .sink_groups
                .iter()
                .any(|group| group.sinks.contains(&sink.name))
        };
        for sink in self.agent.sinks.iter().filter(|sink| !grouped(sink)) {
            let alone = SinkGroupConfig {
                name: sink.name.clone(),
                sinks: vec![sink.name.clone()],
                processor_type: "default".to_owned(),
                section: Section::default(),
            };
            parts.push(self.group(&alone, vec![sink.clone()], "sinks", channels)?);
        }
        Ok(parts)
    }

    fn group(
        &self,
        group: &SinkGroupConfig,
        members: Vec<SinkConfig>,
        kind: &str,
        channels: &HashMap<String, Arc<dyn Channel>>,
    ) -> Result<SinkPart, BuildError> {
        let context = self.context(kind, &group.name, &self.sink_lifecycle);
        let entries = self.registry.sink_processors.iter();
        let processor = *find(
            entries.map(|entry| (entry.description.names, entry)),
            &group.processor_type,
            &context,
        )?;
        let mut makers = Vec::new();
        for member in members {
            let context = self.context("sinks", &member.name, &self.sink_lifecycle);
            let entries = self.registry.sinks.iter();
            let entry = *find(
                entries.map(|entry| (entry.description.names, entry)),
                &member.type_name,
                &context,
            )?;
            let inner = channel(channels, &member.channel, &context)?;
            let stopping = self.sink_lifecycle.token().clone();
            let channel: Arc<dyn Channel> = Arc::new(SinkChannel::new(inner, stopping));
            makers.push(move || -> Result<NamedSink, BuildError> {
                let sink = (entry.build)(&member.section, Arc::clone(&channel), &context)?;
                let name = member.name.clone();
                Ok(NamedSink { name, sink })
            });
        }
        let (section, name) = (group.section.clone(), context.component.clone());
        let rebuild: sink_runner::Rebuild = Box::new(move || {
            let sinks = makers.iter().map(|make| make()).collect::<Result<_, _>>()?;
            (processor.build)(&section, sinks, &context)
        });
        let first = rebuild()?;
        Ok(SinkPart {
            name,
            first,
            rebuild,
        })
    }
}

fn channel(
    channels: &HashMap<String, Arc<dyn Channel>>,
    name: &str,
    context: &BuildContext,
) -> Result<Arc<dyn Channel>, BuildError> {
    let found = channels.get(name).cloned();
    found.ok_or_else(|| context.error(format!("there is no channel {name}"), None))
}

fn find<'r, E>(
    mut entries: impl Iterator<Item = (flafka_flow::registry::TypeNames, &'r E)>,
    type_name: &str,
    context: &BuildContext,
) -> Result<&'r E, BuildError> {
    let found = entries
        .find(|(names, _)| names.matches(type_name))
        .map(|(_, entry)| entry);
    found.ok_or_else(|| context.error(format!("there is no type {type_name}"), None))
}
