//! Licences, bans and sources of everything the product is built from, by the lists in `deny.toml`.
//!
//! Why not cargo-deny alone: compiling it takes minutes, and a check that is skipped where it is not installed is none.
//! This one needs cargo only; `./dev lint` runs cargo-deny as well where there is one. The packages come from
//! `cargo tree`, which knows the features really in use (`cargo metadata` also names optional packages that nothing
//! turns on). Invariant: what cannot be understood, be it a licence or a line of `deny.toml`, is a finding.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// The targets that `deny.toml` names too; the product is for these.
const TARGETS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Checks the workspace at `root`; returns one line a finding.
///
/// # Errors
/// `deny.toml` or `Cargo.lock` cannot be read, or cargo fails.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let rules = Rules::read(&root.join("deny.toml"))?;
    let mut findings = Vec::new();
    for package in packages(root)? {
        findings.extend(rules.judge(&package));
    }
    let lock = fs::read_to_string(root.join("Cargo.lock")).context("read Cargo.lock")?;
    for line in lock.lines().filter(|line| line.starts_with("source = ")) {
        if line != format!("source = \"{CRATES_IO}\"") {
            findings.push(format!("Cargo.lock: {line}: only crates.io is allowed"));
        }
    }
    Ok(findings)
}

/// A package in use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Package {
    name: String,
    version: String,
    licence: String,
}

fn packages(root: &Path) -> Result<BTreeSet<Package>> {
    let mut found = BTreeSet::new();
    for target in TARGETS {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(root).args([
            "tree",
            "--workspace",
            "--all-features",
            "--edges",
            "normal,build,dev",
        ]);
        cargo.args([
            "--prefix", "none", "--format", "{p}\t{l}", "--target", target,
        ]);
        let output = cargo.output().context("run cargo tree")?;
        ensure!(
            output.status.success(),
            "cargo tree failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8(output.stdout)
            .context("cargo tree printed something that is no text")?;
        for line in text.lines().filter(|line| !line.is_empty()) {
            found.insert(parse_tree_line(line)?);
        }
    }
    Ok(found)
}

/// `name v1.2.3 (proc-macro)<tab>licence (*)`.
fn parse_tree_line(line: &str) -> Result<Package> {
    let (package, licence) = line
        .split_once('\t')
        .with_context(|| format!("cargo tree printed {line:?}"))?;
    let mut words = package.split(' ');
    let name = words.next().unwrap_or_default().to_owned();
    let version = words.next().unwrap_or_default().to_owned();
    let licence = licence
        .strip_suffix(" (*)")
        .unwrap_or(licence)
        .trim()
        .to_owned();
    Ok(Package {
        name,
        version,
        licence,
    })
}

/// The lists of `deny.toml`.
#[derive(Debug)]
struct Rules {
    allowed: BTreeSet<String>,
    banned: BTreeSet<String>,
}

impl Rules {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("understand {}", path.display()))
    }

    /// Reads the two lists by their section and key. It is not a TOML parser: `deny.toml` keeps to one entry a line.
    fn parse(text: &str) -> Result<Self> {
        let mut rules = Self {
            allowed: BTreeSet::new(),
            banned: BTreeSet::new(),
        };
        let (mut section, mut list) = (String::new(), None);
        for line in text
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default().trim())
        {
            if let Some(name) = line
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'))
                .filter(|_| list.is_none())
            {
                name.clone_into(&mut section);
            } else if line == "]" {
                list = None;
            } else if let Some((key, "[")) = line.split_once(" = ") {
                list = Some(format!("{section}.{key}"));
            } else if let Some(list) = list.as_deref().filter(|_| !line.is_empty()) {
                match list {
                    "licenses.allow" => rules.allowed.insert(quoted(line)?),
                    "bans.deny" => rules.banned.insert(quoted(line)?),
                    _ => false,
                };
            }
        }
        ensure!(
            !rules.allowed.is_empty(),
            "no list [licenses] allow with one entry a line"
        );
        ensure!(
            !rules.banned.is_empty(),
            "no list [bans] deny with one entry a line"
        );
        Ok(rules)
    }

    fn judge(&self, package: &Package) -> Vec<String> {
        let Package {
            name,
            version,
            licence,
        } = package;
        let mut findings = Vec::new();
        if self.banned.contains(name) {
            findings.push(format!("{name} {version} is banned by deny.toml"));
        }
        match expression_allowed(licence, &self.allowed) {
            Ok(true) => {}
            Ok(false) => findings.push(format!(
                "{name} {version}: licence {licence:?} is not in deny.toml's allow list"
            )),
            Err(error) => {
                findings.push(format!("{name} {version}: licence {licence:?}: {error:#}"))
            }
        }
        findings
    }
}

/// The text between the first two quotation marks.
fn quoted(line: &str) -> Result<String> {
    let text = line
        .split('"')
        .nth(1)
        .with_context(|| format!("no quoted text in {line:?}"))?;
    Ok(text.to_owned())
}

/// Whether an SPDX expression can be fulfilled with the allowed licences. `/` is the old way to write OR.
fn expression_allowed(expression: &str, allowed: &BTreeSet<String>) -> Result<bool> {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Expression {
        words: &words,
        allowed,
    };
    let result = reader.any()?;
    ensure!(reader.words.is_empty(), "unexpected {:?}", reader.words[0]);
    Ok(result)
}

/// Reads an expression word by word; AND binds closer than OR.
struct Expression<'a> {
    words: &'a [&'a str],
    allowed: &'a BTreeSet<String>,
}

impl Expression<'_> {
    fn any(&mut self) -> Result<bool> {
        let mut result = self.all()?;
        while self.skip("OR") {
            result |= self.all()?;
        }
        Ok(result)
    }

    fn all(&mut self) -> Result<bool> {
        let mut result = self.one()?;
        while self.skip("AND") {
            result &= self.one()?;
        }
        Ok(result)
    }

    fn one(&mut self) -> Result<bool> {
        if self.skip("(") {
            let result = self.any()?;
            ensure!(self.skip(")"), "a parenthesis is not closed");
            return Ok(result);
        }
        let Some((licence, rest)) = self.words.split_first() else {
            bail!("a licence is missing")
        };
        ensure!(
            !["AND", "OR", "WITH", ")"].contains(licence),
            "unexpected {licence:?}"
        );
        self.words = rest;
        if self.skip("WITH") {
            let Some((exception, rest)) = self.words.split_first() else {
                bail!("an exception is missing")
            };
            self.words = rest;
            return Ok(self
                .allowed
                .contains(&format!("{licence} WITH {exception}")));
        }
        Ok(self.allowed.contains(*licence))
    }

    fn skip(&mut self, word: &str) -> bool {
        let found = self.words.first() == Some(&word);
        if found {
            self.words = &self.words[1..];
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(expression: &str) -> Result<bool> {
        let allowed =
            ["MIT", "ISC", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
        expression_allowed(expression, &BTreeSet::from(allowed))
    }

    #[test]
    fn expressions_are_fulfilled_or_not() {
        for good in [
            "MIT",
            "GPL-3.0 OR MIT",
            "MIT/GPL-2.0",
            "MIT AND (ISC OR GPL-3.0)",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(allowed(good).expect("an expression"), "{good}");
        }
        for bad in [
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "GPL-3.0 OR MIT AND AGPL-3.0",
            "MIT WITH Some-exception",
        ] {
            assert!(!allowed(bad).expect("an expression"), "{bad}");
        }
        for broken in ["", "MIT OR", "(MIT", "MIT)", "AND MIT", "MIT ISC"] {
            assert!(allowed(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn the_lists_are_read_by_section() {
        let text = "[licenses]\nallow = [\n  \"MIT\", # why\n]\n[bans]\nskip = [\n  \"x\",\n]\ndeny = [\n  { crate = \"ring\" },\n]\n";
        let rules = Rules::parse(text).expect("both lists");
        assert_eq!(rules.allowed, BTreeSet::from(["MIT".to_owned()]));
        assert_eq!(rules.banned, BTreeSet::from(["ring".to_owned()]));
        assert!(Rules::parse("[licenses]\nallow = [\"MIT\"]\n").is_err());
    }

    #[test]
    fn a_banned_package_and_a_foreign_licence_are_findings() {
        let rules =
            Rules::parse("[licenses]\nallow = [\n\"MIT\"\n]\n[bans]\ndeny = [\n\"ring\"\n]")
                .expect("both lists");
        let package = parse_tree_line("ring v0.17.14\tISC (*)").expect("a package");
        assert_eq!(rules.judge(&package).len(), 2);
        let package = parse_tree_line("serde_derive v1.0.1 (proc-macro)\tMIT OR Apache-2.0")
            .expect("a package");
        assert_eq!(rules.judge(&package), Vec::<String>::new());
    }

    #[test]
    fn the_projects_own_rules_are_understood() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("the workspace");
        let rules = Rules::read(&root.join("deny.toml")).expect("deny.toml");
        assert!(rules.allowed.contains("Apache-2.0") && rules.banned.contains("ring"));
    }
}
