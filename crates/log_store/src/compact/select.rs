//! Which stream is compacted next (Kafka's `LogCleanerManager`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::pass::{Pass, Tally};
use crate::engine::Engine;
use crate::fs::Fs;
use crate::jobs::Job;
use crate::segment::{self, Segment};
use crate::settings::Compaction;
use crate::stream::StreamView;
use crate::writer::StreamWriter;

/// After a failed pass a stream is left alone so many times the pause between two looks.
pub(crate) const FAILED_PAUSES: u32 = 20;

/// What could be compacted of a stream.
#[derive(Debug)]
struct Candidate {
    segments: Vec<Arc<Segment>>,
    first_dirty: i64,
    /// Part of the bytes that was never compacted, in millionths.
    dirty_ppm: u64,
}

impl Engine {
    /// Starts a pass over the stream that needs it most, if it is time and any does.
    pub(crate) fn compact_if_due(&mut self, now: Duration) {
        let pause = self.options.compaction_pause;
        let idle = !self.options.compaction || self.in_flight.compaction;
        if idle || now.saturating_sub(self.compacted_at) < pause {
            return;
        }
        self.compacted_at = now;
        let now_ms = self.clock.now_ms();
        let best = self
            .streams
            .values()
            .filter(|writer| writer.compact_from <= now)
            .filter_map(|writer| Some((writer, candidate(writer, now_ms, &*self.fs)?)))
            .max_by_key(|(_, candidate)| candidate.dirty_ppm);
        if let Some((writer, candidate)) = best {
            let pass = self.pass(writer, candidate, now_ms);
            self.in_flight.compaction = true;
            self.jobs.push(Job::Compact(Box::new(pass)));
        }
    }

    fn pass(&self, writer: &StreamWriter, candidate: Candidate, now_ms: i64) -> Pass {
        let settings = &writer.settings;
        let tombstones = settings
            .compaction
            .as_ref()
            .map_or(Duration::ZERO, |one| one.tombstone_retention);
        Pass {
            state: Arc::clone(&writer.state),
            dir: writer.state.dir.clone(),
            segments: candidate.segments,
            first_dirty: candidate.first_dirty,
            segment_bytes: u64::from(settings.segment_bytes),
            tombstones_ms: i64::try_from(tombstones.as_millis()).unwrap_or(i64::MAX),
            now_ms,
            producers: writer.producers.last_offsets().collect::<HashMap<_, _>>(),
            budget_bytes: self.options.compaction_buffer_bytes,
            least_free: self.options.min_free_bytes,
            bytes_per_second: self.options.compaction_bytes_per_second,
            stop: Arc::clone(&self.stop_compaction),
            map: None,
            runs: Default::default(),
            done: Tally::default(),
        }
    }
}

fn candidate(writer: &StreamWriter, now_ms: i64, fs: &dyn Fs) -> Option<Candidate> {
    let settings = &writer.settings;
    let compaction = settings.compaction.as_ref().filter(|_| !settings.acked)?;
    let active = writer.active.as_ref().map(|active| active.base_offset);
    let (found, first_dirty) = cleanable(&writer.state.view(), active, compaction, now_ms)?;
    let waited = || {
        let most = compaction.max_lag?;
        let first = found
            .segments
            .iter()
            .find(|segment| segment.end_offset() > first_dirty)?;
        let (file, _) = first.open(fs).ok()?;
        let began = segment::first_timestamp(&*file, first.length()).ok()?;
        let waited = now_ms.saturating_sub(began);
        Some(began >= 0 && waited > i64::try_from(most.as_millis()).unwrap_or(i64::MAX))
    };
    let enough = found.dirty_ppm > u64::from(compaction.min_dirty_ppm);
    (enough || waited().unwrap_or(false)).then_some(found)
}

/// The segments up to the first that grows or is too young, if any of them is dirty.
fn cleanable(
    view: &StreamView,
    active: Option<i64>,
    compaction: &Compaction,
    now_ms: i64,
) -> Option<(Candidate, i64)> {
    let least = i64::try_from(compaction.min_lag.as_millis()).unwrap_or(i64::MAX);
    let young =
        |segment: &Segment| least > 0 && now_ms.saturating_sub(segment.max_timestamp()) < least;
    let segments: Vec<Arc<Segment>> = view
        .segments
        .iter()
        .take_while(|segment| Some(segment.base_offset) != active && !young(segment))
        .cloned()
        .collect();
    let is_clean = |segment: &Arc<Segment>| segment.clean_to >= segment.end_offset();
    let first_dirty = segments.iter().find(|segment| !is_clean(segment))?.clean_to;
    let bytes = |clean: bool| -> u64 {
        let those = segments.iter().filter(|segment| is_clean(segment) == clean);
        those.map(|segment| segment.length()).sum()
    };
    let (clean, dirty) = (bytes(true), bytes(false));
    let dirty_ppm = dirty.saturating_mul(1_000_000).checked_div(clean + dirty)?;
    let candidate = Candidate {
        segments,
        first_dirty,
        dirty_ppm,
    };
    Some((candidate, first_dirty))
}
