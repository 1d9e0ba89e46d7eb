//! Compaction's switch in the driver: what the model is before and after it, and that nothing that counts is gone.

use std::collections::BTreeMap;
use std::sync::Arc;

use flafka_kafka_wire::records;

use super::driver::Driver;
use super::model::Model;
use super::observe::model_batch;
use crate::compact::Step;
use crate::op::StreamId;
use crate::segment::Segment;

/// Offset and value of the newest record of each key.
type NewestRecords = BTreeMap<Vec<u8>, (i64, Option<Vec<u8>>)>;

/// A switch that is about to happen.
pub(super) struct Foreseen {
    stream: StreamId,
    /// Base offset of the first segment that goes.
    first: i64,
    new: Option<Arc<Segment>>,
    after: Model,
    records: NewestRecords,
}

impl Driver {
    /// What the model will be if a compacted segment takes its place.
    pub(super) fn foresee_switch(&self, step: &Step) -> Option<Foreseen> {
        let Ok(Some(replacement)) = &step.result else {
            return None;
        };
        let (first, last) = (replacement.old.first()?, replacement.old.last()?);
        let engine = self.engine.as_ref().expect("steps end with the engine");
        let view = engine.streams.get(&step.pass.state.id)?.state.view();
        // Freed meanwhile: the log does not switch then.
        view.segments.iter().find(|one| Arc::ptr_eq(one, first))?;
        drop(view);
        let mut after = self.model.clone();
        let stream = after.streams.get_mut(&step.pass.state.name)?;
        let mut put = Vec::new();
        if let Some(new) = &replacement.new {
            for batch in records::batches(&self.fs.content(&new.path)?) {
                put.push(model_batch(&batch.unwrap().0));
            }
        }
        let (from, to) = (first.base_offset, last.end_offset());
        stream.former.extend(stream.batches.iter().chain(&put));
        stream
            .batches
            .retain(|batch| batch.0 < from || batch.0 >= to);
        stream.batches.extend(put);
        stream.batches.sort_unstable();
        stream.trim(stream.log_start);
        Some(Foreseen {
            stream: step.pass.state.id,
            first: from,
            new: replacement.new.clone(),
            after,
            records: self.newest_records(step.pass.state.id),
        })
    }

    pub(super) fn settle_switch(&mut self, foreseen: Foreseen) -> bool {
        if self.engine().failure.is_some() {
            // It may be in the journal all the same.
            self.history.push(foreseen.after);
            return true;
        }
        let Some(writer) = self.engine().streams.get(&foreseen.stream) else {
            return false;
        };
        let view = writer.state.view();
        // A failed switch may have moved the old data to fresh files: what counts is the new segment.
        let mut there = view.segments.iter();
        let switched = match &foreseen.new {
            Some(new) => there.any(|one| Arc::ptr_eq(one, new)),
            None => !there.any(|one| one.base_offset == foreseen.first),
        };
        drop(view);
        if switched {
            self.switches += 1;
            self.model = foreseen.after;
            self.history = vec![self.model.clone()];
            let mut left = self.newest_records(foreseen.stream);
            for (key, newest) in foreseen.records {
                match left.remove(&key) {
                    Some(found) => assert_eq!(found, newest, "key {key:?}"),
                    None => assert!(newest.1.is_none(), "key {key:?} is gone, {newest:?}"),
                }
            }
            assert!(left.is_empty(), "made-up keys {left:?}");
        }
        switched
    }

    /// Of each key of a stream the newest record, from the files as they are.
    fn newest_records(&self, stream: StreamId) -> NewestRecords {
        let mut newest = NewestRecords::new();
        let engine = self.engine.as_ref().expect("steps end with the engine");
        let state = &engine.streams[&stream].state;
        let mut scratch = Vec::new();
        for segment in &state.view().segments {
            let content = self.fs.content(&segment.path).unwrap_or_default();
            let length = content.len().min(segment.length() as usize);
            for batch in records::batches(&content[..length]) {
                let (header, batch) = batch.unwrap();
                for record in records::records(&header, batch, &mut scratch, 1 << 20).unwrap() {
                    let record = record.unwrap();
                    let value = record.value.map(<[u8]>::to_vec);
                    let key = record.key.unwrap_or_default().to_vec();
                    newest.insert(key, (record.offset, value));
                }
            }
        }
        newest
    }
}
