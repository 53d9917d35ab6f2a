//! The laws turned round: what a channel owes its policy.
//!
//! A [`Witness`] stands between a channel and a policy and writes down what the channel does wrong:
//! two callbacks at once, a state that cannot follow, news after the close. The author of a
//! ClientConn runs her own tests with a witnessed policy in it, on whatever network she has, and asks
//! the witness at the end.
//!
//! ```
//! use balancer_testkit::{Script, Witness};
//! use std::sync::Arc;
//!
//! // The channel under test is the kit's own here.
//! let witness = Witness::new();
//! let mut channel = Script::start(witness.policy(), ["a", "b"]);
//! channel.ready("a").ready("b").lost("a").update(["b"]).close();
//! assert_eq!(witness.complaints(), []);
//! assert!(witness.callbacks() > 8, "it has seen something");
//! ```

mod own;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use balancer_api::{
    Address, Balancer, BuildOptions, Builder, CallEvent, CallId, CallRequest, ClientConn,
    ConfigError, ConnectivityState as State, Dialer, DoneInfo, FailingPicker, LbConfig,
    NewSubConnError, NewSubConnOptions, OnDone, ParseContext, Pick, PickError, PickOptions, Picker,
    QueuePicker, Reconnect, Rejected, ResolveError, ResolvedAddrs, StateCause, SubConn,
    SubConnState, TimerId, Timestamp, TransportCredentials,
};
use bytes::Bytes;

use self::own::Own;

/// What a channel owes its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ChannelLaw {
    /// No callback before `build` has returned.
    NothingBeforeBuilt,
    /// One callback at a time, none from within a call to the ClientConn.
    OneAtATime,
    /// Nothing once `close` began.
    SilentAfterClose,
    /// No state of a SubConn before `connect` was called on it. Known only for the witness's own
    /// [`policy`](Witness::policy).
    NothingBeforeConnect,
    /// States follow each other as the state table of the contract says; none is left out.
    LegalTransitions,
    /// A removed SubConn is told SHUTDOWN once, and then nothing; one that was not removed never.
    ShutdownOnce,
    /// A run of at most 128 callbacks ends with a settle.
    SettleFollows,
    /// A timer fires once, not before its time, and not after it was cancelled in a callback.
    TimersOnTime,
    /// A call has headers at most once and first, then messages, then exactly one end.
    CallsInOrder,
    /// The clock goes forward only.
    ClockForward,
    /// Each pick's observer is told exactly once. Known for pickers that went through the witness.
    DoneOnce,
    /// After the close there are no new SubConns.
    ClosedRefuses,
}

/// Something that a channel did wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// What it broke.
    pub law: ChannelLaw,
    /// How.
    pub message: String,
}

/// Stands between a channel and a policy. Clones are one witness.
#[derive(Clone, Default)]
pub struct Witness(Arc<Shared>);

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    /// How many callbacks run right now.
    running: AtomicUsize,
    callbacks: AtomicUsize,
    picks: AtomicU64,
    dones: AtomicU64,
}

#[derive(Default)]
struct Seen {
    complaints: Vec<Complaint>,
    built: bool,
    closed: bool,
    unsettled: usize,
    subs: HashMap<SubConn, Sub>,
    timers: HashMap<TimerId, (Timestamp, Timer)>,
    calls: HashMap<CallId, CallState>,
    clock: Timestamp,
}

struct Sub {
    reconnect: Reconnect,
    state: State,
    /// Only the witness's own policy knows.
    asked: Option<bool>,
    removed: bool,
    gone: bool,
    unhealthy: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Timer {
    Set,
    Fired,
    Cancelled,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CallState {
    Fresh,
    Answered,
    Ended,
    Cancelled,
}

struct WitnessedBuilder {
    witness: Witness,
    inner: Arc<dyn Builder>,
}

struct WitnessedBalancer {
    witness: Witness,
    inner: Box<dyn Balancer>,
    conn: Arc<WitnessedConn>,
}

struct WitnessedConn {
    witness: Witness,
    parent: Arc<dyn ClientConn>,
}

struct WitnessedPicker {
    witness: Witness,
    inner: Arc<dyn Picker>,
}

/// Tells the witness of an RPC's end; the token says of which.
struct Ends {
    witness: Witness,
    told: Mutex<std::collections::HashSet<u64>>,
}

/// The most callbacks of one run.
const RUN: usize = 128;

// === impl Witness ===

impl Witness {
    /// A witness who has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// `inner`, witnessed.
    pub fn around(&self, inner: impl Builder + 'static) -> Arc<dyn Builder> {
        Arc::new(WitnessedBuilder {
            witness: self.clone(),
            inner: Arc::new(inner),
        })
    }

    /// A policy of the witness's own: a SubConn for each endpoint, connected at once unless its
    /// first address begins with `never`; picks take turns. It knows which SubConns it has told to
    /// connect.
    pub fn policy(&self) -> Arc<dyn Builder> {
        let inner = Own {
            witness: self.clone(),
        };
        self.around(inner)
    }

    /// What the channel did wrong so far, in its order.
    pub fn complaints(&self) -> Vec<Complaint> {
        self.seen().complaints.clone()
    }

    /// How many callbacks it has seen: a test in which nothing happens proves nothing.
    pub fn callbacks(&self) -> usize {
        self.0.callbacks.load(Relaxed)
    }

    /// How many picks gave a SubConn, and how many RPCs have ended since. Equal when no RPC is open.
    pub fn picks_and_ends(&self) -> (u64, u64) {
        (self.0.picks.load(Relaxed), self.0.dones.load(Relaxed))
    }

    /// # Panics
    /// The channel did something wrong, or an RPC that was picked for has not ended.
    #[track_caller]
    pub fn assert_silent(&self) {
        let complaints = self.complaints();
        let (picks, ends) = self.picks_and_ends();
        let list: String = complaints.iter().map(|c| format!("\n  {c}")).collect();
        assert!(complaints.is_empty(), "the channel broke:{list}");
        assert_eq!(picks, ends, "each pick's observers must be told once");
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn complain(&self, law: ChannelLaw, message: impl Into<String>) {
        self.seen().complain(law, message);
    }

    /// Runs one callback under the laws that hold for all of them.
    fn callback<R>(&self, name: &str, settle: bool, run: impl FnOnce() -> R) -> R {
        self.0.callbacks.fetch_add(1, Relaxed);
        let others = self.0.running.fetch_add(1, Relaxed);
        {
            let mut seen = self.seen();
            if others > 0 {
                seen.complain(
                    ChannelLaw::OneAtATime,
                    format!("{name} began while another callback ran"),
                );
            }
            if !seen.built {
                seen.complain(
                    ChannelLaw::NothingBeforeBuilt,
                    format!("{name} before build had returned"),
                );
            }
            if seen.closed {
                seen.complain(
                    ChannelLaw::SilentAfterClose,
                    format!("{name} after the close"),
                );
            }
            seen.unsettled = if settle { 0 } else { seen.unsettled + 1 };
            if seen.unsettled > RUN {
                seen.unsettled = 0;
                seen.complain(
                    ChannelLaw::SettleFollows,
                    format!("{name}: more than {RUN} callbacks without a settle"),
                );
            }
        }
        let answer = run();
        self.0.running.fetch_sub(1, Relaxed);
        answer
    }

    fn connecting(&self, sub_conn: &SubConn) {
        if let Some(sub) = self.seen().subs.get_mut(sub_conn) {
            sub.asked = Some(true);
        }
        sub_conn.connect();
    }
}

impl fmt::Debug for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.complaints()).finish()
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.law, self.message)
    }
}

// === impl Seen ===

impl Seen {
    fn complain(&mut self, law: ChannelLaw, message: impl Into<String>) {
        self.complaints.push(Complaint {
            law,
            message: message.into(),
        });
    }

    fn state(&mut self, sub_conn: &SubConn, new: &SubConnState<'_>) {
        let Some(sub) = self.subs.get_mut(sub_conn) else {
            self.complain(
                ChannelLaw::ShutdownOnce,
                format!("{} of a SubConn that the policy never had", new.state),
            );
            return;
        };
        let old = std::mem::replace(&mut sub.state, new.state);
        let unhealthy = std::mem::replace(
            &mut sub.unhealthy,
            new.state == State::TransientFailure && new.cause == StateCause::Health,
        );
        if sub.gone {
            self.complain(
                ChannelLaw::ShutdownOnce,
                format!("{sub_conn:?} is {} after its SHUTDOWN", new.state),
            );
            return;
        }
        if new.state == State::Shutdown {
            sub.gone = true;
            if !sub.removed {
                self.complain(
                    ChannelLaw::ShutdownOnce,
                    format!("{sub_conn:?} is SHUTDOWN and was not removed"),
                );
            }
            return;
        }
        if sub.removed {
            self.complain(
                ChannelLaw::ShutdownOnce,
                format!("{sub_conn:?} is {} after its removal", new.state),
            );
            return;
        }
        if sub.asked == Some(false) {
            self.complain(
                ChannelLaw::NothingBeforeConnect,
                format!(
                    "{sub_conn:?} is {} and nobody told it to connect",
                    new.state
                ),
            );
            return;
        }
        if sub.asked.is_some() && new.state == State::Idle {
            sub.asked = Some(false);
        }
        // A policy may have given it another list, of which the witness does not hear; its own
        // policy never does.
        let readdressed = sub.asked.is_none();
        let immediately = sub.reconnect == Reconnect::Immediately;
        let health = new.cause == StateCause::Health;
        let legal = match (old, new.state) {
            (State::Idle, State::Connecting) => true,
            (State::Connecting, State::Ready) => true,
            (State::Connecting, State::TransientFailure) => true,
            (State::Connecting, State::Idle) => !immediately || readdressed,
            (State::Ready, State::Connecting) => immediately || readdressed,
            (State::Ready, State::Idle) => !immediately || readdressed,
            (State::Ready, State::TransientFailure) => health,
            (State::TransientFailure, State::Ready) => health && unhealthy,
            (State::TransientFailure, State::Connecting) => immediately,
            (State::TransientFailure, State::Idle) => !immediately || readdressed,
            _ => false,
        };
        if !legal {
            self.complain(
                ChannelLaw::LegalTransitions,
                format!("{sub_conn:?} went from {old} to {}", new.state),
            );
        }
    }

    fn timer(&mut self, id: TimerId, now: Timestamp) {
        let told = match self.timers.get_mut(&id) {
            None => Some("was never set"),
            Some((due, state)) => {
                let told = match state {
                    Timer::Fired => Some("fired twice"),
                    Timer::Cancelled => Some("fired after it was cancelled"),
                    Timer::Set if now < *due => Some("fired before its time"),
                    Timer::Set => None,
                };
                *state = Timer::Fired;
                told
            }
        };
        if let Some(told) = told {
            self.complain(
                ChannelLaw::TimersOnTime,
                format!("timer {} {told}", id.as_raw()),
            );
        }
    }

    fn call(&mut self, id: CallId, event: &CallEvent) {
        let state = self.calls.get(&id).copied();
        let (next, told) = match (state, event) {
            (None, _) => (CallState::Ended, Some("was never started")),
            (Some(CallState::Ended), _) => (CallState::Ended, Some("goes on after its end")),
            (Some(CallState::Cancelled), _) => {
                (CallState::Cancelled, Some("goes on after it was cancelled"))
            }
            (Some(CallState::Answered), CallEvent::Headers(_)) => {
                (CallState::Answered, Some("has headers twice, or too late"))
            }
            (_, CallEvent::End { .. }) => (CallState::Ended, None),
            _ => (CallState::Answered, None),
        };
        self.calls.insert(id, next);
        if let Some(told) = told {
            self.complain(
                ChannelLaw::CallsInOrder,
                format!("call {} {told}", id.as_raw()),
            );
        }
    }
}

// === impl WitnessedBuilder, WitnessedBalancer ===

impl Builder for WitnessedBuilder {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn description(&self) -> &str {
        self.inner.description()
    }

    fn build(&self, cc: Arc<dyn ClientConn>, options: BuildOptions) -> Box<dyn Balancer> {
        // A channel may build its policy anew: after a panic, or when it was idle.
        {
            let mut seen = self.witness.seen();
            seen.built = false;
            seen.closed = false;
            seen.unsettled = 0;
        }
        let conn = Arc::new(WitnessedConn {
            witness: self.witness.clone(),
            parent: cc,
        });
        let inner = self.inner.build(conn.clone(), options);
        self.witness.seen().built = true;
        Box::new(WitnessedBalancer {
            witness: self.witness.clone(),
            inner,
            conn,
        })
    }

    fn parse_config(&self, json: &str, cx: &mut ParseContext<'_>) -> Result<LbConfig, ConfigError> {
        self.inner.parse_config(json, cx)
    }
}

impl Balancer for WitnessedBalancer {
    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, new: &SubConnState<'_>) {
        let Self { witness, inner, .. } = self;
        witness.callback("a SubConn's state", false, || {
            witness.seen().state(sub_conn, new);
            inner.handle_sub_conn_state_change(sub_conn, new);
        });
    }

    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        let Self { witness, inner, .. } = self;
        witness.callback("a resolver result", false, || {
            inner.handle_resolved_addrs(resolved)
        })
    }

    fn close(&mut self) {
        let Self {
            witness,
            inner,
            conn,
        } = self;
        witness.callback("close", true, || {
            witness.seen().closed = true;
            inner.close();
        });
        let refused = conn
            .parent
            .new_sub_conn(vec![Address::new("after:1")], NewSubConnOptions::new());
        if refused.is_ok() {
            witness.complain(
                ChannelLaw::ClosedRefuses,
                "a SubConn was made after the close",
            );
        }
    }

    fn handle_timer(&mut self, id: TimerId) {
        let Self {
            witness,
            inner,
            conn,
        } = self;
        let now = conn.now();
        witness.callback("a timer", false, || {
            witness.seen().timer(id, now);
            inner.handle_timer(id);
        });
    }

    fn handle_call_event(&mut self, id: CallId, event: CallEvent) {
        let Self { witness, inner, .. } = self;
        witness.callback("a call's event", false, || {
            witness.seen().call(id, &event);
            inner.handle_call_event(id, event);
        });
    }

    fn exit_idle(&mut self) {
        let Self { witness, inner, .. } = self;
        witness.callback("exit_idle", false, || inner.exit_idle());
    }

    fn settle(&mut self) {
        let Self { witness, inner, .. } = self;
        witness.callback("settle", true, || inner.settle());
    }
}

// === impl WitnessedConn ===

impl WitnessedConn {
    fn made(&self, sub_conn: &SubConn, reconnect: Reconnect) {
        let sub = Sub {
            reconnect,
            state: State::Idle,
            asked: None,
            removed: false,
            gone: false,
            unhealthy: false,
        };
        self.witness.seen().subs.insert(sub_conn.clone(), sub);
    }
}

impl ClientConn for WitnessedConn {
    fn new_sub_conn(
        &self,
        addresses: Vec<Address>,
        options: NewSubConnOptions,
    ) -> Result<SubConn, NewSubConnError> {
        let reconnect = options.reconnect;
        let sub_conn = self.parent.new_sub_conn(addresses, options)?;
        self.made(&sub_conn, reconnect);
        Ok(sub_conn)
    }

    fn remove_sub_conn(&self, sub_conn: &SubConn) {
        if let Some(sub) = self.witness.seen().subs.get_mut(sub_conn) {
            sub.removed = true;
        }
        self.parent.remove_sub_conn(sub_conn);
    }

    fn update_balancer_state(&self, state: State, picker: Arc<dyn Picker>) {
        let picker = WitnessedPicker {
            witness: self.witness.clone(),
            inner: picker,
        };
        self.parent.update_balancer_state(state, Arc::new(picker));
    }

    fn target(&self) -> &str {
        self.parent.target()
    }

    fn resolve_now(&self) {
        self.parent.resolve_now();
    }

    fn now(&self) -> Timestamp {
        // Under the lock, so that two readers cannot be noted in the wrong order.
        let mut seen = self.witness.seen();
        let now = self.parent.now();
        if now < seen.clock {
            let before = seen.clock;
            seen.complain(
                ChannelLaw::ClockForward,
                format!("the clock went back from {before:?} to {now:?}"),
            );
        }
        seen.clock = now;
        now
    }

    fn random(&self) -> u64 {
        self.parent.random()
    }

    fn set_timer(&self, after: Duration) -> TimerId {
        let due = self.parent.now() + after;
        // Under the lock, so that the timer cannot fire before it is noted.
        let mut seen = self.witness.seen();
        let id = self.parent.set_timer(after);
        if seen.timers.insert(id, (due, Timer::Set)).is_some() {
            seen.complain(
                ChannelLaw::TimersOnTime,
                format!("timer {} was given out twice", id.as_raw()),
            );
        }
        id
    }

    fn cancel_timer(&self, id: TimerId) {
        // From another thread it is best effort.
        if self.witness.0.running.load(Relaxed) > 0
            && let Some((_, state)) = self.witness.seen().timers.get_mut(&id)
            && *state == Timer::Set
        {
            *state = Timer::Cancelled;
        }
        self.parent.cancel_timer(id);
    }

    fn wake(&self) {
        self.parent.wake();
    }

    fn start_call(&self, sub_conn: &SubConn, request: CallRequest) -> CallId {
        let mut seen = self.witness.seen();
        let id = self.parent.start_call(sub_conn, request);
        if seen.calls.insert(id, CallState::Fresh).is_some() {
            seen.complain(
                ChannelLaw::CallsInOrder,
                format!("call {} was given out twice", id.as_raw()),
            );
        }
        id
    }

    fn send_call_message(&self, id: CallId, message: Bytes) {
        self.parent.send_call_message(id, message);
    }

    fn close_call_send(&self, id: CallId) {
        self.parent.close_call_send(id);
    }

    fn cancel_call(&self, id: CallId) {
        if self.witness.0.running.load(Relaxed) > 0
            && let Some(state) = self.witness.seen().calls.get_mut(&id)
            && *state != CallState::Ended
        {
            *state = CallState::Cancelled;
        }
        self.parent.cancel_call(id);
    }

    fn new_lookaside(
        &self,
        target: &str,
        credentials: Option<Arc<dyn TransportCredentials>>,
        dialer: Option<Arc<dyn Dialer>>,
    ) -> Result<SubConn, NewSubConnError> {
        let sub_conn = self.parent.new_lookaside(target, credentials, dialer)?;
        self.made(&sub_conn, Reconnect::Immediately);
        Ok(sub_conn)
    }
}

// === impl WitnessedPicker, Ends ===

impl Picker for WitnessedPicker {
    fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let pick = self.inner.pick(options)?;
        let token = self.witness.0.picks.fetch_add(1, Relaxed);
        let ends = Ends {
            witness: self.witness.clone(),
            told: Mutex::default(),
        };
        Ok(pick.on_done(Arc::new(ends), token))
    }
}

impl OnDone for Ends {
    fn on_done(&self, token: u64, _: &DoneInfo<'_>) {
        self.witness.0.dones.fetch_add(1, Relaxed);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !told.insert(token) {
            self.witness
                .complain(ChannelLaw::DoneOnce, "an observer was told twice");
        }
    }
}

// --- the witness's own policy ---
