//! Mode `interval`: what a power cut may take is what came since the last interval, and a kill takes nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::driver::{options, recover};
use super::full::{append, keep_house};
use crate::clock::{Clock, ManualClock};
use crate::engine::Engine;
use crate::op::StreamId;
use crate::queue::Control;
use crate::settings::{Durability, StreamSettings};
use crate::sim_fs::SimFs;

const INTERVAL: Duration = Duration::from_millis(500);

fn interval_stream(engine: &mut Engine) -> StreamId {
    let settings = StreamSettings {
        segment_bytes: 8 * 1024,
        durability: Durability::Interval(INTERVAL),
        ..StreamSettings::default()
    };
    let (reply, mut receiver) = oneshot::channel();
    engine.control(vec![Control::Create {
        name: "interval".to_string(),
        settings,
        reply,
    }]);
    receiver.try_recv().unwrap().unwrap()
}

#[test]
fn a_power_cut_takes_at_most_an_interval() {
    let mut lost_something = false;
    for seed in 0..30 {
        let fs = SimFs::new(seed);
        let clock = Arc::new(ManualClock::new(1_000_000));
        let mut options = options();
        // Only the interval may sync.
        options.checkpoint_interval = Duration::from_secs(3600);
        let opened = Engine::open(options, Arc::new(fs.clone()), clock.clone());
        let (mut engine, _) = opened.unwrap();
        keep_house(&mut engine, &fs);
        let stream = interval_stream(&mut engine);
        // Each end with the time at which it was acknowledged.
        let mut ends = Vec::new();
        for _ in 0..45 {
            append(&mut engine, stream).unwrap();
            ends.push((clock.monotonic(), engine.streams[&stream].end));
            clock.advance(Duration::from_millis(70));
            engine.tick();
            keep_house(&mut engine, &fs);
        }
        let now = clock.monotonic();
        let end = engine.streams[&stream].end;
        let killed = recover(&fs.killed()).unwrap();
        assert_eq!(killed.streams[&stream].end, end, "a kill takes nothing");
        let cut = recover(&fs.power_cut(seed)).unwrap();
        let found = cut.streams[&stream].end;
        lost_something |= found < end;
        // The tick that syncs comes up to 70 ms after the interval.
        let window = INTERVAL + Duration::from_millis(140);
        let promised = ends.iter().rev().find(|(at, _)| now - *at > window);
        let promised = promised.map_or(0, |(_, end)| *end);
        assert!(
            found >= promised,
            "seed {seed}: {found} of {end}, {promised} promised"
        );
    }
    assert!(lost_something, "the cuts were too kind to show anything");
}
