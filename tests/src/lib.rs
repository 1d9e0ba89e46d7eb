//! The harness of the whole-system tests: processes, free ports, waiting, and the real systems beside ours.
//!
//! It exists so that every whole-system test starts the binary that ships, on loopback and in a temporary directory,
//! waits by asking and never by sleeping, and leaves nothing behind. Invariant: a process that a test starts dies with
//! the thread that started it, however the test ends. What is where: `tests/README.md`.

pub mod avro_datum;
pub mod disks;
pub mod faults;
pub mod flafka;
pub mod http;
pub mod kafka_client;
pub mod log_server;
pub mod netcat;
pub mod old_formats;
pub mod poll;
pub mod ports;
pub mod process;
pub mod real;
pub mod runner;
pub mod running_agent;
pub mod workspace;
