//! The network: backends with manners, connections with two directions, everything late.
//!
//! A message is on its way for a while and arrives in order, or not before a partition heals. What
//! the client's side of a connection knows is only what has arrived.

mod backend;
mod conn;
mod dial;
mod watch;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::Ordering},
    task::Waker,
    time::Duration,
};

use balancer_api::{Status, Timestamp};
use balancer_channel_core::Lost;

use self::{
    backend::Backend,
    conn::{Conn, Family},
    dial::Dial,
};
pub(crate) use self::{
    backend::{Greeting, Manners},
    conn::{SimConnection, StreamEnd},
};
use crate::{
    book::Book,
    fault::Fault,
    rng::Rng,
    sim::{Sim, lock},
};

/// All of it.
pub(crate) struct Net {
    sim: Arc<Sim>,
    book: Arc<Book>,
    inner: Mutex<Inner>,
}

struct Inner {
    book: Arc<Book>,
    backends: Vec<Backend>,
    conns: BTreeMap<u64, Conn>,
    /// Connections of one SubConn that share a queue, by the number of the first.
    families: BTreeMap<u64, Family>,
    dials: BTreeMap<u64, Dial>,
    rng: Rng,
    /// A client that hears nothing for so long, with something to send, gives a connection up.
    user_timeout: Duration,
}

/// Something on its way.
enum Event {
    Arrives(u64),
    Refused(u64),
    Pump(u64, Side),
    Answer(u64, u32, Reply),
    TimedOut(usize, u64),
    Health(u64, u64),
}

/// Where a message goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Server,
    Client,
}

enum Message {
    Settings { limit: u32 },
    Request { stream: u32 },
    Headers { stream: u32 },
    End { stream: u32, end: StreamEnd },
    Cancel { stream: u32 },
    Goaway { last: u32, too_many_pings: bool },
    Fin { why: &'static str },
}

/// How a server answers.
#[derive(Clone)]
enum Reply {
    Begin,
    End(StreamEnd),
}

/// What follows from a change, once nothing is locked.
struct Effects<'a> {
    sim: &'a Sim,
    now: Timestamp,
    events: Vec<(Timestamp, Event)>,
    wakers: Vec<Waker>,
    lines: Vec<String>,
    hits: Vec<(Fault, usize)>,
}

// === impl Net ===

impl Net {
    pub(crate) fn new(
        sim: &Arc<Sim>,
        book: &Arc<Book>,
        seed: u64,
        manners: Vec<Manners>,
        user_timeout: Duration,
    ) -> Arc<Self> {
        let backends = manners.into_iter().map(Backend::new).collect();
        Arc::new(Self {
            sim: sim.clone(),
            book: book.clone(),
            inner: Mutex::new(Inner {
                book: book.clone(),
                backends,
                conns: BTreeMap::new(),
                families: BTreeMap::new(),
                dials: BTreeMap::new(),
                rng: Rng::new(seed, 2),
                user_timeout,
            }),
        })
    }

    /// The address of a backend.
    pub(crate) fn address(backend: usize) -> String {
        format!("b{backend}")
    }

    fn with<R>(self: &Arc<Self>, act: impl FnOnce(&mut Inner, &mut Effects<'_>) -> R) -> R {
        let mut effects = Effects {
            sim: &self.sim,
            now: self.sim.now(),
            events: Vec::new(),
            wakers: Vec::new(),
            lines: Vec::new(),
            hits: Vec::new(),
        };
        let result = act(&mut lock(&self.inner), &mut effects);
        let Effects {
            events,
            wakers,
            lines,
            hits,
            ..
        } = effects;
        for line in lines {
            self.sim.tell(format_args!("{line}"));
        }
        for (fault, rpcs) in hits {
            self.sim.hit(fault, rpcs);
        }
        for (at, event) in events {
            let net = self.clone();
            self.sim.at(at, move || net.happen(event));
        }
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    fn happen(self: &Arc<Self>, event: Event) {
        self.with(|net, out| match event {
            Event::Arrives(dial) => net.arrives(dial, out),
            Event::Refused(dial) => net.refused(dial, out),
            Event::Pump(conn, side) => net.pump(conn, side, out),
            Event::Answer(conn, stream, reply) => net.answer(conn, stream, reply, out),
            Event::TimedOut(backend, partition) => net.timed_out(backend, partition, out),
            Event::Health(conn, watch) => net.tell_health(conn, watch, out),
        });
    }

    /// Dials that run, and connections that the client has not closed.
    pub(crate) fn open(&self) -> (usize, usize) {
        let inner = lock(&self.inner);
        (inner.dials.len(), inner.conns.len())
    }

    /// Streams of RPCs and calls of the channel's own.
    pub(crate) fn streams(&self) -> usize {
        let inner = lock(&self.inner);
        inner.conns.values().map(Conn::open_streams).sum()
    }

    /// Whether a dial for this SubConn runs, and not for another connection.
    pub(crate) fn dials_for(&self, sub_conn: u64) -> bool {
        let inner = lock(&self.inner);
        let first = |dial: &Dial| dial.sub_conn == sub_conn && dial.family.is_none();
        inner.dials.values().any(first)
    }

    /// How many dials for another connection of this SubConn run.
    pub(crate) fn dials_for_more(&self, sub_conn: u64) -> usize {
        let inner = lock(&self.inner);
        let more = |dial: &&Dial| dial.sub_conn == sub_conn && dial.family.is_some();
        inner.dials.values().filter(more).count()
    }

    /// How many connections of this SubConn take streams, as far as the client can know.
    pub(crate) fn connections(&self, sub_conn: u64) -> usize {
        let inner = lock(&self.inner);
        let open = |conn: &&Conn| conn.sub_conn == sub_conn && conn.is_open();
        inner.conns.values().filter(open).count()
    }

    /// Whether, as far as the client can know, a connection of this SubConn takes streams.
    pub(crate) fn serves(&self, sub_conn: u64) -> bool {
        let inner = lock(&self.inner);
        let mut conns = inner.conns.values();
        conns.any(|conn| conn.sub_conn == sub_conn && conn.is_open())
    }
}

// === impl Inner ===

impl Inner {
    /// Puts a message on its way.
    fn send(&mut self, id: u64, side: Side, message: Message, out: &mut Effects<'_>) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let latency = self.backends[conn.backend].manners.latency;
        let way = self.rng.time(latency.0, latency.1);
        let queue = conn.queue(side);
        // In order: never before the one ahead of it.
        let at = queue
            .back()
            .map_or(out.now + way, |(ahead, _)| (*ahead).max(out.now + way));
        queue.push_back((at, message));
        out.events.push((at, Event::Pump(id, side)));
    }

    fn pump(&mut self, id: u64, side: Side, out: &mut Effects<'_>) {
        loop {
            let Some(conn) = self.conns.get_mut(&id) else {
                return;
            };
            if self.backends[conn.backend].partition.is_some() {
                return;
            }
            let queue = conn.queue(side);
            if queue.front().is_none_or(|(at, _)| *at > out.now) {
                return;
            }
            let Some((_, message)) = queue.pop_front() else {
                return;
            };
            match side {
                Side::Server => self.at_server(id, &message, out),
                Side::Client => self.at_client(id, message, out),
            }
        }
    }

    fn at_client(&mut self, id: u64, message: Message, out: &mut Effects<'_>) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        match message {
            Message::Settings { limit } => {
                conn.limit = limit;
                let (family, is_more) = (conn.family, conn.family != id);
                if !std::mem::replace(&mut conn.ready, true) {
                    if !is_more {
                        self.book.connected(conn.sub_conn);
                    }
                    let (dial, fate) = (conn.dial, conn.fate.clone());
                    self.established(id, dial, fate, out);
                }
                self.wake_family(family, out);
            }
            Message::Headers { stream } => {
                lock(&conn.fate).answered = true;
                self.book.answered(conn.sub_conn);
                conn.update(stream, None, out);
            }
            Message::End { stream, end } => {
                let answered = !matches!(end, StreamEnd::Refused | StreamEnd::Reset);
                lock(&conn.fate).answered |= answered;
                if answered {
                    self.book.answered(conn.sub_conn);
                }
                conn.update(stream, Some(end), out);
            }
            Message::Goaway {
                last,
                too_many_pings,
            } => {
                out.lines.push(format!("c{id}: GOAWAY {last}"));
                conn.goaway(last, too_many_pings, out);
            }
            Message::Fin { why } => {
                out.lines.push(format!("c{id}: {why}"));
                self.lose(id, why, out);
            }
            Message::Request { .. } | Message::Cancel { .. } => {}
        }
    }

    /// The client finds out that a connection is gone.
    fn lose(&mut self, id: u64, why: &str, out: &mut Effects<'_>) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        let (dial, ready) = (conn.dial, conn.ready);
        let status = Status::unavailable(format!("{}: {why}", conn.address));
        conn.lose(
            Lost::new(status.clone()),
            &StreamEnd::Lost(status.clone()),
            out,
        );
        if !ready {
            self.failed(dial, status, out);
        }
        self.tidy(id, out);
    }

    /// Forgets a connection that the client is through with.
    fn tidy(&mut self, id: u64, out: &mut Effects<'_>) {
        if let Some(conn) = self.conns.get_mut(&id)
            && conn.is_over()
        {
            out.wakers.append(&mut conn.drained);
            out.lines.push(format!("c{id}: closed"));
            let family = conn.family;
            self.conns.remove(&id);
            if !self.conns.values().any(|it| it.family == family) {
                self.families.remove(&family);
            }
        }
    }

    /// Lets all who wait for a stream of these connections look again.
    fn wake_family(&mut self, family: u64, out: &mut Effects<'_>) {
        for conn in self.conns.values_mut().filter(|it| it.family == family) {
            out.wakers.append(&mut conn.slots);
        }
    }

    fn of_backend(&self, backend: usize) -> Vec<u64> {
        let conns = self.conns.iter();
        conns
            .filter(|(_, conn)| conn.backend == backend)
            .map(|(id, _)| *id)
            .collect()
    }
}

// === impl Effects ===

impl Effects<'_> {
    fn after(&mut self, wait: Duration, event: Event) {
        self.events.push((self.now + wait, event));
    }

    /// Something keeps the RPCs waiting that wait for a connection.
    fn keeps_waiting(&mut self, fault: Fault) {
        let waiting = self.sim.waiting.load(Ordering::Relaxed);
        self.hits.push((fault, waiting));
    }
}
