//! The ClientConn that a policy of this channel sees: every request becomes an item of the queue.

use std::time::Duration;

use balancer_api::{
    Address, CallId, CallRequest, ClientConn, ConnectivityState, Dialer, NewSubConnError,
    NewSubConnOptions, Picker, Reconnect, SubConn, TimerId, Timestamp, TransportCredentials,
};
use bytes::Bytes;

use crate::{
    env::{Env, Lookaside},
    queue::Item,
    shared::Shared,
    sub_conn::SubConnCell,
    sync::{Arc, AtomicBool, Ordering},
};

/// One instance of one policy has one of these; when the policy is closed it goes deaf.
pub(crate) struct RootConn<E: Env> {
    shared: Arc<Shared<E>>,
    instance: u64,
    closed: Arc<AtomicBool>,
}

// === impl RootConn ===

impl<E: Env> RootConn<E> {
    pub(crate) fn new(shared: Arc<Shared<E>>, instance: u64, closed: Arc<AtomicBool>) -> Self {
        Self {
            shared,
            instance,
            closed,
        }
    }

    fn push(&self, item: Item<E::Connection>) {
        self.shared.queue.push(item);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    fn make(
        &self,
        addresses: Vec<Address>,
        options: NewSubConnOptions,
        lookaside: Option<Lookaside>,
    ) -> Result<SubConn, NewSubConnError> {
        if self.is_closed() {
            return Err(NewSubConnError::Closed);
        }
        if addresses.is_empty() {
            return Err(NewSubConnError::NoAddresses);
        }
        let cell = SubConnCell::new(
            self.shared.next_id(),
            self.instance,
            self.shared.queue.clone(),
            addresses,
            options,
            lookaside,
        );
        let sub_conn = SubConn::new(cell.clone());
        self.push(Item::NewSubConn(sub_conn.clone(), cell));
        Ok(sub_conn)
    }
}

impl<E: Env> ClientConn for RootConn<E> {
    fn new_sub_conn(
        &self,
        addresses: Vec<Address>,
        options: NewSubConnOptions,
    ) -> Result<SubConn, NewSubConnError> {
        self.make(addresses, options, None)
    }

    fn remove_sub_conn(&self, sub_conn: &SubConn) {
        // Not gated by `closed`: what a closed policy left behind is removed through here.
        if let Some(cell) = SubConnCell::<E::Connection>::of(sub_conn)
            && cell.belongs_to(&self.shared.queue)
        {
            self.push(Item::RemoveSubConn(cell.id));
        }
    }

    fn update_balancer_state(&self, _: ConnectivityState, _: Arc<dyn Picker>) {
        debug_assert!(false, "a Child keeps what its policy publishes");
    }

    fn target(&self) -> &str {
        &self.shared.settings.target
    }

    fn resolve_now(&self) {
        self.push(Item::ResolveNow {
            instance: self.instance,
        });
    }

    fn now(&self) -> Timestamp {
        self.shared.env.now()
    }

    fn random(&self) -> u64 {
        self.shared.env.random()
    }

    fn set_timer(&self, after: Duration) -> TimerId {
        let id = TimerId::from_raw(self.shared.next_id());
        let at = self.shared.env.now() + after;
        self.push(Item::SetTimer {
            instance: self.instance,
            id,
            at,
        });
        id
    }

    fn cancel_timer(&self, id: TimerId) {
        self.push(Item::CancelTimer {
            instance: self.instance,
            id,
        });
    }

    fn wake(&self) {
        // Also when it is asked from within a callback that panics and so asks for nothing: the
        // flag is taken back then.
        if !self.shared.wake_queued.swap(true, Ordering::SeqCst) {
            self.push(Item::Wake);
        }
    }

    fn start_call(&self, sub_conn: &SubConn, request: CallRequest) -> CallId {
        let id = CallId::from_raw(self.shared.next_id());
        self.push(Item::StartCall {
            instance: self.instance,
            id,
            sub_conn: sub_conn.clone(),
            request: Box::new(request),
        });
        id
    }

    fn send_call_message(&self, id: CallId, message: Bytes) {
        self.push(Item::SendCallMessage(id, message));
    }

    fn close_call_send(&self, id: CallId) {
        self.push(Item::CloseCallSend(id));
    }

    fn cancel_call(&self, id: CallId) {
        self.push(Item::CancelCall(id));
    }

    fn new_lookaside(
        &self,
        target: &str,
        credentials: Option<Arc<dyn TransportCredentials>>,
        dialer: Option<Arc<dyn Dialer>>,
    ) -> Result<SubConn, NewSubConnError> {
        let lookaside = Lookaside {
            target: target.into(),
            credentials,
            dialer,
        };
        let options = NewSubConnOptions::new()
            .with_reconnect(Reconnect::Immediately)
            .with_tag("lookaside");
        self.make(vec![Address::new(target)], options, Some(lookaside))
    }
}
