//! Power cuts without a special block device (F3): the state lives on a file system in a file on XFS, and a reflink
//! clone of that file at a random moment is atomic and holds exactly what the inner file system had issued to its disk.
//!
//! One load meets several cuts; each clone is mounted, agent and log are started on it, and what comes out is compared
//! with what had been acknowledged before the clone began. It does not reorder writes inside a device's cache: that part
//! belongs to the simulated disk. In the weaker modes the end of the acknowledged posts may be lost: how far back is
//! reported, and for `interval` judged by a generous bound; what is left is a prefix in any mode.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flafka_tests::disks::{self, Kind, Mounted};
use flafka_tests::faults::Account;
use flafka_tests::process::Process;
use flafka_tests::running_agent::{LIMIT, RunningAgent};
use flafka_tests::{kafka_client, ports};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::conf;
use crate::cycles::{read_back, start_log};
use crate::load::{Load, Outcome, Sent, Threads};
use crate::tally::Tally;
use crate::text::{Identity, Way};

/// The file with the outer XFS, and the one in it. Both are sparse.
const OUTER_BYTES: u64 = 2 << 30;
const INNER_BYTES: u64 = 640 << 20;
/// What the run may really use of the machine's disk.
const NEEDED_BYTES: u64 = 3 << 30;
/// Cuts that one load meets.
const CUTS_OF_A_LOAD: u64 = 5;
/// A cut in mode `interval` may come while the sync of the last interval still runs on a slow, shared disk.
const INTERVAL_SLACK: Duration = Duration::from_secs(4);

/// What is cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene {
    pub(crate) case: &'static str,
    pub(crate) kind: Kind,
    /// The channel's.
    pub(crate) durability: &'static str,
    pub(crate) quick: u64,
}

impl Scene {
    /// In mode `fsync` the embedded log is on the disk too; otherwise the channel alone, so that a loss has one cause.
    fn whole(&self) -> bool {
        self.durability == "fsync"
    }

    fn interval(&self) -> Option<Duration> {
        let millis = self.durability.strip_prefix("interval:")?;
        millis.parse().ok().map(Duration::from_millis)
    }
}

/// Runs the cuts of a scene.
pub(crate) fn run(scene: Scene, seed: u64) -> Result<()> {
    disks::may_mount()?;
    disks::room_for(NEEDED_BYTES)?;
    Kind::Xfs.available()?;
    scene.kind.available()?;
    let name = format!("crash::{}", scene.case);
    let mut account = Account::open("F3", &name, "power cuts", scene.quick, seed)?;
    account.note(format!(
        "{}, durability {}",
        scene.kind.name(),
        scene.durability
    ));
    let folder = tempfile::tempdir().context("make a folder")?;
    let mut rng = StdRng::seed_from_u64(seed);
    let stage = Stage::new(folder.path(), scene, seed)?;
    let mut losses = Vec::new();
    while account.goes_on() {
        let cuts = stage.load_and_cut(&mut rng, &account)?;
        for (number, cut) in cuts.iter().enumerate() {
            account.cycle();
            let lost = stage
                .start_on(cut, &mut account)
                .with_context(|| format!("cut {} of this load, seed {seed}", number + 1))?;
            losses.push(lost);
            fs::remove_file(&cut.image).context("remove a clone")?;
        }
    }
    if !scene.whole() {
        losses.sort();
        let millis = |lost: Option<&Duration>| lost.map_or(0, Duration::as_millis);
        let (middle, most) = (losses.get(losses.len() / 2), losses.last());
        account.note(format!(
            "acknowledged so long before the cut and lost: median {} ms, at most {} ms",
            millis(middle),
            millis(most)
        ));
        if let (Some(interval), Some(middle)) = (scene.interval(), middle) {
            // One cut may meet a sync that a busy disk holds up; half of them do not.
            ensure!(
                losses.len() < 3 || *middle <= interval + INTERVAL_SLACK,
                "half of the cuts lost what had been acknowledged {} ms before, the interval is {} ms",
                middle.as_millis(),
                interval.as_millis()
            );
        }
    }
    account.passed();
    Ok(())
}

struct Stage {
    scene: Scene,
    seed: u64,
    folder: PathBuf,
    disk: PathBuf,
    outer: Mounted,
    http: u16,
    kafka: u16,
}

/// A clone, and what was known when its making began.
struct Cut {
    image: PathBuf,
    /// Of the load.
    seed: u64,
    sent: Sent,
    began: Instant,
}

impl Stage {
    fn new(folder: &Path, scene: Scene, seed: u64) -> Result<Self> {
        let (outer, disk) = (folder.join("outer"), folder.join("disk"));
        for path in [&outer, &disk] {
            fs::create_dir(path).context("make a mount point")?;
        }
        let image = folder.join("outer.image");
        Kind::Xfs.make(&image, OUTER_BYTES)?;
        let outer = Mounted::image(&image, &outer, Kind::Xfs)?;
        scene.kind.make(&outer.point().join("empty"), INNER_BYTES)?;
        Ok(Self {
            scene,
            seed,
            folder: folder.to_owned(),
            disk,
            outer,
            http: ports::free_port()?,
            kafka: ports::free_port()?,
        })
    }

    fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.kafka)
    }

    /// Loads an empty disk and clones it at random moments.
    fn load_and_cut(&self, rng: &mut StdRng, account: &Account) -> Result<Vec<Cut>> {
        let live = self.outer.point().join("live");
        disks::reflink(&self.outer.point().join("empty"), &live)?;
        let mounted = Mounted::image(&live, &self.disk, self.scene.kind)?;
        fs::create_dir(self.disk.join("logs")).context("make a folder")?;
        let log = if self.scene.whole() {
            Some(self.start_log(&self.disk)?)
        } else {
            None
        };
        let mut agent = self.start_agent(self.scene.whole())?;
        agent.until_ready()?;
        let threads = Threads {
            writers: 0,
            posters: 3,
        };
        let seed = self.seed ^ account.cycles();
        let load = Load::with(threads, seed, &self.disk, self.http);
        let mut cuts = Vec::new();
        while cuts.is_empty()
            || (account.goes_on_after(cuts.len() as u64) && (cuts.len() as u64) < CUTS_OF_A_LOAD)
        {
            thread::sleep(Duration::from_millis(rng.random_range(200..1500)));
            let image = self.outer.point().join(format!("cut{}", cuts.len()));
            let began = Instant::now();
            disks::reflink(&live, &image)?;
            cuts.push((image, began));
        }
        agent.process.kill()?;
        let sent = load.finish()?;
        drop((agent, log));
        mounted.unmount()?;
        fs::remove_file(&live).context("remove the live disk")?;
        let cuts = cuts.into_iter().map(|(image, began)| Cut {
            image,
            seed,
            sent: sent.at(began),
            began,
        });
        Ok(cuts.collect())
    }

    /// Starts on a clone as a machine does after the power is back; returns how long before the cut the oldest lost
    /// post had been acknowledged.
    fn start_on(&self, cut: &Cut, account: &mut Account) -> Result<Duration> {
        let mounted = Mounted::image(&cut.image, &self.disk, self.scene.kind)?;
        let outside = tempfile::tempdir().context("make a folder")?;
        let started = Instant::now();
        let log = if self.scene.whole() {
            self.start_log(&self.disk)?
        } else {
            self.start_log(outside.path())?
        };
        let mut agent = self.start_agent(true)?;
        agent.until_ready()?;
        account.restart(started.elapsed());
        let (tally, evidence) = read_back(&self.bootstrap(), cut.seed, &agent, &cut.sent)?;
        tally.sound(&cut.sent).context(evidence.clone())?;
        let lost = tally.missing(&cut.sent);
        let repeats = tally.repeats(true);
        account.add("acknowledged", cut.sent.acknowledged());
        account.add("lost", lost.len() as u64);
        account.add("duplicates", repeats);
        account.add("duplicates_bound", conf::SINK_BATCH as u64);
        let furthest = self.judge_loss(cut, &tally, &lost).context(evidence)?;
        ensure!(
            repeats <= conf::SINK_BATCH as u64,
            "{repeats} events are there again, more than a batch of the sink"
        );
        agent.stop()?;
        drop(log);
        mounted.unmount()?;
        Ok(furthest)
    }

    fn judge_loss(&self, cut: &Cut, tally: &Tally, lost: &[Identity]) -> Result<Duration> {
        let names: Vec<String> = lost.iter().take(5).map(Identity::to_string).collect();
        if self.scene.whole() {
            ensure!(
                lost.is_empty(),
                "{} acknowledged events are lost: {}",
                lost.len(),
                names.join(", ")
            );
        }
        let mut furthest = Duration::ZERO;
        for (sender, posts) in cut.sent.posts.iter().enumerate() {
            let mut gap = None;
            for (number, post) in (0_u64..).zip(posts) {
                if post.outcome != Outcome::Acknowledged {
                    continue;
                }
                let there = tally.has(Identity {
                    way: Way::Http,
                    sender,
                    number: number << 8,
                });
                match (there, gap) {
                    (true, Some(before)) => anyhow::bail!(
                        "post {before} of poster {sender} is lost and the later post {number} is there"
                    ),
                    (false, None) => {
                        gap = Some(number);
                        furthest = furthest.max(cut.began.duration_since(post.known));
                    }
                    _ => {}
                }
            }
        }
        Ok(furthest)
    }

    fn start_log(&self, folder: &Path) -> Result<Process> {
        let bootstrap = self.bootstrap();
        let mut log = start_log(folder, self.kafka)?;
        log.until("the embedded log answers", LIMIT, || {
            Ok(kafka_client::is_ready(&bootstrap)?.then_some(()))
        })?;
        if !kafka_client::topics(&bootstrap)?.contains_key(conf::TOPIC) {
            kafka_client::create_topic(&bootstrap, conf::TOPIC, 1)?;
        }
        Ok(log)
    }

    fn start_agent(&self, sink: bool) -> Result<RunningAgent> {
        let bootstrap = self.bootstrap();
        let durability = self.scene.durability;
        let text = conf::text_with(&self.disk, self.http, &bootstrap, sink, durability, 1 << 20);
        let path = self.folder.join("flume.conf");
        fs::write(&path, text).context("write the configuration")?;
        let output = self.folder.join("agent.output");
        let arguments = ["agent", "-n", "a1", "--no-reload-conf"];
        RunningAgent::start(&arguments, &path, &[], &output)
    }
}
