//! More right policies: lazy ones, sticky ones, and composites.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use balancer_api::{
    Balancer, BuildOptions, Builder, CallEvent, CallId, Child, ChildConfig, ChildEvent, ClientConn,
    ConnectivityState as State, ConnectivityStateEvaluator, Endpoint, FailingPicker,
    NewSubConnOptions, Pick, PickError, PickOptions, Picker, QueuePicker, Reconnect, Rejected,
    ResolveError, ResolvedAddrs, StateCause, SubConn, SubConnState, TimerId,
    base::{BaseBuilder, BaseContext, PickerBuilder, ReadySet},
};

/// Two random backends, and of those the one that is further back in the list.
pub fn two_choices() -> Arc<dyn Builder> {
    Arc::new(BaseBuilder::new("two_choices", || Choosing(Choice::Two)))
}

/// The same backend for the same method.
pub fn by_method() -> Arc<dyn Builder> {
    Arc::new(BaseBuilder::new("by_method", || Choosing(Choice::Method)))
}

/// The same backend for the same session, named by a header.
pub fn by_session() -> Arc<dyn Builder> {
    Arc::new(BaseBuilder::new("by_session", || Choosing(Choice::Session)))
}

/// Always the first that is READY; all are kept connected.
pub fn first_ready() -> Arc<dyn Builder> {
    Arc::new(BaseBuilder::new("first_ready", || Choosing(Choice::First)))
}

/// A round robin that connects when an RPC is picked, and not before.
#[derive(Clone, Copy, Debug, Default)]
pub struct LazyRoundRobin {
    /// A mutant: it does so before.
    pub connects_at_once: bool,
}

/// Two round robins, each with every other endpoint; RPCs alternate between those that work.
#[derive(Clone, Copy, Debug)]
pub struct Split;

/// Two round robins: the second one, over the other half, serves only while the first one fails.
#[derive(Clone, Copy, Debug)]
pub struct Failover;

#[derive(Clone, Copy)]
enum Choice {
    Two,
    Method,
    Session,
    First,
}

struct Choosing(Choice);
struct ChoosingPicker(Choice, ReadySet);

impl PickerBuilder for Choosing {
    type Data = ();
    fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) {}
    fn build_picker(&mut self, ready: &ReadySet, _: &BaseContext<'_>) -> Arc<dyn Picker> {
        Arc::new(ChoosingPicker(self.0, ready.clone()))
    }
}

fn hash(text: &[u8]) -> u64 {
    text.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Picker for ChoosingPicker {
    fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let count = self.1.len() as u64;
        let at = match self.0 {
            Choice::Two => (options.random() % count).max(options.random() % count),
            Choice::Method => (hash(options.method().as_bytes()) >> 7) % count,
            Choice::Session => match options.headers().get("session") {
                Some(session) => (hash(session.as_bytes()) >> 7) % count,
                None => options.random() % count,
            },
            Choice::First => 0,
        };
        let ready = self.1.get(at as usize);
        let ready = ready.ok_or(PickError::NoSubConnAvailable)?;
        Ok(Pick::new(ready.sub_conn()))
    }
}

// --- lazy ---

struct Lazy {
    connects_at_once: bool,
    cc: Arc<dyn ClientConn>,
    entries: Vec<(Endpoint, SubConn, State, bool)>,
    error: String,
    resolver_error: Option<String>,
    answered: bool,
    dirty: bool,
    closed: bool,
    turns: Arc<AtomicU64>,
    wanted: Arc<AtomicBool>,
}

struct LazyPicker {
    cc: Arc<dyn ClientConn>,
    ready: Vec<SubConn>,
    turns: Arc<AtomicU64>,
    wanted: Arc<AtomicBool>,
    some_idle: bool,
}

impl Builder for LazyRoundRobin {
    fn name(&self) -> &str {
        "lazy_round_robin"
    }
    fn build(&self, cc: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
        Box::new(Lazy {
            connects_at_once: self.connects_at_once,
            cc,
            entries: Vec::new(),
            error: String::new(),
            resolver_error: None,
            answered: false,
            dirty: false,
            closed: false,
            turns: Arc::default(),
            wanted: Arc::default(),
        })
    }
}

impl Lazy {
    fn connect_all(&mut self) {
        for (_, sub_conn, state, asked) in &mut self.entries {
            if *state == State::Idle && !std::mem::replace(asked, true) {
                sub_conn.connect();
                self.dirty = true;
            }
        }
    }

    fn publish(&mut self) {
        let mut states = ConnectivityStateEvaluator::new();
        for (_, _, state, asked) in &self.entries {
            let counted = match state {
                State::Idle if *asked => State::Connecting,
                state => *state,
            };
            states.record_transition(None, counted);
        }
        let ready: Vec<SubConn> = self
            .entries
            .iter()
            .filter(|(_, _, state, _)| *state == State::Ready)
            .map(|(_, sub_conn, ..)| sub_conn.clone())
            .collect();
        let state = states.current();
        self.wanted = Arc::default();
        let some_idle = self
            .entries
            .iter()
            .any(|(_, _, state, asked)| *state == State::Idle && !asked);
        let picker: Arc<dyn Picker> = match state {
            State::Ready | State::Idle => Arc::new(LazyPicker {
                cc: self.cc.clone(),
                ready,
                turns: self.turns.clone(),
                wanted: self.wanted.clone(),
                some_idle,
            }),
            State::Connecting => Arc::new(QueuePicker),
            _ => {
                let resolver = self.resolver_error.clone().unwrap_or_default();
                let text = format!("{} {resolver}", self.error);
                Arc::new(FailingPicker::new(PickError::transient_failure(text)))
            }
        };
        self.cc.update_balancer_state(state, picker);
    }
}

impl Balancer for Lazy {
    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, new: &SubConnState<'_>) {
        let known = self.entries.iter_mut().find(|(_, sc, ..)| sc == sub_conn);
        let Some((_, _, state, asked)) = known.filter(|_| !self.closed) else {
            return;
        };
        let old = std::mem::replace(state, new.state);
        // A failed backend is dialled again by itself: an RPC wanted it.
        if new.state == State::Idle && old == State::TransientFailure {
            sub_conn.connect();
            *asked = true;
        } else if new.state != old {
            *asked = false;
        }
        self.dirty = true;
        if let Some(error) = new.error {
            self.error = error.message().to_owned();
        }
        let lost = old == State::Ready && matches!(new.state, State::Idle | State::Connecting);
        if (lost || new.state == State::TransientFailure) && new.cause == StateCause::Connectivity {
            self.cc.resolve_now();
        }
    }

    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        self.answered = true;
        self.dirty = true;
        let resolved = match resolved {
            Ok(resolved) => resolved,
            Err(error) => {
                self.resolver_error = Some(error.message().to_owned());
                return Ok(());
            }
        };
        self.resolver_error = None;
        let gone = |endpoint: &Endpoint| !resolved.endpoints.contains(endpoint);
        for (endpoint, sub_conn, ..) in &self.entries {
            if gone(endpoint) {
                self.cc.remove_sub_conn(sub_conn);
            }
        }
        self.entries.retain(|(endpoint, ..)| !gone(endpoint));
        for endpoint in resolved.endpoints.iter() {
            if !self.entries.iter().any(|(known, ..)| known == endpoint) {
                let options = NewSubConnOptions::new().with_reconnect(Reconnect::WhenAsked);
                let made = self.cc.new_sub_conn(endpoint.addresses().to_vec(), options);
                match made {
                    Ok(made) => self
                        .entries
                        .push((endpoint.clone(), made, State::Idle, false)),
                    Err(error) => self.error = error.to_string(),
                }
            }
        }
        if resolved.endpoints.is_empty() {
            self.resolver_error = Some("zero addresses".to_owned());
            return Err(Rejected::new("zero addresses"));
        }
        if self.connects_at_once {
            self.connect_all();
        }
        Ok(())
    }

    fn exit_idle(&mut self) {
        self.connect_all();
    }

    fn close(&mut self) {
        self.closed = true;
    }

    fn settle(&mut self) {
        if self.closed {
            return;
        }
        if self.wanted.load(Relaxed) {
            self.connect_all();
        }
        if std::mem::take(&mut self.dirty) && self.answered {
            self.publish();
        }
    }
}

impl Picker for LazyPicker {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        if self.some_idle && !self.wanted.swap(true, Relaxed) {
            self.cc.wake();
        }
        match self.ready.len() as u64 {
            0 => Err(PickError::NoSubConnAvailable),
            count => {
                let turn = self.turns.fetch_add(1, Relaxed) % count;
                Ok(Pick::new(&self.ready[turn as usize]))
            }
        }
    }
}

// --- composites ---

struct Pair {
    failover: bool,
    cc: Arc<dyn ClientConn>,
    options: BuildOptions,
    children: [Option<Present>; 2],
    resolver_error: Option<String>,
    dirty: bool,
}

/// A child with what it published last.
type Present = (Child, State, Arc<dyn Picker>);

struct Alternating(Vec<Arc<dyn Picker>>, AtomicU64);

impl Builder for Split {
    fn name(&self) -> &str {
        "split"
    }
    fn build(&self, cc: Arc<dyn ClientConn>, options: BuildOptions) -> Box<dyn Balancer> {
        Box::new(Pair::new(cc, options, false))
    }
}

impl Builder for Failover {
    fn name(&self) -> &str {
        "failover"
    }
    fn build(&self, cc: Arc<dyn ClientConn>, options: BuildOptions) -> Box<dyn Balancer> {
        Box::new(Pair::new(cc, options, true))
    }
}

impl Pair {
    fn new(cc: Arc<dyn ClientConn>, options: BuildOptions, failover: bool) -> Self {
        Self {
            failover,
            cc,
            options,
            children: [None, None],
            resolver_error: None,
            dirty: false,
        }
    }

    fn offer(&mut self, event: &dyn Fn() -> ChildEvent<'static>) {
        for (child, ..) in self.children.iter_mut().flatten() {
            if child.handle(event()).is_mine() {
                return;
            }
        }
    }
}

impl Balancer for Pair {
    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, state: &SubConnState<'_>) {
        for (child, ..) in self.children.iter_mut().flatten() {
            if child
                .handle(ChildEvent::SubConnState(sub_conn, state))
                .is_mine()
            {
                return;
            }
        }
    }

    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        self.dirty = true;
        let resolved = match resolved {
            Ok(resolved) => resolved,
            Err(error) => {
                self.resolver_error = Some(error.message().to_owned());
                for (child, ..) in self.children.iter_mut().flatten() {
                    let _ = child.handle(ChildEvent::Resolved(Err(error.clone())));
                }
                return Ok(());
            }
        };
        self.resolver_error = None;
        let mut distinct: Vec<Endpoint> = Vec::new();
        for endpoint in resolved.endpoints.iter() {
            if !distinct.contains(endpoint) {
                distinct.push(endpoint.clone());
            }
        }
        // By name, so that an endpoint stays with its child when others come and go.
        let half = |endpoint: &Endpoint| {
            let least = endpoint.addresses().iter().map(|a| a.addr()).min();
            hash(least.unwrap_or_default().as_bytes()) as usize % 2
        };
        let mut answer = Ok(());
        for at in 0..2 {
            let mine: Vec<Endpoint> = distinct.iter().filter(|e| half(e) == at).cloned().collect();
            if mine.is_empty() {
                if let Some((mut child, ..)) = self.children[at].take() {
                    child.close();
                }
                continue;
            }
            let (child, ..) = self.children[at].get_or_insert_with(|| {
                let config = ChildConfig::new(balancer_roundrobin::builder(), None);
                let child = Child::build(self.cc.clone(), &config, &self.options);
                (child, State::Connecting, Arc::new(QueuePicker))
            });
            let part = resolved.clone().with_endpoints(mine);
            let handled = child.handle(ChildEvent::Resolved(Ok(part)));
            answer = answer.and(handled.into_result());
        }
        if distinct.is_empty() {
            self.resolver_error = Some("zero addresses".to_owned());
            return Err(Rejected::new("zero addresses"));
        }
        answer
    }

    fn close(&mut self) {
        for (child, ..) in self.children.iter_mut().flatten() {
            child.close();
        }
        self.children = [None, None];
        self.dirty = false;
    }

    fn handle_timer(&mut self, id: TimerId) {
        self.offer(&|| ChildEvent::Timer(id));
    }

    fn handle_call_event(&mut self, id: CallId, event: CallEvent) {
        for (child, ..) in self.children.iter_mut().flatten() {
            if child.handle(ChildEvent::Call(id, &event)).is_mine() {
                return;
            }
        }
    }

    fn exit_idle(&mut self) {
        for (child, ..) in self.children.iter_mut().flatten() {
            child.exit_idle();
        }
    }

    fn settle(&mut self) {
        for (child, state, picker) in self.children.iter_mut().flatten() {
            let _ = child.handle(ChildEvent::Settle);
            if let Some((new_state, new_picker)) = child.take_output() {
                (*state, *picker) = (new_state, new_picker);
                self.dirty = true;
            }
        }
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        let present: Vec<&Present> = self.children.iter().flatten().collect();
        let mut states = ConnectivityStateEvaluator::new();
        for (_, state, _) in &present {
            states.record_transition(None, *state);
        }
        let state = states.current();
        let mut pickers = present
            .iter()
            .filter(|(_, of_child, _)| *of_child == state)
            .map(|(.., picker)| picker.clone());
        let picker: Arc<dyn Picker> = if present.is_empty() {
            match &self.resolver_error {
                None => return,
                Some(text) => Arc::new(FailingPicker::new(PickError::transient_failure(
                    text.clone(),
                ))),
            }
        } else if self.failover {
            pickers.next().unwrap_or_else(|| Arc::new(QueuePicker))
        } else {
            Arc::new(Alternating(pickers.collect(), AtomicU64::new(0)))
        };
        self.cc.update_balancer_state(state, picker);
    }
}

impl Picker for Alternating {
    fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let turn = self.1.fetch_add(1, Relaxed) as usize % self.0.len();
        self.0[turn].pick(options)
    }
}
