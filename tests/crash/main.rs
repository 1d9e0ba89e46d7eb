//! SIGKILL at random moments: http and taildir → file channel → kafka sink → topic, agent and embedded log killed.
//!
//! Afterwards every event that was acknowledged, and every complete line that was written, is in the topic; none is
//! torn; those that are there twice are counted and within what the path allows (faults F1). A case of its own has
//! 1 GiB waiting in the channel.
//!
//! Environment: `FLAFKA_SEED` repeats a run (the schedule of kills and the texts; the threads' timing is the machine's),
//! `FLAFKA_CRASH_CYCLES` sets the number of cycles (default 50). A failed run keeps its folder and says where it is.

mod backlog;
mod conf;
mod cycles;
mod load;
mod tally;
mod text;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use flafka_tests::runner::{Case, Run};

/// The number in an environment variable.
fn number(name: &str) -> Result<Option<u64>> {
    let Ok(text) = std::env::var(name) else {
        return Ok(None);
    };
    let number = text
        .parse()
        .with_context(|| format!("{name}={text} is not a number"))?;
    Ok(Some(number))
}

fn main() -> Result<ExitCode> {
    let cycles = number("FLAFKA_CRASH_CYCLES")?.unwrap_or(50);
    let seed = number("FLAFKA_SEED")?.unwrap_or_else(rand::random);
    // A cycle takes about two seconds; this is for one that hangs.
    let limit = Duration::from_secs(300 + 10 * cycles);
    let cases = vec![
        Case::new("acknowledged_events_survive_sigkill", move |()| {
            cycles::run(cycles, seed)
        })
        .within(limit),
        Case::new("first_event_with_a_gibibyte_waiting", move |()| {
            backlog::run(seed)
        })
        .within(Duration::from_secs(600)),
    ];
    let mut run = Run::from_arguments()?.one_after_the_other();
    run.suite("crash", || Ok(()), cases);
    Ok(run.finish())
}
