//! One run of segments: writes the segment that stands for it from now on. The rules are in the [module](super).

use std::path::Path;
use std::sync::Arc;

use flafka_kafka_wire::records::{self, BatchHeader};

use super::pass::{Pass, Replacement, for_each_batch};
use super::{CompactFault, MAX_UNPACKED_BYTES};
use crate::error::IoFault;
use crate::fs::{File, Fs, OpenMode};
use crate::index::{self, Index};
use crate::segment::{self, Segment};

/// Written at once.
const WRITE_BYTES: usize = 1 << 20;

/// Writes what stays of a run. The file is durable when this returns; nobody knows it yet.
pub(crate) fn clean(
    pass: &mut Pass,
    fs: &dyn Fs,
    run: Vec<Arc<Segment>>,
) -> Result<Option<Replacement>, CompactFault> {
    let (Some(first), Some(last), Some(map)) = (run.first(), run.last(), &pass.map) else {
        return Ok(None);
    };
    let bytes: u64 = run.iter().map(|segment| segment.length()).sum();
    let needed = bytes.saturating_add(pass.least_free);
    if let Ok(free) = fs.space_left(&pass.dir)
        && free < needed
    {
        return Err(CompactFault::NoSpace { needed, free });
    }
    let end = last.end_offset();
    let generation = run.iter().map(|segment| segment.generation).max();
    let new = Segment::cleaned(
        &pass.dir,
        first.base_offset,
        generation.unwrap_or(0).saturating_add(1),
        map.end.min(end),
    );
    let mut output = Output::create(fs, &pass.dir, new)?;
    let mut judge = Judge {
        pass,
        map_end: map.end,
        scratch: Vec::new(),
        keep: Vec::new(),
        removed: 0,
    };
    for segment in &run {
        let walked = for_each_batch(pass, fs, segment, &mut |header, batch| {
            let start = output.buffer.len();
            judge.push(header, batch, &mut output.buffer);
            output.added(start)?;
            Ok(true)
        });
        if let Err(fault) = walked {
            output.discard(fs);
            return Err(fault);
        }
    }
    let removed = judge.removed;
    let was_clean = run.len() == 1 && first.generation > 0 && first.clean_to == end;
    let changed = output.changed(bytes, removed) || !was_clean;
    pass.done.read_bytes += bytes;
    if !changed {
        output.discard(fs);
        pass.done.written_bytes += bytes;
        return Ok(None);
    }
    let new = output.finish(fs, end)?;
    pass.done.written_bytes += new.as_ref().map_or(0, |new| new.length());
    pass.done.removed_records += removed;
    Ok(Some(Replacement {
        old: run,
        bytes,
        end,
        new,
    }))
}

/// Decides record by record.
struct Judge<'a> {
    pass: &'a Pass,
    map_end: i64,
    scratch: Vec<u8>,
    keep: Vec<bool>,
    removed: u64,
}

impl Judge<'_> {
    /// Appends what stays of a batch.
    fn push(&mut self, header: &BatchHeader, batch: &[u8], out: &mut Vec<u8>) {
        if header.attributes.is_control() {
            out.extend_from_slice(batch);
            return;
        }
        let last_of_producer = header.has_producer()
            && self.pass.producers.get(&header.producer_id) == Some(&header.last_offset());
        let start = out.len();
        match self.judge(header, batch) {
            Some(Judged { kept: 0, .. }) if last_of_producer => records::append_empty(header, out),
            Some(Judged { kept: 0, .. }) => {}
            Some(judged) if judged.rewrite => {
                let horizon = judged
                    .new_horizon
                    .then(|| self.pass.now_ms.saturating_add(self.pass.tombstones_ms));
                let again = records::records(header, batch, &mut self.scratch, MAX_UNPACKED_BYTES);
                let written = again.and_then(|records| {
                    records::rewrite(header, records, &self.keep, horizon, out)
                });
                if written.is_err() {
                    out.truncate(start);
                    out.extend_from_slice(batch);
                    return;
                }
            }
            // As it is, or it cannot be read: then nothing of it may be lost.
            _ => {
                out.extend_from_slice(batch);
                return;
            }
        }
        let kept = self.keep.iter().filter(|keep| **keep).count();
        self.removed += (self.keep.len() - kept) as u64;
    }

    /// Fills `keep`; `None` if the batch cannot be read.
    fn judge(&mut self, header: &BatchHeader, batch: &[u8]) -> Option<Judged> {
        self.keep.clear();
        let map = self.pass.map.as_ref()?;
        let horizon = header.attributes.has_delete_horizon();
        let tombstones_go = horizon && self.pass.now_ms >= header.base_timestamp;
        let records =
            records::records(header, batch, &mut self.scratch, MAX_UNPACKED_BYTES).ok()?;
        let (mut kept, mut tombstones) = (0, false);
        for record in records {
            let record = record.ok()?;
            let keep = record.offset >= self.map_end
                || record.key.is_some_and(|key| {
                    let newest = map.offsets.get(key);
                    newest.is_none_or(|newest| record.offset >= newest)
                        && !(tombstones_go && record.value.is_none())
                });
            self.keep.push(keep);
            kept += usize::from(keep);
            tombstones |= keep && record.value.is_none();
        }
        let new_horizon = tombstones && !horizon;
        Some(Judged {
            kept,
            new_horizon,
            rewrite: new_horizon || kept < self.keep.len(),
        })
    }
}

struct Judged {
    kept: usize,
    new_horizon: bool,
    rewrite: bool,
}

/// The file that is being written.
struct Output {
    segment: Segment,
    temporary: std::path::PathBuf,
    file: Arc<dyn File>,
    buffer: Vec<u8>,
    /// Bytes in the file; the buffer follows.
    written: u64,
    index: Index,
    max_timestamp: i64,
}

impl Output {
    fn create(fs: &dyn Fs, dir: &Path, segment: Segment) -> Result<Output, CompactFault> {
        let name = segment::file_name(segment.base_offset, segment.generation);
        let temporary = dir.join(name).with_extension(segment::UNFINISHED);
        let file = fs
            .open(&temporary, OpenMode::Create)
            .map_err(IoFault::of("create segment", &temporary))?;
        Ok(Output {
            segment,
            temporary,
            file,
            buffer: Vec::new(),
            written: 0,
            index: Index::default(),
            max_timestamp: i64::MIN,
        })
    }

    /// Takes note of the batch, if any, that the buffer holds from `start` on.
    fn added(&mut self, start: usize) -> Result<(), CompactFault> {
        if let Ok(header) = BatchHeader::parse(&self.buffer[start..]) {
            let position = self.written + start as u64;
            if self.index.wants(position) {
                let entry = self.segment.entry(&header, position, self.max_timestamp);
                self.index.push(entry);
            }
            self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        }
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), CompactFault> {
        self.file
            .write_all_at(&self.buffer, self.written)
            .map_err(IoFault::of("write segment", &self.temporary))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn changed(&self, old_bytes: u64, removed: u64) -> bool {
        removed > 0 || self.written + self.buffer.len() as u64 != old_bytes
    }

    /// Makes the file durable under its name; without a batch there is none.
    fn finish(mut self, fs: &dyn Fs, end: i64) -> Result<Option<Arc<Segment>>, CompactFault> {
        if self.written == 0 && self.buffer.is_empty() {
            self.discard(fs);
            return Ok(None);
        }
        if let Err(fault) = self.make_durable(fs) {
            self.discard(fs);
            return Err(fault);
        }
        let path = &self.segment.path;
        let entries = self.index.unsaved().0;
        // An index that is not there is made again.
        let saved = index::save(fs, path, self.segment.base_offset, &entries, true);
        if saved.is_ok() {
            self.index.mark_saved(entries.len());
        }
        self.segment.publish(end, self.written, self.max_timestamp);
        self.segment.note_synced(self.written, end);
        self.segment.attach(self.file, self.index);
        Ok(Some(Arc::new(self.segment)))
    }

    fn make_durable(&mut self, fs: &dyn Fs) -> Result<(), CompactFault> {
        self.flush()?;
        self.file
            .sync_data()
            .map_err(IoFault::of("sync segment", &self.temporary))?;
        let path = &self.segment.path;
        fs.rename(&self.temporary, path)
            .map_err(IoFault::of("rename segment", path))?;
        let dir = path.parent().unwrap_or(Path::new("."));
        fs.sync_dir(dir)
            .map_err(IoFault::of("sync directory", dir))?;
        Ok(())
    }

    /// Removes what was written. What stays behind a failure is removed at the next start.
    fn discard(self, fs: &dyn Fs) {
        for path in [&self.temporary, &self.segment.path] {
            match fs.remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "cannot remove an unfinished segment");
                }
                _ => {}
            }
        }
    }
}
