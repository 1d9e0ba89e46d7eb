//! Which damaged batches fetches have met, so that the log looks at each of them once: a client fetches again and again.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use flafka_log_store::{Offset, StreamId};

/// So many are told apart; a log with more has been named often enough.
const MOST: usize = 1024;

/// A stream by its data directory's index, and an offset in it.
pub(crate) type Met = (usize, StreamId, Offset);

/// What fetches met damage at.
#[derive(Debug, Default)]
pub(crate) struct DamageMet(Mutex<BTreeSet<Met>>);

impl DamageMet {
    /// Whether nobody has met it before.
    pub(crate) fn is_new(&self, place: Met) -> bool {
        let mut met = self.lock();
        met.len() < MOST && met.insert(place)
    }

    /// Somebody else may meet it again.
    pub(crate) fn forget(&self, place: Met) {
        self.lock().remove(&place);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<Met>> {
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
        let place = (0, stream, Offset(0));
        assert!(met.is_new(place) && !met.is_new(place));
        assert!(met.is_new((1, stream, Offset(0))), "another directory");
        met.forget(place);
        let new = (0..MOST as i64 + 5).filter(|offset| met.is_new((0, stream, Offset(*offset))));
        assert_eq!(new.count(), MOST - 1);
    }
}
