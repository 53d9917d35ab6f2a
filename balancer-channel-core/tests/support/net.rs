//! Addresses that accept, refuse or hang, and connections that a test can lose.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard},
    task::{Poll, Waker},
};

use balancer_api::{CallEvent, CallRequest, Status};
use balancer_channel_core::{
    BoxFuture, CallSender, ConnectRequest, Connected, Connection, Lost, PolicyCall,
};
use bytes::Bytes;

use super::Log;

/// What a dial meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Accept,
    Refuse,
    Hang,
    Panic,
}

/// All addresses and all connections.
#[derive(Clone)]
pub(crate) struct Net(Arc<Mutex<Inner>>, Log);

#[derive(Default)]
struct Inner {
    answers: BTreeMap<String, Answer>,
    /// Dials that hang.
    hanging: Vec<Waker>,
    wires: Vec<Wire>,
    running: usize,
    most_running: usize,
    requests: Vec<ConnectRequest>,
}

/// One connection, from the network's side.
#[derive(Clone)]
pub(crate) struct Wire {
    pub(crate) address: String,
    state: Arc<Mutex<WireState>>,
}

#[derive(Default)]
struct WireState {
    answered: bool,
    lost: Option<Lost>,
    closed: bool,
    aborted: Option<Status>,
    dropped: bool,
    streams: usize,
    wakers: Vec<Waker>,
    calls: Vec<Arc<Mutex<CallState>>>,
}

#[derive(Default)]
pub(crate) struct CallState {
    pub(crate) request: Option<CallRequest>,
    pub(crate) sent: Vec<Bytes>,
    pub(crate) half_closed: bool,
    pub(crate) cancelled: bool,
    pub(crate) taken: usize,
    events: VecDeque<CallEvent>,
    waker: Option<Waker>,
    over: bool,
}

/// The connection, from the channel's side.
pub(crate) struct SimConnection {
    wire: Wire,
    log: Log,
}

/// A stream that an RPC has open.
pub(crate) struct OpenStream(Wire);

struct Dialling(Net, String, bool);

struct Events(Arc<Mutex<CallState>>);

struct Sender(Arc<Mutex<CallState>>);

impl Net {
    pub(crate) fn new(log: Log) -> Self {
        Self(Arc::default(), log)
    }

    /// From now on, dials of `address` meet `answer`, those that hang included.
    pub(crate) fn set(&self, address: &str, answer: Answer) {
        let wakers = {
            let mut inner = self.lock();
            inner.answers.insert(address.to_owned(), answer);
            std::mem::take(&mut inner.hanging)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The last connection to `address`.
    pub(crate) fn wire(&self, address: &str) -> Wire {
        let inner = self.lock();
        let found = inner.wires.iter().rev().find(|it| it.address == address);
        found
            .unwrap_or_else(|| panic!("nothing is connected to {address}"))
            .clone()
    }

    pub(crate) fn wires(&self) -> Vec<Wire> {
        self.lock().wires.clone()
    }

    /// How many connections the channel still holds.
    pub(crate) fn held(&self) -> usize {
        let wires = self.wires();
        wires.iter().filter(|wire| !wire.lock().dropped).count()
    }

    /// How many dials run, and the most there ever were.
    pub(crate) fn dials(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.running, inner.most_running)
    }

    pub(crate) fn requests(&self) -> Vec<ConnectRequest> {
        self.lock().requests.clone()
    }

    pub(crate) fn dial(
        &self,
        request: ConnectRequest,
    ) -> BoxFuture<Result<Connected<SimConnection>, Status>> {
        let address = request.address.addr().to_owned();
        self.1.add(format!("dial {address}"));
        {
            let mut inner = self.lock();
            inner.requests.push(request);
            inner.running += 1;
            inner.most_running = inner.most_running.max(inner.running);
        }
        let mut dialling = Dialling(self.clone(), address.clone(), true);
        Box::pin(poll_fn(move |cx| {
            let net = dialling.0.clone();
            let mut inner = net.lock();
            let answer = inner.answers.get(&address).copied();
            match answer.unwrap_or(Answer::Accept) {
                Answer::Hang => {
                    inner.hanging.push(cx.waker().clone());
                    Poll::Pending
                }
                Answer::Panic => {
                    drop(inner);
                    panic!("no such network");
                }
                Answer::Refuse => {
                    dialling.2 = false;
                    let text = format!("{address}: connection refused");
                    Poll::Ready(Err(Status::unavailable(text)))
                }
                Answer::Accept => {
                    dialling.2 = false;
                    let wire = Wire {
                        address: address.clone(),
                        state: Arc::default(),
                    };
                    inner.wires.push(wire.clone());
                    let lost = Box::pin(wire.clone().lost());
                    let log = net.1.clone();
                    Poll::Ready(Ok(Connected {
                        connection: SimConnection { wire, log },
                        lost,
                    }))
                }
            }
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
        if self.2 {
            self.0.1.add(format!("give up {}", self.1));
        }
    }
}

impl Wire {
    /// The connection takes no new streams from now on: lost, or GOAWAY.
    pub(crate) fn lose(&self, why: &str) {
        self.end(Lost::new(Status::unavailable(why)));
    }

    pub(crate) fn too_many_pings(&self) {
        let mut lost = Lost::new(Status::unavailable("too_many_pings"));
        lost.too_many_pings = true;
        self.end(lost);
    }

    fn end(&self, lost: Lost) {
        let mut state = self.lock();
        state.lost.get_or_insert(lost);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Resolves only by the network's doing; the channel does not wait for what it closed itself.
    async fn lost(self) -> Lost {
        poll_fn(|cx| {
            let mut state = self.lock();
            match &state.lost {
                Some(lost) => Poll::Ready(lost.clone()),
                None => {
                    state.wakers.push(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(crate) fn aborted(&self) -> Option<Status> {
        self.lock().aborted.clone()
    }

    /// The peer answers an RPC.
    pub(crate) fn answer(&self) {
        self.lock().answered = true;
    }

    pub(crate) fn open_stream(&self) -> OpenStream {
        self.lock().streams += 1;
        OpenStream(self.clone())
    }

    /// Those of RPCs, and the calls of policies that run.
    pub(crate) fn streams(&self) -> usize {
        let state = self.lock();
        let running = |call: &&Arc<Mutex<CallState>>| {
            let call = call.lock().unwrap();
            !call.over && !call.cancelled
        };
        state.streams + state.calls.iter().filter(running).count()
    }

    /// The calls of policies on this connection, oldest first.
    pub(crate) fn calls(&self) -> Vec<Arc<Mutex<CallState>>> {
        self.lock().calls.clone()
    }

    fn lock(&self) -> MutexGuard<'_, WireState> {
        self.state.lock().unwrap()
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.streams -= 1;
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl CallState {
    /// The server sends something.
    pub(crate) fn serve(call: &Arc<Mutex<Self>>, event: CallEvent) {
        let mut state = call.lock().unwrap();
        state.over |= event.is_end();
        state.events.push_back(event);
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// The stream of events ends, with or without an End.
    pub(crate) fn hang_up(call: &Arc<Mutex<Self>>) {
        let mut state = call.lock().unwrap();
        state.over = true;
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl SimConnection {
    pub(crate) fn wire(&self) -> &Wire {
        &self.wire
    }
}

impl Connection for SimConnection {
    fn close(&self) {
        self.log.add(format!("close {}", self.wire.address));
        self.wire.lock().closed = true;
    }

    fn abort(&self, status: Status) {
        self.log.add(format!("abort {}", self.wire.address));
        let mut state = self.wire.lock();
        state.aborted = Some(status);
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    fn start_call(&self, request: CallRequest) -> PolicyCall {
        let call = Arc::new(Mutex::new(CallState {
            request: Some(request),
            ..CallState::default()
        }));
        self.wire.lock().calls.push(call.clone());
        let events = Events(call.clone());
        PolicyCall {
            events: Box::pin(futures_util::stream::poll_fn(move |cx| {
                let mut state = events.0.lock().unwrap();
                match state.events.pop_front() {
                    Some(event) => {
                        state.taken += 1;
                        Poll::Ready(Some(event))
                    }
                    None if state.over => Poll::Ready(None),
                    None => {
                        state.waker = Some(cx.waker().clone());
                        Poll::Pending
                    }
                }
            })),
            sender: Box::new(Sender(call)),
        }
    }

    fn streams(&self) -> usize {
        self.wire.lock().streams
    }

    fn answered(&self) -> bool {
        self.wire.lock().answered
    }

    fn drained(&self) -> BoxFuture<()> {
        let wire = self.wire.clone();
        Box::pin(poll_fn(move |cx| {
            let mut state = wire.lock();
            if state.streams == 0 || state.aborted.is_some() {
                return Poll::Ready(());
            }
            state.wakers.push(cx.waker().clone());
            Poll::Pending
        }))
    }
}

impl fmt::Debug for SimConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "to {}", self.wire.address)
    }
}

impl Drop for SimConnection {
    fn drop(&mut self) {
        self.wire.lock().dropped = true;
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let mut state = self.0.lock().unwrap();
        state.cancelled = !state.over || !state.events.is_empty();
    }
}

impl CallSender for Sender {
    fn send_message(&mut self, message: Bytes) {
        self.0.lock().unwrap().sent.push(message);
    }

    fn close_send(&mut self) {
        self.0.lock().unwrap().half_closed = true;
    }
}
