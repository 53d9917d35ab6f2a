//! A byte relay between client and server that can freeze, slow down and cut.

mod pump;
mod sniff;

use crate::{
    Ending,
    net::{Ends, Port},
};
use pump::Pipe;
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot, watch},
    task::{AbortHandle, JoinSet},
};

/// A TCP relay in front of a server, which outlives it.
///
/// What the client's socket took is what the relay read: it records each stream whose HEADERS
/// frame came, so a test can tell an RPC that may have reached the server from one that cannot.
/// The octets pass unchanged. Frames are only seen in plaintext.
///
/// Every control acts on the connections there are and on those to come. Dropping the relay closes
/// them all.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// use balancer_testpeer::{Backend, Ending, Relay, Server};
///
/// let server = Server::start(Backend::new("a")).await?;
/// let relay = Relay::to(server.addr()).await?;
/// // ... connect clients to relay.addr() ...
/// relay.freeze(); // half-open: the system acknowledges, nobody answers
/// relay.thaw();
/// relay.cut(Ending::Reset).await;
/// assert!(relay.streams().is_empty());
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Relay {
    port: Port,
    link: watch::Sender<Link>,
    controls: mpsc::UnboundedSender<Control>,
    record: Record,
    task: AbortHandle,
}

/// A stream whose HEADERS frame the relay read from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayedStream {
    /// Which connection, from 1 in the order of acceptance.
    pub connection: usize,
    /// Which stream of it.
    pub stream: u32,
}

/// What the relay does to octets on their way, in both directions.
#[derive(Clone, Copy, Debug)]
struct Link {
    frozen: bool,
    /// Frozen towards the client only.
    mute: bool,
    delay: Duration,
    /// Octets per second and direction.
    rate: Option<u32>,
    /// Octets per connection and direction after which it freezes by itself.
    freeze_after: Option<u64>,
    pass_resets: bool,
    upstream: SocketAddr,
}

#[derive(Clone, Debug, Default)]
struct Record(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    accepted: usize,
    streams: Vec<RelayedStream>,
}

enum Control {
    Cut(Ending, oneshot::Sender<()>),
    Listen(Option<TcpListener>, oneshot::Sender<()>),
}

struct Hub {
    listener: Option<TcpListener>,
    controls: mpsc::UnboundedReceiver<Control>,
    link: watch::Receiver<Link>,
    conns: JoinSet<()>,
    record: Record,
    ends: Ends,
}

// === impl Relay ===

impl Relay {
    /// Listens on a free port of 127.0.0.1 and relays to `upstream`.
    ///
    /// # Errors
    /// No port is free.
    pub async fn to(upstream: SocketAddr) -> io::Result<Self> {
        let port = Port::reserve(Ipv4Addr::LOCALHOST.into())?;
        let listener = port.listen()?;
        let (link, links) = watch::channel(Link {
            frozen: false,
            mute: false,
            delay: Duration::ZERO,
            rate: None,
            freeze_after: None,
            pass_resets: false,
            upstream,
        });
        let (controls, inbox) = mpsc::unbounded_channel();
        let record = Record::default();
        let hub = Hub {
            listener: Some(listener),
            controls: inbox,
            link: links,
            conns: JoinSet::new(),
            record: record.clone(),
            ends: Ends::default(),
        };
        let task = tokio::spawn(hub.run()).abort_handle();
        Ok(Self {
            port,
            link,
            controls,
            record,
            task,
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Relays later connections to another server.
    pub fn redirect(&self, upstream: SocketAddr) {
        self.link.send_modify(|link| link.upstream = upstream);
    }

    /// Stops reading and writing: no octet, no FIN, no RST passes until [`thaw`](Self::thaw).
    pub fn freeze(&self) {
        self.link.send_modify(|link| link.frozen = true);
    }

    /// Passes nothing on to clients: no octet, no FIN, no RST until [`thaw`](Self::thaw). What they send
    /// is read and passed on as before, so that [`streams`](Self::streams) knows of all of it: what a
    /// [frozen](Self::freeze) relay has not read is gone when its client is.
    pub fn mute(&self) {
        self.link.send_modify(|link| link.mute = true);
    }

    /// Freezes each direction of each connection when so many octets have passed it.
    pub fn freeze_after(&self, octets: u64) {
        self.link
            .send_modify(|link| link.freeze_after = Some(octets));
    }

    /// Undoes [`freeze`](Self::freeze), [`mute`](Self::mute) and [`freeze_after`](Self::freeze_after).
    pub fn thaw(&self) {
        self.link.send_modify(|link| {
            link.frozen = false;
            link.mute = false;
            link.freeze_after = None;
        });
    }

    /// Delays every octet by so much, in each direction. Octets do not queue behind each other.
    pub fn delay(&self, delay: Duration) {
        self.link.send_modify(|link| link.delay = delay);
    }

    /// Lets so many octets per second pass in each direction of each connection; at least 1.
    pub fn limit_rate(&self, octets_per_second: Option<u32>) {
        self.link
            .send_modify(|link| link.rate = octets_per_second.map(|rate| rate.max(1)));
    }

    /// Passes a server's RST on as RST.
    ///
    /// By itself the relay makes FIN of it and goes on reading what the client sends until the
    /// client closes, so that [`streams`](Self::streams) misses nothing: a reset discards what the
    /// client's socket had taken and the relay not yet read.
    pub fn pass_resets(&self, pass: bool) {
        self.link.send_modify(|link| link.pass_resets = pass);
    }

    /// Ends every connection on both sides. New ones are accepted as before.
    pub async fn cut(&self, ending: Ending) {
        let (done, wait) = oneshot::channel();
        let _ = self.controls.send(Control::Cut(ending, done));
        // An error means that the hub is gone, and all it owned with it.
        let _ = wait.await;
    }

    /// Refuses new connections, and keeps those there are.
    pub async fn stop_listening(&self) {
        self.listen(None).await;
    }

    /// Accepts again, on the same port.
    ///
    /// # Errors
    /// The system refused.
    pub async fn start_listening(&self) -> io::Result<()> {
        self.listen(None).await;
        self.listen(Some(self.port.listen()?)).await;
        Ok(())
    }

    /// Connections accepted.
    pub fn accepted(&self) -> usize {
        self.record.lock().accepted
    }

    /// Every stream whose HEADERS frame was read from a client, in order of arrival. Noted when
    /// the frame's first nine octets are here, before anything is written to the server.
    pub fn streams(&self) -> Vec<RelayedStream> {
        self.record.lock().streams.clone()
    }

    async fn listen(&self, listener: Option<TcpListener>) {
        let (done, wait) = oneshot::channel();
        let _ = self.controls.send(Control::Listen(listener, done));
        let _ = wait.await;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Record ===

impl Record {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Hub ===

impl Hub {
    async fn run(mut self) {
        loop {
            tokio::select! {
                control = self.controls.recv() => match control {
                    Some(Control::Cut(ending, done)) => {
                        self.ends.reset_on_drop(ending == Ending::Reset);
                        self.conns.shutdown().await;
                        self.ends.reset_on_drop(false);
                        let _ = done.send(());
                    }
                    Some(Control::Listen(listener, done)) => {
                        self.listener = listener;
                        let _ = done.send(());
                    }
                    None => return,
                },
                client = crate::net::accept(self.listener.as_ref()) => self.relay(client),
                Some(_) = self.conns.join_next() => {}
            }
        }
    }

    fn relay(&mut self, client: TcpStream) {
        let connection = {
            let mut seen = self.record.lock();
            seen.accepted += 1;
            seen.accepted
        };
        let pipe = Pipe {
            connection,
            link: self.link.clone(),
            record: self.record.clone(),
            ends: self.ends.clone(),
        };
        self.conns.spawn(pipe.run(client));
    }
}
