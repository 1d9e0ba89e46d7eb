//! `./dev bench`: what the release binary does on this machine, beside what the machine itself can do.
//!
//! Each measurement starts the real binary with a real configuration in a temporary directory, feeds it, checks that
//! everything came out exactly once, and reads processor time and peak memory from `/proc`. Measurements are repeated
//! and the median is shown, because a machine with other work on it lies once in a while.
//!
//! `cases` says what is measured, `tail`, `http` and `topic` measure it, `limits` measures the machine, `report` writes
//! the table. Invariant: the tool ends by itself, every wait has a deadline, and nothing it started outlives it.

mod agent;
mod arguments;
mod cases;
mod channel;
mod http;
mod input;
mod limits;
mod log;
mod machine;
mod process;
mod report;
mod sample;
mod tail;
mod topic;
mod workplace;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use crate::arguments::{Arguments, Inner};
use crate::workplace::{Workplace, say};

/// The product's allocator: `load` measures the product's memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    let ended = match arguments.load.take() {
        Some(Inner::Load(load)) => load.run(),
        None => watched(arguments),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Measures on a thread of its own, so that an interrupt ends the measurement under way and cleans up.
fn watched(arguments: Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut measuring = tokio::task::spawn_blocking(move || measure(&arguments));
        tokio::select! {
            ended = &mut measuring => ended?,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                workplace::interrupt();
                measuring.await?
            }
        }
    })
}

fn measure(arguments: &Arguments) -> Result<()> {
    let chosen = cases::chosen(arguments)?;
    let workplace = Workplace::open(arguments)?;
    let machine = machine::Machine::look(&workplace)?;
    say(&machine.sentence());
    let rows = cases::run(&chosen, arguments, &workplace)?;
    report::print(&rows)?;
    match &arguments.out {
        Some(folder) => {
            let path = report::write(folder, &machine, arguments, &rows)?;
            say(&format!("written to {}", path.display()));
        }
        None => say("not written to a file; --out bench/results does"),
    }
    Ok(())
}
