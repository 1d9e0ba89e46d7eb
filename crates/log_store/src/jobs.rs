//! x
#[derive(Debug)]
pub(crate) struct JobDone;
