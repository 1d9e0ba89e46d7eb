//! Where a put goes: into memory, after a wait if need be, else into the overflow.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use flafka_flow::Batch;
use flafka_flow::channel::ChannelError;
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::channel::SpillableChannel;
use crate::memory::queue::{Segment, measure};

/// Room in memory for a batch.
struct MemoryRoom<'h> {
    events: SemaphorePermit<'h>,
    slots: SemaphorePermit<'h>,
    charged: usize,
}

impl SpillableChannel {
    /// Finds a place for a batch, waiting as long as the settings say.
    pub(super) async fn place(&self, batch: &Batch) -> Result<(), ChannelError> {
        let held = &self.held;
        let (slots, bytes) = measure(batch, self.slot_bytes);
        let now = Instant::now();
        let is_waiting = self.overflow.is_none() || !held.line().is_spilling;
        let mut memory_until = if is_waiting { now + self.timeout } else { now };
        let last = memory_until + self.timeout;
        loop {
            let freed = held.freed.notified();
            if let Some(room) = self.memory_room(batch.len(), slots, memory_until).await {
                let segment = Segment {
                    first: 0,
                    batch: batch.clone(),
                    slots: room.charged,
                    bytes,
                };
                if self.enter_memory(segment, room).await? {
                    return Ok(());
                }
            }
            let Some(overflow) = &self.overflow else {
                return Err(ChannelError::Full {
                    channel: Arc::clone(&held.name),
                    events: batch.len(),
                    bytes,
                    waited: self.timeout,
                });
            };
            let mut full = match self.spill(overflow, batch.clone()).await {
                Err(full @ (ChannelError::Full { .. } | ChannelError::FullOfBytes { .. })) => full,
                ended => return ended,
            };
            if Instant::now() >= last {
                if let ChannelError::Full { waited, .. }
                | ChannelError::FullOfBytes { waited, .. } = &mut full
                {
                    *waited = self.timeout;
                }
                return Err(full);
            }
            // Whichever of the two has room next; asked once more at the end.
            drop(timeout_at(last, freed).await);
            memory_until = Instant::now();
        }
    }

    /// Room in memory; `None` when it did not come free in time or never can.
    async fn memory_room(
        &self,
        events: usize,
        slots: u64,
        until: Instant,
    ) -> Option<MemoryRoom<'_>> {
        let held = &self.held;
        let charged = held.slots.charged(slots);
        let is_too_large = events > self.memory_capacity
            // A batch larger than the byte capacity enters an empty memory, unless there is another place for it.
            || (self.overflow.is_some() && charged as u64 != slots);
        if is_too_large {
            return None;
        }
        let slots = held.slots.take(charged, until).await?;
        let events = held.room.take(events, until).await?;
        Some(MemoryRoom {
            events,
            slots,
            charged,
        })
    }

    /// Queues a segment that has room; not while puts are on their way into the overflow. False: puts go there now.
    async fn enter_memory(
        &self,
        segment: Segment,
        room: MemoryRoom<'_>,
    ) -> Result<bool, ChannelError> {
        let held = &self.held;
        loop {
            let landed = held.landed.notified();
            {
                let mut line = held.line();
                if !line.memory.open {
                    return Err(held.closed());
                }
                if line.coming == 0 {
                    let events = segment.batch.len();
                    held.in_memory.fetch_add(events, Ordering::Relaxed);
                    line.memory.push(segment);
                    room.events.forget();
                    room.slots.forget();
                    drop(line);
                    held.filled.notify_one();
                    return Ok(true);
                }
                if line.is_spilling {
                    return Ok(false);
                }
            }
            landed.await;
        }
    }
}
