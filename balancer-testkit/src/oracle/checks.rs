//! What is checked after a settle.

use std::{mem, sync::Arc, time::Duration};

use balancer_api::{Address, ConnectivityState as State, Endpoint, Picker};

use super::{Backend, Oracle, Resolved, probe};
use crate::{
    Law, SubId, World,
    conn::{Due, Inner, Item},
    profile::Division,
};

/// A policy that has set a timer this near is about to do something: what it has published may lag
/// behind until then.
const SOON: Duration = Duration::from_secs(1);

/// The state of affairs at a settle.
#[derive(Default)]
pub(super) struct Now {
    pub(super) state: Option<State>,
    pub(super) picker: Option<Arc<dyn Picker>>,
    /// Nothing is about to change what is published.
    pub(super) quiet: bool,
    /// Timers or calls that may yet bring something about.
    pub(super) waits_for_other: bool,
    pub(super) timers: usize,
    pub(super) calls: usize,
    pub(super) call_on_gone: Option<String>,
    pub(super) ready: usize,
    /// On the way and never failed.
    pub(super) hopeful: usize,
    /// As `hopeful`, and told of some state already.
    pub(super) hopeful_known: usize,
    /// On the way, failed before or not.
    pub(super) moving: usize,
    /// IDLE, and nobody asked.
    pub(super) resting: usize,
    pub(super) failing: usize,
}

impl Oracle {
    pub(super) fn check(&mut self, world: &World, now: Now) {
        let backends = mem::take(&mut self.backends);
        if self.closed {
            self.check_old_pickers(world);
        } else {
            self.check_connections(world, &now, &backends);
            self.check_resolver(world, &now, &backends);
            self.check_cost(world, &now, &backends);
            self.check_published(world, &now, &backends);
            let ready = backends.iter().filter(|b| b.told == Some(State::Ready));
            self.keep_picker(&now, ready.map(|b| b.id));
        }
        self.backends = backends;
    }

    pub(super) fn look_at(&mut self, inner: &Inner, world: &World) -> Now {
        let mut backends = mem::take(&mut self.backends);
        backends.clear();
        if self.keeps_up_only {
            self.backends = backends;
            let published = inner.published.as_ref().filter(|_| self.run.publishes > 0);
            return Now {
                state: published.map(|(state, _)| *state),
                picker: published.map(|(_, picker)| picker.clone()),
                ..Now::default()
            };
        }
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
        let mut now = Now {
            state: inner.published.as_ref().map(|(state, _)| *state),
            picker: inner.published.as_ref().map(|(_, picker)| picker.clone()),
            quiet: !about_to_act,
            waits_for_other: timers > 0 || !inner.calls.is_empty(),
            timers,
            calls: inner.calls.len(),
            call_on_gone,
            ready: 0,
            hopeful: 0,
            hopeful_known: 0,
            moving: 0,
            resting: 0,
            failing: 0,
        };
        for backend in &backends {
            let hopeful = backend.is_moving() && !backend.failed;
            now.ready += usize::from(backend.is_ready());
            now.hopeful += usize::from(hopeful);
            now.hopeful_known += usize::from(hopeful && backend.told.is_some());
            now.moving += usize::from(backend.is_moving());
            now.resting += usize::from(backend.is_resting());
            now.failing += usize::from(backend.told == Some(State::TransientFailure));
        }
        self.backends = backends;
        now
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
        let alone = self.run.callbacks == 1;
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
            // Another may be chosen for another list.
            let chosen =
                self.may_choose_others(now) && !self.is_remade(world, &addresses, backends);
            if listed
                && !chosen
                && !self.was_incomplete
                && !self.has_moved(world, &addresses, backends)
                && !self.was_of_another_kind(world, &set, backends)
            {
                self.broke(Law::ListedIsKept, || {
                    format!("{} is READY and still listed, and was removed", name(id))
                });
            }
        }
        self.check_backoff(world, backends);
        if self.run.strangers > 0 && self.run.strangers == self.run.callbacks {
            let asked = self.run.created + self.run.removed + self.run.readdressed;
            if asked + self.run.connects.len() > 0 || self.published != self.published_before {
                self.broke(Law::StrangersIgnored, || {
                    "news of SubConns that are not the policy's made it act".to_owned()
                });
            }
        }
    }

    /// Whether a listed endpoint may lose its READY SubConn because others are preferred now.
    fn may_choose_others(&self, now: &Now) -> bool {
        // Who stands by is let go when what is preferred can serve, and not before.
        self.profile.subsets || (self.profile.fails_over.is_some() && now.ready > 0)
    }

    /// Whether an endpoint that lost its SubConn has a new one: it went from one child to another.
    fn has_moved(&self, world: &World, addresses: &[Address], backends: &[Backend]) -> bool {
        if self.profile.division == Division::None {
            return false;
        }
        self.is_remade(world, addresses, backends)
    }

    /// Whether there is a new SubConn for the same addresses.
    fn is_remade(&self, world: &World, addresses: &[Address], backends: &[Backend]) -> bool {
        let inner = world.shared.lock();
        let mut fresh = backends.iter().filter(|b| self.is_new(b));
        fresh.any(|b| inner.subs[b.id.index()].addresses[..] == *addresses)
    }

    /// A SubConn that just failed and was removed, and a new one for its addresses.
    fn check_backoff(&mut self, world: &World, backends: &[Backend]) {
        if self.run.refused_by.is_empty() || self.run.created == 0 || self.run.resolved.is_some() {
            return;
        }
        let inner = world.shared.lock();
        let replaced = self.run.refused_by.iter().find(|id| {
            let failed = &inner.subs[id.index()];
            let same = |b: &&Backend| inner.subs[b.id.index()].addresses == failed.addresses;
            failed.removed && backends.iter().filter(|b| self.is_new(b)).any(|b| same(&b))
        });
        let name = replaced.map(|id| inner.subs[id.index()].name.clone());
        drop(inner);
        if let Some(name) = name {
            self.broke(Law::BackoffIsKept, || {
                format!("{name} failed and was replaced at once by another of its addresses")
            });
        }
    }

    /// Whether it was made since the last settle.
    fn is_new(&self, backend: &Backend) -> bool {
        self.run
            .first_created
            .is_some_and(|first| backend.id >= first)
    }

    /// Whether the endpoints at these addresses that stayed have their SubConns all the same, so that
    /// the removed one was for an endpoint with other attributes.
    fn was_of_another_kind(&self, world: &World, set: &Endpoint, backends: &[Backend]) -> bool {
        let (Some(list), Some(before)) = (&self.list, &self.list_before) else {
            return false;
        };
        let at = |endpoint: &&Endpoint| are_same(endpoint.addresses(), set.addresses());
        let mut stayed: Vec<&Endpoint> = Vec::new();
        for endpoint in list.iter().filter(at) {
            if before.contains(endpoint) && !stayed.contains(&endpoint) {
                stayed.push(endpoint);
            }
        }
        let inner = world.shared.lock();
        let kept = backends.iter().filter(|b| {
            let addresses = &inner.subs[b.id.index()].addresses;
            !self.is_new(b) && are_same(addresses, set.addresses())
        });
        kept.count() >= stayed.len()
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
                let same = backends.iter().filter(|other| {
                    let addresses = &inner.subs[other.id.index()].addresses;
                    are_same(addresses, &sub.addresses)
                });
                let same = same.count();
                if same == 1 {
                    return None;
                }
                let mut wanted = self.wanted.iter();
                let wanted = wanted.find(|(want, _)| are_same(want.addresses(), &sub.addresses));
                let fine = wanted.map_or(1, |(_, count)| *count);
                (same > fine).then(|| sub.name.clone())
            });
            if let Some(name) = twice {
                self.broke(Law::OnePerEndpoint, || {
                    format!("more than one SubConn has the addresses {name}")
                });
            }
            let repeated = backends.iter().find_map(|b| {
                let sub = &inner.subs[b.id.index()];
                let mut rest = sub.addresses.iter().enumerate();
                let again = rest.find(|(at, a)| sub.addresses[..*at].contains(a));
                again.map(|(_, address)| address.clone())
            });
            if let Some(address) = repeated {
                self.broke(Law::OnePerEndpoint, || {
                    format!("a SubConn has the address {address} twice")
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
        // Those that were refused may be missing, and no others.
        let missing = self.wanted.iter().zip(&have);
        let missing: usize = missing
            .map(|((_, want), have)| want.saturating_sub(*have))
            .sum();
        let few_are_fine = missing <= self.refusals || self.profile.may_skip_endpoints();
        let many_are_fine = self.profile.division == Division::Shared;
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
        let (Some(state), Some(picker)) = (now.state, &now.picker) else {
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
            self.check_picks(world, now, backends, state, &**picker);
        }
        self.check_old_pickers(world);
    }

    /// READY backends may be unused for a reason that only the policy knows.
    pub(super) fn may_hold_back(&self) -> bool {
        self.profile.may_hold_all || self.uses_calls
    }

    /// Whether failing is right though something never failed is on the way: what is new does not
    /// count until it has moved, and a policy that sticks to one starts a new pass in failure.
    pub(super) fn may_still_fail(&self, now: &Now) -> bool {
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
}

/// Whether these are the same addresses, whatever their order, as two endpoints would be the same.
fn are_same(these: &[Address], those: &[Address]) -> bool {
    these == those
        || (these.iter().all(|address| those.contains(address))
            && those.iter().all(|address| these.contains(address)))
}

fn shown(state: Option<State>) -> String {
    state.map_or_else(|| "nothing".to_owned(), |state| state.to_string())
}

// === impl Backend ===

impl Backend {
    pub(super) fn is_ready(&self) -> bool {
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
