//! SubConns: states, dials, back-off, address lists.

use std::time::Duration;

use balancer_api::{Address, ConnectivityState as State, Reconnect, SubConn, Timestamp};
use balancer_testkit::witness::{Dial, Ending};

use super::{Conn, Fault, Item, Reference};

pub(super) struct Sub {
    pub(super) policy: u64,
    pub(super) handle: SubConn,
    addresses: Vec<Address>,
    reconnect: Reconnect,
    pub(super) state: State,
    pub(super) conn: Option<u64>,
    /// Which address is being dialled.
    at: usize,
    /// Failed passes since it was last READY.
    failures: u32,
    was_ready: bool,
    pass_began: Timestamp,
    retry_at: Option<Timestamp>,
    pub(super) removed: bool,
}

// === impl Sub ===

impl Sub {
    pub(super) fn new(
        policy: u64,
        handle: SubConn,
        addresses: Vec<Address>,
        reconnect: Reconnect,
    ) -> Self {
        Self {
            policy,
            handle,
            addresses,
            reconnect,
            state: State::Idle,
            conn: None,
            at: 0,
            failures: 0,
            was_ready: false,
            pass_began: Timestamp::ZERO,
            retry_at: None,
            removed: false,
        }
    }

    pub(super) fn due(&self) -> Option<Timestamp> {
        self.retry_at
    }
}

// === impl Reference ===

impl Reference {
    /// Moves a SubConn and has its policy told.
    pub(super) fn tell(&mut self, id: u64, state: State) {
        let Some(sub) = self.subs.get_mut(&id) else {
            return;
        };
        sub.state = state;
        if state == State::Connecting && self.fault == Fault::LeavesOutConnecting {
            return;
        }
        self.push(Item::Tell(id, state));
    }

    fn begin_pass(&mut self, id: u64) {
        let now = self.now();
        if let Some(sub) = self.subs.get_mut(&id) {
            sub.at = 0;
            sub.retry_at = None;
            sub.pass_began = now;
        }
        self.tell(id, State::Connecting);
    }

    pub(super) fn connect(&mut self, id: u64) {
        let again = self.is(Fault::ConnectsAgain);
        let Some(sub) = self.subs.get_mut(&id).filter(|sub| !sub.removed) else {
            return;
        };
        match sub.state {
            State::Idle if sub.was_ready && self.fault == Fault::RedialUntold => {
                sub.at = 0;
                sub.state = State::Connecting;
            }
            State::Idle => self.begin_pass(id),
            State::Ready if again => {
                sub.conn = None;
                self.begin_pass(id);
            }
            _ => {}
        }
    }

    pub(super) fn update_addresses(&mut self, id: u64, addresses: Vec<Address>) {
        let keeps = !self.is(Fault::ListedClosed);
        let stays = self.is(Fault::UnlistedStays);
        let Some(sub) = self.subs.get_mut(&id).filter(|sub| !sub.removed) else {
            return;
        };
        if sub.addresses == addresses {
            return;
        }
        let connected = sub.conn.and_then(|conn| self.conns.get_mut(&conn));
        let listed = connected.as_ref().is_some_and(|conn| {
            let mut list = addresses.iter();
            list.any(|address| address.addr() == conn.address)
        });
        sub.addresses = addresses;
        match (sub.state, connected) {
            (State::Ready, Some(_)) if (listed && keeps) || (!listed && stays) => {}
            (State::Ready, Some(conn)) => {
                conn.alive = false;
                let cut = sub.conn.take();
                if self.is(Fault::UnlistedCut) && !listed {
                    self.cut(cut);
                }
                self.begin_pass(id);
            }
            (State::Connecting, _) => sub.at = 0,
            _ => {}
        }
    }

    pub(super) fn remove(&mut self, id: u64) {
        let Some(sub) = self.subs.get_mut(&id).filter(|sub| !sub.removed) else {
            return;
        };
        sub.removed = true;
        sub.retry_at = None;
        let conn = sub.conn.take();
        if let Some(conn) = conn.and_then(|conn| self.conns.get_mut(&conn)) {
            conn.alive = false;
        }
        if self.is(Fault::RemovalCuts) {
            self.cut(conn);
        }
        if !self.is(Fault::ShutdownNever) {
            self.tell(id, State::Shutdown);
        }
        if self.is(Fault::ShutdownTwice) {
            self.tell(id, State::Shutdown);
        }
        if self.is(Fault::NewsAfterShutdown) {
            self.tell(id, State::Idle);
        }
    }

    /// Looks after what is being dialled, and after back-offs.
    pub(super) fn dial(&mut self) -> bool {
        let now = self.now();
        let ids: Vec<u64> = self.subs.keys().copied().collect();
        let mut moved = false;
        for id in ids {
            let Some(sub) = self.subs.get_mut(&id).filter(|sub| !sub.removed) else {
                continue;
            };
            if sub.retry_at.is_some_and(|at| at <= now) {
                sub.retry_at = None;
                moved = true;
                match self.reconnect(id) {
                    Reconnect::Immediately => self.begin_pass(id),
                    Reconnect::WhenAsked => self.tell(id, State::Idle),
                }
                continue;
            }
            if sub.state != State::Connecting {
                continue;
            }
            let Some(address) = sub.addresses.get(sub.at).map(|a| a.addr().to_owned()) else {
                moved = true;
                self.pass_failed(id);
                continue;
            };
            match self.peer(&address).dial {
                Dial::Hang => {}
                Dial::Refuse => {
                    moved = true;
                    if let Some(sub) = self.subs.get_mut(&id) {
                        sub.at += 1;
                    }
                }
                Dial::Accept => {
                    moved = true;
                    let conn = self.shared.id();
                    let made = Conn {
                        address,
                        alive: true,
                        open: true,
                    };
                    self.conns.insert(conn, made);
                    if let Some(sub) = self.subs.get_mut(&id) {
                        sub.conn = Some(conn);
                        sub.failures = 0;
                        sub.was_ready = true;
                    }
                    self.tell(id, State::Ready);
                }
            }
        }
        moved
    }

    fn pass_failed(&mut self, id: u64) {
        let (none, flat) = (
            self.is(Fault::NoBackOff),
            self.is(Fault::BackOffDoesNotGrow),
        );
        if let Some(sub) = self.subs.get_mut(&id) {
            let exponent = if flat { 0 } else { sub.failures.min(20) };
            let wait = match none {
                true => Duration::from_millis(1),
                false => Duration::from_secs_f64(1.6_f64.powi(exponent as i32).min(120.0)),
            };
            sub.failures += 1;
            sub.retry_at = Some(sub.pass_began + wait);
        }
        self.tell(id, State::TransientFailure);
    }

    fn reconnect(&self, id: u64) -> Reconnect {
        match self.fault {
            Fault::AlwaysWhenAsked => Reconnect::WhenAsked,
            Fault::AlwaysImmediately => Reconnect::Immediately,
            _ => self
                .subs
                .get(&id)
                .map_or(Reconnect::WhenAsked, |sub| sub.reconnect),
        }
    }

    /// The peer ends its connections.
    pub(super) fn end(&mut self, address: &str, how: Ending) {
        let ended: Vec<u64> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.open && conn.address == address)
            .map(|(id, _)| *id)
            .collect();
        for id in ended {
            if let Some(conn) = self.conns.get_mut(&id) {
                conn.alive = false;
            }
            if how == Ending::Reset || self.is(Fault::GoawayCuts) {
                self.cut(Some(id));
            }
            let lost = self.subs.iter().find(|(_, sub)| sub.conn == Some(id));
            let Some(lost) = lost.map(|(id, _)| *id) else {
                continue;
            };
            if let Some(sub) = self.subs.get_mut(&lost) {
                sub.conn = None;
            }
            if self.is(Fault::LossIsAFailure) {
                self.tell(lost, State::TransientFailure);
            }
            match self.reconnect(lost) {
                _ if self.is(Fault::LossStaysIdle) => self.tell(lost, State::Idle),
                Reconnect::Immediately => self.begin_pass(lost),
                Reconnect::WhenAsked => self.tell(lost, State::Idle),
            }
        }
    }

    /// A connection ends at once, and everything on it.
    fn cut(&mut self, id: Option<u64>) {
        let Some(id) = id else { return };
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.alive = false;
            conn.open = false;
        }
        self.rpcs_lost(id);
        self.calls_lost(id);
    }

    /// Closes what is left of a policy.
    pub(super) fn drop_subs_of(&mut self, policy: u64) {
        let gone: Vec<u64> = self
            .subs
            .iter()
            .filter(|(_, sub)| sub.policy == policy)
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            let Some(sub) = self.subs.remove(&id) else {
                continue;
            };
            if let Some(conn) = sub.conn.and_then(|conn| self.conns.get_mut(&conn)) {
                conn.alive = self.fault == Fault::ConnectionsLeak;
            }
        }
    }
}
