//! Policies: which one, how it is called, how the next takes its place.

use std::sync::Arc;

use balancer_api::{
    Balancer, BuildOptions, ConnectivityState as State, Endpoint, FailingPicker, LbConfig,
    NoChildren, ParseContext, PickError, Picker, QueuePicker, ResolveError, ResolvedAddrs, Status,
    SubConnState,
};
use balancer_testkit::witness::Resolved;

use super::{Fault, Published, Reference, conn::Conn, lock};

/// A policy at work.
pub(super) struct Instance {
    id: u64,
    name: String,
    balancer: Box<dyn Balancer>,
    state: State,
    picker: Arc<dyn Picker>,
}

/// The policy while no service config says otherwise.
const DEFAULT: &str = "first";

/// The service config names no policy that can be used.
struct Invalid;

// === impl Reference: callbacks ===

impl Reference {
    fn instances(&mut self) -> impl Iterator<Item = &mut Instance> {
        let Self {
            current,
            pending,
            ghosts,
            ..
        } = self;
        current.iter_mut().chain(pending).chain(ghosts)
    }

    /// Calls a policy, if it is there.
    pub(super) fn callback(&mut self, policy: u64, call: impl FnOnce(&mut dyn Balancer)) {
        let instance = self.instances().find(|instance| instance.id == policy);
        if let Some(instance) = instance {
            call(&mut *instance.balancer);
            self.run += 1;
        }
    }

    pub(super) fn settle(&mut self) {
        self.run = 0;
        for instance in self.current.iter_mut().chain(&mut self.pending) {
            instance.balancer.settle();
        }
    }

    pub(super) fn wake(&mut self, policy: u64) {
        self.callback(policy, |_| {});
    }

    pub(super) fn deliver_state(&mut self, id: u64, state: State) {
        let news = self.is(Fault::NewsAfterShutdown);
        let Some(sub) = self.subs.get(&id) else {
            return;
        };
        if sub.removed && state != State::Shutdown && !news {
            return;
        }
        let (owner, handle) = (sub.policy, sub.handle.clone());
        let refused = Status::unavailable("connection refused");
        let mut told = SubConnState::new(state);
        if state == State::TransientFailure {
            told = told.with_error(&refused);
        }
        let newest = self.pending.as_ref().map(|pending| pending.id);
        let everybody = self.is(Fault::EverybodyHears);
        if self.is(Fault::OldHearsNothing) && newest.is_some_and(|newest| newest != owner) {
            return;
        }
        let hearers: Vec<u64> = self
            .instances()
            .map(|instance| instance.id)
            .filter(|id| *id == owner || everybody)
            .collect();
        for hearer in hearers {
            self.callback(hearer, |balancer| {
                balancer.handle_sub_conn_state_change(&handle, &told);
            });
        }
    }
}

// === impl Reference: resolver results ===

impl Reference {
    pub(super) fn resolved(&mut self, answer: Result<Resolved, String>) {
        if self.closed {
            return;
        }
        let found = match answer {
            Ok(found) => found,
            Err(message) => {
                self.ensure(DEFAULT, self.current.is_none());
                if !self.is(Fault::ErrorSwallowed) {
                    self.deliver_error(&message);
                }
                return;
            }
        };
        if self.is(Fault::EqualListSwallowed) && self.found.as_ref() == Some(&found) {
            return;
        }
        if self.is(Fault::EmptyListSwallowed) && found.addresses.is_empty() {
            return;
        }
        self.found = Some(found.clone());
        match self.choose(&found) {
            Ok(chosen) => {
                let rebuild = self.is(Fault::AlwaysRebuilds)
                    && self.chosen.as_ref().is_some_and(|before| {
                        before.0 == chosen.0 && before.1 != chosen.1 && before.1.is_some()
                    });
                self.chosen = Some(chosen.clone());
                if rebuild && self.pending.is_none() {
                    self.build(&chosen.0);
                }
                self.ensure(&chosen.0, !rebuild);
                self.deliver_list(&found);
            }
            Err(Invalid) if self.chosen.is_none() => {
                if !self.is(Fault::BadFirstWaits) {
                    let failed =
                        PickError::drop(Status::unavailable("the service config is invalid"));
                    let picker = Arc::new(FailingPicker::new(failed));
                    self.put("none", State::TransientFailure, picker);
                }
            }
            Err(Invalid) if self.is(Fault::BadConfigEatsAddresses) => {}
            Err(Invalid) => self.deliver_list(&found),
        }
    }

    /// The first known policy decides.
    fn choose(&self, found: &Resolved) -> Result<(String, Option<String>), Invalid> {
        let Some(list) = &found.policies else {
            let before = self.chosen.clone();
            return Ok(before.unwrap_or_else(|| (DEFAULT.to_owned(), None)));
        };
        let mut list: Vec<_> = list.iter().collect();
        if self.is(Fault::LastEntry) {
            list.reverse();
        }
        for (name, json) in list {
            let known = self.policies.iter().find(|policy| policy.name() == name);
            let Some(known) = known else { continue };
            let mut cx = ParseContext::new(&NoChildren, 0);
            match known.parse_config(json, &mut cx) {
                Ok(_) => return Ok((name.clone(), Some(json.clone()))),
                Err(_) if self.is(Fault::SecondEntry) => {}
                Err(_) => return Err(Invalid),
            }
        }
        Err(Invalid)
    }

    fn config(&self) -> Option<LbConfig> {
        let (name, json) = self.chosen.as_ref()?;
        let known = self.policies.iter().find(|policy| policy.name() == name)?;
        let mut cx = ParseContext::new(&NoChildren, 0);
        known.parse_config(json.as_ref()?, &mut cx).ok()
    }

    fn newest(&self) -> Option<u64> {
        let newest = self.pending.as_ref().or(self.current.as_ref());
        newest.map(|instance| instance.id)
    }

    /// Who hears what the resolver says.
    fn hearers(&self, errors: bool) -> Vec<u64> {
        let current = self.current.as_ref().map(|instance| instance.id);
        let newest = self.newest();
        match self.fault {
            Fault::BothHear => {
                let mut both: Vec<u64> = current.into_iter().chain(newest).collect();
                both.dedup();
                both
            }
            Fault::OldHearsErrors if errors => current.into_iter().collect(),
            _ => newest.into_iter().collect(),
        }
    }

    fn deliver_list(&mut self, found: &Resolved) {
        if self.is(Fault::ListConnects) {
            let all: Vec<u64> = self.subs.keys().copied().collect();
            all.into_iter().for_each(|sub| self.connect(sub));
        }
        let endpoints = found.addresses.iter().map(|addr| Endpoint::from(&**addr));
        let resolved = ResolvedAddrs::new(endpoints).with_config(self.config());
        for hearer in self.hearers(false) {
            let resolved = resolved.clone();
            self.callback(hearer, |balancer| {
                // A resolver that a test moves by hand is not asked again.
                let _ = balancer.handle_resolved_addrs(Ok(resolved));
            });
        }
    }

    fn deliver_error(&mut self, message: &str) {
        for hearer in self.hearers(true) {
            let error = ResolveError::new(message);
            self.callback(hearer, |balancer| {
                let _ = balancer.handle_resolved_addrs(Err(error));
            });
        }
    }
}

// === impl Reference: from one policy to the next ===

impl Reference {
    /// Sees to it that the newest policy is of that name.
    fn ensure(&mut self, name: &str, wanted: bool) {
        let is = |instance: &Option<Instance>| instance.as_ref().is_some_and(|i| i.name == name);
        if !wanted || is(&self.pending) {
            return;
        }
        if is(&self.current) {
            let back = self.pending.is_some();
            self.give_up_pending();
            if back && self.is(Fault::BackRebuilds) {
                self.build(name);
            }
            return;
        }
        self.give_up_pending();
        self.build(name);
    }

    fn give_up_pending(&mut self) {
        if let Some(pending) = self.pending.take() {
            if self.is(Fault::PendingLeaks) {
                self.ghosts.push(pending);
            } else {
                self.close_instance(pending);
            }
        }
    }

    fn build(&mut self, name: &str) {
        let Some(builder) = self.policies.iter().find(|policy| policy.name() == name) else {
            return;
        };
        let id = self.shared.id();
        let conn = Conn {
            shared: self.shared.clone(),
            policy: id,
        };
        let queued = lock(&self.shared.queue).len();
        let options = BuildOptions::new("reference:///backends");
        let balancer = builder.build(Arc::new(conn), options);
        if self.is(Fault::DeafDuringBuild) {
            lock(&self.shared.queue).truncate(queued);
            lock(&self.shared.timers).retain(|_, timer| timer.policy != id);
        }
        let instance = Instance {
            id,
            name: name.to_owned(),
            balancer,
            state: State::Connecting,
            picker: Arc::new(QueuePicker),
        };
        match &mut self.current {
            None => self.current = Some(instance),
            Some(_) => self.pending = Some(instance),
        }
        self.run += 1;
    }

    pub(super) fn publish(&mut self, policy: u64, state: State, picker: Arc<dyn Picker>) {
        if state == State::Shutdown && !self.is(Fault::ShutdownBelieved) {
            return;
        }
        if self.is_over(policy) {
            if self.is(Fault::GhostPublishes) && !self.closed {
                self.put("ghost", state, picker);
            }
            return;
        }
        let instances = self.current.iter_mut().chain(&mut self.pending);
        for instance in instances.filter(|instance| instance.id == policy) {
            instance.state = state;
            instance.picker = picker.clone();
        }
        let Some(current) = &self.current else {
            return;
        };
        let (of_current, outage) = (current.id == policy, current.state != State::Ready);
        let name = current.name.clone();
        if let Some(pending) = &self.pending {
            let says = match self.fault {
                Fault::SwitchesBlindly => true,
                Fault::SwitchWaitsForReady => pending.state == State::Ready,
                _ => pending.state != State::Connecting,
            };
            if says && pending.id == policy || outage && !self.is(Fault::OldOutageKept) {
                self.switch();
                return;
            }
        }
        if of_current {
            self.put(&name, state, picker);
        }
    }

    fn switch(&mut self) {
        let Some(next) = self.pending.take() else {
            return;
        };
        let (name, state, picker) = (next.name.clone(), next.state, next.picker.clone());
        let old = self.current.replace(next);
        if self.is(Fault::ClosesFirst) {
            old.into_iter().for_each(|old| self.close_instance(old));
            self.put(&name, state, picker);
        } else {
            self.put(&name, state, picker);
            old.into_iter().for_each(|old| self.close_instance(old));
        }
    }

    /// State and picker become the channel's.
    fn put(&mut self, policy: &str, state: State, picker: Arc<dyn Picker>) {
        let same = *lock(&self.shared.state) == state;
        let before = self.published.as_ref().map_or(0, |it| it.generation);
        let sleeps = self.is(Fault::SameStateSleeps) && same && before > 0;
        let published = Published {
            generation: if sleeps { before } else { before + 1 },
            policy: policy.to_owned(),
            picker,
        };
        if self.is(Fault::StateFirst) {
            *lock(&self.shared.state) = state;
            self.drive_rpcs();
        }
        self.published = Some(published);
        if self.is(Fault::PickerFirst) {
            self.drive_rpcs();
        }
        *lock(&self.shared.state) = state;
    }

    fn close_instance(&mut self, mut instance: Instance) {
        let policy = instance.id;
        lock(&self.shared.over).insert(policy);
        instance.balancer.close();
        if self.is(Fault::NewsAfterClose) {
            instance.balancer.settle();
        }
        self.drop_subs_of(policy);
        self.drop_calls_of(policy);
        if self.is(Fault::TimerAfterSwitch) && !self.closed {
            self.ghosts.push(instance);
        } else {
            lock(&self.shared.timers).retain(|_, timer| timer.policy != policy);
        }
    }

    pub(super) fn close_policies(&mut self) {
        let both = [self.pending.take(), self.current.take()];
        for instance in both.into_iter().flatten() {
            self.close_instance(instance);
        }
    }
}
