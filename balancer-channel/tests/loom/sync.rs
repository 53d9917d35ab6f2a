//! What `src/sync.rs` is in the library, made of `loom`'s types.

pub(crate) use std::sync::PoisonError;

pub(crate) use loom::sync::{Mutex, MutexGuard, atomic::Ordering::SeqCst};

use loom::sync::atomic::Ordering;

/// `loom`'s own does not know what is constant.
macro_rules! of_a_thread {
    ($(#[$attr:meta])* static $name:ident: $type:ty = const { $value:expr };) => {
        loom::thread_local! {
            $(#[$attr])*
            static $name: $type = $value;
        }
    };
}
pub(crate) use of_a_thread as thread_local;

/// `loom` knows no total order of sequentially consistent accesses: its atomics are weaker than the
/// language's. Behind a mutex each access is one step of an interleaving, which is what sequentially
/// consistent means.
#[derive(Debug)]
pub(crate) struct AtomicUsize(Mutex<usize>);

/// The same of a flag.
#[derive(Debug)]
pub(crate) struct AtomicBool(Mutex<bool>);

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

impl AtomicBool {
    pub(crate) fn new(value: bool) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn load(&self, order: Ordering) -> bool {
        *self.value(order)
    }

    pub(crate) fn store(&self, value: bool, order: Ordering) {
        *self.value(order) = value;
    }

    pub(crate) fn swap(&self, value: bool, order: Ordering) -> bool {
        std::mem::replace(&mut *self.value(order), value)
    }

    fn value(&self, order: Ordering) -> MutexGuard<'_, bool> {
        assert_eq!(
            order, SeqCst,
            "only what is sequentially consistent is modelled"
        );
        self.0.lock().expect("no model panics under a lock")
    }
}
