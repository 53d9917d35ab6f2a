//! A policy over SubConns that exist in name only: what it costs by itself.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use balancer_api::{
    Address, Balancer, BuildOptions, Builder, CallId, CallRequest, ClientConn, ConnectivityState,
    Dialer, Endpoint, NewSubConnError, NewSubConnOptions, Picker, ResolvedAddrs, SubConn,
    SubConnHandle, SubConnState, TimerId, Timestamp, TransportCredentials,
};
use bytes::Bytes;

/// A policy with all it talks to.
pub struct Fleet {
    balancer: Box<dyn Balancer>,
    cc: Arc<Recorder>,
    /// In the resolver's order.
    sub_conns: Vec<SubConn>,
}

/// Keeps what it is given and does nothing else.
#[derive(Default)]
struct Recorder(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    sub_conns: Vec<SubConn>,
    picker: Option<Arc<dyn Picker>>,
    published: usize,
}

/// The least that a SubConn can be: as large as a pointer.
struct Named;

// === impl Fleet ===

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Fleet of {}", self.len())
    }
}

impl Fleet {
    /// A policy that has heard of no backend.
    pub fn new(builder: &dyn Builder) -> Self {
        let cc = Arc::new(Recorder::default());
        let balancer = builder.build(cc.clone(), BuildOptions::default());
        Self {
            balancer,
            cc,
            sub_conns: Vec::new(),
        }
    }

    /// Backends 0..`count`, each with an address of its own.
    pub fn backends(count: usize) -> Vec<Endpoint> {
        let address = |n: usize| {
            let [_, a, b, c] = (n as u32).to_be_bytes();
            Endpoint::new([Address::new(format!("10.{a}.{b}.{c}:50051"))])
        };
        (0..count).map(address).collect()
    }

    /// Gives the policy a list, and settles.
    ///
    /// # Panics
    /// The policy rejects it.
    pub fn resolve(&mut self, list: Vec<Endpoint>) {
        let resolved = ResolvedAddrs::new(list);
        let accepted = self.balancer.handle_resolved_addrs(Ok(resolved));
        assert!(accepted.is_ok(), "a good list is accepted");
        self.balancer.settle();
    }

    /// As [`resolve`](Self::resolve), for the first list: notes the SubConns, in the list's order.
    pub fn start(&mut self, list: Vec<Endpoint>) {
        self.resolve(list);
        // The recorder's random numbers are 0: the policy makes them in the list's order.
        self.sub_conns = std::mem::take(&mut self.cc.kept().sub_conns);
    }

    /// One backend's state, without a settle.
    pub fn tell(&mut self, backend: usize, state: ConnectivityState) {
        let state = SubConnState::new(state);
        self.balancer
            .handle_sub_conn_state_change(&self.sub_conns[backend], &state);
    }

    /// The end of a run of callbacks.
    pub fn settle(&mut self) {
        self.balancer.settle();
    }

    /// All backends CONNECTING and then READY in the list's order, `burst` of them before each settle.
    pub fn bring_up(&mut self, burst: usize) {
        let order: Vec<usize> = (0..self.len()).collect();
        self.bring_up_in(&order, burst);
    }

    /// The same in an order of one's own.
    pub fn bring_up_in(&mut self, order: &[usize], burst: usize) {
        for together in order.chunks(burst.max(1)) {
            for backend in together {
                self.tell(*backend, ConnectivityState::Connecting);
                self.tell(*backend, ConnectivityState::Ready);
            }
            self.settle();
        }
    }

    /// One backend loses its connection and gets it back, with a settle after each event.
    pub fn flap(&mut self, backend: usize) {
        for state in [
            ConnectivityState::Idle,
            ConnectivityState::Connecting,
            ConnectivityState::Ready,
        ] {
            self.tell(backend, state);
            self.settle();
        }
    }

    /// How many backends there are.
    pub fn len(&self) -> usize {
        self.sub_conns.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sub_conns.is_empty()
    }

    /// The SubConn of a backend.
    pub fn sub_conn(&self, backend: usize) -> &SubConn {
        &self.sub_conns[backend]
    }

    /// What was published last.
    ///
    /// # Panics
    /// Nothing was.
    pub fn picker(&self) -> Arc<dyn Picker> {
        let picker = self.cc.kept().picker.clone();
        picker.unwrap_or_else(|| panic!("the policy has published nothing"))
    }

    /// How often something was published.
    pub fn published(&self) -> usize {
        self.cc.kept().published
    }
}

// === impl Recorder ===

impl Recorder {
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientConn for Recorder {
    fn new_sub_conn(
        &self,
        _: Vec<Address>,
        _: NewSubConnOptions,
    ) -> Result<SubConn, NewSubConnError> {
        let sub_conn = SubConn::new(Arc::new(Named));
        self.kept().sub_conns.push(sub_conn.clone());
        Ok(sub_conn)
    }

    fn remove_sub_conn(&self, _: &SubConn) {}

    fn update_balancer_state(&self, _: ConnectivityState, picker: Arc<dyn Picker>) {
        let mut kept = self.kept();
        kept.published += 1;
        let old = kept.picker.replace(picker);
        drop(kept);
        drop(old);
    }

    fn target(&self) -> &str {
        "dns:///fleet"
    }

    fn resolve_now(&self) {}

    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(0)
    }

    fn random(&self) -> u64 {
        0
    }

    fn set_timer(&self, _: Duration) -> TimerId {
        TimerId::from_raw(0)
    }

    fn cancel_timer(&self, _: TimerId) {}

    fn wake(&self) {}

    fn start_call(&self, _: &SubConn, _: CallRequest) -> CallId {
        CallId::from_raw(0)
    }

    fn send_call_message(&self, _: CallId, _: Bytes) {}

    fn close_call_send(&self, _: CallId) {}

    fn cancel_call(&self, _: CallId) {}

    fn new_lookaside(
        &self,
        _: &str,
        _: Option<Arc<dyn TransportCredentials>>,
        _: Option<Arc<dyn Dialer>>,
    ) -> Result<SubConn, NewSubConnError> {
        Ok(SubConn::new(Arc::new(Named)))
    }
}

impl SubConnHandle for Named {
    fn connect(&self) {}

    fn update_addresses(&self, _: Vec<Address>) {}
}
