//! Timers, and calls of policies.

use std::time::Duration;

use balancer_api::{CallEvent, CallId, ConnectivityState as State, Status, TimerId, Timestamp};
use balancer_testkit::witness::Serve;
use bytes::Bytes;

use super::{Fault, Item, Reference, lock};

/// A call that runs.
pub(super) struct Call {
    policy: u64,
    conn: Option<u64>,
    first: Option<Bytes>,
    half_close: bool,
    answer_at: Option<Timestamp>,
}

// === impl Call ===

impl Call {
    pub(super) fn conn(&self) -> Option<u64> {
        self.conn
    }

    pub(super) fn due(&self) -> Option<Timestamp> {
        self.answer_at
    }
}

fn end(status: Status) -> CallEvent {
    CallEvent::End {
        status,
        trailers: Default::default(),
    }
}

// === impl Reference ===

impl Reference {
    /// Fires one timer that is due.
    pub(super) fn fire_timer(&mut self) -> bool {
        let now = self.now();
        let due = {
            let mut timers = lock(&self.shared.timers);
            let due = timers
                .iter_mut()
                .find(|(_, timer)| !timer.fired && !timer.cancelled && timer.due <= now);
            let Some((id, timer)) = due else { return false };
            timer.fired = true;
            (*id, timer.policy)
        };
        let (id, policy) = due;
        let times = if self.is(Fault::TimerTwice) { 2 } else { 1 };
        for _ in 0..times {
            self.callback(policy, |balancer| {
                balancer.handle_timer(TimerId::from_raw(id));
            });
        }
        true
    }

    pub(super) fn start_call(
        &mut self,
        policy: u64,
        id: u64,
        sub: Option<u64>,
        first: Option<Bytes>,
        half_close: bool,
    ) {
        let sub = sub.and_then(|sub| self.subs.get(&sub));
        let sub = sub.filter(|sub| !sub.removed && sub.state == State::Ready);
        let conn = sub.and_then(|sub| sub.conn);
        let mut call = Call {
            policy,
            conn,
            first,
            half_close,
            answer_at: None,
        };
        let Some(conn) = conn else {
            let event = match self.fault {
                Fault::DeadCallSilent => return,
                Fault::DeadCallOk => end(Status::new(balancer_api::Code::Ok, "")),
                _ => end(Status::unavailable("the SubConn is not READY")),
            };
            self.calls.insert(id, call);
            self.push(Item::CallEvent(id, event));
            return;
        };
        let address = self.conns[&conn].address.clone();
        match self.peer(&address).serve {
            Serve::Answer => call.answer_at = Some(self.now()),
            Serve::AnswerAfter(wait) => call.answer_at = Some(self.now() + wait),
            Serve::NoStream => {}
            Serve::Refuse | Serve::BreakAfterHeaders => {
                let refused = end(Status::unavailable("refused"));
                self.push(Item::CallEvent(id, refused));
            }
        }
        self.calls.insert(id, call);
    }

    /// Answers what is to be answered now.
    pub(super) fn drive_calls(&mut self) -> bool {
        let now = self.now();
        let mut moved = false;
        let mut events = Vec::new();
        for (id, call) in &mut self.calls {
            if call.answer_at.is_none_or(|at| at > now) {
                continue;
            }
            call.answer_at = None;
            moved = true;
            events.push((*id, CallEvent::Headers(Default::default())));
            let message = call.first.take().unwrap_or_default();
            events.push((*id, CallEvent::Message(message)));
            if self.fault == Fault::HeadersAfterMessage {
                events.push((*id, CallEvent::Headers(Default::default())));
            }
            if call.half_close {
                let ok = end(Status::new(balancer_api::Code::Ok, ""));
                events.push((*id, ok.clone()));
                if self.fault == Fault::TwoEnds {
                    events.push((*id, ok));
                }
            }
        }
        for (id, event) in events {
            self.push(Item::CallEvent(id, event));
        }
        moved
    }

    pub(super) fn deliver_call(&mut self, id: u64, event: CallEvent) {
        if lock(&self.shared.cancelled).contains(&id) {
            self.calls.remove(&id);
            return;
        }
        let Some(call) = self.calls.get(&id) else {
            return;
        };
        let policy = call.policy;
        if event.is_end() && self.fault != Fault::TwoEnds {
            self.calls.remove(&id);
        }
        self.callback(policy, |balancer| {
            balancer.handle_call_event(CallId::from_raw(id), event);
        });
    }

    pub(super) fn calls_lost(&mut self, conn: u64) {
        let lost: Vec<u64> = self
            .calls
            .iter()
            .filter(|(_, call)| call.conn == Some(conn))
            .map(|(id, _)| *id)
            .collect();
        for id in lost {
            if let Some(call) = self.calls.get_mut(&id) {
                call.conn = None;
                call.answer_at = None;
            }
            if self.fault != Fault::CallOutlivesConnection {
                let event = end(Status::unavailable("the connection broke"));
                self.push(Item::CallEvent(id, event));
            }
        }
    }

    pub(super) fn drop_calls_of(&mut self, policy: u64) {
        self.calls.retain(|_, call| call.policy != policy);
    }

    /// Lets time pass, one event after the other.
    pub(super) fn pass(&mut self, by: Duration) {
        self.run();
        let until = self.now() + by;
        while let Some(due) = self.next_due().filter(|due| *due <= until) {
            let now = self.now();
            *lock(&self.shared.now) = due.max(now);
            self.run();
        }
        *lock(&self.shared.now) = until;
        self.run();
    }
}
