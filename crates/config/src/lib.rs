//! Configuration files: Flume's properties grammar, YAML, look-ups, and errors that explain

pub mod filters;
pub mod loader;
pub mod properties;
mod secrets;
pub mod substitute;
pub mod yaml;
