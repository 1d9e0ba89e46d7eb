//! The generated reference.

mod support;

use flafka_config::reference::pages;

#[test]
fn a_checked_file_and_the_reference_agree_on_keys() {
    let outcome =
        support::check("a1.sources = r1\na1.sources.r1.type = netcat\na1.sources.r1.nokey = 1\n");
    let known = outcome
        .problems
        .iter()
        .find(|problem| problem.message == "unknown key");
    let known = known
        .and_then(|problem| problem.help.clone())
        .expect("names the known keys");
    let keys = known.trim_start_matches("known keys: ").split(", ");
    let pages = pages(&support::registry());
    for key in keys {
        assert!(pages[1].1.contains(&format!("| `{key}` |")), "{key}");
    }
}

#[test]
fn every_component_has_its_place() {
    let pages = pages(&support::registry());
    let names: Vec<_> = pages.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "README.md",
            "sources.md",
            "channels.md",
            "sinks.md",
            "interceptors.md",
            "selectors.md",
            "sink-processors.md",
            "config-filters.md",
            "serializers.md",
        ]
    );
    let page = |name: &str| {
        &pages
            .iter()
            .find(|(page, _)| page == name)
            .expect("there")
            .1
    };
    let sources = page("sources.md");
    assert!(sources.contains("## netcat\n\nType: `netcat`, `org.apache.flume.source.NetcatSource`\n\nLines from TCP connections.\n"), "{sources}");
    assert!(
        sources.contains("| `port` | **required** | port from 0 to 65535 | Port to listen on. |"),
        "{sources}"
    );
    assert!(
        sources.contains("| `ack-every-event` | `true` | true or false |"),
        "{sources}"
    );
    assert!(sources.contains("one a core \\| always"), "{sources}");
    assert!(
        sources.contains("| `maxBackoffSleep` | `5000` |"),
        "{sources}"
    );
    let sinks = page("sinks.md");
    assert!(sinks.contains("Old name: `batchSize`."), "{sinks}");
    assert!(sinks.contains("| `account` | – | secret text |"), "{sinks}");
    assert!(page("sink-processors.md").contains("No keys of its own."));
    assert!(page("README.md").contains("- [Sinks](sinks.md): `logger`, `file_roll`, `kafka`"));
}
