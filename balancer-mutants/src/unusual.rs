//! Right policies that do things in their own way: the kit must stay silent on them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use balancer_api::{
    Balancer, BuildOptions, Builder, ClientConn, ConnectivityState as State,
    ConnectivityStateEvaluator, Endpoint, FailingPicker, HealthReporting, NewSubConnOptions, Pick,
    PickError, PickOptions, Picker, QueuePicker, Reconnect, Rejected, ResolveError, ResolvedAddrs,
    StateCause, SubConn, SubConnState,
    base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet},
};

/// A random backend for each RPC.
pub fn random() -> Arc<dyn Builder> {
    Arc::new(BaseBuilder::new("random", || Random(0)))
}

/// A random backend for each RPC; wants to hear of health.
pub fn random_with_health(mode: Reconnect) -> Arc<dyn Builder> {
    let builder = BaseBuilder::new("random_with_health", || Random(0))
        .with_health(HealthReporting::On)
        .with_reconnect(mode)
        .with_attempt_delay(Some(Duration::from_millis(100)));
    Arc::new(builder)
}

/// Every third backend gets twice as much.
pub fn weighted() -> Arc<dyn Builder> {
    Arc::new(BaseBuilder::new("weighted", || Random(3)))
}

/// A round robin that does all its work in `settle`, and half of that one `wake` later.
#[derive(Clone, Copy, Debug)]
pub struct Batching;

/// A round robin that makes a new SubConn after each loss instead of reconnecting.
#[derive(Clone, Copy, Debug)]
pub struct NeverReuses;

/// A round robin in the manner of the reference page: reconnecting is the SubConn's affair.
#[derive(Clone, Copy, Debug)]
pub struct PageRoundRobin;

struct Random(usize);
struct RandomPicker(ReadySet, usize);

impl PickerBuilder for Random {
    type Data = ();
    fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) {}
    fn build_picker(&mut self, ready: &ReadySet, _: &BaseContext<'_>) -> Arc<dyn Picker> {
        Arc::new(RandomPicker(ready.clone(), self.0))
    }
}

impl Picker for RandomPicker {
    fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let count = self.0.len() as u64;
        let mut at = options.random() % count;
        if self.1 > 0 && !at.is_multiple_of(self.1 as u64) && options.random().is_multiple_of(2) {
            at -= at % self.1 as u64;
        }
        let ready = self.0.get(at as usize);
        let ready = ready.ok_or(PickError::NoSubConnAvailable)?;
        Ok(Pick::new(ready.sub_conn()))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Batching,
    NeverReuses,
    Page,
}

struct Plain {
    way: Way,
    cc: Arc<dyn ClientConn>,
    entries: Vec<Entry>,
    list: Vec<Endpoint>,
    waiting: Option<Vec<Endpoint>>,
    turns: Arc<AtomicU64>,
    error: String,
    resolver_error: Option<String>,
    dirty: bool,
    woken: bool,
    /// Something must leave the picker at once.
    urgent: bool,
    closed: bool,
    answered: bool,
}

struct Entry {
    endpoint: Endpoint,
    sub_conn: Option<SubConn>,
    state: State,
    failed: bool,
}

struct Turns(Vec<SubConn>, Arc<AtomicU64>);

macro_rules! builder {
    ($name:ident, $way:ident, $word:literal) => {
        impl Builder for $name {
            fn name(&self) -> &str {
                $word
            }
            fn build(&self, cc: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
                Box::new(Plain::new(Way::$way, cc))
            }
        }
    };
}
builder!(Batching, Batching, "batching");
builder!(NeverReuses, NeverReuses, "never_reuses");
builder!(PageRoundRobin, Page, "page_round_robin");

impl Plain {
    fn new(way: Way, cc: Arc<dyn ClientConn>) -> Self {
        Self {
            way,
            cc,
            entries: Vec::new(),
            list: Vec::new(),
            waiting: None,
            turns: Arc::default(),
            error: String::new(),
            resolver_error: None,
            dirty: false,
            woken: false,
            urgent: false,
            closed: false,
            answered: false,
        }
    }

    fn connect(&mut self, endpoint: &Endpoint) -> Option<SubConn> {
        let mode = match self.way {
            Way::Page => Reconnect::Immediately,
            _ => Reconnect::WhenAsked,
        };
        let options = NewSubConnOptions::new().with_reconnect(mode);
        let made = self.cc.new_sub_conn(endpoint.addresses().to_vec(), options);
        match made {
            Ok(sub_conn) => {
                sub_conn.connect();
                Some(sub_conn)
            }
            Err(error) => {
                self.error = error.to_string();
                None
            }
        }
    }

    fn take_list(&mut self, list: Vec<Endpoint>) {
        for entry in &self.entries {
            if let Some(sub_conn) = &entry.sub_conn
                && !list.contains(&entry.endpoint)
            {
                self.cc.remove_sub_conn(sub_conn);
                self.urgent = true;
            }
        }
        self.entries.retain(|entry| list.contains(&entry.endpoint));
        for endpoint in &list {
            let known = self.entries.iter_mut().find(|e| e.endpoint == *endpoint);
            match known {
                Some(entry) if entry.sub_conn.is_some() => {}
                Some(_) | None => {
                    self.entries.retain(|e| e.endpoint != *endpoint);
                    let sub_conn = self.connect(endpoint);
                    self.entries.push(Entry {
                        endpoint: endpoint.clone(),
                        sub_conn,
                        state: State::Idle,
                        failed: false,
                    });
                }
            }
        }
        self.list = list;
        self.dirty = true;
    }

    fn publish(&mut self) {
        let mut states = ConnectivityStateEvaluator::new();
        let mut ready = Vec::new();
        for entry in &self.entries {
            let Some(sub_conn) = &entry.sub_conn else {
                continue;
            };
            states.record_transition(
                None,
                if entry.failed {
                    State::TransientFailure
                } else {
                    entry.state
                },
            );
            if entry.state == State::Ready {
                ready.push(sub_conn.clone());
            }
        }
        let state = states.current();
        let picker: Arc<dyn Picker> = match state {
            State::Ready => Arc::new(Turns(ready, self.turns.clone())),
            State::Connecting | State::Idle => Arc::new(QueuePicker),
            _ => {
                let mut text = self.error.clone();
                if let Some(error) = &self.resolver_error {
                    text = format!("{text}; {error}");
                }
                Arc::new(FailingPicker::new(PickError::transient_failure(text)))
            }
        };
        self.cc.update_balancer_state(state, picker);
    }
}

impl Balancer for Plain {
    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, new: &SubConnState<'_>) {
        if self.closed {
            return;
        }
        let known = |e: &&mut Entry| e.sub_conn.as_ref() == Some(sub_conn);
        let Some(entry) = self.entries.iter_mut().find(known) else {
            return;
        };
        let old = std::mem::replace(&mut entry.state, new.state);
        self.dirty = true;
        self.urgent |= old == State::Ready;
        match new.state {
            State::Ready => entry.failed = false,
            State::TransientFailure => {
                entry.failed = true;
                if let Some(error) = new.error {
                    self.error = error.message().to_owned();
                }
            }
            State::Idle if self.way == Way::NeverReuses && old == State::Ready => {
                let endpoint = entry.endpoint.clone();
                self.cc.remove_sub_conn(sub_conn);
                let fresh = self.connect(&endpoint);
                let same = |e: &&mut Entry| e.endpoint == endpoint;
                if let Some(entry) = self.entries.iter_mut().find(same) {
                    entry.sub_conn = fresh;
                    entry.state = State::Idle;
                }
            }
            State::Idle => sub_conn.connect(),
            State::Connecting | State::Shutdown => {}
        }
        let lost = old == State::Ready && matches!(new.state, State::Idle | State::Connecting);
        let failed = new.state == State::TransientFailure;
        if (lost || failed) && new.cause == StateCause::Connectivity {
            self.cc.resolve_now();
        }
    }

    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        self.answered = true;
        match resolved {
            Err(error) => {
                self.resolver_error = Some(error.message().to_owned());
                self.dirty = true;
                Ok(())
            }
            Ok(resolved) => {
                let mut list: Vec<Endpoint> = Vec::new();
                for endpoint in resolved.endpoints.iter() {
                    if !list.contains(endpoint) {
                        list.push(endpoint.clone());
                    }
                }
                let empty = list.is_empty();
                self.resolver_error = empty.then(|| "zero addresses".to_owned());
                if empty {
                    self.error.clear();
                }
                if self.way == Way::Batching {
                    self.waiting = Some(list);
                } else {
                    self.take_list(list);
                }
                self.dirty = true;
                match empty {
                    true => Err(Rejected::new("zero addresses")),
                    false => Ok(()),
                }
            }
        }
    }

    fn close(&mut self) {
        self.closed = true;
    }

    fn settle(&mut self) {
        if self.closed {
            return;
        }
        if let Some(list) = self.waiting.take() {
            self.take_list(list);
        }
        if !self.dirty {
            return;
        }
        // News that can wait is published one settle later; what was lost is not.
        let urgent = std::mem::take(&mut self.urgent);
        let can_wait = self.way == Way::Batching && !self.woken && !urgent;
        let ready = self.entries.iter().filter(|e| e.state == State::Ready);
        if can_wait && ready.count() == self.entries.len() && !self.entries.is_empty() {
            self.woken = true;
            self.cc.wake();
            return;
        }
        self.woken = false;
        self.dirty = false;
        if self.answered {
            self.publish();
        }
    }
}

impl Picker for Turns {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let turn = self.1.fetch_add(1, Relaxed) % self.0.len() as u64;
        Ok(Pick::new(&self.0[turn as usize]))
    }
}
