//! Lookups by time (Kafka ListOffsets): the first record at or after a time, and the first with the highest time.
//!
//! As in Kafka "first" is by offset, whatever the order of the times: the first segment whose newest record is late
//! enough, in it the first batch, in it the first record. Records below the log start are not seen, and gaps that compaction
//! left are no matter. Where damage may hide the first record the answer is the offset at which the damage begins: a
//! reader from there on hears of it, and skips nothing unknowingly.

use std::sync::Arc;

use flafka_kafka_wire::records::{self, BatchHeader};

use crate::checked::Checked;
use crate::damage::resync;
use crate::error::{IoFault, ReadError};
use crate::fs::File;
use crate::op::Offset;
use crate::read::{StreamReader, again_if_gone};
use crate::segment::{HeaderWalk, Segment};

/// Most bytes a batch may decompress to in a lookup by time.
const MAX_LOOKUP_BYTES: usize = 256 << 20;

impl StreamReader<'_> {
    /// See [`crate::Log::offset_for_timestamp`].
    pub(crate) fn offset_for_timestamp(
        &self,
        timestamp: i64,
    ) -> Result<Option<(Offset, i64)>, ReadError> {
        again_if_gone(|| self.look_up_once(timestamp))
    }

    /// See [`crate::Log::offset_of_max_timestamp`].
    pub(crate) fn offset_of_max_timestamp(&self) -> Result<Option<(Offset, i64)>, ReadError> {
        again_if_gone(|| match self.newest_time()? {
            Some(newest) => self.look_up_once(newest),
            None => Ok(None),
        })
    }

    /// The highest timestamp of the readable records. Of the first segment only a part may be readable.
    fn newest_time(&self) -> Result<Option<i64>, ReadError> {
        let (first, rest, log_start) = {
            let view = self.stream.view();
            let mut segments = view.segments.iter();
            let first = segments.next().map(|one| (Arc::clone(one), one.length()));
            let rest = segments.map(|segment| segment.max_timestamp()).max();
            (first, rest, view.log_start)
        };
        let Some((first, length)) = first else {
            return Ok(None);
        };
        let mut newest = if first.base_offset >= log_start.0 {
            Some(first.max_timestamp())
        } else {
            self.newest_in(&first, length, log_start)?
        };
        newest = newest.max(rest);
        Ok(newest.filter(|newest| *newest > i64::MIN))
    }

    fn newest_in(
        &self,
        segment: &Arc<Segment>,
        length: u64,
        log_start: Offset,
    ) -> Result<Option<i64>, ReadError> {
        let file = self.file_of(segment)?;
        let mut walk = HeaderWalk::new(&*file, segment.place_of(log_start.0).0, length);
        let mut newest = None;
        while let Some(step) = walk
            .step()
            .map_err(IoFault::of("read segment", &segment.path))?
        {
            let (position, header) =
                step.map_err(|source| self.corrupt(segment, walk.position(), source))?;
            if header.last_offset() < log_start.0 || header.record_count == 0 {
                continue;
            }
            let of_batch = if header.base_offset >= log_start.0 {
                Some(header.max_timestamp)
            } else {
                let mut of_records = None;
                self.each_record(
                    segment,
                    &*file,
                    position,
                    &header,
                    &mut |offset, timestamp| {
                        of_records = of_records.max((offset >= log_start).then_some(timestamp));
                        true
                    },
                )?;
                of_records
            };
            newest = newest.max(of_batch);
        }
        Ok(newest)
    }

    /// Calls `body` with offset and time of each record of a batch, as long as it says true.
    fn each_record(
        &self,
        segment: &Segment,
        file: &dyn File,
        position: u64,
        header: &BatchHeader,
        body: &mut dyn FnMut(Offset, i64) -> bool,
    ) -> Result<(), ReadError> {
        let mut scratch = Vec::new();
        let mut batch = vec![0; header.total_len()];
        file.read_exact_at(&mut batch, position)
            .map_err(IoFault::of("read segment", &segment.path))?;
        let bad = |source| self.corrupt(segment, position, source);
        if records::verify(&batch).is_err() {
            return Ok(()); // Damaged: its times count for nothing.
        }
        let iter = records::records(header, &batch, &mut scratch, MAX_LOOKUP_BYTES).map_err(bad)?;
        for record in iter {
            let record = record.map_err(bad)?;
            if !body(Offset(record.offset), record.timestamp) {
                break;
            }
        }
        Ok(())
    }

    fn look_up_once(&self, timestamp: i64) -> Result<Option<(Offset, i64)>, ReadError> {
        let (segments, log_start) = {
            let view = self.stream.view();
            if view.deleted {
                return Err(ReadError::UnknownStream(self.stream.id));
            }
            let segments: Vec<(Arc<Segment>, u64)> = view
                .segments
                .iter()
                .map(|segment| (Arc::clone(segment), segment.length()))
                .collect();
            (segments, view.log_start)
        };
        for (segment, length) in segments {
            if segment.max_timestamp() < timestamp {
                continue;
            }
            if let Some(found) = self.first_at(&segment, length, timestamp, log_start)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn first_at(
        &self,
        segment: &Arc<Segment>,
        length: u64,
        timestamp: i64,
        log_start: Offset,
    ) -> Result<Option<(Offset, i64)>, ReadError> {
        let file = self.file_of(segment)?;
        let fault = |error| IoFault::of("read segment", &segment.path)(error);
        let mut checked = Checked::new(segment, &*file, length);
        // From an entry of the index that has little before the time behind it.
        let (mut position, mut least) = segment.place_at_time(timestamp);
        while position < length {
            let at = position;
            let Some(header) = checked.batch(at, least).map_err(fault)? else {
                segment.suspect();
                let behind = resync(&*file, at + 1, length, least, segment.end_offset());
                match behind.map_err(fault)? {
                    Some((next, header))
                        if header.max_timestamp < timestamp
                            || header.base_offset <= log_start.0 =>
                    {
                        position = next;
                    }
                    _ => return Ok(Some((Offset(least.max(log_start.0)), timestamp))),
                }
                continue;
            };
            position += header.total_len() as u64;
            least = header.last_offset() + 1;
            if header.max_timestamp < timestamp || header.last_offset() < log_start.0 {
                continue;
            }
            let mut found = None;
            self.each_record(segment, &*file, at, &header, &mut |offset, time| {
                if time >= timestamp && offset >= log_start {
                    found = Some((offset, time));
                }
                found.is_none()
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}
