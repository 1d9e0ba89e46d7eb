//! The node file: who this log is, and how often it was started.
//!
//! `node.id`, replaced as a whole (temporary file, sync, rename, sync of the directory), little-endian:
//! ```text
//! byte 0  magic "FLFKNODE"
//!      8  format version   u32 = 1   of the whole directory
//!     12  node id          i32
//!     16  leader epoch     i32       0 until the first start has succeeded
//!     20  cluster id       22 ASCII characters, as Kafka's
//!     42  CRC-32C of bytes 0..42  u32
//! ```
//! It is the first file of a new log. Epoch 0 means that nothing was ever acknowledged, so a start that finds it may
//! begin anew; any other epoch demands a checkpoint.

use std::io;
use std::path::{Path, PathBuf};

use crate::codec::{Reader, Writer, crc32c};
use crate::error::{IoFault, OpenError};
use crate::fs::{Fs, read_whole, write_durably};

/// Name of the file.
pub(crate) const NODE_FILE: &str = "node.id";
const MAGIC: &[u8; 8] = b"FLFKNODE";
const VERSION: u32 = 1;
const CLUSTER_ID_BYTES: usize = 22;
const LENGTH: usize = 46;

/// The content of the node file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) node_id: i32,
    pub(crate) epoch: i32,
    pub(crate) cluster_id: String,
}

impl Node {
    /// A node that has never started.
    pub(crate) fn new(node_id: i32, fs: &dyn Fs) -> Node {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut bits = (u128::from(fs.entropy()) << 64) | u128::from(fs.entropy());
        // 22 characters of 6 bits hold the 128 bits.
        let cluster_id = (0..CLUSTER_ID_BYTES)
            .map(|_| {
                let letter = ALPHABET[(bits & 63) as usize];
                bits >>= 6;
                char::from(letter)
            })
            .collect();
        Node {
            node_id,
            epoch: 0,
            cluster_id,
        }
    }

    /// Reads the file; `None` if there is none.
    pub(crate) fn load(fs: &dyn Fs, dir: &Path) -> Result<Option<Node>, OpenError> {
        let path = dir.join(NODE_FILE);
        let bytes = match read_whole(fs, &path, 4096) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(IoFault::of("read node file", &path)(error).into()),
        };
        Self::decode(&bytes, &path).map(Some)
    }

    fn decode(bytes: &[u8], path: &Path) -> Result<Node, OpenError> {
        let corrupt = |what: &str| OpenError::Corrupt {
            path: PathBuf::from(path),
            position: 0,
            what: what.to_string(),
        };
        let bad = |_| corrupt("the node file is too short");
        let mut reader = Reader::new(bytes);
        if reader.raw(8).map_err(bad)? != MAGIC {
            return Err(corrupt("this is no node file"));
        }
        let version = reader.u32().map_err(bad)?;
        let whole = bytes.len() == LENGTH
            && bytes[LENGTH - 4..] == crc32c(&bytes[..LENGTH - 4]).to_le_bytes();
        if version > VERSION && !whole {
            return Err(OpenError::UnknownVersion {
                path: PathBuf::from(path),
                found: version,
                supported: VERSION,
            });
        }
        if !whole || version != VERSION {
            return Err(corrupt("the node file's checksum does not match"));
        }
        let node_id = reader.i32().map_err(bad)?;
        let epoch = reader.i32().map_err(bad)?;
        let cluster_id = reader.raw(CLUSTER_ID_BYTES).map_err(bad)?;
        let cluster_id = String::from_utf8(cluster_id.to_vec())
            .map_err(|_| corrupt("the cluster id is no text"))?;
        Ok(Node {
            node_id,
            epoch,
            cluster_id,
        })
    }

    /// Replaces the file.
    pub(crate) fn store(&self, fs: &dyn Fs, dir: &Path) -> Result<(), IoFault> {
        let mut out = Writer::default();
        out.raw(MAGIC);
        out.u32(VERSION);
        out.i32(self.node_id);
        out.i32(self.epoch);
        out.raw(self.cluster_id.as_bytes());
        let mut bytes = out.into_vec();
        let crc = crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        write_durably(fs, dir, NODE_FILE, &bytes)
            .map_err(IoFault::of("write node file", &dir.join(NODE_FILE)))
    }
}
