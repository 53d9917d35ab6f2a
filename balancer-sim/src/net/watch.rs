//! `Health/Watch` on a connection: the only call that the channel makes by itself.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Poll, Waker},
    time::Duration,
};

use balancer_api::{CallEvent, CallRequest, Code, Status};
use balancer_channel_core::{CallSender, PolicyCall};
use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;

use super::{Effects, Event, Inner, Net};

/// A watch that runs, or whose end was not read yet.
#[derive(Default)]
pub(super) struct Watch {
    said: Option<bool>,
    events: VecDeque<CallEvent>,
    waker: Option<Waker>,
    over: bool,
}

/// The reading half.
struct Reading {
    net: Arc<Net>,
    conn: u64,
    watch: u64,
}

/// Everything was sent with the call.
struct HalfClosed;

// === impl Watch ===

impl Watch {
    pub(super) fn is_running(&self) -> bool {
        !self.over
    }

    pub(super) fn end(&mut self, status: &Status, out: &mut Effects<'_>) {
        if !std::mem::replace(&mut self.over, true) {
            self.events.push_back(CallEvent::End {
                status: status.clone(),
                trailers: HeaderMap::new(),
            });
            out.wakers.extend(self.waker.take());
        }
    }
}

// === impl Net ===

impl Net {
    pub(super) fn watch(self: &Arc<Self>, conn: u64, request: &CallRequest) -> PolicyCall {
        let watch = self.sim.id();
        let known = request.method.contains("Health");
        let started = self.with(|inner, out| {
            let Some(it) = inner.conns.get_mut(&conn).filter(|it| it.is_open()) else {
                return false;
            };
            let mut new = Watch::default();
            if !known {
                new.end(&Status::new(Code::Unimplemented, "no such method"), out);
            }
            it.watches.insert(watch, new);
            inner.ask_health(conn, out);
            true
        });
        let reading = Reading {
            net: self.clone(),
            conn,
            watch,
        };
        let mut unstarted = (!started).then(|| CallEvent::End {
            status: Status::unavailable("the connection takes no streams"),
            trailers: HeaderMap::new(),
        });
        let events = stream::poll_fn(move |cx| {
            if let Some(end) = unstarted.take() {
                return Poll::Ready(Some(end));
            }
            let Reading { net, conn, watch } = &reading;
            net.with(|inner, _| {
                let conn = inner.conns.get_mut(conn);
                let Some(watch) = conn.and_then(|conn| conn.watches.get_mut(watch)) else {
                    return Poll::Ready(None);
                };
                match watch.events.pop_front() {
                    Some(event) => Poll::Ready(Some(event)),
                    None if watch.over => Poll::Ready(None),
                    None => {
                        watch.waker = Some(cx.waker().clone());
                        Poll::Pending
                    }
                }
            })
        });
        PolicyCall {
            events: Box::pin(events),
            sender: Box::new(HalfClosed),
        }
    }
}

// === impl Inner ===

impl Inner {
    /// What the backend says of its health is told to those who watch, a little later.
    pub(super) fn ask_health(&mut self, id: u64, out: &mut Effects<'_>) {
        let Some(conn) = self.conns.get(&id) else {
            return;
        };
        let latency = self.backends[conn.backend].manners.latency;
        for watch in conn.watches.keys() {
            let way = self.rng.time(latency.0, latency.1) + Duration::from_micros(1);
            out.after(way, Event::Health(id, *watch));
        }
    }

    pub(super) fn tell_health(&mut self, id: u64, watch: u64, out: &mut Effects<'_>) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let backend = &self.backends[conn.backend];
        if backend.partition.is_some() || !conn.served {
            return;
        }
        let healthy = backend.manners.healthy;
        let Some(watch) = conn.watches.get_mut(&watch) else {
            return;
        };
        if !watch.over && watch.said != Some(healthy) {
            watch.said = Some(healthy);
            // HealthCheckResponse { status: SERVING = 1, NOT_SERVING = 2 }.
            let status = if healthy { 1 } else { 2 };
            let message = Bytes::copy_from_slice(&[0x08, status]);
            watch.events.push_back(CallEvent::Message(message));
            out.wakers.extend(watch.waker.take());
            let word = if healthy { "SERVING" } else { "NOT_SERVING" };
            out.lines.push(format!("c{id}: {word}"));
        }
    }
}

// === impl Reading, HalfClosed ===

impl Drop for Reading {
    fn drop(&mut self) {
        let waker = self.net.with(|inner, _| {
            let conn = inner.conns.get_mut(&self.conn);
            conn.and_then(|conn| conn.watches.remove(&self.watch))
        });
        drop(waker);
    }
}

impl CallSender for HalfClosed {
    fn send_message(&mut self, _: Bytes) {}

    fn close_send(&mut self) {}
}
