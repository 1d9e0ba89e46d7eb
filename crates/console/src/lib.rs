//! The agent's HTTP endpoints: `/metrics` in Flume's JSON, `/metrics/prometheus`, `/health` and
//! `/ready` (Flume reference 5.1).
//!
//! One listener serves a whole process. It knows counters and states only, nothing of agents;
//! whoever starts it says where they come from.

mod flume_json;
mod prometheus;
mod server;

pub use flume_json::render as flume_json;
pub use prometheus::{Extra, render as prometheus};
pub use server::{ComponentHealth, Console, ConsoleError, View};
