//! A small registry for tests: types and keys as the real ones have them, nothing behind.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flafka_config::{Input, LoadOptions, Outcome, check_inputs};
use flafka_flow::Promise;
use flafka_flow::channel::Channel;
use flafka_flow::interceptor::Interceptor;
use flafka_flow::registry::*;
use flafka_flow::selector::ChannelSelector;
use flafka_flow::settings;
use flafka_flow::settings::{
    CommaList, Count, LenientCount, Names, Port, Prefixed, Reader, Report, Seconds, Secret, Section,
};
use flafka_flow::sink::Sink;
use flafka_flow::sink_processor::{NamedSink, SinkProcessor};
use flafka_flow::source::BuiltSource;

settings! {
    /// Lines from TCP connections.
    pub struct NetcatConfig {
        /// Address to listen on.
        "bind" => bind: String,
        /// Port to listen on.
        "port" => port: Port,
        /// Longest line, in characters.
        "max-line-length" => max_line_length: Count = Count(512),
        /// Whether each event is answered with OK.
        "ack-every-event" => ack_every_event: bool = true,
    }
}

settings! {
    /// Lines from a command.
    pub struct ExecConfig {
        /// The command.
        "command" => command: String,
        /// Events in one put.
        "batchSize" => batch_size: Count = Count(20),
    }
    moot { "threads": "one a core | always" }
}

settings! {
    /// Events in memory.
    pub struct MemoryConfig {
        /// Events it holds.
        "capacity" => capacity: LenientCount = LenientCount(100),
        /// Events in one transaction.
        "transactionCapacity" => transaction_capacity: LenientCount = LenientCount(100),
        /// Seconds to wait for room.
        "keep-alive" => keep_alive: Seconds = Seconds(Duration::from_secs(3)),
    }
    check(|config: &MemoryConfig, reader: &mut Reader<'_>| {
        if config.transaction_capacity > config.capacity {
            reader.error("transactionCapacity", "more than the capacity", None);
        }
    })
}

settings! {
    /// Events on disk.
    pub struct FileConfig {
        /// Where the data is.
        "dataDirs" => data_dirs: CommaList,
    }
}

settings! {
    /// Events into the log.
    pub struct LoggerConfig {
        /// Bytes shown.
        "maxBytesToLog" => max_bytes: Count = Count(16),
    }
}

settings! {
    /// Events into files.
    pub struct FileRollConfig {
        /// Where the files are.
        "sink.directory" => directory: String,
        /// Seconds between files.
        "sink.rollInterval" => roll_interval: Seconds = Seconds(Duration::from_secs(30)),
        /// Events in one take.
        "sink.batchSize" | "batchSize" => batch_size: Count = Count(100),
    }
}

settings! {
    /// Events to Kafka.
    pub struct KafkaConfig {
        /// Servers.
        "kafka.bootstrap.servers" => servers: String,
        /// Key of the account.
        "account" => account: Option<Secret>,
        /// For the client.
        "kafka.producer.*" => producer: Prefixed,
    }
}

settings! {
    /// Adds the time.
    pub struct TimestampConfig {
        /// Whether a header that is there stays.
        "preserveExisting" => preserve: bool = false,
    }
}

settings! {
    /// To all channels.
    pub struct ReplicatingConfig {
        /// Channels whose failure does not count.
        "optional" => optional: Option<Names>,
    }
}

settings! {
    /// By the value of a header.
    pub struct MultiplexingConfig {
        /// The header.
        "header" => header: String = "flume.selector.header".to_owned(),
        /// Channels of a value.
        "mapping.*" => mapping: Prefixed,
    }
}

settings! {
    /// One sink.
    pub struct DefaultConfig {}
}

settings! {
    /// The best that works.
    pub struct FailoverConfig {
        /// Larger is better.
        "priority.*" => priority: Prefixed,
    }
}

const fn names(alias: &'static str, classes: &'static [&'static str]) -> TypeNames {
    TypeNames {
        alias: Some(alias),
        also: &[],
        classes,
    }
}

const NOT_BUILT: &str = "a stand-in is never built";

macro_rules! source {
    ($factory:ident, $config:ident, $names:expr, $batch:expr) => {
        struct $factory;
        impl SourceFactory for $factory {
            type Config = $config;
            const NAMES: TypeNames = $names;
            fn build(_: $config, context: &BuildContext) -> Result<BuiltSource, BuildError> {
                Err(context.error(NOT_BUILT, None))
            }
            fn batch_size(config: &$config) -> Option<usize> {
                let batch: fn(&$config) -> Option<usize> = $batch;
                batch(config)
            }
        }
    };
}
source!(
    Netcat,
    NetcatConfig,
    names("netcat", &["org.apache.flume.source.NetcatSource"]),
    |_| None
);
source!(
    Exec,
    ExecConfig,
    names("exec", &["org.apache.flume.source.ExecSource"]),
    |config| Some(config.batch_size.0)
);

macro_rules! channel {
    ($factory:ident, $config:ident, $names:expr, $capacity:expr) => {
        struct $factory;
        impl ChannelFactory for $factory {
            type Config = $config;
            const NAMES: TypeNames = $names;
            fn build(_: $config, context: &BuildContext) -> Result<Arc<dyn Channel>, BuildError> {
                Err(context.error(NOT_BUILT, None))
            }
            fn promise(_: &$config, _: &Path) -> Promise {
                Promise::default()
            }
            fn transaction_capacity(config: &$config) -> Option<usize> {
                let capacity: fn(&$config) -> Option<usize> = $capacity;
                capacity(config)
            }
        }
    };
}
channel!(
    Memory,
    MemoryConfig,
    names("memory", &["org.apache.flume.channel.MemoryChannel"]),
    |config| Some(config.transaction_capacity.0)
);
channel!(
    File,
    FileConfig,
    names("file", &["org.apache.flume.channel.file.FileChannel"]),
    |_| None
);

macro_rules! sink {
    ($factory:ident, $config:ident, $names:expr, $batch:expr) => {
        struct $factory;
        impl SinkFactory for $factory {
            type Config = $config;
            const NAMES: TypeNames = $names;
            fn build(
                _: $config,
                _: Arc<dyn Channel>,
                context: &BuildContext,
            ) -> Result<Box<dyn Sink>, BuildError> {
                Err(context.error(NOT_BUILT, None))
            }
            fn batch_size(config: &$config) -> Option<usize> {
                let batch: fn(&$config) -> Option<usize> = $batch;
                batch(config)
            }
        }
    };
}
sink!(
    Logger,
    LoggerConfig,
    names("logger", &["org.apache.flume.sink.LoggerSink"]),
    |_| None
);
sink!(
    FileRoll,
    FileRollConfig,
    names("file_roll", &["org.apache.flume.sink.RollingFileSink"]),
    |config| Some(config.batch_size.0)
);
sink!(
    Kafka,
    KafkaConfig,
    TypeNames {
        alias: None,
        also: &["kafka"],
        classes: &["org.apache.flume.sink.kafka.KafkaSink"]
    },
    |_| None
);

struct Timestamp;
impl InterceptorFactory for Timestamp {
    type Config = TimestampConfig;
    const NAMES: TypeNames = names(
        "timestamp",
        &["org.apache.flume.interceptor.TimestampInterceptor$Builder"],
    );
    fn build(
        _: TimestampConfig,
        context: &BuildContext,
    ) -> Result<Box<dyn Interceptor>, BuildError> {
        Err(context.error(NOT_BUILT, None))
    }
}

macro_rules! selector {
    ($factory:ident, $config:ident, $names:expr, $check:expr) => {
        struct $factory;
        impl SelectorFactory for $factory {
            type Config = $config;
            const NAMES: TypeNames = $names;
            fn check(
                config: &$config,
                channels: &[String],
                section: &Section,
                report: &mut Report,
            ) {
                let check: fn(&$config, &[String], &Section, &mut Report) = $check;
                check(config, channels, section, report);
            }
            fn build(_: $config, _: &[String]) -> Box<dyn ChannelSelector> {
                unreachable!("{NOT_BUILT}")
            }
        }
    };
}
selector!(
    Replicating,
    ReplicatingConfig,
    names("replicating", &[]),
    |_, _, _, _| {}
);
selector!(
    Multiplexing,
    MultiplexingConfig,
    names("multiplexing", &[]),
    |config, channels, section, report| {
        for (value, list) in &config.mapping.0 {
            for name in list
                .split_whitespace()
                .filter(|name| !channels.iter().any(|channel| channel == name))
            {
                let key = format!("{}.mapping.{value}", section.path);
                let entry = &section.entries[&format!("mapping.{value}")];
                let message = format!("the source has no channel `{name}`");
                report.push(
                    settings::Problem::new(settings::Severity::Error, key, message)
                        .at(entry.value_span),
                );
            }
        }
    }
);

macro_rules! processor {
    ($factory:ident, $config:ident, $names:expr) => {
        struct $factory;
        impl SinkProcessorFactory for $factory {
            type Config = $config;
            const NAMES: TypeNames = $names;
            fn check(_: &$config, sinks: &[String], section: &Section, report: &mut Report) {
                if stringify!($factory) == "DefaultProcessor" && sinks.len() > 1 {
                    let message = "the default processor has one sink";
                    report.push(settings::Problem::new(
                        settings::Severity::Error,
                        section.path.clone(),
                        message,
                    ));
                }
            }
            fn build(_: $config, _: Vec<NamedSink>, _: &BuildContext) -> Box<dyn SinkProcessor> {
                unreachable!("{NOT_BUILT}")
            }
        }
    };
}
processor!(DefaultProcessor, DefaultConfig, names("default", &[]));
processor!(Failover, FailoverConfig, names("failover", &[]));

/// The registry of the stand-ins.
pub(crate) fn registry() -> Registry {
    const SOURCES: &[SourceEntry] = &[SourceEntry::of::<Netcat>(), SourceEntry::of::<Exec>()];
    const CHANNELS: &[ChannelEntry] = &[ChannelEntry::of::<Memory>(), ChannelEntry::of::<File>()];
    const SINKS: &[SinkEntry] = &[
        SinkEntry::of::<Logger>(),
        SinkEntry::of::<FileRoll>(),
        SinkEntry::of::<Kafka>(),
    ];
    const INTERCEPTORS: &[InterceptorEntry] = &[InterceptorEntry::of::<Timestamp>()];
    const SELECTORS: &[SelectorEntry] = &[
        SelectorEntry::of::<Replicating>(),
        SelectorEntry::of::<Multiplexing>(),
    ];
    const PROCESSORS: &[SinkProcessorEntry] = &[
        SinkProcessorEntry::of::<DefaultProcessor>(),
        SinkProcessorEntry::of::<Failover>(),
    ];
    const PARTS: &[(&str, &[Description])] = &[(
        "serializer",
        &[Description::of::<TimestampConfig>(names("TEXT", &[]))],
    )];
    Registry {
        sources: SOURCES,
        channels: CHANNELS,
        sinks: SINKS,
        interceptors: INTERCEPTORS,
        selectors: SELECTORS,
        sink_processors: PROCESSORS,
        parts: PARTS,
    }
}

/// Checks one file with these options, of which the files do not count.
pub(crate) fn check_with(
    name: &str,
    text: &str,
    options: &LoadOptions,
    agent: Option<&str>,
) -> Outcome {
    let input = Input {
        name: name.to_owned(),
        bytes: text.as_bytes().to_vec(),
    };
    check_inputs(vec![input], options, &registry(), agent)
}

/// Checks one properties file.
pub(crate) fn check(text: &str) -> Outcome {
    check_with("flume.conf", text, &LoadOptions::empty(), None)
}
