//! Opens a channel again that cannot go on: its storage has failed while it ran, or its client has given up.
//!
//! A log accepts nothing after a failed sync until it is opened anew (what the disk has is only known then), and a Kafka
//! client nothing after a fatal error. A channel says so with [`Channel::fault`]; until it is open again its puts fail,
//! so sources wait, and `/health` shows why. Leases of what has failed are void: their events come again. A channel that
//! fails again soon is opened after a growing pause.

use std::sync::Arc;
use std::time::Duration;

use flafka_flow::channel::Channel;
use tokio::time::Instant;
use tracing::info;

use crate::supervise::{Supervised, pause_after};

/// Between two looks at a channel.
const LOOK: Duration = Duration::from_secs(1);
/// A channel that works so long has got over its faults.
const WELL: Duration = Duration::from_secs(30);

/// Watches a channel until the lifecycle asks to stop.
pub(crate) async fn tend(supervised: Supervised, channel: Arc<dyn Channel>) {
    let mut attempts = 0;
    let mut opened = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = supervised.lifecycle.stopping() => return,
        }
        let Some(fault) = channel.fault() else {
            continue;
        };
        attempts = if opened.elapsed() > WELL {
            1
        } else {
            attempts + 1
        };
        supervised.failed(&format!("{fault}; it is opened again"), attempts);
        if attempts > 1 {
            tokio::select! {
                () = tokio::time::sleep(pause_after(attempts)) => {}
                () = supervised.lifecycle.stopping() => return,
            }
        }
        let open = || {
            let channel = Arc::clone(&channel);
            async move { channel.reopen().await }
        };
        supervised.keep_alive(open).await;
        if supervised.lifecycle.is_stopping() {
            return;
        }
        opened = Instant::now();
        supervised.running();
        info!(channel = supervised.name, "channel is open again");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;
    use flafka_flow::Batch;
    use flafka_flow::channel::{ChannelError, Lease, TakeLimit};
    use flafka_flow::counters::{ComponentKind, Counters, Metric, sets};
    use flafka_flow::lifecycle::Lifecycle;

    use super::*;
    use crate::health::{ComponentState, HealthBoard};

    /// Its first two starts fail.
    struct Broken {
        counters: Arc<Counters>,
        stops: AtomicU32,
        starts: AtomicU32,
    }

    #[async_trait]
    impl Channel for Broken {
        async fn start(&self) -> Result<(), ChannelError> {
            if self.starts.fetch_add(1, Ordering::SeqCst) < 2 {
                return Err(ChannelError::Closed {
                    channel: "c1".into(),
                });
            }
            self.counters.set(Metric::Unhealthy, 0);
            Ok(())
        }

        async fn put(&self, _: Batch) -> Result<(), ChannelError> {
            Ok(())
        }

        async fn take(&self, _: TakeLimit) -> Result<Lease, ChannelError> {
            Ok(Lease::empty())
        }

        async fn stop(&self) -> Result<(), ChannelError> {
            self.stops.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }

        fn counters(&self) -> &Arc<Counters> {
            &self.counters
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_channel_whose_storage_failed_is_opened_again() {
        let kind = ComponentKind::Channel;
        let channel = Arc::new(Broken {
            counters: Arc::new(Counters::new(kind, "c1", sets::FILE_CHANNEL, true)),
            stops: AtomicU32::new(0),
            starts: AtomicU32::new(0),
        });
        let supervised = Supervised {
            name: "a1.channels.c1".to_owned(),
            board: HealthBoard::default(),
            lifecycle: Lifecycle::new(),
        };
        supervised.running();
        let watching = tend(supervised.clone(), Arc::clone(&channel) as Arc<dyn Channel>);
        let story = async {
            tokio::time::sleep(Duration::from_millis(5500)).await;
            assert_eq!(channel.stops.load(Ordering::SeqCst), 0, "it is well");
            channel.counters.set(Metric::Unhealthy, 1);
            tokio::time::sleep(Duration::from_millis(600)).await;
            let state = supervised.board.get("a1.channels.c1");
            assert!(matches!(state, Some(ComponentState::Failed { .. })));
            tokio::time::sleep(Duration::from_secs(10)).await;
            let state = supervised.board.get("a1.channels.c1");
            assert_eq!(state, Some(ComponentState::Running));
            supervised.lifecycle.stop();
        };
        tokio::join!(watching, story);
        let (stops, starts) = (&channel.stops, &channel.starts);
        assert_eq!(stops.load(Ordering::SeqCst), 3);
        assert_eq!(starts.load(Ordering::SeqCst), 3);
    }
}
