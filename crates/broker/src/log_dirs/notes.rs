//! What the data directories know of each other, in the logs' journaled table `Configs`.
//!
//! ```text
//! main log    key "log.dirs/" id   value version u8 = 1 | path            one for each other directory
//! other logs  key "log.dirs"       value version u8 = 1 | main id, 22 ASCII | path of the main directory
//! ```
//!
//! Invariant: a directory is marked before the main log notes it, and noted before a partition is put into it. A broker
//! with one directory has neither, so directories written before there were several are as they were.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flafka_log_store::{CommitError, Log, Op, Table};

const MARK: &[u8] = b"log.dirs";
const NOTE: &[u8] = b"log.dirs/";
const VERSION: u8 = 1;
/// Length of a directory's id.
pub(crate) const ID_BYTES: usize = 22;

/// Whose directory it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) main_id: String,
    pub(super) main_path: PathBuf,
}

/// An entry cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its entry `{key}` is damaged or of a later release of this program")]
pub struct NoteError {
    key: String,
}

fn unreadable(key: &[u8]) -> NoteError {
    NoteError {
        key: String::from_utf8_lossy(key).into_owned(),
    }
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

/// The mark of a directory that is not the main one.
pub(super) fn mark(log: &Log) -> Result<Option<Mark>, NoteError> {
    let Some(value) = log.get(Table::Configs, MARK) else {
        return Ok(None);
    };
    let parsed = value
        .strip_prefix(&[VERSION])
        .and_then(|rest| rest.split_at_checked(ID_BYTES))
        .and_then(|(id, path)| {
            Some(Mark {
                main_id: String::from_utf8(id.to_vec()).ok()?,
                main_path: path_of(path),
            })
        });
    parsed.map(Some).ok_or_else(|| unreadable(MARK))
}

pub(super) async fn set_mark(log: &Log, mark: &Mark) -> Result<(), CommitError> {
    let mut value = vec![VERSION];
    value.extend_from_slice(mark.main_id.as_bytes());
    value.extend_from_slice(mark.main_path.as_os_str().as_bytes());
    put(log, Bytes::from_static(MARK), value).await
}

/// The other directories by id, as the main log knows them.
pub(super) fn noted(main: &Log) -> Result<BTreeMap<String, PathBuf>, NoteError> {
    let entries = main.scan_prefix(Table::Configs, NOTE);
    let parse = |(key, value): (Bytes, Bytes)| {
        let id = key
            .strip_prefix(NOTE)
            .and_then(|id| std::str::from_utf8(id).ok());
        match (id, value.strip_prefix(&[VERSION])) {
            (Some(id), Some(path)) => Ok((id.to_owned(), path_of(path))),
            _ => Err(unreadable(&key)),
        }
    };
    entries.into_iter().map(parse).collect()
}

pub(super) async fn note(main: &Log, id: &str, path: &Path) -> Result<(), CommitError> {
    let mut value = vec![VERSION];
    value.extend_from_slice(path.as_os_str().as_bytes());
    put(main, note_key(id), value).await
}

pub(super) async fn forget(main: &Log, id: &str) -> Result<(), CommitError> {
    let delete = Op::Delete {
        table: Table::Configs,
        key: note_key(id),
    };
    main.commit(vec![delete]).await.map(drop)
}

fn note_key(id: &str) -> Bytes {
    [NOTE, id.as_bytes()].concat().into()
}

async fn put(log: &Log, key: Bytes, value: Vec<u8>) -> Result<(), CommitError> {
    let put = Op::Put {
        table: Table::Configs,
        key,
        value: value.into(),
    };
    log.commit(vec![put]).await.map(drop)
}
