//! A machine with a clock, timers and dials that a test moves by hand, checked after each step.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use balancer_api::{Address, ConnectivityState as State, Reconnect, Status, Timestamp};

use crate::{
    Backoff,
    machine::{Action, AttemptId, Machine, MachineTimer, Pacing},
};

/// Makes every jittered wait exact: the middle of the range.
pub(crate) const MIDDLE: u64 = 1 << 63;

/// A machine under test, and the world that it sees.
pub(crate) struct Rig {
    pub(crate) machine: Machine,
    pub(crate) mode: Reconnect,
    pub(crate) now: Timestamp,
    pub(crate) random: u64,
    pub(crate) timers: BTreeMap<MachineTimer, Timestamp>,
    pub(crate) dials: BTreeMap<AttemptId, Address>,
    /// Those of them that do not wait for their turn.
    begun: Vec<AttemptId>,
    /// Whether new ones have to wait.
    pub(crate) busy: bool,
    /// Oldest first.
    pub(crate) connected: Vec<(AttemptId, Address)>,
    pub(crate) max_connections: usize,
    /// The attempt that connected last.
    won: Option<AttemptId>,
    pub(crate) state: State,
    /// The list was emptied or replaced in the step that is being taken.
    updating: bool,
    /// READY is not told.
    pub(crate) unhealthy: bool,
    log: Vec<String>,
}

/// Addresses from words.
pub(crate) fn list(names: &str) -> Vec<Address> {
    names.split_whitespace().map(Address::new).collect()
}

pub(crate) fn refused() -> Status {
    Status::unavailable("refused")
}

pub(crate) fn reset() -> Status {
    Status::unavailable("reset")
}

pub(crate) fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

impl Rig {
    pub(crate) fn new(mode: Reconnect, names: &str) -> Self {
        Self::with(mode, names, None, Duration::from_secs(20))
    }

    pub(crate) fn racing(names: &str, delay: Duration) -> Self {
        Self::with(
            Reconnect::WhenAsked,
            names,
            Some(delay),
            Duration::from_secs(20),
        )
    }

    pub(crate) fn with(
        mode: Reconnect,
        names: &str,
        delay: Option<Duration>,
        min_connect: Duration,
    ) -> Self {
        let pacing = Arc::new(Pacing {
            backoff: Backoff::default(),
            min_connect_timeout: min_connect,
        });
        Self {
            machine: Machine::new(&list(names), mode, delay, pacing),
            mode,
            now: Timestamp::from_nanos(7_000_000_000),
            random: MIDDLE,
            timers: BTreeMap::new(),
            dials: BTreeMap::new(),
            begun: Vec::new(),
            busy: false,
            connected: Vec::new(),
            max_connections: 1,
            won: None,
            state: State::Idle,
            updating: false,
            unhealthy: false,
            log: Vec::new(),
        }
    }

    /// What happened since this was last asked.
    pub(crate) fn log(&mut self) -> String {
        std::mem::take(&mut self.log).join(", ")
    }

    pub(crate) fn connect(&mut self) -> &mut Self {
        let (now, random) = (self.now, self.random);
        self.step(|machine, out| machine.connect(now, random, out))
    }

    pub(crate) fn update(&mut self, names: &str) -> &mut Self {
        let (now, random) = (self.now, self.random);
        self.updating = true;
        self.step(|machine, out| machine.update_addresses(list(names), now, random, out));
        self.updating = false;
        if self.state != State::Shutdown {
            let mut distinct = list(names);
            distinct.sort_by_key(ToString::to_string);
            distinct.dedup();
            assert_eq!(self.machine.addresses().len(), distinct.len());
        }
        self
    }

    /// The attempt to `name` has its turn.
    pub(crate) fn begin(&mut self, name: &str) -> &mut Self {
        let (id, now) = (self.attempt(name), self.now);
        self.begun.push(id);
        self.step(|machine, out| machine.dialling(id, now, out))
    }

    /// One that waits, if one does.
    pub(crate) fn waiting(&self) -> Option<String> {
        let mut dials = self.dials.iter();
        let (_, address) = dials.find(|(id, _)| !self.begun.contains(id))?;
        Some(address.addr().to_owned())
    }

    /// The running attempt to `name` connects.
    pub(crate) fn succeed(&mut self, name: &str) -> &mut Self {
        let id = self.attempt(name);
        self.dials.remove(&id);
        self.connected.push((id, Address::new(name)));
        self.won = Some(id);
        let mut wanted = false;
        self.step(|machine, out| wanted = machine.connected(id, out));
        assert!(wanted, "the connection of a running attempt must be taken");
        self
    }

    /// The running attempt to `name` fails.
    pub(crate) fn fail(&mut self, name: &str) -> &mut Self {
        let id = self.attempt(name);
        self.dials.remove(&id);
        let error = Status::unavailable(format!("{name} refused"));
        let (now, random) = (self.now, self.random);
        self.step(|machine, out| machine.attempt_failed(id, error, now, random, out))
    }

    /// The oldest connection is lost.
    pub(crate) fn lose(&mut self) -> &mut Self {
        self.lose_nth(0)
    }

    /// One of the connections is lost, if there is such a one.
    pub(crate) fn lose_nth(&mut self, nth: usize) -> &mut Self {
        let Some((id, _)) = self.connected.get(nth).cloned() else {
            return self;
        };
        let (now, random) = (self.now, self.random);
        self.step(|machine, out| machine.lost(id, reset(), now, random, out))
    }

    /// Response headers come on the oldest connection.
    pub(crate) fn earn(&mut self) -> &mut Self {
        self.earn_nth(0)
    }

    pub(crate) fn earn_nth(&mut self, nth: usize) -> &mut Self {
        if let Some((id, _)) = self.connected.get(nth) {
            self.machine.earned(*id);
        }
        self
    }

    /// RPCs wait for a stream.
    pub(crate) fn crowd(&mut self) -> &mut Self {
        let (now, random) = (self.now, self.random);
        self.step(|machine, out| machine.crowded(now, random, out))
    }

    pub(crate) fn allow(&mut self, max: usize) -> &mut Self {
        self.max_connections = max;
        self.step(|machine, out| machine.set_max_connections(max, out))
    }

    pub(crate) fn reset_backoff(&mut self) -> &mut Self {
        let (now, random) = (self.now, self.random);
        self.step(|machine, out| machine.reset_backoff(now, random, out))
    }

    pub(crate) fn remove(&mut self) -> &mut Self {
        let now = self.now;
        self.step(|machine, out| machine.remove(now, out))
    }

    /// Lets time pass; timers fire on the way, in order.
    pub(crate) fn pass(&mut self, time: Duration) -> &mut Self {
        let end = self.now + time;
        while let Some((timer, at)) = self.next_timer().filter(|(_, at)| *at <= end) {
            self.now = at;
            self.fire(timer);
        }
        self.now = end;
        self
    }

    pub(crate) fn next_timer(&self) -> Option<(MachineTimer, Timestamp)> {
        let first = self.timers.iter().min_by_key(|(_, at)| **at);
        first.map(|(timer, at)| (*timer, *at))
    }

    pub(crate) fn fire(&mut self, timer: MachineTimer) {
        self.timers.remove(&timer).expect("an armed timer");
        let (now, random) = (self.now, self.random);
        self.step(|machine, out| machine.timer(timer, now, random, out));
    }

    /// How long until `timer` is due.
    pub(crate) fn due(&self, timer: MachineTimer) -> Option<Duration> {
        self.timers.get(&timer).map(|at| *at - self.now)
    }

    pub(crate) fn attempt(&self, name: &str) -> AttemptId {
        let found = self.dials.iter().find(|(_, it)| it.addr() == name);
        *found.unwrap_or_else(|| panic!("nobody dials {name}")).0
    }

    fn step(&mut self, happen: impl FnOnce(&mut Machine, &mut Vec<Action>)) -> &mut Self {
        let mut out = Vec::new();
        happen(&mut self.machine, &mut out);
        for action in out {
            self.take(action);
        }
        while let Some(id) = self.next_turn() {
            let mut out = Vec::new();
            self.begun.push(id);
            self.machine.dialling(id, self.now, &mut out);
            out.into_iter().for_each(|action| self.take(action));
        }
        if self.state == State::Ready && !self.unhealthy {
            self.machine.told_ready(self.now);
        }
        self.check();
        self
    }

    fn next_turn(&self) -> Option<AttemptId> {
        let mut dials = self.dials.keys().copied();
        dials.find(|id| !self.busy && !self.begun.contains(id))
    }

    fn take(&mut self, action: Action) {
        match action {
            Action::Dial(id, address) => {
                self.log.push(format!("dial {address}"));
                assert!(self.dials.insert(id, address).is_none(), "ids are unique");
            }
            Action::CancelDial(id) => {
                let address = self.dials.remove(&id).expect("only what runs is cancelled");
                self.log.push(format!("cancel {address}"));
            }
            Action::Adopt(id) => assert_eq!(self.won, Some(id), "adopts what connected"),
            Action::Release(id) => {
                let at = self.connected.iter().position(|(it, _)| *it == id);
                let (_, address) = self.connected.remove(at.expect("releases what it has"));
                self.log.push(format!("release {address}"));
            }
            Action::NotMore(error) => {
                assert_eq!(self.state, State::Ready, "more than what?");
                self.log.push(format!("no more({})", error.message()));
            }
            Action::Arm(timer, at) => {
                assert!(at >= self.now, "a timer in the past: {timer:?}");
                self.timers.insert(timer, at);
            }
            Action::Disarm(timer) => {
                self.timers.remove(&timer);
            }
            Action::Report {
                state,
                error,
                address,
            } => {
                let (from, to) = (self.state, state);
                assert!(
                    self.is_legal(from, to),
                    "{from} to {to} in mode {:?}",
                    self.mode
                );
                self.state = state;
                let detail = match (&error, &address) {
                    (Some(error), None) => format!("({})", error.message()),
                    (None, Some(address)) => format!("({address})"),
                    (None, None) => String::new(),
                    (Some(_), Some(_)) => panic!("an error of a connected SubConn"),
                };
                let name = match state {
                    State::Idle => "I",
                    State::Connecting => "C",
                    State::Ready => "R",
                    State::TransientFailure => "TF",
                    State::Shutdown => "X",
                };
                self.log.push(format!("{name}{detail}"));
            }
            Action::ResolveNow => self.log.push("resolve".to_owned()),
        }
    }

    /// The state table of the contract.
    fn is_legal(&self, from: State, to: State) -> bool {
        use State::{Connecting, Idle, Ready, Shutdown, TransientFailure};
        let asked = self.mode == Reconnect::WhenAsked;
        match (from, to) {
            (Shutdown, _) => false,
            (_, Shutdown) | (Idle, Connecting) | (Connecting, Ready | TransientFailure) => true,
            (Ready, Connecting) => !asked || self.updating,
            (Ready | TransientFailure, Idle) => asked || self.updating,
            (Connecting, Idle) => self.updating,
            (TransientFailure, Connecting) => !asked,
            _ => false,
        }
    }

    /// What holds between any two steps, liveness above all: whatever is not settled has a timer
    /// that will move it.
    fn check(&self) {
        assert_eq!(self.state, self.machine.state());
        let armed: Vec<_> = self.timers.keys().copied().collect();
        match self.state {
            State::Idle | State::Shutdown => {
                assert!(self.dials.is_empty() && self.connected.is_empty());
                assert_eq!(armed, [], "nothing goes on in {}", self.state);
            }
            State::Connecting => {
                assert!(!self.dials.is_empty() && self.connected.is_empty());
                let dialling = self.dials.keys().any(|id| self.begun.contains(id));
                assert_eq!(armed.contains(&MachineTimer::PassDeadline), dialling);
                let waiting = self.dials.keys().any(|id| !self.begun.contains(id));
                assert!(!(waiting && armed.contains(&MachineTimer::AttemptDelay)));
                assert!(!armed.contains(&MachineTimer::Backoff));
            }
            State::Ready => {
                let (_, address) = self.connected.first().expect("READY is connected");
                assert!(self.connected.iter().all(|(_, it)| it == address));
                // A dial for one more, or the wait for the next, or nothing. Both, where another was
                // lost meanwhile.
                assert!(!armed.contains(&MachineTimer::AttemptDelay));
                let deadline = armed.contains(&MachineTimer::PassDeadline);
                assert!(self.dials.len() <= 1, "one more at a time");
                let dialling = self.dials.keys().any(|id| self.begun.contains(id));
                assert_eq!(deadline, dialling);
                if self.max_connections <= 1 {
                    assert!(self.dials.is_empty(), "one was enough");
                }
                let full = self.connected.len() >= self.max_connections;
                let may = !full && self.dials.is_empty() && armed.is_empty();
                assert_eq!(self.machine.may_grow(), may);
            }
            State::TransientFailure => {
                assert!(self.dials.is_empty() && self.connected.is_empty());
                assert_eq!(armed, [MachineTimer::Backoff]);
            }
        }
    }
}
