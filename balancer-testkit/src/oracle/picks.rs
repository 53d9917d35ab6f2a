//! What picks of the published picker, and of those before it, come to.

use std::{mem, sync::Arc};

use balancer_api::{ConnectivityState as State, Picker};

use super::{Backend, Oracle, Probe, checks::Now, probe};
use crate::{Law, SubId, World, profile::Spread};

/// How many of the pickers that were replaced are kept and called.
const OLD_PICKERS: usize = 3;

impl Oracle {
    pub(super) fn check_picks(
        &mut self,
        world: &World,
        now: &Now,
        backends: &[Backend],
        state: State,
        picker: &dyn Picker,
    ) {
        let cycle = self.profile.spread == Spread::Exact && now.ready <= 8;
        let count = match self.profile.spread {
            Spread::Exact if cycle => 2 * now.ready.max(1),
            Spread::Sticks => 2,
            _ => now.ready.clamp(2, 8),
        };
        let mut picked = mem::take(&mut self.picked);
        picked.clear();
        for _ in 0..count {
            let outcome = probe(&world.shared, picker);
            if let Some(id) = outcome.sub() {
                picked.push(id);
            }
            self.check_pick(world, now, backends, state, &outcome);
            if self.broken {
                return;
            }
        }
        if picked.len() == count && now.quiet {
            self.check_picked(world, backends, cycle, &picked);
        }
        self.picked = picked;
    }

    /// Where the picks went, taken together.
    fn check_picked(&mut self, world: &World, backends: &[Backend], cycle: bool, picked: &[SubId]) {
        if self.profile.sticks_to_one() && picked.iter().any(|id| *id != picked[0]) {
            self.broke(Law::ReadyIsPicked, || {
                "picks of a policy that sticks to one went to two SubConns".to_owned()
            });
        }
        if cycle && !self.may_hold_back() && !self.profile.selective {
            let times = |backend: &Backend| picked.iter().filter(|id| **id == backend.id).count();
            let mut ready = backends.iter().filter(|b| b.is_ready());
            let missed = ready.clone().find(|b| times(b) == 0);
            if let Some(backend) = missed {
                let name = world.shared.name_of(backend.id);
                self.broke(Law::ReadyIsPicked, || {
                    format!(
                        "{name} is READY and not one of {} picks got it",
                        picked.len()
                    )
                });
            }
            if let Some(backend) = ready.find(|b| times(b) != 2) {
                let (name, times) = (world.shared.name_of(backend.id), times(backend));
                self.broke(Law::ExactCycles, || {
                    format!("{name} was picked {times} times in two cycles")
                });
            }
        }
    }

    fn check_pick(
        &mut self,
        world: &World,
        now: &Now,
        backends: &[Backend],
        state: State,
        outcome: &Probe,
    ) {
        let name = |id: SubId| world.shared.name_of(id);
        match outcome {
            Probe::Panicked(message) => {
                self.broke(Law::NoPanic, || format!("a pick panicked: {message}"));
            }
            Probe::Stranger => self.broke(Law::PickIsOurs, || {
                "a SubConn of another channel was picked".to_owned()
            }),
            Probe::Drop if self.profile.drops => return,
            Probe::Drop => self.broke(Law::DropsOnlyByPlan, || "an RPC was dropped".to_owned()),
            Probe::Sub(id) => match backends.iter().find(|b| b.id == *id) {
                None => self.broke(Law::PickIsLive, || {
                    format!("{} was picked, and it was removed", name(*id))
                }),
                Some(backend) => {
                    let told = backend.told.unwrap_or(State::Idle);
                    let idle_is_fine = self.profile.page_lazy && told == State::Idle;
                    if told != State::Ready && !idle_is_fine {
                        self.broke(Law::PickIsReady, || {
                            format!("{} was picked, and it is {told}", name(*id))
                        });
                    }
                }
            },
            _ if !now.quiet => {}
            Probe::Queue => {
                if now.ready > 0 && !self.may_hold_back() && !now.waits_for_other {
                    self.broke(Law::ReadyIsPicked, || {
                        "a SubConn is READY and an RPC is kept waiting".to_owned()
                    });
                } else if now.ready == 0 && !backends.is_empty() {
                    let all_failed = backends.iter().all(|b| b.failed);
                    if now.failing == backends.len() || (all_failed && self.profile.sticky) {
                        let law = if now.failing == backends.len() {
                            Law::DeadFailsFast
                        } else {
                            Law::StickyFailure
                        };
                        self.broke(law, || {
                            "every SubConn has failed and an RPC is kept waiting".to_owned()
                        });
                    } else if now.moving == 0
                        && !now.waits_for_other
                        && !backends.iter().any(|b| b.leaving)
                    {
                        self.broke(Law::QueueNeedsProgress, || {
                            "nothing is on its way and an RPC is kept waiting".to_owned()
                        });
                    }
                } else if backends.is_empty() && self.answered && !now.waits_for_other {
                    self.broke(Law::QueueNeedsProgress, || {
                        "there is no SubConn and an RPC is kept waiting".to_owned()
                    });
                }
            }
            Probe::Fail(_) | Probe::Failed(_) => {
                if now.ready > 0 && !self.may_hold_back() {
                    self.broke(Law::FailOnlyWhenDead, || {
                        "a SubConn is READY and an RPC fails".to_owned()
                    });
                } else if now.ready == 0 && now.hopeful > 0 && !self.may_still_fail(now) {
                    self.broke(Law::FailOnlyWhenDead, || {
                        "a SubConn that has not failed is on its way and an RPC fails".to_owned()
                    });
                }
                self.check_message(backends, outcome);
            }
        }
        if now.quiet {
            let agrees = match (state, outcome) {
                (State::Ready, Probe::Sub(_)) => true,
                // READY is a promise: a policy that still waits for a timer has to say CONNECTING.
                (State::Ready, Probe::Queue) => self.may_hold_back(),
                (State::Connecting | State::Idle, Probe::Queue) => true,
                (State::Idle, Probe::Sub(_)) => self.profile.page_lazy,
                (State::TransientFailure, Probe::Fail(_) | Probe::Failed(_)) => true,
                _ => false,
            };
            if !agrees {
                self.broke(Law::StateMatchesPicker, || {
                    format!("{state} was published with a picker that says {outcome:?}")
                });
            }
        }
    }

    fn check_message(&mut self, backends: &[Backend], outcome: &Probe) {
        let Some(text) = outcome.failure() else {
            return;
        };
        // Only where a connection's failure is the reason.
        let Some(newest) = self.newest_error.clone() else {
            return;
        };
        let failed = |b: &Backend| b.failed || b.told == Some(State::TransientFailure);
        if !backends.iter().any(failed) || self.refused {
            return;
        }
        let shows = |error: &Arc<str>| text.contains(&**error);
        let fine = shows(&newest)
            || (self.profile.spread != Spread::Sticks
                && (self.resolver_error.as_ref().is_some_and(shows)
                    // One of many may be shown, as long as it is the newest of its own SubConn.
                    || self.subs.iter().any(|sub| sub.error.as_ref().is_some_and(shows))));
        if !fine {
            let text = text.to_owned();
            self.broke(Law::FailureShowsError, || {
                format!("the last error was `{newest}`, and a pick fails with `{text}`")
            });
        }
    }

    // --- old pickers ---

    pub(super) fn keep_picker(&mut self, now: &Now, ready: impl Iterator<Item = SubId>) {
        let (Some(picker), Some(state)) = (&now.picker, now.state) else {
            return;
        };
        let lazy_idle = self.profile.lazy && state == State::Idle;
        if lazy_idle
            || self.run.publishes == 0
            || !(self.laws.has(Law::OldPickersCallable) || self.laws.has(Law::PickersAreSnapshots))
        {
            return;
        }
        let mut ids = Vec::new();
        if self.old.len() == OLD_PICKERS {
            (_, ids) = self.old.remove(0);
            ids.clear();
        }
        ids.extend(ready);
        self.old.push((picker.clone(), ids));
    }

    pub(super) fn check_old_pickers(&mut self, world: &World) {
        let old = mem::take(&mut self.old);
        // All of them once the policy is closed; until then the oldest is enough.
        let count = if self.closed { old.len() } else { 1 };
        for (picker, ready) in old.iter().take(count) {
            match probe(&world.shared, &**picker) {
                Probe::Panicked(message) => self.broke(Law::OldPickersCallable, || {
                    format!("a picker that was replaced panicked: {message}")
                }),
                Probe::Sub(id) if !ready.contains(&id) && !self.profile.page_lazy => {
                    let name = world.shared.name_of(id);
                    self.broke(Law::PickersAreSnapshots, || {
                        format!("an old picker picked {name}, which was not READY at its time")
                    });
                }
                _ => {}
            }
        }
        self.old = old;
    }
}
