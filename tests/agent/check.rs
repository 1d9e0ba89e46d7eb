//! Mistakes in a configuration: all of them, with lines and suggestions, and exit code 2.

use anyhow::{Context, Result, ensure};
use flafka_tests::running_agent::RunningAgent;
use flafka_tests::{netcat, workspace};
use serde_json::Value;

use crate::place::{Place, flafka, netcat_logger, port};

/// Line, what is said there, and what helps: the suggestion, or what is allowed.
const TWELVE: [(u64, &str, &str); 12] = [
    (5, "`spare` has no properties", "a1.sinks.spare.type"),
    (10, "not a port", "a port from 0 to 65535"),
    (12, "unknown key", "max-line-length"),
    (14, "no channel `dsk`", "did you mean `disk`"),
    (16, "agent `al`", "did you mean `a1`"),
    (
        21,
        "transactionCapacity of 100",
        "a1.channels.mem.transactionCapacity = 1000",
    ),
    (28, "set twice, in lines 26 and 28", "remove one"),
    (31, "no such type of channel", "did you mean `memory`"),
    (35, "`channel` (singular)", "a1.sinks.log.channel = mem"),
    (
        38,
        "required key is missing",
        "a1.sinks.files.sink.directory",
    ),
    (
        41,
        "not a number of seconds",
        "a comment cannot stand behind a value",
    ),
    (43, "`fiels`", "did you mean `files`"),
];

fn twelve_mistakes() -> Result<String> {
    let path = workspace::root().join("tests/fixtures/twelve_mistakes.conf");
    path.to_str()
        .map(str::to_owned)
        .context("the checkout's path is not text")
}

#[test]
fn twelve_mistakes_are_listed_with_lines_and_suggestions() -> Result<()> {
    let file = twelve_mistakes()?;
    let text = flafka(&["check", &file])?;
    ensure!(text.status.code() == Some(2), "{}", text.status);
    for (line, says, helps) in TWELVE {
        let place = format!("twelve_mistakes.conf:{line}:");
        let block = text
            .stdout
            .split("\n\n")
            .find(|block| block.contains(&place));
        let block =
            block.with_context(|| format!("nothing about line {line}:\n{}", text.stdout))?;
        ensure!(
            block.contains(says) && block.contains(helps),
            "line {line}:\n{block}"
        );
    }
    ensure!(text.stdout.contains("12 problems"), "{}", text.stdout);

    let json = flafka(&["check", "--json", &file])?;
    ensure!(json.status.code() == Some(2), "{}", json.status);
    let value: Value = serde_json::from_str(&json.stdout).context("not JSON")?;
    let problems = value["problems"].as_array().context("no problems")?;
    let lines: Vec<u64> = problems
        .iter()
        .filter_map(|problem| problem["line"].as_u64())
        .collect();
    ensure!(lines == TWELVE.map(|(line, ..)| line), "{lines:?}");
    Ok(())
}

#[test]
fn nothing_starts_with_a_mistake() -> Result<()> {
    let file = twelve_mistakes()?;
    let ended = flafka(&["agent", "-n", "a1", "-f", &file])?;
    ensure!(ended.status.code() == Some(2), "{}", ended.status);
    ensure!(ended.stderr.contains("12 problems"), "{}", ended.stderr);
    ensure!(!ended.stderr.contains("agent starts"), "{}", ended.stderr);
    Ok(())
}

#[test]
fn lenient_drops_what_flume_would_drop_and_runs_the_rest() -> Result<()> {
    let place = Place::new()?;
    let port = port()?;
    let text = format!(
        "{}a1.sources.r1.max-line-lenght = 9\na1.sinks = k1 k2\na1.sinks.k2.type = memroy\na1.sinks.k2.channel = c1\n",
        netcat_logger(port, "r1")
    );
    let conf = place.file("flume.conf", &text)?;
    let path = conf.to_str().context("a path that is not text")?;
    let strict = flafka(&["check", path])?;
    ensure!(strict.status.code() == Some(2), "{}", strict.stdout);
    let lenient = flafka(&["check", "--flume-lenient", path])?;
    ensure!(lenient.status.success(), "{}", lenient.stdout);
    ensure!(
        lenient.stdout.contains("max-line-length"),
        "{}",
        lenient.stdout
    );
    let arguments = ["agent", "-n", "a1", "--flume-lenient"];
    let mut agent = RunningAgent::start(&arguments, &conf, &[], &place.path("output"))?;
    agent.until_ready()?;
    ensure!(netcat::send(port, &["through"])? == ["OK"]);
    agent.until_output("through")?;
    ensure!(agent.state("a1.sinks.k2").is_err(), "the bad sink runs");
    agent.stop()
}

#[test]
fn a_good_file_has_no_problems() -> Result<()> {
    let place = Place::new()?;
    let conf = place.file("flume.conf", &netcat_logger(port()?, "r1"))?;
    let checked = flafka(&["check", conf.to_str().context("a path that is not text")?])?;
    ensure!(
        checked.status.success() && checked.stdout.contains("no problems"),
        "{}",
        checked.stdout
    );
    Ok(())
}

/// Two channels of an agent that would write the same files, however the paths are spelt, or in each other's directories.
#[test]
fn channels_that_share_a_place_are_named() -> Result<()> {
    let file = |keys: &str| format!("file\n{keys}\n");
    let dirs = |of: &str, dirs: &str| format!("a1.channels.{of}.dataDirs = {dirs}");
    let jdbc = |of: &str| format!("jdbc\na1.channels.{of}.driver.url = jdbc:sqlite:/x/events.db\n");
    let plain = || file("");
    let cases = [
        (
            plain(),
            plain(),
            "that of the channel `one`; it is the default of dataDirs",
        ),
        (
            file(&dirs("one", "/x/data")),
            file(&dirs("two", "/y,/x/other/.././data/")),
            "the directory /x/data is that of the channel `one`",
        ),
        (
            file(&dirs("one", "/x")),
            file(&dirs("two", "/x/y")),
            "the directory /x/y lies in /x, that of the channel `one`",
        ),
        (
            file(&dirs("one", "/y,/x/a,/x/../x")),
            file(&dirs("two", "/z")),
            "in the directory /x lies /x/a, that of this channel too",
        ),
        (
            "SPILLABLEMEMORY\n".to_owned(),
            plain(),
            "file-channel/data is that of the channel `one`",
        ),
        (
            jdbc("one"),
            jdbc("two"),
            "the file /x/events.db is that of the channel `one`",
        ),
        (file(&dirs("one", "/x/a")), file(&dirs("two", "/x/ab")), ""),
        ("jdbc\n".to_owned(), "jdbc\n".to_owned(), ""),
    ];
    let place = Place::new()?;
    for (one, two, says) in cases {
        let text = format!(
            "a1.sources = s\na1.channels = one two\na1.sinks = k l\n\
             a1.sources.s.type = seq\na1.sources.s.channels = one two\n\
             a1.sinks.k.type = null\na1.sinks.k.channel = one\n\
             a1.sinks.l.type = null\na1.sinks.l.channel = two\n\
             a1.channels.one.type = {one}a1.channels.two.type = {two}"
        );
        let conf = place.file("flume.conf", &text)?;
        let checked = flafka(&["check", conf.to_str().context("not text")?])?;
        let is_good = checked.status.success();
        // One directory in another is a warning.
        let may_start = says.is_empty() || says.contains(" lies ");
        ensure!(is_good == may_start, "{text}\n{}", checked.stdout);
        ensure!(checked.stdout.contains(says), "{text}\n{}", checked.stdout);
    }
    Ok(())
}
