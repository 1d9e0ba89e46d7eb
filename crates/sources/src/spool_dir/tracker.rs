//! The tracker file `.flumespool-main.meta`: which file is being read, and how far (reference 3.9).
//!
//! It is Flume's own format, so that a running Flume can be left behind in the middle of a file:
//! an Avro container whose metadata key `file` holds the path, and whose last record holds the
//! position. We add the key `flafka.identity` (device and inode), which Flume passes over: a new
//! file under an old name is not taken for the one that was begun.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use flafka_avro_wire::container::{Codec, ContainerError, ContainerReader, ContainerWriter};
use flafka_avro_wire::varint::{long_at, put_long};
use thiserror::Error;

use crate::durable_file::replace_file;

/// Name of the tracker in the tracker folder.
pub(super) const TRACKER_NAME: &str = ".flumespool-main.meta";

const SCHEMA: &str = r#"{"type":"record","name":"TransferStateFileMeta","namespace":"org.apache.flume.serialization","fields":[{"name":"offset","type":"long"}]}"#;
const FILE_KEY: &str = "file";
const IDENTITY_KEY: &str = "flafka.identity";
/// Larger trackers are not read: they hold some 22 bytes for each advance.
const MAX_TRACKER_BYTES: u64 = 256 << 20;
/// Bytes of a block at most.
const MAX_BLOCK_BYTES: usize = 1 << 20;

/// Why bytes are no tracker.
#[derive(Debug, Error)]
pub enum TrackerError {
    /// No Avro container file.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// The metadata do not name a file.
    #[error("the tracker names no file")]
    NoFile,
}

/// What a tracker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracked {
    /// Path of the file, as bytes.
    pub file: Vec<u8>,
    /// Device and inode; not in a tracker that Flume wrote.
    pub identity: Option<(u64, u64)>,
    /// Position in the file.
    pub position: u64,
}

/// Parses a tracker; records behind a cut or damaged one do not count.
///
/// # Errors
/// When the bytes are no container file or do not say which file they are about.
pub fn parse_tracker(bytes: &[u8]) -> Result<Tracked, TrackerError> {
    let mut reader = ContainerReader::open(bytes, MAX_BLOCK_BYTES)?;
    let value = |key: &str| {
        let metadata = &reader.header().metadata;
        let found = metadata.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.clone())
    };
    let mut tracked = Tracked {
        file: value(FILE_KEY).ok_or(TrackerError::NoFile)?,
        identity: value(IDENTITY_KEY).and_then(|text| parse_identity(&text)),
        position: 0,
    };
    while let Ok(Some(block)) = reader.next_block() {
        let mut at = 0;
        for _ in 0..block.datums {
            let Some((position, next)) = long_at(&block.data, at) else {
                return Ok(tracked);
            };
            tracked.position = u64::try_from(position).unwrap_or(0);
            at = next;
        }
    }
    Ok(tracked)
}

fn parse_identity(text: &[u8]) -> Option<(u64, u64)> {
    let (device, inode) = std::str::from_utf8(text).ok()?.split_once(':')?;
    Some((device.parse().ok()?, inode.parse().ok()?))
}

/// Reads the tracker in `folder`. A tracker without content is none.
pub(super) fn load(folder: &Path) -> io::Result<Option<Result<Tracked, TrackerError>>> {
    let file = match File::open(folder.join(TRACKER_NAME)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_TRACKER_BYTES).read_to_end(&mut bytes)?;
    if bytes.is_empty() {
        return Ok(None);
    }
    Ok(Some(parse_tracker(&bytes)))
}

/// The tracker of the file that is being read.
pub(super) struct Tracker {
    path: PathBuf,
    file: Option<File>,
    writer: ContainerWriter,
    written: u64,
    /// What the channels have taken.
    committed: u64,
}

impl Tracker {
    /// A tracker in `folder` without a file yet.
    pub(super) fn new(folder: &Path) -> Self {
        Self {
            path: folder.join(TRACKER_NAME),
            file: None,
            writer: ContainerWriter::new(Codec::Null, *uuid::Uuid::new_v4().as_bytes(), 1),
            written: 0,
            committed: 0,
        }
    }

    /// Begins to track `file` at `position`. Blocks.
    pub(super) fn begin(
        &mut self,
        file: &Path,
        identity: (u64, u64),
        position: u64,
    ) -> io::Result<()> {
        let identity = format!("{}:{}", identity.0, identity.1);
        let metadata = [
            (FILE_KEY, file.as_os_str().as_encoded_bytes()),
            (IDENTITY_KEY, identity.as_bytes()),
        ];
        let mut bytes = Vec::new();
        self.writer.begin_with(SCHEMA, &metadata, &mut bytes);
        self.writer
            .append(&mut bytes, |datum| put_long(datum, position.cast_signed()));
        self.committed = position;
        self.written = position;
        self.file = None;
        self.file = Some(replace_file(&self.path, &bytes)?);
        Ok(())
    }

    /// The channels have taken the file up to `position`.
    pub(super) fn advance(&mut self, position: u64) {
        self.committed = position;
    }

    /// What the channels have taken.
    pub(super) fn committed(&self) -> u64 {
        self.committed
    }

    /// Whether there is something to write.
    pub(super) fn is_behind(&self) -> bool {
        self.committed != self.written
    }

    /// Appends the latest position. It survives a kill of the process, not a power cut. Blocks.
    pub(super) fn append(&mut self) -> io::Result<()> {
        let position = self.committed;
        if position == self.written {
            return Ok(());
        }
        let Some(file) = self.file.as_mut() else {
            return Ok(());
        };
        let mut bytes = Vec::new();
        self.writer
            .append(&mut bytes, |datum| put_long(datum, position.cast_signed()));
        let written = file.write_all(&bytes);
        match written {
            Ok(()) => self.written = position,
            // What follows a cut record would not be read.
            Err(_) => self.file = None,
        }
        written
    }

    /// The file is done: nothing is tracked any more. Blocks.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.file = None;
        remove(&self.path)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes sure that a tracker can be written into `folder`. Blocks.
pub(super) fn probe(folder: &Path) -> io::Result<()> {
    let path = folder.join(TRACKER_NAME);
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|file| file.metadata())
        .and_then(|metadata| match metadata.len() {
            0 => remove(&path),
            _ => Ok(()),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_record_counts_also_when_one_is_cut() {
        let folder = tempfile::tempdir().expect("folder");
        let mut tracker = Tracker::new(folder.path());
        tracker
            .begin(Path::new("/spool/a"), (1, 2), 0)
            .expect("begins");
        for position in [10, 20, 300] {
            tracker.advance(position);
            assert!(tracker.is_behind());
            tracker.append().expect("appends");
        }
        let path = folder.path().join(TRACKER_NAME);
        let bytes = std::fs::read(&path).expect("reads");
        let expected = Tracked {
            file: b"/spool/a".to_vec(),
            identity: Some((1, 2)),
            position: 300,
        };
        assert_eq!(parse_tracker(&bytes).expect("parses"), expected);
        let cut = parse_tracker(&bytes[..bytes.len() - 3]).expect("parses");
        assert_eq!(cut.position, 20);
        tracker.end().expect("ends");
        assert!(load(folder.path()).expect("loads").is_none());
        assert!(parse_tracker(b"Obj\x01").is_err());
    }

    #[test]
    fn a_tracker_as_flume_writes_it_is_read() {
        // Written by hand after the format: metadata `file` and `avro.schema`, no codec, two blocks.
        let mut bytes = b"Obj\x01".to_vec();
        put_long(&mut bytes, 2);
        for (name, value) in [("file", "/in/x.log"), ("avro.schema", SCHEMA)] {
            for text in [name, value] {
                put_long(&mut bytes, text.len() as i64);
                bytes.extend_from_slice(text.as_bytes());
            }
        }
        bytes.push(0);
        bytes.extend_from_slice(&[9; 16]);
        for position in [7i64, 4096] {
            let mut datum = Vec::new();
            put_long(&mut datum, position);
            put_long(&mut bytes, 1);
            put_long(&mut bytes, datum.len() as i64);
            bytes.extend_from_slice(&datum);
            bytes.extend_from_slice(&[9; 16]);
        }
        let tracked = parse_tracker(&bytes).expect("parses");
        assert_eq!(
            (tracked.file.as_slice(), tracked.identity, tracked.position),
            (&b"/in/x.log"[..], None, 4096)
        );
    }
}
