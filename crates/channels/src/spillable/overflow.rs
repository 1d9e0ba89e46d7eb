//! What goes to the disk: puts that memory has no room for, and the memory part when the channel stops.

use std::sync::Arc;

use flafka_flow::Batch;
use flafka_flow::channel::{Channel, ChannelError, TakeLimit};
use tracing::{info, warn};

use super::channel::{Held, SpillableChannel};
use crate::file::{FileChannel, Finishing};
use crate::memory::queue::joined;

/// Events on their way into the overflow; while there are any, nothing enters memory.
struct Coming {
    held: Arc<Held>,
    events: usize,
    generation: u64,
}

impl Coming {
    fn new(held: &Arc<Held>, events: usize) -> Result<Self, ChannelError> {
        let mut line = held.line();
        if !line.memory.open {
            return Err(held.closed());
        }
        line.is_spilling = true;
        line.coming += events;
        Ok(Self {
            held: Arc::clone(held),
            events,
            generation: line.generation,
        })
    }

    /// They are there.
    fn landed(&self) {
        let mut line = self.held.line();
        if line.generation == self.generation {
            line.mark_new(self.events);
        } else {
            line.is_unsure = true;
        }
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        let mut line = self.held.line();
        line.coming -= self.events;
        let is_last = line.coming == 0;
        drop(line);
        if is_last {
            self.held.landed.notify_waiters();
        }
    }
}

impl SpillableChannel {
    /// Puts a batch into the overflow, which does not wait for room. Finished once begun.
    pub(super) async fn spill(
        &self,
        overflow: &Arc<FileChannel>,
        batch: Batch,
    ) -> Result<(), ChannelError> {
        let coming = Coming::new(&self.held, batch.len())?;
        let overflow = Arc::clone(overflow);
        Finishing::new(async move {
            let stored = overflow.put(batch).await;
            if stored.is_ok() {
                coming.landed();
                coming.held.filled.notify_one();
            }
            drop(coming);
            stored
        })
        .await
    }

    /// Moves what memory holds into the overflow, in its order, so that the end of the process does not lose it. Its
    /// capacity does not count here: what is acknowledged has to go somewhere, and only the disk can refuse it.
    pub(super) async fn move_to_overflow(
        &self,
        overflow: &Arc<FileChannel>,
    ) -> Result<(), ChannelError> {
        let held = &self.held;
        if held.in_memory() > 0 && overflow.fault().is_some() {
            // The last chance: what has failed may work again.
            if let Err(error) = overflow.reopen().await {
                warn!(
                    channel = &*held.name,
                    error = error.chain(),
                    "the overflow cannot be opened again"
                );
            }
        }
        let limit = TakeLimit::events(self.transaction_capacity);
        let mut moved = 0;
        loop {
            let taken = held
                .line()
                .memory
                .take(limit, self.transaction_capacity, u64::MAX);
            if taken.is_empty() {
                break;
            }
            let batch = joined(&taken);
            let events = batch.len();
            if let Err(error) = overflow.put_beyond_capacity(batch).await {
                held.line().memory.put_back(taken);
                return Err(held.stranded(error.into()));
            }
            held.release(&taken);
            moved += events;
        }
        if moved > 0 {
            info!(
                channel = &*held.name,
                events = moved,
                "what memory held was moved into the overflow"
            );
        }
        match held.in_memory() {
            0 => Ok(()),
            _ => Err(held.stranded("sinks have not given them back".into())),
        }
    }

    /// Opens the overflow again after a fault, while the channel goes on.
    pub(super) async fn reopen_overflow(
        &self,
        overflow: &Arc<FileChannel>,
    ) -> Result<(), ChannelError> {
        let held = &self.held;
        let _turn = held.turn.acquire().await;
        held.line().give_back();
        let reopened = overflow.reopen().await;
        {
            let mut line = held.line();
            line.generation += 1;
            line.is_unsure = true;
        }
        held.filled.notify_one();
        reopened
    }
}
