//! The real systems and the foreign clients: Apache Kafka, Apache Flume, Kafka's Java tools, kcat, kafka-python.
//!
//! Pinned versions and server setup lie in `tests/real/<system>/`; jars and Python packages come from their registries
//! once and stay in the cache ([`crate::workspace::cache_directory`]). Invariant: what is asked for and cannot be had is
//! an error that names the command to run, never a skip.

mod download_cache;
mod flume;
mod java;
mod kafka;
mod kcat;
mod maven;
mod python;

pub use flume::{flume_agent, flume_program, prepare_flume};
pub use java::JavaTool;
pub use kafka::apache_kafka;
pub use kcat::kcat;
pub use python::python;

/// The Debian packages that the suites need, and what the errors tell the user to run.
const INSTALL: &str = "run `./dev test real` as root, which installs it, or \
                       `apt-get install -y default-jdk-headless maven kcat python3-venv`";
