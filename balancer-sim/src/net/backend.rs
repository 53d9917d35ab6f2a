//! Backends: what they do with connections and streams, and what befalls them.

use std::{sync::Arc, time::Duration};

use balancer_api::{Code, Status};

use super::{Effects, Event, Inner, Message, Net, Reply, Side, StreamEnd};
use crate::fault::Fault;

/// What a backend does.
#[derive(Clone, Debug)]
pub(crate) struct Manners {
    pub(crate) greeting: Greeting,
    /// How long a message is on its way, at least and at most.
    pub(crate) latency: (Duration, Duration),
    /// How long an answer takes.
    pub(crate) answer: (Duration, Duration),
    /// What becomes of a stream instead of an answer, each of a thousand.
    pub(crate) refuses: u32,
    pub(crate) resets: u32,
    pub(crate) unavailable: u32,
    pub(crate) late: u32,
    pub(crate) silent: u32,
    /// MAX_CONCURRENT_STREAMS.
    pub(crate) limit: u32,
    /// What it says of its health.
    pub(crate) healthy: bool,
}

/// What a dial meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Greeting {
    Welcome,
    Refuse,
    Slow(Duration),
    BlackHole,
    /// No SETTINGS.
    Silent,
    /// SETTINGS, then the end.
    Close,
    /// SETTINGS, then GOAWAY.
    Goaway,
}

pub(super) struct Backend {
    pub(super) manners: Manners,
    pub(super) up: bool,
    /// Its number, while there is one.
    pub(super) partition: Option<u64>,
    /// Dials that nobody answers.
    pub(super) parked: Vec<u64>,
}

// === impl Manners ===

impl Manners {
    /// A good backend.
    pub(crate) fn good() -> Self {
        Self {
            greeting: Greeting::Welcome,
            latency: (Duration::from_micros(50), Duration::from_millis(2)),
            answer: (Duration::from_micros(100), Duration::from_millis(5)),
            refuses: 0,
            resets: 0,
            unavailable: 0,
            late: 0,
            silent: 0,
            limit: 100,
            healthy: true,
        }
    }
}

// === impl Backend ===

impl Backend {
    pub(super) fn new(manners: Manners) -> Self {
        Self {
            manners,
            up: true,
            partition: None,
            parked: Vec::new(),
        }
    }
}

// === impl Net: what befalls backends ===

impl Net {
    /// From now on the backend behaves so.
    pub(crate) fn behave(self: &Arc<Self>, backend: usize, manners: Manners) {
        self.with(|net, out| {
            let limit = manners.limit;
            let before = std::mem::replace(&mut net.backends[backend].manners, manners);
            for id in net.of_backend(backend) {
                if before.limit != limit {
                    net.send(id, Side::Client, Message::Settings { limit }, out);
                }
                net.ask_health(id, out);
            }
            net.unpark(backend, out);
        });
    }

    pub(crate) fn manners(&self, backend: usize) -> Manners {
        crate::sim::lock(&self.inner).backends[backend]
            .manners
            .clone()
    }

    /// The process ends: its system resets its connections, and those to come. Answers how many
    /// streams that hit.
    pub(crate) fn crash(self: &Arc<Self>, backend: usize) -> usize {
        self.with(|net, out| {
            net.backends[backend].up = false;
            let ids = net.of_backend(backend);
            net.reset(&ids, "reset by a crash", out)
        })
    }

    pub(crate) fn restart(self: &Arc<Self>, backend: usize) {
        self.with(|net, out| {
            net.backends[backend].up = true;
            net.unpark(backend, out);
        });
    }

    /// Every connection of the backend is reset, but it serves on.
    pub(crate) fn drop_connections(self: &Arc<Self>, backend: usize) -> usize {
        self.with(|net, out| {
            let ids = net.of_backend(backend);
            net.reset(&ids, "connection reset", out)
        })
    }

    /// Nothing comes through to the backend, nor from it. Answers how many streams that holds up.
    pub(crate) fn partition(self: &Arc<Self>, backend: usize) -> usize {
        let number = self.sim.id();
        self.with(|net, out| {
            let timeout = net.user_timeout;
            let it = &mut net.backends[backend];
            if it.partition.is_some() {
                return 0;
            }
            it.partition = Some(number);
            out.after(timeout, Event::TimedOut(backend, number));
            net.streams_to(backend)
        })
    }

    pub(crate) fn heal(self: &Arc<Self>, backend: usize) {
        self.with(|net, out| {
            if net.backends[backend].partition.take().is_none() {
                return;
            }
            for id in net.of_backend(backend) {
                out.after(Duration::ZERO, Event::Pump(id, Side::Client));
                out.after(Duration::ZERO, Event::Pump(id, Side::Server));
                net.ask_health(id, out);
            }
            net.unpark(backend, out);
        });
    }

    /// GOAWAY on every connection: `low` with a last stream below those that are open, so that they
    /// have to be sent again.
    pub(crate) fn goaway(
        self: &Arc<Self>,
        backend: usize,
        low: bool,
        too_many_pings: bool,
    ) -> usize {
        self.with(|net, out| {
            let mut hit = 0;
            for id in net.of_backend(backend) {
                hit += net.say_goaway(id, low, too_many_pings, out);
            }
            hit
        })
    }
}

// === impl Inner: servers ===

impl Inner {
    fn streams_to(&self, backend: usize) -> usize {
        let ids = self.of_backend(backend);
        ids.iter().map(|id| self.conns[id].waiting_streams()).sum()
    }

    fn reset(&mut self, ids: &[u64], why: &'static str, out: &mut Effects<'_>) -> usize {
        let mut hit = 0;
        for id in ids {
            if let Some(conn) = self.conns.get_mut(id) {
                hit += conn.waiting_streams();
                conn.served = false;
                conn.serving.clear();
                self.send(*id, Side::Client, Message::Fin { why }, out);
            }
        }
        hit
    }

    pub(super) fn say_goaway(
        &mut self,
        id: u64,
        low: bool,
        too_many_pings: bool,
        out: &mut Effects<'_>,
    ) -> usize {
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.served) else {
            return 0;
        };
        let open: Vec<u32> = conn.serving.iter().copied().collect();
        let last = match (low, open.get(open.len() / 2)) {
            (true, Some(middle)) => middle.saturating_sub(2),
            _ => conn.highest,
        };
        conn.serving.retain(|stream| *stream <= last);
        conn.goaway_at = Some(conn.goaway_at.map_or(last, |before| before.min(last)));
        let message = Message::Goaway {
            last,
            too_many_pings,
        };
        self.send(id, Side::Client, message, out);
        open.iter().filter(|stream| !low || **stream > last).count()
    }

    fn unpark(&mut self, backend: usize, out: &mut Effects<'_>) {
        for dial in std::mem::take(&mut self.backends[backend].parked) {
            // The next SYN that is sent again.
            let wait = self.rng.millis(1, 1000);
            out.after(wait, Event::Arrives(dial));
        }
    }

    pub(super) fn timed_out(&mut self, backend: usize, partition: u64, out: &mut Effects<'_>) {
        if self.backends[backend].partition != Some(partition) {
            return;
        }
        for id in self.of_backend(backend) {
            self.lose(id, "timed out", out);
        }
    }

    pub(super) fn at_server(&mut self, id: u64, message: &Message, out: &mut Effects<'_>) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        if !conn.served {
            // The system knows no such connection any more.
            let why = "reset: no such connection";
            self.send(id, Side::Client, Message::Fin { why }, out);
            return;
        }
        match *message {
            Message::Request { stream } if conn.goaway_at.is_none_or(|last| stream <= last) => {
                conn.highest = conn.highest.max(stream);
                conn.serving.insert(stream);
                self.decide(id, stream, out);
            }
            Message::Cancel { stream } => {
                conn.serving.remove(&stream);
            }
            _ => {}
        }
    }

    /// What becomes of a stream.
    fn decide(&mut self, id: u64, stream: u32, out: &mut Effects<'_>) {
        let Some(conn) = self.conns.get(&id) else {
            return;
        };
        let manners = &self.backends[conn.backend].manners;
        let (answer, dice) = (manners.answer, self.rng.below(1000) as u32);
        let mut edge = 0;
        let mut falls = |part: u32| {
            edge += part;
            dice < edge
        };
        let end = if falls(manners.refuses) {
            out.hits.push((Fault::StreamRefused, 1));
            StreamEnd::Refused
        } else if falls(manners.resets) {
            out.hits.push((Fault::StreamReset, 1));
            StreamEnd::Reset
        } else if falls(manners.unavailable) {
            out.hits.push((Fault::ServerUnavailable, 1));
            StreamEnd::Status(Status::new(Code::Unavailable, "the server says so"))
        } else if falls(manners.silent) {
            out.hits.push((Fault::NoAnswer, 1));
            return;
        } else if falls(manners.late) {
            out.hits.push((Fault::LateAnswer, 1));
            let wait = self.rng.millis(500, 15_000);
            out.after(wait, Event::Answer(id, stream, Reply::Begin));
            out.after(wait, Event::Answer(id, stream, Reply::End(StreamEnd::Good)));
            return;
        } else {
            StreamEnd::Good
        };
        let wait = self.rng.time(answer.0, answer.1);
        let begins = matches!(end, StreamEnd::Good) || self.rng.per_mille(500);
        if begins && !matches!(end, StreamEnd::Refused) {
            out.after(wait / 2, Event::Answer(id, stream, Reply::Begin));
        }
        out.after(wait, Event::Answer(id, stream, Reply::End(end)));
    }

    pub(super) fn answer(&mut self, id: u64, stream: u32, reply: Reply, out: &mut Effects<'_>) {
        let Some(conn) = self.conns.get_mut(&id) else {
            return;
        };
        if !conn.serving.contains(&stream) {
            return;
        }
        let message = match reply {
            Reply::Begin => Message::Headers { stream },
            Reply::End(end) => {
                conn.serving.remove(&stream);
                Message::End { stream, end }
            }
        };
        self.send(id, Side::Client, message, out);
    }
}
