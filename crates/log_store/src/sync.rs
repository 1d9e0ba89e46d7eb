//! Where the log's threads meet: the locks, condition variables and threads they use.
//!
//! Normally the standard library's. With the feature `shuttle`, which only tests switch on, they are those of a scheduler
//! that runs one thread at a time and chooses at every lock which one goes on: `crash/schedules.rs` tries thousands of
//! orders with it, and a failing one can be repeated. Invariant: no lock that is held across a call of another module
//! comes from anywhere else, or the scheduler would wait for itself.

#[cfg(feature = "shuttle")]
pub(crate) use shuttle::{
    sync::{
        Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicUsize},
    },
    thread,
};
#[cfg(not(feature = "shuttle"))]
pub(crate) use std::{
    sync::{
        Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicUsize},
    },
    thread,
};
