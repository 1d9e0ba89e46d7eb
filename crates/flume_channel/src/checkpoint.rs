//! The checkpoint: Flume's queue at one moment, so that a replay reads only what came later.
//! ```text
//! checkpoint  big-endian longs: [0] version 3, [1] write order id, [4] 0 = complete, 1 = being written,
//!             from [1029] on a ring of pointers `fileID << 32 | offset`: event i of the queue is in slot
//!             1029 + (head + i) mod capacity
//! ```
//! One that is missing or not in order is not an error: Flume then reads all logs from their start, and so do we.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::Pointer;
use crate::error::FlumeError;
use crate::meta::{self, InFlight};

const HEADER_LONGS: u64 = 1029;
const LONG: u64 = 8;
/// Largest of the small files that is read: a transaction of a million events needs 8 MiB.
pub(crate) const SMALL_FILE_BYTES: u64 = 256 << 20;
/// Pointers read at once.
const RING_BYTES: u64 = 64 * 1024;

/// A good checkpoint.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) path: PathBuf,
    file: File,
    pub(crate) order: i64,
    pub(crate) size: u64,
    head: u64,
    capacity: u64,
    pub(crate) puts: InFlight,
    pub(crate) takes: InFlight,
}

/// Where a replay starts.
#[derive(Debug)]
pub(crate) enum Start {
    /// Behind the checkpoint.
    Checkpoint(Box<Checkpoint>),
    /// At the start of all logs, because of this.
    Everything(String),
}

/// A whole file of bounded size; `None` if there is none.
pub(crate) fn read_small(path: &Path) -> Result<Option<Vec<u8>>, FlumeError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FlumeError::io("open", path)(error)),
    };
    let mut bytes = Vec::new();
    let mut limited = file.take(SMALL_FILE_BYTES + 1);
    limited
        .read_to_end(&mut bytes)
        .map_err(FlumeError::io("read", path))?;
    if bytes.len() as u64 > SMALL_FILE_BYTES {
        let error = io::Error::new(io::ErrorKind::InvalidData, "larger than 256 MiB");
        return Err(FlumeError::io("read", path)(error));
    }
    Ok(Some(bytes))
}

impl Start {
    /// Looks at the checkpoint in `dir`.
    pub(crate) fn load(dir: Option<&Path>) -> Result<Start, FlumeError> {
        let Some(dir) = dir else {
            return Ok(Start::Everything(
                "no checkpoint directory was given".to_owned(),
            ));
        };
        Ok(match Checkpoint::load(dir)? {
            Ok(checkpoint) => Start::Checkpoint(Box::new(checkpoint)),
            Err(reason) => Start::Everything(reason),
        })
    }
}

impl Checkpoint {
    /// The checkpoint, or why it does not count.
    fn load(dir: &Path) -> Result<Result<Checkpoint, String>, FlumeError> {
        let path = dir.join("checkpoint");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Err(format!("{} has no checkpoint", dir.display())));
            }
            Err(error) => return Err(FlumeError::io("open", &path)(error)),
        };
        let Some(meta) = read_small(&dir.join("checkpoint.meta"))? else {
            return Ok(Err("checkpoint.meta is missing".to_owned()));
        };
        let meta = match meta::checkpoint_meta(&meta) {
            Ok(meta) => meta,
            Err(error) => return Ok(Err(format!("checkpoint.meta: {error}"))),
        };
        let (mut puts, mut takes) = (InFlight::new(), InFlight::new());
        for (name, into) in [("inflightputs", &mut puts), ("inflighttakes", &mut takes)] {
            let bytes = read_small(&dir.join(name))?.unwrap_or_default();
            match meta::in_flight(&bytes) {
                Ok(found) => *into = found,
                Err(error) => return Ok(Err(format!("{name}: {error}"))),
            }
        }
        let length = file
            .metadata()
            .map_err(FlumeError::io("measure", &path))?
            .len();
        let mut head = [0; 40];
        if length < (HEADER_LONGS + 1) * LONG || file.read_exact_at(&mut head, 0).is_err() {
            return Ok(Err("the checkpoint is too short".to_owned()));
        }
        let long = |index: usize| {
            let bytes = head[index * 8..].first_chunk::<8>();
            bytes.map_or(0, |bytes| i64::from_be_bytes(*bytes))
        };
        if long(0) != 3 || meta.version != 3 {
            return Ok(Err(format!("the checkpoint has version {}", long(0))));
        }
        if long(4) != 0 {
            return Ok(Err("the checkpoint was not written to its end".to_owned()));
        }
        if long(1) != meta.order {
            return Ok(Err(
                "checkpoint and checkpoint.meta are of different times".to_owned()
            ));
        }
        let capacity = length / LONG - HEADER_LONGS;
        let in_ring = |value: i32| u64::try_from(value).ok().filter(|value| *value <= capacity);
        let (Some(size), Some(queue_head)) = (in_ring(meta.size), in_ring(meta.head)) else {
            return Ok(Err(
                "checkpoint.meta names slots that the checkpoint does not have".to_owned(),
            ));
        };
        Ok(Ok(Checkpoint {
            path,
            file,
            order: meta.order,
            size,
            head: queue_head,
            capacity,
            puts,
            takes,
        }))
    }

    /// The pointers of the queue from number `from` on, some of them; none at the end.
    pub(crate) fn pointers(&self, from: u64) -> Result<Vec<Pointer>, FlumeError> {
        let slot = (self.head + from) % self.capacity;
        let count = (self.size.saturating_sub(from))
            .min(self.capacity - slot)
            .min(RING_BYTES / LONG);
        let mut bytes = vec![0; (count * LONG) as usize];
        self.file
            .read_exact_at(&mut bytes, (HEADER_LONGS + slot) * LONG)
            .map_err(FlumeError::io("read", &self.path))?;
        let long = |chunk: &[u8]| {
            chunk
                .first_chunk::<8>()
                .map(|long| i64::from_be_bytes(*long))
        };
        Ok(bytes
            .chunks_exact(8)
            .filter_map(long)
            .map(Pointer::from_long)
            .collect())
    }
}
