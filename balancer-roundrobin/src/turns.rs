//! The counter that every pick draws from.

use std::sync::atomic::{AtomicU64, Ordering};

/// Hands each turn out once, on lines of the cache to itself: every pick writes here, and should not
/// take from other threads what they only read. Two lines, since processors fetch them in pairs.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Turns(AtomicU64);

// === impl Turns ===

impl Turns {
    /// The next turn. The counter may wrap.
    #[inline]
    pub(crate) fn draw(&self) -> u64 {
        // Relaxed: a turn has to be handed out once; it publishes nothing else.
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    /// The turn that comes next, if nobody draws it meanwhile.
    pub(crate) fn next(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Goes on with `turn`.
    pub(crate) fn set_next(&self, turn: u64) {
        self.0.store(turn, Ordering::Relaxed);
    }
}
