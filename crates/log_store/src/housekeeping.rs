//! What retention, recycling and compaction have done since the log was opened: counters for the metrics page.

use std::sync::atomic::AtomicU64;

/// Counters that only grow. Read with relaxed loads.
#[derive(Debug, Default)]
pub struct Housekeeping {
    /// Segments that retention freed.
    pub retention_segments: AtomicU64,
    /// Their bytes.
    pub retention_bytes: AtomicU64,
    /// Segments that began in the file of a freed one.
    pub recycled_segments: AtomicU64,
    /// Compaction passes over a stream that were finished.
    pub compaction_passes: AtomicU64,
    /// Compaction passes that failed or were given up.
    pub compaction_failures: AtomicU64,
    /// Segment bytes that compaction replaced.
    pub compaction_read_bytes: AtomicU64,
    /// Segment bytes that compaction put in their place.
    pub compaction_written_bytes: AtomicU64,
    /// Records that compaction removed.
    pub compaction_removed_records: AtomicU64,
}
