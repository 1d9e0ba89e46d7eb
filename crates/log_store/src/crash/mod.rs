//! The crash-state enumerator: random histories on the simulated disk; at call boundaries every kind of crash; then the
//! log is opened again and compared with a model. Acknowledged must be there, and nothing else but one unacknowledged
//! round as a whole.
//!
//! `FLAFKA_CRASH_SEEDS=<count>` runs more histories, `FLAFKA_CRASH_SEED=<seed>` one of them again; a failure prints it.

mod driver;
mod model;

use std::path::PathBuf;

use self::driver::{Driver, check, recover};
use crate::error::OpenError;
use crate::sim_fs::{Dice, Failure, Plan, SimFs};

/// The seeds to run: `default` of them unless the environment says otherwise.
fn seeds(default: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match number("FLAFKA_CRASH_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("FLAFKA_CRASH_SEEDS").unwrap_or(default)).collect(),
    }
}

/// Whether more than a quick run is asked for.
fn thorough() -> bool {
    std::env::var_os("FLAFKA_CRASH_SEEDS").is_some()
}

#[test]
fn every_crash_keeps_what_was_acknowledged() {
    for seed in seeds(9) {
        let mut driver = Driver::new(seed, SimFs::new(seed));
        driver.fs.probe(1 + seed % 5);
        let mut dice = Dice::new(seed ^ 0xC0FFEE);
        for _ in 0..60 {
            let before = driver.allowed();
            let exact_before = driver.model.clone();
            driver.step();
            let allowed_now: Vec<_> = before.iter().chain(&driver.allowed()).cloned().collect();
            let exact = [exact_before, driver.model.clone()];
            for probe in driver.fs.take_probes() {
                let cut = dice.roll();
                let context = format!("seed {seed}, step {}, cut {cut}", driver.steps);
                check(
                    &probe.power_cut(cut),
                    &allowed_now,
                    &context,
                    dice.chance(10),
                );
                if dice.chance(25) {
                    check(&probe.killed(), &exact, &context, dice.chance(10));
                }
            }
            // Now and then life goes on from a crash.
            if dice.chance(4) {
                let cut = dice.chance(50).then(|| dice.roll());
                driver.crash_and_go_on(cut, cut.is_none());
                driver.fs.probe(1 + seed % 5);
            }
        }
    }
}

/// F7, F8: any call fails once or for ever; what was acknowledged survives, and nothing hangs or panics. After a single
/// failure the log goes on accepting, and what it takes then survives the next power cut too.
#[test]
fn any_call_may_fail() {
    const EIO: i32 = 5;
    const ERRNOS: [i32; 5] = [EIO, 28, 11, 122, 4];
    let mut mended = 0;
    for seed in seeds(2) {
        let calls = {
            let mut driver = Driver::new(seed, SimFs::new(seed));
            driver.run(30);
            driver.fs.calls()
        };
        let stride = 3;
        let mut dice = Dice::new(seed);
        for call in (1 + seed % stride..calls).step_by(stride as usize) {
            let failure = match dice.below(8) {
                0 => Failure::Short,
                1..=4 => Failure::Errno(EIO),
                at => Failure::Errno(ERRNOS[at as usize - 4]),
            };
            let plan = Plan {
                call,
                failure,
                for_ever: dice.chance(20),
            };
            let context = format!("seed {seed}, {plan:?}");
            let fs = SimFs::new(seed);
            fs.fail(Some(plan));
            let Some(mut driver) = Driver::try_new(seed, fs.clone()) else {
                // The first start failed: the next one must succeed, on an empty log.
                check(&fs.killed(), &[model::Model::default()], &context, true);
                continue;
            };
            driver.run(30);
            if !plan.for_ever && driver.fs.calls() > plan.call {
                driver.expect_accepting(&context);
                mended += driver.mended();
            }
            let allowed = driver.allowed();
            check(&driver.fs.killed(), &allowed, &context, true);
            let cut = dice.roll();
            let context = format!("{context}, cut {cut}");
            check(&driver.fs.power_cut(cut), &allowed, &context, true);
            // What the page cache showed to this start must survive the next power cut.
            driver.crash_and_go_on(None, false);
            driver.run(6);
            let allowed = driver.allowed();
            let context = format!("{context}, after the restart");
            check(&driver.fs.power_cut(cut), &allowed, &context, false);
        }
    }
    assert!(
        mended > 10 || seeds(2).len() < 2,
        "only {mended} faults came to the log's own files"
    );
}

/// A start that fails half-way may be tried again.
#[test]
fn any_call_of_a_start_may_fail() {
    for seed in seeds(2) {
        let mut driver = Driver::new(seed, SimFs::new(seed));
        driver.run(25);
        let crashed = driver.fs.power_cut(seed);
        let allowed = driver.allowed();
        let first_calls = crashed.calls();
        let calls = {
            let fs = crashed.killed();
            drop(recover(&fs));
            fs.calls()
        };
        for call in first_calls + 1..=calls {
            let fs = crashed.killed();
            fs.fail(Some(Plan {
                call,
                failure: Failure::Errno(5),
                for_ever: call % 2 == 0,
            }));
            let context = format!("seed {seed}, call {call} of the start fails");
            drop(recover(&fs));
            check(&fs.killed(), &allowed, &context, false);
            check(&fs.power_cut(call), &allowed, &context, false);
        }
    }
}

/// F5: the newest file of each kind is cut at every byte.
#[test]
fn a_file_cut_at_any_byte_is_a_torn_tail_or_refused() {
    let (fs, allowed) = small_log();
    for path in fs.files() {
        let whole = fs.content(&path).unwrap();
        let step = if thorough() { 1 } else { 1 + whole.len() / 100 };
        for length in (0..whole.len()).step_by(step) {
            let damaged = fs.killed();
            damaged.damage(&path, whole[..length].to_vec());
            judge_damage(
                &damaged,
                &allowed,
                &format!("{} cut at {length}", path.display()),
            );
        }
    }
}

/// F6: bits flip anywhere; never a panic, never a record that was not written.
#[test]
fn a_flipped_bit_is_noticed_or_harmless() {
    let (fs, allowed) = small_log();
    let mut dice = Dice::new(7);
    for path in fs.files() {
        let whole = fs.content(&path).unwrap();
        let flips = if thorough() { 2000 } else { 120 };
        for _ in 0..flips.min(whole.len() * 8) {
            let at = if dice.chance(80) {
                // Where something is.
                let used = whole.iter().rposition(|byte| *byte != 0).unwrap_or(0);
                dice.below(used as u64 + 1)
            } else {
                dice.below(whole.len() as u64)
            } as usize;
            let bit = dice.below(8);
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            let damaged = fs.killed();
            damaged.damage(&path, flipped);
            judge_damage(
                &damaged,
                &allowed,
                &format!("{} bit {bit} of byte {at}", path.display()),
            );
        }
    }
}

/// A log with every kind of file, after a crash.
fn small_log() -> (SimFs, Vec<model::Model>) {
    let mut driver = Driver::new(3, SimFs::new(3));
    driver.run(40);
    let allowed = driver.allowed();
    (driver.fs.killed(), allowed)
}

/// Damage may stop the start, or make reads fail, or cost data of a torn tail: but what is read was written.
fn judge_damage(fs: &SimFs, allowed: &[model::Model], context: &str) {
    match recover(fs) {
        Ok(mut engine) => {
            let newest = allowed.last().unwrap();
            if let Ok(observed) = driver::observe(&mut engine) {
                newest.contains(&observed, context);
            }
        }
        Err(
            OpenError::Corrupt { .. }
            | OpenError::UnknownVersion { .. }
            | OpenError::NodeFileMissing { .. },
        ) => {}
        Err(error) => panic!("{context}: {error}"),
    }
}

/// The rule that separates a torn tail from corruption, on a journal of our own making.
#[test]
fn damage_in_synced_frames_stops_the_start_and_changes_nothing() {
    let mut driver = Driver::new(11, SimFs::new(11));
    // Without any checkpoint all frames count.
    for _ in 0..12 {
        driver.round();
    }
    let fs = driver.fs.killed();
    let used = |path: &PathBuf| {
        let bytes = fs.content(path).unwrap();
        bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0)
    };
    let journals = fs.files().into_iter();
    let fullest = journals
        .filter(|path| path.extension().is_some_and(|end| end == "jnl"))
        .max_by_key(used)
        .unwrap();
    let mut bytes = fs.content(&fullest).unwrap();
    let used = used(&fullest);
    assert!(used > 4096 + 2000, "the history is too short: {used}");
    bytes[4096 + 40] ^= 1;
    let damaged = fs.killed();
    damaged.damage(&fullest, bytes);
    let contents = || {
        let files = damaged.files().into_iter();
        let ours = files.filter(|path| path.extension().is_some_and(|end| end != "tmp"));
        ours.map(|path| (damaged.content(&path), path))
            .collect::<Vec<_>>()
    };
    let before = contents();
    let error = recover(&damaged).map(|_| ()).unwrap_err();
    assert!(
        matches!(&error, OpenError::Corrupt { position: 4096, .. }),
        "{error}"
    );
    assert_eq!(before, contents());
}
