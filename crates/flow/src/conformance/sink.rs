//! What every sink must do (see [`crate::sink`]).

use std::sync::Arc;

use super::doubles::TestChannel;
use crate::channel::Channel;
use crate::event::Event;
use crate::sink::{Sink, Status};

/// A target that a sink test can switch off and look into.
pub trait Target {
    /// Makes the target refuse (`true`) or work again (`false`). Returns false when this target
    /// cannot be made to fail; the rules about failures are then not asked.
    fn refuse(&mut self, refuse: bool) -> bool;

    /// The bodies that have arrived, when the target can be read back.
    fn bodies(&mut self) -> Option<Vec<Vec<u8>>>;
}

/// Runs every rule on the sink that `make` builds on the given channel.
///
/// # Panics
/// With the rule that was broken.
pub async fn suite<T: Target>(mut make: impl AsyncFnMut(Arc<dyn Channel>) -> (Box<dyn Sink>, T)) {
    let channel = TestChannel::new();
    let (mut sink, mut target) = make(Arc::clone(&channel) as Arc<dyn Channel>).await;
    sink.start().await.expect("an idle sink starts");
    let status = sink.process().await.expect("an empty channel is no error");
    assert_eq!(status, Status::Backoff, "an empty channel means back off");

    let bodies: Vec<Vec<u8>> = (0..250)
        .map(|n| format!("event {n}").into_bytes())
        .collect();
    channel.fill(bodies[..120].iter().cloned().map(Event::new));
    drain(&mut sink, &channel).await;
    assert_eq!(
        channel.committed().len(),
        120,
        "what was delivered is committed"
    );

    if target.refuse(true) {
        channel.fill(bodies[120..].iter().cloned().map(Event::new));
        let before = channel.committed().len();
        let outcome = sink.process().await;
        assert!(
            !matches!(outcome, Ok(Status::Ready)),
            "a refusing target is not a success: {outcome:?}"
        );
        assert_eq!(
            channel.committed().len(),
            before,
            "nothing is committed without the target's answer"
        );
        assert_eq!(channel.remaining(), 130, "a failed batch goes back");
        target.refuse(false);
        drain(&mut sink, &channel).await;
    } else {
        channel.fill(bodies[120..].iter().cloned().map(Event::new));
        drain(&mut sink, &channel).await;
    }
    sink.stop().await.expect("stop");
    let committed: Vec<_> = channel
        .committed()
        .iter()
        .map(|event| event.body.to_vec())
        .collect();
    assert_eq!(committed, bodies, "every event is committed once, in order");
    if let Some(mut arrived) = target.bodies() {
        arrived.dedup();
        let mut expected = bodies.clone();
        let unique: std::collections::BTreeSet<_> = arrived.iter().cloned().collect();
        expected.retain(|body| !unique.contains(body));
        assert!(
            expected.is_empty(),
            "committed but not at the target: {} events",
            expected.len()
        );
    }
}

async fn drain(sink: &mut Box<dyn Sink>, channel: &TestChannel) {
    for _ in 0..10_000 {
        if channel.remaining() == 0 {
            return;
        }
        if let Err(error) = sink.process().await {
            assert!(error.is_retriable(), "{error}");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    panic!(
        "the sink does not drain its channel; {} events left",
        channel.remaining()
    );
}
