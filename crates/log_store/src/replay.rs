//! From a checkpoint and the journal behind it to the state of the last moment that was journaled.
//!
//! Frames carry on exactly where the state stands, because every cut of weak data is followed by a checkpoint. Behind
//! damage in the journal they need not: what is missing of a segment is looked for in its file ([`crate::tail`]), a frame
//! that fits nowhere is left out, and a directory that nobody knows is kept. Redo is only noted here and done when it is known which segments still live.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::acks::AckState;
use crate::checkpoint::{SegmentSnapshot, Snapshot, StreamSnapshot};
use crate::error::OpenError;
use crate::journal::files;
use crate::journal::frame::{APPEND_PREFIX_BYTES, Record};
use crate::journal::scan::ScannedFrame;
use crate::op::{Offset, StreamId};
use crate::producers::Producers;
use crate::settings::StreamSettings;
use crate::tables::Tables;

/// A segment as the journal says it is.
#[derive(Debug, Clone)]
pub(crate) struct ReplaySegment {
    pub(crate) base: i64,
    pub(crate) generation: u32,
    pub(crate) clean_to: i64,
    pub(crate) end: i64,
    pub(crate) length: u64,
    pub(crate) max_timestamp: i64,
    /// Bytes that the checkpoint names: synced, not looked at again.
    pub(crate) durable: u64,
    /// The offset behind them.
    pub(crate) durable_end: i64,
    /// Bytes that must be there, or acknowledged data is gone.
    pub(crate) promised: u64,
    /// What the journal refers to behind the checkpoint, ascending.
    pub(crate) refs: Vec<Reference>,
    /// The frames that said how far it goes are damaged: it goes as far as its file has good batches before `end`.
    pub(crate) open_end: bool,
    /// It was the newest one at the checkpoint: a recycled file may hold more behind its end.
    pub(crate) was_last: bool,
    /// Damage to it is known, from this start or from before: a copy of the bytes lies beside it.
    pub(crate) suspect: bool,
}

impl ReplaySegment {
    pub(crate) fn new(base: i64) -> Self {
        ReplaySegment {
            base,
            generation: 0,
            clean_to: base,
            end: base,
            length: 0,
            max_timestamp: i64::MIN,
            durable: 0,
            durable_end: base,
            promised: 0,
            refs: Vec::new(),
            open_end: false,
            was_last: false,
            suspect: false,
        }
    }
}

/// Batches that the journal only refers to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reference {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) start_offset: i64,
    /// Over the checksums of the batches.
    pub(crate) batches_crc: u32,
    /// Nobody has synced them.
    pub(crate) weak: bool,
}

/// A stream as the journal says it is.
#[derive(Debug)]
pub(crate) struct ReplayStream {
    pub(crate) name: String,
    pub(crate) settings: StreamSettings,
    pub(crate) log_start: Offset,
    pub(crate) end: i64,
    pub(crate) acks: AckState,
    pub(crate) epochs: Vec<(i32, Offset)>,
    pub(crate) segments: Vec<ReplaySegment>,
    /// Segments freed since the checkpoint that hold batches behind it: their producers still count.
    pub(crate) freed: Vec<ReplaySegment>,
    pub(crate) producers: Producers,
}

/// Batches in the journal that belong into a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Redo {
    /// Index into the scan's files.
    pub(crate) file: usize,
    pub(crate) at: u64,
    pub(crate) length: u64,
    pub(crate) stream: StreamId,
    pub(crate) segment: i64,
    pub(crate) position: u64,
}

/// The state while frames come in.
#[derive(Debug)]
pub(crate) struct Replay {
    journal_dir: PathBuf,
    pub(crate) tables: Tables,
    pub(crate) streams: BTreeMap<StreamId, ReplayStream>,
    pub(crate) next_stream_id: u32,
    pub(crate) redo: Vec<Redo>,
    /// Frames behind damage that fit nowhere.
    pub(crate) left_out: u64,
}

impl From<StreamSnapshot> for ReplayStream {
    fn from(stream: StreamSnapshot) -> Self {
        let durable = |segment: &SegmentSnapshot| ReplaySegment {
            base: segment.base,
            generation: segment.generation,
            clean_to: segment.clean_to,
            end: segment.end,
            length: segment.length,
            max_timestamp: segment.max_timestamp,
            durable: segment.length,
            durable_end: segment.end,
            promised: segment.length,
            refs: Vec::new(),
            open_end: false,
            was_last: false,
            suspect: false,
        };
        let mut segments: Vec<_> = stream.segments.iter().map(durable).collect();
        if let Some(last) = segments.last_mut() {
            last.was_last = true;
        }
        ReplayStream {
            name: stream.name,
            settings: stream.settings,
            log_start: stream.log_start,
            end: stream.end,
            acks: stream.acks,
            epochs: stream.epochs,
            segments,
            freed: Vec::new(),
            producers: stream.producers,
        }
    }
}

impl Replay {
    pub(crate) fn new(snapshot: Snapshot, journal_dir: &Path) -> Self {
        let streams = snapshot.streams.into_iter();
        Replay {
            journal_dir: journal_dir.to_path_buf(),
            tables: snapshot.tables,
            streams: streams
                .map(|stream| (stream.id, ReplayStream::from(stream)))
                .collect(),
            next_stream_id: snapshot.next_stream_id,
            redo: Vec::new(),
            left_out: 0,
        }
    }

    /// Applies a frame of a whole group.
    pub(crate) fn apply(&mut self, frame: &ScannedFrame) -> Result<(), OpenError> {
        let applied = self.try_apply(frame);
        let path = || self.journal_dir.join(files::file_name(frame.sequence));
        match applied {
            Err(what) if frame.behind_damage => {
                let (lsn, path) = (frame.header.lsn, path());
                tracing::error!(path = %path.display(), lsn, what, "a journal frame behind damage fits nowhere");
                self.left_out += 1;
                Ok(())
            }
            applied => applied.map_err(|what| OpenError::Corrupt {
                path: path(),
                position: frame.payload_at,
                what: format!("journal frame {}: {what}", frame.header.lsn),
            }),
        }
    }

    fn try_apply(&mut self, frame: &ScannedFrame) -> Result<(), String> {
        let header = &frame.header;
        let id = StreamId(header.stream);
        let record = Record::decode(header.kind, &frame.payload).map_err(|_| {
            format!(
                "type {} is unknown or malformed here; it was written by a newer release",
                header.kind
            )
        })?;
        match record {
            Record::Put { table, key, value } => self.tables.put(table, key, value),
            Record::Delete { table, key } => self.tables.delete(table, key),
            Record::CreateStream { name, settings } => self.create(id, name, settings)?,
            Record::DeleteStream => {
                self.streams.remove(&id);
                self.redo.retain(|redo| redo.stream != id);
            }
            Record::UpdateStream { settings } => self.stream(id)?.settings = settings,
            Record::Ack { first, last } => {
                let stream = self.stream(id)?;
                stream.acks.insert(Offset(first), Offset(last));
                let low = stream.acks.low;
                stream.trim_to(low, false);
            }
            Record::Trim { log_start, whole } => {
                self.stream(id)?.trim_to(Offset(log_start), whole);
            }
            Record::Switch {
                first,
                end,
                generation,
                length,
                max_timestamp,
                clean_to,
            } => self.stream(id)?.switch(ReplaySegment {
                base: first,
                generation,
                clean_to,
                end,
                length,
                max_timestamp,
                durable: length,
                durable_end: end,
                promised: length,
                refs: Vec::new(),
                open_end: false,
                was_last: false,
                suspect: false,
            })?,
            Record::Append {
                segment,
                position,
                next_offset,
                ..
            } => {
                let length = u64::from(header.length) - APPEND_PREFIX_BYTES as u64;
                let stream = self.stream(id)?;
                if frame.behind_damage {
                    stream.bridge(segment, position);
                }
                stream.grow(segment, position, length, next_offset, true, None)?;
                self.redo.push(Redo {
                    file: frame.file,
                    at: frame.payload_at + APPEND_PREFIX_BYTES as u64,
                    length,
                    stream: id,
                    segment,
                    position,
                });
            }
            Record::AppendRef {
                segment,
                position,
                next_offset,
                length,
                batches_crc,
            } => {
                let promised = !header.weak;
                let stream = self.stream(id)?;
                if frame.behind_damage {
                    stream.bridge(segment, position);
                }
                stream.grow(
                    segment,
                    position,
                    length,
                    next_offset,
                    promised,
                    Some(batches_crc),
                )?;
            }
        }
        Ok(())
    }

    fn stream(&mut self, id: StreamId) -> Result<&mut ReplayStream, String> {
        self.streams
            .get_mut(&id)
            .ok_or_else(|| format!("stream {id} does not exist"))
    }

    fn create(&mut self, id: StreamId, name: &str, settings: StreamSettings) -> Result<(), String> {
        let stream = ReplayStream {
            name: name.to_string(),
            settings,
            log_start: Offset(0),
            end: 0,
            acks: AckState::default(),
            epochs: Vec::new(),
            segments: Vec::new(),
            freed: Vec::new(),
            producers: Producers::default(),
        };
        if self.streams.insert(id, stream).is_some() {
            return Err(format!("stream {id} is created twice"));
        }
        let after = id.0.checked_add(1).ok_or("stream ids are used up")?;
        self.next_stream_id = self.next_stream_id.max(after);
        Ok(())
    }
}

impl ReplayStream {
    /// Fills in what damaged frames must have said for one that appends at `position` of `segment`: the bytes before it
    /// were acknowledged. How far the segment before goes only its file can say.
    fn bridge(&mut self, segment: i64, position: u64) {
        let known = self.segments.last().map_or(-1, |last| last.base);
        if segment > known && segment >= self.end {
            if let Some(last) = self.segments.last_mut().filter(|_| segment > self.end) {
                last.open_end = true;
                last.end = segment;
            }
            self.end = segment;
            if position > 0 {
                self.segments.push(ReplaySegment::new(segment));
            }
        }
        if let Some(last) = self.segments.last_mut()
            && (last.base, last.generation) == (segment, 0)
            && position > last.length
        {
            last.length = position;
            last.promised = position;
        }
    }

    fn grow(
        &mut self,
        segment: i64,
        position: u64,
        length: u64,
        next_offset: i64,
        promised: bool,
        batches_crc: Option<u32>,
    ) -> Result<(), String> {
        let last = self.segments.last().filter(|last| last.generation == 0);
        let known = last.map(|last| (last.base, last.length));
        match known {
            Some((base, end)) if base == segment => {
                if end != position {
                    return Err(format!(
                        "appends at byte {position} of segment {segment}, which ends at {end}"
                    ));
                }
            }
            _ => {
                if segment != self.end || position != 0 {
                    return Err(format!(
                        "starts segment {segment} at byte {position}, but the stream ends at offset {}",
                        self.end
                    ));
                }
                self.segments.push(ReplaySegment::new(segment));
            }
        }
        if next_offset <= self.end {
            return Err(format!(
                "ends at offset {next_offset}, but the stream was at {} before",
                self.end
            ));
        }
        let end = position
            .checked_add(length)
            .filter(|end| *end <= u64::from(u32::MAX) * 2);
        let end = end.ok_or("segment position out of range")?;
        let start_offset = self.end;
        if let Some(last) = self.segments.last_mut() {
            last.refs.extend(batches_crc.map(|batches_crc| Reference {
                start: position,
                end,
                start_offset,
                batches_crc,
                weak: !promised,
            }));
            last.length = end;
            last.end = next_offset;
            if promised {
                last.promised = end;
            }
        }
        // A promise for a later segment is one for all before it.
        if promised {
            let before = self.segments.len().saturating_sub(1);
            for earlier in &mut self.segments[..before] {
                earlier.promised = earlier.length;
            }
        }
        self.end = next_offset;
        Ok(())
    }

    /// Whether anybody still needs the file of a segment.
    pub(crate) fn needs(&self, base: i64, generation: u32) -> bool {
        let mut all = self.segments.iter().chain(&self.freed);
        all.any(|segment| (segment.base, segment.generation) == (base, generation))
    }

    /// Whether a file of the segment at `base` can only be one that compaction has replaced: only it makes gaps, and
    /// segments of another generation.
    pub(crate) fn is_replaced(&self, base: i64) -> bool {
        let mut all = self.segments.iter();
        !all.any(|one| one.generation == 0 && (one.base..one.end).contains(&base))
    }

    /// Puts what compaction wrote in the place of the segments from `new.base` to `new.end`. Its file was durable before
    /// the journal named it.
    fn switch(&mut self, new: ReplaySegment) -> Result<(), String> {
        let from = self.segments.partition_point(|one| one.base < new.base);
        let to = self.segments.partition_point(|one| one.base < new.end);
        let old = self.segments.get(from..to).unwrap_or_default();
        let ends = old.last().is_some_and(|last| last.end == new.end);
        if !ends || old.first().is_none_or(|first| first.base != new.base) {
            return Err(format!(
                "replaces segments {} to {}, which are not there",
                new.base, new.end
            ));
        }
        // Everything before it was durable too, or compaction would not have read it.
        for earlier in &mut self.segments[..from] {
            earlier.promised = earlier.length;
        }
        let put = (new.length > 0).then_some(new);
        let old: Vec<ReplaySegment> = self.segments.splice(from..to, put).collect();
        let unseen = old.into_iter().filter(|one| one.length > one.durable);
        self.freed.extend(unseen);
        Ok(())
    }

    /// As [`crate::stream::StreamView::trim_to`].
    fn trim_to(&mut self, log_start: Offset, whole: bool) {
        self.log_start = self.log_start.max(log_start);
        self.acks.raise_low(self.log_start);
        self.log_start = self.log_start.max(self.acks.low);
        let may_go = self.segments.len().saturating_sub(usize::from(!whole));
        let freed = self.segments[..may_go]
            .iter()
            .take_while(|segment| segment.end <= self.log_start.0)
            .count();
        let gone = self.segments.drain(..freed);
        self.freed
            .extend(gone.filter(|segment| segment.length > segment.durable));
    }
}
