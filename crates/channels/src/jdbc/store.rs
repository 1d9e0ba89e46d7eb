//! The SQLite file.
//!
//! ```text
//! application_id = 0x464C4B41 ("FLKA"), user_version = 1
//! event(id INTEGER PRIMARY KEY, headers BLOB, body BLOB)   one row for each event, oldest first
//!     headers: those of Kafka's record batch v2: varint count, then for each varint length, name, varint length, value
//! ```
//!
//! Write-ahead log with `synchronous = FULL`: a commit returns after an fsync of the log. `locking_mode = EXCLUSIVE`, and
//! a lock file beside the database that names the process, so that a second owner is told who the first is. After a
//! failed call other than "disk full" the connection is given up: what the disk has is only known when SQLite opens the
//! file again and checks its log.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use flafka_flow::batch::BatchBuilder;
use flafka_flow::channel::TakeLimit;
use flafka_flow::{Batch, Headers};
use flafka_log_store::{Fs, Lock, LockError, RealFs};
use rusqlite::{Connection, ErrorCode, OpenFlags, params};
use thiserror::Error;

use super::place::Place;
use super::waiting::Range;

const APPLICATION_ID: i32 = 0x464C_4B41;
const VERSION: i32 = 1;
/// The write-ahead log is cut back to this after a large transaction.
const LOG_BYTES: i64 = 64 << 20;
/// Free pages given back to the file system at a clean stop, at most.
const PAGES_GIVEN_BACK: u32 = 100_000;

/// Why the file did not do what was asked.
#[derive(Debug, Error)]
pub(super) enum StoreError {
    /// Flume's own database is where this channel would be.
    #[error(
        "{} holds a Derby database, which only Flume can read: let Flume deliver what is in it (without its sources, until the channel is empty), then move the folder away or choose another one with driver.url",
        folder.display()
    )]
    Derby {
        /// The folder.
        folder: PathBuf,
    },
    /// Another process, or another channel, has the file.
    #[error("{} is in use by process {holder}: stop it, or choose another file with driver.url", file.display())]
    InUse {
        /// The database.
        file: PathBuf,
        /// Process id and command line.
        holder: String,
    },
    /// No table, and none may be made.
    #[error("{} has no table for events and create.schema is false: set it to true once, or correct driver.url", file.display())]
    NoTable {
        /// The database.
        file: PathBuf,
    },
    /// Another program's database.
    #[error("{} is a database of another program: choose another file with driver.url", file.display())]
    NotOurs {
        /// The database.
        file: PathBuf,
    },
    /// A later version's database.
    #[error("{} has format {found} and this version knows {VERSION}: use the version that wrote it", file.display())]
    Version {
        /// The database.
        file: PathBuf,
        /// Its format.
        found: i32,
    },
    /// Its content is not what SQLite, or this channel, wrote.
    #[error(
        "{} is damaged ({what}): restore it from a copy; or stop the agent, read what can be read with `sqlite3 FILE .recover`, and move the file away to start empty",
        file.display()
    )]
    Damaged {
        /// The database.
        file: PathBuf,
        /// What was found.
        what: String,
    },
    /// A call of SQLite failed.
    #[error("{action} {}", file.display())]
    Failed {
        /// A verb.
        action: &'static str,
        /// The database.
        file: PathBuf,
        /// SQLite's error.
        #[source]
        source: rusqlite::Error,
    },
    /// A file call failed.
    #[error("{action} {}", path.display())]
    Io {
        /// A verb.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    fn code(&self) -> Option<ErrorCode> {
        match self {
            StoreError::Failed { source, .. } => source.sqlite_error_code(),
            _ => None,
        }
    }

    /// Whether the connection can go on: nothing of the transaction is in the file, and that is certain.
    pub(super) fn leaves_a_sound_connection(&self) -> bool {
        matches!(self.code(), Some(ErrorCode::DiskFull | ErrorCode::TooBig))
    }

    /// Whether the same call may succeed later.
    pub(super) fn is_retriable(&self) -> bool {
        self.code() != Some(ErrorCode::TooBig)
    }
}

/// An open database.
pub(super) struct Store {
    connection: Connection,
    file: PathBuf,
    _lock: Box<dyn Lock>,
}

/// What an opened database holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) events: usize,
    /// The lowest and the highest number.
    pub(super) range: Option<Range>,
}

/// One part of a transaction.
pub(super) enum Change<'c> {
    /// New events, numbered from `first` on.
    Insert { first: i64, batch: &'c Batch },
    /// Delivered events.
    Delete(&'c [Range]),
}

/// What a read has found in a range.
pub(super) struct Part {
    pub(super) events: usize,
    pub(super) bytes: u64,
    /// The number behind the last one that was looked at; the rest of the range is still to be read.
    pub(super) next: i64,
}

impl Store {
    /// Opens the database, and makes it if it may.
    pub(super) fn open(place: &Place, create_schema: bool) -> Result<(Self, Found), StoreError> {
        let file = &place.file;
        let io = |action, path: &Path, source| StoreError::Io {
            action,
            path: path.to_owned(),
            source,
        };
        if let Some(folder) = &place.derby
            && place
                .has_derby()
                .map_err(|error| io("look into", folder, error))?
        {
            return Err(StoreError::Derby {
                folder: folder.clone(),
            });
        }
        let parent = file
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            create_synced(parent).map_err(|error| io("create", parent, error))?;
        }
        let lock = lock(file)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file, flags)
            .map_err(|error| failed(file, "open", error))?;
        let store = Self {
            connection,
            file: file.clone(),
            _lock: lock,
        };
        let prepared = store.prepare(create_schema);
        let found = prepared.and_then(|()| store.count())?;
        Ok((store, found))
    }

    fn prepare(&self, create_schema: bool) -> Result<(), StoreError> {
        let failed = |error| failed(&self.file, "open", error);
        let number = |pragma: &str| -> Result<i32, StoreError> {
            self.connection
                .pragma_query_value(None, pragma, |row| row.get(0))
                .map_err(failed)
        };
        let count = "SELECT count(*) FROM sqlite_schema";
        let tables: i64 = self
            .connection
            .query_row(count, [], |row| row.get(0))
            .map_err(failed)?;
        match (number("application_id")?, number("user_version")?) {
            (APPLICATION_ID, VERSION) => {}
            (APPLICATION_ID, found) => {
                return Err(StoreError::Version {
                    file: self.file.clone(),
                    found,
                });
            }
            (0, 0) if tables == 0 && create_schema => {
                let vacuum = "PRAGMA auto_vacuum = INCREMENTAL";
                self.connection.execute_batch(vacuum).map_err(failed)?;
            }
            (0, 0) if tables == 0 => {
                return Err(StoreError::NoTable {
                    file: self.file.clone(),
                });
            }
            _ => {
                return Err(StoreError::NotOurs {
                    file: self.file.clone(),
                });
            }
        }
        let setup = format!(
            "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
             PRAGMA journal_size_limit = {LOG_BYTES}"
        );
        self.connection.execute_batch(&setup).map_err(failed)?;
        if tables == 0 {
            let make = format!(
                "BEGIN IMMEDIATE; \
                 CREATE TABLE event (id INTEGER PRIMARY KEY, headers BLOB NOT NULL, body BLOB NOT NULL) STRICT; \
                 PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT"
            );
            self.connection.execute_batch(&make).map_err(failed)?;
        }
        let mode: String = self
            .connection
            .pragma_query_value(None, "journal_mode", |row| row.get(0))
            .map_err(failed)?;
        match mode.as_str() {
            "wal" => Ok(()),
            _ => Err(StoreError::Io {
                action: "write ahead of",
                path: self.file.clone(),
                source: io::Error::other(format!("SQLite stays in the journal mode {mode}")),
            }),
        }
    }

    fn count(&self) -> Result<Found, StoreError> {
        let all = "SELECT count(*), min(id), max(id) FROM event";
        let found = self.connection.query_row(all, [], |row| {
            let events: i64 = row.get(0)?;
            let range = row.get::<_, Option<i64>>(1)?.zip(row.get(2)?);
            Ok(Found {
                events: usize::try_from(events).unwrap_or(0),
                range,
            })
        });
        found.map_err(|error| failed(&self.file, "count the events of", error))
    }

    /// Makes all changes, or none, and returns when the disk has them.
    pub(super) fn write(&self, changes: &[Change<'_>]) -> Result<(), StoreError> {
        let written = self.try_write(changes);
        if written.is_err() && !self.connection.is_autocommit() {
            // When this fails too, the error that led here says why.
            drop(self.connection.execute_batch("ROLLBACK"));
        }
        written.map_err(|error| failed(&self.file, "write to", error))
    }

    fn try_write(&self, changes: &[Change<'_>]) -> rusqlite::Result<()> {
        let connection = &self.connection;
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let mut insert = connection.prepare("INSERT INTO event VALUES (?1, ?2, ?3)")?;
        let mut delete = connection.prepare("DELETE FROM event WHERE id BETWEEN ?1 AND ?2")?;
        for change in changes {
            match change {
                Change::Insert { first, batch } => {
                    for (number, event) in (*first..).zip(batch.iter()) {
                        let headers: &[u8] = event.headers.encoded();
                        insert.execute(params![number, headers, event.body])?;
                    }
                }
                Change::Delete(ranges) => {
                    for (first, last) in *ranges {
                        delete.execute(params![first, last])?;
                    }
                }
            }
        }
        connection.execute_batch("COMMIT")
    }

    /// Reads the oldest events of a range, up to the limit; the first one of a lease is read whatever its size.
    pub(super) fn read(
        &self,
        (first, last): Range,
        limit: TakeLimit,
        is_first: bool,
        into: &mut BatchBuilder,
    ) -> Result<Part, StoreError> {
        let failed = |error| failed(&self.file, "read", error);
        let rows = "SELECT id, headers, body FROM event WHERE id BETWEEN ?1 AND ?2 ORDER BY id";
        let mut rows = self.connection.prepare(rows).map_err(failed)?;
        let mut rows = rows.query(params![first, last]).map_err(failed)?;
        let mut part = Part {
            events: 0,
            bytes: 0,
            next: last + 1,
        };
        while let Some(row) = rows.next().map_err(failed)? {
            let number: i64 = row.get(0).map_err(failed)?;
            let blob = |index| {
                let value = row.get_ref(index).map_err(failed)?;
                value
                    .as_blob()
                    .map_err(|error| self.damaged(format!("event {number}: {error}")))
            };
            let (headers, body) = (blob(1)?, blob(2)?);
            let bytes = (headers.len() + body.len()) as u64;
            let needs_one = is_first && part.events == 0;
            if part.events == limit.events || (part.bytes + bytes > limit.bytes && !needs_one) {
                part.next = number;
                break;
            }
            let headers = Headers::from_encoded(Bytes::copy_from_slice(headers))
                .map_err(|error| self.damaged(format!("headers of event {number}: {error}")))?;
            let headers = into.headers(headers);
            into.push_copy(headers, body);
            part.events += 1;
            part.bytes += bytes;
        }
        Ok(part)
    }

    fn damaged(&self, what: String) -> StoreError {
        StoreError::Damaged {
            file: self.file.clone(),
            what,
        }
    }

    #[cfg(test)]
    pub(super) fn limit_pages(&self, pages: u32) {
        let limited = self.connection.pragma_update(None, "max_page_count", pages);
        limited.expect("a pragma");
    }

    /// Gives free pages back, brings everything into the one file and closes it.
    pub(super) fn close(self) -> Result<(), StoreError> {
        let Self {
            connection, file, ..
        } = self;
        let tidy = format!(
            "PRAGMA incremental_vacuum({PAGES_GIVEN_BACK}); PRAGMA wal_checkpoint(TRUNCATE)"
        );
        let tidied = connection.execute_batch(&tidy);
        let closed = connection.close().map_err(|(_, error)| error);
        closed
            .and(tidied)
            .map_err(|error| failed(&file, "close", error))
    }
}

fn failed(file: &Path, action: &'static str, source: rusqlite::Error) -> StoreError {
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged {
            file: file.to_owned(),
            what: source.to_string(),
        },
        _ => StoreError::Failed {
            action,
            file: file.to_owned(),
            source,
        },
    }
}

fn lock(file: &Path) -> Result<Box<dyn Lock>, StoreError> {
    let mut path = file.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let holder = std::process::id().to_string();
    RealFs.lock(&path, &holder).map_err(|error| match error {
        LockError::Held(holder) => StoreError::InUse {
            file: file.to_owned(),
            holder,
        },
        LockError::Io(source) => StoreError::Io {
            action: "lock",
            path,
            source,
        },
    })
}

/// Makes a folder and those above it, so that a power cut does not take them away.
fn create_synced(folder: &Path) -> io::Result<()> {
    if folder.try_exists()? {
        return Ok(());
    }
    let parent = folder
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_synced(parent)?;
    }
    RealFs.create_dir_all(folder)?;
    RealFs.sync_dir(parent.unwrap_or(Path::new(".")))
}
