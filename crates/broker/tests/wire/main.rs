//! The broker over real sockets, spoken to in raw frames.

#![expect(
    clippy::unwrap_used,
    reason = "a test that meets the unexpected should panic"
)]

mod admin;
mod compaction;
mod consume;
mod damage;
mod every_api;
mod groups;
mod hostile;
mod log_dirs;
mod produce;
mod restart;
mod slow;
mod support;
