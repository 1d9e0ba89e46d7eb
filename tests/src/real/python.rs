//! Python programs of `tests/real/python/` with pinned packages (`requirements.txt`) from the Python package index.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{INSTALL, download_cache};
use crate::process;
use crate::workspace;

/// Installing from a cold package index.
const INSTALL_LIMIT: Duration = Duration::from_secs(600);

/// Runs `tests/real/python/<script>` and returns its standard output.
///
/// # Errors
/// Python or its venv module is missing, packages cannot be installed, or the script fails or runs over 120 s.
pub fn python(script: &str, arguments: &[&str], input: &[u8]) -> Result<String> {
    let requirements = workspace::real("python/requirements.txt");
    let pins =
        fs::read(&requirements).with_context(|| format!("read {}", requirements.display()))?;
    // Plain files under `--target` and not a virtual environment: its scripts and links would hold the temporary path.
    let packages =
        download_cache::folder("python", &pins, |folder| install(folder, &requirements))?;
    let mut command = process::command("python3");
    command
        .env("PYTHONPATH", &packages)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    command
        .arg(workspace::real("python").join(script))
        .args(arguments);
    let finished = process::run(script, command, input, Duration::from_secs(120))?;
    Ok(finished
        .success(&format!("{script} {}", arguments.join(" ")))?
        .stdout)
}

fn install(folder: &Path, requirements: &Path) -> Result<()> {
    let environment = tempfile::tempdir().context("make a directory for a Python environment")?;
    let mut venv = process::command("python3");
    venv.args(["-m", "venv"]).arg(environment.path());
    let made = process::run("python3 -m venv", venv, b"", INSTALL_LIMIT)?;
    if !made.status.success() {
        bail!(
            "python3 -m venv does not work ({} {}): {INSTALL}",
            made.stdout.trim(),
            made.stderr.trim()
        );
    }
    let mut pip = process::command(environment.path().join("bin/pip"));
    pip.args([
        "install",
        "--quiet",
        "--require-hashes",
        "--no-deps",
        "--no-compile",
        "--target",
    ])
    .arg(folder);
    pip.arg("-r").arg(requirements);
    process::run("pip install", pip, b"", INSTALL_LIMIT)?
        .success("install the Python packages")
        .map(drop)
}
