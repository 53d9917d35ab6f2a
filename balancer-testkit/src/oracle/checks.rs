//! What is checked after a settle.

use std::{mem, sync::Arc, time::Duration};

use balancer_api::{ConnectivityState as State, Endpoint, Picker};

use super::{Backend, Oracle, Probe, Resolved, probe};
use crate::{
    Law, SubId, World,
    conn::{Due, Inner, Item},
    profile::Spread,
};

/// A policy that has set a timer this near is about to do something: what it has published may lag
/// behind until then.
const SOON: Duration = Duration::from_secs(1);

/// How many of the pickers that were replaced are kept and called.
const OLD_PICKERS: usize = 3;

/// The state of affairs at a settle.
struct Now {
    state: Option<State>,
    picker: Option<Arc<dyn Picker>>,
    /// Nothing is about to change what is published.
    quiet: bool,
    /// Timers or calls that may yet bring something about.
    waits_for_other: bool,
    timers: usize,
    calls: usize,
    call_on_gone: Option<String>,
    ready: usize,
    /// On the way and never failed.
    hopeful: usize,
    /// As `hopeful`, and told of some state already.
    hopeful_known: usize,
    /// On the way, failed before or not.
    moving: usize,
    /// IDLE, and nobody asked.
    resting: usize,
    failing: usize,
}

impl Oracle {
    pub(super) fn check(&mut self, world: &World) {
        let shared = world.shared.clone();
        let mut backends = mem::take(&mut self.backends);
        let now = {
            let inner = shared.lock();
            self.look_at(&inner, world, &mut backends)
        };
        if self.closed {
            self.check_old_pickers(world);
        } else {
            self.check_connections(world, &now, &backends);
            self.check_resolver(world, &now, &backends);
            self.check_cost(world, &now, &backends);
            self.check_published(world, &now, &backends);
            self.keep_picker(&now, &backends);
        }
        self.backends = backends;
    }

    fn look_at(&mut self, inner: &Inner, world: &World, backends: &mut Vec<Backend>) -> Now {
        backends.clear();
        for id in &inner.live {
            let sub = &inner.subs[id.index()];
            let known = self.known(*id);
            if sub.lookaside {
                continue;
            }
            let forced = inner
                .queue
                .iter()
                .any(|item| matches!(item, Item::Forced(of, _) if of == id));
            let leaving = forced
                || sub
                    .connected
                    .as_ref()
                    .is_some_and(|at| !sub.addresses.contains(at));
            backends.push(Backend {
                id: *id,
                told: known.told,
                failed: known.failed,
                asked: sub.asked || forced,
                leaving,
                has_addresses: !sub.addresses.is_empty(),
            });
        }
        let soon = world.now() + SOON;
        let about_to_act = inner.wake_pending
            || inner
                .due
                .iter()
                .any(|(at, due)| *at <= soon && matches!(due, Due::Timer(_)));
        let timers = inner
            .due
            .iter()
            .filter(|(_, due)| matches!(due, Due::Timer(_)))
            .count();
        let call_on_gone = inner.calls.iter().find_map(|call| {
            let sub = call.sub?;
            let gone = self.subs.get(sub.index()).is_some_and(|known| known.gone);
            gone.then(|| inner.subs[sub.index()].name.to_string())
        });
        let count = |test: &dyn Fn(&Backend) -> bool| backends.iter().filter(|b| test(b)).count();
        Now {
            state: inner.published.as_ref().map(|(state, _)| *state),
            picker: inner.published.as_ref().map(|(_, picker)| picker.clone()),
            quiet: !about_to_act,
            waits_for_other: timers > 0 || !inner.calls.is_empty(),
            timers,
            calls: inner.calls.len(),
            call_on_gone,
            ready: count(&Backend::is_ready),
            hopeful: count(&|b| b.is_moving() && !b.failed),
            hopeful_known: count(&|b| b.is_moving() && !b.failed && b.told.is_some()),
            moving: count(&Backend::is_moving),
            resting: count(&|b| b.is_resting()),
            failing: count(&|b| b.told == Some(State::TransientFailure)),
        }
    }

    // --- connections ---

    fn check_connections(&mut self, world: &World, now: &Now, backends: &[Backend]) {
        let name = |id: SubId| world.shared.name_of(id);
        if !self.profile.lazy && !self.profile.sticks_to_one() && now.quiet {
            let resting = backends.iter().find(|b| b.is_resting() && b.has_addresses);
            if let Some(backend) = resting {
                let id = backend.id;
                if backend.told.is_none() {
                    self.broke(Law::NewIsConnected, || {
                        format!("{} is new and was not told to connect", name(id))
                    });
                } else {
                    self.broke(Law::IdleIsConnected, || {
                        format!("{} is IDLE and was not told to connect", name(id))
                    });
                }
            }
        } else if now.state == Some(State::TransientFailure)
            && now.resting > 0
            && now.resting == backends.len()
            && now.quiet
        {
            let id = backends[0].id;
            self.broke(Law::IdleIsConnected, || {
                format!(
                    "{} is IDLE, was not told to connect, and the policy reports failure",
                    name(id)
                )
            });
        }
        let changed = self.run.created > 0
            || self.run.removed > 0
            || self.run.gone
            || self.run.readdressed > 0
            || matches!(self.run.resolved, Some(Resolved::List { .. }));
        if changed && now.quiet {
            self.check_endpoints(world, backends);
        }
        // In a run of many callbacks another list may have come between.
        let removed_ready = mem::take(&mut self.run.removed_ready);
        let alone = self.run.callbacks == 1 && !self.profile.composite;
        for (id, addresses, was_endpoint) in removed_ready.into_iter().filter(|_| alone) {
            let set = Endpoint::new(addresses.iter().cloned());
            let mut listed = self.wanted.iter().any(|(want, _)| *want == set);
            // One SubConn may hold the addresses of many endpoints.
            if self.profile.sticks_to_one() && !was_endpoint {
                let inner = world.shared.lock();
                let connected = inner.subs[id.index()].connected.as_ref();
                listed = connected.is_some_and(|at| {
                    let mut wanted = self.wanted.iter();
                    wanted.any(|(want, _)| want.addresses().contains(at))
                });
            }
            if listed {
                self.broke(Law::ListedIsKept, || {
                    format!("{} is READY and still listed, and was removed", name(id))
                });
            }
        }
        if self.run.strangers > 0 && self.run.strangers == self.run.callbacks {
            let asked = self.run.created + self.run.removed + self.run.readdressed;
            if asked + self.run.connects.len() > 0 || self.published != self.published_before {
                self.broke(Law::StrangersIgnored, || {
                    "news of SubConns that are not the policy's made it act".to_owned()
                });
            }
        }
    }

    fn check_endpoints(&mut self, world: &World, backends: &[Backend]) {
        let inner = world.shared.lock();
        if self.profile.sticks_to_one() {
            let stray = backends.iter().find_map(|b| {
                let sub = &inner.subs[b.id.index()];
                let gone = sub.addresses.iter().find(|address| {
                    !self
                        .wanted
                        .iter()
                        .any(|(want, _)| want.addresses().contains(address))
                });
                gone.map(|address| (sub.name.clone(), address.clone()))
            });
            if let Some((name, address)) = stray {
                self.broke(Law::GoneIsRemoved, || {
                    format!("{name} still has the address {address}, which is not listed any more")
                });
            }
            let twice = backends.iter().find_map(|b| {
                let sub = &inner.subs[b.id.index()];
                let set = Endpoint::new(sub.addresses.iter().cloned());
                let same = backends.iter().filter(|other| {
                    let addresses = &inner.subs[other.id.index()].addresses;
                    Endpoint::new(addresses.iter().cloned()) == set
                });
                let wanted = self.wanted.iter().find(|(want, _)| *want == set);
                let fine = wanted.map_or(1, |(_, count)| *count);
                (same.count() > fine).then(|| sub.name.clone())
            });
            if let Some(name) = twice {
                self.broke(Law::OnePerEndpoint, || {
                    format!("more than one SubConn has the addresses {name}")
                });
            }
            return;
        }
        // How many SubConns each wanted set has; and those that nobody wants.
        let mut have = vec![0usize; self.wanted.len()];
        let mut stray = None;
        let index: Option<std::collections::HashMap<&Endpoint, usize>> = (self.wanted.len() > 16)
            .then(|| {
                let wanted = self.wanted.iter().enumerate();
                wanted.map(|(at, (set, _))| (set, at)).collect()
            });
        for backend in backends {
            let sub = &inner.subs[backend.id.index()];
            let at = match &index {
                Some(index) => index
                    .get(&Endpoint::new(sub.addresses.iter().cloned()))
                    .copied(),
                None => self.wanted.iter().position(|(set, _)| {
                    set.addresses().len() == sub.addresses.len()
                        && (*set.addresses() == *sub.addresses
                            || sub.addresses.iter().all(|a| set.addresses().contains(a)))
                }),
            };
            match at {
                Some(at) => have[at] += 1,
                None => stray = Some(sub.name.clone()),
            }
        }
        drop(inner);
        if let Some(name) = stray {
            self.broke(Law::GoneIsRemoved, || {
                format!("{name} lives though its endpoint is not listed")
            });
        }
        let few_are_fine = self.refused || self.profile.selective;
        let many_are_fine = self.profile.composite;
        let wrong = self.wanted.iter().zip(&have).find(|((_, want), have)| {
            (**have > *want && !many_are_fine) || (**have < *want && !few_are_fine)
        });
        if let Some(((set, want), have)) = wrong {
            let message = format!("{set} has {have} SubConns, and should have {want}");
            self.broke(Law::OnePerEndpoint, || message);
        }
    }

    // --- the resolver ---

    fn check_resolver(&mut self, world: &World, now: &Now, backends: &[Backend]) {
        if let Some((id, state)) = self.run.resolve_due
            && !self.run.resolve_asked
        {
            self.broke(Law::ResolveNowAsked, || {
                format!(
                    "{} is {state}, and the resolver was not asked to look again",
                    world.shared.name_of(id)
                )
            });
        }
        let alone = self.run.callbacks == 1;
        match self.run.resolved.take() {
            None => {}
            Some(Resolved::Error(text)) if alone && now.quiet => {
                self.check_error(world, now, backends, &text);
            }
            Some(Resolved::Error(_)) => {}
            Some(Resolved::List { endpoints, .. }) if endpoints.is_empty() => {
                if self.run.rejected == Some(false) {
                    self.broke(Law::EmptyListFails, || {
                        "an empty list was accepted".to_owned()
                    });
                }
                if !alone || !now.quiet {
                    return;
                }
                if let Some(backend) = backends.first() {
                    let name = world.shared.name_of(backend.id);
                    self.broke(Law::EmptyListFails, || {
                        format!("the list is empty and {name} lives")
                    });
                }
                if now.state != Some(State::TransientFailure) {
                    let state = shown(now.state);
                    self.broke(Law::EmptyListFails, || {
                        format!("the list is empty and the state is {state}")
                    });
                }
                if let Some(picker) = &now.picker
                    && probe(&world.shared, &**picker).failure().is_none()
                {
                    self.broke(Law::EmptyListFails, || {
                        "the list is empty and RPCs do not fail".to_owned()
                    });
                }
            }
            Some(Resolved::List { same, .. }) => {
                if self.run.rejected == Some(true) && !self.run.refused {
                    self.broke(Law::GoodListAccepted, || {
                        "a list with endpoints was rejected".to_owned()
                    });
                }
                if same && alone {
                    let run = &self.run;
                    let acted = [
                        ("makes SubConns", run.created),
                        ("removes SubConns", run.removed),
                        ("gives SubConns other addresses", run.readdressed),
                        // A lazy policy may do now what an RPC has asked for.
                        (
                            "connects",
                            if self.profile.lazy {
                                0
                            } else {
                                run.connects.len()
                            },
                        ),
                    ];
                    if let Some((what, _)) = acted.iter().find(|(_, times)| *times > 0) {
                        self.broke(Law::SameListIsNoop, || {
                            format!("the same list came again, and it {what}")
                        });
                    }
                }
            }
        }
    }

    fn check_error(&mut self, world: &World, now: &Now, backends: &[Backend], text: &str) {
        if self.list.is_some() {
            let run = &self.run;
            if run.created + run.removed + run.readdressed > 0 {
                self.broke(Law::ErrorKeepsList, || {
                    "after a resolver error the SubConns changed".to_owned()
                });
            }
            if self.published_before.is_some() && now.state != self.published_before {
                let (before, after) = (shown(self.published_before), shown(now.state));
                self.broke(Law::ErrorKeepsList, || {
                    format!("a resolver error took the state from {before} to {after}")
                });
            }
        } else if backends.is_empty() && now.state != Some(State::TransientFailure) {
            let state = shown(now.state);
            self.broke(Law::FirstErrorFails, || {
                format!("the resolver failed, there is no SubConn, and the state is {state}")
            });
        }
        if now.state == Some(State::TransientFailure)
            && let Some(picker) = &now.picker
        {
            let outcome = probe(&world.shared, &**picker);
            if !outcome.failure().is_some_and(|shown| shown.contains(text)) {
                let law = if self.list.is_some() || self.published_before.is_some() {
                    Law::ErrorIsShown
                } else {
                    Law::FirstErrorFails
                };
                self.broke(law, || {
                    format!("the resolver failed with `{text}`, and a pick says {outcome:?}")
                });
            }
        }
    }

    // --- cost ---

    fn check_cost(&mut self, world: &World, now: &Now, backends: &[Backend]) {
        let (publishes, callbacks) = (self.run.publishes, self.run.callbacks);
        if publishes > callbacks + 1 {
            self.broke(Law::PublishesBounded, || {
                format!("{publishes} publications after {callbacks} callbacks")
            });
        }
        let bound = 2 + 2 * backends.len();
        if now.timers > bound || now.calls > bound {
            let (timers, calls, count) = (now.timers, now.calls, backends.len());
            self.broke(Law::NoPileUp, || {
                format!("{timers} timers and {calls} calls for {count} SubConns")
            });
        }
        if let Some(name) = &now.call_on_gone
            && now.quiet
            && world.shared.lock().queue.is_empty()
        {
            let name = name.clone();
            self.broke(Law::NoPileUp, || {
                format!("a call is open on {name}, which is gone")
            });
        }
    }

    // --- state and picker ---

    fn check_published(&mut self, world: &World, now: &Now, backends: &[Backend]) {
        let (Some(state), Some(picker)) = (now.state, now.picker.clone()) else {
            if self.answered && now.quiet {
                self.broke(Law::FirstAnswerPublishes, || {
                    "the resolver has answered, and nothing was published".to_owned()
                });
            }
            return;
        };
        if now.quiet {
            self.check_all_tried(state);
            self.check_state(now, backends, state);
        }
        // Asking a lazy policy's idle picker is what makes it connect.
        let asks = !(self.profile.lazy && state == State::Idle);
        if asks {
            self.check_picks(world, now, backends, state, &*picker);
        }
        self.check_old_pickers(world);
    }

    /// READY backends may be unused for a reason that only the policy knows.
    fn may_hold_back(&self) -> bool {
        self.profile.selective || self.uses_calls
    }

    /// Whether failing is right though something never failed is on the way: what is new does not
    /// count until it has moved, and a policy that sticks to one starts a new pass in failure.
    fn may_still_fail(&self, now: &Now) -> bool {
        let failed_before = self.published_before == Some(State::TransientFailure);
        if self.profile.sticks_to_one() {
            // In a run of many callbacks it may have failed without a word.
            let failed_within = self.run.failed && self.run.callbacks > 1;
            self.list.is_some() && (failed_within || (self.failed_as_a_whole && failed_before))
        } else {
            failed_before && now.hopeful_known == 0
        }
    }

    /// A policy that sticks to one tries every address before it gives up.
    fn check_all_tried(&mut self, state: State) {
        let gives_up = state == State::TransientFailure
            && self.published_before != Some(State::TransientFailure)
            && self.run.failed
            && self.run.callbacks == 1;
        if !gives_up || self.refused || !self.profile.sticks_to_one() {
            return;
        }
        let mut listed = self.wanted.iter().flat_map(|(set, _)| set.addresses());
        let untried = listed.find(|address| !self.failed_addresses.contains(address));
        if let Some(address) = untried.cloned() {
            self.broke(Law::FailOnlyWhenDead, || {
                format!("{address} was not tried, and TRANSIENT_FAILURE was published")
            });
        }
    }

    fn check_state(&mut self, now: &Now, backends: &[Backend], state: State) {
        let is = |states: &[State]| states.contains(&state);
        let tell = |what: &str| format!("{what}, and {state} was published");
        if now.ready > 0 {
            if !is(&[State::Ready]) && !self.may_hold_back() {
                self.broke(Law::StateMatchesSubConns, || tell("a SubConn is READY"));
            }
        } else if backends.iter().any(|b| b.leaving) {
            // On its way from a connection to another.
        } else if backends.is_empty() {
            if self.answered && self.list.is_none() && !is(&[State::TransientFailure]) {
                self.broke(Law::StateMatchesSubConns, || tell("there is no SubConn"));
            }
            if is(&[State::Ready]) {
                self.broke(Law::StateMatchesSubConns, || tell("there is no SubConn"));
            }
        } else if is(&[State::Ready]) {
            self.broke(Law::StateMatchesSubConns, || tell("no SubConn is READY"));
        } else if now.hopeful > 0 {
            if is(&[State::TransientFailure]) && !self.may_still_fail(now) {
                self.broke(Law::StateMatchesSubConns, || {
                    tell("a SubConn that has not failed is on its way")
                });
            }
        } else if backends.iter().all(|b| b.failed) && !is(&[State::TransientFailure]) {
            if now.failing == backends.len() {
                self.broke(Law::StateMatchesSubConns, || {
                    tell("every SubConn is in TRANSIENT_FAILURE")
                });
            } else if self.profile.sticky {
                self.broke(Law::StickyFailure, || {
                    tell("every SubConn has failed and none was READY since")
                });
            }
        } else if is(&[State::Connecting]) && now.moving == 0 && !now.waits_for_other {
            self.broke(Law::StateMatchesSubConns, || tell("nothing is on its way"));
        }
    }

    fn check_picks(
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
        let mut picked: Vec<SubId> = Vec::new();
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
        if picked.len() < count || !now.quiet {
            return;
        }
        if self.profile.sticks_to_one() && picked.iter().any(|id| *id != picked[0]) {
            self.broke(Law::ReadyIsPicked, || {
                "picks of a policy that sticks to one went to two SubConns".to_owned()
            });
        }
        if cycle && !self.may_hold_back() {
            let times = |backend: &Backend| picked.iter().filter(|id| **id == backend.id).count();
            let mut ready = backends.iter().filter(|b| b.is_ready());
            let missed = ready.clone().find(|b| times(b) == 0);
            if let Some(backend) = missed {
                let name = world.shared.name_of(backend.id);
                self.broke(Law::ReadyIsPicked, || {
                    format!("{name} is READY and not one of {count} picks got it")
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
                self.check_message(now, backends, outcome);
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

    fn check_message(&mut self, now: &Now, backends: &[Backend], outcome: &Probe) {
        let Some(text) = outcome.failure() else {
            return;
        };
        // Only where a connection's failure is the reason.
        let Some(newest) = self.newest_error.clone() else {
            return;
        };
        if backends.is_empty() || now.failing == 0 || self.refused {
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

    fn keep_picker(&mut self, now: &Now, backends: &[Backend]) {
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
        if self.old.len() == OLD_PICKERS {
            self.old.remove(0);
        }
        let ready = backends.iter().filter(|b| b.told == Some(State::Ready));
        self.old
            .push((picker.clone(), ready.map(|b| b.id).collect()));
    }

    fn check_old_pickers(&mut self, world: &World) {
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

fn shown(state: Option<State>) -> String {
    state.map_or_else(|| "nothing".to_owned(), |state| state.to_string())
}

// === impl Backend ===

impl Backend {
    fn is_ready(&self) -> bool {
        self.told == Some(State::Ready) && !self.leaving
    }

    /// CONNECTING, asked to connect, or on its way to another address.
    fn is_moving(&self) -> bool {
        match self.told {
            None | Some(State::Idle) => self.asked,
            Some(State::Connecting) => true,
            Some(State::Ready) => self.leaving,
            Some(State::TransientFailure) => self.asked,
            Some(State::Shutdown) => false,
        }
    }

    /// IDLE, and nobody asked it to connect.
    fn is_resting(&self) -> bool {
        matches!(self.told, None | Some(State::Idle)) && !self.asked
    }
}
