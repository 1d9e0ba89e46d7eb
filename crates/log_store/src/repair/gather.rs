//! Checkpoint and journal for a repair, also where a start refuses them: a node file that cannot be read, no good
//! checkpoint, a journal that is gone.
//!
//! What they said is lost with them; the streams' directories tell the rest. What nobody remembers as taken counts as not
//! taken: it may be delivered twice, and nothing is lost.

use std::io;
use std::path::Path;

use super::RepairAction;
use crate::acks::AckState;
use crate::checkpoint::{self, Snapshot};
use crate::damage::Damage;
use crate::engine::{CHECKPOINT_DIR, JOURNAL_DIR, LOG_DIR};
use crate::error::{IoFault, OpenError};
use crate::fs::{Fs, OpenMode};
use crate::inspect::{Gathered, ReadOnly};
use crate::journal::files;
use crate::journal::scan;
use crate::node::Node;
use crate::op::{Offset, Position, StreamId};
use crate::producers::Producers;
use crate::replay::{Replay, ReplaySegment, ReplayStream};
use crate::settings::StreamSettings;
use crate::{segment, stream};

/// What a start would begin with, or else what can be known without it, and what had to be made up for that.
pub(super) fn gather(dir: &Path) -> Result<(Gathered, Vec<RepairAction>), OpenError> {
    match Gathered::of(dir, None) {
        Err(OpenError::Corrupt { .. }) => {}
        Err(OpenError::Io(fault)) if fault.source.kind() == io::ErrorKind::NotFound => {}
        found => return Ok((found?, Vec::new())),
    }
    let fs = ReadOnly;
    let node = match Node::load(&fs, dir) {
        Err(OpenError::Corrupt { .. }) => None,
        loaded => loaded?,
    };
    let journal_dir = dir.join(JOURNAL_DIR);
    let sequences = match files::list_only(&fs, &journal_dir) {
        Ok((sequences, _)) => sequences,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(IoFault::of("list journal", &journal_dir)(error).into()),
    };
    let checkpoint_dir = dir.join(CHECKPOINT_DIR);
    let (snapshot, highest) = snapshot(&checkpoint_dir)?;
    let mut gathered = Gathered {
        node,
        owner: None,
        lsn: highest,
        clean: false,
        sequences,
        files: Vec::new(),
        replay: Replay::new(Snapshot::default(), &journal_dir),
        frames: 0,
        dropped_frames: 0,
        damages: Vec::new(),
        next_lsn: highest + 1,
    };
    match snapshot {
        Some(snapshot) => read_journal(&mut gathered, snapshot, &journal_dir)?,
        None => {
            let what = "no checkpoint can be read";
            gathered.damages.push(damage(&checkpoint_dir, 0, what));
        }
    }
    let mut actions = Vec::new();
    if !gathered.damages.is_empty() {
        actions = add_unknown_streams(&dir.join(LOG_DIR), &mut gathered.replay)?;
    }
    Ok((gathered, actions))
}

/// The newest good checkpoint, whether the journal reaches back to it or not, and the highest LSN that one has in its name.
fn snapshot(dir: &Path) -> Result<(Option<Snapshot>, u64), OpenError> {
    let fs = ReadOnly;
    let lsns = match checkpoint::list(&fs, dir) {
        Err(fault) if fault.source.kind() == io::ErrorKind::NotFound => Vec::new(),
        listed => listed?,
    };
    let highest = lsns.last().copied().unwrap_or(0);
    for lsn in lsns.into_iter().rev() {
        match checkpoint::load(&fs, &dir.join(checkpoint::file_name(lsn))) {
            Ok(snapshot) if snapshot.lsn == lsn => return Ok((Some(snapshot), highest)),
            Ok(_) | Err(OpenError::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok((None, highest))
}

/// The checkpoints that cannot be read.
pub(super) fn bad_checkpoints(dir: &Path) -> Result<Vec<String>, OpenError> {
    let fs = ReadOnly;
    let lsns = match checkpoint::list(&fs, dir) {
        Err(fault) if fault.source.kind() == io::ErrorKind::NotFound => Vec::new(),
        listed => listed?,
    };
    let mut bad = Vec::new();
    for lsn in lsns {
        let name = checkpoint::file_name(lsn);
        match checkpoint::load(&fs, &dir.join(&name)) {
            Ok(snapshot) if snapshot.lsn == lsn => {}
            Ok(_) | Err(OpenError::Corrupt { .. }) => bad.push(name),
            Err(error) => return Err(error),
        }
    }
    Ok(bad)
}

/// As far as the journal can be read; that it cannot is noted as damage.
fn read_journal(
    gathered: &mut Gathered,
    snapshot: Snapshot,
    journal_dir: &Path,
) -> Result<(), OpenError> {
    let (place, lsn) = (snapshot.place, snapshot.lsn);
    let mut replay = Replay::new(snapshot, journal_dir);
    let mut last = lsn;
    let scanned = scan::scan(
        &ReadOnly,
        journal_dir,
        gathered.sequences.clone(),
        place,
        lsn + 1,
        &mut |frame| {
            last = last.max(frame.header.lsn);
            replay.apply(frame)
        },
    );
    match scanned {
        Ok(scan) => {
            gathered.files = scan.files;
            gathered.frames = scan.frames;
            gathered.dropped_frames = scan.dropped_frames;
            gathered.damages = scan.damages;
            last = last.max(scan.next_lsn.saturating_sub(1));
        }
        Err(OpenError::Corrupt {
            path,
            position,
            what,
        }) => gathered.damages.push(damage(&path, position, &what)),
        Err(OpenError::Io(fault)) if fault.source.kind() == io::ErrorKind::NotFound => {
            let what = "the journal file is missing";
            gathered.damages.push(damage(&fault.path, 0, what));
        }
        Err(error) => return Err(error),
    }
    if gathered.files.is_empty() {
        // Without the files there is nothing to write again from.
        replay.redo.clear();
    }
    gathered.next_lsn = gathered.next_lsn.max(last + 1);
    gathered.replay = replay;
    Ok(())
}

fn damage(path: &Path, position: u64, what: &str) -> Damage {
    Damage {
        path: path.to_path_buf(),
        position: Position(position),
        bytes: 0,
        first: Offset(0),
        next: Offset(0),
        what: what.to_string(),
        kept: None,
    }
}

/// The streams that only checkpoint or journal knew. A directory's name tells which one it is as long as nothing in it
/// had to be replaced.
fn add_unknown_streams(dir: &Path, replay: &mut Replay) -> Result<Vec<RepairAction>, OpenError> {
    let names = match ReadOnly.list(dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(IoFault::of("list streams", dir)(error).into()),
    };
    let mut actions = Vec::new();
    let mut names: Vec<String> = names
        .iter()
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    for folder in names {
        let Some(id) = stream::parse_dir_name(&folder) else {
            continue;
        };
        if replay.streams.contains_key(&id) {
            continue;
        }
        let path = dir.join(&folder);
        let Some(found) = unknown_stream(&path, id, &folder)? else {
            continue;
        };
        replay.streams.insert(id, found);
        replay.next_stream_id = replay.next_stream_id.max(id.0.saturating_add(1));
        actions.push(RepairAction {
            path,
            position: Position(0),
            what: "its settings and what was taken of it are forgotten; every record that is there is kept and \
                   counts as not taken"
                .to_string(),
        });
    }
    Ok(actions)
}

/// A stream as its segments tell it; `None` if there are none.
fn unknown_stream(
    path: &Path,
    id: StreamId,
    folder: &str,
) -> Result<Option<ReplayStream>, OpenError> {
    let names = ReadOnly
        .list(path)
        .map_err(IoFault::of("list stream", path))?;
    let mut found: Vec<(i64, u32)> = names
        .iter()
        .filter_map(|name| segment::parse_file_name(&name.to_string_lossy()))
        .collect();
    found.sort_unstable();
    let Some((log_start, _)) = found.first().copied() else {
        return Ok(None);
    };
    let name = folder.rsplit_once('.').map_or(folder, |(name, _)| name);
    let is_exact = !name.contains('_') && stream::dir_name(id, name) == folder;
    if !is_exact || found.iter().any(|(_, generation)| *generation > 0) {
        return Err(OpenError::Corrupt {
            path: path.to_path_buf(),
            position: 0,
            what: "checkpoint and journal, which knew what stream this is, cannot be read. Its segments may be good: \
                   `flafka log dump` shows them. To repair the rest without it, move this directory away"
                .to_string(),
        });
    }
    let mut segments = Vec::new();
    for (at, (base, _)) in found.iter().enumerate() {
        let mut segment = ReplaySegment::new(*base);
        if let Some((next, _)) = found.get(at + 1) {
            let file = path.join(segment::file_name(*base, 0));
            let length = ReadOnly.open(&file, OpenMode::Read);
            let length = length.and_then(|file| file.length());
            segment.length = length.map_err(IoFault::of("measure segment", &file))?;
            segment.end = *next;
        }
        segments.push(segment);
    }
    Ok(Some(ReplayStream {
        name: name.to_string(),
        // Who opens it sets the others again; that there are acks cannot be changed.
        settings: StreamSettings {
            acked: true,
            ..StreamSettings::default()
        },
        log_start: Offset(log_start),
        end: segments.last().map_or(log_start, |last| last.base),
        acks: AckState {
            low: Offset(log_start),
            acked_ranges: Vec::new(),
        },
        epochs: Vec::new(),
        segments,
        freed: Vec::new(),
        producers: Producers::default(),
    }))
}
