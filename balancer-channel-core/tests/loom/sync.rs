//! What `src/sync.rs` is in the library, made of `loom`'s types.

use std::ops::Deref;

pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};
// Written once, before the atomics that tell of it; and `loom`'s own Arc holds no `dyn`.
pub(crate) use std::sync::{Arc, OnceLock};

/// An atomic pointer, modelled by a mutex.
pub(crate) struct Swap<T>(Mutex<Option<Arc<T>>>);

/// What was read from a [`Swap`].
pub(crate) type SwapGuard<T> = Loaded<T>;

pub(crate) struct Loaded<T>(Option<Arc<T>>);

impl<T> Swap<T> {
    pub(crate) fn empty() -> Self {
        Self(Mutex::new(None))
    }

    pub(crate) fn load(&self) -> Loaded<T> {
        Loaded(lock(&self.0).clone())
    }

    pub(crate) fn swap(&self, new: Option<Arc<T>>) -> Option<Arc<T>> {
        std::mem::replace(&mut lock(&self.0), new)
    }
}

impl<T> Deref for Loaded<T> {
    type Target = Option<Arc<T>>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no model panics under a lock")
}
