//! What a repair keeps of a segment: the batches that are good and stand where they belong.
//!
//! Invariant: a batch is judged as a reader judges it ([`jump_is_sound`]), so that a repair keeps what can be read without
//! it, and one wrong offset never costs the batches behind it.

use std::io;

use flafka_kafka_wire::records::BatchHeader;

use crate::damage::jump_is_sound;
use crate::replay::ReplaySegment;
use crate::window::Window;

/// Where a batch of a segment may lie.
pub(super) struct Bounds {
    /// Bytes that the journal knows.
    length: u64,
    /// The offset behind them.
    end: i64,
    /// Behind damage in the journal the file may hold more, up to this offset.
    open_end: Option<i64>,
}

impl Bounds {
    /// `is_open`: the file may hold more than the journal says.
    pub(super) fn of(info: &ReplaySegment, is_open: bool) -> Bounds {
        Bounds {
            length: info.length,
            end: info.end,
            // A segment ends before its offsets leave 32 bits.
            open_end: is_open.then(|| info.base.saturating_add(i64::from(u32::MAX))),
        }
    }

    /// The offset that a batch at `position` stays below, and whether the journal knows of it.
    fn at(&self, position: u64) -> (i64, bool) {
        match self.open_end {
            Some(most) if position >= self.length => (most, false),
            _ => (self.end, true),
        }
    }
}

/// The good batches of a segment.
pub(super) struct Kept {
    /// Position and length of what stays, joined where it touches.
    pub(super) pieces: Vec<(u64, u64)>,
    /// Offsets that went with bytes that are no batch: first, and the one behind the last.
    pub(super) holes: Vec<(i64, i64)>,
    /// Bad bytes lie behind the last batch.
    pub(super) bad: bool,
    pub(super) end: i64,
    pub(super) length: u64,
    pub(super) max_timestamp: i64,
}

impl Kept {
    pub(super) fn new(base: i64) -> Kept {
        Kept {
            pieces: Vec::new(),
            holes: Vec::new(),
            bad: false,
            end: base,
            length: 0,
            max_timestamp: i64::MIN,
        }
    }

    /// Whether a good batch stands where it belongs. `ahead` is over the bytes of the segment that count, the first `end`.
    pub(super) fn takes(
        &self,
        position: u64,
        header: &BatchHeader,
        bounds: &Bounds,
        ahead: &mut Window<'_>,
        end: u64,
    ) -> io::Result<bool> {
        let (most, journaled) = bounds.at(position);
        let is_inside = (header.base_offset..most).contains(&header.last_offset());
        if !is_inside || header.base_offset <= self.end {
            return Ok(is_inside && header.base_offset == self.end);
        }
        // Behind the journaled end only damage makes gaps.
        if !journaled && !self.bad {
            return Ok(false);
        }
        jump_is_sound(ahead, position, header, end, (self.end, most))
    }

    pub(super) fn add(&mut self, position: u64, header: &BatchHeader) {
        let length = header.total_len() as u64;
        match self.pieces.last_mut() {
            Some(last) if last.0 + last.1 == position => last.1 += length,
            _ => self.pieces.push((position, length)),
        }
        self.close_hole(header.base_offset);
        self.length += length;
        self.end = header.last_offset() + 1;
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
    }

    /// What was lost lies before `next`. Without bad bytes a gap is none: compaction leaves such.
    pub(super) fn close_hole(&mut self, next: i64) {
        if std::mem::take(&mut self.bad) && self.end < next {
            self.holes.push((self.end, next));
        }
    }
}
