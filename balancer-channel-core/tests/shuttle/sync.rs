//! What `src/sync.rs` is in the library, made of `shuttle`'s types.

use std::ops::Deref;

pub(crate) use std::sync::{Arc, OnceLock};

pub(crate) use shuttle::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};

/// An atomic pointer, modelled by a mutex.
pub(crate) struct Swap<T>(Mutex<Option<Arc<T>>>);

/// What was read from a [`Swap`].
pub(crate) struct SwapGuard<T>(Option<Arc<T>>);

impl<T> Swap<T> {
    pub(crate) fn empty() -> Self {
        Self(Mutex::new(None))
    }

    pub(crate) fn load(&self) -> SwapGuard<T> {
        SwapGuard(lock(&self.0).clone())
    }

    pub(crate) fn swap(&self, new: Option<Arc<T>>) -> Option<Arc<T>> {
        std::mem::replace(&mut lock(&self.0), new)
    }
}

impl<T> Deref for SwapGuard<T> {
    type Target = Option<Arc<T>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// All tasks share one thread here: their own names tell them apart.
pub(crate) fn this_thread() -> u64 {
    usize::from(shuttle::current::me()) as u64 + 1
}
