//! What the policies were told and did, SubConn by SubConn and pick by pick, held against the laws.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use balancer_api::{
    Address, ConnectivityState as State, DoneInfo, OnDone, Reconnect, StateCause, SubConn,
    Timestamp,
};
use balancer_channel_core::Backoff;

use crate::{
    law::Law,
    sim::{Sim, lock},
};

/// On each address of a SubConn: whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Tag(pub(crate) u64);

/// Everything that is written down.
pub(crate) struct Book {
    sim: Arc<Sim>,
    backoff: Backoff,
    /// Whether nobody blocks the thread, so that things happen when they are due.
    punctual: bool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    instances: Vec<InstanceRecord>,
    sub_conns: BTreeMap<u64, Record>,
    /// How often done was called, by pick.
    dones: Vec<u32>,
    last_pick: Option<Asked>,
    pickers: usize,
    /// Policies and pickers whose fault it can be that an RPC fails INTERNAL.
    wild: bool,
    /// Whether the application has asked for the end, and nothing was under way before.
    shut: bool,
    /// When the application last wanted all back-off to end.
    reset: Option<Timestamp>,
}

/// An instance of a policy.
pub(crate) struct InstanceRecord {
    pub(crate) name: String,
    pub(crate) closed: bool,
    pub(crate) dropped: bool,
    pub(crate) panicked: bool,
    pub(crate) mute: bool,
    in_callback: bool,
    pub(crate) published: Option<State>,
}

/// A SubConn.
struct Record {
    instance: usize,
    reconnect: Reconnect,
    told: State,
    asked: bool,
    removed: bool,
    /// From outside a callback: what is told meanwhile may cross that on its way.
    removed_outside: bool,
    pace: Pace,
}

/// What the back-off allows a SubConn. Where it cannot be known from outside, more is allowed.
#[derive(Default)]
struct Pace {
    failures: u32,
    /// No pass begins before this.
    not_before: Option<Timestamp>,
    /// When the pass began: at CONNECTING, before its first dial had a permit.
    begun: Option<Timestamp>,
    /// Whether it has dialled.
    dialled: bool,
    /// Since when it is connected, told or not.
    connected: Option<Timestamp>,
    answered: bool,
    /// It was given another list since the last dial: a connection may end by that.
    relisted: bool,
    /// When the last dial for another connection began, and when the next may after its failure.
    more: Option<Timestamp>,
    more_not_before: Option<Timestamp>,
}

/// Clocks are rounded.
const MARGIN: Duration = Duration::from_micros(1);

/// What the picker was asked last, and said.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    /// A SubConn of this channel, as the channel knows it.
    Good {
        sub_conn: SubConn,
        token: usize,
    },
    Foreign {
        token: usize,
    },
    Queue,
    TransientFailure,
    Panicked,
}

/// Counts dones.
pub(crate) struct Observer {
    pub(crate) book: Arc<Book>,
    /// Panics, to see who minds.
    pub(crate) panics: bool,
}

// === impl Book ===

impl Book {
    pub(crate) fn new(sim: &Arc<Sim>, backoff: Backoff, punctual: bool) -> Arc<Self> {
        Arc::new(Self {
            sim: sim.clone(),
            backoff,
            punctual,
            inner: Mutex::default(),
        })
    }

    // --- Policies.

    pub(crate) fn built(&self, name: &str, mute: bool) -> usize {
        let mut inner = lock(&self.inner);
        inner.instances.push(InstanceRecord {
            name: name.to_owned(),
            closed: false,
            dropped: false,
            panicked: false,
            mute,
            in_callback: false,
            published: None,
        });
        let number = inner.instances.len() - 1;
        drop(inner);
        self.sim.tell(format_args!("p{number}: built ({name})"));
        number
    }

    pub(crate) fn enter(&self, instance: usize, what: &str) {
        let (busy, closed) = {
            let mut inner = lock(&self.inner);
            let shut = inner.shut && what != "close";
            let record = &mut inner.instances[instance];
            let busy = std::mem::replace(&mut record.in_callback, true);
            (busy, record.closed || shut)
        };
        if busy {
            let what = format_args!("p{instance}: {what} during another callback");
            self.sim.fail(Law::Serial, what);
        }
        if closed {
            let what = format_args!("p{instance}: {what} after its close");
            self.sim.fail(Law::Serial, what);
        }
    }

    /// The application asks for the end, when everything waits.
    pub(crate) fn shut(&self) {
        lock(&self.inner).shut = true;
    }

    pub(crate) fn leave(&self, instance: usize) {
        lock(&self.inner).instances[instance].in_callback = false;
    }

    pub(crate) fn closed(&self, instance: usize) {
        let served = self.ready(instance) > 0;
        let mut inner = lock(&self.inner);
        inner.instances[instance].closed = true;
        let served = served && inner.instances[instance].published == Some(State::Ready);
        let follower = inner.instances.iter().skip(instance + 1).next_back();
        let hasty = follower.is_some_and(|it| {
            let waits = it.published.unwrap_or(State::Connecting) == State::Connecting;
            !it.closed && !it.panicked && waits
        });
        drop(inner);
        self.sim.tell(format_args!("p{instance}: closed"));
        if served && hasty {
            let what = format_args!("p{instance} was READY, and who follows it is CONNECTING");
            self.sim.fail(Law::Agrees, what);
        }
    }

    pub(crate) fn is_closed(&self, instance: usize) -> bool {
        lock(&self.inner).instances[instance].closed
    }

    pub(crate) fn panicked(&self, instance: usize) {
        let mut inner = lock(&self.inner);
        inner.wild = true;
        inner.instances[instance].panicked = true;
        inner.instances[instance].in_callback = false;
    }

    pub(crate) fn dropped(&self, instance: usize) {
        lock(&self.inner).instances[instance].dropped = true;
    }

    pub(crate) fn published(&self, instance: usize, state: State) {
        lock(&self.inner).instances[instance].published = Some(state);
        self.sim
            .tell(format_args!("p{instance}: publishes {state}"));
    }

    /// What the living instance of that name has published; `None` when it has panicked, or there
    /// is none.
    pub(crate) fn speaks(&self, name: &str) -> Option<(usize, Option<State>)> {
        let inner = lock(&self.inner);
        let mut instances = inner.instances.iter().enumerate().rev();
        let (number, found) = instances.find(|(_, it)| it.name == name)?;
        (!found.panicked && !found.closed && !found.mute).then_some((number, found.published))
    }

    /// How many SubConns of the instance are READY as far as it was told.
    pub(crate) fn ready(&self, instance: usize) -> usize {
        let inner = lock(&self.inner);
        let records = inner.sub_conns.values();
        let ready =
            |it: &&Record| it.instance == instance && it.told == State::Ready && !it.removed;
        records.filter(ready).count()
    }

    /// Whether a policy is at work.
    pub(crate) fn is_anybody_there(&self) -> bool {
        let inner = lock(&self.inner);
        let mut instances = inner.instances.iter();
        instances.any(|it| !it.closed && !it.panicked)
    }

    /// When the application last ended all back-off.
    pub(crate) fn last_reset(&self) -> Option<Timestamp> {
        lock(&self.inner).reset
    }

    pub(crate) fn picker_made(&self) {
        lock(&self.inner).pickers += 1;
    }

    pub(crate) fn picker_dropped(&self) {
        lock(&self.inner).pickers -= 1;
    }

    /// Policies and pickers that were not dropped.
    pub(crate) fn left(&self) -> (usize, usize) {
        let inner = lock(&self.inner);
        let policies = inner.instances.iter().filter(|it| !it.dropped).count();
        (policies, inner.pickers)
    }

    /// Whether a policy has given reason for INTERNAL.
    pub(crate) fn is_wild(&self) -> bool {
        lock(&self.inner).wild
    }

    pub(crate) fn goes_wild(&self) {
        lock(&self.inner).wild = true;
    }

    // --- Picks.

    /// A pick with somebody who wants to know how it ends.
    pub(crate) fn picked(&self) -> usize {
        let mut inner = lock(&self.inner);
        inner.dones.push(0);
        inner.dones.len() - 1
    }

    pub(crate) fn asked(&self, asked: Asked) {
        lock(&self.inner).last_pick = Some(asked);
    }

    pub(crate) fn take_asked(&self) -> Option<Asked> {
        lock(&self.inner).last_pick.take()
    }

    pub(crate) fn dones(&self, token: usize) -> u32 {
        lock(&self.inner).dones[token]
    }

    /// How many picks there were, and the first whose done was not called.
    pub(crate) fn undone(&self) -> (usize, Option<usize>) {
        let inner = lock(&self.inner);
        let undone = inner.dones.iter().position(|count| *count == 0);
        (inner.dones.len(), undone)
    }

    // --- SubConns.

    pub(crate) fn new_sub_conn(&self, instance: usize, reconnect: Reconnect) -> u64 {
        let id = self.sim.id();
        let record = Record {
            instance,
            reconnect,
            told: State::Idle,
            asked: false,
            removed: false,
            removed_outside: false,
            pace: Pace::default(),
        };
        lock(&self.inner).sub_conns.insert(id, record);
        id
    }

    pub(crate) fn connects(&self, id: u64) {
        if let Some(record) = lock(&self.inner).sub_conns.get_mut(&id) {
            record.asked = true;
        }
    }

    pub(crate) fn removed(&self, id: u64) {
        let mut inner = lock(&self.inner);
        let Inner {
            sub_conns,
            instances,
            ..
        } = &mut *inner;
        if let Some(record) = sub_conns.get_mut(&id) {
            record.removed = true;
            record.removed_outside = !instances[record.instance].in_callback;
        }
        drop(inner);
        self.sim.tell(format_args!("s{id}: removed"));
    }

    /// Another list: a new pass is allowed, since it may be another backend.
    pub(crate) fn relisted(&self, id: u64) {
        if let Some(record) = lock(&self.inner).sub_conns.get_mut(&id) {
            record.pace.not_before = None;
            record.pace.more_not_before = None;
            record.pace.relisted = true;
        }
    }

    /// The application wants attempts now.
    pub(crate) fn reset_backoff(&self) {
        let now = self.sim.now();
        let mut inner = lock(&self.inner);
        inner.reset = Some(now);
        for record in inner.sub_conns.values_mut() {
            record.pace.forgive();
        }
    }

    /// The peer's SETTINGS arrived.
    pub(crate) fn connected(&self, id: u64) {
        let now = self.sim.now();
        if let Some(record) = lock(&self.inner).sub_conns.get_mut(&id) {
            record.pace.connected = Some(now);
            record.pace.answered = false;
        }
    }

    /// An RPC on a connection of it was answered.
    pub(crate) fn answered(&self, id: u64) {
        if let Some(record) = lock(&self.inner).sub_conns.get_mut(&id) {
            record.pace.answered = true;
        }
    }

    /// A dial begins; answers whose.
    pub(crate) fn dialled(&self, address: &Address) -> u64 {
        let tag = address.balancer_attributes().get::<Tag>();
        let id = tag.map_or(0, |tag| tag.0);
        let now = self.sim.now();
        let mut inner = lock(&self.inner);
        let forgiven = inner.reset == Some(now);
        let Some(record) = inner.sub_conns.get_mut(&id) else {
            drop(inner);
            let what = format_args!("{address} is dialled for no SubConn");
            self.sim.fail(Law::Ready, what);
            return id;
        };
        let pace = &mut record.pace;
        pace.relisted = false;
        if forgiven {
            pace.forgive();
        }
        let begun = *pace.begun.get_or_insert(now);
        let first = !std::mem::replace(&mut pace.dialled, true);
        let early = match pace.not_before {
            Some(not_before) if first && begun < not_before => Some(not_before - begun),
            _ => None,
        };
        let (failures, asked, instance) = (pace.failures, record.asked, record.instance);
        let owner = &inner.instances[instance];
        let gone = owner.closed || owner.panicked;
        drop(inner);
        if gone {
            let what = format_args!("s{id}: dials for p{instance}, which is gone");
            self.sim.fail(Law::Serial, what);
        }
        if let (true, Some(early)) = (self.punctual, early) {
            let what = format_args!("s{id}: dials {early:?} early after {failures} failed passes");
            self.sim.fail(Law::Backoff, what);
        }
        if !asked {
            let what = format_args!("s{id}: dials without having been asked to connect");
            self.sim.fail(Law::Moves, what);
        }
        id
    }

    /// A dial for another connection of a SubConn begins; answers whose.
    pub(crate) fn dialled_more(&self, address: &Address) -> u64 {
        let tag = address.balancer_attributes().get::<Tag>();
        let id = tag.map_or(0, |tag| tag.0);
        let now = self.sim.now();
        let mut inner = lock(&self.inner);
        let forgiven = inner.reset == Some(now);
        let early = inner.sub_conns.get_mut(&id).and_then(|record| {
            record.pace.more = Some(now);
            let not_before = record.pace.more_not_before.take()?;
            (now < not_before && !forgiven).then(|| not_before - now)
        });
        drop(inner);
        if let (true, Some(early)) = (self.punctual, early) {
            let what = format_args!("s{id}: dials another connection {early:?} early");
            self.sim.fail(Law::Backoff, what);
        }
        id
    }

    /// A dial for another connection failed.
    pub(crate) fn failed_more(&self, id: u64) {
        // What a connection has earned in between may have made the wait a first one again.
        let least = self.backoff.exact(0).mul_f64(0.8);
        if let Some(record) = lock(&self.inner).sub_conns.get_mut(&id) {
            let pace = &mut record.pace;
            let begun = pace.more.take();
            pace.more_not_before = begun.map(|at| at + least.saturating_sub(MARGIN));
        }
    }

    /// The policy is told of a move.
    pub(crate) fn told(&self, id: u64, state: State, cause: StateCause) {
        self.sim.tell(format_args!("s{id}: {state}"));
        let now = self.sim.now();
        let mut inner = lock(&self.inner);
        let forgiven = inner.reset == Some(now);
        let Some(record) = inner.sub_conns.get_mut(&id) else {
            return;
        };
        let from = std::mem::replace(&mut record.told, state);
        let legal = record.may_move(from, state, cause);
        let asked = record.asked;
        let crossed = record.removed_outside && state != State::Shutdown;
        let removed = record.removed && !crossed;
        if cause == StateCause::Connectivity {
            record.pace.moved(state, now, &self.backoff);
        }
        if forgiven {
            record.pace.forgive();
        }
        drop(inner);
        if !legal {
            let what = format_args!("s{id}: {from} to {state} ({cause:?})");
            self.sim.fail(Law::Moves, what);
        }
        if !asked && state != State::Shutdown {
            let what = format_args!("s{id}: {state} before it was asked to connect");
            self.sim.fail(Law::Moves, what);
        }
        if removed != (state == State::Shutdown) {
            let what = format_args!("s{id}: {state}, and removed is {removed}");
            self.sim.fail(Law::Moves, what);
        }
    }
}

// === impl Record ===

impl Record {
    fn may_move(&self, from: State, to: State, cause: StateCause) -> bool {
        let immediately = self.reconnect == Reconnect::Immediately;
        match (from, to) {
            (State::Shutdown, _) => false,
            (_, State::Shutdown) => true,
            (State::Ready, State::TransientFailure) | (State::TransientFailure, State::Ready) => {
                cause == StateCause::Health
            }
            (State::Idle, State::Connecting)
            | (State::Connecting, State::Ready | State::TransientFailure | State::Idle)
            | (State::Ready, State::Connecting)
            | (State::TransientFailure, State::Idle | State::Connecting) => true,
            // Emptied, or lost where nobody reconnects unasked.
            (State::Ready, State::Idle) => !immediately,
            _ => false,
        }
    }
}

// === impl Pace ===

impl Pace {
    fn moved(&mut self, to: State, now: Timestamp, backoff: &Backoff) {
        let begun = self.begun.unwrap_or(now);
        let was_connected = self.connected.is_some();
        match to {
            State::Idle | State::Connecting if was_connected => {
                let since = self.connected.take().unwrap_or(now);
                // Proven, or so nearly that it is not for us to judge.
                if self.answered || now - since >= Duration::from_millis(990) {
                    self.failures = 0;
                    self.not_before = None;
                } else if self.relisted {
                    self.not_before = None;
                } else {
                    self.failed(begun, backoff);
                }
            }
            State::TransientFailure => {
                self.connected = None;
                if self.dialled {
                    self.failed(begun, backoff);
                }
            }
            _ => {}
        }
        if to != State::Ready {
            self.more_not_before = None;
            self.dialled = false;
            self.begun = (to == State::Connecting).then_some(now);
        }
    }

    fn failed(&mut self, begun: Timestamp, backoff: &Backoff) {
        let least = backoff.exact(self.failures).mul_f64(0.8);
        self.not_before = Some(begun + least.saturating_sub(MARGIN));
        self.failures += 1;
    }

    fn forgive(&mut self) {
        self.failures = 0;
        self.not_before = None;
        self.more_not_before = None;
    }
}

// === impl Observer ===

impl OnDone for Observer {
    fn on_done(&self, token: u64, _: &DoneInfo<'_>) {
        let count = {
            let mut inner = lock(&self.book.inner);
            let count = &mut inner.dones[token as usize];
            *count += 1;
            *count
        };
        if count > 1 {
            let what = format_args!("pick {token}: done {count} times");
            self.book.sim.fail(Law::Done, what);
        }
        if self.panics {
            panic!("chaos: done");
        }
    }
}
