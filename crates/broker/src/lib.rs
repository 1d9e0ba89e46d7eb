//! The embedded log as a Kafka broker: one node, the Kafka protocol over TCP.
//!
//! One request's way: [`listener`] accepts the connection, `connection` cuts frames and keeps the answers in order,
//! `dispatch` checks key, version and every count in the body, then one file under `handlers/` answers it from the
//! log, the topic registry or the group coordinator. The broker is the leader of every partition and the coordinator
//! of every group; it never claims to replicate.
//!
//! Invariant: nothing that a client sends can panic or grow without bound, and nothing is acknowledged before the log
//! has made it as durable as the topic says.

pub mod broker;
pub mod config;
pub(crate) mod connection;
pub mod context;
mod damage_met;
pub(crate) mod dispatch;
pub mod errors;
pub mod groups;
pub(crate) mod handlers;
pub mod listener;
pub mod log_dirs;
pub mod metrics;
pub(crate) mod producer_ids;
pub(crate) mod response;
mod shield;
pub mod topics;

pub use broker::{Broker, StartError};
pub use config::BrokerConfig;
pub use metrics::BrokerMetrics;
