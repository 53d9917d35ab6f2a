//! Calls that a policy makes on its SubConns' connections.

use balancer_api::{CallEvent, CallId, CallRequest, Status, SubConn};
use bytes::Bytes;
use futures_channel::oneshot;
use futures_util::{
    StreamExt,
    future::{AbortHandle, Abortable},
    stream::{BoxStream, FuturesUnordered},
};
use http::HeaderMap;

use super::Actor;
use crate::{
    env::{CallSender, Connection, Env},
    queue::{CallPermit, Item},
};

/// A call that runs.
pub(super) struct Call {
    instance: u64,
    sender: Option<Box<dyn CallSender>>,
    reading: Option<AbortHandle>,
}

/// How many events of a call may wait for the policy; then the server is held back.
const UNDELIVERED: usize = 16;

fn ended(why: String) -> CallEvent {
    CallEvent::End {
        status: Status::unavailable(why),
        trailers: HeaderMap::new(),
    }
}

/// Hands a call's events to `push`, until its end, and reads no further than [`UNDELIVERED`] ahead
/// of those that were handled.
pub(super) async fn forward(
    mut events: BoxStream<'static, CallEvent>,
    push: impl Fn(CallEvent, CallPermit),
) {
    let mut undelivered = FuturesUnordered::new();
    let mut over = false;
    while !over {
        // A call has an end, also where a transport forgets to say so.
        let next = events.next().await;
        let event = next.unwrap_or_else(|| ended("the connection ended".to_owned()));
        over = event.is_end();
        let (permit, delivered) = oneshot::channel();
        undelivered.push(delivered);
        push(event, permit);
        while undelivered.len() >= UNDELIVERED {
            undelivered.next().await;
        }
    }
}

// === impl Call ===

impl Call {
    /// Whether it has, or had until its end was told, a stream.
    pub(super) fn is_running(&self) -> bool {
        self.reading.is_some()
    }
}

// === impl Actor: calls ===

impl<E: Env> Actor<E> {
    pub(super) fn start_call(
        &mut self,
        instance: u64,
        id: CallId,
        sub_conn: &SubConn,
        request: CallRequest,
    ) {
        if !self.is_alive(instance) {
            return;
        }
        let Some(connection) = self.connection_of(sub_conn) else {
            self.calls.insert(
                id,
                Call {
                    instance,
                    sender: None,
                    reading: None,
                },
            );
            let end = Box::new(ended(format!("{sub_conn:?} is not READY")));
            self.shared.queue.push(Item::CallEvent(id, end, None));
            return;
        };
        let call = connection.start_call(request);
        let (abort, registration) = AbortHandle::new_pair();
        self.calls.insert(
            id,
            Call {
                instance,
                sender: Some(call.sender),
                reading: Some(abort),
            },
        );
        let queue = self.shared.queue.clone();
        let reading = forward(call.events, move |event, permit| {
            queue.push(Item::CallEvent(id, Box::new(event), Some(permit)));
        });
        self.shared.env.spawn(Box::pin(async move {
            let _ = Abortable::new(reading, registration).await;
        }));
    }

    pub(super) fn send_call_message(&mut self, id: CallId, message: Bytes) {
        if let Some(sender) = self
            .calls
            .get_mut(&id)
            .and_then(|call| call.sender.as_mut())
        {
            sender.send_message(message);
        }
    }

    pub(super) fn close_call_send(&mut self, id: CallId) {
        if let Some(mut sender) = self.calls.get_mut(&id).and_then(|call| call.sender.take()) {
            sender.close_send();
        }
    }

    pub(super) fn cancel_call(&mut self, id: CallId) {
        if let Some(reading) = self.calls.remove(&id).and_then(|call| call.reading) {
            reading.abort();
        }
    }

    /// Delivers an event, unless the call was cancelled in between.
    pub(super) fn call_event(&mut self, id: CallId, event: CallEvent, permit: Option<CallPermit>) {
        let instance = if event.is_end() {
            self.calls.remove(&id).map(|call| call.instance)
        } else {
            self.calls.get(&id).map(|call| call.instance)
        };
        if let Some(instance) = instance {
            self.policy_call_event(id, &event, instance);
        }
        drop(permit);
    }

    /// Ends every call of a policy that is gone.
    pub(super) fn cancel_calls_of(&mut self, instance: u64) {
        let gone: Vec<CallId> = self
            .calls
            .iter()
            .filter(|(_, call)| call.instance == instance)
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.cancel_call(id);
        }
    }
}
