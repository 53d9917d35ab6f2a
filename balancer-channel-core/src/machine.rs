//! The state machine of one SubConn: from addresses, attempts, losses and timers to states.
//!
//! Pure: it is told what happened and when, and answers with [`Action`]s. Time and chance are
//! arguments, so every history can be replayed.
//!
//! ```text
//!            connect            an attempt succeeded
//!   IDLE ──────────────► CONNECTING ──────────────► READY
//!    ▲                    │      ▲                    │
//!    │ back-off over      │      │ back-off over      │ lost, GOAWAY:
//!    │ (WhenAsked)        ▼      │ (Immediately)      │ WhenAsked → IDLE, Immediately → CONNECTING
//!    └──────────── TRANSIENT_FAILURE
//! ```
//!
//! A READY SubConn may have more than one connection (gRFC A105): where RPCs wait for a stream and it
//! has fewer than its [maximum](Machine::set_max_connections), one pass at a time dials another, to the
//! address that it is connected to. While one connection is left the SubConn is READY, whatever becomes
//! of that pass and of the others; the loss of the last is as the loss of the only one.

use std::{sync::Arc, time::Duration};

use balancer_api::{Address, ConnectivityState as State, Reconnect, Status, Timestamp};
use smallvec::SmallVec;

use crate::Backoff;

/// One SubConn's state and what it is waiting for.
#[derive(Debug)]
pub(crate) struct Machine {
    reconnect: Reconnect,
    attempt_delay: Option<Duration>,
    pacing: Arc<Pacing>,

    state: State,
    /// As a rule there is one.
    addresses: SmallVec<[Address; 1]>,
    /// How many passes have failed since the connection last earned a reset.
    failures: u32,
    /// The very first wait is exact; later first waits have jitter.
    ever_ready: bool,
    /// In CONNECTING.
    pass: Option<Pass>,
    /// In READY: at least one, the oldest first, all to the same address.
    connected: Vec<Established>,
    max_connections: usize,
    /// In READY: the back-off before the next pass for another connection.
    resting_until: Option<Timestamp>,
    /// A connection was lost before it earned a reset: until then no new pass starts.
    /// Boxed: few have it.
    penalty: Option<Box<Penalty>>,
    next_attempt: u64,
}

/// What is the same for all SubConns of a channel.
#[derive(Debug)]
pub(crate) struct Pacing {
    pub(crate) backoff: Backoff,
    /// How long the dialling of a pass may take, where the back-off is shorter.
    pub(crate) min_connect_timeout: Duration,
}

/// One walk over the addresses.
///
/// Attempts may have to wait until others of the channel have ended. A pass that nobody has dialled for
/// yet has not started, neither for its deadline nor for its wait, so that two dials of one address are
/// never closer than the wait; and while all that it has waits, its deadline stands still.
#[derive(Debug)]
struct Pass {
    /// When it was dialled for first.
    started: Timestamp,
    /// The wait, counted from the start of the pass, if it fails.
    wait: Duration,
    /// How long dialling may take, and what is left of that but for what runs now.
    budget: Duration,
    left: Duration,
    /// Since when somebody dials.
    dialling_since: Option<Timestamp>,
    /// Most SubConns have one address.
    tried: SmallVec<[Attempt; 1]>,
    /// When the last attempt had its turn; the next one beside it is due a delay later.
    last_dial: Timestamp,
    last_error: Option<Status>,
    /// For another connection to the address of those that there are.
    only: Option<Address>,
}

#[derive(Debug)]
struct Attempt {
    id: AttemptId,
    address: Address,
    running: bool,
    /// It does not wait any more.
    dialling: bool,
}

#[derive(Debug)]
struct Established {
    id: AttemptId,
    address: Address,
    /// Of the pass that made it, and what its failure would have cost.
    pass_started: Timestamp,
    wait: Duration,
    /// When READY was told; `None` while the backend's health is not known.
    ready_since: Option<Timestamp>,
    /// Response headers of an RPC have arrived on it.
    earned: bool,
    /// It has given the back-off the new start that it had earned.
    spent: bool,
}

#[derive(Debug)]
struct Penalty {
    until: Timestamp,
    error: Status,
}

/// Names an attempt to connect to one address, and the connection that it made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AttemptId(u64);

/// The three timers of a SubConn; each is armed at most once at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum MachineTimer {
    /// The next address may be tried beside those that are being tried.
    AttemptDelay,
    /// The pass must have succeeded.
    PassDeadline,
    /// The back-off is over.
    Backoff,
}

/// What the machine wants done, in order.
#[derive(Debug)]
pub(crate) enum Action {
    /// Dial, and [tell](Machine::dialling) when that begins.
    Dial(AttemptId, Address),
    /// Give an attempt up.
    CancelDial(AttemptId),
    /// The connection of the attempt is the SubConn's from now on; its first, or one more.
    Adopt(AttemptId),
    /// Close the connection gracefully: it takes no more RPCs.
    Release(AttemptId),
    /// Another connection was wanted and could not be made. No change of state.
    NotMore(Status),
    /// Arm or rearm a timer.
    Arm(MachineTimer, Timestamp),
    /// Disarm a timer.
    Disarm(MachineTimer),
    /// Tell the policy.
    Report {
        state: State,
        error: Option<Status>,
        address: Option<Address>,
    },
    /// Ask the resolver to look again.
    ResolveNow,
}

/// A connection earns a new start of the back-off by staying READY for so long.
const PROVEN_AFTER: Duration = Duration::from_secs(1);

/// The range of [`NewSubConnOptions::attempt_delay`](balancer_api::NewSubConnOptions).
const MIN_ATTEMPT_DELAY: Duration = Duration::from_millis(100);
const MAX_ATTEMPT_DELAY: Duration = Duration::from_secs(2);

// === impl Machine ===

impl Machine {
    pub(crate) fn new(
        addresses: &[Address],
        reconnect: Reconnect,
        attempt_delay: Option<Duration>,
        pacing: Arc<Pacing>,
    ) -> Self {
        Self {
            reconnect,
            attempt_delay: attempt_delay.map(|d| d.clamp(MIN_ATTEMPT_DELAY, MAX_ATTEMPT_DELAY)),
            pacing,
            state: State::Idle,
            addresses: distinct(addresses),
            failures: 0,
            ever_ready: false,
            pass: None,
            connected: Vec::new(),
            max_connections: 1,
            resting_until: None,
            penalty: None,
            next_attempt: 0,
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Whether RPCs that wait for a stream would get it another connection now.
    pub(crate) fn may_grow(&self) -> bool {
        self.state == State::Ready
            && self.connected.len() < self.max_connections
            && self.pass.is_none()
            && self.resting_until.is_none()
    }

    /// RPCs wait for a stream, and no connection has a free one.
    pub(crate) fn crowded(&mut self, now: Timestamp, random: u64, out: &mut Vec<Action>) {
        if !self.may_grow() {
            return;
        }
        self.take_reset(now);
        if let Some(oldest) = self.connected.first() {
            let only = oldest.address.clone();
            self.start_pass(Some(only), now, random, out);
        }
    }

    /// How many connections it may have, at least one. Closes none that there are.
    pub(crate) fn set_max_connections(&mut self, max: usize, out: &mut Vec<Action>) {
        self.max_connections = max;
        if !self.connected.is_empty() && self.connected.len() >= max {
            self.end_pass(out);
        }
    }

    /// The policy asked to connect.
    pub(crate) fn connect(&mut self, now: Timestamp, random: u64, out: &mut Vec<Action>) {
        if self.state == State::Idle && !self.addresses.is_empty() {
            self.start(None, now, random, out);
        }
    }

    /// The policy gave a new list.
    pub(crate) fn update_addresses(
        &mut self,
        addresses: Vec<Address>,
        now: Timestamp,
        random: u64,
        out: &mut Vec<Action>,
    ) {
        if self.state == State::Shutdown {
            return;
        }
        let addresses = distinct(&addresses);
        let same = self.addresses == addresses;
        let has_new = addresses
            .iter()
            .any(|address| !self.addresses.contains(address));
        // Also when it is the same: attributes for balancers are no part of what is compared.
        self.addresses = addresses;
        if same {
            return;
        }
        if has_new {
            self.penalty = None;
        }
        if self.addresses.is_empty() {
            self.penalty = None;
            self.abandon(now, out);
            self.report(State::Idle, None, None, out);
            return;
        }
        match self.state {
            State::Idle | State::Shutdown => {}
            State::TransientFailure => {
                if has_new {
                    self.wait_is_over(now, random, out);
                }
            }
            State::Ready => {
                let mut connected = self.connected.iter();
                if !connected.any(|it| self.addresses.contains(&it.address)) {
                    self.abandon(now, out);
                    self.report(State::Connecting, None, None, out);
                    self.start_pass(None, now, random, out);
                }
            }
            State::Connecting => {
                if let Some(pass) = &mut self.pass {
                    // Failures stay counted, attempts to addresses still listed go on.
                    let listed = &self.addresses;
                    pass.tried.retain(|attempt| {
                        let keep = listed.contains(&attempt.address);
                        if !keep && attempt.running {
                            out.push(Action::CancelDial(attempt.id));
                        }
                        keep
                    });
                    pass.look_at_clock(now, out);
                    if pass.tried.is_empty() {
                        // Nothing of the old pass is left: the new addresses get a whole one.
                        self.start_pass(None, now, random, out);
                    } else if pass.tried.iter().all(|attempt| !attempt.running) {
                        self.try_next(now, random, out);
                    } else {
                        self.arm_attempt_delay(now, out);
                    }
                }
            }
        }
    }

    /// An attempt has its turn, and dials from now on.
    pub(crate) fn dialling(&mut self, id: AttemptId, now: Timestamp, out: &mut Vec<Action>) {
        let Some(pass) = &mut self.pass else { return };
        if !pass.tried.iter().any(|attempt| attempt.dialling) {
            pass.started = now;
        }
        let running = pass.tried.iter_mut().find(|it| it.id == id && it.running);
        if let Some(attempt) = running {
            attempt.dialling = true;
            pass.last_dial = now;
            pass.look_at_clock(now, out);
            self.arm_attempt_delay(now, out);
        }
    }

    /// An attempt connected, and the peer's SETTINGS are here. Answers whether the connection is
    /// wanted; if not, the caller closes it.
    pub(crate) fn connected(&mut self, id: AttemptId, out: &mut Vec<Action>) -> bool {
        let Some(pass) = &self.pass else { return false };
        let Some(won) = pass
            .tried
            .iter()
            .find(|attempt| attempt.id == id && attempt.running)
        else {
            return false;
        };
        let address = won.address.clone();
        let (pass_started, wait) = (pass.started, pass.wait);
        if let Some(pass) = &mut self.pass {
            pass.tried.retain(|attempt| attempt.id != id);
        }
        self.end_pass(out);
        self.ever_ready = true;
        out.push(Action::Adopt(id));
        self.connected.push(Established {
            id,
            address: address.clone(),
            pass_started,
            wait,
            ready_since: None,
            earned: false,
            spent: false,
        });
        self.report(State::Ready, None, Some(address), out);
        true
    }

    /// An attempt failed.
    pub(crate) fn attempt_failed(
        &mut self,
        id: AttemptId,
        error: Status,
        now: Timestamp,
        random: u64,
        out: &mut Vec<Action>,
    ) {
        let Some(pass) = &mut self.pass else { return };
        let Some(attempt) = pass
            .tried
            .iter_mut()
            .find(|attempt| attempt.id == id && attempt.running)
        else {
            return;
        };
        attempt.running = false;
        pass.last_error = Some(error);
        pass.look_at_clock(now, out);
        self.try_next(now, random, out);
    }

    /// A connection takes no new streams: GOAWAY, or lost.
    pub(crate) fn lost(
        &mut self,
        id: AttemptId,
        error: Status,
        now: Timestamp,
        random: u64,
        out: &mut Vec<Action>,
    ) {
        let Some(at) = self.connected.iter().position(|it| it.id == id) else {
            return;
        };
        let gone = self.connected.remove(at);
        let is_last = self.connected.is_empty();
        out.push(Action::Release(id));
        out.push(Action::ResolveNow);
        // What is under way is for a SubConn that has connections.
        let resting = self.resting_until.take_if(|_| is_last);
        if is_last {
            self.end_pass(out);
            out.push(Action::Disarm(MachineTimer::Backoff));
        }
        if gone.is_proven(now) {
            // Its end is no failure, nor is a wait for more of its kind one for the only one.
            if is_last || !gone.spent {
                self.failures = 0;
            }
        } else {
            // Accepted and closed at once: as good as refused, so the back-off goes on.
            self.failures = self.failures.saturating_add(1);
            let until = (gone.pass_started + gone.wait).max(resting.unwrap_or(now));
            if is_last {
                let error = error.clone();
                self.penalty = Some(Box::new(Penalty { until, error }));
            } else {
                self.rest(until, now, out);
            }
        }
        if !is_last {
            return;
        }
        match self.reconnect {
            Reconnect::WhenAsked => self.report(State::Idle, Some(error), None, out),
            Reconnect::Immediately => self.start(Some(error), now, random, out),
        }
    }

    /// The policy is told READY: at once, or when the backend has said that it serves. From now on the
    /// connections stand the test.
    pub(crate) fn told_ready(&mut self, now: Timestamp) {
        for connected in &mut self.connected {
            connected.ready_since.get_or_insert(now);
        }
    }

    /// Response headers of an RPC arrived on a connection: it is a real server.
    pub(crate) fn earned(&mut self, id: AttemptId) {
        if let Some(connected) = self.connected.iter_mut().find(|it| it.id == id) {
            connected.earned = true;
        }
    }

    /// A timer that was armed is due.
    pub(crate) fn timer(
        &mut self,
        timer: MachineTimer,
        now: Timestamp,
        random: u64,
        out: &mut Vec<Action>,
    ) {
        match timer {
            MachineTimer::AttemptDelay => {
                if let Some(address) = self.untried() {
                    self.dial(address, now, out);
                }
            }
            MachineTimer::PassDeadline => {
                let Some(pass) = &mut self.pass else { return };
                let budget = pass.budget;
                let mut named = Vec::new();
                for attempt in pass.tried.iter_mut().filter(|attempt| attempt.running) {
                    attempt.running = false;
                    out.push(Action::CancelDial(attempt.id));
                    if attempt.dialling {
                        named.push(attempt.address.to_string());
                    }
                }
                if !named.is_empty() {
                    let named = named.join(", ");
                    pass.last_error = Some(Status::unavailable(format!(
                        "{named}: no HTTP/2 connection within the connect deadline of {budget:?}"
                    )));
                }
                self.fail_pass(now, random, out);
            }
            MachineTimer::Backoff => {
                self.resting_until = None;
                if self.state == State::TransientFailure {
                    self.wait_is_over(now, random, out);
                }
            }
        }
    }

    /// The application asked for connections now: ends a wait and forgets past failures.
    pub(crate) fn reset_backoff(&mut self, now: Timestamp, random: u64, out: &mut Vec<Action>) {
        self.failures = 0;
        self.penalty = None;
        // What has begun costs no more than a first failure, should it fail.
        let wait = self.next_wait(random);
        if let Some(pass) = &mut self.pass {
            pass.wait = pass.wait.min(wait);
        }
        for connected in &mut self.connected {
            connected.wait = connected.wait.min(wait);
        }
        if self.resting_until.take().is_some() {
            out.push(Action::Disarm(MachineTimer::Backoff));
        }
        if self.state == State::TransientFailure {
            self.wait_is_over(now, random, out);
        }
    }

    /// The policy removed the SubConn.
    pub(crate) fn remove(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        if self.state != State::Shutdown {
            self.abandon(now, out);
            self.report(State::Shutdown, None, None, out);
        }
    }

    /// Leaves IDLE, or READY after a loss in the mode that reconnects by itself.
    fn start(&mut self, lost: Option<Status>, now: Timestamp, random: u64, out: &mut Vec<Action>) {
        self.report(State::Connecting, lost, None, out);
        match self.penalty.take().filter(|penalty| now < penalty.until) {
            None => self.start_pass(None, now, random, out),
            Some(penalty) => {
                out.push(Action::Arm(MachineTimer::Backoff, penalty.until));
                self.report(State::TransientFailure, Some(penalty.error), None, out);
            }
        }
    }

    fn start_pass(
        &mut self,
        only: Option<Address>,
        now: Timestamp,
        random: u64,
        out: &mut Vec<Action>,
    ) {
        let wait = self.next_wait(random);
        let budget = wait.max(self.pacing.min_connect_timeout);
        self.pass = Some(Pass {
            started: now,
            wait,
            budget,
            left: budget,
            dialling_since: None,
            tried: SmallVec::new(),
            last_dial: now,
            last_error: None,
            only,
        });
        self.try_next(now, random, out);
    }

    /// What the failure of a pass that starts now costs.
    fn next_wait(&self, random: u64) -> Duration {
        if self.failures == 0 && !self.ever_ready {
            self.pacing.backoff.exact(0)
        } else {
            self.pacing.backoff.jittered(self.failures, random)
        }
    }

    /// Goes on with the pass after a failure, or starts it: the next address, or the end.
    fn try_next(&mut self, now: Timestamp, random: u64, out: &mut Vec<Action>) {
        match self.untried() {
            Some(address) => self.dial(address, now, out),
            None => {
                let running = self
                    .pass
                    .as_ref()
                    .is_some_and(|pass| pass.tried.iter().any(|a| a.running));
                if !running {
                    self.fail_pass(now, random, out);
                }
            }
        }
    }

    fn untried(&self) -> Option<Address> {
        let pass = self.pass.as_ref()?;
        let tried = |address: &Address| pass.tried.iter().any(|a| a.address == *address);
        let candidates = match &pass.only {
            Some(only) => std::slice::from_ref(only),
            None => &self.addresses,
        };
        candidates.iter().find(|address| !tried(address)).cloned()
    }

    fn dial(&mut self, address: Address, now: Timestamp, out: &mut Vec<Action>) {
        let id = AttemptId(self.next_attempt);
        self.next_attempt += 1;
        if let Some(pass) = &mut self.pass {
            pass.tried.push(Attempt {
                id,
                address: address.clone(),
                running: true,
                dialling: false,
            });
        }
        out.push(Action::Dial(id, address));
        self.arm_attempt_delay(now, out);
    }

    /// A delay after the last attempt had its turn, however often the list has changed since. While one
    /// waits for its turn nobody starts beside it: it would have no head start, and they would wait
    /// together.
    fn arm_attempt_delay(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        let Some(delay) = self.attempt_delay else {
            return;
        };
        match &self.pass {
            Some(pass) if !pass.has_one_waiting() && self.untried().is_some() => {
                let at = (pass.last_dial + delay).max(now);
                out.push(Action::Arm(MachineTimer::AttemptDelay, at));
            }
            _ => out.push(Action::Disarm(MachineTimer::AttemptDelay)),
        }
    }

    fn fail_pass(&mut self, now: Timestamp, random: u64, out: &mut Vec<Action>) {
        let Some(pass) = self.pass.take() else { return };
        out.push(Action::Disarm(MachineTimer::AttemptDelay));
        out.push(Action::Disarm(MachineTimer::PassDeadline));
        let error = pass
            .last_error
            .unwrap_or_else(|| Status::unavailable("no address to try"));
        let until = pass.started + pass.wait;
        if pass.only.is_some() {
            self.take_reset(now);
            self.failures = self.failures.saturating_add(1);
            out.push(Action::NotMore(error));
            self.rest(until, now, out);
            return;
        }
        out.push(Action::ResolveNow);
        self.failures = self.failures.saturating_add(1);
        self.report(State::TransientFailure, Some(error), None, out);
        if until > now {
            out.push(Action::Arm(MachineTimer::Backoff, until));
        } else {
            // The pass took longer than the back-off: there is nothing left to wait for.
            self.wait_is_over(now, random, out);
        }
    }

    fn wait_is_over(&mut self, now: Timestamp, random: u64, out: &mut Vec<Action>) {
        out.push(Action::Disarm(MachineTimer::Backoff));
        match self.reconnect {
            Reconnect::WhenAsked => self.report(State::Idle, None, None, out),
            Reconnect::Immediately => {
                self.report(State::Connecting, None, None, out);
                self.start_pass(None, now, random, out);
            }
        }
    }

    /// No pass for another connection before `until`.
    fn rest(&mut self, until: Timestamp, now: Timestamp, out: &mut Vec<Action>) {
        let until = self.resting_until.map_or(until, |before| before.max(until));
        if until > now {
            self.resting_until = Some(until);
            out.push(Action::Arm(MachineTimer::Backoff, until));
        }
    }

    /// What a connection has earned counts once: a peer that serves on one connection and refuses
    /// every other is asked for them ever more seldom.
    fn take_reset(&mut self, now: Timestamp) {
        for connected in &mut self.connected {
            if connected.is_proven(now) && !std::mem::replace(&mut connected.spent, true) {
                self.failures = 0;
            }
        }
    }

    /// Ends the pass, and the attempts that run.
    fn end_pass(&mut self, out: &mut Vec<Action>) {
        let Some(pass) = self.pass.take() else { return };
        let running = pass.tried.iter().filter(|attempt| attempt.running);
        out.extend(running.map(|attempt| Action::CancelDial(attempt.id)));
        out.push(Action::Disarm(MachineTimer::AttemptDelay));
        out.push(Action::Disarm(MachineTimer::PassDeadline));
    }

    /// Gives up whatever is going on.
    fn abandon(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        self.end_pass(out);
        if self.connected.iter().any(|it| it.is_proven(now)) {
            self.failures = 0;
        }
        let released = self.connected.drain(..);
        out.extend(released.map(|it| Action::Release(it.id)));
        self.resting_until = None;
        out.push(Action::Disarm(MachineTimer::Backoff));
    }

    fn report(
        &mut self,
        state: State,
        error: Option<Status>,
        address: Option<Address>,
        out: &mut Vec<Action>,
    ) {
        if self.state != state {
            self.state = state;
            out.push(Action::Report {
                state,
                error,
                address,
            });
        }
    }
}

// === impl Pass ===

impl Pass {
    /// Whether an attempt waits until others of the channel have ended.
    fn has_one_waiting(&self) -> bool {
        let mut tried = self.tried.iter();
        tried.any(|attempt| attempt.running && !attempt.dialling)
    }

    /// Lets the deadline run while somebody dials, and stops it while nobody does.
    fn look_at_clock(&mut self, now: Timestamp, out: &mut Vec<Action>) {
        let mut tried = self.tried.iter();
        let dialling = tried.any(|attempt| attempt.running && attempt.dialling);
        match self.dialling_since {
            None if dialling => {
                self.dialling_since = Some(now);
                out.push(Action::Arm(MachineTimer::PassDeadline, now + self.left));
            }
            Some(since) if !dialling => {
                self.dialling_since = None;
                self.left = self.left.saturating_sub(now - since);
                out.push(Action::Disarm(MachineTimer::PassDeadline));
            }
            _ => {}
        }
    }
}

// === impl Established ===

impl Established {
    /// Whether the connection has earned a new start of the back-off.
    fn is_proven(&self, now: Timestamp) -> bool {
        let ready = |since| now - since >= PROVEN_AFTER;
        self.earned || self.ready_since.is_some_and(ready)
    }
}

/// The list without duplicates; the first of them stays.
fn distinct(addresses: &[Address]) -> SmallVec<[Address; 1]> {
    let mut distinct = SmallVec::with_capacity(addresses.len());
    for address in addresses {
        if !distinct.contains(address) {
            distinct.push(address.clone());
        }
    }
    distinct
}
