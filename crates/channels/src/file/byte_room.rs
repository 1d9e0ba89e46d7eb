//! Room in bytes: `flafka.byteCapacity` bounds the data files of all directories together.
//!
//! What counts is what the files hold, so the limit is exact also after a restart, whatever the events are; what was
//! delivered counts until its file goes. Puts under way count beside the files, so many of them together cannot pass
//! the limit.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use flafka_flow::channel::ChannelError;
use tokio::time::Instant;

use super::channel::Shared;

/// Files go a moment after the events in them were marked as delivered.
const LOOK: Duration = Duration::from_millis(50);

/// Room that a put has until its bytes are in the files.
pub(super) struct ByteRoom {
    shared: Arc<Shared>,
    bytes: u64,
}

impl Drop for ByteRoom {
    fn drop(&mut self) {
        self.shared
            .coming_bytes
            .fetch_sub(self.bytes, Ordering::SeqCst);
        self.shared.freed.notify_waiters();
    }
}

/// Takes room for a put, waiting up to `keep-alive`. Without a limit there is nothing to take.
pub(super) async fn reserve_bytes(
    shared: &Arc<Shared>,
    bytes: u64,
) -> Result<Option<ByteRoom>, ChannelError> {
    let Some(allowed) = shared.config.byte_capacity.map(|allowed| allowed.0) else {
        return Ok(None);
    };
    if bytes > allowed {
        let what = format!(
            "{bytes} bytes in one transaction are more than flafka.byteCapacity, {allowed}: lower the batch size or raise it"
        );
        return Err(shared.failed("make room for a batch", false, what));
    }
    let deadline = Instant::now() + shared.keep_alive;
    loop {
        let freed = shared.freed.notified();
        let used = shared.data_bytes();
        let add = |coming: u64| {
            let sum = used.saturating_add(coming).saturating_add(bytes);
            (sum <= allowed).then_some(coming + bytes)
        };
        let coming = &shared.coming_bytes;
        if coming
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, add)
            .is_ok()
        {
            let shared = Arc::clone(shared);
            return Ok(Some(ByteRoom { shared, bytes }));
        }
        let now = Instant::now();
        if now >= deadline {
            return Err(ChannelError::FullOfBytes {
                channel: Arc::clone(&shared.name),
                bytes,
                used,
                allowed,
                waited: shared.keep_alive,
            });
        }
        // Early or late makes no difference: the files are looked at again.
        drop(tokio::time::timeout_at(deadline.min(now + LOOK), freed).await);
    }
}

impl Shared {
    /// Bytes of the data files of all open directories.
    fn data_bytes(&self) -> u64 {
        let volumes = self.volumes();
        let opens = volumes.iter().filter_map(|volume| volume.open());
        let bounds = opens.filter_map(|open| open.log.bounds(open.stream).ok());
        bounds.map(|bounds| bounds.bytes).sum()
    }
}
