//! One connection, seen from the server's end: raw frames below, gRPC calls above.

mod event;
mod expect;
mod reply;
mod request;
mod send;
mod window;
mod wire;

pub use event::Event;
pub(crate) use reply::{response_headers, trailers};
pub use request::Request;
pub use send::MAX_STREAM;

use crate::{
    PeerError,
    hpack::Decoder,
    journal::Recorder,
    net::{Io, Transport},
};
use bytes::BytesMut;
use event::PartialBlock;
use request::Inbound;
use std::{
    collections::{HashMap, VecDeque},
    fmt, io,
    time::Duration,
};
use window::Windows;

/// How many events are kept for a later `expect_*`.
const KEPT: usize = 1024;

/// One client's connection to the peer.
///
/// Three levels, to be mixed freely:
///
/// 1. octets and frames: [`send_bytes`](Self::send_bytes), [`send`](Self::send),
///    [`read_frame`](Self::read_frame). Nothing is answered behind the test's back.
/// 2. events: [`next_event`](Self::next_event) and the `expect_*` family. Header blocks are put
///    together and decoded, and the connection answers as its [`Manners`] tell it to.
/// 3. calls: [`handshake`](Self::handshake), [`next_call`](Self::next_call), `reply_*`.
///
/// Dropping it closes the connection as the system does for a process that ends;
/// [`close`](Self::close) and [`reset`](Self::reset) choose.
///
/// # Cancel safety
/// All methods that read are cancel safe: what was read stays for the next call. A cancelled send
/// is finished by the next method that sends or waits.
pub struct Conn {
    io: Transport,
    input: BytesMut,
    output: BytesMut,
    at_end: bool,
    preface_read: bool,
    decoder: Decoder,
    partial: Option<PartialBlock>,
    events: VecDeque<Event>,
    requests: VecDeque<Request>,
    inbound: HashMap<u32, Inbound>,
    /// Events that went by while something else was waited for; the newest [`KEPT`].
    passed: VecDeque<Event>,
    windows: Windows,
    last_stream: u32,
    manners: Manners,
    patience: Option<Duration>,
    recorder: Recorder,
    orders: Option<crate::server::Orders>,
}

/// What a connection does by itself, at the event level and above. All true: a polite server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Manners {
    /// Acknowledges the client's SETTINGS.
    pub ack_settings: bool,
    /// Answers PINGs.
    pub answer_pings: bool,
    /// Opens the receive windows again as DATA comes in.
    pub open_windows: bool,
    /// Goes on reading while a write is blocked, so that two full pipes cannot lock each other.
    pub read_while_writing: bool,
}

// === impl Manners ===

impl Default for Manners {
    fn default() -> Self {
        Self {
            ack_settings: true,
            answer_pings: true,
            open_windows: true,
            read_while_writing: true,
        }
    }
}

impl Manners {
    /// Answers nothing and opens no window.
    pub fn mute() -> Self {
        Self {
            ack_settings: false,
            answer_pings: false,
            open_windows: false,
            ..Self::default()
        }
    }

    /// Polite, but PINGs go unanswered: to keepalive, a dead peer.
    pub fn deaf_to_pings() -> Self {
        Self {
            answer_pings: false,
            ..Self::default()
        }
    }

    /// Polite, but no receive window is ever opened again.
    pub fn closed_windows() -> Self {
        Self {
            open_windows: false,
            ..Self::default()
        }
    }
}

// === impl Conn ===

impl Conn {
    /// A connection over anything: one end of [`tokio::io::duplex`], a TLS stream, a Unix socket.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use balancer_testpeer::{Conn, frame::Frame};
    /// use tokio::io::AsyncReadExt;
    ///
    /// let (mut client, server) = tokio::io::duplex(1024);
    /// let mut conn = Conn::over(server);
    /// conn.send(Frame::settings(&[])).await.unwrap();
    /// let mut got = [0; 9];
    /// client.read_exact(&mut got).await.unwrap();
    /// assert_eq!(got, [0, 0, 0, 4, 0, 0, 0, 0, 0], "must be an empty SETTINGS frame");
    /// # }
    /// ```
    pub fn over(io: impl Io + 'static) -> Self {
        let recorder = crate::journal::Journals::default().open();
        Self::new(Transport::other(Box::new(io)), recorder)
    }

    pub(crate) fn new(io: Transport, recorder: Recorder) -> Self {
        Self {
            io,
            input: BytesMut::with_capacity(16 * 1024),
            output: BytesMut::new(),
            at_end: false,
            preface_read: false,
            decoder: Decoder::new(),
            partial: None,
            events: VecDeque::new(),
            requests: VecDeque::new(),
            inbound: HashMap::new(),
            passed: VecDeque::new(),
            windows: Windows::default(),
            last_stream: 0,
            manners: Manners::default(),
            patience: None,
            recorder,
            orders: None,
        }
    }

    /// Puts another stream on top of the connection's own: a TLS handshake, mostly.
    ///
    /// The connection keeps its number and its journal. What has been read and not been used is
    /// given up, so wrap it before anything is read. RST is out of reach afterwards:
    /// [`reset`](Self::reset) drops the stream.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// use balancer_testpeer::{Backend, Behaviour, Server};
    /// use tokio::io::BufStream;
    ///
    /// // A buffer in place of TLS; `|io| acceptor.accept(io)` fits as well.
    /// let buffered = Behaviour::new(|conn| async {
    ///     let conn = conn.wrap(async |io| Ok(BufStream::new(io))).await?;
    ///     Backend::new("a").serve(conn).await
    /// });
    /// let server = Server::in_memory(buffered);
    /// # }
    /// ```
    ///
    /// # Errors
    /// What `wrap` answers.
    pub async fn wrap<T, F>(
        mut self,
        wrap: impl FnOnce(Box<dyn Io>) -> F,
    ) -> Result<Self, PeerError>
    where
        T: Io + 'static,
        F: Future<Output = io::Result<T>>,
    {
        let (placeholder, _) = tokio::io::duplex(1);
        let below = std::mem::replace(&mut self.io, Transport::other(Box::new(placeholder)));
        let above = wrap(Box::new(below))
            .await
            .map_err(PeerError::io("wrapping the connection"))?;
        self.io = Transport::other(Box::new(above));
        Ok(self)
    }

    /// Sets what the connection does by itself.
    pub fn set_manners(&mut self, manners: Manners) -> &mut Self {
        self.manners = manners;
        self
    }

    /// Bounds every `expect_*`, `handshake`, `next_request`, `next_call`, `body` and `message`.
    ///
    /// Connections of [`Peer::accept`](crate::Peer::accept) start with 30 s, so that a test fails
    /// with a sentence and not by hanging; scripted ones and [`Conn::over`] with no bound.
    pub fn set_patience(&mut self, patience: Option<Duration>) -> &mut Self {
        self.patience = patience;
        self
    }

    /// Which connection of its peer this is, from 1.
    pub fn number(&self) -> usize {
        self.recorder.number()
    }

    /// The highest stream the client has opened: what an honest GOAWAY says.
    pub fn last_stream(&self) -> u32 {
        self.last_stream
    }

    /// Ends the connection with RST; over anything but TCP, drops it.
    pub fn reset(self) {
        let Self { io, .. } = self;
        io.reset();
    }

    pub(crate) fn set_orders(&mut self, orders: crate::server::Orders) {
        self.orders = Some(orders);
    }

    pub(crate) fn take_orders(&mut self) -> Option<crate::server::Orders> {
        self.orders.take()
    }
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn")
            .field("number", &self.number())
            .field("last_stream", &self.last_stream)
            .field("manners", &self.manners)
            .finish_non_exhaustive()
    }
}
