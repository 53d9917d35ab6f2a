//! SubConns: the machines' actions carried out.

use std::{panic::AssertUnwindSafe, time::Duration};

use balancer_api::{Address, ConnectivityState as State, StateCause, Status, SubConn, Timestamp};
use futures_util::{
    FutureExt,
    future::{AbortHandle, Abortable},
};
use smallvec::SmallVec;
use tracing::Instrument as _;

use super::{Actor, TimerKey, health::Health};
use crate::{
    by_id::shrink,
    chatter::Chatter,
    contain::defuse,
    env::{ConnectRequest, Connected, Connection, Env, Lost},
    machine::{Action, AttemptId, Machine},
    queue::Item,
    sub_conn::SubConnCell,
    sync::{Arc, Ordering, lock},
};

/// A SubConn as the balancer's task sees it.
pub(super) struct SubEntry<C> {
    sub_conn: SubConn,
    pub(super) cell: Arc<SubConnCell<C>>,
    pub(super) machine: Machine,
    /// What the policy was told last. Behind the machine while a backend's health is not known.
    pub(super) told: State,
    dials: Dials,
    /// The connections of the READY machine, oldest first; RPCs are given the first.
    pub(super) connected: Vec<Live<C>>,
    /// Whether the connections are to say when RPCs wait for a stream.
    pub(super) watched: bool,
    /// Whether it has been connected or has failed once.
    pub(super) settled_once: bool,
    pub(super) chatter: Chatter,
}

/// A connection in use.
pub(super) struct Live<C> {
    pub(super) attempt: AttemptId,
    pub(super) connection: Arc<C>,
    pub(super) address: Address,
    /// Where the backend's health is asked.
    pub(super) health: Option<Health>,
    /// How often the time between its pings was doubled.
    keepalive_doublings: u32,
    /// The task that made it, and waits for its loss.
    watching: Option<AbortHandle>,
}

/// An attempt: waiting for a permit, or running.
struct Dial {
    address: Address,
    running: Option<AbortHandle>,
    holds_permit: bool,
    keepalive_doublings: u32,
}

/// The attempts of one SubConn: one, as a rule, for which a map would make room for eleven. With
/// 100,000 SubConns that is 50 MB.
struct Dials(SmallVec<[(AttemptId, Dial); 1]>);

/// A state change on its way to the policy.
pub(super) struct Delivery {
    pub(super) sub_conn: SubConn,
    pub(super) state: State,
    pub(super) error: Option<Status>,
    pub(super) address: Option<Address>,
    pub(super) cause: StateCause,
}

/// An attempt that has run for so long no longer keeps others from starting, so that a black hole
/// delays nobody.
const PERMIT_EXPIRES: Duration = Duration::from_secs(1);

impl<E: Env> Actor<E> {
    pub(super) fn new_sub_conn(
        &mut self,
        sub_conn: SubConn,
        cell: Arc<SubConnCell<E::Connection>>,
    ) {
        if !self.is_alive(cell.instance) {
            // Made on another thread while its policy was being closed: nobody will remove it.
            lock(&cell.info).state = State::Shutdown;
            return;
        }
        let mut machine = Machine::new(
            &lock(&cell.info).addresses,
            cell.options.reconnect,
            cell.options.attempt_delay,
            self.pacing.clone(),
        );
        machine.set_max_connections(self.max_connections(), &mut Vec::new());
        lock(&self.shared.sub_conns).insert(cell.id, cell.clone());
        let entry = SubEntry {
            sub_conn,
            cell: cell.clone(),
            machine,
            told: State::Idle,
            dials: Dials(SmallVec::new()),
            connected: Vec::new(),
            watched: false,
            settled_once: false,
            chatter: Chatter::default(),
        };
        self.sub_conns.insert(cell.id, Box::new(entry));
    }

    pub(super) fn remove_sub_conn(&mut self, id: u64) {
        self.drive(id, |machine, now, _, out| machine.remove(now, out));
        if let Some(entry) = self.sub_conns.remove(&id) {
            entry.cell.removed.store(true, Ordering::Relaxed);
        }
        shrink(&mut self.sub_conns);
        lock(&self.shared.sub_conns).remove(&id);
    }

    pub(super) fn update_addresses(&mut self, id: u64, addresses: Vec<Address>) {
        let max = self.shared.settings.max_endpoints;
        if addresses.len() > max {
            tracing::warn!(
                sub_conn = id,
                max,
                "a longer address list than allowed is ignored"
            );
            return;
        }
        self.drive(id, |machine, now, random, out| {
            machine.update_addresses(addresses, now, random, out);
        });
        if let Some(entry) = self.sub_conns.get(&id) {
            lock(&entry.cell.info).addresses = entry.machine.addresses().to_vec();
        }
    }

    /// Lets something happen to a SubConn's machine and carries out what follows.
    pub(super) fn drive(
        &mut self,
        id: u64,
        happen: impl FnOnce(&mut Machine, Timestamp, u64, &mut Vec<Action>),
    ) {
        if !self.sub_conns.contains_key(&id)
            && let Some((sub_conn, cell)) = self.shared.queue.pop_birth(id)
        {
            self.new_sub_conn(sub_conn, cell);
        }
        let Some(entry) = self.sub_conns.get_mut(&id) else {
            return;
        };
        // Before whatever happens, which may be the connection's loss.
        for live in &entry.connected {
            if live.connection.answered() {
                entry.machine.earned(live.attempt);
            }
        }
        let (now, random) = (self.clock, self.shared.env.random());
        let mut actions = self.spare.pop().unwrap_or_default();
        happen(&mut entry.machine, now, random, &mut actions);
        self.carry_all_out(id, actions);
    }

    fn carry_all_out(&mut self, id: u64, mut actions: Vec<Action>) {
        for action in actions.drain(..) {
            self.carry_out(id, action);
        }
        self.spare.push(actions);
        self.watch_crowd(id);
    }

    fn carry_out(&mut self, id: u64, action: Action) {
        let Some(entry) = self.sub_conns.get_mut(&id) else {
            return;
        };
        match action {
            Action::Dial(attempt, address) => {
                entry.dials.insert(
                    attempt,
                    Dial {
                        address,
                        running: None,
                        holds_permit: false,
                        keepalive_doublings: 0,
                    },
                );
                self.dial_queue.push_back((id, attempt));
            }
            Action::CancelDial(attempt) => self.end_dial(id, attempt),
            // RPCs find the connection when READY is told.
            Action::Adopt(attempt) => {
                let live = entry.connected.last();
                debug_assert_eq!(live.map(|live| live.attempt), Some(attempt));
                self.grown(id);
            }
            Action::Release(attempt) => self.release(id, attempt),
            Action::NotMore(error) => self.not_more(id, error),
            Action::Arm(timer, at) => self.timers.arm(TimerKey::SubConn(id, timer), at),
            Action::Disarm(timer) => {
                self.timers.disarm(TimerKey::SubConn(id, timer));
            }
            Action::Report {
                state: State::Ready,
                ..
            } => self.connected(id),
            Action::Report {
                state,
                error,
                address,
            } => {
                // Lost again before READY could be told: nothing has changed for the policy.
                if (entry.told, state) != (State::Connecting, State::Connecting) {
                    self.tell(id, state, error, address, StateCause::Connectivity);
                }
            }
            Action::ResolveNow => {
                if entry.cell.lookaside.is_none() {
                    self.request_resolution();
                }
            }
        }
    }

    /// The machine is READY. So is the SubConn, unless the backend is asked for its health first.
    fn connected(&mut self, id: u64) {
        let Some(entry) = self.sub_conns.get(&id) else {
            return;
        };
        let Some(live) = entry.connected.first() else {
            return;
        };
        debug_assert_eq!(entry.machine.state(), State::Ready);
        match self.health_service(entry) {
            Some(service) => self.begin_health(id, service),
            None => {
                entry.cell.adopt(live.connection.clone());
                let address = live.address.clone();
                let cause = StateCause::Connectivity;
                self.tell(id, State::Ready, None, Some(address), cause);
            }
        }
    }

    /// Puts a state change on its way to the policy.
    pub(super) fn tell(
        &mut self,
        id: u64,
        state: State,
        error: Option<Status>,
        address: Option<Address>,
        cause: StateCause,
    ) {
        let Some(entry) = self.sub_conns.get_mut(&id) else {
            return;
        };
        let why = error.as_ref().map(tracing::field::display);
        let place = address.as_ref().map(tracing::field::display);
        match entry.chatter.may_speak(self.clock) {
            // What people look for first.
            Some(untold) if state == State::TransientFailure => tracing::info!(
                sub_conn = id, %state, ?cause, error = why, untold, "SubConn state"
            ),
            Some(untold) => tracing::debug!(
                sub_conn = id, %state, ?cause, error = why, address = place, untold, "SubConn state"
            ),
            None => tracing::trace!(
                sub_conn = id, %state, ?cause, error = why, address = place, "SubConn state"
            ),
        }
        if state == State::Ready {
            entry.machine.told_ready(self.clock);
        }
        entry.told = state;
        entry.settled_once |= matches!(state, State::Ready | State::TransientFailure);
        let mut info = lock(&entry.cell.info);
        info.state = state;
        info.connected.clone_from(&address);
        if error.is_some() {
            info.last_error.clone_from(&error);
        }
        drop(info);
        let sub_conn = entry.sub_conn.clone();
        self.deliveries.push_back(Delivery {
            sub_conn,
            state,
            error,
            address,
            cause,
        });
    }

    /// The connection of a SubConn; its oldest.
    pub(super) fn live(&mut self, id: u64) -> Option<&mut Live<E::Connection>> {
        self.sub_conns.get_mut(&id)?.connected.first_mut()
    }

    /// Closes a connection gracefully. Where it was the one that RPCs are given, they are given the
    /// next.
    fn release(&mut self, id: u64, attempt: AttemptId) {
        let Some(entry) = self.sub_conns.get_mut(&id) else {
            return;
        };
        let Some(at) = entry.connected.iter().position(|it| it.attempt == attempt) else {
            return;
        };
        let live = entry.connected.remove(at);
        let mut info = lock(&entry.cell.info);
        info.connections.remove(at);
        info.calls += live.connection.calls();
        drop(info);
        let next = entry.connected.first().map(|live| live.connection.clone());
        entry.watched &= next.is_some();
        if at == 0 && entry.cell.connection().is_some() {
            // In one step: an RPC that found none would wait for a picker, and none is coming.
            entry.cell.replace(next);
        }
        if let Some(watching) = &live.watching {
            watching.abort();
        }
        live.connection.close();
        if at > 0 {
            return;
        }
        self.timers.disarm(TimerKey::Health(id));
        if let Some(health) = &live.health {
            // Until the watch on the next connection is answered the old word counts.
            self.begin_health(id, health.service().clone());
        }
    }

    /// Starts attempts that wait, as far as there are permits. At the end of a burst: a policy that removes
    /// all of its SubConns has none dialled for that is removed next.
    pub(super) fn start_dials(&mut self) {
        if !self.dial_queue.is_empty() {
            self.look();
        }
        while self.connecting < self.shared.settings.max_connecting.max(1) {
            let Some((id, attempt)) = self.dial_queue.pop_front() else {
                return;
            };
            let Some(entry) = self.sub_conns.get_mut(&id) else {
                continue;
            };
            let Some(dial) = entry.dials.get_mut(attempt) else {
                continue;
            };
            let mut request = ConnectRequest::new(dial.address.clone());
            request.lookaside = entry.cell.lookaside.as_deref().cloned();
            request.keepalive_doublings = self.keepalive_doublings;
            dial.keepalive_doublings = self.keepalive_doublings;
            let (abort, registration) = AbortHandle::new_pair();
            dial.running = Some(abort);
            dial.holds_permit = true;
            self.connecting += 1;
            self.timers.arm(
                TimerKey::DialPermit(id, attempt),
                self.clock + PERMIT_EXPIRES,
            );
            let span = tracing::debug_span!(
                "connect", sub_conn = id, address = %request.address
            );
            let shared = self.shared.clone();
            let beside = entry.connected.first().map(|live| live.connection.clone());
            // One task for the attempt and for what comes of it: with many connections each counts.
            let task = async move {
                // The connector is an application's code where it gave one.
                let connecting = async {
                    let connecting = match &beside {
                        None => shared.env.connect(request),
                        Some(first) => shared.env.connect_beside(first, request),
                    };
                    drop(beside);
                    connecting.await
                };
                let connecting = AssertUnwindSafe(connecting).catch_unwind();
                let connecting = connecting.instrument(span);
                let result = connecting.await.unwrap_or_else(|panic| {
                    let message = defuse(panic);
                    Err(Status::unavailable(format!(
                        "the connector panicked: {message}"
                    )))
                });
                let (result, lost) = match result {
                    Ok(Connected { connection, lost }) => (Ok(Arc::new(connection)), Some(lost)),
                    Err(error) => (Err(error), None),
                };
                shared.queue.push(Item::Dialled(id, attempt, result));
                let queue = shared.queue.clone();
                drop(shared);
                if let Some(lost) = lost {
                    queue.push(Item::Lost(id, attempt, lost.await));
                }
            };
            let task = Abortable::new(task, registration).map(|_| ());
            self.shared.env.spawn(Box::pin(task));
            self.drive(id, |machine, now, _, out| {
                machine.dialling(attempt, now, out);
            });
        }
    }

    pub(super) fn release_permit(&mut self, id: u64, attempt: AttemptId) {
        let entry = self.sub_conns.get_mut(&id);
        if let Some(dial) = entry.and_then(|entry| entry.dials.get_mut(attempt))
            && std::mem::take(&mut dial.holds_permit)
        {
            self.connecting -= 1;
        }
    }

    /// Forgets an attempt, and ends it if it still runs.
    fn end_dial(&mut self, id: u64, attempt: AttemptId) {
        let entry = self.sub_conns.get_mut(&id);
        let dial = entry.and_then(|entry| entry.dials.get_mut(attempt));
        if let Some(running) = dial.and_then(|dial| dial.running.take()) {
            running.abort();
        }
        self.forget_dial(id, attempt);
    }

    /// Forgets an attempt, and gives its permit back.
    fn forget_dial(&mut self, id: u64, attempt: AttemptId) -> Option<Dial> {
        let entry = self.sub_conns.get_mut(&id)?;
        let dial = entry.dials.remove(attempt)?;
        self.timers.disarm(TimerKey::DialPermit(id, attempt));
        if dial.holds_permit {
            self.connecting -= 1;
        }
        Some(dial)
    }

    pub(super) fn dialled(
        &mut self,
        id: u64,
        attempt: AttemptId,
        result: Result<Arc<E::Connection>, Status>,
    ) {
        let Some(dial) = self.forget_dial(id, attempt) else {
            if let Ok(unwanted) = result {
                unwanted.close();
            }
            return;
        };
        let address = dial.address;
        match result {
            Err(error) => {
                if let Some(entry) = self.sub_conns.get_mut(&id) {
                    match entry.chatter.may_speak(self.clock) {
                        Some(untold) => tracing::debug!(
                            sub_conn = id, %address, %error, untold, "an attempt to connect failed"
                        ),
                        None => tracing::trace!(
                            sub_conn = id, %address, %error, "an attempt to connect failed"
                        ),
                    }
                }
                self.drive(id, |machine, now, random, out| {
                    machine.attempt_failed(attempt, error, now, random, out);
                });
            }
            Ok(connection) => {
                let mut actions = self.spare.pop().unwrap_or_default();
                let wanted = self.sub_conns.get_mut(&id);
                let Some(entry) =
                    wanted.and_then(|it| it.machine.connected(attempt, &mut actions).then_some(it))
                else {
                    self.spare.push(actions);
                    if let Some(running) = &dial.running {
                        running.abort();
                    }
                    connection.close();
                    return;
                };
                if entry.told == State::Ready {
                    entry.machine.told_ready(self.clock);
                }
                lock(&entry.cell.info).connections.push(connection.clone());
                // As a rule the only one, where a list makes room for four.
                entry.connected.reserve_exact(1);
                entry.connected.push(Live {
                    attempt,
                    connection,
                    address,
                    health: None,
                    keepalive_doublings: dial.keepalive_doublings,
                    watching: dial.running,
                });
                self.carry_all_out(id, actions);
            }
        }
    }

    pub(super) fn lost(&mut self, id: u64, attempt: AttemptId, lost: Lost) {
        let Some(entry) = self.sub_conns.get_mut(&id) else {
            return;
        };
        let Some(live) = entry.connected.iter().find(|live| live.attempt == attempt) else {
            // News of a connection that was given up already.
            return;
        };
        let doublings = live.keepalive_doublings;
        // It says what the peer did: GOAWAY with code and text, a close, silence after a ping.
        let (error, too_many_pings) = (&lost.status, lost.too_many_pings);
        match entry.chatter.may_speak(self.clock) {
            Some(untold) => tracing::info!(
                sub_conn = id, %error, too_many_pings, untold, "a connection takes no more RPCs"
            ),
            None => tracing::trace!(
                sub_conn = id, %error, too_many_pings, "a connection takes no more RPCs"
            ),
        }
        if lost.too_many_pings {
            // gRFC A8: twice as long between pings, on every later connection of the channel. Peers
            // that all complain of the same time have it doubled once.
            let doublings = doublings.saturating_add(1);
            self.keepalive_doublings = self.keepalive_doublings.max(doublings);
        }
        self.drive(id, |machine, now, random, out| {
            machine.lost(attempt, lost.status, now, random, out);
        });
    }

    /// The connection of a SubConn that a policy may start a call on.
    pub(super) fn connection_of(&self, sub_conn: &SubConn) -> Option<Arc<E::Connection>> {
        let cell = SubConnCell::<E::Connection>::of(sub_conn)?;
        if !cell.belongs_to(&self.shared.queue) {
            return None;
        }
        let entry = self.sub_conns.get(&cell.id)?;
        entry.connected.first().map(|live| live.connection.clone())
    }

    /// Whether some SubConn is in its first attempt to connect.
    pub(super) fn someone_connects_first(&self) -> bool {
        self.sub_conns.values().any(|entry| {
            !entry.settled_once && entry.cell.lookaside.is_none() && entry.told == State::Connecting
        })
    }

    /// All SubConns, the oldest first.
    pub(super) fn ids(&self) -> Vec<u64> {
        let mut ids: Vec<u64> = self.sub_conns.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Every connection that is up, in the order of their SubConns.
    pub(super) fn connections(&self) -> Vec<Arc<E::Connection>> {
        let ids = self.ids();
        let entries = ids.iter().filter_map(|id| self.sub_conns.get(id));
        let connected = entries.flat_map(|entry| &entry.connected);
        connected.map(|live| live.connection.clone()).collect()
    }
}

// === impl Dials ===

impl Dials {
    fn insert(&mut self, id: AttemptId, dial: Dial) {
        self.0.push((id, dial));
    }

    fn get_mut(&mut self, id: AttemptId) -> Option<&mut Dial> {
        let mut all = self.0.iter_mut();
        all.find(|(of, _)| *of == id).map(|(_, dial)| dial)
    }

    fn remove(&mut self, id: AttemptId) -> Option<Dial> {
        let at = self.0.iter().position(|(of, _)| *of == id)?;
        let (_, dial) = self.0.swap_remove(at);
        if self.0.is_empty() {
            self.0 = SmallVec::new();
        }
        Some(dial)
    }
}
