//! The interceptor contract (reference 2.7, 3.4): batch in, batch out.

use crate::batch::Batch;

/// Changes or drops events between a source and its channels. Runs on the source's task, so it
/// must be quick; an event that is left out of the result is dropped on purpose.
pub trait Interceptor: Send + Sync {
    /// The batch to go on with. It may be shorter, never longer.
    fn intercept(&self, batch: Batch) -> Batch;
}
