//! What a `server.properties` file may hold, and how mistakes are told.

use super::*;

#[test]
fn no_file_means_loopback_and_fsync() {
    let (config, notes) = BrokerConfig::from_properties("").unwrap();
    assert_eq!(
        config.listeners[0].to_string(),
        "PLAINTEXT://127.0.0.1:9092"
    );
    assert_eq!(config.durability, Durability::Fsync);
    assert_eq!(config.log_dirs, [PathBuf::from("./flafka-data")]);
    assert!(notes.is_empty());
}

#[test]
fn every_default_of_the_table_is_the_default_of_the_struct() {
    let plain = format!("{:?}", BrokerConfig::default());
    for setting in SETTINGS {
        if setting.default.is_empty() {
            continue;
        }
        let mut config = BrokerConfig::default();
        (setting.apply)(&mut config, setting.default).unwrap();
        // The one default that a number cannot say.
        if config.max_connections_per_ip == i32::MAX as usize {
            config.max_connections_per_ip = usize::MAX;
        }
        assert_eq!(format!("{config:?}"), plain, "{}", setting.key);
        assert!(setting.doc.ends_with('.'), "{}", setting.key);
    }
}

#[test]
fn keys_are_unique() {
    let mut keys: Vec<&str> = SETTINGS.iter().map(|setting| setting.key).collect();
    keys.sort_unstable();
    let count = keys.len();
    keys.dedup();
    assert_eq!(keys.len(), count);
}

#[test]
fn a_kraft_quickstart_file_is_read_as_it_is() {
    let text = "\
process.roles=broker,controller
node.id=7
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:19092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:19092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=/tmp/kraft-combined-logs
num.partitions=3
num.recovery.threads.per.data.dir=1
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
#log.flush.interval.messages=10000
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
";
    let (config, notes) = BrokerConfig::from_properties(text).unwrap();
    assert_eq!(config.node_id, 7);
    assert_eq!(config.num_partitions, 3);
    assert_eq!(config.listeners.len(), 1);
    assert!(config.listeners[0].address.is_wildcard());
    assert_eq!(
        config.advertised[0].to_string(),
        "PLAINTEXT://localhost:19092"
    );
    assert_eq!(config.send_buffer_bytes, Some(102_400));
    assert!(notes.iter().any(|note| note.key == "num.io.threads"));
}

#[test]
fn all_mistakes_are_told_at_once_with_lines() {
    let text = "\
num.partition=3
num.partitions=zero

listeners=SSL://:9093
ssl.keystore.location=/etc/k.jks
flafka.durability=sometimes
log.dirs=/a,/a/b
nonsense
";
    let problems = BrokerConfig::from_properties(text).unwrap_err().0;
    let places: Vec<&Place> = problems.iter().map(ConfigProblem::place).collect();
    let lines = [1, 2, 4, 5, 6, 7, 8].map(Place::Line);
    assert_eq!(places, lines.iter().collect::<Vec<_>>());
    assert_eq!(
        problems[0].to_string(),
        "line 1: unknown key `num.partition`; did you mean `num.partitions`?"
    );
    assert!(problems[2].to_string().contains("SSL"), "{}", problems[2]);
    assert!(problems[6].to_string().contains("unknown key `nonsense`"));
}

#[test]
fn finer_units_win_and_minus_one_keeps_for_ever() {
    let read = |text: &str| BrokerConfig::from_properties(text).unwrap().0;
    assert_eq!(
        read("log.retention.ms=5\nlog.retention.hours=1").retention_ms,
        5
    );
    assert_eq!(read("log.retention.hours=-1").retention_ms, -1);
    assert_eq!(read("log.retention.minutes=2").retention_ms, 120_000);
}

#[test]
fn the_properties_format_is_javas() {
    let (config, _) = BrokerConfig::from_properties(
        "  # comment\n! too\nlog.dirs : /data/a\\\n   b\\u0063  \nnum.partitions 4\nadvertised.listeners=PLAINTEXT\\://h\\:1",
    )
    .unwrap();
    assert_eq!(config.log_dirs, [PathBuf::from("/data/abc")]);
    assert_eq!(config.num_partitions, 4);
    assert_eq!(config.advertised[0].to_string(), "PLAINTEXT://h:1");
    assert!(BrokerConfig::from_properties("=x").is_err());
    assert!(BrokerConfig::from_properties("a=\\uZZZZ").is_err());
}

#[test]
fn addresses_are_checked() {
    for bad in [
        "127.0.0.1:9092",
        "PLAINTEXT://",
        "PLAINTEXT://h:99999",
        "",
        "PLAINTEXT://a:1,PLAINTEXT://b:2",
    ] {
        let text = format!("listeners={bad}");
        assert!(BrokerConfig::from_properties(&text).is_err(), "{bad}");
    }
    assert!(BrokerConfig::from_properties("advertised.listeners=PLAINTEXT://0.0.0.0:1").is_err());
    let (config, _) = BrokerConfig::from_properties("listeners=PLAINTEXT://[::1]:9092").unwrap();
    assert_eq!(config.listeners[0].address.host, "::1");
}

#[test]
fn the_age_of_a_segment_is_the_default_of_topics() {
    let read = |text: &str| BrokerConfig::from_properties(text).unwrap().0;
    let segment_ms = crate::topics::settings::find("segment.ms").unwrap();
    let jitter = crate::topics::settings::find("segment.jitter.ms").unwrap();
    for (text, age, most_off) in [
        ("", "604800000", "0"),
        (
            "log.roll.hours=2\nlog.roll.jitter.hours=1",
            "7200000",
            "3600000",
        ),
        ("log.roll.ms=60000\nlog.roll.hours=2", "60000", "0"),
    ] {
        let config = read(text);
        assert_eq!(segment_ms.default_text(&config), age, "{text}");
        assert_eq!(jitter.default_text(&config), most_off, "{text}");
    }
    assert!(BrokerConfig::from_properties("log.roll.ms=0").is_err());
}

#[test]
fn overrides_win_and_their_mistakes_are_told_by_their_words() {
    let read = |file: &str, words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        BrokerConfig::from_properties_and_overrides(file.as_bytes(), &words)
    };
    // The file ends in a continuation, which is not the override's.
    let (config, _) = read("num.partitions=3\nnode.id=2\\", &["num.partitions=4"]).unwrap();
    assert_eq!((config.num_partitions, config.node_id), (4, 2));
    let words = ["nope=1", "node.id=x", "ssl.keystore.password=hush", "=1"];
    let problems = read("num.partitions=0\n", &words).unwrap_err().to_string();
    let lines: Vec<&str> = problems.lines().collect();
    assert_eq!(lines.len(), 5, "{problems}");
    assert!(lines[0].starts_with("line 1: "), "{problems}");
    assert!(
        problems.contains("--override nope=1: unknown key `nope`"),
        "{problems}"
    );
    assert!(
        problems.contains("--override =1: a line needs a key"),
        "{problems}"
    );
    assert!(!problems.contains("hush"), "{problems}");
}
