//! A connection that speaks HTTP/2, from its first byte to its last.

use std::{
    fmt,
    future::poll_fn,
    pin::pin,
    sync::{Arc, Weak},
    task::Poll,
};

use arc_swap::ArcSwapOption;
use balancer_api::{AuthInfo, CallRequest, Status};
use balancer_channel_core::{BoxFuture, Connected, Connection, PolicyCall};
use bytes::Bytes;
use h2::client::{self, SendRequest};
use http::{
    HeaderValue,
    uri::{Authority, Scheme},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::Handle,
    task::JoinHandle,
};
use tokio_util::task::TaskTracker;

use super::{
    call,
    connect::Connector,
    driver::Driver,
    keepalive::{Keepalive, KeepaliveOptions},
    line::Line,
    replay::ReplayBudget,
    request::RpcRequest,
    rouse::unhush,
    send::SendRpc,
    shared::{Lowercase, Shared},
    wire::Wire,
};

/// How many cancelled streams are remembered, for a second each: as many as a storm of cancellations
/// makes on one connection. Half a KiB each while it lasts.
const CANCELLED_STREAMS: usize = 65_536;

/// What `h2` may spend on small DATA frames that nobody has read: it counts each as 256 bytes or so.
const UNREAD_DATA_FRAMES: usize = 32 * 1024 * 1024;

/// Where a connection's tasks run; the channel counts them.
#[derive(Clone, Debug)]
pub(crate) struct Spawn {
    pub(crate) tasks: TaskTracker,
    pub(crate) runtime: Handle,
    /// What a test is to look at after their end.
    #[cfg(test)]
    pub(crate) kept: Arc<std::sync::Mutex<Vec<tokio::task::JoinHandle<()>>>>,
}

/// A connection that is ready for RPCs. A cheap handle: the connection closes gracefully when the
/// last one is dropped, and the streams that are open count as handles.
#[derive(Clone)]
pub(crate) struct H2Connection(Arc<Inner>);

/// A connection that lives as long as others hold it.
#[derive(Clone, Debug)]
pub(crate) struct WeakConnection(Weak<Inner>);

/// What HTTP/2 leaves open.
#[derive(Clone, Debug)]
pub(crate) struct H2Options {
    /// How many bytes of one response may be on their way unread.
    pub(crate) stream_window: u32,
    /// How many bytes of all responses may be on their way unread.
    pub(crate) connection_window: u32,
    /// The largest frame that the peer may send.
    pub(crate) max_frame_size: u32,
    /// The largest header list that the peer may send.
    pub(crate) max_header_list_size: u32,
    /// `None`: silence is not looked into.
    pub(crate) keepalive: Option<KeepaliveOptions>,
    /// The connection is drained when its stream identifiers pass this.
    pub(crate) last_stream_id: u32,
}

/// What a connection is made with, besides its byte stream.
pub(crate) struct Setup {
    /// Who the peer is, for messages.
    pub(crate) peer: Arc<str>,
    /// `http` or `https`.
    pub(crate) scheme: Scheme,
    /// What the handshake established.
    pub(crate) auth: AuthInfo,
    /// What the connections of a channel have in common: one for all of them, but for those that are
    /// no backends' or whose peer wants fewer pings.
    pub(crate) connector: Arc<Connector>,
    /// Where RPCs wait for a stream, here or on another connection of the SubConn.
    pub(crate) line: Arc<Line<WeakConnection>>,
}

/// The right to have one stream open.
pub(super) struct Permit(H2Connection);

struct Inner {
    /// `None` when no more streams are to be opened. `h2` says goodbye when the last one is gone
    /// and no stream is open, so it must be possible to take this one away from under a picker.
    sender: ArcSwapOption<SendRequest<Bytes>>,
    shared: Arc<Shared>,
    setup: Setup,
}

// === impl H2Connection ===

impl H2Connection {
    /// Makes a connection over `io`. Ends when the peer's SETTINGS have come and were
    /// acknowledged.
    ///
    /// # Errors
    /// UNAVAILABLE, with the peer's name and what it did instead.
    ///
    /// # Cancel safety
    /// Dropping the future closes `io`; no task was started.
    pub(crate) async fn handshake<T>(io: T, setup: Setup) -> Result<Connected<Self>, Status>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shared = Shared::new(
            setup.peer.clone(),
            setup.options().last_stream_id,
            setup.line.clone(),
        );
        let mut builder = client::Builder::new();
        builder
            .enable_push(false)
            // Answers to streams that were cancelled may be under way. `h2` remembers 50 of those,
            // and ends a connection after 1,024 answers to streams that it has forgotten.
            .max_concurrent_reset_streams(CANCELLED_STREAMS)
            .initial_window_size(setup.options().stream_window)
            .initial_connection_window_size(setup.options().connection_window)
            .max_frame_size(setup.options().max_frame_size)
            .max_header_list_size(setup.options().max_header_list_size)
            // Small answers that many RPCs have not read yet are no attack: room for 100,000.
            .data_frame_budget(UNREAD_DATA_FRAMES);
        let (sender, mut connection) = builder
            .handshake::<_, Bytes>(Wire::new(io, shared.clone()))
            .await
            .map_err(|error| shared.handshake_failed(&error))?;
        poll_fn(|cx| match pin!(&mut connection).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Err(shared.lost())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(shared.handshake_failed(&error))),
            Poll::Pending if shared.is_lost() => Poll::Ready(Err(shared.lost())),
            Poll::Pending if shared.is_ready() => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await?;

        let keepalive = setup
            .options()
            .keepalive
            .and_then(|options| Some(Keepalive::new(options, connection.ping_pong()?)));
        let spawn = setup.connector.spawn.clone();
        let handle = Arc::new(Inner {
            sender: ArcSwapOption::from_pointee(sender),
            shared: shared.clone(),
            setup,
        });
        let whose = WeakConnection(Arc::downgrade(&handle));
        shared.admission.enter(whose);
        let lost = Box::pin(shared.news());
        let counted = spawn.tasks.token();
        spawn.run_counted(Driver::new(connection, keepalive, shared, counted));
        Ok(Connected {
            connection: Self(handle),
            lost,
        })
    }

    /// Sends an RPC. See [`SendRpc`].
    pub(crate) fn send(&self, request: RpcRequest) -> SendRpc {
        SendRpc::new(self.clone(), request)
    }

    /// The connection, without keeping it.
    pub(crate) fn downgrade(&self) -> WeakConnection {
        WeakConnection(Arc::downgrade(&self.0))
    }

    /// How many RPCs wait for the peer's MAX_CONCURRENT_STREAMS.
    pub(crate) fn waiting(&self) -> usize {
        self.shared().admission.waiting()
    }

    /// Who the peer is, for messages.
    pub(crate) fn peer(&self) -> &str {
        &self.0.setup.peer
    }

    /// What the handshake established.
    pub(crate) fn auth(&self) -> &AuthInfo {
        &self.0.setup.auth
    }

    pub(crate) fn setup(&self) -> &Setup {
        &self.0.setup
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    /// Whether the peer can go on sending even if the open streams keep all that they may hold unread.
    /// What an ended stream gives back may make a window update due; while there is room, that can wait
    /// until the driver runs the next time.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        let options = self.setup().options();
        let held = self.shared().admission.open() as u64 * u64::from(options.stream_window);
        held < u64::from(options.connection_window) / 2
    }

    /// What opens a stream, or `None` when the connection was closed. Cloned for each RPC, as `h2`
    /// wants it; that takes its lock once.
    pub(super) fn sender(&self) -> Option<SendRequest<Bytes>> {
        self.0
            .sender
            .load()
            .as_ref()
            .map(|sender| SendRequest::clone(sender))
    }

    /// The permit of a stream that was admitted.
    pub(super) fn into_permit(self) -> Permit {
        Permit(self)
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.setup.connector.spawn.run(task);
    }
}

impl Connection for H2Connection {
    fn close(&self) {
        self.0.close();
    }

    fn abort(&self, status: Status) {
        self.shared().abort(status);
    }

    fn start_call(&self, request: CallRequest) -> PolicyCall {
        call::start(self, request)
    }

    fn calls(&self) -> u64 {
        self.shared().calls()
    }

    fn streams(&self) -> usize {
        self.shared().admission.open()
    }

    fn is_lost(&self) -> bool {
        self.shared().is_lost()
    }

    fn max_streams(&self) -> Option<usize> {
        Some(self.shared().admission.limit()).filter(|max| *max != usize::MAX)
    }

    fn queued(&self) -> usize {
        self.shared().admission.line().crowd()
    }

    fn when_crowded(&self, news: Box<dyn FnOnce() + Send>) {
        self.shared().admission.when_crowded(news);
    }

    fn answered(&self) -> bool {
        self.shared().answered()
    }

    fn drained(&self) -> BoxFuture<()> {
        Box::pin(self.shared().ended())
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").finish_non_exhaustive()
    }
}

impl fmt::Debug for H2Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("H2Connection")
            .field("peer", &self.0.setup.peer)
            .field("streams", &self.shared().admission.open())
            .finish_non_exhaustive()
    }
}

// === impl WeakConnection ===

impl WeakConnection {
    pub(crate) fn upgrade(&self) -> Option<H2Connection> {
        self.0.upgrade().map(H2Connection)
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }
}

// === impl Inner ===

impl Inner {
    /// Opens no more streams. When the open ones have ended `h2` closes.
    fn close(&self) {
        self.shared
            .no_new_streams(self.shared.unavailable("connection closed"), false);
        self.sender.store(None);
        self.shared.set_closing();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

// === impl Spawn ===

impl Spawn {
    /// Runs a task to its end.
    pub(crate) fn run(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.keep(self.tasks.spawn_on(task, &self.runtime));
    }

    /// Runs one that counts itself: a task that is polled for each RPC need not be wrapped for it.
    fn run_counted(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.keep(self.runtime.spawn(task));
    }

    fn keep(&self, task: JoinHandle<()>) {
        #[cfg(test)]
        self.kept.lock().expect("no panic").push(task);
        #[cfg(not(test))]
        drop(task);
    }
}

// === impl Setup ===

impl Setup {
    /// The `:authority` of every request.
    pub(crate) fn authority(&self) -> &Authority {
        &self.connector.authority
    }

    /// Of every request that has none of its own.
    pub(super) fn user_agent(&self) -> &HeaderValue {
        &self.connector.user_agent
    }

    /// What the channel's RPCs may remember of their bodies together.
    pub(super) fn replay(&self) -> &Arc<ReplayBudget> {
        &self.connector.replay
    }

    fn options(&self) -> &H2Options {
        &self.connector.options
    }
}

// === impl Permit ===

impl Permit {
    pub(super) fn connection(&self) -> &H2Connection {
        &self.0
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // The stream is gone.
        let hushed = unhush();
        self.0.shared().admission.release();
        let shared = self.0.shared();
        if shared.is_closing() {
            // The driver waits for the last permit, of which `h2` knows nothing: for `h2` the stream may be
            // there still, before a peer that takes nothing. A connection that closes from here on wakes
            // the driver itself, which finds the permit gone.
            shared.driver.wake();
        } else if !hushed {
            shared.driver.pay();
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Permit")
    }
}

// === impl H2Options ===

impl Default for H2Options {
    fn default() -> Self {
        Self {
            stream_window: 1 << 20,
            // Each response has a window of its own. With less room for all of them together, a few
            // that nobody reads would hold up every other RPC on the connection.
            connection_window: i32::MAX as u32,
            max_frame_size: 16 << 10,
            max_header_list_size: 16 << 10,
            keepalive: None,
            // Three quarters, as in gRPC-Go.
            last_stream_id: (1 << 31) / 4 * 3,
        }
    }
}

// === impl Shared, for the handshake ===

impl Shared {
    /// Why there is no connection: what the socket said, or else what `h2` did.
    fn handshake_failed(&self, error: &h2::Error) -> Status {
        self.break_off(self.unavailable(Lowercase(error)));
        self.lost()
    }
}
