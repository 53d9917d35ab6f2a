//! The policy at work, the one that is to follow it, and what happens when one panics.
//!
//! A switch is graceful: the new policy is built beside the old one, which serves on until the new
//! one has something better to say than CONNECTING, or until the old one is not READY anyway.

use std::time::Duration;

use balancer_api::{
    BuildOptions, CallEvent, CallId, Child, ChildConfig, ChildEvent, Code,
    ConnectivityState as State, FailingPicker, Handled, PickError, Picker, QueuePicker,
    ResolveError, ResolvedAddrs, Status, SubConnState, TimerId, Timestamp,
};

use super::{Actor, TimerKey, WarmUp, sub_conns::Delivery};
use crate::{
    backoff::Backoff,
    conn::RootConn,
    contain::{contain, discard},
    env::Env,
    picker_cell::Published,
    queue::Verdict,
    sub_conn::SubConnCell,
    sync::{Arc, AtomicBool, AtomicU32, Ordering, lock},
};

/// A policy that was built.
pub(super) struct Instance {
    pub(super) id: u64,
    name: Arc<str>,
    /// `None` while it is being built; and once it has panicked: a stand-in that fails RPCs until
    /// the policy is built again.
    child: Option<Child>,
    closed: Arc<AtomicBool>,
    /// What it last reported; CONNECTING before it has reported anything.
    state: State,
    picker: Arc<dyn Picker>,
    /// States that were passed on the way, for those who watch.
    passed: Vec<State>,
    /// Whether `state` and `picker` are still to be published.
    unpublished: bool,
}

/// When a policy that panicked may be built again.
#[derive(Default)]
pub(super) struct Rebuild {
    panics: u32,
    /// Since when nothing has panicked: the last panic, or the building again that followed it.
    calm_since: Option<Timestamp>,
    pending: bool,
}

/// When a picker that panicked too often is asked again.
#[derive(Default)]
pub(super) struct Repick {
    /// What is published in its place.
    stand_in: Option<Arc<dyn Picker>>,
    failures: u32,
    /// Since when it is asked again.
    since: Option<Timestamp>,
}

/// Which of the two policies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Current,
    Pending,
}

/// So long without a panic, and the next one starts with the shortest wait again.
const CALM: Duration = Duration::from_secs(10);

/// No callback of a policy takes so long, unless it waits for something or has lost its way.
const SLOW: Duration = Duration::from_millis(100);

impl Repick {
    fn wait(&mut self, backoff: &Backoff, now: Timestamp, env: &impl Env) -> Duration {
        if self.since.is_some_and(|since| now - since >= CALM) {
            self.failures = 0;
        }
        let wait = backoff.jittered(self.failures, env.random());
        self.failures = self.failures.saturating_add(1);
        wait
    }
}

impl<E: Env> Actor<E> {
    /// The policy that resolver results go to.
    pub(super) fn newest(&self) -> Option<&Instance> {
        self.pending.as_ref().or(self.current.as_ref())
    }

    fn newest_role(&self) -> Option<Role> {
        match (&self.pending, &self.current) {
            (Some(_), _) => Some(Role::Pending),
            (None, Some(_)) => Some(Role::Current),
            (None, None) => None,
        }
    }

    fn instance(&mut self, role: Role) -> Option<&mut Instance> {
        match role {
            Role::Current => self.current.as_mut(),
            Role::Pending => self.pending.as_mut(),
        }
    }

    /// Whether the policy of this number is at work: neither replaced nor closed nor panicked.
    pub(super) fn is_alive(&self, instance: u64) -> bool {
        let instances = [&self.current, &self.pending];
        let found = instances.into_iter().flatten().find(|it| it.id == instance);
        found.is_some_and(|it| !it.closed.load(Ordering::Relaxed))
    }

    fn chosen(&self) -> Option<ChildConfig> {
        let fixed = self.shared.settings.fixed_policy.as_ref();
        fixed
            .or(self.config.as_ref().map(|config| &config.policy))
            .cloned()
    }

    /// Sees to it that the newest policy is the one that the config names.
    pub(super) fn choose_policy(&mut self) {
        let Some(chosen) = self.chosen() else { return };
        let name = chosen.name();
        if self
            .current
            .as_ref()
            .is_some_and(|current| *current.name == *name)
        {
            // Back to the one that still serves: the one that was to follow it is given up.
            if let Some(pending) = self.pending.take() {
                self.close_instance(pending);
            }
        } else if self
            .pending
            .as_ref()
            .is_none_or(|pending| *pending.name != *name)
        {
            if let Some(pending) = self.pending.take() {
                self.close_instance(pending);
            }
            self.rebuild = Rebuild::default();
            self.timers.disarm(TimerKey::Rebuild);
            // A policy that has panicked serves nobody: it is replaced, not followed.
            if let Some(dead) = self.current.take_if(|current| current.child.is_none()) {
                discard(dead);
            }
            let role = if self.current.is_none() {
                Role::Current
            } else {
                Role::Pending
            };
            if let Some(current) = &self.current {
                tracing::info!(from = %current.name, to = name, "policy switch begins");
            }
            self.build(role, &chosen);
        }
        if let Some(Instance {
            child: Some(child), ..
        }) = self.newest_role().and_then(|role| self.instance(role))
        {
            child.set_config(chosen.config().cloned());
        }
        self.note_policies();
    }

    /// Builds the policy and puts it in place.
    fn build(&mut self, role: Role, chosen: &ChildConfig) {
        let id = self.next_instance;
        self.next_instance += 1;
        let closed = Arc::new(AtomicBool::new(false));
        let conn = Arc::new(RootConn::new(self.shared.clone(), id, closed.clone()));
        let settings = &self.shared.settings;
        let options = BuildOptions::new(settings.target.clone())
            .with_authority(settings.authority.clone())
            .with_dial_creds(settings.dial_creds.clone())
            .with_dialer(settings.dialer.clone());
        let queue = self.shared.queue.clone();
        let (built, staged) = queue.during_callback(|| Child::build(conn, chosen, &options));
        self.look();
        let instance = Instance {
            id,
            name: chosen.name().into(),
            child: None,
            closed,
            state: State::Connecting,
            picker: Arc::new(QueuePicker),
            passed: Vec::new(),
            unpublished: false,
        };
        match role {
            Role::Current => self.current = Some(instance),
            Role::Pending => self.pending = Some(instance),
        }
        self.unsettled = true;
        for item in staged {
            self.handle(item);
        }
        match built {
            Ok(child) => {
                if let Some(instance) = self.instance(role) {
                    instance.child = Some(child);
                }
            }
            Err(message) => self.panicked(role, &message),
        }
    }

    /// Runs a callback of a policy, then what it asked for; a settle is due. `None` when there is no
    /// such policy, or it panicked.
    fn callback<R>(&mut self, role: Role, callback: impl FnOnce(&mut Child) -> R) -> Option<R> {
        let answer = self.call(role, callback);
        self.unsettled |= answer.is_some();
        answer
    }

    fn call<R>(&mut self, role: Role, callback: impl FnOnce(&mut Child) -> R) -> Option<R> {
        let queue = self.shared.queue.clone();
        let started = self.look();
        let child = self.instance(role)?.child.as_mut()?;
        let (result, staged) = queue.during_callback(|| callback(child));
        let more = staged.iter().filter(|item| item.is_birth()).count();
        self.sub_conns.reserve(more);
        self.look_at_the_clock(role, started);
        for item in staged {
            self.handle(item);
        }
        result.map_err(|message| self.panicked(role, &message)).ok()
    }

    /// Tells of a callback that has held up everything else of its channel for long. RPCs go on being
    /// picked for meanwhile, and other channels do not notice.
    fn look_at_the_clock(&mut self, role: Role, started: Timestamp) {
        let now = self.look();
        if now - started < SLOW {
            return;
        }
        let Some(untold) = self.chatter.may_speak(now) else {
            return;
        };
        if let Some(instance) = self.instance(role) {
            let policy = &instance.name;
            tracing::warn!(%policy, took = ?(now - started), untold, "the LB policy blocked its channel");
        }
    }

    /// Gives an event to the policy that it belongs to.
    fn offer(&mut self, event: &dyn Fn(&mut Child) -> Handled) {
        for role in [Role::Current, Role::Pending] {
            if self
                .callback(role, event)
                .is_some_and(|handled| handled.is_mine())
            {
                return;
            }
        }
    }

    pub(super) fn deliver(&mut self, delivery: Delivery) {
        let Delivery {
            sub_conn,
            state,
            error,
            address,
            cause,
        } = delivery;
        // Removed while this was on its way: of what a policy has removed it hears SHUTDOWN alone.
        let gone = |cell: &SubConnCell<_>| cell.removed.load(Ordering::Relaxed);
        let gone = SubConnCell::<E::Connection>::of(&sub_conn).is_none_or(gone);
        if gone && state != State::Shutdown {
            return;
        }
        let mut told = SubConnState::new(state).with_cause(cause);
        if let Some(error) = &error {
            told = told.with_error(error);
        }
        if let Some(address) = &address {
            told = told.with_address(address);
        }
        self.offer(&|child| child.handle(ChildEvent::SubConnState(&sub_conn, &told)));
    }

    pub(super) fn policy_timer(&mut self, id: TimerId, _: u64) {
        self.offer(&|child| child.handle(ChildEvent::Timer(id)));
    }

    pub(super) fn policy_call_event(&mut self, id: CallId, event: &CallEvent, _: u64) {
        self.offer(&|child| child.handle(ChildEvent::Call(id, event)));
    }

    pub(super) fn exit_idle_policy(&mut self) {
        // A policy that is not IDLE has heard it, or needs no telling.
        let idle = |newest: &Instance| newest.state == State::Idle;
        if let Some(role) = self
            .newest_role()
            .filter(|_| self.newest().is_some_and(idle))
        {
            self.callback(role, Child::exit_idle);
        }
    }

    /// Gives a resolver result to the newest policy.
    pub(super) fn deliver_resolved(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Verdict {
        let failed = resolved.is_err();
        let Some(role) = self.newest_role() else {
            return Verdict::Accepted;
        };
        let handled = self.callback(role, |child| child.handle(ChildEvent::Resolved(resolved)));
        match handled {
            Some(Handled::Rejected(rejected)) => Verdict::Rejected(rejected.reason().into()),
            // It panicked over the result, or has before: another result may suit it better, so the
            // resolver has to go on asking.
            None => Verdict::Rejected("the LB policy panicked".into()),
            _ if failed => Verdict::Rejected("the resolver failed".into()),
            _ => Verdict::Accepted,
        }
    }

    /// Lets the policies settle and publishes what they have to say.
    pub(super) fn settle(&mut self) {
        // Cleared first: a policy may ask for another settle while it settles.
        if std::mem::take(&mut self.unsettled) {
            for role in [Role::Current, Role::Pending] {
                self.call(role, |child| drop(child.handle(ChildEvent::Settle)));
                self.collect(role);
            }
        }
        self.switch();
        if let Some(current) = &mut self.current {
            let passed = std::mem::take(&mut current.passed);
            if std::mem::take(&mut current.unpublished) {
                let (state, picker) = (current.state, current.picker.clone());
                self.publish(&passed, state, picker);
            }
        }
        if std::mem::take(&mut self.reconfigured) {
            self.republish();
        }
        self.speak_for_the_silent();
        if matches!(self.warm_up, WarmUp::Holding(_)) && !self.someone_connects_first() {
            self.end_warm_up();
        }
    }

    /// Takes over what a policy has published.
    fn collect(&mut self, role: Role) {
        let Some(instance) = self.instance(role) else {
            return;
        };
        let Some(child) = &mut instance.child else {
            return;
        };
        let passed = child.transitions();
        if let Some((state, picker)) = child.take_output() {
            let replaced = std::mem::replace(&mut instance.picker, picker);
            instance.passed.extend(passed);
            instance.state = state;
            instance.unpublished = true;
            self.moved = true;
            // A picker's Drop is the policy's code.
            discard(replaced);
        }
    }

    /// Puts the pending policy in the current one's place when it is time: looked at whenever one
    /// of the two has moved.
    fn switch(&mut self) {
        if !std::mem::take(&mut self.moved) {
            return;
        }
        let (Some(current), Some(pending)) = (&self.current, &self.pending) else {
            return;
        };
        // A pending policy that has panicked is being rebuilt; the current one serves on.
        if pending.child.is_none()
            || (pending.state == State::Connecting && current.state == State::Ready)
        {
            return;
        }
        let served = current.state == State::Ready;
        let Some(mut next) = self.pending.take() else {
            return;
        };
        tracing::info!(to = %next.name, state = %next.state, "policy switch");
        next.unpublished = false;
        let mut passed = std::mem::take(&mut next.passed);
        if served {
            // CONNECTING was the pending policy's state, never the channel's.
            let first = passed.iter().position(|state| *state != State::Connecting);
            passed.drain(..first.unwrap_or(passed.len()));
        }
        let (state, picker) = (next.state, next.picker.clone());
        let old = self.current.replace(next);
        // Published before the old policy is closed, so that no RPC meets a gap.
        self.publish(&passed, state, picker);
        // What the old policy's pickers did is not held against the new one's.
        self.repick = Repick::default();
        if let Some(old) = old {
            self.close_instance(old);
        }
        self.note_policies();
    }

    pub(super) fn publish(&mut self, passed: &[State], state: State, picker: Arc<dyn Picker>) {
        if self.repick.stand_in.take().is_some() {
            self.repick.since = Some(self.shared.env.now());
        }
        self.timers.disarm(TimerKey::Repick);
        if state == State::Ready {
            if let WarmUp::Armed(wait) = self.warm_up {
                if self.someone_connects_first() {
                    self.timers
                        .arm(TimerKey::WarmUp, self.shared.env.now() + wait);
                    self.warm_up = WarmUp::Holding(picker);
                    return;
                }
                self.warm_up = WarmUp::Off;
            } else if let WarmUp::Holding(held) = &mut self.warm_up {
                discard(std::mem::replace(held, picker));
                return;
            }
        } else {
            self.forget_warm_up();
        }
        self.put(passed, state, picker);
    }

    /// Gives a picker that is being held up.
    fn forget_warm_up(&mut self) {
        if matches!(self.warm_up, WarmUp::Holding(_)) {
            discard(std::mem::replace(&mut self.warm_up, WarmUp::Off));
            self.timers.disarm(TimerKey::WarmUp);
        }
    }

    /// A policy that has reported nothing counts as CONNECTING: RPCs wait for it with the time-out
    /// that the service config gives them.
    fn speak_for_the_silent(&mut self) {
        let unheard = self.shared.cell.load().is_none();
        if let Some(current) = self.current.as_ref().filter(|_| unheard)
            && !matches!(self.warm_up, WarmUp::Holding(_))
        {
            let (state, picker) = (current.state, current.picker.clone());
            self.put(&[], state, picker);
        }
    }

    /// Lets RPCs see the service config, with the picker that they have.
    fn republish(&mut self) {
        let guard = self.shared.cell.load();
        let Some(published) = guard.as_ref() else {
            return;
        };
        let seen = &published.config;
        let wanted = self.config.as_ref().map(|config| &config.rpc);
        if wanted.is_some_and(|wanted| !Arc::ptr_eq(seen, wanted)) {
            let (state, picker) = (published.state, published.picker.clone());
            drop(guard);
            self.put(&[], state, picker);
        }
    }

    /// Publishes, come what may.
    fn put(&mut self, passed: &[State], state: State, picker: Arc<dyn Picker>) {
        let policy = self
            .current
            .as_ref()
            .map_or_else(|| "none".into(), |it| it.name.clone());
        let config = self
            .config
            .as_ref()
            .unwrap_or(&self.shared.settings.default_config);
        let published = Published {
            generation: 0,
            state,
            picker,
            policy,
            config: config.rpc.clone(),
            panics: AtomicU32::new(0),
            kicked: AtomicBool::new(false),
        };
        // The picker first: who is woken by READY must not meet the old one.
        let before = self.shared.cell.publish(published);
        self.retired.extend(before);
        for state in passed.iter().copied().chain([state]) {
            if !self.shared.watch.set(state) {
                continue;
            }
            match self.chatter.may_speak(self.shared.env.now()) {
                Some(untold) => tracing::debug!(%state, untold, "channel state"),
                None => tracing::trace!(%state, "channel state"),
            }
        }
    }

    /// Publishes the picker that was held.
    pub(super) fn end_warm_up(&mut self) {
        self.timers.disarm(TimerKey::WarmUp);
        if let WarmUp::Holding(picker) = std::mem::replace(&mut self.warm_up, WarmUp::Off) {
            self.publish(&[], State::Ready, picker);
        }
    }

    /// There is no usable service config and so no policy: RPCs fail with the reason, those that
    /// wait for ready too.
    pub(super) fn publish_without_policy(&mut self, message: &str) {
        let error = PickError::drop(Status::unavailable(message));
        self.publish(
            &[],
            State::TransientFailure,
            Arc::new(FailingPicker::new(error)),
        );
    }

    pub(super) fn close_policies(&mut self) {
        self.rebuild = Rebuild::default();
        self.timers.disarm(TimerKey::Rebuild);
        self.repick = Repick::default();
        self.timers.disarm(TimerKey::Repick);
        self.forget_warm_up();
        self.warm_up = WarmUp::Off;
        self.moved = false;
        for instance in [self.pending.take(), self.current.take()]
            .into_iter()
            .flatten()
        {
            self.close_instance(instance);
        }
        self.note_policies();
    }

    /// Closes a policy and takes back what it had.
    fn close_instance(&mut self, instance: Instance) {
        instance.closed.store(true, Ordering::Relaxed);
        if let Some(mut child) = instance.child {
            let queue = self.shared.queue.clone();
            // What it asks while it closes is ignored by its ClientConn; what its Child gives back
            // counts even if it panics.
            let (_, staged) = queue.during_callback(|| {
                let _ = contain(|| child.close());
                discard(child);
            });
            self.look();
            for item in staged {
                self.handle(item);
            }
        }
        discard(instance.picker);
        self.reclaim(instance.id);
    }

    /// Removes what an instance left behind, by trust or not.
    fn reclaim(&mut self, instance: u64) {
        let left: Vec<u64> = lock(&self.shared.sub_conns)
            .iter()
            .filter(|(_, cell)| cell.instance == instance)
            .map(|(id, _)| *id)
            .collect();
        for id in left {
            self.remove_sub_conn(id);
        }
        self.cancel_calls_of(instance);
    }

    /// A callback of the policy panicked: its RPCs fail, it is dropped and built again later.
    fn panicked(&mut self, role: Role, message: &str) {
        let now = self.shared.env.now();
        let Some(instance) = self.instance(role) else {
            return;
        };
        let (id, name) = (instance.id, instance.name.clone());
        let child = instance.child.take();
        instance.closed.store(true, Ordering::Relaxed);
        tracing::error!(policy = %name, message, "the LB policy panicked");
        if let Some(child) = child {
            let queue = self.shared.queue.clone();
            let (_, staged) = queue.during_callback(|| {
                let _ = contain(|| child.discard());
            });
            for item in staged {
                self.handle(item);
            }
        }
        self.reclaim(id);
        // A wake that the panicking callback asked for does not come.
        self.shared.wake_queued.store(false, Ordering::SeqCst);
        self.moved = true;
        if role == Role::Current {
            let text = format!("LB policy \"{name}\" panicked: {message}");
            let error = PickError::drop(Status::new(Code::Internal, text));
            let picker: Arc<dyn Picker> = Arc::new(FailingPicker::new(error));
            if let Some(current) = &mut self.current {
                current.state = State::TransientFailure;
                current.unpublished = false;
                current.passed.clear();
                discard(std::mem::replace(&mut current.picker, picker.clone()));
            }
            self.publish(&[], State::TransientFailure, picker);
        }
        let calm_since = self.rebuild.calm_since;
        if calm_since.is_some_and(|since| now - since >= CALM) {
            self.rebuild.panics = 0;
        }
        let wait = self
            .shared
            .settings
            .backoff
            .jittered(self.rebuild.panics, self.shared.env.random());
        self.rebuild.panics = self.rebuild.panics.saturating_add(1);
        self.rebuild.calm_since = Some(now);
        self.rebuild.pending = true;
        self.timers.arm(TimerKey::Rebuild, now + wait);
    }

    /// Builds a policy that panicked again at once, and forgets how often it did.
    pub(super) fn rebuild_calmed(&mut self) {
        self.rebuild.panics = 0;
        self.rebuild_now();
        self.repick.failures = 0;
        self.timers.disarm(TimerKey::Repick);
        self.repick();
    }

    /// Builds a policy that panicked again and gives it the last resolver result.
    pub(super) fn rebuild_now(&mut self) {
        if !std::mem::take(&mut self.rebuild.pending) {
            return;
        }
        self.timers.disarm(TimerKey::Rebuild);
        // The wait itself is no proof of calm.
        self.rebuild.calm_since = Some(self.shared.env.now());
        let role = match (&self.pending, &self.current) {
            (Some(pending), _) if pending.child.is_none() => Role::Pending,
            (_, Some(current)) if current.child.is_none() => Role::Current,
            _ => return,
        };
        let Some(chosen) = self.chosen() else { return };
        match role {
            Role::Current => {
                // The stand-in's picker stays published until the new instance has one.
                discard(self.current.take());
                self.build(Role::Current, &chosen);
            }
            Role::Pending => {
                discard(self.pending.take());
                self.build(Role::Pending, &chosen);
            }
        }
        if let (true, Some(resolved)) = (self.newest_role() == Some(role), self.resolved.clone())
            && let Verdict::Rejected(_) = self.deliver_resolved(resolved)
        {
            // The resolver has had its verdict long ago.
            self.request_resolution();
        }
        self.unsettled = true;
        // The other one may have died meanwhile, and this one may have nothing to say.
        self.moved = true;
    }

    /// A picker panicked during picks: after the third time nobody asks it again for a while.
    pub(super) fn picker_panicked(&mut self, generation: u64, message: &str) {
        let guard = self.shared.cell.load();
        let Some(published) = guard.as_ref().filter(|it| it.generation == generation) else {
            return;
        };
        let text = format!(
            "picker of LB policy \"{}\" panicked: {message}",
            published.policy
        );
        let state = published.state;
        drop(guard);
        tracing::error!("{text}");
        let error = PickError::drop(Status::new(Code::Internal, text));
        let stand_in: Arc<dyn Picker> = Arc::new(FailingPicker::new(error));
        self.put(&[], state, stand_in.clone());
        let now = self.shared.env.now();
        let wait = self
            .repick
            .wait(&self.shared.settings.backoff, now, &*self.shared.env);
        self.repick.stand_in = Some(stand_in);
        self.timers.arm(TimerKey::Repick, now + wait);
    }

    /// The picker that panicked gets another chance: its policy, with nothing new to say, may never
    /// publish another one.
    pub(super) fn repick(&mut self) {
        let Some(stand_in) = self.repick.stand_in.take() else {
            return;
        };
        let published = self.shared.cell.load();
        let stands_in = published
            .as_ref()
            .is_some_and(|published| Arc::ptr_eq(&published.picker, &stand_in));
        drop(published);
        if let Some(current) = self.current.as_ref().filter(|_| stands_in) {
            let (state, picker) = (current.state, current.picker.clone());
            self.repick.since = Some(self.shared.env.now());
            self.put(&[], state, picker);
        }
    }

    fn note_policies(&self) {
        let mut info = lock(&self.shared.policy);
        info.current = self.current.as_ref().map(|instance| instance.name.clone());
        info.pending = self.pending.as_ref().map(|instance| instance.name.clone());
    }
}
