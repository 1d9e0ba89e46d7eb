//! Where a run works: the binary, a temporary directory on the disk to be measured, words for the terminal, and the
//! deadline that every wait has.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::arguments::Arguments;

/// How often a wait looks.
const LOOK: Duration = Duration::from_millis(4);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Ends all waits.
pub(crate) fn interrupt() {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

/// A line on the standard error, where progress goes.
pub(crate) fn say(line: &str) {
    // Nobody is left to tell when the terminal is gone.
    drop(writeln!(std::io::stderr().lock(), "{line}"));
}

/// The binary and a place for its files.
pub(crate) struct Workplace {
    pub(crate) binary: PathBuf,
    /// Removed at the end.
    folder: TempDir,
}

impl Workplace {
    pub(crate) fn open(arguments: &Arguments) -> Result<Self> {
        let binary = &arguments.binary;
        let binary = binary.canonicalize().with_context(|| {
            format!(
                "{} is not there; build it with `cargo build --release -p flafka`, or run `./dev bench`",
                binary.display()
            )
        })?;
        let work = &arguments.work;
        std::fs::create_dir_all(work)
            .with_context(|| format!("make the folder {}", work.display()))?;
        let folder = tempfile::Builder::new()
            .prefix("run-")
            .tempdir_in(work.canonicalize()?)
            .with_context(|| format!("make a temporary directory in {}", work.display()))?;
        Ok(Self { binary, folder })
    }

    /// The temporary directory.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A new empty folder for one measurement, removed when it is over.
    pub(crate) fn fresh(&self) -> Result<TempDir> {
        tempfile::tempdir_in(self.path()).context("make a folder for a measurement")
    }
}

/// When a measurement has to be over: a minute, and a second for each 2 MB.
pub(crate) fn deadline(bytes: u64) -> Instant {
    Instant::now() + Duration::from_secs(60 + bytes / 2_000_000)
}

/// Whether to give up.
pub(crate) fn check(deadline: Instant, what: &str) -> Result<()> {
    if INTERRUPTED.load(Ordering::SeqCst) {
        bail!("interrupted");
    }
    if Instant::now() >= deadline {
        bail!("gave up waiting: {what}");
    }
    Ok(())
}

/// Asks `attempt` until it gives something.
pub(crate) fn wait<T>(
    deadline: Instant,
    what: &str,
    mut attempt: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    loop {
        if let Some(value) = attempt()? {
            return Ok(value);
        }
        check(deadline, what)?;
        std::thread::sleep(LOOK);
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?;
    Ok(listener.local_addr()?.port())
}
