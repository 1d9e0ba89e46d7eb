//! Real faults on the real binary (faults F1, F3, F9, F10, F14, F15): SIGKILL, power cuts, full and slow disks, pauses,
//! clocks that jump; http and taildir → file channel → kafka sink → topic of the embedded log.
//!
//! Afterwards every event that was acknowledged, and every complete line that was written, is in the topic; none is
//! torn; those that are there twice are counted and within what the path allows. A case of its own has 1 GiB waiting in
//! the channel. What needs root, loop devices or control groups says "not run" with its reason where these are missing.
//!
//! How much each case does: `flafka_tests::faults`. A failed SIGKILL run keeps its folder and says where it is.

mod backlog;
mod clock;
mod conf;
mod cycles;
mod full_disk;
mod full_log;
mod load;
mod power_cut;
mod slow_disk;
mod tally;
mod text;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use flafka_tests::disks::{self, Kind};
use flafka_tests::faults::number;
use flafka_tests::runner::{Case, Run};

use crate::power_cut::Scene;

/// The modes of durability beside `fsync`, with the names of their SIGKILL cases.
const WEAKER: [(&str, &str); 2] = [
    ("events_survive_sigkill_in_mode_interval", "interval:200"),
    ("events_survive_sigkill_in_mode_os", "os"),
];

/// The scenes of power cuts with the cuts of a quick run.
const SCENES: [Scene; 5] = [
    scene("power_cut_ext4", Kind::Ext4, "fsync", 15),
    scene("power_cut_xfs", Kind::Xfs, "fsync", 5),
    scene("power_cut_btrfs", Kind::Btrfs, "fsync", 5),
    scene("power_cut_in_mode_interval", Kind::Ext4, "interval:200", 3),
    scene("power_cut_in_mode_os", Kind::Ext4, "os", 2),
];

const fn scene(case: &'static str, kind: Kind, durability: &'static str, quick: u64) -> Scene {
    Scene {
        case,
        kind,
        durability,
        quick,
    }
}

fn main() -> Result<ExitCode> {
    disks::own_mounts();
    let seed = number("FLAFKA_SEED")?.unwrap_or_else(rand::random);
    let cycles = number("FLAFKA_CRASH_CYCLES")?.unwrap_or(50);
    let seconds = number("FLAFKA_CRASH_SECONDS")?.unwrap_or(0);
    // Cycles take seconds; this is for one that hangs.
    let limit = Duration::from_secs(600 + 20 * cycles.min(10_000) + 2 * seconds);
    let mut cases = vec![
        Case::new("acknowledged_events_survive_sigkill", move |()| {
            cycles::run("acknowledged_events_survive_sigkill", "fsync", 50, seed)
        }),
        Case::new("first_event_with_a_gibibyte_waiting", move |()| {
            backlog::run(seed)
        }),
    ];
    for (name, durability) in WEAKER {
        cases.push(Case::new(name, move |()| {
            cycles::run(name, durability, 6, seed)
        }));
    }
    for scene in SCENES {
        cases.push(Case::new(scene.case, move |()| power_cut::run(scene, seed)));
    }
    cases.push(Case::new(
        "a_full_disk_pushes_back_and_goes_on",
        move |()| full_disk::run(3, seed),
    ));
    cases.push(Case::new("minimum_required_space_stays_free", move |()| {
        full_disk::run_with_minimum(2, seed)
    }));
    cases.push(Case::new(
        "a_full_disk_under_the_log_pushes_back_and_goes_on",
        move |()| full_log::run(2, seed),
    ));
    cases.push(Case::new(
        "a_full_disk_stops_no_other_directory",
        move |()| full_log::run_beside(2, seed),
    ));
    cases.push(Case::new(
        "a_slow_disk_slows_and_loses_nothing",
        move |()| slow_disk::throttled(2, seed),
    ));
    cases.push(Case::new("a_pause_loses_nothing", move |()| {
        slow_disk::paused(4, seed)
    }));
    cases.push(Case::new("clock_jumps_lose_nothing", move |()| {
        clock::run(1, seed)
    }));
    let cases = cases.into_iter().map(|case| case.within(limit)).collect();
    let mut run = Run::from_arguments()?.one_after_the_other();
    run.suite("crash", || Ok(()), cases);
    Ok(run.finish())
}
