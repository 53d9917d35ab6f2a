//! A ClientConn that only writes down what it is asked: tests call the balancer themselves.
#![allow(dead_code, reason = "each test uses its part")]

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use balancer_api::*;
use bytes::Bytes;

/// One thing that a policy asked for, with SubConns numbered from 0 in the order they were made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    New(usize, Vec<String>),
    Lookaside(usize, String),
    Connect(usize),
    Update(usize, Vec<String>),
    Remove(usize),
    Publish(ConnectivityState),
    ResolveNow,
    SetTimer(u64, Duration),
    CancelTimer(u64),
    Wake,
    StartCall(u64, usize, String),
    SendCall(u64),
    CloseSend(u64),
    CancelCall(u64),
}

#[derive(Default)]
pub(crate) struct Recorder {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    log: Vec<Asked>,
    sub_conns: Vec<SubConn>,
    options: Vec<NewSubConnOptions>,
    published: Option<(ConnectivityState, Arc<dyn Picker>)>,
    random: VecDeque<u64>,
    refusals: VecDeque<NewSubConnError>,
    next_id: u64,
    now: u64,
}

pub(crate) struct FakeSubConn {
    pub(crate) number: usize,
    inner: Arc<Mutex<Inner>>,
}

pub(crate) fn endpoints(list: &[&str]) -> ResolvedAddrs {
    ResolvedAddrs::new(list.iter().copied().map(Endpoint::from))
}

pub(crate) fn number(sub_conn: &SubConn) -> usize {
    sub_conn.downcast_ref::<FakeSubConn>().expect("ours").number
}

/// The number of the SubConn that `picker` picks.
pub(crate) fn pick(picker: &dyn Picker) -> Result<usize, PickError> {
    let pick = picker.pick(&PickOptions::new("/s/m"))?;
    Ok(number(pick.sub_conn()))
}

// === impl Recorder ===

impl Recorder {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no test panics inside")
    }

    /// What was asked since the last call.
    pub(crate) fn take(&self) -> Vec<Asked> {
        std::mem::take(&mut self.inner().log)
    }

    pub(crate) fn sub_conn(&self, number: usize) -> SubConn {
        self.inner().sub_conns[number].clone()
    }

    pub(crate) fn sub_conns(&self) -> usize {
        self.inner().sub_conns.len()
    }

    pub(crate) fn options(&self, number: usize) -> NewSubConnOptions {
        self.inner().options[number].clone()
    }

    pub(crate) fn state(&self) -> Option<ConnectivityState> {
        self.inner().published.as_ref().map(|(state, _)| *state)
    }

    pub(crate) fn picker(&self) -> Arc<dyn Picker> {
        let inner = self.inner();
        inner.published.as_ref().expect("published").1.clone()
    }

    /// The last published picker's choice.
    pub(crate) fn pick(&self) -> Result<usize, PickError> {
        pick(&*self.picker())
    }

    pub(crate) fn picks(&self, count: usize) -> Vec<usize> {
        let picker = self.picker();
        (0..count)
            .map(|_| pick(&*picker).expect("a READY SubConn"))
            .collect()
    }

    pub(crate) fn script_random(&self, values: impl IntoIterator<Item = u64>) {
        self.inner().random.extend(values);
    }

    pub(crate) fn refuse_next(&self, error: NewSubConnError) {
        self.inner().refusals.push_back(error);
    }

    pub(crate) fn set_now(&self, nanos: u64) {
        self.inner().now = nanos;
    }

    fn make(&self, asked: impl FnOnce(usize) -> Asked) -> Result<SubConn, NewSubConnError> {
        let mut inner = self.inner();
        if let Some(error) = inner.refusals.pop_front() {
            return Err(error);
        }
        let number = inner.sub_conns.len();
        let sub_conn = SubConn::new(Arc::new(FakeSubConn {
            number,
            inner: self.inner.clone(),
        }));
        inner.sub_conns.push(sub_conn.clone());
        inner.log.push(asked(number));
        Ok(sub_conn)
    }

    fn log(&self, asked: Asked) {
        self.inner().log.push(asked);
    }

    fn next_id(&self) -> u64 {
        let mut inner = self.inner();
        inner.next_id += 1;
        inner.next_id
    }
}

impl ClientConn for Recorder {
    fn new_sub_conn(
        &self,
        addresses: Vec<Address>,
        options: NewSubConnOptions,
    ) -> Result<SubConn, NewSubConnError> {
        let made = self.make(|number| Asked::New(number, texts(&addresses)))?;
        self.inner().options.push(options);
        Ok(made)
    }

    fn remove_sub_conn(&self, sub_conn: &SubConn) {
        self.log(Asked::Remove(number(sub_conn)));
    }

    fn update_balancer_state(&self, state: ConnectivityState, picker: Arc<dyn Picker>) {
        let old = {
            let mut inner = self.inner();
            inner.log.push(Asked::Publish(state));
            inner.published.replace((state, picker))
        };
        drop(old);
    }

    fn target(&self) -> &str {
        "fake:///target"
    }

    fn resolve_now(&self) {
        self.log(Asked::ResolveNow);
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.inner().now)
    }

    fn random(&self) -> u64 {
        self.inner().random.pop_front().unwrap_or(0)
    }

    fn set_timer(&self, after: Duration) -> TimerId {
        let id = self.next_id();
        self.log(Asked::SetTimer(id, after));
        TimerId::from_raw(id)
    }

    fn cancel_timer(&self, id: TimerId) {
        self.log(Asked::CancelTimer(id.as_raw()));
    }

    fn wake(&self) {
        self.log(Asked::Wake);
    }

    fn start_call(&self, sub_conn: &SubConn, request: CallRequest) -> CallId {
        let id = self.next_id();
        let method = request.method.to_string();
        self.log(Asked::StartCall(id, number(sub_conn), method));
        CallId::from_raw(id)
    }

    fn send_call_message(&self, id: CallId, _: Bytes) {
        self.log(Asked::SendCall(id.as_raw()));
    }

    fn close_call_send(&self, id: CallId) {
        self.log(Asked::CloseSend(id.as_raw()));
    }

    fn cancel_call(&self, id: CallId) {
        self.log(Asked::CancelCall(id.as_raw()));
    }

    fn new_lookaside(
        &self,
        target: &str,
        _: Option<Arc<dyn TransportCredentials>>,
        _: Option<Arc<dyn Dialer>>,
    ) -> Result<SubConn, NewSubConnError> {
        let made = self.make(|number| Asked::Lookaside(number, target.to_owned()))?;
        self.inner().options.push(NewSubConnOptions::new());
        Ok(made)
    }
}

impl SubConnHandle for FakeSubConn {
    fn connect(&self) {
        let mut inner = self.inner.lock().expect("no test panics inside");
        inner.log.push(Asked::Connect(self.number));
    }

    fn update_addresses(&self, addresses: Vec<Address>) {
        let mut inner = self.inner.lock().expect("no test panics inside");
        inner
            .log
            .push(Asked::Update(self.number, texts(&addresses)));
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sc{}", self.number)
    }
}

fn texts(addresses: &[Address]) -> Vec<String> {
    addresses.iter().map(|a| a.addr().to_owned()).collect()
}

/// A policy on a [`Recorder`], called as a channel would call it: each step is one run of
/// callbacks, ended by `settle`.
pub(crate) struct Driver {
    pub(crate) cc: Arc<Recorder>,
    pub(crate) balancer: Box<dyn Balancer>,
}

impl Driver {
    pub(crate) fn new(builder: &dyn Builder) -> Self {
        Self::with_random(builder, [])
    }

    pub(crate) fn with_random(
        builder: &dyn Builder,
        random: impl IntoIterator<Item = u64>,
    ) -> Self {
        let cc = Recorder::new();
        cc.script_random(random);
        let balancer = builder.build(cc.clone(), BuildOptions::new(cc.target()));
        Self { cc, balancer }
    }

    pub(crate) fn resolve(&mut self, list: &[&str]) -> Result<(), Rejected> {
        self.resolved(Ok(endpoints(list)))
    }

    pub(crate) fn resolved(
        &mut self,
        resolved: Result<ResolvedAddrs, ResolveError>,
    ) -> Result<(), Rejected> {
        let verdict = self.balancer.handle_resolved_addrs(resolved);
        self.balancer.settle();
        verdict
    }

    /// Moves a SubConn without settling.
    pub(crate) fn move_to(&mut self, number: usize, state: ConnectivityState) {
        let sub_conn = self.cc.sub_conn(number);
        let error = Status::unavailable(format!("sc{number}: connection refused"));
        let mut state = SubConnState::new(state);
        if state.state == ConnectivityState::TransientFailure {
            state = state.with_error(&error);
        }
        self.balancer
            .handle_sub_conn_state_change(&sub_conn, &state);
    }

    pub(crate) fn state(&mut self, number: usize, state: ConnectivityState) -> &mut Self {
        self.move_to(number, state);
        self.balancer.settle();
        self
    }

    /// READY on the address `addr`.
    pub(crate) fn ready_at(&mut self, number: usize, addr: &str) {
        let sub_conn = self.cc.sub_conn(number);
        let address = Address::new(addr);
        let state = SubConnState::new(ConnectivityState::Ready).with_address(&address);
        self.balancer
            .handle_sub_conn_state_change(&sub_conn, &state);
        self.balancer.settle();
    }

    pub(crate) fn connecting(&mut self, number: usize) -> &mut Self {
        self.state(number, ConnectivityState::Connecting)
    }

    pub(crate) fn ready(&mut self, number: usize) -> &mut Self {
        self.state(number, ConnectivityState::Ready)
    }

    pub(crate) fn idle(&mut self, number: usize) -> &mut Self {
        self.state(number, ConnectivityState::Idle)
    }

    pub(crate) fn failed(&mut self, number: usize) -> &mut Self {
        self.state(number, ConnectivityState::TransientFailure)
    }
}
