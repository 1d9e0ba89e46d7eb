//! `flafka log ls`.

use std::path::Path;

use flafka_log_store::inspect::{Inspection, Leftover, SegmentInfo, StreamInfo};
use serde_json::{Value, json};

use super::arguments::ListArguments;
use super::{look, text};
use crate::exit::{Ending, Outcome, complain, say};

pub(super) fn run(arguments: &ListArguments) -> Outcome {
    let found = look(&arguments.dir)?;
    if arguments.json {
        say(&as_json(&found)?.to_string())?;
    } else {
        print(&found, arguments.segments)?;
    }
    for damage in &found.journal_damage {
        let (path, position) = (damage.path.display(), damage.position);
        complain(&format!(
            "flafka: {path} at byte {position}: {}",
            damage.what
        ));
    }
    Ok(match found.journal_damage.is_empty() {
        true => Ending::Done,
        false => Ending::Failed,
    })
}

fn print(found: &Inspection, segments: bool) -> anyhow::Result<()> {
    say(&format!("log      {}", found.dir.display()))?;
    if let Some(node) = &found.node {
        say(&format!(
            "node     {}, cluster {}, {}",
            node.node_id,
            node.cluster_id,
            text::count(node.epoch.unsigned_abs().into(), "start")
        ))?;
    }
    let state = match (found.owner, found.clean) {
        (Some(process), _) => format!("in use by process {process}"),
        (None, true) => "stopped cleanly".to_owned(),
        (None, false) => "not stopped cleanly: the next start reads the journal's end".to_owned(),
    };
    say(&format!("state    {state}"))?;
    say(&format!(
        "journal  {}, {} behind checkpoint {}",
        text::count(found.journal_files.len() as u64, "file"),
        text::count(found.frames, "frame"),
        found.checkpoint_lsn
    ))?;
    for (table, entries, bytes) in &found.tables {
        let entries = match entries {
            1 => "1 entry".to_owned(),
            many => format!("{many} entries"),
        };
        say(&format!(
            "table    {table:?}: {entries}, {}",
            text::bytes(*bytes)
        ))?;
    }
    say("")?;
    let header = [
        "ID",
        "STREAM",
        "SEGMENTS",
        "OFFSETS",
        "RECORDS",
        "BYTES",
        "DURABILITY",
        "UNACKED",
    ];
    let rows = found.streams.iter().map(row).collect::<Vec<_>>();
    for line in text::table(&header, &rows, &[0, 2, 4, 5, 7]) {
        say(&line)?;
    }
    if !segments {
        return Ok(());
    }
    for stream in &found.streams {
        say("")?;
        say(&format!("{}  {}", stream.name, stream.dir.display()))?;
        let leftovers = stream.leftovers()?;
        let segments = stream.segments.iter().map(segment_row);
        let rows: Vec<Vec<String>> = segments.chain(leftovers.iter().map(leftover_row)).collect();
        for line in text::table(&["SEGMENT", "OFFSETS", "BYTES", "STATE"], &rows, &[2]) {
            say(&line)?;
        }
    }
    Ok(())
}

fn segment_row(segment: &SegmentInfo) -> Vec<String> {
    vec![
        file_name(&segment.path),
        format!("{}..{}", segment.base, segment.end),
        text::bytes(segment.length),
        match segment.generation {
            0 => String::new(),
            _ if segment.clean_to < segment.end => format!("compacted up to {}", segment.clean_to),
            _ => "compacted".to_owned(),
        },
    ]
}

fn leftover_row(leftover: &Leftover) -> Vec<String> {
    vec![
        file_name(&leftover.path),
        "-".to_owned(),
        text::bytes(leftover.bytes),
        format!("not part of the stream: {}", leftover.kind),
    ]
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn row(stream: &StreamInfo) -> Vec<String> {
    vec![
        stream.id.to_string(),
        stream.name.clone(),
        stream.segments.len().to_string(),
        format!("{}..{}", stream.log_start, stream.end),
        // Of compacted streams only the batches know how many are left.
        format!(
            "{}{}",
            if stream.is_compacted() { "<= " } else { "" },
            stream.end.0 - stream.log_start.0
        ),
        text::bytes(stream.bytes()),
        stream.settings.durability.to_string(),
        stream
            .unacked()
            .map_or("-".to_owned(), |count| count.to_string()),
    ]
}

fn as_json(found: &Inspection) -> anyhow::Result<Value> {
    let streams = found.streams.iter().map(stream_json);
    let streams = streams.collect::<anyhow::Result<Vec<Value>>>()?;
    let tables: serde_json::Map<String, Value> = found
        .tables
        .iter()
        .map(|(table, entries, bytes)| {
            (
                format!("{table:?}"),
                json!({"entries": entries, "bytes": bytes}),
            )
        })
        .collect();
    Ok(json!({
        "dir": found.dir,
        "node_id": found.node.as_ref().map(|node| node.node_id),
        "cluster_id": found.node.as_ref().map(|node| &node.cluster_id),
        "epoch": found.node.as_ref().map(|node| node.epoch),
        "owner": found.owner,
        "clean": found.clean,
        "checkpoint_lsn": found.checkpoint_lsn,
        "journal_frames": found.frames,
        "damaged_journal_bytes": found.journal_damage.iter().map(|damage| damage.bytes).sum::<u64>(),
        "tables": tables,
        "streams": streams,
    }))
}

fn stream_json(stream: &StreamInfo) -> anyhow::Result<Value> {
    let segments: Vec<Value> = stream
        .segments
        .iter()
        .map(|segment| {
            json!({
                "path": segment.path,
                "base_offset": segment.base.0,
                "end_offset": segment.end.0,
                "bytes": segment.length,
                "generation": segment.generation,
                "compacted_up_to": segment.clean_to.0,
            })
        })
        .collect();
    let leftovers: Vec<Value> = stream
        .leftovers()?
        .iter()
        .map(|leftover| {
            json!({
                "path": leftover.path,
                "bytes": leftover.bytes,
                "why": leftover.kind.to_string(),
            })
        })
        .collect();
    Ok(json!({
        "id": stream.id.0,
        "name": stream.name,
        "dir": stream.dir,
        "log_start_offset": stream.log_start.0,
        "log_end_offset": stream.end.0,
        "bytes": stream.bytes(),
        "durability": stream.settings.durability.to_string(),
        "unacked": stream.unacked(),
        "compacted": stream.is_compacted(),
        "segments": segments,
        "leftovers": leftovers,
    }))
}
