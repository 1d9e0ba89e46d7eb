//! The small files beside the logs:
//! ```text
//! log-N.meta      delimited LogFileMetaData {1 sfixed32 version=3, 2 sfixed32 log file, 3 sfixed64 checkpoint position,
//!                 4 sfixed64 checkpoint order, 5 optional encryption {1 cipher provider, 2 key alias, 3 parameters},
//!                 6 sfixed64 backup position, 7 sfixed64 backup order}
//! checkpoint.meta delimited Checkpoint {1 sfixed32 version, 2 sfixed64 order, 3 sfixed32 queue size, 4 sfixed32 queue
//!                 head, 5 repeated {1 sfixed32 log file, 2 sfixed32 events}}
//! inflightputs, inflighttakes   MD5 of the rest (16 bytes), then big-endian longs: transaction, count, pointers …,
//!                 and two zeroes at the end; an empty file when nothing was under way
//! ```

use std::collections::BTreeMap;

use crate::Pointer;
use crate::md5::md5;
use crate::protobuf::{Cursor, required};
use crate::record::Malformed;

/// Content of `log-N.meta`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogMeta {
    /// Format version of the log file.
    pub version: i32,
    /// Number of the log file.
    pub file: i32,
    /// Where the last checkpoint found the end.
    pub checkpoint_position: i64,
    /// Write order id of that checkpoint.
    pub checkpoint_order: i64,
    /// The same of the checkpoint before.
    pub backup_position: i64,
    /// The same of the checkpoint before.
    pub backup_order: i64,
    /// How the records are encrypted.
    pub encryption: Option<Encryption>,
}

/// How the records of a log file are encrypted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encryption {
    /// Such as `AESCTRNOPADDING`.
    pub cipher: String,
    /// Alias of the key in the key store.
    pub key: String,
    /// The initial counter block.
    pub parameters: Vec<u8>,
}

/// Content of `checkpoint.meta`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckpointMeta {
    /// Format version.
    pub version: i32,
    /// Write order id at which it was made.
    pub order: i64,
    /// Events in the queue.
    pub size: i32,
    /// Slot of the first one.
    pub head: i32,
}

/// Transactions that were under way at a checkpoint, with the puts they are about.
pub type InFlight = BTreeMap<i64, Vec<Pointer>>;

/// Decodes `log-N.meta`.
///
/// # Errors
/// When the bytes are something else.
pub fn log_meta(bytes: &[u8]) -> Result<LogMeta, Malformed> {
    let mut message = Cursor(Cursor(bytes).delimited()?);
    let mut meta = LogMeta::default();
    let mut version = None;
    while let Some((number, value)) = message.field()? {
        match number {
            1 => version = Some(value.fixed32()?),
            2 => meta.file = value.fixed32()?,
            3 => meta.checkpoint_position = value.fixed64()?,
            4 => meta.checkpoint_order = value.fixed64()?,
            5 => meta.encryption = Some(encryption(value.bytes()?)?),
            6 => meta.backup_position = value.fixed64()?,
            7 => meta.backup_order = value.fixed64()?,
            _ => {}
        }
    }
    meta.version = required(version, "the version is missing")?;
    Ok(meta)
}

fn encryption(bytes: &[u8]) -> Result<Encryption, Malformed> {
    let mut message = Cursor(bytes);
    let mut encryption = Encryption::default();
    while let Some((number, value)) = message.field()? {
        match number {
            1 => encryption.cipher = value.text()?.to_owned(),
            2 => encryption.key = value.text()?.to_owned(),
            3 => encryption.parameters = value.bytes()?.to_vec(),
            _ => {}
        }
    }
    Ok(encryption)
}

/// Decodes `checkpoint.meta`.
///
/// # Errors
/// When the bytes are something else.
pub fn checkpoint_meta(bytes: &[u8]) -> Result<CheckpointMeta, Malformed> {
    let mut message = Cursor(Cursor(bytes).delimited()?);
    let mut meta = CheckpointMeta::default();
    let mut version = None;
    while let Some((number, value)) = message.field()? {
        match number {
            1 => version = Some(value.fixed32()?),
            2 => meta.order = value.fixed64()?,
            3 => meta.size = value.fixed32()?,
            4 => meta.head = value.fixed32()?,
            _ => {}
        }
    }
    meta.version = required(version, "the version is missing")?;
    Ok(meta)
}

/// Decodes `inflightputs` or `inflighttakes`. The pointers of a transaction come back ascending: Flume writes them in the
/// order of a hash table.
///
/// # Errors
/// When the checksum or a count does not fit.
pub fn in_flight(bytes: &[u8]) -> Result<InFlight, Malformed> {
    let mut found = InFlight::new();
    let Some((checksum, rest)) = bytes.split_first_chunk::<16>() else {
        return match bytes.is_empty() {
            true => Ok(found),
            false => Err(Malformed("shorter than its checksum")),
        };
    };
    if md5(rest) != *checksum {
        return Err(Malformed("its checksum does not match"));
    }
    let mut longs = rest.chunks_exact(8).filter_map(|long| {
        long.first_chunk::<8>()
            .map(|long| i64::from_be_bytes(*long))
    });
    while let (Some(transaction), Some(count)) = (longs.next(), longs.next()) {
        if transaction == 0 && count == 0 {
            break;
        }
        let left = longs.clone().count();
        let count = usize::try_from(count).ok().filter(|count| *count <= left);
        let count = count.ok_or(Malformed("a count of pointers is impossible"))?;
        let pointers: &mut Vec<Pointer> = found.entry(transaction).or_default();
        pointers.extend(longs.by_ref().take(count).map(Pointer::from_long));
        pointers.sort_unstable();
        pointers.dedup();
    }
    Ok(found)
}
