//! The scripted ClientConn: what the policy talks to.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::AtomicBool},
    time::Duration,
};

use balancer_api::{
    Address, CallEvent, CallId, CallRequest, ClientConn, ConnectivityState as State, Dialer,
    NewSubConnError, NewSubConnOptions, Picker, Reconnect, Source, Status, SubConn, TimerId,
    Timestamp, TransportCredentials,
};
use bytes::Bytes;
use http::HeaderMap;

use crate::{
    clock::Clock,
    log::{Ask, Entry, Log, Told, joined},
    scripted::Cast,
    sub::{ScriptedSubConn, Sub, SubId},
};

/// What the policy gets as its ClientConn. Apart from [`Shared`], so that one that is kept after
/// everything is over can be noticed.
pub(crate) struct ScriptedConn(pub(crate) Arc<Shared>);

/// What ClientConn, SubConns and driver share.
pub(crate) struct Shared {
    pub(crate) clock: Clock,
    target: Arc<str>,
    /// The policy wants to know how RPCs end.
    pub(crate) observes: AtomicBool,
    inner: Mutex<Inner>,
}

/// Guarded by one lock, which is never held while code of the policy runs: pickers that are
/// replaced stay in the log, so that not even their Drop runs under it.
pub(crate) struct Inner {
    pub(crate) log: Log,
    pub(crate) subs: Vec<Sub>,
    pub(crate) weak: Vec<Weak<ScriptedSubConn>>,
    /// Those that were not removed, in the order of their making.
    pub(crate) live: Vec<SubId>,
    pub(crate) published: Option<(State, Arc<dyn Picker>)>,
    /// Where in the log are the asks of the callback that runs, to be done when it returns.
    asked: Vec<usize>,
    /// What happens once the current callback and its settle are over, in this order.
    pub(crate) queue: VecDeque<Item>,
    pub(crate) wake_pending: bool,
    /// Which thread runs a callback; 0 for none.
    callback_thread: usize,
    pub(crate) closed: bool,

    pub(crate) due: Vec<(Timestamp, Due)>,
    next_timer: u64,
    pub(crate) calls: Vec<Call>,
    next_call: u64,

    /// Reasons to refuse the next SubConns.
    pub(crate) refusals: VecDeque<Arc<str>>,
    /// In place of what the policy asks for.
    pub(crate) reconnect: Option<Reconnect>,
    /// Whether SHUTDOWN waits for the script.
    pub(crate) hold_shutdowns: bool,
    pub(crate) held_shutdowns: Vec<SubId>,
    /// Scripted children of a composite.
    pub(crate) cast: Cast,
}

/// Something that waits for its turn.
pub(crate) enum Item {
    /// Asked from outside of a callback.
    Ask(Ask),
    /// SHUTDOWN of a removed SubConn.
    Shutdown(SubId),
    /// A move that follows from a new address list.
    Forced(SubId, State),
    Call(CallId, CallEvent),
    Wake,
}

/// What happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    Timer(TimerId),
    Deadline(CallId),
}

/// A call of the policy that is not over.
pub(crate) struct Call {
    pub(crate) id: CallId,
    pub(crate) sub: Option<SubId>,
    pub(crate) request: CallRequest,
    pub(crate) sent: Vec<Bytes>,
    pub(crate) half_closed: bool,
    pub(crate) headers_sent: bool,
}

/// Differs between threads that live at the same time, and is not 0.
fn thread_token() -> usize {
    thread_local!(static TOKEN: u8 = const { 0 });
    TOKEN.with(|token| std::ptr::from_ref(token) as usize)
}

thread_local! {
    /// Whose callback ran last on this thread: policies that are built meanwhile belong to it.
    static CURRENT: RefCell<Weak<Shared>> = const { RefCell::new(Weak::new()) };
}

/// The world whose callback runs on this thread.
pub(crate) fn current() -> Option<Arc<Shared>> {
    let shared = CURRENT.with_borrow(Weak::upgrade)?;
    let runs = shared.lock().callback_thread == thread_token();
    runs.then_some(shared)
}

// === impl Shared ===

impl Shared {
    pub(crate) fn new(target: Arc<str>, seed: Option<u64>, reconnect: Option<Reconnect>) -> Self {
        Self {
            clock: Clock::new(seed),
            target,
            observes: AtomicBool::new(false),
            inner: Mutex::new(Inner {
                log: Log::default(),
                subs: Vec::new(),
                weak: Vec::new(),
                live: Vec::new(),
                published: None,
                asked: Vec::new(),
                queue: VecDeque::new(),
                wake_pending: false,
                callback_thread: 0,
                closed: false,
                due: Vec::new(),
                next_timer: 1,
                calls: Vec::new(),
                next_call: 1,
                refusals: VecDeque::new(),
                reconnect,
                hold_shutdowns: false,
                held_shutdowns: Vec::new(),
                cast: Cast::default(),
            }),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing of the policy runs under the lock, so a panic under it is the kit's own, and the
        // test has failed already.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn name_of(&self, id: SubId) -> Arc<str> {
        self.lock().subs[id.index()].name.clone()
    }

    pub(crate) fn connect(&self, id: SubId) {
        self.lock().ask(Ask::Connect(id));
    }

    pub(crate) fn update_addresses(&self, id: SubId, addresses: Vec<Address>) {
        self.lock().ask(Ask::UpdateAddresses(id, addresses.into()));
    }

    /// A callback begins on this thread.
    pub(crate) fn begin(self: &Arc<Self>, told: Told) {
        CURRENT.with_borrow_mut(|current| {
            if !std::ptr::eq(current.as_ptr(), Arc::as_ptr(self)) {
                *current = Arc::downgrade(self);
            }
        });
        let mut inner = self.lock();
        inner.log.entries.push(Entry::Told(told));
        inner.callback_thread = thread_token();
    }

    /// The callback is over; what it asked takes effect, unless it panicked.
    pub(crate) fn end(&self, panicked: bool) {
        let mut inner = self.lock();
        inner.callback_thread = 0;
        inner.do_asked(&self.clock, panicked);
    }

    /// Makes a SubConn; the caller has checked that it may be made.
    fn make(
        self: &Arc<Self>,
        inner: &mut Inner,
        addresses: Arc<[Address]>,
        name: &str,
        options: NewSubConnOptions,
        lookaside: bool,
    ) -> (SubId, SubConn) {
        let id = SubId(inner.subs.len() as u32);
        let inside = Arc::new(ScriptedSubConn {
            id,
            conn: self.clone(),
        });
        inner.weak.push(Arc::downgrade(&inside));
        let handle = SubConn::new(inside);
        let name = inner.unique(name);
        inner.log.names.push(name.clone());
        inner.subs.push(Sub {
            handle: handle.clone(),
            name,
            addresses,
            options,
            lookaside,
            state: State::Idle,
            asked: false,
            unhealthy: false,
            connected: None,
            error: None,
            removed: false,
            failures: 0,
        });
        (id, handle)
    }
}

// === impl Inner ===

impl Inner {
    pub(crate) fn note(&mut self, entry: Entry) {
        self.log.entries.push(entry);
    }

    pub(crate) fn is_ready(&self, id: SubId) -> bool {
        let sub = &self.subs[id.index()];
        sub.state == State::Ready && !sub.removed
    }

    /// An RPC picked it: a channel connects what is IDLE, as the reference page's did.
    pub(crate) fn kick(&mut self, id: SubId) {
        let sub = &mut self.subs[id.index()];
        let idle = sub.state == State::Idle && !sub.removed && !sub.addresses.is_empty();
        if idle && !mem::replace(&mut sub.asked, true) {
            self.note(Entry::Kicked(id));
        }
    }

    fn outside(&self) -> bool {
        self.callback_thread != thread_token()
    }

    /// Notes what was asked; it takes effect when the callback is over, or in its turn.
    fn ask(&mut self, ask: Ask) {
        let outside = self.outside();
        if !self.closed {
            if outside {
                self.queue.push_back(Item::Ask(ask.clone()));
            } else {
                self.asked.push(self.log.entries.len());
            }
        }
        self.log.entries.push(Entry::Asked { ask, outside });
    }

    /// Notes something that was answered at once and has no further effect.
    fn answered(&mut self, ask: Ask) {
        let outside = self.outside();
        self.log.entries.push(Entry::Asked { ask, outside });
    }

    fn do_asked(&mut self, clock: &Clock, panicked: bool) {
        let mut asked = mem::take(&mut self.asked);
        for at in asked.drain(..) {
            let Some(Entry::Asked { ask, .. }) = self.log.entries.get(at) else {
                continue;
            };
            let ask = ask.clone();
            if panicked {
                self.undo(&ask);
            } else {
                self.take_effect(&ask, clock);
            }
        }
        self.asked = asked;
    }

    /// A callback that panicked asked for nothing; what it was given at once is worth nothing.
    fn undo(&mut self, ask: &Ask) {
        match ask {
            Ask::NewSubConn(id, _) | Ask::Lookaside(id, _) => {
                self.subs[id.index()].removed = true;
            }
            Ask::StartCall(id, ..) => self.calls.retain(|call| call.id != *id),
            _ => {}
        }
    }

    pub(crate) fn take_effect(&mut self, ask: &Ask, clock: &Clock) {
        if self.closed {
            return;
        }
        match ask {
            Ask::NewSubConn(id, _) | Ask::Lookaside(id, _) => self.live.push(*id),
            Ask::Connect(id) => {
                let sub = &mut self.subs[id.index()];
                if sub.state == State::Idle && !sub.removed && !sub.addresses.is_empty() {
                    sub.asked = true;
                }
            }
            Ask::UpdateAddresses(id, addresses) => self.readdress(*id, addresses),
            Ask::Remove(id) => {
                let sub = &mut self.subs[id.index()];
                if !mem::replace(&mut sub.removed, true) {
                    self.live.retain(|live| live != id);
                    if self.hold_shutdowns {
                        self.held_shutdowns.push(*id);
                    } else {
                        self.queue.push_back(Item::Shutdown(*id));
                    }
                }
            }
            Ask::Publish(state, picker) => {
                if *state != State::Shutdown {
                    self.published = Some((*state, picker.clone()));
                }
            }
            Ask::SetTimer(id, after) => self.due.push((clock.after(*after), Due::Timer(*id))),
            Ask::CancelTimer(id) => self.due.retain(|(_, due)| *due != Due::Timer(*id)),
            Ask::Wake => {
                if !mem::replace(&mut self.wake_pending, true) {
                    self.queue.push_back(Item::Wake);
                }
            }
            Ask::StartCall(id, sub, _) => {
                let Some(call) = self.calls.iter().find(|call| call.id == *id) else {
                    return;
                };
                let timeout = call.request.timeout;
                let ready = sub.is_some_and(|sub| {
                    let sub = &self.subs[sub.index()];
                    sub.state == State::Ready && !sub.removed
                });
                if !ready {
                    let why = Status::unavailable("the SubConn is not READY");
                    self.end_call(*id, why, HeaderMap::new());
                } else if let Some(timeout) = timeout {
                    self.due.push((clock.after(timeout), Due::Deadline(*id)));
                }
            }
            Ask::SendMessage(id, message) => {
                if let Some(call) = self.call_mut(*id).filter(|call| !call.half_closed) {
                    call.sent.push(message.clone());
                }
            }
            Ask::CloseSend(id) => {
                if let Some(call) = self.call_mut(*id) {
                    call.half_closed = true;
                }
            }
            Ask::CancelCall(id) => {
                self.calls.retain(|call| call.id != *id);
                self.due.retain(|(_, due)| *due != Due::Deadline(*id));
                self.queue
                    .retain(|item| !matches!(item, Item::Call(of, _) if of == id));
            }
            Ask::NewSubConnRefused(..) | Ask::RemoveStranger | Ask::ResolveNow | Ask::Random(_) => {
            }
        }
    }

    fn readdress(&mut self, id: SubId, addresses: &Arc<[Address]>) {
        let sub = &mut self.subs[id.index()];
        if sub.removed || sub.addresses == *addresses {
            sub.addresses = addresses.clone();
            return;
        }
        let old = mem::replace(&mut sub.addresses, addresses.clone());
        let connected = sub.state == State::Ready || sub.unhealthy;
        let forced = if addresses.is_empty() {
            sub.asked = false;
            (sub.state != State::Idle).then_some(State::Idle)
        } else if connected {
            let kept = sub
                .connected
                .as_ref()
                .is_some_and(|connected| addresses.contains(connected));
            (!kept).then_some(State::Connecting)
        } else if sub.state == State::TransientFailure
            && addresses.iter().any(|address| !old.contains(address))
        {
            Some(match sub.options.reconnect {
                Reconnect::WhenAsked => State::Idle,
                Reconnect::Immediately => State::Connecting,
            })
        } else {
            None
        };
        let name = joined(addresses);
        if !addresses.is_empty() && *name != *self.subs[id.index()].name {
            let name = self.unique(&name);
            self.subs[id.index()].name = name;
        }
        if let Some(state) = forced {
            self.queue.push_back(Item::Forced(id, state));
        }
    }

    /// `name`, or with `~2` and so on when a SubConn that lives has it.
    fn unique(&self, name: &str) -> Arc<str> {
        let taken = |name: &str| {
            self.live
                .iter()
                .any(|id| &*self.subs[id.index()].name == name)
        };
        if !taken(name) {
            return name.into();
        }
        let numbered = (2..).map(|n| format!("{name}~{n}"));
        let free = numbered.into_iter().find(|name| !taken(name));
        free.as_deref().unwrap_or(name).into()
    }

    pub(crate) fn call_mut(&mut self, id: CallId) -> Option<&mut Call> {
        self.calls.iter_mut().find(|call| call.id == id)
    }

    /// Ends a call, if it is not over.
    pub(crate) fn end_call(&mut self, id: CallId, status: Status, trailers: HeaderMap) {
        let before = self.calls.len();
        self.calls.retain(|call| call.id != id);
        if self.calls.len() < before {
            self.due.retain(|(_, due)| *due != Due::Deadline(id));
            self.queue
                .push_back(Item::Call(id, CallEvent::End { status, trailers }));
        }
    }

    /// The connection of `sub` is gone, and so are the calls on it.
    pub(crate) fn end_calls_on(&mut self, sub: SubId) {
        let ids: Vec<CallId> = self
            .calls
            .iter()
            .filter(|call| call.sub == Some(sub))
            .map(|call| call.id)
            .collect();
        for id in ids {
            let why = Status::unavailable("the connection was lost");
            self.end_call(id, why, HeaderMap::new());
        }
    }

    /// The SubConn that a script means by `name`: a whole name, or one of the addresses of just
    /// one SubConn.
    pub(crate) fn find(&self, name: &str) -> Result<SubId, String> {
        let named = |id: &&SubId| &*self.subs[id.index()].name == name;
        if let Some(id) = self.live.iter().find(named) {
            return Ok(*id);
        }
        let mut having = self
            .live
            .iter()
            .filter(|id| self.subs[id.index()].address_at(name).is_some());
        match (having.next(), having.next()) {
            (Some(id), None) => Ok(*id),
            (None, _) => Err(format!("no SubConn {name} lives; {}", self.living())),
            (Some(_), Some(_)) => Err(format!(
                "more than one SubConn has the address {name}; {}",
                self.living()
            )),
        }
    }

    fn living(&self) -> String {
        let names: Vec<&str> = self
            .live
            .iter()
            .map(|id| &*self.subs[id.index()].name)
            .collect();
        if names.is_empty() {
            "there is none".to_owned()
        } else {
            format!("there are {}", names.join(", "))
        }
    }
}

// === impl ScriptedConn ===

impl ClientConn for ScriptedConn {
    fn new_sub_conn(
        &self,
        addresses: Vec<Address>,
        mut options: NewSubConnOptions,
    ) -> Result<SubConn, NewSubConnError> {
        let addresses: Arc<[Address]> = addresses.into();
        let mut inner = self.0.lock();
        let refused = if inner.closed {
            Some(NewSubConnError::Closed)
        } else if addresses.is_empty() {
            Some(NewSubConnError::NoAddresses)
        } else {
            inner.refusals.pop_front().map(NewSubConnError::Refused)
        };
        if let Some(error) = refused {
            inner.answered(Ask::NewSubConnRefused(addresses, error.clone()));
            return Err(error);
        }
        if let Some(reconnect) = inner.reconnect {
            options.reconnect = reconnect;
        }
        let name = joined(&addresses);
        let (id, handle) = self
            .0
            .make(&mut inner, addresses.clone(), &name, options, false);
        inner.ask(Ask::NewSubConn(id, addresses));
        Ok(handle)
    }

    fn remove_sub_conn(&self, sub_conn: &SubConn) {
        let ask = match self.0.id_of(sub_conn) {
            Some(id) => Ask::Remove(id),
            None => Ask::RemoveStranger,
        };
        self.0.lock().ask(ask);
    }

    fn update_balancer_state(&self, state: State, picker: Arc<dyn Picker>) {
        self.0.lock().ask(Ask::Publish(state, picker));
    }

    fn target(&self) -> &str {
        &self.0.target
    }

    fn resolve_now(&self) {
        self.0.lock().ask(Ask::ResolveNow);
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    fn random(&self) -> u64 {
        let value = self.0.clock.random();
        self.0.lock().answered(Ask::Random(value));
        value
    }

    fn set_timer(&self, after: Duration) -> TimerId {
        let mut inner = self.0.lock();
        let id = TimerId::from_raw(inner.next_timer);
        inner.next_timer += 1;
        inner.ask(Ask::SetTimer(id, after));
        id
    }

    fn cancel_timer(&self, id: TimerId) {
        self.0.lock().ask(Ask::CancelTimer(id));
    }

    fn wake(&self) {
        self.0.lock().ask(Ask::Wake);
    }

    fn start_call(&self, sub_conn: &SubConn, request: CallRequest) -> CallId {
        let sub = self.0.id_of(sub_conn);
        let mut inner = self.0.lock();
        let id = CallId::from_raw(inner.next_call);
        inner.next_call += 1;
        let method = request.method.clone();
        if !inner.closed {
            inner.calls.push(Call {
                id,
                sub,
                sent: request.first_message.iter().cloned().collect(),
                half_closed: request.half_close,
                request,
                headers_sent: false,
            });
        }
        inner.ask(Ask::StartCall(id, sub, method));
        id
    }

    fn send_call_message(&self, id: CallId, message: Bytes) {
        self.0.lock().ask(Ask::SendMessage(id, message));
    }

    fn close_call_send(&self, id: CallId) {
        self.0.lock().ask(Ask::CloseSend(id));
    }

    fn cancel_call(&self, id: CallId) {
        self.0.lock().ask(Ask::CancelCall(id));
    }

    fn new_lookaside(
        &self,
        target: &str,
        _: Option<Arc<dyn TransportCredentials>>,
        _: Option<Arc<dyn Dialer>>,
    ) -> Result<SubConn, NewSubConnError> {
        let addresses: Arc<[Address]> = Arc::new([Address::new(target)]);
        let mut inner = self.0.lock();
        let refused = if inner.closed {
            Some(NewSubConnError::Closed)
        } else {
            inner.refusals.pop_front().map(NewSubConnError::Refused)
        };
        if let Some(error) = refused {
            inner.answered(Ask::NewSubConnRefused(addresses, error.clone()));
            return Err(error);
        }
        let options = NewSubConnOptions::new().with_reconnect(Reconnect::Immediately);
        let (id, handle) = self.0.make(&mut inner, addresses, target, options, true);
        inner.ask(Ask::Lookaside(id, target.into()));
        Ok(handle)
    }
}

impl Shared {
    /// Which SubConn of this channel it is; `None` for anybody else's.
    pub(crate) fn id_of(&self, sub_conn: &SubConn) -> Option<SubId> {
        let inside: &ScriptedSubConn = sub_conn.downcast_ref()?;
        std::ptr::eq(&*inside.conn, self).then_some(inside.id)
    }
}

impl fmt::Debug for ScriptedConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScriptedConn")
    }
}
