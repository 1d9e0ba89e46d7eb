//! Jars from Maven Central, once, into the cache.
//!
//! The versions are those of `tests/real/<system>/pom.xml`, the local repository is Maven's own.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{INSTALL, download_cache};
use crate::process;
use crate::workspace;

/// Maven with cold caches on a slow line took just over a minute.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(900);

/// A folder with all jars that `tests/real/<system>/pom.xml` names, fetched if need be.
///
/// # Errors
/// Maven is missing or fails.
pub(crate) fn jars(system: &str) -> Result<PathBuf> {
    let pom = workspace::real(&format!("{system}/pom.xml"));
    let pins = fs::read(&pom).with_context(|| format!("read {}", pom.display()))?;
    download_cache::folder(system, &pins, |folder| {
        let mut maven = process::command("mvn");
        maven
            .args(["-q", "-B", "-f"])
            .arg(&pom)
            .arg("dependency:copy-dependencies");
        maven.arg(format!("-DoutputDirectory={}", folder.display()));
        let finished = process::run("mvn", maven, b"", DOWNLOAD_LIMIT)?;
        if finished.status.code() == Some(127) {
            bail!("mvn is not installed: {INSTALL}");
        }
        finished
            .success("fetch jars with mvn dependency:copy-dependencies")
            .map(drop)
    })
}
