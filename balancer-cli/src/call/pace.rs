//! Keeps RPCs to a rate.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Hands out the times at which RPCs may start, evenly spaced.
#[derive(Debug)]
pub(crate) struct Pace {
    interval: Duration,
    next: Mutex<Instant>,
}

/// Who is late by more does not catch up: after a stall the servers would get a burst.
const MOST_LATE: Duration = Duration::from_millis(100);

// === impl Pace ===

impl Pace {
    /// So many per second; `rate` is above zero.
    pub(crate) fn new(rate: f64) -> Self {
        Self {
            interval: Duration::from_secs_f64(1.0 / rate),
            next: Mutex::new(Instant::now()),
        }
    }

    /// When the next RPC may start.
    pub(crate) fn turn(&self, now: Instant) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(MOST_LATE).unwrap_or(now);
        let turn = (*next).max(earliest);
        *next = turn + self.interval;
        turn
    }
}
