//! Clocks that jump (F14): agent and embedded log run under libfaketime, whose clock is set forwards and backwards by an
//! hour and a day, to 1970 and 2038, and stopped, under load.
//!
//! Only the wall clock jumps, as on a real machine. Nothing is lost, nothing comes out of order, and a process that has
//! nothing to do uses next to no processor time at any of these times: a timer that took the wall clock for its own
//! would spin. The agent under the clock has sources and channel but no Kafka sink, because librdkafka waits with calls
//! that libfaketime does not see, and then for an hour; another agent drains the channel into the log meanwhile.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use flafka_tests::faults::Account;
use flafka_tests::runner::not_run;
use flafka_tests::running_agent::{LIMIT, RunningAgent};
use flafka_tests::{kafka_client, poll, ports};

use rdkafka::admin::{NewTopic, TopicReplication};

use crate::conf;
use crate::cycles::{read_back, start_log_with};
use crate::load::{Load, Threads};

/// What libfaketime is told, in turn.
const CLOCKS: [&str; 8] = [
    "+1h",
    "-1h",
    "+1d",
    "-1d",
    "@1970-01-02 00:00:00",
    "@2038-01-20 00:00:00",
    "2020-02-29 23:59:59",
    "+0",
];
/// Processor time that an idle process may use in a second; one that spins uses all of it.
const IDLE_SHARE: f64 = 0.5;

fn library() -> Result<PathBuf> {
    let known = [
        "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
        "/usr/lib64/faketime/libfaketimeMT.so.1",
    ];
    let mut found = known.iter().map(PathBuf::from);
    found
        .find(|path| path.is_file())
        .ok_or_else(|| not_run("libfaketime is not installed"))
}

/// Every clock, so many times.
pub(crate) fn run(quick: u64, seed: u64) -> Result<()> {
    let library = library()?;
    let case = "crash::clock_jumps_lose_nothing";
    let mut account = Account::open(
        "F14",
        case,
        "clock jumps",
        quick * CLOCKS.len() as u64,
        seed,
    )?;
    let folder = tempfile::tempdir().context("make a folder")?;
    let (http, kafka) = (ports::free_port()?, ports::free_port()?);
    let bootstrap = format!("127.0.0.1:{kafka}");
    let clock = folder.path().join("clock");
    set(&clock, "+0")?;
    let environment = [
        ("LD_PRELOAD", library.display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    let mut log = start_log_with(folder.path(), kafka, "fsync", &environment)?;
    log.until("the embedded log answers", LIMIT, || {
        Ok(kafka_client::is_ready(&bootstrap)?.then_some(()))
    })?;
    // Time-based retention is meant to follow the wall clock; here nothing may go.
    // A record that seems to come from the future would be refused, as by Kafka, and its batch sent again.
    let topic = NewTopic::new(conf::TOPIC, 1, TopicReplication::Fixed(1))
        .set("retention.ms", "-1")
        .set("message.timestamp.after.max.ms", "9223372036854775807");
    kafka_client::create_topic_with(&bootstrap, topic)?;
    fs::create_dir(folder.path().join("logs")).context("make a folder")?;
    let path = folder.path().join("flume.conf");
    let output = folder.path().join("agent.output");
    let configure = |sink| {
        let text = conf::text_with(folder.path(), http, &bootstrap, sink, "fsync", 1 << 20);
        fs::write(&path, text).context("write the configuration")
    };
    configure(false)?;
    let mut agent = RunningAgent::ready("a1", &path, &environment, &output)?;

    let threads = Threads {
        writers: 1,
        posters: 2,
    };
    let load = Load::with(threads, seed, &folder.path().join("logs"), http);
    let mut clocks = CLOCKS.iter().cycle();
    while account.goes_on() {
        account.cycle();
        let next = clocks.next().copied().unwrap_or("+0");
        set(&clock, next)?;
        let before = load.progress.acknowledged.load(Ordering::Relaxed);
        poll::until_true("posts are acknowledged", LIMIT, || {
            Ok(load.progress.acknowledged.load(Ordering::Relaxed) > before + 50)
        })
        .with_context(|| format!("the clock is {next}\n{}", agent.process.evidence()))?;
        ensure!(
            agent.process.ended()?.is_none() && log.ended()?.is_none(),
            "a process ended when the clock was set to {next}"
        );
    }
    let sent = load.finish()?;
    for clock_now in CLOCKS {
        set(&clock, clock_now)?;
        expect_idle("agent", agent.process.pid(), clock_now)?;
    }
    agent.stop()?;

    configure(true)?;
    let agent = RunningAgent::ready("a1", &path, &[], &output)?;
    let jumping = Jumping::start(clock.clone());
    let (tally, evidence) = read_back(&bootstrap, seed, &agent, &sent)?;
    jumping.stop()?;
    let lost = tally.missing(&sent).len();
    let repeats = tally.repeats(true) + tally.repeats(false);
    account.add("acknowledged", sent.acknowledged());
    account.add("lost", lost as u64);
    account.add("duplicates", repeats);
    account.add("duplicates_bound", 0);
    tally.sound(&sent)?;
    ensure!(lost == 0, "{lost} events are lost\n{evidence}");
    // Nobody is killed, and the posters send nothing twice.
    ensure!(
        repeats == 0,
        "{repeats} events came out more than once\n{evidence}"
    );
    agent.stop()?;
    for clock_now in CLOCKS {
        set(&clock, clock_now)?;
        expect_idle("log", log.pid(), clock_now)?;
    }
    let status = log.terminate(LIMIT)?;
    ensure!(status.success(), "the log ended with {status}");
    account.passed();
    Ok(())
}

/// A thread that lets the clock jump.
struct Jumping {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Jumping {
    fn start(clock: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            for next in CLOCKS.iter().cycle() {
                if asked.load(Ordering::Relaxed) {
                    break;
                }
                set(&clock, next)?;
                thread::sleep(Duration::from_millis(100));
            }
            Ok(())
        });
        Self { stop, thread }
    }

    fn stop(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join();
        ended.map_err(|_| anyhow!("the thread of the clock panicked"))?
    }
}

fn expect_idle(name: &str, pid: u32, clock_now: &str) -> Result<()> {
    let share = idle_share(pid)?;
    ensure!(
        share < IDLE_SHARE,
        "the idle {name} uses {:.0} % of a processor with the clock at {clock_now}",
        share * 100.0
    );
    Ok(())
}

/// Replaces the file in one step: the library reads it with each call.
fn set(clock: &Path, text: &str) -> Result<()> {
    let next = clock.with_extension("next");
    fs::write(&next, format!("{text}\n")).context("write the clock")?;
    fs::rename(&next, clock).context("set the clock")
}

/// Share of a processor that a process uses within half a second, the least of three tries.
fn idle_share(pid: u32) -> Result<f64> {
    let mut least = f64::MAX;
    for _ in 0..3 {
        let before = ticks(pid)?;
        thread::sleep(Duration::from_millis(500));
        least = least.min((ticks(pid)? - before) as f64 / 50.0);
    }
    Ok(least)
}

/// Processor time in hundredths of a second.
fn ticks(pid: u32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).context("read /proc")?;
    let fields = text.rsplit_once(')').map(|(_, fields)| fields);
    let mut numbers = fields
        .context("no fields")?
        .split_whitespace()
        .skip(11)
        .map(str::parse::<u64>);
    let (user, system) = (
        numbers.next().context("no user time")??,
        numbers.next().context("no system time")??,
    );
    Ok(user + system)
}
