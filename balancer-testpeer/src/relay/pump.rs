//! One relayed connection: two directions, each a reader and a queue of octets with due times.

use super::{Link, Record, RelayedStream, sniff::Sniffer};
use crate::net::{Ends, Transport};
use bytes::Bytes;
use std::{collections::VecDeque, future::pending, io, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split},
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep_until},
};

/// Octets that one direction holds at most before it stops reading.
const HELD: usize = 1 << 20;
/// How often a rate-limited direction writes.
const TICK: Duration = Duration::from_millis(10);

pub(super) struct Pipe {
    pub(super) connection: usize,
    pub(super) link: watch::Receiver<Link>,
    pub(super) record: Record,
    pub(super) ends: Ends,
}

/// One direction.
struct Flow {
    link: watch::Receiver<Link>,
    queue: VecDeque<(Instant, Bytes)>,
    held: usize,
    passed: u64,
    /// Which way this direction goes: failures of the server's side are softened.
    way: Way,
    /// The server is gone: what still comes is looked at and dropped.
    discarding: bool,
    /// When a rate limit lets the next octets go.
    next_write: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    ToServer,
    ToClient,
}

/// What a reader does with the octets it reads, before they go on.
type Look<'a> = Box<dyn FnMut(&[u8]) + Send + 'a>;

// === impl Pipe ===

impl Pipe {
    pub(super) async fn run(self, client: TcpStream) {
        let client = Transport::tcp(client, self.ends.clone());
        let upstream = self.link.borrow().upstream;
        let server = match TcpStream::connect(upstream).await {
            Ok(server) => Transport::tcp(server, self.ends.clone()),
            // The closest to "refused" that is left once the client has been accepted.
            Err(_) => return client.reset(),
        };
        let (mut client_read, mut client_write) = split(client);
        let (mut server_read, mut server_write) = split(server);
        let mut sniffer = Sniffer::new();
        let (record, connection) = (&self.record, self.connection);
        let look: Look<'_> = Box::new(move |octets| {
            sniffer.feed(octets, |stream| {
                record
                    .lock()
                    .streams
                    .push(RelayedStream { connection, stream });
            });
        });
        let up = Flow::new(Way::ToServer, self.link.clone());
        let up = up.run(&mut client_read, &mut server_write, look);
        let down = Flow::new(Way::ToClient, self.link.clone());
        let down = down.run(&mut server_read, &mut client_write, Box::new(|_| {}));
        // A clean end passes as FIN and leaves the other direction open. A broken one breaks both:
        // the halves are put together again and reset.
        let broken = tokio::try_join!(up, down).is_err();
        if broken {
            client_read.unsplit(client_write).reset();
            server_read.unsplit(server_write).reset();
        }
    }
}

// === impl Flow ===

impl Flow {
    fn new(way: Way, link: watch::Receiver<Link>) -> Self {
        Self {
            link,
            queue: VecDeque::new(),
            held: 0,
            passed: 0,
            way,
            discarding: false,
            next_write: Instant::now(),
        }
    }

    /// Carries octets until the reader's end has been passed on.
    async fn run(
        mut self,
        from: &mut ReadHalf<Transport>,
        to: &mut WriteHalf<Transport>,
        mut look: Look<'_>,
    ) -> io::Result<()> {
        let mut space = vec![0; 16 * 1024];
        let mut at_end = false;
        while !(at_end && self.queue.is_empty()) {
            let link = *self.link.borrow_and_update();
            if self.is_frozen(&link) || link.freeze_after.is_some_and(|limit| self.passed >= limit)
            {
                changed(&mut self.link).await;
                continue;
            }
            let due = self
                .queue
                .front()
                .map(|(due, _)| (*due).max(self.next_write));
            tokio::select! {
                () = changed(&mut self.link) => {}
                () = sleep_until_some(due) => match self.write_some(to, &link).await {
                    Err(_) if self.way == Way::ToServer && !link.pass_resets => {
                        self.discarding = true;
                    }
                    written => written?,
                },
                read = from.read(&mut space), if !at_end && self.held < HELD => {
                    let read = match read {
                        Err(_) if self.way == Way::ToClient && !link.pass_resets => 0,
                        read => read?,
                    };
                    let octets = &space[..read];
                    look(octets);
                    at_end = octets.is_empty();
                    self.held += octets.len();
                    if !at_end {
                        let due = Instant::now() + link.delay;
                        self.queue.push_back((due, Bytes::copy_from_slice(octets)));
                    }
                }
            }
        }
        match to.shutdown().await {
            Err(_) if self.discarding => Ok(()),
            shut => shut,
        }
    }

    fn is_frozen(&self, link: &Link) -> bool {
        link.frozen || (link.mute && self.way == Way::ToClient)
    }

    /// Writes what is due, as much as the link lets through now.
    async fn write_some(&mut self, to: &mut WriteHalf<Transport>, link: &Link) -> io::Result<()> {
        let Some((_, front)) = self.queue.front_mut() else {
            return Ok(());
        };
        let mut allowed = front.len();
        if let Some(rate) = link.rate {
            // At least one octet per write; slow rates wait longer between them.
            let per_tick = (u64::from(rate) * TICK.as_millis() as u64 / 1000).max(1);
            allowed = allowed.min(usize::try_from(per_tick).unwrap_or(usize::MAX));
            let pause = Duration::from_secs(1).mul_f64(allowed as f64 / f64::from(rate));
            self.next_write = Instant::now() + pause;
        }
        if let Some(limit) = link.freeze_after {
            let left = limit.saturating_sub(self.passed);
            allowed = allowed.min(usize::try_from(left).unwrap_or(usize::MAX));
        }
        let part = front.split_to(allowed);
        if front.is_empty() {
            self.queue.pop_front();
        }
        self.held -= part.len();
        self.passed += part.len() as u64;
        if self.discarding {
            return Ok(());
        }
        self.write_unless_frozen(to, &part).await
    }

    /// A write that blocks does not outlast a freeze: what is left waits for the thaw.
    async fn write_unless_frozen(
        &mut self,
        to: &mut WriteHalf<Transport>,
        mut part: &[u8],
    ) -> io::Result<()> {
        while !part.is_empty() {
            let link = *self.link.borrow_and_update();
            if self.is_frozen(&link) {
                changed(&mut self.link).await;
                continue;
            }
            tokio::select! {
                () = changed(&mut self.link) => {}
                written = to.write(part) => part = &part[written?..],
            }
        }
        Ok(())
    }
}

/// A control was used. Never again, once the relay is gone: its drop ends the task anyway.
async fn changed(link: &mut watch::Receiver<Link>) {
    if link.changed().await.is_err() {
        pending().await
    }
}

async fn sleep_until_some(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
