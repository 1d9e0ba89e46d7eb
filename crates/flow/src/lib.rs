//! The contracts of the flow, apart from every implementation.
//!
//! An *event* is headers and a body; events move in [`Batch`]es only. A [`source::Source`] hands
//! batches to a [`source::ChannelProcessor`] (interceptors, selector, channels); a
//! [`channel::Channel`] keeps them until a [`sink::Sink`] has delivered them under a
//! [`channel::Lease`]. Components are made by typed factories from typed
//! [`mod@settings`], listed in a [`registry::Registry`].
//!
//! This crate depends on nothing of ours. The words are Flume's; where a rule comes from Flume
//! 1.11 its reference section is named.

pub mod batch;
pub mod channel;
pub mod clock;
pub mod counters;
pub mod event;
pub mod interceptor;
pub mod lifecycle;
pub mod promise;
pub mod registry;
pub mod selector;
pub mod settings;
pub mod sink;
pub mod sink_processor;
pub mod source;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use batch::{Batch, BatchBuilder};
pub use event::{Event, EventRef, Headers, HeadersBuilder};
pub use promise::Promise;
