//! Virtual time and scripted chance.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use balancer_api::{Source, Timestamp};

/// A clock that moves only when the script says so, and the random numbers that a policy is given.
///
/// Shared by the ClientConn, by picks and by the ends of RPCs. Numbers come from a queue that the
/// script may fill, and otherwise from the seed; without a seed they are all zero, so that a story
/// starts at the first backend.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    nanos: AtomicU64,
    /// State of a SplitMix64 generator; meaningful when `seeded`.
    random: AtomicU64,
    seeded: AtomicBool,
    /// Whether `scripted` holds something, so that the usual case takes no lock.
    has_scripted: AtomicBool,
    scripted: Mutex<VecDeque<u64>>,
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// One output of SplitMix64 for the state `z`.
pub(crate) const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

// === impl Clock ===

impl Clock {
    pub(crate) fn new(seed: Option<u64>) -> Self {
        let clock = Self::default();
        clock.seed(seed);
        clock
    }

    pub(crate) fn seed(&self, seed: Option<u64>) {
        self.seeded.store(seed.is_some(), Relaxed);
        self.random.store(seed.unwrap_or(0), Relaxed);
    }

    pub(crate) fn script_random(&self, values: impl IntoIterator<Item = u64>) {
        let mut scripted = self.scripted.lock().unwrap_or_else(PoisonError::into_inner);
        scripted.extend(values);
        self.has_scripted.store(!scripted.is_empty(), Relaxed);
    }

    pub(crate) fn advance_to(&self, at: Timestamp) {
        self.nanos.fetch_max(at.as_nanos(), Relaxed);
    }

    pub(crate) fn after(&self, duration: Duration) -> Timestamp {
        self.now() + duration
    }
}

impl Source for Clock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.nanos.load(Relaxed))
    }

    fn random(&self) -> u64 {
        if self.has_scripted.load(Relaxed) {
            let mut scripted = self.scripted.lock().unwrap_or_else(PoisonError::into_inner);
            let next = scripted.pop_front();
            self.has_scripted.store(!scripted.is_empty(), Relaxed);
            if let Some(value) = next {
                return value;
            }
        }
        if self.seeded.load(Relaxed) {
            mix(self.random.fetch_add(GOLDEN, Relaxed).wrapping_add(GOLDEN))
        } else {
            0
        }
    }
}
