//! What a journal file or a checkpoint says, frame by frame, in words.

use std::path::Path;

use crate::checkpoint::Snapshot;
use crate::error::{IoFault, OpenError};
use crate::fs::{Fs, read_whole};
use crate::inspect::ReadOnly;
use crate::journal::files::{self, FRAMES_AT};
use crate::journal::frame::{FRAME_HEADER_BYTES, FrameHeader, Record, frame_bytes, verify};
use crate::op::{Position, Table};
use crate::settings::StreamSettings;
use crate::window::Window;

/// Largest checkpoint that is read.
const MAX_CHECKPOINT_BYTES: u64 = 2 << 30;
/// Keys and values are shown up to so many bytes.
const SHOWN_BYTES: usize = 200;

/// A value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldValue {
    /// A number.
    Number(i128),
    /// Text; what is no text is escaped.
    Text(String),
}

/// A frame of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Where it starts.
    pub position: Position,
    /// Its number.
    pub lsn: u64,
    /// Frames up to this number were synced when it was written.
    pub durable_lsn: u64,
    /// The stream it is about, 0 for none.
    pub stream: u32,
    /// Such as `Append`.
    pub kind: &'static str,
    /// Bytes of its payload.
    pub length: u32,
    /// Whether it ends its commit group.
    pub last_in_group: bool,
    /// Whether its data was not synced.
    pub weak: bool,
    /// What it says.
    pub fields: Vec<(&'static str, FieldValue)>,
}

/// Gives the valid frames of a journal file in order until `visit` returns false. Returns where they end.
///
/// # Errors
/// It is no journal file, or a call failed.
pub fn frames(path: &Path, visit: &mut dyn FnMut(Frame) -> bool) -> Result<Position, OpenError> {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let sequence = name.as_deref().and_then(files::parse_file_name);
    let sequence = sequence.ok_or_else(|| OpenError::Corrupt {
        path: path.to_path_buf(),
        position: 0,
        what: "a journal file is named by its sequence, 20 digits and .jnl".to_string(),
    })?;
    let here = Path::new(".");
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let journal = files::open(&ReadOnly, dir.unwrap_or(here), sequence)?;
    let mut window = Window::new(&*journal.file, journal.capacity);
    let mut position = FRAMES_AT;
    let mut before = None;
    loop {
        let fault = |error| OpenError::from(IoFault::of("read journal", path)(error));
        let Some(fixed) = window.exact(position, FRAME_HEADER_BYTES).map_err(fault)? else {
            break;
        };
        let Some(header) = fixed.first_chunk().and_then(FrameHeader::decode) else {
            break;
        };
        let length = FRAME_HEADER_BYTES + header.length as usize;
        let Some(bytes) = window.exact(position, length).map_err(fault)? else {
            break;
        };
        let Some((fixed, payload)) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>() else {
            break;
        };
        let follows = before.is_none_or(|lsn: u64| header.lsn == lsn + 1);
        if !follows || !verify(journal.salt, fixed, payload) {
            break;
        }
        before = Some(header.lsn);
        if !visit(frame(position, &header, payload)) {
            break;
        }
        position += frame_bytes(u64::from(header.length));
    }
    Ok(Position(position))
}

fn frame(position: u64, header: &FrameHeader, payload: &[u8]) -> Frame {
    let (kind, fields) = match Record::decode(header.kind, payload) {
        Ok(record) => describe(&record),
        Err(_) => ("unknown", vec![("type", number(header.kind))]),
    };
    Frame {
        position: Position(position),
        lsn: header.lsn,
        durable_lsn: header.durable_lsn,
        stream: header.stream,
        kind,
        length: header.length,
        last_in_group: header.last_in_group,
        weak: header.weak,
        fields,
    }
}

fn number(value: impl Into<i128>) -> FieldValue {
    FieldValue::Number(value.into())
}

fn text(bytes: &[u8]) -> FieldValue {
    let shown = &bytes[..bytes.len().min(SHOWN_BYTES)];
    let more = if bytes.len() > SHOWN_BYTES { "…" } else { "" };
    FieldValue::Text(format!("{}{more}", shown.escape_ascii()))
}

fn describe(record: &Record<'_>) -> (&'static str, Vec<(&'static str, FieldValue)>) {
    let table = |table: &Table| FieldValue::Text(format!("{table:?}"));
    match record {
        Record::Append {
            segment,
            position,
            next_offset,
            bytes,
        } => (
            "Append",
            vec![
                ("segment", number(*segment)),
                ("position", number(*position)),
                ("next_offset", number(*next_offset)),
                ("bytes", number(bytes.len() as u64)),
            ],
        ),
        Record::AppendRef {
            segment,
            position,
            next_offset,
            length,
            batches_crc,
        } => (
            "AppendRef",
            vec![
                ("segment", number(*segment)),
                ("position", number(*position)),
                ("next_offset", number(*next_offset)),
                ("bytes", number(*length)),
                ("crc", FieldValue::Text(format!("{batches_crc:08x}"))),
            ],
        ),
        Record::Put {
            table: into,
            key,
            value,
        } => (
            "Put",
            vec![
                ("table", table(into)),
                ("key", text(key)),
                ("value", text(value)),
            ],
        ),
        Record::Delete { table: from, key } => {
            ("Delete", vec![("table", table(from)), ("key", text(key))])
        }
        Record::Ack { first, last } => (
            "Ack",
            vec![("first", number(*first)), ("last", number(*last))],
        ),
        Record::Trim { log_start, whole } => (
            "Trim",
            vec![
                ("log_start", number(*log_start)),
                ("whole", number(u8::from(*whole))),
            ],
        ),
        Record::CreateStream { name, settings } => {
            let mut fields = vec![("name", FieldValue::Text((*name).to_string()))];
            fields.extend(settings_fields(settings));
            ("CreateStream", fields)
        }
        Record::DeleteStream => ("DeleteStream", Vec::new()),
        Record::UpdateStream { settings } => ("UpdateStream", settings_fields(settings)),
        Record::Switch {
            first,
            end,
            generation,
            length,
            max_timestamp,
            clean_to,
        } => (
            "Switch",
            vec![
                ("first", number(*first)),
                ("end", number(*end)),
                ("generation", number(*generation)),
                ("bytes", number(*length)),
                ("max_timestamp", number(*max_timestamp)),
                ("clean_to", number(*clean_to)),
            ],
        ),
    }
}

fn settings_fields(settings: &StreamSettings) -> Vec<(&'static str, FieldValue)> {
    vec![
        ("segment_bytes", number(settings.segment_bytes)),
        ("max_batch_bytes", number(settings.max_batch_bytes)),
        (
            "durability",
            FieldValue::Text(settings.durability.to_string()),
        ),
        ("acked", FieldValue::Text(settings.acked.to_string())),
        (
            "compacted",
            FieldValue::Text(settings.compaction.is_some().to_string()),
        ),
    ]
}

/// What a checkpoint file says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointSummary {
    /// All frames up to this one are in it.
    pub lsn: u64,
    /// Sequence of the journal file, and the byte in it, at which a start goes on.
    pub journal: (u64, Position),
    /// Whether a clean stop wrote it.
    pub clean: bool,
    /// Entries of all tables.
    pub table_entries: usize,
    /// Streams: id, name, log start, end, segments.
    pub streams: Vec<(u32, String, i64, i64, usize)>,
}

/// Reads a checkpoint file.
///
/// # Errors
/// It is damaged, or a call failed.
pub fn checkpoint_summary(path: &Path) -> Result<CheckpointSummary, OpenError> {
    summary(&ReadOnly, path)
}

pub(crate) fn summary(fs: &dyn Fs, path: &Path) -> Result<CheckpointSummary, OpenError> {
    let bytes =
        read_whole(fs, path, MAX_CHECKPOINT_BYTES).map_err(IoFault::of("read checkpoint", path))?;
    let snapshot = Snapshot::decode(&bytes).map_err(|_| OpenError::Corrupt {
        path: path.to_path_buf(),
        position: 0,
        what: "the checkpoint's checksum or form is wrong".to_string(),
    })?;
    let streams = snapshot.streams.iter().map(|stream| {
        let segments = stream.segments.len();
        (
            stream.id.0,
            stream.name.clone(),
            stream.log_start.0,
            stream.end,
            segments,
        )
    });
    Ok(CheckpointSummary {
        lsn: snapshot.lsn,
        journal: (snapshot.place.0, Position(snapshot.place.1)),
        clean: snapshot.clean,
        table_entries: snapshot.tables.len(),
        streams: streams.collect(),
    })
}
