//! Channels that would keep their events in the same place: each needs files and directories of its own.
//!
//! Paths are compared as they are written, absolute and without `.` and `..`; links are not followed, nothing is touched.
//! Only the channels of one agent are compared: agents of one file may be meant for different machines.

use std::path::{Component, Path, PathBuf};

use flafka_flow::registry::StoragePlace;
use flafka_flow::settings::{Problem, Severity};

use super::ChannelConfig;
use super::checker::Checker;

/// A place and whose it is.
struct Owned<'c> {
    channel: &'c ChannelConfig,
    place: StoragePlace,
    path: PathBuf,
}

/// Reports places that two channels have, or one channel twice, and directories that lie in one another.
pub(super) fn check(checker: &mut Checker<'_>, channels: &[ChannelConfig]) {
    let mut seen: Vec<Owned<'_>> = Vec::new();
    for channel in channels {
        let mut entries = checker.registry.channels.iter();
        let entry = entries.find(|entry| entry.description.names.matches(&channel.type_name));
        let places =
            entry.map(|entry| (entry.places)(&channel.section, checker.home, &channel.name));
        for place in places.unwrap_or_default() {
            let path = plain(&place.path);
            let new = Owned {
                channel,
                place,
                path,
            };
            // One is enough: the next check shows the next.
            if let Some(problem) = seen.iter().find_map(|other| conflict(other, &new)) {
                checker.report.push(problem);
            }
            seen.push(new);
        }
    }
}

fn conflict(other: &Owned<'_>, new: &Owned<'_>) -> Option<Problem> {
    if other.place.is_directory != new.place.is_directory {
        return None;
    }
    let (theirs, path) = (other.path.display(), new.path.display());
    let what = match new.place.is_directory {
        true => "directory",
        false => "file",
    };
    let whose = match other.channel.name == new.channel.name {
        true => "this channel too".to_owned(),
        false => format!("the channel `{}`", other.channel.name),
    };
    let message = if other.path == new.path {
        format!("the {what} {path} is that of {whose}")
    } else if !new.place.is_directory {
        return None;
    } else if new.path.starts_with(&other.path) {
        format!("the directory {path} lies in {theirs}, that of {whose}")
    } else if other.path.starts_with(&new.path) {
        format!("in the directory {path} lies {theirs}, that of {whose}")
    } else {
        return None;
    };
    let section = &new.channel.section;
    let key = format!("{}.{}", section.path, new.place.key);
    // Old spellings of a key end in it.
    let is_spelling = |key: &str| {
        let before = key.strip_suffix(new.place.key);
        before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
    };
    let mut entries = section.entries.iter();
    let entry = entries.find(|(key, _)| is_spelling(key));
    let message = match entry {
        Some(_) => message,
        None => format!("{message}; it is the default of {}", new.place.key),
    };
    let help = match other.channel.name == new.channel.name {
        true => format!("name each {what} once"),
        false => format!("set `{key}` to a {what} that no other channel has"),
    };
    // One in another works, as it does in Flume; whoever empties the outer one loses both.
    let severity = match other.path == new.path {
        true => Severity::Error,
        false => Severity::Warning,
    };
    let problem = Problem::new(severity, key, message).help(help);
    Some(problem.at(entry.map_or(section.span, |(_, entry)| entry.value_span)))
}

/// Absolute, and without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_one_spelling() {
        for (written, path) in [("/a/../b/./c/", "/b/c"), ("/../a", "/a"), ("/a//b", "/a/b")] {
            assert_eq!(plain(Path::new(written)), Path::new(path), "{written}");
        }
        assert!(plain(Path::new("a/../b")).is_absolute());
    }
}
