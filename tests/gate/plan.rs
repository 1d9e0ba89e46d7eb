//! What the gate runs, in order, and which share of the time each gets.

use flafka_tests::workspace;

/// Where a test lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Home {
    /// The simulated disk: unit tests of `log_store`, optimised and with all checks on.
    Simulated,
    /// The real binary, target `crash` of this crate.
    Real,
}

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
}

impl Part {
    /// The command that runs it.
    pub(crate) fn command(&self) -> Vec<String> {
        let package = match self.home {
            Home::Simulated => "test --profile gate -p flafka-log-store --lib",
            Home::Real => "test -p flafka-tests --test crash",
        };
        let mut words = vec!["cargo".to_owned()];
        words.extend(package.split(' ').map(str::to_owned));
        let options = match self.home {
            Home::Simulated => ["--exact", "--nocapture"].as_slice(),
            Home::Real => ["--exact"].as_slice(),
        };
        words.extend(["--", self.name].map(str::to_owned));
        words.extend(options.iter().map(|word| (*word).to_owned()));
        words
    }
}

const fn part(id: &'static str, home: Home, name: &'static str, weight: u64) -> Part {
    Part {
        id,
        home,
        name,
        weight,
        silent: false,
    }
}

/// All of them.
pub(crate) fn parts() -> Vec<Part> {
    use Home::{Real, Simulated};
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
        part("F7", Simulated, "crash::any_call_may_fail", 6),
        part("F7", Simulated, "crash::any_call_of_a_start_may_fail", 2),
        part(
            "F8",
            Simulated,
            "crash::a_failed_sync_makes_nothing_durable",
            4,
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
        part("F9", Real, "crash::a_full_disk_pushes_back_and_goes_on", 4),
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
            "needs a nightly toolchain with the component miri, and the pinned toolchain is a stable one",
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
