//! Dials: from the SYN to the peer's SETTINGS.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use balancer_api::Status;
use balancer_channel_core::{BoxFuture, ConnectRequest, Connected};

use super::{Conn, Effects, Event, Greeting, Inner, Message, Net, Side, SimConnection, conn::Fate};
use crate::fault::Fault;

/// A connection, by its number and with its fate.
type DialResult = Result<(u64, Arc<Mutex<Fate>>), Status>;

/// A dial that runs.
pub(super) struct Dial {
    address: String,
    backend: Option<usize>,
    pub(super) sub_conn: u64,
    /// The first connection of the SubConn, where this is for another.
    pub(super) family: Option<u64>,
    /// Once there is one, not ready yet.
    conn: Option<u64>,
    result: Option<DialResult>,
    waker: Option<Waker>,
}

/// The client's side of it.
struct Dialling {
    net: Arc<Net>,
    id: u64,
}

// === impl Net ===

impl Net {
    /// Dials; ends at the peer's SETTINGS.
    pub(crate) fn dial(
        self: &Arc<Self>,
        beside: Option<&SimConnection>,
        request: &ConnectRequest,
    ) -> BoxFuture<Result<Connected<SimConnection>, Status>> {
        let address = request.address.addr().to_owned();
        let id = self.sim.id();
        let sub_conn = match &request.lookaside {
            Some(_) => 0,
            None if beside.is_some() => self.book.dialled_more(&request.address),
            None => self.book.dialled(&request.address),
        };
        let family = beside.map(SimConnection::family);
        let beside_whom =
            beside.map_or_else(String::new, |first| format!(" beside c{}", first.id()));
        self.sim.tell(format_args!(
            "s{sub_conn}: dials {address}{beside_whom} (d{id})"
        ));
        self.with(|net, out| {
            let backend = address.strip_prefix('b').and_then(|it| it.parse().ok());
            let backend = backend.filter(|it: &usize| *it < net.backends.len());
            let latency = backend.map_or((Duration::ZERO, Duration::ZERO), |it| {
                net.backends[it].manners.latency
            });
            let way = net.rng.time(latency.0, latency.1);
            let dial = Dial {
                address,
                backend,
                sub_conn,
                family,
                conn: None,
                result: None,
                waker: None,
            };
            net.dials.insert(id, dial);
            out.after(way, Event::Arrives(id));
        });
        Box::pin(Dialling {
            net: self.clone(),
            id,
        })
    }
}

// === impl Inner ===

impl Inner {
    /// The SYN is at the backend.
    pub(super) fn arrives(&mut self, id: u64, out: &mut Effects<'_>) {
        let Some(dial) = self.dials.get_mut(&id) else {
            return;
        };
        let Some(number) = dial.backend else {
            return self.refused(id, out);
        };
        let backend = &mut self.backends[number];
        let way = self
            .rng
            .time(backend.manners.latency.0, backend.manners.latency.1);
        if backend.partition.is_some() {
            out.keeps_waiting(Fault::Partition);
            backend.parked.push(id);
            return;
        }
        let greeting = match backend.manners.greeting {
            _ if !backend.up => Greeting::Refuse,
            greeting => greeting,
        };
        match greeting {
            Greeting::Refuse => {
                out.keeps_waiting(Fault::ConnectRefused);
                out.after(way, Event::Refused(id));
                return;
            }
            Greeting::BlackHole => {
                out.keeps_waiting(Fault::ConnectBlackHole);
                backend.parked.push(id);
                return;
            }
            Greeting::Welcome
            | Greeting::Slow(_)
            | Greeting::Silent
            | Greeting::Close
            | Greeting::Goaway => {}
        }
        let limit = backend.manners.limit;
        let conn_id = out.sim.id();
        dial.conn = Some(conn_id);
        let family = dial.family.unwrap_or(conn_id);
        let conn = Conn::new(id, number, dial.address.clone(), dial.sub_conn, family);
        self.conns.insert(conn_id, conn);
        let settings = Message::Settings { limit };
        match greeting {
            Greeting::Slow(wait) => {
                out.keeps_waiting(Fault::ConnectSlow);
                // SETTINGS that are late: the connection is there and not ready.
                let at = out.now + wait;
                if let Some(conn) = self.conns.get_mut(&conn_id) {
                    conn.queue(Side::Client).push_back((at, settings));
                }
                out.events.push((at, Event::Pump(conn_id, Side::Client)));
            }
            Greeting::Silent => out.keeps_waiting(Fault::AcceptSilent),
            Greeting::Close => {
                out.keeps_waiting(Fault::SettingsThenClose);
                self.send(conn_id, Side::Client, settings, out);
                let why = "closed by the peer";
                self.send(conn_id, Side::Client, Message::Fin { why }, out);
                if let Some(conn) = self.conns.get_mut(&conn_id) {
                    conn.served = false;
                }
            }
            Greeting::Goaway => {
                out.keeps_waiting(Fault::GoawayAtOnce);
                self.send(conn_id, Side::Client, settings, out);
                self.say_goaway(conn_id, false, false, out);
            }
            Greeting::Welcome | Greeting::Refuse | Greeting::BlackHole => {
                self.send(conn_id, Side::Client, settings, out);
            }
        }
    }

    pub(super) fn refused(&mut self, id: u64, out: &mut Effects<'_>) {
        if let Some(dial) = self.dials.get(&id) {
            let status = Status::unavailable(format!("{}: connection refused", dial.address));
            self.failed(id, status, out);
        }
    }

    pub(super) fn failed(&mut self, dial: u64, status: Status, out: &mut Effects<'_>) {
        if let Some(dial) = self.dials.get_mut(&dial) {
            if dial.family.is_some() {
                self.book.failed_more(dial.sub_conn);
            }
            dial.result = Some(Err(status));
            out.wakers.extend(dial.waker.take());
        }
    }

    /// The peer's SETTINGS are there.
    pub(super) fn established(
        &mut self,
        id: u64,
        dial: u64,
        fate: Arc<Mutex<Fate>>,
        out: &mut Effects<'_>,
    ) {
        if let Some(dial) = self.dials.get_mut(&dial) {
            out.lines
                .push(format!("c{id}: connected to {}", dial.address));
            dial.result = Some(Ok((id, fate)));
            out.wakers.extend(dial.waker.take());
        }
    }
}

// === impl Dialling ===

impl Future for Dialling {
    type Output = Result<Connected<SimConnection>, Status>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let net = &self.net;
        let result = net.with(|inner, _| {
            let dial = inner.dials.get_mut(&self.id)?;
            let family = dial.family;
            let result = dial.result.take();
            let result = result.map(|it| (dial.address.clone(), family, it));
            match &result {
                Some((_, _, Ok(_))) => dial.conn = None,
                Some((_, _, Err(_))) => {}
                None => dial.waker = Some(cx.waker().clone()),
            }
            result
        });
        match result {
            None => Poll::Pending,
            Some((_, _, Err(status))) => Poll::Ready(Err(status)),
            Some((address, family, Ok((conn, fate)))) => {
                let family = family.unwrap_or(conn);
                Poll::Ready(Ok(SimConnection::adopt(net, conn, family, &address, &fate)))
            }
        }
    }
}

impl Drop for Dialling {
    fn drop(&mut self) {
        let id = self.id;
        self.net.with(|net, out| {
            let dial = net.dials.remove(&id);
            if let Some(conn) = dial.and_then(|dial| dial.conn) {
                // RPCs of its family may count on it already.
                let conn = net.conns.remove(&conn);
                out.wakers
                    .extend(conn.into_iter().flat_map(|conn| conn.slots));
                out.lines.push(format!("d{id}: given up"));
            }
        });
    }
}
