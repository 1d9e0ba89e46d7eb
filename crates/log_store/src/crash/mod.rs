//! The crash-state enumerator: random histories on the simulated disk; at call boundaries every kind of crash; then the
//! log is opened again and compared with a model. Acknowledged must be there, and nothing else but one unacknowledged
//! round as a whole.
//!
//! `FLAFKA_CRASH_SEEDS=<count>` runs more histories, `FLAFKA_CRASH_SEED=<seed>` one of them again; a failure prints it.

mod driver;
mod full;
mod interval;
mod model;
mod observe;

use std::path::{Path, PathBuf};

use self::driver::{Driver, check, recover};
use crate::error::OpenError;
use crate::journal::frame::{FrameHeader, FrameKind, frame_bytes};
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
fn a_file_cut_at_any_byte_is_a_torn_tail_or_named() {
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
                must_start(&path, length),
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
                must_start(&path, at),
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

/// Damage to stored data and to frames of the journal never stops a start; to the files that tell what there is, it may.
fn must_start(path: &Path, at: usize) -> bool {
    match path.extension().and_then(|end| end.to_str()) {
        Some("log" | "oix" | "tix") => true,
        Some("jnl") => at >= 4096,
        _ => false,
    }
}

/// Damage may make reads fail, or cost data of a torn tail: but what is read was written.
fn judge_damage(fs: &SimFs, allowed: &[model::Model], context: &str, must_start: bool) {
    match recover(fs) {
        Ok(mut engine) => {
            let newest = allowed.last().unwrap();
            if let Ok(observed) = observe::observe(&mut engine) {
                newest.contains(&observed, context);
            }
        }
        Err(
            OpenError::Corrupt { .. }
            | OpenError::UnknownVersion { .. }
            | OpenError::NodeFileMissing { .. },
        ) if !must_start => {}
        Err(error) => panic!("{context}: {error}"),
    }
}

/// The rule that separates a torn tail from corruption, on a journal of our own making: whichever synced frame is damaged,
/// the log starts, says so, and has everything that this frame did not tell. What an append has lost in the journal is
/// still in its segment.
#[test]
fn damage_in_a_synced_frame_costs_at_most_what_it_said() {
    let mut driver = Driver::new(11, SimFs::new(11));
    // Without any checkpoint all frames count.
    for _ in 0..12 {
        driver.round();
    }
    let fs = driver.fs.killed();
    let newest = driver.model.clone();
    let (mut appends, mut others) = (0, 0);
    for (path, at, header) in frames(&fs) {
        let mut bytes = fs.content(&path).unwrap();
        bytes[at + 20] ^= 1;
        let damaged = fs.killed();
        damaged.damage(&path, bytes);
        let context = format!("{} {at}: {header:?}", path.display());
        let (mut engine, report) =
            driver::recover_and_tell(&damaged).unwrap_or_else(|error| panic!("{context}: {error}"));
        let found = observe::observe(&mut engine).unwrap_or_else(|e| panic!("{context}: {e}"));
        let synced = frames(&fs)
            .iter()
            .any(|(.., later)| later.durable_lsn >= header.lsn);
        assert_eq!(synced, !report.damages.is_empty(), "{context}: {report:?}");
        if !synced {
            continue;
        }
        newest.contains(&found, &context);
        let kept = report.damages[0]
            .kept
            .as_ref()
            .unwrap_or_else(|| panic!("{context}: {report:?}"));
        assert!(damaged.content(kept).is_some(), "{context}");
        if header.kind == FrameKind::Append as u8 {
            appends += 1;
            assert!(
                newest.matches(&found, true),
                "{context}: {found:#?}\n{newest:#?}"
            );
        } else {
            others += 1;
        }
        // Once is enough: the next start finds nothing, and the same log.
        drop(engine);
        let (mut engine, report) = driver::recover_and_tell(&damaged.killed()).unwrap();
        assert!(report.damages.is_empty(), "{context}: {report:?}");
        let again = observe::observe(&mut engine).unwrap();
        assert!(found.matches(&again, true), "{context}");
    }
    assert!(
        appends > 3 && others > 3,
        "{appends} appends, {others} others"
    );
}

/// All frames that have been written, with their places.
fn frames(fs: &SimFs) -> Vec<(PathBuf, usize, FrameHeader)> {
    let mut all = Vec::new();
    for path in fs.files() {
        if path.extension().is_none_or(|end| end != "jnl") {
            continue;
        }
        let bytes = fs.content(&path).unwrap();
        let mut at = 4096;
        while let Some(header) = bytes[at..].first_chunk().and_then(FrameHeader::decode) {
            all.push((path.clone(), at, header));
            at += frame_bytes(u64::from(header.length)) as usize;
        }
    }
    all
}

/// Batches before the durable point are damaged one by one, in a log that was stopped and in one that crashed: it starts,
/// says which offsets are lost, gives all others, and goes on.
#[test]
fn damage_in_a_segment_costs_only_the_damaged_batches() {
    let mut driver = Driver::new(5, SimFs::new(5));
    for _ in 0..25 {
        driver.round();
    }
    let fs = driver.fs.killed();
    let newest = driver.model.clone();
    let mut dice = Dice::new(5);
    let mut lost = 0;
    for path in fs.files() {
        // Weak data that no checkpoint covers is a torn tail from the first bad byte on.
        let weak = path.to_string_lossy().contains("weak");
        if weak || path.extension().is_none_or(|end| end != "log") {
            continue;
        }
        let bytes = fs.content(&path).unwrap();
        for _ in 0..8.min(bytes.len()) {
            let damaged = fs.killed();
            let at = dice.below(bytes.len() as u64) as usize;
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << dice.below(8);
            damaged.damage(&path, flipped);
            let context = format!("{} byte {at}", path.display());
            let mut engine = recover(&damaged).unwrap_or_else(|e| panic!("{context}: {e}"));
            let (found, skipped) = observe::observe_past_damage(&mut engine, &context);
            newest.contains(&found, &context);
            for (name, stream) in &newest.streams {
                let there = &found.streams[name];
                assert_eq!(
                    (there.log_start, there.end),
                    (stream.log_start, stream.end),
                    "{context}"
                );
                let missing = stream.batches.len() - there.batches.len();
                assert!(
                    missing <= 1,
                    "{context}: {missing} batches of {name} are missing"
                );
                lost += missing;
            }
            assert_eq!(skipped > 0, newest.batches() > found.batches(), "{context}");
        }
    }
    assert!(lost > 3, "only {lost} batches were hit");
}
