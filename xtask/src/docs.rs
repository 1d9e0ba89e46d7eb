//! Writes the generated reference, or says what of it is not up to date.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Where the pages are, from the root.
const FOLDER: &str = "docs/reference";

/// By what a generated page is known.
const MARK: &str = "<!-- generated";

/// Writes the pages that differ and removes generated ones that are no longer made; how many.
pub(crate) fn write(root: &Path, pages: &[(String, String)]) -> Result<usize> {
    let folder = root.join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let mut written = 0;
    for (name, text) in pages {
        let path = folder.join(name);
        if fs::read_to_string(&path).unwrap_or_default() != *text {
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
            written += 1;
        }
    }
    for name in left_over(&folder, pages)? {
        let path = folder.join(name);
        fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    }
    Ok(written)
}

/// What `write` would change.
pub(crate) fn check(root: &Path, pages: &[(String, String)]) -> Result<Vec<String>> {
    let folder = root.join(FOLDER);
    let mut complaints = Vec::new();
    for (name, text) in pages {
        match fs::read_to_string(folder.join(name)) {
            Ok(found) if found == *text => {}
            Ok(found) => {
                let same = found.lines().zip(text.lines());
                let line = same.take_while(|(left, right)| left == right).count() + 1;
                complaints.push(format!(
                    "{FOLDER}/{name}:{line}: not what the code says; run ./dev docs"
                ));
            }
            Err(error) => complaints.push(format!("{FOLDER}/{name}: {error}; run ./dev docs")),
        }
    }
    if folder.is_dir() {
        for name in left_over(&folder, pages)? {
            complaints.push(format!(
                "{FOLDER}/{name}: no longer generated; run ./dev docs"
            ));
        }
    }
    Ok(complaints)
}

/// Generated pages in the folder that are not among `pages`.
fn left_over(folder: &Path, pages: &[(String, String)]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let entry = entry.with_context(|| format!("list {}", folder.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let known = pages.iter().any(|(page, _)| *page == name);
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        if !known && text.starts_with(MARK) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_pages_pass_the_check() {
        let root = tempfile::tempdir().expect("temporary directory");
        let page = |name: &str, text: &str| (name.to_owned(), format!("{MARK} -->\n{text}\n"));
        let pages = vec![page("a.md", "one\ntwo"), page("b.md", "b")];
        assert_eq!(check(root.path(), &pages).expect("checked").len(), 2);
        assert_eq!(write(root.path(), &pages).expect("written"), 2);
        assert_eq!(write(root.path(), &pages).expect("written"), 0);
        assert_eq!(check(root.path(), &pages).expect("checked"), [""; 0]);
        let hand_made = root.path().join(FOLDER).join("own.md");
        fs::write(&hand_made, "# own\n").expect("written");
        let fewer = vec![page("a.md", "one\n2")];
        assert_eq!(
            check(root.path(), &fewer).expect("checked"),
            [
                "docs/reference/a.md:3: not what the code says; run ./dev docs",
                "docs/reference/b.md: no longer generated; run ./dev docs",
            ]
        );
        write(root.path(), &fewer).expect("written");
        assert_eq!(check(root.path(), &fewer).expect("checked"), [""; 0]);
        assert!(hand_made.is_file());
    }
}
