//! Locks and atomics of what models check, behind one door so that they can put their own in place.
//!
//! `tests/loom` compiles `transport/admission.rs`, `line.rs` and `rouse.rs` against its own version of this module.

pub(crate) use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread_local,
};
