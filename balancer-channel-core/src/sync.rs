//! Locks, atomics and the atomic pointer, behind one door so that models can put their own in place.
//!
//! `tests/loom` compiles `picker_cell.rs` against its own version of this module, made of `loom`'s
//! types, with [`Swap`] as a mutex: what it proves is our protocol, not `arc-swap`.

pub(crate) use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

use arc_swap::{ArcSwapOption, Guard};

/// An `Option<Arc<T>>` that is read without a lock.
pub(crate) struct Swap<T>(ArcSwapOption<T>);

/// What was read from a [`Swap`].
pub(crate) type SwapGuard<T> = Guard<Option<Arc<T>>>;

// === impl Swap ===

impl<T> Swap<T> {
    pub(crate) fn empty() -> Self {
        Self(ArcSwapOption::empty())
    }

    #[inline]
    pub(crate) fn load(&self) -> SwapGuard<T> {
        self.0.load()
    }

    pub(crate) fn swap(&self, new: Option<Arc<T>>) -> Option<Arc<T>> {
        self.0.swap(new)
    }
}

/// Locks, whatever became of the last holder. Every critical section of this crate leaves its data
/// consistent at each point where foreign code could panic.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names threads without asking the operating system; never 0.
pub(crate) fn this_thread() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local!(static ID: u64 = NEXT.fetch_add(1, Ordering::Relaxed));
    // During a thread's destruction it has no name any more, and runs no callback either.
    ID.try_with(|id| *id).unwrap_or(u64::MAX)
}
