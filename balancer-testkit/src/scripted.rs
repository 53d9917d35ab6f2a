//! A child policy that does what the script says, so that a composite can be tested by itself.

mod act;

use std::{
    fmt, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use balancer_api::{
    Balancer, BuildOptions, Builder, CallEvent, CallId, CallRequest, ClientConn, ConfigError,
    ConfigFields, ConnectivityState as State, Endpoint, LbConfig, NewSubConnOptions, ParseContext,
    Pick, PickError, PickOptions, Picker, QueuePicker, Reconnect, Rejected, ResolveError,
    ResolvedAddrs, SubConn, SubConnState, TimerId,
};

pub use act::Act;

use crate::{
    SubId,
    conn::{Shared, current},
    log::{Entry, joined},
};

/// A policy that a composite has for a child, and that publishes what the script says, when the
/// script says so.
///
/// Each one that is built in a [`World`](crate::World) goes by a label: `id` of its configuration
/// (`{"scripted_child":{"id":"one"}}`), else its name; a second one of that label is `one~2`, and
/// so on. The event `child one publish READY` has it publish; [`Act`] lists what else it can do.
///
/// By itself it makes a SubConn for each endpoint that it is given, connects it, connects it again
/// when it is IDLE, and removes it when its endpoint is gone; a [`manual`](Self::manual) one leaves
/// that to the script, too. What it is told is in the log.
///
/// ```
/// use balancer_testkit::{PassThrough, Script, ScriptedChild};
/// use balancer_api::ConnectivityState;
/// use std::sync::Arc;
/// let composite = PassThrough::around(Arc::new(ScriptedChild::new()));
/// let mut conn = Script::start(composite, ["a", "b"]);
/// conn.ready("b").events("child scripted_child publish READY");
/// assert_eq!(conn.state(), ConnectivityState::Ready);
/// assert_eq!(conn.pick(), "b");
/// conn.events("child scripted_child publish TRANSIENT_FAILURE");
/// assert_eq!(conn.pick().message(), Some("scripted_child: failure 2"));
/// ```
#[derive(Clone, Debug)]
pub struct ScriptedChild {
    name: Arc<str>,
    manual: bool,
}

/// The scripted children of a world, in the order of their making.
#[derive(Default)]
pub(crate) struct Cast {
    pub(crate) actors: Vec<Arc<Actor>>,
    /// Which pickers of theirs were asked, by whomever.
    pub(crate) consulted: Consults,
}

/// The pickers that were asked, in their order.
pub(crate) type Consults = Arc<Mutex<Vec<Consulted>>>;

/// One scripted child, as the world sees it.
pub(crate) struct Actor {
    pub(crate) label: Arc<str>,
    pub(crate) number: usize,
    inner: Mutex<ActorInner>,
}

/// Guarded by one lock, under which no ClientConn is called.
#[derive(Default)]
pub(crate) struct ActorInner {
    conn: Option<Weak<dyn ClientConn>>,
    /// Kept when it is closed, for what it does all the same.
    late: Option<Arc<dyn ClientConn>>,
    /// What the script wants done at the next settle.
    pub(crate) todo: Vec<Act>,
    pub(crate) heard: Vec<Heard>,
    pub(crate) closed: bool,
    pub(crate) state: Option<State>,
    /// How many times it has published.
    pub(crate) publications: usize,
    pub(crate) subs: Vec<Part>,
    /// Its timers, calls and SubConns, those that are over included.
    pub(crate) timers: Vec<TimerId>,
    pub(crate) calls: Vec<CallId>,
    pub(crate) made: Vec<SubId>,
}

/// One SubConn of a scripted child.
pub(crate) struct Part {
    endpoint: Endpoint,
    sub_conn: SubConn,
    pub(crate) name: String,
    pub(crate) state: State,
}

/// What a child was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    List,
    Error,
    State(Option<SubId>, State),
    Timer(TimerId),
    Call(CallId),
    ExitIdle,
    Settle,
    Close,
}

/// A picker of a child was asked.
#[derive(Clone, Debug)]
pub(crate) struct Consulted {
    pub(crate) child: usize,
    pub(crate) publication: usize,
    pub(crate) answer: Answer,
}

/// What it said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Sub(Option<SubId>),
    Queue,
    Fail(Arc<str>),
}

struct Playing {
    actor: Arc<Actor>,
    conn: Arc<dyn ClientConn>,
    world: Weak<Shared>,
    manual: bool,
}

struct ScriptedPicker {
    child: usize,
    publication: usize,
    ready: Vec<(SubConn, Option<SubId>)>,
    turn: AtomicUsize,
    failure: Option<Arc<str>>,
    consulted: Consults,
}

/// A child that is built outside of any world.
struct Idler;

#[derive(Debug)]
struct Id(Arc<str>);

// === impl ScriptedChild ===

impl ScriptedChild {
    /// The name of [`new`](Self::new)'s.
    pub const NAME: &'static str = "scripted_child";

    /// One called `scripted_child`.
    pub fn new() -> Self {
        Self::named(Self::NAME)
    }

    /// One of another name.
    pub fn named(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            manual: false,
        }
    }

    /// It makes no SubConn by itself.
    #[must_use]
    pub fn manual(mut self) -> Self {
        self.manual = true;
        self
    }
}

impl Default for ScriptedChild {
    fn default() -> Self {
        Self::new()
    }
}

impl Builder for ScriptedChild {
    fn name(&self) -> &str {
        &self.name
    }

    fn description(&self) -> &str {
        "does what a script says"
    }

    fn build(&self, conn: Arc<dyn ClientConn>, options: BuildOptions) -> Box<dyn Balancer> {
        let Some(world) = current() else {
            conn.update_balancer_state(State::Connecting, Arc::new(QueuePicker));
            return Box::new(Idler);
        };
        let id = options.config.as_ref().and_then(LbConfig::downcast_ref);
        let label = id.map_or_else(|| self.name.clone(), |Id(id)| id.clone());
        let actor = world.lock().cast.enter(&label);
        actor.lock().conn = Some(Arc::downgrade(&conn));
        world
            .lock()
            .note(Entry::Child(actor.label.clone(), "is built".into()));
        Box::new(Playing {
            actor,
            conn,
            world: Arc::downgrade(&world),
            manual: self.manual,
        })
    }

    fn parse_config(&self, json: &str, cx: &mut ParseContext<'_>) -> Result<LbConfig, ConfigError> {
        let mut fields = ConfigFields::parse(json)?;
        let id = fields.string("id")?;
        fields.finish(cx);
        let id: Arc<str> = id.map_or_else(|| self.name.clone(), Into::into);
        Ok(LbConfig::new(json, Id(id)))
    }
}

// === impl Cast ===

impl Cast {
    fn enter(&mut self, label: &Arc<str>) -> Arc<Actor> {
        let taken = |label: &str| self.actors.iter().any(|actor| &*actor.label == label);
        let mut free = label.clone();
        let mut n = 1;
        while taken(&free) {
            n += 1;
            free = format!("{label}~{n}").into();
        }
        let actor = Arc::new(Actor {
            label: free,
            number: self.actors.len(),
            inner: Mutex::default(),
        });
        self.actors.push(actor.clone());
        actor
    }

    pub(crate) fn find(&self, label: &str) -> Option<&Arc<Actor>> {
        self.actors.iter().find(|actor| &*actor.label == label)
    }
}

// === impl Actor ===

impl Actor {
    pub(crate) fn lock(&self) -> MutexGuard<'_, ActorInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of what it keeps for acting late.
    pub(crate) fn forget_late(&self) {
        let late = self.lock().late.take();
        drop(late);
    }

    /// Forgets everything that holds something.
    pub(crate) fn clear(&self) {
        let held = mem::take(&mut *self.lock());
        drop(held);
    }

    /// Why it cannot do that now, if it cannot.
    pub(crate) fn refuses(&self, act: &Act) -> Option<&'static str> {
        let inner = self.lock();
        let is_late = matches!(act, Act::Late);
        if inner.closed != is_late {
            return Some(if is_late {
                "it is not closed"
            } else {
                "it is closed"
            });
        }
        let part = |name: &str| inner.subs.iter().find(|part| part.name == name);
        match act {
            Act::Publish(State::Ready) => {
                let mut parts = inner.subs.iter();
                let ready = parts.any(|part| part.state == State::Ready);
                (!ready).then_some("none of its SubConns is READY")
            }
            Act::Connect(name) | Act::Remove(name) | Act::Call(name) => {
                part(name).is_none().then_some("it has no such SubConn")
            }
            _ => None,
        }
    }

    /// Has it done at the child's next settle, for which it asks; what comes late is done at once.
    pub(crate) fn act(&self, act: &Act, consulted: &Consults) {
        if matches!(act, Act::Late) {
            let late = self.lock().late.clone();
            if let Some(conn) = late {
                let picker = self.picker(State::TransientFailure, Vec::new(), consulted);
                conn.update_balancer_state(State::TransientFailure, picker);
                conn.wake();
            }
            return;
        }
        let conn = {
            let mut inner = self.lock();
            inner.todo.push(act.clone());
            inner.conn.as_ref().and_then(Weak::upgrade)
        };
        if let Some(conn) = conn {
            conn.wake();
        }
    }

    fn picker(
        &self,
        state: State,
        ready: Vec<(SubConn, Option<SubId>)>,
        consulted: &Consults,
    ) -> Arc<dyn Picker> {
        let mut inner = self.lock();
        inner.publications += 1;
        let publication = inner.publications;
        inner.state = Some(state);
        let failure = format!("{}: failure {publication}", self.label);
        Arc::new(ScriptedPicker {
            child: self.number,
            publication,
            ready,
            turn: AtomicUsize::new(0),
            failure: (state == State::TransientFailure).then(|| failure.into()),
            consulted: consulted.clone(),
        })
    }
}

// === impl ActorInner ===

impl ActorInner {
    /// Whether its policy was dropped.
    pub(crate) fn is_gone(&self) -> bool {
        self.conn.is_none()
    }
}

// === impl Playing ===

impl Playing {
    fn hear(&self, heard: Heard, text: impl FnOnce() -> String) {
        self.actor.lock().heard.push(heard);
        if let Some(world) = self.world.upgrade() {
            let entry = Entry::Child(self.actor.label.clone(), format!("hears {}", text()).into());
            world.lock().note(entry);
        }
    }

    fn id_of(&self, sub_conn: &SubConn) -> Option<SubId> {
        self.world.upgrade()?.id_of(sub_conn)
    }

    fn make(&self, endpoint: &Endpoint) -> Option<SubConn> {
        let options = NewSubConnOptions::new().with_reconnect(Reconnect::WhenAsked);
        let made = self
            .conn
            .new_sub_conn(endpoint.addresses().to_vec(), options);
        let sub_conn = made.ok()?;
        let id = self.id_of(&sub_conn);
        let mut inner = self.actor.lock();
        inner.made.extend(id);
        inner.subs.push(Part {
            endpoint: endpoint.clone(),
            sub_conn: sub_conn.clone(),
            name: joined(endpoint.addresses()).into_owned(),
            state: State::Idle,
        });
        Some(sub_conn)
    }

    fn part(&self, name: &str) -> Option<SubConn> {
        let inner = self.actor.lock();
        let part = inner.subs.iter().find(|part| part.name == name)?;
        Some(part.sub_conn.clone())
    }

    fn perform(&self, act: Act) {
        match act {
            Act::Publish(state) => {
                let ready: Vec<SubConn> = {
                    let inner = self.actor.lock();
                    let parts = inner.subs.iter();
                    let ready = parts.filter(|part| part.state == State::Ready);
                    ready.map(|part| part.sub_conn.clone()).collect()
                };
                let ready = ready.into_iter().map(|sub| {
                    let id = self.id_of(&sub);
                    (sub, id)
                });
                let ready = if state == State::Ready {
                    ready.collect()
                } else {
                    Vec::new()
                };
                let Some(world) = self.world.upgrade() else {
                    return;
                };
                let consulted = world.lock().cast.consulted.clone();
                let picker = self.actor.picker(state, ready, &consulted);
                self.conn.update_balancer_state(state, picker);
            }
            Act::New(list) => {
                for endpoint in list.endpoints().iter() {
                    self.make(endpoint);
                }
            }
            Act::Connect(name) => {
                if let Some(sub_conn) = self.part(&name) {
                    sub_conn.connect();
                }
            }
            Act::Remove(name) => {
                if let Some(sub_conn) = self.part(&name) {
                    self.remove(&sub_conn);
                }
            }
            Act::Timer(after) => {
                let id = self.conn.set_timer(after);
                self.actor.lock().timers.push(id);
            }
            Act::Call(name) => {
                if let Some(sub_conn) = self.part(&name) {
                    let request = CallRequest::new("/kit.Scripted/Child");
                    let id = self.conn.start_call(&sub_conn, request);
                    self.actor.lock().calls.push(id);
                }
            }
            Act::ResolveNow => self.conn.resolve_now(),
            // Done at once, and not here.
            Act::Late => {}
        }
    }

    fn remove(&self, sub_conn: &SubConn) {
        self.conn.remove_sub_conn(sub_conn);
        let gone = {
            let mut inner = self.actor.lock();
            let at = inner
                .subs
                .iter()
                .position(|part| part.sub_conn == *sub_conn);
            at.map(|at| inner.subs.remove(at))
        };
        drop(gone);
    }
}

impl Balancer for Playing {
    fn handle_sub_conn_state_change(&mut self, sub_conn: &SubConn, new: &SubConnState<'_>) {
        let id = self.id_of(sub_conn);
        self.hear(Heard::State(id, new.state), || {
            format!("{sub_conn:?} is {}", new.state)
        });
        let mut inner = self.actor.lock();
        let part = inner
            .subs
            .iter_mut()
            .find(|part| part.sub_conn == *sub_conn);
        if let Some(part) = part {
            part.state = new.state;
            drop(inner);
            if new.state == State::Idle && !self.manual {
                sub_conn.connect();
            }
        }
    }

    fn handle_resolved_addrs(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        let resolved = match resolved {
            Ok(resolved) => resolved,
            Err(error) => {
                self.hear(Heard::Error, || format!("the error {error}"));
                return Ok(());
            }
        };
        self.hear(Heard::List, || {
            let names = resolved.endpoints.iter().map(|e| joined(e.addresses()));
            format!("the list [{}]", names.collect::<Vec<_>>().join(" "))
        });
        if !self.manual {
            let listed = |part: &Part| resolved.endpoints.contains(&part.endpoint);
            let gone: Vec<SubConn> = {
                let inner = self.actor.lock();
                let gone = inner.subs.iter().filter(|part| !listed(part));
                gone.map(|part| part.sub_conn.clone()).collect()
            };
            for sub_conn in gone {
                self.remove(&sub_conn);
            }
            for endpoint in resolved.endpoints.iter() {
                let known = {
                    let inner = self.actor.lock();
                    inner.subs.iter().any(|part| part.endpoint == *endpoint)
                };
                if !known && let Some(sub_conn) = self.make(endpoint) {
                    sub_conn.connect();
                }
            }
        }
        if resolved.endpoints.is_empty() {
            return Err(Rejected::new("zero addresses"));
        }
        Ok(())
    }

    fn close(&mut self) {
        self.hear(Heard::Close, || "close".to_owned());
        let gone = {
            let mut inner = self.actor.lock();
            inner.closed = true;
            inner.late = Some(self.conn.clone());
            mem::take(&mut inner.subs)
        };
        drop(gone);
    }

    fn handle_timer(&mut self, id: TimerId) {
        self.hear(Heard::Timer(id), || format!("timer {}", id.as_raw()));
    }

    fn handle_call_event(&mut self, id: CallId, event: CallEvent) {
        self.hear(Heard::Call(id), || {
            format!("of call {}: {event:?}", id.as_raw())
        });
    }

    fn exit_idle(&mut self) {
        self.hear(Heard::ExitIdle, || "exit_idle".to_owned());
    }

    fn settle(&mut self) {
        let todo = {
            let mut inner = self.actor.lock();
            inner.heard.push(Heard::Settle);
            mem::take(&mut inner.todo)
        };
        for act in todo {
            self.perform(act);
        }
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        // Not closed first: whoever checks finds it open and gone.
        let mut inner = self.actor.lock();
        inner.conn = None;
    }
}

impl Picker for ScriptedPicker {
    fn pick<'p>(&'p self, _: &PickOptions<'_>) -> Result<Pick<'p>, PickError> {
        let turn = self.turn.fetch_add(1, Relaxed);
        let chosen = match self.ready.len() {
            0 => None,
            count => self.ready.get(turn % count),
        };
        let (answer, result) = match (chosen, &self.failure) {
            (Some((sub_conn, id)), _) => (Answer::Sub(*id), Ok(Pick::new(sub_conn))),
            (None, Some(text)) => (
                Answer::Fail(text.clone()),
                Err(PickError::TransientFailure(Some(text.clone()))),
            ),
            (None, None) => (Answer::Queue, Err(PickError::NoSubConnAvailable)),
        };
        let consulted = Consulted {
            child: self.child,
            publication: self.publication,
            answer,
        };
        let mut all = self
            .consulted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.push(consulted);
        result
    }
}

impl Balancer for Idler {
    fn handle_sub_conn_state_change(&mut self, _: &SubConn, _: &SubConnState<'_>) {}

    fn handle_resolved_addrs(
        &mut self,
        _: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        Ok(())
    }

    fn close(&mut self) {}
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Actor({})", self.label)
    }
}
