//! Retention by time and size, and the closing of segments by age: a pass over the streams that closes quiet segments
//! and moves log starts up to whole segments.
//!
//! Trims go through the commit path as any other, so the record that frees a segment is durable before the file goes, and
//! a crash in between only means that the next start removes it. As in Kafka the segment that grows is freed too when
//! all in it is past its time; the next append begins a new one at the same offset. Streams with acks (file channels)
//! are left alone.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::engine::{Engine, PendingUnlink};
use crate::fs::Fs;
use crate::jobs::Job;
use crate::op::{Offset, StreamId};
use crate::queue::{CommitRequest, Prepared, Reply};
use crate::segment::{self, Segment};
use crate::settings::StreamSettings;
use crate::stream::StreamView;
use crate::writer::StreamWriter;

/// When a segment is closed for its age (Kafka `segment.ms`, `segment.jitter.ms`).
#[derive(Debug, Clone, Copy)]
pub(crate) struct RollAge {
    stream: StreamId,
    age_ms: i64,
    jitter_ms: i64,
}

impl RollAge {
    pub(crate) fn of(writer: &StreamWriter) -> RollAge {
        Self::new(writer.state.id, &writer.settings)
    }

    fn new(stream: StreamId, settings: &StreamSettings) -> RollAge {
        // As in Kafka: a record that must be compacted in time must leave the active segment in time.
        let lag = settings.compaction.as_ref().and_then(|one| one.max_lag);
        let age = settings.segment_age.into_iter().chain(lag).min();
        RollAge {
            stream,
            age_ms: age.map_or(i64::MAX, in_ms),
            jitter_ms: in_ms(settings.segment_jitter),
        }
    }

    /// The age at which the segment at `base` is closed, milliseconds: for each segment another one, so that
    /// the segments of many streams that began together do not end together.
    fn limit_ms(&self, base: i64) -> i64 {
        let most = self.jitter_ms.min(self.age_ms);
        if most <= 0 || self.age_ms == i64::MAX {
            return self.age_ms;
        }
        let seed = (base as u64) ^ (u64::from(self.stream.0) << 40);
        let mixed = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
        self.age_ms - (mixed as i64) % most
    }

    /// Whether a batch of `timestamp` must not join the segment at `base` that began at `first`.
    pub(crate) fn is_due(&self, base: i64, first: i64, timestamp: i64) -> bool {
        self.age_ms < i64::MAX
            && first >= 0
            && timestamp >= 0
            && timestamp.saturating_sub(first) > self.limit_ms(base)
    }
}

fn in_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// What a pass over one stream frees.
#[derive(Debug, PartialEq, Eq)]
struct Expired {
    log_start: Offset,
    segments: u64,
    bytes: u64,
}

impl Engine {
    /// Closes quiet segments and trims every stream to what its settings keep.
    pub(crate) fn retain(&mut self) {
        let now_ms = self.clock.now_ms();
        self.seal_quiet(now_ms);
        let (mut segments, mut bytes) = (0, 0);
        let ops: Vec<Prepared> = self
            .streams
            .values()
            .filter(|writer| !writer.settings.acked)
            .filter_map(|writer| {
                let stream = writer.state.id;
                let expired = expired(&writer.state.view(), now_ms, &*self.fs)?;
                segments += expired.segments;
                bytes += expired.bytes;
                let log_start = expired.log_start;
                Some(Prepared::Expire { stream, log_start })
            })
            .collect();
        if ops.is_empty() {
            return;
        }
        tracing::info!(
            streams = ops.len(),
            segments,
            bytes,
            "retention frees segments"
        );
        let counters = &self.shared.housekeeping;
        counters
            .retention_segments
            .fetch_add(segments, Ordering::Relaxed);
        counters.retention_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.round_by_itself(ops);
    }

    /// Commits what the log itself wants: each op for itself, and nobody waits for the answer.
    pub(crate) fn round_by_itself(&mut self, ops: Vec<Prepared>) {
        let (sender, _) = oneshot::channel();
        self.round(vec![CommitRequest {
            ops,
            bytes: 0,
            reply: Reply::Each(sender),
            permit: None,
        }]);
    }

    /// Closes segments by age that no append would close: nothing came since the last pass and the newest record is
    /// older than a segment may get. Kafka leaves such a segment open, so compaction never sees a quiet topic's end.
    fn seal_quiet(&mut self, now_ms: i64) {
        let open = &self.shared.open_segments;
        for writer in self.streams.values_mut() {
            let touched = std::mem::take(&mut writer.touched);
            if touched || writer.settings.acked || writer.position == 0 {
                continue;
            }
            let Some(base) = writer.active.as_ref().map(|active| active.base_offset) else {
                continue;
            };
            if RollAge::of(writer).is_due(base, writer.max_timestamp, now_ms) {
                if let Some(active) = &writer.active {
                    open.add(active);
                }
                writer.seal();
            }
        }
    }

    /// Removes files that the last checkpoint no longer names and whose time has come.
    pub(crate) fn release_unlinks(&mut self, now: Duration) {
        let lsn = self.covered.lsn;
        let (ready, waiting): (Vec<PendingUnlink>, _) = std::mem::take(&mut self.unlinks)
            .into_iter()
            .partition(|unlink| unlink.lsn <= lsn && unlink.not_before <= now);
        self.unlinks = waiting;
        for mut unlink in ready {
            self.keep_one(&mut unlink);
            self.jobs.push(Job::Unlink {
                dir: unlink.dir,
                names: unlink.names,
            });
        }
    }

    /// The disk is full: freed segments go as soon as it is safe.
    pub(crate) fn hurry_unlinks(&mut self) {
        let Some(newest) = self.unlinks.iter().map(|unlink| unlink.lsn).max() else {
            return;
        };
        for unlink in &mut self.unlinks {
            unlink.not_before = Duration::ZERO;
        }
        if newest > self.covered.lsn {
            // They go with a checkpoint: do not wait for its time.
            self.start_checkpoint();
        }
        self.release_unlinks(Duration::ZERO);
    }

    /// Notes the files of segments that left a stream with the last journal frame.
    pub(crate) fn unlink_later(&mut self, stream: StreamId, freed: Vec<Arc<Segment>>) {
        let Some(writer) = self.streams.get(&stream) else {
            return;
        };
        let names = freed
            .iter()
            .flat_map(|gone| segment::all_names(gone.base_offset, gone.generation))
            .collect();
        let now = self.clock.monotonic();
        self.unlinks.push(PendingUnlink {
            lsn: self.journal.last_lsn(),
            not_before: now.saturating_add(writer.settings.delete_delay),
            dir: writer.state.dir.clone(),
            names,
            stream,
            // Kept open no longer than there is a use for one.
            freed: if writer.bulky { freed } else { Vec::new() },
        });
    }
}

/// The new log start if whole segments are too old or too many, the last one included.
fn expired(view: &StreamView, now_ms: i64, fs: &dyn Fs) -> Option<Expired> {
    let retention_ms = view.settings.retention.map(in_ms);
    let most_bytes = view.settings.retention_bytes;
    if retention_ms.is_none() && most_bytes.is_none() {
        return None;
    }
    let total: u64 = view.segments.iter().map(|segment| segment.length()).sum();
    let mut left = total;
    let mut last = None;
    let mut segments = 0;
    for segment in &view.segments {
        let old = retention_ms.is_some_and(|keep| {
            newest_ms(segment, fs).is_some_and(|newest| now_ms.saturating_sub(newest) > keep)
        });
        let after = left - segment.length();
        // As Kafka: a segment goes only if what stays is still at least the limit.
        let large = most_bytes.is_some_and(|most| after >= most && segment.length() > 0);
        if !old && !large {
            break;
        }
        left = after;
        segments += 1;
        last = Some(segment);
    }
    last.map(|last| Expired {
        log_start: Offset(last.end_offset()).max(view.log_start),
        segments,
        bytes: total - left,
    })
}

/// The time of a segment's newest record; of records without a time, as in Kafka, that of the file's last change.
fn newest_ms(segment: &Segment, fs: &dyn Fs) -> Option<i64> {
    let newest = segment.max_timestamp();
    if newest >= 0 {
        return Some(newest);
    }
    let (file, _) = segment.open(fs).ok()?;
    file.modified_ms().ok().flatten()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn view(segments: &[(i64, i64, u64, i64)]) -> StreamView {
        let mut view = StreamView::new(StreamSettings::default());
        for (base, end, length, newest) in segments {
            let segment = Segment::new(Path::new("/nowhere"), *base);
            segment.publish(*end, *length, *newest);
            view.segments.push(Arc::new(segment));
        }
        view
    }

    fn judged(view: &StreamView, now_ms: i64) -> Option<(i64, u64)> {
        let expired = expired(view, now_ms, &crate::fs::RealFs)?;
        Some((expired.log_start.0, expired.bytes))
    }

    #[test]
    fn time_frees_everything_and_stops_at_the_first_younger_segment() {
        let mut view = view(&[(0, 5, 100, 10), (5, 9, 100, 50), (9, 12, 100, 20)]);
        assert_eq!(judged(&view, 1_000_000), None, "without a limit");
        view.settings.retention = Some(Duration::from_millis(20));
        assert_eq!(judged(&view, 30), None, "exactly as old as allowed");
        assert_eq!(judged(&view, 31), Some((5, 100)));
        assert_eq!(
            judged(&view, 70),
            Some((5, 100)),
            "one that is younger protects those behind it"
        );
        assert_eq!(
            judged(&view, 71),
            Some((12, 300)),
            "the segment that grows goes too"
        );
    }

    #[test]
    fn size_keeps_at_least_the_limit() {
        let mut view = view(&[(0, 5, 100, 10), (5, 9, 100, 50), (9, 12, 100, 20)]);
        for (most, freed) in [
            (301, None),
            (201, None),
            (200, Some((5, 100))),
            (101, Some((5, 100))),
            (100, Some((9, 200))),
            (1, Some((9, 200))),
            (0, Some((12, 300))),
        ] {
            view.settings.retention_bytes = Some(most);
            assert_eq!(judged(&view, 0), freed, "retention.bytes={most}");
        }
    }

    #[test]
    fn jitter_stays_below_the_age_and_differs() {
        let settings = StreamSettings {
            segment_age: Some(Duration::from_millis(1_000)),
            segment_jitter: Duration::from_millis(300),
            ..StreamSettings::default()
        };
        let roll = RollAge::new(StreamId(3), &settings);
        let limits: std::collections::BTreeSet<i64> =
            (0..50).map(|base| roll.limit_ms(base)).collect();
        assert!(limits.len() > 10, "{limits:?}");
        assert!(
            limits.iter().all(|limit| (701..=1_000).contains(limit)),
            "{limits:?}"
        );
        assert!(roll.is_due(0, 10, 1_011) && !roll.is_due(0, 10, 700));
        assert!(
            !roll.is_due(0, -1, 5_000),
            "without a first time nothing is old"
        );
    }
}
