//! Makes a log that does not start, or that has damaged batches, usable again (`flafka log repair`), and keeps everything
//! that it takes out.
//!
//! What can be read is kept: each segment is copied without the bytes that are no batch, small appends that only the
//! journal holds are written, and behind a damaged journal the good batches that lie in the segments are adopted. Offsets
//! that are lost stay unused, and count as taken in a channel. Then a checkpoint of this state and an empty journal take
//! the place of the old ones. Every file that is replaced lies in a new folder `repair-<time>` of the log afterwards.
//!
//! Invariant: until the new checkpoint is durable the old one and its journal are in place, so a repair that was
//! interrupted can be run again.

mod filler;
mod gather;
mod kept;
mod overlay;
mod replace;

use std::io;
use std::path::{Path, PathBuf};

use self::filler::Filler;
use self::gather::{bad_checkpoints, gather};
use self::kept::{Bounds, Kept};
use self::overlay::Overlay;
use self::replace::{drop_indexes, journal_size, set_aside, write_anew};
use crate::checkpoint::{self, SegmentSnapshot, Snapshot, StreamSnapshot};
use crate::engine::{CHECKPOINT_DIR, JOURNAL_DIR, LOG_DIR};
use crate::error::{IoFault, OpenError};
use crate::fs::{File, Fs, Lock, LockError, OpenMode, RealFs, remove_durably};
use crate::inspect::{Gathered, ReadOnly, SegmentStep, owner, walk};
use crate::journal::files::{self, FRAMES_AT};
use crate::node::Node;
use crate::op::{Offset, Position, StreamId};
use crate::producers::Producers;
use crate::replay::{ReplaySegment, ReplayStream};
use crate::window::Window;
use crate::{segment, stream};

/// How the folders begin in which repairs keep what they replace; a number follows.
pub(crate) const KEPT_FOLDER: &str = "repair-";

/// Extension of a segment's copy that has not taken its place yet; a start removes what is left of it.
pub(crate) const COPY_EXTENSION: &str = "repaired";

/// One thing that a repair does, or would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairAction {
    /// The file it is about.
    pub path: PathBuf,
    /// Where in it.
    pub position: Position,
    /// What is wrong and what becomes of it.
    pub what: String,
}

/// Records that are lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostOffsets {
    /// Name of the stream.
    pub stream: String,
    /// First offset.
    pub first: Offset,
    /// Last offset, inclusive.
    pub last: Offset,
    /// Compaction may have removed some of them before.
    pub compacted: bool,
}

/// What a repair did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Its steps; none when the log is sound.
    pub actions: Vec<RepairAction>,
    /// What cannot be saved.
    pub lost: Vec<LostOffsets>,
    /// Where the replaced files are.
    pub kept_in: Option<PathBuf>,
}

/// Repairs the log in `dir`, or only says what it would do. The log must not be in use.
///
/// # Errors
/// [`OpenError::Locked`] when it is in use; [`OpenError::Corrupt`] when checkpoint and journal cannot be read and a stream's
/// directory does not tell what stream it is; a call failed.
pub fn repair(dir: &Path, apply: bool) -> Result<RepairReport, OpenError> {
    let _lock = match (apply, owner(dir)) {
        (true, _) => Some(lock(dir)?),
        (false, None) => None,
        (false, Some(process)) => {
            return Err(OpenError::Locked {
                dir: dir.to_path_buf(),
                holder: process.to_string(),
            });
        }
    };
    // Whoever has the log open now is this process itself.
    let (mut gathered, made_up) = gather(dir)?;
    let mut plan = Plan {
        dir,
        report: RepairReport::default(),
        rewritten: Vec::new(),
        gone: Vec::new(),
        fillers: Vec::new(),
        bad_checkpoints: Vec::new(),
    };
    for damage in &gathered.damages {
        let what = format!(
            "{}; the journal is begun anew, batches that lie in segments are kept",
            damage.what
        );
        plan.act(&damage.path, damage.position.0, what);
    }
    plan.report.actions.extend(made_up);
    let checkpoint_dir = dir.join(CHECKPOINT_DIR);
    plan.bad_checkpoints = bad_checkpoints(&checkpoint_dir)?;
    for name in plan.bad_checkpoints.clone() {
        let what = "the checkpoint cannot be read; it is taken out".to_string();
        plan.act(&checkpoint_dir.join(name), 0, what);
    }
    if gathered.node.is_none() {
        plan.act(
            &dir.join(crate::node::NODE_FILE),
            0,
            "missing or damaged; written anew with another cluster id".to_string(),
        );
    }
    let streams = std::mem::take(&mut gathered.replay.streams);
    let mut snapshots = Vec::new();
    for (id, stream) in streams {
        snapshots.push(plan.stream(&gathered, id, stream)?);
    }
    if apply && !plan.report.actions.is_empty() {
        plan.apply(&gathered, snapshots)?;
    }
    Ok(plan.report)
}

fn lock(dir: &Path) -> Result<Box<dyn Lock>, OpenError> {
    let path = dir.join("LOCK");
    match RealFs.lock(&path, &std::process::id().to_string()) {
        Ok(lock) => Ok(lock),
        Err(LockError::Held(holder)) => Err(OpenError::Locked {
            dir: dir.to_path_buf(),
            holder,
        }),
        Err(LockError::Io(error)) => Err(IoFault::of("lock", &path)(error).into()),
    }
}

/// A segment to be written anew: path, where to read it, position and length of what stays.
type Rewritten = (PathBuf, Overlay, Vec<(u64, u64)>);

struct Plan<'a> {
    dir: &'a Path,
    report: RepairReport,
    rewritten: Vec<Rewritten>,
    /// Segments of which nothing is left.
    gone: Vec<PathBuf>,
    fillers: Vec<Filler>,
    /// Names of checkpoints that cannot be read.
    bad_checkpoints: Vec<String>,
}

impl Plan<'_> {
    fn act(&mut self, path: &Path, position: u64, what: String) {
        self.report.actions.push(RepairAction {
            path: path.to_path_buf(),
            position: Position(position),
            what,
        });
    }

    /// Looks at every batch of a stream and says what it is afterwards.
    fn stream(
        &mut self,
        gathered: &Gathered,
        id: StreamId,
        mut stream: ReplayStream,
    ) -> Result<StreamSnapshot, OpenError> {
        let dir = self
            .dir
            .join(LOG_DIR)
            .join(stream::dir_name(id, &stream.name));
        let mut segments = Vec::new();
        // The checkpoint's producers know nothing of what came behind it. No memory is better than an outdated one: then
        // every sequence is accepted.
        let mut producers_are_known = stream.freed.is_empty();
        let mut known = std::mem::take(&mut stream.segments).into_iter().peekable();
        // Behind a cut journal the directory may hold more than the state knows: batches and whole segments.
        let cut = !gathered.damages.is_empty();
        loop {
            let info = match known.next() {
                Some(info) => info,
                None if cut && is_there(&dir, stream.end) => ReplaySegment::new(stream.end),
                None => break,
            };
            let last = known.peek().is_none();
            let mut found = self.segment(gathered, id, &dir, &info, last, cut)?;
            producers_are_known &= found.length == info.durable;
            let end = info.end.max(found.end);
            found.close_hole(end);
            for (first, behind) in found.holes {
                self.lost(&mut stream, first, behind, info.generation > 0);
            }
            stream.end = stream.end.max(end);
            if found.length > 0 {
                segments.push(SegmentSnapshot {
                    base: info.base,
                    generation: info.generation,
                    clean_to: info.clean_to,
                    // What compaction wrote stands for all offsets of the segments it was made of.
                    end: if info.generation > 0 { end } else { found.end },
                    length: found.length,
                    max_timestamp: found.max_timestamp,
                });
            } else if last {
                break;
            }
        }
        if let Some(filler) = Filler::of(&stream, &segments, &dir) {
            let lost = stream.end - filler.segment.base;
            let what = format!(
                "offsets are lost at the end ({lost}); a batch without records stands for them, so that consumers pass them"
            );
            self.act(&filler.path(), 0, what);
            segments.push(filler.segment);
            self.fillers.push(filler);
        }
        Ok(StreamSnapshot {
            id,
            name: stream.name,
            settings: stream.settings,
            log_start: stream.log_start,
            end: stream.end,
            acks: stream.acks,
            epochs: stream.epochs,
            segments,
            producers: match producers_are_known {
                true => stream.producers,
                false => Producers::default(),
            },
        })
    }

    fn lost(&mut self, stream: &mut ReplayStream, first: i64, end: i64, compacted: bool) {
        let first = first.max(stream.log_start.0);
        if first >= end {
            return;
        }
        let (first, last) = (Offset(first), Offset(end - 1));
        if stream.settings.acked {
            stream.acks.insert(first, last);
        }
        self.report.lost.push(LostOffsets {
            stream: stream.name.clone(),
            first,
            last,
            compacted,
        });
    }

    fn segment(
        &mut self,
        gathered: &Gathered,
        id: StreamId,
        dir: &Path,
        info: &ReplaySegment,
        last: bool,
        cut: bool,
    ) -> Result<Kept, OpenError> {
        let path = dir.join(segment::file_name(info.base, info.generation));
        let overlay = Overlay::open(gathered, id, info, &path)?;
        let known = overlay
            .length()
            .map_err(IoFault::of("measure segment", &path))?;
        // Where the journal is damaged only the file knows how far the segment goes; what compaction wrote never grows.
        let grows = info.generation == 0;
        let end = match cut && grows && (last || info.open_end) {
            true => known,
            false => info.length.min(known),
        };
        let bounds = Bounds::of(info, cut && grows && last);
        let mut kept = Kept::new(info.base);
        let mut bad = Vec::new();
        let mut ahead = Window::new(&overlay, end);
        let mut fault = None;
        walk(&overlay, info.base, end, &mut |step| {
            let before = bad.len();
            match step {
                SegmentStep::Batch {
                    position, header, ..
                } => match kept.takes(position.0, &header, &bounds, &mut ahead, end) {
                    Ok(true) => kept.add(position.0, &header),
                    Ok(false) => bad.push((
                        position.0,
                        format!(
                            "a batch of offset {} does not belong here",
                            header.base_offset
                        ),
                    )),
                    Err(error) => fault = Some(error),
                },
                SegmentStep::Bad {
                    position,
                    bytes,
                    what,
                } => bad.push((position.0, format!("{bytes} bytes are no batch ({what})"))),
                SegmentStep::Unwritten { position, bytes } if position.0 < info.length => {
                    bad.push((position.0, format!("{bytes} bytes were never written")));
                }
                SegmentStep::Unwritten { .. } => {}
            }
            kept.bad |= bad.len() > before;
            fault.is_none()
        })
        .and_then(|()| fault.map_or(Ok(()), Err))
        .map_err(IoFault::of("read segment", &path))?;
        if end < info.length {
            bad.push((end, format!("{} bytes are missing", info.length - end)));
            kept.bad = true;
        }
        if kept.length > info.length {
            let what = format!(
                "{} bytes behind the journaled end are adopted",
                kept.length - info.length
            );
            self.act(&path, info.length, what);
        }
        let damaged = !bad.is_empty();
        for (position, what) in bad {
            self.act(
                &path,
                position,
                format!("{what}; left out, the rest of the segment stays"),
            );
        }
        if kept.length == 0 && damaged {
            self.gone.push(path);
        } else if damaged
            || overlay.is_patched()
            || known > kept.length
            || kept.length > info.durable
        {
            // Also what nobody is sure to have synced: the new checkpoint will promise it.
            self.rewritten.push((path, overlay, kept.pieces.clone()));
        }
        Ok(kept)
    }

    /// Writes everything; the checkpoint decides.
    fn apply(
        &mut self,
        gathered: &Gathered,
        streams: Vec<StreamSnapshot>,
    ) -> Result<(), OpenError> {
        let aside = self.make_aside()?;
        let fs = &RealFs;
        for folder in [JOURNAL_DIR, CHECKPOINT_DIR, LOG_DIR] {
            let path = self.dir.join(folder);
            fs.create_dir_all(&path)
                .map_err(IoFault::of("create directory", &path))?;
        }
        for (path, overlay, pieces) in std::mem::take(&mut self.rewritten) {
            write_anew(fs, &path, &overlay, &pieces, &aside)
                .map_err(IoFault::of("write segment", &path))?;
        }
        for path in std::mem::take(&mut self.gone) {
            match set_aside(fs, &path, &aside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(IoFault::of("set aside", &path)(error).into());
                }
                _ => drop_indexes(fs, &path).map_err(IoFault::of("remove index", &path))?,
            }
        }
        // Where a segment that is gone was.
        for filler in std::mem::take(&mut self.fillers) {
            filler.write(fs)?;
        }
        let journal_dir = self.dir.join(JOURNAL_DIR);
        let last = gathered.sequences.last().copied().unwrap_or(0);
        let size = journal_size(fs, &journal_dir, last);
        files::create(fs, &journal_dir, last + 1, size, false)
            .map_err(IoFault::of("create journal", &journal_dir))?;
        let snapshot = Snapshot {
            lsn: gathered.next_lsn(),
            place: (last + 1, FRAMES_AT),
            next_stream_id: gathered.replay.next_stream_id,
            clean: false,
            tables: gathered.replay.tables.clone(),
            streams,
        };
        self.keep_checkpoints(fs, &aside)?;
        let checkpoint_dir = self.dir.join(CHECKPOINT_DIR);
        snapshot.store(fs, &checkpoint_dir)?;
        // Copied aside with the others.
        remove_durably(fs, &checkpoint_dir, &self.bad_checkpoints)
            .map_err(IoFault::of("remove checkpoints", &checkpoint_dir))?;
        fs.sync_dir(self.dir)
            .map_err(IoFault::of("sync directory", self.dir))?;
        for sequence in &gathered.sequences {
            let path = journal_dir.join(files::file_name(*sequence));
            set_aside(fs, &path, &aside).map_err(IoFault::of("set aside", &path))?;
        }
        fs.sync_dir(&journal_dir)
            .map_err(IoFault::of("sync directory", &journal_dir))?;
        if gathered.node.is_none() {
            let path = self.dir.join(crate::node::NODE_FILE);
            match set_aside(fs, &path, &aside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(IoFault::of("set aside", &path)(error).into());
                }
                _ => {}
            }
            let epochs = snapshot
                .streams
                .iter()
                .filter_map(|stream| stream.epochs.last());
            let node = Node {
                epoch: epochs.map(|(epoch, _)| *epoch).max().unwrap_or(0).max(1),
                ..Node::new(1, fs)
            };
            node.store(fs, self.dir)?;
        }
        self.report.kept_in = Some(aside);
        Ok(())
    }

    fn make_aside(&self) -> Result<PathBuf, OpenError> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let aside = self.dir.join(format!(
            "{KEPT_FOLDER}{}",
            now.unwrap_or_default().as_millis()
        ));
        RealFs
            .create_dir_all(&aside)
            .and_then(|()| RealFs.sync_dir(self.dir))
            .map_err(IoFault::of("create directory", &aside))?;
        Ok(aside)
    }

    /// Copies the checkpoints: the new one may push them out.
    fn keep_checkpoints(&self, fs: &dyn Fs, aside: &Path) -> Result<(), OpenError> {
        let dir = self.dir.join(CHECKPOINT_DIR);
        let copy = || -> io::Result<()> {
            for lsn in checkpoint::list(fs, &dir).map_err(io::Error::other)? {
                let name = checkpoint::file_name(lsn);
                std::fs::copy(dir.join(&name), aside.join(&name))?;
            }
            fs.sync_dir(aside)
        };
        Ok(copy().map_err(IoFault::of("copy checkpoints", &dir))?)
    }
}

/// Whether there is a segment, as appended, that starts at `base`.
fn is_there(dir: &Path, base: i64) -> bool {
    let path = dir.join(segment::file_name(base, 0));
    ReadOnly.open(&path, OpenMode::Read).is_ok()
}
