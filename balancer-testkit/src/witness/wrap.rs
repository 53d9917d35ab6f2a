//! The policy, its ClientConn and its pickers, each with the witness in between.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use balancer_api::{
    Address, Balancer, BuildOptions, Builder, CallEvent, CallId, CallRequest, ClientConn,
    ConfigError, ConnectivityState as State, Dialer, DoneInfo, LbConfig, NewSubConnError,
    NewSubConnOptions, OnDone, ParseContext, Pick, PickError, PickOptions, Picker, Reconnect,
    Rejected, ResolveError, ResolvedAddrs, SubConn, SubConnState, TimerId, Timestamp,
    TransportCredentials,
};
use bytes::Bytes;

use super::{
    ChannelLaw, Witness, lock,
    seen::{CallState, Seen, Sub, Timer, Wrong},
};

pub(super) struct WitnessedBuilder {
    witness: Witness,
    inner: Arc<dyn Builder>,
}

struct WitnessedBalancer {
    inner: Box<dyn Balancer>,
    conn: Arc<WitnessedConn>,
}

struct WitnessedConn {
    witness: Witness,
    parent: Arc<dyn ClientConn>,
    seen: Mutex<Seen>,
    /// How many callbacks of this policy run right now.
    running: AtomicUsize,
}

struct WitnessedPicker {
    witness: Witness,
    inner: Arc<dyn Picker>,
}

/// Tells the witness of an RPC's end; the token says of which.
struct Ends {
    witness: Witness,
    told: Mutex<HashSet<u64>>,
}

/// The most callbacks of one run.
const RUN: usize = 128;

// === impl WitnessedBuilder, WitnessedBalancer ===

impl WitnessedBuilder {
    pub(super) fn new(witness: Witness, inner: Arc<dyn Builder>) -> Self {
        Self { witness, inner }
    }
}

impl Builder for WitnessedBuilder {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn description(&self) -> &str {
        self.inner.description()
    }

    fn build(&self, cc: Arc<dyn ClientConn>, options: BuildOptions) -> Box<dyn Balancer> {
        let conn = Arc::new(WitnessedConn {
            witness: self.witness.clone(),
            parent: cc,
            seen: Mutex::default(),
            running: AtomicUsize::new(0),
        });
        let inner = self.inner.build(conn.clone(), options);
        conn.seen().built = true;
        Box::new(WitnessedBalancer { inner, conn })
    }

    fn parse_config(&self, json: &str, cx: &mut ParseContext<'_>) -> Result<LbConfig, ConfigError> {
        self.inner.parse_config(json, cx)
    }
}

impl Balancer for WitnessedBalancer {
    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, new: &SubConnState<'_>) {
        let Self { inner, conn } = self;
        conn.callback("a SubConn's state", false, || {
            let mut asked = lock(&conn.witness.0.asked);
            let known = asked.get(sub_conn).copied();
            if let Some(asked) = asked.get_mut(sub_conn)
                && new.state == State::Idle
            {
                *asked = false;
            }
            drop(asked);
            let wrong = conn.seen().state(sub_conn, new, known);
            conn.note(wrong);
            inner.handle_sub_conn_state_change(sub_conn, new);
        });
    }

    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        let Self { inner, conn } = self;
        conn.callback("a resolver result", false, || {
            inner.handle_resolved_addrs(resolved)
        })
    }

    fn close(&mut self) {
        let Self { inner, conn } = self;
        conn.callback("close", true, || {
            conn.seen().closed = true;
            inner.close();
        });
        let refused = conn
            .parent
            .new_sub_conn(vec![Address::new("after:1")], NewSubConnOptions::new());
        if refused.is_ok() {
            conn.witness.complain(
                ChannelLaw::ClosedRefuses,
                "a SubConn was made after the close",
            );
        }
    }

    fn handle_timer(&mut self, id: TimerId) {
        let Self { inner, conn } = self;
        let now = conn.now();
        conn.callback("a timer", false, || {
            let wrong = conn.seen().timer(id, now);
            conn.note(wrong);
            inner.handle_timer(id);
        });
    }

    fn handle_call_event(&mut self, id: CallId, event: CallEvent) {
        let Self { inner, conn } = self;
        conn.callback("a call's event", false, || {
            let wrong = conn.seen().call(id, &event);
            conn.note(wrong);
            inner.handle_call_event(id, event);
        });
    }

    fn exit_idle(&mut self) {
        let Self { inner, conn } = self;
        conn.callback("exit_idle", false, || inner.exit_idle());
    }

    fn settle(&mut self) {
        let Self { inner, conn } = self;
        conn.callback("settle", true, || inner.settle());
    }
}

// === impl WitnessedConn ===

impl WitnessedConn {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    fn note(&self, wrong: Wrong) {
        if let Some((law, message)) = wrong {
            self.witness.complain(law, message);
        }
    }

    fn in_callback(&self) -> bool {
        self.running.load(Relaxed) > 0
    }

    /// Runs one callback under the laws that hold for all of them.
    fn callback<R>(&self, name: &str, settle: bool, run: impl FnOnce() -> R) -> R {
        self.witness.0.callbacks.fetch_add(1, Relaxed);
        let others = self.running.fetch_add(1, Relaxed);
        if others > 0 {
            self.witness.complain(
                ChannelLaw::OneAtATime,
                format!("{name} began while another callback ran"),
            );
        }
        let mut seen = self.seen();
        if !seen.built {
            self.witness.complain(
                ChannelLaw::NothingBeforeBuilt,
                format!("{name} before build had returned"),
            );
        }
        if seen.closed {
            self.witness.complain(
                ChannelLaw::SilentAfterClose,
                format!("{name} after the close"),
            );
        }
        seen.unsettled = if settle { 0 } else { seen.unsettled + 1 };
        if seen.unsettled > RUN {
            seen.unsettled = 0;
            self.witness.complain(
                ChannelLaw::SettleFollows,
                format!("{name}: more than {RUN} callbacks without a settle"),
            );
        }
        drop(seen);
        let answer = run();
        self.running.fetch_sub(1, Relaxed);
        answer
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
        self.seen()
            .subs
            .insert(sub_conn.clone(), Sub::new(reconnect));
        Ok(sub_conn)
    }

    fn remove_sub_conn(&self, sub_conn: &SubConn) {
        if let Some(sub) = self.seen().subs.get_mut(sub_conn) {
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
        let mut seen = self.seen();
        let now = self.parent.now();
        if now < seen.clock {
            let before = seen.clock;
            self.witness.complain(
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
        let mut seen = self.seen();
        let id = self.parent.set_timer(after);
        if seen.timers.insert(id, (due, Timer::Set)).is_some() {
            self.witness.complain(
                ChannelLaw::TimersOnTime,
                format!("timer {} was given out twice", id.as_raw()),
            );
        }
        id
    }

    fn cancel_timer(&self, id: TimerId) {
        // From another thread it is best effort.
        if self.in_callback()
            && let Some((_, state)) = self.seen().timers.get_mut(&id)
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
        let mut seen = self.seen();
        let id = self.parent.start_call(sub_conn, request);
        if seen.calls.insert(id, CallState::Fresh).is_some() {
            self.witness.complain(
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
        if self.in_callback()
            && let Some(state) = self.seen().calls.get_mut(&id)
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
        self.seen()
            .subs
            .insert(sub_conn.clone(), Sub::new(Reconnect::Immediately));
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
        if !lock(&self.told).insert(token) {
            self.witness
                .complain(ChannelLaw::DoneOnce, "an observer was told twice");
        }
    }
}
