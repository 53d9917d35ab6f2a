//! A small right channel in memory, and what can be wrong with it.
//!
//! [`Reference`] is a whole ClientConn on one thread: it builds policies and switches between them,
//! keeps SubConns with their back-off, sends RPCs with transparent retries, and runs timers and calls,
//! all from one queue. With a [`Fault`] it does one thing wrong.

mod calls;
mod conn;
mod fault;
mod policies;
mod rig;
mod rpcs;
mod sub_conns;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use balancer_api::{
    Address, Builder, CallEvent, ConnectivityState as State, Picker, Reconnect, SubConn, Timestamp,
};
use balancer_testkit::witness::{Peer, Resolved};
use bytes::Bytes;

pub use self::fault::Fault;
use self::{calls::Call, policies::Instance, rpcs::Rpc, sub_conns::Sub};

/// A channel in a world that a test moves by hand.
pub struct Reference {
    fault: Fault,
    shared: Arc<Shared>,
    policies: Vec<Arc<dyn Builder>>,
    current: Option<Instance>,
    pending: Option<Instance>,
    /// Closed, and called all the same by some faults.
    ghosts: Vec<Instance>,
    /// The policy of the last good config, with its config; `None` before there was one.
    chosen: Option<(String, Option<String>)>,
    /// The last that the resolver found.
    found: Option<Resolved>,
    published: Option<Published>,
    subs: BTreeMap<u64, Sub>,
    conns: BTreeMap<u64, Conn>,
    peers: BTreeMap<String, Peer>,
    rpcs: Vec<Rpc>,
    calls: BTreeMap<u64, Call>,
    /// Callbacks since the last settle.
    run: usize,
    closed: bool,
    /// What a forgetful channel never tells.
    graveyard: Vec<balancer_api::Done>,
}

/// What a policy's ClientConn and the channel have in common.
struct Shared {
    fault: Fault,
    queue: Mutex<VecDeque<Item>>,
    now: Mutex<Timestamp>,
    state: Mutex<State>,
    next: Mutex<u64>,
    timers: Mutex<BTreeMap<u64, Timer>>,
    /// Calls that were cancelled.
    cancelled: Mutex<BTreeSet<u64>>,
    /// Policies that are over.
    over: Mutex<BTreeSet<u64>>,
    reads: Mutex<u64>,
}

#[derive(Clone, Copy)]
struct Timer {
    due: Timestamp,
    policy: u64,
    fired: bool,
    cancelled: bool,
}

/// One thing to do. Everything goes through the queue.
enum Item {
    NewSub {
        policy: u64,
        id: u64,
        handle: SubConn,
        addresses: Vec<Address>,
        reconnect: Reconnect,
    },
    Connect(u64),
    Addresses(u64, Vec<Address>),
    Remove(u64),
    Publish(u64, State, Arc<dyn Picker>),
    Wake(u64),
    StartCall {
        policy: u64,
        id: u64,
        sub: Option<u64>,
        first: Option<Bytes>,
        half_close: bool,
    },
    Resolved(Result<Resolved, String>),
    /// A SubConn's state is to be told.
    Tell(u64, State),
    CallEvent(u64, CallEvent),
}

#[derive(Clone)]
struct Published {
    generation: u64,
    policy: String,
    picker: Arc<dyn Picker>,
}

/// A connection.
struct Conn {
    address: String,
    /// Whether new streams may be opened.
    alive: bool,
    open: bool,
}

/// So many callbacks, and then a settle.
const RUN: usize = 128;

/// More steps than that are a spin.
const SPIN: usize = 200_000;

// === impl Reference ===

impl Reference {
    /// A channel with `fault` that may use `policies`.
    pub fn new(fault: Fault, policies: Vec<Arc<dyn Builder>>) -> Self {
        Self {
            fault,
            shared: Arc::new(Shared {
                fault,
                queue: Mutex::default(),
                now: Mutex::new(Timestamp::ZERO + Duration::from_secs(1)),
                state: Mutex::new(State::Idle),
                next: Mutex::new(1),
                timers: Mutex::default(),
                cancelled: Mutex::default(),
                over: Mutex::default(),
                reads: Mutex::default(),
            }),
            policies,
            current: None,
            pending: None,
            ghosts: Vec::new(),
            chosen: None,
            found: None,
            published: None,
            subs: BTreeMap::new(),
            conns: BTreeMap::new(),
            peers: BTreeMap::new(),
            rpcs: Vec::new(),
            calls: BTreeMap::new(),
            run: 0,
            closed: false,
            graveyard: Vec::new(),
        }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn now(&self) -> Timestamp {
        *lock(&self.shared.now)
    }

    fn push(&self, item: Item) {
        lock(&self.shared.queue).push_back(item);
    }

    fn peer(&self, address: &str) -> Peer {
        self.peers.get(address).copied().unwrap_or_default()
    }

    /// Does everything that can be done without time passing.
    fn run(&mut self) {
        for _ in 0..SPIN {
            let item = lock(&self.shared.queue).pop_front();
            if let Some(item) = item {
                self.handle(item);
                let settle_now = self.run >= RUN && !self.is(Fault::SettlesAtTheEnd);
                if settle_now && !self.is(Fault::NeverSettles) {
                    self.settle();
                }
            } else if self.fire_timer() || self.dial() {
                // Something came of it.
            } else if self.run > 0 && !self.is(Fault::NeverSettles) {
                self.settle();
            } else if !(self.drive_rpcs() || self.drive_calls() || self.reap()) {
                return;
            }
        }
        panic!("the channel spins");
    }

    fn handle(&mut self, item: Item) {
        match item {
            Item::NewSub {
                policy,
                id,
                handle,
                addresses,
                reconnect,
            } => {
                if !self.is_over(policy) || self.is(Fault::SubConnAfterClose) {
                    let sub = Sub::new(policy, handle, addresses, reconnect);
                    self.subs.insert(id, sub);
                    if self.is(Fault::StateBeforeConnect) {
                        self.tell(id, State::Connecting);
                    }
                }
            }
            Item::Connect(sub) => self.connect(sub),
            Item::Addresses(sub, addresses) => self.update_addresses(sub, addresses),
            Item::Remove(sub) => self.remove(sub),
            Item::Publish(policy, state, picker) => self.publish(policy, state, picker),
            Item::Wake(policy) => self.wake(policy),
            Item::StartCall {
                policy,
                id,
                sub,
                first,
                half_close,
            } => self.start_call(policy, id, sub, first, half_close),
            Item::Resolved(answer) => self.resolved(answer),
            Item::Tell(sub, state) => self.deliver_state(sub, state),
            Item::CallEvent(id, event) => self.deliver_call(id, event),
        }
    }

    fn is_over(&self, policy: u64) -> bool {
        lock(&self.shared.over).contains(&policy)
    }

    /// The earliest moment at which something happens by itself.
    fn next_due(&self) -> Option<Timestamp> {
        let timers = lock(&self.shared.timers);
        let timers = timers
            .values()
            .filter(|timer| !timer.fired && !timer.cancelled)
            .map(|timer| timer.due)
            .collect::<Vec<_>>();
        let subs = self.subs.values().filter_map(Sub::due);
        let rpcs = self.rpcs.iter().filter_map(Rpc::due);
        let calls = self.calls.values().filter_map(Call::due);
        timers
            .into_iter()
            .chain(subs)
            .chain(rpcs)
            .chain(calls)
            .min()
    }

    /// Closes connections that nobody needs any more.
    fn reap(&mut self) -> bool {
        let used = |id: u64| {
            self.rpcs.iter().any(|rpc| rpc.conn() == Some(id))
                || self.calls.values().any(|call| call.conn() == Some(id))
        };
        let idle: Vec<u64> = self
            .conns
            .iter()
            .filter(|(id, conn)| conn.open && !conn.alive && !used(**id))
            .map(|(id, _)| *id)
            .collect();
        for id in &idle {
            if let Some(conn) = self.conns.get_mut(id) {
                conn.open = false;
            }
        }
        !idle.is_empty()
    }
}

impl std::fmt::Debug for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reference({:?})", self.fault)
    }
}

// === impl Shared ===

impl Shared {
    fn id(&self) -> u64 {
        let mut next = lock(&self.next);
        *next += 1;
        *next
    }

    fn push(&self, item: Item) {
        lock(&self.queue).push_back(item);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
