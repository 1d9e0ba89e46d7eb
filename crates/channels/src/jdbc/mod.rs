//! The JDBC channel (Flume reference 2.3 `jdbc`): events in an SQLite file, with Flume's keys.
//!
//! Flume keeps them in an embedded Derby unless told another database. Here SQLite, which is compiled in, takes Derby's
//! place; servers are refused at the start (`place`). A thread of the channel's own has the only connection; it commits
//! what waits in one transaction (`worker`), synced before it is acknowledged. What is in the file is said in `store`.
//!
//! Invariant: an event is in the file from the acknowledgement of its put until the commit of its lease. What is leased is
//! known in memory only (`waiting`), so after a crash it comes again.
//!
//! The file channel does the same faster; this one is for configurations that have it.

mod channel;
mod config;
mod place;
mod store;
mod waiting;
mod worker;

pub use channel::{JdbcChannel, JdbcChannelFactory};
pub use config::{DatabaseType, Isolation, JdbcChannelConfig};

#[cfg(test)]
mod tests;
