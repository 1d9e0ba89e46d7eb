//! The command line: our commands, and Flume's options under Flume's names (reference 1.10).

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::log::LogOptions;

/// Flume's connectors and Kafka's durable log in one binary.
///
/// Runs flume.conf files unchanged, carries events through Kafka topics on an embedded log or on
/// a real Kafka cluster, and loses nothing that it has acknowledged.
#[derive(Debug, Parser)]
#[command(
    name = "flafka",
    version,
    max_term_width = 100,
    disable_help_subcommand = false
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run an agent from a flume.conf
    #[command(alias = "node", long_about = AGENT)]
    Agent(AgentOptions),
    /// Run the embedded log: topics that every Kafka client reads and writes
    #[command(long_about = BROKER)]
    Broker(BrokerOptions),
    /// Run agents and the embedded log in one process: the one-machine product
    Up(UpOptions),
    /// Show the whole way on this machine's own logs, with a kill on the way and proof at the end
    Demo(DemoOptions),
    /// List every mistake of a flume.conf, with its line and what to do
    #[command(long_about = CHECK)]
    Check(CheckOptions),
    /// Say what each channel and the embedded log promise: what a kill or a power cut loses, and what fits
    #[command(long_about = EXPLAIN)]
    Explain(ExplainOptions),
    /// Create, list, describe and delete topics
    Topic(TopicOptions),
    /// Write lines of the standard input, or of a file, to a topic
    Produce(ProduceOptions),
    /// Print the records of a topic
    Consume(ConsumeOptions),
    /// Look into the files of a file channel or a broker, check and repair them, import a Flume's
    Log(LogOptions),
    /// Print the version
    Version,
    /// Print a shell's completion script
    Completions(CompletionsOptions),
    /// Print a manual page, or write all of them into a folder
    Man(ManOptions),
}

const AGENT: &str = "Run an agent from a flume.conf.\n\n\
    The options are Flume's. The configuration is checked first: with any error nothing starts, \
    every mistake is listed and the exit code is 2; --flume-lenient drops bad components and goes \
    on, as Flume does. A changed file is loaded again, unless --no-reload-conf is given. SIGTERM \
    and SIGINT stop in order: sources, then what memory channels hold, then sinks, then channels.";

const BROKER: &str = "Run the embedded log: topics that every Kafka client reads and writes.\n\n\
    The file is a server.properties with Kafka's own key names. Without one the log listens on \
    127.0.0.1:9092 and keeps its data in ./flafka-data. A produce with acks=all is answered after \
    its data is on the disk.";

const CHECK: &str = "List every mistake of a flume.conf, with its line and what to do.\n\n\
    Reads the files and the environment, nothing else. Exit code 0: no error (warnings are shown), \
    2: errors.";

const EXPLAIN: &str = "Say what each channel of a flume.conf, and the embedded log, promise.\n\n\
    For each: its durability, what an acknowledgement means, what of the acknowledged a SIGKILL and a power cut lose, \
    what may come twice, the capacity in events and bytes, and the directories. Reads configurations only. Without a \
    flume.conf, or with --broker-config or --override, the embedded log is explained.";

/// Where a configuration comes from; shared by agent, up and check.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ConfigurationOptions {
    /// Configuration file, .properties grammar or YAML; repeat to merge several, later keys win
    #[arg(short = 'f', long = "conf-file", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Configuration URI (file:); any -u makes -f count no longer, as in Flume
    #[arg(short = 'u', long = "conf-uri", value_name = "URI")]
    pub(crate) uris: Vec<String>,
    /// Java system property, such as flume.monitoring.port=41414; also seen by ${sys:NAME}
    #[arg(short = 'D', value_name = "NAME=VALUE")]
    pub(crate) properties: Vec<String>,
    /// Drop bad components and go on, as Flume does, instead of refusing to start
    #[arg(long)]
    pub(crate) flume_lenient: bool,
}

/// `flafka agent`.
#[derive(Debug, Clone, Args)]
pub(crate) struct AgentOptions {
    /// Name of the agent in the file
    #[arg(short = 'n', long = "name", value_name = "NAME")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) configuration: ConfigurationOptions,
    /// Do not watch the file for changes
    #[arg(long)]
    pub(crate) no_reload_conf: bool,
    /// Seconds between looks at the file
    #[arg(short = 'i', long = "poll-interval", value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) poll_interval: u64,
    /// Keep a copy of each good configuration in DIR, used when nothing can be loaded
    #[arg(short = 'b', long = "backup-directory", value_name = "DIR")]
    pub(crate) backup_directory: Option<PathBuf>,
    /// Check the configuration and print what would run, then end
    #[arg(short = 'd', long)]
    pub(crate) dryrun: bool,
    #[command(flatten)]
    pub(crate) java: JavaOptions,
}

/// Options of the `flume-ng` script that concern the JVM, or what this version does not have.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct JavaOptions {
    /// Flume: folder of flume-env.sh and log4j2.xml; neither is read
    #[arg(short = 'c', long = "conf", value_name = "DIR", hide = true)]
    pub(crate) conf: Option<PathBuf>,
    /// Flume: class path; there is no JVM
    #[arg(short = 'C', long = "classpath", value_name = "PATH", hide = true)]
    pub(crate) classpath: Option<String>,
    /// Flume: plug-in folders; Java plug-ins cannot be loaded
    #[arg(long = "plugins-path", value_name = "PATHS", hide = true)]
    pub(crate) plugins_path: Option<String>,
    /// Flume: JVM option; there is no JVM
    #[arg(short = 'X', value_name = "OPTION", hide = true)]
    pub(crate) jvm: Vec<String>,
    /// Flume: configuration in ZooKeeper; not in this version
    #[arg(
        short = 'z',
        long = "zkConnString",
        value_name = "SERVERS",
        hide = true
    )]
    pub(crate) zookeeper: Option<String>,
    /// Flume: path of the configuration in ZooKeeper; not in this version
    #[arg(short = 'p', long = "zkBasePath", value_name = "PATH", hide = true)]
    pub(crate) zookeeper_path: Option<String>,
    /// Flume: user for an http configuration; not in this version
    #[arg(long = "conf-user", value_name = "USER", hide = true)]
    pub(crate) conf_user: Option<String>,
    /// Flume: password for an http configuration; not in this version
    #[arg(long = "conf-password", value_name = "PASSWORD", hide = true)]
    pub(crate) conf_password: Option<String>,
    /// Flume: Java class that signs http requests; cannot be loaded
    #[arg(short = 'a', long = "auth-provider", value_name = "CLASS", hide = true)]
    pub(crate) auth_provider: Option<String>,
    /// Flume: Java class that provides the configuration; cannot be loaded
    #[arg(long = "conf-provider", value_name = "CLASS", hide = true)]
    pub(crate) conf_provider: Option<String>,
}

/// `flafka broker`.
#[derive(Debug, Clone, Args)]
pub(crate) struct BrokerOptions {
    /// server.properties with Kafka's key names
    #[arg(short = 'f', long = "config", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// A key of server.properties, over the file; repeatable
    #[arg(long = "override", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// Serve /metrics and /health on this address
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) monitoring: Option<std::net::SocketAddr>,
}

/// `flafka up`.
#[derive(Debug, Clone, Args)]
pub(crate) struct UpOptions {
    #[command(flatten)]
    pub(crate) configuration: ConfigurationOptions,
    /// Run only these agents of the file; all without this option
    #[arg(short = 'n', long = "name", value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// server.properties of the embedded log
    #[arg(long = "broker-config", value_name = "FILE")]
    pub(crate) broker_file: Option<PathBuf>,
    /// A key of server.properties, over the file; repeatable
    #[arg(long = "override", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
}

/// `flafka demo`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DemoOptions {
    /// Folder for the demo's files; must not exist yet
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Seconds during which HTTP posts are sent
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(4..=90))]
    pub(crate) seconds: u64,
    /// Print plain lines instead of the live view
    #[arg(long)]
    pub(crate) plain: bool,
}

/// `flafka check`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CheckOptions {
    /// Configuration files, merged in this order
    #[arg(value_name = "FILE")]
    pub(crate) positional: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) configuration: ConfigurationOptions,
    /// Say it is an error when the files have no agent of this name
    #[arg(short = 'n', long = "name", value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Print the problems as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `flafka explain`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ExplainOptions {
    #[command(flatten)]
    pub(crate) configuration: ConfigurationOptions,
    /// Only this agent of the file; all without this option
    #[arg(short = 'n', long = "name", value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// server.properties of the embedded log
    #[arg(long = "broker-config", value_name = "FILE")]
    pub(crate) broker_file: Option<PathBuf>,
    /// A key of server.properties, over the file; repeatable
    #[arg(long = "override", value_name = "KEY=VALUE")]
    pub(crate) overrides: Vec<String>,
    /// Print it as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Which brokers to talk to.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClientOptions {
    /// Brokers to begin with
    #[arg(
        short = 'b',
        long = "bootstrap-server",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:9092",
        env = "FLAFKA_BOOTSTRAP"
    )]
    pub(crate) bootstrap: String,
    /// A property of the Kafka client, Java's names; repeatable
    #[arg(long = "property", value_name = "KEY=VALUE")]
    pub(crate) properties: Vec<String>,
}

/// `flafka topic`.
#[derive(Debug, Clone, Args)]
pub(crate) struct TopicOptions {
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    #[command(subcommand)]
    pub(crate) action: TopicAction,
}

/// What to do with topics.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum TopicAction {
    /// List the topics
    #[command(visible_alias = "ls")]
    List,
    /// Create a topic
    Create {
        /// Its name
        topic: String,
        /// Number of partitions; without it the broker's default
        #[arg(short, long, value_parser = clap::value_parser!(i32).range(1..))]
        partitions: Option<i32>,
        /// A topic configuration, such as retention.ms=3600000; repeatable
        #[arg(short, long = "config", value_name = "KEY=VALUE")]
        configs: Vec<String>,
    },
    /// Show partitions, offsets and configurations of a topic
    #[command(visible_alias = "show")]
    Describe {
        /// Its name
        topic: String,
    },
    /// Delete the oldest records of a topic: everything before an offset
    DeleteRecords {
        /// The topic
        topic: String,
        /// The first offset that stays
        #[arg(long, value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
        before: Option<i64>,
        /// Everything that is there now goes
        #[arg(long, conflicts_with = "before", required_unless_present = "before")]
        all: bool,
        /// Only these partitions; repeatable
        #[arg(short, long = "partition", value_name = "NUMBER", value_parser = clap::value_parser!(i32).range(0..))]
        partitions: Vec<i32>,
    },
    /// Delete topics with all their records
    #[command(visible_alias = "rm")]
    Delete {
        /// Their names
        #[arg(required = true)]
        topics: Vec<String>,
    },
}

/// `flafka produce`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ProduceOptions {
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    /// The topic
    pub(crate) topic: String,
    /// File to read instead of the standard input
    pub(crate) file: Option<PathBuf>,
    /// Text between key and value on each line; without it records have no key
    #[arg(short = 'K', long, value_name = "TEXT")]
    pub(crate) key_separator: Option<String>,
    /// Partition; without it the key decides
    #[arg(short, long)]
    pub(crate) partition: Option<i32>,
}

/// `flafka consume`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ConsumeOptions {
    #[command(flatten)]
    pub(crate) client: ClientOptions,
    /// The topics
    #[arg(required = true)]
    pub(crate) topics: Vec<String>,
    /// Consumer group: go on where it stopped, and commit; without it read everything
    #[arg(short, long)]
    pub(crate) group: Option<String>,
    /// Begin at the end instead of the beginning (a group without committed offsets too)
    #[arg(long)]
    pub(crate) latest: bool,
    /// Stop after this many records
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub(crate) count: Option<u64>,
    /// Stop at the end of the topics instead of waiting for more
    #[arg(short = 'e', long)]
    pub(crate) exit: bool,
    /// Print topic, partition, offset, timestamp, key and headers before each value
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// `flafka completions`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CompletionsOptions {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

/// `flafka man`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ManOptions {
    /// Command whose page to print; without it the page of flafka itself
    pub(crate) command: Option<String>,
    /// Write all pages into this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// Flume's options that begin with one dash and have several letters, as clap knows them.
pub(crate) fn flume_spelling(
    arguments: impl Iterator<Item = OsString>,
) -> impl Iterator<Item = OsString> {
    arguments.map(|argument| match argument.to_str() {
        Some("-user") => "--conf-user".into(),
        Some("-pwd") => "--conf-password".into(),
        Some("-prov") => "--conf-provider".into(),
        _ => argument,
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Command {
        let words = line.split(' ').map(OsString::from);
        Arguments::try_parse_from(flume_spelling(words))
            .expect("parses")
            .command
    }

    #[test]
    fn flumes_command_lines_parse() {
        Arguments::command().debug_assert();
        let line = "flafka agent -n a1 -c conf -f x.conf -Dflume.root.logger=INFO,console -Xmx20m --no-reload-conf";
        let Command::Agent(agent) = parse(line) else {
            panic!("agent")
        };
        assert_eq!(
            (
                agent.name.as_str(),
                agent.no_reload_conf,
                agent.poll_interval
            ),
            ("a1", true, 30)
        );
        assert_eq!(
            agent.configuration.properties,
            ["flume.root.logger=INFO,console"]
        );
        assert_eq!(agent.java.jvm, ["mx20m"]);
        let Command::Agent(agent) = parse("flafka node --name a1 --conf-file x -user u -pwd p")
        else {
            panic!("agent")
        };
        assert_eq!(agent.java.conf_user.as_deref(), Some("u"));
        let Command::Topic(topic) = parse("flafka topic -b h:1 create t -p 3 -c a=b") else {
            panic!("topic")
        };
        assert_eq!(topic.client.bootstrap, "h:1");
    }
}
