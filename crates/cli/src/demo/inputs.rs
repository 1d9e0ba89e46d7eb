//! Where the demo's files lie, which log files it ships, and the configurations it runs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

/// The topic.
pub(super) const TOPIC: &str = "machine-logs";
/// Larger log files are left out: the demo has to end.
const MAX_FILE_BYTES: u64 = 32 << 20;
/// Sum of the files that are shipped.
const MAX_TOTAL_BYTES: u64 = 256 << 20;

/// The demo's folder and ports.
pub(super) struct Layout {
    pub(super) dir: PathBuf,
    pub(super) logs: PathBuf,
    pub(super) out: PathBuf,
    pub(super) broker_port: u16,
    pub(super) http_port: u16,
    pub(super) shipper_port: u16,
    pub(super) writer_port: u16,
    files: BTreeMap<PathBuf, Vec<String>>,
}

impl Layout {
    /// Makes the folder, finds log files, takes free ports and writes the configurations.
    pub(super) fn create(dir: &Path) -> anyhow::Result<Self> {
        if dir.try_exists()? {
            bail!(
                "{} exists already; remove it or give another folder with --dir",
                dir.display()
            );
        }
        let (logs, out) = (dir.join("logs"), dir.join("rolled-files"));
        for folder in [&logs, &out] {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("create {}", folder.display()))?;
        }
        let ports = free_ports::<4>()?;
        let layout = Self {
            dir: dir.to_owned(),
            logs,
            out,
            broker_port: ports[0],
            http_port: ports[1],
            shipper_port: ports[2],
            writer_port: ports[3],
            files: text_files(Path::new("/var/log")),
        };
        for (name, text) in [
            ("server.properties", layout.server_properties()),
            ("ship.conf", layout.ship_conf()),
            ("write.conf", layout.write_conf()),
        ] {
            let path = dir.join(name);
            std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(layout)
    }

    pub(super) fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.broker_port)
    }

    pub(super) fn path_text(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// What is shipped, in words.
    pub(super) fn describe(&self) -> String {
        let count: usize = self.files.values().map(Vec::len).sum();
        match count {
            0 => "no readable text below /var/log: only HTTP posts are shipped".to_owned(),
            _ => {
                let folders: Vec<_> = self
                    .files
                    .keys()
                    .map(|dir| dir.display().to_string())
                    .collect();
                format!(
                    "shipping {count} log files of {} and HTTP posts",
                    folders.join(", ")
                )
            }
        }
    }

    fn server_properties(&self) -> String {
        format!(
            "# The embedded log of the demo: Kafka's own key names.\nlisteners=PLAINTEXT://127.0.0.1:{}\nlog.dirs={}\nnum.partitions=2\n",
            self.broker_port,
            self.path_text("log-data")
        )
    }

    fn ship_conf(&self) -> String {
        let mut text = String::from(
            "# Ships this machine's logs and HTTP posts into a topic, through a file channel.\n",
        );
        let groups: Vec<String> = (0..self.files.len())
            .map(|number| format!("g{number}"))
            .collect();
        let sources = if groups.is_empty() {
            "posts"
        } else {
            "logs posts"
        };
        let mut line = |key: &str, value: &str| {
            writeln!(text, "ship.{key} = {value}").expect("a String takes everything")
        };
        line("sources", sources);
        line("channels", "disk");
        line("sinks", "topic");
        if !groups.is_empty() {
            line("sources.logs.type", "TAILDIR");
            line("sources.logs.channels", "disk");
            line(
                "sources.logs.positionFile",
                &self.path_text("position.json"),
            );
            line("sources.logs.filegroups", &groups.join(" "));
            for (group, (dir, names)) in groups.iter().zip(&self.files) {
                let names: Vec<String> = names.iter().map(|name| regex_of(name)).collect();
                let pattern = format!("{}/({})", dir.display(), names.join("|"));
                line(&format!("sources.logs.filegroups.{group}"), &pattern);
            }
            line("sources.logs.fileHeader", "true");
            line("sources.logs.batchSize", "500");
        }
        line("sources.posts.type", "http");
        line("sources.posts.bind", "127.0.0.1");
        line("sources.posts.port", &self.http_port.to_string());
        line("sources.posts.channels", "disk");
        line("channels.disk.type", "file");
        line("channels.disk.dataDirs", &self.path_text("channel-ship"));
        line("channels.disk.minimumRequiredSpace", "16777216");
        line("sinks.topic.type", "org.apache.flume.sink.kafka.KafkaSink");
        line("sinks.topic.channel", "disk");
        line("sinks.topic.kafka.bootstrap.servers", &self.bootstrap());
        line("sinks.topic.kafka.topic", TOPIC);
        line("sinks.topic.flumeBatchSize", "500");
        text
    }

    fn write_conf(&self) -> String {
        let mut text = String::from(
            "# Reads the topic as a consumer group of its own and writes rolled files.\n",
        );
        let mut line = |key: &str, value: &str| {
            writeln!(text, "write.{key} = {value}").expect("a String takes everything")
        };
        line("sources", "topic");
        line("channels", "disk");
        line("sinks", "files");
        line(
            "sources.topic.type",
            "org.apache.flume.source.kafka.KafkaSource",
        );
        line("sources.topic.channels", "disk");
        line("sources.topic.kafka.bootstrap.servers", &self.bootstrap());
        line("sources.topic.kafka.topics", TOPIC);
        line("sources.topic.kafka.consumer.group.id", "files");
        line("sources.topic.kafka.consumer.auto.offset.reset", "earliest");
        line("channels.disk.type", "file");
        line("channels.disk.dataDirs", &self.path_text("channel-write"));
        line("channels.disk.minimumRequiredSpace", "16777216");
        line("sinks.files.type", "file_roll");
        line("sinks.files.channel", "disk");
        line(
            "sinks.files.sink.directory",
            &self.out.display().to_string(),
        );
        line("sinks.files.sink.rollInterval", "10");
        line("sinks.files.sink.batchSize", "500");
        text
    }
}

/// A file name as a regular expression in a properties file, where a backslash is doubled.
fn regex_of(name: &str) -> String {
    let mut pattern = String::new();
    for character in name.chars() {
        if !character.is_alphanumeric() && !matches!(character, '_' | '-') {
            pattern.push_str("\\\\");
        }
        pattern.push(character);
    }
    pattern
}

/// Readable text files of a folder and of its direct sub-folders, by folder.
fn text_files(root: &Path) -> BTreeMap<PathBuf, Vec<String>> {
    let mut found = BTreeMap::new();
    let mut total = 0;
    let mut folders = vec![root.to_owned()];
    let below = std::fs::read_dir(root).into_iter().flatten().flatten();
    folders.extend(
        below
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path()),
    );
    folders.sort();
    for folder in folders {
        let mut names: Vec<String> = Vec::new();
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let plain = entry.file_type().is_ok_and(|kind| kind.is_file());
            let size = entry.metadata().map_or(0, |metadata| metadata.len());
            let fits = size > 0 && size <= MAX_FILE_BYTES && total + size <= MAX_TOTAL_BYTES;
            if plain && fits && name.is_ascii() && is_text(&entry.path()) {
                total += size;
                names.push(name);
            }
        }
        names.sort();
        if !names.is_empty() {
            found.insert(folder, names);
        }
    }
    found
}

fn is_text(path: &Path) -> bool {
    let mut head = [0; 4096];
    let read = std::fs::File::open(path).and_then(|mut file| file.read(&mut head));
    read.is_ok_and(|length| length > 0 && !head[..length].contains(&0))
}

/// Ports that are free now; they are released just before the processes take them.
fn free_ports<const COUNT: usize>() -> anyhow::Result<[u16; COUNT]> {
    let mut held = Vec::new();
    let mut ports = [0; COUNT];
    for port in &mut ports {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("take a free port")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// Creates the topic, so that both groups find it.
pub(super) fn create_topic(layout: &Layout) -> anyhow::Result<()> {
    let runtime = crate::commands::kafka::runtime()?;
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", layout.bootstrap());
    let admin: AdminClient<DefaultClientContext> =
        config.create().context("make a Kafka client")?;
    let topic = NewTopic::new(TOPIC, 2, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(15)));
    let answers = runtime
        .block_on(admin.create_topics([&topic], &options))
        .context("create the topic")?;
    for answer in answers {
        answer.map_err(|(name, code)| anyhow::anyhow!("create topic {name}: {code}"))?;
    }
    Ok(())
}
