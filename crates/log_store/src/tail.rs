//! Checks of one stream's files at start: everything that was promised must be there, everything else behind the
//! journaled end goes.
//!
//! Only bytes behind the checkpoint are read, so a start does not take longer because more data waits.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flafka_kafka_wire::records::BatchHeader;

use crate::codec::Crc;
use crate::damage::{Damage, jump_is_sound, resync, whole_batch};
use crate::error::{IoFault, OpenError};
use crate::fs::{File, Fs, OpenMode, remove_durably};
use crate::mend::is_leftover;
use crate::op::{Offset, Position};
use crate::producers::Producers;
use crate::recovery::{Cut, RecoveryReport};
use crate::recycle::written_behind;
use crate::replay::{ReplaySegment, ReplayStream};
use crate::segment;
use crate::stream::StreamView;
use crate::tail_walk::TailWalk;
use crate::window::Window;

/// How a start looks at a stream.
#[derive(Debug)]
pub(crate) struct TailCheck<'a> {
    pub(crate) fs: &'a dyn Fs,
    pub(crate) dir: &'a Path,
    pub(crate) now_ms: i64,
    pub(crate) max_producers: usize,
    /// Frames of the journal are missing: files may hold more than it says.
    pub(crate) journal_damaged: bool,
    pub(crate) report: &'a mut RecoveryReport,
}

impl TailCheck<'_> {
    /// Checks what lies behind the checkpoint, cuts weak data that did not survive, removes what nobody knows.
    /// Returns whether journaled data was cut, so that a checkpoint must say so before anything is appended.
    pub(crate) fn run(&mut self, stream: &mut ReplayStream) -> Result<bool, OpenError> {
        let names: BTreeSet<String> = self
            .fs
            .list(self.dir)
            .map_err(IoFault::of("list stream", self.dir))?
            .into_iter()
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        if self.journal_damaged {
            self.adopt(stream, &names)?;
        }
        self.learn_from_freed(stream)?;
        let cut = self.check_segments(stream, &names)?;
        self.mark_suspects(stream, &names);
        self.remove_strays(stream, &names)?;
        Ok(cut)
    }

    /// Takes the producers from freed segments. Where such a file is damaged or gone, what is known may be outdated:
    /// then nothing is known, and every sequence will be accepted.
    fn learn_from_freed(&mut self, stream: &mut ReplayStream) -> Result<(), OpenError> {
        for segment in stream.freed.clone() {
            let path = self
                .dir
                .join(segment::file_name(segment.base, segment.generation));
            let file = match self.fs.open(&path, OpenMode::Read) {
                Ok(file) => file,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    stream.producers = Producers::default();
                    continue;
                }
                Err(error) => return Err(IoFault::of("open segment", &path)(error).into()),
            };
            let found = file
                .length()
                .map_err(IoFault::of("measure segment", &path))?;
            let walked = self.walk(stream, &segment, &*file, &path, found)?;
            if walked.length < segment.length || !walked.damages.is_empty() {
                stream.producers = Producers::default();
            }
        }
        Ok(())
    }

    fn check_segments(
        &mut self,
        stream: &mut ReplayStream,
        names: &BTreeSet<String>,
    ) -> Result<bool, OpenError> {
        let count = stream.segments.len();
        let damages = self.report.damages.len();
        for at in 0..count {
            let segment = stream.segments[at].clone();
            let name = segment::file_name(segment.base, segment.generation);
            let path = self.dir.join(&name);
            let grew = segment.length > segment.durable || segment.was_last;
            let tail = grew || at + 1 == count || segment.open_end;
            let good = if !names.contains(&name) && segment.promised == 0 {
                (segment.base, 0, i64::MIN)
            } else if !names.contains(&name) {
                self.missing(&segment, &path, &name)?
            } else if tail {
                self.check_tail(stream, &segment, &path)?
            } else {
                continue;
            };
            let (end, length, max_timestamp) = good;
            let known = &mut stream.segments[at];
            known.max_timestamp = known.max_timestamp.max(max_timestamp);
            if segment.open_end {
                known.length = length;
                continue;
            }
            if length < segment.length {
                known.end = end;
                known.length = length;
                stream.end = end;
                stream.segments.truncate(at + 1);
                stream.segments.retain(|segment| segment.length > 0);
                // Offsets that are gone were neither trimmed nor acked: they will be given again.
                stream.log_start = stream.log_start.min(crate::op::Offset(end));
                stream.acks.cut(crate::op::Offset(end));
                stream.epochs.retain(|(_, first)| first.0 < end);
                return Ok(true);
            }
        }
        // What is damaged is told once: the next start begins behind it.
        Ok(self.report.damages.len() > damages)
    }

    /// Reads the batches behind the checkpoint. Returns end offset, length and highest timestamp of what is good.
    fn check_tail(
        &mut self,
        stream: &mut ReplayStream,
        segment: &ReplaySegment,
        path: &Path,
    ) -> Result<(i64, u64, i64), OpenError> {
        let file = self
            .fs
            .open(path, OpenMode::Write)
            .map_err(IoFault::of("open segment", path))?;
        let found = file
            .length()
            .map_err(IoFault::of("measure segment", path))?;
        let short = match found < segment.durable {
            true => Some(short_by(&*file, segment, path, found)?),
            false => None,
        };
        let found = found.max(segment.durable);
        let mut whole = segment.clone();
        if segment.open_end {
            whole.length = whole.length.max(found);
        }
        let segment = &whole;
        let Walked {
            end,
            length,
            max_timestamp,
            mut damages,
        } = self.walk(stream, segment, &*file, path, found)?;
        self.report.checked_bytes += length - segment.durable;
        if let Some(mut short) = short {
            // What the journal names behind it is gone with it: one loss, told once.
            let joined = |next: &Damage| next.position.0 == segment.durable;
            if damages.first().is_some_and(joined) {
                let next = damages.remove(0);
                (short.next, short.bytes) = (next.next, short.bytes + next.bytes);
            }
            // First, so that no copy is made of what fills it.
            self.damaged(short);
            self.fill(&*file, path, segment.durable)?;
        }
        if segment.open_end && end < segment.end {
            damages.push(Damage {
                path: path.to_path_buf(),
                position: Position(length),
                bytes: found - length,
                first: Offset(end),
                next: Offset(segment.end),
                what: "batches are missing that damaged journal frames spoke of".to_string(),
                kept: None,
            });
        }
        if !damages.is_empty() {
            self.pass_damages(stream, damages, &*file, path)?;
            if found < length {
                self.fill(&*file, path, length)?;
            }
        }
        let found = found.max(length);
        if segment.open_end {
            self.cut(segment, &*file, path, found, (length, end), length)?;
            return Ok((segment.end, length, max_timestamp));
        }
        if length == segment.length && end != segment.end {
            return Err(OpenError::Corrupt {
                path: path.to_path_buf(),
                position: length,
                what: format!(
                    "the segment ends at offset {end}, the journal says {}",
                    segment.end
                ),
            });
        }
        let weak = segment
            .refs
            .iter()
            .filter(|part| part.weak && part.end <= length);
        for part in weak {
            rewrite(&*file, part.start, part.end).map_err(IoFault::of("write segment", path))?;
        }
        let good = (length, end);
        self.cut(segment, &*file, path, found, good, segment.length)?;
        Ok((end, length, max_timestamp))
    }

    /// Reads the batches behind the checkpoint as far as they are what the journal says.
    fn walk(
        &self,
        stream: &mut ReplayStream,
        segment: &ReplaySegment,
        file: &dyn File,
        path: &Path,
        found: u64,
    ) -> Result<Walked, IoFault> {
        let mut walk = TailWalk {
            window: Window::new(file, found.min(segment.length)),
            position: segment.durable,
            offset: segment.durable_end,
            max_timestamp: segment.max_timestamp,
        };
        let mut references = segment.refs.iter();
        let mut next = references.next();
        // Batches of a reference count only when all of them are right.
        let mut pending: Vec<BatchHeader> = Vec::new();
        let mut crc = Crc::new();
        let mut damages = Vec::new();
        while walk.position < segment.length {
            let (at, offset) = (walk.position, walk.offset);
            let step = walk.next().map_err(IoFault::of("read segment", path))?;
            let (from, from_offset, what, behind) = match (step, next) {
                (Err(what), _) => (at, offset, what, at + 1),
                (Ok(header), Some(reference)) if at >= reference.start => {
                    crc.add(&header.crc.to_be_bytes());
                    pending.push(header);
                    if walk.position < reference.end {
                        continue;
                    }
                    if walk.position == reference.end && crc.value() == reference.batches_crc {
                        for header in pending.drain(..) {
                            note(stream, &header, self.now_ms, self.max_producers);
                        }
                        crc = Crc::new();
                        next = references.next();
                        continue;
                    }
                    let what = OTHER_BATCHES.to_string();
                    (reference.start, reference.start_offset, what, reference.end)
                }
                (Ok(header), _) => {
                    note(stream, &header, self.now_ms, self.max_producers);
                    continue;
                }
            };
            if from >= segment.promised {
                break;
            }
            // Before the durable point: damage. The next good batch carries on.
            let end = found.min(segment.length);
            let good = resync(file, behind, end, from_offset, segment.end)
                .map_err(IoFault::of("read segment", path))?;
            (walk.position, walk.offset) = match good {
                Some((position, header)) => (position, header.base_offset),
                None => (segment.length, segment.end),
            };
            damages.push(Damage {
                path: path.to_path_buf(),
                position: Position(from),
                bytes: walk.position - from,
                first: Offset(from_offset),
                next: Offset(walk.offset),
                what,
                kept: None,
            });
            // Of a reference that is damaged the rest is taken as it is, each batch by its own checksum.
            pending.clear();
            crc = Crc::new();
            while next.is_some_and(|reference| reference.start < walk.position) {
                next = references.next();
            }
        }
        let (mut end, mut length) = (walk.offset, walk.position);
        if let Some(reference) = next.filter(|reference| length > reference.start) {
            (end, length) = (reference.start_offset, reference.start);
        }
        Ok(Walked {
            end,
            length,
            max_timestamp: walk.max_timestamp,
            damages,
        })
    }

    /// Cuts what lies behind `length`, where `end` comes next.
    fn cut(
        &mut self,
        segment: &ReplaySegment,
        file: &dyn File,
        path: &Path,
        found: u64,
        (length, end): (u64, i64),
        journaled: u64,
    ) -> Result<(), OpenError> {
        let weak = length < journaled;
        let mut written = length;
        if found > length {
            written = written_behind(file, segment.base, (length, end), found)
                .map_err(IoFault::of("read segment", path))?;
            file.set_len(length)
                .map_err(IoFault::of("cut segment", path))?;
        }
        if written > length || weak {
            self.report.cuts.push(Cut {
                path: path.to_path_buf(),
                position: length,
                bytes: written.max(journaled) - length,
                acknowledged_weakly: weak,
            });
        }
        Ok(())
    }

    /// Removes freed segments, segments that were never journaled, and orphaned indexes; sets aside what cannot be.
    fn remove_strays(
        &mut self,
        stream: &ReplayStream,
        names: &BTreeSet<String>,
    ) -> Result<(), OpenError> {
        let mut gone = Vec::new();
        for name in names {
            if is_leftover(name) {
                gone.push(name.clone());
                continue;
            }
            let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
            let parsed = segment::parse_file_name(&format!("{stem}.log"));
            let Some((base, generation)) = parsed else {
                continue;
            };
            // Freed ones go with the next checkpoint, not before.
            let unnamed = matches!(extension, segment::UNFINISHED | segment::SPARE);
            if stream.needs(base, generation) && !unnamed {
                continue;
            }
            match extension {
                "oix" | "tix" | segment::UNFINISHED | segment::SPARE => gone.push(name.clone()),
                "log" if base < stream.log_start.0 || base >= stream.end => {
                    gone.push(name.clone());
                    if base >= stream.end {
                        self.report_stray(self.dir.join(name), base);
                    }
                }
                // Written by compaction and not switched to, or replaced since: their records are elsewhere. But with
                // a damaged journal nobody knows.
                "log" if !self.journal_damaged && (generation > 0 || stream.is_replaced(base)) => {
                    gone.push(name.clone());
                }
                "log" => {
                    let aside = self.dir.join(format!("{stem}.stray"));
                    let path = self.dir.join(name);
                    self.fs
                        .rename(&path, &aside)
                        .map_err(IoFault::of("set aside", &path))?;
                    self.report.set_aside.push(aside);
                }
                _ => {}
            }
        }
        remove_durably(self.fs, self.dir, &gone)
            .map_err(IoFault::of("remove segments", self.dir))?;
        Ok(())
    }

    fn report_stray(&mut self, path: PathBuf, base: i64) {
        let length = self.fs.open(&path, OpenMode::Read).and_then(|file| {
            let found = file.length()?;
            written_behind(&*file, base, (0, base), found)
        });
        if let Ok(bytes) = length
            && bytes > 0
        {
            self.report.cuts.push(Cut {
                path,
                position: 0,
                bytes,
                acknowledged_weakly: false,
            });
        }
    }
}

/// A segment that ends before what the checkpoint names, at byte `found`: what is lost begins behind its last good batch.
fn short_by(
    file: &dyn File,
    segment: &ReplaySegment,
    path: &Path,
    found: u64,
) -> Result<Damage, IoFault> {
    let fault = |error| IoFault::of("read segment", path)(error);
    let mut window = Window::new(file, found);
    let (mut position, mut next) = (0, segment.base);
    while position < found {
        let bounds = (next, segment.durable_end);
        let good = whole_batch(&mut window, position, found).map_err(fault)?;
        let good = good.filter(|header| header.base_offset >= next);
        if let Some(header) = good
            && jump_is_sound(&mut window, position, &header, found, bounds).map_err(fault)?
        {
            position += header.total_len() as u64;
            next = header.last_offset() + 1;
            continue;
        }
        // Damage in the midst of it shows when it is read.
        match resync(file, position + 1, found, bounds.0, bounds.1).map_err(fault)? {
            Some((behind, _)) => position = behind,
            None => break,
        }
    }
    Ok(Damage {
        path: path.to_path_buf(),
        position: Position(position),
        bytes: segment.durable - position,
        first: Offset(next),
        next: Offset(segment.durable_end),
        what: format!(
            "the segment ends at byte {found}, {} bytes are promised",
            segment.durable
        ),
        kept: None,
    })
}

/// Writes again what is there. After a failed sync the page cache may show bytes that the disk does not have and that no
/// later sync would write; nobody knows whether the last process had one.
fn rewrite(file: &dyn File, mut position: u64, end: u64) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    while position < end {
        let count = buffer.len().min((end - position) as usize);
        file.read_exact_at(&mut buffer[..count], position)?;
        file.write_all_at(&buffer[..count], position)?;
        position += count as u64;
    }
    Ok(())
}

pub(crate) const OTHER_BATCHES: &str = "these are not the batches that the journal refers to";

/// How far a segment is good.
struct Walked {
    end: i64,
    length: u64,
    max_timestamp: i64,
    /// What of it is damaged.
    damages: Vec<Damage>,
}

fn note(stream: &mut ReplayStream, header: &BatchHeader, now_ms: i64, max_producers: usize) {
    let producers: &mut Producers = &mut stream.producers;
    producers.replay(header, now_ms, max_producers);
    StreamView::push_epoch(
        &mut stream.epochs,
        header.partition_leader_epoch,
        crate::op::Offset(header.base_offset),
    );
}

/// A segment file that is ready for the writer: opened, with its index.
pub(crate) fn open_segment(
    fs: &dyn Fs,
    dir: &Path,
    known: &ReplaySegment,
) -> Result<(Arc<segment::Segment>, Arc<dyn File>), IoFault> {
    let segment = segment::Segment::cleaned(dir, known.base, known.generation, known.clean_to);
    segment.publish(known.end, known.length, known.max_timestamp);
    let file = fs
        .open(&segment.path, OpenMode::Write)
        .map_err(IoFault::of("open segment", &segment.path))?;
    let index = segment
        .load_index(fs, &*file, known.durable, known.length)
        .map_err(IoFault::of("index segment", &segment.path))?;
    segment.attach(Arc::clone(&file), index);
    Ok((Arc::new(segment), file))
}
