//! The cycles: start, kill at a random moment, start again; at the end everything is read back and compared.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flafka_tests::faults::Account;
use flafka_tests::kafka_client;
use flafka_tests::process::Process;
use flafka_tests::runner::say;
use flafka_tests::running_agent::{Environment, LIMIT, RunningAgent};
use flafka_tests::{flafka, ports};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::conf;
use crate::load::{Load, Sent};
use crate::tally::{Kills, Tally};

/// How long nothing new may come out while something is missing.
const PATIENCE: Duration = Duration::from_secs(45);
/// The same when all that has come in is out and nothing is written to files.
const POSTS_SETTLED: Duration = Duration::from_secs(3);
/// The same when all that has come in is out.
const SETTLED: Duration = Duration::from_secs(15);

/// Runs cycles under `seed`, with the channel and the log in a mode of durability: what is acknowledged survives the
/// death of the process in every mode.
pub(crate) fn run(case: &str, durability: &'static str, quick: u64, seed: u64) -> Result<()> {
    let mut account = Account::open("F1", &format!("crash::{case}"), "kills", quick, seed)?;
    let folder = tempfile::tempdir().context("make a folder")?;
    let started = Instant::now();
    let stage = Stage::new(folder.path(), durability, seed);
    match stage.and_then(|mut stage| stage.run(&mut account)) {
        Ok(report) => {
            let seconds = started.elapsed().as_secs_f64();
            say(&format!(
                "crash: {} cycles, {durability}, in {seconds:.0} s\n  {report}",
                account.cycles()
            ));
            account.note(format!("durability {durability}"));
            account.passed();
            Ok(())
        }
        Err(error) => {
            let kept = folder.keep();
            Err(error.context(format!(
                "seed {seed}; everything is kept in {}",
                kept.display()
            )))
        }
    }
}

/// Folder, ports and processes.
struct Stage<'a> {
    folder: &'a Path,
    seed: u64,
    rng: StdRng,
    durability: &'static str,
    http: u16,
    kafka: u16,
    log: Process,
    kills: Kills,
    starts: Vec<Duration>,
}

impl<'a> Stage<'a> {
    fn new(folder: &'a Path, durability: &'static str, seed: u64) -> Result<Self> {
        let (http, kafka) = (ports::free_port()?, ports::free_port()?);
        fs::create_dir(folder.join("logs")).context("make the folder of the logs")?;
        let bootstrap = format!("127.0.0.1:{kafka}");
        let text = conf::text_with(folder, http, &bootstrap, true, durability, 524_288_000);
        fs::write(folder.join("flume.conf"), text).context("write the configuration")?;
        let mut log = start_log_with(folder, kafka, durability, &[])?;
        log.until("the embedded log answers", LIMIT, || {
            Ok(kafka_client::is_ready(&bootstrap)?.then_some(()))
        })?;
        kafka_client::create_topic(&bootstrap, conf::TOPIC, 1)?;
        Ok(Self {
            folder,
            seed,
            rng: StdRng::seed_from_u64(seed),
            durability,
            http,
            kafka,
            log,
            kills: Kills::default(),
            starts: Vec::new(),
        })
    }

    fn run(&mut self, account: &mut Account) -> Result<String> {
        let load = Load::start(self.seed, &self.folder.join("logs"), self.http);
        while account.goes_on() {
            account.cycle();
            self.cycle()
                .with_context(|| format!("cycle {}", account.cycles()))?;
        }
        let under_fire = self.records_in_topic()?;
        let mut agent = self.start_agent()?;
        agent.until_ready()?;
        let sent = load.finish()?;
        account.add("acknowledged", sent.acknowledged());
        let (tally, evidence) = read_back(&self.bootstrap(), self.seed, &agent, &sent)?;
        account.add("lost", tally.missing(&sent).len() as u64);
        account.add("duplicates", tally.repeats(false) + tally.repeats(true));
        account.add("duplicates_bound", tally.repeats_bound(self.kills));
        self.starts.iter().for_each(|took| account.restart(*took));
        let verdict = tally.verdict(&sent, self.kills).context(evidence)?;
        agent.stop().context("stop the agent in order")?;
        let status = self.log.terminate(LIMIT)?;
        ensure!(status.success(), "the log ended with {status}");
        self.starts.sort();
        let middle = self.starts.get(self.starts.len() / 2).copied();
        let longest = self.starts.last().copied();
        Ok(format!(
            "{verdict}\n  {under_fire} records came out during the cycles; restart to ready: median {:.2} s, longest {:.2} s",
            middle.unwrap_or_default().as_secs_f64(),
            longest.unwrap_or_default().as_secs_f64()
        ))
    }

    /// Starts the agent and kills it; in one cycle of three the log is killed too, before or after or meanwhile.
    fn cycle(&mut self) -> Result<()> {
        let started = Instant::now();
        let mut agent = self.start_agent()?;
        // Two cycles of five end while the agent is still starting and recovering.
        let early = self.rng.random_bool(0.4);
        if early {
            self.kills.agent_at_start += 1;
        } else {
            agent.until_ready()?;
            self.starts.push(started.elapsed());
        }
        let within = if early { 200 } else { 1500 };
        let kill_agent = self.rng.random_range(0..within);
        let mut acts = vec![(kill_agent, Act::KillAgent)];
        if self.rng.random_bool(0.34) {
            let kill_log = self.rng.random_range(0..within);
            let down = self.rng.random_range(0..500);
            acts.push((kill_log, Act::KillLog));
            acts.push((kill_log + down, Act::StartLog));
        }
        acts.sort_by_key(|(at, _)| *at);
        let begun = Instant::now();
        for (at, act) in acts {
            thread::sleep(Duration::from_millis(at).saturating_sub(begun.elapsed()));
            match act {
                Act::KillAgent => {
                    self.kills.agent += 1;
                    kill(&mut agent.process)?;
                }
                Act::KillLog => {
                    self.kills.log += 1;
                    kill(&mut self.log)?;
                }
                Act::StartLog => {
                    self.log = start_log_with(self.folder, self.kafka, self.durability, &[])?;
                }
            }
        }
        Ok(())
    }

    fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.kafka)
    }

    /// Records in the topic, as soon as the log answers.
    fn records_in_topic(&mut self) -> Result<u64> {
        let bootstrap = self.bootstrap();
        self.log.until("the embedded log answers", LIMIT, || {
            Ok(kafka_client::is_ready(&bootstrap)?.then_some(()))
        })?;
        let consumer: BaseConsumer = kafka_client::config(&bootstrap).create()?;
        end_of_topic(&consumer)
    }

    fn start_agent(&self) -> Result<RunningAgent> {
        let conf = self.folder.join("flume.conf");
        let output = self.folder.join("agent.output");
        let arguments = ["agent", "-n", "a1", "--no-reload-conf"];
        RunningAgent::start(&arguments, &conf, &[], &output)
    }
}

enum Act {
    KillAgent,
    KillLog,
    StartLog,
}

/// Kills a process that must not have ended by itself.
fn kill(process: &mut Process) -> Result<()> {
    if let Some(status) = process.ended()? {
        anyhow::bail!("it ended by itself with {status}\n{}", process.evidence());
    }
    process.kill()
}

/// Reads the topic until nothing is missing and nothing is left in the channel, or nothing new comes for long: then the
/// tally is incomplete, and the text says what stands still.
pub(crate) fn read_back(
    bootstrap: &str,
    seed: u64,
    agent: &RunningAgent,
    sent: &Sent,
) -> Result<(Tally, String)> {
    let mut config = kafka_client::config(bootstrap);
    config
        .set("group.id", "reader")
        .set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create().context("create a consumer")?;
    kafka_client::assign_all(&consumer, conf::TOPIC)?;
    let mut tally = Tally::new(seed);
    let mut last_new = Instant::now();
    let mut last_error = None;
    loop {
        match consumer.poll(Duration::from_millis(300)) {
            Some(Ok(message)) => {
                tally.record(message.payload().unwrap_or_default());
                last_new = Instant::now();
                continue;
            }
            // The client reports a connection that it makes again; patience decides, not this.
            Some(Err(error)) => last_error = Some(error),
            None => {}
        }
        let missing = tally.missing(sent).len();
        let waiting = agent.metric("CHANNEL.c1", "ChannelSize")?;
        let end = end_of_topic(&consumer)?;
        let drained = waiting == 0 && tally.records() >= end;
        // What was written to files takes its time from there into the channel; posts are in it or lost.
        let patience = match (drained, sent.lines.is_empty()) {
            (true, true) => POSTS_SETTLED,
            (true, false) => SETTLED,
            (false, _) => PATIENCE,
        };
        if (missing == 0 && drained) || last_new.elapsed() > patience {
            let evidence = format!(
                "{missing} are missing, {waiting} events stay in the channel, {end} are in the topic, the reader's last error is \
                 {last_error:?}\n{}",
                agent.process.evidence()
            );
            return Ok((tally, evidence));
        }
    }
}

/// Records in the topic.
fn end_of_topic(consumer: &BaseConsumer) -> Result<u64> {
    let (low, high) = consumer
        .fetch_watermarks(conf::TOPIC, 0, kafka_client::CALL_LIMIT)
        .context("fetch watermarks")?;
    u64::try_from(high - low).context("a topic of negative size")
}

/// Starts the embedded log on `folder/log`.
pub(crate) fn start_log(folder: &Path, port: u16) -> Result<Process> {
    start_log_with(folder, port, "fsync", &[])
}

/// [`start_log`] in a mode of durability and with an environment.
pub(crate) fn start_log_with(
    folder: &Path,
    port: u16,
    durability: &str,
    environment: &Environment<'_>,
) -> Result<Process> {
    start_log_in(folder, &folder.join("log"), port, durability, environment)
}

/// [`start_log_with`] with its data in a folder of its own.
pub(crate) fn start_log_in(
    folder: &Path,
    data: &Path,
    port: u16,
    durability: &str,
    environment: &Environment<'_>,
) -> Result<Process> {
    let mut command = flafka::command(&["broker"])?;
    for setting in [
        format!("listeners=PLAINTEXT://127.0.0.1:{port}"),
        format!("log.dirs={}", data.display()),
        format!("flafka.durability={durability}"),
    ] {
        command.arg("--override").arg(setting);
    }
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    Process::start("flafka broker", command, &folder.join("log.output"))
}
