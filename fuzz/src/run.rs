//! Running targets: a parent that starts one child for each, and the child that feeds it inputs.
//!
//! The child writes each input to a file before it runs it, so that whatever ends the process, the input is known. It
//! limits its own address space, and a watchdog thread ends it when one case takes too long.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::targets::Target;
use crate::{corpus, mutate, report};

/// Address space of a child. Far above what a parser may use, far below what a false length asks for.
const MEMORY_BYTES: u64 = 2 << 30;
/// Longest time for one case; the slowest honest ones take milliseconds, unoptimised ones ten times that.
const CASE: Duration = Duration::from_secs(10);
/// How this program ends when it cannot run.
pub const EXIT_BROKEN: i32 = 2;
/// How a child says that a case took too long.
const EXIT_SLOW: i32 = 91;
/// How a child says that a case panicked.
const EXIT_PANIC: i32 = 92;

/// How to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Seed of the first target; each target mixes its name in.
    pub seed: u64,
    /// How long each target runs.
    pub time: Duration,
    /// The corpus.
    pub corpus: PathBuf,
    /// Where findings and the current input go.
    pub work: PathBuf,
}

/// Runs one target in a child of its own. True if it found nothing.
///
/// # Errors
/// The child cannot be started or its files not be read.
pub fn run_in_child(target: &Target, options: &Options) -> Result<bool> {
    fs::create_dir_all(&options.work)
        .with_context(|| format!("create {}", options.work.display()))?;
    let current = options.work.join(format!("{}.current", target.name));
    let this = std::env::current_exe().context("find this program")?;
    let status = Command::new(this)
        .arg("--child")
        .arg(target.name)
        .args(["--seed", &options.seed.to_string()])
        .args(["--seconds", &options.time.as_secs_f64().to_string()])
        .arg("--corpus")
        .arg(&options.corpus)
        .arg("--work")
        .arg(&options.work)
        .stdin(Stdio::null())
        .status()
        .context("start a child")?;
    if status.success() {
        fs::remove_file(&current).with_context(|| format!("remove {}", current.display()))?;
        return Ok(true);
    }
    if status.code() == Some(EXIT_BROKEN) {
        bail!("target {}: the child could not run, see above", target.name);
    }
    let input = read_current(&current)?;
    let finding = options
        .work
        .join(format!("{}-{:016x}.bin", target.name, fingerprint(&input)));
    fs::write(&finding, &input).with_context(|| format!("write {}", finding.display()))?;
    report::line(&format!(
        "{}: FAILED, {}; seed {}; input of {} bytes in {}\n  repeat it: cargo run -p flafka-fuzz -- --replay {} {}",
        target.name,
        describe(status),
        options.seed,
        input.len(),
        finding.display(),
        target.name,
        finding.display(),
    ))?;
    Ok(false)
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(EXIT_PANIC), _) => "it panicked".to_owned(),
        (Some(EXIT_SLOW), _) => format!("one case took more than {} s", CASE.as_secs()),
        (Some(code), _) => format!("the child ended with {code}"),
        (None, Some(signal)) => format!(
            "the child was ended by signal {signal} (6 is an abort: out of {} MiB, or a panic that cannot unwind; 11 \
             is a stack overflow)",
            MEMORY_BYTES >> 20
        ),
        (None, None) => "the child ended".to_owned(),
    }
}

/// The child: feeds the target until the time is over, then prints one line.
///
/// # Errors
/// The corpus or the current-input file fails. Findings end the process.
pub fn child(target: &Target, options: &Options) -> Result<()> {
    limit_memory()?;
    let seeds = corpus::load(&options.corpus, target)?;
    if seeds.is_empty() {
        bail!("target {} has no seeds", target.name);
    }
    let current = File::create(options.work.join(format!("{}.current", target.name)))
        .context("create the file for the current input")?;
    let message = keep_panic_message();
    let watched = watch();
    let mut random = SmallRng::seed_from_u64(options.seed ^ fingerprint(target.name.as_bytes()));
    let (mut input, mut framed) = (Vec::new(), Vec::new());
    let start = Instant::now();
    let mut cases = 0u64;
    // Every seed as it is first, then damaged ones until the time is over.
    while cases < seeds.len() as u64 || start.elapsed() < options.time {
        match seeds.get(cases as usize) {
            Some(seed) => input.clone_from(seed),
            None => mutate::next_input(&mut random, &seeds, &mut input),
        }
        framed.clear();
        framed.extend_from_slice(&(input.len() as u64).to_le_bytes());
        framed.extend_from_slice(&input);
        current
            .write_all_at(&framed, 0)
            .context("write the current input")?;
        cases += 1;
        watched.store(cases, Ordering::Relaxed);
        if catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_err() {
            let said = message
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            report::line(&format!("{}: {said}", target.name))?;
            std::process::exit(EXIT_PANIC);
        }
    }
    let rate = cases as f64 / start.elapsed().as_secs_f64();
    report::line(&format!(
        "{}: ok, {cases} cases, {rate:.0} cases/s, {} seeds, seed {}",
        target.name,
        seeds.len(),
        options.seed
    ))
}

/// Runs a target once on a file.
///
/// # Errors
/// The file cannot be read. A finding ends the process as it did before.
pub fn replay(target: &Target, path: &Path) -> Result<()> {
    let input = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    limit_memory()?;
    let watched = watch();
    watched.store(1, Ordering::Relaxed);
    (target.run)(&input);
    report::line(&format!("{}: ok, {} bytes", target.name, input.len()))
}

fn limit_memory() -> Result<()> {
    let limit = Rlimit {
        current: Some(MEMORY_BYTES),
        maximum: Some(MEMORY_BYTES),
    };
    setrlimit(Resource::As, limit).context("limit the address space")
}

/// Starts the thread that ends the process when the counter stands still for too long.
fn watch() -> Arc<AtomicU64> {
    let counter = Arc::new(AtomicU64::new(0));
    let watched = Arc::clone(&counter);
    std::thread::spawn(move || {
        let (mut last, mut since) = (0, Instant::now());
        loop {
            std::thread::sleep(CASE / 20);
            let now = watched.load(Ordering::Relaxed);
            if now != last {
                (last, since) = (now, Instant::now());
            } else if now > 0 && since.elapsed() > CASE {
                std::process::exit(EXIT_SLOW);
            }
        }
    });
    counter
}

/// Replaces the panic output by a slot that holds the last message.
fn keep_panic_message() -> Arc<Mutex<String>> {
    let slot = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&slot);
    std::panic::set_hook(Box::new(move |panic| {
        *kept.lock().unwrap_or_else(PoisonError::into_inner) = panic.to_string();
    }));
    slot
}

/// The input that the child wrote last: its length, then its bytes; what follows is left from longer ones.
fn read_current(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let input = bytes
        .split_first_chunk::<8>()
        .and_then(|(length, rest)| rest.get(..usize::try_from(u64::from_le_bytes(*length)).ok()?));
    Ok(input.unwrap_or_default().to_vec())
}

/// FNV-1a, for names of files and for seeds.
fn fingerprint(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}
