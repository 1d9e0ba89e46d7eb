//! Where things are: the checkout, the binary under test, the cache outside the clone.
//!
//! Environment: `FLAFKA_BIN` names the binary (default: `flafka` beside the running test's own target directory);
//! `FLAFKA_CACHE_DIR` names the cache of jars and Python packages (default: `~/.cache/flafka`, and the target directory
//! where that cannot be written). Invariant: nothing is written into the checkout.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// The root of the checkout.
#[must_use]
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests crate lies one folder below the root")
}

/// A file or folder under `tests/real/`.
#[must_use]
pub fn real(relative: &str) -> PathBuf {
    root().join("tests/real").join(relative)
}

/// The directory the running test was built into, such as `target/debug`.
///
/// # Errors
/// The test does not know its own path, or does not lie in a `deps` folder.
pub fn build_directory() -> Result<PathBuf> {
    let own = env::current_exe().context("find the path of the running test")?;
    let deps = own.parent().filter(|folder| folder.ends_with("deps"));
    match deps.and_then(Path::parent) {
        Some(folder) => Ok(folder.to_owned()),
        None => bail!(
            "the running test, {}, does not lie in a `deps` folder of a target directory",
            own.display()
        ),
    }
}

/// The binary under test.
///
/// # Errors
/// There is none; the error says how to build it.
pub fn flafka_binary() -> Result<PathBuf> {
    let (path, origin) = match env::var_os("FLAFKA_BIN") {
        Some(path) => (PathBuf::from(path), "named by FLAFKA_BIN"),
        None => (build_directory()?.join("flafka"), "the default"),
    };
    if path.is_file() {
        return Ok(path);
    }
    bail!(
        "no flafka binary at {} ({origin}): run `cargo build -p flafka`, or set FLAFKA_BIN",
        path.display()
    )
}

/// The cache outside the clone, made if need be.
///
/// # Errors
/// No place for it can be written.
pub fn cache_directory() -> Result<PathBuf> {
    if let Some(path) = env::var_os("FLAFKA_CACHE_DIR") {
        let path = PathBuf::from(path);
        fs::create_dir_all(&path)
            .with_context(|| format!("make FLAFKA_CACHE_DIR, {}", path.display()))?;
        return Ok(path);
    }
    if let Some(home) = env::var_os("HOME") {
        let path = PathBuf::from(home).join(".cache/flafka");
        if fs::create_dir_all(&path).is_ok() && tempfile::tempfile_in(&path).is_ok() {
            return Ok(path);
        }
    }
    let path = build_directory()?.join("real-cache");
    fs::create_dir_all(&path).with_context(|| format!("make the cache, {}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_the_workspace() {
        let manifest =
            fs::read_to_string(root().join("Cargo.toml")).expect("the workspace manifest");
        assert!(manifest.contains("[workspace]"));
        assert!(real("kafka/pom.xml").is_file());
    }
}
