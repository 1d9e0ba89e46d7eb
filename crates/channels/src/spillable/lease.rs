//! What a take has in its hands: events of memory, or a lease of the overflow with its place in the line.

use std::sync::Arc;

use async_trait::async_trait;
use flafka_flow::channel::{ChannelError, Lease, Settle};
use flafka_flow::counters::{Counters, Metric};

use super::channel::{Held, SpillableChannel};
use super::line::{Mark, Returned};
use crate::memory::queue::{Segment, joined};

/// What the end of a lease needs of its channel.
struct End {
    held: Arc<Held>,
    counters: Arc<Counters>,
    enough_free: usize,
}

impl End {
    fn of(channel: &SpillableChannel) -> Self {
        Self {
            held: Arc::clone(&channel.held),
            counters: Arc::clone(&channel.counters),
            enough_free: channel.enough_free(),
        }
    }

    /// After a delivery: puts may have become possible, and may wait for memory again.
    fn delivered(&self, events: usize) {
        self.counters
            .add(Metric::EventTakeSuccessCount, events as u64);
        if self.held.room.budget() > 0 && self.held.room.free() >= self.enough_free {
            self.held.line().is_spilling = false;
        }
        self.held.freed.notify_waiters();
    }
}

pub(super) fn of_memory(channel: &SpillableChannel, taken: Vec<Segment>) -> Lease {
    let batch = joined(&taken);
    let end = End::of(channel);
    Lease::new(batch, Vec::new(), Box::new(MemorySettle { end, taken }))
}

pub(super) fn of_overflow(
    channel: &SpillableChannel,
    lease: Lease,
    marks: Vec<Mark>,
    generation: u64,
) -> Lease {
    let (batch, origin) = (lease.batch().clone(), lease.origin().to_vec());
    let returned = Returned {
        lease,
        marks,
        generation,
    };
    let settle = OverflowSettle {
        end: End::of(channel),
        returned: Some(returned),
    };
    Lease::new(batch, origin, Box::new(settle))
}

/// Dropped without an end, as a cancelled commit does, the events go back.
struct MemorySettle {
    end: End,
    taken: Vec<Segment>,
}

#[async_trait]
impl Settle for MemorySettle {
    async fn commit(mut self: Box<Self>) -> Result<(), ChannelError> {
        let taken = std::mem::take(&mut self.taken);
        self.end.held.release(&taken);
        self.end
            .delivered(taken.iter().map(|part| part.batch.len()).sum());
        Ok(())
    }

    fn rollback(self: Box<Self>) {}
}

impl Drop for MemorySettle {
    fn drop(&mut self) {
        if !self.taken.is_empty() {
            let held = &self.end.held;
            held.line().memory.put_back(std::mem::take(&mut self.taken));
            held.filled.notify_one();
        }
    }
}

/// Dropped without an end the events go back, at the next take.
struct OverflowSettle {
    end: End,
    returned: Option<Returned>,
}

#[async_trait]
impl Settle for OverflowSettle {
    async fn commit(mut self: Box<Self>) -> Result<(), ChannelError> {
        let Some(Returned { lease, .. }) = self.returned.take() else {
            return Ok(());
        };
        let events = lease.batch().len();
        lease.commit().await?;
        self.end.delivered(events);
        Ok(())
    }

    fn rollback(self: Box<Self>) {}
}

impl Drop for OverflowSettle {
    fn drop(&mut self) {
        if let Some(returned) = self.returned.take() {
            let held = &self.end.held;
            held.line().returned.push(returned);
            held.filled.notify_one();
        }
    }
}
