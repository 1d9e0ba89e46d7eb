//! The commit journal: one sequence of files for all streams, so that one sync makes a whole commit group durable.
//!
//! - [`frame`]: the unit on disk, drawn byte by byte, and what it may carry.
//! - [`files`]: creation, recycling and headers of the files.
//! - [`writer`]: one group = one write; the commit thread's side.
//! - [`frames`], [`scan`], [`finish`]: the start's side; tells a torn tail from damage, and passes it.
//!
//! Invariants: every `.jnl` file has had a durable header before its name became durable; frames carry consecutive
//! LSNs across files (one is left out where a file failed); a group never spans files; the bytes behind the last group of a file never verify with its salt.

pub(crate) mod files;
pub(crate) mod finish;
pub(crate) mod frame;
pub(crate) mod frames;
pub(crate) mod scan;
pub(crate) mod writer;
