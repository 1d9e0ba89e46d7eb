//! Real full disks (F9): a neighbour fills the file system of the channel and frees it again.
//!
//! While it is full, posts are refused with 503 and the sink goes on draining; when space comes back, posts are
//! acknowledged again by themselves; nothing acknowledged is lost. How long that takes is reported and counted against
//! five seconds; the verdict has a bound that a busy machine keeps. A second case has room left, but less than
//! `minimumRequiredSpace`: puts leave that much free. The file systems have 192 MiB: a channel reserves up to three
//! journal files of 32 MiB, so that a full disk can drain.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flafka_tests::disks::{self, Kind, Mounted};
use flafka_tests::faults::Account;
use flafka_tests::running_agent::{LIMIT, RunningAgent};
use flafka_tests::{kafka_client, poll, ports};
use tempfile::TempDir;

use crate::conf;
use crate::cycles::{read_back, start_log};
use crate::load::{Load, Threads};

const DISK_BYTES: u64 = 192 << 20;
/// What the list of fault tests asks for.
const GOAL: Duration = Duration::from_secs(5);
/// `minimumRequiredSpace` of the second case.
const MINIMUM: u64 = 48 << 20;
/// Room that its neighbour leaves above that, and what a put and a checkpoint may take below it.
const MARGIN: u64 = 1 << 20;

/// Fills and frees, in turn on a tmpfs and on a file system on a loop device.
pub(crate) fn run(quick: u64, seed: u64) -> Result<()> {
    let case = "crash::a_full_disk_pushes_back_and_goes_on";
    on_both(case, quick, seed, |kind, rounds, account| {
        fill_and_free(kind, rounds, seed, None, account)
    })
}

/// The same with a neighbour that leaves a little more than `minimumRequiredSpace`.
pub(crate) fn run_with_minimum(quick: u64, seed: u64) -> Result<()> {
    let case = "crash::minimum_required_space_stays_free";
    on_both(case, quick, seed, |kind, rounds, account| {
        fill_and_free(kind, rounds, seed, Some(MINIMUM), account)
    })
}

/// Runs rounds on a tmpfs, and the others on ext4.
pub(crate) fn on_both(
    case: &str,
    quick: u64,
    seed: u64,
    mut body: impl FnMut(Option<Kind>, u64, &mut Account) -> Result<()>,
) -> Result<()> {
    disks::may_mount()?;
    disks::room_for(1 << 30)?;
    let mut account = Account::open("F9", case, "fill-ups", quick, seed)?;
    let ext4 = Kind::Ext4.available();
    let rounds_on_tmpfs = match &ext4 {
        Ok(()) => quick.div_ceil(2),
        Err(error) => {
            account.note(format!("tmpfs alone: {error:#}"));
            u64::MAX
        }
    };
    body(None, rounds_on_tmpfs, &mut account).context("on tmpfs")?;
    if ext4.is_ok() {
        body(Some(Kind::Ext4), u64::MAX, &mut account).context("on ext4")?;
    }
    account.passed();
    Ok(())
}

/// A small file system, and a folder beside it.
pub(crate) struct SmallDisk {
    mounted: Mounted,
    folder: TempDir,
}

impl SmallDisk {
    /// A tmpfs, or a file system on a loop device.
    pub(crate) fn new(kind: Option<Kind>, bytes: u64) -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        let point = folder.path().join("disk");
        fs::create_dir(&point).context("make a mount point")?;
        let mounted = match kind {
            None => Mounted::tmpfs(&point, bytes)?,
            Some(kind) => {
                let image = folder.path().join("image");
                kind.make(&image, bytes)?;
                Mounted::image(&image, &point, kind)?
            }
        };
        Ok(Self { mounted, folder })
    }

    pub(crate) fn point(&self) -> &Path {
        self.mounted.point()
    }

    /// A folder on another disk.
    pub(crate) fn beside(&self) -> &Path {
        self.folder.path()
    }

    /// Says whether it could be unmounted.
    pub(crate) fn unmount(self) -> Result<()> {
        self.mounted.unmount()
    }
}

/// A file that takes the space of a disk; removed when dropped.
pub(crate) struct Neighbour {
    path: PathBuf,
    file: File,
}

impl Neighbour {
    pub(crate) fn new(disk: &Path) -> Result<Self> {
        let path = disk.join("neighbour");
        let file = File::create(&path).context("create the neighbour's file")?;
        Ok(Self { path, file })
    }

    /// Takes what is free beyond `left` bytes, and lets a moment go by.
    pub(crate) fn take(&mut self, left: u64) -> Result<()> {
        while disks::free_bytes(&self.path)? > left {
            if self.file.write_all(&[7; 1 << 16]).is_err() {
                break;
            }
        }
        thread::sleep(Duration::from_millis(20));
        Ok(())
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        // The file system goes too if this fails.
        drop(fs::remove_file(&self.path));
    }
}

fn fill_and_free(
    kind: Option<Kind>,
    rounds: u64,
    seed: u64,
    minimum: Option<u64>,
    account: &mut Account,
) -> Result<()> {
    let small = SmallDisk::new(kind, DISK_BYTES)?;
    let (disk, beside) = (small.point(), small.beside());
    let (http, kafka) = (ports::free_port()?, ports::free_port()?);
    let bootstrap = format!("127.0.0.1:{kafka}");
    let mut log = start_log(beside, kafka)?;
    log.until("the embedded log answers", LIMIT, || {
        Ok(kafka_client::is_ready(&bootstrap)?.then_some(()))
    })?;
    kafka_client::create_topic(&bootstrap, conf::TOPIC, 1)?;
    fs::create_dir(disk.join("logs")).context("make a folder")?;
    let least = minimum.unwrap_or(1 << 20);
    let text = conf::text_with(disk, http, &bootstrap, true, "fsync", least);
    let path = beside.join("flume.conf");
    fs::write(&path, text).context("write the configuration")?;
    let mut agent = RunningAgent::ready("a1", &path, &[], &beside.join("agent.output"))?;

    let threads = Threads {
        writers: 0,
        posters: 2,
    };
    let load = Load::with(threads, seed, disk, http);
    let mut done = 0;
    while done < rounds && account.goes_on() {
        done += 1;
        account.cycle();
        round(&load, &mut agent, disk, minimum, account)
            .with_context(|| format!("round {done}"))
            .with_context(|| agent.process.evidence())?;
    }
    let sent = load.finish()?;
    let (tally, evidence) = read_back(&bootstrap, seed, &agent, &sent)?;
    let lost = tally.missing(&sent).len();
    account.add("acknowledged", sent.acknowledged());
    account.add("refused_posts", sent.refused());
    account.add("lost", lost as u64);
    account.add("duplicates", tally.repeats(true));
    account.add("duplicates_bound", 0);
    tally.sound(&sent)?;
    ensure!(lost == 0, "{lost} acknowledged events are lost\n{evidence}");
    ensure!(tally.repeats(true) == 0, "events are there again");
    agent.stop()?;
    drop(log);
    small.unmount()
}

fn round(
    load: &Load,
    agent: &mut RunningAgent,
    disk: &Path,
    minimum: Option<u64>,
    account: &mut Account,
) -> Result<()> {
    let acknowledged = || load.progress.acknowledged.load(Ordering::Relaxed);
    let refused = || load.progress.refused.load(Ordering::Relaxed);
    let before = acknowledged();
    poll::until_true("posts are acknowledged", LIMIT, || {
        Ok(acknowledged() > before)
    })?;
    let refused_before = refused();
    let deadline = Instant::now() + 2 * LIMIT;
    // The channel frees space as it drains, and the neighbour takes that too.
    let mut neighbour = Neighbour::new(disk)?;
    let left = minimum.map_or(0, |minimum| minimum + MARGIN);
    while refused() < refused_before + 3 {
        ensure!(
            Instant::now() < deadline,
            "the disk is full and no post is refused"
        );
        neighbour.take(left)?;
        let free = disks::free_bytes(disk)?;
        ensure!(
            minimum.is_none_or(|minimum| free + MARGIN >= minimum),
            "{free} bytes are free: puts went on below minimumRequiredSpace"
        );
    }
    poll::until_true("the channel drains on a full disk", LIMIT, || {
        Ok(agent.metric("CHANNEL.c1", "ChannelSize")? == 0)
    })?;
    ensure!(
        agent.process.ended()?.is_none(),
        "the agent ended on a full disk"
    );
    drop(neighbour);
    let (freed, at_full) = (Instant::now(), acknowledged());
    poll::until_true("posts are acknowledged again", LIMIT, || {
        Ok(acknowledged() > at_full)
    })?;
    let took = freed.elapsed();
    account.restart(took);
    if took > GOAL {
        account.add("longer_than_5_s", 1);
    }
    Ok(())
}
