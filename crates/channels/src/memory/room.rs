//! Room for so many events, or byte slots, that can be made larger or smaller while some of it is taken.
//!
//! Invariant: what is free, what is taken and nothing else make the budget; after it was lowered below what is taken,
//! what comes back pays the debt before it is free again.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

/// A budget and what is free of it.
pub(crate) struct Room {
    budget: AtomicUsize,
    free: Semaphore,
    /// Taken beyond the budget.
    debt: AtomicUsize,
}

impl Room {
    pub(crate) fn new(budget: usize) -> Self {
        Self {
            budget: AtomicUsize::new(budget),
            free: Semaphore::new(budget),
            debt: AtomicUsize::new(0),
        }
    }

    /// What something of this size has to take: all there is when it is larger than that.
    pub(crate) fn charged(&self, size: u64) -> usize {
        usize::try_from(size)
            .unwrap_or(usize::MAX)
            .min(self.budget())
    }

    /// Takes `count`, or `None` when that did not come free before `deadline`. Waiting calls are served in order.
    pub(crate) async fn take(
        &self,
        count: usize,
        deadline: Instant,
    ) -> Option<SemaphorePermit<'_>> {
        let count = u32::try_from(count).ok()?;
        if let Ok(permits) = self.free.try_acquire_many(count) {
            return Some(permits);
        }
        timeout_at(deadline, self.free.acquire_many(count))
            .await
            .ok()?
            .ok()
    }

    /// The budget.
    pub(crate) fn budget(&self) -> usize {
        self.budget.load(Ordering::Relaxed)
    }

    /// What is free of it.
    pub(crate) fn free(&self) -> usize {
        self.free.available_permits()
    }

    /// Gives back what was taken and forgotten.
    pub(crate) fn give_back(&self, count: usize) {
        self.free.add_permits(count - self.pay(count));
    }

    /// Changes the budget. Only one call at a time.
    pub(crate) fn resize(&self, budget: usize) {
        let before = self.budget.swap(budget, Ordering::Relaxed);
        if budget >= before {
            self.give_back(budget - before);
            return;
        }
        let less = before - budget;
        self.debt.fetch_add(less, Ordering::SeqCst);
        // What comes back meanwhile may have paid some of it.
        let forgotten = self.free.forget_permits(less);
        let paid = self.pay(forgotten);
        self.free.add_permits(forgotten - paid);
    }

    /// Pays up to `count` of the debt; returns how much.
    fn pay(&self, count: usize) -> usize {
        if self.debt.load(Ordering::SeqCst) == 0 {
            return 0;
        }
        let paid = self
            .debt
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |debt| {
                Some(debt.saturating_sub(count))
            });
        paid.map_or(0, |debt| debt.min(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(room: &Room, count: u32) {
        room.free.try_acquire_many(count).expect("free").forget();
    }

    #[test]
    fn a_smaller_budget_applies_as_things_leave() {
        let room = Room::new(10);
        taken(&room, 8);
        room.resize(5);
        assert_eq!((room.free.available_permits(), room.charged(9)), (0, 5));
        room.give_back(2);
        assert_eq!(room.free.available_permits(), 0, "six are taken of five");
        room.give_back(3);
        assert_eq!(room.free.available_permits(), 2);
        room.resize(7);
        assert_eq!(room.free.available_permits(), 4);
        room.give_back(3);
        assert_eq!(room.free.available_permits(), 7);
    }

    #[test]
    fn a_larger_budget_pays_the_debt_first() {
        let room = Room::new(10);
        taken(&room, 10);
        room.resize(4);
        room.resize(11);
        assert_eq!(room.free.available_permits(), 1);
        room.give_back(10);
        room.resize(3);
        assert_eq!(room.free.available_permits(), 3);
    }
}
