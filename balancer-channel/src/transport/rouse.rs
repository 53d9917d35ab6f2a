//! Wakes a connection's driver for what `h2` would not wake it for.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    task::Waker,
};

/// The driver's waker. It stays when it is used, so that it is written down once: the driver is polled
/// several times for each RPC, and woken by this hardly ever.
#[derive(Debug, Default)]
pub(super) struct Rouse(
    /// A leaf; the waker is called outside of it.
    Mutex<Option<Waker>>,
);

// === impl Rouse ===

impl Rouse {
    /// Wakes the driver. What it is to see must be there before.
    pub(super) fn wake(&self) {
        let waker = self.waker().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// For the driver, each time that it is polled, before it looks for what it may have been woken for.
    /// `last` is what it was polled with the last time.
    #[inline]
    pub(super) fn register(&self, last: &mut Option<Waker>, waker: &Waker) {
        if !last.as_ref().is_some_and(|last| last.will_wake(waker)) {
            *last = Some(waker.clone());
            let before = self.waker().replace(waker.clone());
            // Dropping a waker may drop a task.
            drop(before);
        }
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
