//! The command line and the running agent as a user meets them: mistakes, start, metrics, health, reload, stop.
//!
//! Every test starts the binary under test in a folder of its own, on free ports. What single components do is tested
//! beside their code; here it is what only the whole process can show.

mod check;
mod commands;
mod damage;
mod explain;
mod health;
mod jdbc;
mod log;
mod log_dirs;
mod metrics;
mod old_formats;
mod place;
mod reload;
mod second_owner;
mod spillable;
mod stop;
mod topics;
