//! A slow disk and a process that stands still (F10, F15): a control group allows 1 MB/s and 20 writes a second;
//! SIGSTOP and SIGCONT at random.
//!
//! Nothing is lost and the health endpoint answers all the while; how often it took longer than 100 ms is reported, not
//! judged, because the test shares its machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flafka_tests::disks::{self, Kind, Mounted};
use flafka_tests::faults::Account;
use flafka_tests::process::Process;
use flafka_tests::runner::not_run;
use flafka_tests::running_agent::{LIMIT, RunningAgent};
use flafka_tests::{kafka_client, poll, ports};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::process::Signal;

use crate::conf;
use crate::cycles::{read_back, start_log};
use crate::load::{Load, Threads};

const THREADS: Threads = Threads {
    writers: 0,
    posters: 3,
};
const GROUPS: &str = "/sys/fs/cgroup/blkio";
const GOAL: Duration = Duration::from_millis(100);

/// A control group that slows writes; removed when dropped.
struct Throttle {
    group: PathBuf,
}

/// Removes the groups of tests that were killed: the kernel keeps those that have a process.
fn remove_left_groups() {
    for entry in fs::read_dir(GROUPS).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix("flafka-"));
        let owner = owner.and_then(|owner| owner.parse::<u32>().ok());
        let runs = |owner: u32| Path::new(&format!("/proc/{owner}")).try_exists();
        if owner.is_some_and(|owner| runs(owner).is_ok_and(|runs| !runs)) {
            // Somebody else may be doing the same.
            drop(fs::remove_dir(entry.path()));
        }
    }
}

impl Throttle {
    fn new() -> Result<Self> {
        remove_left_groups();
        let group = Path::new(GROUPS).join(format!("flafka-{}", std::process::id()));
        match fs::create_dir(&group) {
            Ok(()) => Ok(Self { group }),
            Err(error) => Err(not_run(&format!("no control group in {GROUPS}: {error}"))),
        }
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.group.join(file);
        fs::write(&path, text)
            .map_err(|error| not_run(&format!("cannot write {}: {error}", path.display())))
    }

    /// Allows so much a second; 0 lifts the limit.
    fn limit(&self, device: &str, bytes: u64, writes: u64) -> Result<()> {
        self.write(
            "blkio.throttle.write_bps_device",
            &format!("{device} {bytes}"),
        )?;
        self.write(
            "blkio.throttle.write_iops_device",
            &format!("{device} {writes}"),
        )
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        // Processes that have just ended leave a moment later.
        for _ in 0..50 {
            if fs::remove_dir(&self.group).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// http → file channel → log, with the channel on `disk` and the rest in `folder`.
struct Line {
    bootstrap: String,
    http: u16,
    log: Process,
    agent: RunningAgent,
}

impl Line {
    fn start(folder: &Path, disk: &Path) -> Result<Self> {
        let (http, kafka) = (ports::free_port()?, ports::free_port()?);
        let bootstrap = format!("127.0.0.1:{kafka}");
        let mut log = start_log(folder, kafka)?;
        log.until("the embedded log answers", LIMIT, || {
            Ok(kafka_client::is_ready(&bootstrap)?.then_some(()))
        })?;
        kafka_client::create_topic(&bootstrap, conf::TOPIC, 1)?;
        fs::create_dir(disk.join("logs")).context("make a folder")?;
        let text = conf::text_with(disk, http, &bootstrap, true, "fsync", 1 << 20);
        let path = folder.join("flume.conf");
        fs::write(&path, text).context("write the configuration")?;
        let agent = RunningAgent::ready("a1", &path, &[], &folder.join("agent.output"))?;
        Ok(Self {
            bootstrap,
            http,
            log,
            agent,
        })
    }

    fn end(self, load: Load, seed: u64, account: &mut Account) -> Result<()> {
        let sent = load.finish()?;
        let (tally, evidence) = read_back(&self.bootstrap, seed, &self.agent, &sent)?;
        let lost = tally.missing(&sent).len();
        account.add("acknowledged", sent.acknowledged());
        account.add("refused_posts", sent.refused());
        account.add("lost", lost as u64);
        account.add("duplicates", tally.repeats(true));
        tally.sound(&sent)?;
        ensure!(lost == 0, "{lost} acknowledged events are lost\n{evidence}");
        self.agent.stop()?;
        drop(self.log);
        Ok(())
    }
}

/// Rounds of a few seconds on a slow disk.
pub(crate) fn throttled(quick: u64, seed: u64) -> Result<()> {
    disks::may_mount()?;
    disks::room_for(1 << 30)?;
    Kind::Ext4.available()?;
    let throttle = Throttle::new()?;
    let case = "crash::a_slow_disk_slows_and_loses_nothing";
    let folder = tempfile::tempdir().context("make a folder")?;
    let (image, disk) = (folder.path().join("image"), folder.path().join("disk"));
    fs::create_dir(&disk).context("make a mount point")?;
    Kind::Ext4.make(&image, 256 << 20)?;
    let mounted = Mounted::image(&image, &disk, Kind::Ext4)?;
    let device = mounted.device()?;
    throttle.limit(&device, 0, 0)?;
    let mut account = Account::open("F10", case, "slow rounds", quick, seed)?;
    let line = Line::start(folder.path(), &disk)?;
    throttle.write("cgroup.procs", &line.agent.process.pid().to_string())?;
    let load = Load::with(THREADS, seed, &disk, line.http);
    while account.goes_on() {
        account.cycle();
        let acknowledged = || load.progress.acknowledged.load(Ordering::Relaxed);
        let before = acknowledged();
        throttle.limit(&device, 1_000_000, 20)?;
        let until = Instant::now() + Duration::from_secs(8);
        let mut longest = Duration::ZERO;
        while Instant::now() < until {
            let asked = Instant::now();
            let answer = line.agent.get("/health")?;
            let took = asked.elapsed();
            ensure!(answer.status == 200, "/health is {}", answer.status);
            longest = longest.max(took);
            account.add("health_asked", 1);
            account.add("health_over_100_ms", u64::from(took > GOAL));
            thread::sleep(Duration::from_millis(50));
        }
        let slow = acknowledged() - before;
        throttle.limit(&device, 0, 0)?;
        account.note(format!(
            "{slow} events acknowledged in 8 slow seconds, longest answer of /health {} ms",
            longest.as_millis()
        ));
        let before = acknowledged();
        poll::until_true("posts are acknowledged again", LIMIT, || {
            Ok(acknowledged() > before)
        })?;
    }
    line.end(load, seed, &mut account)?;
    mounted.unmount()?;
    account.passed();
    Ok(())
}

/// Stops agent or log for a moment, at random, and lets them go on.
pub(crate) fn paused(quick: u64, seed: u64) -> Result<()> {
    let case = "crash::a_pause_loses_nothing";
    let mut account = Account::open("F15", case, "pauses", quick, seed)?;
    let folder = tempfile::tempdir().context("make a folder")?;
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).context("make a folder")?;
    let mut line = Line::start(folder.path(), &disk)?;
    let load = Load::with(THREADS, seed, &disk, line.http);
    let mut rng = StdRng::seed_from_u64(seed);
    while account.goes_on() {
        account.cycle();
        thread::sleep(Duration::from_millis(rng.random_range(100..800)));
        let pause = Duration::from_millis(rng.random_range(100..3000));
        let process = if rng.random() {
            &mut line.agent.process
        } else {
            &mut line.log
        };
        process.signal(Signal::STOP)?;
        thread::sleep(pause);
        process.signal(Signal::CONT)?;
        let before = load.progress.acknowledged.load(Ordering::Relaxed);
        poll::until_true("posts are acknowledged again", LIMIT, || {
            Ok(load.progress.acknowledged.load(Ordering::Relaxed) > before)
        })?;
    }
    line.end(load, seed, &mut account)?;
    account.passed();
    Ok(())
}
