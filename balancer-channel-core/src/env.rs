//! The seam: everything that the core wants of the world goes through one [`Env`].
//!
//! The core knows no runtime, no clock and no socket. A channel gives it tokio and `h2`; a
//! simulation gives it virtual time and queues in memory.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use balancer_api::{
    Address, CallEvent, CallRequest, ChildConfig, Dialer, Status, Timestamp, TransportCredentials,
};
use bytes::Bytes;
use futures_util::stream::BoxStream;

/// A boxed future, for effects that happen once per connection, timer or policy: never per RPC.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// Clock, chance, tasks and connections.
///
/// # Threads
/// Any thread. Nothing blocks.
pub trait Env: Send + Sync + 'static {
    /// An established connection.
    type Connection: Connection;

    /// What calls need of a service config; the core hands it through beside the picker.
    type RpcConfig: Send + Sync + 'static;

    /// Parses and validates a service config that came from the resolver.
    ///
    /// # Errors
    /// What is wrong with it, for the status of RPCs and for logs.
    fn parse_config(&self, json: &str) -> Result<ParsedConfig<Self::RpcConfig>, String>;

    /// The service whose health a service config wants to be asked of each backend (gRFC A17).
    fn health_service(&self, config: &Self::RpcConfig) -> Option<Arc<str>> {
        let _ = config;
        None
    }

    /// How many connections a SubConn may have (gRFC A105); 0 counts as 1.
    fn max_connections(&self, config: &Self::RpcConfig) -> usize {
        let _ = config;
        1
    }

    /// How many streams are open, or waited for, on connections of this channel, those that it has
    /// given up included, and how many RPCs wait for something else than a picker: while there is one
    /// the channel does not fall asleep.
    fn streams(&self) -> usize;

    /// Every connection that has not ended, those included that the channel has given up and that live
    /// on for the RPCs on them: a close ends them, a graceful one when its time is over.
    fn connections(&self) -> Vec<Self::Connection> {
        Vec::new()
    }

    /// The time since this environment was made, on a clock that only goes forward.
    fn now(&self) -> Timestamp;

    /// 64 random bits.
    fn random(&self) -> u64;

    /// Runs `task` to its end.
    fn spawn(&self, task: BoxFuture<()>);

    /// Ready at `at`, or at once when that has passed.
    fn sleep_until(&self, at: Timestamp) -> BoxFuture<()>;

    /// Dials `request.address` and makes it ready for RPCs: the future ends when the peer's
    /// SETTINGS have arrived. The caller drops it at the connect deadline.
    fn connect(
        &self,
        request: ConnectRequest,
    ) -> BoxFuture<Result<Connected<Self::Connection>, Status>>;

    /// As [`connect`](Self::connect), one more connection of the SubConn that `first` is of. They have
    /// one queue: an RPC that was given one of them and finds no free stream there takes the first
    /// that any of them has.
    fn connect_beside(
        &self,
        first: &Self::Connection,
        request: ConnectRequest,
    ) -> BoxFuture<Result<Connected<Self::Connection>, Status>> {
        let _ = first;
        self.connect(request)
    }
}

/// A service config as the core uses it.
pub struct ParsedConfig<R> {
    /// Which policy, with which configuration.
    pub policy: ChildConfig,
    /// What calls need of it.
    pub rpc: Arc<R>,
    /// Its JSON, to recognise the same config again and for snapshots.
    pub json: Arc<str>,
}

/// What to connect to.
#[derive(Clone)]
#[non_exhaustive]
pub struct ConnectRequest {
    /// Where.
    pub address: Address,
    /// `None` for a backend: the channel's own credentials, dialer and authority apply.
    pub lookaside: Option<Lookaside>,
    /// How often the time between keepalive's pings is doubled: grows when a peer of the channel says
    /// `too_many_pings` (gRFC A8).
    pub keepalive_doublings: u32,
}

/// How to dial something that is no backend of the channel's target.
#[derive(Clone)]
pub struct Lookaside {
    /// The target as the policy gave it; the name that its certificate must prove.
    pub target: Arc<str>,
    /// `None`: the channel's own.
    pub credentials: Option<Arc<dyn TransportCredentials>>,
    /// `None`: the channel's own.
    pub dialer: Option<Arc<dyn Dialer>>,
}

/// A connection, and the news of its end.
pub struct Connected<C> {
    /// The connection, ready for RPCs.
    pub connection: C,
    /// Ends at the moment when no new stream may be opened: at a GOAWAY frame, or at a loss. Open
    /// streams may go on after a GOAWAY.
    pub lost: BoxFuture<Lost>,
}

/// Why a connection takes no new streams.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Lost {
    /// What happened, for people and for RPCs.
    pub status: Status,
    /// The peer sent GOAWAY ENHANCE_YOUR_CALM with `too_many_pings`.
    pub too_many_pings: bool,
}

/// An established connection. Dropping the last reference closes it gracefully.
pub trait Connection: Send + Sync + 'static {
    /// No new streams; open ones run to their end, then the connection closes.
    fn close(&self);

    /// Ends every stream with `status` and closes at once.
    fn abort(&self, status: Status);

    /// Starts a call of a policy. When the connection cannot take it, the call ends at once with
    /// UNAVAILABLE.
    fn start_call(&self, request: CallRequest) -> PolicyCall;

    /// How many streams are open; for snapshots.
    fn streams(&self) -> usize;

    /// How many streams were opened on it so far; for snapshots.
    fn calls(&self) -> u64 {
        0
    }

    /// Whether it takes no new streams any more: the news of its [end](Connected::lost) are on their
    /// way, if they have not come yet.
    fn is_lost(&self) -> bool {
        false
    }

    /// How many streams the peer allows at a time; `None`: as many as you like. For snapshots.
    fn max_streams(&self) -> Option<usize> {
        None
    }

    /// How many RPCs wait for a stream: here, and on the connections that this one was
    /// [made beside](Env::connect_beside).
    fn queued(&self) -> usize {
        0
    }

    /// Calls `news` once when an RPC waits for a stream: at once, if one does. Takes the place of
    /// what was given before. Never called on a connection that has no queue.
    ///
    /// # Blocking
    /// `news` does not; it may be called by whoever polls an RPC.
    fn when_crowded(&self, news: Box<dyn FnOnce() + Send>) {
        drop(news);
    }

    /// Whether the peer has answered an RPC of the application's on it, so that it is a real server and
    /// its loss need not be backed off: answers to [calls](Self::start_call) do not count. Must be true by the time that [`Connected::lost`] ends, if ever.
    fn answered(&self) -> bool {
        false
    }

    /// Ends when the connection has ended, after [`close`](Self::close) or otherwise.
    fn drained(&self) -> BoxFuture<()>;
}

/// A running call of a policy. Dropping `events` cancels it.
pub struct PolicyCall {
    /// In order: at most one `Headers`, any number of `Message`s, exactly one `End`, then nothing.
    /// Not polling it holds the server back by flow control.
    pub events: BoxStream<'static, CallEvent>,
    /// The sending half.
    pub sender: Box<dyn CallSender>,
}

/// The sending half of a policy's call. Sending after the call's end does nothing.
pub trait CallSender: Send {
    /// Sends one message, without the 5-byte prefix.
    fn send_message(&mut self, message: Bytes);

    /// No more messages.
    fn close_send(&mut self);
}

// === impl ParsedConfig ===

impl<R> Clone for ParsedConfig<R> {
    fn clone(&self) -> Self {
        Self {
            policy: self.policy.clone(),
            rpc: self.rpc.clone(),
            json: self.json.clone(),
        }
    }
}

impl<R> fmt::Debug for ParsedConfig<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParsedConfig")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

// === impl ConnectRequest ===

impl ConnectRequest {
    /// A connection to a backend at `address`.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            lookaside: None,
            keepalive_doublings: 0,
        }
    }
}

impl fmt::Debug for ConnectRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectRequest")
            .field("address", &self.address)
            .field("lookaside", &self.lookaside)
            .finish_non_exhaustive()
    }
}

// === impl Lookaside ===

impl fmt::Debug for Lookaside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookaside")
            .field("target", &self.target)
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

// === impl Connected, PolicyCall ===

impl<C> fmt::Debug for Connected<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connected").finish_non_exhaustive()
    }
}

impl fmt::Debug for PolicyCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyCall").finish_non_exhaustive()
    }
}

// === impl Lost ===

impl Lost {
    /// A loss with `status`.
    pub fn new(status: Status) -> Self {
        Self {
            status,
            too_many_pings: false,
        }
    }
}
