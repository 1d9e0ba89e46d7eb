//! What a user of the log could see, as a model.

use std::path::Path;

use flafka_kafka_wire::records::{self, BatchHeader};

use super::model::{Model, ModelBatch, ModelStream};
use crate::engine::Engine;
use crate::error::{IoFault, ReadError};
use crate::op::{Offset, StreamId};
use crate::read::StreamReader;

pub(super) fn model_batch(header: &BatchHeader) -> ModelBatch {
    (header.base_offset, header.last_offset_delta + 1, header.crc)
}

/// What can be seen of a damaged log, and how many offsets it says are lost.
pub(super) fn observe_past_damage(engine: &mut Engine, context: &str) -> (Model, i64) {
    let mut skipped = 0;
    let mut pass = |engine: &Engine, stream, from| {
        let damage = engine.set_aside(stream, Offset(from)).unwrap();
        let damage = damage.unwrap_or_else(|| panic!("{context}: nothing is wrong at {from}"));
        assert!(damage.next.0 > from, "{context}: {damage:?}");
        skipped += damage.next.0 - from;
        Some(damage.next.0)
    };
    let found = observe_with(engine, &mut pass).unwrap_or_else(|e| panic!("{context}: {e}"));
    (found, skipped)
}

/// Everything that a user of the log could see.
pub(super) fn observe(engine: &mut Engine) -> Result<Model, ReadError> {
    observe_with(engine, &mut |_, _, _| None)
}

/// The same; `pass` is asked where to go on when something cannot be read.
fn observe_with(
    engine: &mut Engine,
    pass: &mut dyn FnMut(&Engine, StreamId, i64) -> Option<i64>,
) -> Result<Model, ReadError> {
    let shared = engine.shared();
    let mut model = Model::default();
    for (table, key, value) in shared.tables.read().unwrap().entries() {
        model.tables.insert((table, key.to_vec()), value.to_vec());
    }
    let mut streams: Vec<_> = {
        let registry = shared.registry.read().unwrap();
        registry.by_id.values().cloned().collect()
    };
    streams.sort_by_key(|stream| stream.id);
    for state in streams {
        let reader = StreamReader {
            stream: &state,
            fs: &*shared.fs,
            open: &shared.open_segments,
        };
        let mut stream = {
            let view = state.view();
            ModelStream {
                id: state.id.0,
                weak: !view.settings.durability.is_fsync(),
                log_start: view.log_start.0,
                end: view.high_watermark.0,
                low: view.acks.low.0,
                acks: view
                    .acks
                    .acked_ranges
                    .iter()
                    .flat_map(|range| range.0.0..=range.1.0)
                    .collect(),
                ..ModelStream::default()
            }
        };
        let compacted = state.view().settings.compaction.is_some();
        let mut from = stream.log_start;
        while from < stream.end {
            let plan = match reader.plan(Offset(from), 6000, true) {
                Err(ReadError::Corrupt { .. }) if stream.weak => {
                    // Weak data that a failed sync has cost.
                    let damage = reader.damage_at(Offset(from))?;
                    from = damage.map(|damage| damage.next.0).expect("it is damaged");
                    stream.holes = true;
                    continue;
                }
                Err(error) => match pass(engine, state.id, from) {
                    Some(next) => {
                        from = next;
                        continue;
                    }
                    None => return Err(error),
                },
                Ok(plan) => plan,
            };
            let before = from;
            let bytes = plan
                .read_to_bytes()
                .map_err(IoFault::of("read segment", &state.dir))?;
            for batch in records::batches(&bytes) {
                let good = batch.and_then(|(header, bytes)| {
                    records::verify(bytes)?;
                    Ok(header)
                });
                let header = match good {
                    // A base offset lies outside the checksum: a flipped one must not lead back, again and again.
                    Ok(header)
                        if header.last_offset() >= from
                            && (header.base_offset <= from || compacted) =>
                    {
                        header
                    }
                    _ if from > before => break,
                    bad => match (pass(engine, state.id, from), bad) {
                        (Some(next), _) => {
                            from = next;
                            break;
                        }
                        (None, Err(source)) => return Err(corrupt(&state.dir, source)),
                        (None, Ok(header)) => header,
                    },
                };
                stream.batches.push(model_batch(&header));
                from = header.last_offset() + 1;
            }
            if bytes.is_empty() {
                assert!(plan.reaches_end, "a read at {from} brings nothing");
                break;
            }
        }
        model.streams.insert(state.name.clone(), stream);
    }
    Ok(model)
}

fn corrupt(path: &Path, source: records::BatchError) -> ReadError {
    ReadError::Corrupt {
        path: path.to_path_buf(),
        position: 0,
        source,
    }
}
