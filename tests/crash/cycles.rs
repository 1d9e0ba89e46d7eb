//! The cycles: start, kill at a random moment, start again; at the end everything is read back and compared.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flafka_tests::kafka_client;
use flafka_tests::process::Process;
use flafka_tests::runner::say;
use flafka_tests::running_agent::{LIMIT, RunningAgent};
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

/// Runs `cycles` cycles under `seed`.
pub(crate) fn run(cycles: u64, seed: u64) -> Result<()> {
    say(&format!(
        "crash: {cycles} cycles, seed {seed}; FLAFKA_SEED={seed} repeats this run"
    ));
    let folder = tempfile::tempdir().context("make a folder")?;
    let started = Instant::now();
    match Stage::new(folder.path(), seed).and_then(|mut stage| stage.run(cycles)) {
        Ok(report) => {
            let seconds = started.elapsed().as_secs_f64();
            say(&format!(
                "crash: {cycles} cycles in {seconds:.0} s\n  {report}"
            ));
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
    http: u16,
    kafka: u16,
    log: Process,
    kills: Kills,
    starts: Vec<Duration>,
}

impl<'a> Stage<'a> {
    fn new(folder: &'a Path, seed: u64) -> Result<Self> {
        let (http, kafka) = (ports::free_port()?, ports::free_port()?);
        fs::create_dir(folder.join("logs")).context("make the folder of the logs")?;
        let bootstrap = format!("127.0.0.1:{kafka}");
        let text = conf::text(folder, http, &bootstrap, true);
        fs::write(folder.join("flume.conf"), text).context("write the configuration")?;
        let mut log = start_log(folder, kafka)?;
        log.until("the embedded log answers", LIMIT, || {
            Ok(kafka_client::is_ready(&bootstrap)?.then_some(()))
        })?;
        kafka_client::create_topic(&bootstrap, conf::TOPIC, 1)?;
        Ok(Self {
            folder,
            seed,
            rng: StdRng::seed_from_u64(seed),
            http,
            kafka,
            log,
            kills: Kills::default(),
            starts: Vec::new(),
        })
    }

    fn run(&mut self, cycles: u64) -> Result<String> {
        let load = Load::start(self.seed, &self.folder.join("logs"), self.http);
        for cycle in 1..=cycles {
            self.cycle().with_context(|| format!("cycle {cycle}"))?;
        }
        let under_fire = self.records_in_topic()?;
        let mut agent = self.start_agent()?;
        agent.until_ready()?;
        let sent = load.finish()?;
        let tally = self.read_back(&agent, &sent)?;
        let verdict = tally.verdict(&sent, self.kills)?;
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
                Act::StartLog => self.log = start_log(self.folder, self.kafka)?,
            }
        }
        Ok(())
    }

    /// Records in the topic, as soon as the log answers.
    fn records_in_topic(&mut self) -> Result<u64> {
        let bootstrap = format!("127.0.0.1:{}", self.kafka);
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

    /// Reads the topic until nothing is missing and nothing is left in the channel.
    fn read_back(&self, agent: &RunningAgent, sent: &Sent) -> Result<Tally> {
        let bootstrap = format!("127.0.0.1:{}", self.kafka);
        let mut config = kafka_client::config(&bootstrap);
        config
            .set("group.id", "reader")
            .set("enable.auto.commit", "false");
        let consumer: BaseConsumer = config.create().context("create a consumer")?;
        kafka_client::assign_all(&consumer, conf::TOPIC)?;
        let mut tally = Tally::new(self.seed);
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
            if missing == 0 && waiting == 0 && tally.records() >= end {
                return Ok(tally);
            }
            if last_new.elapsed() > PATIENCE {
                let evidence = agent.process.evidence();
                return tally.verdict(sent, self.kills).map(|_| tally).with_context(|| {
                    format!(
                        "{waiting} events stay in the channel, {end} are in the topic, the reader's last error is \
                         {last_error:?}\n{evidence}"
                    )
                });
            }
        }
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

/// Records in the topic.
fn end_of_topic(consumer: &BaseConsumer) -> Result<u64> {
    let (low, high) = consumer
        .fetch_watermarks(conf::TOPIC, 0, kafka_client::CALL_LIMIT)
        .context("fetch watermarks")?;
    u64::try_from(high - low).context("a topic of negative size")
}

/// Starts the embedded log on `folder/log`.
pub(crate) fn start_log(folder: &Path, port: u16) -> Result<Process> {
    let mut command = flafka::command(&["broker", "--override"])?;
    command.arg(format!("listeners=PLAINTEXT://127.0.0.1:{port}"));
    command.arg("--override");
    command.arg(format!("log.dirs={}", folder.join("log").display()));
    Process::start("flafka broker", command, &folder.join("log.output"))
}
