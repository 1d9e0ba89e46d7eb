//! The last step of a start: the engine, its streams and what readers share, made from the replayed state.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::Clock;
use crate::counts::Counts;
use crate::engine::{Engine, InFlight, LOG_DIR, PendingUnlink};
use crate::error::OpenError;
use crate::fs::{File, Fs, Lock};
use crate::journal::writer::JournalWriter;
use crate::log::{Registry, Shared};
use crate::mend::Covered;
use crate::node::Node;
use crate::op::StreamId;
use crate::read::OpenSegments;
use crate::replay::{Replay, ReplayStream};
use crate::segment::{self, Segment};
use crate::settings::LogOptions;
use crate::stream::{self, StreamState, StreamView};
use crate::sync::RwLock;
use crate::tail::open_segment;
use crate::writer::StreamWriter;

/// Puts everything together.
pub(crate) fn build(
    options: LogOptions,
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
    lock: Box<dyn Lock>,
    node: Node,
    replay: Replay,
    journal: JournalWriter,
) -> Result<Engine, OpenError> {
    let now = clock.monotonic();
    let opened_at = (clock.now_ms(), now);
    let open_segments = OpenSegments::default();
    let mut registry = Registry::default();
    let mut streams = BTreeMap::new();
    let mut unlinks = Vec::new();
    for (id, stream) in replay.streams {
        let dir = options
            .dir
            .join(LOG_DIR)
            .join(stream::dir_name(id, &stream.name));
        let freed = stream.freed.iter();
        let names: Vec<String> = freed
            .flat_map(|gone| segment::all_names(gone.base, gone.generation))
            .collect();
        if !names.is_empty() {
            unlinks.push(PendingUnlink {
                lsn: journal.last_lsn(),
                not_before: now,
                dir: dir.clone(),
                names,
                stream: id,
                freed: Vec::new(),
            });
        }
        let writer = build_stream(&*fs, id, stream, dir, now, &open_segments)?;
        registry.by_name.insert(writer.state.name.clone(), id);
        registry.by_id.insert(id, Arc::clone(&writer.state));
        streams.insert(id, writer);
    }
    let shared = Shared {
        fs: Arc::clone(&fs),
        registry: RwLock::new(registry),
        tables: RwLock::new(replay.tables),
        open_segments,
        epoch: node.epoch,
        cluster_id: node.cluster_id,
        node_id: node.node_id,
        housekeeping: Arc::default(),
        failure: RwLock::default(),
        counts: Counts::default(),
    };
    Ok(Engine {
        options,
        fs,
        clock,
        shared: Arc::new(shared),
        streams,
        journal,
        covered: Covered::default(),
        next_stream_id: replay.next_stream_id,
        failure: None,
        jobs: Vec::new(),
        in_flight: InFlight::default(),
        unlinks,
        ended: Vec::new(),
        changed: false,
        data_bytes: 0,
        checkpoint_at: now,
        retention_at: now,
        compacted_at: now,
        stop_compaction: Arc::default(),
        waiters: Vec::new(),
        next_waiters: Vec::new(),
        spare_fault: None,
        free_bytes: 0,
        free_looked_at: None,
        opened_at,
        arena: Vec::new(),
        second_hand: None,
        _lock: lock,
    })
}

fn build_stream(
    fs: &dyn Fs,
    id: StreamId,
    stream: ReplayStream,
    dir: PathBuf,
    now: std::time::Duration,
    open_segments: &OpenSegments,
) -> Result<StreamWriter, OpenError> {
    let mut view = StreamView::new(stream.settings.clone());
    view.log_start = stream.log_start;
    view.high_watermark = crate::op::Offset(stream.end);
    view.acks = stream.acks;
    view.epochs = stream.epochs;
    let mut unsynced = Vec::new();
    let mut active: Option<(Arc<Segment>, Arc<dyn File>)> = None;
    let count = stream.segments.len();
    for (at, known) in stream.segments.iter().enumerate() {
        let last = at + 1 == count;
        let segment = if last || known.length > known.durable {
            let (segment, file) = open_segment(fs, &dir, known)?;
            if known.length > known.durable {
                unsynced.push(Arc::clone(&segment));
            }
            // What compaction wrote never grows again.
            if last && known.generation == 0 {
                active = Some((Arc::clone(&segment), file));
            } else {
                open_segments.add(&segment);
            }
            segment
        } else {
            let segment = Segment::cleaned(&dir, known.base, known.generation, known.clean_to);
            segment.publish(known.end, known.length, known.max_timestamp);
            Arc::new(segment)
        };
        if known.suspect {
            segment.suspect();
        }
        if known.durable == known.length {
            segment.note_synced(known.length, known.end);
        } else if known.durable > 0 {
            segment.note_synced(known.durable, known.durable_end);
        }
        view.segments.push(segment);
    }
    let state = Arc::new(StreamState::new(id, stream.name, dir, view));
    let mut writer = StreamWriter::empty(state, stream.settings, now);
    writer.log_start = stream.log_start;
    writer.end = stream.end;
    writer.producers = stream.producers;
    writer.flush_wanted = !unsynced.is_empty();
    writer.unsynced = unsynced;
    if let Some((segment, file)) = active {
        writer.go_on_in(segment, file);
    }
    Ok(writer)
}
