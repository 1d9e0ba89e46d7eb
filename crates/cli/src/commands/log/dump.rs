//! `flafka log dump`: batches, records, frames, checkpoints, as they lie in the files.

use std::path::Path;

use anyhow::bail;
use flafka_kafka_wire::records::{self, BatchHeader, TimestampType};
use flafka_log_store::inspect::{
    FieldValue, Frame, SegmentStep, checkpoint_summary, frames, walk_segment,
};
use serde_json::{Map, Value, json};

use super::arguments::DumpArguments;
use super::{look, text};
use crate::exit::{Ending, Outcome, complain, say};

/// Keys and values are printed up to so many bytes; as JSON they are whole.
const SHOWN_BYTES: usize = 160;
/// Records of one batch take at most so many bytes once decompressed.
const MOST_DECOMPRESSED: usize = 1 << 30;

pub(super) fn run(arguments: &DumpArguments) -> Outcome {
    let mut dump = Dump {
        arguments,
        left: arguments.count.unwrap_or(u64::MAX),
        sound: true,
        printed: Ok(()),
    };
    let path = &arguments.path;
    match path.extension().and_then(|extension| extension.to_str()) {
        _ if path.is_dir() => dump.directory(path)?,
        Some("log") => dump.segment(path, None)?,
        Some("jnl") => dump.journal(path)?,
        Some("ckp") => dump.checkpoint(path)?,
        _ => bail!(
            "{} is neither a directory nor a segment (.log), journal (.jnl) or checkpoint (.ckp) file",
            path.display()
        ),
    }
    dump.printed?;
    Ok(match dump.sound {
        true => Ending::Done,
        false => Ending::Failed,
    })
}

struct Dump<'a> {
    arguments: &'a DumpArguments,
    /// Batches or frames that may still be printed.
    left: u64,
    sound: bool,
    printed: anyhow::Result<()>,
}

impl Dump<'_> {
    fn say(&mut self, line: &str) {
        if self.printed.is_ok() {
            self.printed = say(line);
        }
    }

    /// One more batch or frame; false when it is enough.
    fn goes_on(&self) -> bool {
        self.left > 0 && self.printed.is_ok()
    }

    fn heading(&mut self, line: &str) {
        if !self.arguments.json {
            self.say(line);
        }
    }

    fn directory(&mut self, dir: &Path) -> anyhow::Result<()> {
        let found = look(dir)?;
        if self.arguments.journal {
            for sequence in &found.journal_files {
                let path = found
                    .dir
                    .join("journal")
                    .join(format!("{sequence:020}.jnl"));
                self.journal(&path)?;
            }
            return Ok(());
        }
        let name = self.arguments.stream.as_deref();
        let mut any = false;
        for stream in &found.streams {
            if name.is_some_and(|name| name != stream.name) {
                continue;
            }
            any = true;
            let heading = format!(
                "stream {}, offsets {}..{}",
                stream.name, stream.log_start, stream.end
            );
            self.heading(&heading);
            for segment in &stream.segments {
                if self
                    .arguments
                    .from
                    .is_some_and(|from| segment.end.0 <= from)
                {
                    continue;
                }
                self.segment(&segment.path, Some(segment.length))?;
            }
        }
        match (any, name) {
            (false, Some(name)) => {
                bail!("there is no stream {name}; `flafka log ls` shows those there are")
            }
            _ => Ok(()),
        }
    }

    fn segment(&mut self, path: &Path, end: Option<u64>) -> anyhow::Result<()> {
        if !self.goes_on() {
            return Ok(());
        }
        self.heading(&format!("segment {}", path.display()));
        walk_segment(path, end, &mut |step| {
            match step {
                SegmentStep::Batch {
                    position,
                    header,
                    bytes,
                } => {
                    if self
                        .arguments
                        .from
                        .is_none_or(|from| header.last_offset() >= from)
                    {
                        self.left -= 1;
                        self.batch(position.0, &header, bytes);
                    }
                }
                SegmentStep::Bad {
                    position,
                    bytes,
                    what,
                } => {
                    self.sound = false;
                    complain(&format!(
                        "flafka: {} at byte {position}: {bytes} bytes are no record batch: {what}",
                        path.display()
                    ));
                }
                SegmentStep::Unwritten { position, bytes } => {
                    self.heading(&format!("  {position:>10}  {bytes} bytes not written yet"));
                }
            }
            self.goes_on()
        })?;
        Ok(())
    }

    fn batch(&mut self, position: u64, header: &BatchHeader, bytes: &[u8]) {
        let codec = header.attributes.compression();
        let codec = codec.map_or("unknown", |codec| codec.name());
        if self.arguments.json {
            let mut object = batch_json(position, header, codec);
            if self.arguments.records {
                let records = decode(header, bytes, &mut |record| record_json(&record));
                self.note_bad(position, &records);
                object["records"] = records.0.into();
            }
            return self.say(&object.to_string());
        }
        let mut line = format!(
            "  {position:>10}  offsets {}..={}  {}  {} bytes  {codec}  {}  epoch {}  crc {:08x}",
            header.base_offset,
            header.last_offset(),
            text::count(u64::try_from(header.record_count).unwrap_or(0), "record"),
            header.total_len(),
            text::time(header.max_timestamp),
            header.partition_leader_epoch,
            header.crc,
        );
        if header.has_producer() {
            line.push_str(&format!(
                "  producer {} epoch {} sequence {}",
                header.producer_id, header.producer_epoch, header.base_sequence
            ));
        }
        let flags = [
            (header.attributes.is_transactional(), "  transactional"),
            (header.attributes.is_control(), "  control"),
            (
                header.attributes.timestamp_type() == TimestampType::LogAppendTime,
                "  log append time",
            ),
        ];
        line.extend(flags.iter().filter(|(set, _)| *set).map(|(_, name)| *name));
        if header.attributes.has_delete_horizon() {
            let from = text::time(header.base_timestamp);
            line.push_str(&format!("  tombstones go from {from}"));
        }
        self.say(&line);
        if self.arguments.records {
            let records = decode(header, bytes, &mut |record| record_text(&record));
            self.note_bad(position, &records);
            for line in records.0 {
                self.say(&line);
            }
        }
    }

    fn note_bad<T>(&mut self, position: u64, (_, error): &(Vec<T>, Option<String>)) {
        if let Some(error) = error {
            self.sound = false;
            complain(&format!("flafka: the batch at byte {position}: {error}"));
        }
    }

    fn journal(&mut self, path: &Path) -> anyhow::Result<()> {
        self.heading(&format!("journal {}", path.display()));
        frames(path, &mut |frame| {
            if !self.goes_on() {
                return false;
            }
            self.left -= 1;
            self.frame(&frame);
            self.goes_on()
        })?;
        Ok(())
    }

    fn frame(&mut self, frame: &Frame) {
        if self.arguments.json {
            let mut object = Map::new();
            for (name, value) in &frame.fields {
                let value = match value {
                    FieldValue::Text(text) => json!(text),
                    FieldValue::Number(number) => i64::try_from(*number)
                        .map_or_else(|_| json!(number.to_string()), |number| json!(number)),
                };
                object.insert((*name).to_owned(), value);
            }
            let line = json!({
                "position": frame.position.0,
                "lsn": frame.lsn,
                "durable_lsn": frame.durable_lsn,
                "stream": frame.stream,
                "kind": frame.kind,
                "length": frame.length,
                "last_in_group": frame.last_in_group,
                "weak": frame.weak,
                "fields": object,
            });
            return self.say(&line.to_string());
        }
        let mut line = format!(
            "  {:>10}  lsn {} (durable {})  {}",
            frame.position, frame.lsn, frame.durable_lsn, frame.kind
        );
        if frame.stream != 0 {
            line.push_str(&format!("  stream {}", frame.stream));
        }
        for (name, value) in &frame.fields {
            match value {
                FieldValue::Number(number) => line.push_str(&format!("  {name} {number}")),
                FieldValue::Text(text) => line.push_str(&format!("  {name} {text:?}")),
            }
        }
        line.push_str(if frame.weak { "  weak" } else { "" });
        line.push_str(if frame.last_in_group {
            "  ends group"
        } else {
            ""
        });
        self.say(&line);
    }

    fn checkpoint(&mut self, path: &Path) -> anyhow::Result<()> {
        let summary = checkpoint_summary(path)?;
        if self.arguments.json {
            let streams: Vec<Value> = summary
                .streams
                .iter()
                .map(|(id, name, log_start, end, segments)| {
                    json!({"id": id, "name": name, "log_start_offset": log_start, "log_end_offset": end, "segments": segments})
                })
                .collect();
            let line = json!({
                "lsn": summary.lsn,
                "journal_sequence": summary.journal.0,
                "journal_position": summary.journal.1.0,
                "clean": summary.clean,
                "table_entries": summary.table_entries,
                "streams": streams,
            });
            self.say(&line.to_string());
            return Ok(());
        }
        self.say(&format!("checkpoint {}", path.display()));
        self.say(&format!(
            "  lsn {}, journal {} at byte {}, {}, {} in tables",
            summary.lsn,
            summary.journal.0,
            summary.journal.1,
            if summary.clean {
                "clean stop"
            } else {
                "written while running"
            },
            text::many(summary.table_entries as u64, "entry", "entries"),
        ));
        for (id, name, log_start, end, segments) in &summary.streams {
            let segments = text::count(*segments as u64, "segment");
            self.say(&format!(
                "  stream {id} {name}: offsets {log_start}..{end}, {segments}"
            ));
        }
        Ok(())
    }
}

/// What `make` gives for each record, as far as they can be decoded.
fn decode<T>(
    header: &BatchHeader,
    bytes: &[u8],
    make: &mut dyn FnMut(records::RecordView<'_>) -> T,
) -> (Vec<T>, Option<String>) {
    let mut found = Vec::new();
    let mut scratch = Vec::new();
    let iter = match records::records(header, bytes, &mut scratch, MOST_DECOMPRESSED) {
        Ok(iter) => iter,
        Err(error) => return (found, Some(error.to_string())),
    };
    for record in iter {
        match record {
            Ok(record) => found.push(make(record)),
            Err(error) => return (found, Some(error.to_string())),
        }
    }
    (found, None)
}

fn record_text(record: &records::RecordView<'_>) -> String {
    let value = |bytes: Option<&[u8]>| {
        bytes.map_or("null".to_owned(), |bytes| text::shown(bytes, SHOWN_BYTES))
    };
    let mut line = format!(
        "              {}  {}",
        record.offset,
        text::time(record.timestamp)
    );
    if record.key.is_some() {
        line.push_str(&format!("  key {}", value(record.key)));
    }
    let headers: Vec<String> = record
        .headers
        .clone()
        .map(|(name, bytes)| format!("{}={}", text::shown(name, SHOWN_BYTES), value(bytes)))
        .collect();
    if !headers.is_empty() {
        line.push_str(&format!("  {{{}}}", headers.join(", ")));
    }
    format!("{line}  {}", value(record.value))
}

fn record_json(record: &records::RecordView<'_>) -> Value {
    let headers: Vec<Value> = record
        .headers
        .clone()
        .map(|(name, value)| json!([bytes_json(Some(name)), bytes_json(value)]))
        .collect();
    json!({
        "offset": record.offset,
        "timestamp": record.timestamp,
        "key": bytes_json(record.key),
        "value": bytes_json(record.value),
        "headers": headers,
    })
}

/// Text as a string; other bytes as an object with their hex digits.
fn bytes_json(bytes: Option<&[u8]>) -> Value {
    match bytes {
        None => Value::Null,
        Some(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => json!(text),
            Err(_) => {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                json!({ "hex": hex })
            }
        },
    }
}

fn batch_json(position: u64, header: &BatchHeader, codec: &str) -> Value {
    json!({
        "position": position,
        "base_offset": header.base_offset,
        "last_offset": header.last_offset(),
        "records_count": header.record_count,
        "bytes": header.total_len(),
        "codec": codec,
        "base_timestamp": header.base_timestamp,
        "delete_horizon": header.attributes.has_delete_horizon(),
        "max_timestamp": header.max_timestamp,
        "log_append_time": header.attributes.timestamp_type() == TimestampType::LogAppendTime,
        "leader_epoch": header.partition_leader_epoch,
        "crc": header.crc,
        "producer_id": header.producer_id,
        "producer_epoch": header.producer_epoch,
        "base_sequence": header.base_sequence,
        "transactional": header.attributes.is_transactional(),
        "control": header.attributes.is_control(),
    })
}
