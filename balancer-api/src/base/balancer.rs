//! The balancer behind the base.

use std::{mem, sync::Arc};

use super::{
    BaseContext, PickerBuilder, ReadySet, ReadySubConn, ready::Change, sub_conns::SubConns,
};
use crate::{
    Attributes, Balancer, CallEvent, CallId, ClientConn, ConnectivityState as State,
    ConnectivityStateEvaluator, Endpoint, FailingPicker, LbConfig, NewSubConnOptions, PickError,
    QueuePicker, Rejected, ResolveError, ResolvedAddrs, StateCause, Status, SubConn, SubConnState,
    TimerId,
    hash::{FixedMap, is_wasteful},
};

pub(super) struct BaseBalancer<P: PickerBuilder> {
    cc: Arc<dyn ClientConn>,
    policy: P,
    options: NewSubConnOptions,

    /// The last accepted list, to recognise the same list again.
    list: Arc<[Endpoint]>,
    /// Whether an endpoint of the list has no SubConn, so that the same list is worth another try.
    incomplete: bool,
    config: Option<LbConfig>,
    attributes: Attributes,

    /// One per endpoint with a SubConn; `None` are free, listed in `free`.
    slots: Vec<Option<Slot<P::Data>>>,
    free: Vec<usize>,
    by_endpoint: FixedMap<Endpoint, usize>,
    by_sub_conn: SubConns,

    states: ConnectivityStateEvaluator,
    ready: ReadySet<P::Data>,
    /// What happened to the ready set since it was last built, by the places of its entries.
    changes: Vec<Change>,
    /// Whether there is another list, so that the set has to be built from the slots. Until then
    /// places mean nothing.
    reorder: bool,

    connection_error: Option<Status>,
    resolver_error: Option<ResolveError>,
    /// Whether the resolver has answered. Before that RPCs wait, whatever a hook asks for.
    answered: bool,
    /// Whether there is something to publish.
    dirty: bool,
    /// Silent from then on, even if a callback came late.
    closed: bool,
}

pub(super) struct Slot<D> {
    pub(super) sub_conn: SubConn,
    endpoint: Endpoint,
    /// Position in the resolver's list.
    rank: u32,
    /// Which entry of the ready set is this one's.
    place: u32,
    /// Which list this endpoint was last seen in.
    seen: bool,
    state: State,
    /// What it counts as: sticky failure keeps TRANSIENT_FAILURE until READY, and an IDLE SubConn
    /// counts as CONNECTING since it has been told to connect.
    counted: State,
    /// Whether there is a connection: in READY, and behind a TRANSIENT_FAILURE of health.
    live: bool,
    connected: u32,
    data: D,
}

// === impl BaseBalancer ===

impl<P: PickerBuilder> BaseBalancer<P> {
    pub(super) fn new(cc: Arc<dyn ClientConn>, policy: P, options: NewSubConnOptions) -> Self {
        Self {
            cc,
            policy,
            options,
            list: Arc::new([]),
            incomplete: false,
            config: None,
            attributes: Attributes::new(),
            slots: Vec::new(),
            free: Vec::new(),
            by_endpoint: FixedMap::default(),
            by_sub_conn: SubConns::default(),
            states: ConnectivityStateEvaluator::new(),
            ready: ReadySet::default(),
            changes: Vec::new(),
            reorder: false,
            connection_error: None,
            resolver_error: None,
            answered: false,
            dirty: false,
            closed: false,
        }
    }

    fn handle_list(&mut self, resolved: ResolvedAddrs) -> Result<(), Rejected> {
        let cx = BaseContext::of(&self.cc, &self.config, &self.attributes);
        let verdict = self.policy.set_config(resolved.config.as_ref(), &cx);
        if let Err(rejected) = verdict {
            // With no SubConn at all RPCs must hear of it; otherwise everything goes on as it was.
            if self.by_endpoint.is_empty() {
                self.resolver_error = Some(ResolveError::new(rejected.reason()));
                self.dirty = true;
            }
            return Err(rejected);
        }
        let same_config = match (&self.config, &resolved.config) {
            (Some(old), Some(new)) => old.is_same(new),
            (None, None) => true,
            _ => false,
        };
        let same_attributes = self.attributes == resolved.attributes;
        self.dirty |= !same_config || !same_attributes || self.resolver_error.is_some();
        self.resolver_error = None;
        self.config = resolved.config;
        self.attributes = resolved.attributes;

        let same_list = self.list.len() == resolved.endpoints.len()
            && (Arc::ptr_eq(&self.list, &resolved.endpoints)
                || self
                    .list
                    .iter()
                    .zip(&*resolved.endpoints)
                    .all(|(a, b)| a.is_identical(b)));
        if !same_list || self.incomplete {
            self.reconcile(&resolved.endpoints);
            self.list = resolved.endpoints.clone();
        }
        if resolved.endpoints.is_empty() {
            // Said again for each empty list: the note may differ.
            let note = resolved.note.as_deref().map(|note| format!(" ({note})"));
            let reason = format!(
                "resolver produced zero addresses{}",
                note.unwrap_or_default()
            );
            self.connection_error = None;
            self.resolver_error = Some(ResolveError::new(reason.clone()));
            self.dirty = true;
            return Err(Rejected::new(reason));
        }
        Ok(())
    }

    /// Makes SubConns for new endpoints, removes those of endpoints that are gone, and takes over
    /// order and attributes of the rest.
    fn reconcile(&mut self, endpoints: &[Endpoint]) {
        self.incomplete = false;
        self.reorder = true;
        self.dirty = true;
        let fresh = self.by_endpoint.is_empty();
        self.slots
            .reserve_exact(endpoints.len().saturating_sub(self.slots.len()));
        self.by_endpoint
            .reserve(endpoints.len().saturating_sub(self.by_endpoint.len()));
        let mut new: Vec<(usize, u32, &Endpoint)> = Vec::new();
        for (rank, endpoint) in endpoints.iter().enumerate() {
            let Some(at) = self.by_endpoint.get(endpoint).copied() else {
                let at = self.free_slot();
                self.by_endpoint.insert(endpoint.clone(), at);
                new.push((at, rank as u32, endpoint));
                continue;
            };
            match self.slots[at].as_mut() {
                // A duplicate: the first of them has set rank and attributes, or will be added below.
                None => {}
                Some(slot) if slot.seen => {}
                Some(slot) => {
                    slot.seen = true;
                    slot.rank = rank as u32;
                    if slot.endpoint.addresses() != endpoint.addresses() {
                        // The same set in another order. A connection in place is kept.
                        slot.sub_conn
                            .update_addresses(endpoint.addresses().to_vec());
                        let connected = slot
                            .endpoint
                            .addresses()
                            .get(slot.connected as usize)
                            .cloned();
                        slot.connected = position(endpoint, connected.as_ref());
                    }
                    slot.endpoint = endpoint.clone();
                }
            }
        }
        // Every client would open its first connection to the same backend otherwise.
        if fresh && !new.is_empty() {
            let start = self.cc.random() % new.len() as u64;
            new.rotate_left(start as usize);
        }
        self.by_sub_conn.reserve(new.len(), &self.slots);
        for (at, rank, endpoint) in new {
            self.add(at, rank, endpoint);
        }
        for at in 0..self.slots.len() {
            match &mut self.slots[at] {
                Some(slot) if slot.seen => slot.seen = false,
                Some(_) => {
                    if let Some(slot) = self.forget(at) {
                        self.cc.remove_sub_conn(&slot.sub_conn);
                    }
                }
                None => {}
            }
        }
        // A list may have named one endpoint very often.
        let room = self.slots.capacity().max(self.by_endpoint.capacity());
        if is_wasteful(self.by_endpoint.len(), room) {
            self.compact();
        }
    }

    /// A slot for an endpoint to come.
    fn free_slot(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        })
    }

    /// Fills a free slot, which the endpoint has already, or gives it back.
    fn add(&mut self, at: usize, rank: u32, endpoint: &Endpoint) {
        let addresses = endpoint.addresses().to_vec();
        let sub_conn = match self.cc.new_sub_conn(addresses, self.options.clone()) {
            Ok(sub_conn) => sub_conn,
            Err(error) => {
                self.incomplete = true;
                self.connection_error = Some(Status::unavailable(format!("{endpoint}: {error}")));
                self.by_endpoint.remove(endpoint);
                self.free.push(at);
                return;
            }
        };
        let cx = BaseContext::of(&self.cc, &self.config, &self.attributes);
        let data = self.policy.data(endpoint, &cx);
        sub_conn.connect();
        self.states.record_transition(None, State::Connecting);
        let slot = Slot {
            sub_conn: sub_conn.clone(),
            endpoint: endpoint.clone(),
            rank,
            place: 0,
            seen: true,
            state: State::Idle,
            counted: State::Connecting,
            live: false,
            connected: 0,
            data,
        };
        self.slots[at] = Some(slot);
        self.by_sub_conn.insert(&sub_conn, at, &self.slots);
    }

    /// Gives back the room of a list that was very much longer.
    fn compact(&mut self) {
        self.slots.retain(Option::is_some);
        self.slots.shrink_to_fit();
        self.free = Vec::new();
        self.by_sub_conn = SubConns::rebuilt(&self.slots);
        let slots = self.slots.iter().enumerate();
        let places = slots.filter_map(|(at, slot)| Some((slot.as_ref()?.endpoint.clone(), at)));
        self.by_endpoint = places.collect();
    }

    /// Takes a SubConn out of everything but the channel.
    fn forget(&mut self, at: usize) -> Option<Slot<P::Data>> {
        let slot = self.slots[at].take()?;
        self.free.push(at);
        self.by_endpoint.remove(&slot.endpoint);
        self.by_sub_conn.remove(&slot.sub_conn, at);
        self.states
            .record_transition(Some(slot.counted), State::Shutdown);
        if slot.state == State::Ready {
            let cx = BaseContext::of(&self.cc, &self.config, &self.attributes);
            self.policy.on_not_ready(&slot.as_ready(), &cx);
        }
        // The entries must not hold a SubConn that is gone.
        self.reorder = true;
        self.dirty = true;
        Some(slot)
    }

    /// Brings the ready set up to date with what happened since it was last built.
    fn build_ready(&mut self) {
        if self.reorder && self.states.current() != State::Ready {
            // Nobody looks at it yet. Of 100,000 that connect it would be large.
            self.changes.clear();
            self.ready = ReadySet::default();
            return;
        }
        if !mem::take(&mut self.reorder) {
            if !self.changes.is_empty() {
                self.ready = self.ready.with(mem::take(&mut self.changes));
            }
            return;
        }
        self.changes.clear();
        let mut slots: Vec<_> = self.slots.iter_mut().flatten().collect();
        slots.sort_unstable_by_key(|slot| slot.rank);
        let mut entries = Vec::with_capacity(slots.len());
        let mut ready = Vec::new();
        for (place, slot) in slots.into_iter().enumerate() {
            slot.place = place as u32;
            if slot.state == State::Ready {
                ready.push(slot.place);
            }
            entries.push(slot.as_ready());
        }
        self.ready = ReadySet::new(entries, ready);
    }

    fn publish(&mut self) {
        self.build_ready();
        let cx = BaseContext::of(&self.cc, &self.config, &self.attributes);
        let state = self.states.current();
        match state {
            State::Ready => {
                let picker = self.policy.build_picker(&self.ready, &cx);
                self.cc.update_balancer_state(state, picker);
            }
            State::Connecting | State::Idle => {
                self.cc.update_balancer_state(state, Arc::new(QueuePicker));
            }
            State::TransientFailure | State::Shutdown => {
                let picker = FailingPicker::new(self.failure());
                self.cc
                    .update_balancer_state(State::TransientFailure, Arc::new(picker));
            }
        }
    }

    /// The last connection error and the last resolver error, whichever there are.
    fn failure(&self) -> PickError {
        let connection = self
            .connection_error
            .as_ref()
            .map(|status| status.message().to_owned());
        let resolver = self
            .resolver_error
            .as_ref()
            .map(|error| format!("resolver: {error}"));
        match (connection, resolver) {
            (None, None) => PickError::TransientFailure(None),
            (Some(text), None) => PickError::transient_failure(text),
            (None, Some(text)) => PickError::transient_failure(text),
            (Some(connection), Some(resolver)) => {
                PickError::transient_failure(format!("{connection}; {resolver}"))
            }
        }
    }
}

impl<P: PickerBuilder> Balancer for BaseBalancer<P> {
    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, new: &SubConnState<'_>) {
        if self.closed {
            return;
        }
        let Some(at) = self.by_sub_conn.get(sub_conn, &self.slots) else {
            return;
        };
        if new.state == State::Shutdown {
            self.forget(at);
            return;
        }
        let Some(slot) = self.slots[at].as_mut() else {
            return;
        };
        let cx = BaseContext::of(&self.cc, &self.config, &self.attributes);
        let old = mem::replace(&mut slot.state, new.state);
        let counted = match (new.state, slot.counted) {
            (State::Connecting | State::Idle, State::TransientFailure) => State::TransientFailure,
            (State::Idle, _) => State::Connecting,
            (state, _) => state,
        };
        let counted_before = mem::replace(&mut slot.counted, counted);
        if counted != counted_before {
            let before = self.states.current();
            let after = self.states.record_transition(Some(counted_before), counted);
            self.dirty |= before != after;
        }
        if new.state == State::Ready {
            let connected = position(&slot.endpoint, new.address);
            // Most are connected to the same address as ever: an entry that needs no look is memory
            // that need not be fetched.
            if mem::replace(&mut slot.connected, connected) != connected {
                slot.with_entry(&self.ready, self.reorder, |it| it.set_connected(connected));
            }
            if old != State::Ready {
                slot.with_entry(&self.ready, self.reorder, |entry| {
                    self.policy.on_ready(entry, &cx);
                });
            }
            self.changes.push((slot.place, true));
            self.dirty = true;
        } else if old == State::Ready {
            slot.with_entry(&self.ready, self.reorder, |entry| {
                self.policy.on_not_ready(entry, &cx);
            });
            self.changes.push((slot.place, false));
            self.dirty = true;
        }
        if new.state == State::TransientFailure {
            if let Some(error) = new.error {
                self.connection_error = Some(error.clone());
            }
            // Its text is in the picker's message.
            self.dirty |= self.states.current() == State::TransientFailure;
        }
        let live = new.state == State::Ready || new.cause == StateCause::Health;
        let lost = mem::replace(&mut slot.live, live) && !live;
        if lost || (new.state == State::TransientFailure && !live) {
            self.cc.resolve_now();
        }
        if new.state == State::Idle {
            slot.sub_conn.connect();
        }
    }

    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        if self.closed {
            return Ok(());
        }
        self.answered = true;
        match resolved {
            Ok(resolved) => self.handle_list(resolved),
            Err(error) => {
                // Shown only while everything fails; otherwise the old list serves on.
                self.resolver_error = Some(error);
                self.dirty |= self.states.current() == State::TransientFailure;
                Ok(())
            }
        }
    }

    fn close(&mut self) {
        self.closed = true;
    }

    // No `exit_idle`: an IDLE SubConn has been told to connect already, so IDLE is never reported.

    fn handle_timer(&mut self, id: TimerId) {
        if self.closed {
            return;
        }
        let cx = BaseContext::of(&self.cc, &self.config, &self.attributes);
        self.dirty |= self.policy.handle_timer(id, &cx);
    }

    fn handle_call_event(&mut self, id: CallId, event: CallEvent) {
        if self.closed {
            return;
        }
        let cx = BaseContext::of(&self.cc, &self.config, &self.attributes);
        self.dirty |= self.policy.handle_call_event(id, event, &cx);
    }

    fn settle(&mut self) {
        if self.closed {
            return;
        }
        let cx = BaseContext::of(&self.cc, &self.config, &self.attributes);
        self.dirty |= self.policy.settle(&cx);
        if self.answered && mem::take(&mut self.dirty) {
            self.publish();
        }
    }
}

// === impl Slot ===

impl<D: Clone> Slot<D> {
    fn as_ready(&self) -> ReadySubConn<D> {
        ReadySubConn::new(
            self.sub_conn.clone(),
            self.endpoint.clone(),
            self.rank,
            self.connected,
            self.data.clone(),
        )
    }

    /// Shows its entry: the one in the set, unless that is of another list than the slot. A new one
    /// is references to count, in memory that nothing else looks at in a change.
    fn with_entry(&self, ready: &ReadySet<D>, reorder: bool, look: impl FnOnce(&ReadySubConn<D>)) {
        match ready.entry(self.place).filter(|_| !reorder) {
            Some(entry) => look(entry),
            None => look(&self.as_ready()),
        }
    }
}

/// Where `address` stands in the endpoint's list; the first place when that is not known.
fn position(endpoint: &Endpoint, address: Option<&crate::Address>) -> u32 {
    let found = address.and_then(|address| endpoint.addresses().iter().position(|a| a == address));
    found.unwrap_or(0) as u32
}
