//! The report for people and for programs, on a file with twelve mistakes and on secrets.

mod support;

use flafka_config::LoadOptions;
use flafka_config::render::{self, Style};
use flafka_flow::settings::Severity;

use support::{check, check_with};

const TWELVE: &str = include_str!("fixtures/twelve_mistakes.conf");

/// Compares with a recorded text; `FLAFKA_BLESS=1` records it anew.
fn golden(name: &str, found: &str) {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("FLAFKA_BLESS").is_some() {
        std::fs::write(&path, found).expect("written");
    }
    let recorded = std::fs::read_to_string(&path).expect("recorded before");
    assert!(found == recorded, "{name} differs; found:\n{found}");
}

#[test]
fn twelve_mistakes_with_lines_and_suggestions() {
    let outcome = check_with("twelve_mistakes.conf", TWELVE, &LoadOptions::empty(), None);
    let found: Vec<(u32, &str)> = outcome
        .problems
        .iter()
        .map(|problem| {
            (
                problem.span.expect("has a place").line,
                problem.key.as_str(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            (5, "a1.sinks"),
            (10, "a1.sources.web.port"),
            (12, "a1.sources.web.max-line-lenght"),
            (14, "a1.sources.web.channels"),
            (16, "al"),
            (21, "a1.sources.tail.batchSize"),
            (28, "a1.channels.mem.transactionCapacity"),
            (31, "a1.channels.disk.type"),
            (35, "a1.sinks.log.channels"),
            (38, "a1.sinks.files.sink.directory"),
            (41, "a1.sinks.files.sink.rollInterval"),
            (43, "a1.sinks.fiels"),
        ]
    );
    for problem in &outcome.problems {
        assert!(
            problem.help.is_some() || problem.allowed.is_some(),
            "{problem:?}"
        );
    }
    assert_eq!(
        render::summary(&outcome),
        "12 problems (11 errors, 1 warning) in twelve_mistakes.conf"
    );
    golden(
        "twelve_mistakes.txt",
        &render::text(&outcome, Style::default()),
    );
    golden("twelve_mistakes.json", &render::json(&outcome));
}

#[test]
fn the_report_is_plain_unless_told_otherwise() {
    let outcome = check_with("twelve_mistakes.conf", TWELVE, &LoadOptions::empty(), None);
    let plain = render::text(
        &outcome,
        Style {
            color: false,
            ascii: true,
        },
    );
    assert!(plain.is_ascii(), "{plain}");
    let colored = render::text(
        &outcome,
        Style {
            color: true,
            ascii: false,
        },
    );
    assert!(colored.contains("\u{1b}["));
    let note =
        check("a1.sinkgroups = g\na1.sinkgroups.g.sinks = k\na1.sources.r.command = tail # all\n");
    assert!(note.count(Severity::Note) == 1, "{note:?}");
    let shown = render::text(&note, Style::default());
    assert!(
        shown.contains("Note: a1.sinkgroups.g.processor.type") && !shown.contains('\u{1b}'),
        "{shown}"
    );
    assert!(
        shown.contains("put `# all` on a line of its own"),
        "{shown}"
    );
}

#[test]
fn secrets_are_in_no_report() {
    let text = "a1.sources = r1\na1.channels = c1\na1.sinks = k1\n\
        a1.sources.r1.type = exec\na1.sources.r1.channels = c1\na1.sources.r1.command = x\n\
        a1.channels.c1.type = memory\na1.sinks.k1.type = kafka\na1.sinks.k1.channel = c1\n\
        a1.sinks.k1.kafka.bootstrap.servers = h:1\n\
        a1.sinks.k1.account = hunter1\na1.sinks.k1.account = hunter2\n\
        a1.sinks.k1.keystore-password = hunter3 # hunter4\n\
        a1.sinks.k1.kafka.producer.sasl.jaas.config = x ${hunter5} \\\n hunter6\n\
        a1.sinks.k1.kafka.producer.ssl.key.password = \\u12hunter7\n\
        a1.sinks.k1.kafka.producer.secret = h\u{fc}nter8 ${env:hunter9}\n";
    let outcome = check(text);
    assert!(outcome.problems.len() >= 5, "{outcome:?}");
    let shown = render::text(&outcome, Style::default());
    let json = render::json(&outcome);
    for report in [&shown, &json] {
        assert!(!report.contains("unter"), "{report}");
    }
    assert!(
        shown.contains("a1.sinks.k1.keystore-password = ******"),
        "{shown}"
    );
    assert!(outcome.is_secret("a1.sinks.k1.account"));
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let outcome = check("a1.so\u{1b}[31mrces = x\n\u{c}a1.x\\u0007 = \u{1b}]0;t\u{9b}\n");
    let shown = render::text(&outcome, Style::default());
    assert!(
        shown.chars().all(|c| c == '\n' || !c.is_control()),
        "{shown:?}"
    );
}

#[test]
fn values_after_lookups_are_named() {
    let text = "p = 1\na1.sources = r1\na1.channels = c1\na1.sources.r1.type = netcat\n\
        a1.sources.r1.bind = h\na1.sources.r1.port = ${sys:port}\na1.sources.r1.channels = c1\n\
        a1.channels.c1.type = memory\n";
    let mut options = LoadOptions::empty();
    options
        .definitions
        .insert("port".to_owned(), "none".to_owned());
    let outcome = check_with("flume.conf", text, &options, None);
    let shown = render::text(&outcome, Style::default());
    assert!(shown.contains("the value is `none`"), "{shown}");
}

#[test]
fn what_stands_in_no_file_is_reported_too() {
    let outcome = check_with("empty.conf", "", &LoadOptions::empty(), Some("a1"));
    let shown = render::text(&outcome, Style::default());
    assert!(
        shown.starts_with("Error: a1: there is no agent `a1`"),
        "{shown}"
    );
    assert!(
        shown.ends_with("2 problems (2 errors) in empty.conf\n"),
        "{shown}"
    );
    assert_eq!(render::summary(&Default::default()), "no problems");
}
