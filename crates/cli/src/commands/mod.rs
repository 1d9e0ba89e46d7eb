//! One file a command.

pub(crate) mod agent;
pub(crate) mod broker;
pub(crate) mod check;
pub(crate) mod consume;
pub(crate) mod explain;
pub(crate) mod kafka;
pub(crate) mod log;
pub(crate) mod pages;
pub(crate) mod produce;
pub(crate) mod running;
pub(crate) mod topic;
pub(crate) mod up;
pub(crate) mod version;
