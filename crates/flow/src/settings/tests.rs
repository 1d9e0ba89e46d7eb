//! Tests of declaring and reading settings.

use std::path::PathBuf;

use super::*;

crate::choice! {
    /// How.
    enum Mode { Fast = "fast", Safe = "safe" | "secure" }
}

crate::settings! {
    /// A component for tests.
    struct TestConfig {
        /// Listen port.
        "port" => port: Port,
        /// Mode.
        "mode" => mode: Mode = Mode::Safe,
        /// Size.
        "batchSize" | "batch-size" => batch_size: Count = Count(100),
        /// Lenient.
        "capacity" => capacity: LenientCount = LenientCount(100),
        /// Password.
        "password" => password: Option<Secret>,
        /// Where.
        "dir" => dir: Option<PathBuf>,
        /// Client keys.
        "kafka.*" => kafka: Prefixed,
    }
    moot { "threads": "one a core" }
    check(|config: &TestConfig, reader: &mut Reader<'_>| {
        if config.port.0 == 1 {
            reader.error("port", "port 1 is taken", None);
        }
    })
}

fn read(pairs: &[(&str, &str)]) -> (Option<TestConfig>, Report) {
    let mut report = Report::new();
    let section = Section::of("a1.sources.r1", pairs.iter().copied());
    let config = TestConfig::from_section(&section, &mut report);
    (config, report)
}

#[test]
fn defaults_aliases_and_prefixes() {
    let (config, report) = read(&[
        ("port", "80"),
        ("batch-size", "7"),
        ("kafka.a.b", "c"),
        ("capacity", "-1"),
    ]);
    let config = config.expect("valid");
    assert_eq!(
        (config.batch_size.0, config.mode, config.capacity.0),
        (7, Mode::Safe, 100)
    );
    assert_eq!(config.kafka.get("a.b"), Some("c"));
    assert!(config.password.is_none() && config.dir.is_none());
    let severities: Vec<_> = report
        .problems()
        .iter()
        .map(|problem| problem.severity)
        .collect();
    assert_eq!(severities, [Severity::Note, Severity::Warning]);
}

#[test]
fn every_mistake_is_reported_with_help() {
    let (config, report) = read(&[
        ("mode", "saef"),
        ("batchSize", "0"),
        ("batchsiz", "9"),
        ("threads", "1"),
        ("prt", "1"),
    ]);
    assert!(config.is_none());
    let text: Vec<_> = report
        .problems()
        .iter()
        .map(|problem| format!("{} {} {:?}", problem.key, problem.message, problem.help))
        .collect();
    assert_eq!(text.len(), 6, "{text:#?}");
    assert!(
        text[0].contains("a1.sources.r1.port required") && text[0].contains("`prt` is set"),
        "{text:#?}"
    );
    assert!(text[1].contains("did you mean `safe`"), "{text:#?}");
    assert!(
        text.iter().any(|line| line.contains("batchsiz unknown key")
            && line.contains("did you mean `batchSize`"))
    );
}

#[test]
fn parts_are_read_below_their_prefix() {
    let section = Section::of("a1.sinks.k1", [("part.port", "1234"), ("part.prot", "1")]);
    let mut report = Report::new();
    let mut reader = Reader::new(&section, &mut report);
    let part: Option<TestConfig> = reader.below("part.");
    assert_eq!(part.expect("valid").port, Port(1234));
    reader.finish(&[]);
    let keys: Vec<_> = report
        .problems()
        .iter()
        .map(|problem| &problem.key)
        .collect();
    assert_eq!(keys, ["a1.sinks.k1.part.prot"], "{report:?}");
}

#[test]
fn cross_checks_fail_the_read_and_secrets_stay_hidden() {
    let (config, report) = read(&[("port", "1"), ("password", "hunter2")]);
    assert!(config.is_none());
    assert!(report.has_errors() && !format!("{report:?}").contains("hunter2"));
    assert!(!format!("{:?}", Secret::new("hunter2")).contains("hunter2"));
}

#[test]
fn fields_describe_themselves() {
    let fields = TestConfig::fields();
    let shown: Vec<_> = fields
        .iter()
        .map(|field| (field.key, field.default.clone()))
        .collect();
    assert_eq!(shown[0], ("port", Absent::Required));
    assert_eq!(shown[1], ("mode", Absent::Value("safe".to_owned())));
    assert_eq!(shown[4], ("password", Absent::None));
    assert_eq!(fields[1].kind, "`fast`, `safe`, `secure`");
    assert_eq!(
        fields.last().and_then(|field| field.note),
        Some("one a core")
    );
}
