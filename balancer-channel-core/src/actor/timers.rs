//! All timers of a channel, in one order, with one sleep.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    hash::BuildHasherDefault,
    task::Context,
};

use balancer_api::{TimerId, Timestamp};

use super::Actor;
use crate::{
    by_id::{IdHasher, shrink},
    env::{BoxFuture, Env},
    machine::{AttemptId, MachineTimer},
};

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum TimerKey {
    /// A timer of a policy.
    Policy { id: TimerId, instance: u64 },
    /// A timer of a SubConn.
    SubConn(u64, MachineTimer),
    /// An attempt to connect has run so long that it does not count any more.
    DialPermit(u64, AttemptId),
    /// A backend's health is asked again.
    Health(u64),
    /// It is looked whether there was an RPC.
    Idle,
    /// The policy that panicked is built again.
    Rebuild,
    /// The picker that panicked is asked again.
    Repick,
    /// The first READY picker was held long enough.
    WarmUp,
}

/// Timers by due time. Each key is armed at most once; arming it again moves it.
pub(super) struct Timers {
    /// Those that are armed, and some that were: most timers of a connection are disarmed long before
    /// they are due, and taking them out of an order costs more than passing over them.
    due: BinaryHeap<Reverse<(Timestamp, TimerKey)>>,
    armed: HashMap<TimerKey, Timestamp, BuildHasherDefault<IdHasher>>,
    sleep: Option<(Timestamp, BoxFuture<()>)>,
}

// === impl Timers ===

impl Timers {
    pub(super) fn new() -> Self {
        Self {
            due: BinaryHeap::new(),
            armed: HashMap::default(),
            sleep: None,
        }
    }

    pub(super) fn arm(&mut self, key: TimerKey, at: Timestamp) {
        if self.armed.insert(key, at) != Some(at) {
            self.due.push(Reverse((at, key)));
            self.tidy();
        }
    }

    pub(super) fn disarm(&mut self, key: TimerKey) -> bool {
        let armed = self.armed.remove(&key).is_some();
        self.tidy();
        armed
    }

    /// No more of the past than there is of the present, and a few; and no more room than that.
    fn tidy(&mut self) {
        if self.due.len() <= 64 + 2 * self.armed.len() {
            return;
        }
        let order = self.armed.iter().map(|(key, at)| Reverse((*at, *key)));
        self.due = order.collect();
        shrink(&mut self.armed);
    }

    pub(super) fn clear(&mut self) {
        self.due.clear();
        self.armed.clear();
        self.sleep = None;
    }

    /// The timer that is due first.
    fn first(&mut self) -> Option<(Timestamp, TimerKey)> {
        while let Some(Reverse((at, key))) = self.due.peek().copied() {
            if self.armed.get(&key) == Some(&at) {
                return Some((at, key));
            }
            self.due.pop();
        }
        None
    }

    /// Takes a timer that is due.
    pub(super) fn pop_due(&mut self, now: Timestamp) -> Option<TimerKey> {
        let (at, key) = self.first()?;
        if at > now {
            return None;
        }
        self.disarm(key);
        Some(key)
    }

    /// Whether a timer is due; if not, the task is woken when the next one is.
    pub(super) fn poll_due<E: Env>(&mut self, env: &E, cx: &mut Context<'_>) -> bool {
        loop {
            let Some((at, _)) = self.first() else {
                self.sleep = None;
                return false;
            };
            if at <= env.now() {
                return true;
            }
            match &mut self.sleep {
                Some((until, sleep)) if *until == at => {
                    if sleep.as_mut().poll(cx).is_pending() {
                        return false;
                    }
                    // Timers of a runtime are coarser than the clock and may end early: sleep again.
                    self.sleep = None;
                }
                _ => self.sleep = Some((at, env.sleep_until(at))),
            }
        }
    }
}

// === impl Actor: timers ===

impl<E: Env> Actor<E> {
    pub(super) fn fire(&mut self, key: TimerKey) {
        match key {
            TimerKey::Policy { id, instance } => self.policy_timer(id, instance),
            TimerKey::SubConn(id, timer) => self.drive(id, |machine, now, random, out| {
                machine.timer(timer, now, random, out);
            }),
            TimerKey::DialPermit(id, attempt) => self.release_permit(id, attempt),
            TimerKey::Health(id) => self.watch_health(id),
            TimerKey::Idle => self.look_for_rpcs(),
            TimerKey::Rebuild => self.rebuild_now(),
            TimerKey::Repick => self.repick(),
            TimerKey::WarmUp => self.end_warm_up(),
        }
    }
}
