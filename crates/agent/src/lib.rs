//! The runtime of an agent: from a checked configuration to running components.
//!
//! [`components`] is the one list of everything a `type` can name. [`build`] makes the parts of
//! one agent and wires them; [`Agent::run`] starts channels, then sinks, then sources, keeps
//! each of them alive, and stops them in the order that loses nothing: sources, then what is
//! left in volatile channels, then sinks, then channels, each with a deadline.
//!
//! Back-off is decided here and nowhere else (Flume reference 3.3).

pub mod build;
mod channel_processor;
pub mod components;
pub mod health;
mod kept;
mod run;
pub mod selectors;
pub mod sink_groups;
mod sink_runner;
mod source_runner;
mod supervise;
mod tend;

pub use build::{Agent, AgentOptions};
pub use channel_processor::SelectingProcessor;
pub use components::registry;
pub use health::{ComponentState, HealthBoard};
pub use kept::KeptChannels;
pub use run::{Deadlines, Stopped};

/// Tells the components the Java system properties of the command line (`-Dname=value`), before
/// any configuration is read.
pub use flafka_sources::tls::defaults::set_system_properties;
