//! The picker: one turn, one index, one SubConn.

use std::{num::NonZeroU64, sync::Arc};

use balancer_api::{
    Pick, PickError, PickOptions, Picker, SubConn,
    base::{ReadySet, ReadySubConn},
};

use crate::{cycle::Cycle, turns::Turns};

/// Turns over one set of READY SubConns.
///
/// All pickers of a channel draw from one counter, and each has its own `origin`: the turn at which
/// its first SubConn would have been next. What counts is the distance from there. It starts below
/// the size of the set and grows by one per pick, so the counter may wrap where it likes: a glitch
/// would need 2^64 picks of *one* picker, which at a billion per second are 584 years.
pub(crate) struct RoundRobinPicker {
    /// In the resolver's order.
    ready: ReadySet,
    /// Of as many places as `ready` has.
    cycle: Cycle,
    /// Shared with the pickers before and after, so that no turn is handed out twice while one
    /// replaces the other.
    turns: Arc<Turns>,
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
    pub(crate) fn new(ready: ReadySet, turns: Arc<Turns>, now: u64, start: u64) -> Option<Self> {
        Some(Self {
            cycle: Cycle::new(ready.len())?,
            ready,
            turns,
            origin: now.wrapping_sub(start),
        })
    }

    /// Where in `ready` the SubConn stands that would be next here, at the turn `now`; if it is
    /// gone, the one after it. With the same resolver result as here, that is found by rank.
    pub(crate) fn next_by_rank(&self, now: u64, ready: &ReadySet) -> Option<u64> {
        let next = ready.index_of_rank(self.at(now)?.rank()) as u64;
        // Past the last one it is the first one's turn.
        Some(next % NonZeroU64::new(ready.len() as u64)?)
    }

    /// The same when another result has numbered the backends anew: by identity, and not for ever.
    pub(crate) fn next_by_identity(&self, now: u64, ready: &ReadySet) -> Option<u64> {
        (0..self.cycle.length().min(SUCCESSORS)).find_map(|skipped| {
            let next = self.at(now.wrapping_add(skipped))?.sub_conn();
            let at = ready.iter().position(|entry| entry.sub_conn() == next)?;
            Some(at as u64)
        })
    }

    #[inline]
    fn at(&self, turn: u64) -> Option<&ReadySubConn> {
        self.ready.get(self.index(turn))
    }

    #[inline]
    fn index(&self, turn: u64) -> usize {
        let place = self.cycle.place(turn.wrapping_sub(self.origin));
        place as usize
    }

    /// The SubConn whose turn it is, and that turn is over.
    #[inline]
    fn draw(&self) -> Option<&ReadySubConn> {
        self.at(self.turns.draw())
    }

    /// What a pick is while some are not READY.
    #[inline(never)]
    fn pick_of_some(&self) -> Result<Pick<'_>, PickError> {
        picked(self.draw())
    }

    /// What it is for a retry.
    #[inline(never)]
    fn pick_untried(&self, tried: &[SubConn]) -> Result<Pick<'_>, PickError> {
        let mut chosen = self.draw();
        for _ in 0..REDRAWS {
            match chosen {
                Some(entry) if tried.contains(entry.sub_conn()) => chosen = self.draw(),
                _ => break,
            }
        }
        picked(chosen)
    }
}

#[inline]
fn picked(entry: Option<&ReadySubConn>) -> Result<Pick<'_>, PickError> {
    match entry {
        Some(entry) => Ok(Pick::new(entry.sub_conn())),
        None => Err(PickError::NoSubConnAvailable),
    }
}

impl Picker for RoundRobinPicker {
    fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        // The first attempt while all are READY is apart: without a call in it, it needs no stack.
        match (options.tried(), self.ready.whole()) {
            ([], Some(whole)) => picked(whole.get(self.index(self.turns.draw()))),
            ([], None) => self.pick_of_some(),
            (tried, _) => self.pick_untried(tried),
        }
    }
}
