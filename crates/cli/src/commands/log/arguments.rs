//! The command line of `flafka log`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::arguments::ConfigurationOptions;

/// `flafka log`.
#[derive(Debug, Clone, Args)]
pub(crate) struct LogOptions {
    #[command(subcommand)]
    pub(crate) action: LogAction,
}

/// What to do with a log.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum LogAction {
    /// Take over the events that wait in an Apache Flume file channel
    #[command(long_about = IMPORT)]
    Import(ImportArguments),
    /// List the streams of a log: segments, offsets, bytes, durability, what waits
    #[command(name = "ls", visible_alias = "list")]
    List(ListArguments),
    /// Print the batches of a segment or stream, the frames of a journal, or a checkpoint
    Dump(DumpArguments),
    /// Check that everything can be read and fits together; exit code 1 if not
    #[command(long_about = VERIFY)]
    Verify(VerifyArguments),
    /// Make a damaged log usable again; shows what it would do until --yes is given
    #[command(long_about = REPAIR)]
    Repair(RepairArguments),
    /// Show rates, sizes, compression and ages of what is stored
    Stats(StatsArguments),
}

const REPAIR: &str = "Make a damaged log usable again.\n\n\
    Keeps every batch that can be read, wherever it is, and leaves out the bytes that cannot. \
    Without --yes nothing is changed: what would be done is shown, and which offsets are lost. With \
    --yes it is done, and every file that is replaced is kept in a new folder repair-<time> of the \
    log. The log must not be in use.\n\n\
    Each of a file channel's dataDirs, and each of a broker's log.dirs, is a log of its own: repair the \
    damaged ones by themselves.";

const VERIFY: &str = "Check that everything can be read and fits together.\n\n\
    Reads every batch with its checksum, the offsets, the indexes, the journal and the \
    checkpoints. Nothing is changed, and the log may be in use. Exit code 0: sound (notes are \
    printed), 1: something is damaged; every finding names its file and byte.\n\n\
    Each of a file channel's dataDirs, and each of a broker's log.dirs, is a log of its own: check them \
    one by one.";

const IMPORT: &str = "Take over the events that wait in an Apache Flume file channel.\n\n\
    Reads Flume's log files (version 3) and checkpoint and writes the events that wait, in Flume's \
    order, into the directory of a flafka file channel: what was put and committed and not yet \
    taken by a committed transaction. Flume's files are never changed. Stop that Flume first: its \
    lock is respected, and it cannot start meanwhile.\n\n\
    An import that was interrupted goes on where it was when it is run again; one that has ended \
    does nothing. With the conf file of Flume the directories are found in it:\n\n  \
    flafka log import -f flume.conf -n a1 --channel c1\n\n\
    The keys of an encrypted channel are found there too (encryption.*); what is imported is then \
    encrypted under its encryption.activeKey.\n\n\
    Without --to the events go into the folder flafka in the first of the dataDirs, where the same \
    conf file run by flafka expects them.";

/// `flafka log import`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ImportArguments {
    #[command(flatten)]
    pub(crate) configuration: ConfigurationOptions,
    /// With -f: name of the agent
    #[arg(short = 'n', long = "name", value_name = "NAME", requires = "channel")]
    pub(crate) name: Option<String>,
    /// With -f: name of the channel
    #[arg(long, value_name = "NAME")]
    pub(crate) channel: Option<String>,
    /// Flume's checkpointDir; without it all logs are read from their start
    #[arg(long, value_name = "DIR", conflicts_with = "channel")]
    pub(crate) checkpoint_dir: Option<PathBuf>,
    /// Flume's dataDirs, all of them: repeat, or separate by commas
    #[arg(
        long,
        visible_alias = "from",
        value_name = "DIR",
        value_delimiter = ',',
        required_unless_present = "channel",
        conflicts_with = "channel"
    )]
    pub(crate) data_dirs: Vec<PathBuf>,
    /// First of the dataDirs of the channel that takes the events; by default that of the source
    #[arg(long, value_name = "DIR")]
    pub(crate) to: Option<PathBuf>,
    /// Import what can be read although something cannot
    #[arg(long)]
    pub(crate) leave_out_damaged: bool,
    /// Import into a channel that holds events already: the imported ones come behind them
    #[arg(long)]
    pub(crate) append: bool,
    /// Only count what there is
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `flafka log ls`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ListArguments {
    /// Directory of a file channel (one of its dataDirs) or of a broker (one of log.dirs)
    pub(crate) dir: PathBuf,
    /// Show the segments of each stream
    #[arg(short, long)]
    pub(crate) segments: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `flafka log stats`.
#[derive(Debug, Clone, Args)]
pub(crate) struct StatsArguments {
    /// Directory of a file channel (one of its dataDirs) or of a broker (one of log.dirs)
    pub(crate) dir: PathBuf,
    /// Only the stream of this name, such as topic/orders/0
    #[arg(long, value_name = "NAME")]
    pub(crate) stream: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `flafka log verify`.
#[derive(Debug, Clone, Args)]
pub(crate) struct VerifyArguments {
    /// Directory of a file channel (one of its dataDirs) or of a broker (one of log.dirs)
    pub(crate) dir: PathBuf,
    /// Print JSON: a line for each finding, then one with the counts
    #[arg(long)]
    pub(crate) json: bool,
}

/// `flafka log dump`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DumpArguments {
    /// A segment (.log), journal (.jnl) or checkpoint (.ckp) file, or a directory as of `flafka log ls`
    pub(crate) path: PathBuf,
    /// With a directory: the stream of this name; without it every stream
    #[arg(long, value_name = "NAME")]
    pub(crate) stream: Option<String>,
    /// With a directory: its journal instead of its streams
    #[arg(long, conflicts_with = "stream")]
    pub(crate) journal: bool,
    /// Show the records of each batch
    #[arg(short, long)]
    pub(crate) records: bool,
    /// First offset to show
    #[arg(long, value_name = "OFFSET")]
    pub(crate) from: Option<i64>,
    /// Show at most so many batches or frames
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub(crate) count: Option<u64>,
    /// Print a JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

/// `flafka log repair`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RepairArguments {
    /// Directory of a file channel (one of its dataDirs) or of a broker (one of log.dirs)
    pub(crate) dir: PathBuf,
    /// Do it
    #[arg(long)]
    pub(crate) yes: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
