//! Composites: one that hands on to one child, one that divides the endpoints between two; and the
//! ways to get them wrong.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use balancer_api::{
    Balancer, BuildOptions, Builder, CallEvent, CallId, Child, ChildConfig, ChildEvent, ClientConn,
    ConnectivityState as State, ConnectivityStateEvaluator, Endpoint, FailingPicker, Pick,
    PickError, PickOptions, Picker, QueuePicker, Rejected, ResolveError, ResolvedAddrs, SubConn,
    SubConnState, TimerId,
};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table of mutants describes them")]
pub enum Bug {
    None,
    ExitIdleNotHandedOn,
    ErrorsNotHandedOn,
    FirstErrorSwallowed,
    NewsToFirstChildOnly,
    TimersNotHandedOn,
    CallsNotHandedOn,
    WakesNotHandedOn,
    RemovedChildStaysOpen,
    ChildrenLeftOpen,
    UsesClosedChild,
    KeepsFirstReadyPicker,
    WaitsWhenChildFails,
    StateOfFirstChild,
    FailureOutranksConnecting,
    RepublishesAlways,
}

/// Hands everything on to one child.
#[allow(missing_debug_implementations, reason = "a builder has none")]
pub struct Wrapper(pub Bug, pub Arc<dyn Builder>);

/// Two children, each with its half of the endpoints; RPCs alternate between those that work.
#[allow(missing_debug_implementations, reason = "a builder has none")]
pub struct Halves(pub Bug, pub Arc<dyn Builder>);

struct Parts {
    bug: Bug,
    halves: usize,
    cc: Arc<dyn ClientConn>,
    options: BuildOptions,
    config: ChildConfig,
    children: Vec<Option<Present>>,
    /// Children that a bug does not let go.
    ghosts: Vec<Present>,
    resolver_error: Option<String>,
    dirty: bool,
    listed: bool,
    /// A callback came since the last settle.
    told: bool,
}

/// A child with what it published last.
type Present = (Child, State, Arc<dyn Picker>);

struct Alternating(Vec<Arc<dyn Picker>>, AtomicU64);

macro_rules! builder {
    ($name:ident, $word:literal, $halves:literal) => {
        impl Builder for $name {
            fn name(&self) -> &str {
                $word
            }
            fn build(&self, cc: Arc<dyn ClientConn>, options: BuildOptions) -> Box<dyn Balancer> {
                let config = ChildConfig::new(self.1.clone(), None);
                Box::new(Parts::new(self.0, $halves, cc, options, config))
            }
        }
    };
}
builder!(Wrapper, "wrapper", 1);
builder!(Halves, "halves", 2);

fn half(endpoint: &Endpoint, of: usize) -> usize {
    // By name, so that an endpoint stays with its child when others come and go.
    let least = endpoint.addresses().iter().map(|a| a.addr()).min();
    let bytes = least.unwrap_or_default().bytes();
    bytes.fold(0, |sum, byte| sum + usize::from(byte)) % of
}

impl Parts {
    fn new(
        bug: Bug,
        halves: usize,
        cc: Arc<dyn ClientConn>,
        options: BuildOptions,
        config: ChildConfig,
    ) -> Self {
        Self {
            bug,
            halves,
            cc,
            options,
            config,
            children: (0..halves).map(|_| None).collect(),
            ghosts: Vec::new(),
            resolver_error: None,
            dirty: false,
            listed: false,
            told: false,
        }
    }

    fn is(&self, bug: Bug) -> bool {
        self.bug == bug
    }

    fn present(&mut self) -> impl Iterator<Item = &mut Present> {
        let ghosts = self.ghosts.iter_mut();
        self.children.iter_mut().flatten().chain(ghosts)
    }

    fn drop_child(&mut self, at: usize) {
        let Some(mut present) = self.children[at].take() else {
            return;
        };
        match self.bug {
            Bug::RemovedChildStaysOpen => self.ghosts.push(present),
            Bug::UsesClosedChild => {
                present.0.close();
                self.ghosts.push(present);
            }
            _ => present.0.close(),
        }
    }

    fn picker(&self, state: State) -> Option<Arc<dyn Picker>> {
        let all = self.children.iter().flatten();
        let kept = self.ghosts.iter().filter(|_| self.is(Bug::UsesClosedChild));
        let of_state = all
            .chain(kept)
            .filter(|(_, of_child, _)| *of_child == state);
        let mut pickers: Vec<_> = of_state.map(|(.., picker)| picker.clone()).collect();
        match pickers.len() {
            0 => None,
            1 => pickers.pop(),
            _ => Some(Arc::new(Alternating(pickers, AtomicU64::new(0)))),
        }
    }

    fn state(&self) -> State {
        let mut states = ConnectivityStateEvaluator::new();
        let mut failed = false;
        for (_, state, _) in self.children.iter().flatten() {
            states.record_transition(None, *state);
            failed |= *state == State::TransientFailure;
        }
        let first = self.children.iter().flatten().next();
        match (self.bug, states.current()) {
            (Bug::StateOfFirstChild, all) => first.map_or(all, |(_, state, _)| *state),
            (Bug::FailureOutranksConnecting, State::Connecting) if failed => {
                State::TransientFailure
            }
            (_, all) => all,
        }
    }

    fn publish(&mut self) {
        if self.children.iter().flatten().next().is_none() {
            if let Some(text) = &self.resolver_error {
                let failing = FailingPicker::new(PickError::transient_failure(text.clone()));
                let state = State::TransientFailure;
                self.cc.update_balancer_state(state, Arc::new(failing));
            }
            return;
        }
        let state = self.state();
        let mut picker = self.picker(state).unwrap_or_else(|| Arc::new(QueuePicker));
        if self.is(Bug::WaitsWhenChildFails) && state == State::TransientFailure && self.listed {
            picker = Arc::new(QueuePicker);
        }
        self.cc.update_balancer_state(state, picker);
    }
}

impl Balancer for Parts {
    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, state: &SubConnState<'_>) {
        self.told = true;
        let only_first = self.is(Bug::NewsToFirstChildOnly);
        for (child, ..) in self.present() {
            let handled = child.handle(ChildEvent::SubConnState(sub_conn, state));
            // SHUTDOWN is handed on as it should be: the connections look right.
            if handled.is_mine() || (only_first && state.state == State::TransientFailure) {
                return;
            }
        }
    }

    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        self.told = true;
        let resolved = match resolved {
            Ok(resolved) => resolved,
            Err(error) => {
                if self.is(Bug::FirstErrorSwallowed) && self.resolver_error.is_none() {
                    return Ok(());
                }
                self.dirty = true;
                self.resolver_error = Some(error.message().to_owned());
                let hands_on = !self.is(Bug::ErrorsNotHandedOn);
                for (child, ..) in self.present().filter(|_| hands_on) {
                    let _ = child.handle(ChildEvent::Resolved(Err(error.clone())));
                }
                return Ok(());
            }
        };
        self.dirty = true;
        self.listed = true;
        self.resolver_error = None;
        let mut distinct: Vec<Endpoint> = Vec::new();
        for endpoint in resolved.endpoints.iter() {
            if !distinct.contains(endpoint) {
                distinct.push(endpoint.clone());
            }
        }
        let mut answer = Ok(());
        for at in 0..self.halves {
            let mine = distinct.iter().filter(|e| half(e, self.halves) == at);
            let mine: Vec<Endpoint> = mine.cloned().collect();
            if mine.is_empty() {
                self.drop_child(at);
                continue;
            }
            let (child, ..) = self.children[at].get_or_insert_with(|| {
                let child = Child::build(self.cc.clone(), &self.config, &self.options);
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
        if self.is(Bug::ChildrenLeftOpen) {
            return;
        }
        for (child, ..) in self.present() {
            child.close();
        }
        self.children.clear();
        self.ghosts.clear();
        self.dirty = false;
    }

    fn handle_timer(&mut self, id: TimerId) {
        self.told = true;
        if self.is(Bug::TimersNotHandedOn) {
            return;
        }
        for (child, ..) in self.present() {
            if child.handle(ChildEvent::Timer(id)).is_mine() {
                return;
            }
        }
    }

    fn handle_call_event(&mut self, id: CallId, event: CallEvent) {
        self.told = true;
        if self.is(Bug::CallsNotHandedOn) {
            return;
        }
        for (child, ..) in self.present() {
            if child.handle(ChildEvent::Call(id, &event)).is_mine() {
                return;
            }
        }
    }

    fn exit_idle(&mut self) {
        self.told = true;
        if !self.is(Bug::ExitIdleNotHandedOn) {
            for (child, ..) in self.present() {
                child.exit_idle();
            }
        }
    }

    fn settle(&mut self) {
        let bug = self.bug;
        let mut dirty = std::mem::take(&mut self.dirty);
        let told = std::mem::take(&mut self.told);
        if told || bug != Bug::WakesNotHandedOn {
            for (child, ..) in self.present() {
                let _ = child.handle(ChildEvent::Settle);
            }
        }
        for (child, state, picker) in self.present() {
            let Some((new_state, new_picker)) = child.take_output() else {
                continue;
            };
            dirty = true;
            let keeps = match bug {
                Bug::KeepsFirstReadyPicker => *state == new_state && new_state == State::Ready,
                _ => false,
            };
            if !keeps {
                *picker = new_picker;
            }
            *state = new_state;
        }
        if dirty || bug == Bug::RepublishesAlways {
            self.publish();
        }
    }
}

impl Picker for Alternating {
    fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let turn = self.1.fetch_add(1, Relaxed) as usize % self.0.len();
        self.0[turn].pick(options)
    }
}
