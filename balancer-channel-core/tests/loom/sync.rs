//! What `src/sync.rs` is in the library, made of `loom`'s types.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    ops::Deref,
};

pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
};
// `loom`'s own holds no `dyn`.
pub(crate) use std::sync::Arc;

/// A value that is set once. The mutex makes each access a step of its own: one that `loom` did not
/// see would happen together with the step before, and other orders would not be explored.
pub(crate) struct OnceLock<T> {
    step: Mutex<()>,
    value: std::sync::OnceLock<T>,
}

/// An atomic pointer, modelled by a mutex.
pub(crate) struct Swap<T>(Arc<Mutex<Option<Arc<T>>>>);

/// What was read from a [`Swap`].
pub(crate) struct SwapGuard<T> {
    value: Option<Arc<T>>,
    of: Arc<Mutex<Option<Arc<T>>>>,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        Self {
            step: Mutex::new(()),
            value: std::sync::OnceLock::new(),
        }
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        drop(lock(&self.step));
        self.value.set(value)
    }

    pub(crate) fn get(&self) -> Option<&T> {
        drop(lock(&self.step));
        self.value.get()
    }
}

impl<T> Swap<T> {
    pub(crate) fn empty() -> Self {
        Self(Arc::new(Mutex::new(None)))
    }

    pub(crate) fn load(&self) -> SwapGuard<T> {
        SwapGuard {
            value: lock(&self.0).clone(),
            of: self.0.clone(),
        }
    }

    pub(crate) fn swap(&self, new: Option<Arc<T>>) -> Option<Arc<T>> {
        std::mem::replace(&mut lock(&self.0), new)
    }
}

impl<T> Deref for SwapGuard<T> {
    type Target = Option<Arc<T>>;

    fn deref(&self) -> &Self::Target {
        &self.value
    }
}

impl<T> Drop for SwapGuard<T> {
    fn drop(&mut self) {
        // `loom` does not see the counts of the standard `Arc`: this makes the end of a reader a
        // step of its own.
        drop(lock(&self.of));
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no model panics under a lock")
}

/// Threads of a model share one of the operating system's: their own names tell them apart.
pub(crate) fn this_thread() -> u64 {
    let mut hasher = DefaultHasher::new();
    loom::thread::current().id().hash(&mut hasher);
    hasher.finish().max(1)
}
