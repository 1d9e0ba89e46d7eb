//! From files to agents: the rules of reference 1.2, 1.4 to 1.6, strict and lenient.

mod support;

use std::time::Duration;

use flafka_config::{Input, LoadOptions, Outcome, check_inputs};
use flafka_flow::settings::Severity;

use support::{check, check_with, registry};

const GOOD: &str = "a1.sources = r1\na1.channels = c1\na1.sinks = k1\n\
    a1.sources.r1.type = netcat\na1.sources.r1.bind = h\na1.sources.r1.port = 1\na1.sources.r1.channels = c1\n\
    a1.channels.c1.type = memory\na1.sinks.k1.type = logger\na1.sinks.k1.channel = c1\n";

/// Every problem as `severity line key: message [help]`.
fn lines(outcome: &Outcome) -> Vec<String> {
    outcome
        .problems
        .iter()
        .map(|problem| {
            let severity = match problem.severity {
                Severity::Error => "E",
                Severity::Warning => "W",
                Severity::Note => "N",
            };
            let line = problem.span.map_or(0, |span| span.line);
            let help = problem.help.as_deref().unwrap_or("-");
            format!(
                "{severity}{line} {}: {} [{help}]",
                problem.key, problem.message
            )
        })
        .collect()
}

/// The good file with more lines behind it, from line 11.
fn with(more: &str) -> Vec<String> {
    lines(&check(&format!("{GOOD}{more}")))
}

/// The good file with one line replaced.
fn replaced(old: &str, new: &str) -> Vec<String> {
    assert!(GOOD.contains(old), "{old}");
    lines(&check(&GOOD.replace(old, new)))
}

fn one(found: &[String], parts: &[&str]) {
    assert_eq!(found.len(), 1, "{found:#?}");
    for part in parts {
        assert!(found[0].contains(part), "`{part}` is not in {}", found[0]);
    }
}

fn lenient(text: &str) -> Outcome {
    let mut options = LoadOptions::empty();
    options.lenient = true;
    check_with("flume.conf", text, &options, Some("a1"))
}

#[test]
fn a_good_file_gives_an_agent() {
    let text = format!(
        "{GOOD}a1.sources.r1.selector.type = multiplexing\na1.sources.r1.selector.header = h\n\
         a1.sources.r1.interceptors = i2 i1\na1.sources.r1.interceptors.i1.type = TIMESTAMP\n\
         a1.sources.r1.interceptors.i2.type = org.apache.flume.interceptor.timestampinterceptor$builder\n\
         a1.sources.r1.interceptors.i2.preserveExisting = true\n\
         a1.sources.r1.maxBackoffSleep = 70\na1.sinks.k1.maxBytesToLog = 5\n\
         a1.sinkgroups = g1\na1.sinkgroups.g1.sinks = k1\na1.sinkgroups.g1.processor.type = failover\n\
         a1.sinkgroups.g1.processor.priority.k1 = 5\n"
    );
    let outcome = check(&text);
    assert_eq!(lines(&outcome), [""; 0]);
    let agent = outcome.agent("a1").expect("there");
    let source = &agent.sources[0];
    assert_eq!(
        (source.name.as_str(), source.type_name.as_str()),
        ("r1", "netcat")
    );
    let keys: Vec<_> = source.section.entries.keys().collect();
    assert_eq!(keys, ["bind", "port"]);
    assert_eq!(source.channels[0].0, "c1");
    assert_eq!(source.channels[0].1.expect("place").line, 7);
    assert_eq!(source.backoff_sleep_increment, Duration::from_secs(1));
    assert_eq!(source.max_backoff_sleep, Duration::from_millis(70));
    assert_eq!(source.selector.type_name, "multiplexing");
    assert_eq!(source.selector.section.path, "a1.sources.r1.selector");
    let order: Vec<_> = source
        .interceptors
        .iter()
        .map(|i| i.name.as_str())
        .collect();
    assert_eq!(order, ["i2", "i1"]);
    assert_eq!(
        source.interceptors[0].section.get("preserveExisting"),
        Some("true")
    );
    assert_eq!(
        (
            agent.sinks[0].channel.as_str(),
            agent.sinks[0].section.get("maxBytesToLog")
        ),
        ("c1", Some("5"))
    );
    let group = &agent.sink_groups[0];
    assert_eq!(
        (
            group.processor_type.as_str(),
            group.section.get("priority.k1")
        ),
        ("failover", Some("5"))
    );
    assert_eq!(group.section.path, "a1.sinkgroups.g1.processor");
}

#[test]
fn keys_that_belong_nowhere() {
    one(&with("lonely = 1\n"), &["E11 lonely: no agent name"]);
    one(
        &with("a1.foo = 1\n"),
        &["E11 a1.foo: `foo` is none of the words"],
    );
    one(
        &with("a1.r1.bind = 1\n"),
        &["E11", "did you mean `a1.sources.r1…`?"],
    );
    one(
        &with("a1.sources.r1 = 1\n"),
        &["E11 a1.sources.r1: no key behind the name of the source"],
    );
    one(
        &with("a1.sources.r2.type = exec\n"),
        &["E11 a1.sources.r2: the source `r2` has 1 key but is not in `a1.sources`"],
    );
    one(
        &with("b1.sinks.k.type = null\nb1.sinks.k.channel = c\n"),
        &["E11 b1: the agent `b1` has 2 keys but declares no"],
    );
    one(&lines(&check("# nothing\n")), &["there is nothing in it"]);
}

#[test]
fn one_wrong_word_gives_one_error() {
    one(
        &lines(&check(&GOOD.replace("a1.sources", "a1.source"))),
        &[
            "E1 a1.source: `source` is none",
            "(5 keys) [did you mean `a1.sources`?]",
        ],
    );
    one(
        &replaced("a1.sinks = k1", "a1.sink = k1"),
        &["E3 a1.sink", "did you mean `a1.sinks`?"],
    );
    one(
        &replaced("a1.channels.c1.type", "a1.channels.c2.type"),
        &[
            "E8 a1.channels.c2",
            "did you mean `c1`, which has no properties?",
        ],
    );
}

#[test]
fn lists() {
    let found = replaced("a1.sources = r1", "a1.sources = r1, r2");
    assert!(
        found[0]
            .contains("E1 a1.sources: names are separated by blanks [write `a1.sources = r1 r2`]"),
        "{found:#?}"
    );
    assert!(
        found[1].contains("E1 a1.sources: the source `r2` has no properties"),
        "{found:#?}"
    );
    one(
        &replaced("a1.sources = r1", "a1.sources = r1 r1"),
        &["E1 a1.sources: `r1` stands twice"],
    );
    one(
        &replaced("a1.sources = r1", "a1.sources = r1 # mine"),
        &["E1 a1.sources: a comment cannot"],
    );
    one(
        &replaced("a1.sources = r1", "a1.sources = r1 x.y"),
        &["E1 a1.sources: a name cannot hold a dot [write `x_y`]"],
    );
}

#[test]
fn types() {
    one(
        &replaced("= netcat\n", "= netcta\n"),
        &["E4 a1.sources.r1.type: no such type of source [did you mean `netcat`?]"],
    );
    one(
        &replaced("= netcat\n", "= avro\n"),
        &["Flume's source `avro` is not available in this version"],
    );
    one(
        &replaced("= netcat\n", "= memory\n"),
        &["`memory` is a channel, not a source"],
    );
    one(
        &replaced("= netcat\n", "= com.mine.NetcatSource\n"),
        &["a Java class of your own", "ours of that name is `netcat`"],
    );
    one(
        &replaced("= netcat\n", "= com.mine.Other\n"),
        &["a Java class of your own"],
    );
    one(
        &replaced("= netcat\n", "= syslogtpc\n"),
        &["did you mean `syslogtcp`? Flume has it, this version does not"],
    );
    one(
        &replaced("r1.type = netcat\n", "r1.typ = netcat\n"),
        &[
            "E4",
            "the source has no `type` [`typ` is set; did you mean `type`?]",
        ],
    );
    let found = check(&GOOD.replace("= netcat\n", "= hdfs\n"));
    assert_eq!(found.problems[0].allowed.as_deref(), Some("exec, netcat"));
}

#[test]
fn channels_of_sources_and_sinks() {
    one(
        &replaced("r1.channels = c1", "r1.channel = c1"),
        &[
            "E7",
            "a source has `channels` (plural)",
            "[write `a1.sources.r1.channels = c1`]",
        ],
    );
    one(
        &replaced("k1.channel = c1", "k1.channels = c1"),
        &["E10", "a sink has one `channel` (singular)"],
    );
    let found = replaced("a1.sources.r1.channels = c1\n", "");
    assert!(
        found[0].contains("a1.sources.r1.channels: the source has no channels"),
        "{found:#?}"
    );
    let found = replaced("a1.sinks.k1.channel = c1\n", "");
    assert!(
        found
            .iter()
            .any(|line| line.contains("E9 a1.sinks.k1.channel: the sink has no channel")),
        "{found:#?}"
    );
    assert!(
        replaced("r1.channels = c1", "r1.channels = c1 c9")[0]
            .contains("E7 a1.sources.r1.channels: there is no channel `c9`")
    );
    one(
        &replaced("k1.channel = c1", "k1.channel = c1 c1x"),
        &["E10 a1.sinks.k1.channel: a sink takes from exactly one"],
    );
}

#[test]
fn channels_that_nobody_uses() {
    let text = GOOD.replace("a1.channels = c1", "a1.channels = c1 c2 c3 c4");
    let more = "a1.channels.c2.type = memory\na1.channels.c3.type = memory\na1.channels.c4.type = file\na1.channels.c4.dataDirs = /d\n\
        a1.sources.r1.channels = c1 c2\na1.sinks = k1 k2\na1.sinks.k2.type = logger\na1.sinks.k2.channel = c3\n";
    let found = lines(&check(&format!("{text}{more}")));
    let found: Vec<_> = found
        .iter()
        .filter(|line| !line.contains("set twice"))
        .collect();
    assert!(
        found[0].contains("W11 a1.channels.c2: no sink takes from"),
        "{found:#?}"
    );
    assert!(
        found[1].contains("W12 a1.channels.c3: no source puts into"),
        "{found:#?}"
    );
    assert!(
        found[2].contains("E13 a1.channels.c4: no source and no sink uses"),
        "{found:#?}"
    );
    assert_eq!(found.len(), 3);
}

#[test]
fn batches_against_transactions() {
    let exec = GOOD.replace(
        "= netcat\na1.sources.r1.bind = h\na1.sources.r1.port = 1\n",
        "= exec\na1.sources.r1.command = x\na1.sources.r1.batchSize = 101\n",
    );
    one(
        &lines(&check(&exec)),
        &[
            "E6 a1.sources.r1.batchSize: the batch size of 101 is more than the transactionCapacity of 100 of channel `c1`",
        ],
    );
    let small = "a1.channels.c1.transactionCapacity = 50\na1.sinks.k1.sink.directory = /d\n";
    let text = format!("{}{small}", GOOD.replace("= logger", "= file_roll"));
    one(
        &lines(&check(&text)),
        &["E9 a1.sinks.k1.batchSize: the default batch size of 100"],
    );
}

#[test]
fn selectors_and_interceptors() {
    one(
        &with("a1.sources.r1.selector.type = load_balancing\n"),
        &[
            "E11",
            "Flume's channel selector `load_balancing` is not available",
        ],
    );
    one(
        &with(
            "a1.sources.r1.selector.type = multiplexing\na1.sources.r1.selector.mapping.x = c7\n",
        ),
        &["E12", "the source has no channel `c7`"],
    );
    one(
        &with("a1.sources.r1.selector.typ = multiplexing\n"),
        &["E11 a1.sources.r1.selector.typ: unknown key"],
    );
    one(
        &with("a1.sources.r1.interceptors = i1\n"),
        &["E11 a1.sources.r1.interceptors.i1.type: the interceptor has no `type`"],
    );
    one(
        &with("a1.sources.r1.interceptors.i1.type = timestamp\n"),
        &["E11 a1.sources.r1.interceptors.i1: the interceptor `i1` has keys but is not in"],
    );
    one(
        &with("a1.sources.r1.backoffSleepIncrement = soon\n"),
        &["E11 a1.sources.r1.backoffSleepIncrement: not a number of milliseconds"],
    );
}

#[test]
fn sink_groups() {
    let two = format!("{GOOD}a1.sinks.k2.type = logger\na1.sinks.k2.channel = c1\n")
        .replace("= k1\n", "= k1 k2\n");
    let group = |more: &str| lines(&check(&format!("{two}{more}")));
    one(
        &group("a1.sinkgroups = g\na1.sinkgroups.g.sinks = k1\n"),
        &["N14 a1.sinkgroups.g.processor.type: no `processor.type`: `default` is taken"],
    );
    one(
        &group("a1.sinkgroups = g\na1.sinkgroups.g.processor.type = default\n"),
        &["the sink group has no `sinks`"],
    );
    let both = "a1.sinkgroups = g h\na1.sinkgroups.g.sinks = k1 k2\na1.sinkgroups.g.processor.type = failover\n\
        a1.sinkgroups.h.sinks = k2\na1.sinkgroups.h.processor.type = default\n";
    one(
        &group(both),
        &["E16 a1.sinkgroups.h.sinks: the sink `k2` is in the group `g` already"],
    );
    one(
        &group(
            "a1.sinkgroups = g\na1.sinkgroups.g.sinks = k1 k3\na1.sinkgroups.g.processor.type = failover\n",
        ),
        &["E14", "there is no sink `k3`"],
    );
    one(
        &group(
            "a1.sinkgroups = g\na1.sinkgroups.g.sinks = k1\na1.sinkgroups.g.procesor.type = failover\na1.sinkgroups.g.processor.type=failover\n",
        ),
        &["E15 a1.sinkgroups.g.procesor.type: unknown key [did you mean `processor.type`?]"],
    );
}

#[test]
fn comments_behind_values() {
    one(
        &replaced("port = 1", "port = 1 # the port"),
        &["E6", "put `# the port` on a line of its own"],
    );
    one(
        &replaced("port = 1", "port = 1 // the port"),
        &["E6", "put `// the port`"],
    );
    one(
        &replaced("bind = h", "bind = h # all"),
        &["W5 a1.sources.r1.bind: the text behind `#` is part of the value"],
    );
}

#[test]
fn other_agents_only_warn() {
    let text = format!(
        "{GOOD}{}",
        GOOD.replace("a1.", "a2.").replace("port = 1", "port = x")
    );
    let outcome = check_with("f", &text, &LoadOptions::empty(), Some("a1"));
    one(&lines(&outcome), &["W16 a2.sources.r1.port"]);
    assert!(!outcome.has_errors() && outcome.agents.len() == 1);
    assert!(check_with("f", &text, &LoadOptions::empty(), None).has_errors());
    let outcome = check_with("f", GOOD, &LoadOptions::empty(), Some("al"));
    one(
        &lines(&outcome),
        &["E0 al: there is no agent `al`", "did you mean `-n a1`?"],
    );
}

#[test]
fn lenient_drops_as_flume_does() {
    let text = format!(
        "{GOOD}a1.sources.r1.unknown = 1\na1.sources.r1.ack-every-event = yes\n\
         a1.sources = r1 r2 r3\na1.sources.r2.type = netcat\na1.sources.r2.channels = c1\n\
         a1.sources.r3.type = exec\na1.sources.r3.command = x\na1.sources.r3.channels = c1 cx\n\
         a1.channels = c1 c2\na1.channels.c2.type = nosuch\na1.sinks = k1 k2\na1.sinks.k2.type = logger\na1.sinks.k2.channel = c2\n"
    );
    let outcome = lenient(&text);
    assert!(!outcome.has_errors(), "{:#?}", lines(&outcome));
    assert!(outcome.count(Severity::Warning) >= 6);
    let agent = outcome.agent("a1").expect("survives");
    let names = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(
        names(agent.sources.iter().map(|source| &source.name).collect()),
        "r1 r3"
    );
    assert_eq!(
        agent.sources[0].section.get("ack-every-event"),
        Some("false")
    );
    assert_eq!(agent.sources[1].channels.len(), 1);
    assert_eq!(
        names(agent.channels.iter().map(|channel| &channel.name).collect()),
        "c1"
    );
    assert_eq!(
        names(agent.sinks.iter().map(|sink| &sink.name).collect()),
        "k1"
    );
    let outcome = lenient(&GOOD.replace("= memory", "= nosuch"));
    assert!(
        outcome.has_errors() && outcome.agents.is_empty(),
        "{:#?}",
        lines(&outcome)
    );
}

#[test]
fn yaml_gives_the_same_agent() {
    let text = "a1:\n  sources:\n    r1: {type: netcat, bind: h, port: 1, channels: [c1, c2]}\n\
        \x20 channels:\n    c1: {type: memory}\n    c2:\n      type: file\n      dataDirs: [/a b, /c]\n\
        \x20 sinks:\n    k1: {type: logger, channel: c1}\n    k2: {type: logger, channel: c3}\n";
    let input = Input {
        name: "flume.yaml".to_owned(),
        bytes: text.as_bytes().to_vec(),
    };
    let outcome = check_inputs(vec![input], &LoadOptions::empty(), &registry(), None);
    let found = lines(&outcome);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(
        found[0].contains("W7 a1.channels.c2: no sink takes"),
        "{found:#?}"
    );
    assert!(
        found[1].contains("E11 a1.sinks.k2.channel: there is no channel `c3`"),
        "{found:#?}"
    );
    let agent = outcome.agent("a1").expect("there");
    assert_eq!(agent.channels[1].section.get("dataDirs"), Some("/a b,/c"));
    assert_eq!(agent.sources[0].channels.len(), 2);
}

#[test]
fn filters_feed_the_checks() {
    let text = format!("{GOOD}a1.configfilters = f\na1.configfilters.f.type = env\n")
        .replace("port = 1", "port = ${f['PORT']}");
    let mut options = LoadOptions::empty();
    options
        .environment
        .insert("PORT".to_owned(), "12".to_owned());
    let outcome = check_with("f", &text, &options, None);
    assert_eq!(lines(&outcome), [""; 0]);
    assert_eq!(outcome.agents[0].sources[0].section.get("port"), Some("12"));
    options
        .environment
        .insert("PORT".to_owned(), "hunter2".to_owned());
    assert!(!format!("{:?}", check_with("f", &text, &options, None).problems).contains("hunter2"));
    let found = lines(&check(&text.replace("type = env", "typ = env")));
    assert!(
        found[1].contains("the config filter has no `type`"),
        "{found:#?}"
    );
}
