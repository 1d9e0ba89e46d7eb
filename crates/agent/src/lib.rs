//! The runtime of an agent: build from configuration, wiring, runners, supervision, shutdown
