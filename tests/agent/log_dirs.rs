//! `log.dirs` with several directories: records in all of them, any order at a restart, one that is away.

use std::fs;

use anyhow::{Context, Result, ensure};
use flafka_tests::poll;
use flafka_tests::running_agent::{LIMIT, RunningAgent};

use crate::place::{Place, flafka, flafka_with_input, netcat_logger, port};

const PARTITIONS: usize = 4;

struct Stage {
    place: Place,
    kafka: u16,
}

impl Stage {
    fn new() -> Result<Self> {
        let (place, kafka) = (Place::new()?, port()?);
        place.file("flume.conf", &netcat_logger(port()?, "r1"))?;
        Ok(Self { place, kafka })
    }

    fn dirs(&self, dirs: &[&str]) -> String {
        let paths = dirs
            .iter()
            .map(|dir| self.place.path(dir).display().to_string());
        format!("log.dirs={}", paths.collect::<Vec<_>>().join(","))
    }

    fn up(&self, dirs: &[&str]) -> Result<RunningAgent> {
        let listeners = format!("listeners=PLAINTEXT://127.0.0.1:{}", self.kafka);
        let dirs = self.dirs(dirs);
        let arguments = ["up", "--override", &listeners, "--override", &dirs];
        let conf = self.place.path("flume.conf");
        let mut up = RunningAgent::start(&arguments, &conf, &[], &self.place.path("output"))?;
        up.until_ready()?;
        Ok(up)
    }

    /// Runs a client command; the name of the topic comes last.
    fn client(&self, arguments: &[&str], input: &str) -> Result<String> {
        let bootstrap = format!("127.0.0.1:{}", self.kafka);
        let all = [&arguments[..1], &["-b", &bootstrap], &arguments[1..]].concat();
        let done = flafka_with_input(&all, input.as_bytes())?;
        Ok(done.success(&arguments.join(" "))?.stdout)
    }

    fn values(&self) -> Result<Vec<String>> {
        let read = self.client(&["consume", "-e", "orders"], "")?;
        let mut values: Vec<String> = read.lines().map(str::to_owned).collect();
        values.sort();
        Ok(values)
    }
}

fn warnings(up: &RunningAgent) -> Result<String> {
    let (code, health) = up.json("/health")?;
    ensure!(code == 200, "{health}");
    Ok(health["components"]["broker"]["warnings"].to_string())
}

#[test]
fn partitions_are_in_all_directories_and_one_that_is_away_stops_no_other() -> Result<()> {
    let stage = Stage::new()?;
    let up = stage.up(&["one", "two"])?;
    let partitions = PARTITIONS.to_string();
    stage.client(&["topic", "create", "orders", "-p", &partitions], "")?;
    let lines: String = (0..200).map(|n| format!("k{n}\tv{n:03}\n")).collect();
    stage.client(&["produce", "-K", "\t", "orders"], &lines)?;
    let all: Vec<String> = (0..200).map(|n| format!("v{n:03}")).collect();
    ensure!(stage.values()? == all);
    ensure!(warnings(&up)? == "null", "{}", warnings(&up)?);
    up.stop()?;
    for dir in ["one", "two"] {
        let path = stage.place.path(dir);
        let listed = flafka(&["log", "ls", path.to_str().context("a path")?])?;
        let listed = listed.success("log ls")?.stdout;
        let streams = listed.matches("topic/orders/").count();
        ensure!(streams == PARTITIONS / 2, "{dir}: {listed}");
    }

    // Something else is where the second directory was.
    let (two, away) = (stage.place.path("two"), stage.place.path("away"));
    fs::rename(&two, &away).context("take a directory away")?;
    fs::write(&two, "").context("put a file in its place")?;
    let up = stage.up(&["one", "two"])?;
    let said = warnings(&up)?;
    ensure!(
        said.contains("/two is offline") && said.contains("KAFKA_STORAGE_ERROR"),
        "{said}"
    );
    let metrics = up.get("/metrics/prometheus")?;
    let metrics = String::from_utf8(metrics.body).context("metrics are text")?;
    ensure!(
        metrics.contains("flafka_log_offline_directories 1"),
        "{metrics}"
    );
    stage.client(&["topic", "create", "others", "-p", "2"], "")?;
    stage.client(&["produce", "others"], "a\nb\n")?;
    let read = stage.client(&["consume", "-e", "others"], "")?;
    ensure!(read.lines().count() == 2, "{read}");
    up.stop()?;

    fs::remove_file(&two).context("remove the file")?;
    fs::rename(&away, &two).context("put the directory back")?;
    let up = stage.up(&["two", "one"])?;
    ensure!(stage.values()? == all);
    poll::until_true("nothing is offline", LIMIT, || Ok(warnings(&up)? == "null"))?;
    up.stop()
}

#[test]
fn lists_that_cannot_work_are_refused_with_the_reason() -> Result<()> {
    let stage = Stage::new()?;
    for (dirs, reason) in [
        (["one", "one"], "are one directory"),
        (["one", "one/two"], "lies in"),
    ] {
        let refused = flafka(&["broker", "--override", &stage.dirs(&dirs)])?;
        ensure!(refused.status.code() == Some(2), "{}", refused.stderr);
        ensure!(refused.stderr.contains(reason), "{}", refused.stderr);
    }
    stage.up(&["one", "two"])?.stop()?;
    let listeners = format!("listeners=PLAINTEXT://127.0.0.1:{}", stage.kafka);
    let second = stage.dirs(&["two"]);
    let refused = flafka(&["broker", "--override", &listeners, "--override", &second])?;
    ensure!(refused.status.code() == Some(1), "{}", refused.stderr);
    ensure!(
        refused
            .stderr
            .contains("keeps its topics and committed offsets in"),
        "{}",
        refused.stderr
    );
    let explained = flafka(&["explain", "--override", &stage.dirs(&["one", "two"])])?;
    let explained = explained.success("explain")?.stdout;
    for words in ["/one", "/two", "all other partitions go on"] {
        ensure!(explained.contains(words), "{explained}");
    }
    Ok(())
}
