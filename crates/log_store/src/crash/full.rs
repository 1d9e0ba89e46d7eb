//! F9 on the simulated disk: without a free byte, whatever a neighbour takes, acks go through and make room.

use std::time::Duration;

use bytes::Bytes;
use flafka_kafka_wire::records::{BatchBuilder, Compression};
use tokio::sync::oneshot;

use super::driver::{blocking, recover, request};
use crate::engine::Engine;
use crate::error::{CommitError, IoFault};
use crate::op::{AppendStamp, Offset, Op, StreamId};
use crate::queue::Control;
use crate::settings::StreamSettings;
use crate::sim_fs::SimFs;

const RECORDS: i64 = 10;

fn batch() -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for _ in 0..RECORDS {
        let value = [b'v'; 90];
        builder
            .push(1, None, Some(&value), std::iter::empty())
            .unwrap();
    }
    builder.finish().unwrap()
}

fn commit(engine: &mut Engine, op: Op) -> Result<(), CommitError> {
    let (receiver, request) = request(op);
    engine.round(vec![request]);
    blocking(receiver).map(|_| ())
}

pub(super) fn append(engine: &mut Engine, stream: StreamId) -> Result<(), CommitError> {
    let append = Op::Append {
        stream,
        batches: batch(),
        stamp: AppendStamp::AsStream,
    };
    commit(engine, append)
}

/// What the housekeeper would do.
pub(super) fn keep_house(engine: &mut Engine, fs: &SimFs) {
    loop {
        let jobs = engine.take_jobs();
        if jobs.is_empty() {
            return;
        }
        for job in jobs {
            let done = job.run(fs);
            engine.job_done(done);
        }
    }
}

pub(super) fn channel(engine: &mut Engine) -> StreamId {
    let settings = StreamSettings {
        segment_bytes: 8 * 1024,
        acked: true,
        ..StreamSettings::default()
    };
    let (reply, mut receiver) = oneshot::channel();
    engine.control(vec![Control::Create {
        name: "channel".to_string(),
        settings,
        reply,
    }]);
    receiver.try_recv().unwrap().unwrap()
}

#[test]
fn a_full_disk_still_drains() {
    for seed in 0..4 {
        let fs = SimFs::new(seed);
        let mut engine = recover(&fs).unwrap();
        keep_house(&mut engine, &fs);
        let stream = channel(&mut engine);
        fs.set_space(fs.used() + 160 * 1024);
        while append(&mut engine, stream).is_ok() {
            keep_house(&mut engine, &fs);
        }
        let refused = append(&mut engine, stream).unwrap_err();
        assert!(matches!(refused, CommitError::NoSpace(_)), "{refused}");
        let end = engine.streams[&stream].end;
        let full = fs.used();
        assert!(end > 900, "only {end} records until the disk was full");
        let mut disk = fs;
        for at in 0..end {
            // A neighbour takes whatever becomes free.
            disk.set_space(disk.used());
            if at % 200 == 199 {
                // Also a start needs no space, whatever way the log ended.
                drop(engine);
                disk = if at % 400 == 199 {
                    disk.killed()
                } else {
                    disk.power_cut(seed ^ at as u64)
                };
                disk.set_space(disk.used());
                engine =
                    recover(&disk).unwrap_or_else(|error| panic!("seed {seed}, {at}: {error}"));
                keep_house(&mut engine, &disk);
                let low = engine.streams[&stream].state.view().acks.low;
                assert_eq!(low, Offset(at), "seed {seed}");
                disk.set_space(disk.used());
            }
            let ack = Op::Ack {
                stream,
                first: Offset(at),
                last: Offset(at),
            };
            commit(&mut engine, ack)
                .unwrap_or_else(|error| panic!("seed {seed}, ack {at}: {error}"));
            if at % 40 == 0 {
                engine.checkpoint_at = Duration::ZERO;
                engine.start_checkpoint();
            }
            keep_house(&mut engine, &disk);
        }
        engine.start_checkpoint();
        keep_house(&mut engine, &disk);
        assert!(
            disk.used() + 64 * 1024 < full,
            "{} of {full} bytes",
            disk.used()
        );
        assert!(engine.failure.is_none());
        disk.set_space(u64::MAX);
        append(&mut engine, stream).unwrap();
    }
}

/// Without a put that goes through nobody closes the segment that grows: delivered, it must not keep the disk full.
#[test]
fn a_drained_channel_gives_back_the_segment_that_grows() {
    let fs = SimFs::new(3);
    let mut engine = recover(&fs).unwrap();
    engine.options.min_free_bytes = 64 * 1024;
    keep_house(&mut engine, &fs);
    let stream = channel(&mut engine);
    fs.set_space(fs.used() + 200 * 1024);
    for _ in 0..4 {
        append(&mut engine, stream).unwrap();
        keep_house(&mut engine, &fs);
    }
    let used = fs.used();
    let ack = |first: i64, last: i64| Op::Ack {
        stream,
        first: Offset(first),
        last: Offset(last),
    };
    commit(&mut engine, ack(0, 4 * RECORDS - 2)).unwrap();
    // The neighbour leaves less than has to stay, by less than the segment has.
    fs.set_space(used + engine.options.min_free_bytes - 1000);
    let tick = |engine: &mut Engine| {
        assert!(append(engine, stream).is_err(), "the disk is full");
        engine.tick();
        keep_house(engine, &fs);
        engine.tick();
        keep_house(engine, &fs);
    };
    tick(&mut engine);
    assert_eq!(fs.used(), used, "an event is still there");
    commit(&mut engine, ack(4 * RECORDS - 1, 4 * RECORDS - 1)).unwrap();
    tick(&mut engine);
    assert!(fs.used() < used, "{} of {used} bytes", fs.used());
    append(&mut engine, stream).unwrap();
    // A start finds the same: everything delivered, and what was put behind it.
    for disk in [fs.killed(), fs.power_cut(5)] {
        let engine = recover(&disk).unwrap();
        let view = engine.streams[&stream].state.view();
        assert_eq!(view.acks.low, Offset(4 * RECORDS));
        assert_eq!(view.high_watermark, Offset(5 * RECORDS));
    }
}

#[test]
fn only_a_full_disk_refuses_for_want_of_the_next_journal_file() {
    let fs = SimFs::new(9);
    let mut engine = recover(&fs).unwrap();
    let stream = channel(&mut engine);
    while engine.journal.room() >= engine.journal.capacity() / 4 {
        append(&mut engine, stream).unwrap();
    }
    let fault = |errno| {
        let error = std::io::Error::from_raw_os_error(errno);
        Some(IoFault::of("prepare journal", engine.journal.dir())(error))
    };
    let (eio, enospc) = (fault(5), fault(28));
    engine.spare_fault = eio;
    assert!(engine.look_for_space().is_none());
    engine.spare_fault = enospc;
    let refused = engine.look_for_space();
    assert!(matches!(refused, Some(CommitError::NoSpace(_))));
}
