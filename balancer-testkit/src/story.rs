//! Stories: the fluent face of the kit.

use std::{fmt, sync::Arc, time::Duration};

use balancer_api::{
    Builder, CallEvent, CallId, ConnectivityState as State, Endpoint, PickOptions, Rejected,
    ResolveError, ResolvedAddrs, Status, Timestamp,
};
use bytes::Bytes;
use http::HeaderMap;

use crate::{
    Event, Illegal, List, Log, Move, Outcome, Rpc, Setup, World,
    log::{Ask, Entry},
};

/// A story about a policy: script in, picks out.
///
/// Each method lets one thing happen, with all that follows from it, before it returns. SubConns
/// go by the names of their addresses (`"a"`, or `"a+b"` for an endpoint with two); an address
/// stands for the SubConn that has it. Methods that move a connection take the steps that the
/// story leaves out: `ready("a")` of a SubConn in TRANSIENT_FAILURE waits for the back-off and
/// connects again. What cannot happen is refused with a panic that says why.
///
/// Methods that answer *what happened* ([`connects`](Self::connects), [`created`](Self::created),
/// …) answer what happened since they were last asked. The start counts too, except that
/// [`start`](Self::start) takes its own connects and creations as told.
///
/// Random numbers are all 0 until [`random`](Self::random) or [`seed`](Self::seed) says otherwise, so that stories start at the
/// first backend.
///
/// # Panics
/// Every method panics when the story cannot go on so: an illegal move, a policy that panicked or
/// keeps waking itself. The message ends with the conversation so far.
///
/// ```
/// use balancer_testkit::Script;
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
/// # let first_ready = BaseBuilder::new("first", || First);
/// let mut conn = Script::start(first_ready, ["a", "b"]);
/// conn.ready("b");
/// assert_eq!(conn.picks(2), ["b", "b"]);
/// conn.ready("a").lost("b");
/// assert_eq!(conn.pick(), "a");
/// assert_eq!(conn.connects(), ["b"], "must reconnect it at once");
/// ```
pub struct Script {
    world: World,
    told: Told,
}

/// Up to where in the log each question was answered.
#[derive(Clone, Copy, Default)]
struct Told {
    connects: usize,
    created: usize,
    removed: usize,
    published: usize,
    resolve_nows: usize,
    readdressed: usize,
}

// === impl Script: making one ===

impl Script {
    /// The policy is built and given a list of endpoints by their names.
    ///
    /// The connects and SubConns that the first list brings are taken as told.
    pub fn start<S: AsRef<str>>(
        builder: impl Builder + 'static,
        endpoints: impl IntoIterator<Item = S>,
    ) -> Self {
        let mut script = Self::new(builder);
        script.update(endpoints);
        script.forget();
        script
    }

    /// The policy is built; the resolver has not answered yet.
    pub fn new(builder: impl Builder + 'static) -> Self {
        Self::with(builder, Setup::new())
    }

    /// As [`new`](Self::new), with a seed, a configuration, children or a reconnect mode.
    pub fn with(builder: impl Builder + 'static, setup: Setup) -> Self {
        Self::of(Arc::new(builder), setup)
    }

    /// As [`with`](Self::with), for a builder that is shared already.
    pub fn of(builder: Arc<dyn Builder>, setup: Setup) -> Self {
        let script = Self {
            world: World::new(builder, setup),
            told: Told::default(),
        };
        script.check();
        script
    }
}

// === impl Script: what happens ===

impl Script {
    /// A resolver result: endpoints by their names, addresses of one endpoint joined by `+`.
    pub fn update<S: AsRef<str>>(&mut self, endpoints: impl IntoIterator<Item = S>) -> &mut Self {
        self.event(Event::Update(List::named(endpoints)))
    }

    /// A resolver result of endpoints made elsewhere, with attributes perhaps.
    pub fn update_endpoints(&mut self, endpoints: impl IntoIterator<Item = Endpoint>) -> &mut Self {
        self.world.deliver_endpoints(endpoints);
        self.check();
        self
    }

    /// A resolver result or error as it is.
    pub fn resolved(&mut self, resolved: Result<ResolvedAddrs, ResolveError>) -> &mut Self {
        self.world.catch_up();
        self.world.deliver_result(resolved);
        self.check();
        self
    }

    /// The last list once more, with every object in it made anew.
    pub fn again(&mut self) -> &mut Self {
        self.event(Event::Again)
    }

    /// The resolver finds no endpoint.
    pub fn empty(&mut self) -> &mut Self {
        self.event(Event::update(""))
    }

    /// The resolver fails.
    pub fn resolver_error(&mut self, text: &str) -> &mut Self {
        self.event(Event::ResolverError(text.into()))
    }

    /// The policy's configuration from the next resolver result on.
    pub fn config(&mut self, json: &str) -> &mut Self {
        self.event(Event::Config(json.into()))
    }

    /// CONNECTING: an attempt starts. From TRANSIENT_FAILURE, the back-off is over first.
    pub fn connecting(&mut self, name: &str) -> &mut Self {
        self.walk(name, Move::Connecting, None)
    }

    /// READY. Given an address of a SubConn with several, that one is connected.
    pub fn ready(&mut self, name: &str) -> &mut Self {
        self.walk(name, Move::Ready, None)
    }

    /// TRANSIENT_FAILURE: every address failed, with this error.
    pub fn failed(&mut self, name: &str, error: &str) -> &mut Self {
        self.walk(name, Move::Failed, Some(error))
    }

    /// The connection ends: IDLE or CONNECTING, as the reconnect mode says.
    pub fn lost(&mut self, name: &str) -> &mut Self {
        self.walk(name, Move::Lost, None)
    }

    /// The back-off is over and the SubConn waits to be asked (only [`WhenAsked`]).
    ///
    /// [`WhenAsked`]: balancer_api::Reconnect::WhenAsked
    pub fn idle(&mut self, name: &str) -> &mut Self {
        self.walk(name, Move::Idle, None)
    }

    /// The back-off is over: IDLE or CONNECTING, as the reconnect mode says.
    pub fn backoff_over(&mut self, name: &str) -> &mut Self {
        let step = self.sub(name, |sub| sub.toward(Move::Failed));
        self.walk(name, step, None)
    }

    /// The backend is unhealthy while its connection stays.
    pub fn health_failed(&mut self, name: &str) -> &mut Self {
        self.walk(name, Move::HealthFailed, None)
    }

    /// The unhealthy backend is healthy again.
    pub fn health_ready(&mut self, name: &str) -> &mut Self {
        self.walk(name, Move::HealthReady, None)
    }

    /// SHUTDOWN of a removed SubConn after [`hold_shutdowns`](Self::hold_shutdowns); otherwise it
    /// comes by itself.
    pub fn shutdown(&mut self, name: &str) -> &mut Self {
        self.event(Event::Shutdown(name.into()))
    }

    /// From here on SHUTDOWN of removed SubConns waits for [`shutdown`](Self::shutdown).
    pub fn hold_shutdowns(&mut self) -> &mut Self {
        self.event(Event::HoldShutdowns)
    }

    /// The policy is told once more what it was last told of a SubConn.
    pub fn repeat(&mut self, name: &str) -> &mut Self {
        self.event(Event::Repeat(name.into()))
    }

    /// The policy is told of SubConns that are not, or no longer, its own.
    pub fn strangers(&mut self) -> &mut Self {
        self.event(Event::Stranger)
    }

    /// The next SubConn that the policy asks for is refused.
    pub fn refuse_next(&mut self, why: &str) -> &mut Self {
        self.event(Event::Refuse(why.into()))
    }

    /// Everything in `events` happens in one run of callbacks, with one settle at its end.
    pub fn batch(&mut self, events: impl FnOnce(&mut Self)) -> &mut Self {
        self.event(Event::Hold);
        events(self);
        self.event(Event::Settle)
    }

    /// Time goes on; timers fire at their times.
    pub fn advance(&mut self, by: Duration) -> &mut Self {
        self.event(Event::Advance(by))
    }

    /// Time goes on until the earliest timer fires.
    pub fn timer(&mut self) -> &mut Self {
        self.event(Event::Timer)
    }

    /// Somebody wakes the policy.
    pub fn wake(&mut self) -> &mut Self {
        self.event(Event::Wake)
    }

    /// The application asks to connect.
    pub fn exit_idle(&mut self) -> &mut Self {
        self.event(Event::ExitIdle)
    }

    /// The policy is over.
    pub fn close(&mut self) -> &mut Self {
        self.event(Event::Close)
    }

    /// The next random numbers.
    pub fn random(&mut self, values: impl IntoIterator<Item = u64>) -> &mut Self {
        self.world.shared.clock.script_random(values);
        self
    }

    /// Random numbers from a seed from here on.
    pub fn seed(&mut self, seed: u64) -> &mut Self {
        self.world.shared.clock.seed(Some(seed));
        self
    }

    /// Any event.
    pub fn event(&mut self, event: Event) -> &mut Self {
        if let Err(refused) = self.world.apply(&event) {
            self.stop(&refused);
        }
        self.check();
        self
    }

    /// Events as text, one a line; nothing is filled in between them.
    pub fn events(&mut self, script: &str) -> &mut Self {
        if let Err(refused) = self.world.run(script) {
            self.stop(&refused);
        }
        self.check();
        self
    }

    /// Delivers what ends of RPCs and other threads have asked for. Every other method does so
    /// first, too.
    pub fn catch_up(&mut self) -> &mut Self {
        self.world.catch_up();
        self.check();
        self
    }
}

// === impl Script: picks ===

impl Script {
    /// An RPC picks and ends with OK.
    pub fn pick(&mut self) -> Outcome {
        let outcome = self.world.pick();
        self.check();
        outcome
    }

    /// `count` RPCs, one after the other, each ending with OK before the next.
    pub fn picks(&mut self, count: usize) -> Vec<Outcome> {
        (0..count).map(|_| self.pick()).collect()
    }

    /// An RPC picks and goes on.
    pub fn rpc(&mut self) -> Rpc {
        self.rpc_with(&PickOptions::new("/kit.Scripted/Call"))
    }

    /// An RPC with these options picks and goes on. Time and chance come from the script.
    pub fn rpc_with(&mut self, options: &PickOptions<'_>) -> Rpc {
        let rpc = self.world.start_rpc(options);
        self.world.deliver_queue();
        self.check();
        rpc
    }

    /// An RPC with these options picks and ends with OK.
    pub fn pick_with(&mut self, options: &PickOptions<'_>) -> Outcome {
        let rpc = self.rpc_with(options);
        let outcome = rpc.outcome().clone();
        rpc.ok();
        self.catch_up();
        outcome
    }

    /// The current picker, to be kept while others replace it.
    ///
    /// # Panics
    /// The policy has published none.
    pub fn picker(&self) -> Arc<dyn balancer_api::Picker> {
        match self.world.picker() {
            Some(picker) => picker,
            None => self.stop(&"the policy has published no picker"),
        }
    }

    /// An RPC picks from a picker that was kept.
    pub fn rpc_from(&mut self, picker: &dyn balancer_api::Picker) -> Rpc {
        let options = PickOptions::new("/kit.Scripted/Call");
        let rpc = self.world.pick_from(Some(picker), &options);
        self.world.deliver_queue();
        rpc
    }
}

// === impl Script: calls of the policy ===

impl Script {
    /// The calls of the policy that are open: the SubConn's name and the method.
    pub fn calls(&self) -> Vec<(String, String)> {
        let inner = self.world.shared.lock();
        let calls = inner.calls.iter().map(|call| {
            let name = call
                .sub
                .map_or("a stranger", |sub| &*inner.subs[sub.index()].name);
            (name.to_owned(), call.request.method.to_string())
        });
        calls.collect()
    }

    /// The oldest open call on a SubConn.
    pub fn call(&self, name: &str) -> CallId {
        self.world
            .call_on(name)
            .unwrap_or_else(|illegal| self.stop(&illegal))
    }

    /// The messages that the policy has sent on a call, the first one included.
    pub fn sent(&self, call: CallId) -> Vec<Bytes> {
        let inner = self.world.shared.lock();
        let call = inner.calls.iter().find(|open| open.id == call);
        call.map_or_else(Vec::new, |call| call.sent.clone())
    }

    /// Whether the policy has half-closed a call.
    pub fn half_closed(&self, call: CallId) -> bool {
        let inner = self.world.shared.lock();
        let call = inner.calls.iter().find(|open| open.id == call);
        call.is_some_and(|call| call.half_closed)
    }

    /// The server answers a call with headers.
    pub fn call_headers(&mut self, call: CallId, headers: HeaderMap) -> &mut Self {
        self.call_event(call, CallEvent::Headers(headers))
    }

    /// A message arrives on a call.
    pub fn call_message(&mut self, call: CallId, message: impl Into<Bytes>) -> &mut Self {
        self.call_event(call, CallEvent::Message(message.into()))
    }

    /// A call ends.
    pub fn call_end(&mut self, call: CallId, status: Status) -> &mut Self {
        let trailers = HeaderMap::new();
        self.call_event(call, CallEvent::End { status, trailers })
    }

    fn call_event(&mut self, call: CallId, event: CallEvent) -> &mut Self {
        self.world.catch_up();
        if let Err(illegal) = self.world.call_event(call, event) {
            self.stop(&illegal);
        }
        self.world.deliver_queue();
        self.check();
        self
    }
}

// === impl Script: what happened ===

impl Script {
    /// The last published state.
    ///
    /// # Panics
    /// The policy has published none.
    pub fn state(&self) -> State {
        match self.world.state() {
            Some(state) => state,
            None => self.stop(&"the policy has published no state"),
        }
    }

    /// The states published since this was last asked, repetitions included.
    pub fn published(&mut self) -> Vec<State> {
        let from = std::mem::take(&mut self.told.published);
        let (published, to) = self.asks(from, |ask, _| match ask {
            Ask::Publish(state, _) => Some(*state),
            _ => None,
        });
        self.told.published = to;
        published
    }

    /// The SubConns that the policy asked to connect since this was last asked.
    pub fn connects(&mut self) -> Vec<String> {
        let (connects, to) = self.asks(self.told.connects, |ask, log| match ask {
            Ask::Connect(sub) => Some(log.name(*sub).to_owned()),
            _ => None,
        });
        self.told.connects = to;
        connects
    }

    /// The SubConns that were made since this was last asked.
    pub fn created(&mut self) -> Vec<String> {
        let (created, to) = self.asks(self.told.created, |ask, log| match ask {
            Ask::NewSubConn(sub, _) | Ask::Lookaside(sub, _) => Some(log.name(*sub).to_owned()),
            _ => None,
        });
        self.told.created = to;
        created
    }

    /// The SubConns that the policy removed since this was last asked.
    pub fn removed(&mut self) -> Vec<String> {
        let (removed, to) = self.asks(self.told.removed, |ask, log| match ask {
            Ask::Remove(sub) => Some(log.name(*sub).to_owned()),
            _ => None,
        });
        self.told.removed = to;
        removed
    }

    /// The address lists that the policy gave to SubConns since this was last asked.
    pub fn readdressed(&mut self) -> Vec<String> {
        let (lists, to) = self.asks(self.told.readdressed, |ask, _| match ask {
            Ask::UpdateAddresses(_, addresses) => Some(crate::log::joined(addresses).into_owned()),
            _ => None,
        });
        self.told.readdressed = to;
        lists
    }

    /// How often the policy asked to resolve again since this was last asked.
    pub fn resolve_nows(&mut self) -> usize {
        let (asked, to) = self.asks(self.told.resolve_nows, |ask, _| {
            matches!(ask, Ask::ResolveNow).then_some(())
        });
        self.told.resolve_nows = to;
        asked.len()
    }

    /// The policy's answer to the last resolver result.
    ///
    /// # Panics
    /// There was none.
    pub fn last_result(&self) -> Result<(), Rejected> {
        match self.world.last_result() {
            Some(answer) => answer.clone(),
            None => self.stop(&"the resolver has not answered yet"),
        }
    }

    /// The names of the SubConns that live, oldest first.
    pub fn sub_conns(&self) -> Vec<String> {
        let inner = self.world.shared.lock();
        let live = inner.live.iter();
        live.map(|id| inner.subs[id.index()].name.to_string())
            .collect()
    }

    /// How many timers of the policy are set.
    pub fn timers(&self) -> usize {
        let inner = self.world.shared.lock();
        let timer =
            |due: &&(Timestamp, crate::conn::Due)| matches!(due.1, crate::conn::Due::Timer(_));
        inner.due.iter().filter(timer).count()
    }

    /// The virtual time.
    pub fn now(&self) -> Timestamp {
        self.world.now()
    }

    /// Takes everything so far as told, so that questions answer what happens from here on.
    pub fn forget(&mut self) -> &mut Self {
        let now = self.world.log(|log| log.entries().len());
        self.told = Told {
            connects: now,
            created: now,
            removed: now,
            published: now,
            resolve_nows: now,
            readdressed: now,
        };
        self
    }

    /// The conversation so far.
    pub fn log(&self) -> String {
        self.world.log(Log::to_string)
    }

    /// The engine underneath.
    pub fn world(&mut self) -> &mut World {
        &mut self.world
    }
}

// === impl Script: inside ===

impl Script {
    /// Walks to where `goal` leads, through the steps that the story leaves out.
    fn walk(&mut self, name: &str, goal: Move, text: Option<&str>) -> &mut Self {
        self.world.catch_up();
        let walk = self.try_walk(name, goal, text);
        if let Err(illegal) = walk {
            self.stop(&illegal);
        }
        self.check();
        self
    }

    fn try_walk(&mut self, name: &str, goal: Move, text: Option<&str>) -> Result<(), Illegal> {
        let (id, address) = self.world.resolve(name)?;
        let shown: Arc<str> = self.world.shared.name_of(id);
        // Three steps between at most: TRANSIENT_FAILURE, IDLE, CONNECTING.
        for _ in 0..4 {
            let step = self.world.shared.lock().subs[id.index()].toward(goal);
            let event = Event::Step(
                step,
                shown.clone(),
                text.filter(|_| step == goal).map(Into::into),
            );
            let text = text.filter(|_| step == goal);
            self.world
                .step(Some(&event), id, step, address.clone(), text)?;
            self.world.deliver_queue();
            if step == goal
                || (step == Move::HealthReady && goal == Move::Ready)
                || (step == Move::Lost && goal == Move::Idle)
            {
                break;
            }
        }
        Ok(())
    }

    fn sub<R>(&self, name: &str, read: impl FnOnce(&crate::sub::Sub) -> R) -> R {
        match self.world.resolve(name) {
            Ok((id, _)) => read(&self.world.shared.lock().subs[id.index()]),
            Err(illegal) => self.stop(&illegal),
        }
    }

    fn asks<T>(&mut self, from: usize, read: impl Fn(&Ask, &Log) -> Option<T>) -> (Vec<T>, usize) {
        self.world.catch_up();
        self.world.log(|log| {
            let new = log.entries().get(from..).unwrap_or_default();
            let asked = new.iter().filter_map(|entry| match entry {
                Entry::Asked { ask, .. } => read(ask, log),
                _ => None,
            });
            (asked.collect(), log.entries().len())
        })
    }

    fn check(&self) {
        if let Some(message) = self.world.panic_message() {
            self.stop(&format_args!("the policy panicked: {message}"));
        }
        if self.world.is_restless() {
            self.stop(&"the policy keeps waking itself: one event had a thousand follow-ups");
        }
    }

    #[track_caller]
    fn stop(&self, why: &dyn fmt::Display) -> ! {
        panic!("{why}\nthe conversation so far:\n{}", self.log());
    }
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script")
            .field("world", &self.world)
            .finish_non_exhaustive()
    }
}
