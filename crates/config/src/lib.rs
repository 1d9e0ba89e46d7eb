//! Configuration files: Flume's properties grammar, YAML, look-ups, and errors that explain.
//!
//! The way of a file: [`loader`] reads and merges ([`properties`], [`yaml`]), [`substitute`]
//! resolves `${…}`, [`filters`] fetches secrets, [`topology`] finds the components and lets their
//! factories check the settings. [`load_and_check`] goes it in one call and gives an [`Outcome`]
//! with agents that can be built and every problem with its place; [`render`] shows those to
//! people and programs, and [`mod@reference`] writes the reference of all keys.

mod check;
mod comments;
pub mod filters;
pub mod loader;
pub mod properties;
pub mod reference;
pub mod render;
mod secrets;
pub mod substitute;
pub mod topology;
pub mod yaml;

pub use check::{Outcome, check_inputs, load_and_check};
pub use loader::{Input, LoadOptions, SourceFile};
pub use topology::{
    AgentConfig, ChannelConfig, InterceptorConfig, SelectorConfig, SinkConfig, SinkGroupConfig,
    SourceConfig,
};
