//! The fault tests of the log on the simulated disk (faults.md §3.4, F2 and F4 to F8, F26): random histories; crashes,
//! failing calls and damage at their call boundaries; then the log is opened again and compared with a model.
//! Acknowledged must be there, and nothing else but one unacknowledged round as a whole.
//!
//! It is longer than 500 lines because these tests share their vocabulary and are read as one list.
//!
//! How much each does is in [`effort`]; a failure prints its seed and the command that replays it.

mod clocks;
mod driver;
mod effort;
mod full;
mod interval;
mod missing;
mod model;
mod observe;
mod recycling;
#[cfg(feature = "shuttle")]
mod schedules;
mod switching;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use self::driver::{Driver, check, recover};
use self::effort::Effort;
use crate::error::OpenError;
use crate::journal::frame::{FrameHeader, FrameKind, frame_bytes};
use crate::sim_fs::{CallKind, CallPoint, Dice, Failure, Plan, SimFs};

const EIO: i32 = 5;
const EINTR: i32 = 4;
const EAGAIN: i32 = 11;
const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;

/// Histories of a quick run: together about ten thousand power cuts.
const SEEDS_OF_F4: u64 = 40;
/// A file is cut at every byte in so many passes, each at every so manieth byte.
const CUT_PASSES: usize = 16;
/// Bits of a quick run.
const FLIPS: u64 = 10_000;
/// Damaged copies of each large log.
const FLIPS_OF_A_LARGE_LOG: u64 = 500;

/// F2: SIGKILL after every changing call of a history, which is also before the next one, and of the start after it.
#[test]
fn a_kill_at_any_call_keeps_everything() {
    let mut effort = Effort::new("F2", "a_kill_at_any_call_keeps_everything", "kills", 4);
    let mut points: BTreeMap<CallPoint, u64> = BTreeMap::new();
    while let Some(seed) = effort.next_seed() {
        let mut driver = Driver::new(seed, SimFs::new(seed));
        driver.fs.probe(1);
        for _ in 0..50 {
            let before = driver.model.clone();
            driver.step();
            let exact = [before, driver.model.clone()];
            for probe in driver.fs.take_probes() {
                let context = format!("seed {seed}, step {}, killed", driver.steps);
                check(&probe.killed(), &exact, &context, false);
                effort.count(1);
                if let Some(point) = probe.last_change() {
                    *points.entry(point).or_default() += 1;
                }
            }
        }
        let starting = driver.fs.killed();
        starting.probe(1);
        drop(recover(&starting));
        for probe in starting.take_probes() {
            let context = format!("seed {seed}, killed while it starts");
            check(&probe.killed(), &[driver.model.clone()], &context, false);
            effort.count(1);
            if let Some(point) = probe.last_change() {
                *points.entry(point).or_default() += 1;
            }
        }
        effort.trace(driver.fs.trace());
    }
    let covered: Vec<String> = points
        .iter()
        .map(|((kind, role), count)| format!("{kind:?} {role} {count}"))
        .collect();
    effort.note(&covered.join(", "));
    for kind in [
        CallKind::Open,
        CallKind::Write,
        CallKind::Sync,
        CallKind::SyncDir,
        CallKind::Rename,
    ] {
        let covered = points.keys().any(|(of, _)| *of == kind);
        assert!(covered, "no kill after a call of the kind {kind:?}");
    }
}

/// F4: a power cut at call boundaries, each with a fate of its own for every unsynced sector and name.
#[test]
fn every_crash_keeps_what_was_acknowledged() {
    let test = "every_crash_keeps_what_was_acknowledged";
    let mut effort = Effort::new("F4", test, "power cuts", SEEDS_OF_F4);
    let (mut histories, mut switches, mut recycled) = (0, 0, 0);
    while let Some(seed) = effort.next_seed() {
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
                effort.count(1);
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
        histories += 1;
        switches += driver.switches;
        recycled += driver.recycled();
        effort.trace(driver.fs.trace());
    }
    effort.note(&format!(
        "{switches} compactions, {recycled} recycled segments"
    ));
    assert!(switches > 0 || histories < 9, "no history had a compaction");
    assert!(recycled > 0 || histories < 9, "no segment was recycled");
}

/// F26: the same seed makes the same calls with the same bytes, twice.
#[test]
fn a_seed_does_the_same_twice() {
    let mut effort = Effort::new("F26", "a_seed_does_the_same_twice", "histories", 20);
    while let Some(seed) = effort.next_seed() {
        let run = || {
            let mut driver = Driver::new(seed, SimFs::new(seed));
            let mut dice = Dice::new(seed);
            for _ in 0..6 {
                driver.run(10);
                let cut = dice.roll();
                driver.crash_and_go_on(dice.chance(50).then_some(cut), false);
            }
            driver.fs.trace()
        };
        let first = run();
        assert_eq!(first, run(), "seed {seed} differs from itself");
        effort.count(1);
        effort.trace(first);
    }
}

/// F7: any call fails once or for ever; what was acknowledged survives, and nothing hangs or panics. After a single
/// failure the log goes on accepting, and what it takes then survives the next power cut too.
#[test]
fn any_call_may_fail() {
    let mut effort = Effort::new("F7", "any_call_may_fail", "failed calls", 1);
    let mut mended = 0;
    let failures = [
        Failure::Errno(EIO),
        Failure::Errno(ENOSPC),
        Failure::Errno(EINTR),
        Failure::Errno(EAGAIN),
        Failure::Errno(EDQUOT),
        Failure::Short,
    ];
    while let Some(seed) = effort.next_seed() {
        let calls = {
            let mut driver = Driver::new(seed, SimFs::new(seed));
            driver.run(30);
            driver.fs.calls()
        };
        let stride = if effort.thorough() { 1 } else { 7 };
        for (at, failure) in failures.into_iter().enumerate() {
            for call in (1 + (seed + at as u64) % stride..calls).step_by(stride as usize) {
                let plan = Plan {
                    call,
                    failure,
                    // A call that is interrupted for ever is none.
                    for_ever: !matches!(failure, Failure::Errno(EINTR) | Failure::Short)
                        && Dice::new(seed ^ call << 8 ^ at as u64).chance(20),
                };
                mended += survive_a_failure(seed, 30, plan);
                effort.count(1);
            }
        }
        effort.note(&format!("seed {seed}: {calls} calls"));
    }
    effort.note(&format!("{mended} mended"));
    assert!(
        mended > 5 || effort.replaying(),
        "only {mended} faults came to the log's own files"
    );
}

/// F8: one sync fails, the dirty pages are gone, the next sync succeeds (fsyncgate).
#[test]
fn a_failed_sync_makes_nothing_durable() {
    let test = "a_failed_sync_makes_nothing_durable";
    let mut effort = Effort::new("F8", test, "failed syncs", 500);
    while let Some(seed) = effort.next_seed() {
        let syncs = {
            let fs = SimFs::new(seed);
            fs.list_calls();
            Driver::new(seed, fs.clone()).run(30);
            fs.calls_of(CallKind::Sync)
        };
        let chosen = Dice::new(seed ^ 0xF5).below(syncs.len() as u64);
        let plan = Plan {
            call: syncs[chosen as usize],
            failure: Failure::Errno(EIO),
            for_ever: false,
        };
        survive_a_failure(seed, 30, plan);
        effort.count(1);
    }
}

/// A history with a planned failure; afterwards a kill, a power cut, and life after a restart. Says how often the log
/// has mended itself.
fn survive_a_failure(seed: u64, steps: u64, plan: Plan) -> u64 {
    let mut mended = 0;
    let context = format!("seed {seed}, {plan:?}");
    let fs = SimFs::new(seed);
    fs.fail(Some(plan));
    let Some(mut driver) = Driver::try_new(seed, fs.clone()) else {
        // The first start failed: the next one must succeed, on an empty log.
        check(&fs.killed(), &[model::Model::default()], &context, true);
        return 0;
    };
    driver.run(steps);
    if !plan.for_ever && driver.fs.calls() > plan.call {
        driver.expect_accepting(&context);
        mended += driver.mended();
    }
    let allowed = driver.allowed();
    check(&driver.fs.killed(), &allowed, &context, true);
    let cut = Dice::new(seed ^ plan.call).roll();
    let context = format!("{context}, cut {cut}");
    check(&driver.fs.power_cut(cut), &allowed, &context, true);
    // What the page cache showed to this start must survive the next power cut.
    driver.crash_and_go_on(None, false);
    driver.run(6);
    let allowed = driver.allowed();
    let context = format!("{context}, after the restart");
    check(&driver.fs.power_cut(cut), &allowed, &context, false);
    mended
}

/// F7: a start that fails half-way may be tried again.
#[test]
fn any_call_of_a_start_may_fail() {
    let mut effort = Effort::new("F7", "any_call_of_a_start_may_fail", "failed calls", 2);
    while let Some(seed) = effort.next_seed() {
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
            let failure = [Failure::Errno(EIO), Failure::Short, Failure::Errno(ENOSPC)];
            fs.fail(Some(Plan {
                call,
                failure: failure[(call % 3) as usize],
                for_ever: call % 3 != 1 && call % 2 == 0,
            }));
            let context = format!("seed {seed}, call {call} of the start fails");
            drop(recover(&fs));
            check(&fs.killed(), &allowed, &context, false);
            check(&fs.power_cut(call), &allowed, &context, false);
            effort.count(1);
        }
    }
}

/// F5: every file is cut at every byte.
#[test]
fn a_file_cut_at_any_byte_is_a_torn_tail_or_named() {
    let test = "a_file_cut_at_any_byte_is_a_torn_tail_or_named";
    let mut effort = Effort::new("F5", test, "cuts", 1);
    while let Some(seed) = effort.next_seed() {
        let (fs, allowed) = small_log(seed, effort.thorough());
        let mut cuts = Vec::new();
        for path in fs.files() {
            let whole = Rc::new(fs.content(&path).unwrap());
            // Behind the last written byte one cut is like the next.
            let used = used(&whole) + 16;
            let behind = (used..whole.len()).step_by(509);
            let lengths = (0..used.min(whole.len())).chain(behind);
            let path: Rc<Path> = path.into();
            cuts.extend(lengths.map(|length| (Rc::clone(&path), Rc::clone(&whole), length)));
        }
        // Spread over all files, should the time be over first.
        for pass in 0..CUT_PASSES {
            if pass > 0 && effort.is_late() {
                effort.note(&format!("{pass} of {CUT_PASSES} passes over the bytes"));
                break;
            }
            for (path, whole, length) in cuts.iter().skip(pass).step_by(CUT_PASSES) {
                let damaged = fs.killed();
                damaged.damage(path, whole[..*length].to_vec());
                let context = format!("seed {seed}, {} cut at {length}", path.display());
                judge_damage(&damaged, &allowed, &context, must_start(path, *length));
                effort.count(1);
            }
        }
    }
}

/// F6: every bit of a small log flips; never a panic, never a record that was not written.
#[test]
fn a_flipped_bit_is_noticed_or_harmless() {
    let test = "a_flipped_bit_is_noticed_or_harmless";
    let mut effort = Effort::new("F6", test, "flipped bits", 1);
    while let Some(seed) = effort.next_seed() {
        let (fs, allowed) = small_log(seed, effort.thorough());
        let mut dice = Dice::new(seed);
        let files: Vec<_> = fs
            .files()
            .into_iter()
            .map(|path| (fs.content(&path).unwrap(), path))
            .collect();
        let bits = |bytes: &[u8]| (used(bytes) + 16).min(bytes.len()) as u64 * 8;
        let all: u64 = files.iter().map(|(bytes, _)| bits(bytes)).sum();
        // Every so manieth bit in a pass of ten thousand: one pass in a quick run, else more while time is left.
        let stride = all.div_ceil(FLIPS);
        let passes = if effort.thorough() { stride } else { 1 };
        let first = dice.below(stride);
        for pass in 0..passes {
            if pass > 0 && effort.is_late() {
                effort.note(&format!("{pass} of {passes} passes over the bits"));
                break;
            }
            for (whole, path) in &files {
                for bit in ((first + pass) % stride..bits(whole)).step_by(stride as usize) {
                    let mut flipped = whole.clone();
                    flipped[bit as usize / 8] ^= 1 << (bit % 8);
                    let damaged = fs.killed();
                    damaged.damage(path, flipped);
                    let context = format!("seed {seed}, bit {bit} of {}", path.display());
                    judge_damage(
                        &damaged,
                        &allowed,
                        &context,
                        must_start(path, bit as usize / 8),
                    );
                    effort.count(1);
                }
            }
        }
    }
}

/// F6: one to four random bits of a large log, in any of its files.
#[test]
fn random_flips_in_a_large_log_are_noticed_or_harmless() {
    let test = "random_flips_in_a_large_log_are_noticed_or_harmless";
    let mut effort = Effort::new("F6", test, "damaged logs", 2);
    while let Some(seed) = effort.next_seed() {
        let mut driver = Driver::new(seed, SimFs::new(seed));
        driver.run(300);
        let allowed = driver.allowed();
        let fs = driver.fs.killed();
        let mut dice = Dice::new(seed ^ 0xF6);
        let files: Vec<_> = fs
            .files()
            .into_iter()
            .map(|path| (fs.content(&path).unwrap(), path))
            .filter(|(bytes, _)| used(bytes) > 0)
            .collect();
        let all: u64 = files.iter().map(|(bytes, _)| used(bytes) as u64).sum();
        effort.note(&format!("seed {seed}: {} files, {all} bytes", files.len()));
        for _ in 0..FLIPS_OF_A_LARGE_LOG {
            let damaged = fs.killed();
            let mut context = format!("seed {seed}");
            let mut must = true;
            for _ in 0..1 + dice.below(4) {
                // Half of them where a byte is, half in a file whatever its size: the small ones tell what there is.
                let mut at = dice.below(all);
                let mut chosen = files.iter();
                let file = if dice.chance(50) {
                    let file = &files[dice.below(files.len() as u64) as usize];
                    at = dice.below(used(&file.0) as u64);
                    Some(file)
                } else {
                    chosen.find(|(bytes, _)| {
                        let here = used(bytes) as u64;
                        let found = at < here;
                        at -= if found { 0 } else { here };
                        found
                    })
                };
                let (_, path) = file.expect("it is within all files");
                let mut flipped = damaged.content(path).unwrap();
                flipped[at as usize] ^= 1 << dice.below(8);
                damaged.damage(path, flipped);
                must &= must_start(path, at as usize);
                context += &format!(", byte {at} of {}", path.display());
            }
            judge_damage(&damaged, &allowed, &context, must);
            effort.count(1);
        }
    }
}

/// Bytes up to the last one that is not zero: files are prefilled.
fn used(bytes: &[u8]) -> usize {
    let last = bytes.iter().rposition(|byte| *byte != 0);
    last.map_or(0, |last| last + 1)
}

/// A log with every kind of file, after a crash.
fn small_log(seed: u64, thorough: bool) -> (SimFs, Vec<model::Model>) {
    let seed = seed.wrapping_add(3);
    let mut driver = Driver::new(seed, SimFs::new(seed));
    driver.run(if thorough { 40 } else { 12 });
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
