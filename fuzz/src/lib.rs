//! Fuzzing on stable Rust: every parser that sees bytes from a disk, a network or a user is a target, a plain function
//! of a byte slice. A seeded mutator feeds it; a child process per target bounds its memory and its time, so that an
//! abort, an endless loop or a huge allocation is a finding like a panic.
//!
//! [`targets::TARGETS`] is the list: a new parser is one entry there and a folder of seeds under `corpus/`.
//!
//! Invariant: a run is a function of seed, corpus and number of cases; every finding leaves a file and a command that
//! repeats it.

pub mod corpus;
pub mod mutate;
pub mod report;
pub mod run;
pub mod targets;
