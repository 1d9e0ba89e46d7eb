//! What the gate runs, in order, and which share of the time each gets.

use flafka_tests::workspace;

/// Where a test lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// The simulated disk: unit tests of `log_store`, optimised and with all checks on.
    Simulated,
    /// The same under a scheduler, feature `shuttle`.
    Scheduled,
    /// The real binary, target `crash` of this crate.
    Real,
}

/// What a case does to the product, and under which promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fault {
    /// What happens.
    pub(crate) what: &'static str,
    /// Mode of durability.
    pub(crate) durability: &'static str,
    /// What may be lost.
    pub(crate) may_lose: &'static str,
}

/// Nothing may be lost.
pub(crate) const NOTHING: &str = "nothing";

/// One test.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) id: &'static str,
    pub(crate) home: Home,
    /// The test's whole name.
    pub(crate) name: &'static str,
    /// Its share of the time, in parts of the sum.
    pub(crate) weight: u64,
    /// It writes no line of its own.
    pub(crate) silent: bool,
    /// Of a case on the real binary.
    pub(crate) fault: Fault,
}

impl Part {
    /// The command that runs it.
    pub(crate) fn command(&self) -> Vec<String> {
        let package = match self.home {
            Home::Simulated => "test --profile gate -p flafka-log-store --lib",
            Home::Scheduled => "test --profile gate -p flafka-log-store --features shuttle --lib",
            Home::Real => "test --workspace --test crash",
        };
        let mut words = vec!["cargo".to_owned()];
        words.extend(package.split(' ').map(str::to_owned));
        let options = match self.home {
            Home::Simulated | Home::Scheduled => ["--exact", "--nocapture"].as_slice(),
            Home::Real => ["--exact"].as_slice(),
        };
        words.extend(["--", self.name].map(str::to_owned));
        words.extend(options.iter().map(|word| (*word).to_owned()));
        words
    }
}

fn part(id: &'static str, home: Home, name: &'static str, weight: u64) -> Part {
    Part {
        id,
        home,
        name,
        weight,
        silent: false,
        fault: fault_of(name),
    }
}

/// Told by the case's name, which is what its readers go by too.
fn fault_of(name: &str) -> Fault {
    let what = if name.contains("sigkill") || name.contains("gibibyte") {
        "SIGKILL"
    } else if name.contains("power_cut") {
        "power cut"
    } else if name.contains("full_disk") || name.contains("required_space") {
        "full disk"
    } else if name.contains("slow_disk") {
        "slow disk"
    } else if name.contains("pause") {
        "pause"
    } else {
        "clock jumps"
    };
    let (durability, weak_promise) = if name.ends_with("mode_interval") {
        ("interval:200", "the last interval")
    } else if name.ends_with("mode_os") {
        ("os", "what the system had not written")
    } else {
        ("fsync", NOTHING)
    };
    Fault {
        what,
        durability,
        // The page cache outlives the process.
        may_lose: if what == "power cut" {
            weak_promise
        } else {
            NOTHING
        },
    }
}

/// All of them.
pub(crate) fn parts() -> Vec<Part> {
    use Home::{Real, Scheduled, Simulated};
    let mut parts = vec![
        part("F26", Simulated, "crash::a_seed_does_the_same_twice", 1),
        part(
            "F2",
            Simulated,
            "crash::a_kill_at_any_call_keeps_everything",
            3,
        ),
        part(
            "F4",
            Simulated,
            "crash::every_crash_keeps_what_was_acknowledged",
            12,
        ),
        part(
            "F5",
            Simulated,
            "crash::a_file_cut_at_any_byte_is_a_torn_tail_or_named",
            4,
        ),
        part(
            "F6",
            Simulated,
            "crash::a_flipped_bit_is_noticed_or_harmless",
            5,
        ),
        part(
            "F6",
            Simulated,
            "crash::random_flips_in_a_large_log_are_noticed_or_harmless",
            5,
        ),
        part("F7", Simulated, "crash::any_call_may_fail", 6),
        part("F7", Simulated, "crash::any_call_of_a_start_may_fail", 2),
        part(
            "F8",
            Simulated,
            "crash::a_failed_sync_makes_nothing_durable",
            4,
        ),
        part(
            "F14",
            Simulated,
            "crash::clocks::a_clock_that_jumps_moves_nothing_but_what_time_decides",
            1,
        ),
        part(
            "F27",
            Scheduled,
            "crash::schedules::answers_are_durable_in_any_order",
            2,
        ),
        part(
            "F27",
            Scheduled,
            "crash::schedules::commits_of_leases_meet_checkpoints_in_any_order",
            2,
        ),
        part(
            "F27",
            Scheduled,
            "crash::schedules::a_close_answers_everybody_in_any_order",
            1,
        ),
        part(
            "F27",
            Scheduled,
            "crash::schedules::room_comes_back_in_any_order",
            1,
        ),
        part(
            "F27",
            Scheduled,
            "crash::schedules::a_reader_meets_trims_in_any_order",
            1,
        ),
        part("F1", Real, "crash::acknowledged_events_survive_sigkill", 14),
        part(
            "F1",
            Real,
            "crash::events_survive_sigkill_in_mode_interval",
            5,
        ),
        part("F1", Real, "crash::events_survive_sigkill_in_mode_os", 5),
        part("F1", Real, "crash::first_event_with_a_gibibyte_waiting", 1),
        part("F3", Real, "crash::power_cut_ext4", 12),
        part("F3", Real, "crash::power_cut_xfs", 5),
        part("F3", Real, "crash::power_cut_btrfs", 5),
        part("F3", Real, "crash::power_cut_in_mode_interval", 3),
        part("F3", Real, "crash::power_cut_in_mode_os", 3),
        part("F9", Real, "crash::a_full_disk_pushes_back_and_goes_on", 3),
        part("F9", Real, "crash::minimum_required_space_stays_free", 2),
        part(
            "F9",
            Real,
            "crash::a_full_disk_under_the_log_pushes_back_and_goes_on",
            3,
        ),
        part("F9", Real, "crash::a_full_disk_stops_no_other_directory", 2),
        part("F10", Real, "crash::a_slow_disk_slows_and_loses_nothing", 3),
        part("F15", Real, "crash::a_pause_loses_nothing", 3),
        part("F14", Real, "crash::clock_jumps_lose_nothing", 2),
    ];
    for part in &mut parts {
        part.silent = part.name.ends_with("first_event_with_a_gibibyte_waiting");
    }
    parts
}

/// What this gate does not run, and why.
pub(crate) fn never_run() -> [(&'static str, &'static str); 2] {
    [
        (
            "F27, Miri",
            "needs a nightly toolchain with the component miri; the pinned toolchain is a stable one, and no crate has unsafe code of its own",
        ),
        (
            "F10, SIGSTOP of a FUSE server",
            "there is no FUSE file system of our own; a block device throttled by a control group stands for it",
        ),
    ]
}

/// The revision and the toolchain are asked for here.
pub(crate) fn root() -> &'static std::path::Path {
    workspace::root()
}
