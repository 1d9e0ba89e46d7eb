//! Which directories a channel has: noted in the log of each, so that one that is taken off the list is not forgotten
//! with its events.
//!
//! ```text
//! table Cursors, key "data directories"
//! value  version u8 = 1 | per directory: length u16 big-endian, path
//! ```

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flafka_log_store::{CommitError, Op, Table};

use super::volume::Open;

const KEY: &[u8] = b"data directories";
const VERSION: u8 = 1;

/// All directories that any of the logs knows.
pub(super) fn of(opens: &[Open]) -> BTreeSet<PathBuf> {
    let noted = |open: &Open| open.log.get(Table::Cursors, KEY);
    let values = opens.iter().filter_map(noted);
    values.flat_map(|value| decode(&value)).collect()
}

/// Notes the directories in each log that does not know exactly these.
pub(super) async fn note(opens: &[Open], dirs: &[PathBuf]) -> Result<(), CommitError> {
    let value = encode(dirs);
    for open in opens {
        let known = open.log.get(Table::Cursors, KEY);
        // One directory alone needs no list.
        if known.as_ref() == Some(&value) || (known.is_none() && dirs.len() == 1) {
            continue;
        }
        let put = Op::Put {
            table: Table::Cursors,
            key: Bytes::from_static(KEY),
            value: value.clone(),
        };
        open.log.commit(vec![put]).await?;
    }
    Ok(())
}

/// Takes the list out of the log of a directory that is no longer the channel's.
pub(super) async fn forget(open: &Open) -> Result<(), CommitError> {
    let delete = Op::Delete {
        table: Table::Cursors,
        key: Bytes::from_static(KEY),
    };
    open.log.commit(vec![delete]).await.map(|_| ())
}

fn encode(dirs: &[PathBuf]) -> Bytes {
    let mut value = vec![VERSION];
    for dir in dirs {
        let path = dir.as_os_str().as_bytes();
        let Ok(length) = u16::try_from(path.len()) else {
            continue;
        };
        value.extend(length.to_be_bytes());
        value.extend_from_slice(path);
    }
    Bytes::from(value)
}

/// The paths; a list of another version is not understood and counts as none.
fn decode(value: &[u8]) -> Vec<PathBuf> {
    let Some((&VERSION, mut rest)) = value.split_first() else {
        return Vec::new();
    };
    let mut dirs = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        let Some((path, after)) = after.split_at_checked(length) else {
            break;
        };
        dirs.push(Path::new(OsStr::from_bytes(path)).to_owned());
        rest = after;
    }
    dirs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_comes_back_and_damage_ends_it() {
        let dirs = [PathBuf::from("/a"), PathBuf::from("/bé/c")];
        let value = encode(&dirs);
        assert_eq!(decode(&value), dirs);
        assert_eq!(decode(&value[..value.len() - 1]), dirs[..1]);
        assert!(decode(b"").is_empty() && decode(b"\x02\0\x01/").is_empty());
    }
}
