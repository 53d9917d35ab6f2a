//! A policy that writes down what it is told and does what the test says.

use std::{
    fmt::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use balancer_api::{
    Address, Balancer, BuildOptions, Builder, CallEvent, CallId, ClientConn,
    ConnectivityState as State, ConnectivityStateEvaluator, DoneInfo, FailingPicker,
    HealthReporting, NewSubConnOptions, OnDone, Pick, PickError, PickOptions, Picker, QueuePicker,
    Reconnect, Rejected, ResolveError, ResolvedAddrs, StateCause, SubConn, SubConnState, TimerId,
};

use super::Log;

/// All puppets of one name.
///
/// Left alone, a puppet keeps one SubConn per address, connected, and picks the READY ones in turn.
pub(crate) struct Puppet {
    name: &'static str,
    log: Log,
    hook: Mutex<Option<Hook>>,
    stages: Mutex<Vec<Arc<Stage>>>,
    pub(crate) reconnect: Mutex<Reconnect>,
    /// Whether settles are written down, too.
    pub(crate) log_settles: AtomicBool,
    /// How many picks gave a SubConn, and how many dones there were.
    pub(crate) picks: AtomicUsize,
    pub(crate) dones: Arc<Dones>,
}

type Hook = Arc<dyn Fn(&Arc<Stage>, &Event<'_>) -> Flow + Send + Sync>;

/// One instance, seen from outside.
pub(crate) struct Stage {
    /// `name1`, `name2` … in the order of building.
    pub(crate) id: String,
    pub(crate) cc: Arc<dyn ClientConn>,
    subs: Mutex<Vec<(String, SubConn)>>,
}

/// What the puppet is told.
#[derive(Debug)]
#[allow(dead_code, reason = "each test looks at some")]
pub(crate) enum Event<'a> {
    Build,
    State(&'a SubConn, State),
    Addrs(&'a Result<ResolvedAddrs, ResolveError>),
    Timer(TimerId),
    Call(CallId, &'a CallEvent),
    ExitIdle,
    Settle,
    Close,
    Drop,
}

/// What follows the hook.
pub(crate) enum Flow {
    /// What the puppet does by itself.
    Default,
    /// Nothing more.
    Done,
    /// Nothing more, and the resolver result is rejected.
    Reject,
}

struct Live {
    puppet: Arc<Puppet>,
    stage: Arc<Stage>,
    states: Vec<(SubConn, State)>,
    error: String,
    changed: bool,
}

/// Picks in turn.
struct Turns {
    puppet: Arc<Puppet>,
    ready: Vec<SubConn>,
    next: AtomicUsize,
}

/// Picks as a function says.
pub(crate) struct FnPicker<F>(pub(crate) F);

/// Counts the ends of RPCs.
#[derive(Default)]
pub(crate) struct Dones {
    pub(crate) count: AtomicUsize,
    pub(crate) log: Mutex<Vec<String>>,
}

impl Puppet {
    pub(crate) fn new(name: &'static str, log: &Log) -> Arc<Self> {
        Arc::new(Self {
            name,
            log: log.clone(),
            hook: Mutex::default(),
            stages: Mutex::default(),
            reconnect: Mutex::new(Reconnect::WhenAsked),
            log_settles: AtomicBool::new(false),
            picks: AtomicUsize::new(0),
            dones: Arc::default(),
        })
    }

    /// From now on `hook` comes first in each callback.
    pub(crate) fn hook(
        &self,
        hook: impl Fn(&Arc<Stage>, &Event<'_>) -> Flow + Send + Sync + 'static,
    ) {
        *self.hook.lock().unwrap() = Some(Arc::new(hook));
    }

    pub(crate) fn unhook(&self) {
        *self.hook.lock().unwrap() = None;
    }

    /// The newest instance.
    pub(crate) fn stage(&self) -> Arc<Stage> {
        self.stages.lock().unwrap().last().expect("built").clone()
    }

    pub(crate) fn built(&self) -> usize {
        self.stages.lock().unwrap().len()
    }

    pub(crate) fn picked(&self) -> usize {
        self.picks.load(Ordering::SeqCst)
    }

    pub(crate) fn done(&self) -> usize {
        self.dones.count.load(Ordering::SeqCst)
    }
}

/// Builds puppets that share one [`Puppet`].
pub(crate) struct PuppetBuilder(pub(crate) Arc<Puppet>);

impl Builder for PuppetBuilder {
    fn name(&self) -> &str {
        self.0.name
    }

    fn build(&self, cc: Arc<dyn ClientConn>, _: BuildOptions) -> Box<dyn Balancer> {
        let stage = {
            let mut stages = self.0.stages.lock().unwrap();
            let stage = Arc::new(Stage {
                id: format!("{}{}", self.0.name, stages.len() + 1),
                cc,
                subs: Mutex::default(),
            });
            stages.push(stage.clone());
            stage
        };
        let live = Live {
            puppet: self.0.clone(),
            stage,
            states: Vec::new(),
            error: "nothing to connect to".to_owned(),
            changed: false,
        };
        live.note("build");
        live.ask(&Event::Build);
        Box::new(live)
    }
}

impl Stage {
    /// The SubConn that was made last for `name`.
    pub(crate) fn sub(&self, name: &str) -> SubConn {
        let subs = self.subs.lock().unwrap();
        let found = subs.iter().rev().find(|(it, _)| it == name);
        found
            .unwrap_or_else(|| panic!("no SubConn {name}"))
            .1
            .clone()
    }

    /// Makes a SubConn and remembers it by name.
    pub(crate) fn make(&self, name: &str, reconnect: Reconnect) -> SubConn {
        let options = NewSubConnOptions::new()
            .with_reconnect(reconnect)
            .with_health(HealthReporting::On)
            .with_tag(name);
        let made = self.cc.new_sub_conn(vec![Address::new(name)], options);
        let sub_conn = made.expect("a SubConn");
        self.remember(name, &sub_conn);
        sub_conn
    }

    pub(crate) fn remember(&self, name: &str, sub_conn: &SubConn) {
        let mut subs = self.subs.lock().unwrap();
        subs.push((name.to_owned(), sub_conn.clone()));
    }

    fn name(&self, sub_conn: &SubConn) -> String {
        let subs = self.subs.lock().unwrap();
        let found = subs.iter().find(|(_, it)| it == sub_conn);
        found.map_or_else(|| "?".to_owned(), |(name, _)| name.clone())
    }

    /// Publishes a picker that is a function.
    pub(crate) fn publish(
        &self,
        state: State,
        picker: impl for<'a> Fn(&PickOptions<'a>) -> Result<Pick<'static>, PickError>
        + Send
        + Sync
        + 'static,
    ) {
        self.cc
            .update_balancer_state(state, Arc::new(FnPicker(picker)));
    }
}

impl Live {
    fn note(&self, what: &str) {
        self.puppet.log.add(format!("{}: {what}", self.stage.id));
    }

    fn ask(&self, event: &Event<'_>) -> Flow {
        let hook = self.puppet.hook.lock().unwrap().clone();
        hook.map_or(Flow::Default, |hook| hook(&self.stage, event))
    }

    fn take_list(&mut self, resolved: ResolvedAddrs) -> Result<(), Rejected> {
        let wanted: Vec<String> = resolved
            .endpoints
            .iter()
            .map(|endpoint| endpoint.addresses()[0].addr().to_owned())
            .collect();
        let stage = self.stage.clone();
        let gone = |sub_conn: &SubConn| !wanted.contains(&stage.name(sub_conn));
        for (sub_conn, _) in self.states.extract_if(.., |(it, _)| gone(it)) {
            self.stage.cc.remove_sub_conn(&sub_conn);
        }
        for name in &wanted {
            let known = self
                .states
                .iter()
                .any(|(it, _)| self.stage.name(it) == *name);
            if !known {
                let reconnect = *self.puppet.reconnect.lock().unwrap();
                let sub_conn = self.stage.make(name, reconnect);
                sub_conn.connect();
                self.states.push((sub_conn, State::Idle));
            }
        }
        self.changed = true;
        if wanted.is_empty() {
            return Err(Rejected::new("zero addresses"));
        }
        Ok(())
    }

    fn publish(&self) {
        let mut all = ConnectivityStateEvaluator::new();
        for (_, state) in &self.states {
            all.record_transition(None, *state);
        }
        let state = all.current();
        let picker: Arc<dyn Picker> = match state {
            State::Ready => {
                let ready = self.states.iter().filter(|(_, it)| *it == State::Ready);
                Arc::new(Turns {
                    puppet: self.puppet.clone(),
                    ready: ready.map(|(sub_conn, _)| sub_conn.clone()).collect(),
                    next: AtomicUsize::new(0),
                })
            }
            State::TransientFailure => {
                let error = PickError::transient_failure(self.error.as_str());
                Arc::new(FailingPicker::new(error))
            }
            _ => Arc::new(QueuePicker),
        };
        self.stage.cc.update_balancer_state(state, picker);
    }
}

impl Balancer for Live {
    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, told: &SubConnState<'_>) {
        let mut line = format!("{} {}", self.stage.name(sub_conn), told.state);
        if let Some(error) = told.error {
            let _ = write!(line, " ({})", error.message());
        }
        if told.cause == StateCause::Health {
            line.push_str(" by health");
        }
        self.note(&line);
        if !matches!(self.ask(&Event::State(sub_conn, told.state)), Flow::Default) {
            return;
        }
        let Some((_, state)) = self.states.iter_mut().find(|(it, _)| it == sub_conn) else {
            return;
        };
        // A failure sticks until READY.
        if *state != State::TransientFailure || told.state == State::Ready {
            *state = told.state;
            self.changed = true;
        }
        if let Some(error) = told.error {
            self.error = error.message().to_owned();
            self.changed = true;
        }
        if told.state == State::Idle {
            sub_conn.connect();
        }
    }

    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        let mut line = match &resolved {
            Ok(resolved) => {
                let endpoints = resolved.endpoints.iter();
                let names: Vec<_> = endpoints.map(|it| it.addresses()[0].to_string()).collect();
                format!("addrs [{}]", names.join(" "))
            }
            Err(error) => format!("error ({error})"),
        };
        if let Some(config) = resolved.as_ref().ok().and_then(|it| it.config.as_ref()) {
            let _ = write!(line, " config {}", config.json());
        }
        self.note(&line);
        match self.ask(&Event::Addrs(&resolved)) {
            Flow::Done => return Ok(()),
            Flow::Reject => return Err(Rejected::new("the test says no")),
            Flow::Default => {}
        }
        match resolved {
            Ok(resolved) => self.take_list(resolved),
            Err(error) => {
                if self.states.is_empty() {
                    self.error = error.to_string();
                    self.changed = true;
                }
                Ok(())
            }
        }
    }

    fn handle_timer(&mut self, id: TimerId) {
        self.note("timer");
        self.ask(&Event::Timer(id));
    }

    fn handle_call_event(&mut self, id: CallId, event: CallEvent) {
        self.note(&match &event {
            CallEvent::Headers(_) => "call headers".to_owned(),
            CallEvent::Message(message) => {
                format!("call message {}", String::from_utf8_lossy(message))
            }
            CallEvent::End { status, .. } => {
                format!("call end {}: {}", status.code(), status.message())
            }
        });
        self.ask(&Event::Call(id, &event));
    }

    fn exit_idle(&mut self) {
        self.note("exit idle");
        if matches!(self.ask(&Event::ExitIdle), Flow::Default) {
            for (sub_conn, _) in &self.states {
                sub_conn.connect();
            }
        }
    }

    fn settle(&mut self) {
        if self.puppet.log_settles.load(Ordering::SeqCst) {
            self.note("settle");
        }
        if matches!(self.ask(&Event::Settle), Flow::Default) && std::mem::take(&mut self.changed) {
            self.publish();
        }
    }

    fn close(&mut self) {
        self.note("close");
        self.ask(&Event::Close);
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.note("drop");
        self.ask(&Event::Drop);
    }
}

impl Picker for Turns {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        self.puppet.picks.fetch_add(1, Ordering::SeqCst);
        let turn = self.next.fetch_add(1, Ordering::SeqCst);
        let pick = Pick::new(&self.ready[turn % self.ready.len()]);
        Ok(pick.on_done(self.puppet.dones.clone(), 0))
    }
}

impl<F> Picker for FnPicker<F>
where
    F: for<'a> Fn(&PickOptions<'a>) -> Result<Pick<'static>, PickError> + Send + Sync,
{
    fn pick<'p>(&'p self, options: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        (self.0)(options)
    }
}

impl OnDone for Dones {
    fn on_done(&self, _: u64, info: &DoneInfo<'_>) {
        self.count.fetch_add(1, Ordering::SeqCst);
        let line = info.err().map_or("ok".to_owned(), ToString::to_string);
        self.log.lock().unwrap().push(line);
    }
}
