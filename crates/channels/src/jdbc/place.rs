//! From `driver.url` to a file, and the refusal of what cannot be one.

use std::io;
use std::path::{Path, PathBuf};

/// Java's property that Flume's default path begins with.
pub(super) const USER_HOME: &str = "user.home";
/// Derby's property that relative paths are below.
pub(super) const DERBY_HOME: &str = "derby.system.home";
/// Flume's default, below the home directory.
const DEFAULT: &str = ".flume/jdbc-channel/db";
/// What stands in a folder that Derby has made.
const OF_DERBY: [&str; 2] = ["service.properties", "seg0"];
const ALLOWED: &str = "jdbc:sqlite:<file>, or jdbc:derby:<folder>, or no driver.url at all";

/// Where a channel keeps its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The SQLite file.
    pub(super) file: PathBuf,
    /// The folder that the configuration means a Derby database by.
    pub(super) derby: Option<PathBuf>,
}

/// Why a URL will not do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    /// What is wrong and what to do.
    pub(super) message: String,
    /// What is allowed.
    pub(super) allowed: String,
}

fn refused(message: impl Into<String>) -> Refused {
    Refused {
        message: message.into(),
        allowed: ALLOWED.to_owned(),
    }
}

/// The place that a URL names for a channel.
pub(super) fn of<'p>(
    url: Option<&str>,
    property: impl Fn(&str) -> Option<&'p Path>,
    home: &Path,
    channel: &str,
) -> Result<Place, Refused> {
    let home = property(USER_HOME).unwrap_or(home);
    if !home.is_absolute() {
        return Err(refused(format!(
            "{} is not an absolute path",
            home.display()
        )));
    }
    let below_home = |path: &str| match path.strip_prefix("~/") {
        Some(below) => home.join(below),
        None => PathBuf::from(path),
    };
    let Some(url) = url else {
        return Ok(in_folder(home.join(DEFAULT), channel));
    };
    let Some((system, rest)) = url
        .strip_prefix("jdbc:")
        .and_then(|url| url.split_once(':'))
    else {
        return Err(refused("not a JDBC URL"));
    };
    match system {
        "sqlite" => sqlite_file(rest).map(|path| Place {
            file: below_home(path),
            derby: None,
        }),
        "derby" => {
            let folder = below_home(derby_folder(rest)?);
            let folder = match property(DERBY_HOME).filter(|_| folder.is_relative()) {
                Some(base) => base.join(folder),
                None => folder,
            };
            Ok(in_folder(folder, channel))
        }
        server => Err(refused(format!(
            "{server} is a database of its own, and this channel keeps its events in an SQLite file only: leave out driver.url \
             for a file below the home directory; to keep events on other machines, take a kafka channel"
        ))),
    }
}

fn sqlite_file(rest: &str) -> Result<&str, Refused> {
    match rest {
        "" | ":memory:" => Err(refused(
            "names no file; a channel that may forget its events is `type = memory`",
        )),
        path if path.contains('?') || path.starts_with("file:") => {
            Err(refused("parameters in the URL are not supported"))
        }
        path => Ok(path),
    }
}

/// `[directory:]<folder>[;attribute=value]...`
fn derby_folder(rest: &str) -> Result<&str, Refused> {
    let mut parts = rest.split(';');
    let path = parts.next().unwrap_or_default();
    for attribute in parts.filter(|attribute| !attribute.trim().is_empty()) {
        let name = attribute
            .split_once('=')
            .map_or(attribute, |(name, _)| name)
            .trim();
        if name.eq_ignore_ascii_case("dataEncryption") || name.eq_ignore_ascii_case("bootPassword")
        {
            return Err(refused(
                "the SQLite file would not be encrypted: take `type = file` with encryption.*",
            ));
        }
        if !["create", "user", "password"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
        {
            return Err(refused(format!(
                "there is no Derby that could follow the attribute {name}"
            )));
        }
    }
    if path.starts_with("//") {
        return Err(refused("Derby servers are not supported"));
    }
    if path.starts_with("memory:") {
        return Err(refused(
            "a channel that may forget its events is `type = memory`",
        ));
    }
    if path.starts_with("classpath:") || path.starts_with("jar:") {
        return Err(refused(
            "a database that is part of a program cannot be written",
        ));
    }
    match path.strip_prefix("directory:").unwrap_or(path) {
        "" => Err(refused("names no folder")),
        path => Ok(path),
    }
}

/// Below a folder each channel has a file of its own, as each has its own rows in Flume's database.
fn in_folder(folder: PathBuf, channel: &str) -> Place {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let mut name = String::new();
    for byte in channel.bytes() {
        match is_plain(byte) {
            true => name.push(char::from(byte)),
            false => name.push_str(&format!("%{byte:02X}")),
        }
    }
    Place {
        file: folder.join("flafka").join(format!("{name}.sqlite")),
        derby: Some(folder),
    }
}

impl Place {
    /// Whether a Derby database is where this channel would be.
    pub(super) fn has_derby(&self) -> io::Result<bool> {
        let Some(folder) = &self.derby else {
            return Ok(false);
        };
        for name in OF_DERBY {
            if folder.join(name).try_exists()? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_of(url: Option<&str>) -> Result<String, String> {
        let property = |name: &str| (name == DERBY_HOME).then_some(Path::new("/derby"));
        let place = of(url, property, Path::new("/home/x"), "c/1");
        let shown = |place: Place| place.file.display().to_string();
        place.map(shown).map_err(|refused| refused.message)
    }

    #[test]
    fn urls_name_files() {
        for (url, file) in [
            (None, "/home/x/.flume/jdbc-channel/db/flafka/c%2F1.sqlite"),
            (
                Some("jdbc:derby:/a/b;create=true"),
                "/a/b/flafka/c%2F1.sqlite",
            ),
            (
                Some("jdbc:derby:directory:b;user=sa;"),
                "/derby/b/flafka/c%2F1.sqlite",
            ),
            (Some("jdbc:sqlite:/a/b.db"), "/a/b.db"),
            (Some("jdbc:sqlite:~/b.db"), "/home/x/b.db"),
        ] {
            assert_eq!(file_of(url).as_deref(), Ok(file), "{url:?}");
        }
    }

    #[test]
    fn what_is_no_file_is_refused_with_the_reason() {
        for (url, reason) in [
            (
                "jdbc:postgresql://db/flume",
                "postgresql is a database of its own",
            ),
            ("jdbc:mysql://db/flume", "mysql is a database of its own"),
            ("jdbc:derby://localhost:1527/x", "servers"),
            ("jdbc:derby:memory:x;create=true", "type = memory"),
            ("jdbc:derby:classpath:x", "cannot be written"),
            ("jdbc:derby:x;dataEncryption=true", "not be encrypted"),
            ("jdbc:derby:x;shutdown=true", "attribute shutdown"),
            ("jdbc:derby:;create=true", "no folder"),
            ("jdbc:sqlite::memory:", "names no file"),
            ("jdbc:sqlite:/a?cache=shared", "parameters"),
            ("sqlite:/a", "not a JDBC URL"),
            ("jdbc:sqlite", "not a JDBC URL"),
        ] {
            let refused = file_of(Some(url)).expect_err(url);
            assert!(refused.contains(reason), "{url}: {refused}");
        }
    }
}
