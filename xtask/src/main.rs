//! Generates what is generated and checks what a compiler does not: `xtask docs [--check]` and
//! `xtask check`. `./dev docs` and `./dev lint` call it.

mod check;
mod dependencies;
mod docs;
mod log_form;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

const USAGE: &str =
    "usage: xtask docs [--check]   write docs/reference/, or check that it is up to date
       xtask check            file lengths, module docs, log form, forbidden macros, licences and bans";

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = workspace_root(&std::env::current_dir().context("find the current directory")?)?;
    let complaints = match arguments.as_slice() {
        ["docs"] => {
            let written = docs::write(&root, &pages())?;
            say(&format!(
                "docs: {written} of {} pages written",
                pages().len()
            ))?;
            Vec::new()
        }
        ["docs", "--check"] => docs::check(&root, &pages())?,
        ["check"] => {
            let mut complaints = check::check(&root)?;
            complaints.extend(dependencies::check(&root)?);
            complaints
        }
        _ => bail!("{USAGE}"),
    };
    for complaint in &complaints {
        say(complaint)?;
    }
    if complaints.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!("{} complaints", complaints.len()))?;
    Ok(ExitCode::FAILURE)
}

fn pages() -> Vec<(String, String)> {
    flafka_config::reference::pages(&flafka_agent::registry())
}

fn say(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").context("write to standard output")
}

/// The folder of the workspace that `from` lies in.
fn workspace_root(from: &Path) -> Result<PathBuf> {
    for folder in from.ancestors() {
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
        if manifest.contains("[workspace]") {
            return Ok(folder.to_path_buf());
        }
    }
    bail!("no workspace at or above {}", from.display())
}
