//! What a policy may ask of its channel.

use std::{
    fmt,
    ops::{Add, Sub},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;

use crate::{
    Address, ConnectivityState, Dialer, NewSubConnError, NewSubConnOptions, Picker, Status,
    SubConn, TransportCredentials,
};

/// The channel, as a policy sees it.
///
/// A policy acts only through this trait: it starts no task, opens no socket, reads no clock and
/// draws no random number of its own. That is what lets one policy object run in a channel, in the
/// kit under virtual time, and in a simulator, and what makes every failure replayable.
///
/// # Calls
/// From the balancer's callbacks, from [`Builder::build`](crate::Builder::build), and from any
/// other thread. No method calls the balancer back before it returns: what follows from it arrives
/// later, on the balancer's serial queue. Methods that return a value answer at once; what a
/// callback asks takes effect, in the order asked, when the callback has returned. A callback that
/// panics asked for nothing. From another thread each call is an item of the queue of its own.
///
/// # After close
/// Once the balancer is being closed [`new_sub_conn`](Self::new_sub_conn) answers
/// [`NewSubConnError::Closed`] and everything else is ignored; nothing panics.
///
/// # Blocking
/// Nothing blocks.
pub trait ClientConn: Send + Sync {
    /// Makes a SubConn for `addresses`, IDLE until [`SubConn::connect`] is called.
    ///
    /// # Errors
    /// See [`NewSubConnError`]; the policy goes on without it and may try again at the next
    /// resolver result.
    fn new_sub_conn(
        &self,
        addresses: Vec<Address>,
        options: NewSubConnOptions,
    ) -> Result<SubConn, NewSubConnError>;

    /// Removes `sub_conn`: no pick of it is honoured any more, streams on it run to their end, and
    /// the balancer is told SHUTDOWN once and then nothing. A second call does nothing. Calls of the
    /// policy's own on it go on like other streams: cancel those that are of no use any more.
    fn remove_sub_conn(&self, sub_conn: &SubConn);

    /// Publishes the policy's state and picker as one value.
    ///
    /// Waiting RPCs pick again, once, from the new picker, also when the state is the same as
    /// before. SHUTDOWN is not a policy's to report and is ignored. Where several are published
    /// during one callback, every state is seen by those who watch and the last picker is used.
    fn update_balancer_state(&self, state: ConnectivityState, picker: Arc<dyn Picker>);

    /// The target that the application gave, as in `dns:///greeter.prod:50051`.
    fn target(&self) -> &str;

    /// Asks the resolver to look again: after a connection was lost or could not be made. The
    /// channel limits the rate; ask freely.
    fn resolve_now(&self);

    /// The time since this ClientConn was made, on a clock that only goes forward.
    fn now(&self) -> Timestamp;

    /// 64 random bits. Every value may come, zero and `u64::MAX` included.
    fn random(&self) -> u64;

    /// Calls [`Balancer::handle_timer`](crate::Balancer::handle_timer) once, `after` from now.
    fn set_timer(&self, after: Duration) -> TimerId;

    /// Cancels a timer: from a callback, it will not be delivered even if it is due already; from
    /// another thread that is best effort. An unknown or past id does nothing.
    fn cancel_timer(&self, id: TimerId);

    /// Runs [`Balancer::settle`](crate::Balancer::settle) soon, on the serial queue. For a picker or
    /// an observer on another thread that has found something to publish; many calls become one
    /// `settle`. Costs an atomic operation when one is pending already.
    ///
    /// An observer that wakes its policy holds a [`std::sync::Weak`] of the ClientConn or a clone;
    /// either is given back when the policy's pickers are gone.
    fn wake(&self);

    /// Starts a call on the connection of `sub_conn`: a load-report stream, a probe, a look-aside
    /// balancer. Its events come to [`Balancer::handle_call_event`](crate::Balancer::handle_call_event).
    ///
    /// The call never uses another connection. When `sub_conn` is not READY, or when its connection
    /// ends, there is exactly one [`CallEvent::End`] with UNAVAILABLE. Calls of policies do not keep
    /// a channel from going idle.
    fn start_call(&self, sub_conn: &SubConn, request: CallRequest) -> CallId;

    /// Sends one message, without the 5-byte prefix, on a call that was not half-closed.
    fn send_call_message(&self, id: CallId, message: Bytes);

    /// Half-closes the call: no more messages will be sent.
    fn close_call_send(&self, id: CallId);

    /// Cancels the call. From a callback, no further event of it is delivered.
    fn cancel_call(&self, id: CallId);

    /// Makes a SubConn to something that is no backend, such as a remote balancer: dialled with the
    /// given credentials and dialer (`None`: the channel's own), reconnecting by itself, used with
    /// [`start_call`](Self::start_call) and never picked.
    ///
    /// # Errors
    /// As for [`new_sub_conn`](Self::new_sub_conn).
    fn new_lookaside(
        &self,
        target: &str,
        credentials: Option<Arc<dyn TransportCredentials>>,
        dialer: Option<Arc<dyn Dialer>>,
    ) -> Result<SubConn, NewSubConnError>;
}

/// Time and chance for pickers and observers, on the RPC's own thread.
///
/// Implemented by channels and kits; policies meet it as
/// [`PickOptions::now`](crate::PickOptions::now), [`PickOptions::random`](crate::PickOptions::random)
/// and [`DoneInfo::now`](crate::DoneInfo::now).
///
/// ```
/// use balancer_api::{Source, Timestamp};
/// struct Fixed;
/// impl Source for Fixed {
///     fn now(&self) -> Timestamp { Timestamp::from_nanos(5) }
///     fn random(&self) -> u64 { 4 }
/// }
/// let options = balancer_api::PickOptions::new("/s/m").with_source(&Fixed);
/// assert_eq!((options.now().as_nanos(), options.random()), (5, 4));
/// ```
pub trait Source: Send + Sync {
    /// The time since the ClientConn was made.
    fn now(&self) -> Timestamp;
    /// 64 random bits.
    fn random(&self) -> u64;
}

/// A point on a ClientConn's clock: nanoseconds since the ClientConn was made.
///
/// Zero is a point like any other, and the usual one in tests: do not use it to say "never".
///
/// ```
/// use balancer_api::Timestamp;
/// use std::time::Duration;
/// let start = Timestamp::from_nanos(1_000);
/// let later = start + Duration::from_micros(2);
/// assert_eq!(later - start, Duration::from_micros(2));
/// assert_eq!(start - later, Duration::ZERO, "never negative");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(u64);

/// Names a timer of [`ClientConn::set_timer`]. Never reused within a ClientConn.
///
/// ```
/// use balancer_api::TimerId;
/// assert_eq!(TimerId::from_raw(7).as_raw(), 7);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerId(u64);

/// Names a call of [`ClientConn::start_call`]. Never reused within a ClientConn.
///
/// ```
/// use balancer_api::CallId;
/// assert_eq!(CallId::from_raw(7).as_raw(), 7);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(u64);

/// A call that a policy makes on a SubConn.
///
/// ```
/// use balancer_api::CallRequest;
/// use std::time::Duration;
/// let watch = CallRequest::new("/grpc.health.v1.Health/Check")
///     .with_first_message(&b""[..])
///     .with_half_close(true)
///     .with_timeout(Some(Duration::from_secs(1)));
/// assert!(watch.half_close);
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct CallRequest {
    /// The full method name, with its leading slash.
    pub method: Arc<str>,
    /// Metadata to send.
    pub headers: HeaderMap,
    /// A message to send at once, without the 5-byte prefix.
    pub first_message: Option<Bytes>,
    /// Whether nothing follows the first message.
    pub half_close: bool,
    /// The call ends with DEADLINE_EXCEEDED when it takes longer.
    pub timeout: Option<Duration>,
}

/// Something happened on a call.
///
/// In order: at most one `Headers`, any number of `Message`s, exactly one `End`. At most 16
/// messages wait undelivered; then flow control holds the server back.
#[derive(Clone)]
pub enum CallEvent {
    /// The server's initial metadata.
    Headers(HeaderMap),
    /// One message, without the 5-byte prefix.
    Message(Bytes),
    /// The call is over; the id will not be heard of again.
    End {
        /// OK, or why not.
        status: Status,
        /// The server's trailing metadata; empty when the connection ended first.
        trailers: HeaderMap,
    },
}

// === impl Timestamp ===

impl Timestamp {
    /// When the ClientConn was made.
    pub const ZERO: Self = Self(0);

    /// The point `nanos` after the ClientConn was made.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the ClientConn was made; fits a token of
    /// [`Pick::on_done`](crate::Pick::on_done).
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero when it is before.
    pub const fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, after: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

impl Sub for Timestamp {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

// === impl TimerId, CallId ===

impl TimerId {
    /// For authors of a ClientConn.
    pub const fn from_raw(id: u64) -> Self {
        Self(id)
    }

    /// The number behind.
    pub const fn as_raw(self) -> u64 {
        self.0
    }
}

impl CallId {
    /// For authors of a ClientConn.
    pub const fn from_raw(id: u64) -> Self {
        Self(id)
    }

    /// The number behind.
    pub const fn as_raw(self) -> u64 {
        self.0
    }
}

// === impl CallRequest ===

impl CallRequest {
    /// A call of `method` without headers, message or time-out, open for messages.
    pub fn new(method: impl Into<Arc<str>>) -> Self {
        Self {
            method: method.into(),
            headers: HeaderMap::new(),
            first_message: None,
            half_close: false,
            timeout: None,
        }
    }

    /// Sets [`headers`](Self::headers).
    #[must_use]
    pub fn with_headers(mut self, headers: HeaderMap) -> Self {
        self.headers = headers;
        self
    }

    /// Sets [`first_message`](Self::first_message).
    #[must_use]
    pub fn with_first_message(mut self, message: impl Into<Bytes>) -> Self {
        self.first_message = Some(message.into());
        self
    }

    /// Sets [`half_close`](Self::half_close).
    #[must_use]
    pub fn with_half_close(mut self, half_close: bool) -> Self {
        self.half_close = half_close;
        self
    }

    /// Sets [`timeout`](Self::timeout).
    #[must_use]
    pub fn with_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.timeout = timeout;
        self
    }
}

impl fmt::Debug for CallRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallRequest")
            .field("method", &self.method)
            // Values of headers and messages may be secrets.
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field(
                "first_message",
                &self.first_message.as_ref().map(Bytes::len),
            )
            .field("half_close", &self.half_close)
            .field("timeout", &self.timeout)
            .finish()
    }
}

// === impl CallEvent ===

impl CallEvent {
    /// Whether this is the last event of its call.
    ///
    /// ```
    /// use balancer_api::{CallEvent, Status};
    /// assert!(!CallEvent::Message(Default::default()).is_end());
    /// ```
    pub const fn is_end(&self) -> bool {
        matches!(self, Self::End { .. })
    }
}

impl fmt::Debug for CallEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Headers(map) => f
                .debug_tuple("Headers")
                .field(&map.keys().collect::<Vec<_>>())
                .finish(),
            Self::Message(bytes) => write!(f, "Message({} bytes)", bytes.len()),
            Self::End { status, .. } => write!(f, "End({status})"),
        }
    }
}
