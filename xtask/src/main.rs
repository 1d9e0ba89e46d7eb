//! Generates and checks what is generated, and checks what rustc and clippy do not: `./dev docs`, `./dev lint`.

mod dependencies;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

fn main() -> Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask lies one folder below the root")?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["check"] => Ok(report(&dependencies::check(root)?)),
        _ => bail!("usage: xtask check"),
    }
}

/// Shows the findings of a check.
fn report(findings: &[String]) -> ExitCode {
    findings.iter().for_each(|finding| eprintln!("{finding}"));
    if findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
