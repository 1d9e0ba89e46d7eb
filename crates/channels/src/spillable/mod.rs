//! The spillable channel: a memory channel that goes on in files when it is full (Flume reference 2.3 `spillablememory`).
//!
//! The memory part is the memory channel's queue and room, the overflow a file channel of its own; `line` keeps the order
//! over both. A put goes wholly to one side. It waits `overflowTimeout` for memory; then puts go to the overflow without
//! waiting whenever memory has no room, until `overflowDeactivationThreshold` percent of it are free. A take never crosses
//! from one part to the other, as in Flume.
//!
//! What is promised: FIFO while the channel runs; what went to the overflow survives a crash, what is in memory does not.
//! An ordered stop moves the memory part into the overflow, behind what is there, so that nothing is lost; Flume loses it.
//! Over a reload the memory part goes to the next channel of the name if it could not be moved.

mod channel;
mod config;
mod lease;
mod line;
mod overflow;
mod promise;
mod put;

pub use channel::{SpillableChannel, SpillableFactory};
pub use config::{SpillableConfig, SpillableKeys};

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
