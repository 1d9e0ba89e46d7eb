//! Which damaged batches fetches have met, so that the log looks at each of them once: a client fetches again and again.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use flafka_log_store::{Offset, StreamId};

/// So many are told apart; a log with more has been named often enough.
const MOST: usize = 1024;

/// Streams and offsets of fetches that met damage.
#[derive(Debug, Default)]
pub(crate) struct DamageMet(Mutex<BTreeSet<(StreamId, Offset)>>);

impl DamageMet {
    /// Whether nobody has met it before.
    pub(crate) fn is_new(&self, stream: StreamId, offset: Offset) -> bool {
        let mut met = self.lock();
        met.len() < MOST && met.insert((stream, offset))
    }

    /// Somebody else may meet it again.
    pub(crate) fn forget(&self, stream: StreamId, offset: Offset) {
        self.lock().remove(&(stream, offset));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<(StreamId, Offset)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_met_once_and_there_is_a_bound() {
        let met = DamageMet::default();
        let stream = StreamId(1);
        assert!(met.is_new(stream, Offset(0)) && !met.is_new(stream, Offset(0)));
        met.forget(stream, Offset(0));
        let new = (0..MOST as i64 + 5).filter(|offset| met.is_new(stream, Offset(*offset)));
        assert_eq!(new.count(), MOST);
    }
}
