//! The picker: one turn, one index, one SubConn.

use std::{
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use balancer_api::{
    Pick, PickError, PickOptions, Picker, SubConn,
    base::{ReadySet, ReadySubConn},
};

/// Turns over one set of READY SubConns.
///
/// All pickers of a channel draw from one counter, and each has its own `origin`: the turn at which
/// its first SubConn would have been next. What counts is the distance from there. It starts below
/// the size of the set and grows by one per pick, so the counter may wrap where it likes: a glitch
/// would need 2^64 picks of *one* picker, which at a billion per second are 584 years.
pub(crate) struct RoundRobinPicker {
    /// In the resolver's order.
    ready: ReadySet,
    /// The length of `ready`: the division needs no check for zero.
    count: NonZeroU64,
    /// Shared with the pickers before and after, so that no turn is handed out twice while one
    /// replaces the other.
    turns: Arc<AtomicU64>,
    origin: u64,
}

/// How often a retry whose turn falls on a backend that it tried already draws again. Each draw
/// takes the turn from somebody else, so not for ever.
const REDRAWS: usize = 2;

/// How many backends that are gone are passed over, in a new list, to find one that is still there.
/// Each costs a walk through the list.
const SUCCESSORS: u64 = 16;

// === impl RoundRobinPicker ===

impl RoundRobinPicker {
    /// A picker that gives the turn `now` to the SubConn at `start`, and goes on from there.
    /// `None` for an empty set.
    pub(crate) fn new(
        ready: ReadySet,
        turns: Arc<AtomicU64>,
        now: u64,
        start: u64,
    ) -> Option<Self> {
        Some(Self {
            count: NonZeroU64::new(ready.len() as u64)?,
            ready,
            turns,
            origin: now.wrapping_sub(start),
        })
    }

    /// Where in `ready` the SubConn stands that would be next here, at the turn `now`; if it is
    /// gone, the one after it. With the same resolver result as here, that is found by rank.
    pub(crate) fn next_by_rank(&self, now: u64, ready: &ReadySet) -> Option<u64> {
        let rank = self.at(now)?.rank();
        let (mut low, mut high) = (0, ready.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if ready.get(middle)?.rank() < rank {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        // Past the last one it is the first one's turn.
        Some(low as u64 % NonZeroU64::new(ready.len() as u64)?)
    }

    /// The same when another result has numbered the backends anew: by identity, and not for ever.
    pub(crate) fn next_by_identity(&self, now: u64, ready: &ReadySet) -> Option<u64> {
        (0..self.count.get().min(SUCCESSORS)).find_map(|skipped| {
            let next = self.at(now.wrapping_add(skipped))?.sub_conn();
            let at = ready.iter().position(|entry| entry.sub_conn() == next)?;
            Some(at as u64)
        })
    }

    #[inline]
    fn at(&self, turn: u64) -> Option<&ReadySubConn> {
        let index = turn.wrapping_sub(self.origin) % self.count;
        self.ready.get(index as usize)
    }

    #[inline]
    fn draw(&self) -> Option<&SubConn> {
        // Relaxed: a turn has to be handed out once; it publishes nothing else.
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        self.at(turn).map(ReadySubConn::sub_conn)
    }

    #[cold]
    fn draw_untried(&self, tried: &[SubConn]) -> Option<&SubConn> {
        let mut chosen = self.draw();
        for _ in 0..REDRAWS {
            match chosen {
                Some(sub_conn) if tried.contains(sub_conn) => chosen = self.draw(),
                _ => break,
            }
        }
        chosen
    }
}

impl Picker for RoundRobinPicker {
    fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let chosen = match options.tried() {
            [] => self.draw(),
            tried => self.draw_untried(tried),
        };
        match chosen {
            Some(sub_conn) => Ok(Pick::new(sub_conn)),
            None => Err(PickError::NoSubConnAvailable),
        }
    }
}
