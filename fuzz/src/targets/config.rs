//! Configuration files. They come from the user, who must get a message and not a crash.

use flafka_config::{properties as java, yaml as nested};

pub(super) fn properties(input: &[u8]) {
    java::parse(input);
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
