//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::channel::Load;

/// Measures the release binary on this machine and prints one table.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "dev bench",
    bin_name = "./dev bench",
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:
  ./dev bench                                the whole table, about four minutes
  ./dev bench --quick                        the same with little data, to see that it works
  ./dev bench --only tail-file --runs 5      one measurement
  ./dev bench --only flume-channel           on request only: channel, flume-channel, backlog
  ./dev bench --out bench/results            keep the table as bench/results/<date>-<revision>.md

How to read the table: bench/README.md."
)]
pub(crate) struct Arguments {
    /// Input of each measurement in MiB
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..=65_536))]
    pub(crate) size: u64,
    /// Little data and one run: shows that everything works, says little about speed
    #[arg(long)]
    pub(crate) quick: bool,
    /// Runs of each measurement; the median is shown
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub(crate) runs: u32,
    /// Only these measurements; repeatable
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Vec<String>,
    /// With which durability, where a log is involved
    #[arg(long, value_enum, default_value_t = Durabilities::Both)]
    pub(crate) durability: Durabilities,
    /// Bytes of an event, the newline of a line included
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = clap::value_parser!(u64).range(32..=65_536))]
    pub(crate) event_bytes: u64,
    /// Events in one HTTP request
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) http_batch: u64,
    /// HTTP connections that post at the same time
    #[arg(long, value_name = "COUNT", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=256))]
    pub(crate) connections: u64,
    /// Folder for a Markdown file with the table
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Folder for the temporary directory; it should be on the disk that is to be measured
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    pub(crate) work: PathBuf,
    /// The binary to measure
    #[arg(
        long,
        value_name = "FILE",
        env = "FLAFKA_BIN",
        default_value = "target/release/flafka"
    )]
    pub(crate) binary: PathBuf,
    /// What the tool starts itself with
    #[command(subcommand)]
    pub(crate) load: Option<Inner>,
}

/// Processes of its own.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Inner {
    /// Loads a file channel and writes what came of it
    #[command(hide = true)]
    Load(Load),
}

/// Which durabilities to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Durabilities {
    /// Acknowledged after an fsync (the default of the product)
    Fsync,
    /// Acknowledged when the operating system has it
    Os,
    /// Both, one after the other
    Both,
}

impl Arguments {
    /// Bytes of input of each measurement.
    pub(crate) fn input_bytes(&self) -> u64 {
        if self.quick {
            16 << 20
        } else {
            self.size << 20
        }
    }

    /// How often each measurement is made.
    pub(crate) fn rounds(&self) -> u32 {
        if self.quick { 1 } else { self.runs }
    }
}
