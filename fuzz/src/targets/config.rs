//! Configuration files. They come from the user, who must get a message and not a crash.

use flafka_broker::BrokerConfig;
use flafka_config::{properties as java, yaml as nested};

pub(super) fn properties(input: &[u8]) {
    java::parse(input);
}

/// Once as the file, once as words of the command line.
pub(super) fn server_properties(input: &[u8]) {
    BrokerConfig::from_properties(input).ok();
    let words: Vec<String> = String::from_utf8_lossy(input)
        .lines()
        .map(str::to_owned)
        .collect();
    if let Err(problems) = BrokerConfig::from_properties_and_overrides(b"", &words) {
        problems.to_string();
    }
}

pub(super) fn yaml(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input) {
        nested::parse(text);
    } else {
        nested::parse(&String::from_utf8_lossy(input));
    }
}

pub(super) fn property_seeds() -> Vec<Vec<u8>> {
    let agent = "# an agent\na1.sources = r1\na1.channels=c1\r\n! note\na1.sources.r1.type : netcat\n\
        a1.sources.r1.bind\\ host 0.0.0.0\na1.sinks.k1.path = /logs/%Y-%m-%d/\\\n    %{host}\n\
        a1.name = caf\\u00e9 \\t\\n\\\\ tail\nempty\n= value without key\nlast = \\u12";
    vec![
        agent.as_bytes().to_vec(),
        b"a=b\\\n\\\n c\n\\u d83d\\ude00=\xff\n".to_vec(),
    ]
}

pub(super) fn server_property_seeds() -> Vec<Vec<u8>> {
    let broker = "# a broker\nbroker.id=0\nlisteners=PLAINTEXT://:9092,INSIDE://[::1]:9093\n\
        advertised.listeners=PLAINTEXT://log.example.org:9092\nlistener.security.protocol.map=INSIDE:PLAINTEXT\n\
        log.dirs=/tmp/kafka-logs\nnum.partitions=3\nlog.retention.hours=168\nlog.retention.bytes=-1\n\
        log.segment.bytes=1073741824\nflafka.durability=interval:50\nmax.connections.per.ip=10\n\
        zookeeper.connect=localhost:2181\nnum.network.threads=3\n";
    let wrong = "nope=1\nnode.id=-5\nlog.dirs=a,b\nssl.keystore.password=x\nlisteners=SSL://x:70000\n=3\nk=\\u12\n\
        log.retention.ms=99999999999999999999\nadvertised.listeners=X://\nflafka.durability=interval:\n";
    vec![broker.as_bytes().to_vec(), wrong.as_bytes().to_vec()]
}

pub(super) fn yaml_seeds() -> Vec<Vec<u8>> {
    let agent = "a1:\n  sources: r1\n  channels: [c1, c2]\n  sources.r1: {type: netcat, port: 44444}\n  sinks:\n    k1:\n\
        \x20     type: hdfs # note\n      path: \"/logs/%Y\\n\"\n      text: |\n        two\n        lines\n    - odd\n";
    let anchors = "a: &x {b: [1, 2.5, true, null, ~, 2026-11-22]}\nc: *x\nd: !!str 5\n? e\n: f\n";
    vec![
        agent.as_bytes().to_vec(),
        anchors.as_bytes().to_vec(),
        b"{a: [{b: {c: [d]}}]}".to_vec(),
    ]
}
