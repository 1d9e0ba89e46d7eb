//! Retention by time and size: a pass over the streams that moves log starts up to whole sealed segments.
//!
//! It goes through the commit path as any other trim, so the record that frees a segment is durable before the file
//! goes, and a crash in between only means that the next start removes it.

use tokio::sync::oneshot;

use crate::engine::Engine;
use crate::op::{Offset, Op};
use crate::queue::{CommitRequest, Prepared, Reply};
use crate::stream::StreamView;

impl Engine {
    /// Trims every stream to what its settings keep.
    pub(crate) fn retain(&mut self) {
        let now_ms = self.clock.now_ms();
        let ops: Vec<Prepared> = self
            .streams
            .values()
            .filter_map(|writer| {
                let stream = writer.state.id;
                let log_start = kept_from(&writer.state.view(), now_ms)?;
                Some(Prepared::Plain(Op::TrimTo { stream, log_start }))
            })
            .collect();
        if ops.is_empty() {
            return;
        }
        // A stream may be deleted between the pass and the round: each for itself, and nobody waits for the answer.
        let (sender, _) = oneshot::channel();
        self.round(vec![CommitRequest {
            ops,
            bytes: 0,
            reply: Reply::Each(sender),
            permit: None,
        }]);
    }
}

/// The new log start if whole sealed segments are too old or too many.
pub(crate) fn kept_from(view: &StreamView, now_ms: i64) -> Option<Offset> {
    let sealed = view.segments.len().saturating_sub(1);
    let mut bytes: u64 = view.segments.iter().map(|segment| segment.length()).sum();
    let oldest_ms = view.settings.retention.map(|retention| {
        now_ms.saturating_sub(i64::try_from(retention.as_millis()).unwrap_or(i64::MAX))
    });
    let mut from = None;
    for segment in &view.segments[..sealed] {
        let old = oldest_ms.is_some_and(|oldest| segment.max_timestamp() < oldest);
        let after = bytes - segment.length();
        // As Kafka: a segment goes only if what stays is still at least the limit.
        let large = view
            .settings
            .retention_bytes
            .is_some_and(|most| after >= most);
        if !old && !large {
            break;
        }
        bytes = after;
        from = Some(Offset(segment.end_offset()));
    }
    from.filter(|from| *from > view.log_start)
}
