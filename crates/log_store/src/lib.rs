//! The partition log: segments, commit journal, recovery
