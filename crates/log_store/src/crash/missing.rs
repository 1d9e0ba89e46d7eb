//! F5, F6: journal files that are gone or cut short with nobody left who could claim their frames. What lies whole in the
//! segments is not thrown away for it.

use std::path::PathBuf;

use super::driver::{recover, recover_and_tell};
use super::full::{append, channel};
use crate::fs::Fs;
use crate::op::StreamId;
use crate::sim_fs::SimFs;

/// A log with a channel of a few batches, all of them in the newest journal file, killed.
fn killed_log() -> (SimFs, StreamId, i64, PathBuf) {
    let fs = SimFs::new(1);
    let mut engine = recover(&fs).unwrap();
    let stream = channel(&mut engine);
    for _ in 0..5 {
        append(&mut engine, stream).unwrap();
    }
    let end = engine.streams[&stream].end;
    let is_journal = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "jnl");
    let newest = fs.files().into_iter().filter(is_journal).max().unwrap();
    (fs.killed(), stream, end, newest)
}

#[test]
fn a_stream_that_only_a_missing_journal_file_knew_is_kept_and_named() {
    let (disk, stream, _, newest) = killed_log();
    let data = |disk: &SimFs| -> u64 {
        let segments = disk.files().into_iter();
        let segments = segments.filter(|path| path.extension().is_some_and(|it| it == "log"));
        segments
            .map(|path| disk.content(&path).unwrap().len() as u64)
            .sum()
    };
    let before = data(&disk);
    assert!(before > 4000, "{before} bytes");
    disk.remove_file(&newest).unwrap();
    for start in 0..2 {
        let (engine, report) = recover_and_tell(&disk).unwrap();
        assert_eq!(data(&disk), before, "start {start}");
        let told = usize::from(start == 0);
        assert_eq!(report.set_aside.len(), told, "start {start}: {report:?}");
        assert_eq!(report.damages.len(), told, "start {start}: {report:?}");
        assert!(
            engine.next_stream_id > stream.0,
            "its id is not given again"
        );
    }
}

#[test]
fn what_a_shortened_journal_file_told_stays_if_it_is_whole() {
    let (disk, stream, end, newest) = killed_log();
    let whole = disk.content(&newest).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    // Behind the frame that makes the stream, up to all of them.
    for length in ((4096 + 1500)..used).step_by(97) {
        let disk = disk.killed();
        disk.damage(&newest, whole[..length].to_vec());
        let (engine, report) = recover_and_tell(&disk).unwrap();
        assert_eq!(
            engine.streams[&stream].end, end,
            "cut at {length}: {report:?}"
        );
        assert_eq!(report.damages.len(), 1, "cut at {length}: {report:?}");
    }
}
