//! The channel, as its policies see it.

use std::{fmt, sync::Arc, time::Duration};

use balancer_api::{
    Address, CallId, CallRequest, ClientConn, ConnectivityState as State, Dialer, NewSubConnError,
    NewSubConnOptions, Picker, SubConn, SubConnHandle, TimerId, Timestamp, TransportCredentials,
};
use bytes::Bytes;

use super::{Fault, Item, Shared, Timer, lock};

pub(super) struct Conn {
    pub(super) shared: Arc<Shared>,
    pub(super) policy: u64,
}

/// A SubConn of a channel.
pub(super) struct Handle {
    shared: Arc<Shared>,
    pub(super) id: u64,
}

// === impl Conn ===

impl Conn {
    fn is_over(&self) -> bool {
        lock(&self.shared.over).contains(&self.policy)
    }
}

impl ClientConn for Conn {
    fn new_sub_conn(
        &self,
        addresses: Vec<Address>,
        options: NewSubConnOptions,
    ) -> Result<SubConn, NewSubConnError> {
        if self.is_over() && self.shared.fault != Fault::SubConnAfterClose {
            return Err(NewSubConnError::Closed);
        }
        if addresses.is_empty() {
            return Err(NewSubConnError::NoAddresses);
        }
        let id = self.shared.id();
        let handle = SubConn::new(Arc::new(Handle {
            shared: self.shared.clone(),
            id,
        }));
        self.shared.push(Item::NewSub {
            policy: self.policy,
            id,
            handle: handle.clone(),
            addresses,
            reconnect: options.reconnect,
        });
        Ok(handle)
    }

    fn remove_sub_conn(&self, sub_conn: &SubConn) {
        if let Some(handle) = sub_conn.downcast_ref::<Handle>() {
            self.shared.push(Item::Remove(handle.id));
        }
    }

    fn update_balancer_state(&self, state: State, picker: Arc<dyn Picker>) {
        self.shared.push(Item::Publish(self.policy, state, picker));
    }

    fn target(&self) -> &str {
        "reference:///backends"
    }

    fn resolve_now(&self) {}

    fn now(&self) -> Timestamp {
        let now = *lock(&self.shared.now);
        let mut reads = lock(&self.shared.reads);
        *reads += 1;
        match self.shared.fault {
            Fault::ClockGoesBack if reads.is_multiple_of(2) => {
                Timestamp::from_nanos(now.as_nanos() - 1_000)
            }
            _ => now,
        }
    }

    fn random(&self) -> u64 {
        self.shared.id().wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    fn set_timer(&self, after: Duration) -> TimerId {
        let id = self.shared.id();
        let now = *lock(&self.shared.now);
        let due = match self.shared.fault {
            Fault::TimerEarly => now,
            _ => now + after,
        };
        let timer = Timer {
            due,
            policy: self.policy,
            fired: self.shared.fault == Fault::TimerNever,
            cancelled: false,
        };
        lock(&self.shared.timers).insert(id, timer);
        TimerId::from_raw(id)
    }

    fn cancel_timer(&self, id: TimerId) {
        let now = *lock(&self.shared.now);
        if let Some(timer) = lock(&self.shared.timers).get_mut(&id.as_raw()) {
            timer.cancelled = match self.shared.fault {
                Fault::CancelledTimerFires => false,
                Fault::DueTimerFires => timer.due > now,
                _ => true,
            };
        }
    }

    fn wake(&self) {
        if self.shared.fault != Fault::WakeForgotten {
            self.shared.push(Item::Wake(self.policy));
        }
    }

    fn start_call(&self, sub_conn: &SubConn, request: CallRequest) -> CallId {
        let id = self.shared.id();
        self.shared.push(Item::StartCall {
            policy: self.policy,
            id,
            sub: sub_conn.downcast_ref::<Handle>().map(|handle| handle.id),
            first: request.first_message,
            half_close: request.half_close,
        });
        CallId::from_raw(id)
    }

    /// No trial sends more than the first message.
    fn send_call_message(&self, _: CallId, _: Bytes) {}

    fn close_call_send(&self, _: CallId) {}

    fn cancel_call(&self, id: CallId) {
        if self.shared.fault != Fault::CallAfterCancel {
            lock(&self.shared.cancelled).insert(id.as_raw());
        }
    }

    fn new_lookaside(
        &self,
        _: &str,
        _: Option<Arc<dyn TransportCredentials>>,
        _: Option<Arc<dyn Dialer>>,
    ) -> Result<SubConn, NewSubConnError> {
        Err(NewSubConnError::Refused("backends only".into()))
    }
}

// === impl Handle ===

impl SubConnHandle for Handle {
    fn connect(&self) {
        self.shared.push(Item::Connect(self.id));
    }

    fn update_addresses(&self, addresses: Vec<Address>) {
        self.shared.push(Item::Addresses(self.id, addresses));
    }

    fn describe(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SubConn {}", self.id)
    }
}

impl Handle {
    pub(super) fn belongs_to(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.shared, shared)
    }
}
