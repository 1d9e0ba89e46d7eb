//! The seed inputs: small files under `corpus/<target>/`, read in the order of their names.
//!
//! Generated seeds are written by `--write-corpus`; an input that once broke a parser is added by hand under a name
//! that tells the defect, and stays.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::targets::Target;

/// Where the corpus stands in the source tree.
pub fn default_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The seeds of a target. None if it has no folder: then its inputs are the generated ones.
///
/// # Errors
/// A file cannot be read.
pub fn load(dir: &Path, target: &Target) -> Result<Vec<Vec<u8>>> {
    let dir = dir.join(target.name);
    let mut seeds = Vec::new();
    if dir.try_exists()? {
        let entries = fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))?;
        let mut paths = entries
            .map(|entry| Ok(entry?.path()))
            .collect::<Result<Vec<PathBuf>>>()?;
        paths.sort();
        for path in paths {
            seeds.push(fs::read(&path).with_context(|| format!("read {}", path.display()))?);
        }
    }
    if seeds.is_empty() {
        seeds = (target.seeds)();
    }
    Ok(seeds)
}

/// Writes the generated seeds of a target; returns how many.
///
/// # Errors
/// A file cannot be written.
pub fn write(dir: &Path, target: &Target) -> Result<usize> {
    let dir = dir.join(target.name);
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let seeds = (target.seeds)();
    for (index, seed) in seeds.iter().enumerate() {
        let path = dir.join(format!("seed-{index:03}"));
        fs::write(&path, seed).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(seeds.len())
}
