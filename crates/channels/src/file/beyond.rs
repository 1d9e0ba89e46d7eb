//! Puts that the capacity does not bound: what a spillable channel holds in memory when it stops.
//!
//! Those events are acknowledged already, so only the disk may refuse them. The channel is over its capacity afterwards,
//! also after a restart, and takes nothing new until as much is delivered.

use std::sync::Arc;

use flafka_flow::Batch;
use flafka_flow::channel::ChannelError;

use super::channel::FileChannel;
use super::finishing::Finishing;

impl FileChannel {
    /// Puts a batch whatever `capacity`, `transactionCapacity` and `flafka.byteCapacity` say.
    ///
    /// # Errors
    /// When the disk refuses it, or the channel is closed.
    pub(crate) async fn put_beyond_capacity(&self, batch: Batch) -> Result<(), ChannelError> {
        let shared = Arc::clone(&self.shared);
        let volumes = shared.volumes();
        if volumes.is_empty() {
            return Err(shared.is_closed());
        }
        shared.take_room_or_more(batch.len());
        Finishing::new(async move { shared.put(&volumes, batch).await }).await
    }
}
