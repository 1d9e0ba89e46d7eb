//! The channel selector contract (reference 2.6, 3.4).

use crate::batch::Batch;

/// What one channel gets of a batch.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// Index of the channel in the source's list.
    pub channel: usize,
    /// Whether a failure of this channel fails the whole put.
    pub required: bool,
    /// The events, in their order.
    pub batch: Batch,
}

/// Decides which channels get which events.
pub trait ChannelSelector: Send + Sync {
    /// The deliveries of a batch: required channels first, in the order in which the source
    /// names them. An event that is in no delivery is dropped on purpose (multiplexing without
    /// default).
    fn select(&self, batch: Batch) -> Vec<Delivery>;
}
