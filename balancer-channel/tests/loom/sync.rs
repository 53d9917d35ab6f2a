//! What `src/sync.rs` is in the library, made of `loom`'s types.

pub(crate) use std::sync::PoisonError;

pub(crate) use loom::sync::{Mutex, MutexGuard, atomic::Ordering::SeqCst};

use loom::sync::atomic::Ordering;

/// `loom` knows no total order of sequentially consistent accesses: its atomics are weaker than the
/// language's. Behind a mutex each access is one step of an interleaving, which is what sequentially
/// consistent means.
#[derive(Debug)]
pub(crate) struct AtomicUsize(Mutex<usize>);

impl AtomicUsize {
    pub(crate) fn new(value: usize) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn load(&self, order: Ordering) -> usize {
        *self.value(order)
    }

    pub(crate) fn store(&self, value: usize, order: Ordering) {
        *self.value(order) = value;
    }

    pub(crate) fn fetch_add(&self, more: usize, order: Ordering) -> usize {
        let mut value = self.value(order);
        let before = *value;
        *value = before.wrapping_add(more);
        before
    }

    pub(crate) fn fetch_sub(&self, less: usize, order: Ordering) -> usize {
        self.fetch_add(less.wrapping_neg(), order)
    }

    pub(crate) fn compare_exchange_weak(
        &self,
        current: usize,
        new: usize,
        order: Ordering,
        _: Ordering,
    ) -> Result<usize, usize> {
        let mut value = self.value(order);
        if *value != current {
            return Err(*value);
        }
        *value = new;
        Ok(current)
    }

    fn value(&self, order: Ordering) -> MutexGuard<'_, usize> {
        assert_eq!(
            order, SeqCst,
            "only what is sequentially consistent is modelled"
        );
        self.0.lock().expect("no model panics under a lock")
    }
}
