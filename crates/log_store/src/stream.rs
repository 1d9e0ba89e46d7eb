//! The readable side of a stream: what the commit thread has published. Readers never see anything else.
//!
//! Invariant: everything in a [`StreamView`] is as durable as the stream promises; in mode `fsync` the high watermark
//! moves only after the journal's sync.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use tokio::sync::watch;

use crate::acks::AckState;
use crate::op::{Offset, StreamId};
use crate::segment::Segment;
use crate::settings::StreamSettings;
use crate::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Most (epoch, start offset) pairs kept for a stream; the oldest go first.
pub(crate) const MAX_EPOCHS: usize = 1024;

/// Where a stream starts and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamBounds {
    /// First readable offset.
    pub log_start: Offset,
    /// The offset behind the last readable record.
    pub high_watermark: Offset,
    /// The next offset to be given; as the high watermark, since only published data is counted.
    pub log_end: Offset,
    /// Bytes of all its segments.
    pub bytes: u64,
    /// The leader epoch of the last batch, -1 if there never was one.
    pub last_epoch: i32,
}

/// A stream as readers share it.
#[derive(Debug)]
pub(crate) struct StreamState {
    pub(crate) id: StreamId,
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    view: RwLock<StreamView>,
    high_watermark: watch::Sender<Offset>,
}

/// What is published of a stream.
#[derive(Debug)]
pub(crate) struct StreamView {
    pub(crate) settings: StreamSettings,
    pub(crate) log_start: Offset,
    pub(crate) high_watermark: Offset,
    /// Ascending; the last one may be the active segment.
    pub(crate) segments: Vec<Arc<Segment>>,
    /// (leader epoch, first offset in it), ascending.
    pub(crate) epochs: Vec<(i32, Offset)>,
    /// Kept for `acked` streams.
    pub(crate) acks: AckState,
    pub(crate) deleted: bool,
}

impl StreamView {
    /// An empty stream.
    pub(crate) fn new(settings: StreamSettings) -> Self {
        StreamView {
            settings,
            log_start: Offset(0),
            high_watermark: Offset(0),
            segments: Vec::new(),
            epochs: Vec::new(),
            acks: AckState::default(),
            deleted: false,
        }
    }

    pub(crate) fn bounds(&self) -> StreamBounds {
        StreamBounds {
            log_start: self.log_start,
            high_watermark: self.high_watermark,
            log_end: self.high_watermark,
            bytes: self.segments.iter().map(|segment| segment.length()).sum(),
            last_epoch: self.epochs.last().map_or(-1, |last| last.0),
        }
    }

    /// Notes that batches from `offset` on carry `epoch`.
    pub(crate) fn note_epoch(&mut self, epoch: i32, offset: Offset) {
        Self::push_epoch(&mut self.epochs, epoch, offset);
    }

    /// The same on a bare list.
    pub(crate) fn push_epoch(epochs: &mut Vec<(i32, Offset)>, epoch: i32, offset: Offset) {
        if epochs.last().is_none_or(|last| last.0 < epoch) {
            epochs.push((epoch, offset));
            if epochs.len() > MAX_EPOCHS {
                epochs.remove(0);
            }
        }
    }

    /// Moves the log start up and takes out the segments that lie wholly below it; the last one only if `whole`.
    pub(crate) fn trim_to(&mut self, log_start: Offset, whole: bool) -> Vec<Arc<Segment>> {
        self.acks.raise_low(log_start.max(self.log_start));
        // What is acked right behind it goes too, whichever of the two came first.
        let log_start = log_start.max(self.log_start).max(self.acks.low);
        self.log_start = log_start;
        let may_go = self.segments.len().saturating_sub(usize::from(!whole));
        let freed = self.segments[..may_go]
            .iter()
            .take_while(|segment| segment.end_offset() <= log_start.0)
            .count();
        self.segments.drain(..freed).collect()
    }

    /// The index of the segment that holds `offset`.
    pub(crate) fn segment_of(&self, offset: Offset) -> Option<usize> {
        self.segments
            .partition_point(|segment| segment.base_offset <= offset.0)
            .checked_sub(1)
    }
}

impl StreamState {
    pub(crate) fn new(id: StreamId, name: String, dir: PathBuf, view: StreamView) -> Self {
        let (high_watermark, _) = watch::channel(view.high_watermark);
        StreamState {
            id,
            name,
            dir,
            view: RwLock::new(view),
            high_watermark,
        }
    }

    pub(crate) fn view(&self) -> RwLockReadGuard<'_, StreamView> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn view_mut(&self) -> RwLockWriteGuard<'_, StreamView> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Offset> {
        self.high_watermark.subscribe()
    }

    /// Tells watchers the high watermark; costs nothing without any.
    pub(crate) fn announce(&self, high_watermark: Offset) {
        self.high_watermark.send_replace(high_watermark);
    }
}

/// Directory of a stream below `log/`: readable for people, unique by the id.
pub(crate) fn dir_name(id: StreamId, name: &str) -> String {
    let readable: String = name
        .chars()
        .take(80)
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' => c,
            _ => '_',
        })
        .collect();
    format!("{readable}.{id}")
}

/// The id at the end of a stream's directory name.
pub(crate) fn parse_dir_name(name: &str) -> Option<StreamId> {
    name.rsplit_once('.')?.1.parse().ok().map(StreamId)
}
