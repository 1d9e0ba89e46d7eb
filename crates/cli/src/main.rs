//! The one binary: parses the command line, starts the command, turns its outcome into an exit
//! code. Every crate below knows nothing of it.
//!
//! Exit codes: 0 done, 1 failed, 2 the command line or the configuration is wrong.

mod arguments;
mod commands;
mod demo;
mod exit;
mod logging;

use std::process::ExitCode;

use clap::Parser;

use crate::arguments::{Arguments, Command};
use crate::exit::Outcome;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    demo::end_with_parent();
    let arguments = Arguments::parse_from(arguments::flume_spelling(std::env::args_os()));
    exit::code(run(arguments.command))
}

fn run(command: Command) -> Outcome {
    match command {
        Command::Agent(options) => commands::agent::run(options),
        Command::Broker(options) => commands::broker::run(options),
        Command::Up(options) => commands::up::run(options),
        Command::Demo(options) => demo::run(options),
        Command::Check(options) => commands::check::run(options),
        Command::Explain(options) => commands::explain::run(options),
        Command::Topic(options) => commands::topic::run(options),
        Command::Produce(options) => commands::produce::run(options),
        Command::Consume(options) => commands::consume::run(options),
        Command::Log(options) => commands::log::run(options),
        Command::Version => commands::version::run(),
        Command::Completions(options) => commands::pages::completions(options),
        Command::Man(options) => commands::pages::man(options),
    }
}
