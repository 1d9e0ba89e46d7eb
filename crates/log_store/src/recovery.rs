//! Opening: from a directory, whatever a crash left in it, to an engine that may accept (reference §4.3).
//!
//! 1. lock; node file; newest good checkpoint
//! 2. scan the journal behind it; torn tail or corruption ([`crate::journal::scan`]); whole groups only
//! 3. redo small appends into their segments (always rewritten: after a failed sync the page cache may hold bytes that
//!    the disk does not); check the batches behind the checkpoint; cut what was never journaled
//! 4. make the journal's end firm: rewrite and sync the frames that nobody has proved durable, wipe what follows
//! 5. a fresh journal file, the next leader epoch, and a checkpoint if something journaled was cut
//!
//! Invariant: acknowledged data is never cut. What of it is damaged is copied aside, reported and skipped: the log starts
//! with the rest (faults.md §3.2 rule 3), and a checkpoint makes that final, so that the next start finds nothing new.
//! Only a directory without any good node file or checkpoint stops the start, with file and what to do.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::assemble::build;
use crate::checkpoint::{self, Snapshot};
use crate::clock::Clock;
use crate::damage::Damage;
use crate::engine::{CHECKPOINT_DIR, Engine, JOURNAL_DIR, LOG_DIR};
use crate::error::{CommitError, IoFault, OpenError};
use crate::fs::{File, Fs, Lock, LockError, OpenMode, create_durably};
use crate::jobs::remove_dir;
use crate::journal::files::{self, FRAMES_AT, JournalFile};
use crate::journal::finish::firm_up;
use crate::journal::scan::{self, Scan};
use crate::journal::writer::JournalWriter;
use crate::mend::Covered;
use crate::node::Node;
use crate::op::{Offset, Position, StreamId};
use crate::replay::{Redo, Replay};
use crate::segment::{self};
use crate::settings::LogOptions;
use crate::stream::{self};
use crate::tail::TailCheck;

const LOCK_FILE: &str = "LOCK";
/// In a directory that no stream belongs to, and that is kept because of damage.
const KEPT_MARK: &str = "kept-because-of-damage";
/// A start that finds more journal files than this writes a checkpoint at once, so that they cannot pile up.
const MAX_JOURNAL_FILES: usize = 2;

/// What a start found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The log was made new.
    pub created: bool,
    /// The last stop was a clean one.
    pub clean: bool,
    /// Journal frames replayed.
    pub frames: u64,
    /// Journal frames of groups that were not whole or not continuous: never acknowledged.
    pub dropped_frames: u64,
    /// Bytes written again from the journal into segments.
    pub redone_bytes: u64,
    /// Bytes of batches checked behind the checkpoint.
    pub checked_bytes: u64,
    /// What was cut, one entry for each file.
    pub cuts: Vec<Cut>,
    /// Damage to what was acknowledged, in the part that a start reads: skipped, with a copy kept. Damage elsewhere shows
    /// when it is read ([`crate::Log::set_aside`]).
    pub damages: Vec<Damage>,
    /// Segment files that belong nowhere and were renamed to `.stray`, and directories of streams that only damaged
    /// journal frames knew.
    pub set_aside: Vec<PathBuf>,
}

/// Bytes that a start removed: never acknowledged, or acknowledged weakly and lost by a power cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Which file.
    pub path: PathBuf,
    /// Its length now.
    pub position: u64,
    /// How many bytes went.
    pub bytes: u64,
    /// Whether data acknowledged in mode `os` or `interval` was among them.
    pub acknowledged_weakly: bool,
}

struct Dirs {
    journal: PathBuf,
    checkpoint: PathBuf,
    log: PathBuf,
}

/// Opens or creates the log.
pub(crate) fn open(
    options: LogOptions,
    fs: Arc<dyn Fs>,
    clock: Arc<dyn Clock>,
) -> Result<(Engine, RecoveryReport), OpenError> {
    options.validate()?;
    let dirs = Dirs {
        journal: options.dir.join(JOURNAL_DIR),
        checkpoint: options.dir.join(CHECKPOINT_DIR),
        log: options.dir.join(LOG_DIR),
    };
    let lock = take_lock(&*fs, &options.dir)?;
    let mut report = RecoveryReport::default();
    let mut node = load_node(&*fs, &options, &dirs)?;
    if node.epoch == 0 {
        initialise(&*fs, &options, &dirs)?;
        report.created = true;
    }
    // Names that a killed process saw need not be on the disk yet; what follows relies on them.
    for sub in [&dirs.checkpoint, &dirs.journal] {
        fs.sync_dir(sub)
            .map_err(IoFault::of("sync directory", sub))?;
    }
    let (sequences, spare) =
        files::list(&*fs, &dirs.journal).map_err(IoFault::of("list journal", &dirs.journal))?;
    let snapshot = checkpoint::load_newest(&*fs, &dirs.checkpoint, &sequences)?;
    let place = snapshot.place;
    let first_lsn = snapshot.lsn + 1;
    let covered = Covered {
        lsn: snapshot.lsn,
        place,
    };
    let was_clean = snapshot.clean;
    let mut replay = Replay::new(snapshot, &dirs.journal);
    let scan = scan::scan(
        &*fs,
        &dirs.journal,
        sequences.clone(),
        place,
        first_lsn,
        &mut |frame| replay.apply(frame),
    )?;
    for mut damage in scan.damages.iter().cloned() {
        damage.keep_and_tell(&*fs);
        report.damages.push(damage);
    }
    report.frames = scan.frames;
    report.dropped_frames = scan.dropped_frames;
    report.clean = was_clean && scan.frames == 0 && scan.dropped_frames == 0;
    let mut cut = restore_streams(
        &*fs,
        &*clock,
        &options,
        &dirs,
        &scan,
        &mut replay,
        &mut report,
    )?;
    cut |= !report.damages.is_empty();
    firm_up(&scan)?;
    let spare = spare || make_old_one_spare(&*fs, &dirs, &sequences, place.0);
    let journal = next_journal(&fs, &options, &dirs, &scan, &sequences, spare)?;
    node.epoch = node.epoch.saturating_add(1);
    store_node(&*fs, &node, &options, &dirs)?;
    let old = old_sequences(&*fs, &dirs, &sequences, place.0)?;
    let many = scan.files.len() > MAX_JOURNAL_FILES;
    let mut engine = build(options, fs, clock, lock, node, replay, journal)?;
    engine.covered = covered;
    engine.changed = report.frames > 0 || cut;
    for damage in &report.damages {
        engine.shared.counts.add_damage(damage);
    }
    engine.retire(old);
    if cut || many {
        engine.checkpoint_here(false).map_err(|error| match error {
            CommitError::Io(fault) | CommitError::NoSpace(fault) | CommitError::Poisoned(fault) => {
                OpenError::Io(fault)
            }
            other => OpenError::Corrupt {
                path: dirs.checkpoint,
                position: 0,
                what: other.to_string(),
            },
        })?;
    }
    engine.prepare_spare();
    Ok((engine, report))
}

/// On a full disk the older checkpoint makes room: it is only there for the case that the newest is damaged.
fn store_node(
    fs: &dyn Fs,
    node: &Node,
    options: &LogOptions,
    dirs: &Dirs,
) -> Result<(), OpenError> {
    match node.store(fs, &options.dir) {
        Err(fault) if fault.is_no_space() && checkpoint::drop_older(fs, &dirs.checkpoint)? => {
            Ok(node.store(fs, &options.dir)?)
        }
        stored => Ok(stored?),
    }
}

/// Journal files that the checkpoint has freed and that are still there.
fn old_sequences(
    fs: &dyn Fs,
    dirs: &Dirs,
    sequences: &[u64],
    first: u64,
) -> Result<Vec<u64>, OpenError> {
    let (there, _) =
        files::list_only(fs, &dirs.journal).map_err(IoFault::of("list journal", &dirs.journal))?;
    let old = sequences.iter().copied().filter(|at| *at < first);
    Ok(old.filter(|at| there.contains(at)).collect())
}

/// The last stop came before a used journal file was made the spare: now it is, so that a start needs no space.
fn make_old_one_spare(fs: &dyn Fs, dirs: &Dirs, sequences: &[u64], first: u64) -> bool {
    let old = sequences.iter().rfind(|sequence| **sequence < first);
    old.is_some_and(|old| files::recycle(fs, &dirs.journal, *old).is_ok())
}

fn take_lock(fs: &dyn Fs, dir: &Path) -> Result<Box<dyn Lock>, OpenError> {
    fs.create_dir_all(dir)
        .map_err(IoFault::of("create directory", dir))?;
    let path = dir.join(LOCK_FILE);
    match fs.lock(&path, &std::process::id().to_string()) {
        Ok(lock) => Ok(lock),
        Err(LockError::Held(holder)) => Err(OpenError::Locked {
            dir: dir.to_path_buf(),
            holder: if holder.is_empty() {
                "unknown".to_string()
            } else {
                holder
            },
        }),
        Err(LockError::Io(error)) => Err(IoFault::of("lock", &path)(error).into()),
    }
}

fn load_node(fs: &dyn Fs, options: &LogOptions, dirs: &Dirs) -> Result<Node, OpenError> {
    let dir = &options.dir;
    if let Some(node) = Node::load(fs, dir)? {
        return Ok(node);
    }
    for sub in [&dirs.journal, &dirs.checkpoint, &dirs.log] {
        let names = fs.list(sub).unwrap_or_default();
        if let Some(name) = names.first() {
            return Err(OpenError::NodeFileMissing {
                dir: dir.clone(),
                found: sub.join(name).display().to_string(),
            });
        }
    }
    let node = Node::new(options.node_id, fs);
    node.store(fs, dir)?;
    // The directory's own name, and its parents', perhaps made by an attempt before this one.
    for parent in dir.ancestors().skip(1) {
        let here = parent.as_os_str().is_empty();
        let parent = if here { Path::new(".") } else { parent };
        match fs.sync_dir(parent) {
            Ok(()) => {}
            // Not ours to make durable, so not made by us either.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => break,
            Err(error) => return Err(IoFault::of("sync directory", parent)(error).into()),
        }
    }
    Ok(node)
}

/// Makes the empty log. Nothing was acknowledged yet, so whatever an unfinished attempt left is wiped.
fn initialise(fs: &dyn Fs, options: &LogOptions, dirs: &Dirs) -> Result<(), OpenError> {
    for sub in [&dirs.journal, &dirs.checkpoint, &dirs.log] {
        fs.create_dir_all(sub)
            .map_err(IoFault::of("create directory", sub))?;
    }
    fs.sync_dir(&options.dir)
        .map_err(IoFault::of("sync directory", &options.dir))?;
    for sub in [&dirs.journal, &dirs.checkpoint] {
        let wipe = || -> std::io::Result<()> {
            for name in fs.list(sub)? {
                fs.remove_file(&sub.join(name))?;
            }
            fs.sync_dir(sub)
        };
        wipe().map_err(IoFault::of("empty directory", sub))?;
    }
    files::create(fs, &dirs.journal, 1, options.journal_file_bytes, false)
        .map_err(IoFault::of("create journal", &dirs.journal))?;
    let empty = Snapshot {
        place: (1, FRAMES_AT),
        next_stream_id: 1,
        ..Snapshot::default()
    };
    Ok(empty.store(fs, &dirs.checkpoint)?)
}

/// Redo, checks, cuts. Returns whether journaled data was cut.
fn restore_streams(
    fs: &dyn Fs,
    clock: &dyn Clock,
    options: &LogOptions,
    dirs: &Dirs,
    scan: &Scan,
    replay: &mut Replay,
    report: &mut RecoveryReport,
) -> Result<bool, OpenError> {
    let listed = match fs.list(&dirs.log) {
        // What was in it is told of segment by segment; without streams nothing was.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => fs
            .create_dir_all(&dirs.log)
            .and_then(|()| fs.sync_dir(&options.dir))
            .map(|()| Vec::new()),
        listed => listed,
    };
    let existing: Vec<String> = listed
        .map_err(IoFault::of("list streams", &dirs.log))?
        .into_iter()
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    let first_unknown = replay.next_stream_id;
    for name in &existing {
        let Some(id) = stream::parse_dir_name(name) else {
            continue;
        };
        if !replay.streams.contains_key(&id) {
            // A stream's creation is synced before anything is written into it: one with data that neither checkpoint nor
            // journal has ever heard of means that a part of the journal is not there.
            let unheard_of = id.0 >= first_unknown;
            let lost_frames = unheard_of || !scan.damages.is_empty();
            remove_or_keep(fs, &dirs.log.join(name), lost_frames, report)?;
        }
        // A kept directory's id is not given again.
        replay.next_stream_id = replay.next_stream_id.max(id.0.saturating_add(1));
    }
    let mut made = false;
    for (id, stream) in &replay.streams {
        let name = stream::dir_name(*id, &stream.name);
        if !existing.contains(&name) {
            let dir = dirs.log.join(name);
            fs.create_dir_all(&dir)
                .map_err(IoFault::of("create stream directory", &dir))?;
            made = true;
        }
    }
    if made {
        fs.sync_dir(&dirs.log)
            .map_err(IoFault::of("sync directory", &dirs.log))?;
    }
    redo(fs, dirs, scan, replay, report)?;
    let mut cut = false;
    for (id, stream) in &mut replay.streams {
        let dir = dirs.log.join(stream::dir_name(*id, &stream.name));
        let mut check = TailCheck {
            fs,
            dir: &dir,
            now_ms: clock.now_ms(),
            max_producers: options.max_producers,
            journal_damaged: !scan.damages.is_empty(),
            report,
        };
        cut |= check.run(stream)?;
    }
    Ok(cut)
}

/// A deleted stream's directory goes. When journal frames are lost it may be a stream whose creation they told: then it
/// stays, for whoever wants to look.
fn remove_or_keep(
    fs: &dyn Fs,
    dir: &Path,
    lost_frames: bool,
    report: &mut RecoveryReport,
) -> Result<(), OpenError> {
    let names = fs
        .list(dir)
        .map_err(IoFault::of("list deleted stream", dir))?;
    if names.iter().any(|name| name == KEPT_MARK) {
        return Ok(());
    }
    if lost_frames && !names.is_empty() {
        let mark = dir.join(KEPT_MARK);
        create_durably(fs, dir, KEPT_MARK).map_err(IoFault::of("mark directory", &mark))?;
        let what =
            "the journal frames that tell of this stream are missing; its directory stays as it is";
        let damage = Damage {
            path: dir.to_path_buf(),
            position: Position(0),
            bytes: 0,
            first: Offset(0),
            next: Offset(0),
            what: what.to_string(),
            kept: Some(dir.to_path_buf()),
        };
        damage.tell();
        report.damages.push(damage);
        report.set_aside.push(dir.to_path_buf());
        return Ok(());
    }
    Ok(remove_dir(fs, dir).map_err(IoFault::of("remove deleted stream", dir))?)
}

fn redo(
    fs: &dyn Fs,
    dirs: &Dirs,
    scan: &Scan,
    replay: &Replay,
    report: &mut RecoveryReport,
) -> Result<(), OpenError> {
    let mut open: Option<(StreamId, i64, Arc<dyn File>, PathBuf)> = None;
    let mut bytes = Vec::new();
    for redo in &replay.redo {
        let Some(stream) = replay.streams.get(&redo.stream) else {
            continue;
        };
        if !stream.needs(redo.segment, 0) {
            continue;
        }
        let same = |(id, base, ..): &&(StreamId, i64, Arc<dyn File>, PathBuf)| {
            *id == redo.stream && *base == redo.segment
        };
        if open.as_ref().filter(same).is_none() {
            let dir = dirs.log.join(stream::dir_name(redo.stream, &stream.name));
            let path = dir.join(segment::file_name(redo.segment, 0));
            let live = stream
                .segments
                .iter()
                .any(|known| known.base == redo.segment && known.generation == 0);
            let Some(file) = open_or_create(fs, &dir, redo, &path, live)? else {
                continue;
            };
            open = Some((redo.stream, redo.segment, file, path));
        }
        let Some((.., file, path)) = &open else {
            continue;
        };
        let journal = &scan.files[redo.file];
        bytes.resize(redo.length as usize, 0);
        journal
            .file
            .read_exact_at(&mut bytes, redo.at)
            .map_err(IoFault::of("read journal", &journal.path))?;
        file.write_all_at(&bytes, redo.position)
            .map_err(IoFault::of("write segment", path))?;
        report.redone_bytes += redo.length;
    }
    Ok(())
}

fn open_or_create(
    fs: &dyn Fs,
    dir: &Path,
    redo: &Redo,
    path: &Path,
    live: bool,
) -> Result<Option<Arc<dyn File>>, OpenError> {
    match fs.open(path, OpenMode::Write) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !live => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && redo.position == 0 => {
            let name = segment::file_name(redo.segment, 0);
            let file = create_durably(fs, dir, &name);
            let file = file.map_err(IoFault::of("create segment", path))?;
            Ok(Some(file))
        }
        Err(error) => Err(IoFault::of("open segment", path)(error).into()),
    }
}

/// A fresh file behind the scanned ones. Later files hold nothing that counts.
fn next_journal(
    fs: &Arc<dyn Fs>,
    options: &LogOptions,
    dirs: &Dirs,
    scan: &Scan,
    sequences: &[u64],
    spare: bool,
) -> Result<JournalWriter, OpenError> {
    let fault = |action| IoFault::of(action, &dirs.journal);
    let needed: Vec<u64> = scan.files.iter().map(|file| file.sequence).collect();
    let last = needed.last().copied().unwrap_or(0);
    let mut void = Vec::new();
    for sequence in sequences.iter().filter(|sequence| **sequence > last) {
        let name = files::file_name(*sequence);
        if let Err(OpenError::Corrupt { path, .. }) = files::open(&**fs, &dirs.journal, *sequence) {
            let aside = path.with_extension("damaged");
            fs.rename(&path, &aside).map_err(fault("set aside"))?;
        } else {
            void.push(name);
        }
    }
    crate::fs::remove_durably(&**fs, &dirs.journal, &void).map_err(fault("remove journal"))?;
    let file: JournalFile = files::create(
        &**fs,
        &dirs.journal,
        last + 1,
        options.journal_file_bytes,
        spare,
    )
    .map_err(fault("create journal"))?;
    Ok(JournalWriter::new(
        Arc::clone(fs),
        dirs.journal.clone(),
        file,
        scan.next_lsn,
        needed,
        false,
    ))
}
