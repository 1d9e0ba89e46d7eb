//! Real full disks (F9): a neighbour fills the file system of the channel and frees it again.
//!
//! While it is full, posts are refused with 503 and the sink goes on draining; when space comes back, posts are
//! acknowledged again by themselves; nothing acknowledged is lost. How long that takes is reported and counted against
//! five seconds; the verdict has a bound that a busy machine keeps. The file systems have 192 MiB: a channel reserves
//! up to three journal files of 32 MiB, so that a full disk can drain.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flafka_tests::disks::{self, Kind, Mounted};
use flafka_tests::faults::Account;
use flafka_tests::running_agent::{LIMIT, RunningAgent};
use flafka_tests::{kafka_client, poll, ports};

use crate::conf;
use crate::cycles::{read_back, start_log};
use crate::load::{Load, Threads};

const DISK_BYTES: u64 = 192 << 20;
/// What the list of fault tests asks for.
const GOAL: Duration = Duration::from_secs(5);

/// Fills and frees, in turn on a tmpfs and on a file system on a loop device.
pub(crate) fn run(quick: u64, seed: u64) -> Result<()> {
    disks::may_mount()?;
    disks::room_for(1 << 30)?;
    let case = "crash::a_full_disk_pushes_back_and_goes_on";
    let mut account = Account::open("F9", case, "fill-ups", quick, seed)?;
    let ext4 = Kind::Ext4.available();
    if let Err(error) = &ext4 {
        account.note(format!("tmpfs alone: {error:#}"));
    }
    let rounds_on_tmpfs = if ext4.is_ok() {
        quick.div_ceil(2)
    } else {
        u64::MAX
    };
    fill_and_free(None, rounds_on_tmpfs, seed, &mut account).context("on tmpfs")?;
    if ext4.is_ok() {
        fill_and_free(Some(Kind::Ext4), u64::MAX, seed, &mut account).context("on ext4")?;
    }
    account.passed();
    Ok(())
}

fn fill_and_free(kind: Option<Kind>, rounds: u64, seed: u64, account: &mut Account) -> Result<()> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).context("make a mount point")?;
    let mounted = match kind {
        None => Mounted::tmpfs(&disk, DISK_BYTES)?,
        Some(kind) => {
            let image = folder.path().join("image");
            kind.make(&image, DISK_BYTES)?;
            Mounted::image(&image, &disk, kind)?
        }
    };
    let (http, kafka) = (ports::free_port()?, ports::free_port()?);
    let bootstrap = format!("127.0.0.1:{kafka}");
    let mut log = start_log(folder.path(), kafka)?;
    log.until("the embedded log answers", LIMIT, || {
        Ok(kafka_client::is_ready(&bootstrap)?.then_some(()))
    })?;
    kafka_client::create_topic(&bootstrap, conf::TOPIC, 1)?;
    fs::create_dir(disk.join("logs")).context("make a folder")?;
    let text = conf::text_with(&disk, http, &bootstrap, true, "fsync", 1 << 20);
    let path = folder.path().join("flume.conf");
    fs::write(&path, text).context("write the configuration")?;
    let output = folder.path().join("agent.output");
    let mut agent = RunningAgent::ready("a1", &path, &[], &output)?;

    let threads = Threads {
        writers: 0,
        posters: 2,
    };
    let load = Load::with(threads, seed, &disk, http);
    let mut done = 0;
    while done < rounds && account.goes_on() {
        done += 1;
        account.cycle();
        round(&load, &mut agent, &disk, account)
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
    mounted.unmount()
}

fn round(load: &Load, agent: &mut RunningAgent, disk: &Path, account: &mut Account) -> Result<()> {
    let acknowledged = || load.progress.acknowledged.load(Ordering::Relaxed);
    let refused = || load.progress.refused.load(Ordering::Relaxed);
    let before = acknowledged();
    poll::until_true("posts are acknowledged", LIMIT, || {
        Ok(acknowledged() > before)
    })?;
    let neighbour = disk.join("neighbour");
    let refused_before = refused();
    let deadline = Instant::now() + 2 * LIMIT;
    // The channel frees space as it drains, and the neighbour takes that too.
    let mut file = File::create(&neighbour).context("create the neighbour's file")?;
    while refused() < refused_before + 3 {
        ensure!(
            Instant::now() < deadline,
            "the disk is full and no post is refused"
        );
        if file.write_all(&[7; 1 << 16]).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    poll::until_true("the channel drains on a full disk", LIMIT, || {
        Ok(agent.metric("CHANNEL.c1", "ChannelSize")? == 0)
    })?;
    ensure!(
        agent.process.ended()?.is_none(),
        "the agent ended on a full disk"
    );
    drop(file);
    fs::remove_file(&neighbour).context("free the disk")?;
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
