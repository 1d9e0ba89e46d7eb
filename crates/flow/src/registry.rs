//! Typed factories and the explicit list of all components.
//!
//! A component implements one of the factory traits; one line in the list of the crate that
//! assembles the product (`agent::components`) makes it known. From that list come the
//! resolution of `type` (aliases in any case, Flume's class names), the checks, the build and
//! the generated reference.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::channel::{Channel, Contents};
use crate::clock::Clock;
use crate::counters::{ComponentKind, Counters, CountersRegistry, Metric};
use crate::interceptor::Interceptor;
use crate::lifecycle::Lifecycle;
use crate::promise::Promise;
use crate::selector::ChannelSelector;
use crate::settings::{Field, Report, Section, Settings};
use crate::sink::Sink;
use crate::sink_processor::{NamedSink, SinkProcessor};
use crate::source::BuiltSource;

/// The names under which `type` finds a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeNames {
    /// Flume's alias, compared without case; none for those that Flume knows by class only.
    pub alias: Option<&'static str>,
    /// Aliases of our own, beside Flume's (such as `kafka` for the kafka sink).
    pub also: &'static [&'static str],
    /// Flume's class names; compared without case, as Flume's validation does.
    pub classes: &'static [&'static str],
}

impl TypeNames {
    /// Whether `word` means this component.
    pub fn matches(&self, word: &str) -> bool {
        self.all().any(|name| name.eq_ignore_ascii_case(word))
    }

    /// Every name, the one to show first.
    pub fn all(&self) -> impl Iterator<Item = &'static str> {
        self.alias
            .into_iter()
            .chain(self.also.iter().copied())
            .chain(self.classes.iter().copied())
    }

    /// The name to show.
    pub fn main(&self) -> &'static str {
        self.all().next().unwrap_or("?")
    }
}

/// Why a component could not be built although its settings are valid.
#[derive(Debug, Error)]
#[error("{component}: {action}")]
pub struct BuildError {
    /// The component's full name, such as `a1.sources.r1`.
    pub component: String,
    /// What failed and what to do, a lower-case sentence without full stop.
    pub action: String,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// What a factory builds with.
#[derive(Clone)]
pub struct BuildContext {
    /// The component's full name, such as `a1.sources.r1`.
    pub component: String,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Where counters are listed.
    pub counters: CountersRegistry,
    /// The agent's lifecycle; components get children of it.
    pub lifecycle: Lifecycle,
    /// The user's home directory, where Flume's default paths begin.
    pub home: PathBuf,
    /// What the channel of this name and type held before the configuration was loaded again.
    pub contents: Option<Contents>,
}

impl BuildContext {
    /// The component's name in the configuration: the last part of its full name.
    pub fn name(&self) -> &str {
        self.component.rsplit('.').next().unwrap_or(&self.component)
    }

    /// Makes and lists the component's counters.
    pub fn counters(
        &self,
        kind: ComponentKind,
        shown: &'static [Metric],
        in_flume_json: bool,
    ) -> Arc<Counters> {
        self.counters
            .register(Counters::new(kind, self.name(), shown, in_flume_json))
    }

    /// An error of this component.
    pub fn error(
        &self,
        action: impl Into<String>,
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    ) -> BuildError {
        BuildError {
            component: self.component.clone(),
            action: action.into(),
            source,
        }
    }
}

/// Makes sources of one type.
pub trait SourceFactory: 'static {
    /// The settings.
    type Config: Settings;
    /// The names.
    const NAMES: TypeNames;

    /// Builds the source; may touch the world.
    ///
    /// # Errors
    /// With what failed and what to do.
    fn build(config: Self::Config, context: &BuildContext) -> Result<BuiltSource, BuildError>;

    /// Events in one put at most, for Flume's check against the channel's transaction capacity
    /// (reference 1.6); `None` = not checked.
    fn batch_size(_config: &Self::Config) -> Option<usize> {
        None
    }
}

/// Makes channels of one type.
pub trait ChannelFactory: 'static {
    /// The settings.
    type Config: Settings;
    /// The names.
    const NAMES: TypeNames;

    /// Builds the channel, closed.
    ///
    /// # Errors
    /// With what failed and what to do.
    fn build(config: Self::Config, context: &BuildContext) -> Result<Arc<dyn Channel>, BuildError>;

    /// `transactionCapacity`, when the channel has one.
    fn transaction_capacity(_config: &Self::Config) -> Option<usize> {
        None
    }

    /// What a channel of these settings promises; `home` is where Flume's default paths begin. Touches no files.
    fn promise(config: &Self::Config, home: &Path) -> Promise;

    /// Where a channel of these settings and this name keeps its events, to itself; `home` is where Flume's default paths
    /// begin. Touches no files.
    fn places(_config: &Self::Config, _home: &Path, _channel: &str) -> Vec<StoragePlace> {
        Vec::new()
    }
}

/// A file or a directory that one channel alone may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoragePlace {
    /// The key that names it.
    pub key: &'static str,
    /// As the settings have it.
    pub path: PathBuf,
    /// Whether it is a directory.
    pub is_directory: bool,
}

/// Makes sinks of one type.
pub trait SinkFactory: 'static {
    /// The settings.
    type Config: Settings;
    /// The names.
    const NAMES: TypeNames;

    /// Builds the sink on its channel.
    ///
    /// # Errors
    /// With what failed and what to do.
    fn build(
        config: Self::Config,
        channel: Arc<dyn Channel>,
        context: &BuildContext,
    ) -> Result<Box<dyn Sink>, BuildError>;

    /// Events in one take at most (reference 1.6); `None` = not checked.
    fn batch_size(_config: &Self::Config) -> Option<usize> {
        None
    }
}

/// Makes interceptors of one type.
pub trait InterceptorFactory: 'static {
    /// The settings.
    type Config: Settings;
    /// The names.
    const NAMES: TypeNames;

    /// Builds the interceptor.
    ///
    /// # Errors
    /// With what failed and what to do.
    fn build(
        config: Self::Config,
        context: &BuildContext,
    ) -> Result<Box<dyn Interceptor>, BuildError>;
}

/// Makes channel selectors of one type.
pub trait SelectorFactory: 'static {
    /// The settings.
    type Config: Settings;
    /// The names.
    const NAMES: TypeNames;

    /// Checks the channel names in the settings against the source's channels.
    fn check(config: &Self::Config, channels: &[String], section: &Section, report: &mut Report);

    /// Builds the selector over the source's channels, whose indices it returns.
    fn build(config: Self::Config, channels: &[String]) -> Box<dyn ChannelSelector>;
}

/// Makes sink processors of one type.
pub trait SinkProcessorFactory: 'static {
    /// The settings, below `processor.`.
    type Config: Settings;
    /// The names.
    const NAMES: TypeNames;

    /// Checks the settings against the names of the group's sinks.
    fn check(config: &Self::Config, sinks: &[String], section: &Section, report: &mut Report);

    /// Builds the processor over its sinks.
    fn build(
        config: Self::Config,
        sinks: Vec<NamedSink>,
        context: &BuildContext,
    ) -> Box<dyn SinkProcessor>;
}

/// What the reference shows of a component.
#[derive(Clone, Copy)]
pub struct Description {
    /// The names.
    pub names: TypeNames,
    /// What it is.
    pub docs: &'static [&'static str],
    /// Its keys.
    pub fields: fn() -> Vec<Field>,
}

impl Description {
    /// The description of a config struct under `names`; also for parts that are not built from
    /// the registry (serializers, deserializers, handlers).
    pub const fn of<C: Settings>(names: TypeNames) -> Self {
        Self {
            names,
            docs: C::DOCS,
            fields: C::fields,
        }
    }
}

macro_rules! entry {
    ($(#[$doc:meta])* $entry:ident of $factory:ident {
        $($(#[$field_doc:meta])* $field:ident: $type:ty = $value:expr;)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $entry {
            /// Names, docs and keys.
            pub description: Description,
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl $entry {
            /// The entry of a factory.
            pub const fn of<F: $factory>() -> Self {
                Self {
                    description: Description::of::<F::Config>(F::NAMES),
                    $($field: $value,)*
                }
            }
        }
    };
}

entry! {
    /// A source in the list.
    SourceEntry of SourceFactory {
        /// Reads the settings, reports problems, returns the batch size.
        check: fn(&Section, &mut Report) -> Option<usize> =
            |section, report| F::Config::from_section(section, report).and_then(|config| F::batch_size(&config));
        /// Builds from settings that were checked.
        build: fn(&Section, &BuildContext) -> Result<BuiltSource, BuildError> =
            |section, context| F::build(read_checked(section, context)?, context);
    }
}

entry! {
    /// A channel in the list.
    ChannelEntry of ChannelFactory {
        /// Reads the settings, reports problems, returns the transaction capacity.
        check: fn(&Section, &mut Report) -> Option<usize> =
            |section, report| F::Config::from_section(section, report).and_then(|config| F::transaction_capacity(&config));
        /// Builds from settings that were checked.
        build: fn(&Section, &BuildContext) -> Result<Arc<dyn Channel>, BuildError> =
            |section, context| F::build(read_checked(section, context)?, context);
        /// What it promises; `None` when the settings are not valid.
        promise: fn(&Section, &Path) -> Option<Promise> =
            |section, home| F::Config::from_section(section, &mut Report::new()).map(|config| F::promise(&config, home));
        /// Where it keeps its events; nothing when the settings are not valid.
        places: fn(&Section, &Path, &str) -> Vec<StoragePlace> = |section, home, channel| {
            let config = F::Config::from_section(section, &mut Report::new());
            config.map_or_else(Vec::new, |config| F::places(&config, home, channel))
        };
    }
}

entry! {
    /// A sink in the list.
    SinkEntry of SinkFactory {
        /// Reads the settings, reports problems, returns the batch size.
        check: fn(&Section, &mut Report) -> Option<usize> =
            |section, report| F::Config::from_section(section, report).and_then(|config| F::batch_size(&config));
        /// Builds from settings that were checked.
        build: fn(&Section, Arc<dyn Channel>, &BuildContext) -> Result<Box<dyn Sink>, BuildError> =
            |section, channel, context| F::build(read_checked(section, context)?, channel, context);
    }
}

entry! {
    /// An interceptor in the list.
    InterceptorEntry of InterceptorFactory {
        /// Reads the settings and reports problems.
        check: fn(&Section, &mut Report) =
            |section, report| drop(F::Config::from_section(section, report));
        /// Builds from settings that were checked.
        build: fn(&Section, &BuildContext) -> Result<Box<dyn Interceptor>, BuildError> =
            |section, context| F::build(read_checked(section, context)?, context);
    }
}

entry! {
    /// A channel selector in the list.
    SelectorEntry of SelectorFactory {
        /// Reads the settings and reports problems, also with channel names.
        check: fn(&Section, &[String], &mut Report) = |section, channels, report| {
            if let Some(config) = F::Config::from_section(section, report) {
                F::check(&config, channels, section, report);
            }
        };
        /// Builds from settings that were checked.
        build: fn(&Section, &[String], &BuildContext) -> Result<Box<dyn ChannelSelector>, BuildError> =
            |section, channels, context| Ok(F::build(read_checked(section, context)?, channels));
    }
}

entry! {
    /// A sink processor in the list.
    SinkProcessorEntry of SinkProcessorFactory {
        /// Reads the settings and reports problems, also with sink names.
        check: fn(&Section, &[String], &mut Report) = |section, sinks, report| {
            if let Some(config) = F::Config::from_section(section, report) {
                F::check(&config, sinks, section, report);
            }
        };
        /// Builds from settings that were checked.
        build: fn(&Section, Vec<NamedSink>, &BuildContext) -> Result<Box<dyn SinkProcessor>, BuildError> =
            |section, sinks, context| Ok(F::build(read_checked(section, context)?, sinks, context));
    }
}

/// Reads settings that the check has accepted before.
fn read_checked<C: Settings>(section: &Section, context: &BuildContext) -> Result<C, BuildError> {
    let mut report = Report::new();
    C::from_section(section, &mut report).ok_or_else(|| {
        let first = report
            .problems()
            .iter()
            .map(|problem| format!("{} {}", problem.key, problem.message))
            .next();
        context.error(
            first.unwrap_or_else(|| "its settings are not valid".to_owned()),
            None,
        )
    })
}

/// The list of all components of a product.
#[derive(Clone, Copy)]
pub struct Registry {
    /// The sources.
    pub sources: &'static [SourceEntry],
    /// The channels.
    pub channels: &'static [ChannelEntry],
    /// The sinks.
    pub sinks: &'static [SinkEntry],
    /// The interceptors.
    pub interceptors: &'static [InterceptorEntry],
    /// The channel selectors.
    pub selectors: &'static [SelectorEntry],
    /// The sink processors.
    pub sink_processors: &'static [SinkProcessorEntry],
    /// Parts that components choose by name, under the word of their kind (`serializer`, …).
    pub parts: &'static [(&'static str, &'static [Description])],
}
