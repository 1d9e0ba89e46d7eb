//! x
use crate::{OpenError, engine::Engine, queue::Queue};
use std::sync::Arc;
use std::time::Duration;
pub(crate) const LONGEST_TICK: Duration = Duration::from_millis(500);
pub(crate) fn start(
    _engine: Engine,
    _queue: &Arc<Queue>,
    _tick: Duration,
) -> Result<(), OpenError> {
    Ok(())
}
