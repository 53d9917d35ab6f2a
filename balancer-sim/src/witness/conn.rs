//! The ClientConn that a witnessed policy sees.

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use balancer_api::{
    Address, CallId, CallRequest, ClientConn, ConnectivityState, Dialer, NewSubConnError,
    NewSubConnOptions, Picker, Reconnect, SubConn, TimerId, Timestamp, TransportCredentials,
};
use bytes::Bytes;

use super::{Instance, Probe, picker::WitnessPicker};
use crate::{book::Tag, fault::Fault, net::Net, sabotage::Sabotage, sim::lock};

pub(super) struct WitnessConn {
    instance: Arc<Instance>,
    inner: Arc<dyn ClientConn>,
    published: Mutex<Option<(ConnectivityState, Arc<dyn Picker>)>>,
}

/// Addresses that say whose they are.
pub(super) fn tagged(addresses: Vec<Address>, id: u64) -> Vec<Address> {
    let tag = |address: Address| {
        let attributes = address.balancer_attributes().with(Tag(id));
        address.with_balancer_attributes(attributes)
    };
    addresses.into_iter().map(tag).collect()
}

pub(super) fn fmt_probe(id: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "s{id}")
}

/// What the channel knows a SubConn by.
fn inner(sub_conn: &SubConn) -> &SubConn {
    Probe::of(sub_conn).map_or(sub_conn, |probe| &probe.inner)
}

// === impl WitnessConn ===

impl WitnessConn {
    pub(super) fn new(instance: Arc<Instance>, inner: Arc<dyn ClientConn>) -> Self {
        let published = Mutex::default();
        Self {
            instance,
            inner,
            published,
        }
    }

    /// What a thread of the policy's own might do.
    pub(super) fn meddle(&self, how: usize) {
        let sim = &self.instance.chaos.sim;
        sim.tell(format_args!("p{} meddles ({how})", self.instance.number));
        match how {
            0 => self.wake(),
            1 => self.resolve_now(),
            2 => {
                let address = Address::new(Net::address(0));
                if let Ok(sub_conn) = self.new_sub_conn(vec![address], NewSubConnOptions::new()) {
                    sub_conn.connect();
                    self.remove_sub_conn(&sub_conn);
                }
            }
            3 => {
                let timer = self.set_timer(Duration::from_millis(10));
                self.set_timer(Duration::from_millis(20));
                self.cancel_timer(timer);
            }
            4 => {
                let known = lock(&self.instance.sub_conns).clone();
                known.iter().for_each(|(_, outer)| outer.connect());
            }
            5 => {
                let known = lock(&self.instance.sub_conns).clone();
                for (at, (_, outer)) in known.iter().enumerate() {
                    let method = ["/grpc.health.v1.Health/Watch", "/unknown"][at % 2];
                    let call = self.start_call(outer, CallRequest::new(method));
                    self.send_call_message(call, Bytes::from_static(b"more"));
                    if at % 3 == 0 {
                        self.cancel_call(call);
                    }
                }
            }
            6 => {
                if let Ok(made) = self.new_lookaside(&Net::address(0), None, None) {
                    made.connect();
                    let mut all = lock(&self.instance.lookasides);
                    let before = all.last().cloned();
                    all.push(made);
                    drop(all);
                    before.iter().for_each(|it| self.inner.remove_sub_conn(it));
                }
            }
            // Says once more what it said before, perhaps after its close.
            _ => {
                let published = lock(&self.published).clone();
                if let Some((state, picker)) = published {
                    self.inner.update_balancer_state(state, picker);
                }
            }
        }
    }
}

impl ClientConn for WitnessConn {
    fn new_sub_conn(
        &self,
        addresses: Vec<Address>,
        options: NewSubConnOptions,
    ) -> Result<SubConn, NewSubConnError> {
        let Instance {
            number,
            book,
            chaos,
            sub_conns,
            ..
        } = &*self.instance;
        let options = match self.instance.immediately {
            true => options.with_reconnect(Reconnect::Immediately),
            false => options,
        };
        let id = book.new_sub_conn(*number, options.reconnect);
        let list: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let made = self.inner.new_sub_conn(tagged(addresses, id), options)?;
        let list = list.join(" ");
        chaos
            .sim
            .tell(format_args!("p{number}: new SubConn s{id} to {list}"));
        let outer = SubConn::new(Arc::new(Probe {
            inner: made.clone(),
            id,
            book: book.clone(),
        }));
        lock(sub_conns).push((made, outer.clone()));
        Ok(outer)
    }

    fn remove_sub_conn(&self, sub_conn: &SubConn) {
        if let Some(probe) = Probe::of(sub_conn) {
            self.instance.book.removed(probe.id);
        }
        self.inner.remove_sub_conn(inner(sub_conn));
    }

    fn update_balancer_state(&self, state: ConnectivityState, picker: Arc<dyn Picker>) {
        let Instance {
            number,
            book,
            chaos,
            vices,
            ..
        } = &*self.instance;
        if vices.mute && chaos.is_on() {
            chaos.sim.hit_all(Fault::PolicyMute);
            return;
        }
        let state = match state {
            ConnectivityState::TransientFailure if chaos.sim.is_sabotaged(Sabotage::Lie, 1) => {
                ConnectivityState::Ready
            }
            state => state,
        };
        book.published(*number, state);
        let picker = WitnessPicker::new(self.instance.clone(), state, picker);
        let picker: Arc<dyn Picker> = Arc::new(picker);
        *lock(&self.published) = Some((state, picker.clone()));
        self.inner.update_balancer_state(state, picker);
    }

    fn target(&self) -> &str {
        self.inner.target()
    }

    fn resolve_now(&self) {
        self.inner.resolve_now();
    }

    fn now(&self) -> Timestamp {
        self.inner.now()
    }

    fn random(&self) -> u64 {
        self.inner.random()
    }

    fn set_timer(&self, after: Duration) -> TimerId {
        self.inner.set_timer(after)
    }

    fn cancel_timer(&self, id: TimerId) {
        self.inner.cancel_timer(id);
    }

    fn wake(&self) {
        self.inner.wake();
    }

    fn start_call(&self, sub_conn: &SubConn, request: CallRequest) -> CallId {
        self.inner.start_call(inner(sub_conn), request)
    }

    fn send_call_message(&self, id: CallId, message: Bytes) {
        self.inner.send_call_message(id, message);
    }

    fn close_call_send(&self, id: CallId) {
        self.inner.close_call_send(id);
    }

    fn cancel_call(&self, id: CallId) {
        self.inner.cancel_call(id);
    }

    fn new_lookaside(
        &self,
        target: &str,
        credentials: Option<Arc<dyn TransportCredentials>>,
        dialer: Option<Arc<dyn Dialer>>,
    ) -> Result<SubConn, NewSubConnError> {
        self.inner.new_lookaside(target, credentials, dialer)
    }
}
