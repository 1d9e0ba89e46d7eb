//! Reading where damage is known, or looked for: each batch is checked before it counts.
//!
//! Of a healthy segment a plan names ranges whose headers are watched as they pass ([`crate::passing`]). Once damage was
//! met in a segment ([`Segment::suspect`]: at a start, by [`crate::Log::set_aside`], by a header that makes no sense or
//! does not carry on from the one before it, by a file that is shorter than what was published) its ranges end before the
//! first batch that is not good, and a read at that batch says so. These reads go through the bytes, so they span at most
//! [`MOST_BYTES`].

use std::io;
use std::sync::Arc;

use flafka_kafka_wire::records::{self, BatchError, BatchHeader, HEADER_LEN};

use crate::damage::{Damage, jump_is_sound, resync, whole_batch};
use crate::error::{IoFault, ReadError};
use crate::fs::File;
use crate::op::{Offset, Position};
use crate::read::{FileRange, Found, StreamReader};
use crate::segment::Segment;
use crate::window::Window;

/// Most bytes of a checked range, unless one batch has more.
const MOST_BYTES: u64 = 1 << 20;

/// The first good batch at or behind an offset.
struct Good {
    /// Where it is, if there is one.
    batch: Option<(u64, BatchHeader)>,
    /// The first run of bad bytes between the good batch before it and this one.
    bad: Option<Bad>,
}

/// A run of bad bytes.
struct Bad {
    from: u64,
    to: u64,
    /// The offset that comes next where it begins.
    least: i64,
}

/// One segment whose batches are checked.
pub(crate) struct Checked<'a> {
    segment: &'a Segment,
    file: &'a dyn File,
    length: u64,
    window: Window<'a>,
}

impl<'a> Checked<'a> {
    pub(crate) fn new(segment: &'a Segment, file: &'a dyn File, length: u64) -> Self {
        Checked {
            segment,
            file,
            length,
            window: Window::new(file, length),
        }
    }

    /// The batch at `position` if it is good and its offsets fit in: none below `least`.
    pub(crate) fn batch(&mut self, position: u64, least: i64) -> io::Result<Option<BatchHeader>> {
        let good = whole_batch(&mut self.window, position, self.length)?;
        let sound = match &good {
            Some(header) if header.base_offset > least => {
                let bounds = (least, self.segment.end_offset());
                jump_is_sound(&mut self.window, position, header, self.length, bounds)?
            }
            Some(header) => header.base_offset == least,
            None => false,
        };
        Ok(good.filter(|_| sound))
    }

    fn first_from(&mut self, offset: Offset) -> io::Result<Good> {
        let (mut position, mut least) = self.segment.place_of(offset.0);
        // An entry inside damage: that begins further in front, and is one, whoever meets it where.
        while position > 0 && self.batch(position, least)?.is_none() {
            (position, least) = self.segment.place_of(least - 1);
        }
        let mut bad = None;
        while position < self.length {
            if let Some(header) = self.batch(position, least)? {
                if header.last_offset() >= offset.0 {
                    let batch = Some((position, header));
                    return Ok(Good { batch, bad });
                }
                least = header.last_offset() + 1;
                position += header.total_len() as u64;
                bad = None;
                continue;
            }
            let (length, most) = (self.length, self.segment.end_offset());
            let next = resync(self.file, position + 1, length, least, most)?;
            let to = next.map_or(length, |(next, _)| next);
            // Only the first run of bad bytes is named; the next read finds the next one.
            bad.get_or_insert(Bad {
                from: position,
                to,
                least,
            });
            position = to;
        }
        Ok(Good { batch: None, bad })
    }

    /// What is wrong with the batch at `position`.
    fn wrong(&mut self, position: u64) -> io::Result<BatchError> {
        let there = self.file.length()?.min(self.length).max(position) - position;
        let found = usize::try_from(there).unwrap_or(usize::MAX);
        let short = |needed| BatchError::Short {
            position: usize::try_from(position).unwrap_or(usize::MAX),
            needed,
            found,
        };
        let Some(header) = self.window.exact(position, HEADER_LEN)? else {
            return Ok(short(HEADER_LEN));
        };
        let header = match BatchHeader::parse(header) {
            Ok(header) => header,
            Err(error) => return Ok(error),
        };
        let needed = header.total_len();
        if needed > found {
            return Ok(short(needed));
        }
        let Some(batch) = self.window.exact(position, needed)? else {
            return Ok(short(needed));
        };
        Ok(match records::verify(batch) {
            Err(error) => error,
            Ok(_) => BatchError::BadBaseOffset {
                base_offset: header.base_offset,
            },
        })
    }

    /// Says in a damage report what the bad bytes from `from` to `end` are.
    fn what(&mut self, from: u64, end: u64) -> io::Result<String> {
        let there = self.file.length()?;
        Ok(if end == self.length && there < self.length {
            let promised = self.length;
            format!("the segment ends at byte {there}, {promised} bytes are promised")
        } else if self.window.only_zeroes(from, end)? {
            // As a start fills up what is missing.
            "nothing but zeroes where batches should be".to_string()
        } else if whole_batch(&mut self.window, from, self.length)?.is_some() {
            "the base offset of the record batch, which no checksum covers, does not carry on"
                .to_string()
        } else {
            "the record batch does not match its checksum or length".to_string()
        })
    }
}

impl StreamReader<'_> {
    /// The good bytes of a segment with damage from the first batch at or behind `offset` on.
    pub(crate) fn checked_range(
        &self,
        segment: &Arc<Segment>,
        file: Arc<dyn File>,
        length: u64,
        offset: Offset,
        room: u64,
        need_one: bool,
    ) -> Result<Found, ReadError> {
        segment.suspect();
        let fault = |error| IoFault::of("read segment", &segment.path)(error);
        let mut checked = Checked::new(segment, &*file, length);
        let Good { batch, bad } = checked.first_from(offset).map_err(fault)?;
        // Whoever asks for offsets behind the damage need not care.
        let reached = batch
            .as_ref()
            .is_some_and(|(_, header)| header.base_offset <= offset.0);
        if let (Some(Bad { from, .. }), false) = (bad, reached) {
            let source = checked.wrong(from).map_err(fault)?;
            return Err(self.corrupt(segment, from, source));
        }
        let Some((start, first)) = batch else {
            return Ok(Found::Nothing);
        };
        if first.total_len() as u64 > room && !need_one {
            return Ok(Found::NoRoom);
        }
        let limit = start.saturating_add(room.min(MOST_BYTES));
        let mut end = start + first.total_len() as u64;
        let mut least = first.last_offset() + 1;
        while end < length.min(limit) {
            let Some(header) = checked.batch(end, least).map_err(fault)? else {
                break;
            };
            let next = end + header.total_len() as u64;
            if next > limit {
                break;
            }
            (end, least) = (next, header.last_offset() + 1);
        }
        let range = FileRange {
            file,
            position: Position(start),
            length: usize::try_from(end - start).unwrap_or(usize::MAX),
            segment: Some(Arc::clone(segment)),
            unseen_to: None,
        };
        Ok(Found::Range(range, end == length))
    }

    /// What is wrong at `offset`: `None` if it can be read, or if nothing is there yet. Reads and checks the batches
    /// from the index entry before it on.
    pub(crate) fn damage_at(&self, offset: Offset) -> Result<Option<Damage>, ReadError> {
        let hole = self.hole_at(offset)?;
        // Compaction leaves gaps.
        let may_have_gaps = {
            let view = self.stream.view();
            let mut segments = view.segments.iter();
            view.settings.compaction.is_some() || segments.any(|one| one.generation > 0)
        };
        Ok(hole.filter(|hole| hole.bytes > 0 || !may_have_gaps))
    }

    /// The same, gaps included.
    fn hole_at(&self, offset: Offset) -> Result<Option<Damage>, ReadError> {
        let (segments, log_start): (Vec<(Arc<Segment>, u64)>, Offset) = {
            let view = self.stream.view();
            if view.deleted {
                return Err(ReadError::UnknownStream(self.stream.id));
            }
            if offset < view.log_start || offset >= view.high_watermark {
                return Ok(None);
            }
            let first = view.segment_of(offset).unwrap_or(0);
            let segments = view.segments[first..].iter();
            let segments = segments.map(|segment| (Arc::clone(segment), segment.length()));
            (segments.collect(), view.log_start)
        };
        let mut hole: Option<Damage> = None;
        for (segment, length) in segments {
            let fault = |error| IoFault::of("read segment", &segment.path)(error);
            let file = self.file_of(&segment)?;
            let mut checked = Checked::new(&segment, &*file, length);
            let Good { batch, bad } = checked.first_from(offset).map_err(fault)?;
            if let Some(Bad { from, to, least }) = bad {
                segment.suspect();
                let what = checked.what(from, to).map_err(fault)?;
                // Whoever asks for an offset in the midst of it meets the same damage.
                let first = Offset(least).max(log_start).min(offset);
                let hole = hole.get_or_insert_with(|| gap(&segment, from, first, &what));
                if hole.bytes == 0 && hole.path == segment.path {
                    hole.position = Position(from);
                    hole.bytes = to - from;
                }
            }
            if let Some((position, header)) = batch {
                return Ok(hole_before(hole, &segment, position, offset, &header));
            }
            let end = Offset(segment.end_offset());
            if end > offset {
                let what = "offsets are missing";
                let hole = hole.get_or_insert_with(|| gap(&segment, length, offset, what));
                hole.next = end;
            }
        }
        Ok(hole)
    }
}

fn gap(segment: &Segment, position: u64, first: Offset, what: &str) -> Damage {
    Damage {
        path: segment.path.clone(),
        position: Position(position),
        bytes: 0,
        first,
        next: first,
        what: what.to_string(),
        kept: None,
    }
}

/// The hole that ends with a good batch, if that does not hold `offset`.
fn hole_before(
    hole: Option<Damage>,
    segment: &Segment,
    position: u64,
    offset: Offset,
    header: &BatchHeader,
) -> Option<Damage> {
    if header.base_offset <= offset.0 {
        return None;
    }
    let missing = || gap(segment, position, offset, "offsets are missing");
    let mut hole = hole.unwrap_or_else(missing);
    hole.next = Offset(header.base_offset);
    Some(hole)
}
