//! Configuration files: Flume's properties grammar, YAML, look-ups, and errors that explain

pub mod properties;
pub mod substitute;
pub mod yaml;
