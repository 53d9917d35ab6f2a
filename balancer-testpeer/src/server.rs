//! A server that looks after itself: accepts, plays a script, can be killed and restarted.

use crate::{
    Behaviour, Conn, Ending, Journal, MAX_STREAM, PeerError, Script,
    frame::{Frame, code},
    journal::Journals,
    net::{Ends, Io, Port, Transport},
};
use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    io::DuplexStream,
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::{self, AbortHandle, JoinError, JoinSet},
};

/// A scripted server, on loopback TCP and over in-memory pipes at once.
///
/// Dropping it ends its listener, its tasks and its connections.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
/// use balancer_testpeer::{Backend, Ending, Server};
///
/// let server = Server::start(Backend::new("a")).await?;
/// // ... connect clients to server.addr() ...
/// server.kill(Ending::Reset).await;
/// server.restart().await?; // on the same port
/// assert_eq!(server.journal().accepted(), 0);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Server {
    port: Option<Port>,
    journals: Journals,
    controls: mpsc::UnboundedSender<Control>,
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// What a live connection's behaviour is told from outside.
pub(crate) type Orders = mpsc::UnboundedReceiver<Order>;

/// Something the test wants done on a live connection.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// Send these frames now.
    Frames(Vec<Frame>),
    /// Send GOAWAY; no last stream means the last one seen.
    GoAway {
        last: Option<u32>,
        code: u32,
        debug: Vec<u8>,
    },
    /// Announce the end, finish what is open, close.
    Drain,
}

#[derive(Debug)]
struct Shared {
    script: Mutex<Script>,
    /// The channel to each live connection. Guards nothing else; nothing is called under it.
    orders: Mutex<Vec<mpsc::UnboundedSender<Order>>>,
    ends: Ends,
}

enum Control {
    Adopt(Box<dyn Io>),
    Listen(TcpListener),
    Deafen(oneshot::Sender<()>),
    Kill(Ending, oneshot::Sender<()>),
}

/// The task that owns listener and connections.
struct Acceptor {
    listener: Option<TcpListener>,
    controls: mpsc::UnboundedReceiver<Control>,
    conns: JoinSet<()>,
    /// Which connection each task of `conns` serves.
    numbers: HashMap<task::Id, usize>,
    journals: Journals,
    shared: Arc<Shared>,
}

// === impl Server ===

impl Server {
    /// Listens on a free port of 127.0.0.1 and plays `script`.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start(script: impl Into<Script>) -> io::Result<Self> {
        Self::start_on(Ipv4Addr::LOCALHOST.into(), script).await
    }

    /// Listens on a free port of another loopback address.
    ///
    /// # Errors
    /// No port is free, or the address is not this machine's.
    pub async fn start_on(ip: IpAddr, script: impl Into<Script>) -> io::Result<Self> {
        let port = Port::reserve(ip)?;
        let listener = port.listen()?;
        Ok(Self::spawn(Some(port), Some(listener), script.into()))
    }

    /// A server without a socket, for paused time: reach it with [`connect`](Self::connect).
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn in_memory(script: impl Into<Script>) -> Self {
        Self::spawn(None, None, script.into())
    }

    fn spawn(port: Option<Port>, listener: Option<TcpListener>, script: Script) -> Self {
        let shared = Arc::new(Shared {
            script: Mutex::new(script),
            orders: Mutex::default(),
            ends: Ends::default(),
        });
        let journals = Journals::default();
        let (controls, inbox) = mpsc::unbounded_channel();
        let acceptor = Acceptor {
            listener,
            controls: inbox,
            conns: JoinSet::new(),
            numbers: HashMap::new(),
            journals: journals.clone(),
            shared: shared.clone(),
        };
        let task = tokio::spawn(acceptor.run()).abort_handle();
        Self {
            port,
            journals,
            controls,
            shared,
            task,
        }
    }

    /// Where it listens, or would.
    ///
    /// # Panics
    /// On a server made by [`in_memory`](Self::in_memory).
    pub fn addr(&self) -> SocketAddr {
        self.port
            .as_ref()
            .expect("an in-memory server has no address")
            .addr()
    }

    /// Connects through a pipe of 64 KiB each way; the server sees one more connection.
    pub fn connect(&self) -> DuplexStream {
        let (client, server) = tokio::io::duplex(64 * 1024);
        self.adopt(server);
        client
    }

    /// Takes any stream as the next connection.
    pub fn adopt(&self, io: impl Io + 'static) {
        self.tell(Control::Adopt(Box::new(io)));
    }

    /// Changes what later connections get.
    pub fn set_script(&self, script: impl Into<Script>) {
        *self
            .shared
            .script
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = script.into();
    }

    /// What has been seen so far, over restarts too.
    pub fn journal(&self) -> Journal {
        self.journals.snapshot()
    }

    /// Waits until the journal says that something has happened.
    ///
    /// ```
    /// # async fn f(server: balancer_testpeer::Server) {
    /// server.until(|journal| journal.accepted() == 3).await;
    /// # }
    /// ```
    pub async fn until(&self, happened: impl FnMut(&Journal) -> bool) {
        self.journals.until(happened).await;
    }

    /// Ends listener and connections at once, as a crash does. The port stays ours and refuses.
    pub async fn kill(&self, ending: Ending) {
        let (done, wait) = oneshot::channel();
        self.tell(Control::Kill(ending, done));
        // An error means that the acceptor is gone, and all it owned with it.
        let _ = wait.await;
    }

    /// Refuses new connections and keeps those there are.
    pub async fn stop_listening(&self) {
        let (done, wait) = oneshot::channel();
        self.tell(Control::Deafen(done));
        let _ = wait.await;
    }

    /// Listens again, on the same port.
    ///
    /// # Errors
    /// The system refused.
    pub async fn restart(&self) -> io::Result<()> {
        if let Some(port) = &self.port {
            self.stop_listening().await;
            self.tell(Control::Listen(port.listen()?));
        }
        Ok(())
    }

    /// Sends frames on every live connection that a [`Backend`](crate::Backend) serves.
    pub fn send(&self, frames: impl IntoIterator<Item = Frame>) {
        self.order(&Order::Frames(frames.into_iter().collect()));
    }

    /// Sends GOAWAY on every live connection that a [`Backend`](crate::Backend) serves. Streams
    /// opened after it that are above `last` are ignored, as the protocol has it; `None` stands
    /// for the last stream each has seen.
    pub fn goaway(&self, last: Option<u32>, code: u32, debug: &str) {
        self.order(&Order::GoAway {
            last,
            code,
            debug: debug.into(),
        });
    }

    /// The first half of a graceful stop: GOAWAY with the highest last stream and no error.
    pub fn goaway_soon(&self) {
        self.goaway(Some(MAX_STREAM), code::NO_ERROR, "");
    }

    /// Stops as a good server does: refuses new connections, announces the end on the others,
    /// finishes every stream, closes. Returns when all have closed.
    ///
    /// Connections that no [`Backend`](crate::Backend) serves do not listen, and are waited for.
    pub async fn drain(&self) {
        self.stop_listening().await;
        self.order(&Order::Drain);
        self.until(|journal| journal.open() == 0).await;
    }

    fn order(&self, order: &Order) {
        let mut orders = self
            .shared
            .orders
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        orders.retain(|conn| conn.send(order.clone()).is_ok());
    }

    fn tell(&self, control: Control) {
        // An error means that the runtime is shutting down, with nobody left to notice.
        let _ = self.controls.send(control);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Acceptor ===

impl Acceptor {
    async fn run(mut self) {
        loop {
            tokio::select! {
                control = self.controls.recv() => match control {
                    Some(control) => self.obey(control).await,
                    None => return,
                },
                stream = crate::net::accept(self.listener.as_ref()) => {
                    self.serve(Transport::tcp(stream, self.shared.ends.clone()));
                }
                Some(ended) = self.conns.join_next_with_id() => self.bury(ended),
            }
        }
    }

    async fn obey(&mut self, control: Control) {
        match control {
            Control::Adopt(io) => self.serve(Transport::other(io)),
            Control::Listen(listener) => self.listener = Some(listener),
            Control::Deafen(done) => {
                self.listener = None;
                let _ = done.send(());
            }
            Control::Kill(ending, done) => {
                self.listener = None;
                self.shared.ends.reset_on_drop(ending == Ending::Reset);
                self.conns.shutdown().await;
                self.numbers.clear();
                self.shared.ends.reset_on_drop(false);
                let _ = done.send(());
            }
        }
    }

    fn serve(&mut self, transport: Transport) {
        let mut conn = Conn::new(transport, self.journals.open());
        let (orders, inbox) = mpsc::unbounded_channel();
        conn.set_orders(inbox);
        {
            let mut live = self
                .shared
                .orders
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            live.retain(|conn| !conn.is_closed());
            live.push(orders);
        }
        let number = conn.number();
        let behaviour = self.behaviour(number);
        let journals = self.journals.clone();
        let task = self.conns.spawn(async move {
            if let Err(error) = behaviour.run(conn).await {
                let error: PeerError = error;
                journals.failed(number, error.to_string());
            }
        });
        self.numbers.insert(task.id(), number);
    }

    /// A behaviour that panicked, on an assertion of the test's perhaps, must not go unnoticed.
    fn bury(&mut self, ended: Result<(task::Id, ()), JoinError>) {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
        if let (Some(number), Err(error)) = (self.numbers.remove(&id), ended)
            && error.is_panic()
        {
            self.journals
                .failed(number, format!("the behaviour panicked: {error}"));
        }
    }

    fn behaviour(&self, number: usize) -> Behaviour {
        self.shared
            .script
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .behaviour(number)
    }
}
