//! The driver: a policy, its scripted channel, and the events that reach it one by one.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use balancer_api::{
    Address, Balancer, BuildOptions, Builder, CallEvent, CallId, ChildConfig, ChildResolver,
    ConfigError, ConnectivityState as State, DoneInfo, Endpoint, LbConfig, ParseContext,
    PickOptions, Picker, Reconnect, Rejected, ResolveError, ResolvedAddrs, Source, StateCause,
    Status, SubConn, SubConnHandle, SubConnState, Timestamp,
};
use http::HeaderMap;

use crate::{
    End, Event, Illegal, List, Log, Move, Outcome, Rpc, SubId,
    conn::{Due, Inner, Item, ScriptedConn, Shared},
    log::{Ask, Entry, Told},
    scripted::{Act, Actor, Consults},
};

/// A policy at work on a scripted channel, driven one [`Event`] at a time.
///
/// This is the kit's engine: it refuses what cannot happen with an error rather than a panic.
/// [`Script`](crate::Script) tells stories with it.
///
/// What a callback asks takes effect, in order, when the callback has returned; a settle follows
/// each event, and then what came of it (SHUTDOWN of removed SubConns, calls that end, wakes) is
/// delivered, each with a settle of its own.
///
/// ```
/// use balancer_testkit::{Setup, World};
/// # use balancer_api::{base::*, *};
/// # use std::sync::Arc;
/// # struct First;
/// # struct FirstPicker(ReadySet);
/// # impl PickerBuilder for First {
/// #     type Data = ();
/// #     fn data(&mut self, _: &Endpoint, _: &BaseContext<'_>) {}
/// #     fn build_picker(&mut self, ready: &ReadySet, _: &BaseContext<'_>) -> Arc<dyn Picker> {
/// #         Arc::new(FirstPicker(ready.clone()))
/// #     }
/// # }
/// # impl Picker for FirstPicker {
/// #     fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
/// #         Ok(Pick::new(self.0.get(0).unwrap().sub_conn()))
/// #     }
/// # }
/// # let builder = Arc::new(BaseBuilder::new("first", || First));
/// let mut world = World::new(builder, Setup::new());
/// world.run("update a b\n connecting b\n ready b").unwrap();
/// assert_eq!(world.pick(), "b");
/// assert!(world.run("failed b").is_err(), "a loss is not a failure");
/// ```
pub struct World {
    /// `None` once closed, or when it panicked.
    balancer: Option<Box<dyn Balancer>>,
    conn: Option<Arc<ScriptedConn>>,
    pub(crate) shared: Arc<Shared>,
    builder: Arc<dyn Builder>,
    setup: Setup,
    config: Option<LbConfig>,
    config_text: Option<Arc<str>>,
    /// The last list, for `again`.
    list: List,
    /// Between `hold` and `settle`.
    holding: bool,
    answer: Option<Result<(), Rejected>>,
    panicked: Option<Arc<str>>,
    /// The policy keeps asking for more without end.
    restless: bool,
    /// RPCs that go on.
    open: Vec<Rpc>,
    pub(crate) watcher: Option<Box<dyn Watcher>>,
    /// How many events happened.
    pub(crate) happened: usize,
    /// Who goes along, event by event.
    pub(crate) companions: Vec<Box<dyn Companion>>,
    /// A policy that was closed, kept for callbacks that come late.
    closed: Option<Box<dyn Balancer>>,
}

/// How a [`World`] is set up.
#[derive(Clone, Default)]
pub struct Setup {
    pub(crate) seed: Option<u64>,
    pub(crate) random: Vec<u64>,
    pub(crate) config: Option<Arc<str>>,
    pub(crate) reconnect: Option<Reconnect>,
    pub(crate) target: Option<Arc<str>>,
    pub(crate) children: Vec<Arc<dyn Builder>>,
}

/// Looks on after every settle.
pub(crate) trait Watcher: Send {
    fn settled(&mut self, world: &mut World);

    /// Drops the pickers that it keeps.
    fn let_go(&mut self);

    /// Whether it only keeps up with what happens, and judges nothing, until told otherwise.
    fn keep_up_only(&mut self, only: bool);
}

/// Goes along with a world, event by event.
pub(crate) trait Companion: Send {
    /// The event has happened, or was refused, and all that follows from it is over.
    fn after(&mut self, event: &Event, result: &Result<(), Refused>, world: &mut World);

    /// What is to be shown beside the world's own log.
    fn conversation(&self) -> Option<String> {
        None
    }

    /// Whether it stays behind when the script is over.
    fn follows_script_only(&self) -> bool {
        false
    }
}

/// Why an event could not be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// It cannot happen now.
    Illegal(Illegal),
    /// A line of the script is no event.
    Unreadable(crate::ParseEventError),
    /// The policy panicked; nothing more can be done with it.
    Panicked(Arc<str>),
}

/// Knows the builders of a [`Setup`] by name.
struct Children<'a>(&'a [Arc<dyn Builder>]);

/// A SubConn that nobody made.
struct Nobody;

/// How many follow-ups a policy may bring about after one event before it counts as restless.
const PATIENCE: usize = 1_000;

// === impl Setup ===

impl Setup {
    /// No seed (every random number is 0), no configuration.
    pub fn new() -> Self {
        Self::default()
    }

    /// Random numbers from a seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The first random numbers, from `build` on.
    #[must_use]
    pub fn random(mut self, values: impl IntoIterator<Item = u64>) -> Self {
        self.random.extend(values);
        self
    }

    /// The policy's configuration: the JSON beside its name in a service config.
    #[must_use]
    pub fn config(mut self, json: impl Into<Arc<str>>) -> Self {
        self.config = Some(json.into());
        self
    }

    /// Gives every SubConn this mode, whatever the policy asks for.
    #[must_use]
    pub fn reconnect(mut self, reconnect: Reconnect) -> Self {
        self.reconnect = Some(reconnect);
        self
    }

    /// The channel's target.
    #[must_use]
    pub fn target(mut self, target: impl Into<Arc<str>>) -> Self {
        self.target = Some(target.into());
        self
    }

    /// A policy that the configuration of a composite may name.
    #[must_use]
    pub fn child(mut self, builder: Arc<dyn Builder>) -> Self {
        self.children.push(builder);
        self
    }

    /// Parses the configuration of `builder` with the children of this set-up.
    ///
    /// # Errors
    /// What the builder's own parser says.
    pub fn parse(&self, builder: &dyn Builder, json: &str) -> Result<LbConfig, ConfigError> {
        let children = Children(&self.children);
        builder.parse_config(json, &mut ParseContext::new(&children, 0))
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup")
            .field("seed", &self.seed)
            .field("config", &self.config)
            .field("reconnect", &self.reconnect)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

impl ChildResolver for Children<'_> {
    fn resolve_child(
        &self,
        list_json: &str,
        cx: &mut ParseContext<'_>,
    ) -> Result<ChildConfig, ConfigError> {
        let list: Vec<serde_json::Map<String, serde_json::Value>> = serde_json::from_str(list_json)
            .map_err(|error| ConfigError::new("", list_json, error.to_string()))?;
        for entry in list {
            let Some((name, config)) = entry.into_iter().next() else {
                return Err(ConfigError::new("", list_json, "an entry without a policy"));
            };
            if let Some(builder) = self.0.iter().find(|builder| builder.name() == name) {
                let mut inner = ParseContext::new(self, cx.depth());
                let config = builder.parse_config(&config.to_string(), &mut inner)?;
                return Ok(ChildConfig::new(builder.clone(), Some(config)));
            }
        }
        Err(ConfigError::new("", list_json, "no policy of this set-up"))
    }
}

// === impl World ===

impl World {
    /// Builds the policy on a new channel.
    ///
    /// # Panics
    /// The set-up's configuration does not parse, or `build` panics.
    pub fn new(builder: Arc<dyn Builder>, setup: Setup) -> Self {
        let config = setup.config.as_ref().map(|json| {
            let parsed = setup.parse(&*builder, json);
            parsed.unwrap_or_else(|error| panic!("the configuration {json} is invalid: {error}"))
        });
        Self::with_config(builder, setup, config)
    }

    pub(crate) fn with_config(
        builder: Arc<dyn Builder>,
        setup: Setup,
        config: Option<LbConfig>,
    ) -> Self {
        let target: Arc<str> = setup
            .target
            .clone()
            .unwrap_or_else(|| "scripted:///backends".into());
        let shared = Arc::new(Shared::new(target.clone(), setup.seed, setup.reconnect));
        if !setup.random.is_empty() {
            shared.clock.script_random(setup.random.iter().copied());
        }
        let mut world = Self {
            balancer: None,
            conn: Some(Arc::new(ScriptedConn(shared.clone()))),
            shared,
            builder,
            config,
            config_text: setup.config.clone(),
            setup,
            list: List::parse(""),
            holding: false,
            answer: None,
            panicked: None,
            restless: false,
            open: Vec::new(),
            watcher: None,
            happened: 0,
            companions: Vec::new(),
            closed: None,
        };
        world.build(&target);
        world
    }

    fn build(&mut self, target: &Arc<str>) {
        let Some(conn) = self.conn.clone() else {
            return;
        };
        self.shared.begin(Told::Build);
        let options = BuildOptions::new(target.clone()).with_config(self.config.clone());
        let built = catch_unwind(AssertUnwindSafe(|| self.builder.build(conn, options)));
        self.shared.end(built.is_err());
        match built {
            Ok(balancer) => {
                self.balancer = Some(balancer);
                self.settle();
                self.drain();
            }
            Err(payload) => self.give_up(&*payload),
        }
    }

    /// Starts to look on, from the build's own settle on.
    pub(crate) fn watch(&mut self, watcher: Box<dyn Watcher>) {
        self.watcher = Some(watcher);
        self.look();
    }

    /// Runs a script: one event per line, or between `;`; empty lines and those that begin with
    /// `#` say nothing.
    ///
    /// # Errors
    /// The first line that is no event or cannot happen.
    pub fn run(&mut self, script: &str) -> Result<(), Refused> {
        for line in script.split(['\n', ';']).map(str::trim) {
            if !line.is_empty() && !line.starts_with('#') {
                let event = line.parse().map_err(Refused::Unreadable)?;
                self.apply(&event)?;
            }
        }
        Ok(())
    }

    /// Lets one event happen, with all that follows from it.
    ///
    /// # Errors
    /// It cannot happen now, and nothing did; or the policy has panicked.
    pub fn apply(&mut self, event: &Event) -> Result<(), Refused> {
        let result = self.apply_alone(event);
        if !self.companions.is_empty() {
            let mut companions = std::mem::take(&mut self.companions);
            for companion in &mut companions {
                companion.after(event, &result, self);
            }
            self.companions = companions;
        }
        result
    }

    fn apply_alone(&mut self, event: &Event) -> Result<(), Refused> {
        let (waits, closed) = {
            let inner = self.shared.lock();
            (!inner.queue.is_empty(), inner.closed)
        };
        if waits {
            self.drain();
        }
        if let Some(message) = &self.panicked {
            return Err(Refused::Panicked(message.clone()));
        }
        if closed && !matches!(event, Event::Late | Event::Pick(_)) {
            let late = Illegal(format!("{event}: the policy was closed"));
            return Err(Refused::Illegal(late));
        }
        self.happen(event).map_err(Refused::Illegal)?;
        self.happened += 1;
        self.drain();
        match &self.panicked {
            Some(message) => Err(Refused::Panicked(message.clone())),
            None => Ok(()),
        }
    }

    /// Delivers what came from outside of callbacks: picks that asked to connect, ends of RPCs that
    /// woke the policy, other threads.
    pub fn catch_up(&mut self) {
        if !self.shared.lock().queue.is_empty() {
            self.drain();
        }
    }

    /// Asks the current picker for a default RPC, which then ends with OK.
    pub fn pick(&mut self) -> Outcome {
        let rpc = self.start_rpc(&PickOptions::new("/kit.Scripted/Call"));
        let outcome = rpc.outcome().clone();
        rpc.ok();
        self.catch_up();
        outcome
    }

    /// Asks the current picker for an RPC.
    pub fn start_rpc(&mut self, options: &PickOptions<'_>) -> Rpc {
        self.catch_up();
        let rpc = self.pick_from(self.picker().as_deref(), options);
        let mut inner = self.shared.lock();
        inner.note(Entry::Picked(rpc.outcome().clone()));
        if let Some(id) = rpc.sub() {
            inner.kick(id);
        }
        drop(inner);
        rpc
    }

    /// Asks any picker for an RPC, without a note in the log.
    pub(crate) fn pick_from(&self, picker: Option<&dyn Picker>, options: &PickOptions<'_>) -> Rpc {
        Rpc::pick(&self.shared, picker, options)
    }

    /// The log so far.
    pub fn log<R>(&self, read: impl FnOnce(&Log) -> R) -> R {
        read(&self.shared.lock().log)
    }

    /// The last published picker.
    pub fn picker(&self) -> Option<Arc<dyn Picker>> {
        let inner = self.shared.lock();
        inner.published.as_ref().map(|(_, picker)| picker.clone())
    }

    /// The last published state.
    pub fn state(&self) -> Option<State> {
        self.shared
            .lock()
            .published
            .as_ref()
            .map(|(state, _)| *state)
    }

    /// The virtual time.
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// The policy's answer to the last resolver result.
    pub fn last_result(&self) -> Option<&Result<(), Rejected>> {
        self.answer.as_ref()
    }

    /// The panic that ended the policy.
    pub fn panic_message(&self) -> Option<&str> {
        self.panicked.as_deref()
    }

    /// Whether one event had more than a thousand follow-ups: a policy that wakes itself for ever.
    pub fn is_restless(&self) -> bool {
        self.restless
    }

    /// Whether nothing is about to happen: no run without its settle, nothing queued.
    pub(crate) fn is_at_rest(&self) -> bool {
        !self.holding && self.shared.lock().queue.is_empty()
    }

    /// Whether the policy was closed.
    pub fn is_closed(&self) -> bool {
        self.shared.lock().closed
    }

    /// The moves that are legal now: each SubConn that lives, by name, with each move.
    pub fn legal_steps(&self) -> Vec<(Arc<str>, Move)> {
        let inner = self.shared.lock();
        let mut steps = Vec::with_capacity(2 * inner.live.len());
        for id in &inner.live {
            let sub = &inner.subs[id.index()];
            for step in Move::ALL {
                if sub.legal(step).is_some() {
                    steps.push((sub.name.clone(), step));
                }
            }
        }
        steps
    }

    /// How many [`World::legal_steps`] there are.
    pub(crate) fn legal_step_count(&self) -> usize {
        let inner = self.shared.lock();
        let live = inner.live.iter().map(|id| &inner.subs[id.index()]);
        let legal = |sub: &crate::sub::Sub| {
            let legal = Move::ALL.iter().filter(|step| sub.legal(**step).is_some());
            legal.count()
        };
        live.map(legal).sum()
    }

    /// One of the [`World::legal_steps`].
    pub(crate) fn legal_step(&self, nth: usize) -> Option<(Arc<str>, Move)> {
        let inner = self.shared.lock();
        let live = inner.live.iter().map(|id| &inner.subs[id.index()]);
        let mut steps = live.flat_map(|sub| {
            let legal = Move::ALL.iter().filter(|step| sub.legal(**step).is_some());
            legal.map(move |step| (sub, *step))
        });
        let (sub, step) = steps.nth(nth)?;
        Some((sub.name.clone(), step))
    }

    /// When the earliest timer of the policy is due.
    pub fn next_timer(&self) -> Option<Timestamp> {
        let inner = self.shared.lock();
        let timers = inner
            .due
            .iter()
            .filter(|(_, due)| matches!(due, Due::Timer(_)));
        timers.map(|(at, _)| *at).min()
    }

    /// The timers and calls of a policy that has no SubConn left, if it has any and nothing is about
    /// to happen.
    pub(crate) fn left_over_nothing(&self) -> Option<(usize, usize)> {
        if self.holding || self.panicked.is_some() {
            return None;
        }
        let inner = self.shared.lock();
        if !inner.live.is_empty() || !inner.queue.is_empty() || inner.published.is_none() {
            return None;
        }
        let timers = inner.due.iter();
        let timers = timers
            .filter(|(_, due)| matches!(due, Due::Timer(_)))
            .count();
        let calls = inner.calls.len();
        (timers + calls > 0).then_some((timers, calls))
    }

    /// The list that was last delivered.
    pub fn list(&self) -> &List {
        &self.list
    }

    /// The configuration that the next list carries, as text.
    pub(crate) fn config_text(&self) -> Option<&Arc<str>> {
        self.config_text.as_ref()
    }

    // --- events ---

    fn happen(&mut self, event: &Event) -> Result<(), Illegal> {
        match event {
            Event::Step(step, name, text) => {
                let (sub, address) = self.resolve(name)?;
                self.step(Some(event), sub, *step, address, text.as_deref())?;
                return Ok(());
            }
            Event::Repeat(name) => {
                let (sub, _) = self.resolve(name)?;
                self.note(event);
                self.tell_again(sub);
                return Ok(());
            }
            Event::Timer if self.next_timer().is_none() => {
                return Err(Illegal("timer: the policy has set none".to_owned()));
            }
            Event::Shutdown(name) => {
                let held = {
                    let mut inner = self.shared.lock();
                    let named = |id: &SubId| *inner.subs[id.index()].name == **name;
                    let at = inner.held_shutdowns.iter().position(named);
                    at.map(|at| inner.held_shutdowns.remove(at))
                };
                let Some(sub) = held else {
                    return Err(Illegal(format!(
                        "shutdown {name}: no SHUTDOWN is held for it"
                    )));
                };
                self.note(event);
                self.shut_down(sub);
                return Ok(());
            }
            Event::Child(label, act) => {
                let (actor, consulted) = self.scripted_child(label, act)?;
                self.note(event);
                actor.act(act, &consulted);
                return Ok(());
            }
            Event::CallHeaders(name) | Event::CallMessage(name, _) | Event::CallEnd(name, _) => {
                let id = self.call_on(name)?;
                let event_of_call = match event {
                    Event::CallMessage(_, bytes) => CallEvent::Message(bytes.clone().into()),
                    Event::CallEnd(_, code) => CallEvent::End {
                        status: Status::new(*code, ""),
                        trailers: HeaderMap::new(),
                    },
                    _ => CallEvent::Headers(HeaderMap::new()),
                };
                self.check_call(id, &event_of_call)?;
                self.note(event);
                return self.call_event(id, event_of_call);
            }
            _ => {}
        }
        self.note(event);
        match event {
            Event::Update(list) => self.resolved(list.clone()),
            Event::Again => self.resolved(self.list.remade()),
            Event::ResolverError(text) => self.resolver_error(text),
            Event::Stranger => self.strangers(),
            Event::Refuse(why) => self.shared.lock().refusals.push_back(why.clone()),
            Event::Timer => {
                if let Some(at) = self.next_timer() {
                    self.advance_to(at);
                }
            }
            Event::Advance(by) => self.advance_to(self.now() + *by),
            Event::Wake => self.settle(),
            Event::ExitIdle => {
                self.call(Told::ExitIdle, |balancer| balancer.exit_idle());
                self.settle();
            }
            Event::Pick(end) => {
                let rpc = self.start_rpc(&PickOptions::new("/kit.Scripted/Call"));
                // Nothing can be sent on what is not READY.
                let end = match rpc.sub() {
                    Some(id) if !self.shared.lock().is_ready(id) => &End::NotSent,
                    _ => end,
                };
                if *end == End::Open {
                    self.open.push(rpc);
                } else if rpc.end(*end) > 0 {
                    self.give_up(&"an observer of an RPC's end panicked");
                }
            }
            Event::Random(value) => self.shared.clock.script_random([*value]),
            Event::Config(json) => {
                let parsed = self.setup.parse(&*self.builder, json);
                self.config = Some(parsed.map_err(|error| Illegal(error.to_string()))?);
                self.config_text = Some(json.clone());
            }
            Event::Hold => self.holding = true,
            Event::Settle => {
                self.holding = false;
                self.settle();
            }
            Event::HoldShutdowns => self.shared.lock().hold_shutdowns = true,
            Event::Close => self.close(),
            Event::Late => self.late(),
            Event::Step(..)
            | Event::Repeat(_)
            | Event::Shutdown(_)
            | Event::CallHeaders(_)
            | Event::CallMessage(..)
            | Event::CallEnd(..)
            | Event::Child(..) => {}
        }
        Ok(())
    }

    /// The scripted child of that label, if it can do that now.
    fn scripted_child(&self, label: &str, act: &Act) -> Result<(Arc<Actor>, Consults), Illegal> {
        let (actor, consulted) = {
            let inner = self.shared.lock();
            let actor = inner.cast.find(label).cloned();
            let actor =
                actor.ok_or_else(|| Illegal(format!("there is no scripted child {label}")))?;
            (actor, inner.cast.consulted.clone())
        };
        match actor.refuses(act) {
            None => Ok((actor, consulted)),
            Some(why) => Err(Illegal(format!("child {label} {act}: {why}"))),
        }
    }

    pub(crate) fn resolve(&self, name: &str) -> Result<(SubId, Option<Address>), Illegal> {
        let inner = self.shared.lock();
        let sub = inner.find(name).map_err(Illegal)?;
        let address = inner.subs[sub.index()].address_at(name).cloned();
        Ok((sub, address))
    }

    /// Moves one SubConn, if it may move so.
    pub(crate) fn step(
        &mut self,
        event: Option<&Event>,
        id: SubId,
        step: Move,
        address: Option<Address>,
        text: Option<&str>,
    ) -> Result<(), Illegal> {
        let (state, cause, error) = {
            let mut inner = self.shared.lock();
            let sub = &mut inner.subs[id.index()];
            let (state, cause) = sub.target(step)?;
            let error = match (state, step) {
                (State::TransientFailure, _) => {
                    let reason = match (text, step) {
                        (Some(text), _) => text.to_owned(),
                        (None, Move::HealthFailed) => format!("{}: not serving", sub.name),
                        // Counted, so that an old error can be told from a new one.
                        (None, _) => {
                            sub.failures += 1;
                            format!("{}: connection refused, attempt {}", sub.name, sub.failures)
                        }
                    };
                    Some(Status::unavailable(reason))
                }
                (_, Move::Lost) => text.map(Status::unavailable),
                _ => None,
            };
            if matches!(sub.state, State::Connecting)
                && matches!(step, Move::Ready | Move::HealthFailed)
            {
                sub.connected = address.or_else(|| sub.addresses.first().cloned());
            }
            if let Some(event) = event {
                inner.note(Entry::Event(event.clone()));
            }
            (state, cause, error)
        };
        self.tell_state(id, state, error, cause);
        self.settle();
        Ok(())
    }

    fn tell_state(&mut self, id: SubId, state: State, error: Option<Status>, cause: StateCause) {
        let (handle, address) = {
            let mut inner = self.shared.lock();
            let sub = &mut inner.subs[id.index()];
            let had_connection = sub.state == State::Ready || sub.unhealthy;
            let moved = std::mem::replace(&mut sub.state, state) != state;
            sub.asked = false;
            // A move that was to follow from a new list has been overtaken by this one.
            let overtaken = |item: &Item| matches!(item, Item::Forced(of, _) if *of == id);
            sub.unhealthy = state == State::TransientFailure && cause == StateCause::Health;
            if state != State::Ready && !sub.unhealthy {
                sub.connected = None;
            }
            sub.error = error.clone();
            let address = (state == State::Ready)
                .then(|| sub.connected.clone())
                .flatten();
            let handle = sub.handle.clone();
            let lost = had_connection && sub.connected.is_none() && state != State::Shutdown;
            if moved {
                inner.queue.retain(|item| !overtaken(item));
            }
            if lost && !inner.calls.is_empty() {
                inner.end_calls_on(id);
            }
            (handle, address)
        };
        let told = Told::State {
            sub: id,
            state,
            error: error.clone(),
            address: address.clone(),
            cause,
        };
        let mut new = SubConnState::new(state).with_cause(cause);
        if let Some(error) = &error {
            new = new.with_error(error);
        }
        if let Some(address) = &address {
            new = new.with_address(address);
        }
        self.call(told, |balancer| {
            balancer.handle_sub_conn_state_change(&handle, &new);
        });
    }

    fn tell_again(&mut self, id: SubId) {
        let (state, error, cause, asked) = {
            let inner = self.shared.lock();
            let sub = &inner.subs[id.index()];
            let cause = if sub.unhealthy {
                StateCause::Health
            } else {
                StateCause::Connectivity
            };
            (sub.state, sub.error.clone(), cause, sub.asked)
        };
        self.tell_state(id, state, error, cause);
        if asked {
            self.shared.lock().subs[id.index()].asked = true;
        }
        self.settle();
    }

    fn strangers(&mut self) {
        let nobody = SubConn::new(Arc::new(Nobody));
        let gone: Vec<SubConn> = {
            let inner = self.shared.lock();
            let gone = inner.subs.iter().filter(|sub| {
                // Those whose SHUTDOWN is still to come are not unknown yet.
                sub.removed && sub.state == State::Shutdown
            });
            gone.map(|sub| sub.handle.clone()).collect()
        };
        let error = Status::unavailable("a stranger failed");
        for sub_conn in std::iter::once(nobody).chain(gone) {
            for state in [
                State::Ready,
                State::TransientFailure,
                State::Idle,
                State::Shutdown,
            ] {
                let mut new = SubConnState::new(state);
                if state == State::TransientFailure {
                    new = new.with_error(&error);
                }
                self.call(Told::Stranger(state), |balancer| {
                    balancer.handle_sub_conn_state_change(&sub_conn, &new);
                });
            }
        }
        self.settle();
    }

    fn shut_down(&mut self, id: SubId) {
        self.tell_state(id, State::Shutdown, None, StateCause::Connectivity);
        self.settle();
    }

    fn resolved(&mut self, list: List) {
        let resolved = ResolvedAddrs::new([])
            .with_endpoints(list.endpoints().clone())
            .with_config(self.config.clone());
        self.list = list;
        self.deliver(Ok(resolved));
    }

    pub(crate) fn resolver_error(&mut self, text: &str) {
        self.deliver(Err(ResolveError::new(text)));
    }

    pub(crate) fn deliver(&mut self, resolved: Result<ResolvedAddrs, ResolveError>) {
        let told = match &resolved {
            Ok(resolved) => Ok(Arc::new(resolved.clone())),
            Err(error) => Err(error.clone()),
        };
        let answer = self.call(Told::Resolved(told), |balancer| {
            balancer.handle_resolved_addrs(resolved)
        });
        if let Some(answer) = answer {
            self.shared.lock().note(Entry::Answered(answer.clone()));
            self.answer = Some(answer);
        }
        self.settle();
    }

    pub(crate) fn deliver_endpoints(&mut self, endpoints: impl IntoIterator<Item = Endpoint>) {
        let list = List::of(endpoints);
        self.note(&Event::Update(list.clone()));
        self.resolved(list);
        self.drain();
    }

    pub(crate) fn deliver_result(&mut self, resolved: Result<ResolvedAddrs, ResolveError>) {
        self.deliver(resolved);
        self.drain();
    }

    /// Lets time go on; what is due meanwhile happens at its time, each with a settle of its own.
    pub(crate) fn advance_to(&mut self, until: Timestamp) {
        // Timers that set timers for the same moment would never let time go on.
        let mut patience = PATIENCE;
        let mut last = self.now();
        loop {
            let next = {
                let mut inner = self.shared.lock();
                let earliest = inner.due.iter().copied().filter(|(at, _)| *at <= until);
                let earliest = earliest.min();
                if let Some(next) = earliest {
                    inner.due.retain(|due| *due != next);
                }
                earliest
            };
            let Some((at, due)) = next else {
                self.shared.clock.advance_to(until);
                return;
            };
            self.shared.clock.advance_to(at);
            patience = if at > last { PATIENCE } else { patience - 1 };
            last = last.max(at);
            if patience == 0 {
                self.restless = true;
                self.look();
                return;
            }
            match due {
                Due::Timer(id) => {
                    self.call(Told::Timer(id), |balancer| balancer.handle_timer(id));
                    self.settle();
                }
                Due::Deadline(id) => {
                    let late = Status::new(balancer_api::Code::DeadlineExceeded, "too late");
                    self.shared.lock().end_call(id, late, HeaderMap::new());
                }
            }
            self.drain();
            if self.panicked.is_some() || self.restless {
                return;
            }
        }
    }

    /// The oldest call that is not over on the SubConn of that name, or the oldest of all.
    pub(crate) fn call_on(&self, name: &str) -> Result<CallId, Illegal> {
        let inner = self.shared.lock();
        let named = |call: &&crate::conn::Call| {
            call.sub.is_some_and(|sub| {
                let sub = &inner.subs[sub.index()];
                *sub.name == *name || sub.address_at(name).is_some()
            })
        };
        match inner.calls.iter().find(named) {
            Some(call) => Ok(call.id),
            None => Err(Illegal(format!("no call of the policy is open on {name}"))),
        }
    }

    fn check_call(&self, id: CallId, event: &CallEvent) -> Result<(), Illegal> {
        let inner = self.shared.lock();
        let Some(call) = inner.calls.iter().find(|call| call.id == id) else {
            return Err(Illegal(format!("call {} is over", id.as_raw())));
        };
        if matches!(event, CallEvent::Headers(_)) && call.headers_sent {
            return Err(Illegal(format!(
                "call {} was already answered: headers come once, and first",
                id.as_raw()
            )));
        }
        Ok(())
    }

    /// Something happens on a call of the policy.
    pub(crate) fn call_event(&mut self, id: CallId, event: CallEvent) -> Result<(), Illegal> {
        self.check_call(id, &event)?;
        {
            let mut inner = self.shared.lock();
            if let Some(call) = inner.call_mut(id) {
                call.headers_sent = true;
            }
            match event {
                CallEvent::End { status, trailers } => inner.end_call(id, status, trailers),
                event => inner.queue.push_back(Item::Call(id, event)),
            }
        }
        Ok(())
    }

    fn close(&mut self) {
        let Some(mut balancer) = self.balancer.take() else {
            return;
        };
        self.holding = false;
        {
            let mut inner = self.shared.lock();
            inner.closed = true;
            inner.queue.clear();
        }
        self.shared.begin(Told::Close);
        let closed = catch_unwind(AssertUnwindSafe(|| balancer.close()));
        self.shared.end(closed.is_err());
        match closed {
            Ok(()) => self.closed = Some(balancer),
            Err(payload) => self.give_up(&*payload),
        }
        self.look();
    }

    /// Callbacks that come after the close, which a channel promises not to make.
    fn late(&mut self) {
        let Some(mut balancer) = self.closed.take() else {
            return;
        };
        let (subs, timers) = {
            let inner = self.shared.lock();
            let subs = inner.live.iter().map(|id| {
                let sub = &inner.subs[id.index()];
                (*id, sub.handle.clone())
            });
            let subs: Vec<(SubId, SubConn)> = subs.collect();
            let timers: Vec<Due> = inner.due.iter().map(|(_, due)| *due).collect();
            (subs, timers)
        };
        let error = Status::unavailable("late");
        for (sub, handle) in subs {
            for state in [State::TransientFailure, State::Idle, State::Shutdown] {
                let mut new = SubConnState::new(state);
                if state == State::TransientFailure {
                    new = new.with_error(&error);
                }
                let told = Told::State {
                    sub,
                    state,
                    error: new.error.cloned(),
                    address: None,
                    cause: StateCause::Connectivity,
                };
                self.call_on_balancer(&mut *balancer, told, |balancer| {
                    balancer.handle_sub_conn_state_change(&handle, &new);
                });
            }
        }
        for due in timers {
            if let Due::Timer(id) = due {
                self.call_on_balancer(&mut *balancer, Told::Timer(id), |balancer| {
                    balancer.handle_timer(id);
                });
            }
        }
        self.call_on_balancer(&mut *balancer, Told::Settle, |balancer| balancer.settle());
        self.closed = Some(balancer);
        self.look();
    }

    // --- callbacks ---

    fn note(&self, event: &Event) {
        self.shared.lock().note(Entry::Event(event.clone()));
    }

    /// One callback, contained. `None` when there is no policy any more, or when it panicked.
    fn call<R>(&mut self, told: Told, callback: impl FnOnce(&mut dyn Balancer) -> R) -> Option<R> {
        let mut balancer = self.balancer.take()?;
        let answer = self.call_on_balancer(&mut *balancer, told, callback);
        if self.panicked.is_none() {
            self.balancer = Some(balancer);
        }
        answer
    }

    fn call_on_balancer<R>(
        &mut self,
        balancer: &mut dyn Balancer,
        told: Told,
        callback: impl FnOnce(&mut dyn Balancer) -> R,
    ) -> Option<R> {
        self.shared.begin(told);
        let answer = catch_unwind(AssertUnwindSafe(|| callback(balancer)));
        self.shared.end(answer.is_err());
        match answer {
            Ok(answer) => Some(answer),
            Err(payload) => {
                self.give_up(&*payload);
                None
            }
        }
    }

    fn give_up(&mut self, payload: &(dyn std::any::Any + Send)) {
        let message = panic_text(payload);
        self.shared.lock().note(Entry::Panicked(message.clone()));
        self.panicked = Some(message);
        self.look();
    }

    fn settle(&mut self) {
        if !self.holding && self.balancer.is_some() {
            self.call(Told::Settle, |balancer| balancer.settle());
            self.look();
        }
    }

    /// Whether whoever looks on only keeps up, and judges nothing.
    pub(crate) fn keep_up_only(&mut self, only: bool) {
        if let Some(watcher) = &mut self.watcher {
            watcher.keep_up_only(only);
        }
    }

    pub(crate) fn look(&mut self) {
        if let Some(mut watcher) = self.watcher.take() {
            watcher.settled(self);
            self.watcher = Some(watcher);
        }
    }

    /// Delivers what is queued until nothing is.
    fn drain(&mut self) {
        if self.holding {
            return;
        }
        // What is there already, such as SHUTDOWN of thousands, is none of the policy's unrest.
        let mut patience = None;
        loop {
            let (waiting, item) = self.next_item();
            let Some(item) = item else {
                return;
            };
            let left = patience.get_or_insert(PATIENCE + 2 * waiting);
            if *left == 0 {
                break;
            }
            *left -= 1;
            match item {
                Item::Ask(_) => {}
                Item::Shutdown(id) => self.shut_down(id),
                Item::Forced(id, state) => {
                    let current = {
                        let inner = self.shared.lock();
                        let sub = &inner.subs[id.index()];
                        !sub.removed && sub.state != state
                    };
                    if current {
                        self.tell_state(id, state, None, StateCause::Connectivity);
                        self.settle();
                    }
                }
                Item::Call(id, event) => {
                    self.call(Told::Call(id, event.clone()), |balancer| {
                        balancer.handle_call_event(id, event);
                    });
                    self.settle();
                }
                Item::Wake => {
                    self.shared.lock().wake_pending = false;
                    self.settle();
                }
            }
            if self.panicked.is_some() {
                return;
            }
        }
        self.restless = true;
        self.shared.lock().queue.clear();
        self.look();
    }

    /// How many things wait, and the next to deliver; what was asked from outside takes effect on
    /// the way.
    fn next_item(&self) -> (usize, Option<Item>) {
        let mut inner = self.shared.lock();
        let inner: &mut Inner = &mut inner;
        let waiting = inner.queue.len();
        loop {
            match inner.queue.pop_front() {
                Some(Item::Ask(ask)) => inner.take_effect(&ask, &self.shared.clock),
                item => return (waiting, item),
            }
        }
    }

    // --- what stories ask ---

    pub(crate) fn deliver_queue(&mut self) {
        self.drain();
    }

    /// Ends what the script holds back: open RPCs, runs without a settle, SHUTDOWNs, refusals.
    pub(crate) fn release(&mut self) {
        if std::mem::take(&mut self.holding) {
            self.settle();
        }
        {
            let mut inner = self.shared.lock();
            inner.refusals.clear();
            inner.hold_shutdowns = false;
            let held = std::mem::take(&mut inner.held_shutdowns);
            inner.queue.extend(held.into_iter().map(Item::Shutdown));
        }
        self.finish_open();
        self.drain();
    }

    pub(crate) fn finish_open(&mut self) {
        for rpc in self.open.drain(..) {
            rpc.ok();
        }
    }

    /// A SubConn that was removed, was told SHUTDOWN, and is held by somebody all the same. Pickers
    /// that were replaced are dropped first, and the oracle with them.
    pub(crate) fn removed_and_held(&mut self) -> Option<Arc<str>> {
        if self.panicked.is_some() || self.is_closed() {
            return None;
        }
        let gone = |inner: &Inner| inner.subs.iter().any(|sub| sub.state == State::Shutdown);
        if !gone(&self.shared.lock()) {
            return None;
        }
        if let Some(watcher) = &mut self.watcher {
            watcher.let_go();
        }
        let actors = self.shared.lock().cast.actors.clone();
        actors.iter().for_each(|actor| actor.forget_late());
        let entries = self.drop_old_pickers();
        drop(entries);
        let inner = self.shared.lock();
        let held = inner.subs.iter().zip(&inner.weak).find(|(sub, weak)| {
            // The kit's own is one.
            sub.state == State::Shutdown && weak.strong_count() > 1
        });
        held.map(|(sub, _)| sub.name.clone())
    }

    /// Puts harmless pickers into the log; the old ones are the caller's to drop, without the lock.
    fn drop_old_pickers(&self) -> Vec<Arc<dyn Picker>> {
        let mut inner = self.shared.lock();
        let mut old = Vec::with_capacity(16);
        for entry in &mut inner.log.entries {
            if let Entry::Asked {
                ask: Ask::Publish(_, picker),
                ..
            } = entry
            {
                old.push(std::mem::replace(picker, harmless_picker()));
            }
        }
        old
    }

    /// What is left when policy, pickers and RPCs are gone: SubConns by name, and whether the
    /// ClientConn itself is still held.
    pub(crate) fn leftovers(mut self) -> (Vec<Arc<str>>, bool) {
        self.take_apart();
        let conn = self.conn.take().map_or(0, |conn| Arc::strong_count(&conn));
        let inner = self.shared.lock();
        let held = inner.weak.iter().zip(&inner.log.names);
        let held = held.filter(|(weak, _)| weak.strong_count() > 0);
        (held.map(|(_, name)| name.clone()).collect(), conn > 1)
    }

    /// Drops the policy and everything that could keep it or its SubConns alive.
    fn take_apart(&mut self) {
        self.open.clear();
        let dropped = catch_unwind(AssertUnwindSafe(|| {
            drop(self.balancer.take());
            drop(self.closed.take());
        }));
        if let Err(payload) = dropped {
            self.panicked = Some(panic_text(&*payload));
        }
        for actor in std::mem::take(&mut self.shared.lock().cast.actors) {
            actor.clear();
        }
        let (subs, published, mut entries, queue) = {
            let mut inner = self.shared.lock();
            inner.closed = true;
            (
                std::mem::take(&mut inner.subs),
                inner.published.take(),
                std::mem::take(&mut inner.log.entries),
                std::mem::take(&mut inner.queue),
            )
        };
        drop((subs, published, queue));
        // The log stays readable, but for the pickers, which hold SubConns, which hold the log.
        for entry in &mut entries {
            if let Entry::Asked {
                ask: Ask::Publish(_, picker),
                ..
            } = entry
            {
                *picker = harmless_picker();
            }
        }
        self.shared.lock().log.entries = entries;
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.take_apart();
        let log = std::mem::take(&mut self.shared.lock().log);
        log.recycle();
    }
}

thread_local! {
    static HARMLESS: Arc<dyn Picker> = Arc::new(balancer_api::QueuePicker);
}

/// A picker that holds nothing, in place of one that is let go.
fn harmless_picker() -> Arc<dyn Picker> {
    HARMLESS.with(Clone::clone)
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("policy", &self.builder.name())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

/// What a panic said.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> Arc<str> {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a text").into()
}

impl SubConnHandle for Nobody {
    fn connect(&self) {}
    fn update_addresses(&self, _: Vec<Address>) {}
}

// === impl Refused ===

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Illegal(illegal) => write!(f, "{illegal}"),
            Self::Unreadable(error) => write!(f, "{error}"),
            Self::Panicked(message) => write!(f, "the policy panicked: {message}"),
        }
    }
}

impl std::error::Error for Refused {}

/// The end of an RPC as the kit reports it.
pub(crate) fn done_info<'a>(source: &'a dyn Source) -> DoneInfo<'a> {
    DoneInfo::new().with_source(source)
}
