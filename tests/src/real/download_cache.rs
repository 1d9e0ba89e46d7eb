//! Folders of downloaded files outside the clone, filled once.
//!
//! A folder's name carries a hash of the pins it was filled from, so a changed pin is a new folder and never a mixture.
//! Invariant: a folder under its final name is complete (it is filled under a temporary one, then renamed), also when
//! several test runs want it at once (a lock file).

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::workspace;

/// The cache folder `<name>-<hash of pins>`, filled by `fill` the first time.
///
/// # Errors
/// The cache cannot be written, or `fill` fails.
pub(crate) fn folder(
    name: &str,
    pins: &[u8],
    fill: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let cache = workspace::cache_directory()?;
    let mut hasher = DefaultHasher::new();
    hasher.write(pins);
    let folder = cache.join(format!("{name}-{:016x}", hasher.finish()));
    let lock = File::create(cache.join(format!("{name}.lock")))
        .context("create a lock file in the cache")?;
    lock.lock()
        .context("wait for another test run that fills the cache")?;
    if folder.is_dir() {
        return Ok(folder);
    }
    let unfinished = cache.join(format!("{name}.unfinished"));
    if unfinished.is_dir() {
        fs::remove_dir_all(&unfinished)
            .with_context(|| format!("remove {}", unfinished.display()))?;
    }
    fs::create_dir(&unfinished).with_context(|| format!("make {}", unfinished.display()))?;
    fill(&unfinished)?;
    fs::rename(&unfinished, &folder).with_context(|| format!("name {}", folder.display()))?;
    Ok(folder)
}
